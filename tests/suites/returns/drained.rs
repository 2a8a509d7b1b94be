//! A token that drains after its outage: it reads what is mirrored, clients that hold it go on working, and whatever more is
//! asked of it is refused with the way out.

use std::path::Path;
use std::time::Duration;

use harness::client::cli::User;
use harness::client::raw::{Ask, Reply};
use harness::daemon::config::Workload;
use harness::host::{Host, Plan, own_uid};
use harness::{Result, world};
use serde_json::{Value, json};

use crate::{HOLDOVER, approle::AppRole};

const LEASED: &str = "database/creds/orders";
/// What lets a client keep leases. The primary's `default` has it too, but for the revocation.
const LESSEE: &str = r#"
path "sys/leases/lookup"        { capabilities = ["update"] }
path "sys/leases/renew"         { capabilities = ["update"] }
path "sys/leases/revoke"        { capabilities = ["update"] }
path "secret/data/apart/config" { capabilities = ["read", "update"] }
"#;
/// Means something else to each entity.
const OWN: &str = r#"path "secret/data/own/{{identity.entity.id}}/*" { capabilities = ["read"] }"#;

/// A token of an outage that is over, and what was leased to it there.
struct Held {
    token: String,
    lease: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_workload_that_drains_lives_on_for_reads() -> Result<()> {
    let host = host("drain").await?;
    let other = leased(&host, &client(&host).await?).await?;
    host.cut().await?;
    let held = held(&host, host.login("orders").await?.token).await?;
    host.restore().await?;
    story(&host, &held, &other).await
}

/// No token without the entity can be minted that may exactly the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_an_approle_whose_policy_names_its_entity_lives_on_for_reads() -> Result<()> {
    let host = host("exchange").await?;
    let root = host.primary.root();
    world::policy(&root, "own", OWN).await?;
    let fields = json!({ "token_policies": ["orders", "lessee", "own"], "token_ttl": "10m" });
    let role = AppRole::make(&root, "own", &fields).await?;
    role.proven_at(&host.daemon).await?;
    let other = leased(&host, &client(&host).await?).await?;
    host.cut().await?;
    let login = host.ask(&role.login()).await?;
    assert_eq!((login.status, login.source()), (200, Some("replica")));
    let held = held(&host, login.json_text("/auth/client_token")?).await?;
    host.restore().await?;
    story(&host, &held, &other).await
}

async fn host(on_recovery: &str) -> Result<Host> {
    let orders = Workload::new("orders", "orders")
        .uid(own_uid())
        .issues("15m", "2h")
        .set("failover.on_recovery", on_recovery);
    let lease = (Duration::from_secs(600), Duration::from_secs(3600));
    let mut host = Plan::new(HOLDOVER)
        .pooled_database(lease.0, lease.1, 2)
        .workload(orders)
        .set("failover.authority_interval", "500ms")
        .prepare()
        .await?;
    let root = host.primary.root();
    let apart = json!({ "data": { "name": "value" } });
    root.write("secret/data/apart/config", &apart).await?;
    world::policy(&root, "lessee", LESSEE).await?;
    let role = world::TokenRole {
        name: "orders",
        policies: &["orders", "lessee"],
        explicit_max_ttl: None,
    };
    world::token_role(&root, &role).await?;
    host.start().await?;
    Ok(host)
}

/// A token of the primary's, of somebody else.
async fn client(host: &Host) -> Result<String> {
    let body = json!({ "policies": ["orders", "lessee"], "ttl": "1h" });
    let root = host.primary.root();
    let created = root.post("auth/token/create-orphan", &body).await?;
    created.text("/auth/client_token")
}

async fn leased(host: &Host, token: &str) -> Result<String> {
    let reply = host.read(LEASED, token).await?;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json_text("/lease_id")
}

async fn held(host: &Host, token: String) -> Result<Held> {
    assert!(token.starts_with("ho."), "no token of the replica's");
    let lease = leased(host, &token).await?;
    Ok(Held { token, lease })
}

/// The token's life after the return, to its end by its own hand.
async fn story(host: &Host, held: &Held, others: &str) -> Result<()> {
    let status = host.daemon.status().await?;
    let outages_end = status["last_outage"]["id"].clone();
    reads(host, held).await?;
    tells_what_remains(host, held).await?;
    refuses_more(host, held, others).await?;
    clients_work(host, &held.token).await?;
    // It is the same after a restart: what it came to is stored.
    host.daemon.kill9()?;
    host.daemon.start()?;
    let following = Duration::from_secs(30);
    host.daemon.wait_state("following", following).await?;
    reads(host, held).await?;
    tells_what_remains(host, held).await?;
    refuses_more(host, held, others).await?;
    assert_ne!(outages_end, Value::Null);
    let revoked = write(host, held, "auth/token/revoke-self", json!({})).await?;
    assert_eq!(revoked.status, 204, "{}", revoked.text());
    let (path, _) = host.secret("orders")?;
    let dead = host.read(path, &held.token).await?;
    assert_eq!(dead.status, 403, "{}", dead.text());
    // Another login is the way on.
    let next = host.login("orders").await?;
    assert_eq!(next.source, "primary");
    Ok(())
}

