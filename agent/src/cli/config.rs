//! `holdover config check|policy|suggest`.

use std::{path::Path, time::Duration};

use clap::Subcommand;
use serde::Serialize;

use crate::{
    admin::policy::shown,
    cli::{ANSWER, Exit, Failure, converse, coverage, daemon, out},
    config::{AuthMethod, Config, CredentialFile, KeySource},
    coverage::suggest::{Suggestion, suggest, text},
    file,
    link::tls,
    status::{MissingRules, RuleStatus},
    upstream::policy,
};

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Checks the configuration as run does before it opens anything.
    Check,
    /// Prints the least-privilege policy that Holdover's own login needs at the primary, or what it lacks.
    Policy(PolicyArgs),
    /// Prints the mirrors and workload entries that are missing, from what passed through the socket, and the policy
    /// to grant for them.
    Suggest(SuggestArgs),
}

#[derive(clap::Args)]
pub(super) struct PolicyArgs {
    /// Only the rules that the primary does not grant: the running daemon asks it, with its own token. Nothing is printed
    /// if nothing is lacking.
    #[arg(long)]
    missing: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args)]
pub(super) struct SuggestArgs {
    /// How far back, as in 12h or 7d.
    #[arg(long, value_name = "SPAN", default_value = "7d", value_parser = coverage::span)]
    since: Duration,
    /// Only the policy, as it is written at the primary.
    #[arg(long, conflicts_with = "json")]
    policy: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// `config suggest --json`.
#[derive(Serialize)]
struct Suggested<'a> {
    #[serde(flatten)]
    suggestion: &'a Suggestion,
    /// The lines for the configuration.
    toml: &'a str,
    /// What to grant beside what `config policy` prints now; null if that is nothing.
    policy: Option<&'a str>,
}

pub(super) fn perform(command: &ConfigCommand, path: &Path) -> Result<Exit, Failure> {
    let config = Config::load(path)?;
    match command {
        ConfigCommand::Check => out::page(&checked(&config))?,
        ConfigCommand::Policy(args) if args.missing => missing(args, &config)?,
        ConfigCommand::Policy(args) => required(args, &config)?,
        ConfigCommand::Suggest(args) => suggested(args, &config)?,
    }
    Ok(Exit::Done)
}

/// `config policy --json`.
#[derive(Serialize)]
struct RequiredRules {
    rules: Vec<RuleStatus>,
}

fn required(args: &PolicyArgs, config: &Config) -> Result<(), Failure> {
    if !args.json {
        return out::page(&policy::required_policy(&config.settings));
    }
    let rules = policy::rules(&config.settings);
    out::json(&RequiredRules {
        rules: rules.iter().map(shown).collect(),
    })
}

fn missing(args: &PolicyArgs, config: &Config) -> Result<(), Failure> {
    let client = daemon(&config.path)?;
    let found: MissingRules = converse(client.get("/v1/policy/missing", ANSWER))??;
    out::show(&found, args.json, |found| policy::hcl(&found.missing))
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
    for fault in files(config) {
        text.push_str(&format!("finding: {fault}\n"));
    }
    text
}

/// What is wrong with the files that the configuration names, as they look to whoever runs this.
fn files(config: &Config) -> Vec<String> {
    let primary = &config.primary;
    let ca = tls::client_config(primary.ca_file.as_deref()).err();
    let ca =
        ca.map(|fault| format!("primary.ca_file: {fault}: the primary is not trusted without it"));
    let credentials = config.credential_files.iter().filter_map(|file| {
        let fault = credential_fault(&primary.auth.method, file)?;
        let (line, key) = (file.line, file.key);
        Some(format!(
            "line {line}: primary.auth.{key}: {fault}: Holdover cannot log in without it"
        ))
    });
    let keys = config
        .replica
        .keys
        .iter()
        .filter_map(|KeySource::File(path)| {
            let fault = file::read_credential(path).err()?;
            Some(format!(
                "replica.key: {fault}: the replica cannot be opened without it"
            ))
        });
    ca.into_iter()
        .chain(credentials)
        .chain(keys)
        .chain(exposed(config))
        .collect()
}

/// Those that others may use.
fn exposed(config: &Config) -> Vec<String> {
    let daemon = file::exposed::daemon_of(&config.replica.path);
    let files = config.secret_files().into_iter();
    let found = files.flat_map(|path| file::exposed::exposed(&path, daemon));
    found.map(|exposed| exposed.to_string()).collect()
}

/// A pair is told of once: by its certificate.
fn credential_fault(method: &AuthMethod, credential: &CredentialFile) -> Option<String> {
    match method {
        AuthMethod::Cert {
            cert_file: certificate,
            key_file: key,
            ..
        } => {
            let pair = tls::ClientCertificate { certificate, key };
            let fault = tls::identified(pair).err()?;
            (credential.path == *certificate).then(|| fault.to_string())
        }
        _ => {
            let fault = file::read_credential(&credential.path).err()?;
            Some(fault.to_string())
        }
    }
}

fn suggested(args: &SuggestArgs, config: &Config) -> Result<(), Failure> {
    let report = coverage::ask(&daemon(&config.path)?, args.since)?;
    let suggestion = suggest(&report, config);
    let lines = text::toml(&suggestion);
    let policy = policy::added_policy(&config.settings, &suggestion.applied(config));
    if args.policy {
        return out::page(policy.as_deref().unwrap_or_default());
    }
    if args.json {
        return out::json(&Suggested {
            suggestion: &suggestion,
            toml: &lines,
            policy: policy.as_deref(),
        });
    }
    let mut page = format!(
        "# From {} requests since {}.\n",
        report.requests, report.since
    );
    page += match (suggestion.is_empty(), &policy) {
        (true, _) => "# No line is missing.\n\n",
        (false, None) => "# Add these lines to the configuration, and drill.\n\n",
        (false, Some(_)) => {
            "# Grant the policy at the end, add these lines to the configuration, and drill.\n\n"
        }
    };
    page += &lines;
    if let Some(policy) = policy {
        page += "\n# The policy, which holdover config suggest --policy prints by itself:\n#\n";
        page += &text::commented(&policy);
    }
    out::page(&page)
}
