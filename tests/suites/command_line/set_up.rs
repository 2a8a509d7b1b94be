//! From `init` to a host that serves, with the commands that the guide names and nothing else.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use harness::bao::{Primary, Transport};
use harness::client::raw::Ask;
use harness::daemon::Daemon;
use harness::host::{READY, login_request, own_uid};
use harness::place;
use harness::world::{self, World};
use harness::{Result, eventually};
use serde_json::Value;

use crate::{BAD_CONFIGURATION, BOUND, DONE, FAILED, HOLDOVER, NOT_READY, ends};

/// The user that every system has for servers without rights: name, uid, gid.
const SERVICE: (&str, u32, u32) = ("nobody", 65534, 65534);

/// What `init` was told to make.
struct Made {
    key: PathBuf,
    replica: PathBuf,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_was_made_by_init_serves() -> Result<()> {
    let primary = Primary::start(Transport::Tls).await?;
    let world = World::seed(&primary, 2).await?;
    let daemon = Daemon::install(Path::new(HOLDOVER), user())?;
    let made = init(&daemon, &primary, "made", DONE).await?;
    is_private(&made, &daemon)?;
    let check = ends(&daemon, &["config", "check"], DONE).await?;
    assert!(check.stdout.contains("good"), "{}", check.stdout);
    ends(&daemon, &["status"], FAILED).await?;

    // As the text that init printed says: name mirrors and workloads, grant the policy, put the login in place.
    let mut text = fs::read_to_string(daemon.config_file())?;
    text += &format!(
        "\n[[mirror]]\npath = \"secret/data/shop/*\"\ninterval = \"1s\"\n\n[[workload]]\nname = \"orders\"\n\
         match = {{ uid = {} }}\nrole = \"orders\"\n[workload.failover]\nissue = true\n",
        own_uid()
    );
    fs::write(daemon.config_file(), text)?;
    let policy = ends(&daemon, &["config", "policy"], DONE).await?.stdout;
    world::holdover_login(&primary, &policy, &daemon).await?;
    ends(&daemon, &["config", "check"], DONE).await?;

    daemon.start()?;
    let status = eventually(READY, "status to be ready", async || {
        let said = daemon.cli(&["status"], BOUND).await?;
        match said.code {
            Some(DONE) => Ok(said.stdout),
            // Away while it starts, not ready while it mirrors: each says so with a code of its own.
            Some(FAILED | NOT_READY) => Err(harness::Failure::new(said.stdout + &said.stderr)),
            other => panic!("status ended with {other:?}: {}", said.stderr),
        }
    })
    .await
    .map_err(|failure| daemon.failure(failure))?;
    for part in ["following", "yes", "secret/data/shop/*", &primary.address()] {
        assert!(status.contains(part), "status lacks {part:?}:\n{status}");
    }
    let login = daemon.client().send(&login_request("orders")).await?;
    assert_eq!(login.status, 200, "{}", login.text());
    let secret = world.below("orders").next().unwrap();
    let read = harness::client::raw::Ask::get(&format!("/v1/{}", secret.path));
    let read = read.token(&login.json_text("/auth/client_token")?)?;
    assert_eq!(
        daemon.client().send(&read).await?.json()?["data"],
        secret.data
    );
    daemon.terminate(BOUND).await?;
    assert!(
        !daemon.socket().exists(),
        "an orderly end leaves its socket"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_overwrites_nothing_and_says_what_is_in_the_way() -> Result<()> {
    let primary = Primary::start(Transport::Tls).await?;
    let daemon = Daemon::install(Path::new(HOLDOVER), user())?;
    let made = init(&daemon, &primary, "made", DONE).await?;
    let before = fs::read(&made.key)?;
    let again = init(&daemon, &primary, "made", FAILED).await;
    assert_eq!(fs::read(&made.key)?, before);
    again.map(drop)
}

/// A package has made the folder already, and given it to the user that Holdover runs as.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_uses_a_folder_that_is_the_owner_s_already() -> Result<()> {
    let primary = Primary::start(Transport::Tls).await?;
    let daemon = Daemon::install(Path::new(HOLDOVER), user())?;
    let made = init(&daemon, &primary, "state", DONE).await?;
    is_private(&made, &daemon)
}

/// A key that is not there is never made again: what it sealed would be lost, and nobody would know. What needs no replica goes
/// on, and everything does once the key is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_without_its_key_serves_without_its_replica_and_destroys_nothing() -> Result<()> {
    let primary = Primary::start(Transport::Tls).await?;
    let daemon = Daemon::install(Path::new(HOLDOVER), user())?;
    let made = init(&daemon, &primary, "made", DONE).await?;
    let replica = fs::read(&made.replica)?;
    let aside = made.key.with_extension("aside");
    fs::rename(&made.key, &aside)?;
    daemon.start()?;
    let key = made.key.display().to_string();
    let is_named = |status: &Value| status["reasons"].to_string().contains(&key);
    daemon
        .wait_for("a reason that names the key", BOUND, is_named)
        .await?;
    let health = Ask::get("/v1/sys/health");
    let asked = daemon.client().send(&health).await?;
    assert_eq!((asked.status, asked.source()), (200, Some("primary")));
    assert_eq!(fs::read(&made.replica)?, replica);
    assert!(!made.key.exists());
    let check = daemon.cli(&["config", "check"], BOUND).await?;
    assert!(
        matches!(check.code, Some(DONE | BAD_CONFIGURATION)),
        "{:?}",
        check.code
    );
    fs::rename(&aside, &made.key)?;
    let is_open = |status: &Value| !status["reasons"].to_string().contains("cannot be opened");
    daemon
        .wait_for("the replica to be opened", BOUND, is_open)
        .await?;
    assert!(made.key.exists());
    Ok(())
}

/// Runs `init` for this host, with the replica in this folder; it must end with this code.
async fn init(daemon: &Daemon, primary: &Primary, state: &str, code: i32) -> Result<Made> {
    let folder = daemon.folder();
    let made = Made {
        key: folder.join("etc/made.key"),
        replica: folder.join(state).join("replica.db"),
    };
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut args = vec!["init".to_owned(), "--address".into(), primary.address()];
    let paths = [
        ("--ca-file", primary.ca_file().to_owned()),
        ("--key", made.key.clone()),
        ("--replica", made.replica.clone()),
        ("--socket", daemon.socket()),
        ("--admin-socket", daemon.admin_socket()),
    ];
    args.extend(
        paths
            .iter()
            .flat_map(|(name, path)| [(*name).to_owned(), text(path)]),
    );
    if user().is_some() {
        args.extend(["--owner".to_owned(), SERVICE.0.to_owned()]);
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let said = ends(daemon, &args, code).await?;
    let named = if code == DONE {
        &said.stdout
    } else {
        &said.stderr
    };
    for path in [&made.key, &made.replica, &daemon.config_file()] {
        assert!(
            named.contains(&text(path)),
            "{} is not named: {named}",
            path.display()
        );
    }
    Ok(made)
}

fn is_private(made: &Made, daemon: &Daemon) -> Result<()> {
    let owner = user().map_or(own_uid(), |(uid, _)| uid);
    for (path, most) in [
        (&made.key, 0o600),
        (&made.replica, 0o600),
        (&daemon.config_file(), 0o644),
    ] {
        let metadata = path.metadata()?;
        let mode = metadata.permissions().mode() & 0o777;
        assert_eq!(mode & !most, 0, "{} has mode {mode:o}", path.display());
        assert_eq!(metadata.uid(), owner, "{}", path.display());
    }
    let key = fs::read_to_string(&made.key)?;
    let digits = key.trim();
    assert!(digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()));
    Ok(())
}

/// Whom Holdover runs as where we may choose.
fn user() -> Option<(u32, u32)> {
    place::is_root().then_some((SERVICE.1, SERVICE.2))
}
