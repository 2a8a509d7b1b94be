//! AppRoles of the orders workload.

use harness::client::raw::Ask;
use harness::host::Login;
use harness::{Result, eventually};
use serde_json::{Value, json};

use crate::rig::{SOON, Stage};

/// A role with one secret id and the entity of its logins.
pub(crate) struct Role {
    path: String,
    login: Ask,
    secret_id: String,
    entity: String,
}

impl Role {
    /// Makes one with these policies, logs in with it while the primary is in charge, and waits until an outage could go
    /// by that.
    pub(crate) async fn proven(stage: &Stage, name: &str, policies: &[&str]) -> Result<Role> {
        let root = stage.host.primary.root();
        let path = format!("auth/approle/role/{name}");
        let fields = json!({ "token_policies": policies, "token_ttl": "10m" });
        root.write(&path, &fields).await?;
        let role_id = root.get(&format!("{path}/role-id")).await?;
        let role_id = role_id.text("/data/role_id")?;
        let secret_id = root.post(&format!("{path}/secret-id"), &json!({})).await?;
        let secret_id = secret_id.text("/data/secret_id")?;
        let body = json!({ "role_id": role_id, "secret_id": secret_id });
        let login = Ask::post("/v1/auth/approle/login", &body);
        let reply = stage.host.ask(&login).await?;
        let outcome = (reply.status, reply.source());
        assert_eq!(outcome, (200, Some("primary")), "{}", stage.told(&reply));
        let entity = reply.json_text("/auth/entity_id")?;
        let role = Role {
            path,
            login,
            secret_id,
            entity,
        };
        role.until_known(stage).await?;
        Ok(role)
    }

    async fn until_known(&self, stage: &Stage) -> Result<()> {
        let knows = |status: &Value| {
            let roles = status["approle"].as_array();
            let mut roles = roles.into_iter().flatten();
            roles.any(|role| role["role"] == self.path.as_str() && role["secret_ids"] == 1)
        };
        let daemon = &stage.host.daemon;
        daemon.wait_for("the role to be known", SOON, knows).await?;
        // Its entity is read in a later cycle.
        eventually(SOON, "the entity", async || {
            let asked = stage.gate.asked();
            let is_of = |target: &str| target.contains(&self.entity);
            match asked
                .iter()
                .any(|one| is_of(&one.target) && one.status == Some(200))
            {
                true => Ok(()),
                false => Err("not asked for"),
            }
        })
        .await
    }

    /// A login that the replica answers.
    pub(crate) async fn issued(&self, stage: &Stage) -> Result<Login> {
        let asked = harness::clock::instant();
        let reply = stage.host.ask(&self.login).await?;
        assert_eq!(reply.source(), Some("replica"), "{}", stage.told(&reply));
        Login::of(&reply, asked)
    }

    /// Destroys its secret id.
    pub(crate) async fn destroy_secret_id(&self, stage: &Stage) -> Result<()> {
        let path = format!("{}/secret-id/destroy", self.path);
        let body = json!({ "secret_id": self.secret_id });
        stage
            .host
            .primary
            .root()
            .write(&path, &body)
            .await
            .map(drop)
    }

    /// Disables the entity of its logins.
    pub(crate) async fn disable_entity(&self, stage: &Stage) -> Result<()> {
        let path = format!("identity/entity/id/{}", self.entity);
        let body = json!({ "disabled": true });
        stage
            .host
            .primary
            .root()
            .write(&path, &body)
            .await
            .map(drop)
    }
}
