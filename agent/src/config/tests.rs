//! Whole files and what becomes of them.

use shared::{
    settings::MirrorPath,
    workload::{OnFailover, OnRecovery},
};

use super::*;

mod login;
mod mistakes;

const PATH: &str = "/etc/holdover/holdover.toml";

/// The least that a configuration says.
pub(super) const LEAST: &str = r#"
[primary]
addresses = ["http://127.0.0.1:8200"]
[primary.auth]
role_id_file = "/etc/holdover/role_id"
secret_id_file = "/etc/holdover/secret_id"
[replica]
path = "/var/lib/holdover/replica.db"
[[replica.key]]
source = "file"
path = "/etc/holdover/key"
[listener]
socket = "/run/holdover/holdover.sock"
[admin]
socket = "/run/holdover/admin.sock"
"#;

/// The design's example, without what is not built yet, every default restated.
const FULL: &str = r#"
[primary]
addresses = ["https://vault-a:8200", "https://vault-b:8200/"]
ca_file = "/etc/holdover/ca.pem"
namespace = ""
connect_timeout = "500ms"
read_deadline = "1s"
requests_per_second = 50
token_check_interval = "5m"
token_max_age = "1h"
approle_mounts = ["approle"]
absent = []
[primary.auth]
method = "approle"
mount = "approle"
role_id_file = "/etc/holdover/role_id"
secret_id_file = "/etc/holdover/secret_id"
[replica]
path = "/var/lib/holdover/replica.db"
anchor = "/var/lib/holdover-anchor/generation"
max_staleness = "24h"
[[replica.key]]
source = "file"
path = "/etc/holdover/key"
[listener]
socket = "/run/holdover/holdover.sock"
mode = "0666"
forward_headers = []
[admin]
socket = "/run/holdover/admin.sock"
group = "root"
metrics = "127.0.0.1:9847"
[failover]
failures = 3
successes = 3
probe_interval = "5s"
probe_timeout = "500ms"
issue_deadline = "5s"
max_outage = "12h"
authority_max_age = "15m"
authority_interval = "1m"
credential_max_age = "24h"
policy_max_age = "1h"
issue_after_reboot = false
[ledger]
max_size = "256MiB"
[limits]
connections = 1024
connections_per_uid = 256
requests_per_second_per_uid = 5000
request_size = "1MiB"
unfinished_bytes = "64MiB"
forwards = 512
grants_per_workload = 10000
login_failures_per_minute_per_uid = 30
[parity]
sample = 0.01
[drill]
max = "15m"
[[mirror]]
path = "secret/data/shop/*"
interval = "30s"
max_staleness = "24h"
versions = 1
serve = "primary"
[[mirror]]
path = "database/creds/orders"
[[workload]]
name = "orders"
match = { unit = "orders.service", user = "root", uid = 0, group = "root" }
role = "orders"
entity_alias = "orders-host-17"
auto_token = true
[workload.failover]
issue = true
ttl = "15m"
max_ttl = "2h"
on_recovery = "exchange"
on_failover = "resume"
"#;

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, Path::new(PATH))
}

/// The errors as `line: key`, with their whole text for a failing assertion.
fn mistakes(text: &str) -> Vec<String> {
    let errors = match parse(text) {
        Ok(_) => return Vec::new(),
        Err(errors) => errors.errors,
    };
    let place = |error: &ConfigError| format!("{}: {}", error.line.unwrap_or(0), error.key);
    errors.iter().map(place).collect()
}

/// [`LEAST`] with one line more at its end.
fn least_and(line: &str) -> String {
    format!("{LEAST}{line}\n")
}

