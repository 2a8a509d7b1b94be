//! The primary returns, and Holdover steps aside.

use std::time::Duration;

use harness::clock::Stopwatch;
use harness::host::{Host, Login, RECOVERY};
use harness::{Failure, Result};
use serde_json::json;

use crate::before::{Usual, database, kv_get};
use crate::figures;
use crate::strike::{PER_SECOND, answers};
use crate::teller::Teller;

/// Recovery, what became of the grants, and what the load saw of it all.
pub(crate) async fn the_primary_returns(
    teller: &mut Teller,
    host: &Host,
    usual: &Usual,
    away: &Login,
) -> Result<()> {
    teller.chapter("The primary returns, under load");
    let mut plan = usual.load(host);
    plan.per_second = PER_SECOND;
    let load = plan.start()?;
    answers(&load, "replica", 200).await?;
    teller
        .promise("it is unsealed, and Holdover steps aside", async {
            let grants = figures::number(&host.daemon.status().await?, "/grants/replica");
            host.primary.start_again().await?;
            let watch = Stopwatch::start();
            host.daemon.wait_state("following", RECOVERY).await?;
            let took = figures::span(watch.elapsed());
            answers(&load, "primary", 200).await?;
            Ok((
                (),
                format!("{grants} grants left to be settled at their use · {took}"),
            ))
        })
        .await?;
    teller
        .promise("no read failed", figures::flawless(load))
        .await?;
    teller
        .promise("a token of the outage works on, exchanged", async {
            kv_get(host, away).await?;
            Ok(((), exchanged(host, away).await?))
        })
        .await?;
    teller
        .promise(
            "the token from before works as ever",
            database(host, &usual.login, "primary"),
        )
        .await
}

/// The same string, behind which there is now a token of the primary's with the same policies and what life was left.
async fn exchanged(host: &Host, login: &Login) -> Result<String> {
    let reply = host.read("auth/token/lookup-self", &login.token).await?;
    let shown = reply.json()?;
    let body = json!({ "accessor": figures::at(&shown, "/data/accessor") });
    let root = host.primary.root();
    let held = root
        .post("auth/token/lookup-accessor", &body)
        .await?
        .data()?;
    let left = figures::number(&held, "/ttl");
    let exact = *figures::at(&held, "/policies") == json!(login.policies)
        && *figures::at(&held, "/renewable") == false
        && figures::text(&shown, "/data/id") == login.token;
    match exact && left > 0 && left <= login.ttl.as_secs() {
        true => Ok(format!(
            "same string, same policies, {} left",
            figures::span(Duration::from_secs(left))
        )),
        false => Err(Failure::new(format!("{held} for {:?}", login.policies))),
    }
}
