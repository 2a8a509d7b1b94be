//! Texts of the configuration file turned into sizes, modes, addresses and accounts.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use shared::span::{measured, written};

use crate::config::Address;

/// Units of sizes by their bytes, largest first.
const SIZES: [(u64, &str); 4] = [
    (1 << 30, "GiB"),
    (1 << 20, "MiB"),
    (1 << 10, "KiB"),
    (1, "B"),
];

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;

/// No time at all.
pub(super) const ZERO: Duration = Duration::ZERO;

pub(super) const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

pub(super) const fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

pub(super) const fn mins(count: u64) -> Duration {
    secs(60 * count)
}

pub(super) const fn hours(count: u64) -> Duration {
    mins(60 * count)
}

pub(super) const fn days(count: u64) -> Duration {
    hours(24 * count)
}

/// A size: a whole number and `B`, `KiB`, `MiB` or `GiB`.
pub(super) fn size(text: &str) -> Result<u64, &'static str> {
    measured(text, &SIZES)
        .ok_or("is not a size; write a whole number and B, KiB, MiB or GiB, as in \"1MiB\"")?
        .ok_or("is larger than can be counted")
}

/// A file mode in octal text, without bits beyond `rwxrwxrwx`.
pub(super) fn mode(text: &str) -> Result<u32, &'static str> {
    const FORM: &str = "is not a file mode; write it in octal, as in \"0660\"";
    if !(3..=4).contains(&text.len()) || !text.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(FORM);
    }
    let mode = u32::from_str_radix(text, 8).map_err(|_| FORM)?;
    if mode > 0o777 {
        return Err("has bits beyond rwxrwxrwx; a socket needs none of them");
    }
    Ok(mode)
}

/// An absolute path.
pub(super) fn path(text: &str) -> Result<PathBuf, &'static str> {
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        return Err("is not absolute; begin it with /");
    }
    Ok(path)
}

/// The path of a socket: absolute, and within the 107 bytes that the kernel takes.
pub(super) fn socket(text: &str) -> Result<PathBuf, &'static str> {
    if text.len() > 107 {
        return Err("is longer than the 107 bytes that the kernel allows for a socket");
    }
    path(text)
}

/// `https://host[:port]`, or `http://` to this machine alone.
pub(super) fn address(text: &str) -> Result<Address, &'static str> {
    const FORM: &str =
        "is not an address; write scheme, host and port, as in \"https://vault:8200\"";
    let uri = http::Uri::from_str(text).map_err(|_| FORM)?;
    let authority = uri.authority().ok_or(FORM)?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(FORM),
    };
    if authority.as_str().contains('@') {
        return Err("names a user; the login belongs in [primary.auth]");
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err("has more than scheme, host and port; leave the rest out");
    }
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    if host.is_empty() {
        return Err(FORM);
    }
    if !tls && !is_loopback(&host) {
        return Err("would send tokens in clear text over the network; write https://");
    }
    let port = match authority.as_str().strip_prefix(authority.host()) {
        Some("") if tls => 443,
        Some("") => 80,
        Some(rest) => port(rest).ok_or(FORM)?,
        None => return Err(FORM),
    };
    Ok(Address {
        url: text.trim_end_matches('/').to_owned(),
        tls,
        host,
        port,
    })
}

/// A port of this machine that nobody else reaches.
pub(super) fn loopback(text: &str) -> Result<SocketAddr, &'static str> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(address),
        Ok(_) => {
            Err("is reachable from outside; give a loopback address, as in \"127.0.0.1:9847\"")
        }
        Err(_) => {
            Err("is not an address; give a loopback one and a port, as in \"127.0.0.1:9847\"")
        }
    }
}

/// Whether a host name is this machine, without asking DNS.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// A user's id, by name.
pub(super) fn user(name: &str) -> Result<u32, &'static str> {
    match nix::unistd::User::from_name(name) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err("is not a user of this host; create it, or give uid"),
        Err(_) => Err("cannot be looked up among this host's users; give uid"),
    }
}

/// A group's id, by name.
pub(super) fn group(name: &str) -> Result<u32, &'static str> {
    match nix::unistd::Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err("is not a group of this host; create it, or give gid"),
        Err(_) => Err("cannot be looked up among this host's groups; give gid"),
    }
}

/// A text of one line that says something.
pub(super) fn line(text: &str) -> Option<String> {
    let is_line = !text.is_empty() && !text.chars().any(char::is_control);
    is_line.then(|| text.to_owned())
}

/// Whether `text` is the whole name of a systemd unit of one of these kinds.
pub(crate) fn is_unit(text: &str, kinds: &[&str]) -> bool {
    let stem = kinds.iter().find_map(|kind| text.strip_suffix(kind));
    stem.is_some_and(|stem| !stem.is_empty() && !stem.contains(['/', '*', ' ']))
}

/// A size as this file would be written with.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        written(f, self.0, &SIZES)
    }
}

fn port(colon_and_digits: &str) -> Option<u16> {
    let digits = colon_and_digits.strip_prefix(':')?;
    digits.parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_unit_counts() {
        assert_eq!(size("1MiB"), Ok(1_048_576));
        assert_eq!(size("512B"), Ok(512));
        assert_eq!(mode("0666"), Ok(0o666));
        assert_eq!(mode("640"), Ok(0o640));
    }

    #[test]
    fn what_could_be_read_two_ways_is_refused() {
        for text in ["1MB", "1M", "1", "1mib", "-1B"] {
            assert!(size(text).is_err(), "{text}");
        }
        for text in ["666o", "0888", "01777", "4755", "7", "", "+666"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_is_scheme_host_and_port() {
        let one = address("https://vault-a:8200/").unwrap();
        assert_eq!(
            (one.url.as_str(), one.host.as_str(), one.port, one.tls),
            ("https://vault-a:8200", "vault-a", 8200, true)
        );
        let six = address("http://[::1]:8200").unwrap();
        assert_eq!((six.host.as_str(), six.tls), ("::1", false));
        assert_eq!(address("https://vault").unwrap().port, 443);
        for text in [
            "vault:8200",
            "ftp://vault",
            "https://",
            "https://u@vault",
            "https://vault/v1",
            "https://vault?a",
            "https://vault:0",
            "https://vault:99999",
            "https://vault:",
            "",
            "https:///v1",
        ] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn clear_text_leaves_this_machine_nowhere() {
        for text in [
            "http://127.0.0.1:1",
            "http://127.9.9.9:1",
            "http://localhost:1",
            "http://[::1]:1",
        ] {
            assert!(address(text).is_ok(), "{text}");
        }
        for text in [
            "http://vault:1",
            "http://10.0.0.1:1",
            "http://localhost.example:1",
            "http://0.0.0.0:1",
        ] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn sizes_are_read_as_they_are_written(bytes in 0u64..=1 << 50) {
            prop_assert_eq!(size(&Size(bytes).to_string()), Ok(bytes));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,40}") {
            let _ = (size(&text), mode(&text), address(&text), socket(&text));
        }
    }
}
