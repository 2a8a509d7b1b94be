//! What HTTP itself forbids, or leaves without an end: no server has to take it, and each says so in its own way.

use crate::asked::{Framing, Odd, said};
use crate::wire::Ending;

pub(crate) const ODD: &[Odd] = &[
    ("more headers than are read", |draft, _, _| {
        for nr in 0..400 {
            draft.add(&format!("X-Stray-{nr}"), "1");
        }
    }),
    ("a header with a zero", |draft, _, _| {
        draft.add("X-Stray", b"a\0b")
    }),
    ("a header without a name", |draft, _, _| {
        draft.add("", "value")
    }),
    ("a name with a space", |draft, _, _| {
        draft.add("X Stray", "value")
    }),
    ("a folded header", |draft, _, _| {
        draft.add("X-Stray", "one\r\n two")
    }),
    ("no host", |draft, _, _| draft.without("Host")),
    ("two hosts", |draft, _, _| {
        draft.add("Host", "other.example")
    }),
    ("a strange host", |draft, _, _| draft.set("Host", "a b/c?d")),
    ("another version", |draft, _, _| draft.version = "HTTP/2.0"),
    ("chunks that are none", |draft, _, _| {
        said(draft, &["Transfer-Encoding: chunked"]);
        draft.body = b"zz\r\n{}\r\n0\r\n\r\n".to_vec();
    }),
    ("a chunk of a huge size", |draft, _, _| {
        said(draft, &["Transfer-Encoding: chunked"]);
        draft.body = b"ffffffffffffffffff\r\n{}\r\n0\r\n\r\n".to_vec();
    }),
    ("another coding", |draft, _, _| {
        said(draft, &["Transfer-Encoding: gzip, chunked"]);
        draft.body = b"0\r\n\r\n".to_vec();
    }),
    ("an unknown coding", |draft, _, _| {
        said(draft, &["Transfer-Encoding: identity"])
    }),
    ("a length and chunks", |draft, _, _| {
        said(draft, &["Content-Length: 4", "Transfer-Encoding: chunked"]);
        draft.body = b"0\r\n\r\nGET /v1/sys/health HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    }),
    ("two lengths", |draft, _, _| {
        said(draft, &["Content-Length: 2", "Content-Length: 3"])
    }),
    ("a length that is none", |draft, _, _| {
        said(draft, &["Content-Length: abc"])
    }),
    ("a negative length", |draft, _, _| {
        said(draft, &["Content-Length: -1"])
    }),
    ("a length with a sign", |draft, _, _| {
        said(draft, &["Content-Length: +2"])
    }),
    ("no length", |draft, _, _| said(draft, &[])),
    ("a length that is too short", |draft, _, _| {
        draft.says("{\"token\":\"s.nobody\"}");
        said(draft, &["Content-Length: 2"]);
    }),
    ("less than was told", |draft, _, seeded| {
        draft.body = b"{\"a\":".to_vec();
        said(draft, &["Content-Length: 500"]);
        draft.ending = match seeded.chance(50) {
            true => Ending::Cut,
            false => Ending::Hangs,
        };
    }),
    ("a huge length", |draft, _, _| {
        draft.body = b"{}".to_vec();
        said(draft, &["Content-Length: 9223372036854775807"]);
        draft.ending = Ending::Hangs;
    }),
    ("chunks without an end", |draft, _, seeded| {
        draft.framing = Framing::Chunks(5, "", "");
        draft.ending = match seeded.chance(50) {
            true => Ending::Cut,
            false => Ending::Hangs,
        };
    }),
    ("half a request", |draft, _, seeded| {
        draft.sent = seeded.index(99);
        draft.ending = match seeded.chance(50) {
            true => Ending::Cut,
            false => Ending::Hangs,
        };
    }),
    ("an expectation", |draft, _, _| {
        draft.add("Expect", "200-maybe")
    }),
];
