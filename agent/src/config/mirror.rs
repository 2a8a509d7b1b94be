//! `[[mirror]]`: what is copied, how often it is checked, how old it may get.

use std::time::Duration;

use shared::{
    name::RequestPath,
    settings::{Mirror, MirrorPath},
};

use crate::config::{
    error::Problem,
    file::{Bounded, Placed, Section},
    value::Span,
};

/// Every entry that can be read, in the file's order; overlaps are errors.
pub(super) fn read(sections: &[Section<'_>], max_staleness: Duration) -> Vec<Mirror> {
    let mut mirrors: Vec<Placed<Mirror>> = Vec::new();
    for section in sections {
        let Some(mirror) = entry(section, max_staleness) else {
            continue;
        };
        let same = |other: &&Placed<Mirror>| overlap(&other.value.path, &mirror.value.path);
        if let Some(other) = mirrors.iter().find(same) {
            let (path, line) = (other.value.path.configured(), other.line);
            let what = format!("overlaps with {path:?} of line {line}");
            mirror.conflict(section.source(), what, "keep one entry for each path");
        }
        mirrors.push(mirror);
    }
    mirrors.into_iter().map(|found| found.value).collect()
}

fn entry(section: &Section<'_>, max_staleness: Duration) -> Option<Placed<Mirror>> {
    let path = section.required("path", "path = \"secret/data/shop/*\"", path);
    let interval = section.span(
        "interval",
        Bounded {
            default: Duration::from_secs(30),
            least: Duration::from_millis(100),
            most: Duration::from_secs(86_400),
        },
    );
    let max_staleness = section.span("max_staleness", staleness(max_staleness));
    let versions = section.count(
        "versions",
        Bounded {
            default: 1,
            least: 1,
            most: 100,
        },
    );
    let pool = section.count(
        "pool",
        Bounded {
            default: 0,
            least: 0,
            most: 1000,
        },
    );
    refuse_unbuilt(section);
    section.finish();
    let path = path?;
    let prefix = matches!(path.value, MirrorPath::Prefix(_));
    if pool.value > 0 && prefix {
        let what = format!("{} keeps leases of a whole prefix", path.value.configured());
        let remedy = "give the one path that is read, or leave pool out";
        pool.conflict(section.source(), what, remedy);
    }
    if max_staleness.value < interval.value {
        section.source().finding(format!(
            "mirror {}: checked every {}, but not served once older than {}",
            path.value.configured(),
            Span(interval.value),
            Span(max_staleness.value),
        ));
    }
    Some(path.map(|path| Mirror {
        path,
        interval: interval.value,
        max_staleness: max_staleness.value,
        versions: versions.value,
        pool: pool.value,
    }))
}

/// How old a value may get. Zero means that none is served.
pub(super) fn staleness(default: Duration) -> Bounded<Duration> {
    Bounded {
        default,
        least: Duration::ZERO,
        most: Duration::from_secs(365 * 86_400),
    }
}

fn refuse_unbuilt(section: &Section<'_>) {
    let unbuilt = |found: Placed<()>, feature, remedy| {
        let problem = Problem::Unbuilt { feature, remedy };
        section.source().error(found.line, found.key, problem);
    };
    let serve = section.text("serve", |text| match text {
        "primary" | "replica" => Ok(text == "replica"),
        _ => Err("is no side that serves; give \"primary\""),
    });
    if let Some(replica) = serve.filter(|found| found.value) {
        unbuilt(
            replica.map(drop),
            "serving from the replica while the primary lives",
            "give \"primary\"",
        );
    }
    section.unbuilt(
        "max_age",
        "serving from the replica while the primary lives",
        "leave it out",
    );
}

pub(super) fn path(text: &str) -> Result<MirrorPath, &'static str> {
    let path = MirrorPath::parse(text);
    let literal = path.literal();
    if literal.is_empty() || literal.starts_with('/') || literal.starts_with("v1/") {
        return Err("is no path of a secret; write it without /v1/, as in \"secret/data/shop/*\"");
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
