//! Leases of clients: served again to the token that read them alone, looked up, given up, and told to the primary.

use std::time::Duration;

use harness::host::{FAILOVER, Host, Plan};
use harness::{Result, eventually, world};
use serde_json::{Value, json};

use crate::{BOUND, HOLDOVER, PATH, leased};

/// What the clients may do besides what the orders team may.
const LESSEE: &str = r#"
path "sys/leases/lookup" { capabilities = ["update"] }
path "sys/leases/renew"  { capabilities = ["update"] }
path "sys/leases/revoke" { capabilities = ["update"] }
path "pki/issue/app"     { capabilities = ["update"] }
"#;

/// A host with a shared lease, and a primary that issues certificates with leases.
async fn host() -> Result<Host> {
    let life = (Duration::from_secs(600), Duration::from_secs(3600));
    let mut host = Plan::new(HOLDOVER)
        .database(life.0, life.1)
        .prepare()
        .await?;
    let root = host.primary.root();
    world::policy(&root, "lessee", LESSEE).await?;
    root.write("sys/mounts/pki", &json!({ "type": "pki" }))
        .await?;
    let ca = json!({ "common_name": "shop.test", "key_type": "ec", "key_bits": 256 });
    root.write("pki/root/generate/internal", &ca).await?;
    let role = json!({
        "allow_any_name": true, "generate_lease": true, "key_type": "ec", "key_bits": 256, "max_ttl": "1h",
    });
    root.write("pki/roles/app", &role).await?;
    host.start().await?;
    Ok(host)
}

async fn client(host: &Host) -> Result<String> {
    let body = json!({ "policies": ["orders", "lessee"], "ttl": "1h" });
    let created = host
        .primary
        .root()
        .post("auth/token/create-orphan", &body)
        .await?;
    created.text("/auth/client_token")
}

async fn about(host: &Host, what: &str, token: &str, lease: &str) -> Result<(u16, Value)> {
    let path = format!("sys/leases/{what}");
    let reply = host
        .write(&path, token, &json!({ "lease_id": lease }))
        .await?;
    let body = match reply.body.is_empty() {
        true => Value::Null,
        false => reply.json()?,
    };
    Ok((reply.status, body))
}

async fn at_primary(host: &Host, lease: &str) -> Result<u16> {
    let body = json!({ "lease_id": lease });
    Ok(host
        .primary
        .root()
        .put("sys/leases/lookup", &body)
        .await?
        .status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_given_up_is_not_served_again_and_the_primary_hears_of_it() -> Result<()> {
    let host = host().await?;
    let (reader, sharer, other) = (
        client(&host).await?,
        client(&host).await?,
        client(&host).await?,
    );
    let own = leased(&host.read(PATH, &reader).await?)?;
    let certificate = host
        .write(
            "pki/issue/app",
            &reader,
            &json!({ "common_name": "a.test" }),
        )
        .await?;
    let certificate = certificate.json_text("/lease_id")?;
    for token in [&sharer, &other] {
        host.read("secret/data/shop/shared", token).await?;
    }
    for token in [&reader, &sharer, &other] {
        host.until_learned(token).await?;
    }
    host.cut().await?;

    assert_eq!(leased(&host.read(PATH, &reader).await?)?, own);
    let shared = leased(&host.read(PATH, &sharer).await?)?;
    assert_ne!(shared.id, own.id);
    assert_eq!(leased(&host.read(PATH, &other).await?)?, shared);
    // A certificate's lease: known by its id, not renewable, no answer to a read.
    let (status, shown) = about(&host, "lookup", &reader, &certificate).await?;
    assert_eq!(
        (status, &shown["data"]["path"]),
        (200, &json!("pki/issue/app"))
    );
    let (status, refused) = about(&host, "renew", &reader, &certificate).await?;
    assert_eq!(
        (status, &refused["errors"]),
        (400, &json!(["lease is not renewable"]))
    );
    assert_eq!(about(&host, "renew", &reader, &own.id).await?.0, 200);

    for lease in [&own.id, &certificate] {
        assert_eq!(about(&host, "revoke", &reader, lease).await?.0, 204);
        assert_eq!(about(&host, "lookup", &reader, lease).await?.0, 400);
    }
    assert_eq!(about(&host, "revoke", &sharer, &shared.id).await?.0, 204);
    // Of its own it has none any more; of the shared one it gave nothing up.
    assert_eq!(leased(&host.read(PATH, &reader).await?)?, shared);
    host.daemon.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_state("holdover", FAILOVER).await?;
    let refused = host.read(PATH, &sharer).await?;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("this client revoked the lease"));
    assert_eq!(about(&host, "lookup", &sharer, &shared.id).await?.0, 400);
    assert_eq!(about(&host, "lookup", &other, &shared.id).await?.0, 200);
    assert_eq!(leased(&host.read(PATH, &other).await?)?, shared);

    host.restore().await?;
    for lease in [&own.id, &certificate] {
        eventually(
            BOUND,
            "the revocation at the primary",
            async || match at_primary(&host, lease).await {
                Ok(400) => Ok(()),
                other => Err(format!("{lease}: {other:?}")),
            },
        )
        .await?;
    }
    assert_eq!(at_primary(&host, &shared.id).await?, 200, "others hold it");
    Ok(())
}
