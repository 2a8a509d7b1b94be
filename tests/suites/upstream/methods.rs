//! Holdover's own login by a signed token, by a Kubernetes service account and by a client certificate: each login,
//! renewal, login anew with rotated files, refusal without a storm, and an outage in between.

#[path = "methods/cluster.rs"]
mod cluster;
#[path = "methods/jwt.rs"]
mod jwt;

use std::time::Duration;

use harness::{
    Context, Result,
    authority::ClientAuthority,
    bao::{Primary, Transport},
    eventually, world,
};
use holdover::upstream::policy::required_policy;
use serde_json::{Value, json};
use shared::change::CredentialName;

use self::{cluster::Cluster, jwt::Signer};
use super::rig::{BOUND, Host, Plan};

/// A token of this life is renewed every other second.
const SHORT: &str = "3s";
/// A token of this life outlives an outage without a renewal.
const LONG: &str = "10m";

/// Fields of the roles.
fn role(ttl: &str) -> Value {
    json!({
        "token_policies": ["holdover"], "token_no_default_policy": true, "token_ttl": ttl, "token_max_ttl": "1h",
    })
}

fn with(mut role: Value, more: Value) -> Value {
    if let (Some(role), Value::Object(more)) = (role.as_object_mut(), more) {
        role.extend(more);
    }
    role
}

/// A host that logs in with `auth`, under the policy that it needs. Nothing of it runs yet.
async fn host(plan: Plan, primary: &Primary, auth: &[(&str, String)]) -> Result<Host> {
    let plan = plan.file(|file| {
        auth.iter()
            .fold(file.unset("primary.auth"), |file, (key, value)| {
                file.set(&format!("primary.auth.{key}"), value.clone())
            })
    });
    let host = plan.prepare().await?;
    let policy = required_policy(&host.config.settings);
    world::policy(&primary.root(), "holdover", &policy).await?;
    Ok(host)
}

fn own(host: &Host) -> std::result::Result<String, String> {
    host.credential(&CredentialName::Own)
        .ok_or_else(|| format!("{:?}", host.upstream.own().snapshot()))
}

/// Another token than `former`, which the primary accepts.
async fn another(host: &Host, former: &str) -> Result<String> {
    host.until("another token", |host| match own(host) {
        Ok(token) if token != former => Ok(token),
        other => Err(format!("{other:?} {:?}", host.upstream.own().snapshot())),
    })
    .await
}

/// How often this path was asked for, by the primary's audit log, whatever came of it.
fn asked(primary: &Primary, path: &str) -> Result<usize> {
    let text = std::fs::read_to_string(primary.audit_log()).context("audit log")?;
    let entries = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    let is = |entry: &Value| {
        entry["type"] == "request" && entry.pointer("/request/path") == Some(&json!(path))
    };
    Ok(entries.filter(is).count())
}

