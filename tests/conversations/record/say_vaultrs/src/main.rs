//! What a workload does with vaultrs. Run by the recorder: see ../../README.md.
//!
//! `ADDRESS` is the recording wire; `TOKEN_*` and the like are of the recording's cast. A refusal is an answer like any
//! other, so results are dropped.

use serde_json::{Value, json};
use vaultrs::api::kv2::requests::SetSecretRequestOptions;
use vaultrs::api::token::requests::{
    CreateOrphanTokenRequest, CreateRoleTokenRequest, CreateTokenRequest,
};
use vaultrs::auth::{approle, userpass};
use vaultrs::client::{VaultClient, VaultClientSettingsBuilder};
use vaultrs::{database, kv1, kv2, sys, token};

fn cast(name: &str) -> String {
    std::env::var(name).expect(name)
}

fn client(token: &str) -> VaultClient {
    let settings = VaultClientSettingsBuilder::default()
        .address(cast("ADDRESS"))
        .token(token)
        .build()
        .expect("settings");
    VaultClient::new(settings).expect("client")
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("vaultrs 0.7.4");
    nobody(&client("")).await;
    let app = client(&cast("TOKEN_APP"));
    secrets(&app).await;
    leases(&app).await;
    tokens(&app).await;
    logins(&app).await;
    system(&app).await;
    writes(&app).await;
    drop(app);
    for name in ["TOKEN_NARROW", "TOKEN_DEAD", "TOKEN_UNKNOWN"] {
        let other = client(&cast(name));
        let _ = kv2::read::<Value>(&other, "secret", "desk/one").await;
        let _ = kv2::list(&other, "secret", "desk").await;
        let _ = token::lookup_self(&other).await;
    }
    let leaver = client(&cast("TOKEN_LEAVER"));
    let _ = token::revoke_self(&leaver).await;
    let _ = token::lookup_self(&leaver).await;
}

async fn nobody(client: &VaultClient) {
    let _ = sys::health(client).await;
    let _ = sys::status(client).await;
    let _ = kv2::read::<Value>(client, "secret", "desk/one").await;
    let _ = token::lookup_self(client).await;
}

async fn secrets(app: &VaultClient) {
    for name in [
        "one", "odd", "twice", "deleted", "destroyed", "absent", "folder/inner", "private/one",
    ] {
        let _ = kv2::read::<Value>(app, "secret", &format!("desk/{name}")).await;
        let _ = kv2::read_metadata(app, "secret", &format!("desk/{name}")).await;
    }
    for version in [1, 2, 9] {
        let _ = kv2::read_version::<Value>(app, "secret", "desk/twice", version).await;
    }
    for folder in ["desk", "desk/folder", "desk/absent", "desk/private"] {
        let _ = kv2::list(app, "secret", folder).await;
    }
    for name in ["one", "absent"] {
        let _ = kv1::get::<Value>(app, "plain", &format!("desk/{name}")).await;
        let _ = kv1::get_raw(app, "plain", &format!("desk/{name}")).await;
    }
    let _ = kv1::list(app, "plain", "desk").await;
    let _ = kv1::list(app, "plain", "desk/absent").await;
}

async fn leases(app: &VaultClient) {
    let _ = database::role::creds(app, "database", "orders").await;
    let _ = database::role::creds(app, "database", "no-such-role").await;
}

async fn tokens(app: &VaultClient) {
    let _ = token::lookup_self(app).await;
    for name in ["TOKEN_NARROW", "TOKEN_DEAD", "TOKEN_UNKNOWN"] {
        let _ = token::lookup(app, &cast(name)).await;
    }
    for name in ["ACCESSOR_NARROW", "ACCESSOR_DEAD"] {
        let _ = token::lookup_accessor(app, &cast(name)).await;
    }
    let _ = token::renew_self(app, None).await;
    let _ = token::renew_self(app, Some("1h")).await;
    let _ = token::lookup_self(app).await;
    let mut wanted = CreateTokenRequest::builder();
    let wanted = wanted.ttl("10m").policies(vec!["default".into()]);
    let child = token::new(app, Some(wanted)).await;
    let child = child.map_or_else(|_| cast("TOKEN_UNKNOWN"), |auth| auth.client_token);
    let _ = token::lookup(app, &child).await;
    let _ = token::renew(app, &child, Some("10m")).await;
    let _ = token::revoke(app, &child).await;
    let _ = token::lookup(app, &child).await;
    let mut wanted = CreateOrphanTokenRequest::builder();
    let _ = token::new_orphan(app, Some(wanted.ttl("10m"))).await;
    let mut wanted = CreateRoleTokenRequest::builder();
    let _ = token::new_role(app, "orders", Some(wanted.ttl("10m"))).await;
    let _ = token::renew_accessor(app, &cast("ACCESSOR_NARROW"), None).await;
    let _ = token::revoke(app, &cast("TOKEN_FALLEN")).await;
    let _ = token::revoke_accessor(app, &cast("ACCESSOR_DROPPED")).await;
}

async fn logins(app: &VaultClient) {
    let (role, secret) = (cast("APPROLE_ROLE_ID"), cast("APPROLE_SECRET_ID"));
    let _ = approle::login(app, "approle", &role, &secret).await;
    let _ = approle::login(app, "approle", &role, "wrong").await;
    let _ = userpass::login(app, "userpass", "clerk", "not-a-secret").await;
}

async fn system(app: &VaultClient) {
    let _ = sys::mount::list(app).await;
    let _ = sys::policy::list(app).await;
    let _ = kv1::get::<Value>(app, "no-such-mount", "x").await;
}

async fn writes(app: &VaultClient) {
    let value = json!({ "color": "blue" });
    let _ = kv2::set(app, "secret", "elsewhere/written", &value).await;
    let _ = kv2::set_with_options(
        app,
        "secret",
        "elsewhere/written",
        &value,
        SetSecretRequestOptions { cas: 0 },
    )
    .await;
    let _ = kv2::delete_latest(app, "secret", "elsewhere/written").await;
    let _ = kv2::undelete_versions(app, "secret", "elsewhere/written", vec![1]).await;
    let _ = kv2::destroy_versions(app, "secret", "elsewhere/written", vec![1]).await;
    let _ = kv2::delete_metadata(app, "secret", "elsewhere/written").await;
    let _ = kv2::set(app, "secret", "desk/one", &value).await;
}
