//! Claims about replica tokens and standing tokens: neither is ever seen on the wrong side.

use std::{os::fd::AsFd, time::Duration};

use shared::{
    change::CredentialName,
    grant::{Origin, Settled},
    name::{Accessor, TokenDigest, WorkloadName},
    workload::PeerId,
};

use super::replica_token;
use super::rig::{
    Act, Primary, Rig, Setup, client::with_body, primary::ok, request, sides::of_replica,
};
use crate::{samples, serve::peer};

const LOOKUP: &str = "/v1/auth/token/lookup-self";
const MIRRORED: &str = "/v1/secret/data/shop/a";

fn token_header(token: &str) -> String {
    format!("X-Vault-Token: {token}")
}

/// Nothing that the primary received has a replica token in it.
fn none_left(primary: &Primary) {
    for received in primary.received() {
        let head = format!("{:?}", received.head);
        let body = String::from_utf8_lossy(&received.body).into_owned();
        assert!(
            !head.contains("ho.") && !body.contains("ho."),
            "{received:?}"
        );
    }
}

fn exchanged(rig: &Rig, token: &str) -> TokenDigest {
    let accessor = Accessor::parse("behind").unwrap();
    let origin = of_replica(Settled::Exchanged(accessor));
    let digest = rig.replica.knows(token, origin, Duration::ZERO);
    rig.replica
        .holds(CredentialName::Exchanged(digest), "s.behind");
    digest
}

#[tokio::test]
async fn an_exchanged_token_is_swapped_on_the_way_out_and_back() {
    let primary = Primary::start(|received| {
        let token = received.head.get("x-vault-token").unwrap_or("none");
        Act::Say(ok(&format!("{{\"data\":{{ \"id\":\"{token}\"}}}}")))
    })
    .await;
    let rig = Setup::with(&primary).start();
    let token = replica_token();
    exchanged(&rig, &token);
    for header in [
        token_header(&token),
        format!("Authorization: Bearer {token}"),
    ] {
        let heard = rig.ask(&request("GET", LOOKUP, &[&header])).await;
        assert_eq!(heard.outcome(), (200, "primary"));
        assert_eq!(
            heard.text(),
            format!("{{\"data\":{{ \"id\":\"{token}\"}}}}")
        );
    }
    let stream = request(
        "GET",
        "/v1/secret/data/unmirrored",
        &[&token_header(&token)],
    );
    assert_eq!(rig.ask(&stream).await.status(), 200);
    let received = primary.received();
    assert!(received.iter().all(
        |received| received.head.get("x-vault-token") == Some("s.behind")
            && received.head.get("authorization").is_none()
    ));
    none_left(&primary);
}

/// The identity that the socket sees in this process.
pub(super) fn own_identity() -> PeerId {
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let stranger = peer::meet(socket.as_fd(), peer::Queue::Unknown).unwrap();
    let facts = stranger.attest(socket.as_fd()).unwrap();
    PeerId {
        workload: samples::orders(),
        uid: facts.uid,
        unit: facts.unit,
    }
}

#[tokio::test]
async fn a_replica_token_is_its_own_peers_alone_whatever_became_of_it() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let token = replica_token();
    let own = own_identity();
    let strangers = [
        PeerId {
            uid: own.uid + 1,
            ..own.clone()
        },
        PeerId {
            unit: Some("another.service".into()),
            ..own.clone()
        },
        PeerId {
            workload: WorkloadName::parse("billing").unwrap(),
            ..own.clone()
        },
    ];
    let settled = [
        Settled::Exchanged(Accessor::parse("behind").unwrap()),
        Settled::Draining,
        Settled::Not,
    ];
    let header = token_header(&token);
    for stranger in strangers {
        for settled in &settled {
            let origin = of_replica(settled.clone());
            let digest = rig.replica.gave(&token, origin, stranger.clone());
            rig.replica
                .holds(CredentialName::Exchanged(digest), "s.behind");
            for (method, target) in [
                ("GET", LOOKUP),
                ("GET", MIRRORED),
                ("GET", "/v1/secret/data/unmirrored"),
                ("PUT", "/v1/auth/token/renew-self"),
                ("PUT", "/v1/auth/token/revoke-self"),
                ("PUT", "/v1/auth/token/create"),
                ("PUT", "/v1/sys/capabilities-self"),
            ] {
                let ask = match method {
                    "GET" => request(method, target, &[&header]),
                    _ => with_body(method, target, &[&header], "{}"),
                };
                let heard = rig.ask(&ask).await;
                let outcome = (heard.outcome(), heard.text().trim_end());
                let denied = "{\"errors\":[\"permission denied\"]}";
                assert_eq!(outcome, ((403, "replica"), denied), "{target} {settled:?}");
            }
        }
    }
    assert!(primary.received().is_empty() && rig.replica.asked().is_empty());
    let digest = rig
        .replica
        .gave(&token, of_replica(settled[0].clone()), own);
    rig.replica
        .holds(CredentialName::Exchanged(digest), "s.behind");
    let heard = rig.ask(&request("GET", LOOKUP, &[&header])).await;
    assert_eq!(heard.outcome(), (200, "primary"));
}