async fn reads(host: &Host, held: &Held) -> Result<()> {
    let (path, password) = host.secret("orders")?;
    let read = host.read(path, &held.token).await?;
    assert_eq!(
        (read.status, read.source()),
        (200, Some("replica")),
        "{}",
        read.text()
    );
    assert_eq!(read.json()?["data"]["data"]["password"], password);
    let listed = Ask::new("LIST", "/v1/secret/metadata/shop/orders")?;
    let listed = host.ask(&listed.token(&held.token)?).await?;
    assert_eq!((listed.status, listed.source()), (200, Some("replica")));
    // What it leased is its own still.
    assert_eq!(leased(host, &held.token).await?, held.lease);
    // What its policies do not allow is denied as ever.
    let (foreign, _) = host.secret("billing")?;
    let denied = host.read(foreign, &held.token).await?;
    assert_eq!(denied.status, 403, "{}", denied.text());
    Ok(())
}

/// Nothing is lengthened, and no client is told that something failed.
async fn tells_what_remains(host: &Host, held: &Held) -> Result<()> {
    let shown = host.read("auth/token/lookup-self", &held.token).await?;
    assert_eq!(shown.status, 200, "{}", shown.text());
    let left = number(&shown, "/data/ttl")?;
    assert!((1..=900).contains(&left), "{left}");
    let renewed = write(
        host,
        held,
        "auth/token/renew-self",
        json!({ "increment": "5h" }),
    )
    .await?;
    let life = remains(&renewed, "/auth/lease_duration")?;
    assert!((1..=left).contains(&life), "{life} after {left}");

    let lease = json!({ "lease_id": held.lease });
    let shown = write(host, held, "sys/leases/lookup", lease.clone()).await?;
    assert_eq!(shown.status, 200, "{}", shown.text());
    assert_eq!(shown.json_text("/data/path")?, LEASED);
    let renewed = write(host, held, "sys/leases/renew", lease).await?;
    let life = remains(&renewed, "/lease_duration")?;
    assert!((1..=600).contains(&life), "{life}");
    Ok(())
}

/// What a renewal says is left, and that it is no more.
fn remains(renewed: &Reply, at: &str) -> Result<u64> {
    assert_eq!(
        (renewed.status, renewed.source()),
        (200, Some("replica")),
        "{}",
        renewed.text()
    );
    let warnings = renewed.json()?["warnings"].to_string();
    assert!(
        warnings.contains("only the primary can renew this"),
        "{warnings}"
    );
    number(renewed, at)
}

fn number(reply: &Reply, at: &str) -> Result<u64> {
    let body = reply.json()?;
    let number = body.pointer(at).and_then(Value::as_u64);
    harness::Context::context(number, body)
}

async fn refuses_more(host: &Host, held: &Held, others: &str) -> Result<()> {
    let apart = "secret/data/apart/config";
    let value = json!({ "data": { "name": "other" } });
    let refused = [
        host.read(apart, &held.token).await?,
        write(host, held, apart, value).await?,
        write(
            host,
            held,
            "sys/capabilities-self",
            json!({ "paths": [apart] }),
        )
        .await?,
        write(host, held, "auth/token/create/orders", json!({})).await?,
        write(
            host,
            held,
            "sys/leases/revoke",
            json!({ "lease_id": held.lease }),
        )
        .await?,
        write(
            host,
            held,
            "sys/leases/lookup",
            json!({ "lease_id": others }),
        )
        .await?,
        write(
            host,
            held,
            "sys/leases/renew",
            json!({ "lease_id": others }),
        )
        .await?,
    ];
    for (nr, reply) in refused.iter().enumerate() {
        let said = reply.text();
        assert_eq!(reply.status, 403, "{nr}: {said}");
        assert!(said.contains("log in again"), "{nr}: {said}");
    }
    Ok(())
}

/// The clients that users have, with this token in their environment.
async fn clients_work(host: &Host, token: &str) -> Result<()> {
    let socket = host.daemon.socket();
    let user = user(&socket, token)?;
    let (_, password) = host.secret("orders")?;
    let item = "secret/shop/orders/item-0000";
    let field = ["kv", "get", "-field=password", item];
    let read = user.bao(&field).await?.success()?;
    assert_eq!(read.trim(), password);
    user.bao(&["token", "lookup"]).await?.success()?;
    user.bao(&["token", "renew"]).await?.success()?;
    user.bao(&["read", LEASED]).await?.success()?;
    let script = "
vault = client()
assert vault.is_authenticated()
print(vault.secrets.kv.v2.read_secret_version('shop/orders/item-0000', raise_on_deleted_version=True)['data']['data']['password'])
";
    let read = user.python(script).await?.success()?;
    assert_eq!(read.trim(), password);
    Ok(())
}

fn user(socket: &Path, token: &str) -> Result<User> {
    Ok(User::ourselves()?.at_socket(socket).env("BAO_TOKEN", token))
}

async fn write(host: &Host, held: &Held, path: &str, body: Value) -> Result<Reply> {
    host.write(path, &held.token, &body).await
}
