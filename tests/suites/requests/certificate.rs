//! Holdover's own client certificate: it logs in with it, and no client does.

use std::path::Path;
use std::time::Duration;

use harness::Result;
use harness::authority::ClientAuthority;
use harness::host::Host;
use serde_json::json;

use super::plan;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_forward_of_a_client_shows_the_certificate_that_holdover_logs_in_with() -> Result<()> {
    let mut host = plan().prepare().await?;
    let authority = ClientAuthority::make()?;
    let root = host.primary.root();
    root.write("sys/auth/cert", &json!({ "type": "cert" }))
        .await?;
    let role = json!({
        "certificate": authority.ca,
        "token_policies": ["holdover"],
        "token_no_default_policy": true,
        "token_period": "1h",
    });
    root.write("auth/cert/certs/holdover", &role).await?;
    let missing = host.daemon.folder().join("etc/client.pem");
    log_in_with(&host, &missing, &missing)?;
    let bound = Duration::from_secs(10);
    let checked = host
        .daemon
        .cli(&["config", "check"], bound)
        .await?
        .success()?;
    for key in ["cert_file", "key_file"] {
        let told = checked.lines().find(|line| line.contains(key));
        assert!(
            told.is_some_and(
                |line| line.starts_with("finding: line ") && line.contains("client.pem")
            ),
            "{checked}"
        );
    }
    let (certificate, key) = authority.issue("host-1")?;
    let certificate = host.daemon.write_secret("etc/client.pem", &certificate)?;
    let key = host.daemon.write_secret("etc/client.key", &key)?;
    log_in_with(&host, &certificate, &key)?;
    let checked = host.daemon.cli(&["config", "check"], bound).await?;
    assert!(!checked.success()?.contains("primary.auth"));
    // Ready by a login with the certificate, the only one that there is.
    host.start().await?;
    let refused = host.write("auth/cert/login", "", &json!({})).await?;
    assert_eq!((refused.status, refused.source()), (400, Some("primary")));
    assert!(
        refused.text().contains("no client certificate found"),
        "{}",
        refused.text()
    );
    Ok(())
}

fn log_in_with(host: &Host, certificate: &Path, key: &Path) -> Result<()> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    host.reconfigure(|config| {
        config
            .unset("primary.auth")
            .set("primary.auth.method", "cert")
            .set("primary.auth.cert_file", text(certificate))
            .set("primary.auth.key_file", text(key))
    })
}
