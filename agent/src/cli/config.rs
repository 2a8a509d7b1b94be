//! `holdover config check|policy|suggest`.

use std::{path::Path, time::Duration};

use clap::Subcommand;
use serde::Serialize;

use crate::{
    admin::policy::shown,
    cli::{ANSWER, Exit, Failure, converse, coverage, daemon, out},
    config::Config,
    coverage::suggest::{Suggestion, suggest, text},
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
