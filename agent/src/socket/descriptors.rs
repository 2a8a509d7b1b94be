//! File descriptors: as many as this process may have, and the connections that there are enough for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::LimitsConfig;

/// Descriptors of one connection: its socket, the process at its other end, another one that writes to it, and a connection
/// to the primary.
const OF_CONNECTION: u64 = 4;

/// Descriptors of everything else: files, watches, timers, sockets of the admin API, connections that are being refused.
const OF_THE_REST: u64 = 256;

/// Raises the limit of this process as far as it may be raised without a privilege: the usual 1,024 is there for programs
/// that use `select`.
pub fn raise() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// The limits that this process can keep to, with the descriptors that it may have.
pub fn affordable(limits: &LimitsConfig) -> LimitsConfig {
    within(limits, allowed())
}

/// What an operator should know of it: that there are too few for the configuration.
pub fn finding(limits: &LimitsConfig) -> Option<String> {
    told(limits, allowed())
}

/// How many descriptors this process may have.
fn allowed() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Whatever the limit, somebody is served.
fn within(limits: &LimitsConfig, allowed: u64) -> LimitsConfig {
    let afforded = (allowed.saturating_sub(OF_THE_REST) / OF_CONNECTION).max(4);
    LimitsConfig {
        connections: u32::try_from(afforded).map_or(limits.connections, |afforded| {
            afforded.min(limits.connections)
        }),
        ..*limits
    }
}

fn told(limits: &LimitsConfig, allowed: u64) -> Option<String> {
    let connections = within(limits, allowed).connections;
    let needed = u64::from(limits.connections) * OF_CONNECTION + OF_THE_REST;
    (connections < limits.connections).then(|| {
        format!(
            "limits.connections is {}, but {allowed} open files are enough for {connections} only: set LimitNOFILE={needed} in the unit",
            limits.connections,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn too_few_descriptors_lower_the_limit_and_are_told() {
        let limits = LimitsConfig {
            connections: 1024,
            ..samples::limits()
        };
        assert_eq!(within(&limits, 65_536), limits);
        assert_eq!(told(&limits, 65_536), None);
        assert_eq!(within(&limits, 1024).connections, 192);
        let told = told(&limits, 1024).unwrap();
        assert!(told.contains("LimitNOFILE=4352"), "{told}");
        assert_eq!(within(&limits, 4352).connections, 1024);
        assert_eq!(within(&limits, 0).connections, 4);
    }
}
