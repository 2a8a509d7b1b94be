//! Claims about logins and token creation: which side issues, and what is known when neither could.

use std::time::Duration;

use ::replica::{sequencer::SubmitError, vault::Answer};
use shared::{
    approle::{Attempt, Claimant, Outcome as Login, ProofDigest},
    change::Change,
    failover::Phase,
    grant::{Grant, Settled},
    ledger::EntryKind,
    name::WorkloadName,
    workload::PeerId,
};

use super::{
    eventually,
    rig::{
        Act, Primary, Setup,
        client::with_body,
        holdover,
        primary::{ok, with},
        says,
    },
};
use crate::{
    clock::Stopwatch,
    link::Unavailable,
    samples,
    upstream::{Decision, UpstreamError, workload::MintError},
};

const MINTED: &str = "{\"auth\":{\"client_token\":\"s.minted\"}}";

fn login(body: &str) -> String {
    with_body("PUT", "/v1/auth/holdover/login", &[], body)
}

fn approle() -> String {
    with_body("PUT", "/v1/auth/approle/login", &[], "{\"role_id\":\"r\"}")
}

#[tokio::test]
async fn an_attested_login_is_minted_for_its_peer_and_stored_before_it_leaves() {
    let primary = Primary::dead().await;
    let rig = Setup::with(&primary).start();
    rig.minter.mints(|_| Ok(MINTED.to_owned()));
    let heard = rig.ask(&login("{\"role\":\"orders\"}")).await;
    assert_eq!((heard.outcome(), heard.text()), ((200, "primary"), MINTED));
    let lesson = &rig.replica.lessons()[0];
    let peer = lesson.peer.clone().unwrap();
    assert_eq!(peer.workload, WorkloadName::parse("orders").unwrap());
    assert_eq!(rig.replica.committed().len(), 1);
    rig.replica
        .commits_fail([SubmitError::Failed("disk full".into())]);
    let heard = rig.ask(&login("")).await;
    assert_eq!(heard.outcome(), (503, "replica"));
    assert!(!heard.text().contains("s.minted"));
}

#[tokio::test]
async fn a_minted_token_that_nothing_binds_to_its_peer_is_not_handed_out() {
    let primary = Primary::dead().await;
    let rig = Setup::with(&primary).start();
    rig.minter
        .mints(|_| Ok("{\"auth\":{\"client_token\":\"s.of.another\"}}".to_owned()));
    let heard = rig.ask(&login("")).await;
    assert_eq!(heard.outcome(), (503, "replica"));
    assert!(!heard.text().contains("s.of.another"), "{}", heard.text());
    assert!(rig.replica.committed().is_empty());
    // It lives at the primary, and nobody has it.
    assert_eq!(rig.replica.unclaimed(), ["auth/holdover/login unknown"]);
}

#[tokio::test]
async fn an_attested_login_that_names_another_namespace_or_asks_for_a_wrapping_mints_nothing() {
    let primary = Primary::dead().await;
    let rig = Setup::with(&primary).start();
    rig.minter.mints(|_| panic!("nothing is to be minted"));
    for stray in [
        &["X-Vault-Namespace: team"][..],
        &["X-Vault-Namespace: t\u{e9}am"],
        &["X-Vault-Namespace: te am"],
        &["X-Vault-Namespace: ", "X-Vault-Namespace: "],
        &["X-Vault-Wrap-TTL: 60"],
    ] {
        let login = with_body("PUT", "/v1/auth/holdover/login", stray, "{}");
        let heard = rig.ask(&login).await;
        assert_eq!(heard.outcome(), (400, "replica"), "{stray:?}");
    }
}

#[tokio::test]
async fn who_may_not_log_in_is_told_why() {
    let primary = Primary::dead().await;
    let rig = Setup::with(&primary).start();
    rig.minter.mints(|_| Ok(MINTED.to_owned()));
    assert_eq!(rig.ask(&login("{\"role\":\"nobody\"}")).await.status(), 400);
    assert_eq!(
        rig.ask(&login("{\"role\":\"billing\"}")).await.status(),
        403
    );
    assert_eq!(rig.ask(&login("[]")).await.status(), 400);
    let get = "GET /v1/auth/holdover/login HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(rig.ask(get).await.status(), 405);
    let mut nobody = Setup::with(&primary);
    nobody.rules.matches.clear();
    let nobody = nobody.start();
    nobody.minter.mints(|_| Ok(MINTED.to_owned()));
    assert_eq!(nobody.ask(&login("")).await.status(), 403);
}

