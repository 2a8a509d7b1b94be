//! A primary that is back is noticed soon, however long it was away.

use std::time::Duration;

use harness::Result;
use harness::clock::Stopwatch;
use harness::host::{FAILOVER, Plan};

use crate::HOLDOVER;

/// By then the pauses between probes of a primary that refuses connections have grown to far more than [`NOTICED`].
const AWAY: Duration = Duration::from_secs(34);

/// An address is looked at every second here, three good probes follow within two, and settling has two.
const NOTICED: Duration = Duration::from_secs(9);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_refused_connections_for_long_is_taken_up_soon_after_it_is_back()
-> Result<()> {
    let host = Plan::new(HOLDOVER).start().await?;
    let away = Stopwatch::start();
    host.primary.kill9()?;
    host.daemon.wait_state("holdover", FAILOVER).await?;
    tokio::time::sleep(AWAY.saturating_sub(away.elapsed())).await;
    host.primary.start_again().await?;
    host.daemon.wait_state("following", NOTICED).await?;
    Ok(())
}
