//! Claims about what may have had an effect: however its answer is lost, it is sent once, and what comes of it when nobody
//! waits any more is revoked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ::replica::sequencer::SubmitError;
use shared::{
    change::{Change, RevocationTarget},
    failover::Phase,
    grant::Origin,
    name::{Accessor, LeaseId, TokenDigest},
    share::{Party, Sharer, Total},
};

use super::{
    eventually,
    rig::{
        Act, Client, Primary, Rig, Setup,
        client::with_body,
        holdover,
        primary::{ok, with},
        request, says,
    },
};
use crate::{
    clock::Stopwatch,
    link::{Unavailable, room::BodyRoom},
    samples,
    upstream::{UpstreamError, workload::MintError},
};

const ISSUED: &str =
    r#"{"auth":{"client_token":"s.new","accessor":"accessor-1","lease_duration":60}}"#;

const WRAPPED: &str =
    r#"{"auth":null,"wrap_info":{"token":"s.w","accessor":"accessor-1","ttl":60}}"#;

const LEASED: &str = r#"{"lease_id":"database/creds/x/1","lease_duration":60,"data":{"a":"b"}}"#;

/// One request of each kind that brings something into being, the answer to it, and what that is known by.
fn issuing() -> [(&'static str, String, &'static str); 5] {
    let wrap = ["X-Vault-Wrap-TTL: 60"];
    let login = with_body("PUT", "/v1/auth/userpass/login/x", &[], "{}");
    [
        ("a login", login, ISSUED),
        (
            "a creation",
            with_body(
                "POST",
                "/v1/auth/token/create",
                &["X-Vault-Token: s.a"],
                "{}",
            ),
            ISSUED,
        ),
        (
            "a wrapped creation",
            with_body("POST", "/v1/auth/token/create", &wrap, "{}"),
            WRAPPED,
        ),
        (
            "a wrapped read",
            request("GET", "/v1/secret/data/other", &wrap),
            WRAPPED,
        ),
        (
            "a leased read",
            request("GET", "/v1/database/creds/x", &["X-Vault-Token: s.a"]),
            LEASED,
        ),
    ]
}

fn target(said: &str) -> RevocationTarget {
    match said == LEASED {
        true => RevocationTarget::Lease(LeaseId::parse("database/creds/x/1").unwrap()),
        false => RevocationTarget::Token(Accessor::parse("accessor-1").unwrap()),
    }
}

fn impatient(primary: &Primary) -> Rig {
    let mut setup = Setup::with(primary);
    setup.rules.read_deadline = Duration::from_millis(100);
    setup.rules.issue_deadline = Duration::from_millis(400);
    setup.start()
}

#[tokio::test]
async fn what_is_broken_off_is_not_sent_again_and_the_ledger_says_what_may_be_left() {
    for (what, request, _) in issuing() {
        for reset in [false, true] {
            let primary = Primary::start(move |_| match reset {
                true => Act::Reset(Vec::new()),
                false => Act::Break(Vec::new()),
            })
            .await;
            let rig = impatient(&primary);
            // It has no lease to answer with.
            rig.replica.decides(|_| says(503, "{}"));
            let heard = rig.ask(&request).await;
            assert_eq!(primary.received().len(), 1, "{what}");
            assert_eq!(heard.outcome(), (504, "replica"), "{what}");
            eventually("the ledger's note", || rig.replica.unclaimed().len() == 1).await;
            assert!(rig.replica.unclaimed()[0].ends_with(" unknown"), "{what}");
        }
    }
}

#[tokio::test]
async fn what_hangs_is_answered_in_time_sent_once_and_revoked_when_it_comes_late() {
    for (what, request, said) in issuing() {
        if what.ends_with("read") {
            continue; // They wait for the primary, however long it takes.
        }
        let late = Duration::from_millis(700);
        let primary = Primary::start(move |_| Act::SayAfter(late, ok(said))).await;
        let rig = impatient(&primary);
        let watch = Stopwatch::start();
        assert_eq!(
            rig.ask(&request).await.outcome(),
            (504, "replica"),
            "{what}"
        );
        assert!(watch.elapsed() < late, "{what}");
        eventually("the revocation", || rig.replica.revoked() == [target(said)]).await;
        assert_eq!(primary.received().len(), 1, "{what}");
        // A token that is nobody's is not learned as the client's.
        assert!(rig.replica.lessons().is_empty(), "{what}");
        assert_eq!(rig.replica.unclaimed().len(), 2, "{what}");
    }
}