#[tokio::test]
async fn an_exchanged_token_is_not_renewable_and_cannot_be_wrapped_out() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let token = replica_token();
    exchanged(&rig, &token);
    let header = token_header(&token);
    let renew = with_body("PUT", "/v1/auth/token/renew-self", &[&header], "{}");
    let heard = rig.ask(&renew).await;
    assert_eq!(heard.outcome(), (400, "replica"));
    assert!(heard.text().contains("lease is not renewable"));
    let wrapped = request("GET", LOOKUP, &[&header, "X-Vault-Wrap-TTL: 60"]);
    assert_eq!(rig.ask(&wrapped).await.status(), 400);
    assert!(primary.received().is_empty());
}

#[tokio::test]
async fn an_exchanged_token_that_is_dead_or_has_nothing_behind_it_is_not_sent_on() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let token = replica_token();
    let digest = exchanged(&rig, &token);
    rig.replica.revoke(&digest);
    let heard = rig
        .ask(&request("GET", LOOKUP, &[&token_header(&token)]))
        .await;
    assert_eq!(heard.source(), "replica");
    assert!(primary.received().is_empty());
}

#[tokio::test]
async fn a_draining_token_is_good_for_mirrored_reads_and_what_goes_with_them_and_says_so_otherwise()
{
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let token = replica_token();
    rig.replica
        .knows(&token, of_replica(Settled::Draining), Duration::ZERO);
    let header = token_header(&token);
    for (method, target) in [
        ("GET", MIRRORED),
        ("GET", LOOKUP),
        ("PUT", "/v1/auth/token/renew-self"),
        ("PUT", "/v1/auth/token/revoke-self"),
        ("PUT", "/v1/sys/leases/lookup"),
        ("PUT", "/v1/sys/leases/renew"),
    ] {
        let heard = rig.ask(&request(method, target, &[&header])).await;
        assert_eq!(heard.outcome(), (200, "replica"), "{target}");
    }
    for (method, target) in [
        ("GET", "/v1/secret/data/unmirrored"),
        ("PUT", MIRRORED),
        ("PUT", "/v1/auth/token/create"),
    ] {
        let heard = rig.ask(&request(method, target, &[&header])).await;
        assert_eq!(heard.outcome(), (403, "replica"), "{target}");
        assert!(heard.text().contains("log in again"));
    }
    assert!(primary.received().is_empty());
}

#[tokio::test]
async fn an_unknown_replica_token_is_the_replicas_to_refuse() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let heard = rig
        .ask(&request("GET", LOOKUP, &[&token_header(&replica_token())]))
        .await;
    assert_eq!(heard.source(), "replica");
    assert_eq!(rig.replica.asked().len(), 1);
    assert!(primary.received().is_empty());
}

#[tokio::test]
async fn an_old_replica_token_keeps_nobody_from_logging_in() {
    let primary = Primary::saying("{\"auth\":{}}").await;
    let rig = Setup::with(&primary).start();
    let header = token_header(&replica_token());
    let text = with_body("PUT", "/v1/auth/approle/login", &[&header], "{}");
    assert_eq!(rig.ask(&text).await.outcome(), (200, "primary"));
    assert_eq!(primary.only().head.get("x-vault-token"), None);
    none_left(&primary);
}

#[tokio::test]
async fn a_replica_token_leaves_in_no_url_and_no_token_field() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let token = replica_token();
    let body = format!("{{\"token\":\"{token}\"}}");
    let mine = "X-Vault-Token: s.mine";
    for (text, status) in [
        (request("GET", &format!("/v1/x/{token}"), &[mine]), 400),
        (
            request("GET", &format!("/v1/x?t=%68{}", &token[1..]), &[mine]),
            400,
        ),
        (
            with_body("PUT", "/v1/auth/token/lookup", &[mine], &body),
            200,
        ),
        (
            with_body("PUT", "/v1/auth/token/revoke", &[mine], &body),
            200,
        ),
        (
            with_body("PUT", "/v1/sys/wrapping/unwrap", &[mine], &body),
            400,
        ),
        (
            with_body(
                "PUT",
                "/v1/auth/token/create",
                &[mine],
                &body.replace("token", "id"),
            ),
            400,
        ),
        (
            request(
                "GET",
                "/v1/x",
                &[mine, &format!("Authorization: Bearer {token}")],
            ),
            400,
        ),
        (request("GET", "/v1/a//b", &[&token_header(&token)]), 400),
    ] {
        let heard = rig.ask(&text).await;
        assert_eq!(heard.outcome(), (status, "replica"), "{text}");
    }
    assert!(primary.received().is_empty());
}

#[tokio::test]
async fn a_secret_may_contain_anything() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let body = format!("{{\"data\":{{\"token\":\"{}\"}}}}", replica_token());
    let text = with_body(
        "PUT",
        "/v1/secret/data/x",
        &["X-Vault-Token: s.mine"],
        &body,
    );
    assert_eq!(rig.ask(&text).await.outcome(), (200, "primary"));
    assert_eq!(primary.only().body, body.as_bytes());
}