#[test]
fn the_defaults_are_those_of_the_documented_example() {
    let (least, full) = (parse(LEAST).unwrap(), parse(FULL).unwrap());
    assert_eq!(
        format!("{:?}", least.failover),
        format!("{:?}", full.failover)
    );
    assert_eq!(format!("{:?}", least.limits), format!("{:?}", full.limits));
    assert_eq!(least.ledger, full.ledger);
    assert_eq!(least.settings.bounds, full.settings.bounds);
    assert_eq!(least.listener.mode, full.listener.mode);
    let waits = |config: &Config| {
        let primary = &config.primary;
        (
            primary.connect_timeout,
            primary.read_deadline,
            primary.requests_per_second,
            primary.token_check_interval,
            primary.auth.mount.clone(),
        )
    };
    assert_eq!(waits(&least), waits(&full));
    let short = "[[mirror]]\npath = \"secret/data/shop/*\"\n[[workload]]\nname = \"orders\"\nrole = \"orders\"\n\
                 match = { uid = 0, gid = 0, unit = \"orders.service\" }\nentity_alias = \"orders-host-17\"\n\
                 failover = { issue = true }";
    let short = parse(&least_and(short)).unwrap();
    assert_eq!(
        short.settings.mirrors.first(),
        full.settings.mirrors.first()
    );
    assert_eq!(short.settings.workloads, full.settings.workloads);
    assert_eq!(short.matches, full.matches);
}

#[test]
fn a_full_file_is_read_to_the_last_key() {
    let config = parse(FULL).unwrap();
    assert_eq!(config.path, Path::new(PATH));
    let second = config.primary.addresses.get(1).unwrap();
    assert_eq!(
        (second.url.as_str(), second.port),
        ("https://vault-b:8200", 8200)
    );
    assert!(
        matches!(config.replica.keys.as_slice(), [KeySource::File(path)] if path == Path::new("/etc/holdover/key"))
    );
    assert_eq!(config.admin.group, Some(0));
    assert_eq!(config.admin.metrics.unwrap().port(), 9847);
    let bounds = config.settings.bounds;
    assert_eq!(bounds.max_outage, Duration::from_secs(43_200));
    assert_eq!(bounds.authority_max_age, Duration::from_secs(900));
    assert_eq!(bounds.token_max_age, Duration::from_secs(3600));
    assert_eq!(bounds.credential_max_age, Duration::from_secs(86_400));
    assert_eq!(bounds.policy_max_age, Duration::from_secs(3600));
    assert_eq!(config.settings.approle_mounts, ["approle"]);
    assert_eq!(bounds.max_staleness, Duration::from_secs(86_400));
    let [shop, orders] = config.settings.mirrors.as_slice() else {
        panic!("two mirrors")
    };
    assert_eq!(
        shop.path,
        MirrorPath::Prefix("secret/data/shop/".to_owned())
    );
    assert_eq!((shop.interval, shop.versions), (Duration::from_secs(30), 1));
    assert_eq!(
        orders.path,
        MirrorPath::Exact("database/creds/orders".to_owned())
    );
    let [workload] = config.settings.workloads.as_slice() else {
        panic!("one workload")
    };
    assert_eq!(workload.failover.on_recovery, OnRecovery::Exchange);
    assert_eq!(workload.failover.on_failover, OnFailover::Resume);
    assert_eq!(workload.failover.max_ttl, Duration::from_secs(7200));
    let [(_, peers)] = config.matches.as_slice() else {
        panic!("one match")
    };
    assert_eq!(
        (peers.uid, peers.gid, peers.unit.as_deref()),
        (Some(0), Some(0), Some("orders.service"))
    );
}

#[test]
fn a_pool_is_of_one_path() {
    let pooled = parse(&least_and(
        "[[mirror]]\npath = \"database/creds/orders\"\npool = 4\n",
    ));
    assert_eq!(pooled.unwrap().settings.mirrors[0].pool, 4);
    for (path, size) in [("kv/*", "1"), ("kv/a", "1001"), ("kv/a", "-1")] {
        let text = format!("[[mirror]]\npath = \"{path}\"\npool = {size}\n");
        let errors = parse(&least_and(&text)).unwrap_err();
        assert_eq!(errors.errors[0].key, "mirror.pool", "{errors}");
    }
}

#[test]
fn restated_defaults_of_what_is_to_come_are_findings() {
    let findings = parse(FULL).unwrap().findings;
    assert!(
        findings.iter().any(|text| text.starts_with("drill.max")),
        "{findings:?}"
    );
}

