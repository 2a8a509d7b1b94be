//! What an operator gets wrong is told with its place, all of it at once, and leaves no trace.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use harness::daemon::Daemon;
use harness::{Result, eventually};

use crate::{BAD_CONFIGURATION, BOUND, DONE, FAILED, HOLDOVER, USAGE, ends};

/// Three mistakes, on lines 2, 4 and 9; the rest is as it should be.
const THREE_MISTAKES: &str = r#"[primary]
addresses = ["vault:8200"]
[primary.auth]
method = "charm"
[failover]
probe_interval = "1s"
[limits]
connections = 10
conections = 11
"#;

#[tokio::test]
async fn a_bad_configuration_is_refused_whole_and_leaves_no_trace() -> Result<()> {
    let daemon = Daemon::install(Path::new(HOLDOVER), None)?;
    let good = daemon.base_config().to_toml()?;
    std::fs::write(daemon.config_file(), format!("{THREE_MISTAKES}{good}"))?;
    let before = files(daemon.folder())?;
    for command in [
        &["config", "check"][..],
        &["config", "policy"],
        &["run"],
        &["status"],
    ] {
        let said = ends(&daemon, command, BAD_CONFIGURATION).await?;
        assert_eq!(said.stdout, "", "{command:?}");
        for line in [2, 4, 9] {
            let place = format!("{}:{line}:", daemon.config_file().display());
            assert!(
                said.stderr.contains(&place),
                "{command:?} names no line {line}:\n{}",
                said.stderr
            );
        }
    }
    daemon.start()?;
    eventually(BOUND, "the end of the daemon", async || {
        match daemon.running() {
            true => Err("it runs"),
            false => Ok(()),
        }
    })
    .await?;
    assert_eq!(
        files(daemon.folder())?,
        before,
        "a bad configuration left a trace"
    );
    Ok(())
}

#[tokio::test]
async fn usage_errors_end_with_2_and_show_the_way() -> Result<()> {
    let daemon = Daemon::install(Path::new(HOLDOVER), None)?;
    for args in [
        &["levitate"][..],
        &["grants", "revoke"],
        &["status", "--jason"],
        &["init"],
    ] {
        let said = ends(&daemon, args, USAGE).await?;
        assert!(
            said.stderr.to_lowercase().contains("usage"),
            "{args:?}: {}",
            said.stderr
        );
    }
    let help = ends(&daemon, &["--help"], DONE).await?;
    for command in ["run", "init", "config", "status", "grants"] {
        assert!(help.stdout.contains(command), "help lacks {command}");
    }
    ends(&daemon, &["--version"], DONE).await.map(drop)
}

#[tokio::test]
async fn a_command_without_its_daemon_fails_and_says_where_it_looked() -> Result<()> {
    let daemon = Daemon::install(Path::new(HOLDOVER), None)?;
    let absent = ends(&daemon, &["status"], BAD_CONFIGURATION).await?;
    let file = daemon.config_file().display().to_string();
    assert!(absent.stderr.contains(&file), "{}", absent.stderr);
    let role = daemon.write_secret("etc/role_id", "r")?;
    let config = daemon
        .base_config()
        .primary(&["http://127.0.0.1:1".to_owned()], None)
        .approle(&role, &role);
    daemon.configure(&config)?;
    let socket = daemon.admin_socket().display().to_string();
    for args in [&["status"][..], &["status", "--json"], &["grants", "list"]] {
        let said = ends(&daemon, args, FAILED).await?;
        assert!(said.stderr.contains(&socket), "{args:?}: {}", said.stderr);
    }
    Ok(())
}

/// Every file and folder of the host but the log, which tells of the refusal.
fn files(folder: &Path) -> Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        }
        found.insert(path);
    }
    Ok(found)
}
