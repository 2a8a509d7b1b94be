//! What a hostile user says: tokens that nobody has, bodies without an end, and what is hardly a request.

use super::Target;
use crate::random::Seeded;

/// Where made-up tokens are brought.
pub(super) const PATHS: &[&str] = &[
    "/v1/secret/data/shop/shared",
    "/v1/secret/data/shop/orders/item-0000",
    "/v1/secret/data/elsewhere",
    "/v1/auth/token/lookup-self",
    "/v1/sys/internal/ui/mounts",
    "/v1/database/creds/orders",
    "/v1/cubbyhole/x",
];

/// What made-up tokens begin with. What does not look like one is among them.
const PREFIXES: &[&str] = &[
    "s.", "hvs.", "hvs.CAES", "b.", "hvb.", "ho.", "ho.ho.", "", "s", "..", "Bearer ",
];

const TARGETS: &[&str] = &[
    "/",
    "*",
    "//",
    "/v1",
    "/v1/",
    "/v1/../v1/secret",
    "/v1/%00",
    "/v1/%zz",
    "/v1/\u{e9}",
    "x",
    "/v1/secret/data/shop/shared?version=99999999999999999999",
    "http://other/v1/secret",
];

const UPGRADES: &[&str] = &[
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "GET /v1/x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "GET /v1/x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
    "CONNECT other:443 HTTP/1.1\r\nHost: other:443\r\n\r\n",
    "PUT /v1/x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    "PUT /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "PUT /v1/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "GET /v1/sys/health HTTP/1.0\r\n\r\n",
    "GET /v1/x HTTP/9.9\r\n\r\n",
    "GET /v1/x\r\n\r\n",
    "\r\n\r\n\r\n\r\n",
];

/// A random id as AppRole has them.
pub(super) fn uuid(seeded: &mut Seeded) -> String {
    let mut digits = |count: u32| {
        let number = seeded.below(1 << (4 * count));
        format!("{number:0width$x}", width = count as usize)
    };
    let (one, two, three, four, five) = (digits(8), digits(4), digits(4), digits(4), digits(12));
    format!("{one}-{two}-{three}-{four}-{five}")
}

/// A token that nobody has.
pub(super) fn token(seeded: &mut Seeded) -> String {
    let prefix = seeded.one(PREFIXES);
    let mut text = format!("{prefix}{:016x}", seeded.below(u64::MAX));
    match seeded.index(20) {
        0 => text.push_str(&"A".repeat(seeded.index(8000))),
        1 => text.push_str(".team"),
        2 => text.truncate(seeded.index(12)),
        _ => {}
    }
    text
}

/// A request whose body lacks its end, and what of it can be added again and again.
pub(super) fn half_a_body(
    target: &Target,
    seeded: &mut Seeded,
    announced: usize,
) -> (Vec<u8>, &'static [u8]) {
    let (path, token) = match seeded.index(4) {
        0 => ("/v1/secret/data/elsewhere", target.token.as_str()),
        1 => ("/v1/auth/token/create", target.token.as_str()),
        2 => ("/v1/auth/holdover/login", "s.unknown"),
        _ => ("/v1/auth/approle/login", ""),
    };
    let head = format!("PUT {path} HTTP/1.1\r\nHost: h\r\nX-Vault-Token: {token}\r\n");
    let sent = match seeded.chance(50) {
        true => seeded.index(64),
        false => announced * 9 / 10,
    };
    let body = "x".repeat(sent);
    match seeded.chance(50) {
        true => {
            let length = format!("Content-Length: {announced}\r\n\r\n{body}");
            ((head + &length).into_bytes(), b"x")
        }
        false => {
            let chunk = format!("Transfer-Encoding: chunked\r\n\r\n{sent:x}\r\n{body}\r\n");
            // An empty chunk would be the end.
            let chunk = match sent {
                0 => "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
                _ => chunk,
            };
            ((head + &chunk).into_bytes(), b"1\r\nx\r\n")
        }
    }
}

/// What is hardly a request.
pub(super) fn stray(target: &Target, seeded: &mut Seeded) -> Vec<u8> {
    let (large, token) = (&target.large, token(seeded));
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: h\r\n");
    match seeded.index(8) {
        0 => (0..4096).map(|_| seeded.below(256) as u8).collect(),
        1 => (get("/v1/x") + "X-Long: " + &"v".repeat(200_000)).into_bytes(),
        2 => (get("/v1/x") + &"X-Many: 1\r\n".repeat(2000) + "\r\n").into_bytes(),
        3 => format!(
            "GET /v1/{} HTTP/1.1\r\nHost: h\r\n\r\n",
            "a/".repeat(20_000)
        )
        .into_bytes(),
        4 => (get(large) + &format!("X-Vault-Token: {token}\r\n\r\n"))
            .repeat(200)
            .into_bytes(),
        5 => (get(seeded.one(TARGETS)) + "\r\n").into_bytes(),
        6 => {
            let namespaces = "X-Vault-Namespace: a/b/c/\r\n".repeat(50);
            (get(large) + &namespaces + "\r\n").into_bytes()
        }
        _ => seeded.one(UPGRADES).as_bytes().to_vec(),
    }
}
