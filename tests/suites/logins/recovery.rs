//! What becomes of a grant that an AppRole login was given, once the primary is back.

use harness::Result;
use harness::host::{Host, RECOVERY};
use serde_json::json;

use crate::plan;
use crate::stage::{Role, token};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_outlives_the_outage_only_as_far_as_its_login_would() -> Result<()> {
    let host = plan().start().await?;
    let mut roles = Vec::new();
    for name in ["kept", "destroyed", "narrowed", "emptied"] {
        let fields = json!({ "token_policies": ["orders", "billing"] });
        let role = Role::make(&host.primary, name, fields, json!({})).await?;
        role.proven_at(&host).await?;
        roles.push(role);
    }
    host.cut().await?;
    let mut tokens = Vec::new();
    for role in &roles {
        tokens.push(token(&host.ask(&role.login()).await?, "replica")?);
    }
    // The primary comes back for its operators first: Holdover stands still.
    host.daemon.stop()?;
    host.primary.start_again().await?;
    let root = host.primary.root();
    let [kept, destroyed, narrowed, emptied] = roles.as_slice() else {
        return Err(harness::Failure::new("four roles"));
    };
    destroyed.destroy_secret_id(&host.primary).await?;
    let orders = json!({ "token_policies": ["orders"] });
    root.write(&narrowed.path(), &orders).await?;
    let none = json!({ "token_policies": ["other"], "token_no_default_policy": true });
    root.write(&emptied.path(), &none).await?;
    host.daemon.cont()?;
    host.daemon.wait_state("following", RECOVERY).await?;
    let [of_kept, of_destroyed, of_narrowed, of_emptied] = tokens.as_slice() else {
        return Err(harness::Failure::new("four tokens"));
    };
    // The workload's role does not allow all of its policies, so no exact token can be minted for it: it drains.
    drains(&host, of_kept).await?;
    // What is left of the other's it does: a token of nobody's may do the same.
    let (orders, billing) = paths(&host)?;
    let exchanged = host.read_of_primary(orders, of_narrowed).await?;
    assert_eq!(exchanged.status, 200, "{}", exchanged.text());
    assert_eq!(host.read(billing, of_kept).await?.status, 200);
    assert_eq!(host.read(billing, of_narrowed).await?.status, 403);
    for revoked in [of_destroyed, of_emptied] {
        let (orders, _) = paths(&host)?;
        let refused = host.read(orders, revoked).await?;
        assert_eq!(refused.status, 403, "{}", refused.text());
    }
    kept.used_at(&host).await.map(drop)
}

/// Mirrored reads and what goes with them, and nothing else.
async fn drains(host: &Host, token: &str) -> Result<()> {
    let (orders, _) = paths(host)?;
    let read = host.read(orders, token).await?;
    assert_eq!((read.status, read.source()), (200, Some("replica")));
    let renewal = host
        .write("auth/token/renew-self", token, &json!({}))
        .await?;
    assert_eq!(renewal.status, 200, "{}", renewal.text());
    let created = host.write("auth/token/create", token, &json!({})).await?;
    assert_eq!(created.status, 403, "{}", created.text());
    assert!(
        created.text().contains("log in again"),
        "{}",
        created.text()
    );
    Ok(())
}

/// What the team orders may read of its own, and billing of its own.
fn paths(host: &Host) -> Result<(&str, &str)> {
    let shared = host
        .world
        .secrets
        .iter()
        .find(|one| one.path.ends_with("/shared"));
    let public = host
        .world
        .secrets
        .iter()
        .find(|one| one.path.ends_with("billing/item-0000"));
    match (shared, public) {
        (Some(shared), Some(public)) => Ok((&shared.path, &public.path)),
        _ => Err(harness::Failure::new("no such secrets")),
    }
}
