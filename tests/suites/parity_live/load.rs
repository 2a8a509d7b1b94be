//! A load of every kind that a workload sends: reads, lists and refusals, look-ups and renewals, logins, writes that
//! change what is read, and what the replica never serves.

use std::sync::Arc;
use std::time::Duration;

use harness::client::raw::{Ask, Client, Connection};
use harness::clock::Stopwatch;
use harness::host::{Host, Servers, login_request};
use harness::{Result, world};
use serde_json::json;
use tokio::task::JoinSet;

/// Clients that ask at the same time.
const CLIENTS: usize = 4;

/// Requests of each client, however slow the machine is.
const LEAST: usize = 1000;

/// What differs from client to client.
struct Part {
    client: Client,
    tokens: Vec<String>,
    accessors: Vec<String>,
    number: usize,
    lasts: Duration,
}

/// Of two of the tokens; it denies a path that another policy allows.
pub(crate) const MIXED: &str = r#"
    path "secret/data/shop/+/item-*" { capabilities = ["read", "update"] }
    path "secret/data/shop/orders/item-0003" { capabilities = ["deny"] }
    path "secret/metadata/shop/*" { capabilities = ["read", "list"] }
    path "auth/token/lookup-accessor" { capabilities = ["update"] }
    path "auth/token/create" { capabilities = ["update"] }
"#;

/// Asks for at least `lasts`; the number of requests.
pub(crate) async fn busy<P: Servers>(host: &Host<P>, lasts: Duration) -> Result<usize> {
    let root = host.primary.root_api().await?;
    world::policy(&root, "mixed", MIXED).await?;
    let (mut tokens, mut accessors) = (Vec::new(), Vec::new());
    for policies in [
        &["orders"][..],
        &["billing"],
        &["mixed"],
        &["orders", "mixed"],
        &[],
    ] {
        let body = json!({ "policies": policies, "ttl": "1h" });
        let made = root.post("auth/token/create", &body).await?.ok()?;
        let of = |name: &str| made["auth"][name].as_str().map(str::to_owned);
        tokens.extend(of("client_token"));
        accessors.extend(of("accessor"));
    }
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let part = Part {
            client: host.daemon.client().within(Duration::from_secs(15)),
            tokens: tokens.clone(),
            accessors: accessors.clone(),
            number,
            lasts,
        };
        clients.spawn(Arc::new(part).run());
    }
    let mut asked = 0;
    for done in clients.join_all().await {
        asked += done?;
    }
    Ok(asked)
}

impl Part {
    async fn run(self: Arc<Part>) -> Result<usize> {
        let watch = Stopwatch::start();
        let mut connection: Connection = self.client.connect().await?;
        let mut asked = 0;
        let mut round = self.number;
        while watch.elapsed() < self.lasts || asked < LEAST {
            for ask in self.round(round)? {
                connection.send(&ask).await?;
                asked += 1;
            }
            round += 1;
        }
        Ok(asked)
    }

    fn round(&self, round: usize) -> Result<Vec<Ask>> {
        let token = self.tokens[round % self.tokens.len()].as_str();
        let accessor = &self.accessors[(round / 3) % self.accessors.len()];
        let item = format!("item-{:04}", round % 22);
        let team = ["orders", "billing"][round % 2];
        let mut asks = Vec::new();
        for path in [
            format!("secret/data/shop/{team}/{item}"),
            format!("secret/data/shop/{team}/{item}?version=1"),
            format!("secret/metadata/shop/{team}/{item}"),
            format!("secret/metadata/shop/{team}?list=true"),
            "secret/data/shop/shared".to_owned(),
            "secret/data/shop/orders/public".to_owned(),
            format!("sys/internal/ui/mounts/secret/data/shop/{item}"),
            "sys/internal/ui/mounts".to_owned(),
            "auth/token/lookup-self".to_owned(),
            format!("secret/data/elsewhere/{item}"),
            "sys/health".to_owned(),
        ] {
            asks.push(Ask::get(&format!("/v1/{path}")).token(token)?);
        }
        asks.push(Ask::new("LIST", &format!("/v1/secret/metadata/shop/{team}"))?.token(token)?);
        let paths = json!({ "paths": [format!("secret/data/shop/{team}/{item}"), "sys/mounts"] });
        asks.push(Ask::post("/v1/sys/capabilities-self", &paths).token(token)?);
        let named = json!({ "accessor": accessor });
        asks.push(Ask::post("/v1/auth/token/lookup-accessor", &named).token(token)?);
        asks.push(Ask::get("/v1/secret/data/shop/shared").token("s.unknown")?);
        asks.push(Ask::get("/v1/secret/data/shop/shared"));
        if round.is_multiple_of(7) {
            // Each client writes to keys of its own, and reads what it has written at once.
            let path = format!("/v1/secret/data/shop/{team}/item-{:04}", 10 + self.number);
            let value = json!({ "data": { "round": round } });
            asks.push(Ask::post(&path, &value).token(token)?);
            asks.push(Ask::get(&path).token(token)?);
            asks.push(Ask::post("/v1/auth/token/renew-self", &json!({})).token(token)?);
            asks.push(login_request("orders"));
        }
        Ok(asks)
    }
}
