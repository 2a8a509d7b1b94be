//! Holdover's own token ended in the outage, and no other one is to be had when the primary is back: that ends the outage all
//! the same, nothing is settled without a token, and everything is once there is one.

use harness::bao::api::Api;
use harness::gate::Act;
use harness::host::{Login, READY};
use harness::{Result, eventually, world};
use serde_json::{Value, json};

use crate::rig::{SOON, Stage, plan};

/// Where Holdover logs in.
const LOGIN: &str = "auth/approle/login";

/// The role by which it does.
const OWN_ROLE: &str = "auth/approle/role/holdover";

/// As if their TTL had passed: tokens of AppRole logins are Holdover's alone here.
async fn end_own_token(root: &Api) -> Result<()> {
    let path = format!("sys/leases/revoke-prefix/{LOGIN}");
    root.write(&path, &json!({ "sync": true })).await.map(drop)
}

/// What an outage left: a grant of the workload's, and one that hangs on a token of the primary's.
struct Left {
    own: Login,
    child: Login,
}

async fn left_by_an_outage(stage: &Stage) -> Result<Left> {
    let parent = stage.brought().await?;
    stage.cut().await?;
    let own = stage.issued("orders").await?;
    let child = stage.child_of(&parent).await?;
    Ok(Left { own, child })
}

/// Whether a reason says that the login is what is waited for.
fn tells_login(status: &Value) -> bool {
    let reasons = status["reasons"].as_array().into_iter().flatten();
    let mut texts = reasons.filter_map(Value::as_str);
    status["ready"] == false
        && texts.any(|text| text.contains("Holdover's own token") && text.contains(LOGIN))
}

/// Nothing is settled, mirrored values are read with what needs no more proof, and all else is told to wait.
async fn waits(stage: &Stage, left: &Left) -> Result<()> {
    let read = stage.read_own("orders", &left.own.token).await?;
    let outcome = (read.status, read.source());
    assert_eq!(outcome, (200, Some("replica")), "{}", stage.told(&read));
    for later in [
        stage.keep(&left.own.token).await?,
        stage.read_own("orders", &left.child.token).await?,
        stage.keep(&left.child.token).await?,
    ] {
        assert_eq!(later.status, 503, "{}", stage.told(&later));
        assert!(
            later.text().contains("token of its own"),
            "{}",
            later.text()
        );
    }
    assert_eq!((stage.unsettled().await?, stage.mints().len()), (2, 0));
    Ok(())
}

async fn is_settled(stage: &Stage, left: &Left) -> Result<()> {
    stage.host.daemon.wait_ready(READY).await?;
    for login in [&left.own, &left.child] {
        // One that was judged just before is not judged again at once.
        eventually(SOON, "the grant in full", async || {
            match stage.keep(&login.token).await {
                Ok(kept) if kept.status == 200 => Ok(()),
                Ok(kept) => Err(stage.told(&kept)),
                Err(failure) => Err(failure.to_string()),
            }
        })
        .await?;
        stage.is_whole("orders", &login.token).await?;
    }
    assert_eq!((stage.unsettled().await?, stage.mints().len()), (0, 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_hangs_at_the_return_keeps_no_outage_alive_and_settles_nothing_wrongly()
-> Result<()> {
    let stage = Stage::start(plan()).await?;
    let left = left_by_an_outage(&stage).await?;
    end_own_token(&stage.host.primary.root()).await?;
    stage
        .gate
        .rule(|asked| match asked.target.ends_with(LOGIN) {
            true => Act::Hold,
            false => Act::Pass,
        });
    stage.reopen().await?;
    stage.gate.until_held(SOON).await?;
    let status = stage.host.daemon.wait_for("the reason", SOON, tells_login);
    status.await?;
    waits(&stage, &left).await?;
    stage.gate.no_rule();
    stage.gate.release();
    is_settled(&stage, &left).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_is_refused_at_the_return_keeps_no_outage_alive_and_is_told() -> Result<()> {
    let stage = Stage::start(plan()).await?;
    let root = stage.host.primary.root();
    let left = left_by_an_outage(&stage).await?;
    // From here nobody logs in to it: that may pass, so it takes nothing away for good.
    let elsewhere = json!({ "secret_id_bound_cidrs": ["192.0.2.0/24"] });
    root.write(OWN_ROLE, &elsewhere).await?;
    end_own_token(&root).await?;
    stage.reopen().await?;
    let status = stage.host.daemon.wait_for("the reason", SOON, tells_login);
    let status = status.await?;
    assert!(status["offboarded"].is_null(), "{status:#}");
    waits(&stage, &left).await?;
    let anywhere = json!({ "secret_id_bound_cidrs": [] });
    root.write(OWN_ROLE, &anywhere).await?;
    world::holdover_login_by(&root, &stage.host.policy, &stage.host.daemon).await?;
    is_settled(&stage, &left).await
}
