//! The host, and a day on which nothing happens.

use std::time::Duration;

use harness::bao::api::Answer;
use harness::client::cli::User;
use harness::daemon::config::Workload;
use harness::host::{Host, Login, Plan, own_uid};
use harness::load;
use harness::{Failure, Result};
use serde_json::Value;

use crate::figures;
use crate::teller::Teller;

/// Secrets of each of two teams.
const SECRETS: usize = 100;
/// The policy TTL of the entry whose grants the story outlives.
pub(crate) const SHORT: Duration = Duration::from_secs(4);

/// The database role's lease.
const LEASE: Duration = Duration::from_secs(86_400);

/// What the workload holds when the primary dies.
pub(crate) struct Usual {
    /// Its token.
    pub(crate) login: Login,
    /// What it reads, and what it must get.
    pub(crate) reads: Vec<(String, Value)>,
}

impl Usual {
    /// What a load on this host reads, with this token.
    pub(crate) fn load(&self, host: &Host) -> load::Plan {
        load::Plan::new(&host.daemon.socket(), &self.login.token, self.reads.clone())
    }
}

/// Servers, secrets, and Holdover with exactly the rights that it asked for.
pub(crate) async fn a_host_with_a_vault(teller: &mut Teller) -> Result<Host> {
    teller.chapter("A host with a vault");
    let mut host = teller
        .promise("OpenBao and PostgreSQL run, a shop is seeded", servers())
        .await?;
    let rules = host.policy.matches("path \"").count();
    teller
        .promise("Holdover gets the rights it asked for, no more", async {
            Ok(((), format!("{rules} rules, from `holdover config policy`")))
        })
        .await?;
    teller
        .promise("it is ready: everything is mirrored", ready(&mut host))
        .await?;
    Ok(host)
}

async fn servers() -> Result<(Host, String)> {
    let host = plan()?.prepare().await?;
    // As systemd would: the socket outlives Holdover.
    host.daemon.activate_by_socket()?;
    let took = figures::span(host.took.servers + host.took.seeding);
    let version = version(&host.primary.root().get("sys/health").await?);
    let secrets = host.world.secrets.len();
    let text = format!("OpenBao {version}, {secrets} secrets, 1 database role · {took}");
    Ok((host, text))
}

async fn ready(host: &mut Host) -> Result<((), String)> {
    host.start().await?;
    let status = host.daemon.status().await?;
    let mirrors = figures::at(&status, "/mirrors").as_array();
    let mirrors = mirrors.into_iter().flatten();
    let held: u64 = mirrors.map(|one| figures::number(one, "/count")).sum();
    let autonomy = figures::number(&status, "/autonomy_seconds");
    let autonomy = figures::span(Duration::from_secs(autonomy));
    let took = figures::span(host.took.ready);
    Ok((
        (),
        format!("{held} values · could go on alone for {autonomy} · {took}"),
    ))
}

/// Logins, reads and a database login, all from the primary; Holdover learns on the way.
pub(crate) async fn business_as_usual(teller: &mut Teller, host: &Host) -> Result<Usual> {
    teller.chapter("Business as usual");
    let login = teller
        .promise("a workload logs in: the kernel vouches for it", async {
            let login = host.login("orders").await?;
            let took = figures::span(login.answered.duration_since(login.asked));
            let policies = login.policies.join(", ");
            Ok((login, format!("policies {policies} · {took}")))
        })
        .await?;
    teller
        .promise("bao, unmodified, reads through the socket", async {
            let read = kv_get(host, &login).await?;
            Ok(((), read))
        })
        .await?;
    teller
        .promise(
            "leased credentials open the database",
            database(host, &login, "primary"),
        )
        .await?;
    let reads = reads(host);
    let usual = Usual { login, reads };
    teller
        .promise("reads go to the primary and back", async {
            let lasting = Duration::from_secs(2);
            Ok((
                (),
                figures::burst(usual.load(host), "primary", lasting).await?,
            ))
        })
        .await?;
    Ok(usual)
}

/// `bao kv get` of one secret with the login's token; it must print the planted value.
pub(crate) async fn kv_get(host: &Host, login: &Login) -> Result<String> {
    let (path, password) = host.secret("orders")?;
    let path = path.replace("/data/", "/");
    let user = User::ourselves()?.at_socket(&host.daemon.socket());
    let user = user.env("BAO_TOKEN", &login.token);
    let watch = harness::clock::Stopwatch::start();
    let said = user.bao(&["kv", "get", "-field=password", &path]).await?;
    let said = said.success()?;
    match said.trim() == password {
        true => Ok(format!(
            "bao kv get {path} · {}",
            figures::span(watch.elapsed())
        )),
        false => Err(Failure::new(format!("{said:?} instead of {password:?}"))),
    }
}

/// Reads leased credentials, which must come from `source`, and logs in with them.
pub(crate) async fn database(host: &Host, login: &Login, source: &str) -> Result<((), String)> {
    let reply = host.read("database/creds/orders", &login.token).await?;
    let (user, password) = (
        reply.json_text("/data/username")?,
        reply.json_text("/data/password")?,
    );
    if reply.source() != Some(source) || !host.postgres()?.can_login(&user, &password).await? {
        return Err(Failure::new(format!(
            "{:?}: {user} cannot log in",
            reply.source()
        )));
    }
    let left = figures::number(&reply.json()?, "/lease_duration");
    let left = figures::span(Duration::from_secs(left));
    Ok((
        (),
        format!(
            "{}… logs in · lease {left}",
            user.get(..14).unwrap_or(&user)
        ),
    ))
}

fn plan() -> Result<Plan> {
    let entry = |name, ttl: Duration, max_ttl| {
        Workload::new(name, "orders")
            .uid(own_uid())
            .issues(&format!("{}s", ttl.as_secs()), max_ttl)
    };
    Ok(Plan::new(std::env::current_exe()?)
        .secrets(SECRETS)
        .database(LEASE, LEASE * 3)
        // Eight clients as fast as they can are more than a user is allowed by default.
        .set("limits.requests_per_second_per_uid", 1_000_000)
        .workload(entry("orders", Duration::from_secs(900), "2h"))
        .workload(entry("night-job", SHORT, "8s")))
}

fn reads(host: &Host) -> Vec<(String, Value)> {
    let own = host.world.below("orders");
    own.map(|secret| (secret.path.clone(), secret.data.clone()))
        .collect()
}

fn version(health: &Answer) -> String {
    figures::text(&health.body, "/version")
}
