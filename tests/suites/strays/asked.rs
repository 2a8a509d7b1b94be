//! One request, drawn: something ordinary, to which one or a few odd things are done.

use harness::random::Seeded;

use crate::wire::Ending;
use crate::{bodies, broken, heads};

/// Who asks.
#[derive(Clone)]
pub(crate) struct Cast {
    /// Tokens that may read.
    pub(crate) readers: [String; 2],
    /// A batch token that may.
    pub(crate) batch: String,
    /// A token that was revoked.
    pub(crate) dead: String,
    /// The accessor of a reader.
    pub(crate) accessor: String,
}

/// A request as it goes on the wire.
pub(crate) struct Stray {
    /// Its number in this run.
    pub(crate) nr: usize,
    /// What is odd about it.
    pub(crate) odd: Vec<&'static str>,
    /// What it was before that.
    pub(crate) plain: String,
    /// Whether HTTP itself forbids it.
    pub(crate) is_broken: bool,
    pub(crate) bytes: Vec<u8>,
    /// HEAD: whatever length is told, no body comes back.
    pub(crate) has_no_body_back: bool,
    pub(crate) ending: Ending,
}

/// How the body's end is told.
pub(crate) enum Framing {
    /// As it should be: a length where there is a body.
    Usual,
    /// Chunks of so many bytes, each with this after its size, and this after the last.
    Chunks(usize, &'static str, &'static str),
    /// Its length, twice.
    LengthTwice,
    /// These headers, and the body as it is.
    Said(Vec<String>),
}

/// A request in the making.
pub(crate) struct Draft {
    pub(crate) nr: usize,
    pub(crate) method: Vec<u8>,
    pub(crate) target: Vec<u8>,
    pub(crate) version: &'static str,
    pub(crate) headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) framing: Framing,
    pub(crate) ending: Ending,
    /// Of its bytes, in percent.
    pub(crate) sent: usize,
}

