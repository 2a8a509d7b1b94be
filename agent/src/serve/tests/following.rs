//! Claims about requests while the primary is authoritative and there.

use std::time::Duration;

use shared::{failover::Event as MachineEvent, grant::Origin};

use super::{
    eventually,
    rig::{
        Act, Client, Primary, Setup,
        client::with_body,
        primary::{ok, with},
        request,
    },
};
use crate::{driver::Event, serve::learn_queue::LearnRequest};

#[tokio::test]
async fn targets_reach_the_primary_byte_for_byte() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let targets = [
        "/v1/secret/data/a%2e%2E%2Fb",
        "/v1/a/{b}/c|d?x=%7E&y=a+b&&z",
        "/v1/a\\b",
        "/v1/a//b/../c/./d",
        "/v1/%zz",
        "/ui/vault/secrets",
        "/v1/sys/health?standbyok=true",
    ];
    let mut client = Client::connect(&rig.path).await;
    for target in targets {
        let heard = client.ask(&request("GET", target, &[])).await;
        assert_eq!(heard.outcome(), (200, "primary"), "{target}");
    }
    let received: Vec<String> = primary
        .received()
        .iter()
        .map(|received| received.head.target().to_owned())
        .collect();
    assert_eq!(received, targets);
}

#[tokio::test]
async fn what_is_no_request_target_is_refused_here() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    for target in ["/v1/a#b", "/v1/a<b", "/v1/a`b", "/v1/\u{1}"] {
        let heard = rig.ask(&request("GET", target, &[])).await;
        assert_eq!(heard.status(), 400, "{target}");
    }
    let tunnel = rig.ask(&request("CONNECT", "vault:8200", &[])).await;
    assert_eq!(tunnel.status(), 400);
    assert!(primary.received().is_empty());
}

#[tokio::test]
async fn methods_bodies_and_vault_headers_pass_and_claims_of_origin_do_not() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let headers = [
        "X-Vault-Token: s.mine",
        "X-Vault-Namespace: team",
        "X-Vault-Request: true",
        "X-Forwarded-For: 10.1.2.3",
        "Forwarded: for=10.1.2.3",
        "X-Real-Ip: 10.1.2.3",
        "X-Holdover-Source: replica",
        "Connection: keep-alive, X-Private",
        "X-Private: 1",
        "Content-Type: application/merge-patch+json",
    ];
    let text = with_body(
        "PATCH",
        "/v1/secret/data/x",
        &headers,
        r#"{"data":{"a":1}}"#,
    );
    assert_eq!(rig.ask(&text).await.status(), 200);
    let seen = primary.only();
    assert_eq!(seen.head.first, "PATCH /v1/secret/data/x HTTP/1.1");
    assert_eq!(seen.body, br#"{"data":{"a":1}}"#);
    let port = primary.address().port;
    assert_eq!(seen.head.get("host").unwrap(), format!("127.0.0.1:{port}"));
    for (name, value) in [
        ("x-vault-token", "s.mine"),
        ("x-vault-namespace", "team"),
        ("x-vault-request", "true"),
        ("content-type", "application/merge-patch+json"),
    ] {
        assert_eq!(seen.head.get(name), Some(value), "{name}");
    }
    for name in [
        "x-forwarded-for",
        "forwarded",
        "x-real-ip",
        "x-holdover-source",
        "x-private",
    ] {
        assert_eq!(seen.head.get(name), None, "{name}");
    }
}

#[tokio::test]
async fn list_and_scan_pass_as_the_methods_that_they_are() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    for method in ["LIST", "SCAN", "HEAD", "OPTIONS"] {
        rig.ask(&request(method, "/v1/secret/metadata/x", &[]))
            .await;
        let received = primary.received();
        let last = received.last().unwrap();
        assert!(last.head.first.starts_with(method), "{method}");
    }
}

