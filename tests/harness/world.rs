//! What stands at the primary when a story begins: a shop's secrets, the teams' policies and roles, and the login that
//! Holdover has there.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::bao::Primary;
use crate::bao::api::Api;
use crate::canary::Canaries;
use crate::daemon::Daemon;
use crate::failure::{Context, Result};
use crate::random;

/// Policy of the orders team: by exact path, by prefix and by segment.
pub const ORDERS_POLICY: &str = r#"
path "secret/data/shop/orders/*"     { capabilities = ["read"] }
path "secret/metadata/shop/orders/*" { capabilities = ["read", "list"] }
path "secret/metadata/shop/orders"   { capabilities = ["list"] }
path "secret/data/shop/+/public"     { capabilities = ["read"] }
path "secret/data/shop/shared"       { capabilities = ["read"] }
path "database/creds/orders"         { capabilities = ["read"] }
path "auth/token/create/orders"      { capabilities = ["update"] }
"#;

/// Policy of the billing team, who must never see what only orders may.
pub const BILLING_POLICY: &str = r#"
path "secret/data/shop/billing/*" { capabilities = ["read"] }
path "secret/data/shop/+/public"  { capabilities = ["read"] }
path "secret/data/shop/shared"    { capabilities = ["read"] }
path "secret/data/shop/orders/*"  { capabilities = ["deny"] }
"#;

/// A token role, as a workload entry needs one: orphan, of type default-service, renewable.
pub struct TokenRole<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its `allowed_policies`.
    pub policies: &'a [&'a str],
    /// Its `token_explicit_max_ttl`; none leaves the limit to the mount.
    pub explicit_max_ttl: Option<Duration>,
}

/// One secret that was planted at the primary.
#[derive(Clone, Debug)]
pub struct Secret {
    /// Its API path without `/v1/`: `secret/data/shop/…`.
    pub path: String,
    /// The answer's `data` at the time of planting: value and metadata.
    pub data: Value,
}

/// A shop at the primary.
pub struct World {
    /// All secrets under `secret/data/shop/`.
    pub secrets: Vec<Secret>,
    /// Every planted value, to be searched for where none may be.
    pub canaries: Canaries,
}

impl World {
    /// Mounts KV v2 at `secret/`, plants `count` secrets for each of the two teams and the shared ones, and writes the
    /// policies and token roles `orders` and `billing`.
    pub async fn seed(primary: &Primary, count: usize) -> Result<World> {
        World::seed_by(&primary.root(), count).await
    }

    /// The same by a client with the root token: of a cluster's active node, as what is written is read at once.
    pub async fn seed_by(root: &Api, count: usize) -> Result<World> {
        root.write(
            "sys/mounts/secret",
            &json!({ "type": "kv", "options": { "version": "2" } }),
        )
        .await?;
        wait_for_kv(root).await?;
        let mut names: Vec<String> = vec![
            "shared".into(),
            "orders/public".into(),
            "billing/public".into(),
        ];
        for team in ["orders", "billing"] {
            names.extend((0..count).map(|nr| format!("{team}/item-{nr:04}")));
        }
        let mut canaries = Canaries::default();
        let secrets = plant(root, &names, &mut canaries).await?;
        policy(root, "orders", ORDERS_POLICY).await?;
        policy(root, "billing", BILLING_POLICY).await?;
        for name in ["orders", "billing"] {
            token_role(
                root,
                &TokenRole {
                    name,
                    policies: &[name],
                    explicit_max_ttl: None,
                },
            )
            .await?;
        }
        Ok(World { secrets, canaries })
    }

    /// The secrets of a folder: `orders`, `billing`.
    pub fn below(&self, folder: &str) -> impl Iterator<Item = &Secret> {
        let prefix = format!("secret/data/shop/{folder}/");
        self.secrets
            .iter()
            .filter(move |secret| secret.path.starts_with(&prefix))
    }
}

/// Writes a policy.
pub async fn policy(root: &Api, name: &str, text: &str) -> Result<()> {
    root.write(
        &format!("sys/policies/acl/{name}"),
        &json!({ "policy": text }),
    )
    .await
    .map(drop)
}