/// Something odd, and how it is done to a request.
pub(crate) type Odd = (&'static str, fn(&mut Draft, &Cast, &mut Seeded));

/// What a client asks: method, path, body.
const PLAIN: &[(&str, &str, &str)] = &[
    ("GET", "secret/data/shop/shared", ""),
    ("GET", "secret/data/shop/orders/item-0000", ""),
    ("GET", "secret/data/shop/billing/item-0001", ""),
    ("GET", "secret/data/shop/orders/item-9999", ""),
    ("GET", "secret/data/shop/orders/item-0000?version=1", ""),
    ("GET", "secret/metadata/shop/orders/item-0000", ""),
    ("LIST", "secret/metadata/shop/orders", ""),
    ("GET", "secret/metadata/shop/orders/?list=true", ""),
    ("GET", "secret/data/elsewhere", ""),
    ("GET", "secret/subkeys/shop/shared", ""),
    ("GET", "auth/token/lookup-self", ""),
    ("POST", "auth/token/renew-self", "{}"),
    (
        "POST",
        "sys/capabilities-self",
        r#"{"paths":["secret/data/shop/shared","sys/mounts"]}"#,
    ),
    ("POST", "auth/token/lookup", r#"{"token":"s.nobody"}"#),
    (
        "POST",
        "auth/token/lookup-accessor",
        r#"{"accessor":"nobody"}"#,
    ),
    ("POST", "auth/token/create", r#"{"policies":["root"]}"#),
    ("POST", "auth/token/create/orders", r#"{"ttl":"1h"}"#),
    ("POST", "auth/token/revoke", r#"{"token":"s.nobody"}"#),
    (
        "POST",
        "auth/approle/login",
        r#"{"role_id":"nobody","secret_id":"none"}"#,
    ),
    (
        "POST",
        "auth/userpass/login/nobody",
        r#"{"password":"none"}"#,
    ),
    (
        "POST",
        "secret/data/shop/shared",
        r#"{"data":{"planted":true}}"#,
    ),
    (
        "PUT",
        "secret/data/shop/orders/item-0000",
        r#"{"options":{"cas":0},"data":{}}"#,
    ),
    (
        "PATCH",
        "secret/data/shop/shared",
        r#"{"data":{"planted":true}}"#,
    ),
    ("DELETE", "secret/data/shop/shared", ""),
    ("DELETE", "secret/metadata/shop/shared", ""),
    ("POST", "secret/delete/shop/shared", r#"{"versions":[1]}"#),
    ("POST", "secret/destroy/shop/shared", r#"{"versions":[1]}"#),
    ("GET", "sys/health", ""),
    ("GET", "sys/seal-status", ""),
    ("GET", "sys/leader", ""),
    ("GET", "sys/internal/ui/mounts", ""),
    ("GET", "sys/internal/ui/mounts/secret/data/shop/shared", ""),
    ("GET", "sys/mounts", ""),
    ("LIST", "sys/policies/acl", ""),
    (
        "POST",
        "sys/leases/lookup",
        r#"{"lease_id":"database/creds/x/y"}"#,
    ),
    (
        "POST",
        "sys/leases/renew",
        r#"{"lease_id":"database/creds/x/y"}"#,
    ),
    ("POST", "sys/wrapping/lookup", r#"{"token":"s.nobody"}"#),
    ("POST", "sys/wrapping/unwrap", r#"{"token":"s.nobody"}"#),
    ("GET", "identity/entity/id/nobody", ""),
    ("GET", "nowhere/at/all", ""),
];

/// Of a hundred requests so many are none that a server has to take.
const BROKEN: u64 = 12;

/// Something odd that HTTP allows.
fn drawn(seeded: &mut Seeded) -> Odd {
    let drawn = seeded.index(heads::ODD.len() + bodies::ODD.len());
    match heads::ODD.get(drawn) {
        Some(odd) => *odd,
        None => bodies::ODD[drawn - heads::ODD.len()],
    }
}

impl Stray {
    /// The one of this number.
    pub(crate) fn drawn(cast: &Cast, nr: usize, seeded: &mut Seeded) -> Stray {
        let (method, path, body) = seeded.one(PLAIN);
        let plain = format!("{method} {path}");
        let mut draft = Draft::plain(nr, method, path, body, seeded.pick::<String>(&cast.readers));
        let is_broken = seeded.chance(BROKEN);
        let mut odd = Vec::new();
        for nr in 0..=seeded.below(3) {
            let (name, make) = match is_broken && nr == 0 {
                true => seeded.one(broken::ODD),
                false => drawn(seeded),
            };
            if !odd.contains(&name) {
                make(&mut draft, cast, seeded);
                odd.push(name);
            }
        }
        Stray {
            nr,
            odd,
            plain,
            is_broken,
            has_no_body_back: draft.method == b"HEAD",
            ending: draft.ending,
            bytes: draft.bytes(),
        }
    }
}

/// These headers, and then the body as it is.
pub(crate) fn said(draft: &mut Draft, lines: &[&str]) {
    draft.framing = Framing::Said(lines.iter().map(|line| (*line).to_owned()).collect());
}

impl Draft {
    fn plain(nr: usize, method: &str, path: &str, body: &str, token: &str) -> Draft {
        let mut draft = Draft {
            nr,
            method: method.into(),
            target: format!("/v1/{path}").into(),
            version: "HTTP/1.1",
            headers: Vec::new(),
            body: body.into(),
            framing: Framing::Usual,
            ending: Ending::Whole,
            sent: 100,
        };
        draft.add("Host", "vault.example");
        draft.add("Connection", "close");
        draft.add("X-Vault-Request", "true");
        draft.add("X-Vault-Token", token);
        draft
    }

    pub(crate) fn add(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref().to_vec();
        self.headers.push((name.as_bytes().to_vec(), value));
    }

    pub(crate) fn without(&mut self, name: &str) {
        let named = |one: &(Vec<u8>, Vec<u8>)| one.0.eq_ignore_ascii_case(name.as_bytes());
        self.headers.retain(|one| !named(one));
    }

    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.without(name);
        self.add(name, value);
    }

    /// Made a write, so that its body counts.
    pub(crate) fn says(&mut self, body: impl Into<Vec<u8>>) {
        if !matches!(self.method.as_slice(), b"PUT" | b"PATCH") {
            self.method = b"POST".to_vec();
        }
        self.body = body.into();
    }

    /// A query, beside what there is.
    pub(crate) fn asks(&mut self, query: &[u8]) {
        let mark = match self.target.contains(&b'?') {
            true => b'&',
            false => b'?',
        };
        self.target.push(mark);
        self.target.extend_from_slice(query);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for part in [
            &self.method[..],
            b" ",
            &self.target,
            b" ",
            self.version.as_bytes(),
            b"\r\n",
        ] {
            all.extend_from_slice(part);
        }
        for (name, value) in &self.headers {
            for part in [&name[..], b": ", value, b"\r\n"] {
                all.extend_from_slice(part);
            }
        }
        self.framed(&mut all);
        all.truncate(all.len() * self.sent / 100);
        all
    }

    /// The rest of the head, and the body.
    fn framed(&self, all: &mut Vec<u8>) {
        match &self.framing {
            Framing::Usual => {
                let writes = matches!(self.method.as_slice(), b"POST" | b"PUT" | b"PATCH");
                if writes || !self.body.is_empty() {
                    let length = format!("Content-Length: {}\r\n", self.body.len());
                    all.extend_from_slice(length.as_bytes());
                }
                all.extend_from_slice(b"\r\n");
                all.extend_from_slice(&self.body);
            }
            Framing::LengthTwice => {
                let length = format!("Content-Length: {}\r\n", self.body.len());
                all.extend_from_slice(length.repeat(2).as_bytes());
                all.extend_from_slice(b"\r\n");
                all.extend_from_slice(&self.body);
            }
            Framing::Chunks(size, after_size, last) => {
                all.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in self.body.chunks((*size).max(1)) {
                    let head = format!("{:x}{after_size}\r\n", chunk.len());
                    all.extend_from_slice(head.as_bytes());
                    all.extend_from_slice(chunk);
                    all.extend_from_slice(b"\r\n");
                }
                all.extend_from_slice(last.as_bytes());
            }
            Framing::Said(lines) => {
                for line in lines {
                    all.extend_from_slice(line.as_bytes());
                    all.extend_from_slice(b"\r\n");
                }
                all.extend_from_slice(b"\r\n");
                all.extend_from_slice(&self.body);
            }
        }
    }
}