#[tokio::test]
async fn what_the_primary_says_to_a_mint_is_passed_on() {
    let primary = Primary::dead().await;
    let rig = Setup::with(&primary).start();
    rig.minter.mints(|_| {
        let decision = Decision::said(400, "unknown role orders");
        Err(MintError::Upstream(UpstreamError::Decision(decision)))
    });
    let heard = rig.ask(&login("")).await;
    assert_eq!(heard.outcome(), (400, "replica"));
    assert!(heard.text().contains("unknown role orders"));
}

#[tokio::test]
async fn what_holdovers_own_credential_is_refused_is_503_and_compared_with_nothing() {
    let primary = Primary::dead().await;
    let mut rig = Setup::with(&primary).start();
    rig.minter.mints(|_| {
        let decision = Decision::said(403, "permission denied");
        Err(MintError::OwnCredentialRefused(decision))
    });
    let heard = rig.ask(&login("")).await;
    assert_eq!(heard.outcome(), (503, "replica"));
    assert!(heard.text().contains("permission denied"));
    assert!(rig.offered.try_recv().is_err());
    rig.minter.mints(|_| {
        let decision = Decision::said(400, "unknown role orders");
        Err(MintError::Upstream(UpstreamError::Decision(decision)))
    });
    rig.ask(&login("")).await;
    let offered = rig.offered.try_recv();
    assert_eq!(offered.ok().map(|offer| offer.decision.status()), Some(400));
}

#[tokio::test]
async fn a_login_waits_for_the_machine_and_is_served_by_whoever_takes_over() {
    let primary = Primary::dead().await;
    let rig = Setup::with(&primary).start();
    rig.minter
        .mints(|_| Err(MintError::Upstream(Unavailable::Timeout.into())));
    for text in [login(""), approle()] {
        rig.enter(Phase::Suspect);
        let (heard, ()) = tokio::join!(rig.ask(&text), async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            rig.enter(holdover());
        });
        assert_eq!(heard.outcome(), (200, "replica"));
    }
}

#[tokio::test]
async fn a_login_while_the_primary_takes_over_is_the_primarys_though_not_everybody_knows_yet() {
    let primary = Primary::dead().await;
    let rig = Setup::with(&primary).start();
    rig.enter(holdover());
    rig.minter.mints(|_| Ok(MINTED.to_owned()));
    rig.replica.decides(|_| says(503, "{}"));
    // The outage is over, and the machine has not said so.
    rig.replica.enter(&Phase::Following);
    let login = login("");
    let later = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        rig.enter(Phase::Following);
    };
    let (heard, ()) = tokio::join!(rig.ask(&login), later);
    assert_eq!(heard.status(), 200, "{}", heard.text());
}

#[tokio::test]
async fn a_login_that_hangs_is_the_replicas_once_it_takes_over_and_the_ledger_notes_it() {
    let primary = Primary::start(|_| Act::Hang).await;
    let rig = Setup::with(&primary).start();
    let workload = WorkloadName::parse("orders").unwrap();
    let peer = PeerId {
        workload: workload.clone(),
        uid: 7,
        unit: None,
    };
    rig.replica.decides(move |_| {
        let now = samples::at(0);
        let origin = samples::issued(Settled::Not, now);
        let grant = samples::grant(1, origin, Duration::from_secs(60), now);
        let grant = Grant {
            peer: Some(peer.clone()),
            ..grant
        };
        let mut answer = says(200, "{}");
        answer.changes = vec![Change::Grant(Box::new(grant))];
        answer
    });
    let (heard, ()) = tokio::join!(async { rig.ask(&approle()).await }, async {
        eventually("the login", || !primary.received().is_empty()).await;
        rig.enter(holdover());
    });
    assert_eq!(heard.outcome(), (200, "replica"));
    // As the workload's, whose room in the ledger others cannot take, and of who asked.
    let noted = |change: &Change| match change {
        Change::Ledger(entry) => {
            entry.kind == EntryKind::Unknown
                && entry.workload.as_ref() == Some(&workload)
                && entry.uid.is_some_and(|uid| uid != 7)
        }
        _ => false,
    };
    assert!(rig.replica.has_committed(noted));
}

