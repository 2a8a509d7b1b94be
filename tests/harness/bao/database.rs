//! The primary's database engine on a real PostgreSQL.

use std::time::Duration;

use serde_json::json;

use super::Primary;
use crate::failure::Result;
use crate::postgres::Postgres;

/// A role of the database engine.
pub struct DatabaseRole<'a> {
    /// Its name: credentials are read at `database/creds/NAME`.
    pub name: &'a str,
    /// How long a lease lives without renewal; whole seconds.
    pub default_ttl: Duration,
    /// How long renewals can carry a lease; whole seconds.
    pub max_ttl: Duration,
}

impl Primary {
    /// Mounts `database/` (once), connected to `postgres`, and writes `role`.
    pub async fn enable_database(
        &self,
        postgres: &Postgres,
        role: &DatabaseRole<'_>,
    ) -> Result<()> {
        let root = self.root();
        if root.get("sys/mounts/database").await?.status != 200 {
            root.write("sys/mounts/database", &json!({ "type": "database" }))
                .await?;
            let connection = json!({
                "plugin_name": "postgresql-database-plugin",
                "allowed_roles": "*",
                "connection_url": format!(
                    "postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable",
                    postgres.port()
                ),
                "username": "postgres",
                "password": postgres.password(),
            });
            root.write("database/config/postgres", &connection).await?;
        }
        let body = json!({
            "db_name": "postgres",
            "default_ttl": role.default_ttl.as_secs(),
            "max_ttl": role.max_ttl.as_secs(),
            "creation_statements": ["CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';"],
        });
        root.write(&format!("database/roles/{}", role.name), &body)
            .await?;
        Ok(())
    }
}
