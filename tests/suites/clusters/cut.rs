//! What nodes say that are cut off from their peers, or have no leader.

use harness::bao::api::Api;
use harness::cluster::{Cluster, Node};
use harness::link::Flow;
use harness::{Context, Failure, Result, eventually, together};
use serde_json::json;

use crate::stage::{BOUND, MISSING, NO_LEADER, SECRET, Stage, errors, hangs, index, prompt, value};

const LOOKUP_SELF: &str = "auth/token/lookup-self";

#[tokio::test]
async fn nodes_that_are_cut_off_answer_as_it_was_measured() -> Result<()> {
    let stage = Stage::on(Cluster::raft(3).await?).await?;
    for how in [Flow::Silent, Flow::Refused] {
        a_cut_standby_answers_with_what_it_had(&stage, how)
            .await
            .context(format!("standby {how:?}"))?;
    }
    a_step_down_is_a_second_of_500s(&stage)
        .await
        .context("step-down")?;
    a_cut_leader_lets_go_and_then_reads_what_it_had(&stage)
        .await
        .context("leader")?;
    what_is_left_of_a_cluster_reads_on(&stage)
        .await
        .context("no leader")
}

/// Old values and revoked tokens are good there; what it would have to forward hangs, or is sent to the leader.
async fn a_cut_standby_answers_with_what_it_had(stage: &Stage, how: Flow) -> Result<()> {
    let standby = stage.standby().await?;
    stage.write_secret("old").await?;
    let revoked = stage.known_token().await?;
    standby.cut_cluster(how).await?;
    let before = standby.leader().await?;
    let root = stage.cluster.root().await?;
    stage.write_secret("new").await?;
    root.write("auth/token/revoke", &json!({ "token": revoked }))
        .await?;
    assert_eq!(root.as_token(&revoked).get(LOOKUP_SELF).await?.status, 403);

    let cut = standby.root();
    let read = prompt(cut.get(SECRET)).await?;
    assert_eq!((read.status, value(&read)), (200, "old"));
    assert!(index(&read)?.is_some());
    assert_eq!(
        prompt(cut.as_token(&revoked).get(LOOKUP_SELF))
            .await?
            .status,
        200
    );
    assert_eq!(prompt(cut.get(MISSING)).await?.status, 404);
    assert_eq!(
        prompt(cut.as_token("").get("sys/internal/ui/mounts"))
            .await?
            .status,
        200
    );
    assert_eq!(prompt(cut.get("sys/health")).await?.status, 429);
    assert_eq!(standby.leader().await?, before);
    would_forward(stage, standby, how == Flow::Silent).await?;

    standby.restore().await?;
    stage.cluster.wait_caught_up().await?;
    assert_eq!(value(&cut.get(SECRET).await?), "new");
    // It asks the leader about a token that it does not know, once it has found it again.
    let revoked = cut.as_token(&revoked);
    eventually(BOUND, "the token to be dead", async || {
        match revoked.get(LOOKUP_SELF).await {
            Ok(answer) if answer.status == 403 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// What a standby does not answer itself: forwarded health, an unknown token, a write.
async fn would_forward(stage: &Stage, node: &Node, silent: bool) -> Result<()> {
    let (root, body) = (node.root(), json!({}));
    let (current, unknown) = (stage.current(root.clone()), root.as_token("none"));
    if silent {
        let asked = [
            hangs(current.get("sys/health")).await,
            hangs(current.get(SECRET)).await,
            hangs(unknown.get(LOOKUP_SELF)).await,
            hangs(root.post("auth/token/create/orders", &body)).await,
        ];
        assert_eq!(asked, [true; 4]);
        return Ok(());
    }
    let leader = node.leader().await?["leader_address"].take();
    let leader = leader.as_str().context("a leader")?.to_owned();
    for (client, path) in [
        (&current, "sys/health"),
        (&current, SECRET),
        (&unknown, LOOKUP_SELF),
    ] {
        let answer = prompt(client.get(path)).await?;
        let wanted = format!("{leader}/v1/{path}");
        assert_eq!(
            (answer.status, answer.header("location")),
            (307, Some(&*wanted))
        );
        assert_eq!((answer.body.is_null(), index(&answer)?), (true, None));
    }
    Ok(())
}

/// The node that stepped down says so to everything but health, until there is a leader.
async fn a_step_down_is_a_second_of_500s(stage: &Stage) -> Result<()> {
    let old = stage.active().await?;
    let read = old.root();
    let stepping = async {
        let new = stage.cluster.step_down().await?;
        Ok(new.number())
    };
    let seen = async {
        let seen = eventually(BOUND, "a 500", async || match read.get(SECRET).await {
            Ok(answer) if answer.status == 500 => Ok(errors(&answer)),
            other => Err(format!("{other:?}")),
        });
        assert_eq!(seen.await?, NO_LEADER);
        Ok(usize::MAX)
    };
    let work: [std::pin::Pin<Box<dyn Future<Output = Result<usize>>>>; 2] =
        [Box::pin(seen), Box::pin(stepping)];
    together(work).await?;
    reads_again(&read).await?;
    stage.cluster.wait_caught_up().await
}

/// A leader that reaches nobody stops leading; first it answers nothing, then it reads as any standby does.
async fn a_cut_leader_lets_go_and_then_reads_what_it_had(stage: &Stage) -> Result<()> {
    let old = stage.active().await?;
    stage.write_secret("old").await?;
    old.cut_cluster(Flow::Silent).await?;
    stage.cluster.wait_for_leader_after(old, BOUND).await?;
    stage.write_secret("new").await?;
    let root = old.root();
    reads_again(&root).await?;
    assert_eq!(value(&root.get(SECRET).await?), "old");
    let health = old.health().await.context("health")?;
    let mode = &health.body["replication_performance_mode"];
    assert_eq!((health.status, mode), (429, &json!("unknown")));
    let leader = old.leader().await?;
    assert!(leader.get("leader_address").is_none(), "{leader}");
    for client in [stage.current(root.clone()), root.as_token("none")] {
        let answer = prompt(client.get(LOOKUP_SELF)).await?;
        assert_eq!((answer.status, &*errors(&answer)), (500, NO_LEADER));
    }
    old.restore().await?;
    stage.cluster.wait_caught_up().await
}

async fn reads_again(client: &Api) -> Result<()> {
    eventually(BOUND, "reads", async || match client.get(SECRET).await {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(Failure::new(answer.body)),
        Err(failure) => Err(failure),
    })
    .await
}

/// Two of three killed: the third answers what it can, names the dead leader, and sends others to it.
async fn what_is_left_of_a_cluster_reads_on(stage: &Stage) -> Result<()> {
    let (standby, token) = (stage.standby().await?, stage.known_token().await?);
    for node in stage.cluster.nodes() {
        if node.number() != standby.number() {
            node.kill9()?;
        }
    }
    let left = standby.api(&token);
    assert_eq!(prompt(left.get("sys/health")).await?.status, 429);
    assert_eq!(prompt(left.get(LOOKUP_SELF)).await?.status, 200);
    assert_eq!(prompt(left.get(SECRET)).await?.status, 200);
    would_forward(stage, standby, false).await
}
