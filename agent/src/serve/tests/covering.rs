//! Claims about what is counted for coverage.

use std::time::Duration;

use shared::{
    coverage::{Caller, CoverageRow, Foretold},
    grant::Origin,
    time::WallTime,
};

use super::rig::{
    Act, Primary, Rig, Setup,
    client::with_body,
    holdover,
    primary::{ok, with},
    request, says,
};

async fn rows(rig: &Rig) -> Vec<CoverageRow> {
    rig.server.counted().await;
    let mut rows = rig.coverage.snapshot(WallTime::EPOCH).rows;
    rows.sort_by(|a, b| a.asked.path.cmp(&b.asked.path));
    rows
}

async fn row(rig: &Rig, path: &str) -> CoverageRow {
    let rows = rows(rig).await;
    let found: Vec<_> = rows.iter().filter(|row| row.asked.path == path).collect();
    assert_eq!(found.len(), 1, "{path}: {rows:?}");
    found[0].clone()
}

fn primary_by_path(target: &str) -> Act {
    let refusing = |status| with(status, "", "{\"errors\":[]}");
    Act::Say(match target {
        path if path.contains("denied") => refusing("403 Forbidden"),
        path if path.contains("absent") => refusing("404 Not Found"),
        path if path.contains("creds") => {
            ok(r#"{"request_id":"r","lease_id":"database/creds/x/y","data":{}}"#)
        }
        _ => ok(r#"{"request_id":"r","lease_id":"","data":{}}"#),
    })
}

#[tokio::test]
async fn each_request_is_judged_by_what_an_outage_would_make_of_it() {
    let primary = Primary::start(|received| primary_by_path(received.head.target())).await;
    let rig = Setup::with(&primary).start();
    rig.replica
        .knows("s.known", Origin::Primary, Duration::ZERO);
    for (target, token, verdict, refused) in [
        ("secret/data/shop/a", "s.known", Foretold::Served, 0),
        ("secret/data/shop/b", "s.other", Foretold::UnknownToken, 0),
        ("secret/data/team/a", "s.known", Foretold::NotMirrored, 0),
        ("secret/data/denied", "s.known", Foretold::Denied, 1),
        ("secret/data/absent", "s.known", Foretold::NotMirrored, 1),
        ("sys/mounts", "s.known", Foretold::NotModelled, 0),
        ("sys/wrapping/lookup", "s.known", Foretold::NotModelled, 0),
        ("sys/health", "s.known", Foretold::Served, 0),
    ] {
        let header = format!("X-Vault-Token: {token}");
        let text = request("GET", &format!("/v1/{target}?version=1"), &[&header]);
        rig.ask(&text).await;
        let row = row(&rig, target).await;
        assert_eq!(row.asked.verdict, verdict, "{target}");
        assert_eq!((row.tally.requests, row.tally.refused), (1, refused));
        assert!(matches!(row.asked.caller, Caller::Workload(name) if name.as_str() == "orders"));
    }
    let write = with_body(
        "POST",
        "/v1/secret/data/written",
        &["X-Vault-Token: s.known"],
        "{}",
    );
    rig.ask(&write).await;
    let written = row(&rig, "secret/data/written").await;
    assert_eq!(written.asked.verdict, Foretold::Write);
}

#[tokio::test]
async fn what_the_replica_answered_was_served_and_what_it_did_not_says_why() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    rig.enter(holdover());
    rig.replica.decides(|query| match query.call.path.as_str() {
        "secret/data/team/held" => says(200, "{}"),
        _ => says(503, "{}"),
    });
    for (target, verdict) in [
        ("secret/data/team/held", Foretold::Served),
        ("secret/data/team/lost", Foretold::NotMirrored),
        ("secret/data/shop/lost", Foretold::UnknownToken),
    ] {
        rig.ask(&request(
            "GET",
            &format!("/v1/{target}"),
            &["X-Vault-Token: s.x"],
        ))
        .await;
        assert_eq!(row(&rig, target).await.asked.verdict, verdict, "{target}");
    }
}

#[tokio::test]
async fn an_answer_with_a_lease_is_passed_on_whole_and_noted() {
    let primary = Primary::start(|received| primary_by_path(received.head.target())).await;
    let rig = Setup::with(&primary).start();
    let token = ["X-Vault-Token: s.known"];
    let heard = rig
        .ask(&request("GET", "/v1/database/creds/x", &token))
        .await;
    assert!(heard.text().contains("\"lease_id\":\"database/creds/x/y\""));
    rig.ask(&request("GET", "/v1/pki/ca/pem", &token)).await;
    assert!(row(&rig, "database/creds/x").await.tally.leased);
    assert!(!row(&rig, "pki/ca/pem").await.tally.leased);
}

#[tokio::test]
async fn a_token_in_a_path_is_not_kept() {
    let primary = Primary::saying("{}").await;
    let rig = Setup::with(&primary).start();
    let target = "/v1/auth/token/lookup/hvs.CAESIJabcdefghijklmnopqrstuv";
    rig.ask(&request("GET", target, &[])).await;
    let rows = rows(&rig).await;
    assert_eq!(rows.len(), 1);
    assert!(!format!("{rows:?}").contains("hvs."), "{rows:?}");
}
