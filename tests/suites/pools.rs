//! Leased secrets in an outage: what a client leased is that client's, a shared lease can be given up by one, and of a
//! pool each workload gets credentials of its own, on a real database.

#[path = "pools/cast.rs"]
mod cast;
#[path = "pools/given_up.rs"]
mod given_up;

use std::time::Duration;

use harness::{
    Context, Result,
    client::raw::{Ask, Reply},
    eventually,
    host::FAILOVER,
};
use serde_json::{Value, json};

use crate::cast::{Cast, Part};

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");
const VISITOR: &str = env!("CARGO_BIN_EXE_holdover-test-client");
const PATH: &str = "database/creds/orders";
const BOUND: Duration = Duration::from_secs(30);

/// What a read of the leased path gave.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Leased {
    id: String,
    username: String,
    password: String,
}

fn leased(reply: &Reply) -> Result<Leased> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    Ok(Leased {
        id: reply.json_text("/lease_id")?,
        username: reply.json_text("/data/username")?,
        password: reply.json_text("/data/password")?,
    })
}

async fn works(cast: &Cast, leased: &Leased) -> Result<bool> {
    let postgres = cast.host().postgres()?;
    postgres.can_login(&leased.username, &leased.password).await
}

/// Waits until the only pool stands so: ready, handed out.
async fn until_pool(cast: &Cast, ready: u64, handed_out: u64) -> Result<Value> {
    let wanted = json!([{ "path": PATH, "size": 2, "ready": ready, "handed_out": handed_out }]);
    let daemon = &cast.host().daemon;
    let waited = eventually(BOUND, "the pool", async || match daemon.status().await {
        Ok(status) if status["pools"] == wanted => Ok(status),
        Ok(status) => Err(status["pools"].to_string()),
        Err(failure) => Err(failure.to_string()),
    });
    waited.await.map_err(|failure| daemon.failure(failure))
}

fn is_empty_pool(reply: &Reply) {
    assert_eq!(reply.status, 503, "{}", reply.text());
    let text = reply.text();
    assert!(
        text.contains("the pool of database/creds/orders (pool = 2) has no lease left"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_workload_gets_credentials_of_its_own_until_its_end() -> Result<()> {
    let cast = Cast::assemble().await?;
    until_pool(&cast, 2, 0).await?;
    let scrape = Ask::get("/metrics");
    let metrics = cast.host().daemon.admin(&scrape).await?.text();
    assert!(metrics.contains("holdover_pool_ready{path=\"database/creds/orders\"} 2"));
    cast.host().cut().await?;

    // Two of its processes at the same moment, each with a token of its own.
    let (one, other) = tokio::try_join!(cast.read(Part::First), cast.read(Part::First))?;
    let first = leased(&one)?;
    assert_eq!(leased(&other)?, first);
    let second = leased(&cast.read(Part::Second).await?)?;
    assert_ne!(first.id, second.id);
    assert_ne!(first.username, second.username);
    assert!(works(&cast, &first).await? && works(&cast, &second).await?);
    is_empty_pool(&cast.read(Part::Third).await?);
    // With another token each time.
    for _ in 0..2 {
        let again = cast.read(Part::First).await?;
        assert_eq!(leased(&again)?, first);
        assert_eq!(again.source(), Some("replica"));
        let left = again.json()?["lease_duration"]
            .as_u64()
            .context("a duration")?;
        assert!((1..600).contains(&left), "{left}");
    }
    let status = until_pool(&cast, 0, 2).await?;
    let text = status["findings"].to_string();
    assert!(text.contains("no lease is left"), "{text}");

    cast.host().daemon.kill9()?;
    cast.host().daemon.start()?;
    cast.host().daemon.wait_state("holdover", FAILOVER).await?;
    assert_eq!(leased(&cast.read(Part::Second).await?)?, second);
    assert_eq!(leased(&cast.read(Part::First).await?)?, first);
    is_empty_pool(&cast.read(Part::Third).await?);

    // An operator ends the second: its lease is no longer served here, and the database is told afterwards.
    let entry = Part::Second.entry();
    let revoke = ["grants", "revoke", "--workload", entry];
    cast.host().daemon.cli(&revoke, BOUND).await?.success()?;
    until_pool(&cast, 0, 1).await?;
    is_empty_pool(&cast.read(Part::Second).await?);
    assert!(works(&cast, &second).await?, "the database is not told yet");

    cast.host().restore().await?;
    until_pool(&cast, 2, 1).await?;
    eventually(
        BOUND,
        "the revocation to reach the database",
        async || match works(&cast, &second).await {
            Ok(false) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await?;
    assert!(works(&cast, &first).await?, "the survivor keeps its own");
    let known = json!({ "lease_id": first.id });
    let known = cast
        .host()
        .primary
        .root()
        .put("sys/leases/lookup", &known)
        .await?;
    assert_eq!(known.status, 200, "{}", known.body);
    // Of the next outage the pool has as many again.
    cast.host().cut().await?;
    let third = leased(&cast.read(Part::Third).await?)?;
    assert!(works(&cast, &third).await?);
    assert_eq!(leased(&cast.read(Part::First).await?)?, first);
    Ok(())
}
