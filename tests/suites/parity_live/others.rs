//! What others do while a load goes on: an operator changes policies through Holdover, and at the primary itself values
//! change and tokens end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use harness::bao::api::Api;
use harness::client::raw::{Ask, Client};
use harness::host::{Host, Servers};
use harness::{Context, Result, world};
use serde_json::json;
use tokio::task::JoinHandle;

/// Between two changes.
const PAUSE: Duration = Duration::from_millis(150);

/// A token that lives for a moment reads this, which nobody changes.
const READ: &str = "secret/data/shop/shared";

/// May write policies.
const OPERATOR: &str = r#"path "sys/policies/acl/*" { capabilities = ["create", "update"] }"#;

/// The others. They go on until told to stop.
pub(crate) struct Others {
    stop: Arc<AtomicBool>,
    working: JoinHandle<Result<usize>>,
}

impl Others {
    /// Starts them. `policies` are texts that the policy `name` has in turn.
    pub(crate) async fn start<P: Servers>(
        host: &Host<P>,
        name: &'static str,
        policies: [String; 2],
    ) -> Result<Others> {
        let root = host.primary.root_api().await?;
        world::policy(&root, "operator", OPERATOR).await?;
        let body = json!({ "policies": ["operator"], "ttl": "1h" });
        let made = root.post("auth/token/create", &body).await?;
        let part = Part {
            operator: made.text("/auth/client_token")?,
            client: host.daemon.client().within(Duration::from_secs(15)),
            root,
            name,
            policies,
        };
        let stop: Arc<AtomicBool> = Arc::default();
        let stopping = stop.clone();
        let working = tokio::spawn(async move {
            let mut turn = 0;
            while !stopping.load(Ordering::Acquire) {
                part.change(turn).await?;
                turn += 1;
                tokio::time::sleep(PAUSE).await;
            }
            Ok(turn)
        });
        Ok(Others { stop, working })
    }

    /// Stops them; how often they changed something.
    pub(crate) async fn stop(self) -> Result<usize> {
        self.stop.store(true, Ordering::Release);
        self.working.await.context("the others")?
    }
}

struct Part {
    /// Of the node that leads: past Holdover.
    root: Api,
    client: Client,
    operator: String,
    name: &'static str,
    policies: [String; 2],
}

impl Part {
    async fn change(&self, turn: usize) -> Result<()> {
        let path = format!("secret/data/shop/orders/item-{:04}", turn % 8);
        let value = json!({ "data": { "turn": turn } });
        self.root.write(&path, &value).await?;
        if turn.is_multiple_of(4) {
            let text = &self.policies[(turn / 4) % 2];
            let path = format!("/v1/sys/policies/acl/{}", self.name);
            let ask = Ask::post(&path, &json!({ "policy": text }));
            let written = self.client.send(&ask.token(&self.operator)?).await?;
            assert!(written.status < 300, "{}", written.text());
        }
        if turn.is_multiple_of(3) {
            self.use_and_revoke().await?;
        }
        Ok(())
    }

    /// A token is used through Holdover, ends at the primary, and is used again at once.
    async fn use_and_revoke(&self) -> Result<()> {
        let body = json!({ "policies": ["orders"], "ttl": "1h" });
        let made = self.root.post("auth/token/create", &body).await?;
        let token = made.text("/auth/client_token")?;
        let ask = Ask::get(&format!("/v1/{READ}")).token(&token)?;
        for _ in 0..2 {
            self.client.send(&ask).await?;
        }
        let body = json!({ "token": token });
        self.root.post("auth/token/revoke", &body).await?.ok()?;
        for _ in 0..2 {
            self.client.send(&ask).await?;
        }
        Ok(())
    }
}
