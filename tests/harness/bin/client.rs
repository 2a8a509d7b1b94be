//! Runs one errand of a visitor: requests on a socket, under the uid that the test chose. Or is a crowd, one
//! hostile user, a server of its own, or a load.

use std::process::ExitCode;

use harness::client::{crowd, hostile, server, visitor};
use harness::load;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.split_first() {
        Some((first, rest)) if first == crowd::WORD => crowd::perform(rest),
        Some((first, rest)) if first == hostile::WORD => hostile::perform(rest),
        Some((first, rest)) if first == server::WORD => server::perform(rest),
        Some((first, rest)) if first == load::WORD => load::perform(rest),
        _ => visitor::serve_one(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
