//! Runs one errand of a visitor: requests on a socket, under the uid that the test chose.

use std::process::ExitCode;

fn main() -> ExitCode {
    match harness::client::visitor::serve_one() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
