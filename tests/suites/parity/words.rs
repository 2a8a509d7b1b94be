//! What paths, names and values are made of: few words, so that rules and requests meet.

use harness::random::Seeded;
use serde_json::{Value, json};

/// Segments of paths. Few are plain.
const SEGMENTS: [&str; 24] = [
    "a", "b", "ab", "abc", "x", "y", "data", "metadata", "é", "日本", "a b", "a+b", "+", "*", "A",
    "a.b", "-", "ß", "key", "a%b", "a=b&c", "0", "%41", "a,b",
];

/// Plain segments, which requests are mostly made of.
const PLAIN: [&str; 6] = ["a", "b", "ab", "x", "y", "abc"];

/// Names of parameters. None of them makes a write of the backends that are asked succeed.
pub(crate) const PARAMETERS: [&str; 12] = [
    "a", "b", "A", "Bee", "bee", "x-y", "é", "É", "limit", "version", "opt", "*",
];

/// Paths outside of secrets, with what they are for.
const ELSEWHERE: [&str; 60] = [
    "auth/token/lookup-self",
    "auth/token/renew-self",
    "auth/token/lookup",
    "auth/token/lookup-accessor",
    "auth/token/create",
    "auth/token/create-orphan",
    "auth/token/create/any",
    "auth/token/roles",
    "auth/token/roles/any",
    "auth/token/accessors",
    "auth/token/revoke-orphan",
    "auth/token/revoke-accessor",
    "auth/token/revoke-orphan/x",
    "auth/userpass/users",
    "auth/userpass/users/u1",
    "identity/entity/id",
    "identity/entity/name",
    "identity/group/id",
    "identity/group/name/g0",
    "sys/policies/acl",
    "sys/policies/acl/p0",
    "sys/policies/acl/absent",
    "sys/policy",
    "sys/policies/detailed/acl",
    "sys/mounts",
    "sys/mounts/kv/tune",
    "sys/auth",
    "sys/auth/token/tune",
    "sys/auth/token",
    "sys/audit",
    "sys/audit/absent",
    "sys/audit-hash/absent",
    "sys/config/cors",
    "sys/config/auditing/request-headers",
    "sys/config/ui/headers/x",
    "sys/raw",
    "sys/raw/x",
    "sys/leases",
    "sys/leases/lookup",
    "sys/leases/lookup/absent",
    "sys/leases/revoke-prefix/absent",
    "sys/leases/revoke-force/absent",
    "sys/leases/renew",
    "sys/internal/inspect/router",
    "sys/internal/inspect/router/root",
    "sys/plugins/catalog",
    "sys/plugins/catalog/auth",
    "sys/plugins/catalog/auth/userpass",
    "sys/rotate",
    "sys/rotate/keyring",
    "sys/rotate/root",
    "sys/rotate/config",
    "sys/remount",
    "sys/key-status",
    "sys/ha-status",
    "sys/quotas/config",
    "sys/capabilities",
    "sys/capabilities-self",
    "sys/capabilities-accessor",
    "sys/absent",
];

/// Where keys lie, besides where they are looked for by request and by rule: `kv/` is mirrored, `lab/` is not, `old/`
/// is of version 1, nothing is mounted at `none/`.
const PLACES: [(&str, u64); 16] = [
    ("kv/data/", 34),
    ("kv/metadata/", 18),
    ("kv/detailed-metadata/", 2),
    ("kv/delete/", 1),
    ("kv/undelete/", 1),
    ("kv/destroy/", 1),
    ("kv/subkeys/", 1),
    ("kv/", 3),
    ("lab/data/", 8),
    ("lab/metadata/", 4),
    ("lab/", 1),
    ("old/", 9),
    ("cubbyhole/", 3),
    ("none/", 4),
    ("team/kv/data/", 1),
    ("", 3),
];

/// The name of a parameter: most often one that many rules name.
pub(crate) fn parameter(random: &mut Seeded) -> &'static str {
    match random.chance(60) {
        true => ["a", "b"][random.index(2)],
        false => PARAMETERS[random.index(PARAMETERS.len())],
    }
}

