//! Claims about requests with a grant that an outage left: judged before anything is answered, minted for where the primary is
//! to answer.

use std::time::Duration;

use shared::{
    change::CredentialName,
    failover::Event as MachineEvent,
    grant::Settled,
    name::{Accessor, TokenDigest},
};

use super::{
    eventually, replica_token,
    rig::{Primary, Rig, Setup, client::with_body, holdover, request, says, sides::of_replica},
};
use crate::{
    driver::Event,
    recovery::settler::{Judged, Settlement},
};

const MIRRORED: &str = "/v1/secret/data/shop/a";

const UNMIRRORED: &str = "/v1/secret/data/unmirrored";

/// A socket at which somebody has a grant that an outage left.
struct Left {
    primary: Primary,
    rig: Rig,
    token: String,
}

impl Left {
    async fn over() -> Self {
        Self::within(Duration::from_secs(30)).await
    }

    /// The same where a request waits so long for what it is settled by.
    async fn within(issue_deadline: Duration) -> Self {
        let primary = Primary::saying("{\"from\":\"primary\"}").await;
        let mut setup = Setup::with(&primary);
        setup.rules.issue_deadline = issue_deadline;
        let (rig, token) = (setup.start(), replica_token());
        let left = of_replica(Settled::Not);
        rig.replica.knows(&token, left, Duration::ZERO);
        Self {
            primary,
            rig,
            token,
        }
    }

    fn digest(&self) -> TokenDigest {
        use crate::serve::replica::Replica;
        self.rig.replica.digest(&self.token)
    }

    /// A token is minted for it as soon as it is settled.
    fn is_exchanged(&self) {
        let (replica, token) = (self.rig.replica.clone(), self.token.clone());
        self.rig.settler.judges(|| Judged::Exchange);
        self.rig.settler.settles(move || {
            let behind = Settled::Exchanged(Accessor::parse("behind").unwrap());
            let digest = replica.knows(&token, of_replica(behind), Duration::ZERO);
            replica.holds(CredentialName::Exchanged(digest), "s.behind");
            Settlement::Settled
        });
    }

    async fn ask(&self, method: &str, target: &str) -> (u16, String, String) {
        let header = format!("X-Vault-Token: {}", self.token);
        let asked = match method {
            "GET" => request(method, target, &[&header]),
            _ => with_body(method, target, &[&header], "{}"),
        };
        let heard = self.rig.ask(&asked).await;
        let (status, source) = heard.outcome();
        (status, source.to_owned(), heard.text().to_owned())
    }

    /// Whether the machine was told to have a look at the primary.
    fn doubts(&mut self) -> bool {
        let mut told = std::iter::from_fn(|| self.rig.told.try_recv().ok());
        told.any(|event| matches!(event, Event::Machine(MachineEvent::ForwardFailed)))
    }
}

#[tokio::test]
async fn what_the_primary_answers_waits_for_the_mint_and_goes_with_its_token() {
    for (method, target) in [
        ("GET", UNMIRRORED),
        ("PUT", MIRRORED),
        ("PUT", "/v1/auth/token/create"),
        ("PUT", "/v1/sys/capabilities-self"),
    ] {
        let left = Left::over().await;
        left.is_exchanged();
        let (status, source, _) = left.ask(method, target).await;
        assert_eq!((status, &*source), (200, "primary"), "{target}");
        assert_eq!(left.rig.settler.asked(), ["judge", "settle"], "{target}");
        let received = left.primary.only();
        assert_eq!(received.head.get("x-vault-token"), Some("s.behind"));
    }
}

#[tokio::test]
async fn a_mirrored_read_starts_the_mint_and_is_answered_from_the_replica() {
    let left = Left::over().await;
    left.rig.settler.judges(|| Judged::Exchange);
    let (status, source, _) = left.ask("GET", MIRRORED).await;
    assert_eq!((status, &*source), (200, "replica"));
    assert_eq!(left.rig.settler.asked(), ["judge", "settle"]);
    assert!(left.primary.received().is_empty());
}

