//! The authority of workloads: roles, policies, identities and standing tokens, as a real primary shows them.

use std::{collections::BTreeMap, time::Duration};

use harness::{
    Context, Result,
    bao::{Primary, Transport},
    world::{self, TokenRole, World},
};
use holdover::mirror::{AuthorityVerdict, Occasion};
use holdover::upstream::{policy::required_policy, workload::MintError};
use serde_json::{Value, json};
use shared::{
    change::CredentialName,
    name::{EntityId, PolicyName, WorkloadName},
    recovery::{StandsFor, Wanted},
    workload::WorkloadAuthority,
};

use super::rig::{Host, Plan, audited};

fn orders() -> WorkloadName {
    WorkloadName::parse("orders").unwrap()
}

fn authority(host: &Host) -> std::result::Result<std::sync::Arc<WorkloadAuthority>, String> {
    let authority = host.local.view.authority();
    let known = authority.workloads.get(&orders()).cloned();
    known.ok_or_else(|| format!("{:?}", host.mirrors.failures(&orders())))
}

fn names(names: &[&str]) -> Vec<PolicyName> {
    names
        .iter()
        .map(|name| PolicyName::parse(name).unwrap())
        .collect()
}

async fn shop() -> Result<(Primary, Host)> {
    let primary = Primary::start(Transport::Plain).await?;
    World::seed(&primary, 1).await?;
    let host = Plan::new(&primary)?
        .workload("orders")
        .start(&primary)
        .await?;
    host.until("authority", |host| authority(host).map(drop))
        .await?;
    Ok((primary, host))
}

