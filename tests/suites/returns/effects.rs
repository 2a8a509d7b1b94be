//! What has an effect is sent once, whatever it is: each request whose answer is lost while the primary is well is answered with
//! 504, and was asked for once.

use harness::bao::api::Api;
use harness::client::raw::Ask;
use harness::daemon::config::Workload;
use harness::host::{Host, Plan, own_uid};
use harness::tap::Loss;
use harness::{Context, Result, together, world};
use serde_json::{Value, json};

use crate::HOLDOVER;

/// What may do anything, and gets what it asks for.
const ANYTHING: &str = r#"
path "*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }
"#;

async fn start() -> Result<Host> {
    let orders = Workload::new("orders", "orders").uid(own_uid());
    let host = Plan::new(HOLDOVER)
        .workload(orders)
        .tapped()
        .set("primary.read_deadline", "500ms")
        .set("failover.issue_deadline", "4500ms")
        .start()
        .await?;
    let root = host.primary.root();
    world::policy(&root, "anything", ANYTHING).await?;
    root.write("sys/mounts/pki", &json!({ "type": "pki" }))
        .await?;
    let ca = json!({ "common_name": "ca", "ttl": "1h" });
    root.write("pki/root/generate/internal", &ca).await?;
    let role = json!({ "allow_any_name": true, "generate_lease": true, "ttl": "10m" });
    root.write("pki/roles/any", &role).await?;
    Ok(host)
}

/// A token made at the primary, with these fields besides.
async fn token(root: &Api, fields: Value) -> Result<Value> {
    let mut wanted = json!({ "policies": ["anything", "orders"], "ttl": "1h" });
    for (name, value) in fields.as_object().context("an object")? {
        wanted[name] = value.clone();
    }
    let made = root.write("auth/token/create", &wanted).await?;
    Ok(made["auth"].clone())
}

/// Every request with an effect that clients know, but for those that other tests count the tokens and leases of.
async fn with_effects(root: &Api) -> Result<Vec<(&'static str, Ask)>> {
    let made = token(root, json!({})).await?;
    let bearer = made["client_token"].as_str().context("no token")?;
    let none = json!({});
    let certificate = json!({ "common_name": "a.example" });
    let kept = json!({ "data": { "a": "b" } });
    let asked = [
        ("/v1/auth/token/renew-self ", &none),
        ("/v1/auth/token/create-orphan ", &none),
        ("/v1/auth/token/revoke-accessor ", &none),
        ("/v1/sys/leases/renew ", &none),
        ("/v1/sys/leases/revoke ", &none),
        ("/v1/auth/cert/login ", &none),
        ("/v1/auth/jwt/login ", &none),
        ("/v1/pki/issue/any ", &certificate),
        ("/v1/secret/data/kept/effects ", &kept),
    ];
    let mut all = Vec::new();
    for (part, body) in asked {
        all.push((part, Ask::post(part.trim_end(), body).token(bearer)?));
    }
    let wrap = Ask::post("/v1/sys/wrapping/wrap", &kept).token(bearer)?;
    all.push((
        "/v1/sys/wrapping/wrap ",
        wrap.header("X-Vault-Wrap-TTL", "60")?,
    ));
    // Nobody knows what reading there does.
    let unknown = Ask::get("/v1/nowhere/creds/x").token(bearer)?;
    all.push(("/v1/nowhere/creds/x ", unknown));
    Ok(all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_has_an_effect_is_sent_once() -> Result<()> {
    let host = start().await?;
    let tap = host.tap()?;
    let asked = with_effects(&host.primary.root()).await?;
    for (part, _) in &asked {
        tap.lose(part, Loss::Closed);
    }
    let replies = asked.iter().map(|(part, ask)| async {
        let reply = host.ask(ask).await?;
        Ok((*part, reply.status, reply.text().contains("unknown")))
    });
    for (part, status, unknown) in together(replies).await? {
        let sent = tap.times_sent(part);
        assert_eq!((status, unknown, sent), (504, true, 1), "{part}");
    }
    let status = host.daemon.status().await?;
    assert_eq!(status["state"], "following");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unwrapped_in_vain_was_unwrapped_once() -> Result<()> {
    let host = start().await?;
    let (tap, root) = (host.tap()?, host.primary.root());
    let made = token(&root, json!({})).await?;
    let bearer = made["client_token"].as_str().context("no token")?;
    let wrap = Ask::post("/v1/sys/wrapping/wrap", &json!({ "a": "b" })).token(bearer)?;
    let wrapped = host.ask(&wrap.header("X-Vault-Wrap-TTL", "60")?).await?;
    let wrapping = wrapped.json_text("/wrap_info/token")?;
    let part = "/v1/sys/wrapping/unwrap ";
    let unwrap = Ask::post(part.trim_end(), &json!({})).token(&wrapping)?;
    tap.lose(part, Loss::Closed);
    let reply = host.ask(&unwrap).await?;
    assert_eq!((reply.status, tap.times_sent(part)), (504, 1));
    tap.lose_nothing();
    // It is used up.
    assert_eq!(host.ask(&unwrap).await?.status, 400);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_is_lost_spends_one_use_of_its_token() -> Result<()> {
    let host = start().await?;
    let (tap, root) = (host.tap()?, host.primary.root());
    let (mirrored, _) = host.secret("orders")?;
    for path in [
        mirrored,
        "sys/policies/acl/orders",
        "auth/token/lookup-self",
    ] {
        let made = token(&root, json!({ "num_uses": 5 })).await?;
        let bearer = made["client_token"].as_str().context("no token")?;
        let by_accessor = json!({ "accessor": made["accessor"] });
        let part = format!("/v1/{path} ");
        let before = tap.times_sent(&part);
        tap.lose(&part, Loss::Closed);
        let reply = host.read(path, bearer).await?;
        tap.lose_nothing();
        assert_eq!(reply.status, 504, "{path}: {}", reply.text());
        assert_eq!(tap.times_sent(&part), before + 1, "{path}");
        let looked = root
            .post("auth/token/lookup-accessor", &by_accessor)
            .await?;
        assert_eq!(looked.data()?["num_uses"], 4, "{path}");
        assert_eq!(host.read(path, bearer).await?.status, 200, "{path}");
    }
    Ok(())
}
