//! What a grant would be exchanged by, and could not be read since its outage: nothing is minted by what was so before it.

use harness::client::raw::Ask;
use harness::{Result, eventually, world};

use crate::rig::{SOON, Stage, plan};
use crate::roles::Role;

/// By which Holdover reads what policies say.
const POLICY_RULE: &str = "path \"sys/policies/detailed/acl\"";

const PLAIN: &str = r#"path "secret/data/kept/other" { capabilities = ["read"] }"#;

/// What the same policy says after the outage: to the entity, and to nobody else.
const TEMPLATED: &str = r#"
path "secret/data/kept/{{identity.entity.name}}" { capabilities = ["deny"] }
path "secret/data/kept/other" { capabilities = ["read"] }
"#;

/// Holdover's own policy without the rule that begins so.
fn without(policy: &str, rule: &str) -> String {
    let lacks = |block: &&str| !block.lines().any(|line| line.starts_with(rule));
    let kept: Vec<_> = policy.split("\n\n").filter(lacks).collect();
    kept.join("\n\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_came_to_name_the_entity_is_read_before_a_token_of_nobodys_is_minted()
-> Result<()> {
    let stage = Stage::prepare(plan()).await?;
    let root = stage.host.primary.root();
    for name in ["changes", "stays"] {
        world::policy(&root, name, PLAIN).await?;
    }
    let all = ["orders", "keeps", "changes", "stays"];
    stage.role("orders", &all).await?;
    let mut stage = stage;
    stage.host.start().await?;
    let changes = Role::proven(&stage, "changes", &["orders", "keeps", "changes"]).await?;
    let stays = Role::proven(&stage, "stays", &["orders", "keeps", "stays"]).await?;
    stage.cut().await?;
    let changed = changes.issued(&stage).await?;
    let same = stays.issued(&stage).await?;
    let attested = stage.issued("orders").await?;
    world::policy(&root, "changes", TEMPLATED).await?;
    let own = stage.host.policy.clone();
    let narrowed = without(&own, POLICY_RULE);
    assert!(narrowed.len() < own.len(), "{own}");
    world::policy(&root, "holdover", &narrowed).await?;
    stage.reopen().await?;
    for login in [&changed, &same] {
        stage.drains("orders", &login.token).await?;
    }
    // That goes by its workload's role and entity, whatever policies say.
    stage.is_whole("orders", &attested.token).await?;
    assert_eq!((stage.unsettled().await?, stage.mints().len()), (2, 1));

    world::policy(&root, "holdover", &own).await?;
    eventually(SOON, "the grant in full", async || {
        match stage.keep(&same.token).await {
            Ok(kept) if kept.status == 200 => Ok(()),
            Ok(kept) => Err(stage.told(&kept)),
            Err(failure) => Err(failure.to_string()),
        }
    })
    .await?;
    stage.drains("orders", &changed.token).await?;
    stage.is_whole("orders", &same.token).await?;
    assert_eq!((stage.unsettled().await?, stage.mints().len()), (0, 2));
    let listed = stage.host.daemon.admin(&Ask::get("/v1/grants")).await?;
    assert!(listed.text().contains("draining"), "{}", listed.text());
    Ok(())
}
