//! Claims about which namespace a request is in: what it is sent on with, and what that makes of it.

use shared::{change::Change, grant::Origin, name::Namespace};
use std::time::Duration;

use super::rig::{
    Act, Primary, Rig, Setup,
    client::with_body,
    holdover,
    primary::{ok, with},
    request,
};

const READ: &str = "/v1/secret/data/shop/a";

fn setup(primary: &Primary, namespace: &str) -> Setup {
    let mut setup = Setup::with(primary);
    setup.settings.namespace = Namespace::parse(namespace);
    setup.rules.parity_sample = 1.0;
    setup
}

/// What the primary got in the header, for a request with these headers.
async fn sent(namespace: &str, target: &str, headers: &[&str]) -> (String, Option<String>) {
    let primary = Primary::saying("{}").await;
    let rig = setup(&primary, namespace).start();
    rig.ask(&request("GET", target, headers)).await;
    let received = primary.only().head;
    let named = received.get("x-vault-namespace").map(str::to_owned);
    (received.target().to_owned(), named)
}

#[tokio::test]
async fn a_request_without_a_namespace_is_sent_with_the_configured_one() {
    let own = Some("team/app".to_owned());
    for target in [READ, "/v1/sys/mounts", "/v1/secret%2Fdata", "/v1/a//b"] {
        assert_eq!(
            sent("team/app", target, &[]).await,
            (target.into(), own.clone())
        );
        assert_eq!(sent("", target, &[]).await, (target.into(), None));
    }
}

#[tokio::test]
async fn what_the_root_alone_has_and_what_names_its_namespace_itself_is_sent_as_it_is() {
    for target in [
        "/v1/sys/health?standbyok=true",
        "/v1/sys/storage/raft/configuration",
        "/v1/team/app/secret/data/shop/a",
        "/ui/",
    ] {
        assert_eq!(sent("team/app", target, &[]).await, (target.into(), None));
    }
    for named in ["team/app", "other", "", "te am"] {
        let header = format!("X-Vault-Namespace: {named}");
        let (_, got) = sent("team/app", READ, &[&header]).await;
        assert_eq!(got.as_deref(), Some(named), "a client's own words");
    }
}

/// Whether an acceptance of the client's token was learned from, for a request with these headers.
async fn teaches(namespace: &str, target: &str, token: &str, headers: &[&str]) -> bool {
    let primary = Primary::saying("{\"data\":{}}").await;
    let mut rig = setup(&primary, namespace).start();
    rig.replica
        .knows(token, Origin::Primary, Duration::from_secs(90));
    let token = format!("X-Vault-Token: {token}");
    let headers = [&[token.as_str()], headers].concat();
    rig.ask(&request("GET", target, &headers)).await;
    let compared = rig.offered.try_recv().is_ok();
    let proven = is_proven(&rig).await;
    assert_eq!(compared, proven);
    proven
}

async fn is_proven(rig: &Rig) -> bool {
    let waiting = async {
        while !rig
            .replica
            .has_committed(|change| matches!(change, Change::Proven(..)))
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let within = Duration::from_millis(300);
    tokio::time::timeout(within, waiting).await.is_ok()
}

#[tokio::test]
async fn only_the_mirrored_namespace_teaches_however_it_is_named() {
    let inside = "s.a.NsId";
    for (target, headers) in [
        (READ, &[][..]),
        (READ, &["X-Vault-Namespace: team"]),
        (READ, &["X-Vault-Namespace: /team/"]),
        ("/v1/team/secret/data/shop/a", &[]),
        ("/v1/team/secret/data/shop/a", &["X-Vault-Namespace: root"]),
    ] {
        assert!(
            teaches("team", target, inside, headers).await,
            "{target} {headers:?}"
        );
    }
    for headers in [
        &["X-Vault-Namespace: other"][..],
        &["X-Vault-Namespace: root"],
        &["X-Vault-Namespace: t\u{e9}am"],
        &["X-Vault-Namespace: team", "X-Vault-Namespace: team"],
    ] {
        assert!(!teaches("team", READ, inside, headers).await, "{headers:?}");
    }
    assert!(!teaches("team", READ, "s.of-the-root", &[]).await);
    assert!(!teaches("", READ, inside, &[]).await);
    assert!(teaches("", READ, "s.of-the-root", &[]).await);
}

#[tokio::test]
async fn a_refusal_of_a_foreign_token_makes_no_look_up_due() {
    let denied = "{\"errors\":[\"permission denied\"]}";
    let primary = Primary::start(move |_| Act::Say(with("403 x", "", denied))).await;
    let mut rig = setup(&primary, "").start();
    rig.replica
        .knows("s.a.NsId", Origin::Primary, Duration::ZERO);
    rig.ask(&request("GET", READ, &["X-Vault-Token: s.a.NsId"]))
        .await;
    assert!(rig.unlearned.try_recv().is_err());
}

#[tokio::test]
async fn a_foreign_token_is_no_way_past_the_bound_on_guessing() {
    let wrong = "{\"errors\":[\"invalid role or secret ID\"]}";
    let primary = Primary::start(move |_| Act::Say(with("400 x", "", wrong))).await;
    let rig = setup(&primary, "").start();
    let login = with_body(
        "PUT",
        "/v1/auth/approle/login",
        &["X-Vault-Token: s.a.NsId"],
        "{}",
    );
    assert_eq!(rig.ask(&login).await.status(), 400);
    assert_eq!(rig.replica.lessons().len(), 1);
}

#[tokio::test]
async fn an_attested_login_is_in_the_configured_namespace() {
    let primary = Primary::dead().await;
    let rig = setup(&primary, "team").start();
    rig.minter
        .mints(|_| Ok("{\"auth\":{\"client_token\":\"s.x.NsId\"}}".to_owned()));
    let login = |headers: &[&str]| with_body("PUT", "/v1/auth/holdover/login", headers, "");
    assert_eq!(rig.ask(&login(&[])).await.status(), 200);
    let own = login(&["X-Vault-Namespace: team"]);
    assert_eq!(rig.ask(&own).await.status(), 200);
    let other = login(&["X-Vault-Namespace: other"]);
    assert_eq!(rig.ask(&other).await.outcome(), (400, "replica"));
}

#[tokio::test]
async fn the_vault_sees_the_namespace_and_the_path_in_it() {
    let primary = Primary::start(|_| Act::Say(ok("{}"))).await;
    let rig = setup(&primary, "team").start();
    rig.enter(holdover());
    let team = Namespace::parse("team");
    rig.replica.decides(move |query| {
        let status = if query.namespace.is(&team) { 200 } else { 503 };
        super::rig::says(status, query.call.path.as_str())
    });
    for (target, headers, expected) in [
        (READ, &[][..], 200),
        ("/v1/team/secret/data/shop/a", &[], 200),
        (READ, &["X-Vault-Namespace: team"], 200),
        (READ, &["X-Vault-Namespace: other"], 503),
        (READ, &["X-Vault-Namespace: te am"], 503),
    ] {
        let heard = rig.ask(&request("GET", target, headers)).await;
        assert_eq!(heard.status(), expected, "{target} {headers:?}");
        assert_eq!(heard.text(), "secret/data/shop/a");
    }
    assert!(primary.received().is_empty());
}