#[tokio::test]
async fn answers_come_back_as_they_are_but_for_who_wrote_them() {
    let body = "{\"errors\":[\"1 error occurred:\\n\\t* permission denied\\n\\n\"]}\n";
    let primary = Primary::start(move |_| {
        let headers = "X-Vault-Index: 7\r\nX-Holdover-Age: 1\r\nRetry-After: 3\r\n";
        Act::Say(with("403 Forbidden", headers, body))
    })
    .await;
    let rig = Setup::with(&primary).start();
    let heard = rig.ask(&request("GET", "/v1/secret/data/x", &[])).await;
    assert_eq!(heard.outcome(), (403, "primary"));
    assert_eq!(heard.text(), body);
    assert_eq!(heard.head.get("x-vault-index"), Some("7"));
    assert_eq!(heard.head.get("retry-after"), Some("3"));
    assert_eq!(heard.head.get("x-holdover-age"), None);
}

#[tokio::test]
async fn decisions_are_passed_on_and_never_a_reason_to_fall_back() {
    for status in [
        "400 x", "401 x", "403 x", "404 x", "405 x", "412 x", "429 x",
    ] {
        let primary = Primary::start(move |_| Act::Say(with(status, "", "{}"))).await;
        let mut rig = Setup::with(&primary).start();
        let heard = rig
            .ask(&request("GET", "/v1/secret/data/shop/a", &[]))
            .await;
        assert_eq!(heard.source(), "primary", "{status}");
        assert!(status.starts_with(&heard.status().to_string()));
        let event = rig.told.try_recv().unwrap();
        assert!(matches!(
            event,
            Event::Machine(MachineEvent::ForwardSucceeded { audited: false })
        ));
    }
}

#[tokio::test]
async fn large_bodies_stream_both_ways() {
    let big = "x".repeat(3 * 1024 * 1024);
    let answer = ok(&big);
    let primary = Primary::start(move |_| Act::Say(answer.clone())).await;
    let rig = Setup::with(&primary).start();
    let body = "y".repeat(2 * 1024 * 1024 + 17);
    let heard = rig
        .ask(&with_body(
            "PUT",
            "/v1/sys/storage/raft/snapshot",
            &[],
            &body,
        ))
        .await;
    assert_eq!(heard.outcome(), (200, "primary"));
    assert_eq!(heard.body, big.as_bytes());
    assert_eq!(primary.only().body, body.as_bytes());
}

#[tokio::test]
async fn a_mirrored_read_that_is_too_large_to_be_kept_streams() {
    let big = "x".repeat(2 * 1024 * 1024);
    let answer = ok(&big);
    let primary = Primary::start(move |_| Act::Say(answer.clone())).await;
    let rig = Setup::with(&primary).start();
    let heard = rig
        .ask(&request("GET", "/v1/secret/data/shop/a", &[]))
        .await;
    assert_eq!(heard.body, big.as_bytes());
    assert_eq!(heard.outcome(), (200, "primary"));
}

#[tokio::test]
async fn an_answer_of_unknown_length_is_passed_on_once_it_is_too_large_to_be_kept() {
    let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n140000\r\n".to_vec();
    answer.extend(std::iter::repeat_n(b'x', 0x14_0000));
    let primary = Primary::start(move |_| Act::Say(answer.clone())).await;
    let rig = Setup::with(&primary).start();
    let mut client = Client::connect(&rig.path).await;
    let read = request("GET", "/v1/secret/data/shop/a", &[]);
    client.write(read.as_bytes()).await;
    let head = client.hear_head().await.unwrap();
    assert_eq!(head.get("x-holdover-source"), Some("primary"));
}

#[tokio::test]
async fn what_may_be_repeated_is_sent_once_more_and_nothing_else_is() {
    let primary = Primary::start(|_| Act::Break(Vec::new())).await;
    let rig = Setup::with(&primary).start();
    rig.ask(&request("GET", "/v1/secret/data/x", &[])).await;
    assert_eq!(primary.received().len(), 2);
    rig.ask(&with_body("PUT", "/v1/secret/data/x", &[], "{}"))
        .await;
    assert_eq!(primary.received().len(), 3);
}

#[tokio::test]
async fn chunked_bodies_arrive_whole() {
    let primary = Primary::start(|_| {
        Act::Say(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
                .to_vec(),
        )
    })
    .await;
    let rig = Setup::with(&primary).start();
    let text = "PUT /v1/sys/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                4\r\nwxyz\r\n0\r\n\r\n";
    let heard = rig.ask(text).await;
    assert_eq!(heard.text(), "abcde");
    assert_eq!(primary.only().body, b"wxyz");
}

