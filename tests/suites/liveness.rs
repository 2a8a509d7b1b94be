//! Tokens that clients brought: they are known with what the primary gave them, and what becomes of them there by other
//! hands is known here in time.

use std::time::Duration;

use harness::bao::api::Api;
use harness::client::raw::Ask;
use harness::failure::Context;
use harness::host::{Host, Plan};
use harness::{Result, eventually, world};
use serde_json::{Value, json};

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");

/// `token_check_interval` where idle tokens are followed. What is waited for may take several on a busy machine.
const INTERVAL: &str = "2s";
const SOON: Duration = Duration::from_secs(20);

/// Where nothing but a forward has a token asked about: longer than any of these tests.
const NEVER: &str = "1h";

/// A token as the primary made it.
struct Made {
    token: String,
    accessor: String,
}

async fn made(by: &Api, body: &Value) -> Result<Made> {
    let answer = by.post("auth/token/create", body).await?.ok()?;
    let of = |name: &str| answer["auth"][name].as_str().map(str::to_owned);
    Ok(Made {
        token: of("client_token").context("a token")?,
        accessor: of("accessor").context("an accessor")?,
    })
}

async fn start(token_check_interval: &str) -> Result<Host> {
    let plan = Plan::new(HOLDOVER).set("primary.token_check_interval", token_check_interval);
    let host = plan
        .set("failover.authority_interval", "1s")
        .start()
        .await?;
    let maker = r#"path "auth/token/create" { capabilities = ["update"] }"#;
    world::policy(&host.primary.root(), "maker", maker).await?;
    Ok(host)
}

/// Has each used once through Holdover, and waits until they are known.
async fn used(host: &Host, tokens: &[&Made]) -> Result<()> {
    let (path, _) = host.secret("orders")?;
    for one in tokens {
        assert_eq!(host.read(path, &one.token).await?.status, 200);
        host.until_learned(&one.token).await?;
    }
    Ok(())
}

/// What `/v1/grants` says of a token; none if it does not live.
async fn grant(host: &Host, accessor: &str) -> Result<Option<Value>> {
    let all = host.daemon.admin(&Ask::get("/v1/grants")).await?.json()?;
    let mut grants = all["grants"].as_array().into_iter().flatten();
    Ok(grants.find(|one| one["accessor"] == accessor).cloned())
}

/// Waits until `wanted` holds of what is known of a token.
async fn until(
    host: &Host,
    what: &str,
    accessor: &str,
    wanted: impl Fn(Option<&Value>) -> bool,
) -> Result<()> {
    let waited = eventually(SOON, what, async || match grant(host, accessor).await {
        Ok(found) if wanted(found.as_ref()) => Ok(()),
        Ok(found) => Err(format!("{found:?}")),
        Err(failure) => Err(failure.to_string()),
    });
    waited.await.map_err(|failure| host.daemon.failure(failure))
}

fn left(grant: Option<&Value>) -> u64 {
    let left = grant.and_then(|grant| grant["ttl_seconds"].as_u64());
    left.unwrap_or_default()
}

