//! `[primary]` and `[primary.auth]`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use shared::name::{Namespace, RequestPath};

use crate::config::{
    Address, AuthConfig, AuthMethod, CredentialFile, PrimaryConfig,
    error::Problem,
    file::{Bounded, Placed, Section},
    value,
};

/// What the table says, as far as it could be read.
pub(super) struct PrimaryDraft {
    pub(super) primary: Option<PrimaryConfig>,
    pub(super) read_deadline: Duration,
    pub(super) token_max_age: Duration,
    pub(super) approle_mounts: Vec<String>,
    pub(super) credential_files: Vec<CredentialFile>,
}

pub(super) fn read(section: &Section<'_>) -> PrimaryDraft {
    let addresses = addresses(section);
    let ca_file = section.text("ca_file", value::path);
    if let Some(tls) = addresses.iter().find(|one| one.value.tls)
        && ca_file.is_none()
    {
        let what = format!("{} has no CA to be checked against", tls.value.url);
        tls.conflict(
            section.source(),
            what,
            "set primary.ca_file to the PEM file of its CA",
        );
    }
    let namespace = section.text("namespace", |text| Ok(Namespace::parse(text)));
    let connect_timeout = section.span("connect_timeout", wait(500));
    let read_deadline = section.span("read_deadline", wait(1000)).value;
    let requests_per_second = section.count(
        "requests_per_second",
        Bounded {
            default: 50,
            least: 1,
            most: 10_000,
        },
    );
    let token_check_interval = section.span(
        "token_check_interval",
        Bounded {
            default: Duration::from_secs(300),
            least: Duration::from_secs(1),
            most: Duration::from_secs(86_400),
        },
    );
    let token_max_age = section.span(
        "token_max_age",
        Bounded {
            default: Duration::from_secs(3600),
            least: Duration::ZERO,
            most: Duration::from_secs(30 * 86_400),
        },
    );
    let approle_mounts = section.texts("approle_mounts", mount);
    absent(section);
    let login = section.table("auth");
    let auth = auth(&login);
    let mut files = Vec::new();
    if let Some(auth) = &auth {
        without_tls(&login, auth, &addresses);
        files = credential_files(&login, auth);
    }
    section.finish();
    let primary = auth.map(|auth| PrimaryConfig {
        addresses: addresses.into_iter().map(|one| one.value).collect(),
        ca_file: ca_file.map(|found| found.value),
        namespace: namespace.map(|found| found.value).unwrap_or_default(),
        connect_timeout: connect_timeout.value,
        read_deadline,
        requests_per_second: requests_per_second.value,
        token_check_interval: token_check_interval.value,
        auth,
    });
    PrimaryDraft {
        primary,
        read_deadline,
        token_max_age: token_max_age.value,
        approle_mounts: approle_mounts.map_or_else(
            || vec!["approle".to_owned()],
            |found| found.into_iter().map(|one| one.value).collect(),
        ),
        credential_files: files,
    }
}

fn addresses(section: &Section<'_>) -> Vec<Placed<Address>> {
    const EXAMPLE: &str = "addresses = [\"https://vault:8200\"]";
    let Some(addresses) = section.texts("addresses", value::address) else {
        section.missing("addresses", EXAMPLE);
        return Vec::new();
    };
    if section.is_empty_array("addresses") {
        section.missing("addresses", EXAMPLE);
    }
    for (at, one) in addresses.iter().enumerate() {
        let earlier = addresses.iter().take(at);
        if earlier.clone().any(|other| other.value == one.value) {
            let what = format!("{} is given twice", one.value.url);
            one.conflict(section.source(), what, "leave one of the two out");
        }
        if value::is_loopback(&one.value.host) {
            let clear = if one.value.tls {
                ""
            } else {
                ", and is spoken to in clear text"
            };
            section.source().finding(format!(
                "primary.addresses: {} is on this very host: it fails together with Holdover{clear}",
                one.value.url
            ));
        }
    }
    addresses
}

/// Features of an Enterprise primary that are declared absent: nothing of them is modelled yet.
fn absent(section: &Section<'_>) {
    let declared = section.texts("absent", |text| Ok(text.to_owned()));
    if let Some(first) = declared.as_deref().and_then(<[_]>::first) {
        let problem = Problem::Unbuilt {
            feature: "declaring features of an Enterprise primary absent",
            remedy: "leave it out: what they would decide is answered with 503",
        };
        section
            .source()
            .error(first.line, first.key.clone(), problem);
    }
}

fn auth(section: &Section<'_>) -> Option<AuthConfig> {
    let method = section.text("method", method);
    // A method that is none of them says nothing of the other keys.
    if method.is_none() && section.has("method") {
        return None;
    }
    let read = match method.map_or("approle", |found| found.value) {
        "cert" => cert(section),
        "jwt" => jwt(section),
        "kubernetes" => kubernetes(section),
        "token_file" => token_file(section),
        _ => approle(section),
    };
    section.finish();
    read
}

