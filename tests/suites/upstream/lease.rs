//! Leases of Holdover's own, at a real database.

use std::time::Duration;

use harness::{
    Context, Result,
    bao::{DatabaseRole, Primary, Transport},
    postgres::Postgres,
};
use holdover::status::MirrorSource;
use serde_json::{Value, json};
use shared::{
    change::{CredentialName, RevocationTarget},
    lease::{Lease, LeaseHolder},
};

use super::rig::{Host, Plan};

const PATH: &str = "database/creds/orders";

async fn world(ttl: u64, max: u64) -> Result<(Primary, Postgres)> {
    let primary = Primary::start(Transport::Plain).await?;
    let postgres = Postgres::start().await?;
    let role = DatabaseRole {
        name: "orders",
        default_ttl: Duration::from_secs(ttl),
        max_ttl: Duration::from_secs(max),
    };
    primary.enable_database(&postgres, &role).await?;
    Ok((primary, postgres))
}

fn lease(host: &Host) -> std::result::Result<(Lease, Value), String> {
    let secrets = host.local.view.secrets();
    let mut held = secrets.leases.values();
    let held = held.find(|held| held.lease.holder == LeaseHolder::Shared);
    let held = held.ok_or_else(|| format!("{:?}", host.mirrors.statuses()))?;
    let body = held
        .body
        .open(host.local.view.keys())
        .map_err(|error| error.to_string())?;
    let data = serde_json::from_slice(body.expose()).map_err(|error| error.to_string())?;
    Ok((held.lease.clone(), data))
}

async fn logs_in(postgres: &Postgres, data: &Value) -> Result<bool> {
    let text = |name: &str| data[name].as_str().unwrap_or_default();
    postgres.can_login(text("username"), text("password")).await
}

