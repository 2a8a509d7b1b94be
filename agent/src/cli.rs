//! The command line: arguments in, exit code out.
//!
//! Commands return what went wrong; only this room prints errors, and only [`out`] prints anything.

mod completions;
mod config;
mod coverage;
mod grants;
mod init;
mod mirror;
pub mod out;
mod parity;
mod run;
mod status;

use std::{
    ffi::OsString,
    future::Future,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, Subcommand};

use crate::{
    admin::client::{AdminClient, AdminClientError},
    config::{self as configuration, Config, ConfigErrors, DEFAULT_PATH},
    run::RunError,
};

/// How long the daemon may take to answer a question.
const ANSWER: Duration = Duration::from_secs(10);

/// Keeps secrets available on this host while the vault is not.
#[derive(Parser)]
#[command(
    name = "holdover",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 not ready (status only), 78 bad configuration."
)]
struct Cli {
    /// The configuration file.
    #[arg(long, global = true, value_name = "PATH", default_value = DEFAULT_PATH)]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Prints a completion script for a shell.
    Completions(completions::CompletionsArgs),
    /// Checks the configuration, and prints what it needs at the primary.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Shows how many of the requests that passed through the socket an outage would have served, and why not the others.
    Coverage(coverage::CoverageArgs),
    /// Lists and revokes grants.
    #[command(subcommand)]
    Grants(grants::GrantsCommand),
    /// Makes a key, a replica and a commented configuration.
    Init(init::InitArgs),
    /// Lists mirrors, and brings them up to date.
    #[command(subcommand)]
    Mirror(mirror::MirrorCommand),
    /// Lists what is quarantined because the replica would have granted more than the primary, and ends that.
    #[command(subcommand)]
    Parity(parity::ParityCommand),
    /// Runs the daemon.
    Run,
    /// Shows whether this host could do without the primary now, and for how long.
    Status(status::StatusArgs),
}

/// How a command ended, as the shell sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    NotReady = 3,
    BadConfiguration = 78,
}

/// Why a command failed. Its text names the file, key or path, and the remedy.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error(transparent)]
    Daemon(#[from] AdminClientError),
    #[error(transparent)]
    Init(#[from] init::InitError),
    #[error("cannot write the output: {0}")]
    Output(std::io::Error),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
}

impl Failure {
    fn exit(&self) -> Exit {
        match self {
            Self::Config(_) => Exit::BadConfiguration,
            _ => Exit::Failed,
        }
    }
}

/// Runs the program with `args`, the first of which is its name.
pub fn main_with_args(args: Vec<OsString>) -> ExitCode {
    let exit = match Cli::try_parse_from(args) {
        Ok(cli) => cli.perform().unwrap_or_else(|failure| {
            out::error(&failure);
            failure.exit()
        }),
        Err(usage) => {
            out::usage(&usage);
            if usage.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            }
        }
    };
    ExitCode::from(exit as u8)
}

impl Cli {
    fn perform(self) -> Result<Exit, Failure> {
        match self.command {
            Command::Completions(args) => completions::perform(&args),
            Command::Config(command) => config::perform(&command, &self.config),
            Command::Coverage(args) => coverage::perform(&args, &self.config),
            Command::Grants(command) => grants::perform(command, &self.config),
            Command::Init(args) => init::perform(&args, &self.config),
            Command::Mirror(command) => mirror::perform(&command, &self.config),
            Command::Parity(command) => parity::perform(command, &self.config),
            Command::Run => run::perform(&self.config),
            Command::Status(args) => status::perform(&args, &self.config),
        }
    }
}

/// The daemon that runs by this configuration. One that is up goes on with what it had when the file went bad, and has
/// to be reached then as well: the file's mistakes are reported, and only its admin socket is used.
fn daemon(config: &Path) -> Result<AdminClient, Failure> {
    let errors = match Config::load(config) {
        Ok(config) => return Ok(AdminClient::new(&config.admin.socket)?),
        Err(errors) => errors,
    };
    match configuration::admin_socket(config) {
        Some(socket) if UnixStream::connect(&socket).is_ok() => {
            out::error(&errors);
            Ok(AdminClient::new(&socket)?)
        }
        _ => Err(errors.into()),
    }
}

/// Runs a short conversation to its end.
fn converse<T>(talk: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::Runtime)?;
    Ok(runtime.block_on(talk))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_takes_the_configuration_from_the_design_s_place() {
        let cli = Cli::try_parse_from(["holdover", "run"]).unwrap();
        assert_eq!(
            cli.config,
            std::path::Path::new("/etc/holdover/holdover.toml")
        );
        for command in [
            vec!["run"],
            vec!["config", "check"],
            vec!["config", "policy"],
            vec!["config", "policy", "--missing", "--json"],
            vec!["config", "suggest", "--since", "2d", "--json"],
            vec!["config", "suggest", "--policy"],
            vec![
                "coverage",
                "--since",
                "12h",
                "--workload",
                "w",
                "--all",
                "--json",
            ],
            vec!["status", "--json"],
            vec!["status", "--watch"],
            vec!["grants", "list", "--json"],
            vec!["grants", "revoke", "acc"],
            vec!["grants", "revoke", "--workload", "w"],
            vec!["grants", "revoke", "--uid", "0"],
            vec!["mirror", "list"],
            vec!["mirror", "sync"],
            vec!["parity", "list", "--json"],
            vec!["parity", "lift", "shop"],
            vec!["parity", "lift", "--workload", "w", "--json"],
            vec!["parity", "lift", "--all"],
            vec!["completions", "bash"],
            vec!["init", "--address", "https://v:8200", "--ca-file", "/ca"],
        ] {
            let args = ["holdover"]
                .into_iter()
                .chain(command.iter().copied())
                .chain(["--config", "/x"]);
            let cli =
                Cli::try_parse_from(args).unwrap_or_else(|error| panic!("{command:?}: {error}"));
            assert_eq!(cli.config, std::path::Path::new("/x"), "{command:?}");
        }
    }

    #[test]
    fn usage_errors_are_not_failures() {
        for args in [
            vec!["holdover"],
            vec!["holdover", "drill"],
            vec!["holdover", "grants", "revoke"],
            vec!["holdover", "grants", "revoke", "a", "--uid", "1"],
            vec!["holdover", "parity", "lift"],
            vec!["holdover", "parity", "lift", "a", "--all"],
            vec!["holdover", "init"],
            vec!["holdover", "coverage", "--since", "soon"],
        ] {
            assert!(
                Cli::try_parse_from(&args).is_err_and(|error| error.exit_code() == 2),
                "{args:?}"
            );
        }
    }
}
