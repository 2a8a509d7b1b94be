//! What a workload does all day, with the clients that it has.

use std::collections::BTreeMap;

use harness::client::cli::User;
use harness::host::Host;
use harness::{Context, Result};
use serde_json::Value;

/// The clients.
pub(crate) struct Visitor {
    user: User,
}

/// What they were answered.
pub(crate) struct Seen {
    /// By command: what must be the same with and without a primary.
    pub(crate) secrets: BTreeMap<String, String>,
    /// Name and password of a login at the database.
    pub(crate) login: (String, String),
}

impl Visitor {
    /// At the workload socket of a host, without a token: the workload's own stands in.
    pub(crate) fn at(host: &Host) -> Result<Visitor> {
        let user = User::ourselves()?.at_socket(&host.daemon.socket());
        Ok(Visitor { user })
    }

    /// Every command once.
    pub(crate) async fn calls(&self) -> Result<Seen> {
        let mut secrets = BTreeMap::new();
        for command in [
            "kv get -field=password secret/shop/orders/item-0000",
            "kv get -field=password secret/shop/orders/item-0001",
            "kv get -field=password secret/shop/shared",
            "kv list -format=json secret/shop/orders",
            "token lookup -format=json",
        ] {
            let args: Vec<&str> = command.split(' ').collect();
            let said = self.user.bao(&args).await?.success().context(command)?;
            let said = match command.starts_with("token") {
                true => policies(&said)?,
                false => said,
            };
            secrets.insert(command.to_owned(), said);
        }
        let said = self.user.python(HVAC).await?.success().context("hvac")?;
        secrets.insert("hvac".to_owned(), said);
        let command = ["read", "-format=json", "database/creds/orders"];
        let lease = self
            .user
            .bao(&command)
            .await?
            .success()
            .context("a lease")?;
        let lease: Value = serde_json::from_str(&lease)?;
        let text = |name: &str| lease["data"][name].as_str().map(str::to_owned);
        let login = text("username").zip(text("password"));
        let login = login.context(&lease)?;
        Ok(Seen { secrets, login })
    }
}

const HVAC: &str = "
vault = client()
secret = vault.secrets.kv.v2.read_secret_version('shop/orders/item-0002', raise_on_deleted_version=True)
print(json.dumps(secret['data']['data'], sort_keys=True))
";

fn policies(said: &str) -> Result<String> {
    let token: Value = serde_json::from_str(said)?;
    Ok(token["data"]["policies"].to_string())
}
