//! `[[mirror]]`: what is copied, how often it is checked, how old it may get.

use std::{ops::RangeInclusive, time::Duration};

use shared::{
    name::RequestPath,
    settings::{Mirror, MirrorPath},
    span::Span,
};

use crate::config::{
    section::{Section, Spot},
    value::{ZERO, days, ms, secs},
};

/// How old a value may get. Zero means that none is served.
pub(super) const STALENESS: RangeInclusive<Duration> = ZERO..=days(365);

/// Every entry that can be read, in the file's order; overlaps are errors.
pub(super) fn read(sections: &[Section<'_>], max_staleness: Duration) -> Vec<Mirror> {
    let mut mirrors: Vec<(Mirror, Spot<'_>)> = Vec::new();
    for section in sections {
        let Some(mirror) = entry(section, max_staleness) else {
            continue;
        };
        let spot = section.at("path");
        let same = mirrors
            .iter()
            .find(|(other, _)| overlap(&other.path, &mirror.path));
        if let Some((other, earlier)) = same {
            let (path, line) = (other.path.configured(), earlier.line);
            let what = format!("overlaps with {path:?} of line {line}");
            spot.conflict(what, "keep one entry for each path");
        }
        mirrors.push((mirror, spot));
    }
    mirrors.into_iter().map(|(mirror, _)| mirror).collect()
}

fn entry(section: &Section<'_>, max_staleness: Duration) -> Option<Mirror> {
    let path = section.required("path", "secret/data/shop/*", path);
    let interval = section.span("interval", secs(30), ms(100)..=days(1));
    let max_staleness = section.span("max_staleness", max_staleness, STALENESS);
    let versions = section.count("versions", 1, 1..=100);
    let pool = section.count("pool", 0, 0..=1000);
    refuse_unbuilt(section);
    let path = section.finish(path)?;
    if pool > 0 && matches!(path, MirrorPath::Prefix(_)) {
        let what = format!("{} keeps leases of a whole prefix", path.configured());
        let remedy = "give the one path that is read, or leave pool out";
        section.at("pool").conflict(what, remedy);
    }
    if max_staleness < interval {
        section.finding(format!(
            "mirror {}: checked every {}, but not served once older than {}",
            path.configured(),
            Span(interval),
            Span(max_staleness),
        ));
    }
    Some(Mirror {
        path,
        interval,
        max_staleness,
        versions,
        pool,
    })
}

fn refuse_unbuilt(section: &Section<'_>) {
    let feature = "serving from the replica while the primary lives";
    let by_replica = section.text("serve", |text| match text {
        "primary" | "replica" => Ok(text == "replica"),
        _ => Err("is not a side that serves; give \"primary\""),
    });
    if by_replica == Some(true) {
        section.at("serve").unbuilt(feature, "give \"primary\"");
    }
    section.unbuilt("max_age", feature, "leave it out");
}

/// The path of a mirror as it is configured.
///
/// # Errors
/// Why it cannot be mirrored.
pub fn path(text: &str) -> Result<MirrorPath, &'static str> {
    let path = MirrorPath::parse(text);
    let literal = path.literal();
    if literal.is_empty() || literal.starts_with('/') || literal.starts_with("v1/") {
        return Err(
            "is not the path of a secret; write it without /v1/, as in \"secret/data/shop/*\"",
        );
    }
    if literal.contains('*') || literal.split('/').any(|segment| segment == "+") {
        return Err("has a wildcard inside; only a * at its end is one");
    }
    if RequestPath::parse(literal).is_err() {
        return Err("is not in canonical form; leave out //, . and .., and control characters");
    }
    if !literal.contains('/') || (literal.ends_with('/') && matches!(path, MirrorPath::Exact(_))) {
        return Err("names no secret below a mount; write mount and path, or end it in *");
    }
    let system = ["auth/", "cubbyhole/", "identity/", "sys/"];
    if literal.starts_with("identity/oidc/") && matches!(path, MirrorPath::Exact(_)) {
        return Ok(path);
    }
    if system.iter().any(|mount| literal.starts_with(mount)) {
        return Err(
            "is not mirrored: what decisions need of auth, identity and sys is copied anyway",
        );
    }
    Ok(path)
}

fn overlap(one: &MirrorPath, other: &MirrorPath) -> bool {
    let covers_all = |wide: &MirrorPath, narrow: &MirrorPath| match wide {
        MirrorPath::Exact(path) => *narrow == MirrorPath::Exact(path.clone()),
        MirrorPath::Prefix(prefix) => narrow.literal().starts_with(prefix.as_str()),
    };
    covers_all(one, other) || covers_all(other, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_secrets_are_mirrored() {
        for text in [
            "secret/data/shop/*",
            "secret/data/shop*",
            "secret/*",
            "kv/one",
            "database/creds/orders",
            "identity/oidc/.well-known/keys",
        ] {
            assert!(path(text).is_ok(), "{text}");
        }
        for text in [
            "",
            "*",
            "/secret/data/x",
            "v1/secret/data/x",
            "secret",
            "secret/data/",
            "secret/*/x",
            "secret/+/x",
            "secret//x",
            "secret/../x",
            "sys/mounts",
            "auth/token/*",
            "cubbyhole/x",
            "identity/*",
            "identity/oidc/*",
            "identity/entity/id/x",
        ] {
            assert!(path(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_overlap_when_a_read_could_fall_under_both() {
        let overlaps = |one, other| overlap(&MirrorPath::parse(one), &MirrorPath::parse(other));
        assert!(overlaps("secret/data/a/*", "secret/data/a/b"));
        assert!(overlaps("secret/data/a/b", "secret/data/*"));
        assert!(overlaps("kv/x", "kv/x"));
        assert!(!overlaps("kv/x", "kv/xy"));
        assert!(!overlaps("secret/data/a/*", "secret/data/b/*"));
    }
}
