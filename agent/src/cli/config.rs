//! `holdover config check|policy`.

use std::path::Path;

use clap::Subcommand;

use crate::{
    cli::{Exit, Failure, out},
    config::Config,
    upstream::policy,
};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Checks the configuration as run does before it opens anything.
    Check,
    /// Prints the least-privilege policy that Holdover's own login needs at the primary.
    Policy,
}

pub(super) fn perform(command: &Command, path: &Path) -> Result<Exit, Failure> {
    let config = Config::load(path)?;
    match command {
        Command::Check => out::page(&checked(&config))?,
        Command::Policy => out::page(&policy::required_policy(&config.settings))?,
    }
    Ok(Exit::Done)
}

fn checked(config: &Config) -> String {
    let settings = &config.settings;
    let mut text = format!(
        "{}: good ({} mirrors, {} workloads)\n",
        config.path.display(),
        settings.mirrors.len(),
        settings.workloads.len(),
    );
    for finding in &config.findings {
        text.push_str(&format!("finding: {finding}\n"));
    }
    // Only here: a daemon starts without them, and tells at each login what it lacks.
    for file in &config.credential_files {
        if let Err(error) = std::fs::metadata(&file.path) {
            text.push_str(&format!(
                "finding: line {}: primary.auth.{}: {}: {error}: Holdover cannot log in without it\n",
                file.line,
                file.key,
                file.path.display(),
            ));
        }
    }
    text
}
