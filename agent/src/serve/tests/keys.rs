//! Claims about mirrored keys that are written, or shown in a newer state, through the socket.

use std::{sync::Arc, time::Duration};

use ::replica::learn::key::Difference;
use shared::{doubt::Told, kv::Doubted};

use super::{
    eventually,
    rig::{
        Act, Client, FakeReplica, Primary, Rig, Setup,
        client::with_body,
        holdover,
        primary::{ok, with},
        request,
    },
};
use crate::{clock::Stopwatch, mirror::Anew, samples, serve::key_watch::KeyWatch};

const KEY: &str = "/v1/secret/data/shop/a";

fn of(path: &str) -> Doubted {
    Doubted::Key(samples::kv_place(path))
}

/// What is in doubt, by path.
fn doubted(rig: &Rig) -> Vec<Doubted> {
    rig.replica
        .doubted()
        .into_iter()
        .map(|doubt| doubt.of)
        .collect()
}

fn put(target: &str) -> String {
    with_body("PUT", target, &["X-Vault-Token: s.t"], "{\"data\":{}}")
}

fn saying(status: &'static str) -> impl Fn(&super::rig::primary::Received) -> Act + Send + Sync {
    move |_| Act::Say(with(status, "", "{}"))
}

#[tokio::test]
async fn a_write_that_the_primary_carried_out_leaves_its_key_in_doubt() {
    for status in ["200 OK", "202 Accepted"] {
        let primary = Primary::start(saying(status)).await;
        let rig = Setup::with(&primary).start();
        let heard = rig.ask(&put(KEY)).await;
        assert_eq!(heard.source(), "primary");
        assert_eq!(doubted(&rig), [of("secret/data/shop/a")], "{status}");
    }
    let primary = Primary::start(|_| Act::Say(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())).await;
    let rig = Setup::with(&primary).start();
    let targets = [
        "/v1/secret/metadata/shop/b",
        "/v1/secret/data/other",
        "/v1/sys/mounts/secret",
    ];
    for target in targets {
        assert_eq!(rig.ask(&request("DELETE", target, &[])).await.status(), 204);
    }
    assert_eq!(
        doubted(&rig),
        [
            of("secret/data/shop/b"),
            Doubted::Mirror("secret/data/shop/*".into())
        ]
    );
    assert!(rig.replica.doubted()[0].vanished);
}

#[tokio::test]
async fn a_decision_changed_nothing_and_leaves_nothing_in_doubt() {
    for status in [
        "307 x", "400 x", "403 x", "404 x", "405 x", "412 x", "429 x",
    ] {
        let primary = Primary::start(saying(status)).await;
        let rig = Setup::with(&primary).start();
        rig.ask(&put(KEY)).await;
        assert_eq!(doubted(&rig), [], "{status}");
    }
    let primary = Primary::dead().await;
    let rig = Setup::with(&primary).start();
    assert_eq!(rig.ask(&put(KEY)).await.outcome(), (503, "replica"));
    assert_eq!(doubted(&rig), [], "never sent");
}

#[tokio::test]
async fn a_write_of_unknown_outcome_leaves_its_key_in_doubt() {
    for status in ["500 x", "502 x", "503 x", "504 x"] {
        let primary = Primary::start(saying(status)).await;
        let rig = Setup::with(&primary).start();
        rig.ask(&put(KEY)).await;
        assert_eq!(doubted(&rig), [of("secret/data/shop/a")], "{status}");
    }
    let primary = Primary::start(|_| Act::Break(Vec::new())).await;
    let rig = Setup::with(&primary).start();
    assert_eq!(rig.ask(&put(KEY)).await.outcome(), (504, "replica"));
    assert_eq!(doubted(&rig), [of("secret/data/shop/a")]);
    let primary = Primary::start(|_| Act::Hang).await;
    let rig = Setup::with(&primary).start();
    let text = put(KEY);
    let (heard, ()) = tokio::join!(rig.ask(&text), async {
        eventually("the write", || !primary.received().is_empty()).await;
        rig.enter(holdover());
    });
    assert_eq!(heard.status(), 504);
    assert_eq!(doubted(&rig), [of("secret/data/shop/a")]);
}

/// Nobody waits for its answer any more, and it may be carried out all the same.
#[tokio::test]
async fn a_write_whose_client_has_gone_leaves_its_key_in_doubt() {
    let primary = Primary::start(|_| Act::Hang).await;
    let rig = Setup::with(&primary).start();
    let mut client = Client::connect(&rig.path).await;
    client.write(put(KEY).as_bytes()).await;
    eventually("the write", || !primary.received().is_empty()).await;
    assert_eq!(doubted(&rig), []);
    drop(client);
    eventually("the doubt", || doubted(&rig) == [of("secret/data/shop/a")]).await;
}

/// Its client has gone, and so may the primary while nothing is served: the next start goes by what is stored by then.
#[tokio::test]
async fn a_write_whose_client_has_gone_leaves_its_key_in_doubt_before_the_end() {
    let another = rustix::process::geteuid().as_raw() + 1;
    for matched in [None, Some(another)] {
        let primary = Primary::start(|_| Act::Hang).await;
        let mut setup = Setup::with(&primary);
        setup.rules.read_deadline = Duration::from_secs(60);
        if matched.is_some() {
            setup.rules.matches[0].1.uid = matched;
        }
        let rig = setup.start();
        let mut client = Client::connect(&rig.path).await;
        client.write(put(KEY).as_bytes()).await;
        eventually("the write", || !primary.received().is_empty()).await;
        drop(client);
        let (server, replica) = (Arc::clone(&rig.server), Arc::clone(&rig.replica));
        rig.stop().await;
        server.end_unattended().await;
        assert_eq!(replica.doubted().len(), 1, "{matched:?}");
    }
}

