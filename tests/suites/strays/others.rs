//! Everybody else: another workload of another user, its logins and its reads.

use std::path::Path;
use std::time::Duration;

use harness::client::raw::{Ask, Reply};
use harness::client::visitor::Visitor;
use harness::daemon::config::Workload;
use harness::host::{Host, login_request, own_uid};
use harness::{Result, place, world};
use serde_json::json;

const VISITOR: &str = env!("CARGO_BIN_EXE_holdover-test-client");

const BOUND: Duration = Duration::from_secs(20);

/// Another user where we may choose.
fn user() -> (u32, u32) {
    let own_gid = rustix::process::getegid().as_raw();
    match place::is_root() {
        true => (4411, 4411),
        false => (own_uid(), own_gid),
    }
}

pub(crate) struct Others {
    visitor: Visitor,
    /// By a role of the orders team.
    by_approle: Ask,
    /// Made at the primary, known here.
    token: String,
    path: String,
}

impl Others {
    pub(crate) fn workload() -> Workload {
        let orders = Workload::new("orders", "orders").uid(user().0);
        orders.issues("15m", "2h")
    }

    /// Has each of them be known.
    pub(crate) async fn meet(host: &Host) -> Result<Others> {
        let (uid, gid) = user();
        let root = host.primary.root();
        let role = "auth/approle/role/ci";
        let fields = json!({ "token_policies": ["orders"], "token_ttl": "10m" });
        root.write(role, &fields).await?;
        let role_id = root.get(&format!("{role}/role-id")).await?;
        let secret_id = root.post(&format!("{role}/secret-id"), &json!({})).await?;
        let body = json!({
            "role_id": role_id.text("/data/role_id")?,
            "secret_id": secret_id.text("/data/secret_id")?,
        });
        let (path, _) = host.secret("orders")?;
        let others = Others {
            visitor: Visitor::new(Path::new(VISITOR), uid, gid)?,
            by_approle: Ask::post("/v1/auth/approle/login", &body),
            token: world::token(&root, "orders").await?,
            path: path.to_owned(),
        };
        others.are_served(host, "primary").await?;
        host.until_learned(&others.token).await?;
        others.until_proven(host).await?;
        Ok(others)
    }

    async fn until_proven(&self, host: &Host) -> Result<()> {
        let known = |status: &serde_json::Value| status["approle"][0]["secret_ids"] == 1;
        let waited = host
            .daemon
            .wait_for("the secret id to be verified", BOUND, known);
        waited.await.map(drop)
    }

    async fn ask(&self, host: &Host, ask: &Ask) -> Result<Reply> {
        let socket = host.daemon.socket();
        let asked = self.visitor.send(&socket, ask, BOUND);
        asked.await.map_err(|failure| host.daemon.failure(failure))
    }

    /// Each logs in and reads as ever, answered by `source`.
    pub(crate) async fn are_served(&self, host: &Host, source: &str) -> Result<()> {
        let read = Ask::get(&format!("/v1/{}", self.path));
        let mut tokens = vec![self.token.clone()];
        for login in [&login_request("orders"), &self.by_approle] {
            let reply = self.ask(host, login).await?;
            let by = (reply.status, reply.source());
            let whose = &login.target;
            assert_eq!(by, (200, Some(source)), "{whose}: {}", reply.text());
            tokens.push(reply.json_text("/auth/client_token")?);
        }
        for token in &tokens {
            let reply = self.ask(host, &read.clone().token(token)?).await?;
            let by = (reply.status, reply.source());
            assert_eq!(by, (200, Some(source)), "{}", reply.text());
        }
        Ok(())
    }
}
