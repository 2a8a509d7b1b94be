//! Whatever lies where a credential file is to be: it is named with its path and what to do, it hangs nothing, and the right file
//! in its place is taken up.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::client::raw::Ask;
use harness::daemon::Daemon;
use harness::host::{Host, Plan, READY};
use harness::{Context, Failure, Result, eventually, place};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::HOLDOVER;

const BOUND: Duration = Duration::from_secs(20);

/// Told to stop, it ends within this: ten seconds for what is being answered, and a little.
const STOP: Duration = Duration::from_secs(16);

/// What lies there, and what is told of it.
const FAULTS: [(Fault, &str); 12] = [
    (Fault::Pipe, "is a named pipe, not a regular file"),
    (Fault::Directory, "is a directory, not a regular file"),
    (Fault::Socket, "is a socket"),
    (Fault::Missing, "No such file"),
    (Fault::Closed, "Permission denied"),
    (
        Fault::Content(b"\xef\xbb\xbfsome-id\n"),
        "begins with a byte order mark",
    ),
    (
        Fault::Content(b"some-id\nanother\n"),
        "has more than one line",
    ),
    (
        Fault::Content(b"some id\n"),
        "has a space within the credential",
    ),
    (Fault::Content(b" \n"), "is empty"),
    (Fault::Content(b"some\xff-id\n"), "is not UTF-8 text"),
    (
        Fault::Content(b"s\0o\0m\0e\0-\0i\0d\0\n\0"),
        "save it as UTF-8",
    ),
    (
        Fault::Content("some\u{2066}-id\n".as_bytes()),
        "has a character in it that cannot be seen",
    ),
];

#[derive(Clone, Copy, PartialEq, Debug)]
enum Fault {
    Pipe,
    Directory,
    Socket,
    Missing,
    /// For who runs Holdover, if that is not root.
    Closed,
    Content(&'static [u8]),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_lies_where_a_secret_id_is_to_be_is_named_and_the_right_file_in_its_place_is_taken_up()
-> Result<()> {
    let mut host = Plan::new(HOLDOVER).prepare().await?;
    each_is_named(&host.daemon, "secret_id").await?;
    host.start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_lies_where_a_role_id_is_to_be_is_named_and_the_right_file_in_its_place_is_taken_up()
-> Result<()> {
    let mut host = Plan::new(HOLDOVER).prepare().await?;
    each_is_named(&host.daemon, "role_id").await?;
    host.start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_lies_where_a_token_is_to_be_is_named_and_the_right_file_in_its_place_is_taken_up()
-> Result<()> {
    let host = Plan::new(HOLDOVER).prepare().await?;
    let body = serde_json::json!({ "policies": ["holdover"], "no_parent": true, "period": "1h" });
    let made = host.primary.root().post("auth/token/create", &body).await?;
    let token = made.ok()?["auth"]["client_token"]
        .as_str()
        .context("a token")?
        .to_owned();
    let path = host.daemon.write_secret("etc/token", &token)?;
    host.reconfigure(|config| config.unset("primary.auth").token_file(&path))?;
    each_is_named(&host.daemon, "token").await
}

/// A projected file: a link into a folder that is swapped as a whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_swapped_with_its_whole_folder_is_taken_up() -> Result<()> {
    let host = Plan::new(HOLDOVER).prepare().await?;
    let secret_id = etc(&host.daemon, "secret_id");
    let good = std::fs::read(&secret_id)?;
    let folder = host.daemon.folder().join("etc");
    for (name, content) in [("1", &b"two\nlines"[..]), ("2", &good)] {
        std::fs::create_dir(folder.join(name))?;
        place_file(&host.daemon, &folder.join(name).join("secret_id"), content)?;
    }
    std::fs::remove_file(&secret_id)?;
    symlink("1", folder.join("..data"))?;
    symlink("..data/secret_id", &secret_id)?;
    host.daemon.start()?;
    is_told(&host.daemon, &secret_id, "has more than one line").await?;
    symlink("2", folder.join("..next"))?;
    std::fs::rename(folder.join("..next"), folder.join("..data"))?;
    host.daemon.wait_ready(READY).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_others_may_use_is_told_with_its_mode_and_the_way_to_close_it() -> Result<()>
{
    let host = Plan::new(HOLDOVER).start().await?;
    for (name, mode) in [
        ("secret_id", 0o644),
        ("role_id", 0o640),
        ("secret_id", 0o606),
    ] {
        let path = etc(&host.daemon, name);
        let what = format!("has mode {mode:04o}, so that others may use it; run `chmod 600 ");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode))?;
        is_told(&host.daemon, &path, &what).await?;
        let checked = host
            .daemon
            .cli(&["config", "check"], BOUND)
            .await?
            .success()?;
        let named = checked.contains(&path.display().to_string()) && checked.contains(&what);
        assert!(named, "{checked}");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600))?;
        host.daemon
            .wait_for("the finding to go", BOUND, |status| {
                !status["findings"].to_string().contains("holds a secret")
            })
            .await?;
        let checked = host
            .daemon
            .cli(&["config", "check"], BOUND)
            .await?
            .success()?;
        assert!(!checked.contains("holds a secret"), "{checked}");
    }
    assert_eq!(host.daemon.status().await?["ready"], true);
    Ok(())
}