#[tokio::test]
async fn redirects_are_followed_inside_to_configured_addresses_only() {
    let active = Primary::saying("{\"from\":\"active\"}").await;
    let at = active.address().url;
    let standby = Primary::start(move |received| {
        let location = format!("Location: {at}{}\r\n", received.head.target());
        Act::Say(with("307 Temporary Redirect", &location, ""))
    })
    .await;
    let setup = Setup {
        addresses: vec![standby.address(), active.address()],
        ..Setup::with(&standby)
    };
    let rig = setup.start();
    for text in [
        request("GET", "/v1/secret/data/shop/a?version=2", &[]),
        with_body("PUT", "/v1/secret/data/x", &[], "{}"),
    ] {
        let heard = rig.ask(&text).await;
        assert_eq!(heard.text(), "{\"from\":\"active\"}");
    }
    assert_eq!(active.received()[1].body, b"{}");
    assert_eq!(standby.received().len(), 2, "asked once for each");

    let stranger = Setup::with(&standby).start();
    let heard = stranger.ask(&request("GET", "/v1/secret/x", &[])).await;
    assert_eq!(heard.outcome(), (503, "replica"));
    assert_eq!(heard.head.get("location"), None);
    assert_eq!(active.received().len(), 2);
}

#[tokio::test]
async fn redirects_that_go_round_end() {
    let primary = Primary::start(|received| {
        let host = received.head.get("host").unwrap();
        let location = format!("Location: http://{host}{}\r\n", received.head.target());
        Act::Say(with("307 Temporary Redirect", &location, ""))
    })
    .await;
    let rig = Setup::with(&primary).start();
    let heard = rig.ask(&request("GET", "/v1/secret/x", &[])).await;
    assert_eq!(heard.status(), 503);
    assert!(primary.received().len() <= 4);
}

#[tokio::test]
async fn a_redirect_within_the_primary_is_the_clients() {
    let primary =
        Primary::start(|_| Act::Say(with("307 Temporary Redirect", "Location: /v1/a/b\r\n", "")))
            .await;
    let rig = Setup::with(&primary).start();
    let heard = rig.ask(&request("GET", "/v1/a//b", &[])).await;
    assert_eq!(heard.outcome(), (307, "primary"));
    assert_eq!(heard.head.get("location"), Some("/v1/a/b"));
}

#[tokio::test]
async fn the_next_address_is_tried_where_nothing_was_sent() {
    let (dead, alive) = (Primary::dead().await, Primary::saying("{}").await);
    let setup = Setup {
        addresses: vec![dead.address(), alive.address()],
        ..Setup::with(&alive)
    };
    let rig = setup.start();
    let heard = rig
        .ask(&with_body("PUT", "/v1/secret/data/x", &[], "{}"))
        .await;
    assert_eq!(heard.outcome(), (200, "primary"));
}

#[tokio::test]
async fn a_body_that_streams_goes_to_the_next_address_as_well_while_nothing_was_taken_of_it() {
    let (dead, alive) = (Primary::dead().await, Primary::saying("{}").await);
    let setup = Setup {
        addresses: vec![dead.address(), alive.address()],
        ..Setup::with(&alive)
    };
    let rig = setup.start();
    let body = "x".repeat(3 * 1024 * 1024);
    let heard = rig
        .ask(&with_body("PUT", "/v1/secret/data/x", &[], &body))
        .await;
    assert_eq!(heard.outcome(), (200, "primary"));
    assert_eq!(alive.only().body, body.as_bytes());
}

#[tokio::test]
async fn what_a_node_leaves_to_the_active_one_and_did_not_do_is_asked_there_once() {
    const LEFT: &str = r#"{"errors":["local node not active but active cluster node not found"]}"#;
    let left = || Primary::start(|_| Act::Say(with("500 Internal Server Error", "", LEFT)));
    let (first, active) = (left().await, Primary::saying("{}").await);
    let setup = Setup {
        addresses: vec![first.address(), active.address()],
        ..Setup::with(&active)
    };
    let rig = setup.start();
    for at in rig.link.addresses().all() {
        let looked = rig.link.look(at, Duration::from_secs(5)).await;
        assert!(looked.is_ok(), "{looked:?}");
    }
    let write = with_body("PUT", "/v1/secret/data/x", &[], "{}");
    assert_eq!(rig.ask(&write).await.outcome(), (200, "primary"));
    assert_eq!(active.received().len(), 1);
    // Where there is none, nothing was applied.
    let rig = Setup::with(&first).start();
    let heard = rig.ask(&write).await;
    assert_eq!(heard.outcome(), (503, "replica"));
    assert!(
        heard.text().contains("nothing was applied"),
        "{}",
        heard.text()
    );
}

