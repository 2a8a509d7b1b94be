//! File descriptors: as many as this process may have, and the connections that there are enough for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::LimitsConfig;

/// Descriptors for each connection: its socket, the process at its other end, another one that writes to it; and socket and process
/// of one that waits for its attestation, of which there may be as many.
const OF_CONNECTION: u64 = 5;

/// Descriptors of everything else: files, watches, timers, sockets of the admin API, idle connections to the primary and Holdover's
/// own; 32 of connections that are being refused, and three of each of the 32 that lost their place and are still read, which do not
/// count as connections any more. Each forward has one besides.
const OF_THE_REST: u64 = 384;

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

/// Whatever the limit, somebody is served. Forwards have up to a quarter of what there is.
fn within(limits: &LimitsConfig, allowed: u64) -> LimitsConfig {
    let left = allowed.saturating_sub(OF_THE_REST);
    let forwards = at_most(limits.forwards, (left / 4).max(8));
    let left = left.saturating_sub(forwards.into());
    LimitsConfig {
        connections: at_most(limits.connections, (left / OF_CONNECTION).max(4)),
        forwards,
        ..*limits
    }
}

fn at_most(wanted: u32, most: u64) -> u32 {
    u32::try_from(most).map_or(wanted, |most| most.min(wanted))
}

fn told(limits: &LimitsConfig, allowed: u64) -> Option<String> {
    let LimitsConfig {
        connections,
        forwards,
        ..
    } = within(limits, allowed);
    let needed = (u64::from(limits.connections) * OF_CONNECTION + u64::from(limits.forwards))
        .max(u64::from(limits.forwards) * 4)
        + OF_THE_REST;
    let is_short = connections < limits.connections || forwards < limits.forwards;
    is_short.then(|| {
        format!(
            "limits.connections is {} and limits.forwards {}, but {allowed} open files are enough for {connections} and {forwards} only: set LimitNOFILE={needed} in the unit",
            limits.connections, limits.forwards,
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
        let few = within(&limits, 1024);
        assert_eq!((few.connections, few.forwards), (96, 160));
        let short = told(&limits, 1024).unwrap();
        assert!(short.contains("LimitNOFILE=6016"), "{short}");
        assert_eq!(within(&limits, 6016), limits);
        assert_eq!(told(&limits, 6016), None);
        let none = within(&limits, 0);
        assert_eq!((none.connections, none.forwards), (4, 8));
    }
}