#[tokio::test]
async fn a_write_that_is_too_large_to_be_kept_counts_by_its_path() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let text = with_body("POST", KEY, &[], &"x".repeat(100_000));
    assert_eq!(rig.ask(&text).await.outcome(), (200, "primary"));
    assert_eq!(doubted(&rig), [of("secret/data/shop/a")]);
    let all = with_body("POST", "/v1/sys/remount", &[], &"x".repeat(100_000));
    rig.ask(&all).await;
    assert_eq!(
        doubted(&rig).last(),
        Some(&Doubted::Mirror("secret/data/shop/*".into()))
    );
}

#[tokio::test]
async fn an_answer_does_not_wait_long_for_its_doubt_to_be_durable() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    rig.replica.is_slow();
    let watch = Stopwatch::start();
    assert_eq!(rig.ask(&put(KEY)).await.status(), 200);
    assert!(
        watch.elapsed() >= Duration::from_millis(100),
        "it waits a little"
    );
    assert!(watch.elapsed() < Duration::from_secs(5));
    assert_eq!(doubted(&rig), [of("secret/data/shop/a")]);
}

#[tokio::test]
async fn a_change_of_authority_is_told_once_it_was_carried_out() {
    let primary = Primary::start(|received| {
        let status = match received.head.target().rsplit('/').next() {
            Some("refused") => "403 x",
            Some("unsure") => "500 x",
            _ => "200 OK",
        };
        Act::Say(with(status, "", "{}"))
    })
    .await;
    let rig = Setup::with(&primary).start();
    let wanted = rig.anew.authority_wanted();
    let soon = Duration::from_millis(600);
    for name in ["refused", "unsure"] {
        rig.ask(&put(&format!("/v1/sys/policies/acl/{name}"))).await;
    }
    assert!(tokio::time::timeout(soon, wanted()).await.is_err());
    rig.ask(&put("/v1/sys/policies/acl/orders")).await;
    assert!(tokio::time::timeout(soon * 10, wanted()).await.is_ok());
}

fn difference(told: Told, evidence: u8) -> Vec<Difference> {
    Vec::from([Difference {
        of: of("secret/data/shop/a"),
        told,
        evidence: [evidence; 32],
    }])
}

const NEWER: Told = Told::Newer { vanished: false };

#[tokio::test]
async fn a_read_that_shows_more_than_is_kept_leaves_its_key_in_doubt() {
    let primary = Primary::start(|_| Act::Say(ok("{\"data\":{}}"))).await;
    let rig = Setup::with(&primary).start();
    rig.replica.is_shown(|read| {
        assert_eq!(
            (read.told.is_there, read.told.body),
            (true, &b"{\"data\":{}}"[..])
        );
        difference(Told::Newer { vanished: true }, 1)
    });
    assert_eq!(
        rig.ask(&request("GET", KEY, &[])).await.outcome(),
        (200, "primary")
    );
    let doubt = &rig.replica.doubted()[0];
    assert!(doubt.of == of("secret/data/shop/a") && doubt.vanished);
    // Of another namespace, and of what no mirror covers, nothing is looked at.
    rig.replica.is_shown(|_| panic!("looked at"));
    rig.ask(&request("GET", KEY, &["X-Vault-Namespace: team"]))
        .await;
    rig.ask(&request("GET", "/v1/secret/data/other", &[])).await;
    rig.ask(&put(KEY)).await;
}

#[tokio::test]
async fn what_only_differs_is_doubted_where_it_is_current_and_else_due() {
    let settings = samples::settings(&["secret/data/shop/*"]);
    let (replica, anew) = (Arc::new(FakeReplica::new(settings)), Anew::default());
    let watch = KeyWatch::new(replica.clone(), anew.clone());
    watch.weigh(difference(Told::Different, 1), false).await;
    assert!(replica.doubted().is_empty());
    assert_eq!(anew.take_due(), Some(of("secret/data/shop/a")));
    watch.weigh(difference(Told::Different, 1), true).await;
    assert_eq!(replica.doubted().len(), 1);
    assert_eq!(anew.take_due(), None);
}

/// A node that is behind shows the same again and again, and the key was read anew since.
#[tokio::test]
async fn the_same_evidence_counts_once_in_a_while() {
    let settings = samples::settings(&["secret/data/shop/*"]);
    let (replica, anew) = (Arc::new(FakeReplica::new(settings)), Anew::default());
    let watch = KeyWatch::new(replica.clone(), anew.clone());
    for _ in 0..3 {
        watch.weigh(difference(NEWER, 1), false).await;
    }
    assert_eq!(replica.doubted().len(), 1);
    assert_eq!(anew.take_due(), Some(of("secret/data/shop/a")));
    watch.weigh(difference(NEWER, 2), false).await;
    assert_eq!(replica.doubted().len(), 2);
}