/// The token is kept alive, and nothing is asked for while it can be.
async fn is_renewed(host: &Host, primary: &Primary, login: &str) -> Result<String> {
    let token = host.until("a login", own).await?;
    eventually(BOUND, "renewals", async || {
        match asked(primary, "auth/token/renew-self") {
            Ok(2..) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    assert_eq!(own(host).ok(), Some(token.clone()));
    assert_eq!(asked(primary, login)?, 1);
    Ok(token)
}

/// Neither the end of the primary nor that of the daemon costs the token.
async fn survives_an_outage(host: Host, primary: &Primary, token: &str) -> Result<Host> {
    primary.kill9()?;
    let failed = host.upstream.probe(true).await;
    assert!(format!("{failed:?}").contains("Failed"), "{failed:?}");
    let host = host.restart().await?;
    assert_eq!(own(&host).ok().as_deref(), Some(token));
    primary.start_again().await?;
    eventually(BOUND, "the token to be good again", async || {
        let probed = format!("{:?}", host.upstream.probe(true).await);
        match probed.contains("authenticated: true") {
            true => Ok(()),
            false => Err(probed),
        }
    })
    .await?;
    assert_eq!(own(&host).ok().as_deref(), Some(token));
    Ok(host)
}

/// The token is dead and the login with it: a few attempts, then none until the files change.
async fn is_held_back(host: &Host, primary: &Primary, login: &str) -> Result<()> {
    let body = json!({ "accessor": accessor(host)? });
    primary
        .root()
        .post("auth/token/revoke-accessor", &body)
        .await?
        .ok()?;
    host.upstream.probe(true).await;
    host.until("two refusals", |host| {
        match host.upstream.own().snapshot().last_error {
            Some(error) if error.contains("refused twice") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let before = asked(primary, login)?;
    let watch = harness::clock::Stopwatch::start();
    while watch.elapsed() < Duration::from_secs(4) {
        host.upstream.probe(false).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(asked(primary, login)?, before, "a storm of refused logins");
    let status = host.upstream.own().snapshot();
    assert!(status.refused, "{status:?}");
    Ok(())
}

/// Another token in place of one that was revoked.
async fn lost(host: &Host, primary: &Primary, token: &str) -> Result<String> {
    let body = json!({ "accessor": accessor(host)? });
    let root = primary.root();
    root.post("auth/token/revoke-accessor", &body).await?.ok()?;
    host.upstream.probe(true).await;
    another(host, token).await
}

fn accessor(host: &Host) -> Result<String> {
    let held = host.local.view.credential(&CredentialName::Own);
    Ok(held.context("no token")?.accessor.to_string())
}

#[tokio::test]
async fn a_signed_token_in_a_file_logs_in_and_is_read_anew_each_time() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    let root = primary.root();
    let (first, second) = (Signer::make()?, Signer::make()?);
    root.write("sys/auth/site/jwt", &json!({ "type": "jwt" }))
        .await?;
    let trust = async |signer: &Signer| {
        let config = json!({ "jwt_validation_pubkeys": [signer.public_key()] });
        root.write("auth/site/jwt/config", &config).await
    };
    trust(&first).await?;
    let give = async |ttl: &str| {
        let more = json!({ "role_type": "jwt", "bound_audiences": ["bao"], "user_claim": "sub" });
        root.write("auth/site/jwt/role/holdover", &with(role(ttl), more))
            .await
    };
    give(SHORT).await?;
    let plan = Plan::new(&primary)?;
    let auth = [
        ("method", "jwt".to_owned()),
        ("mount", "site/jwt".to_owned()),
        ("role", "holdover".to_owned()),
        ("jwt_file", plan.path("jwt").to_string_lossy().into_owned()),
    ];
    let mut host = host(plan, &primary, &auth).await?;
    let claims = json!({ "sub": "host-1", "aud": "bao", "iat": jwt::EARLY, "exp": jwt::LATE });
    host.run();
    host.until("a complaint about the file", |host| {
        match host.upstream.own().snapshot().last_error {
            Some(error) if error.contains("jwt") && error.contains("No such file") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    host.write("jwt", &first.sign(&claims)?)?;
    let login = "auth/site/jwt/login";
    let token = is_renewed(&host, &primary, login).await?;
    // The key that signed the first is trusted no longer: only the rotated file gets another token.
    trust(&second).await?;
    host.write("jwt", &second.sign(&claims)?)?;
    give(LONG).await?;
    let token = lost(&host, &primary, &token).await?;
    let host = survives_an_outage(host, &primary, &token).await?;
    host.write("jwt", &first.sign(&claims)?)?;
    is_held_back(&host, &primary, login).await?;
    let status = format!("{:?}", host.upstream.own().snapshot());
    assert!(!status.contains("eyJ"), "a token in an error: {status}");
    host.write("jwt", &second.sign(&claims)?)?;
    another(&host, &token).await.map(drop)
}

#[tokio::test]
async fn a_service_account_logs_in_with_its_projected_token() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    let root = primary.root();
    let cluster = Cluster::start("default", "holdover").await?;
    root.write("sys/auth/kubernetes", &json!({ "type": "kubernetes" }))
        .await?;
    let config = json!({
        "kubernetes_host": cluster.address(),
        "kubernetes_ca_cert": ClientAuthority::make()?.ca,
        "disable_local_ca_jwt": true,
    });
    root.write("auth/kubernetes/config", &config).await?;
    let give = async |ttl: &str| {
        let more = json!({
            "bound_service_account_names": ["holdover"],
            "bound_service_account_namespaces": ["default"],
        });
        root.write("auth/kubernetes/role/holdover", &with(role(ttl), more))
            .await
    };
    give(SHORT).await?;
    let plan = Plan::new(&primary)?;
    let auth = [
        ("method", "kubernetes".to_owned()),
        ("role", "holdover".to_owned()),
        ("jwt_file", plan.path("jwt").to_string_lossy().into_owned()),
    ];
    let mut host = host(plan, &primary, &auth).await?;
    let (first, second) = (cluster.token()?, cluster.token()?);
    host.write("jwt", &first)?;
    host.run();
    let login = "auth/kubernetes/login";
    let token = is_renewed(&host, &primary, login).await?;
    assert_eq!(cluster.reviewed().last(), Some(&first));
    // As the kubelet does it: another token in place of one that is near its end.
    host.write("jwt", &second)?;
    give(LONG).await?;
    let token = lost(&host, &primary, &token).await?;
    assert_eq!(cluster.reviewed().last(), Some(&second));
    let host = survives_an_outage(host, &primary, &token).await?;
    cluster.revoke_all();
    is_held_back(&host, &primary, login).await
}

#[tokio::test]
async fn a_client_certificate_logs_in_and_a_changed_one_logs_in_anew() -> Result<()> {
    let primary = Primary::start(Transport::Tls).await?;
    let root = primary.root();
    let authority = ClientAuthority::make()?;
    root.write("sys/auth/cert", &json!({ "type": "cert" }))
        .await?;
    let give = async |ttl: &str| {
        let more = json!({ "certificate": authority.ca, "allowed_dns_sans": ["host-1"] });
        root.write("auth/cert/certs/holdover", &with(role(ttl), more))
            .await
    };
    give(SHORT).await?;
    let mut host = certified(&primary, &[("name", "holdover".to_owned())]).await?;
    host.run();
    host.until("a complaint about the file", |host| {
        match host.upstream.own().snapshot().last_error {
            Some(error) if error.contains("client.pem") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    show(&host, &authority, "host-1")?;
    let login = "auth/cert/login";
    let token = is_renewed(&host, &primary, login).await?;
    // The former token could not be renewed over connections with the new certificate.
    show(&host, &authority, "host-1")?;
    let token = another(&host, &token).await?;
    let before = asked(&primary, "auth/token/renew-self")?;
    eventually(
        BOUND,
        "renewals with the new certificate",
        async || match asked(&primary, "auth/token/renew-self") {
            Ok(now) if now >= before + 2 => Ok(()),
            other => Err(format!("{other:?} after {before}")),
        },
    )
    .await?;
    assert_eq!(own(&host).ok(), Some(token.clone()));
    give(LONG).await?;
    show(&host, &authority, "host-1")?;
    let token = another(&host, &token).await?;
    let host = survives_an_outage(host, &primary, &token).await?;
    // A good certificate of somebody else.
    show(&host, &authority, "host-2")?;
    is_held_back(&host, &primary, login).await?;
    show(&host, &authority, "host-1")?;
    another(&host, &token).await.map(drop)
}

#[tokio::test]
async fn a_certificate_that_changed_while_the_daemon_was_down_logs_in_anew() -> Result<()> {
    let primary = Primary::start(Transport::Tls).await?;
    let root = primary.root();
    let authority = ClientAuthority::make()?;
    root.write("sys/auth/cert", &json!({ "type": "cert" }))
        .await?;
    let more = json!({ "certificate": authority.ca });
    root.write("auth/cert/certs/holdover", &with(role("9s"), more))
        .await?;
    let mut host = certified(&primary, &[]).await?;
    show(&host, &authority, "host-1")?;
    host.run();
    let token = host.until("a login", own).await?;
    show(&host, &authority, "host-1")?;
    let host = host.restart().await?;
    another(&host, &token).await?;
    // The renewal that failed was answered by a login, before the former token ended.
    let former = host.credential(&CredentialName::OwnPrevious);
    assert_eq!(former, Some(token));
    Ok(())
}

/// A host that logs in with the certificate in `client.pem`, which is not there yet.
async fn certified(primary: &Primary, more: &[(&str, String)]) -> Result<Host> {
    let plan = Plan::new(primary)?;
    let path = |name: &str| plan.path(name).to_string_lossy().into_owned();
    let mut auth = vec![
        ("method", "cert".to_owned()),
        ("cert_file", path("client.pem")),
        ("key_file", path("client.key")),
    ];
    auth.extend_from_slice(more);
    host(plan, primary, &auth).await
}

/// Gives the host another certificate for `name`.
fn show(host: &Host, authority: &ClientAuthority, name: &str) -> Result<()> {
    let (certificate, key) = authority.issue(name)?;
    host.write("client.key", &key)?;
    host.write("client.pem", &certificate)
}
