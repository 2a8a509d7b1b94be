//! `[primary]` and `[primary.auth]`.

use std::{ops::RangeInclusive, path::Path, time::Duration};

use shared::name::{Namespace, RequestPath};

use crate::config::{
    Address, AuthConfig, AuthMethod, CredentialFile, PrimaryConfig,
    section::{Section, Spot, keys},
    value::{self, days, mins, ms, secs},
};

/// How long one step of a request may take.
const WAITS: RangeInclusive<Duration> = ms(10)..=mins(1);

pub(super) fn read(section: &Section<'_>) -> PrimaryConfig {
    let addresses = addresses(section);
    let ca_file = section.text("ca_file", value::path);
    if let Some((tls, spot)) = addresses.iter().find(|(one, _)| one.tls)
        && ca_file.is_none()
    {
        let what = format!("{} has no CA to be checked against", tls.url);
        spot.conflict(what, "set primary.ca_file to the PEM file of its CA");
    }
    absent(section);
    section.finish(keys! { section => PrimaryConfig {
        connect_timeout: span(ms(500), WAITS),
        read_deadline: span(secs(1), WAITS),
        requests_per_second: count(50, 1..=10_000),
        token_check_interval: span(mins(5), secs(1)..=days(1));
        namespace: section.text("namespace", namespace).unwrap_or_default(),
        ca_file,
        auth: auth(&section.table("auth"), &addresses),
        addresses: addresses.into_iter().map(|(one, _)| one).collect(),
    } })
}

fn namespace(text: &str) -> Result<Namespace, &'static str> {
    let named = Namespace::exactly(text.as_bytes());
    named.ok_or("is no namespace; give its path in visible ASCII, as in \"team/app\"")
}

/// Mounts of AppRole whose logins are learned.
pub(super) fn approle_mounts(section: &Section<'_>) -> Vec<String> {
    match section.texts("approle_mounts", mount) {
        Some(mounts) => mounts.into_iter().map(|(mount, _)| mount).collect(),
        None => vec!["approle".to_owned()],
    }
}

fn addresses<'a>(section: &Section<'a>) -> Vec<(Address, Spot<'a>)> {
    let addresses = section.texts("addresses", value::address);
    let addresses = addresses.unwrap_or_default();
    if section.is_empty_at("addresses") {
        section.missing("addresses", "addresses = [\"https://vault:8200\"]");
    }
    for (at, (one, spot)) in addresses.iter().enumerate() {
        let mut earlier = addresses.iter().take(at);
        if earlier.any(|(other, _)| other == one) {
            let what = format!("{} is given twice", one.url);
            spot.conflict(what, "leave one of the two out");
        }
        if value::is_loopback(&one.host) {
            let clear = ", and traffic to it is in clear text";
            let clear = if one.tls { "" } else { clear };
            section.finding(format!(
                "primary.addresses: {} is on this host: it fails together with Holdover{clear}",
                one.url
            ));
        }
    }
    addresses
}

/// Features of an Enterprise primary that are declared absent: nothing of them is modelled yet.
fn absent(section: &Section<'_>) {
    let declared = section.texts("absent", |_| Ok(())).unwrap_or_default();
    if let [(_, first), ..] = &declared[..] {
        let feature = "declaring features of an Enterprise primary absent";
        let remedy = "leave it out: what they would decide is answered with 503";
        first.unbuilt(feature, remedy);
    }
}

fn auth(section: &Section<'_>, addresses: &[(Address, Spot<'_>)]) -> AuthConfig {
    let name = section.text("method", method);
    let default = name.unwrap_or("approle");
    // A method that is none of them says nothing of the other keys.
    if name.is_none() && section.has("method") {
        let (mount, path) = Default::default();
        let method = AuthMethod::TokenFile { path };
        return AuthConfig { mount, method };
    }
    let mount = match default {
        "token_file" => String::new(),
        method => section.text_or("mount", method.to_owned(), mount),
    };
    let method = match default {
        "cert" => keys! { section => AuthMethod::Cert {
            name: text(role),
            cert_file: file("/etc/holdover/client.pem"),
            key_file: file("/etc/holdover/client.key"),
        } },
        "jwt" => keys! { section => AuthMethod::Jwt {
            role: text(role),
            jwt_file: file("/run/holdover/jwt"),
        } },
        "kubernetes" => keys! { section => AuthMethod::Kubernetes {
            jwt_file: file("/var/run/secrets/kubernetes.io/serviceaccount/token");
            role: section.required("role", "holdover", role).unwrap_or_default(),
        } },
        "token_file" => keys! { section => AuthMethod::TokenFile {
            path: file("/run/holdover/token"),
        } },
        _ => keys! { section => AuthMethod::AppRole {
            role_id_file: file("/etc/holdover/role_id"),
            secret_id_file: file("/etc/holdover/secret_id"),
        } },
    };
    section.finish(());
    without_tls(&method, addresses);
    AuthConfig { mount, method }
}

fn method(text: &str) -> Result<&'static str, &'static str> {
    ["approle", "cert", "jwt", "kubernetes", "token_file"]
        .into_iter()
        .find(|name| *name == text)
        .ok_or("is not a login method; give approle, cert, jwt, kubernetes or token_file")
}

fn role(text: &str) -> Result<String, &'static str> {
    value::line(text).ok_or("is not the name of a role at the primary")
}

/// A certificate is shown in a TLS handshake: where there is none, there is no login.
fn without_tls(method: &AuthMethod, addresses: &[(Address, Spot<'_>)]) {
    let clear = addresses.iter().find(|(one, _)| !one.tls);
    if let (AuthMethod::Cert { .. }, Some((one, spot))) = (method, clear) {
        let url = &one.url;
        let what = format!("{url} takes no certificate, which method \"cert\" logs in with");
        spot.conflict(what, "give https addresses, or another method");
    }
}

pub(super) fn credential_files(section: &Section<'_>, method: &AuthMethod) -> Vec<CredentialFile> {
    let files = method.files().into_iter();
    let file = |(key, path): (&'static str, &Path)| CredentialFile {
        line: section.at(key).line,
        key,
        path: path.to_owned(),
    };
    files.map(file).collect()
}

fn mount(text: &str) -> Result<String, &'static str> {
    let mount = text.trim_matches('/');
    if mount.is_empty() || mount.starts_with("auth/") || RequestPath::parse(mount).is_err() {
        return Err("is not a mount of an auth method; write it without auth/, as in \"approle\"");
    }
    Ok(mount.to_owned())
}
