//! Claims about settling, on a real replica and a scripted primary that fails where it is told to.

use std::sync::{Arc, Mutex};

use shared::{
    change::{Credential, CredentialName, HeldBy, QueuedRevocation, RevocationTarget},
    grant::{Grant, Origin, Revocation, RevokeCause, Settled},
    name::{Accessor, LeaseId, Namespace, PolicyName, TokenDigest, WorkloadName},
    quarantine::{Quarantine, Quarantined},
    secret::SecretText,
    settings::Settings,
    time::WallTime,
    workload::OnRecovery,
};

use super::*;
use crate::reaper;
use crate::samples::{self, bench::Bench, orders};
use crate::upstream::{Decision, UpstreamError, workload::Exact};

const MINUTE: Duration = Duration::from_secs(60);

/// What a scripted primary was asked, and at which question it fails.
struct Scripted<'a> {
    bench: &'a Bench,
    asked: Mutex<Vec<&'static str>>,
    fails_at: Option<usize>,
    proves: Result<(), ProveError>,
    mints: Result<(), u16>,
    /// The settings that come into force while the first token is minted.
    reconfigured: Mutex<Option<Settings>>,
    revokes: Result<(), u16>,
    /// What it says where it is asked whether something is gone.
    is_gone: bool,
    gone: Vec<WorkloadName>,
    /// What the primary says of each token that it is asked about.
    says_of_tokens: Said,
}

/// What the primary says of a token.
#[derive(Clone, Copy)]
enum Said {
    Dead,
    Lives,
    /// A decision that is not about it.
    Status(u16),
}

impl<'a> Scripted<'a> {
    fn new(bench: &'a Bench) -> Self {
        Self {
            bench,
            asked: Mutex::default(),
            fails_at: None,
            proves: Ok(()),
            mints: Ok(()),
            reconfigured: Mutex::default(),
            revokes: Ok(()),
            is_gone: false,
            gone: vec![],
            says_of_tokens: Said::Lives,
        }
    }

    fn asked(&self, what: &'static str) -> Result<(), Unavailable> {
        let mut asked = self.asked.lock().unwrap();
        asked.push(what);
        if self.fails_at == Some(asked.len() - 1) {
            return Err(Unavailable::Timeout);
        }
        Ok(())
    }

    fn questions(&self) -> Vec<&'static str> {
        self.asked.lock().unwrap().clone()
    }
}

impl Primary for Scripted<'_> {
    async fn prove(&self) -> Result<(), ProveError> {
        self.asked("prove")?;
        self.proves.clone()
    }

    async fn revoke(&self, _queued: &QueuedRevocation) -> Result<(), UpstreamError> {
        self.asked("revoke")?;
        self.revokes.map_err(decision)
    }

    async fn says_dead(&self, _target: &RevocationTarget) -> bool {
        self.is_gone
    }

    async fn renew_due(&self) -> Result<(), Unavailable> {
        self.asked("renew")
    }

    async fn verify_authority(&self) -> Result<Vec<WorkloadName>, PassError> {
        self.asked("verify").map_err(UpstreamError::from)?;
        self.bench
            .store(vec![Change::Authority(Box::new(self.bench.authority()))])
            .await;
        Ok(self.gone.clone())
    }

    async fn prove_token(&self, digest: &TokenDigest) -> Result<(), PassError> {
        self.asked("token").map_err(UpstreamError::from)?;
        let now = self.bench.local.clock.now().steady;
        let live = self.bench.local.view.grant(digest).unwrap();
        let change = match self.says_of_tokens {
            Said::Dead => Change::Revoked(Revocation::of(&live.grant, RevokeCause::Primary, now)),
            Said::Lives => Change::Proven(*digest, now),
            Said::Status(status) => return Err(PassError::from(decision(status))),
        };
        self.bench.store(vec![change]).await;
        Ok(())
    }

    async fn mint_exact(
        &self,
        _workload: &WorkloadName,
        wanted: Exact<'_>,
    ) -> Result<Credential, MintError> {
        let asked = self.asked("mint").map_err(UpstreamError::from);
        asked.map_err(MintError::Upstream)?;
        let minted = self.mints.map_err(decision);
        minted.map_err(MintError::Upstream)?;
        let settings = self.reconfigured.lock().unwrap().take();
        if let Some(settings) = settings.map(Arc::new) {
            let local = &self.bench.local;
            local.sequencer.set_settings(&settings);
            reaper::lower(local, &settings).await;
        }
        let now = self.bench.local.clock.now().steady;
        Ok(Credential {
            token: SecretText::new("s.exchanged".into()),
            accessor: Accessor::parse("primarys").unwrap(),
            expires: now.plus(wanted.life),
            renewable: false,
            issued_at: now,
        })
    }

    async fn refresh_values(&self, _within: Duration) -> Result<(), Unavailable> {
        self.asked("values")
    }
}

