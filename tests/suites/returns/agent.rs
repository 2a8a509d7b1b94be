//! `bao agent` on the socket, through an outage, a death of Holdover in it, and the return: what it rendered stays, it does
//! not spin, and it has all its rights back at once.

#[path = "agent/rig.rs"]
mod rig;

use std::time::Duration;

use harness::host::{FAILOVER, Host, Plan, RECOVERY, own_uid};
use harness::{Result, daemon::config::Workload, eventually, world};
use serde_json::json;

use self::rig::{Agent, Requests, Watched};
use crate::{HOLDOVER, approle::AppRole};

/// What each agent may ask on average: in the outage, in which all begin anew, and after it.
const PER_SECOND: f64 = 2.0;
/// How long the tokens of logins before the outage live, so that each agent logs in anew in it.
const BRIEF: Duration = Duration::from_secs(20);
/// How long is waited for an agent to do what it does by itself.
const BOUND: Duration = Duration::from_secs(60);
/// From the return until every agent has all its rights.
const RIGHTS: Duration = Duration::from_secs(60);
/// How long the agents are watched after the return: longer than their leases can go without a renewal.
const AFTER: Duration = Duration::from_secs(25);

/// What the primary alone can read.
const UNMIRRORED: &str = "secret/data/apart/config";
/// The right to it, which means the same to anybody.
const APART: &str = r#"path "secret/data/apart/config" { capabilities = ["read"] }"#;
/// The same by name of an entity, so that no token without that entity can stand for it.
const OWN: &str = r#"
path "secret/data/apart/config"                  { capabilities = ["read"] }
path "secret/data/own/{{identity.entity.id}}/*" { capabilities = ["read"] }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_keep_what_they_rendered_do_not_spin_and_have_their_rights_back() -> Result<()> {
    let host = host().await?;
    let root = host.primary.root();
    // Its secret id is of limited uses: in an outage nobody logs in by it.
    let brief = AppRole::make(&root, "brief", &brief()).await?;
    let lasting = AppRole::make(&root, "lasting", &role("apart", "10m")).await?;
    let own = AppRole::make(&root, "own", &role("own", "20s")).await?;
    for role in [&lasting, &own] {
        role.proven_at(&host.daemon).await?;
    }
    let agents = [
        Agent::of_files(&host.daemon, &brief)?,
        Agent::of_files(&host.daemon, &brief)?,
        Agent::of_process(&host.daemon, &brief)?,
    ];
    for agent in &agents {
        agent.rendered(BOUND).await?;
    }
    let watched: Vec<Watched> = agents.iter().flat_map(Agent::watch).collect();

    let before = Requests::of(&host.daemon).await?;
    host.cut().await?;
    for (agent, role) in agents.iter().zip([&lasting, &own, &lasting]) {
        agent.log_in_by(role)?;
    }
    for agent in &agents {
        agent.logged_in_by_the_replica(BOUND).await?;
    }
    let mut requests = vec![before.until_now(&host.daemon, 0).await?];
    host.daemon.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_state("holdover", FAILOVER).await?;
    let outage = Requests::of(&host.daemon).await?;
    host.primary.start_again().await?;
    host.daemon.wait_state("following", RECOVERY).await?;
    requests.push(outage.until_now(&host.daemon, 0).await?);

    let after = Requests::of(&host.daemon).await?;
    let mut ours = 0;
    for agent in &agents {
        ours += has_its_rights(&host, agent).await?;
    }
    after.longer_than(AFTER).await;
    requests.push(after.until_now(&host.daemon, ours).await?);
    for seen in &requests {
        let each = seen.per_second() / f64::from(u32::try_from(agents.len())?);
        assert!(each <= PER_SECOND, "{requests:?}\n{}", rig::tails(&agents));
    }
    for file in watched {
        file.was_always_whole()?;
    }
    for agent in agents {
        agent.runs_as_at_first()?;
    }
    Ok(())
}

/// A host with leases that are short, and a workload whose role allows all that agents may.
async fn host() -> Result<Host> {
    let orders = Workload::new("orders", "orders")
        .uid(own_uid())
        .issues("15m", "2h");
    let lease = (Duration::from_secs(60), Duration::from_secs(3600));
    let mut host = Plan::new(HOLDOVER)
        .pooled_database(lease.0, lease.1, 2)
        .workload(orders)
        .set("failover.authority_interval", "500ms")
        .prepare()
        .await?;
    let root = host.primary.root();
    root.write(UNMIRRORED, &json!({ "data": { "name": "value" } }))
        .await?;
    world::policy(&root, "apart", APART).await?;
    world::policy(&root, "own", OWN).await?;
    let role = world::TokenRole {
        name: "orders",
        policies: &["orders", "apart", "own"],
        explicit_max_ttl: None,
    };
    world::token_role(&root, &role).await?;
    host.daemon.activate_by_socket()?;
    host.start().await?;
    Ok(host)
}

/// The role of logins while following.
fn brief() -> serde_json::Value {
    json!({
        "token_policies": ["orders", "apart"],
        "token_explicit_max_ttl": BRIEF.as_secs(),
        "secret_id_num_uses": 100,
    })
}

/// A role of logins in the outage. Where its tokens outlive this test, rights come back by what becomes of them.
fn role(policy: &str, ttl: &str) -> serde_json::Value {
    json!({ "token_policies": ["orders", policy], "token_ttl": ttl })
}

/// What the primary alone can answer is answered with the token that the agent gives to its processes; after so many requests.
async fn has_its_rights(host: &Host, agent: &Agent) -> Result<u64> {
    let what = format!("all rights of {}", agent.name);
    let mut asked = 0;
    let waited = eventually(RIGHTS, &what, async || {
        asked += 1;
        let token = agent.token().map_err(|failure| failure.to_string())?;
        let reply = host.read(UNMIRRORED, &token).await;
        let reply = reply.map_err(|failure| failure.to_string())?;
        match (reply.status, reply.source()) {
            (200, Some("primary")) => Ok(()),
            (status, source) => Err(format!("{status} by {source:?}: {}", reply.text())),
        }
    });
    waited.await.map_err(|failure| agent.failure(failure))?;
    Ok(asked)
}
