//! The `bao` command line.

use harness::client::cli::User;
use harness::{Context, Failure, Result};
use serde_json::Value;

use crate::Client;
use crate::seen::Seen;

/// The `bao` command line.
pub(crate) struct Bao;

impl Client for Bao {
    async fn calls(&self, user: &User, billing: &str) -> Result<Seen> {
        let secret = json(user, &["kv", "get"], "secret/shop/orders/item-0000").await?;
        let keys = json(user, &["kv", "list"], "secret/shop/orders").await?;
        let lease = json(user, &["read"], "database/creds/orders").await?;
        let token = json(user, &["token", "lookup"], "").await?;
        let capabilities = json(
            user,
            &["token", "capabilities"],
            "secret/data/shop/orders/item-0000",
        )
        .await?;
        let foreign = json(user, &["token", "capabilities"], billing).await?;
        Ok(Seen {
            password: text(&secret, "/data/data/password")?,
            warnings: list(&secret["warnings"])?,
            keys: list(&keys)?,
            username: text(&lease, "/data/username")?,
            database_password: text(&lease, "/data/password")?,
            lease_id: text(&lease, "/lease_id")?,
            lease_duration: number(&lease, "/lease_duration")?,
            id: text(&token, "/data/id")?,
            policies: list(&token["data"]["policies"])?,
            ttl: number(&token, "/data/ttl")?,
            renewed: renewed(user).await?,
            capabilities: list(&capabilities)?,
            foreign: list(&foreign)?,
        })
    }
}

/// The TTL after `token renew`; none if it was refused because the token is not renewable.
async fn renewed(user: &User) -> Result<Option<u64>> {
    let said = user.bao(&["token", "renew", "-format=json"]).await?;
    if said.code == Some(2) && said.stderr.contains("Code: 400") {
        assert!(said.stderr.contains("not renewable"), "{}", said.stderr);
        return Ok(None);
    }
    let body: Value = serde_json::from_str(&said.success().context("token renew")?)?;
    number(&body, "/auth/lease_duration").map(Some)
}

/// Runs `bao COMMAND -format=json [PATH]` to its success.
async fn json(user: &User, command: &[&str], path: &str) -> Result<Value> {
    let path = (!path.is_empty()).then_some(path);
    let args: Vec<&str> = command
        .iter()
        .copied()
        .chain(["-format=json"])
        .chain(path)
        .collect();
    let doing = || format!("bao {}", args.join(" "));
    let said = user.bao(&args).await?.success().context(doing())?;
    serde_json::from_str(&said).context(format!("{}: {said}", doing()))
}

fn text(body: &Value, pointer: &str) -> Result<String> {
    let text = body.pointer(pointer).and_then(Value::as_str);
    text.map(str::to_owned)
        .context(format!("no text at {pointer} of {body}"))
}

fn number(body: &Value, pointer: &str) -> Result<u64> {
    let number = body.pointer(pointer).and_then(Value::as_u64);
    number.context(format!("no number at {pointer} of {body}"))
}

/// A list of texts; null is an empty one.
fn list(body: &Value) -> Result<Vec<String>> {
    match body {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).context(body))
            .collect(),
        other => Err(Failure::new(format!("no list: {other}"))),
    }
}
