//! The search for leaks finds a secret in every form, wherever it lies.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use harness::canary::{Canaries, Form};
use harness::place::Room;
use harness::process::Launch;
use harness::{Result, eventually};

/// It has characters that every escape changes, and that the two base64 alphabets write differently.
const SECRET: &str = "cänary<&>\"\\/ 7f~?>~?>+%ÿÿÿ-0123456789ab";

fn canaries() -> Canaries {
    let mut canaries = Canaries::default();
    canaries.plant("shop/one", SECRET.as_bytes()).unwrap();
    canaries
        .plant("shop/other", b"another-secret-altogether")
        .unwrap();
    canaries
}

fn hex(separator: &str) -> String {
    let digits: Vec<String> = SECRET.bytes().map(|b| format!("{b:02x}")).collect();
    digits.join(separator)
}

fn each_char(write: impl Fn(char) -> String) -> String {
    SECRET.chars().map(write).collect()
}

/// The secret, written in every way that the search claims to know.
fn written() -> Vec<(Form, Vec<u8>)> {
    let aligned = |shift: usize| ["x".repeat(shift), SECRET.into(), "tail".into()].concat();
    let json_all = each_char(|c| format!("\\u{:04X}", u32::from(c)));
    let percent = |upper: bool, b: u8| {
        if upper {
            format!("%{b:02X}")
        } else {
            format!("%{b:02x}")
        }
    };
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._~".contains(b);
    let url: String = SECRET
        .bytes()
        .map(|b| {
            if plain(&b) {
                char::from(b).into()
            } else {
                percent(true, b)
            }
        })
        .collect();
    let mut forms = vec![
        (Form::Raw, SECRET.into()),
        (Form::Hex, hex("").into_bytes()),
        (Form::Hex, hex("").to_uppercase().into_bytes()),
        (Form::Hex, hex(" ").into_bytes()),
        (Form::Hex, hex(":").into_bytes()),
        (
            Form::UrlEscaped,
            SECRET
                .bytes()
                .map(|b| percent(false, b))
                .collect::<String>()
                .into(),
        ),
        (Form::UrlEscaped, url.replace("%20", "+").into()),
        (Form::UrlEscaped, url.replace("%2B", "+").into()),
        (Form::UrlEscaped, url.into()),
        (Form::Escaped, json_all.to_lowercase().into_bytes()),
        (Form::Escaped, json_all.into_bytes()),
        (Form::Escaped, serde_json::to_vec(SECRET).unwrap()),
        (
            Form::Escaped,
            SECRET
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('<', "\\u003c")
                .into(),
        ),
        (Form::Escaped, format!("{:?}", SECRET).into()),
        (
            Form::Escaped,
            each_char(|c| c.escape_unicode().to_string()).into(),
        ),
        (
            Form::Escaped,
            SECRET
                .bytes()
                .map(|b| format!("\\x{b:02x}"))
                .collect::<String>()
                .into(),
        ),
        (Form::Decimal, format!("{:?}", SECRET.as_bytes()).into()),
        (Form::Decimal, format!("{:#?}", SECRET.as_bytes()).into()),
        (Form::Utf16, SECRET.bytes().flat_map(|b| [b, 0]).collect()),
    ];
    for shift in 0..3 {
        forms.push((Form::Base64, STANDARD.encode(aligned(shift)).into()));
        forms.push((Form::Base64Url, URL_SAFE.encode(aligned(shift)).into()));
        forms.push((
            Form::Base64Url,
            URL_SAFE_NO_PAD.encode(aligned(shift)).into(),
        ));
        let lines = STANDARD.encode(aligned(shift)).into_bytes();
        forms.push((
            Form::Base64,
            lines.chunks(16).collect::<Vec<_>>().join(&b"\r\n"[..]),
        ));
    }
    forms
}