#[tokio::test]
async fn what_the_active_node_fails_to_do_is_not_asked_of_a_third() {
    const LEFT: &str = r#"{"errors":["please forward to the active node"]}"#;
    const FAILED: &str = r#"{"errors":["1 error occurred"]}"#;
    let failing = |body: &'static str| {
        Primary::start(move |_| Act::Say(with("500 Internal Server Error", "", body)))
    };
    let (first, second) = (failing(LEFT).await, failing(FAILED).await);
    let third = Primary::saying("{}").await;
    let setup = Setup {
        addresses: vec![first.address(), second.address(), third.address()],
        ..Setup::with(&first)
    };
    let rig = setup.start();
    for at in rig.link.addresses().all() {
        let looked = rig.link.look(at, Duration::from_secs(5)).await;
        assert!(looked.is_ok(), "{looked:?}");
    }
    let heard = rig
        .ask(&with_body("PUT", "/v1/secret/data/x", &[], "{}"))
        .await;
    assert_eq!(heard.outcome(), (500, "primary"));
    assert_eq!((second.received().len(), third.received().len()), (1, 0));
}

#[tokio::test]
async fn nothing_is_sent_to_where_another_cluster_answers() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    rig.link
        .trust(shared::name::ClusterId::parse("another").unwrap());
    let get = |target: &str| request("GET", target, &["X-Vault-Token: s.mine"]);
    let heard = rig.ask(&get("/v1/secret/data/shop/a")).await;
    assert_eq!(heard.outcome(), (200, "replica"));
    let heard = rig.ask(&get("/v1/secret/data/x")).await;
    assert_eq!(heard.outcome(), (503, "replica"));
    assert!(primary.received().is_empty());
}

#[tokio::test]
async fn a_dead_pooled_connection_costs_an_idempotent_request_nothing() {
    let primary = Primary::start(|received| match received.head.target() {
        "/v1/sys/first" => Act::Break(ok("1")),
        _ => Act::Say(ok("2")),
    })
    .await;
    let rig = Setup::with(&primary).start();
    for _ in 0..20 {
        let first = rig.ask(&request("GET", "/v1/sys/first", &[])).await;
        let second = rig.ask(&request("GET", "/v1/sys/second", &[])).await;
        assert_eq!((first.text(), second.text()), ("1", "2"));
    }
}

#[tokio::test]
async fn a_token_that_the_primary_accepted_is_looked_up_once() {
    let primary = Primary::saying("{\"data\":{}}").await;
    let mut rig = Setup::with(&primary).start();
    let get = |target: &str| request("GET", target, &["X-Vault-Token: s.unknown"]);
    rig.ask(&get("/v1/sys/health")).await;
    assert!(rig.unlearned.try_recv().is_err(), "health proves no token");
    rig.replica
        .knows("s.known", Origin::Primary, Duration::ZERO);
    let known = request("GET", "/v1/secret/data/shop/a", &["X-Vault-Token: s.known"]);
    rig.ask(&known).await;
    assert!(rig.unlearned.try_recv().is_err(), "it is known already");
    rig.ask(&get("/v1/secret/data/shop/a")).await;
    rig.ask(&get("/v1/secret/data/shop/a")).await;
    let Ok(LearnRequest::Token { token, .. }) = rig.unlearned.try_recv() else {
        panic!("no token to be looked up");
    };
    assert_eq!(token.expose(), "s.unknown");
    assert!(rig.unlearned.try_recv().is_err());
}

#[tokio::test]
async fn a_streamed_success_verifies_its_token_once_a_minute() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    rig.replica
        .knows("s.old", Origin::Primary, Duration::from_secs(90));
    rig.replica
        .knows("s.young", Origin::Primary, Duration::from_secs(5));
    for token in ["s.old", "s.old", "s.young"] {
        let header = format!("X-Vault-Token: {token}");
        rig.ask(&request("GET", "/v1/secret/data/unmirrored", &[&header]))
            .await;
    }
    eventually("a verification", || !rig.replica.committed().is_empty()).await;
    assert_eq!(rig.replica.committed().len(), 1);
}

