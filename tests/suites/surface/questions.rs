//! Every path, with every read operation, every kind of query, and tokens of different rights.

/// Answers that are kept as they are, of engines that are not KV.
pub(crate) const AUTHORITIES: [&str; 12] = [
    "pki/cert/ca",
    "pki/cert/crl",
    "pki/cert/none",
    "pki/ca",
    "pki/ca/pem",
    "pki/ca_chain",
    "pki/crl",
    "pki/issuer/default/json",
    "ssh/config/ca",
    "ssh/public_key",
    "identity/oidc/.well-known/keys",
    "identity/oidc/.well-known/openid-configuration",
];

/// Whose token comes with a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bearer {
    All,
    Some,
    Paged,
    Filtered,
    Bound,
    Nothing,
    /// One that was revoked.
    Dead,
    /// One that nobody ever issued.
    Unknown,
    /// None at all.
    Nobody,
}

const BEARERS: [Bearer; 9] = [
    Bearer::All,
    Bearer::Some,
    Bearer::Paged,
    Bearer::Filtered,
    Bearer::Bound,
    Bearer::Nothing,
    Bearer::Dead,
    Bearer::Unknown,
    Bearer::Nobody,
];

/// A request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Question {
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) bearer: Bearer,
    /// The primary asks for no token.
    pub(crate) open: bool,
    /// It is kept as it is, and not of KV.
    pub(crate) kept: bool,
    /// No mirror covers it.
    pub(crate) uncovered: bool,
}

impl Question {
    /// Whether a method asks for something that has an operation.
    pub(crate) fn is_call(&self) -> bool {
        !matches!(self.method, "OPTIONS" | "BREW")
    }

    /// Whether it asks to read, list or scan.
    pub(crate) fn reads(&self) -> bool {
        matches!(self.method, "GET" | "LIST" | "SCAN")
    }

    /// Whether it asks for a version that exists and is older than those that are kept.
    pub(crate) fn of_old_version(&self) -> bool {
        let of_a = ["data/app/a?", "subkeys/app/a?"]
            .iter()
            .any(|of| self.target.contains(of));
        let first = ["version=1", "version=0x1", "version=01"];
        let asks = self
            .target
            .split(['?', '&'])
            .any(|pair| first.contains(&pair));
        of_a && asks
    }

    /// Whether one of its parameters begins like this.
    pub(crate) fn has_any(&self, begins: &[&str]) -> bool {
        let mut pairs = self.target.split(['?', '&']).skip(1);
        pairs.any(|pair| begins.iter().any(|begin| pair.starts_with(begin)))
    }
}

/// All of them.
pub(crate) fn all() -> Vec<Question> {
    let mut questions = Vec::new();
    for (method, path, query) in of_everything() {
        questions.push(question(method, &path, &query, Bearer::All));
    }
    for bearer in BEARERS.into_iter().filter(|bearer| *bearer != Bearer::All) {
        for (method, path, query) in of_rights() {
            questions.push(question(method, &path, &query, bearer));
        }
    }
    questions
}

