//! What one decision costs, by the number of rules: `cargo bench -p holdover-shared --bench acl`.
//!
//! Prints nanoseconds per decision over requests of which some are allowed, some denied and some match
//! nothing, and milliseconds to read and compile the policies.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use serde_json::Map;
use shared::{
    acl::{Acl, AclRequest, Operation, Policy, PolicyEntry},
    identity::Identity,
    time::WallTime,
};

const NOW: WallTime = WallTime::from_secs(1_795_400_000);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    report("rules   read ms   compile ms   ns per decision");
    for rules in [10, 100, 500, 2000] {
        let text = policy_text(rules);
        let (policy, reading) = timed(|| Policy::parse("bench", &text, NOW));
        let policy = policy?;
        let (acl, compiling) =
            timed(|| Acl::compile([PolicyEntry::Known(&policy)], &Identity::default(), NOW));
        let decision = decision_time(&acl?, rules);
        let (reading, compiling) = (millis(reading), millis(compiling));
        report(&format!(
            "{rules:5}   {reading:7.2}   {compiling:10.2}   {decision:15.0}"
        ));
    }
    Ok(())
}

/// A fifth each of exact, prefix and three shapes of segment rules.
fn policy_text(rules: usize) -> String {
    let rule = |n: usize| {
        let path = match n % 5 {
            0 => format!("secret/data/team-{n}/app"),
            1 => format!("secret/data/team-{n}/*"),
            2 => format!("secret/data/+/app-{n}"),
            3 => format!("secret/+/team-{n}/+/*"),
            _ => format!("secret/data/+/app-{n}/ke*"),
        };
        format!("path \"{path}\" {{ capabilities = [\"read\", \"list\"] }}\n")
    };
    (0..rules).map(rule).collect()
}

fn decision_time(acl: &Acl, rules: usize) -> f64 {
    const ROUNDS: usize = 200_000;
    let paths: Vec<String> = (0..64)
        .map(|n| match n % 4 {
            0 => format!("secret/data/team-{}/app", n * 7 % rules),
            1 => format!("secret/data/team-{}/deep/er/key", n * 11 % rules),
            2 => format!("secret/data/any/app-{}/key", n * 13 % rules),
            _ => format!("other/data/team-{n}/app"),
        })
        .collect();
    let data = Map::new();
    let ((), elapsed) = timed(|| {
        for path in paths.iter().cycle().take(ROUNDS) {
            let request = AclRequest {
                namespace: "",
                path,
                operation: Operation::Read,
                data: &data,
                wrap_ttl: None,
                help: false,
            };
            let _ = black_box(acl.decide(black_box(&request)));
        }
    });
    elapsed.as_secs_f64() * 1e9 / ROUNDS as f64
}

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn timed<T>(run: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = run();
    (result, start.elapsed())
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

#[expect(clippy::print_stdout, reason = "a table for a person")]
fn report(line: &str) {
    println!("{line}");
}