fn method(text: &str) -> Result<&'static str, &'static str> {
    ["approle", "cert", "jwt", "kubernetes", "token_file"]
        .into_iter()
        .find(|name| *name == text)
        .ok_or("is no login method; give approle, cert, jwt, kubernetes or token_file")
}

fn approle(section: &Section<'_>) -> Option<AuthConfig> {
    let role = "role_id_file = \"/etc/holdover/role_id\"";
    let secret = "secret_id_file = \"/etc/holdover/secret_id\"";
    let mount = mounted(section, "approle");
    let role_id_file = section.required("role_id_file", role, value::path);
    let secret_id_file = section.required("secret_id_file", secret, value::path);
    let method = AuthMethod::AppRole {
        role_id_file: role_id_file?.value,
        secret_id_file: secret_id_file?.value,
    };
    Some(AuthConfig { mount, method })
}

fn cert(section: &Section<'_>) -> Option<AuthConfig> {
    let cert = "cert_file = \"/etc/holdover/client.pem\"";
    let key = "key_file = \"/etc/holdover/client.key\"";
    let mount = mounted(section, "cert");
    let name = section.text("name", role);
    let cert_file = section.required("cert_file", cert, value::path);
    let key_file = section.required("key_file", key, value::path);
    let method = AuthMethod::Cert {
        name: name.map(|found| found.value),
        cert_file: cert_file?.value,
        key_file: key_file?.value,
    };
    Some(AuthConfig { mount, method })
}

fn jwt(section: &Section<'_>) -> Option<AuthConfig> {
    let mount = mounted(section, "jwt");
    let role = section.text("role", role);
    let file = section.required("jwt_file", "jwt_file = \"/run/holdover/jwt\"", value::path);
    let method = AuthMethod::Jwt {
        role: role.map(|found| found.value),
        jwt_file: file?.value,
    };
    Some(AuthConfig { mount, method })
}

fn kubernetes(section: &Section<'_>) -> Option<AuthConfig> {
    let file = "jwt_file = \"/var/run/secrets/kubernetes.io/serviceaccount/token\"";
    let mount = mounted(section, "kubernetes");
    let role = section.required("role", "role = \"holdover\"", role);
    let file = section.required("jwt_file", file, value::path);
    let method = AuthMethod::Kubernetes {
        role: role?.value,
        jwt_file: file?.value,
    };
    Some(AuthConfig { mount, method })
}

fn token_file(section: &Section<'_>) -> Option<AuthConfig> {
    let example = "path = \"/run/holdover/token\"";
    let path: Placed<PathBuf> = section.required("path", example, value::path)?;
    let method = AuthMethod::TokenFile { path: path.value };
    let mount = String::new();
    Some(AuthConfig { mount, method })
}

fn mounted(section: &Section<'_>, default: &str) -> String {
    let mount = section.text("mount", mount);
    mount.map_or_else(|| default.to_owned(), |found| found.value)
}

fn role(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("is no name of a role at the primary");
    }
    Ok(text.to_owned())
}

/// A certificate is shown in a TLS handshake: where there is none, there is no login.
fn without_tls(section: &Section<'_>, auth: &AuthConfig, addresses: &[Placed<Address>]) {
    let clear = addresses.iter().find(|one| !one.value.tls);
    if let (AuthMethod::Cert { .. }, Some(clear)) = (&auth.method, clear) {
        let url = &clear.value.url;
        let what = format!("{url} takes no certificate, which method \"cert\" logs in with");
        let remedy = "give https addresses, or another method";
        clear.conflict(section.source(), what, remedy);
    }
}

fn credential_files(section: &Section<'_>, auth: &AuthConfig) -> Vec<CredentialFile> {
    let files = auth.method.files().into_iter();
    let file = |(key, path): (&'static str, &Path)| {
        Some(CredentialFile {
            line: section.line_of(key)?,
            key,
            path: path.to_owned(),
        })
    };
    files.filter_map(file).collect()
}

fn mount(text: &str) -> Result<String, &'static str> {
    let mount = text.trim_matches('/');
    if mount.is_empty() || mount.starts_with("auth/") || RequestPath::parse(mount).is_err() {
        return Err("is no mount of an auth method; write it without auth/, as in \"approle\"");
    }
    Ok(mount.to_owned())
}

fn wait(default_ms: u64) -> Bounded<Duration> {
    Bounded {
        default: Duration::from_millis(default_ms),
        least: Duration::from_millis(10),
        most: Duration::from_secs(60),
    }
}