/// Waits until Holdover has gone once through authority, and has begun again: what was written before is known.
async fn authority_read(host: &Host) -> Result<()> {
    let reads = || -> Result<usize> {
        let log = std::fs::read_to_string(host.primary.audit_log())?;
        let of_policies = |line: &&str| line.contains("sys/policies/detailed/acl");
        Ok(log.lines().filter(of_policies).count())
    };
    for _ in 0..2 {
        let before = reads()?;
        // It reads nothing anew where nothing was written.
        world::policy(&host.primary.root(), "nudge", "# written anew").await?;
        let waited = eventually(SOON, "the policies to be read", async || match reads() {
            Ok(now) if now > before + 1 => Ok(()),
            Ok(now) => Err(format!("{before}, then {now}")),
            Err(failure) => Err(failure.to_string()),
        });
        waited
            .await
            .map_err(|failure| host.daemon.failure(failure))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_becomes_of_idle_tokens_elsewhere_is_known_here() -> Result<()> {
    let host = start(INTERVAL).await?;
    let root = host.primary.root();
    let orders = json!({ "policies": ["orders"], "ttl": "1h", "no_parent": true });
    let parent = json!({ "policies": ["maker", "orders"], "ttl": "1h" });
    let (by_accessor, parent) = (made(&root, &orders).await?, made(&root, &parent).await?);
    let child = json!({ "policies": ["orders"], "ttl": "1h" });
    let child = made(&host.primary.api(&parent.token), &child).await?;
    let brief = json!({ "policies": ["orders"], "ttl": "10m" });
    let (renewed, shortened) = (made(&root, &brief).await?, made(&root, &orders).await?);
    let untouched = made(&root, &orders).await?;
    let all = [
        &by_accessor,
        &parent,
        &child,
        &renewed,
        &shortened,
        &untouched,
    ];
    used(&host, &all).await?;

    let accessor = json!({ "accessor": by_accessor.accessor });
    root.write("auth/token/revoke-accessor", &accessor).await?;
    // The children go with it, though nothing here says whose child a token is.
    root.write("auth/token/revoke", &json!({ "token": parent.token }))
        .await?;
    let renew = |token: &str, increment: &str| json!({ "token": token, "increment": increment });
    root.write("auth/token/renew", &renew(&renewed.token, "5h"))
        .await?;
    root.write("auth/token/renew", &renew(&shortened.token, "5m"))
        .await?;

    for one in [&by_accessor, &parent, &child] {
        until(&host, "the revocation", &one.accessor, |grant| {
            grant.is_none()
        })
        .await?;
    }
    until(&host, "the renewal", &renewed.accessor, |grant| {
        left(grant) > 3600
    })
    .await?;
    let is_short = |grant: Option<&Value>| (1..=300).contains(&left(grant));
    until(&host, "the shorter end", &shortened.accessor, is_short).await?;

    host.cut().await?;
    let (path, _) = host.secret("orders")?;
    for one in [&by_accessor, &parent, &child] {
        let refused = host.read(path, &one.token).await?;
        assert_eq!((refused.status, refused.source()), (403, Some("replica")));
    }
    for (one, least, most) in [
        (&renewed, 3600, 18_000),
        (&shortened, 1, 300),
        (&untouched, 3000, 3600),
    ] {
        let shown = host.read("auth/token/lookup-self", &one.token).await?;
        assert_eq!((shown.status, shown.source()), (200, Some("replica")));
        let ttl = shown.json()?["data"]["ttl"].as_u64().context("a ttl")?;
        assert!((least..=most).contains(&ttl), "{ttl}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_became_of_a_token_is_known_at_its_next_forward() -> Result<()> {
    let host = start(NEVER).await?;
    let root = host.primary.root();
    let orders = json!({ "policies": ["orders"], "ttl": "1h" });
    let (read, looked, renewed) = (
        made(&root, &orders).await?,
        made(&root, &orders).await?,
        made(&root, &orders).await?,
    );
    used(&host, &[&read, &looked, &renewed]).await?;
    for one in [&read, &looked] {
        let accessor = json!({ "accessor": one.accessor });
        root.write("auth/token/revoke-accessor", &accessor).await?;
    }
    let renew = json!({ "token": renewed.token, "increment": "5h" });
    root.write("auth/token/renew", &renew).await?;
    // Nobody here has heard of it.
    for one in [&read, &looked] {
        assert!(grant(&host, &one.accessor).await?.is_some());
    }
    assert!(left(grant(&host, &renewed.accessor).await?.as_ref()) <= 3600);

    let (path, _) = host.secret("orders")?;
    let own = "auth/token/lookup-self";
    for (one, path) in [(&read, path), (&looked, own)] {
        let refused = host.read(path, &one.token).await?;
        assert_eq!((refused.status, refused.source()), (403, Some("primary")));
        // The refusal alone ends nothing: it has Holdover ask at once.
        until(&host, "its end", &one.accessor, |grant| grant.is_none()).await?;
    }
    assert_eq!(host.read(own, &renewed.token).await?.status, 200);
    assert!(left(grant(&host, &renewed.accessor).await?.as_ref()) > 3600);

    host.cut().await?;
    for one in [&read, &looked] {
        assert_eq!(host.read(path, &one.token).await?.status, 403);
    }
    let shown = host.read(own, &renewed.token).await?.json()?;
    assert!(
        shown["data"]["ttl"].as_u64().is_some_and(|ttl| ttl > 3600),
        "{shown}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_has_here_what_its_policies_and_its_entity_have_there() -> Result<()> {
    let host = start(NEVER).await?;
    let root = host.primary.root();
    let narrow = r#"path "secret/data/shop/shared" { capabilities = ["read"] }"#;
    let wide = r#"path "secret/data/shop/*" { capabilities = ["read"] }"#;
    world::policy(&root, "changing", wide).await?;
    let changing = json!({ "policies": ["changing"], "ttl": "1h" });
    let changing = made(&root, &changing).await?;
    let (disabled, entity) = logged_in(&root, "disabled").await?;
    let (doubted, doubted_entity) = logged_in(&root, "doubted").await?;
    let (kept, _) = logged_in(&root, "kept").await?;
    used(&host, &[&changing, &disabled, &doubted, &kept]).await?;
    let own = "auth/token/lookup-self";
    let shown = host.read(own, &changing.token).await?.json()?;
    assert_eq!(shown["data"]["policies"], json!(["changing", "default"]));

    world::policy(&root, "changing", narrow).await?;
    for entity in [&entity, &doubted_entity] {
        let path = format!("identity/entity/id/{entity}");
        root.write(&path, &json!({ "disabled": true })).await?;
    }
    let (path, _) = host.secret("orders")?;
    // This one is refused at the primary before any cycle of the mirror may have gone by.
    let refused = host.read(path, &doubted.token).await?;
    assert_eq!((refused.status, refused.source()), (403, Some("primary")));
    authority_read(&host).await?;

    host.cut().await?;
    for one in [&changing, &disabled] {
        let refused = host.read(path, &one.token).await?;
        assert_eq!(
            (refused.status, refused.source()),
            (403, Some("replica")),
            "{}",
            refused.text()
        );
    }
    // Dead, or refused for a while: only a look-up tells, and there was none.
    let undecided = host.read(path, &doubted.token).await?;
    assert!(
        [403, 503].contains(&undecided.status),
        "{}",
        undecided.text()
    );
    let shared = host
        .read("secret/data/shop/shared", &changing.token)
        .await?;
    assert_eq!((shared.status, shared.source()), (200, Some("replica")));
    let read = host.read(path, &kept.token).await?;
    assert_eq!((read.status, read.source()), (200, Some("replica")));
    Ok(())
}

/// A login that has an entity: the token, and the entity.
async fn logged_in(root: &Api, user: &str) -> Result<(Made, String)> {
    if root.get("sys/mounts/auth/userpass").await?.status != 200 {
        root.write("sys/auth/userpass", &json!({ "type": "userpass" }))
            .await?;
    }
    let entry = json!({ "password": "p", "token_policies": "orders" });
    root.write(&format!("auth/userpass/users/{user}"), &entry)
        .await?;
    let login = format!("auth/userpass/login/{user}");
    let auth = root.post(&login, &json!({ "password": "p" })).await?.ok()?["auth"].clone();
    let of = |name: &str| auth[name].as_str().map(str::to_owned).context("a login");
    let made = Made {
        token: of("client_token")?,
        accessor: of("accessor")?,
    };
    Ok((made, of("entity_id")?))
}
