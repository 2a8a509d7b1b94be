//! AppRoles that clients log in to, through one Holdover or several.

use std::time::Duration;

use harness::bao::api::Api;
use harness::client::raw::{Ask, Reply};
use harness::daemon::Daemon;
use harness::{Result, eventually};
use serde_json::{Value, json};

const BOUND: Duration = Duration::from_secs(60);

/// A role with one secret id.
pub(crate) struct AppRole {
    name: String,
    pub(crate) role_id: String,
    pub(crate) secret_id: String,
}

impl AppRole {
    /// Makes the role with these fields.
    pub(crate) async fn make(root: &Api, name: &str, fields: &Value) -> Result<AppRole> {
        let path = format!("auth/approle/role/{name}");
        root.write(&path, fields).await?;
        let role_id = root.get(&format!("{path}/role-id")).await?;
        let secret_id = root.post(&format!("{path}/secret-id"), &json!({})).await?;
        Ok(AppRole {
            name: name.to_owned(),
            role_id: role_id.text("/data/role_id")?,
            secret_id: secret_id.text("/data/secret_id")?,
        })
    }

    /// Its login.
    pub(crate) fn login(&self) -> Ask {
        let body = json!({ "role_id": self.role_id, "secret_id": self.secret_id });
        Ask::post("/v1/auth/approle/login", &body)
    }

    /// Its path at the primary.
    pub(crate) fn path(&self) -> String {
        format!("auth/approle/role/{}", self.name)
    }

    /// Logs in while the primary is in charge, and waits until an outage could go by that; gives the answer.
    pub(crate) async fn proven_at(&self, daemon: &Daemon) -> Result<Reply> {
        let reply = daemon.client().within(BOUND).send(&self.login()).await?;
        let outcome = (reply.status, reply.source());
        assert_eq!(outcome, (200, Some("primary")), "{}", reply.text());
        self.until_proven(daemon).await?;
        Ok(reply)
    }

    /// Waits until an outage could go by a login that was seen.
    pub(crate) async fn until_proven(&self, daemon: &Daemon) -> Result<()> {
        let what = format!("the secret id of {} to be proven", self.name);
        let proven = |status: &Value| {
            let roles = status["approle"].as_array().into_iter().flatten();
            let mut own = roles.filter(|role| role["role"] == self.path());
            own.any(|role| role["secret_ids"] == 1)
        };
        let waited = eventually(BOUND, &what, async || match daemon.status().await {
            Ok(status) if proven(&status) => Ok(()),
            Ok(status) => Err(status["approle"].to_string()),
            Err(failure) => Err(failure.to_string()),
        });
        waited.await.map_err(|failure| daemon.failure(failure))
    }
}