/// Writes a token role.
pub async fn token_role(root: &Api, role: &TokenRole<'_>) -> Result<()> {
    let mut body = json!({
        "orphan": true,
        "renewable": true,
        "token_type": "default-service",
        "allowed_policies": role.policies,
    });
    if let Some(limit) = role.explicit_max_ttl {
        body["token_explicit_max_ttl"] = limit.as_secs().into();
    }
    root.write(&format!("auth/token/roles/{}", role.name), &body)
        .await
        .map(drop)
}

/// Makes the AppRole `holdover` with exactly this policy, which is what `holdover config policy` printed, and puts its
/// role id and secret id into files of the daemon's host: (role_id_file, secret_id_file).
pub async fn holdover_login(
    primary: &Primary,
    policy_text: &str,
    daemon: &Daemon,
) -> Result<(PathBuf, PathBuf)> {
    holdover_login_by(&primary.root(), policy_text, daemon).await
}

/// [`holdover_login`] by a client with the root token: of a cluster's active node, as what is written is read at once.
pub async fn holdover_login_by(
    root: &Api,
    policy_text: &str,
    daemon: &Daemon,
) -> Result<(PathBuf, PathBuf)> {
    policy(root, "holdover", policy_text).await?;
    if root.get("sys/mounts/auth/approle").await?.status != 200 {
        root.write("sys/auth/approle", &json!({ "type": "approle" }))
            .await?;
    }
    // Periodic, as the manual recommends: Holdover's own token has no end that it must work around.
    // Without `default`: it has the rights of this policy and no others.
    let body = json!({
        "token_policies": ["holdover"],
        "token_no_default_policy": true,
        "token_period": "1h",
    });
    root.write("auth/approle/role/holdover", &body).await?;
    let role_id = root
        .get("auth/approle/role/holdover/role-id")
        .await?
        .text("/data/role_id")?;
    let secret_id = root
        .post("auth/approle/role/holdover/secret-id", &json!({}))
        .await?;
    let role_id = daemon.write_secret("etc/role_id", &role_id)?;
    let secret_id = daemon.write_secret("etc/secret_id", &secret_id.text("/data/secret_id")?)?;
    Ok((role_id, secret_id))
}

/// A token from a token role.
pub async fn token(root: &Api, role: &str) -> Result<String> {
    let path = format!("auth/token/create/{role}");
    root.post(&path, &json!({}))
        .await?
        .text("/auth/client_token")
        .context(path)
}

/// A fresh KV v2 mount answers 400 for a moment, while it sets itself up.
async fn wait_for_kv(root: &Api) -> Result<()> {
    crate::eventually(Duration::from_secs(10), "the KV mount", async || match root
        .get("secret/config")
        .await
    {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(format!("{}: {}", answer.status, answer.body)),
        Err(failure) => Err(failure.to_string()),
    })
    .await
}

async fn plant(root: &Api, names: &[String], canaries: &mut Canaries) -> Result<Vec<Secret>> {
    let mut writers = JoinSet::new();
    let lanes = 8;
    for lane in 0..lanes {
        let mut work = Vec::new();
        for name in names.iter().skip(lane).step_by(lanes) {
            let value = format!("canary-{}-{}", name.replace('/', "-"), random::hex::<12>()?);
            canaries.plant(name, value.as_bytes())?;
            work.push((format!("secret/data/shop/{name}"), value));
        }
        let root = root.clone();
        writers.spawn(async move { write_all(&root, work).await });
    }
    let mut secrets = Vec::new();
    while let Some(done) = writers.join_next().await {
        secrets.extend(done??);
    }
    secrets.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(secrets)
}

async fn write_all(root: &Api, work: Vec<(String, String)>) -> Result<Vec<Secret>> {
    let mut secrets = Vec::new();
    for (path, value) in work {
        let body = json!({ "data": { "user": "shop", "password": value } });
        root.write(&path, &body).await?;
        let data = root.get(&path).await?.data()?;
        secrets.push(Secret { path, data });
    }
    Ok(secrets)
}
