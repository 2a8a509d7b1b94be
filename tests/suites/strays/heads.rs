//! What can be odd about a request before its body.

use crate::asked::Odd;

const METHODS: &[&str] = &[
    "HEAD", "OPTIONS", "TRACE", "SCAN", "LIST", "PATCH", "DELETE", "PUT", "POST", "GET", "get",
    "FROB", "PROPFIND", "Q",
];

/// Put in place of the path.
const PATHS: &[&[u8]] = &[
    b"/",
    b"/v1",
    b"/v1/",
    b"/v1//secret/data/shop/shared",
    b"/v1/secret//data/shop/shared",
    b"/v1/secret/data/shop/../shop/shared",
    b"/v1/./secret/data/shop/shared",
    b"/v1/secret/data/shop/shared/",
    b"/v1/secret/data/shop/shared//",
    b"/v1/secret/data/shop/%73hared",
    b"/v1/secret/data%2Fshop%2Fshared",
    b"/v1/secret/data/shop/shared%00",
    b"/v1/secret/data/shop/shared%0a",
    b"/v1/secret/data/shop/%ff%fe",
    b"/v1/secret/data/shop/%zz",
    b"/v1/secret/data/shop/%",
    b"/v1/secret/data/shop/a b",
    b"/v1/secret/data/shop/a+b",
    b"/v1/secret/data/shop/\xc3\xa9",
    b"/v1/secret/data/shop/{x}",
    b"/v1/secret/data/shop/a|b",
    b"/v1/secret/data/shop/a\\b",
    b"/v1/secret/data/shop/a;b=c",
    b"/v1/secret/data/shop/shared#fragment",
    b"/v1/SECRET/data/shop/shared",
    b"/V1/secret/data/shop/shared",
    b"/v2/secret/data/shop/shared",
    b"/ui/",
    b"/v1/sys/metrics",
    b"/v1/sys/host-info",
    b"/v1/sys/internal/specs/openapi",
    b"/v1/sys/internal/counters/requests",
    b"/v1/sys/raw/core",
    b"/v1/auth/token/lookup-self/",
    b"/v1/auth/holdover",
    b"/v1/auth/holdover/other",
    b"/v1/cubbyhole/absent",
    b"http://vault.example/v1/secret/data/shop/shared",
    b"*",
    b"secret/data/shop/shared",
];

const QUERIES: &[&[u8]] = &[
    b"help=1",
    b"list=true",
    b"list=yes",
    b"scan=true",
    b"version=0",
    b"version=-1",
    b"version=1&version=2",
    b"version=18446744073709551616",
    b"version=abc",
    b"version=%31",
    b"limit=-1",
    b"limit=2",
    b"after=item-0001",
    b"limit=2&after=item",
    b"depth=1",
    b"a=b&a=c&a=d",
    b"=",
    b"&&&",
    b"%=%",
    b"a;b",
    b"version=1;version=2",
    b"namespace=team",
    b"standbyok=true&sealedcode=299",
    b"activecode=418",
    b"x=%00%ff",
];

const NAMESPACES: &[&[u8]] = &[
    b"",
    b"/",
    b"root",
    b"root/",
    b"team",
    b"team/",
    b"/team",
    b"team/../",
    b"a/b/c/d/e/f/g/h",
    b"te\xc3\xa9m",
    b" ",
    b"//",
    b"%2f",
    b"team\t",
];

const INDICES: &[&str] = &[
    "",
    "null",
    "0",
    "eyJ9",
    "v1:1:1:1",
    "AAAA",
    "{}",
    "18446744073709551616",
    "-1",
    "eyJjbHVzdGVyX2lkIjoiIn0=",
    "====",
    "deadbeef",
];

const TYPES: &[&str] = &[
    "application/json",
    "application/json; charset=utf-16",
    "application/x-www-form-urlencoded",
    "text/plain",
    "multipart/form-data; boundary=x",
    "application/merge-patch+json",
    "application/octet-stream",
    "",
    "json",
    "*/*",
    "application/json, text/html",
];