#[tokio::test]
async fn a_read_that_the_replica_cannot_answer_waits_for_the_mint() {
    let left = Left::over().await;
    left.rig.replica.decides(|_| says(503, "{}"));
    left.is_exchanged();
    let (status, source, _) = left.ask("GET", MIRRORED).await;
    assert_eq!((status, &*source), (200, "primary"));
}

#[tokio::test]
async fn looking_it_up_and_giving_it_up_never_mint() {
    let judged: &[&str] = &["judge"];
    for (method, target, asked) in [
        ("GET", "/v1/auth/token/lookup-self", judged),
        // Whatever it comes to, its holder may end it.
        ("PUT", "/v1/auth/token/revoke-self", &[]),
    ] {
        let left = Left::over().await;
        left.rig.settler.judges(|| Judged::Exchange);
        let (status, source, _) = left.ask(method, target).await;
        assert_eq!((status, &*source), (200, "replica"), "{target}");
        assert_eq!(left.rig.settler.asked(), asked, "{target}");
    }
}

#[tokio::test]
async fn where_the_primary_asks_to_wait_reads_go_on_and_nobody_is_told_to_log_in_again() {
    let left = Left::over().await;
    let wait = || Judged::As(Settlement::Later("fewer requests".into()));
    left.rig.settler.judges(wait);
    let (status, source, _) = left.ask("GET", MIRRORED).await;
    assert_eq!((status, &*source), (200, "replica"));
    // By what was not verified nobody is refused.
    left.rig.replica.decides(|_| says(403, "{}"));
    for (method, target) in [("GET", MIRRORED), ("PUT", "/v1/auth/token/create")] {
        let (status, _, text) = left.ask(method, target).await;
        assert_eq!(status, 503, "{target}: {text}");
        assert!(text.contains("try again"), "{target}: {text}");
    }
}

#[tokio::test]
async fn where_it_drains_for_now_it_is_good_for_reads_and_what_goes_with_them() {
    let left = Left::over().await;
    let judged = || Judged::As(Settlement::Drains);
    left.rig.settler.judges(judged);
    for (method, target) in [
        ("GET", MIRRORED),
        ("GET", "/v1/auth/token/lookup-self"),
        ("PUT", "/v1/auth/token/renew-self"),
    ] {
        let (status, source, _) = left.ask(method, target).await;
        assert_eq!((status, &*source), (200, "replica"), "{target}");
    }
    for (method, target) in [("GET", UNMIRRORED), ("PUT", MIRRORED)] {
        let (status, _, text) = left.ask(method, target).await;
        assert_eq!(status, 403, "{target}");
        assert!(text.contains("log in again"), "{text}");
    }
    assert!(left.primary.received().is_empty());
}

#[tokio::test]
async fn only_what_the_primary_did_not_answer_has_the_machine_look_at_it() {
    for (outcome, doubts) in [
        (Settlement::Unread("not told".into()), false),
        (Settlement::Unreachable("no answer".into()), true),
    ] {
        let mut left = Left::over().await;
        let judged = outcome.clone();
        let judges = move || Judged::As(judged.clone());
        left.rig.settler.judges(judges);
        let (status, source, text) = left.ask("GET", MIRRORED).await;
        assert_eq!((status, &*source), (503, "replica"), "{outcome:?}");
        assert!(text.contains("try again"), "{text}");
        assert_eq!(left.doubts(), doubts, "{outcome:?}");
        assert!(left.primary.received().is_empty());
    }
}