#[tokio::test]
async fn one_lease_is_held_renewed_and_replaced_before_its_max_ttl() -> Result<()> {
    let (primary, postgres) = world(6, 10).await?;
    let host = Plan::new(&primary)?
        .mirror(PATH, &[])
        .start(&primary)
        .await?;
    let (first, data) = host.until("a lease", lease).await?;
    assert!(logs_in(&postgres, &data).await?);
    let status = host.status_of(PATH)?;
    assert_eq!(
        (status.count, status.source),
        (1, Some(MirrorSource::Lease)),
        "{status:?}"
    );
    host.until("a renewal", |host| match lease(host)?.0 {
        now if now.id == first.id && now.renewed_at > first.renewed_at => Ok(()),
        now => Err(format!("{now:?}")),
    })
    .await?;
    let (second, new) = host
        .until("another lease", |host| match lease(host)? {
            now if now.0.id != first.id => Ok(now),
            now => Err(format!("{:?}", now.0)),
        })
        .await?;
    assert!(logs_in(&postgres, &new).await?);
    assert_ne!(data["username"], new["username"]);
    // What clients were told of the first holds.
    let told = lease_ttl(&primary, first.id.as_str()).await?;
    assert!(told.is_some(), "the first was revoked at once");
    host.until("the first to end", |_| Ok::<_, String>(()))
        .await?;
    harness::eventually(
        super::rig::BOUND,
        "the first to end",
        async || match lease_ttl(&primary, first.id.as_str()).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await?;
    assert!(second.issued_at > first.issued_at);
    Ok(())
}

async fn lease_ttl(primary: &Primary, id: &str) -> Result<Option<u64>> {
    let answer = primary
        .root()
        .put("sys/leases/lookup", &json!({ "lease_id": id }))
        .await?;
    match answer.status {
        200 => Ok(answer.data()?["ttl"].as_u64()),
        _ => Ok(None),
    }
}

#[tokio::test]
async fn a_lease_outlives_the_primary_and_a_restart_and_is_replaced_when_revoked() -> Result<()> {
    let (primary, postgres) = world(60, 600).await?;
    let host = Plan::new(&primary)?
        .mirror(PATH, &[])
        .start(&primary)
        .await?;
    let (first, data) = host.until("a lease", lease).await?;
    primary.kill9()?;
    let host = host.restart().await?;
    let (kept, same) = lease(&host).map_err(harness::Failure::new)?;
    assert_eq!((kept.id, &same), (first.id.clone(), &data));
    assert!(logs_in(&postgres, &same).await?);
    primary.start_again().await?;
    primary
        .root()
        .put(
            "sys/leases/revoke",
            &json!({ "lease_id": first.id.as_str(), "sync": true }),
        )
        .await?
        .ok()?;
    let (_, new) = host
        .until("another lease", |host| match lease(host)? {
            now if now.0.id != first.id => Ok(now),
            now => Err(format!("{:?}", now.0)),
        })
        .await?;
    assert!(logs_in(&postgres, &new).await?);
    Ok(())
}

#[tokio::test]
async fn a_new_token_of_its_own_takes_every_lease_along() -> Result<()> {
    let (primary, _postgres) = world(3600, 7200).await?;
    let role = json!({ "token_ttl": "8s", "token_max_ttl": "11s" });
    let host = Plan::new(&primary)?
        .mirror(PATH, &[])
        .role(role)
        .start(&primary)
        .await?;
    let (first, _) = host.until("a lease", lease).await?;
    // It is used before it is stored.
    let stored = |host: &Host| {
        host.credential(&CredentialName::Own)
            .ok_or("none yet".to_owned())
    };
    let own = host.until("the stored token", stored).await?;
    let (moved, _) = host
        .until("its successor", |host| match lease(host)? {
            now if now.0.id != first.id
                && host.credential(&CredentialName::Own).as_ref() != Some(&own) =>
            {
                Ok(now)
            }
            now => Err(format!("{:?}", now.0)),
        })
        .await?;
    let issued = host
        .local
        .view
        .credential(&CredentialName::Own)
        .context("own")?
        .issued_at;
    assert!(moved.issued_at >= issued);
    assert!(
        lease_ttl(&primary, first.id.as_str()).await?.is_some(),
        "the first lives as long as it may"
    );
    Ok(())
}

#[tokio::test]
async fn a_backend_that_fails_is_not_asked_again_and_again() -> Result<()> {
    let (primary, postgres) = world(3600, 7200).await?;
    let root = primary.root();
    drop(postgres);
    let host = Plan::new(&primary)?
        .mirror(PATH, &[])
        .start(&primary)
        .await?;
    host.until("failures", |host| {
        match host.status_of(PATH).map(|status| status.errors) {
            Ok(2..) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let before = super::rig::audited(&primary)?.len();
    let watch = harness::clock::Stopwatch::start();
    while watch.elapsed() < Duration::from_secs(3) {
        root.get("sys/health").await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let asked = super::rig::audited(&primary)?;
    let asked = asked
        .iter()
        .skip(before)
        .filter(|one| one.path == PATH)
        .count();
    assert!(asked <= 3, "{asked}");
    Ok(())
}

#[tokio::test]
async fn paths_that_are_not_supported_say_so_and_are_left_alone() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    let root = primary.root();
    root.write("sys/mounts/transit", &json!({ "type": "transit" }))
        .await?;
    root.write("transit/keys/k", &json!({})).await?;
    let plan = Plan::new(&primary)?
        .mirror("transit/*", &[])
        .mirror("no/such", &[]);
    let host = plan.start(&primary).await?;
    for (path, why) in [
        ("transit/*", "give one path instead of a prefix"),
        ("no/such", "nothing is mounted"),
    ] {
        host.until(why, |host| match host.status_of(path) {
            Ok(status) if status.reasons.iter().any(|reason| reason.contains(why)) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await?;
    }
    let asked = super::rig::audited(&primary)?;
    assert!(!asked.iter().any(|one| one.path.starts_with("transit/")));
    Ok(())
}

/// The leases of a pool: those that nobody has.
fn pooled(host: &Host) -> Vec<Lease> {
    let secrets = host.local.view.secrets();
    let leases = secrets.leases.values().map(|held| held.lease.clone());
    leases
        .filter(|lease| lease.holder == LeaseHolder::Pooled)
        .collect()
}

#[tokio::test]
async fn a_pool_is_filled_renewed_and_replaced_lease_by_lease() -> Result<()> {
    let (primary, postgres) = world(6, 12).await?;
    let host = Plan::new(&primary)?
        .mirror(PATH, &[("pool", 3.into())])
        .start(&primary)
        .await?;
    let full = |host: &Host| match pooled(host) {
        leases if leases.len() == 3 => Ok(leases),
        leases => Err(format!("{leases:?} {:?}", host.mirrors.statuses())),
    };
    let first = host.until("a full pool", full).await?;
    let status = host.status_of(PATH)?;
    let fill = status.pool.context("a pool")?;
    assert_eq!(
        (status.count, fill.ready, fill.handed_out, fill.short_since),
        (3, 3, 0, None)
    );
    assert!(lease(&host).is_err(), "nothing is shared beside a pool");
    host.until("a renewal of each", |host| {
        let renewed = pooled(host).into_iter().filter(|now| {
            let known = first.iter().any(|lease| lease.id == now.id);
            known && now.renewed_at > now.issued_at
        });
        match renewed.count() {
            3 => Ok(()),
            few => Err(few.to_string()),
        }
    })
    .await?;
    let mut fewest = 3;
    let second = host
        .until("others in their place", |host| {
            let leases = pooled(host);
            fewest = fewest.min(leases.len());
            match leases
                .iter()
                .any(|now| first.iter().any(|old| old.id == now.id))
            {
                false if leases.len() == 3 => Ok(leases),
                _ => Err(format!("{leases:?}")),
            }
        })
        .await?;
    assert!(fewest >= 3, "the pool was down to {fewest}");
    // Nobody was told of the first: they are to be revoked, not waited for.
    let queue = host.local.view.queue();
    for old in &first {
        let target = RevocationTarget::Lease(old.id.clone());
        assert!(
            queue.iter().any(|queued| queued.target == target),
            "{old:?}"
        );
    }
    let roles = postgres
        .query("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'")
        .await?;
    let roles: usize = roles.parse()?;
    assert!(roles <= first.len() + second.len() + 3, "{roles} accounts");
    Ok(())
}

#[tokio::test]
async fn a_backend_that_fails_leaves_a_pool_short_and_is_not_asked_again_and_again() -> Result<()> {
    let (primary, postgres) = world(3600, 7200).await?;
    drop(postgres);
    let host = Plan::new(&primary)?
        .mirror(PATH, &[("pool", 3.into())])
        .start(&primary)
        .await?;
    host.until("failures", |host| match host.status_of(PATH) {
        Ok(status) if status.errors >= 2 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await?;
    let fill = host.status_of(PATH)?.pool.context("a pool")?;
    assert!(fill.ready == 0 && fill.short_since.is_some(), "{fill:?}");
    let asked = super::rig::audited(&primary)?;
    let asked = asked.iter().filter(|one| one.path == PATH).count();
    assert!(asked <= 4, "{asked}");
    Ok(())
}

#[tokio::test]
async fn a_smaller_pool_lets_go_and_a_path_without_one_shares_again() -> Result<()> {
    let (primary, _postgres) = world(3600, 7200).await?;
    let host = Plan::new(&primary)?
        .mirror(PATH, &[("pool", 3.into())])
        .start(&primary)
        .await?;
    host.until("a full pool", |host| match pooled(host).len() {
        3 => Ok(()),
        few => Err(few.to_string()),
    })
    .await?;
    let host = host.with_pool(1).await?;
    host.until("a smaller pool", |host| match pooled(host).len() {
        1 => Ok(()),
        many => Err(many.to_string()),
    })
    .await?;
    let host = host.with_pool(0).await?;
    host.until("a shared lease", lease).await?;
    assert_eq!(pooled(&host), []);
    Ok(())
}
