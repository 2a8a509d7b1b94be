//! How the active node's own answer is had, through any node.

use harness::cluster::Node;
use harness::{Context, Failure, Result, eventually};
use serde_json::json;

use crate::stage::{BOUND, MISSING, SECRET, Stage, index};

const LOOKUP_SELF: &str = "auth/token/lookup-self";
const LOOKUP_ACCESSOR: &str = "auth/token/lookup-accessor";
/// How often a token is minted: each time the standby is behind.
const MINTS: usize = 10;

pub(crate) async fn the_active_answers_through_a_standby(stage: &Stage) -> Result<()> {
    let (active, standby) = (stage.active().await?, stage.standby().await?);
    let current = stage.current(standby.api(stage.cluster.root_token()));
    let health = current.get("sys/health").await?;
    assert_eq!(
        (health.status, &health.body["standby"]),
        (200, &json!(false))
    );
    assert_eq!(current.get("sys/leader").await?.body["is_self"], true);
    assert_eq!(current.get(MISSING).await?.status, 404);
    assert_eq!(
        stage
            .current(standby.api("none"))
            .get(LOOKUP_SELF)
            .await?
            .status,
        403
    );
    stage.write_secret("current").await?;
    let answer = current.get(SECRET).await?;
    assert_eq!(crate::stage::value(&answer), "current");
    // Who took the request puts its name on the answer.
    assert_eq!(answer.header("x-node"), Some(standby.name()));
    assert_eq!(stage.current(active.root()).get(SECRET).await?.status, 200);
    Ok(())
}

pub(crate) async fn one_who_asks_for_the_active_is_audited_there_alone(
    stage: &Stage,
) -> Result<()> {
    let (active, standby) = (stage.active().await?, stage.standby().await?);
    let token = stage.known_token().await?;
    let before = [audited(active)?, audited(standby)?];
    let after = async |added: [usize; 2]| {
        let wanted = [before[0] + added[0], before[1] + added[1]];
        let seen = || Ok::<_, Failure>([audited(active)?, audited(standby)?]);
        eventually(BOUND, "the audit logs", async || match seen()? {
            seen if seen == wanted => Ok(()),
            seen => Err(Failure::new(format!("{seen:?} in place of {wanted:?}"))),
        })
        .await
    };
    let client = standby.api(&token);
    // A request and an answer at the active; a refusal nowhere; what a standby answers, at the standby.
    stage.current(client.clone()).get(LOOKUP_SELF).await?.ok()?;
    after([2, 0]).await?;
    let refused = stage
        .beyond(client.clone(), "fail")
        .get(LOOKUP_SELF)
        .await?;
    assert_eq!(refused.status, 429);
    standby
        .api("")
        .with("x-vault-index", "!")
        .get("sys/health")
        .await?;
    client.get(LOOKUP_SELF).await?.ok()?;
    after([2, 2]).await
}

fn audited(node: &Node) -> Result<usize> {
    let log = std::fs::read_to_string(node.audit_log()).context(node.name())?;
    Ok(log
        .lines()
        .filter(|line| line.contains(LOOKUP_SELF))
        .count())
}

pub(crate) async fn a_standby_does_not_know_at_once_what_was_minted_through_it(
    stage: &Stage,
) -> Result<()> {
    let standby = stage.standby().await?.root();
    let mut behind = 0;
    for _ in 0..MINTS {
        let minted = standby.post("auth/token/create/orders", &json!({})).await?;
        let mark = minted.header("x-vault-index").context("a mint's index")?;
        let current = standby
            .clone()
            .with("x-vault-index", mark)
            .with("x-vault-inconsistent", "forward-active-node");
        let auth = &minted.body["auth"];
        let accessor = json!({ "accessor": auth["accessor"] });
        let plain = standby.post(LOOKUP_ACCESSOR, &accessor).await?;
        let asked = current.post(LOOKUP_ACCESSOR, &accessor).await?;
        assert_eq!(asked.status, 200, "{}", asked.body);
        let (_, known) = index(&asked)?.context("its index")?;
        let (_, made) = index(&minted)?.context("a mint's index")?;
        assert!(known.parse::<u64>()? >= made.parse::<u64>()?);
        behind += usize::from(plain.status == 400);
        // The token itself works at once: a standby asks the active about one that it does not know.
        let token = auth["client_token"].as_str().unwrap_or_default();
        assert_eq!(standby.as_token(token).get(LOOKUP_SELF).await?.status, 200);
        stage.cluster.wait_caught_up().await?;
    }
    assert!(behind > 0, "of {MINTS} mints the standby knew each at once");
    Ok(())
}