fn decision(status: u16) -> UpstreamError {
    UpstreamError::Decision(Decision::said(status, "no"))
}

async fn settled_by(
    on_recovery: OnRecovery,
    script: impl FnOnce(&mut Scripted<'_>),
) -> Option<Settled> {
    let bench = Bench::new(on_recovery);
    let outage = bench.outage().await;
    bench
        .store(vec![Change::Grant(Box::new(bench.grant(1, MINUTE)))])
        .await;
    let mut primary = Scripted::new(&bench);
    script(&mut primary);
    assert_eq!(
        settle(&bench.local, &primary, &outage).await,
        Recovery::Done
    );
    bench.settled(1)
}

#[tokio::test]
async fn each_on_recovery_settles_a_grant_in_its_own_way() {
    let accessor = Accessor::parse("primarys").unwrap();
    let exchanged = settled_by(OnRecovery::Exchange, |_| {}).await;
    assert_eq!(exchanged, Some(Settled::Exchanged(accessor)));
    assert_eq!(
        settled_by(OnRecovery::Drain, |_| {}).await,
        Some(Settled::Draining)
    );
    assert_eq!(settled_by(OnRecovery::Revoke, |_| {}).await, None);
}

#[tokio::test]
async fn a_grant_that_was_judged_by_settings_of_before_is_judged_again() {
    let bench = Bench::new(OnRecovery::Exchange);
    let outage = bench.outage().await;
    let grant = Change::Grant(Box::new(bench.grant(1, MINUTE)));
    bench.store(vec![grant]).await;
    let mut lowered = bench.config.settings.clone();
    let failover = &mut lowered.workloads[0].failover;
    failover.on_recovery = OnRecovery::Drain;
    failover.max_ttl = MINUTE / 2;
    let primary = Scripted {
        reconfigured: Mutex::new(Some(lowered)),
        ..Scripted::new(&bench)
    };
    let outcome = settle(&bench.local, &primary, &outage).await;
    assert_eq!(outcome, Recovery::Done);
    assert_eq!(bench.settled(1), Some(Settled::Draining));
    let live = bench.local.view.grant(&TokenDigest([1; 32])).unwrap();
    let left = live.grant.deadline.remaining(bench.now());
    assert!(left <= MINUTE / 2, "{left:?}");
}

#[tokio::test]
async fn only_a_refusal_of_holdovers_own_credential_offboards() {
    for (why, offboards) in [
        (ProveError::OwnCredentialRefused, true),
        (ProveError::Unproven, false),
        (ProveError::Unavailable(Unavailable::Timeout), false),
    ] {
        let bench = Bench::new(OnRecovery::Exchange);
        let outage = bench.outage().await;
        let authority = Change::Authority(Box::new(bench.authority()));
        let grant = Change::Grant(Box::new(bench.grant(1, MINUTE)));
        bench.store(vec![authority, grant]).await;
        let primary = Scripted {
            proves: Err(why.clone()),
            ..Scripted::new(&bench)
        };
        let settled = settle(&bench.local, &primary, &outage).await;
        assert_eq!(settled == Recovery::Done, offboards, "{why}");
        assert_eq!(bench.settled(1).is_none(), offboards, "{why}");
        let workloads = &bench.local.view.authority().workloads;
        assert_eq!(workloads.is_empty(), offboards, "{why}");
        assert_eq!(primary.questions(), ["prove"], "{why}");
    }
}

#[tokio::test]
async fn what_cannot_be_minted_exactly_drains() {
    let settled = settled_by(OnRecovery::Exchange, |primary| primary.mints = Err(400)).await;
    assert_eq!(settled, Some(Settled::Draining));
}

#[tokio::test]
async fn a_grant_whose_role_the_primary_took_away_is_revoked() {
    let settled = settled_by(OnRecovery::Exchange, |primary| {
        primary.gone = vec![orders()]
    })
    .await;
    assert_eq!(settled, None);
}

#[tokio::test]
async fn steps_come_in_their_order_and_the_exchanged_token_is_held_sealed() {
    let bench = Bench::new(OnRecovery::Exchange);
    let outage = bench.outage().await;
    bench
        .store(vec![Change::Grant(Box::new(bench.grant(1, MINUTE)))])
        .await;
    let primary = Scripted::new(&bench);
    assert_eq!(
        settle(&bench.local, &primary, &outage).await,
        Recovery::Done
    );
    assert_eq!(
        primary.questions(),
        ["prove", "renew", "verify", "mint", "values"]
    );
    let held = bench
        .local
        .view
        .credential(&CredentialName::Exchanged(TokenDigest([1; 32])))
        .unwrap();
    assert_eq!(
        held.body.open(bench.local.view.keys()).unwrap().expose(),
        b"s.exchanged"
    );
    assert!(
        bench.local.view.authority().paused,
        "nothing is issued after the fence"
    );
}

/// The primary dies at each question in turn, and Holdover is restarted: the outage goes on, nothing is settled twice,
/// and the next try ends as if nothing had happened.
#[tokio::test]
async fn settling_that_was_cut_off_anywhere_is_taken_up_again() {
    for fails_at in 0..5 {
        let bench = Bench::new(OnRecovery::Exchange);
        let outage = bench.outage().await;
        let grants = [1, 2].map(|nr| Change::Grant(Box::new(bench.grant(nr, MINUTE))));
        bench.store(grants.into()).await;
        let primary = Scripted {
            fails_at: Some(fails_at),
            ..Scripted::new(&bench)
        };
        let first = settle(&bench.local, &primary, &outage).await;
        assert!(
            matches!(first, Recovery::Failed(_)),
            "at question {fails_at}: {first:?}"
        );
        assert!(
            !bench.local.view.authority().paused,
            "at question {fails_at}"
        );
        let minted = primary
            .questions()
            .iter()
            .filter(|asked| **asked == "mint")
            .count();
        let bench = bench.reopened();
        let primary = Scripted::new(&bench);
        assert_eq!(
            settle(&bench.local, &primary, &outage).await,
            Recovery::Done
        );
        let again = primary
            .questions()
            .iter()
            .filter(|asked| **asked == "mint")
            .count();
        let lost = usize::from(fails_at == 3 || fails_at == 4);
        assert_eq!(
            minted + again,
            2 + lost.min(minted),
            "at question {fails_at}"
        );
        for nr in [1, 2] {
            assert!(
                matches!(bench.settled(nr), Some(Settled::Exchanged(_))),
                "at question {fails_at}"
            );
        }
    }
}

#[tokio::test]
async fn the_primary_is_told_of_own_revocations_and_not_of_those_that_policy_no_longer_allows() {
    let bench = Bench::new(OnRecovery::Exchange);
    let outage = bench.outage().await;
    let grant = bench.grant(1, MINUTE);
    let queued = |id, target| {
        Change::Queue(Box::new(QueuedRevocation {
            requested_by: Some(grant.digest),
            peer: grant.peer.clone(),
            ..QueuedRevocation::own(id, target, grant.verified_at)
        }))
    };
    bench
        .store(vec![
            Change::Grant(Box::new(grant.clone())),
            queued(1, RevocationTarget::Token(grant.accessor.clone())),
            queued(
                2,
                RevocationTarget::Lease(LeaseId::parse("database/creds/x/y").unwrap()),
            ),
        ])
        .await;
    let primary = Scripted::new(&bench);
    assert_eq!(
        settle(&bench.local, &primary, &outage).await,
        Recovery::Done
    );
    let told = primary
        .questions()
        .iter()
        .filter(|asked| **asked == "revoke")
        .count();
    assert_eq!(told, 1, "{:?}", primary.questions());
    // Acknowledged all the same: what it is about stays refused, and an operator sees why.
    let left = bench.local.view.queue();
    let left: Vec<_> = left.iter().map(|one| (one.id, one.held_by)).collect();
    assert_eq!(left, [(2, Some(HeldBy::Policy))]);
}

fn in_quarantine(policy: &str) -> Quarantine {
    Quarantine {
        what: Quarantined::Policy(PolicyName::parse(policy).unwrap()),
        since: WallTime::EPOCH,
        operation: "read".into(),
        path: "secret/data/shop/db".into(),
        primary: 403,
        replica: 200,
        fields: Vec::new(),
        text: None,
        of_sets: Vec::new(),
    }
}

#[tokio::test]
async fn a_revocation_that_a_policy_in_quarantine_allows_is_told() {
    let bench = Bench::new(OnRecovery::Exchange);
    let outage = bench.outage().await;
    let grant = bench.grant(1, MINUTE);
    let allows = r#"path "sys/leases/revoke" { capabilities = ["update"] }"#;
    let policies = samples::policies("orders", allows, 1, bench.now());
    let lease = LeaseId::parse("database/creds/x/y").unwrap();
    let queued = QueuedRevocation {
        requested_by: Some(grant.digest),
        ..QueuedRevocation::own(1, RevocationTarget::Lease(lease), grant.verified_at)
    };
    bench
        .store(vec![
            Change::Policies(Box::new(policies)),
            Change::Grant(Box::new(grant)),
            Change::Quarantine(Box::new(in_quarantine("orders"))),
            Change::Queue(Box::new(queued)),
        ])
        .await;
    let primary = Scripted::new(&bench);
    assert_eq!(
        settle(&bench.local, &primary, &outage).await,
        Recovery::Done
    );
    assert!(primary.questions().contains(&"revoke"));
    assert!(bench.local.view.queue().is_empty());
}

#[tokio::test]
async fn the_token_behind_an_exchanged_one_is_given_up_with_it() {
    let bench = Bench::new(OnRecovery::Exchange);
    let outage = bench.outage().await;
    let behind = Accessor::parse("of-the-primary").unwrap();
    let mut grant = bench.grant(1, MINUTE);
    if let Origin::Replica(replica) = &mut grant.origin {
        replica.settled = Settled::Exchanged(behind.clone());
    }
    let queued = QueuedRevocation {
        requested_by: Some(grant.digest),
        ..QueuedRevocation::own(1, RevocationTarget::Token(behind), grant.verified_at)
    };
    bench
        .store(vec![
            Change::Grant(Box::new(grant)),
            Change::Queue(Box::new(queued)),
        ])
        .await;
    let primary = Scripted::new(&bench);
    let settled = settle(&bench.local, &primary, &outage).await;
    assert_eq!(settled, Recovery::Done);
    assert!(bench.local.view.queue().is_empty());
}

#[tokio::test]
async fn a_revocation_that_is_not_done_stays_and_says_why_and_keeps_no_outage_alive() {
    for (status, why) in [
        (403, HeldBy::Rights),
        (400, HeldBy::Failure),
        (500, HeldBy::Failure),
    ] {
        let bench = Bench::new(OnRecovery::Exchange);
        let outage = bench.outage().await;
        let at = bench.local.clock.now().steady;
        let queued = [1, 2].map(|id| {
            let accessor = Accessor::parse(&format!("a{id}")).unwrap();
            let target = RevocationTarget::Token(accessor);
            Change::Queue(Box::new(QueuedRevocation::own(id, target, at)))
        });
        bench.store(queued.into()).await;
        let primary = Scripted {
            revokes: Err(status),
            ..Scripted::new(&bench)
        };
        assert_eq!(
            settle(&bench.local, &primary, &outage).await,
            Recovery::Done
        );
        let asked = primary.questions();
        let told = asked.iter().filter(|asked| **asked == "revoke").count();
        assert_eq!(told, 2, "the first holds nobody up");
        let again = bench.reopened();
        let left = again.local.view.queue();
        let left: Vec<_> = left.iter().map(|one| one.held_by).collect();
        assert_eq!(left, [Some(why), Some(why)], "after {status}");
    }
}

#[tokio::test]
async fn a_revoked_lease_past_its_known_end_is_kept_until_the_primary_says_that_it_is_gone() {
    for (renewable, is_gone, left) in [(true, false, 1), (true, true, 0), (false, false, 0)] {
        let bench = Bench::new(OnRecovery::Exchange);
        let outage = bench.outage().await;
        let ended = bench.now().steady.minus(MINUTE);
        let target = RevocationTarget::Lease(LeaseId::parse("database/creds/x/y").unwrap());
        let queued = QueuedRevocation::own(1, target, ended).ending(ended, renewable);
        bench.store(vec![Change::Queue(Box::new(queued))]).await;
        let primary = Scripted {
            revokes: Err(403),
            is_gone,
            ..Scripted::new(&bench)
        };
        let settled = settle(&bench.local, &primary, &outage).await;
        assert_eq!(settled, Recovery::Done);
        let queue = bench.local.view.queue();
        assert_eq!(queue.len(), left, "renewable {renewable}, gone {is_gone}");
    }
}

#[tokio::test]
async fn a_revocation_of_another_namespace_waits_until_that_is_configured_again() {
    let bench = Bench::new(OnRecovery::Exchange);
    let outage = bench.outage().await;
    let at = bench.local.clock.now().steady;
    let queued = [(1, None), (2, Some("team"))].map(|(id, namespace)| {
        let target = RevocationTarget::Token(Accessor::parse("a").unwrap());
        Change::Queue(Box::new(QueuedRevocation {
            namespace: namespace.map(Namespace::parse),
            ..QueuedRevocation::own(id, target, at)
        }))
    });
    bench.store(queued.into()).await;
    let primary = Scripted::new(&bench);
    let settled = settle(&bench.local, &primary, &outage).await;
    assert_eq!(settled, Recovery::Done);
    let left = bench.local.view.queue();
    let left: Vec<_> = left.iter().map(|one| (one.id, one.held_by)).collect();
    assert_eq!(left, [(2, None)]);
}

/// A token of the primary's that was proven before the outage, and a grant that hangs on it.
async fn parent_and_child(bench: &Bench) {
    let now = bench.now();
    let parent = Grant {
        verified_at: now.steady.minus(MINUTE),
        ..samples::grant(9, Origin::Primary, MINUTE, now)
    };
    let child = Grant {
        parent: Some(parent.digest),
        ..bench.grant(1, MINUTE)
    };
    let stored = [parent, child].map(|grant| Change::Grant(Box::new(grant)));
    bench.store(stored.into()).await;
}

#[tokio::test]
async fn nothing_is_settled_that_hangs_on_a_token_which_was_not_proven_since() {
    for (said, minted) in [
        (Said::Lives, true),
        (Said::Dead, false),
        (Said::Status(403), false),
        (Said::Status(429), false),
    ] {
        let bench = Bench::new(OnRecovery::Exchange);
        let outage = bench.outage().await;
        parent_and_child(&bench).await;
        let primary = Scripted {
            says_of_tokens: said,
            ..Scripted::new(&bench)
        };
        let settled = settle(&bench.local, &primary, &outage).await;
        assert_eq!(
            settled,
            Recovery::Done,
            "nothing said of one token keeps an outage alive"
        );
        assert_eq!(primary.questions().contains(&"mint"), minted);
        let exchanged = matches!(bench.settled(1), Some(Settled::Exchanged(_)));
        assert_eq!(exchanged, minted);
    }
}

#[tokio::test]
async fn what_recovery_left_is_settled_once_the_token_that_it_hangs_on_is_proven() {
    let bench = Bench::new(OnRecovery::Exchange);
    let outage = bench.outage().await;
    parent_and_child(&bench).await;
    let primary = Scripted {
        says_of_tokens: Said::Status(403),
        ..Scripted::new(&bench)
    };
    assert_eq!(
        settle(&bench.local, &primary, &outage).await,
        Recovery::Done
    );
    let since = bench.now().steady;
    let gone = &[];
    let left_over = || GrantSettling {
        local: &bench.local,
        primary: &primary,
        gone,
        since,
    };
    bench
        .store(vec![Change::Authority(Box::new(bench.authority()))])
        .await;
    left_over().settle_each().await.unwrap();
    assert_eq!(bench.settled(1), Some(Settled::Not));
    bench
        .store(vec![Change::Proven(TokenDigest([9; 32]), since)])
        .await;
    left_over().settle_each().await.unwrap();
    assert!(matches!(bench.settled(1), Some(Settled::Exchanged(_))));
}
