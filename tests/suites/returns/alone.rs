//! What is used is verified by itself: it does not wait for the end of a pass over all workloads, nor for one of which the
//! primary says nothing.

use harness::gate::{Act, Asked};
use harness::{Result, eventually};

use crate::rig::{SOON, Stage, entry, plan};

/// By which the authority of a workload is read.
fn is_role_of(asked: &Asked, workload: &str) -> bool {
    asked
        .target
        .ends_with(&format!("/auth/token/roles/{workload}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_use_does_not_wait_for_a_workload_that_the_primary_is_silent_about() -> Result<()> {
    let stage = Stage::start(plan().workload(entry("billing"))).await?;
    stage.cut().await?;
    let (silent, used) = (
        stage.issued("orders").await?,
        stage.issued("billing").await?,
    );
    // Recovery and the passes that follow come to this one first.
    stage.gate.rule(|asked| match is_role_of(asked, "orders") {
        true => Act::Hold,
        false => Act::Pass,
    });
    stage.reopen().await?;
    stage.gate.until_held(SOON).await?;
    stage.is_whole("billing", &used.token).await?;
    assert_eq!((stage.unsettled().await?, stage.mints().len()), (1, 1));
    stage.gate.no_rule();
    stage.gate.release();
    eventually(SOON, "the other grant in full", async || {
        match stage.keep(&silent.token).await {
            Ok(kept) if kept.status == 200 => Ok(()),
            Ok(kept) => Err(stage.told(&kept)),
            Err(failure) => Err(failure.to_string()),
        }
    })
    .await?;
    stage.is_whole("orders", &silent.token).await
}
