//! What becomes of a grant that outlives the outage.

use std::time::Duration;

use harness::daemon::config::Workload;
use harness::host::{Host, Login, Plan, own_uid};
use harness::{Result, eventually};
use serde_json::{Value, json};

use crate::HOLDOVER;
use crate::end::probe;

/// A host where our own user matches three entries that settle differently, after an outage in which each issued.
struct Settled {
    host: Host,
    exchange: Login,
    drain: Login,
    revoke: Login,
}

impl Settled {
    async fn after_an_outage() -> Result<Settled> {
        let plan =
            ["exchange", "drain", "revoke"]
                .into_iter()
                .fold(Plan::new(HOLDOVER), |plan, way| {
                    plan.workload(
                        Workload::new(way, "orders")
                            .uid(own_uid())
                            .issues("10m", "1h")
                            .set("failover.on_recovery", way),
                    )
                });
        let host = plan.start().await?;
        host.cut().await?;
        let (exchange, drain) = (host.login("exchange").await?, host.login("drain").await?);
        let revoke = host.login("revoke").await?;
        for login in [&exchange, &drain, &revoke] {
            assert_eq!(probe(&host, login).await?.source(), Some("replica"));
        }
        host.restore().await?;
        Ok(Settled {
            host,
            exchange,
            drain,
            revoke,
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_grant_is_settled_as_its_entry_says() -> Result<()> {
    let settled = Settled::after_an_outage().await?;
    let Settled {
        host,
        exchange,
        drain,
        revoke,
    } = &settled;
    exchanged(host, exchange).await?;
    drained(host, drain).await?;
    revoked(host, revoke).await
}

/// The same string, now a token of the primary's with exactly the same policies and no longer life.
async fn exchanged(host: &Host, login: &Login) -> Result<()> {
    let (path, _) = host.secret("orders")?;
    let read = host.read_of_primary(path, &login.token).await?;
    assert_eq!(read.status, 200, "{}", read.text());
    let looked = host.read("auth/token/lookup-self", &login.token).await?;
    assert_eq!((looked.status, looked.source()), (200, Some("primary")));
    let shown = looked.json()?["data"].take();
    assert_eq!(shown["id"], login.token.as_str(), "not the client's string");
    assert_eq!(shown["policies"], json!(login.policies));
    let body = json!({ "accessor": shown["accessor"] });
    let root = host.primary.root();
    let at_primary = root.post("auth/token/lookup-accessor", &body).await?;
    let at_primary = at_primary.data()?;
    assert_eq!(at_primary["policies"], json!(login.policies));
    assert_eq!(at_primary["renewable"], false);
    let (left, most) = (
        number(&at_primary["ttl"]),
        number(&at_primary["explicit_max_ttl"]),
    );
    assert!(
        (1..=600).contains(&left) && (1..=600).contains(&most),
        "{at_primary}"
    );
    let renewed = host
        .write("auth/token/renew-self", &login.token, &json!({}))
        .await?;
    assert_eq!(renewed.status, 400, "{}", renewed.text());
    // What the client revokes is revoked at the primary too.
    let gone = host
        .write("auth/token/revoke-self", &login.token, &json!({}))
        .await?;
    assert_eq!(gone.status, 204, "{}", gone.text());
    assert_eq!(probe(host, login).await?.status, 403);
    let bound = Duration::from_secs(5);
    eventually(bound, "the end of the primary's token", async || {
        let body = json!({ "accessor": shown["accessor"] });
        match root.post("auth/token/lookup-accessor", &body).await {
            Ok(answer) if answer.status >= 400 => Ok(()),
            Ok(answer) => Err(answer.body.to_string()),
            Err(failure) => Err(failure.to_string()),
        }
    })
    .await
}

/// Mirrored reads and what goes with them, and nothing else.
async fn drained(host: &Host, login: &Login) -> Result<()> {
    let read = probe(host, login).await?;
    assert_eq!((read.status, read.source()), (200, Some("replica")));
    let (foreign, _) = host.secret("billing")?;
    assert_eq!(host.read(foreign, &login.token).await?.status, 403);
    let renewal = host
        .write("auth/token/renew-self", &login.token, &json!({}))
        .await?;
    let remains = renewal.text().contains("what is shown is what remains");
    assert!(renewal.status == 200 && remains, "{}", renewal.text());
    let child = host
        .write("auth/token/create/orders", &login.token, &json!({}))
        .await?;
    let unmirrored = host.read("secret/data/elsewhere", &login.token).await?;
    for refused in [child, unmirrored] {
        assert_eq!(refused.status, 403, "{}", refused.text());
        assert!(
            refused.text().to_lowercase().contains("log in again"),
            "{}",
            refused.text()
        );
    }
    assert_eq!(probe(host, login).await?.status, 200);
    Ok(())
}

/// Nothing at all, and a new login helps.
async fn revoked(host: &Host, login: &Login) -> Result<()> {
    let read = probe(host, login).await?;
    assert_eq!((read.status, read.source()), (403, Some("replica")));
    let again = host.login("revoke").await?;
    assert_eq!(again.source, "primary");
    assert_eq!(probe(host, &again).await?.status, 200);
    Ok(())
}

/// Rights that went away at the primary while nobody could look are gone from what is exchanged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_lost_its_policy_in_the_outage_carries_nothing_over() -> Result<()> {
    let entry = Workload::new("orders", "orders").uid(own_uid());
    let plan = Plan::new(HOLDOVER).workload(entry.issues("10m", "1h"));
    let host = plan.start().await?;
    host.cut().await?;
    let login = host.login("orders").await?;
    assert_eq!(probe(&host, &login).await?.status, 200);
    // The primary comes back for its operators first: Holdover stands still.
    host.daemon.stop()?;
    host.primary.start_again().await?;
    let body = json!({ "allowed_policies": ["billing"] });
    let root = host.primary.root();
    root.write("auth/token/roles/orders", &body).await?;
    host.daemon.cont()?;
    host.daemon
        .wait_state("following", harness::host::RECOVERY)
        .await?;
    let refused = probe(&host, &login).await?;
    assert_eq!(refused.status, 403, "{}", refused.text());
    Ok(())
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}
