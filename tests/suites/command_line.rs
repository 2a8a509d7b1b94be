//! The command line as an operator meets it: from nothing to a host that serves, and out of every mistake.

#[path = "command_line/mistakes.rs"]
mod mistakes;
#[path = "command_line/operate.rs"]
mod operate;
#[path = "command_line/set_up.rs"]
mod set_up;

use std::time::Duration;

use harness::Result;
use harness::daemon::Daemon;
use harness::process::Output;

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");
const BOUND: Duration = Duration::from_secs(15);

/// Exit codes as documented.
const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const NOT_READY: i32 = 3;
const BAD_CONFIGURATION: i32 = 78;

/// Runs a command, which must end with this code; gives what it printed.
async fn ends(daemon: &Daemon, args: &[&str], code: i32) -> Result<Output> {
    let output = daemon.cli(args, BOUND).await?;
    assert_eq!(
        output.code,
        Some(code),
        "holdover {}\n{}{}",
        args.join(" "),
        output.stdout,
        output.stderr
    );
    Ok(output)
}
