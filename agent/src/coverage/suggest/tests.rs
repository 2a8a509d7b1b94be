//! Claims about suggestions.

use std::path::Path;

use super::*;
use crate::{samples, status::coverage::CarriedReport};

fn config(more: &str) -> Config {
    samples::config(Path::new("/var"), more)
}

fn orders() -> CallerName {
    CallerName {
        workload: Some("orders".to_owned()),
        ..CallerName::default()
    }
}

fn peer(uid: u32, unit: Option<&str>) -> CallerName {
    CallerName {
        workload: None,
        uid: Some(uid),
        unit: unit.map(str::to_owned),
    }
}

fn row(caller: CallerName, operation: &str, path: &str, verdict: Foretold) -> RowReport {
    RowReport {
        caller,
        operation: operation.to_owned(),
        path: path.to_owned(),
        verdict: verdict.name().to_owned(),
        reason: verdict.words().to_owned(),
        requests: 3,
        ..RowReport::default()
    }
}

/// A read of a KV key that no mirror covers; a key that ends in a slash is a listing.
fn missing(key: &str) -> RowReport {
    RowReport {
        place: Some(Place {
            mount: "secret/".to_owned(),
            kind: "kv2".to_owned(),
            base: "secret/data/".to_owned(),
            key: key.to_owned(),
            folders: true,
        }),
        ..row(
            orders(),
            "read",
            &format!("secret/data/{key}"),
            Foretold::NotMirrored,
        )
    }
}

fn report(rows: Vec<RowReport>) -> CoverageReport {
    let mut report = CoverageReport {
        rows,
        ..CoverageReport::default()
    };
    report.sum_up();
    report
}

/// The paths that are suggested for these keys.
fn suggested(keys: &[&str], more: &str) -> Vec<String> {
    let rows = keys.iter().map(|key| missing(key)).collect();
    let suggestion = suggest(&report(rows), &config(more));
    let mut paths: Vec<String> = suggestion
        .mirrors
        .iter()
        .map(|line| line.path.clone())
        .collect();
    paths.sort();
    // What is printed has to be good, whatever is suggested.
    config(&format!("{more}\n{}", text::toml(&suggestion)));
    paths
}

#[test]
fn siblings_are_grouped_and_a_single_path_is_not() {
    assert_eq!(
        suggested(&["shop/db", "shop/mail", "team/one"], ""),
        ["secret/data/shop/*", "secret/data/team/one"]
    );
    assert_eq!(
        suggested(&["shop/a/x", "shop/b/y"], ""),
        ["secret/data/shop/a/x", "secret/data/shop/b/y"]
    );
}

#[test]
fn the_top_of_a_mount_is_never_suggested() {
    assert_eq!(
        suggested(&["one", "two", "three"], ""),
        ["secret/data/one", "secret/data/three", "secret/data/two"]
    );
    let suggestion = suggest(&report(vec![missing("")]), &config(""));
    assert!(suggestion.mirrors.is_empty());
    assert!(suggestion.left[0].reason.contains("all of it"));
}

#[test]
fn a_listed_folder_is_mirrored_with_all_that_is_in_it() {
    assert_eq!(
        suggested(&["shop/", "shop/a/x", "shop/a/y"], ""),
        ["secret/data/shop/*"]
    );
}

#[test]
fn what_is_configured_is_not_suggested_and_nothing_overlaps_with_it() {
    let mirror = "[[mirror]]\npath = \"secret/data/shop/db\"\n";
    assert_eq!(
        suggested(&["shop/db", "shop/mail", "shop/web"], mirror),
        ["secret/data/shop/mail", "secret/data/shop/web"]
    );
    let folder = "[[mirror]]\npath = \"secret/data/shop/*\"\n";
    assert!(suggested(&["shop/db", "shop/", "shop/a/b"], folder).is_empty());
    let listing = suggest(&report(vec![missing("shop/")]), &config(mirror));
    assert!(listing.left[0].reason.contains("widen"), "{listing:?}");
}

