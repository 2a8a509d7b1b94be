//! Random requests near the paths of the rules, each as it goes on the wire, and none that changes what others see.

use harness::random::Seeded;
use serde_json::{Map, Value, json};

use crate::words;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) method: &'static str,
    /// As it goes on the wire.
    pub(crate) target: String,
    pub(crate) body: String,
    pub(crate) wrap: Option<(&'static str, u64)>,
    pub(crate) namespace: Option<&'static str>,
    pub(crate) bearer: Bearer,
    pub(crate) features: Vec<&'static str>,
}

/// Whose token it carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bearer {
    /// A token of the round, by number.
    Token(usize),
    /// One of the round that was revoked.
    Revoked,
    /// One that was never issued.
    Unknown,
    Nobody,
}

/// What requests are made from.
pub(crate) struct Ground<'a> {
    pub(crate) hot: &'a [String],
    pub(crate) planted: &'a [String],
    pub(crate) tokens: usize,
    /// An accessor of the round.
    pub(crate) accessor: &'a str,
}

/// Writes below `auth/` and `sys/` that change nothing, even where they are allowed.
const HARMLESS: [(&str, &str, &str); 24] = [
    ("POST", "auth/token/lookup-self", "{}"),
    ("POST", "auth/token/renew-self", "{}"),
    ("PUT", "auth/token/renew-self", r#"{"increment":"20m"}"#),
    ("POST", "auth/token/lookup", r#"{"token":"s.none"}"#),
    ("POST", "auth/token/create", r#"{"ttl":"zz"}"#),
    ("PUT", "auth/token/create-orphan", r#"{"ttl":"zz"}"#),
    ("POST", "auth/token/create/any", r#"{"ttl":"zz","a":"x"}"#),
    (
        "POST",
        "auth/token/revoke-accessor",
        r#"{"accessor":"none"}"#,
    ),
    ("POST", "auth/token/revoke-orphan", r#"{"token":""}"#),
    ("POST", "auth/token/revoke-orphan/x", "{}"),
    ("DELETE", "auth/token/roles/absent", ""),
    ("PUT", "sys/policies/acl/absent", r#"{"a":"x"}"#),
    ("DELETE", "sys/policies/acl/absent", ""),
    ("POST", "sys/leases/lookup", r#"{"lease_id":"absent"}"#),
    ("PUT", "sys/leases/renew", r#"{"lease_id":"absent"}"#),
    ("PUT", "sys/leases/revoke-prefix/absent", "{}"),
    ("PUT", "sys/leases/revoke-force/absent", "{}"),
    ("POST", "sys/remount", "{}"),
    ("DELETE", "sys/audit/absent", ""),
    ("POST", "sys/audit-hash/absent", "{}"),
    ("DELETE", "sys/config/ui/headers/x", ""),
    ("DELETE", "sys/raw/x", ""),
    ("POST", "sys/absent", r#"{"a":"x","b":["x"]}"#),
    ("DELETE", "sys/plugins/catalog/auth/absent", ""),
];

/// One request.
pub(crate) fn wanted(random: &mut Seeded, ground: &Ground<'_>) -> Wanted {
    let mut features = Vec::new();
    let mut wanted = match random.below(100) {
        0..5 => capabilities(random, ground),
        5..8 => preflight(random),
        8..12 => harmless(random),
        _ => of_path(random, ground, &mut features),
    };
    wanted.features.extend(features);
    wanted.bearer = bearer(random, ground.tokens);
    if random.chance(4) {
        wanted.features.push("request: wrapping");
        let ttls = [
            ("60", 60),
            ("30s", 30),
            ("90", 90),
            ("5m", 300),
            ("2h", 7200),
            ("1", 1),
        ];
        wanted.wrap = Some(*random.pick(&ttls));
    }
    if random.below(1400) == 0 {
        wanted.features.push("request: namespace");
        wanted.namespace = Some("team");
    }
    const UNEXPLAINED: [&str; 3] = [
        "request: not canonical",
        "request: empty segment",
        "request: preflight",
    ];
    let odd = |feature: &&str| UNEXPLAINED.contains(feature);
    if wanted.method == "GET" && random.below(150) == 0 && !wanted.features.iter().any(odd) {
        wanted.features.push("request: help");
        let mark = if wanted.target.contains('?') {
            '&'
        } else {
            '?'
        };
        wanted.target += &format!("{mark}help=1");
    }
    let kind = match wanted.method {
        "DELETE" => "operation: delete",
        "GET" if wanted.target.contains("list=") => "operation: list",
        "GET" if wanted.target.contains("scan=") => "operation: scan",
        "GET" => "operation: read",
        "HEAD" => "operation: header",
        "LIST" => "operation: list",
        "PATCH" => "operation: patch",
        "SCAN" => "operation: scan",
        "POST" | "PUT" => "operation: write",
        _ => "operation: none",
    };
    wanted.features.push(kind);
    wanted
}

fn bearer(random: &mut Seeded, tokens: usize) -> Bearer {
    match random.below(1000) {
        0..5 => Bearer::Revoked,
        5 => Bearer::Unknown,
        6..10 => Bearer::Nobody,
        _ => Bearer::Token(random.index(tokens)),
    }
}

fn plain(method: &'static str, target: String, body: String) -> Wanted {
    Wanted {
        method,
        target,
        body,
        wrap: None,
        namespace: None,
        bearer: Bearer::Nobody,
        features: Vec::new(),
    }
}

fn capabilities(random: &mut Seeded, ground: &Ground<'_>) -> Wanted {
    let count = 1 + random.index(6);
    let mut one = || {
        let hot = random.pick(ground.hot).clone();
        let path = words::near(random, &hot);
        match random.below(20) {
            0 => format!("/{path}"),
            1 => format!("{path},{hot}"),
            2 => format!(" {path} "),
            _ => path,
        }
    };
    let paths: Vec<_> = (0..count).map(|_| one()).collect();
    let (at, mut body) = match random.below(10) {
        0..2 => (
            "accessor",
            json!({ "accessor": ground.accessor, "paths": paths }),
        ),
        2 => ("self", json!({ "path": paths.join(",") })),
        3 => ("self", json!({ "path": paths[0] })),
        _ => ("self", json!({ "paths": paths })),
    };
    if random.chance(10) {
        body["a"] = words::value(random);
    }
    let mut wanted = plain(
        "POST",
        format!("/v1/sys/capabilities-{at}"),
        body.to_string(),
    );
    wanted.features.push("request: capabilities");
    wanted
}

fn preflight(random: &mut Seeded) -> Wanted {
    let path = words::mount(random);
    let target = match path {
        "" => "/v1/sys/internal/ui/mounts".to_owned(),
        path => format!("/v1/sys/internal/ui/mounts/{path}"),
    };
    let mut wanted = plain("GET", target, String::new());
    wanted.features.push("request: preflight");
    wanted
}

fn harmless(random: &mut Seeded) -> Wanted {
    let (method, path, body) = *random.pick(&HARMLESS);
    let mut wanted = plain(method, format!("/v1/{path}"), body.to_owned());
    wanted.features.push("request: sys or token write");
    wanted
}

fn of_path(random: &mut Seeded, ground: &Ground<'_>, features: &mut Vec<&'static str>) -> Wanted {
    let path = match random.chance(80) {
        true => {
            let hot = random.pick(ground.hot).clone();
            words::near(random, &hot)
        }
        false => words::path(random, ground.planted),
    };
    let mut method = method(random, &path);
    if method == "FOO" && !random.chance(20) {
        method = "GET";
    }
    let exists = existing(&path, ground.planted);
    if !is_safe(method, &path, exists) {
        method = *random.pick(&["GET", "LIST", "SCAN", "GET", "HEAD"]);
    }
    let body = match method {
        "POST" | "PUT" | "PATCH" => body(random, &path, exists, features),
        _ => String::new(),
    };
    let reads = !matches!(method, "POST" | "PUT" | "PATCH" | "DELETE");
    let mut target = encoded(random, &path, reads, features);
    if reads || method == "DELETE" {
        target += &query(random, method, features);
    }
    plain(method, target, body)
}

fn method(random: &mut Seeded, path: &str) -> &'static str {
    let secret = path.starts_with("kv/data/");
    match random.below(100) {
        0..2 => "HEAD",
        2 => "FOO",
        3..33 => "GET",
        33..45 => "LIST",
        45..50 => "SCAN",
        50..60 => "DELETE",
        60..68 => "PATCH",
        68..76 if secret => "GET",
        76..88 => "PUT",
        _ => "POST",
    }
}

/// The key that a path of a secret names, if it exists.
fn existing(path: &str, planted: &[String]) -> bool {
    let below = [
        "kv/data/",
        "kv/metadata/",
        "lab/data/",
        "lab/metadata/",
        "old/",
    ];
    let key = below.iter().find_map(|place| path.strip_prefix(place));
    // A key with a slash behind it is deleted as the key is.
    key.is_some_and(|key| {
        planted
            .iter()
            .any(|known| *known == key.trim_end_matches('/'))
    })
}

/// Whether the request, should it be allowed, leaves everything as it is for the others.
fn is_safe(method: &str, path: &str, exists: bool) -> bool {
    if matches!(method, "GET" | "LIST" | "SCAN" | "HEAD" | "FOO") {
        return true;
    }
    let begins = |place: &str| path.starts_with(place);
    if ["sys", "auth", "identity", "team"]
        .iter()
        .any(|place| begins(place))
    {
        return false;
    }
    // Looking whether it exists, the primary judges by the folder's policies from there on.
    if ["kv", "lab", "old", "cubbyhole"].contains(&path) {
        return false;
    }
    match method {
        "DELETE" if begins("kv/") || begins("lab/metadata") || begins("old/") => !exists,
        "DELETE" => true,
        _ if begins("kv/metadata") || begins("kv/config") || begins("lab/config") => false,
        _ if begins("lab/metadata") => exists,
        _ => true,
    }
}

/// A body that makes no write succeed where nothing may change.
fn body(random: &mut Seeded, path: &str, exists: bool, features: &mut Vec<&'static str>) -> String {
    if (path.starts_with("old") && !exists) || path.starts_with("cubbyhole") {
        return (*random.pick(&["", "{}", "null", " "])).to_owned();
    }
    match random.below(60) {
        0 => return String::new(),
        1 => return "null".to_owned(),
        2 => {
            features.push("request: malformed body");
            return (*random.pick(&["{", "[1]", "{\"a\":}", "x", "{\"a\":1}}", "\"a\""]))
                .to_owned();
        }
        _ => {}
    }
    let mut data = Map::new();
    for _ in 0..random.below(4) {
        data.insert(words::parameter(random).to_owned(), words::value(random));
    }
    // Fields of the backend: a value of another type fails before the access control is asked.
    data.remove("version");
    if path.contains("metadata") {
        data.remove("limit");
    }
    if !data.is_empty() {
        features.push("request: body parameters");
    }
    Value::Object(data).to_string()
}

fn query(random: &mut Seeded, method: &str, features: &mut Vec<&'static str>) -> String {
    let mut pairs = Vec::new();
    if method == "GET" {
        match random.below(40) {
            0..6 => pairs.push("list=true".to_owned()),
            6..8 => pairs.push(
                (*random.pick(&["list=1", "list=T", "list=", "list=0", "list=yes"])).to_owned(),
            ),
            8..10 => pairs.push("scan=true".to_owned()),
            10 => pairs.push("scan=1&list=1".to_owned()),
            _ => {}
        }
    }
    let lists =
        matches!(method, "LIST" | "SCAN") || pairs.first().is_some_and(|flag| flag == "list=true");
    if lists && random.chance(30) {
        let limits = ["1", "2", "3", "4", "101", "0", "max", "", "-1", "x", "+2"];
        pairs.push(format!(
            "limit={}",
            escaped(limits[random.index(limits.len())], true)
        ));
        features.push("request: limit");
    }
    if random.chance(35) {
        for _ in 0..=random.below(3) {
            let name = words::parameter(random);
            let value = match name {
                "version" => random.pick(&["1", "2", "3", "0", "9", "", "x"]),
                "limit" => *random.pick(&["1", "2", "3", "0", "max", "", "-1", "5", "x"]),
                _ => words::text_value(random),
            };
            pairs.push(format!(
                "{}={}",
                escaped(name, false),
                escaped(value, false)
            ));
        }
        if random.chance(30) {
            let key = words::segment(random);
            pairs.push(format!("after={}", escaped(&key, false)));
        }
        features.push("request: query parameters");
    }
    match pairs.is_empty() {
        true => String::new(),
        false => format!("?{}", pairs.join("&")),
    }
}

/// The target of a path: escaped where it must be, now and then where it need not be, and now and then spelled in a way
/// that is not canonical.
fn encoded(
    random: &mut Seeded,
    path: &str,
    reads: bool,
    features: &mut Vec<&'static str>,
) -> String {
    if path.contains("//") || path.starts_with('/') {
        features.push("request: empty segment");
    }
    if !path.is_ascii() {
        features.push("request: unicode");
    }
    if path.len() > 400 {
        features.push("request: long path");
    }
    let much = random.chance(6);
    if much {
        features.push("request: escapes");
    }
    let mut target = format!("/v1/{}", escaped(path, much));
    if random.below(80) == 0 {
        features.push("request: not canonical");
        let odd = *random.pick(&[
            "//",
            "/./",
            "/../",
            "/%2e%2e/",
            "/%2e/",
            "%00",
            "%0a",
            "%7f",
            "/..",
            "/x../y",
            "%e2%80%8b",
            "..",
            "%c2%85",
            "///",
        ]);
        let slashes: Vec<_> = target
            .match_indices('/')
            .map(|(at, _)| at)
            .filter(|at| *at >= 3)
            .collect();
        let at = *random.pick(&slashes);
        target.insert_str(at, odd);
    } else if reads && random.below(1000) == 0 {
        features.push("request: no one spelling");
        target += *random.pick(&["%2fx", "%ff", "%2F"]);
    }
    target
}

/// Percent-encoded; with `much`, letters and `*`, `+` too, in both cases of digits.
fn escaped(text: &str, much: bool) -> String {
    let mut out = String::new();
    for (nr, byte) in text.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric()
            || b"/-_.~*!$'(),;:@".contains(&byte)
            || (byte == b'+' && !much);
        let plain = plain && !(much && byte != b'/' && nr % 3 == 0);
        match (plain, nr % 2) {
            (true, _) => out.push(char::from(byte)),
            (false, 0) => out += &format!("%{byte:02x}"),
            (false, _) => out += &format!("%{byte:02X}"),
        }
    }
    out
}