/// What is asked under one token that may read everything.
fn of_everything() -> Vec<(&'static str, String, String)> {
    let mut asked = Asked::default();
    for name in ["app/a", "app/del", "app/none", "one"] {
        for query in [
            "",
            "version=0",
            "version=1",
            "version=2",
            "version=3",
            "version=9",
            "version=-1",
            "version=abc",
            "version=1.5",
            "version=",
            "version",
            "version=0x1",
            "version=01",
            "version=0o3",
            "version=08",
            "version=1_0",
            "version=99999999999999999999",
            "version=%2B2",
            "version=1&version=2",
            "foo=1",
            "foo=1&bar=2&version=2",
            "path=x",
            "path=x&foo=",
            "list=0",
            "list=&scan=false",
            "VERSION=1",
            "limit=abc",
            "%3C=1",
            "=1",
            "list=yes",
            "list=1&scan=1",
            "options=x",
            "help=1",
        ] {
            asked.get(&format!("secret/data/{name}"), query);
        }
        for query in [
            "",
            "depth=0",
            "depth=1",
            "depth=2",
            "depth=9",
            "depth=-1",
            "depth=abc",
            "version=2",
            "version=1",
            "version=2&depth=1",
            "version=9",
            "version=abc",
            "foo=1",
            "path=x",
        ] {
            asked.get(&format!("secret/subkeys/{name}"), query);
        }
        for query in [
            "",
            "foo=1",
            "path=x",
            "limit=abc",
            "limit=1",
            "after=x",
            "after=a&after=b",
            "version=abc",
            "max_versions=1",
        ] {
            asked.get(&format!("secret/metadata/{name}"), query);
        }
    }
    for name in NAMES {
        for of in ["data", "metadata", "subkeys"] {
            asked.get(&format!("secret/{of}/{}", encoded(name)), "");
            // The primary fails at a value with a slash too many, and Holdover takes a second to be sure that it does
            // not fail as a whole: a few are enough.
            let fails = ["app/a", "app/del", "app/gone", "app/none", "app"];
            if of == "metadata" || fails.contains(&name) {
                asked.get(&format!("secret/{of}/{}/", encoded(name)), "");
            }
        }
        asked.get(&format!("secret/data/{}", encoded(name)), "version=1");
        asked.get(&format!("secret/data/{}", encoded(name)), "foo=1");
        asked.all(&format!("secret/{}", encoded(name)), "");
    }
    for folder in [
        "app",
        "app/",
        "app/dir",
        "app/dir/sub",
        "app/dir2",
        "app/none",
        "app/a",
        "app/a b+c%d",
        "shop",
    ] {
        for query in [
            "",
            "after=dir",
            "after=dir/&limit=2",
            "after=one",
            "limit=1",
            "limit=2&foo=1",
            "limit=0",
            "limit=-1",
            "limit=abc",
            "limit=max",
            "limit=0x2",
            "limit=",
            "limit=1&limit=2",
            "after=a&after=b",
            "after=zzzz",
            "foo=1",
            "path=x",
        ] {
            for of in ["metadata", "detailed-metadata"] {
                asked.lists(&format!("secret/{of}/{}", encoded(folder)), query);
            }
        }
        for of in ["data", "subkeys", "undelete", "delete", "destroy"] {
            asked.lists(&format!("secret/{of}/{}", encoded(folder)), "");
        }
    }
    for path in [
        "secret/detailed-metadata/app/a",
        "secret/undelete/app/a",
        "secret/destroy/app/a",
        "secret/config",
        "secret/app/a",
    ] {
        asked.get(path, "");
        asked.get(path, "foo=1");
    }
    // Nothing of these is mirrored.
    for path in [
        "secret/data/other",
        "secret/metadata/other",
        "secret/subkeys/other",
        "kv1/other",
        "pki/issuer/default",
        "ssh/issuers",
        "secret/other",
    ] {
        asked.get(path, "");
    }
    for path in ["secret/metadata", "kv1", "secret/detailed-metadata"] {
        asked.lists(path, "");
    }
    for name in V1_NAMES {
        for query in ["", "foo=1", "path=x&list=0"] {
            asked.get(&format!("kv1/{}", encoded(name)), query);
        }
        asked.get(&format!("kv1/{}/", encoded(name)), "");
    }
    for folder in [
        "shop",
        "shop/",
        "shop/dir",
        "shop/dir/sub",
        "shop/none",
        "shop/a",
    ] {
        for query in ["", "after=a&limit=2", "limit=abc", "foo=1"] {
            asked.lists(&format!("kv1/{folder}"), query);
        }
    }
    for path in AUTHORITIES {
        asked.all(path, "");
        asked.get(path, "foo=1");
    }
    for method in ["HEAD", "OPTIONS", "BREW"] {
        for path in [
            "secret/data/app/a",
            "secret/metadata/app",
            "kv1/shop/a",
            "pki/cert/ca",
            "ssh/config/ca",
            "secret/data/app/none",
        ] {
            asked.0.push((method, path.into(), String::new()));
        }
    }
    asked.0.retain(|(method, path, _)| {
        !(is_kept(path) && !is_open(path) && matches!(*method, "LIST" | "SCAN"))
    });
    asked.0
}

/// What is asked under every other token, and under none.
fn of_rights() -> Vec<(&'static str, String, String)> {
    let mut asked = Asked::default();
    for (path, query) in [
        ("secret/data/app/a", ""),
        ("secret/data/app/a", "version=2"),
        ("secret/data/app/a", "version=2&foo=1"),
        ("secret/data/app/a", "version=3&bar=1"),
        ("secret/data/app/a", "list=0"),
        ("secret/data/app/del", ""),
        ("secret/data/app/dir", ""),
        ("secret/data/app/dir/one", ""),
        ("secret/data/app/none", ""),
        ("secret/metadata/app/a", ""),
        ("secret/metadata/app/a", "limit=1"),
        ("secret/subkeys/app/a", ""),
        ("secret/app/a", ""),
        ("secret/config", ""),
        ("kv1/shop/a", ""),
        ("kv1/shop/a", "list=0"),
        ("kv1/shop/dir/one", ""),
        ("kv1/shop/none", ""),
        ("secret/data/other", ""),
    ] {
        asked.get(path, query);
    }
    for folder in [
        "metadata/app",
        "metadata/app/dir",
        "metadata/app/dir2",
        "metadata/app/none",
        "detailed-metadata/app",
        "detailed-metadata/app/dir",
        "detailed-metadata/app/dir2",
        "detailed-metadata/app/none",
        "data/app",
    ] {
        for query in [
            "",
            "limit=1",
            "limit=2",
            "limit=3",
            "limit=max",
            "limit=0",
            "after=a",
            "foo=1",
        ] {
            asked.lists(&format!("secret/{folder}"), query);
        }
    }
    for folder in ["shop", "shop/dir", "shop/dir2", "shop/none"] {
        for query in ["", "limit=1", "limit=3"] {
            asked.lists(&format!("kv1/{folder}"), query);
        }
    }
    for path in AUTHORITIES {
        asked.get(path, "");
        asked.0.push(("HEAD", path.into(), String::new()));
    }
    for path in ["secret/data/app/a", "kv1/shop/a"] {
        for method in ["HEAD", "OPTIONS", "BREW"] {
            asked.0.push((method, path.into(), String::new()));
        }
    }
    asked.0
}

