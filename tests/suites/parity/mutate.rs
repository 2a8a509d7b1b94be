//! Texts that are nearly policies: samples and generated ones, with bytes and words changed, doubled and taken out.

use base64::{Engine, engine::general_purpose::STANDARD};
use harness::{Result, random::Seeded};
use serde_json::Value;

use crate::rules;

/// What is put into texts.
const WORDS: [&str; 92] = [
    "{",
    "}",
    "[",
    "]",
    "=",
    ",",
    "\"",
    "'",
    "`",
    ";",
    ":",
    ".",
    "-",
    "+",
    "*",
    "\\",
    "#",
    "# c\n",
    "// c\n",
    "/",
    "/*",
    "*/",
    "/* c */",
    "/*/",
    "<<EOT\n",
    "\nEOT\n",
    "<<-EOT\n  x\n  EOT\n",
    "<<\"EOT\"\n",
    "<<E\nE\n",
    "<<",
    "\n",
    "\r\n",
    "\r",
    "\t",
    " ",
    "\u{b}",
    "\u{c}",
    "\0",
    "\u{feff}",
    "\u{e123}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "é",
    "日本",
    "🦀",
    "path",
    "path \"a\" {}",
    "path \"kv/a\" { capabilities = [\"read\"] }",
    "name = \"n\"",
    "capabilities",
    "capabilities = [\"read\", \"list\"]",
    "policy = \"write\"",
    "\"deny\"",
    "\"root\"",
    "\"\"",
    "true",
    "false",
    "null",
    "0",
    "1",
    "-1",
    "010",
    "08",
    "0x1F",
    "0X",
    "1e3",
    "1e999",
    "1.5",
    ".5",
    "1.",
    "9223372036854775807",
    "9223372036854775808",
    "1_000",
    "\\x41",
    "\\u00e9",
    "\\U0001F980",
    "\\101",
    "\\q",
    "\\\"",
    "\\n",
    "${x}",
    "%{x}",
    "${\"x\"}",
    "{{",
    "}}",
    "{{identity.entity.id}}",
    "+*",
    "comment = \"x\"",
    "Path",
    "min_wrapping_ttl = \"1m\"",
    "control_group = {}",
];

/// Attributes of a block, to be put in, most of them valid.
const ATTRIBUTES: [&str; 40] = [
    "min_wrapping_ttl = \"1h\"",
    "max_wrapping_ttl = 60",
    "max_wrapping_ttl = \"1m30s\"",
    "min_wrapping_ttl = \"1d\"",
    "max_wrapping_ttl = 1.5",
    "max_wrapping_ttl = true",
    "max_wrapping_ttl = \"-1s\"",
    "min_wrapping_ttl = \"1.5h\"",
    "pagination_limit = 5",
    "pagination_limit = \"5\"",
    "pagination_limit = \"0x5\"",
    "pagination_limit = 5.5",
    "pagination_limit = -5",
    "expiration = \"2020-01-01T00:00:00Z\"",
    "expiration = 4102444800",
    "expiration = \"2099-02-30T00:00:00Z\"",
    "expiration = \"soon\"",
    "expiration = 1.5",
    "expiration = \"\"",
    "allowed_parameters = { \"a\" = [] }",
    "allowed_parameters { a = [\"x*\", 1, true] }",
    "allowed_parameters = []",
    "denied_parameters = { \"a\" = \"b\" }",
    "denied_parameters { \"a\" { b = 1 } }",
    "denied_parameters = { A = [1] a = [2] }",
    "required_parameters = [\"a\"]",
    "required_parameters = \"a\"",
    "required_parameters = [1, 2.5, true]",
    "list_scan_response_keys_filter_path = \"{{.key}}\"",
    "list_scan_response_keys_filter_path = \"{{.path}}\"",
    "list_scan_response_keys_filter_path = \"{{.path}}{{.key}}\"",
    "comment = 5",
    "comment = <<EOT\nany\nEOT\n",
    "mfa_methods = [\"x\"]",
    "policy = \"read\"",
    "policy = \"none\"",
    "policy = 5",
    "unknown = 1",
    "control_group = { factor \"f\" { controlled_capabilities = [\"read\"] identity { group_names = [\"g\"] approvals = 1 } } }",
    "control_group { ttl = \"1h\" factor \"f\" { identity { group_names = [\"g\"] approvals = 1 } } }",
];

/// The samples: every text of which it is known whether the primary takes it.
pub(crate) fn samples() -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for (file, field) in [
        (
            include_str!("../../../shared/tests/samples/hcl1.json"),
            "text",
        ),
        (
            include_str!("../../../shared/tests/samples/policies.json"),
            "policy",
        ),
        (
            include_str!("../../../shared/tests/samples/texts.json"),
            "text",
        ),
    ] {
        let samples: Vec<Value> = serde_json::from_str(file)?;
        let found = samples.iter().filter_map(|sample| sample[field].as_str());
        texts.extend(found.map(str::to_owned));
    }
    Ok(texts)
}

/// A text, as it is sent.
pub(crate) fn text(random: &mut Seeded, samples: &[String], ground: &rules::Ground<'_>) -> Vec<u8> {
    let base = |random: &mut Seeded| match random.chance(30) {
        true => rules::policy(random, "p".into(), ground).text(),
        false => random.pick(samples).clone(),
    };
    let mut text = base(random).into_bytes();
    if random.chance(5) {
        text.extend(base(random).bytes());
    }
    let changes = match random.below(10) {
        0..2 => 0,
        2..8 => 1,
        _ => 2 + random.below(3),
    };
    for _ in 0..changes {
        change(random, &mut text);
    }
    match random.below(50) {
        0 => STANDARD.encode(&text).into_bytes(),
        1 => STANDARD
            .encode(&text)
            .trim_end_matches('=')
            .as_bytes()
            .to_vec(),
        _ => text,
    }
}

