//! What a token creates in an outage has the entity that the primary would have given it, and lives on with that.

use harness::host::{Login, Plan};
use harness::{Context, Result, world};
use serde_json::{Value, json};

use crate::HOLDOVER;
use crate::rig::{Stage, entry};

/// Lets its tokens create others, on every path.
const MAKER: &str = r#"
path "auth/token/create"        { capabilities = ["update", "sudo"] }
path "auth/token/create-orphan" { capabilities = ["update", "sudo"] }
path "auth/token/create/orders" { capabilities = ["update"] }
"#;

const POLICIES: [&str; 2] = ["orders", "keeps"];

/// The ways to create a token: the path below `auth/token/`, and whether it is to have no parent.
const WAYS: [(&str, bool); 4] = [
    ("create", false),
    ("create", true),
    ("create-orphan", false),
    ("create/orders", false),
];

/// A host whose workload `orders` has an entity.
async fn stage(on_recovery: &str) -> Result<Stage> {
    let entry = entry("orders")
        .set("entity_alias", "orders-host")
        .set("failover.on_recovery", on_recovery);
    let plan = Plan::new(HOLDOVER)
        .workload(entry)
        .set("failover.probe_interval", "250ms")
        .set("failover.authority_interval", "500ms");
    let stage = Stage::prepare(plan).await?;
    let root = stage.host.primary.root();
    world::policy(&root, "maker", MAKER).await?;
    let role = json!({
        "orphan": true, "token_type": "default-service",
        "allowed_policies": ["orders", "keeps", "maker"],
        "allowed_entity_aliases": ["orders-host"],
    });
    root.write("auth/token/roles/orders", &role).await?;
    let mut stage = stage;
    stage.host.start().await?;
    Ok(stage)
}

/// A token that `parent` creates in this way, with its entity.
async fn created(
    stage: &Stage,
    parent: &Login,
    (path, alone): (&str, bool),
) -> Result<(Login, String)> {
    let asked = harness::clock::instant();
    let mut body = json!({ "policies": POLICIES, "ttl": "10m" });
    if alone {
        body["no_parent"] = Value::Bool(true);
    }
    let path = format!("auth/token/{path}");
    let made = stage.host.write(&path, &parent.token, &body).await?;
    let entity = made.json()?["auth"]["entity_id"]
        .as_str()
        .map(str::to_owned);
    let entity = entity.context(stage.told(&made))?;
    Ok((Login::of(&made, asked)?, entity))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_has_the_entity_that_the_primary_gives_it_and_lives_on() -> Result<()> {
    let stage = stage("exchange").await?;
    let parent = stage.host.login("orders").await?;
    assert_eq!(parent.source, "primary");
    let mut given = Vec::new();
    for way in WAYS {
        let (child, entity) = created(&stage, &parent, way).await?;
        assert_eq!(child.source, "primary");
        given.push(entity);
    }
    let [inherited, orphans @ ..] = &given[..] else {
        unreachable!("four ways");
    };
    assert!(
        !inherited.is_empty() && orphans.iter().all(String::is_empty),
        "{given:?}"
    );

    stage.cut().await?;
    let parent = stage.issued("orders").await?;
    let mut children = Vec::new();
    for (way, entity) in WAYS.into_iter().zip(&given) {
        let (child, own) = created(&stage, &parent, way).await?;
        assert_eq!(
            (child.source.as_str(), &own),
            ("replica", entity),
            "{way:?}"
        );
        children.push(child);
    }
    stage.reopen().await?;
    for (child, entity) in children.iter().zip(&given) {
        stage.is_whole("orders", &child.token).await?;
        let shown = stage
            .host
            .read("auth/token/lookup-self", &child.token)
            .await?;
        assert_eq!(
            shown.json_text("/data/entity_id")?,
            *entity,
            "{}",
            stage.told(&shown)
        );
    }
    stage.is_whole("orders", &parent.token).await?;
    assert_eq!((stage.unsettled().await?, stage.mints().len()), (0, 5));
    // An orphan outlives what created it, and a child does not.
    stage.gives_up(&parent.token).await?;
    stage.is_refused(&children.remove(0).token).await?;
    for orphan in &children {
        stage.is_whole("orders", &orphan.token).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orphan_of_a_workload_that_drains_drains() -> Result<()> {
    let stage = stage("drain").await?;
    stage.cut().await?;
    let parent = stage.issued("orders").await?;
    let mut children = Vec::new();
    for way in WAYS {
        children.push(created(&stage, &parent, way).await?.0);
    }
    stage.reopen().await?;
    for child in &children {
        stage.drains("orders", &child.token).await?;
    }
    assert_eq!(stage.mints().len(), 0);
    Ok(())
}