#[derive(Default)]
struct Asked(Vec<(&'static str, String, String)>);

impl Asked {
    fn get(&mut self, path: &str, query: &str) {
        self.0.push(("GET", path.into(), query.into()));
    }

    /// By method and by query, which are the same.
    fn lists(&mut self, path: &str, query: &str) {
        self.0.push(("LIST", path.into(), query.into()));
        self.0.push(("SCAN", path.into(), query.into()));
        let and = if query.is_empty() { "" } else { "&" };
        self.get(path, &format!("list=true{and}{query}"));
        if query.is_empty() {
            self.get(path, "scan=1");
        }
    }

    fn all(&mut self, path: &str, query: &str) {
        for method in ["GET", "LIST", "SCAN"] {
            self.0.push((method, path.into(), query.into()));
        }
    }
}

/// Keys of KV v2, of which some are not there.
const NAMES: [&str; 27] = [
    "app/a",
    "app/back",
    "app/cas",
    "app/dir",
    "app/dir/one",
    "app/dir/sub/two",
    "app/dir2",
    "app/dir2/x",
    "app/del",
    "app/destroyed",
    "app/gone",
    "app/meta",
    "app/passed",
    "app/empty",
    "app/null",
    "app/numbers",
    "app/none",
    "app/a b+c%d",
    "app/été",
    "app/q?#",
    "app/<&>",
    "app/100%",
    "app/+plus+",
    "app/~tilde",
    "app/semi;colon",
    "app/quo\"te",
    "app",
];

/// Keys of KV v1, of which some are not there.
const V1_NAMES: [&str; 15] = [
    "one",
    "shop/a",
    "shop/a b+c%d",
    "shop/both",
    "shop/dir",
    "shop/dir/one",
    "shop/dir/sub/two",
    "shop/dir2",
    "shop/lease",
    "shop/none",
    "shop/ttl",
    "shop/ttlbad",
    "shop/ttlnum",
    "shop/été",
    "shop",
];

fn question(method: &'static str, path: &str, query: &str, bearer: Bearer) -> Question {
    let lists = matches!(method, "LIST" | "SCAN")
        || query.contains("list=true")
        || query.contains("scan=1");
    let mark = if query.is_empty() { "" } else { "?" };
    Question {
        method,
        target: format!("/v1/{path}{mark}{query}"),
        bearer,
        open: is_open(path),
        kept: is_kept(path),
        uncovered: is_uncovered(path, lists),
    }
}

fn is_kept(path: &str) -> bool {
    AUTHORITIES.contains(&path) || path == "secret/config"
}

fn is_open(path: &str) -> bool {
    AUTHORITIES.contains(&path) && path != "ssh/config/ca"
}

fn is_uncovered(path: &str, lists: bool) -> bool {
    if is_kept(path) {
        return false;
    }
    let decoded = decoded(path);
    let path = decoded.as_str();
    let of_data = [
        "data/",
        "metadata/",
        "detailed-metadata/",
        "subkeys/",
        "undelete/",
        "delete/",
        "destroy/",
    ];
    let below = |mount: &str| path.strip_prefix(mount).map(str::to_owned);
    if let Some(rest) = below("secret/") {
        let key = of_data
            .iter()
            .find_map(|of| rest.strip_prefix(of))
            .unwrap_or(&rest);
        let slash = if lists && !key.ends_with('/') {
            "/"
        } else {
            ""
        };
        let key = format!("{key}{slash}");
        let folders = ["app/", "shop/"];
        return !(folders.iter().any(|folder| key.starts_with(folder)) || (key == "one" && !lists));
    }
    if let Some(rest) = below("kv1/") {
        let slash = if lists && !rest.ends_with('/') {
            "/"
        } else {
            ""
        };
        let key = format!("{rest}{slash}");
        return !(key.starts_with("shop/") || (key == "one" && !lists));
    }
    true
}

/// A name as it stands in a request line.
pub(crate) fn encoded(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' => text.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
            _ => text += &format!("%{byte:02X}"),
        }
    }
    text
}

fn decoded(path: &str) -> String {
    let target = format!("/v1/{path}");
    match shared::api::Call::parse("GET", &target) {
        Ok(call) => call.path.as_str().to_owned(),
        Err(_) => path.to_owned(),
    }
}