fn change(random: &mut Seeded, text: &mut Vec<u8>) {
    let len = text.len();
    let (at, word) = (boundary(random, text), *random.pick(&WORDS));
    match random.below(32) {
        0..2 if len > 0 => text[random.index(len)] ^= 1 << random.below(8),
        2 if len > 0 => text[random.index(len)] = u8::try_from(random.below(128)).unwrap_or(b'x'),
        3..5 => drop(text.drain(at..(at + 1 + random.index(4)).min(len))),
        5 => drop(text.drain(at..(at + random.index(40)).min(len))),
        6 => text.truncate(at),
        7 => {
            let copied = text[at..(at + random.index(60)).min(len)].to_vec();
            insert(text, at, &copied);
        }
        8..14 => insert(text, at, word.as_bytes()),
        14..18 => swapped(random, text),
        18..22 => attribute(random, text),
        22 => {
            *text = String::from_utf8_lossy(text)
                .replace('\n', "\r\n")
                .into_bytes()
        }
        23 => insert(text, 0, "\u{feff}".as_bytes()),
        24 => replace(
            text,
            b"\"",
            random.pick(&["'", "", "\\\"", "`"]).as_bytes(),
            random,
        ),
        25 => replace(
            text,
            b" ",
            random
                .pick(&["\t", "\n", "", "\r", "/**/", " # c\n"])
                .as_bytes(),
            random,
        ),
        26 => replace(
            text,
            b"=",
            random
                .pick(&["", ":", "==", " = = ", "=\n", "\n="])
                .as_bytes(),
            random,
        ),
        27 => replace(
            text,
            b",",
            random.pick(&["", ",,", "\n", ";"]).as_bytes(),
            random,
        ),
        28 => nest(random, text),
        29 if random.chance(10) => lengthen(random, text),
        30 => upper(random, text),
        _ => insert(text, at, word.as_bytes()),
    }
}

fn boundary(random: &mut Seeded, text: &[u8]) -> usize {
    let mut at = random.index(text.len() + 1);
    // Mostly between characters.
    while at < text.len() && text[at] & 0xc0 == 0x80 && random.chance(95) {
        at += 1;
    }
    at
}

fn insert(text: &mut Vec<u8>, at: usize, what: &[u8]) {
    drop(text.splice(at..at, what.iter().copied()));
}

/// Two words, or a word and one of the list, change places.
fn swapped(random: &mut Seeded, text: &mut Vec<u8>) {
    let whole = String::from_utf8_lossy(text).into_owned();
    let mut words: Vec<&str> = whole.split_inclusive([' ', '\n', ',', '[', '{']).collect();
    if words.is_empty() {
        return;
    }
    let (one, other) = (random.index(words.len()), random.index(words.len()));
    match random.chance(50) {
        true => words.swap(one, other),
        false => words[one] = *random.pick(&WORDS),
    }
    *text = words.concat().into_bytes();
}

/// One attribute more, right behind an opening brace.
fn attribute(random: &mut Seeded, text: &mut Vec<u8>) {
    let braces: Vec<_> = text
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'{')
        .map(|(at, _)| at + 1)
        .collect();
    if !braces.is_empty() {
        let at = *random.pick(&braces);
        let separator = *random.pick(&["\n", " ", ", "]);
        let what = format!("{separator}{}{separator}", random.pick(&ATTRIBUTES));
        insert(text, at, what.as_bytes());
    }
}

fn replace(text: &mut Vec<u8>, from: &[u8], to: &[u8], random: &mut Seeded) {
    let found: Vec<_> = (0..text.len())
        .filter(|at| text[*at..].starts_with(from))
        .collect();
    if !found.is_empty() {
        let at = *random.pick(&found);
        drop(text.splice(at..at + from.len(), to.iter().copied()));
    }
}

fn nest(random: &mut Seeded, text: &mut Vec<u8>) {
    let (open, close) = *random.pick(&[
        ("[", "]"),
        ("{", "}"),
        ("{ a = ", "}"),
        ("[[", "]]"),
        ("{\"a\":", "}"),
    ]);
    let depth = match random.below(20) {
        0 => 300,
        _ => 1 + random.index(5),
    };
    let (start, end) = (boundary(random, text), boundary(random, text));
    let (start, end) = (start.min(end), start.max(end));
    insert(text, end, close.repeat(depth).as_bytes());
    insert(text, start, open.repeat(depth).as_bytes());
}

fn lengthen(random: &mut Seeded, text: &mut Vec<u8>) {
    let at = boundary(random, text);
    let long = match random.below(4) {
        0 => "x".repeat(100_000),
        1 => "# long\n".repeat(5000),
        2 => "path \"a/b\" { capabilities = [\"read\"] }\n".repeat(2000),
        _ => " ".repeat(70_000),
    };
    insert(text, at, long.as_bytes());
}

fn upper(random: &mut Seeded, text: &mut [u8]) {
    let letters: Vec<_> = (0..text.len())
        .filter(|at| text[*at].is_ascii_lowercase())
        .collect();
    if !letters.is_empty() {
        let at = *random.pick(&letters);
        text[at] = text[at].to_ascii_uppercase();
    }
}