#[test]
fn what_the_primary_did_not_have_is_not_suggested() {
    let absent = RowReport {
        refused: 3,
        ..missing("shop/db")
    };
    let suggestion = suggest(&report(vec![absent]), &config(""));
    assert!(suggestion.mirrors.is_empty());
    assert!(suggestion.left[0].reason.contains("nothing there"));
}

#[test]
fn a_leased_path_is_suggested_by_itself_with_its_pool_in_a_comment() {
    let leased = |name: &str| RowReport {
        leased: true,
        place: Some(Place {
            mount: "database/".to_owned(),
            kind: "database".to_owned(),
            base: "database/".to_owned(),
            key: format!("creds/{name}"),
            folders: false,
        }),
        ..row(
            orders(),
            "read",
            &format!("database/creds/{name}"),
            Foretold::NotMirrored,
        )
    };
    let suggestion = suggest(&report(vec![leased("a"), leased("b")]), &config(""));
    let toml = text::toml(&suggestion);
    assert!(toml.contains("path = \"database/creds/a\"\n# pool = 4"));
    assert_eq!(config(&toml).settings.mirrors.len(), 2);
}

#[test]
fn what_no_line_cures_is_a_comment_with_its_reason() {
    let rows = vec![
        row(orders(), "write", "secret/data/a", Foretold::Write),
        row(
            orders(),
            "login",
            "auth/ldap/login/*",
            Foretold::NotModelled,
        ),
        row(orders(), "read", "secret/data/b", Foretold::Served),
        row(
            orders(),
            "read",
            "secret/data/new\nline = 1",
            Foretold::Stale,
        ),
    ];
    let suggestion = suggest(&report(rows), &config(""));
    assert_eq!(suggestion.left.len(), 3);
    let toml = text::toml(&suggestion);
    assert!(toml.lines().all(|line| line.starts_with('#')), "{toml}");
    assert!(toml.contains("write secret/data/a, 3 requests, by orders: writes"));
}

#[test]
fn a_peer_that_logs_in_and_that_no_entry_matches_gets_one_with_its_role() {
    let login = |uid, unit| {
        row(
            peer(uid, unit),
            "login",
            "auth/holdover/login",
            Foretold::Refused,
        )
    };
    let mut counted = report(vec![
        login(1000, Some("billing.service")),
        login(1001, Some("session-4.scope")),
        login(1002, None),
        row(peer(1003, None), "read", "secret/data/a", Foretold::Served),
        login(0, None),
    ]);
    let carries = |uid, unit| CarriedReport {
        caller: peer(uid, unit),
        role: Some("billing".to_owned()),
        policies: vec!["default".to_owned()],
    };
    counted.carried = vec![carries(1000, Some("billing.service")), carries(0, None)];
    let entry = "[[workload]]\nname = \"billing\"\nmatch = { uid = 1002 }\nrole = \"x\"\n";
    let now = config(entry);
    let suggestion = suggest(&counted, &now);
    let shown: Vec<_> = suggestion
        .workloads
        .iter()
        .map(|line| (line.name.as_str(), line.is_whole()))
        .collect();
    assert_eq!(
        shown,
        [("uid-0", false), ("billing-2", true), ("uid-1001", false)]
    );
    let toml = text::toml(&suggestion);
    let then = config(&format!("{entry}{toml}"));
    assert_eq!(then.settings.workloads, suggestion.applied(&now).workloads);
    assert!(
        toml.contains("match = { unit = \"billing.service\", uid = 1000 }\nrole = \"billing\"")
    );
    assert!(toml.contains("# [[workload]]\n# name = \"uid-1001\""));
    assert!(suggestion.left.is_empty(), "{:?}", suggestion.left);
}

#[test]
fn what_is_suggested_is_what_its_policy_is_made_for() {
    let now = config("");
    let suggestion = suggest(&report(vec![missing("a/x"), missing("a/y")]), &now);
    let then = config(&text::toml(&suggestion));
    assert_eq!(suggestion.applied(&now), then.settings);
}