/// One segment of a path.
pub(crate) fn segment(random: &mut Seeded) -> String {
    match random.below(100) {
        0..60 => (*random.pick(&PLAIN)).to_owned(),
        60..98 => (*random.pick(&SEGMENTS)).to_owned(),
        98 => "long".repeat(10 + random.index(70)),
        _ => (*random.pick(&[
            "\u{200b}", "a\u{a0}b", ".a", "a.", "~", "'", "(x)", ";", ":", "@", "$", "!",
        ]))
        .to_owned(),
    }
}

/// A key of up to three segments; now and then one of very many.
pub(crate) fn key(random: &mut Seeded) -> String {
    let depth = match random.below(400) {
        0 => 200,
        _ => 1 + random.index(3),
    };
    let segments: Vec<_> = (0..depth).map(|_| segment(random)).collect();
    segments.join("/")
}

/// Keys that exist in `kv/`, `lab/` and `old/`.
pub(crate) fn planted(random: &mut Seeded) -> Vec<String> {
    let mut keys = vec![];
    while keys.len() < 70 {
        let depth = 1 + random.index(3);
        let mut one = || match random.chance(70) {
            true => *random.pick(&PLAIN),
            false => *random.pick(&SEGMENTS),
        };
        let segments: Vec<_> = (0..depth).map(|_| one()).collect();
        let key = segments.join("/");
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// A path that a request could ask for.
pub(crate) fn path(random: &mut Seeded, planted: &[String]) -> String {
    if random.chance(18) {
        return (*random.pick(&ELSEWHERE)).to_owned();
    }
    let mut at = random.below(PLACES.iter().map(|(_, weight)| weight).sum());
    let mut place = "";
    for (name, weight) in PLACES {
        if at < weight {
            place = name;
            break;
        }
        at -= weight;
    }
    let key = match random.below(10) {
        0..6 => random.pick(planted).clone(),
        6..9 => key(random),
        _ => String::new(),
    };
    format!("{place}{key}")
}

/// A path near `path`: a slash more or less, a segment more or less, another last segment, or the same.
pub(crate) fn near(random: &mut Seeded, path: &str) -> String {
    let parent = |path: &str| {
        path.rsplit_once('/')
            .map_or("", |(parent, _)| parent)
            .to_owned()
    };
    match random.below(20) {
        0 => format!("{path}/"),
        1 => path.trim_end_matches('/').to_owned(),
        2 => parent(path),
        3 => parent(path) + "/",
        4 | 5 => format!("{path}/{}", segment(random)),
        6 => format!("{path}{}", segment(random)),
        7 | 8 => format!("{}/{}", parent(path), segment(random)),
        9 => match path.char_indices().next_back() {
            Some((at, _)) => path[..at].to_owned(),
            None => String::new(),
        },
        _ => path.to_owned(),
    }
}

/// A value of a parameter, as a request has it.
pub(crate) fn value(random: &mut Seeded) -> Value {
    match random.below(24) {
        0..4 => json!(5),
        4 => json!(5.5),
        5..7 => json!(true),
        7 => json!(false),
        8 => json!(null),
        9 => json!([]),
        10 => json!(["x", "y"]),
        11 => json!([1, "x"]),
        12 => json!({"k": "x"}),
        13 => json!({"k": ["x", true]}),
        14 => json!(-1),
        _ => json!(text_value(random)),
    }
}

/// A text as a value.
pub(crate) fn text_value(random: &mut Seeded) -> &'static str {
    const TEXTS: [&str; 19] = [
        "x", "y", "xy", "xyz", "a mid b", "mid", "*", "", "5", "true", "é", "X", "x*", "a*b",
        "max", "0", "2", "100", "-1",
    ];
    TEXTS[random.index(TEXTS.len())]
}

/// What is mounted, as `sys/internal/ui/mounts/` may be asked for it.
pub(crate) fn mount(random: &mut Seeded) -> &'static str {
    const ASKED: [&str; 18] = [
        "kv",
        "kv/",
        "kv/data/a",
        "lab",
        "old",
        "old/a/b",
        "cubbyhole",
        "sys",
        "identity",
        "auth/token",
        "auth/token/",
        "auth/userpass/login/u1",
        "none",
        "auth/none",
        "auth",
        "k",
        "kv/../old",
        "",
    ];
    ASKED[random.index(ASKED.len())]
}