#[tokio::test]
async fn whoever_is_told_to_try_again_has_used_the_token() {
    for outcome in [
        Settlement::Later("fewer requests".into()),
        Settlement::Unread("not told".into()),
        Settlement::Unreachable("no answer".into()),
    ] {
        let left = Left::over().await;
        let judged = outcome.clone();
        left.rig.settler.judges(move || Judged::As(judged.clone()));
        let (status, ..) = left.ask("PUT", UNMIRRORED).await;
        let used = left.rig.replica.used_tokens();
        assert_eq!((status, used), (503, vec![left.digest()]), "{outcome:?}");
    }
    // In the next outage likewise, of what the replica cannot judge; but not of what it refuses.
    let left = Left::over().await;
    left.rig.enter(holdover());
    for (status, uses) in [(503, 1), (403, 1), (200, 2)] {
        left.rig.replica.decides(move |_| says(status, "{}"));
        assert_eq!(left.ask("GET", UNMIRRORED).await.0, status);
        assert_eq!(left.rig.replica.used_tokens().len(), uses, "{status}");
    }
}

#[tokio::test]
async fn a_mint_that_takes_too_long_is_told_as_such_and_the_machine_looks() {
    let mut left = Left::within(Duration::from_millis(50)).await;
    left.rig.settler.judges(|| Judged::Exchange);
    let (status, _, text) = left.ask("PUT", MIRRORED).await;
    assert_eq!(status, 503);
    assert!(text.contains("did not answer in time"), "{text}");
    assert!(left.doubts());
    assert!(left.primary.received().is_empty());
}

#[tokio::test]
async fn who_waits_for_a_mint_is_answered_by_the_replica_once_that_takes_over() {
    let left = Left::over().await;
    left.rig.settler.judges(|| Judged::Exchange);
    let asking = left.ask("PUT", "/v1/auth/token/create");
    let taking_over = async {
        eventually("the mint", || left.rig.settler.asked().contains(&"settle")).await;
        left.rig.enter(holdover());
    };
    let ((status, source, _), ()) = tokio::join!(asking, taking_over);
    assert_eq!((status, &*source), (200, "replica"));
}

#[tokio::test]
async fn a_grant_that_is_left_again_at_once_is_not_settled_in_circles() {
    let left = Left::over().await;
    // Settled, it is said, and still as it was.
    let (status, _, text) = left.ask("PUT", MIRRORED).await;
    assert_eq!(status, 503);
    assert!(text.contains("try again"), "{text}");
    assert_eq!(left.rig.settler.asked(), ["judge"]);
}

#[tokio::test]
async fn a_grant_whose_outage_goes_on_is_judged_by_nobody() {
    let left = Left::over().await;
    left.rig.enter(holdover());
    let (status, source, _) = left.ask("GET", MIRRORED).await;
    assert_eq!((status, &*source), (200, "replica"));
    assert!(left.rig.settler.asked().is_empty());
}

#[tokio::test]
async fn an_exchanged_token_whose_entity_is_not_what_it_was_is_refused() {
    let left = Left::over().await;
    left.is_exchanged();
    assert_eq!(left.ask("PUT", MIRRORED).await.0, 200);
    left.rig.replica.outlives(left.digest());
    let (status, _, _) = left.ask("PUT", MIRRORED).await;
    assert_eq!(status, 403);
    assert_eq!(left.primary.received().len(), 1);
}

#[tokio::test]
async fn accessors_of_replica_grants_are_answered_here_whoever_asks() {
    let left = Left::over().await;
    left.is_exchanged();
    assert_eq!(left.ask("PUT", MIRRORED).await.0, 200);
    for token in [&*left.token, "s.of-an-operator"] {
        for path in ["lookup-accessor", "renew-accessor", "revoke-accessor"] {
            let header = format!("X-Vault-Token: {token}");
            let target = format!("/v1/auth/token/{path}");
            let named = "{\"accessor\":\"accessor-0\"}";
            let asked = with_body("PUT", &target, &[&header], named);
            let heard = left.rig.ask(&asked).await;
            assert_eq!(heard.outcome(), (200, "replica"), "{path} with {token}");
            let other = named.replace("accessor-0", "of-the-primary");
            let asked = with_body("PUT", &target, &[&header], &other);
            let heard = left.rig.ask(&asked).await;
            assert_eq!(heard.outcome(), (200, "primary"), "{path} with {token}");
        }
    }
}
