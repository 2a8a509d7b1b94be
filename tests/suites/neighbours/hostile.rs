//! Everything at once by one user: connections, half bodies, unread answers, wrong logins, made-up tokens, odd requests. No
//! request of a workload fails meanwhile, and memory stays within its bound and comes back.

use std::time::Duration;

use harness::client::hostile::{Hostile, Target};
use harness::client::raw::Ask;
use harness::failure::{Context, Failure};
use harness::host::{Host, login_request};
use harness::load;
use harness::random::Seeded;
use harness::{Result, eventually, place, world};
use serde_json::{Value, json};

use crate::CLIENT;
use crate::rig::{SOON, plan, resident};

/// The hostile user. No entry matches it.
const USER: (u32, u32) = (4666, 4666);

/// How long a request of the workload may take, whatever goes on.
const LIMIT: Duration = Duration::from_secs(15);

/// Reads, and logins with a read each, that must be answered while the hostile user is at work.
const READS: usize = 200;
const LOGINS: usize = 10;

/// How long these may take together, on a machine that is busy with other things.
const SERVED: Duration = Duration::from_secs(60);

/// Connections that the hostile user must have had meanwhile.
const CONNECTIONS: usize = 200;

/// What memory may be more by than before, in MiB, while one user does what it can by the default limits: its shares of
/// unfinished bytes and of unread answers, which are 8 MiB each, and 256 KiB for each of its 256 connections.
const MOST: u64 = 8 + 8 + 64;

/// What may be left of it afterwards.
const LEFT: u64 = 24;

/// Only root can be another user: anybody else sees nothing here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_of_a_workload_fails_while_one_user_does_everything_at_once() -> Result<()> {
    if !place::is_root() {
        eprintln!("not shown: a user of its own for the hostile process needs root");
        return Ok(());
    }
    let host = plan().start().await?;
    let target = target(&host).await?;
    // What the first requests leave in memory is nobody's flood.
    is_served(&host, async { Ok(()) }).await?;
    let before = resident(&host)?;
    withstands(&host, &target, before)
        .await
        .context("while the primary is in charge")?;
    host.cut().await?;
    host.until_status(
        200,
        target.large.trim_start_matches("/v1/"),
        &target.token,
        SOON,
    )
    .await?;
    withstands(&host, &target, before)
        .await
        .context("in an outage")?;
    let status = host.daemon.status().await?;
    assert_eq!(status["ready"], true, "{status}");
    assert_eq!(status["parity"]["quarantined"], json!([]), "{status}");
    Ok(())
}

/// What the hostile user goes at, with a token of its own that Holdover knows.
async fn target(host: &Host) -> Result<Target> {
    let root = host.primary.root();
    let path = "secret/data/shop/billing/large";
    let large = json!({ "data": { "large": "x".repeat(400_000) } });
    root.write(path, &large).await?;
    let role = "auth/approle/role/ci";
    let fields = json!({ "token_policies": ["billing"] });
    root.write(role, &fields).await?;
    let role_id = root.get(&format!("{role}/role-id")).await?;
    let token = world::token(&root, "billing").await?;
    host.until_status(200, path, &token, SOON).await?;
    host.until_learned(&token).await?;
    Ok(Target {
        socket: host.daemon.socket(),
        large: format!("/v1/{path}"),
        token,
        role_id: role_id.text("/data/role_id")?,
        seed: Seeded::start("hostile")?.below(u64::MAX),
    })
}

/// The workload is served while the hostile user does what it can, and memory is as it was once that is over.
async fn withstands(host: &Host, target: &Target, before: u64) -> Result<()> {
    let hostile = Hostile::begin(CLIENT.as_ref(), target, USER)?;
    tokio::select! {
        served = is_served(host, has_connections(host)) => served?,
        exceeded = memory_exceeds(host, before + MOST) => return exceeded,
    }
    hostile.is_there()?;
    drop(hostile);
    eventually(SOON, "memory", async || match resident(host) {
        Ok(now) if now <= before + LEFT => Ok(()),
        Ok(now) => Err(format!("{before} MiB became {now}")),
        Err(failure) => Err(failure.to_string()),
    })
    .await
    .map_err(|failure| host.daemon.failure(failure))
}

/// Every login and read of the workload is answered with 200: those before `begun` is done, and enough after it.
async fn is_served(host: &Host, begun: impl Future<Output = Result<()>>) -> Result<()> {
    let (path, _) = host.secret("orders")?;
    let plan = load::Plan {
        pause: Duration::from_millis(5),
        limit: LIMIT,
        ..load::Plan::new(
            &host.daemon.socket(),
            "",
            vec![(path.to_owned(), Value::Null)],
        )
    };
    let load = plan.start()?;
    let served = async {
        begun.await?;
        let right = || load.so_far().answered_total();
        let enough = right() + READS;
        let reads = eventually(SERVED, "reads", async || match right() {
            right if right >= enough => Ok(()),
            right => Err(format!("{right} of {enough}")),
        });
        tokio::try_join!(reads, logs_in(host, path)).map(drop)
    };
    let served = served.await;
    let report = load.stop().await?;
    eprintln!("{report}");
    served
        .and(report.flawless())
        .map_err(|failure| host.daemon.failure(failure))
}

/// Logs in, each time over a new connection, and reads with what it was given over one that is kept.
async fn logs_in(host: &Host, path: &str) -> Result<()> {
    let client = host.daemon.client().within(LIMIT);
    let mut kept = client.connect().await?;
    for nr in 0..LOGINS {
        let login = client.send(&login_request("orders")).await?;
        if login.status != 200 {
            return Err(Failure::new(format!(
                "login {nr}: {} {}",
                login.status,
                login.text()
            )));
        }
        let token = login.json_text("/auth/client_token")?;
        let read = kept
            .send(&Ask::get(&format!("/v1/{path}")).token(&token)?)
            .await?;
        if read.status != 200 {
            return Err(Failure::new(format!(
                "read {nr}: {} {}",
                read.status,
                read.text()
            )));
        }
    }
    Ok(())
}

/// Waits until the hostile user has its connections.
async fn has_connections(host: &Host) -> Result<()> {
    let folder = format!("/proc/{}/fd", host.daemon.id()?);
    eventually(SOON, "connections", async || {
        let open = std::fs::read_dir(&folder).map_err(|error| error.to_string())?;
        match open.count() {
            many if many >= CONNECTIONS => Ok(()),
            few => Err(format!("{few} descriptors")),
        }
    })
    .await
}

/// Returns only if the daemon's memory exceeds so many MiB.
async fn memory_exceeds(host: &Host, most: u64) -> Result<()> {
    loop {
        let now = resident(host)?;
        if now > most {
            return Err(host.daemon.failure(format!("{now} MiB of {most}")));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