#[tokio::test]
async fn leases_are_learned_of_reads_and_writes_that_no_mirror_covers() {
    let primary = Primary::saying("{\"lease_id\":\"database/creds/x/1\"}").await;
    let rig = Setup::with(&primary).start();
    for (at, text) in [
        request("GET", "/v1/database/creds/x", &[]),
        with_body("PUT", "/v1/database/creds/x", &[], "{}"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(rig.ask(&text).await.outcome(), (200, "primary"));
        let lesson = &rig.replica.lessons()[at];
        assert_eq!(lesson.path, "database/creds/x");
        assert!(lesson.brought.as_ref().unwrap().contains("lease_id"));
    }
    rig.ask(&with_body("PUT", "/v1/secret/data/x", &[], "{}"))
        .await;
    assert_eq!(
        rig.replica.lessons().len(),
        2,
        "what leases nothing streams"
    );
}

#[tokio::test]
async fn a_leasing_read_that_broke_is_the_replicas_and_a_write_is_of_unknown_outcome() {
    let primary = Primary::start(|_| Act::Break(Vec::new())).await;
    let rig = Setup::with(&primary).start();
    let read = rig.ask(&request("GET", "/v1/database/creds/x", &[])).await;
    assert_eq!(read.outcome(), (200, "replica"));
    let write = with_body("PUT", "/v1/database/creds/x", &[], "{}");
    assert_eq!(rig.ask(&write).await.outcome(), (504, "replica"));
}

#[tokio::test]
async fn what_an_answer_teaches_is_stored_before_it_is_sent() {
    let primary = Primary::saying("{\"auth\":{\"client_token\":\"s.new\"}}").await;
    let rig = Setup::with(&primary).start();
    let heard = rig
        .ask(&with_body("PUT", "/v1/auth/userpass/login/u", &[], "{}"))
        .await;
    assert_eq!(heard.outcome(), (200, "primary"));
    assert_eq!(rig.replica.committed().len(), 1);
    let lesson = &rig.replica.lessons()[0];
    assert_eq!(
        (lesson.path.as_str(), lesson.peer.as_ref()),
        ("auth/userpass/login/u", None)
    );
}

#[tokio::test]
async fn a_sample_of_answers_is_compared_and_every_issuance() {
    let primary = Primary::saying("{}").await;
    let mut rig = Setup::with(&primary).start();
    let token = ["X-Vault-Token: s.mine"];
    for _ in 0..20 {
        rig.ask(&request("GET", "/v1/secret/data/shop/a", &token))
            .await;
    }
    assert!(rig.offered.try_recv().is_err());
    rig.ask(&with_body("PUT", "/v1/auth/token/create", &token, "{}"))
        .await;
    let offer = rig.offered.try_recv().unwrap();
    assert_eq!(offer.call.path.as_str(), "auth/token/create");
    assert_eq!(
        (offer.decision.status(), &offer.answer.unwrap()[..]),
        (200, &b"{}"[..])
    );

    let mut setup = Setup::with(&primary);
    setup.rules.parity_sample = 1.0;
    let mut rig = setup.start();
    for target in ["secret/data/shop/a", "sys/health", "auth/token/lookup-self"] {
        rig.ask(&request("GET", &format!("/v1/{target}"), &token))
            .await;
    }
    let offered = std::iter::from_fn(|| rig.offered.try_recv().ok());
    let paths: Vec<_> = offered
        .map(|offer| offer.call.path.as_str().to_owned())
        .collect();
    assert_eq!(paths, ["secret/data/shop/a", "auth/token/lookup-self"]);
}

#[tokio::test]
async fn what_is_no_decision_of_the_primary_is_not_compared() {
    let primary = Primary::start(|_| Act::Say(with("429 Too Many Requests", "", "{}"))).await;
    let mut setup = Setup::with(&primary);
    setup.rules.parity_sample = 1.0;
    let mut rig = setup.start();
    rig.ask(&request("GET", "/v1/secret/data/other", &[])).await;
    assert!(rig.offered.try_recv().is_err());
}