#[tokio::test]
async fn a_workload_s_authority_is_what_its_standing_token_proves() -> Result<()> {
    let (primary, host) = shop().await?;
    let known = authority(&host).unwrap();
    assert_eq!(known.policies(), names(&["default", "orders"]));
    assert!(known.standing.orphan && known.role.orphan);
    let token = host
        .credential(&CredentialName::Standing(orders()))
        .context("standing")?;
    let shown = primary
        .api(&token)
        .get("auth/token/lookup-self")
        .await?
        .data()?;
    assert_eq!(shown["accessor"], known.standing_accessor.as_str());
    {
        let view = host.local.view.authority();
        let policies = view.policies.as_ref().context("policies")?;
        let text = &policies
            .set
            .policies
            .get(&names(&["orders"])[0])
            .context("orders")?
            .text;
        assert_eq!(text, world::ORDERS_POLICY);
        let cluster = view.cluster.as_ref().context("cluster")?;
        assert!(
            cluster.mounts.contains_key("secret/") && cluster.mounts.contains_key("auth/token/")
        );
        assert_eq!(cluster.seal_status["sealed"], json!(false));
    }
    // It goes on being verified, with that same token.
    let since = known.verified_at;
    host.until("another verification", |host| match authority(host) {
        Ok(known) if known.verified_at > since => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    assert_eq!(
        host.credential(&CredentialName::Standing(orders())),
        Some(token)
    );
    assert!(host.mirrors.failures(&orders()).is_empty());
    Ok(())
}

#[tokio::test]
async fn a_changed_role_is_proven_anew_and_a_bad_or_missing_one_ends_authority() -> Result<()> {
    let (primary, host) = shop().await?;
    let root = primary.root();
    let role = |policies| TokenRole {
        name: "orders",
        policies,
        explicit_max_ttl: None,
    };
    world::token_role(&root, &role(&["billing"])).await?;
    host.until("the changed policies", |host| {
        match authority(host)?.policies() {
            policies if policies == names(&["billing", "default"]) => Ok(()),
            policies => Err(format!("{policies:?}")),
        }
    })
    .await?;
    let bad =
        json!({ "orphan": false, "allowed_policies": ["orders"], "token_type": "default-service" });
    root.write("auth/token/roles/orders", &bad).await?;
    let gone = |host: &Host| match authority(host) {
        Err(_) => Ok(()),
        Ok(known) => Err(format!("{:?}", known.role)),
    };
    host.until("the end of authority", gone).await?;
    host.until("the reason", |host| {
        let reasons = host.mirrors.failures(&orders());
        match reasons.first() {
            Some(reason) if reason.contains("token role orders: orphan must be true") => Ok(()),
            _ => Err(format!("{reasons:?}")),
        }
    })
    .await?;
    world::token_role(&root, &role(&["orders"])).await?;
    host.until("authority again", |host| authority(host).map(drop))
        .await?;
    root.delete("auth/token/roles/orders").await?.ok()?;
    host.until("the end of authority", gone).await?;
    let report = host.mirrors.verify_authority(Occasion::Recovery).await?;
    assert!(
        matches!(
            report.workloads.get(&orders()),
            Some(AuthorityVerdict::Gone(_))
        ),
        "{report:?}"
    );
    Ok(())
}

#[tokio::test]
async fn policies_follow_the_primary_and_a_quiet_cluster_costs_nothing() -> Result<()> {
    let (primary, host) = shop().await?;
    let verified = |host: &Host| authority(host).map(|known| known.verified_at);
    let mut last = verified(&host).unwrap();
    let again = async |host: &Host, last| {
        host.until("another verification", |host| match verified(host) {
            Ok(at) if at > last => Ok(at),
            other => Err(format!("{other:?}")),
        })
        .await
    };
    for _ in 0..3 {
        last = again(&host, last).await?;
    }
    let before = audited(&primary)?.len();
    for _ in 0..4 {
        last = again(&host, last).await?;
    }
    let after = audited(&primary)?;
    assert_eq!(after.len(), before, "{:?}", after.get(before..));
    world::policy(
        &primary.root(),
        "orders",
        "path \"x\" { capabilities = [\"read\"] }",
    )
    .await?;
    host.until("the changed policy", |host| {
        let view = host.local.view.authority();
        let set = view
            .policies
            .as_ref()
            .map(|policies| &policies.set.policies);
        let text = set
            .and_then(|set| set.get(&names(&["orders"])[0]))
            .map(|policy| policy.text.clone());
        match text {
            Some(text) if text.starts_with("path \"x\"") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn a_login_is_minted_through_the_role_and_what_it_is_its_answer_says() -> Result<()> {
    let (primary, host) = shop().await?;
    let minted = host.upstream.mint_for_login(&orders()).await?;
    let body: Value = serde_json::from_slice(&minted.envelope)?;
    assert_eq!(body["auth"]["client_token"], minted.token.expose().as_str());
    assert_eq!(minted.shown.token_policies, names(&["default", "orders"]));
    let works = primary
        .api(minted.token.expose())
        .get("secret/data/shop/shared")
        .await?;
    assert_eq!(works.status, 200);
    Ok(())
}

/// Whether it lacks the right or is dead altogether: a refusal of Holdover's own credential says nothing of the workload.
#[tokio::test]
async fn a_login_is_not_answered_for_by_a_refusal_of_holdovers_own_credential() -> Result<()> {
    let (primary, host) = shop().await?;
    let policy = required_policy(&host.config.settings);
    let less = policy.replace("auth/token/create/orders", "auth/token/create/nobody");
    world::policy(&primary.root(), "holdover", &less).await?;
    let refused = host.upstream.mint_for_login(&orders()).await;
    assert!(matches!(refused, Err(MintError::OwnCredentialRefused(_))));
    let unknown = WorkloadName::parse("billing")?;
    let refused = host.upstream.mint_for_login(&unknown).await;
    assert!(matches!(refused, Err(MintError::UnknownWorkload)));
    Ok(())
}

#[tokio::test]
async fn an_exchange_gets_exactly_what_was_judged_or_nothing() -> Result<()> {
    let (primary, host) = shop().await?;
    let wanted = Wanted {
        policies: names(&["orders"]),
        remaining: Duration::from_millis(90_900),
        stands_for: StandsFor::Workload(None),
    };
    let mint = async |wanted: &Wanted| host.upstream.mint_exact(&orders(), wanted).await;
    let minted = mint(&wanted).await?;
    let shown = primary
        .api(minted.token.expose())
        .get("auth/token/lookup-self")
        .await?;
    // Without `default` it may not even look itself up.
    assert_eq!(shown.status, 403);
    let body = json!({ "accessor": minted.accessor.as_str() });
    let shown = primary
        .root()
        .post("auth/token/lookup-accessor", &body)
        .await?
        .data()?;
    assert_eq!(
        (&shown["policies"], &shown["renewable"]),
        (&json!(["orders"]), &json!(false))
    );
    assert_eq!(
        (&shown["explicit_max_ttl"], &shown["orphan"]),
        (&json!(90), &json!(true))
    );
    // Policies that the role does not allow are refused by the primary.
    let more = Wanted {
        policies: names(&["billing"]),
        ..wanted.clone()
    };
    let refused = mint(&more).await;
    assert!(
        matches!(refused, Err(MintError::Upstream(error)) if error.decision().is_some_and(|no| no.is_bad_request()))
    );
    // What it caps is not exact, and does not live on.
    let role = TokenRole {
        name: "orders",
        policies: &["orders"],
        explicit_max_ttl: Some(Duration::from_secs(20)),
    };
    world::token_role(&primary.root(), &role).await?;
    host.mirrors.verify_authority(Occasion::Recovery).await?;
    let before = accessors(&primary).await?;
    let capped = mint(&wanted).await;
    assert!(
        matches!(&capped, Err(MintError::NotExact(_))),
        "{:?}",
        capped.err()
    );
    assert_eq!(accessors(&primary).await?, before, "it was not revoked");
    Ok(())
}

async fn accessors(primary: &Primary) -> Result<usize> {
    let listed = primary.root().list("auth/token/accessors").await?.data()?;
    Ok(listed["keys"].as_array().context("keys")?.len())
}

/// A workload `orders` whose standing token has an entity, and that.
async fn with_an_entity(primary: &Primary) -> Result<(Host, EntityId)> {
    World::seed(primary, 1).await?;
    let root = primary.root();
    let role = json!({
        "orphan": true, "allowed_policies": ["orders"], "token_type": "default-service",
        "allowed_entity_aliases": ["orders-host-*"],
    });
    root.write("auth/token/roles/orders", &role).await?;
    let plan = Plan::new(primary)?;
    let entry = harness::daemon::config::Workload::new("orders", "orders")
        .uid(4242)
        .set("entity_alias", "orders-host-17");
    let host = plan
        .file(|file| file.workload(entry))
        .start(primary)
        .await?;
    host.until("authority", |host| authority(host).map(drop))
        .await?;
    let entity = authority(&host)
        .unwrap()
        .entity()
        .cloned()
        .context("entity")?;
    Ok((host, entity))
}

#[tokio::test]
async fn an_entity_alias_brings_its_entity_and_groups() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    let (host, entity) = with_an_entity(&primary).await?;
    let root = primary.root();
    let group =
        json!({ "name": "team", "policies": ["billing"], "member_entity_ids": [entity.as_str()] });
    root.write("identity/group", &group).await?;
    host.until("the group", |host| {
        let view = host.local.view.authority();
        let identity = view.identity(&entity).cloned();
        match identity
            .as_deref()
            .map(|identity| identity.groups.as_slice())
        {
            Some([group]) if group.name == "team" && group.policies == ["billing"] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    // The standing token was looked up before that, perhaps as one of no group yet.
    host.until("the group's policies", |host| match authority(host) {
        Ok(known) if known.standing.identity_policies == names(&["billing"]) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
}

#[tokio::test]
async fn an_identity_that_takes_more_than_there_is_room_for_keeps_what_was_known_and_is_told_of()
-> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    let (host, entity) = with_an_entity(&primary).await?;
    let root = primary.root();
    let groups = |host: &Host| {
        let view = host.local.view.authority();
        view.identity(&entity).map(|known| known.groups.len())
    };
    // As much as the primary takes for one.
    let metadata: BTreeMap<String, String> = (0..64)
        .map(|key| (format!("key-{key}"), "v".repeat(512)))
        .collect();
    let members = [entity.as_str()];
    for nr in 0..5 {
        let group = json!({ "name": format!("team-{nr}"), "metadata": metadata, "member_entity_ids": members });
        root.write("identity/group", &group).await?;
    }
    host.until("what is wrong", |host| {
        let reasons = host.mirrors.failures(&orders()).join("; ");
        let told =
            reasons.contains("take more than 128 KiB") && reasons.contains("identity/group/id/");
        told.then_some(()).ok_or(reasons)
    })
    .await?;
    assert!(groups(&host).is_some_and(|count| count < 5));
    root.delete("identity/group/name/team-4").await?;
    root.delete("identity/group/name/team-3").await?;
    host.until("the groups", |host| match groups(host) {
        Some(3) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    host.until("that nothing is wrong", |host| {
        let reasons = host.mirrors.failures(&orders()).join("; ");
        reasons.is_empty().then_some(()).ok_or(reasons)
    })
    .await
}
