//! Holdover is killed, or the primary goes again, at every request of an outage's end and around a mint: nothing that was
//! acknowledged is lost, nothing is done twice but what may be, and what was issued comes to what it would have.

use std::sync::atomic::{AtomicUsize, Ordering};

use harness::gate::Act;
use harness::host::{Host, Login, RECOVERY};
use harness::{Context, Result, eventually, together};
use serde_json::{Value, json};

use crate::rig::{SOON, Stage, is_mint, plan};

/// Hosts beside each other.
const HOSTS: usize = 3;

/// Far more requests than an outage's end takes: that many must not be needed.
const MOST: usize = 60;

/// What happens while a request is held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Blow {
    /// `kill -9` of Holdover, which is started again.
    Kill,
    /// The primary is gone again, until the replica is in charge.
    Outage,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holdover_killed_at_any_request_of_an_outages_end_settles_all_the_same() -> Result<()> {
    at_every_request(Blow::Kill).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_at_any_request_of_anothers_end_changes_no_verdict() -> Result<()> {
    at_every_request(Blow::Outage).await
}

/// One outage for each request that the end of one takes, on several hosts.
async fn at_every_request(blow: Blow) -> Result<()> {
    let (next, last) = (AtomicUsize::new(0), AtomicUsize::new(MOST));
    let on_one_host = async || {
        let stage = start().await?;
        loop {
            let nr = next.fetch_add(1, Ordering::SeqCst);
            if nr >= last.load(Ordering::SeqCst) {
                return Ok(());
            }
            let round = Round::begin(&stage).await?;
            let at_end = round.struck(&stage, nr, blow).await;
            let at_end = at_end.context(format!("{blow:?} at request {nr}"))?;
            let judged = round.judged(&stage).await;
            judged.context(format!("{blow:?} at request {nr}"))?;
            if at_end {
                last.fetch_min(nr, Ordering::SeqCst);
            }
        }
    };
    together((0..HOSTS).map(|_| on_one_host())).await?;
    let last = last.into_inner();
    eprintln!("{blow:?} at each of {last} requests");
    assert!((8..MOST).contains(&last), "{last} requests");
    Ok(())
}

async fn start() -> Result<Stage> {
    let quick = plan()
        .set("failover.failures", 2)
        .set("failover.successes", 2)
        // What a pass of the mirrors asks is no step.
        .unmirrored()
        .mirror("secret/data/shop/*", &[("interval", "1h".into())]);
    Stage::start(quick).await
}

/// What one outage left.
struct Round {
    /// Issued in it.
    kept: Login,
    /// Issued in it, and given up in it.
    given_up: Login,
    /// Issued in it, hanging on a token that an operator revoked meanwhile.
    orphaned: Login,
    /// A token of the primary's that gave itself up in it.
    revoked: Login,
    /// How many tokens had been minted before.
    minted: usize,
}

impl Round {
    async fn begin(stage: &Stage) -> Result<Round> {
        let (parent, revoked) = (stage.brought().await?, stage.brought().await?);
        stage.cut().await?;
        let (kept, given_up) = (stage.issued("orders").await?, stage.issued("orders").await?);
        let orphaned = stage.child_of(&parent).await?;
        for one in [&given_up, &revoked] {
            stage.gives_up(&one.token).await?;
        }
        let accessor = json!({ "accessor": parent.accessor });
        let root = stage.host.primary.root();
        root.write("auth/token/revoke-accessor", &accessor).await?;
        Ok(Round {
            kept,
            given_up,
            orphaned,
            revoked,
            minted: stage.mints().len(),
        })
    }

    /// Has the blow fall at request `nr` of the outage's end, probes of health not counted. Whether the outage had ended
    /// before that.
    async fn struck(&self, stage: &Stage, nr: usize, blow: Blow) -> Result<bool> {
        let mut steps = 0;
        stage.gate.rule(move |asked| {
            steps += usize::from(!asked.is_of_health());
            match steps > nr {
                true => Act::Hold,
                false => Act::Pass,
            }
        });
        stage.gate.open();
        stage.gate.until_held(RECOVERY).await?;
        let state = stage.host.daemon.status().await?["state"].take();
        match blow {
            Blow::Kill => {
                stage.host.daemon.kill9()?;
                stage.gate.no_rule();
                stage.gate.discard();
                stage.host.daemon.start()?;
            }
            Blow::Outage => {
                stage.gate.no_rule();
                stage.cut().await?;
                let read = stage.read_own("orders", &self.kept.token).await?;
                let outcome = (read.status, read.source());
                assert_eq!(outcome, (200, Some("replica")), "{}", stage.told(&read));
                stage.gate.open();
            }
        }
        follows(&stage.host).await?;
        Ok(state == "following")
    }

    /// Everything comes to what it would have come to without a blow.
    async fn judged(&self, stage: &Stage) -> Result<()> {
        for one in [&self.given_up, &self.orphaned, &self.revoked] {
            stage.is_refused(&one.token).await?;
        }
        stage.is_whole("orders", &self.kept.token).await?;
        assert_eq!(stage.mints().len(), self.minted + 1, "mints");
        self.told(stage).await
    }

    /// The primary was told of what was acknowledged.
    async fn told(&self, stage: &Stage) -> Result<()> {
        let client = stage.host.primary.api(&self.revoked.token);
        eventually(SOON, "the revocation at the primary", async || match client
            .get("auth/token/lookup-self")
            .await
        {
            Ok(answer) if answer.status == 403 => Ok(()),
            Ok(answer) => Err(answer.body.to_string()),
            Err(failure) => Err(failure.to_string()),
        })
        .await
        .map_err(|failure| stage.host.daemon.failure(failure))
    }
}

/// Follows, and answers: after a start, too.
async fn follows(host: &Host) -> Result<()> {
    let following = |status: &Value| status["state"] == "following" && status["ready"] == true;
    host.daemon
        .wait_for("following", RECOVERY, following)
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holdover_killed_before_a_mint_or_its_commit_mints_anew_and_lengthens_no_life()
-> Result<()> {
    let stage = start().await?;
    for act in [Act::Hold, Act::HoldAnswer] {
        stage.cut().await?;
        let login = stage.issued("orders").await?;
        stage.reopen().await?;
        let before = made(&stage).await?.len();
        let waiting = at_its_mint(&stage, &login, act, async || {
            stage.host.daemon.kill9()?;
            stage.gate.no_rule();
            stage.gate.discard();
            stage.host.daemon.start()?;
            follows(&stage.host).await
        });
        waiting.await.context(format!("{act:?}"))?;
        stage.is_whole("orders", &login.token).await?;
        // The first, where there is one, is nobody's, and ends when the grant would.
        let made = made(&stage).await?;
        let double = usize::from(act == Act::HoldAnswer);
        assert_eq!(made.len(), before + 1 + double, "{act:?}: {made:?}");
        for ttl in made {
            assert!(ttl <= login.ttl.as_secs(), "{ttl}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_at_a_mint_leaves_the_grant_as_it_was() -> Result<()> {
    let stage = start().await?;
    for act in [Act::Hold, Act::HoldAnswer] {
        stage.cut().await?;
        let login = stage.issued("orders").await?;
        stage.reopen().await?;
        let before = made(&stage).await?.len();
        let waiting = at_its_mint(&stage, &login, act, async || {
            stage.gate.no_rule();
            stage.cut().await?;
            let read = stage.read_own("orders", &login.token).await?;
            let outcome = (read.status, read.source());
            assert_eq!(outcome, (200, Some("replica")), "{}", stage.told(&read));
            Ok(())
        });
        waiting.await.context(format!("{act:?}"))?;
        stage.reopen().await?;
        stage.is_whole("orders", &login.token).await?;
        let made = made(&stage).await?;
        let double = usize::from(act == Act::HoldAnswer);
        assert_eq!(made.len(), before + 1 + double, "{act:?}: {made:?}");
    }
    Ok(())
}

/// Writes with the grant, and has `blow` fall while its mint is at the gate. What becomes of the write does not count, as
/// long as the primary did not do it.
async fn at_its_mint(
    stage: &Stage,
    login: &Login,
    act: Act,
    blow: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    stage.gate.rule(move |asked| match is_mint(asked) {
        true => act,
        false => Act::Pass,
    });
    let write = stage.keep(&login.token);
    let struck = async {
        stage.gate.until_held(SOON).await?;
        blow().await
    };
    let (written, struck) = tokio::join!(write, struck);
    struck?;
    // Where Holdover was killed, so was the write.
    if let Ok(reply) = written {
        assert_eq!(reply.status, 503, "{}", stage.told(&reply));
    }
    Ok(())
}

/// What is left of each token at the primary that was minted for a grant.
async fn made(stage: &Stage) -> Result<Vec<u64>> {
    let root = stage.host.primary.root();
    let listed = root.list("auth/token/accessors").await?.data()?;
    let accessors = listed["keys"].as_array().context("accessors")?;
    let mut left = Vec::new();
    for accessor in accessors {
        let body = json!({ "accessor": accessor });
        let looked = root.post("auth/token/lookup-accessor", &body).await?;
        // One that ended meanwhile is none.
        let Ok(shown) = looked.data() else { continue };
        if shown["explicit_max_ttl"].as_u64().unwrap_or_default() > 0 {
            left.push(shown["ttl"].as_u64().unwrap_or_default());
        }
    }
    Ok(left)
}
