//! Who appears in a conversation: tokens and credentials, made anew for each replay, for most do not outlive it.

use harness::bao::Primary;
use harness::bao::api::Api;
use harness::clock::Stopwatch;
use harness::host::Host;
use harness::{Context, Result};
use serde_json::json;

use crate::names::Names;
use crate::stage::{self, text};

/// Tokens: name, token role, TTL. `app` does everything that a workload does; the others have things done to them.
const TOKENS: [(&str, &str, &str); 7] = [
    ("app", "orders", "1h"),
    ("narrow", "narrow", "2h"),
    ("leaver", "orders", "3h"),
    ("fallen", "orders", "4h"),
    ("dropped", "orders", "5h"),
    ("counted", "orders", "6h"),
    ("dead", "orders", "7h"),
];

/// Those that Holdover knows in an outage, and lives by. `counted` has a limited number of uses.
const KNOWN: [&str; 5] = ["app", "narrow", "leaver", "fallen", "dropped"];

/// The cast of one replay.
pub(crate) struct Cast {
    /// What each one is called.
    pub(crate) names: Names,
    /// Since they were made.
    pub(crate) since: Stopwatch,
}

impl Cast {
    /// A cast that the primary knows. `dead` is dead.
    pub(crate) async fn make(primary: &Primary) -> Result<Cast> {
        let since = Stopwatch::start();
        let names = living(primary).await?;
        let dead = names.value("token.dead").context("dead")?;
        let bye = json!({ "token": dead });
        primary.root().write("auth/token/revoke", &bye).await?;
        Ok(Cast { names, since })
    }

    /// A cast that Holdover knows too, as it would know the tokens and logins of workloads that went through it.
    pub(crate) async fn known_to_holdover(host: &Host) -> Result<Cast> {
        let since = Stopwatch::start();
        let names = living(&host.primary).await?;
        let value = |name: &str| names.value(name).context(name);
        let mut accessors = Vec::new();
        for name in KNOWN.into_iter().chain(["counted", "dead"]) {
            let token = value(&format!("token.{name}"))?;
            let seen = host.read("auth/token/lookup-self", token).await?;
            assert_eq!(seen.status, 200, "{name}: {}", seen.text());
            accessors.push(value(&format!("accessor.{name}"))?);
        }
        stage::until_known(host, &accessors).await?;
        let app = value("token.app")?;
        let lease = host.read("database/creds/orders", app).await?;
        assert_eq!(lease.status, 200, "{}", lease.text());
        let login = json!({
            "role_id": value("approle.role_id")?,
            "secret_id": value("approle.secret_id")?,
        });
        let login = host.write("auth/approle/login", "", &login).await?;
        assert_eq!(login.status, 200, "{}", login.text());
        let dead = value("token.dead")?;
        let bye = host
            .write("auth/token/revoke-self", dead, &json!({}))
            .await?;
        assert_eq!(bye.status, 204, "{}", bye.text());
        Ok(Cast { names, since })
    }
}

/// Everybody, alive, with a name for all that a look-up shows of them alone.
async fn living(primary: &Primary) -> Result<Names> {
    let root = primary.root();
    let mut names = Names::default();
    for (name, role, ttl) in TOKENS {
        let mut body = json!({ "ttl": ttl, "meta": { "shift": "early" } });
        if name == "counted" {
            body["num_uses"] = 50.into();
        }
        let path = format!("auth/token/create/{role}");
        let token = root.write(&path, &body).await?;
        names.give(
            &format!("token.{name}"),
            &text(&token, "/auth/client_token")?,
        );
        names.give(
            &format!("accessor.{name}"),
            &text(&token, "/auth/accessor")?,
        );
        looks(&root, &mut names, name).await?;
    }
    names.give(
        "token.unknown",
        &format!("s.{}", "ThisWasNeverIssuedToAny1"),
    );
    let role_id = root.get("auth/approle/role/clerk/role-id").await?;
    names.give("approle.role_id", &role_id.text("/data/role_id")?);
    let path = "auth/approle/role/clerk/secret-id";
    let secret_id = root.write(path, &json!({})).await?;
    names.give("approle.secret_id", &text(&secret_id, "/data/secret_id")?);
    Ok(names)
}

/// What the primary says of a token once it has been renewed: the replica has to say the same.
async fn looks(root: &Api, names: &mut Names, name: &str) -> Result<()> {
    let token = names
        .value(&format!("token.{name}"))
        .context(name)?
        .to_owned();
    root.write("auth/token/renew", &json!({ "token": token }))
        .await?;
    let shown = root
        .write("auth/token/lookup", &json!({ "token": token }))
        .await?;
    for moment in ["issue_time", "expire_time", "last_renewal"] {
        let value = text(&shown, &format!("/data/{moment}"))?;
        names.give(&format!("{moment}.{name}"), &value);
    }
    Ok(())
}
