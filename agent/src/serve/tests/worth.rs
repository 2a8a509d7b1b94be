//! Claims about what is learned from an answer to a client, by where it comes from: one test for each use.

use std::time::Duration;

use shared::{change::Change, failover::Event as MachineEvent, grant::Origin, name::TokenDigest};

use super::rig::{
    Act, Primary, Rig, Setup,
    client::with_body,
    primary::{Node, of_another_cluster, with},
    request,
};
use crate::{driver::Event, serve::learn_queue::LearnRequest};

/// Where answers come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum From {
    /// The active node of the trusted cluster.
    Active,
    /// A node of it of which nothing shows that it is current.
    Behind,
    /// Another cluster, over a connection that had shown the trusted one.
    Foreign,
}

const EVERYWHERE: [From; 3] = [From::Active, From::Behind, From::Foreign];

const DENIED: &str = "{\"errors\":[\"permission denied\"]}";

const READ: &str = "/v1/secret/data/shop/a";

/// A socket whose primary says this to everything.
async fn rig(from: From, status: &'static str, body: &'static str) -> (Primary, Rig) {
    let said = saying(from, status, body);
    let primary = Primary::start_as(node(from), move |_| Act::Say(said.clone())).await;
    let mut setup = Setup::with(&primary);
    setup.rules.parity_sample = 1.0;
    let rig = setup.start();
    (primary, rig)
}

fn node(from: From) -> Node {
    match from {
        From::Behind => Node::Standby,
        From::Active | From::Foreign => Node::Active,
    }
}

fn saying(from: From, status: &str, body: &str) -> Vec<u8> {
    let header = match from {
        From::Foreign => of_another_cluster(),
        From::Active | From::Behind => String::new(),
    };
    with(status, &header, body)
}

async fn ask(rig: &Rig, target: &str) -> (u16, String) {
    let heard = rig
        .ask(&request("GET", target, &["X-Vault-Token: s.t"]))
        .await;
    (heard.status(), heard.source().to_owned())
}

/// Whether a change of this kind is committed soon.
async fn committed(rig: &Rig, wanted: fn(&Change) -> bool) -> bool {
    comes(|| rig.replica.has_committed(wanted)).await
}

/// Whether this comes to hold within a second.
async fn comes(mut holds: impl FnMut() -> bool) -> bool {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let within = Duration::from_secs(1);
    tokio::time::timeout(within, waiting).await.is_ok()
}

fn doubted(rig: &mut Rig) -> Option<TokenDigest> {
    match rig.unlearned.try_recv() {
        Ok(LearnRequest::Doubted(digest)) => Some(digest),
        _ => None,
    }
}

#[tokio::test]
async fn whatever_an_answer_is_worth_it_is_passed_on() {
    for from in EVERYWHERE {
        let (_primary, rig) = rig(from, "403 x", DENIED).await;
        assert_eq!(
            ask(&rig, READ).await,
            (403, "primary".to_owned()),
            "{from:?}"
        );
    }
}

#[tokio::test]
async fn only_a_current_acceptance_proves_a_token() {
    for from in EVERYWHERE {
        for target in [READ, "/v1/secret/data/streamed"] {
            let (_primary, rig) = rig(from, "200 OK", "{}").await;
            rig.replica
                .knows("s.t", Origin::Primary, Duration::from_secs(90));
            ask(&rig, target).await;
            let proven = committed(&rig, |change| matches!(change, Change::Proven(..))).await;
            assert_eq!(proven, from == From::Active, "{from:?} {target}");
        }
    }
}

#[tokio::test]
async fn a_path_that_answers_anybody_proves_no_token() {
    let (_primary, rig) = rig(From::Active, "200 OK", "{}").await;
    rig.replica
        .knows("s.t", Origin::Primary, Duration::from_secs(90));
    ask(&rig, "/v1/sys/internal/ui/mounts").await;
    ask(&rig, "/v1/pki/cert/ca").await;
    assert!(!committed(&rig, |change| matches!(change, Change::Proven(..))).await);
}

#[tokio::test]
async fn a_refusal_of_the_token_makes_its_look_up_due_and_ends_nothing() {
    for from in EVERYWHERE {
        let (_primary, mut rig) = rig(from, "403 x", DENIED).await;
        let digest = rig.replica.knows("s.t", Origin::Primary, Duration::ZERO);
        ask(&rig, READ).await;
        let expected = (from != From::Foreign).then_some(digest);
        assert_eq!(doubted(&mut rig), expected, "{from:?}");
        let stored = committed(&rig, |change| matches!(change, Change::TokenDoubted(..))).await;
        assert_eq!(stored, from != From::Foreign, "{from:?}");
        assert!(
            !rig.replica
                .has_committed(|change| matches!(change, Change::Revoked(_)))
        );
    }
}

