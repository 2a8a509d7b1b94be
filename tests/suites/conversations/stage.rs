//! What stands at the primary, and what Holdover mirrors of it, while a conversation is held.

use std::time::Duration;

use harness::bao::Primary;
use harness::bao::api::Api;
use harness::daemon::config::Workload;
use harness::host::{Host, Plan, own_uid};
use harness::world::{self, ORDERS_POLICY, TokenRole};
use harness::{Failure, Result, eventually};
use serde_json::{Value, json};

use crate::HOLDOVER;

/// What the app of a conversation may do besides what the shop's orders team may.
const MORE: &str = r#"
path "secret/data/desk/*"             { capabilities = ["read"] }
path "secret/metadata/desk/*"         { capabilities = ["read", "list", "scan"] }
path "secret/data/desk/private/*"     { capabilities = ["deny"] }
path "secret/metadata/desk/private/*" { capabilities = ["deny"] }
path "secret/data/elsewhere/*"        { capabilities = ["create", "read", "update", "patch", "delete"] }
path "secret/metadata/elsewhere/*"    { capabilities = ["create", "read", "update", "delete", "list"] }
path "secret/undelete/elsewhere/*"    { capabilities = ["update"] }
path "secret/destroy/elsewhere/*"     { capabilities = ["update"] }
path "plain/desk/*"                   { capabilities = ["read", "list"] }
path "auth/token/create"              { capabilities = ["update"] }
path "auth/token/create/*"            { capabilities = ["update"] }
path "auth/token/create-orphan"       { capabilities = ["update"] }
path "auth/token/lookup"              { capabilities = ["update"] }
path "auth/token/lookup-accessor"     { capabilities = ["update"] }
path "auth/token/renew"               { capabilities = ["update"] }
path "auth/token/renew-accessor"      { capabilities = ["update"] }
path "auth/token/revoke"              { capabilities = ["update"] }
path "auth/token/revoke-accessor"     { capabilities = ["update"] }
path "sys/capabilities"               { capabilities = ["update"] }
path "sys/capabilities-accessor"      { capabilities = ["update"] }
path "sys/leases/revoke"              { capabilities = ["update"] }
path "sys/leases/revoke/*"            { capabilities = ["update"] }
"#;

const NARROW: &str = r#"path "secret/data/desk/absent" { capabilities = ["read"] }"#;

/// How long a database lease lives.
pub(crate) const LEASE: (Duration, Duration) =
    (Duration::from_secs(600), Duration::from_secs(3600));

/// A host that is ready, with everything that the conversations are about mirrored.
pub(crate) async fn start() -> Result<Host> {
    let orders = Workload::new("orders", "orders")
        .uid(own_uid())
        .set("auto_token", false)
        .issues("15m", "2h");
    let desk = [("interval", "1s".into()), ("versions", 5.into())];
    let mut host = Plan::new(HOLDOVER)
        .tapped()
        .database(LEASE.0, LEASE.1)
        .mirror("secret/data/desk/*", &desk)
        .mirror("plain/desk/*", &[("interval", "1s".into())])
        .workload(orders)
        .prepare()
        .await?;
    dress(&host.primary).await?;
    host.start().await?;
    Ok(host)
}

/// Puts on what [`world`] has not: secrets in every condition, a KV v1 mount, logins, policies.
pub(crate) async fn dress(primary: &Primary) -> Result<()> {
    let root = primary.root();
    world::policy(&root, "orders", &format!("{ORDERS_POLICY}{MORE}")).await?;
    world::policy(&root, "narrow", NARROW).await?;
    let narrow = TokenRole {
        name: "narrow",
        policies: &["narrow"],
        explicit_max_ttl: None,
    };
    world::token_role(&root, &narrow).await?;
    versions(&root).await?;
    plain(&root).await?;
    logins(&root).await
}

/// Takes away what a conversation before wrote.
pub(crate) async fn reset(primary: &Primary) -> Result<()> {
    let gone = primary
        .root()
        .delete("secret/metadata/elsewhere/written")
        .await?;
    gone.ok().map(drop)
}

