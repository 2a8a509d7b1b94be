//! What can be odd about a body, and about how its end is told.

use crate::asked::{Framing, Odd};

const BODIES: &[&[u8]] = &[
    b"",
    b"{",
    b"}",
    b"[]",
    b"[{}]",
    b"null",
    b"true",
    b"0",
    b"\"text\"",
    b"{}{}",
    b"{} trailing",
    b"{\"a\":1,\"a\":2}",
    b"{\"token\":null}",
    b"{\"token\":1}",
    b"{\"token\":[\"a\",\"b\"]}",
    b"{\"token\":{\"a\":1}}",
    b"{\"token\":\"\"}",
    b"{\"accessor\":null}",
    b"{\"path\":null,\"paths\":null}",
    b"{\"paths\":\"a,b,c\"}",
    b"{\"paths\":[1,null,{}]}",
    b"{\"paths\":[]}",
    b"{\"role\":\"nobody\"}",
    b"{\"role_id\":null,\"secret_id\":null}",
    b"{\"role_id\":[],\"secret_id\":{}}",
    b"{\"role_id\":1,\"secret_id\":2}",
    b"{\"increment\":\"forever\"}",
    b"{\"increment\":-1}",
    b"{\"increment\":1e400}",
    b"{\"ttl\":\"0\",\"num_uses\":-1}",
    b"{\"version\":1.5}",
    b"{\"a\":\"\\ud800\"}",
    b"{\"a\":\"\\u0000\"}",
    b"{\"a\":\"\xff\xfe\"}",
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\0}\0",
    b"\0\0\0\0",
    b"a=b&c=d",
    b"<xml/>",
    b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--",
    b"\x1f\x8b\x08\0\0\0\0\0",
    b"                    ",
    b"{\"a\":NaN}",
    b"{'a':1}",
    b"{\"a\":1,}",
    b"// {}",
];

/// So many keys that nobody knows.
fn unknown_keys(count: usize) -> String {
    let keys: Vec<_> = (0..count).map(|nr| format!("\"k{nr}\":{nr}")).collect();
    format!("{{{}}}", keys.join(","))
}

pub(crate) const ODD: &[Odd] = &[
    ("a body", |draft, _, seeded| {
        draft.says(*seeded.pick(BODIES))
    }),
    ("an odd body", |draft, _, seeded| {
        draft.says(*seeded.pick(BODIES))
    }),
    ("a body nevertheless", |draft, _, seeded| {
        draft.body = seeded.pick(BODIES).to_vec()
    }),
    ("a body of a form", |draft, _, _| {
        draft.says("token=s.nobody&path=a&path=b");
        draft.set("Content-Type", "application/x-www-form-urlencoded");
    }),
    ("3,000 unknown keys", |draft, _, _| {
        draft.says(unknown_keys(3000))
    }),
    ("many unknown keys", |draft, _, seeded| {
        draft.says(unknown_keys(seeded.index(2500)))
    }),
    ("a long key", |draft, _, seeded| {
        draft.says(format!("{{\"{}\":1}}", "k".repeat(seeded.index(100_000))));
    }),
    ("a long value", |draft, _, seeded| {
        draft.says(format!(
            "{{\"token\":\"{}\"}}",
            "v".repeat(seeded.index(200_000))
        ));
    }),
    ("just over 64 KiB", |draft, _, seeded| {
        let more = seeded.index(3);
        draft.says(format!(
            "{{\"a\":\"{}\"}}",
            "v".repeat((64 << 10) - 9 + more)
        ));
    }),
    ("over a MiB", |draft, _, seeded| {
        if seeded.chance(10) {
            draft.says(format!("{{\"a\":\"{}\"}}", "v".repeat(1 << 20)));
        }
    }),
    ("a deep body", |draft, _, seeded| {
        let deep = seeded.index(700);
        draft.says(format!(
            "{{\"a\":{}{}}}",
            "[".repeat(deep),
            "]".repeat(deep)
        ));
    }),
    ("a deep object", |draft, _, seeded| {
        let deep = seeded.index(700);
        draft.says(format!("{}1{}", "{\"a\":".repeat(deep), "}".repeat(deep)));
    }),
    ("a long list", |draft, _, seeded| {
        let list = vec!["1"; seeded.index(5000)].join(",");
        draft.says(format!("{{\"paths\":[{list}]}}"));
    }),
    ("a secret's own body", |draft, _, _| {
        let nr = draft.nr;
        draft.says(format!(
            "{{\"data\":{{\"nr\":{nr}}},\"options\":{{\"cas\":{nr}}}}}"
        ));
    }),
    ("white space around", |draft, _, _| {
        let body = [b" \r\n\t", &draft.body[..], b"\n \n"].concat();
        draft.body = body;
    }),
    ("chunks", |draft, _, seeded| {
        draft.framing = Framing::Chunks(1 + seeded.index(20), "", "0\r\n\r\n");
    }),
    ("chunks with extensions", |draft, _, _| {
        draft.framing = Framing::Chunks(7, ";name=value", "0;last\r\n\r\n");
    }),
    ("chunks with trailers", |draft, _, _| {
        draft.framing = Framing::Chunks(9, "", "0\r\nX-Vault-Token: s.x\r\nX-Stray: 1\r\n\r\n");
    }),
    ("the same length twice", |draft, _, _| {
        draft.framing = Framing::LengthTwice
    }),
    ("100-continue", |draft, _, _| {
        draft.add("Expect", "100-continue")
    }),
];
