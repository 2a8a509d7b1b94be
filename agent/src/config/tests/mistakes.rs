//! What is wrong with a file, and where.

use super::*;

#[test]
fn three_mistakes_make_three_messages_with_their_lines() {
    let text = FULL
        .replace("failures = 3", "failures = 0")
        .replace("versions = 1", "version = 1")
        .replace("ttl = \"15m\"", "ttl = 15");
    let line = |needle: &str| 1 + text.lines().position(|line| line == needle).unwrap();
    assert_eq!(
        mistakes(&text),
        [
            format!("{}: failover.failures", line("failures = 0")),
            format!("{}: mirror.version", line("version = 1")),
            format!("{}: workload.failover.ttl", line("ttl = 15")),
        ]
    );
    let shown = parse(&text).unwrap_err().to_string();
    assert_eq!(shown.lines().count(), 3);
    for (part, remedy) in [
        ("failover.failures", "give 1 to 100"),
        ("mirror.version", "versions"),
        ("ttl", "a text"),
    ] {
        let line = shown.lines().find(|line| line.contains(part)).unwrap();
        assert!(
            line.starts_with("/etc/holdover/holdover.toml:") && line.contains(remedy),
            "{line}"
        );
    }
}

#[test]
fn a_file_without_anything_lacks_its_four_tables() {
    let keys = ["primary", "primary.auth", "replica", "listener", "admin"];
    assert_eq!(mistakes(""), keys.map(|key| format!("1: {key}")));
    assert_eq!(
        mistakes("[primary]\n[primary.auth]\n[replica]\n[listener]\n[admin]\n").len(),
        7
    );
}

#[test]
fn broken_toml_is_reported_with_every_broken_line() {
    let text = LEAST
        .replace(
            "path = \"/var/lib/holdover/replica.db\"",
            "path = \"/var/lib",
        )
        .replace("[listener]", "[listener")
        + "[limits]\nconnections = \"many\"\n";
    let errors = parse(&text).unwrap_err();
    let syntax: Vec<_> = errors
        .errors
        .iter()
        .filter(|error| matches!(error.problem, Problem::Syntax(_)))
        .collect();
    assert!(syntax.len() >= 2, "{errors}");
    assert!(
        errors.to_string().contains("limits.connections"),
        "{errors}"
    );
}

#[test]
fn unknown_keys_and_tables_are_refused_wherever_they_stand() {
    let cases = [
        ("[primaries]\n", "primaries"),
        ("[limits]\nconnection = 1\n", "limits.connection"),
        ("[failover]\nfailure = 1\n", "failover.failure"),
        ("[parity]\nsamples = 1\n", "parity.samples"),
        ("[[mirror]]\npath = \"kv/a\"\nttl = \"1s\"\n", "mirror.ttl"),
        (
            "[[workload]]\nname = \"a\"\nrole = \"a\"\nmatch = { uid = 0, pid = 1 }\n",
            "workload.match.pid",
        ),
        (
            "[[workload]]\nname = \"a\"\nrole = \"a\"\nmatch = { uid = 0 }\nfailover = { tll = 1 }\n",
            "workload.failover.tll",
        ),
    ];
    for (text, key) in cases {
        let errors = parse(&least_and(text)).unwrap_err();
        let [error] = errors.errors.as_slice() else {
            panic!("{key}: {errors}")
        };
        assert!(
            matches!(error.problem, Problem::Unknown { .. }) && error.key == key,
            "{errors}"
        );
    }
}

#[test]
fn what_is_not_built_yet_is_refused_by_name() {
    let workload = |more: &str| {
        format!("[[workload]]\nname = \"a\"\nrole = \"a\"\nmatch = {{ uid = 0, {more} }}\n")
    };
    let cases = [
        (
            FULL.replace("mode = \"0666\"", "tcp = \"127.0.0.1:8147\""),
            "listener.tcp",
        ),
        (
            FULL.replace("absent = []", "absent = [\"sentinel\"]"),
            "primary.absent",
        ),
        (
            FULL.replace("source = \"file\"", "source = \"systemd-credential\""),
            "replica.key.source",
        ),
        (
            FULL.replace("source = \"file\"", "source = \"passphrase\""),
            "replica.key.source",
        ),
        (
            FULL.replace("max_size = \"256MiB\"", "path = \"secret/data/holdover\""),
            "ledger.path",
        ),
        (
            FULL.replace("[drill]\nmax = \"15m\"", "[drill]\nmax = \"1m\""),
            "drill.max",
        ),
        (
            least_and("[[mirror]]\npath = \"kv/a\"\nserve = \"replica\"\n"),
            "mirror.serve",
        ),
        (
            least_and("[[mirror]]\npath = \"kv/a\"\nmax_age = \"5s\"\n"),
            "mirror.max_age",
        ),
        (
            least_and(&workload("exe = \"/bin/a\"")),
            "workload.match.exe",
        ),
        (
            least_and(&workload("sha256 = \"00\"")),
            "workload.match.sha256",
        ),
    ];
    for (text, key) in cases {
        let errors = parse(&text).unwrap_err();
        let [error] = errors.errors.as_slice() else {
            panic!("{key}: {errors}")
        };
        assert!(
            matches!(error.problem, Problem::Unbuilt { .. }) && error.key == key,
            "{errors}"
        );
    }
}

