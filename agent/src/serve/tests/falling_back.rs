//! Claims about requests that the primary fails while it is authoritative, and about outages.

use std::time::Duration;

use ::replica::sequencer::{Lane, SubmitError};
use shared::{change::Change, failover::Event as MachineEvent, grant::Origin, name::TokenDigest};

use super::{
    eventually,
    rig::{
        Act, Primary, Rig, Setup,
        client::with_body,
        holdover,
        primary::{ok, with},
        request, says,
    },
};
use crate::{clock::Stopwatch, driver::Event};

const READ: &str = "/v1/secret/data/shop/a";

async fn read(rig: &Rig) -> (u16, String) {
    let heard = rig
        .ask(&request("GET", READ, &["X-Vault-Token: s.t"]))
        .await;
    (heard.status(), heard.source().to_owned())
}

fn by_replica() -> (u16, String) {
    (200, "replica".to_owned())
}

#[tokio::test]
async fn a_mirrored_read_survives_every_way_in_which_the_primary_can_fail() {
    let half = with("200 OK", "", "{\"whole\":true}");
    let cut = half[..half.len() - 5].to_vec();
    let ways: Vec<(&str, Primary)> = vec![
        ("refuses", Primary::dead().await),
        ("closes", Primary::start(|_| Act::Break(Vec::new())).await),
        (
            "dies in mid-answer",
            Primary::start(move |_| Act::Break(cut.clone())).await,
        ),
        (
            "is sealed",
            Primary::start(|_| Act::Say(with("503 x", "", "{}"))).await,
        ),
        (
            "has a bad gateway",
            Primary::start(|_| Act::Say(with("502 x", "", "{}"))).await,
        ),
        ("hangs", Primary::start(|_| Act::Hang).await),
        (
            "stalls in mid-answer",
            Primary::start(|_| Act::Say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".to_vec()))
                .await,
        ),
        (
            "speaks no HTTP",
            Primary::start(|_| Act::Break(b"SSH-2.0\r\n".to_vec())).await,
        ),
    ];
    for (way, primary) in ways {
        let mut rig = Setup::with(&primary).start();
        let watch = Stopwatch::start();
        assert_eq!(read(&rig).await, by_replica(), "{way}");
        assert!(watch.elapsed() < Duration::from_secs(1), "{way}");
        let told = rig.told.try_recv();
        assert!(
            matches!(told, Ok(Event::Machine(MachineEvent::ForwardFailed))),
            "{way}: {told:?}"
        );
    }
}

#[tokio::test]
async fn an_answer_says_how_old_it_is_and_names_the_outage_while_there_is_one() {
    let primary = Primary::dead().await;
    let rig = Setup::with(&primary).start();
    let heard = rig.ask(&request("GET", READ, &[])).await;
    assert_eq!(heard.head.get("x-holdover-age"), Some("7"));
    assert_eq!(heard.head.get("x-holdover-outage"), None);
    assert_eq!(heard.head.get("cache-control"), Some("no-store"));
    assert_eq!(heard.head.get("content-type"), Some("application/json"));
    rig.enter(holdover());
    let unread = rig.ask("GET /ui/ HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(unread.head.get("x-holdover-outage"), Some("o1"));
}

#[tokio::test]
async fn what_the_replica_cannot_answer_is_worth_waiting_for() {
    let primary =
        Primary::start(|_| Act::SayAfter(Duration::from_millis(600), ok("{\"late\":1}"))).await;
    let rig = Setup::with(&primary).start();
    rig.replica.decides(|_| says(503, "{}"));
    let heard = rig.ask(&request("GET", READ, &[])).await;
    assert_eq!(
        (heard.outcome(), heard.text()),
        ((200, "primary"), "{\"late\":1}")
    );
}

#[tokio::test]
async fn a_denial_that_comes_late_is_applied_to_its_token() {
    let primary = Primary::start(|_| {
        let body = "{\"errors\":[\"permission denied\"]}";
        Act::SayAfter(Duration::from_millis(500), with("403 x", "", body))
    })
    .await;
    let rig = Setup::with(&primary).start();
    let digest = rig
        .replica
        .knows("s.t", Origin::Primary, Duration::from_secs(5));
    assert_eq!(read(&rig).await, by_replica());
    eventually("the late denial", || !rig.replica.lessons().is_empty()).await;
    let lesson = &rig.replica.lessons()[0];
    assert_eq!((lesson.doubts, lesson.token), (true, Some(digest)));
}

#[tokio::test]
async fn a_500_falls_back_only_where_the_machine_doubts_the_primary_too() {
    let primary = Primary::start(|_| Act::Say(with("500 x", "", "{\"errors\":[]}"))).await;
    let rig = Setup::with(&primary).start();
    assert_eq!(read(&rig).await, (500, "primary".to_owned()));
    rig.enter(shared::failover::Phase::Suspect);
    assert_eq!(read(&rig).await, by_replica());
}

#[tokio::test]
async fn in_an_outage_the_replica_answers_everything_at_once() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    rig.enter(holdover());
    for (method, target) in [
        ("GET", READ),
        ("PUT", "/v1/secret/data/x"),
        ("PUT", "/v1/auth/userpass/login/u"),
        ("GET", "/v1/sys/health"),
    ] {
        let heard = rig.ask(&request(method, target, &[])).await;
        assert_eq!(heard.outcome(), (200, "replica"), "{target}");
    }
    assert!(primary.received().is_empty());
}

#[tokio::test]
async fn in_an_outage_no_spelling_but_the_canonical_one_is_answered() {
    let primary = Primary::dead().await;
    let rig = Setup::with(&primary).start();
    rig.enter(holdover());
    for (target, status) in [
        ("/v1/secret/data/shop/../a", 400),
        ("/v1/secret//data", 400),
        ("/v1/secret%2Fdata", 400),
        ("/v1/secret?list=perhaps", 400),
        ("/ui/", 404),
    ] {
        let heard = rig.ask(&request("GET", target, &[])).await;
        assert_eq!(heard.outcome(), (status, "replica"), "{target}");
    }
    assert_eq!(rig.ask(&request("OPTIONS", READ, &[])).await.status(), 400);
    assert_eq!(rig.ask(&request("TRACE", READ, &[])).await.status(), 405);
    assert!(rig.replica.asked().is_empty());
}

#[tokio::test]
async fn in_an_outage_a_request_has_the_size_that_is_configured() {
    let primary = Primary::dead().await;
    let mut setup = Setup::with(&primary);
    setup.rules.limits.request_size = 100_000;
    let rig = setup.start();
    rig.enter(holdover());
    let put = |size: usize| with_body("PUT", "/v1/auth/token/create", &[], &"x".repeat(size));
    assert_eq!(rig.ask(&put(100_000)).await.status(), 200);
    assert_eq!(rig.ask(&put(100_001)).await.outcome(), (413, "replica"));
}

#[tokio::test]
async fn a_write_of_unknown_outcome_says_exactly_that() {
    let primary = Primary::start(|_| Act::Break(Vec::new())).await;
    let rig = Setup::with(&primary).start();
    let put = |target: &str| with_body("PUT", target, &[], "{}");
    let heard = rig.ask(&put("/v1/secret/data/x")).await;
    assert_eq!(heard.outcome(), (504, "replica"));
    assert!(heard.text().contains("unknown"));
    let heard = rig.ask(&put("/v1/auth/token/revoke-self")).await;
    assert_eq!(heard.outcome(), (504, "replica"));
    assert!(rig.replica.asked().is_empty());
}

#[tokio::test]
async fn a_write_that_was_never_sent_says_so_and_a_revocation_is_the_replicas() {
    let primary = Primary::dead().await;
    let rig = Setup::with(&primary).start();
    let put = |target: &str| with_body("PUT", target, &[], "{}");
    let heard = rig.ask(&put("/v1/secret/data/x")).await;
    assert_eq!(heard.outcome(), (503, "replica"));
    assert!(heard.text().contains("nothing was applied"));
    let heard = rig.ask(&put("/v1/auth/token/revoke-self")).await;
    assert_eq!(heard.outcome(), (200, "replica"));
}

#[tokio::test]
async fn a_write_that_hangs_ends_when_the_replica_takes_over() {
    let primary = Primary::start(|_| Act::Hang).await;
    let rig = Setup::with(&primary).start();
    let text = with_body("PUT", "/v1/secret/data/x", &[], "{}");
    let (heard, ()) = tokio::join!(rig.ask(&text), async {
        eventually("the write", || !primary.received().is_empty()).await;
        rig.enter(holdover());
    });
    assert_eq!(heard.status(), 504);
}

fn promising(status: u16) -> ::replica::vault::Answer {
    let mut answer = says(status, "{}");
    answer.changes = vec![Change::GrantForgotten(TokenDigest([1; 32]))];
    answer
}

#[tokio::test]
async fn a_promise_is_sent_only_once_it_is_durable() {
    let primary = Primary::dead().await;
    let rig = Setup::with(&primary).start();
    rig.enter(holdover());
    rig.replica.decides(|_| promising(200));
    let text = with_body("PUT", "/v1/auth/token/create", &[], "{}");
    assert_eq!(rig.ask(&text).await.status(), 200);
    assert_eq!(rig.replica.committed(), [(Lane::Grant, 1)]);
    rig.replica
        .commits_fail([SubmitError::Failed("disk full".into())]);
    let heard = rig.ask(&text).await;
    assert_eq!(heard.outcome(), (503, "replica"));
    assert!(
        heard.text().contains("storage takes no changes: disk full"),
        "{}",
        heard.text()
    );
}

#[tokio::test]
async fn a_decision_whose_ground_gave_way_is_taken_anew_at_most_twice() {
    let primary = Primary::dead().await;
    let rig = Setup::with(&primary).start();
    rig.enter(holdover());
    rig.replica.decides(|_| promising(200));
    let text = with_body("PUT", "/v1/auth/token/create", &[], "{}");
    rig.replica
        .commits_fail([SubmitError::Conflict, SubmitError::Conflict]);
    assert_eq!(rig.ask(&text).await.status(), 200);
    assert_eq!(rig.replica.asked().len(), 3);
    let conflicts = std::iter::repeat_n(SubmitError::Conflict, 3);
    rig.replica.commits_fail(conflicts);
    assert_eq!(rig.ask(&text).await.status(), 503);
}

#[tokio::test]
async fn while_issuing_is_paused_a_login_waits_for_the_side_that_takes_over() {
    let primary = Primary::saying("{\"auth\":{}}").await;
    let rig = Setup::with(&primary).start();
    rig.enter(holdover());
    rig.replica.decides(|_| promising(200));
    rig.replica
        .commits_fail(std::iter::repeat_n(SubmitError::Paused, 1000));
    let text = with_body("PUT", "/v1/auth/approle/login", &[], "{}");
    let (heard, ()) = tokio::join!(rig.ask(&text), async {
        eventually("the decision", || !rig.replica.asked().is_empty()).await;
        rig.enter(shared::failover::Phase::Following);
    });
    assert_eq!(heard.outcome(), (200, "primary"));
}
