//! What stands against issuing on a host outlives every further start, until what lifts it is seen.
//!
//! The machine reboots for Holdover and its clients alone: another file stands in the place of the kernel's boot id.

use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::apart::Apart;
use harness::bao::Primary;
use harness::client::raw::Reply;
use harness::client::visitor::Visitor;
use harness::clock;
use harness::daemon::config::Workload;
use harness::host::{Host, Login, Plan, RECOVERY, login_request};
use harness::{Result, eventually};
use serde_json::json;

use crate::{CLIENT, HOLDOVER};

const DAY: i64 = 86_400;
const BOUND: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_reboot_in_an_outage_no_start_issues_until_the_primary_is_seen() -> Result<()> {
    let machine = Machine::start(plan()).await?;
    let host = &machine.host;
    host.cut().await?;
    let before = Login::of(&machine.login().await?, clock::instant())?;
    machine.reboot().await?;
    for _ in 0..2 {
        machine.refuses("the machine was rebooted").await?;
        assert_eq!(machine.reads(&before).await?.status, 200);
        machine.restart().await?;
    }
    machine.allow(true)?;
    eventually(BOUND, "issuing by the configuration", async || {
        issued(&machine.login().await?)
    })
    .await?;
    machine.allow(false)?;
    machine.refuses("the machine was rebooted").await?;
    host.restore().await?;
    host.cut().await?;
    issued(&machine.login().await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_booted_behind_ends_grants_and_issuing_though_it_is_set_right_before_the_next_start()
-> Result<()> {
    let machine =
        Machine::start(plan().set("failover.issue_after_reboot", true).fake_clock()).await?;
    let host = &machine.host;
    host.cut().await?;
    let before = Login::of(&machine.login().await?, clock::instant())?;
    host.daemon.kill9()?;
    host.daemon.shift_clock(-DAY)?;
    machine.reboot().await?;
    machine.refuses("booted with its clock behind").await?;
    assert_eq!(machine.reads(&before).await?.status, 403);
    host.daemon.kill9()?;
    host.daemon.shift_clock(0)?;
    machine.restart().await?;
    machine.refuses("booted with its clock behind").await?;
    assert_eq!(machine.reads(&before).await?.status, 403);
    host.restore().await?;
    host.daemon
        .wait_for("a clock that is confirmed", RECOVERY, |status| {
            !status["reasons"].to_string().contains("its clock behind")
        })
        .await?;
    host.cut().await?;
    issued(&machine.login().await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_stays_behind_issues_again_once_the_primary_is_seen() -> Result<()> {
    let machine = Machine::start(plan().fake_clock()).await?;
    let host = &machine.host;
    host.cut().await?;
    issued(&machine.login().await?)?;
    host.daemon.kill9()?;
    // Further than clocks may be apart to agree.
    host.daemon.shift_clock(-DAY / 4)?;
    machine.reboot().await?;
    machine.refuses("booted with its clock behind").await?;
    host.restore().await?;
    host.daemon
        .wait_for("nothing that blocks issuing", RECOVERY, |status| {
            !status["reasons"].to_string().contains("booted")
        })
        .await?;
    host.cut().await?;
    let issued = machine.login().await?;
    let login = Login::of(&issued, clock::instant())?;
    assert_eq!(machine.reads(&login).await?.status, 200);
    Ok(())
}

/// The first probe that asks finds the token of before refused: the next one is a minute away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reboot_is_over_once_the_primary_accepts_a_login_though_the_token_of_before_is_dead()
-> Result<()> {
    let machine = Machine::start(plan()).await?;
    let host = &machine.host;
    host.daemon.kill9()?;
    assert!(revoke_own(&host.primary).await? > 0);
    std::fs::write(&machine.boot_id, fresh_boot_id()?)?;
    host.daemon.start()?;
    host.daemon
        .wait_for("a login that counts", BOUND, |status| {
            let reasons = status["reasons"].to_string();
            status["state"] == "following" && !reasons.contains("was rebooted")
        })
        .await
        .map(drop)
}

/// Revokes what Holdover logged in for: how many tokens.
async fn revoke_own(primary: &Primary) -> Result<usize> {
    let root = primary.root();
    let listed = root.list("auth/token/accessors").await?.data()?;
    let mut revoked = 0;
    for accessor in listed["keys"].as_array().into_iter().flatten() {
        let body = json!({ "accessor": accessor });
        let shown = root.post("auth/token/lookup-accessor", &body).await?;
        let policies = shown.body["data"]["policies"].as_array();
        if policies.is_some_and(|all| all.iter().any(|policy| policy == "holdover")) {
            let revoke = "auth/token/revoke-accessor";
            root.post(revoke, &body).await?.ok()?;
            revoked += 1;
        }
    }
    Ok(revoked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_stepped_forward_ends_nothing_over_a_reboot_and_issues_nothing_until_it_is_confirmed()
-> Result<()> {
    const AHEAD: &str = "its clock was ahead";
    let machine =
        Machine::start(plan().set("failover.issue_after_reboot", true).fake_clock()).await?;
    let host = &machine.host;
    host.cut().await?;
    let before = Login::of(&machine.login().await?, clock::instant())?;
    // Past the end of the grant, and not of the outage.
    host.daemon.shift_clock(DAY / 4)?;
    let told =
        |status: &serde_json::Value| status["reasons"].to_string().contains("stepped forward");
    host.daemon.wait_for("a step", BOUND, told).await?;
    assert_eq!(machine.reads(&before).await?.status, 403);
    machine.stored().await?;
    for _ in 0..2 {
        machine.reboot().await?;
        machine.refuses(AHEAD).await?;
        assert_eq!(machine.reads(&before).await?.status, 403);
    }
    host.daemon.kill9()?;
    host.daemon.shift_clock(0)?;
    machine.restart().await?;
    assert_eq!(
        machine.reads(&before).await?.status,
        200,
        "it was destroyed"
    );
    machine.refuses(AHEAD).await?;
    host.restore().await?;
    host.daemon
        .wait_for("a clock that is confirmed", RECOVERY, |status| {
            !status["reasons"].to_string().contains(AHEAD)
        })
        .await?;
    host.cut().await?;
    issued(&machine.login().await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_stepped_past_the_bound_of_an_outage_ends_neither_it_nor_a_grant() -> Result<()>
{
    const OVER: &str = "outlived its bounds";
    let machine = Machine::start(plan().fake_clock()).await?;
    let host = &machine.host;
    host.cut().await?;
    let before = Login::of(&machine.login().await?, clock::instant())?;
    host.daemon.shift_clock(DAY)?;
    machine.stored().await?;
    for _ in 0..20 {
        let status = host.daemon.status().await?;
        let told = status["reasons"].to_string();
        assert!(told.contains("stepped forward"), "{status}");
        assert_eq!(status["state"], "holdover", "{status}");
        let refused = machine.login().await?;
        assert_eq!(refused.status, 503, "{}", refused.text());
        assert!(refused.text().contains(OVER), "{}", refused.text());
        assert_eq!(machine.reads(&before).await?.status, 403);
    }
    host.daemon.shift_clock(0)?;
    issued(&machine.login().await?)?;
    let read = machine.reads(&before).await?;
    assert_eq!(read.status, 200, "it was destroyed: {}", read.text());
    Ok(())
}

fn plan() -> Plan {
    // Where it runs, we are root.
    let orders = Workload::new("orders", "orders").uid(0).issues("1h", "2h");
    Plan::new(HOLDOVER).workload(orders).as_ourselves()
}

/// A host that can be rebooted, and a process of the workload on it.
struct Machine {
    host: Host,
    client: Visitor,
    boot_id: PathBuf,
    _apart: Apart,
}

impl Machine {
    async fn start(plan: Plan) -> Result<Machine> {
        let apart = Apart::make().await?;
        let mut host = plan.prepare().await?;
        host.daemon.run_within(&apart)?;
        let boot_id = host.daemon.folder().join("boot_id");
        std::fs::write(&boot_id, fresh_boot_id()?)?;
        apart
            .bind(&boot_id, "/proc/sys/kernel/random/boot_id")
            .await?;
        host.start().await?;
        let client = Visitor::within(Path::new(CLIENT), &apart)?;
        Ok(Machine {
            host,
            client,
            boot_id,
            _apart: apart,
        })
    }

    /// Holdover is killed with everything else, and started on another boot.
    async fn reboot(&self) -> Result<()> {
        std::fs::write(&self.boot_id, fresh_boot_id()?)?;
        self.restart().await
    }

    async fn restart(&self) -> Result<()> {
        self.host.daemon.kill9()?;
        self.host.daemon.start()?;
        self.host
            .daemon
            .wait_state("holdover", BOUND)
            .await
            .map(drop)
    }

    /// Waits until what is known by now is on disk: the mark of time, which is looked at every second, is among so many commits.
    async fn stored(&self) -> Result<()> {
        let log = self.host.daemon.folder().join("state/replica.db-wal");
        for _ in 0..5 {
            let before = std::fs::metadata(&log)?.modified()?;
            eventually(BOUND, "a commit", async || {
                let is_later = std::fs::metadata(&log)?.modified()? > before;
                is_later.then_some(()).ok_or(std::io::Error::other("none"))
            })
            .await?;
        }
        Ok(())
    }

    /// Sets `issue_after_reboot` while Holdover runs.
    fn allow(&self, issue: bool) -> Result<()> {
        self.host
            .reconfigure(|config| config.set("failover.issue_after_reboot", issue))
    }

    async fn login(&self) -> Result<Reply> {
        let socket = self.host.daemon.socket();
        self.client
            .send(&socket, &login_request("orders"), BOUND)
            .await
    }

    /// Logins are refused for this reason, which status tells too.
    async fn refuses(&self, why: &str) -> Result<()> {
        eventually(BOUND, why, async || {
            let (said, status) = (self.login().await?, self.host.daemon.status().await?);
            let told = (said.text(), status["reasons"].to_string());
            let is_so = said.status == 503 && told.0.contains(why) && told.1.contains(why);
            is_so
                .then_some(())
                .ok_or(harness::Failure::new(format!("{} {told:?}", said.status)))
        })
        .await
    }

    async fn reads(&self, login: &Login) -> Result<Reply> {
        let (path, _) = self.host.secret("orders")?;
        let ask = harness::client::raw::Ask::get(&format!("/v1/{path}")).token(&login.token)?;
        let socket = self.host.daemon.socket();
        self.client.send(&socket, &ask, BOUND).await
    }
}

/// Issued by the replica.
fn issued(reply: &Reply) -> Result<()> {
    match (reply.status, reply.source()) {
        (200, Some("replica")) => Ok(()),
        (status, source) => Err(harness::Failure::new(format!(
            "{status} by {source:?}: {}",
            reply.text()
        ))),
    }
}

fn fresh_boot_id() -> Result<String> {
    let digits = harness::random::hex::<16>()?;
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
    Ok(format!("{}\n", parts.join("-")))
}