#[test]
fn contradictions_are_found_where_they_stand() {
    let twice = |text: &str| least_and(&format!("{text}{text}"));
    let workload = "[[workload]]\nname = \"a\"\nrole = \"a\"\nmatch = { uid = 0 }\n";
    let cases = [
        (
            FULL.replace("issue_deadline = \"5s\"", "issue_deadline = \"4500ms\""),
            "failover.issue_deadline",
        ),
        (
            FULL.replace("max_ttl = \"2h\"", "max_ttl = \"14m\""),
            "workload.failover.ttl",
        ),
        (FULL.replace("ca_file", "# ca_file"), "primary.addresses"),
        (
            FULL.replace("https://vault-b:8200/", "https://vault-a:8200"),
            "primary.addresses",
        ),
        (FULL.replace("uid = 0", "uid = 1"), "workload.match.user"),
        (FULL.replace("admin.sock", "holdover.sock"), ""),
        (
            FULL.replace("database/creds/orders", "secret/data/shop/x"),
            "mirror.path",
        ),
        (twice(workload), "workload.name"),
        (workload.replace("uid = 0", "") + LEAST, "workload.match"),
    ];
    for (text, key) in cases {
        let errors = parse(&text).unwrap_err();
        let [error] = errors.errors.as_slice() else {
            panic!("{key}: {errors}")
        };
        assert!(
            matches!(error.problem, Problem::Conflict { .. }) && error.key == key,
            "{errors}"
        );
    }
    let just = FULL.replace("issue_deadline = \"5s\"", "issue_deadline = \"4501ms\"");
    assert!(parse(&just).is_ok());
}

#[test]
fn addresses_users_and_modes_are_refused_with_their_reason() {
    let cases = [
        (
            FULL.replace("https://vault-a", "http://vault-a"),
            "primary.addresses",
            "https://",
        ),
        (
            FULL.replace(
                "addresses = [\"https://vault-a:8200\", \"https://vault-b:8200/\"]",
                "addresses = []",
            ),
            "primary.addresses",
            "missing",
        ),
        (
            FULL.replace("user = \"root\"", "user = \"no-such-user-here\""),
            "workload.match.user",
            "not a user",
        ),
        (FULL.replace("0666", "0999"), "listener.mode", "octal"),
        (
            FULL.replace("forward_headers = []", "forward_headers = [\"Upgrade\"]"),
            "listener.forward_headers",
            "one connection",
        ),
        (
            FULL.replace(
                "forward_headers = []",
                "forward_headers = [\"X-Forwarded-For\"]",
            ),
            "listener.forward_headers",
            "where a request comes from",
        ),
        (
            FULL.replace(
                "forward_headers = []",
                "forward_headers = [\"X-Holdover-Age\"]",
            ),
            "listener.forward_headers",
            "Holdover's own",
        ),
        (
            FULL.replace("namespace = \"\"", "namespace = \"te am\""),
            "primary.namespace",
            "no namespace",
        ),
        (
            FULL.replace("127.0.0.1:9847", "0.0.0.0:9847"),
            "admin.metrics",
            "outside",
        ),
        (
            FULL.replace("/run/holdover/admin.sock", "admin.sock"),
            "admin.socket",
            "absolute",
        ),
        (
            FULL.replace("\"orders.service\"", "\"orders\""),
            "workload.match.unit",
            "in full",
        ),
        (
            FULL.replace("role = \"orders\"", "role = \"a/b\""),
            "workload.role",
            "token role",
        ),
        (
            FULL.replace("mount = \"approle\"", "mount = \"auth/approle\""),
            "primary.auth.mount",
            "without auth/",
        ),
        (
            FULL.replace("method = \"approle\"", "method = \"userpass\""),
            "primary.auth.method",
            "not a login method",
        ),
    ];
    for (text, key, reason) in cases {
        let errors = parse(&text).unwrap_err();
        let [error] = errors.errors.as_slice() else {
            panic!("{key}: {errors}")
        };
        assert!(
            error.key == key && error.problem.to_string().contains(reason),
            "{errors}"
        );
    }
}
