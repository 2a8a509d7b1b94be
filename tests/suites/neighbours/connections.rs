//! Connections: whoever holds all that can be had, a workload gets its own.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use harness::client::crowd::Habit;
use harness::failure::{Context, Failure};
use harness::host::Host;
use harness::place::Room;
use harness::{Result, eventually};

use crate::HOLDOVER;
use crate::rig::{SOON, crowd, gauge, plan, plan_of, read, until};

const CONNECTIONS: &str = "holdover_entries{map=\"connections\"}";

/// Open files enough for all that is here.
const PLENTY: u64 = 1024;

fn idle(connections: usize) -> Habit {
    Habit {
        connections,
        says: Vec::new(),
        listens: true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_gets_every_connection_whoever_holds_the_rest() -> Result<()> {
    let host = plan()
        .set("limits.connections", 24)
        .set("limits.connections_per_uid", 24)
        .start()
        .await?;
    let ask = read(&host)?;
    // Heads that never end are held as idle connections are.
    let half = Habit {
        says: b"GET /v1/secret/data/x HTTP/1.1\r\nHost: h\r\nX-Slow: ".to_vec(),
        ..idle(24)
    };
    for habit in [idle(24), half] {
        let hostile = crowd(&host, &habit).await?;
        until(&host, CONNECTIONS, |open| open == 12).await?;
        let mut held = Vec::new();
        for nr in 0..24 {
            let mut connection = host.daemon.client().connect().await?;
            let reply = connection.send(&ask).await?;
            assert_eq!(reply.status, 200, "connection {nr}: {}", reply.text());
            held.push(connection);
        }
        assert_eq!(gauge(&host, CONNECTIONS).await?, 24);
        for connection in &mut held {
            let reply = connection.send(&ask).await?;
            assert_eq!(reply.status, 200, "{}", reply.text());
        }
        assert!(hostile.is_there());
        drop((held, hostile));
        until(&host, CONNECTIONS, |open| open == 0).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_few_open_files_are_told_and_accepting_goes_on() -> Result<()> {
    let room = Room::make()?;
    let holdover = room.executable("holdover-itself", HOLDOVER.as_ref())?;
    let limited = room.join("holdover-with-few-files");
    let script = format!(
        "#!/bin/sh\nulimit -Sn 200 && ulimit -Hn 600 && exec {} \"$@\"\n",
        holdover.display()
    );
    std::fs::write(&limited, script)?;
    std::fs::set_permissions(&limited, Permissions::from_mode(0o755))?;
    let host = plan_of(&limited)
        .set("limits.connections", 1000)
        .set("limits.connections_per_uid", 500)
        .start()
        .await?;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", host.daemon.id()?))?;
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let files: Vec<&str> = files
        .unwrap_or_default()
        .split_whitespace()
        .skip(3)
        .collect();
    assert_eq!(files.first(), Some(&"600"), "{limits}");
    let status = host.daemon.status().await?;
    let findings = status["findings"].to_string();
    assert!(
        findings.contains("are enough for 32 and 54 only: set LimitNOFILE=5896"),
        "{findings}"
    );
    let hostile = crowd(&host, &idle(200)).await?;
    until(&host, CONNECTIONS, |open| open == 16).await?;
    let (ask, mut held) = (read(&host)?, Vec::new());
    for nr in 0..32 {
        let mut connection = host.daemon.client().connect().await?;
        let reply = connection.send(&ask).await?;
        assert_eq!(reply.status, 200, "connection {nr}: {}", reply.text());
        held.push(connection);
    }
    assert!(hostile.is_there());
    Ok(())
}

/// Between its acceptance and its answer a connection takes some: for the process behind it, and for what `/proc` says of that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_is_attested_though_open_files_have_run_out() -> Result<()> {
    let host = plan().as_ourselves().start().await?;
    host.cut().await?;
    let ask = read(&host)?;
    eventually(SOON, "the replica", async || {
        let reply = host.daemon.client().send(&ask).await;
        match reply {
            Ok(reply) if (reply.status, reply.source()) == (200, Some("replica")) => Ok(()),
            Ok(reply) => Err(reply.text()),
            Err(failure) => Err(failure.to_string()),
        }
    })
    .await?;
    let hostile = crowd(&host, &idle(60)).await?;
    until(&host, CONNECTIONS, |open| open >= 60).await?;
    for more in [1, 2, 3, 1, 2, 3] {
        limit(&host, PLENTY).await?;
        until(&host, CONNECTIONS, |open| open >= 60).await?;
        may_open(&host, more).await?;
        let reply = host.daemon.client().send(&ask).await;
        let reply = reply.map_err(|failure| host.daemon.failure(format!("{more}: {failure}")))?;
        assert_eq!(reply.status, 200, "{more}: {}", reply.text());
    }
    assert!(hostile.is_there());
    Ok(())
}

/// The daemon may open so many files more than it has open; and as many as lie between those, for no number beyond the limit
/// makes room when it is given up.
async fn may_open(host: &Host, more: usize) -> Result<()> {
    let pid = host.daemon.id()?.to_string();
    let mut open = BTreeSet::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let number: u64 = entry?.file_name().to_string_lossy().parse()?;
        open.insert(number);
    }
    // The lowest number that is free is taken, and each has to be below the limit.
    let mut free = (0..).filter(|number| !open.contains(number));
    let below = free.nth(more).context("a number")?;
    let below = open.last().map_or(below, |last| below.max(last + 1));
    limit(host, below).await
}

/// No number of a file that the daemon opens from now on reaches `below`.
async fn limit(host: &Host, below: u64) -> Result<()> {
    let pid = host.daemon.id()?.to_string();
    let set = tokio::process::Command::new("prlimit")
        .args(["--pid", &pid, &format!("--nofile={below}:")])
        .status()
        .await
        .context("prlimit")?;
    match set.success() {
        true => Ok(()),
        false => Err(Failure::new(format!("prlimit: {set}"))),
    }
}
