//! Life without the primary.

use std::time::Duration;

use harness::clock::{self, Stopwatch};
use harness::host::{Host, Login};
use harness::{Failure, Result, eventually};
use serde_json::{Value, json};

use crate::before::{SHORT, Usual, database, kv_get};
use crate::figures;
use crate::strike::answers;
use crate::teller::Teller;

/// Logins that are measured.
const LOGINS: usize = 100;
const BOUND: Duration = Duration::from_secs(15);

/// Reads, logins, leases, refusals and a deadline. Gives a login that is to outlive the outage.
pub(crate) async fn while_it_is_away(
    teller: &mut Teller,
    host: &Host,
    usual: &Usual,
) -> Result<Login> {
    teller.chapter("While it is away");
    teller
        .promise("reads come from the encrypted replica", async {
            let lasting = Duration::from_secs(3);
            Ok((
                (),
                figures::burst(usual.load(host), "replica", lasting).await?,
            ))
        })
        .await?;
    let login = teller
        .promise("workloads log in, and each grant is durable", logins(host))
        .await?;
    teller
        .promise("bao works on and knows nothing of it", async {
            Ok(((), kv_get(host, &login).await?))
        })
        .await?;
    teller
        .promise(
            "a mirrored lease opens the database",
            database(host, &login, "replica"),
        )
        .await?;
    let (foreign, _) = host.secret("billing")?;
    let write = json!({ "data": { "password": "lost" } });
    let refused = [
        (
            "another team's secret stays shut",
            403,
            host.read(foreign, &login.token).await?,
        ),
        (
            "a write is refused, not lost",
            503,
            host.write("secret/data/shop/new", &login.token, &write)
                .await?,
        ),
    ];
    for (promise, status, reply) in refused {
        let said = figures::text(&reply.json()?, "/errors/0");
        let line: String = said
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .chars()
            .take(42)
            .collect();
        teller
            .promise(promise, async move {
                match reply.status == status {
                    true => Ok(((), format!("{status} · {line}"))),
                    false => Err(Failure::new(format!("{} {said}", reply.status))),
                }
            })
            .await?;
    }
    teller
        .promise("a grant past its policy TTL is refused", deadline(host))
        .await?;
    Ok(login)
}

/// `kill -9` of Holdover too, and what is left of the outage when it is back.
pub(crate) async fn holdover_dies_too(
    teller: &mut Teller,
    host: &Host,
    usual: &Usual,
) -> Result<()> {
    let before = host.daemon.status().await?;
    teller
        .promise("kill -9 of Holdover too: reads wait for the next", async {
            host.daemon.kill9()?;
            let mut plan = usual.load(host);
            (plan.per_second, plan.limit) = (100, BOUND);
            let load = plan.start()?;
            host.daemon.start()?;
            answers(&load, "replica", 100).await?;
            let report = load.stop().await?;
            report.flawless()?;
            let status = host.daemon.wait_state("holdover", BOUND).await?;
            same(&before, &status)?;
            let first = report.by_source.get("replica").map(|answers| answers.first);
            let first = figures::span(first.unwrap_or_default());
            Ok((
                (),
                format!("{first} later it serves them, in the same outage"),
            ))
        })
        .await
}

/// Logs in many times, four at once; gives the last.
async fn logins(host: &Host) -> Result<(Login, String)> {
    let watch = Stopwatch::start();
    let mut took = Vec::new();
    let mut last = None;
    for _ in 0..LOGINS / 4 {
        let four = tokio::try_join!(
            host.login("orders"),
            host.login("orders"),
            host.login("orders"),
            host.login("orders")
        )?;
        for login in <[Login; 4]>::from(four) {
            if login.source != "replica" || !login.token.starts_with("ho.") {
                return Err(Failure::new("a login did not come from the replica"));
            }
            took.push(login.answered.duration_since(login.asked));
            last = Some(login);
        }
    }
    took.sort_unstable();
    let p99 = took.get(LOGINS * 99 / 100).copied().unwrap_or_default();
    let login = last.ok_or_else(|| Failure::new("no login"))?;
    let rate = figures::rate(LOGINS, watch.elapsed());
    Ok((
        login,
        format!("{LOGINS} logins · {rate}/s · p99 {}", figures::span(p99)),
    ))
}

/// Reads with a grant until it is refused, which must be at its deadline, and never again good.
async fn deadline(host: &Host) -> Result<((), String)> {
    let login = host.login("night-job").await?;
    let (path, _) = host.secret("orders")?;
    let mut good = Duration::ZERO;
    let refused = eventually(SHORT + BOUND, "the refusal", async || {
        let sent = clock::instant().duration_since(login.answered);
        let reply = host.read(path, &login.token).await?;
        match reply.status {
            403 => return Ok(clock::instant().duration_since(login.asked)),
            200 if sent <= SHORT => good = sent,
            _ => return Ok(Duration::ZERO),
        }
        Err(Failure::new("good"))
    })
    .await?;
    // The stricter of two clocks wins, and neither is ours: a few milliseconds early is on time.
    if refused + Duration::from_millis(10) < SHORT || good.is_zero() {
        return Err(Failure::new(format!(
            "good at {good:?}, refused at {refused:?} of {SHORT:?}"
        )));
    }
    let [good, refused, ttl] = [good, refused, SHORT].map(|t| format!("{:.2} s", t.as_secs_f64()));
    Ok((
        (),
        format!("TTL {ttl} · good at {good}, refused at {refused}"),
    ))
}

fn same(before: &Value, after: &Value) -> Result<()> {
    let same = |pointer| figures::at(before, pointer) == figures::at(after, pointer);
    match same("/outage/id") && same("/outage/started_at") {
        true => Ok(()),
        false => Err(Failure::new(format!("{before} became {after}"))),
    }
}