async fn versions(root: &Api) -> Result<()> {
    let odd = json!({ "data": {
        "html": "<b>&amp;</b>", "text": "line\nline\t\"quoted\" \u{2028} über 😀", "number": 1.0, "large": 12345678901234567890_u64,
        "small": 1e-7, "nested": { "z": [1, null, true, {}], "a": [] }, "empty": "",
    }});
    let text = |text: &str| json!({ "data": { "password": text } });
    for (name, value) in [
        ("one", text("the first")),
        ("odd", odd),
        ("twice", text("the first")),
        ("twice", text("the second")),
        ("deleted", text("gone")),
        ("destroyed", text("gone for good")),
        ("destroyed", text("gone for good, too")),
        ("folder/inner", text("within")),
        ("private/one", text("nobody's")),
        ("a b+c", text("a name with a space")),
    ] {
        let path = format!("secret/data/desk/{}", name.replace(' ', "%20"));
        root.write(&path, &value).await?;
    }
    let custom = json!({ "custom_metadata": { "owner": "the desk", "a": "<1>" } });
    root.write("secret/metadata/desk/twice", &custom).await?;
    root.delete("secret/data/desk/deleted").await?.ok()?;
    let all = json!({ "versions": [1, 2] });
    root.write("secret/destroy/desk/destroyed", &all).await?;
    Ok(())
}

async fn plain(root: &Api) -> Result<()> {
    root.write("sys/mounts/plain", &json!({ "type": "kv" }))
        .await?;
    for (name, value) in [
        (
            "one",
            json!({ "color": "blue", "number": 12345678901234567890_u64 }),
        ),
        ("bounded", json!({ "color": "red", "ttl": "30m" })),
        ("folder/inner", json!({ "color": "green" })),
    ] {
        root.write(&format!("plain/desk/{name}"), &value).await?;
    }
    Ok(())
}

async fn logins(root: &Api) -> Result<()> {
    for (mount, kind) in [("approle", "approle"), ("userpass", "userpass")] {
        let path = format!("sys/mounts/auth/{mount}");
        if root.get(&path).await?.status != 200 {
            let path = format!("sys/auth/{mount}");
            root.write(&path, &json!({ "type": kind })).await?;
        }
    }
    let role = json!({ "token_policies": ["orders"], "token_ttl": "10m", "token_max_ttl": "1h" });
    root.write("auth/approle/role/clerk", &role).await?;
    let user =
        json!({ "password": "not-a-secret", "token_policies": ["orders"], "token_ttl": "10m" });
    root.write("auth/userpass/users/clerk", &user).await?;
    Ok(())
}

/// Waits until Holdover knows every one of these accessors.
pub(crate) async fn until_known(host: &Host, accessors: &[&str]) -> Result<()> {
    let bound = Duration::from_secs(20);
    let listing = harness::client::raw::Ask::get("/v1/grants");
    let waited = eventually(bound, "tokens to be learned", async || {
        let grants = host.daemon.admin(&listing).await;
        let text = grants
            .map(|reply| reply.text())
            .map_err(|f| f.to_string())?;
        match accessors.iter().find(|accessor| !text.contains(**accessor)) {
            Some(missing) => Err(format!("no {missing} in {text}")),
            None => Ok(()),
        }
    });
    waited.await.map_err(|failure| host.daemon.failure(failure))
}

/// Waits until Holdover could answer AppRole logins by this many secret ids.
pub(crate) async fn until_logins_are_known(host: &Host, count: usize) -> Result<()> {
    let what = format!("{count} secret ids to be proven");
    let bound = Duration::from_secs(20);
    let known = |status: &Value| {
        let roles = status["approle"].as_array().into_iter().flatten();
        roles
            .filter_map(|role| role["secret_ids"].as_u64())
            .sum::<u64>()
    };
    let wanted = u64::try_from(count)?;
    let waited = host
        .daemon
        .wait_for(&what, bound, |status| known(status) >= wanted);
    waited.await.map(drop)
}

/// A field of a JSON body as text.
pub(crate) fn text(body: &Value, pointer: &str) -> Result<String> {
    let found = body.pointer(pointer).and_then(Value::as_str);
    found
        .map(str::to_owned)
        .ok_or_else(|| Failure::new(format!("no text at {pointer} of {body}")))
}