const TOKENS: &[&str] = &[
    "",
    " ",
    "root",
    "null",
    "undefined",
    "s.",
    "s.short",
    "hvs.CAESIJ",
    "b.AAAA",
    "s.aaaaaaaaaaaaaaaaaaaaaaaa.abcde",
    "Bearer s.x",
    "00000000-0000-0000-0000-000000000000",
    "../../token",
    "s.\u{1F600}",
    "'; drop",
    "ho",
    "hO.x",
];

/// Headers that mean something to somebody.
const HEADERS: &[(&str, &str)] = &[
    ("X-Vault-Wrap-TTL", "60"),
    ("X-Vault-Wrap-TTL", "0"),
    ("X-Vault-Wrap-TTL", "-1"),
    ("X-Vault-Wrap-TTL", "forever"),
    ("X-Vault-Wrap-Format", "jwt"),
    ("X-Vault-MFA", "method:123456"),
    ("X-Vault-MFA", "no colon"),
    ("X-Vault-Policy-Override", "true"),
    ("X-Vault-Policy-Override", "maybe"),
    ("X-Vault-No-Request-Forwarding", "true"),
    ("X-Vault-Inconsistent", "forward-active-node"),
    ("X-Vault-Inconsistent", "fail"),
    ("X-Vault-Inconsistent", "whatever"),
    ("X-Vault-Inline-Auth-Path", "auth/approle/login"),
    ("X-Vault-Inline-Auth-Operation", "update"),
    ("X-Vault-Request", "false"),
    ("X-Vault-Unknown", "1"),
    ("X-Forwarded-For", "10.0.0.1"),
    ("Forwarded", "for=10.0.0.1"),
    ("X-Real-IP", "10.0.0.1"),
    ("X-Holdover-Source", "replica"),
    ("X-Holdover-Age", "0"),
    ("X-HTTP-Method-Override", "DELETE"),
    ("Range", "bytes=0-3"),
    ("If-None-Match", "*"),
    ("If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("Accept", "text/html"),
    ("Accept-Encoding", "gzip, br"),
    ("Content-Encoding", "gzip"),
    ("TE", "trailers"),
    ("Trailer", "X-Vault-Token"),
    ("Upgrade", "h2c"),
    ("Origin", "https://elsewhere.example"),
    ("Access-Control-Request-Method", "DELETE"),
    ("Cookie", "token=s.x"),
    ("Referer", "https://elsewhere.example"),
    ("User-Agent", ""),
    ("Via", "1.1 somewhere"),
    ("Proxy-Connection", "keep-alive"),
    ("Proxy-Authorization", "Basic Og=="),
    ("Max-Forwards", "0"),
    ("Date", "not a date"),
];

pub(crate) const ODD: &[Odd] = &[
    ("another method", |draft, _, seeded| {
        draft.method = seeded.one(METHODS).into()
    }),
    ("another method yet", |draft, _, seeded| {
        draft.method = seeded.one(METHODS).into()
    }),
    ("another path", |draft, _, seeded| {
        draft.target = seeded.pick(PATHS).to_vec()
    }),
    ("a path that is odd", |draft, _, seeded| {
        draft.target = seeded.pick(PATHS).to_vec()
    }),
    ("a long path", |draft, _, seeded| {
        let long = "a/".repeat(seeded.index(3000));
        draft.target = format!("/v1/secret/data/shop/{long}x").into();
    }),
    ("a query", |draft, _, seeded| {
        draft.asks(seeded.one(QUERIES))
    }),
    ("two queries", |draft, _, seeded| {
        draft.asks(seeded.one(QUERIES));
        draft.asks(seeded.one(QUERIES));
    }),
    ("a long query", |draft, _, seeded| {
        let long = "x".repeat(seeded.index(8000));
        draft.asks(format!("q={long}").as_bytes());
    }),
    ("many parameters", |draft, _, seeded| {
        let many: Vec<_> = (0..seeded.index(400))
            .map(|nr| format!("p{nr}=1"))
            .collect();
        draft.asks(many.join("&").as_bytes());
    }),
    ("a namespace", |draft, _, seeded| {
        draft.add("X-Vault-Namespace", seeded.pick(NAMESPACES))
    }),
    ("two namespaces", |draft, _, seeded| {
        draft.add("X-Vault-Namespace", seeded.pick(NAMESPACES));
        draft.add("X-Vault-Namespace", seeded.pick(NAMESPACES));
    }),
    ("an index", |draft, _, seeded| {
        draft.add("X-Vault-Index", seeded.one(INDICES))
    }),
    ("two indices", |draft, _, seeded| {
        draft.add("X-Vault-Index", seeded.one(INDICES));
        draft.add("X-Vault-Index", seeded.one(INDICES));
        draft.add("X-Vault-Inconsistent", "forward-active-node");
    }),
    ("a content type", |draft, _, seeded| {
        draft.set("Content-Type", seeded.one(TYPES))
    }),
    ("no token", |draft, _, _| draft.without("X-Vault-Token")),
    ("a strange token", |draft, _, seeded| {
        draft.set("X-Vault-Token", seeded.one(TOKENS))
    }),
    ("a dead token", |draft, cast, _| {
        draft.set("X-Vault-Token", &cast.dead)
    }),
    ("a batch token", |draft, cast, _| {
        draft.set("X-Vault-Token", &cast.batch)
    }),
    ("an accessor for a token", |draft, cast, _| {
        draft.set("X-Vault-Token", &cast.accessor)
    }),
    ("another reader's token", |draft, cast, _| {
        draft.set("X-Vault-Token", &cast.readers[1])
    }),
    ("two tokens", |draft, cast, _| {
        draft.add("X-Vault-Token", &cast.dead)
    }),
    ("the same token twice", |draft, cast, _| {
        draft.add("X-Vault-Token", &cast.readers[0])
    }),
    ("a token with spaces", |draft, cast, _| {
        draft.set("X-Vault-Token", format!("  {}\t", cast.readers[0]));
    }),
    ("a token with a suffix", |draft, cast, _| {
        draft.set("X-Vault-Token", format!("{}.abcde", cast.readers[0]));
    }),
    ("a token in upper case", |draft, cast, _| {
        draft.set("X-Vault-Token", cast.readers[0].to_uppercase());
    }),
    ("a token of bytes", |draft, _, _| {
        draft.set("X-Vault-Token", b"s.\xff\xfe\x80")
    }),
    ("a long token", |draft, _, seeded| {
        draft.set(
            "X-Vault-Token",
            "s.".to_owned() + &"a".repeat(seeded.index(20_000)),
        );
    }),
    ("a bearer", |draft, cast, _| {
        draft.without("X-Vault-Token");
        draft.add("Authorization", format!("Bearer {}", cast.readers[0]));
    }),
    ("a bearer of another", |draft, cast, _| {
        draft.add("Authorization", format!("Bearer {}", cast.dead));
    }),
    ("another scheme", |draft, _, _| {
        draft.add("Authorization", "Basic dXNlcjpwYXNz")
    }),
    ("a header", |draft, _, seeded| {
        let (name, value) = seeded.one(HEADERS);
        draft.add(name, value);
    }),
    ("a few headers", |draft, _, seeded| {
        for _ in 0..4 {
            let (name, value) = seeded.one(HEADERS);
            draft.add(name, value);
        }
    }),
    ("many headers", |draft, _, seeded| {
        for nr in 0..seeded.index(90) {
            draft.add(&format!("X-Stray-{nr}"), "1");
        }
    }),
    ("a long header", |draft, _, seeded| {
        draft.add("X-Stray", "v".repeat(seeded.index(60_000)))
    }),
    ("a header of bytes", |draft, _, _| {
        draft.add("X-Stray", b"\xff\xfe\x80")
    }),
    ("an older version", |draft, _, _| draft.version = "HTTP/1.0"),
];
