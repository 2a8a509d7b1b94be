//! The path that a request is counted under: without what differs from request to request, and without anything that
//! gives a right.

use shared::api::{Call, Kind};

/// The longest path that is kept, in bytes.
const LONGEST: usize = 256;

/// What begins a token of the primary, or of the replica.
const TOKENS: [&str; 7] = ["hvs.", "hvb.", "hvr.", "ho.", "s.", "b.", "r."];

/// Letters and digits that a token has at least after its prefix.
const TOKEN: usize = 20;

/// Below these the path goes on with a token, an accessor or the id of a lease.
const NAMES_ONE: [&str; 13] = [
    "auth/token/lookup/",
    "auth/token/lookup-accessor/",
    "auth/token/renew/",
    "auth/token/renew-accessor/",
    "auth/token/revoke/",
    "auth/token/revoke-accessor/",
    "auth/token/revoke-orphan/",
    "sys/leases/lookup/",
    "sys/leases/revoke-force/",
    "sys/leases/revoke-prefix/",
    "sys/renew/",
    "sys/revoke/",
    "sys/revoke-prefix/",
];

/// The path that stands for a call: ids of leases, tokens, accessors, users at a login and overlong tails are `*`.
pub(crate) fn template(call: &Call) -> String {
    let path = call.path.as_str();
    match &call.kind {
        Kind::LeaseRenew => return "sys/leases/renew".to_owned(),
        Kind::LeaseRevoke => return "sys/leases/revoke".to_owned(),
        Kind::Mounts(Some(_)) => return "sys/internal/ui/mounts/*".to_owned(),
        Kind::Login => return login(path),
        _ => {}
    }
    if let Some(stem) = NAMES_ONE.iter().find(|stem| path.starts_with(**stem)) {
        return format!("{stem}*");
    }
    let segments: Vec<&str> = path
        .split('/')
        .map(|segment| if is_random(segment) { "*" } else { segment })
        .collect();
    shortened(&segments.join("/"))
}

/// `auth/userpass/login/alice` names a person; the mount is enough.
fn login(path: &str) -> String {
    match path.split_once("/login/") {
        Some((mount, _)) => format!("{mount}/login/*"),
        None => path.to_owned(),
    }
}

/// Whether a segment is a token or a UUID, which accessors and lease ids are too.
fn is_random(segment: &str) -> bool {
    let token = |prefix: &str| {
        segment.strip_prefix(prefix).is_some_and(|rest| {
            rest.len() >= TOKEN
                && rest
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        })
    };
    TOKENS.iter().any(|prefix| token(prefix)) || is_uuid(segment)
}

fn is_uuid(segment: &str) -> bool {
    let groups: Vec<&str> = segment.split('-').collect();
    let lengths = groups.iter().map(|group| group.len());
    lengths.eq([8, 4, 4, 4, 12])
        && groups
            .iter()
            .all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn shortened(path: &str) -> String {
    let mut end = path.len().min(LONGEST);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    match path.get(..end) {
        Some(short) if end < path.len() => format!("{short}*"),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(target: &str) -> String {
        template(&Call::parse("PUT", target).unwrap())
    }

    #[test]
    fn paths_name_no_person_no_lease_and_no_token() {
        for (target, counted) in [
            ("/v1/auth/userpass/login/alice", "auth/userpass/login/*"),
            (
                "/v1/sys/leases/renew/database/creds/a/xyz",
                "sys/leases/renew",
            ),
            ("/v1/sys/revoke/database/creds/a/xyz", "sys/revoke/*"),
            ("/v1/auth/token/revoke/s.secret", "auth/token/revoke/*"),
            (
                "/v1/secret/data/hvs.CAESIJabcdefghijklmnop/x",
                "secret/data/*/x",
            ),
            (
                "/v1/identity/entity/id/8d6ac0f2-1f34-4a4e-9a83-0123456789ab",
                "identity/entity/id/*",
            ),
            ("/v1/secret/data/s.short", "secret/data/s.short"),
            ("/v1/secret/data/shop/db?version=3", "secret/data/shop/db"),
        ] {
            assert_eq!(path(target), counted, "{target}");
        }
    }

    #[test]
    fn an_overlong_path_is_cut_at_a_character() {
        let long = path(&format!("/v1/secret/data/{}", "ä".repeat(300)));
        assert!(long.ends_with('*') && long.len() <= LONGEST + 1);
    }
}