#[test]
fn zero_is_zero_and_never_forever() {
    let text = FULL
        .replace("max_outage = \"12h\"", "max_outage = \"0\"")
        .replace(
            "requests_per_second_per_uid = 5000",
            "requests_per_second_per_uid = 0",
        )
        .replace(
            "interval = \"30s\"\nmax_staleness = \"24h\"",
            "max_staleness = \"0s\"",
        );
    let config = parse(&text).unwrap();
    assert!(config.settings.bounds.max_outage.is_zero());
    assert!(
        config
            .settings
            .mirrors
            .iter()
            .any(|mirror| mirror.max_staleness.is_zero())
    );
    assert!(
        config
            .findings
            .iter()
            .any(|text| text.starts_with("failover.max_outage is 0"))
    );
    for zero in [
        "ttl = \"15m\"",
        "max_ttl = \"2h\"",
        "probe_timeout = \"500ms\"",
        "policy_max_age = \"1h\"",
        "connections = 1024",
    ] {
        let key = zero.split_once(' ').unwrap().0;
        let none = if zero.contains('"') { "\"0s\"" } else { "0" };
        let text = FULL.replace(&format!("\n{zero}"), &format!("\n{key} = {none}"));
        let found = mistakes(&text);
        assert!(
            found.iter().any(|place| place.ends_with(key)),
            "{key}: {found:?}"
        );
    }
}

#[test]
fn a_bound_that_the_next_verification_comes_too_late_for_is_told_of() {
    let short = |age: &str| {
        let text = FULL.replace(
            "policy_max_age = \"1h\"",
            &format!("policy_max_age = {age:?}"),
        );
        let findings = parse(&text).unwrap().findings;
        findings
            .iter()
            .any(|text| text.starts_with("failover.policy_max_age, "))
    };
    assert!(short("1m") && short("30s"));
    assert!(!short("61s") && !short("1h"));
}

#[test]
fn clear_text_to_this_host_is_taken_and_told() {
    let findings = parse(LEAST).unwrap().findings;
    assert!(
        findings.iter().any(|text| text.contains("clear text")),
        "{findings:?}"
    );
}

#[test]
fn the_admin_socket_is_found_in_a_file_full_of_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("holdover.toml");
    let wrong = LEAST.replace("addresses", "adresses") + "[limits]\nconnections = \n";
    std::fs::write(&path, &wrong).unwrap();
    assert!(Config::load(&path).is_err());
    let socket = Some(PathBuf::from("/run/holdover/admin.sock"));
    assert_eq!(admin_socket(&path), socket);
    std::fs::write(&path, wrong.replace("[admin]", "[other]")).unwrap();
    assert_eq!(admin_socket(&path), None);
}

#[test]
fn a_file_that_anyone_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("holdover.toml");
    let missing = Config::load(&path).unwrap_err().to_string();
    assert!(missing.contains("holdover init"), "{missing}");
    std::fs::write(&path, LEAST).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let loose = Config::load(&path).unwrap_err().to_string();
    assert!(loose.contains("chmod o-w"), "{loose}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(Config::load(&path).is_ok());
}

mod property {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_file_makes_the_reader_panic(text in "[a-z\\[\\]=\"{}. \n0-9]{0,200}") {
            let _ = parse(&text);
        }

        #[test]
        fn a_lost_line_is_an_error_with_a_line_or_changes_nothing_but_itself(cut in 0usize..70) {
            let text: String = FULL.lines().enumerate().filter(|(at, _)| *at != cut)
                .flat_map(|(_, line)| [line, "\n"]).collect();
            if let Err(errors) = parse(&text) {
                prop_assert!(!errors.errors.is_empty());
                prop_assert!(errors.errors.iter().all(|error| error.line.is_some()));
            }
        }

        #[test]
        fn a_wrong_type_anywhere_is_reported_on_its_line(at in 0usize..70) {
            let Some(line) = FULL.lines().nth(at) else { return Ok(()) };
            let Some((key, _)) = line.split_once(" = ") else { return Ok(()) };
            let wrong = format!("{key} = 1979-05-27");
            let text: String = FULL.lines().enumerate()
                .flat_map(|(n, line)| [if n == at { wrong.as_str() } else { line }, "\n"]).collect();
            let errors = parse(&text).unwrap_err();
            prop_assert!(errors.errors.iter().any(|error| error.line == Some(at + 1)), "{}", errors);
        }
    }
}
