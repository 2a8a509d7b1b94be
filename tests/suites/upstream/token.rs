//! Tokens that clients use: learned when seen, followed while they live, revoked when the primary says so.

use std::sync::Arc;

use harness::{
    Context, Result,
    audit::Audited,
    bao::{Primary, Transport},
    tap::Tap,
    world::{self, World},
};
use replica::view::LiveGrant;
use serde_json::json;
use shared::grant::{Origin, RevokeCause};

use super::rig::{Host, Plan};

fn grant(host: &Host, token: &str) -> std::result::Result<Arc<LiveGrant>, String> {
    let digest = host.local.view.keys().token_digest(token);
    host.local
        .view
        .grant(&digest)
        .ok_or_else(|| "not learned".to_owned())
}

#[tokio::test]
async fn a_token_is_learned_renewed_and_revoked_as_at_the_primary() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    World::seed(&primary, 1).await?;
    let root = primary.root();
    let host = Plan::new(&primary)?.start(&primary).await?;
    let token = world::token(&root, "orders").await?;
    host.see(&token).await?;
    host.until("the grant", |host| grant(host, &token).map(drop))
        .await?;
    let learned = grant(&host, &token).unwrap();
    assert_eq!(learned.grant.origin, Origin::Primary);
    assert_eq!(learned.grant.facts.role.as_deref(), Some("orders"));
    let (before, proven) = (learned.grant.deadline.wall, learned.grant.verified_at);
    // Its owner shortens it elsewhere; nobody uses it here.
    root.post(
        "auth/token/renew",
        &json!({ "token": token, "increment": "1h" }),
    )
    .await?
    .ok()?;
    host.until("the new end", |host| match grant(host, &token) {
        Ok(live) if live.grant.deadline.wall < before && live.grant.verified_at > proven => Ok(()),
        Ok(live) => Err(format!("{:?}", live.grant.deadline)),
        Err(error) => Err(error),
    })
    .await?;
    root.post("auth/token/revoke", &json!({ "token": token }))
        .await?
        .ok()?;
    host.until("its end", |host| match grant(host, &token)?.revoked.get() {
        Some(revocation) if revocation.cause == RevokeCause::Primary => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
}

/// While it revokes a token, the primary shows it with less than no uses left. It is no token of limited uses for that.
#[tokio::test]
async fn a_token_that_is_being_revoked_is_dead() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    World::seed(&primary, 1).await?;
    let tap = Tap::to(primary.address().trim_start_matches("http://")).await?;
    let address = format!("http://{}", tap.address());
    let plan = Plan::new(&primary)?.file(|file| file.primary(&[address], None));
    let host = plan.start(&primary).await?;
    let body = json!({ "policies": ["orders"] });
    let made = primary.root().post("auth/token/create", &body).await?;
    let token = made.text("/auth/client_token")?;
    host.see(&token).await?;
    host.until("the grant", |host| grant(host, &token).map(drop))
        .await?;
    // That takes but a moment, which is not to be met from here.
    let (said, told) = (r#"es":0,"orphan":false"#, r#"es":-1,"orphan":true"#);
    tap.lie(said, told)?;
    host.until("its end", |host| match grant(host, &token)?.revoked.get() {
        Some(revocation) if revocation.cause == RevokeCause::Primary => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
}

#[tokio::test]
async fn root_wrapping_and_dead_tokens_are_not_learned_and_limited_ones_by_kind_only() -> Result<()>
{
    let primary = Primary::start(Transport::Plain).await?;
    World::seed(&primary, 1).await?;
    let root = primary.root();
    let host = Plan::new(&primary)?.start(&primary).await?;
    host.until("a login", |host| {
        match host.upstream.own().snapshot().ends {
            Some(_) => Ok(()),
            None => Err("none yet".to_owned()),
        }
    })
    .await?;
    let body = json!({ "policies": ["orders"], "num_uses": 3 });
    let limited = root
        .post("auth/token/create", &body)
        .await?
        .text("/auth/client_token")?;
    let known = world::token(&root, "orders").await?;
    let dead = world::token(&root, "orders").await?;
    root.post("auth/token/revoke", &json!({ "token": dead }))
        .await?
        .ok()?;
    for token in [primary.root_token(), "s.unknown", &dead, &limited, &known] {
        host.see(token).await?;
    }
    host.until("what can be learned", |host| {
        grant(host, &limited)?;
        grant(host, &known).map(drop)
    })
    .await?;
    assert_eq!(
        grant(&host, &limited).unwrap().grant.origin,
        Origin::LimitedUse
    );
    for token in [primary.root_token(), "s.unknown", &dead] {
        assert!(grant(&host, token).is_err());
    }
    let shown = primary
        .api(&limited)
        .get("auth/token/lookup-self")
        .await?
        .data()?;
    assert_eq!(
        shown["num_uses"], 2,
        "learning spent no use, this look-up one"
    );
    Ok(())
}

#[tokio::test]
async fn a_refusal_of_holdover_itself_revokes_nobody() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    World::seed(&primary, 1).await?;
    let root = primary.root();
    let host = Plan::new(&primary)?.start(&primary).await?;
    let token = world::token(&root, "orders").await?;
    host.see(&token).await?;
    host.until("the grant", |host| grant(host, &token).map(drop))
        .await?;
    world::policy(
        &root,
        "holdover",
        "path \"auth/token/lookup-self\" { capabilities = [\"read\"] }",
    )
    .await?;
    let refused = |primary: &Primary| -> Result<usize> {
        let all = super::rig::audited(primary)?;
        let refused =
            |one: &&Audited| one.path == "auth/token/lookup-accessor" && one.error.is_some();
        Ok(all.iter().filter(refused).count())
    };
    harness::eventually(
        super::rig::BOUND,
        "refused look-ups",
        async || match refused(&primary) {
            Ok(2..) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await?;
    assert!(grant(&host, &token).unwrap().revoked.get().is_none());
    host.credential(&shared::change::CredentialName::Own)
        .context("its own token stays")
        .map(drop)
}
