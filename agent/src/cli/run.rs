//! `holdover run`.

use std::path::Path;

use crate::{
    cli::{Exit, Failure},
    config::Config,
    log, service,
};

/// The configuration is complete before anything is opened.
pub(super) fn perform(path: &Path) -> Result<Exit, Failure> {
    let config = Config::load(path)?;
    service::log_to_journal_or_stderr().map_err(Failure::Runtime)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    let ran = runtime.block_on(crate::run::run(config));
    // What hangs, in a file say, is not waited for.
    runtime.shutdown_background();
    log::flush();
    ran?;
    Ok(Exit::Done)
}