/// The primary is what cannot be reached by it, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_usable_ca_file_it_starts_and_serves_and_follows_once_there_is_one() -> Result<()>
{
    let host = Plan::new(HOLDOVER).prepare().await?;
    let path = host.daemon.write_secret("etc/ca.pem", "")?;
    let ca = std::fs::read(host.primary.ca_file())?;
    host.reconfigure(|config| config.set("primary.ca_file", path.to_string_lossy().into_owned()))?;
    let mark = [&b"\xef\xbb\xbf"[..], &ca].concat();
    let faults = [
        (Fault::Pipe, "is a named pipe"),
        (Fault::Directory, "is a directory"),
        (Fault::Missing, "No such file"),
        (Fault::Content(b"no certificate"), "holds no certificate"),
    ];
    put(&host.daemon, &path, faults[0].0)?;
    host.daemon.start()?;
    for (fault, what) in faults {
        put(&host.daemon, &path, fault)?;
        is_told(&host.daemon, &path, what).await?;
        let answered = host
            .daemon
            .client()
            .send(&Ask::get("/v1/sys/health"))
            .await?;
        assert_eq!(answered.source(), Some("replica"), "{}", answered.text());
    }
    put(&host.daemon, &path, Fault::Missing)?;
    place_file(&host.daemon, &path, &mark)?;
    is_told(&host.daemon, &path, "begins with a byte order mark").await?;
    place_file(&host.daemon, &path, &ca)?;
    host.daemon.wait_ready(READY).await?;
    put(&host.daemon, &path, Fault::Pipe)?;
    is_told(&host.daemon, &path, "is a named pipe").await?;
    // What was in it before is gone by.
    host.daemon.wait_state("following", BOUND).await?;
    host.daemon.terminate(STOP).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_ends_in_time_though_the_primary_hangs_and_clients_never_finish() -> Result<()> {
    use tokio::io::AsyncWriteExt;
    let host: Host = Plan::new(HOLDOVER).start().await?;
    host.primary.stop()?;
    let mut stuck = Vec::new();
    for request in [
        &b"POST /v1/secret/data/x HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nhalf"[..],
        b"PUT /v1/auth/userpass/login/x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
        b"GET /v1/secr",
    ] {
        let mut one = tokio::net::UnixStream::connect(host.daemon.socket()).await?;
        one.write_all(request).await?;
        stuck.push(one);
    }
    host.daemon.terminate(STOP).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_that_is_a_pipe_is_a_bad_configuration() -> Result<()> {
    let host = Plan::new(HOLDOVER).prepare().await?;
    let path = host.daemon.config_file();
    std::fs::remove_file(&path)?;
    pipe(&path)?;
    let said = host.daemon.cli(&["run"], BOUND).await?;
    assert_eq!(said.code, Some(78), "{said:?}");
    assert!(said.stderr.contains("is a named pipe"), "{said:?}");
    Ok(())
}

/// With each in its place Holdover starts, names it, and stops; then the right file comes back.
async fn each_is_named(daemon: &Daemon, name: &str) -> Result<()> {
    let path = etc(daemon, name);
    let good = std::fs::read(&path)?;
    put(daemon, &path, Fault::Pipe)?;
    daemon.start()?;
    for (fault, what) in FAULTS {
        if fault == Fault::Closed && !place::is_root() {
            continue; // The file would be ours, and closed to nobody who owns it but by its mode, which root alone sets for us.
        }
        put(daemon, &path, fault)?;
        is_told(daemon, &path, what).await?;
        // Who runs it there may read what Holdover may not.
        if fault != Fault::Closed {
            let checked = daemon.cli(&["config", "check"], BOUND).await?.success()?;
            let named = checked.contains(&path.display().to_string()) && checked.contains(what);
            assert!(named, "{fault:?}: {checked}");
        }
    }
    put(daemon, &path, Fault::Pipe)?;
    is_told(daemon, &path, "is a named pipe").await?;
    daemon.terminate(STOP).await?;
    daemon.start()?;
    is_told(daemon, &path, "is a named pipe").await?;
    place_file(daemon, &path, &good)?;
    daemon.wait_ready(READY).await?;
    daemon.terminate(STOP).await
}

/// Status names the file and what is wrong with it.
async fn is_told(daemon: &Daemon, path: &Path, what: &str) -> Result<()> {
    let path = path.display().to_string();
    let told = eventually(BOUND, what, async || {
        let status = daemon.status().await?;
        let told = format!("{} {}", status["reasons"], status["findings"]);
        let is_so = told.contains(&path) && told.contains(what);
        is_so.then_some(()).ok_or(Failure::new(told))
    });
    told.await.map_err(|failure| daemon.failure(failure))
}

fn etc(daemon: &Daemon, name: &str) -> PathBuf {
    daemon.folder().join("etc").join(name)
}

/// Takes away what is at `path`, and puts `fault` there.
fn put(daemon: &Daemon, path: &Path, fault: Fault) -> Result<()> {
    clear(path)?;
    match fault {
        Fault::Pipe => pipe(path),
        Fault::Directory => Ok(std::fs::create_dir(path)?),
        Fault::Socket => Ok(std::os::unix::net::UnixListener::bind(path).map(drop)?),
        Fault::Missing => Ok(()),
        Fault::Closed => {
            std::fs::write(path, "closed")?;
            Ok(std::fs::set_permissions(
                path,
                PermissionsExt::from_mode(0o000),
            )?)
        }
        Fault::Content(content) => place_file(daemon, path, content),
    }
}

fn clear(path: &Path) -> Result<()> {
    match path.symlink_metadata() {
        Err(_) => Ok(()),
        Ok(meta) if meta.is_dir() => Ok(std::fs::remove_dir(path)?),
        Ok(_) => Ok(std::fs::remove_file(path)?),
    }
}

fn pipe(path: &Path) -> Result<()> {
    let mode = Mode::from_raw_mode(0o644);
    mknodat(CWD, path, FileType::Fifo, mode, 0)?;
    // Whatever the umask, so that it is what it is that is told, and not that it is closed.
    Ok(std::fs::set_permissions(
        path,
        PermissionsExt::from_mode(0o644),
    )?)
}

/// A file that Holdover can read, in one step: as whoever owns the folder it is in.
fn place_file(daemon: &Daemon, path: &Path, content: &[u8]) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let next = daemon.folder().join("etc/next");
    std::fs::write(&next, content)?;
    std::fs::set_permissions(&next, PermissionsExt::from_mode(0o600))?;
    let owner = daemon.folder().join("etc/replica.key").metadata()?;
    chown(&next, Some(owner.uid()), Some(owner.gid()))?;
    clear(path)?;
    Ok(std::fs::rename(&next, path)?)
}