#[test]
fn every_form_is_found_and_named_without_showing_the_secret() -> Result<()> {
    for (form, text) in written() {
        let file = [&b"before "[..], &text, b" after"].concat();
        let searched = canaries().search_bytes("answer", &file)?;
        let found: Vec<Form> = searched.leaks.iter().map(|leak| leak.form).collect();
        assert!(
            found.contains(&form),
            "{form:?} {:?}: found {found:?}",
            String::from_utf8_lossy(&text)
        );
        assert!(searched.leaks.iter().all(|leak| leak.name == "shop/one"));
        let said = searched.clean().unwrap_err().to_string();
        assert!(
            said.contains("shop/one in answer as") && !said.contains(SECRET),
            "{said}"
        );
    }
    Ok(())
}

#[test]
fn no_form_hides_on_the_boundary_of_what_is_read_at_a_time() -> Result<()> {
    const CHUNK: usize = 64 * 1024;
    for (form, text) in written() {
        for boundary in [CHUNK, 2 * CHUNK] {
            for part in [1, text.len() / 3, text.len() / 2, text.len() - 1] {
                let mut file = vec![b'.'; boundary - part];
                file.extend(&text);
                file.extend([b'.'; 100]);
                let searched = canaries().search_bytes("file", &file)?;
                let found = searched.leaks.iter().any(|leak| leak.form == form);
                assert!(found, "{form:?} with {part} bytes before {boundary}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_secret_cut_in_two_is_found_by_its_longer_part() -> Result<()> {
    for cut in [1, 10, SECRET.len() / 2, SECRET.len() - 1] {
        let (first, last) = SECRET.as_bytes().split_at(cut);
        let page = [first, &[0; 500], last].concat();
        let leaks = canaries().search_bytes("page", &page)?.leaks;
        assert!(
            leaks.iter().any(|leak| leak.form == Form::Half),
            "cut at {cut}"
        );
    }
    Ok(())
}

#[test]
fn whole_trees_are_searched_and_what_is_elsewhere_is_not() -> Result<()> {
    let (room, outside) = (Room::make()?, Room::make()?);
    room.folder("a/.hidden", 0o700, None)?;
    room.file("a/.hidden/replica.db-wal", SECRET, 0o600, None)?;
    room.file("clean", "nothing", 0o600, None)?;
    outside.file("source", SECRET, 0o600, None)?;
    std::os::unix::fs::symlink(outside.join("source"), room.join("link"))?;
    let _socket = std::os::unix::net::UnixListener::bind(room.join("socket"))?;
    let searched = canaries().search(&[room.path(), &room.join("never-was")])?;
    assert_eq!(searched.files, 2);
    let places: Vec<_> = searched
        .leaks
        .iter()
        .map(|leak| leak.place.clone())
        .collect();
    assert_eq!(places, [room.join("a/.hidden/replica.db-wal")]);
    canaries().search(&[&room.join("clean")])?.clean()?;
    assert!(
        canaries()
            .search(&[&room.join("never-was")])?
            .clean()
            .is_err(),
        "nothing was searched"
    );
    Ok(())
}

#[tokio::test]
async fn the_command_line_and_the_environment_of_a_process_are_searched() -> Result<()> {
    let room = Room::make()?;
    let waits = || Launch::new("waits", Path::new("/bin/sleep"), &room.join("log")).args(["600"]);
    // sleep(1) adds up its arguments: this one is a number, and to be seen.
    let number = "0.123456789012345";
    for launch in [waits().args([number]), waits().env("TOKEN", number)] {
        let process = launch.start()?;
        let mut canaries = Canaries::default();
        canaries.plant("token", number.as_bytes())?;
        // While it is being exec'ed, a process shows neither.
        eventually(Duration::from_secs(5), "the leak", async || {
            let leaks = canaries
                .search_process(process.id())
                .map(|searched| searched.leaks.len());
            if let Ok(1) = leaks {
                Ok(())
            } else {
                Err(format!("{leaks:?}"))
            }
        })
        .await?;
        self::canaries().search_process(process.id())?.clean()?;
    }
    Ok(())
}

#[test]
fn chance_is_not_taken_for_a_leak() -> Result<()> {
    let mut canaries = canaries();
    assert!(canaries.plant("short", b"short").is_err());
    let noise: Vec<u8> = (0..64)
        .flat_map(|_| harness::random::bytes::<16384>().unwrap())
        .collect();
    canaries.search_bytes("noise", &noise)?.clean()
}
