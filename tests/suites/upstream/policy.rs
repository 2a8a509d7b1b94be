//! The printed policy is exactly what is used: every request has a rule, every rule a request.

use std::{collections::BTreeSet, time::Duration};

use harness::{
    Context, Failure, Result,
    bao::{DatabaseRole, Primary, Transport},
    postgres::Postgres,
    world::{self, World},
};
use holdover::upstream::policy::required_policy;
use serde_json::json;
use shared::{
    change::{CredentialName, RevocationTarget},
    name::{Accessor, WorkloadName},
};

use super::rig::{BOUND, Host, Plan, audited};

#[tokio::test]
async fn every_request_has_a_rule_and_every_rule_a_request() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    let postgres = Postgres::start().await?;
    let world = World::seed(&primary, 2).await?;
    let root = primary.root();
    let role = DatabaseRole {
        name: "orders",
        default_ttl: Duration::from_secs(3),
        max_ttl: Duration::from_secs(6),
    };
    primary.enable_database(&postgres, &role).await?;
    let mount = json!({ "type": "kv", "options": { "version": "1" } });
    root.write("sys/mounts/kv1", &mount).await?;
    root.write("kv1/shop/one", &json!({ "x": 1 })).await?;
    root.write("sys/mounts/ssh", &json!({ "type": "ssh" }))
        .await?;
    // Standing tokens that need renewing while this looks on.
    root.write(
        "sys/mounts/auth/token/tune",
        &json!({ "default_lease_ttl": "4s" }),
    )
    .await?;
    let token_role = json!({
        "orphan": true, "renewable": true, "token_type": "default-service", "allowed_policies": ["orders"],
        "allowed_entity_aliases": ["orders-*"],
    });
    root.write("auth/token/roles/orders", &token_role).await?;
    let entry = harness::daemon::config::Workload::new("orders", "orders")
        .uid(4242)
        .issues("1m", "10m")
        .set("entity_alias", "orders-1");
    let host = Plan::new(&primary)?
        .mirror("secret/data/shop/orders/*", &[])
        .mirror("secret/data/shop/shared", &[])
        .mirror("database/creds/orders", &[])
        .mirror("kv1/shop/*", &[])
        .mirror("ssh/config/ca", &[])
        .file(|file| file.workload(entry))
        .role(json!({ "token_ttl": "4s", "token_max_ttl": "10s" }))
        .start(&primary)
        .await?;
    let orders = WorkloadName::parse("orders")?;
    host.until("everything mirrored", |host| {
        let view = host.local.view.authority();
        match (
            view.workloads.get(&orders),
            host.keys().len(),
            host.local.view.secrets().leases.len(),
        ) {
            (Some(known), 4.., 1..) => known
                .entity()
                .cloned()
                .ok_or_else(|| "no entity".to_owned()),
            _ => Err(format!("{:?}", host.mirrors.statuses())),
        }
    })
    .await
    .map(|entity| json!({ "name": "team", "member_entity_ids": [entity.as_str()] }))
    .map(|group| (root.clone(), group))
    .map(|(root, group)| async move { root.write("identity/group", &group).await })?
    .await?;
    log_in_by_approle(&host, &primary).await?;
    // A client's token, which is learned and followed, and revocations that an outage left behind.
    let token = world::token(&root, "orders").await?;
    host.see(&token).await?;
    let other = root
        .post("auth/token/create/orders", &json!({}))
        .await?
        .text("/auth/accessor")?;
    let target = RevocationTarget::Token(Accessor::parse(&other)?);
    host.upstream.revoke(&target).await?;
    let lease = root.get("database/creds/orders").await?.text("/lease_id")?;
    let target = RevocationTarget::Lease(shared::name::LeaseId::parse(&lease)?);
    host.upstream.revoke(&target).await?;
    host.upstream.probe(true).await;
    // Which of them it lacks is asked, too.
    assert_eq!(host.upstream.missing_rules().await?, []);
    let text = required_policy(&host.config.settings);
    let wanted = rules(&text)?;
    assert!(world.secrets.len() > 4 && wanted.len() > 15, "{wanted:?}");
    let unused = async || -> std::result::Result<(), String> {
        // A key that a client wrote: once more where a pass read it with all others before.
        let doubted = host.doubt("secret/data/shop/orders/public").await;
        doubted.map_err(|failure| failure.to_string())?;
        let asked = audited(&primary).map_err(|failure| failure.to_string())?;
        let used: BTreeSet<_> = asked
            .iter()
            .filter_map(|one| wanted.iter().find(|rule| covers(rule, &one.path)))
            .collect();
        let unused: Vec<_> = wanted.iter().filter(|rule| !used.contains(rule)).collect();
        // Its predecessor is revoked a minute after what hangs on it: asked for in a test of its own.
        match unused.as_slice() {
            [] => Ok(()),
            [one] if one.as_str() == "auth/token/revoke-self" => Ok(()),
            _ => Err(format!("{unused:?}")),
        }
    };
    harness::eventually(BOUND, "every rule to be used", unused).await?;
    for one in audited(&primary)? {
        assert!(
            one.error
                .as_deref()
                .is_none_or(|error| !error.contains("permission denied")),
            "refused: {one:?}"
        );
        assert!(
            wanted.iter().any(|rule| covers(rule, &one.path)),
            "no rule for {one:?}"
        );
    }
    host.credential(&CredentialName::Own)
        .context("own")
        .map(drop)
}

/// The paths of the rules.
fn rules(text: &str) -> Result<Vec<String>> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("path \""));
    let paths = lines.map(|line| line.split('"').next().map(str::to_owned));
    paths
        .collect::<Option<_>>()
        .ok_or_else(|| Failure::new("a rule without a path"))
}

fn covers(rule: &str, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let rule = rule.trim_end_matches('/');
    if let Some(prefix) = rule.strip_suffix('*') {
        return path.starts_with(prefix);
    }
    let (mut rule, mut path) = (rule.split('/'), path.split('/'));
    loop {
        match (rule.next(), path.next()) {
            (None, None) => return true,
            (Some(wanted), Some(found)) if wanted == "+" || wanted == found => {}
            _ => return false,
        }
    }
}

/// A client's login, which is learned, verified and followed; and a second factor that others need.
pub(crate) async fn log_in_by_approle(host: &Host, primary: &Primary) -> Result<()> {
    let root = primary.root();
    let role = json!({ "token_policies": ["orders"] });
    root.write("auth/approle/role/ci", &role).await?;
    let id = root.get("auth/approle/role/ci/role-id").await?;
    let role_id = id.text("/data/role_id")?;
    let secret_id = root
        .post("auth/approle/role/ci/secret-id", &json!({}))
        .await?
        .text("/data/secret_id")?;
    let method = root
        .post("identity/mfa/method/totp", &json!({ "issuer": "shop" }))
        .await?
        .text("/data/method_id")?;
    root.write("sys/auth/userpass", &json!({ "type": "userpass" }))
        .await?;
    let enforcement = json!({ "mfa_method_ids": [method], "auth_method_types": ["userpass"] });
    root.write("identity/mfa/login-enforcement/people", &enforcement)
        .await?;
    host.logs_in(primary, &role_id, &secret_id).await?;
    host.until("the secret id to be verified", |host| {
        match host.local.view.authority().secret_ids.len() {
            1 => Ok(()),
            known => Err(format!("{known} known")),
        }
    })
    .await
}
