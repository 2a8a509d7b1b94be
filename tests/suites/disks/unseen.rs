//! What passes through while the replica cannot be opened: an outage afterwards gives nothing that was taken away meanwhile, and
//! an outage that was there all along is gone on with.

use std::time::Duration;

use harness::client::raw::{Ask, Reply};
use harness::daemon::config::Workload;
use harness::host::{FAILOVER, Host, Plan, RECOVERY, own_uid};
use harness::{Failure, Result};
use serde_json::json;

use crate::HOLDOVER;

const BOUND: Duration = Duration::from_secs(30);

/// What status says while there is no replica.
const CLOSED: &str = "the replica is not open";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_revoked_or_written_without_the_replica_is_not_given_in_an_outage_afterwards()
-> Result<()> {
    for killed in [false, true] {
        let story = Story::start().await?;
        let (revoked, kept) = (story.token().await?, story.token().await?);
        story.close().await?;
        story.changes(&revoked).await?;
        story.host.primary.stop()?;
        if killed {
            story.host.daemon.kill9()?;
        }
        story.open().await?;
        if killed {
            story.host.daemon.start()?;
        }
        story.is_open("holdover").await?;
        for token in [&revoked, &kept] {
            let said = story.reads(token).await?;
            assert_eq!(said.status, 503, "killed {killed}: {}", said.text());
        }
        story.host.primary.cont()?;
        story.host.daemon.wait_state("following", RECOVERY).await?;
        let said = story.reads(&revoked).await?;
        assert_eq!((said.status, said.source()), (403, Some("primary")));
        // Once the primary has proven it, and the value was read anew, both count again.
        story.is_proven(&kept).await?;
        let synced = story.host.daemon.cli(&["mirror", "sync"], BOUND).await?;
        synced.success()?;
        story.host.cut().await?;
        let said = story.reads(&kept).await?;
        assert_eq!(said.status, 200, "killed {killed}: {}", said.text());
        assert!(said.text().contains("written meanwhile"), "{}", said.text());
        assert_ne!(story.reads(&revoked).await?.status, 200);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_in_which_nothing_was_passed_on_is_gone_on_with_once_the_replica_opens()
-> Result<()> {
    let story = Story::start().await?;
    let token = story.token().await?;
    story.host.cut().await?;
    story.close().await?;
    // Nobody is there to pass it on to.
    assert_ne!(story.reads(&token).await?.status, 200);
    story.open().await?;
    story.is_open("holdover").await?;
    let said = story.reads(&token).await?;
    assert_eq!((said.status, said.source()), (200, Some("replica")));
    Ok(())
}

/// A host, and a client with tokens of the primary's.
struct Story {
    host: Host,
    path: String,
}

impl Story {
    async fn start() -> Result<Story> {
        let orders = Workload::new("orders", "orders").uid(own_uid());
        let host = Plan::new(HOLDOVER).workload(orders).start().await?;
        let path = host.secret("orders")?.0.to_owned();
        Ok(Story { host, path })
    }

    /// One that the replica knows, and may read by.
    async fn token(&self) -> Result<String> {
        let body = json!({ "policies": ["orders"], "ttl": "1h" });
        let root = self.host.primary.root();
        let made = root.post("auth/token/create", &body).await?;
        let token = made.text("/auth/client_token")?;
        self.is_proven(&token).await?;
        Ok(token)
    }

    /// Waits until the replica would answer with it.
    async fn is_proven(&self, token: &str) -> Result<()> {
        let said = self.reads(token).await?;
        assert_eq!((said.status, said.source()), (200, Some("primary")));
        self.host.until_learned(token).await
    }

    /// Starts Holdover without the key of its replica.
    async fn close(&self) -> Result<()> {
        self.host.daemon.kill9()?;
        let etc = self.host.daemon.folder().join("etc");
        std::fs::rename(etc.join("replica.key"), etc.join("away"))?;
        self.host.daemon.start()?;
        self.host
            .daemon
            .wait_for("no replica", BOUND, |status| {
                status["findings"].to_string().contains(CLOSED)
            })
            .await
            .map(drop)
    }

    async fn open(&self) -> Result<()> {
        let etc = self.host.daemon.folder().join("etc");
        Ok(std::fs::rename(etc.join("away"), etc.join("replica.key"))?)
    }

    /// The replica is open, and the machine in this state.
    async fn is_open(&self, state: &str) -> Result<()> {
        let opened = self
            .host
            .daemon
            .wait_for("the replica", FAILOVER, |status| {
                !status["findings"].to_string().contains(CLOSED) && status["state"] == state
            });
        opened.await.map(drop)
    }

    /// Through the socket: the token revokes itself, and what it may read is written anew.
    async fn changes(&self, revoked: &str) -> Result<()> {
        let root = self.host.primary.root_token();
        let value = json!({ "data": { "value": "written meanwhile" } });
        let path = format!("/v1/{}", self.path);
        let written = Ask::post(&path, &value).token(root)?;
        let itself = Ask::post("/v1/auth/token/revoke-self", &json!({})).token(revoked)?;
        for ask in [&written, &itself] {
            let said = self.host.ask(ask).await?;
            match (said.status, said.source()) {
                (200 | 204, Some("primary")) => {}
                _ => return Err(Failure::new(format!("{}: {}", said.status, said.text()))),
            }
        }
        Ok(())
    }

    async fn reads(&self, token: &str) -> Result<Reply> {
        let ask = Ask::get(&format!("/v1/{}", self.path)).token(token)?;
        self.host.ask(&ask).await
    }
}
