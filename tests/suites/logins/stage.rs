//! AppRoles at the primary, and what Holdover knows of them.

use harness::bao::Primary;
use harness::client::raw::{Ask, Reply};
use harness::host::Host;
use harness::{Context, Result, eventually};
use serde_json::{Value, json};

use crate::BOUND;

/// A role with one secret id.
pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) role_id: String,
    pub(crate) secret_id: String,
}

impl Role {
    /// Makes the role with these fields, and a secret id of it with those.
    pub(crate) async fn make(
        primary: &Primary,
        name: &str,
        fields: Value,
        secret_id: Value,
    ) -> Result<Role> {
        let root = primary.root();
        let path = format!("auth/approle/role/{name}");
        root.write(&path, &fields).await?;
        let role_id = root.get(&format!("{path}/role-id")).await?;
        let secret_id = root.post(&format!("{path}/secret-id"), &secret_id).await?;
        Ok(Role {
            name: name.to_owned(),
            role_id: role_id.text("/data/role_id")?,
            secret_id: secret_id.text("/data/secret_id")?,
        })
    }

    /// A role of the orders team.
    pub(crate) async fn of_orders(primary: &Primary, name: &str) -> Result<Role> {
        let fields = json!({ "token_policies": ["orders"], "token_ttl": "10m" });
        Role::make(primary, name, fields, json!({})).await
    }

    /// Its login.
    pub(crate) fn login(&self) -> Ask {
        login(&self.role_id, &self.secret_id)
    }

    /// Its login with another secret id.
    pub(crate) fn login_with(&self, secret_id: &str) -> Ask {
        login(&self.role_id, secret_id)
    }

    /// Its path at the primary.
    pub(crate) fn path(&self) -> String {
        format!("auth/approle/role/{}", self.name)
    }

    /// Destroys its secret id.
    pub(crate) async fn destroy_secret_id(&self, primary: &Primary) -> Result<()> {
        let path = format!("{}/secret-id/destroy", self.path());
        let body = json!({ "secret_id": self.secret_id });
        primary.root().write(&path, &body).await.map(drop)
    }

    /// Logs in while the primary is in charge; gives its answer.
    pub(crate) async fn used_at(&self, host: &Host) -> Result<Reply> {
        let reply = host.ask(&self.login()).await?;
        let outcome = (reply.status, reply.source());
        assert_eq!(
            outcome,
            (200, Some("primary")),
            "{}: {}",
            self.name,
            reply.text()
        );
        Ok(reply)
    }

    /// Logs in while the primary is in charge, and waits until an outage could go by that.
    pub(crate) async fn proven_at(&self, host: &Host) -> Result<Reply> {
        let reply = self.used_at(host).await?;
        self.until(host, |shown| shown["secret_ids"] == 1).await?;
        Ok(reply)
    }

    /// Waits until Holdover's status shows this of the role; null where it knows no such role.
    pub(crate) async fn until(&self, host: &Host, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        let what = format!("what is known of {}", self.name);
        let waited = eventually(BOUND, &what, async || {
            let status = host.daemon.status().await.map_err(|f| f.to_string())?;
            match wanted(&shown(&status, &self.path())) {
                true => Ok(()),
                false => Err(status["approle"].to_string()),
            }
        });
        waited.await.map_err(|failure| host.daemon.failure(failure))
    }
}

fn shown(status: &Value, path: &str) -> Value {
    let roles = status["approle"].as_array();
    let mut roles = roles.into_iter().flatten();
    roles
        .find(|role| role["role"] == path)
        .cloned()
        .unwrap_or_default()
}

/// A login by AppRole.
pub(crate) fn login(role_id: &str, secret_id: &str) -> Ask {
    let body = json!({ "role_id": role_id, "secret_id": secret_id });
    Ask::post("/v1/auth/approle/login", &body)
}

/// The two roles by which a test tells that Holdover has read all others since: it reads them in the order of their
/// names, so after the first has changed the rest are read, and once the last has they are stored.
pub(crate) struct Bookends(Role, Role);

impl Bookends {
    pub(crate) async fn proven_at(host: &Host) -> Result<Bookends> {
        let first = Role::of_orders(&host.primary, "0-first").await?;
        let last = Role::of_orders(&host.primary, "z-last").await?;
        first.proven_at(host).await?;
        last.proven_at(host).await?;
        Ok(Bookends(first, last))
    }

    /// Waits until every role was verified after this call.
    pub(crate) async fn verified(self, host: &Host) -> Result<()> {
        for role in [self.0, self.1] {
            role.destroy_secret_id(&host.primary).await?;
            role.until(host, |shown| shown["dead"] == 1 || shown.is_null())
                .await?;
        }
        Ok(())
    }
}

/// The only error of an answer.
pub(crate) fn error(reply: &Reply) -> Result<String> {
    let body = reply.json()?;
    let errors = body["errors"].as_array().context(reply.text())?;
    assert_eq!(errors.len(), 1, "{}", reply.text());
    Ok(errors[0].as_str().unwrap_or_default().to_owned())
}

/// The token of a login that succeeded, answered by this side.
pub(crate) fn token(reply: &Reply, source: &str) -> Result<String> {
    let outcome = (reply.status, reply.source());
    assert_eq!(outcome, (200, Some(source)), "{}", reply.text());
    reply.json_text("/auth/client_token")
}