#[tokio::test]
async fn a_refusal_by_a_policy_or_of_an_unknown_token_makes_nothing_due() {
    let by_policy = "{\"errors\":[\"1 error occurred:\\n\\t* permission denied\\n\\n\"]}";
    let (_primary, mut policy) = rig(From::Active, "403 x", by_policy).await;
    policy.replica.knows("s.t", Origin::Primary, Duration::ZERO);
    let (_primary, mut unknown) = rig(From::Active, "403 x", DENIED).await;
    for rig in [&mut policy, &mut unknown] {
        ask(rig, READ).await;
        assert_eq!(doubted(rig), None);
        assert!(rig.replica.committed().is_empty());
    }
}

#[tokio::test]
async fn a_doubt_is_asked_about_though_the_token_was_just_asked_about() {
    let (denied, accepted) = (
        saying(From::Active, "403 x", DENIED),
        saying(From::Active, "200 OK", "{}"),
    );
    let primary = Primary::start(move |received| {
        Act::Say(match received.head.target() {
            READ => denied.clone(),
            _ => accepted.clone(),
        })
    })
    .await;
    let mut rig = Setup::with(&primary).start();
    let digest = rig.replica.knows("s.t", Origin::Learned, Duration::ZERO);
    ask(&rig, "/v1/secret/data/other").await;
    let asked = rig.unlearned.try_recv();
    assert!(matches!(asked, Ok(LearnRequest::Token { .. })));
    ask(&rig, READ).await;
    assert_eq!(doubted(&mut rig), Some(digest));
    ask(&rig, READ).await;
    assert_eq!(doubted(&mut rig), None, "once in a while");
}

#[tokio::test]
async fn a_token_that_none_but_nodes_behind_accept_is_looked_up() {
    for (from, verified, expected) in [
        (From::Active, 900, false),
        (From::Behind, 900, true),
        (From::Behind, 100, false),
        (From::Foreign, 900, false),
    ] {
        let (_primary, mut rig) = rig(from, "200 OK", "{}").await;
        rig.replica
            .knows("s.t", Origin::Primary, Duration::from_secs(verified));
        ask(&rig, READ).await;
        let asked = rig.unlearned.try_recv();
        let asked = matches!(asked, Ok(LearnRequest::Token { .. }));
        assert_eq!(asked, expected, "{from:?}, verified {verified} s ago");
    }
}

#[tokio::test]
async fn what_an_answer_brought_is_learned_from_any_node_of_the_trusted_cluster() {
    for from in EVERYWHERE {
        let (_primary, rig) = rig(from, "200 OK", "{\"auth\":{}}").await;
        let login = with_body("PUT", "/v1/auth/userpass/login/u", &[], "{}");
        assert_eq!(rig.ask(&login).await.status(), 200);
        let taught = !rig.replica.lessons().is_empty();
        assert_eq!(taught, from != From::Foreign, "{from:?}");
    }
}

#[tokio::test]
async fn only_current_decisions_are_compared() {
    for from in EVERYWHERE {
        let (_primary, mut rig) = rig(from, "403 x", DENIED).await;
        ask(&rig, READ).await;
        let offered = rig.offered.try_recv().ok();
        assert_eq!(offered.is_some(), from == From::Active, "{from:?}");
        if let Some(offer) = offered {
            assert_eq!(offer.decision.status(), 403);
            assert!(offer.decision.as_of() <= offer.answered_at.steady);
        }
    }
}

#[tokio::test]
async fn an_answer_postpones_a_probe_where_the_trusted_cluster_gave_it() {
    for from in EVERYWHERE {
        let (_primary, mut rig) = rig(from, "404 x", "{\"errors\":[]}").await;
        ask(&rig, READ).await;
        let told = rig.told.try_recv();
        let postpones = matches!(
            told,
            Ok(Event::Machine(MachineEvent::ForwardSucceeded {
                audited: false
            }))
        );
        assert_eq!(postpones, from != From::Foreign, "{from:?}: {told:?}");
    }
}

/// The same table, for an answer that nobody waits for any more.
#[tokio::test]
async fn what_comes_late_counts_as_what_comes_in_time() {
    for from in EVERYWHERE {
        let said = saying(from, "200 OK", "{\"data\":{}}");
        let primary = Primary::start_as(node(from), move |_| {
            Act::SayAfter(Duration::from_millis(500), said.clone())
        })
        .await;
        let mut setup = Setup::with(&primary);
        setup.rules.parity_sample = 1.0;
        let mut rig = setup.start();
        let digest = rig
            .replica
            .knows("s.t", Origin::Primary, Duration::from_secs(90));
        assert_eq!(ask(&rig, READ).await, (200, "replica".to_owned()));
        let taught = comes(|| !rig.replica.lessons().is_empty()).await;
        assert_eq!(taught, from != From::Foreign, "{from:?}");
        let mut lessons = rig.replica.lessons().into_iter();
        assert!(lessons.all(|lesson| lesson.token == Some(digest)));
        let proven = committed(&rig, |change| matches!(change, Change::Proven(..))).await;
        assert_eq!(proven, from == From::Active, "{from:?}");
        let compared = rig.offered.try_recv().is_ok();
        assert_eq!(compared, from == From::Active, "{from:?}");
    }
}
