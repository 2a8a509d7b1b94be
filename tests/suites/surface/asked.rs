//! What is asked: methods, paths and queries, without the token that comes with them.

use crate::questions::{AUTHORITIES, encoded, is_open};

/// Method, path below `/v1/`, query.
type Line = (&'static str, String, String);

/// Queries of a read of a value.
const VERSIONS: &str = " version=0 version=1 version=2 version=3 version=9 version=-1 version=abc version=1.5 version= \
     version version=0x1 version=01 version=0o3 version=08 version=1_0 version=99999999999999999999 version=%2B2 \
     version=1&version=2 foo=1 foo=1&bar=2&version=2 path=x path=x&foo= list=0 list=&scan=false VERSION=1 limit=abc \
     %3C=1 =1 list=yes list=1&scan=1 options=x help=1";

/// Queries of a read of the names of its fields.
const DEPTHS: &str = " depth=0 depth=1 depth=2 depth=9 depth=-1 depth=abc version=2 version=1 version=2&depth=1 version=9 \
     version=abc foo=1 path=x";

/// Queries of a read of metadata.
const OF_METADATA: &str =
    " foo=1 path=x limit=abc limit=1 after=x after=a&after=b version=abc max_versions=1";

/// Queries of lists.
const PAGES: &str = " after=dir after=dir/&limit=2 after=one limit=1 limit=2&foo=1 limit=0 limit=-1 limit=abc limit=max \
     limit=0x2 limit= limit=1&limit=2 after=a&after=b after=zzzz foo=1 path=x";

/// Queries of lists under policies that bound or filter them.
const BOUNDS: &str = " limit=1 limit=2 limit=3 limit=max limit=0 after=a foo=1";

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

#[derive(Default)]
struct Asked(Vec<Line>);

/// What is asked under one token that may read everything.
pub(crate) fn of_everything() -> Vec<Line> {
    let mut asked = Asked::default();
    asked.values();
    asked.names();
    asked.folders();
    asked.versionless();
    asked.whole_mounts();
    asked.other_engines();
    asked.uncovered();
    for path in [
        "secret/data/app/a",
        "secret/metadata/app",
        "kv1/shop/a",
        "pki/cert/ca",
        "ssh/config/ca",
        "secret/data/app/none",
    ] {
        asked.odd_methods(path);
    }
    asked.0
}

/// What is asked under every other token, and under none.
pub(crate) fn of_rights() -> Vec<Line> {
    let mut asked = Asked::default();
    for query in [
        "",
        "version=2",
        "version=2&foo=1",
        "version=3&bar=1",
        "list=0",
    ] {
        asked.get("secret/data/app/a", query);
    }
    for path in [
        "secret/data/app/del",
        "secret/data/app/dir",
        "secret/data/app/dir/one",
        "secret/data/app/none",
        "secret/metadata/app/a",
        "secret/subkeys/app/a",
        "secret/app/a",
        "secret/config",
        "kv1/shop/a",
        "kv1/shop/dir/one",
        "kv1/shop/none",
        "secret/data/other",
    ] {
        asked.get(path, "");
    }
    asked.get("secret/metadata/app/a", "limit=1");
    asked.get("kv1/shop/a", "list=0");
    for folder in ["app", "app/dir", "app/dir2", "app/none"] {
        for query in BOUNDS.split(' ') {
            asked.lists(&format!("secret/metadata/{folder}"), query);
            asked.lists(&format!("secret/detailed-metadata/{folder}"), query);
        }
    }
    asked.lists("secret/data/app", "");
    for folder in ["shop", "shop/dir", "shop/dir2", "shop/none"] {
        for query in ["", "limit=1", "limit=3"] {
            asked.lists(&format!("kv1/{folder}"), query);
        }
    }
    for path in AUTHORITIES {
        asked.get(path, "");
        asked.0.push(("HEAD", path.into(), String::new()));
    }
    asked.odd_methods("secret/data/app/a");
    asked.odd_methods("kv1/shop/a");
    asked.0
}

impl Asked {
    fn values(&mut self) {
        for name in ["app/a", "app/del", "app/none", "one"] {
            for (of, queries) in [
                ("data", VERSIONS),
                ("subkeys", DEPTHS),
                ("metadata", OF_METADATA),
            ] {
                for query in queries.split(' ') {
                    self.get(&format!("secret/{of}/{name}"), query);
                }
            }
        }
    }

    fn names(&mut self) {
        for name in NAMES {
            for of in ["data", "metadata", "subkeys"] {
                let path = format!("secret/{of}/{}", encoded(name));
                self.get(&path, "");
                // The primary fails at a value with a slash too many, and Holdover takes a second to be sure that it
                // does not fail as a whole: a few are enough.
                let fails = ["app/a", "app/del", "app/gone", "app/none", "app"];
                if of == "metadata" || fails.contains(&name) {
                    self.get(&format!("{path}/"), "");
                }
            }
            self.get(&format!("secret/data/{}", encoded(name)), "version=1");
            self.get(&format!("secret/data/{}", encoded(name)), "foo=1");
            self.all(&format!("secret/{}", encoded(name)));
        }
    }

    fn folders(&mut self) {
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
            let folder = encoded(folder);
            for query in PAGES.split(' ') {
                self.lists(&format!("secret/metadata/{folder}"), query);
                self.lists(&format!("secret/detailed-metadata/{folder}"), query);
            }
            for of in ["data", "subkeys", "undelete", "delete", "destroy"] {
                self.lists(&format!("secret/{of}/{folder}"), "");
            }
        }
        for path in [
            "secret/detailed-metadata/app/a",
            "secret/undelete/app/a",
            "secret/destroy/app/a",
            "secret/config",
            "secret/app/a",
        ] {
            self.get(path, "");
            self.get(path, "foo=1");
        }
    }

    fn versionless(&mut self) {
        for name in V1_NAMES {
            let path = format!("kv1/{}", encoded(name));
            for query in ["", "foo=1", "path=x&list=0"] {
                self.get(&path, query);
            }
            self.get(&format!("{path}/"), "");
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
                self.lists(&format!("kv1/{folder}"), query);
            }
        }
    }

    /// Mounts of which everything is mirrored, so that their roots are too.
    fn whole_mounts(&mut self) {
        for path in [
            "data",
            "metadata",
            "detailed-metadata",
            "subkeys",
            "config",
            "x",
        ] {
            self.all(&format!("whole/{path}"));
            self.all(&format!("whole/{path}/"));
        }
        self.all("whole/");
        self.lists("whole/metadata", "limit=1&foo=1");
        for path in ["whole1/", "whole1/x", "whole1/d", "whole1/d/y"] {
            self.all(path);
        }
        self.lists("whole1", "");
    }

    fn other_engines(&mut self) {
        for path in AUTHORITIES {
            match is_open(path) {
                true => self.all(path),
                false => self.get(path, ""),
            }
            self.get(path, "foo=1");
        }
    }

    fn uncovered(&mut self) {
        for path in [
            "secret/data/other",
            "secret/metadata/other",
            "secret/subkeys/other",
            "kv1/other",
            "pki/issuer/default",
            "ssh/issuers",
            "secret/other",
        ] {
            self.get(path, "");
        }
        for path in ["secret/metadata", "kv1", "secret/detailed-metadata"] {
            self.lists(path, "");
        }
    }

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

    fn all(&mut self, path: &str) {
        for method in ["GET", "LIST", "SCAN"] {
            self.0.push((method, path.into(), String::new()));
        }
    }

    fn odd_methods(&mut self, path: &str) {
        for method in ["HEAD", "OPTIONS", "BREW"] {
            self.0.push((method, path.into(), String::new()));
        }
    }
}
