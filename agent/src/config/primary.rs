//! `[primary]` and `[primary.auth]`.

use std::{path::PathBuf, time::Duration};

use shared::name::{Namespace, RequestPath};

use crate::config::{
    Address, Auth, AuthMethod, Primary,
    error::Problem,
    file::{Bounded, Found, Section},
    value,
};

/// What the table says, as far as it could be read.
pub(super) struct Draft {
    pub(super) primary: Option<Primary>,
    pub(super) read_deadline: Duration,
    pub(super) token_max_age: Duration,
    pub(super) approle_mounts: Vec<String>,
}

pub(super) fn read(section: &Section<'_>) -> Draft {
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
    let auth = auth(&section.table("auth"));
    section.finish();
    let primary = auth.map(|auth| Primary {
        addresses: addresses.into_iter().map(|one| one.value).collect(),
        ca_file: ca_file.map(|found| found.value),
        namespace: namespace.map(|found| found.value).unwrap_or_default(),
        connect_timeout: connect_timeout.value,
        read_deadline,
        requests_per_second: requests_per_second.value,
        token_check_interval: token_check_interval.value,
        auth,
    });
    Draft {
        primary,
        read_deadline,
        token_max_age: token_max_age.value,
        approle_mounts: approle_mounts.map_or_else(
            || vec!["approle".to_owned()],
            |found| found.into_iter().map(|one| one.value).collect(),
        ),
    }
}

fn addresses(section: &Section<'_>) -> Vec<Found<Address>> {
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

fn auth(section: &Section<'_>) -> Option<Auth> {
    let method = section.text("method", |text| Ok(text.to_owned()));
    let name = method.as_ref().map_or("approle", |found| &found.value);
    let read = match name {
        "approle" => approle(section),
        "token_file" => token_file(section),
        other => {
            if let Some(found) = &method {
                refuse_method(section, other, found);
            }
            return None;
        }
    };
    section.finish();
    read
}

fn approle(section: &Section<'_>) -> Option<Auth> {
    let role = "role_id_file = \"/etc/holdover/role_id\"";
    let secret = "secret_id_file = \"/etc/holdover/secret_id\"";
    let mount = section.text("mount", mount);
    let role_id_file = section.required("role_id_file", role, value::path);
    let secret_id_file = section.required("secret_id_file", secret, value::path);
    Some(Auth {
        mount: mount.map_or_else(|| "approle".to_owned(), |found| found.value),
        method: AuthMethod::AppRole {
            role_id_file: role_id_file?.value,
            secret_id_file: secret_id_file?.value,
        },
    })
}

fn token_file(section: &Section<'_>) -> Option<Auth> {
    let example = "path = \"/run/holdover/token\"";
    let path: Found<PathBuf> = section.required("path", example, value::path)?;
    let method = AuthMethod::TokenFile { path: path.value };
    let mount = String::new();
    Some(Auth { mount, method })
}

fn refuse_method(section: &Section<'_>, name: &str, found: &Found<String>) {
    let problem = if matches!(name, "jwt" | "kubernetes" | "cert") {
        Problem::Unbuilt {
            feature: "login by jwt, kubernetes or cert",
            remedy: "use approle or token_file",
        }
    } else {
        Problem::Value {
            found: name.to_owned(),
            why: "is no login method; give approle or token_file".to_owned(),
        }
    };
    section
        .source()
        .error(found.line, found.key.clone(), problem);
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
