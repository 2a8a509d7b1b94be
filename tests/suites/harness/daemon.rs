//! The daemon's keeper starts, kills and asks; shown on a stand-in with an admin socket.

use std::path::Path;
use std::time::Duration;

use harness::client::raw::Ask;
use harness::daemon::Daemon;
use harness::daemon::config::{Config, Workload};
use harness::place::Room;
use harness::provision::Parts;
use harness::{Result, clock};

const BOUND: Duration = Duration::from_secs(10);

/// A program that is called as the daemon is, reports a status and its own wall clock, and is ready at once.
const STAND_IN: &str = r#"
import json, os, re, select, signal, socket, sys, time
assert sys.argv[1:3] == ["run", "--config"], sys.argv
config = open(sys.argv[3]).read()
path = re.search(r'\[admin\]\nsocket = "(.*)"', config).group(1)
if os.environ.get("SAY") == "die": sys.exit("cannot start: no luck")
if os.path.exists(path): os.unlink(path)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
print("listening", flush=True)
servers = [server]
if os.environ.get("LISTEN_PID") == str(os.getpid()): servers.append(socket.socket(fileno=3))
while True:
    peer, _ = select.select(servers, [], [])[0][0].accept()
    peer.recv(65536)
    body = json.dumps({"state": "following", "ready": True, "time": time.time(), "uid": os.getuid()}).encode()
    try: peer.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    except BrokenPipeError: pass # it waited no longer
    peer.close()
"#;

fn stand_in(user: Option<(u32, u32)>) -> Result<Daemon> {
    let room = Room::make()?;
    let text = format!("#!{} -I\n{STAND_IN}", Parts::get()?.python.display());
    let daemon = Daemon::install(&room.file("program", text, 0o755, None)?, user)?;
    daemon.configure(&daemon.base_config())?;
    Ok(daemon)
}

#[tokio::test]
async fn a_daemon_is_started_killed_and_started_again() -> Result<()> {
    let user = harness::place::is_root().then_some((4242, 4343));
    let daemon = stand_in(user)?;
    daemon.start()?;
    let status = daemon.wait_ready(BOUND).await?;
    assert_eq!(
        status["uid"],
        user.map_or(rustix::process::getuid().as_raw(), |u| u.0)
    );
    let first = daemon.id()?;
    daemon.kill9()?;
    assert!(!daemon.running() && daemon.status().await.is_err());
    daemon.start()?;
    daemon.wait_state("following", BOUND).await?;
    assert_ne!(daemon.id()?, first);
    daemon.terminate(BOUND).await?;
    assert!(!daemon.running());
    Ok(())
}

#[tokio::test]
async fn connections_made_while_no_daemon_lives_wait_for_the_next() -> Result<()> {
    let daemon = stand_in(None)?;
    daemon.activate_by_socket()?;
    daemon.start()?;
    daemon.wait_ready(BOUND).await?;
    assert_eq!(daemon.client().send(&Ask::get("/v1/a")).await?.status, 200);
    daemon.kill9()?;
    let client = daemon.client().within(BOUND);
    let waiting = tokio::spawn(async move { client.send(&Ask::get("/v1/b")).await });
    let early = daemon
        .client()
        .within(Duration::from_millis(100))
        .send(&Ask::get("/v1/c"))
        .await;
    assert!(early.is_err(), "somebody answered for a dead daemon");
    daemon.start()?;
    assert_eq!(waiting.await??.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_wait_that_fails_shows_the_last_status_and_the_log() -> Result<()> {
    let daemon = stand_in(None)?;
    daemon.start()?;
    daemon.wait_ready(BOUND).await?;
    let failure = daemon
        .wait_state("holdover", Duration::from_secs(1))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        failure.contains("for state holdover; last seen: {"),
        "{failure}"
    );
    assert!(failure.contains("\"state\": \"following\""), "{failure}");
    assert!(failure.ends_with("listening\n"), "{failure}");
    Ok(())
}

#[tokio::test]
async fn a_daemon_that_ends_is_noticed_long_before_the_bound() -> Result<()> {
    let daemon = stand_in(None)?;
    daemon.set_env("SAY", "die");
    daemon.start()?;
    let watch = clock::Stopwatch::start();
    let failure = daemon
        .wait_ready(Duration::from_secs(60))
        .await
        .unwrap_err()
        .to_string();
    assert!(
        failure.contains("the daemon has ended") && failure.contains("no luck"),
        "{failure}"
    );
    assert!(watch.elapsed() < BOUND);
    Ok(())
}

#[tokio::test]
async fn the_daemons_wall_clock_moves_alone_while_it_runs() -> Result<()> {
    let daemon = stand_in(None)?;
    daemon.fake_clock()?;
    daemon.start()?;
    let offset =
        |status: &serde_json::Value| status["time"].as_f64().unwrap() - clock::wall().as_secs_f64();
    let day = 86_400.0;
    assert!(offset(&daemon.wait_ready(BOUND).await?).abs() < 5.0);
    daemon.shift_clock(-86_400)?;
    daemon
        .wait_for("a clock a day back", BOUND, |s| {
            (offset(s) + day).abs() < 5.0
        })
        .await?;
    daemon.shift_clock(86_400)?;
    daemon
        .wait_for("a clock a day ahead", BOUND, |s| {
            (offset(s) - day).abs() < 5.0
        })
        .await?;
    Ok(())
}

#[test]
fn dotted_keys_become_tables_and_lists_of_tables() -> Result<()> {
    let config = Config::new()
        .set("failover.failures", 2)
        .set("failover.probe_interval", "1s")
        .key_file(Path::new("/k"))
        .mirror("secret/data/shop/*", &[("interval", "1s".into())])
        .mirror("database/creds/orders", &[("pool", 2.into())])
        .workload(
            Workload::new("orders", "orders")
                .uid(1000)
                .issues("15m", "2h"),
        )
        .unset("failover.probe_interval");
    let expected = toml::toml! {
        [failover]
        failures = 2
        [[replica.key]]
        source = "file"
        path = "/k"
        [[mirror]]
        path = "secret/data/shop/*"
        interval = "1s"
        [[mirror]]
        path = "database/creds/orders"
        pool = 2
        [[workload]]
        name = "orders"
        role = "orders"
        match = { uid = 1000 }
        failover = { issue = true, ttl = "15m", max_ttl = "2h" }
    };
    assert_eq!(config.to_toml()?.parse::<toml::Table>()?, expected);
    assert!(config.set("failover.failures.deeper", 1).to_toml().is_err());
    Ok(())
}