#[tokio::test]
async fn a_slow_login_is_the_primarys_as_long_as_it_is_in_charge() {
    let primary =
        Primary::start(|_| Act::SayAfter(Duration::from_millis(700), ok("{\"auth\":{}}"))).await;
    let rig = Setup::with(&primary).start();
    let heard = rig.ask(&approle()).await;
    assert_eq!(heard.outcome(), (200, "primary"));
    assert_eq!(primary.received().len(), 1);
}

#[tokio::test]
async fn where_nobody_takes_over_the_wait_ends_with_what_is_known() {
    let sealed = Primary::start(|_| Act::Say(with("503 x", "", "{\"errors\":[\"sealed\"]}"))).await;
    for (primary, status, source) in [
        (Primary::dead().await, 503, "replica"),
        (
            Primary::start(|_| Act::Break(Vec::new())).await,
            504,
            "replica",
        ),
        (sealed, 503, "primary"),
    ] {
        let mut setup = Setup::with(&primary);
        setup.rules.issue_deadline = Duration::from_millis(300);
        let rig = setup.start();
        let watch = Stopwatch::start();
        assert_eq!(rig.ask(&approle()).await.outcome(), (status, source));
        assert!(watch.elapsed() < Duration::from_secs(2));
    }
}

#[tokio::test]
async fn failed_logins_are_bounded_and_good_ones_are_not() {
    let primary = Primary::start(|received| {
        let good = received.body == b"{\"role_id\":\"r\"}";
        Act::Say(if good {
            ok("{\"auth\":{}}")
        } else {
            with("400 x", "", "{\"errors\":[\"invalid\"]}")
        })
    })
    .await;
    let mut setup = Setup::with(&primary);
    setup.rules.limits.login_failures_per_minute_per_uid = 3;
    let rig = setup.start();
    for _ in 0..5 {
        assert_eq!(rig.ask(&approle()).await.status(), 200);
    }
    let bad = with_body("PUT", "/v1/auth/approle/login", &[], "{}");
    for _ in 0..3 {
        assert_eq!(rig.ask(&bad).await.status(), 400);
    }
    let heard = rig.ask(&approle()).await;
    assert_eq!(heard.outcome(), (429, "replica"));
    assert_eq!(heard.head.get("retry-after"), Some("1"));
}

/// What nobody could judge is no failure, a refusal that is about something else neither.
#[tokio::test]
async fn only_logins_that_are_wrong_count_as_failed() {
    let primary = Primary::dead().await;
    let mut setup = Setup::with(&primary);
    setup.rules.limits.login_failures_per_minute_per_uid = 3;
    let rig = setup.start();
    rig.enter(holdover());
    let attempt = |outcome| Attempt {
        by: Claimant { uid: 0, unit: None },
        role_id: ProofDigest([1; 32]),
        pair: ProofDigest([2; 32]),
        outcome,
    };
    for (status, outcome) in [
        (503, None),
        (503, Some(Login::Unproven)),
        (403, None),
        (400, None),
    ] {
        rig.replica.decides(move |_| Answer {
            attempt: outcome.map(attempt),
            ..says(status, "{}")
        });
        for _ in 0..5 {
            assert_eq!(rig.ask(&approle()).await.status(), status);
        }
    }
    rig.replica.decides(move |_| Answer {
        attempt: Some(attempt(Login::Failed)),
        ..says(400, "{}")
    });
    for _ in 0..3 {
        assert_eq!(rig.ask(&approle()).await.status(), 400);
    }
    assert_eq!(rig.ask(&approle()).await.status(), 429);
    let noted = rig.replica.noted();
    let failed = noted.iter().filter(|outcome| **outcome == Login::Failed);
    assert_eq!((failed.count(), noted.len()), (3, 8));
    // An attested login brings nothing to be guessed.
    rig.replica.decides(|_| says(200, "{}"));
    assert_eq!(rig.ask(&login("{\"role\":\"w\"}")).await.status(), 200);
}