#[tokio::test]
async fn what_comes_after_its_client_has_gone_is_revoked() {
    for (what, request, said) in issuing() {
        let late = Duration::from_millis(150);
        let primary = Primary::start(move |_| Act::SayAfter(late, ok(said))).await;
        let rig = Setup::with(&primary).start();
        let mut client = Client::connect(&rig.path).await;
        client.write(request.as_bytes()).await;
        eventually("the request", || primary.received().len() == 1).await;
        drop(client);
        eventually("the revocation", || rig.replica.revoked() == [target(said)]).await;
        assert_eq!(primary.received().len(), 1, "{what}");
    }
}

#[tokio::test]
async fn what_its_client_got_is_not_revoked_though_it_goes_at_once() {
    for (what, request, said) in issuing() {
        let primary = Primary::saying(said).await;
        let rig = Setup::with(&primary).start();
        for _ in 0..20 {
            let mut client = Client::connect(&rig.path).await;
            let heard = client.ask(&request).await;
            assert_eq!(heard.outcome(), (200, "primary"), "{what}");
            drop(client);
        }
        rig.server.counted().await;
        assert_eq!(rig.replica.revoked(), [], "{what}");
        assert_eq!(rig.replica.unclaimed(), [""; 0], "{what}");
    }
}

#[tokio::test]
async fn what_a_node_says_that_it_did_not_do_is_sent_again_and_what_it_may_have_done_is_not() {
    const LEADERLESS: &str =
        r#"{"errors":["local node not active but active cluster node not found"]}"#;
    for (status, said, again) in [
        ("503 x", r#"{"errors":["Vault is sealed"]}"#, true),
        ("500 x", LEADERLESS, true),
        ("503 x", r#"{"errors":["internal error"]}"#, false),
        ("503 x", "upstream connect error or disconnect/reset", false),
        ("502 x", "<html>", false),
        ("504 x", "", false),
    ] {
        let asked = AtomicUsize::new(0);
        let primary = Primary::start(move |_| {
            let first = asked.fetch_add(1, Ordering::Relaxed) == 0;
            Act::Say(if first {
                with(status, "", said)
            } else {
                ok(ISSUED)
            })
        })
        .await;
        let rig = impatient(&primary);
        let login = with_body("PUT", "/v1/auth/approle/login", &[], "{}");
        let heard = rig.ask(&login).await;
        let expected = if again {
            (200, 2)
        } else {
            (status[..3].parse().unwrap(), 1)
        };
        let found = (heard.status(), primary.received().len());
        assert_eq!(found, expected, "{status} {said}");
    }
}

#[tokio::test]
async fn a_login_that_was_lost_is_the_replicas_if_it_takes_over_and_nobody_is_asked_twice() {
    let primary = Primary::start(|_| Act::Break(Vec::new())).await;
    let rig = Setup::with(&primary).start();
    let login = with_body("PUT", "/v1/auth/approle/login", &[], "{}");
    let (heard, ()) = tokio::join!(rig.ask(&login), async {
        eventually("the login", || primary.received().len() == 1).await;
        rig.enter(Phase::Suspect);
        tokio::time::sleep(Duration::from_millis(100)).await;
        rig.enter(holdover());
    });
    assert_eq!(heard.outcome(), (200, "replica"));
    assert_eq!(primary.received().len(), 1);
}

#[tokio::test]
async fn a_login_is_not_sent_again_though_the_primary_takes_over_in_the_middle() {
    let primary = Primary::start(|_| Act::Break(Vec::new())).await;
    let mut setup = Setup::with(&primary);
    setup.rules.issue_deadline = Duration::from_millis(700);
    let rig = setup.start();
    rig.replica.decides(|_| {
        let mut answer = says(200, "{}");
        answer.changes = vec![Change::GrantForgotten(TokenDigest([1; 32]))];
        answer
    });
    rig.replica
        .commits_fail(std::iter::repeat_n(SubmitError::Paused, 1000));
    let login = with_body("PUT", "/v1/auth/approle/login", &[], "{}");
    let (heard, ()) = tokio::join!(rig.ask(&login), async {
        eventually("the login", || primary.received().len() == 1).await;
        rig.enter(holdover());
        eventually("the replica's turn", || !rig.replica.asked().is_empty()).await;
        rig.enter(Phase::Following);
    });
    assert_eq!(heard.outcome(), (504, "replica"));
    assert_eq!(primary.received().len(), 1);
}

#[tokio::test]
async fn an_attested_login_is_minted_once_and_again_only_where_nothing_came_of_it() {
    let login = with_body("PUT", "/v1/auth/holdover/login", &[], "");
    let shapeless = |what: &str| UpstreamError::Malformed {
        path: "auth/token/create/orders".into(),
        what: what.into(),
    };
    let failed = UpstreamError::Undecided {
        path: "auth/token/create/orders".into(),
        status: 500,
        errors: Vec::new(),
    };
    for (error, again) in [
        (UpstreamError::Unknown(Unavailable::Timeout), false),
        (shapeless("a token without an accessor"), false),
        (failed, false),
        (UpstreamError::Unavailable(Unavailable::Timeout), true),
    ] {
        let primary = Primary::dead().await;
        let rig = impatient(&primary);
        let minted = Arc::new(AtomicUsize::new(0));
        let count = minted.clone();
        rig.minter.mints(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Err(MintError::Upstream(error.clone()))
        });
        let expected = if again { 503 } else { 504 };
        assert_eq!(rig.ask(&login).await.outcome(), (expected, "replica"));
        assert_eq!(minted.load(Ordering::Relaxed) > 1, again);
        let noted = rig.replica.unclaimed();
        eventually("the ledger", || {
            again || !rig.replica.unclaimed().is_empty()
        })
        .await;
        assert!(!again || noted.is_empty());
    }
}

#[tokio::test]
async fn a_minted_token_whose_peer_has_gone_is_revoked() {
    let primary = Primary::dead().await;
    let rig = Setup::with(&primary).start();
    rig.minter.mints(|_| Ok(ISSUED.to_owned()));
    rig.minter.takes(Duration::from_millis(150));
    let mut client = Client::connect(&rig.path).await;
    let login = with_body("PUT", "/v1/auth/holdover/login", &[], "");
    client.write(login.as_bytes()).await;
    eventually("the mint", || rig.minter.asked() == 1).await;
    drop(client);
    eventually("the revocation", || {
        rig.replica.revoked() == [target(ISSUED)]
    })
    .await;
    // What is given to its peer is not.
    assert_eq!(rig.ask(&login).await.outcome(), (200, "primary"));
    assert_eq!(rig.replica.revoked().len(), 1);
}

#[tokio::test]
async fn a_token_that_was_made_is_never_told_away() {
    let made = [
        with_body("PUT", "/v1/auth/holdover/login", &[], ""),
        with_body("PUT", "/v1/auth/userpass/login/x", &[], "{}"),
    ];
    for login in made {
        // It is there at the last moment, and what it teaches cannot be kept in time.
        let late = Duration::from_millis(330);
        let primary = Primary::start(move |_| Act::SayAfter(late, ok(ISSUED))).await;
        let rig = impatient(&primary);
        rig.minter.mints(|_| Ok(ISSUED.to_owned()));
        rig.minter.takes(late);
        rig.replica.is_stuck();
        let heard = rig.ask(&login).await;
        assert_eq!(heard.outcome(), (504, "replica"), "{}", heard.text());
        assert!(heard.text().contains("unknown"), "{}", heard.text());
        eventually("the revocation", || {
            rig.replica.revoked().contains(&target(ISSUED))
        })
        .await;
    }
}

/// A read as it is sent with this token, if it is one, and how often it may be.
async fn read_in_vain(known: Option<Origin>, target: &str, headers: &[&str]) -> (u16, usize) {
    let primary = Primary::start(|_| Act::Break(Vec::new())).await;
    let rig = impatient(&primary);
    rig.replica.decides(|_| says(503, "{}"));
    if let Some(origin) = known {
        rig.replica.knows("s.a", origin, Duration::ZERO);
    }
    let heard = rig.ask(&request("GET", target, headers)).await;
    assert_eq!(heard.outcome().1, "replica");
    assert!(
        !heard.text().contains("unknown") || heard.status() == 504,
        "{}",
        heard.text()
    );
    (heard.status(), primary.received().len())
}

#[tokio::test]
async fn a_read_that_may_use_a_credential_up_is_sent_once() {
    let token = ["X-Vault-Token: s.a"];
    let inline = ["X-Vault-Inline-Auth-Path: auth/approle/login"];
    let (once, twice) = ((504, 1), (503, 2));
    for target in ["/v1/secret/data/shop/a", "/v1/secret/data/other"] {
        let known = read_in_vain(Some(Origin::Learned), target, &token).await;
        assert_eq!(known, twice, "{target}");
        assert_eq!(read_in_vain(None, target, &[]).await, twice, "{target}");
        // One whose uses are counted, and one of which nobody here knows whether they are.
        for origin in [Some(Origin::LimitedUse), None] {
            let counted = read_in_vain(origin, target, &token).await;
            assert_eq!(counted, once, "{target}");
        }
        let logs_in = read_in_vain(None, target, &inline).await;
        assert_eq!(logs_in, once, "{target}");
    }
    // The primary looks at no token there.
    let health = read_in_vain(None, "/v1/sys/health", &token).await;
    assert_eq!(health, twice);
}

#[tokio::test]
async fn a_read_of_what_may_give_something_out_is_sent_once() {
    let foreign = ["X-Vault-Token: s.a", "X-Vault-Namespace: team"];
    for (target, headers, sent) in [
        ("/v1/database/creds/x", &foreign[..1], (504, 1)),
        ("/v1/a-plugin/creds/x", &foreign[..1], (504, 1)),
        ("/v1/jwt/oidc/callback", &foreign[..1], (504, 1)),
        ("/v1/transit/keys/x", &foreign[..1], (503, 2)),
        // What is mounted there in another namespace nobody here knows.
        ("/v1/secret/data/x", &foreign, (504, 1)),
    ] {
        let found = read_in_vain(Some(Origin::Learned), target, headers).await;
        assert_eq!(found, sent, "{target}");
    }
}

#[tokio::test]
async fn who_asks_for_what_was_sent_once_is_never_told_that_nothing_came_of_it() {
    // A mirrored path of leases, of which the replica has none.
    let primary = Primary::start(|_| Act::Hang).await;
    let mut setup = Setup::with(&primary);
    setup.settings = samples::settings(&["database/creds/x"]);
    setup.rules.read_deadline = Duration::from_millis(100);
    let rig = setup.start();
    rig.replica.decides(|_| says(503, "{}"));
    rig.replica.knows("s.a", Origin::Learned, Duration::ZERO);
    let read = request("GET", "/v1/database/creds/x", &["X-Vault-Token: s.a"]);
    let (heard, ()) = tokio::join!(rig.ask(&read), async {
        eventually("the read", || primary.received().len() == 1).await;
        rig.enter(holdover());
    });
    assert_eq!(heard.outcome(), (504, "replica"), "{}", heard.text());
    assert_eq!(primary.received().len(), 1);
}

#[tokio::test]
async fn nothing_is_sent_whose_answer_nobody_would_take_into_custody() {
    let primary = Primary::start(|_| Act::Hang).await;
    let rig = impatient(&primary);
    let login = with_body("PUT", "/v1/auth/userpass/login/x", &[], "{}");
    let user = Sharer::from(&own_party());
    let all = |by: &Sharer| std::iter::from_fn(|| place(&rig, by)).collect::<Vec<_>>();
    let mut taken = all(&user);
    for (_, request, _) in issuing() {
        let heard = rig.ask(&request).await;
        assert_eq!(heard.outcome(), (429, "replica"), "{}", heard.text());
        assert!(heard.text().contains("not sent"), "{}", heard.text());
    }
    assert!(primary.received().is_empty());
    // What the replica can answer it does, and the workload's own logins have no part in it.
    let lookup = request("GET", "/v1/auth/token/lookup-self", &[]);
    rig.replica.decides(|_| says(200, "{}"));
    assert_eq!(rig.ask(&lookup).await.outcome(), (200, "replica"));
    rig.minter.mints(|_| Ok(ISSUED.to_owned()));
    let attested = with_body("PUT", "/v1/auth/holdover/login", &[], "");
    assert_eq!(rig.ask(&attested).await.outcome(), (200, "primary"));
    let orders = Sharer::Workload(samples::orders());
    taken.extend(all(&orders));
    assert_eq!(rig.ask(&attested).await.status(), 429);
    // Whoever waits for room has it as soon as there is some, and is the replica's if that takes over.
    let (heard, ()) = tokio::join!(rig.ask(&attested), async { taken.truncate(1) });
    assert_eq!(heard.outcome(), (200, "primary"));
    taken.extend(all(&user));
    let (heard, ()) = tokio::join!(rig.ask(&login), async { rig.enter(holdover()) });
    assert_eq!(heard.outcome(), (200, "replica"));
}

#[tokio::test]
async fn who_loses_answers_loses_no_share_of_others_and_has_its_own_back() {
    let primary = Primary::start(|_| Act::SayAfter(Duration::from_millis(300), ok(ISSUED))).await;
    let rig = Setup::with(&primary).start();
    let mut client = Client::connect(&rig.path).await;
    let login = with_body("PUT", "/v1/auth/userpass/login/x", &[], "{}");
    client.write(login.as_bytes()).await;
    eventually("the login", || primary.received().len() == 1).await;
    drop(client);
    assert_eq!(rig.server.forwards.taken(), 1);
    eventually("the revocation", || {
        rig.replica.revoked() == [target(ISSUED)]
    })
    .await;
    eventually("its place", || rig.server.forwards.taken() == 0).await;
}

/// The party that the socket sees in this process.
fn own_party() -> Arc<Party> {
    let own = super::replica_tokens::own_identity();
    Arc::new(Party {
        matched: true,
        uid: own.uid,
        unit: own.unit,
    })
}

/// A place among the forwards.
fn place(rig: &Rig, by: &Sharer) -> Option<BodyRoom> {
    let total = Total {
        all: crate::samples::limits().forwards.into(),
        halved: true,
    };
    rig.server.forwards.place(by.clone(), total)
}