fn standing(rig: &Rig) {
    let orders = WorkloadName::parse("orders").unwrap();
    rig.replica
        .holds(CredentialName::Standing(orders), "s.standing");
}

#[tokio::test]
async fn a_request_without_a_token_uses_the_standing_one_which_is_never_shown() {
    let primary = Primary::start(|received| {
        let token = received.head.get("x-vault-token").unwrap_or("none");
        Act::Say(ok(&format!(
            "{{\"data\": {{\"id\":\"{token}\",\"n\":1.50}}}}"
        )))
    })
    .await;
    let rig = Setup::with(&primary).start();
    standing(&rig);
    for target in [LOOKUP, "/v1/team/auth/token/lookup-self", MIRRORED, "/v1/x"] {
        let heard = rig.ask(&request("GET", target, &[])).await;
        assert_eq!(heard.text(), "{\"data\": {\"id\":\"\",\"n\":1.50}}");
        let received = primary.received();
        let sent = received.last().unwrap().head.get("x-vault-token");
        assert_eq!(sent, Some("s.standing"));
    }
    let empty = rig
        .ask(&request("GET", MIRRORED, &["X-Vault-Token;"]))
        .await;
    assert_eq!(empty.status(), 400, "not a header at all");
}

#[tokio::test]
async fn after_offboarding_no_standing_token_is_presented_and_clients_own_are_forwarded() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    standing(&rig);
    rig.replica.offboards();
    let heard = rig.ask(&request("GET", MIRRORED, &[])).await;
    assert_eq!(heard.outcome(), (503, "replica"));
    assert!(
        heard
            .text()
            .contains("refuses Holdover's own credential since")
    );
    assert!(primary.received().is_empty(), "nothing was sent");
    let own = request("GET", MIRRORED, &["X-Vault-Token: s.own"]);
    assert_eq!(rig.ask(&own).await.outcome(), (200, "primary"));
    let open = rig.ask(&request("GET", "/v1/sys/health", &[])).await;
    assert_eq!(open.outcome(), (200, "primary"));
    let tokens = primary.received().into_iter();
    let tokens: Vec<_> = tokens
        .map(|one| one.head.get("x-vault-token").map(str::to_owned))
        .collect();
    assert_eq!(tokens, [Some("s.own".to_owned()), None]);
}

#[tokio::test]
async fn the_standing_token_is_used_for_nothing_that_it_could_get_lost_by() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    standing(&rig);
    for (method, target, header) in [
        ("PUT", "/v1/auth/userpass/login/u", "Accept: */*"),
        ("PUT", "/v1/sys/wrapping/unwrap", "Accept: */*"),
        ("PUT", "/v1/auth/token/create", "Accept: */*"),
        ("PUT", "/v1/auth/token/revoke-self", "Accept: */*"),
        ("PUT", "/v1/team/a/auth/token/revoke-self", "Accept: */*"),
        ("PUT", "/v1/team/auth/token/create/r", "Accept: */*"),
        ("GET", LOOKUP, "X-Vault-Wrap-TTL: 60"),
        ("GET", MIRRORED, "Authorization: Basic eA=="),
        ("GET", MIRRORED, "X-Vault-Token: s.refused"),
        ("GET", MIRRORED, "X-Vault-Inline-Auth-Path: auth/x/login"),
    ] {
        rig.ask(&request(method, target, &[header])).await;
        let received = primary.received();
        let sent = received.last().unwrap().head.get("x-vault-token");
        assert_ne!(sent, Some("s.standing"), "{method} {target} {header}");
    }
}

#[tokio::test]
async fn the_standing_token_is_only_for_a_peer_with_exactly_one_entry() {
    let primary = Primary::saying("{}").await;
    let mut setup = Setup::with(&primary);
    let (_, own) = setup.rules.matches[0].clone();
    let billing = WorkloadName::parse("billing").unwrap();
    setup.rules.matches.push((billing, own));
    let rig = setup.start();
    standing(&rig);
    rig.ask(&request("GET", MIRRORED, &[])).await;
    assert_eq!(primary.only().head.get("x-vault-token"), None);
}

#[tokio::test]
async fn in_an_outage_the_standing_token_is_presented_by_name() {
    let primary = Primary::dead().await;
    let rig = Setup::with(&primary).start();
    standing(&rig);
    rig.enter(super::rig::holdover());
    rig.ask(&request("GET", MIRRORED, &[])).await;
    assert_eq!(rig.replica.asked(), ["secret/data/shop/a standing:orders"]);
}

#[tokio::test]
async fn a_known_token_is_sent_on_as_it_is() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    rig.replica.knows("s.mine", Origin::Primary, Duration::ZERO);
    rig.ask(&request("GET", LOOKUP, &["X-Vault-Token: s.mine"]))
        .await;
    assert_eq!(primary.only().head.get("x-vault-token"), Some("s.mine"));
}
