//! The primary and its database are real, and do what an outage needs of them.

use std::time::Duration;

use harness::bao::{DatabaseRole, Primary, Transport};
use harness::postgres::Postgres;
use harness::world::{self, World};
use harness::{Result, eventually};
use serde_json::json;

const BOUND: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_killed_primary_comes_back_with_its_data_at_its_address() -> Result<()> {
    let primary = Primary::start(Transport::Tls).await?;
    let root = primary.root();
    root.write(
        "sys/policies/acl/kept",
        &json!({ "policy": "path \"a\" {}" }),
    )
    .await?;
    let before = root.get("sys/seal-status").await?.text("/cluster_id")?;
    primary.kill9()?;
    assert!(
        root.get("sys/health").await.is_err(),
        "a killed primary answered"
    );
    primary.start_again().await?;
    assert_eq!(root.get("sys/policies/acl/kept").await?.status, 200);
    assert_eq!(
        root.get("sys/seal-status").await?.text("/cluster_id")?,
        before
    );
    assert!(std::fs::read_to_string(primary.audit_log())?.contains("sys/policies/acl/kept"));
    Ok(())
}

#[tokio::test]
async fn a_stopped_primary_hangs_with_its_connections_open_and_goes_on() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    let root = primary.root();
    primary.stop()?;
    let hung = tokio::time::timeout(Duration::from_millis(300), root.get("sys/health")).await;
    assert!(
        hung.is_err(),
        "a stopped primary answered: {:?}",
        hung.unwrap()
    );
    assert!(std::net::TcpStream::connect(primary.address().trim_start_matches("http://")).is_ok());
    primary.cont()?;
    primary.wait_active(BOUND).await
}

#[tokio::test]
async fn a_sealed_primary_says_503_until_it_is_unsealed() -> Result<()> {
    let primary = Primary::start(Transport::Both).await?;
    assert_eq!(primary.addresses().len(), 2);
    primary.seal().await?;
    assert_eq!(primary.root().get("sys/mounts").await?.status, 503);
    primary.unseal().await?;
    primary.wait_active(BOUND).await?;
    assert_eq!(primary.root().get("sys/mounts").await?.status, 200);
    primary.start_sealed().await?;
    assert_eq!(primary.root().get("sys/health").await?.status, 503);
    Ok(())
}

#[tokio::test]
async fn leased_logins_work_at_the_database_until_their_lease_is_revoked() -> Result<()> {
    let (primary, postgres) = tokio::try_join!(Primary::start(Transport::Tls), Postgres::start())?;
    let role = DatabaseRole {
        name: "orders",
        default_ttl: Duration::from_secs(60),
        max_ttl: Duration::from_secs(3600),
    };
    primary.enable_database(&postgres, &role).await?;
    let root = primary.root();
    let lease = root.get("database/creds/orders").await?.ok()?;
    assert_eq!(lease["lease_duration"], 60);
    let text = |pointer: &str| lease.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    let (user, password) = (text("/data/username"), text("/data/password"));
    assert!(postgres.can_login(&user, &password).await?);
    assert!(!postgres.can_login(&user, "not the password").await?);
    root.put(
        "sys/leases/revoke",
        &json!({ "lease_id": text("/lease_id"), "sync": true }),
    )
    .await?
    .ok()?;
    assert!(!postgres.can_login(&user, &password).await?);
    assert_eq!(
        postgres
            .query("SELECT count(*) FROM pg_roles WHERE rolcanlogin")
            .await?,
        "1"
    );
    Ok(())
}

#[tokio::test]
async fn the_shop_gives_each_team_what_its_policy_says() -> Result<()> {
    let primary = Primary::start(Transport::Tls).await?;
    let world = World::seed(&primary, 3).await?;
    assert_eq!(world.secrets.len(), 9);
    assert_eq!(world.canaries.count(), 9);
    assert_eq!(world.below("orders").count(), 4);
    let root = primary.root();
    let orders = primary.api(&world::token(&root, "orders").await?);
    let billing = primary.api(&world::token(&root, "billing").await?);
    for (path, by_orders, by_billing) in [
        ("orders/item-0000", 200, 403),
        ("billing/item-0000", 403, 200),
        ("billing/public", 200, 200),
        ("orders/public", 200, 403),
        ("shared", 200, 200),
    ] {
        let path = format!("secret/data/shop/{path}");
        assert_eq!(orders.get(&path).await?.status, by_orders, "{path}");
        assert_eq!(billing.get(&path).await?.status, by_billing, "{path}");
    }
    let secret = world.secrets.first().unwrap();
    assert_eq!(root.get(&secret.path).await?.data()?, secret.data);
    Ok(())
}

#[tokio::test]
async fn a_wait_ends_at_its_bound_and_says_what_it_saw_last() {
    let mut polls = 0;
    let waited = eventually(Duration::from_millis(50), "the impossible", async || {
        polls += 1;
        Err::<(), _>(format!("poll {polls}"))
    });
    let failure = waited.await.unwrap_err().to_string();
    assert!(
        failure.contains("50ms for the impossible; last seen: poll "),
        "{failure}"
    );
    let hung = eventually(Duration::from_millis(50), "an answer", async || {
        std::future::pending::<std::result::Result<(), String>>().await
    });
    assert!(
        hung.await
            .unwrap_err()
            .to_string()
            .ends_with("no answer at all")
    );
}
