//! Probes of a real primary in every condition.

use std::time::Duration;

use harness::{
    Context, Result,
    bao::{Primary, Transport},
};
use holdover::{
    link::Unavailable,
    upstream::{ProbeOutcome, UpstreamError},
};
use serde_json::json;
use shared::change::CredentialName;

use super::rig::{BOUND, Host, Plan};

async fn host(primary: &Primary) -> Result<Host> {
    let host = Plan::new(primary)?.start(primary).await?;
    harness::eventually(BOUND, "a login", async || {
        match host.upstream.probe(true).await {
            ProbeOutcome::Good {
                authenticated: true,
                ..
            } => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    Ok(host)
}

#[tokio::test]
async fn a_probe_tells_what_is_wrong_and_ends_in_time() -> Result<()> {
    let primary = Primary::start(Transport::Tls).await?;
    let host = host(&primary).await?;
    let ProbeOutcome::Good {
        authenticated,
        server_time,
    } = host.upstream.probe(false).await
    else {
        panic!("not good");
    };
    assert!(!authenticated && server_time.is_some());
    primary.seal().await?;
    let sealed = host.upstream.probe(false).await;
    assert!(
        matches!(
            &sealed,
            ProbeOutcome::Failed(Unavailable::Status { status: 503, .. })
        ),
        "{sealed:?}"
    );
    primary.unseal().await?;
    primary.wait_active(BOUND).await?;
    primary.stop()?;
    let watch = harness::clock::Stopwatch::start();
    let hung = host.upstream.probe(true).await;
    assert!(
        matches!(hung, ProbeOutcome::Failed(Unavailable::Timeout)),
        "{hung:?}"
    );
    assert!(
        watch.elapsed() < Duration::from_millis(1500),
        "{:?}",
        watch.elapsed()
    );
    primary.cont()?;
    primary.kill9()?;
    let dead = host.upstream.probe(true).await;
    assert!(
        matches!(&dead, ProbeOutcome::Failed(Unavailable::Connect(_))),
        "{dead:?}"
    );
    // An answer from just before the end may still have been on its way through.
    host.until("an unhealthy address", |host| {
        match host.upstream.addresses().all()[0].is_healthy() {
            false => Ok(()),
            true => Err("healthy".to_owned()),
        }
    })
    .await?;
    primary.start_again().await?;
    let back = host.upstream.probe(true).await;
    assert!(
        matches!(
            back,
            ProbeOutcome::Good {
                authenticated: true,
                ..
            }
        ),
        "{back:?}"
    );
    assert!(
        host.upstream.addresses().all()[0]
            .snapshot()
            .latency
            .is_some()
    );
    Ok(())
}

#[tokio::test]
async fn a_server_that_cannot_audit_is_healthy_and_does_not_serve() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    let host = host(&primary).await?;
    // Where the audit device's file should be there is a folder.
    std::fs::remove_file(primary.audit_log())?;
    std::fs::create_dir(primary.audit_log())?;
    primary.hup()?;
    harness::eventually(BOUND, "audit to fail", async || {
        match host.upstream.probe(true).await {
            ProbeOutcome::Failed(Unavailable::Status { status: 500, .. }) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let health = host.upstream.probe(false).await;
    assert!(matches!(health, ProbeOutcome::Good { .. }), "{health:?}");
    Ok(())
}

#[tokio::test]
async fn a_refused_credential_is_a_decision() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    let host = host(&primary).await?;
    host.write("secret_id", "no-such-secret-id")?;
    // It is used before it is stored.
    let own = host
        .until("the stored token", |host| {
            let own = host.local.view.credential(&CredentialName::Own);
            own.ok_or("none yet".to_owned())
        })
        .await?;
    let body = json!({ "accessor": own.accessor.as_str() });
    primary
        .root()
        .write("auth/token/revoke-accessor", &body)
        .await?;
    assert_eq!(host.upstream.probe(true).await, ProbeOutcome::Refused);
    assert!(host.upstream.own().is_refused());
    Ok(())
}

#[tokio::test]
async fn another_cluster_at_the_address_gets_no_token_and_is_told() -> Result<()> {
    let (ours, theirs) = (
        Primary::start(Transport::Plain).await?,
        Primary::start(Transport::Plain).await?,
    );
    let plan = Plan::new(&ours)?;
    let host = plan.start(&ours).await?;
    host.until("the stored cluster", |host| {
        match &host.local.view.authority().cluster {
            Some(_) => Ok(()),
            None => Err("none yet".to_owned()),
        }
    })
    .await?;
    // The same replica, led to another cluster.
    let moved = host.moved_to(&theirs).await?;
    let found = moved.upstream.probe(true).await;
    assert!(matches!(found, ProbeOutcome::Foreign { .. }), "{found:?}");
    let asked = moved
        .upstream
        .ask_now(&holdover::upstream::Request::read("auth/token/lookup-self"))
        .await;
    assert!(matches!(asked, Err(UpstreamError::ForeignCluster { .. })));
    let text = std::fs::read_to_string(theirs.audit_log())?;
    assert!(
        !text.contains("lookup-self"),
        "the token reached another cluster"
    );
    Ok(())
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_an_outage_until_the_file_has_it() -> Result<()> {
    let primary = Primary::start(Transport::Tls).await?;
    let other = harness::authority::Authority::make()?;
    let plan = Plan::new(&primary)?;
    let ca = plan.path("ca.pem");
    std::fs::write(&ca, &other.ca)?;
    let text = ca.to_string_lossy().into_owned();
    let host = plan
        .file(|file| file.set("primary.ca_file", text))
        .prepare()
        .await?;
    let refused = host.upstream.probe(false).await;
    assert!(
        matches!(&refused, ProbeOutcome::Failed(Unavailable::Tls(_))),
        "{refused:?}"
    );
    std::fs::copy(primary.ca_file(), &ca)?;
    // As a task of the daemon does each second.
    host.upstream.link().reload_files().await;
    let good = host.upstream.probe(false).await;
    assert!(matches!(good, ProbeOutcome::Good { .. }), "{good:?}");
    Ok(())
}

#[tokio::test]
async fn a_dead_first_address_costs_nothing_and_a_standby_is_followed_to_configured_ones_only()
-> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    let standby = Standby::start(&primary).await?;
    let nobody = format!(
        "http://127.0.0.1:{}",
        harness::port::Port::reserve()?.number()
    );
    let addresses = vec![nobody, standby.address.clone(), primary.address()];
    let plan = Plan::new(&primary)?.file(|file| file.set("primary.addresses", addresses));
    let host = plan.start(&primary).await?;
    harness::eventually(BOUND, "a login", async || {
        match host.upstream.probe(true).await {
            ProbeOutcome::Good {
                authenticated: true,
                ..
            } => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    assert!(!host.upstream.addresses().all()[0].is_healthy());
    // A standby of which nothing shows that it has the active node answer comes after that one.
    let link = host.upstream.link().clone();
    let watching = tokio::spawn(link.keep_watch(
        || {},
        Duration::from_millis(200),
        Duration::from_millis(500),
    ));
    harness::eventually(BOUND, "the standby to be seen behind", async || {
        let addresses = host.upstream.addresses();
        let first = addresses.to_try().next().unwrap().address.url.clone();
        match addresses.all()[1].snapshot().behind && first == primary.address() {
            true => Ok(()),
            false => Err(format!("{:?}", addresses.snapshots())),
        }
    })
    .await?;
    watching.abort();
    let before = standby.redirected();
    let asked = host
        .upstream
        .ask_now(&holdover::upstream::Request::read("auth/token/lookup-self"))
        .await?;
    assert!(asked.shown().is_ok());
    assert_eq!(
        standby.redirected(),
        before,
        "the active node is asked itself"
    );
    // The same standby, leading somewhere that nobody configured. The host before it may still have a request under
    // way: what must not arrive is a login, and that one has logged in.
    drop(host);
    let alone = vec![standby.address.clone()];
    let plan = Plan::new(&primary)?.file(|file| file.set("primary.addresses", alone));
    let before = logins(&primary)?;
    assert!(before > 0, "the audit log names no login");
    let host = plan.start(&primary).await?;
    let lost = host.upstream.probe(false).await;
    assert!(matches!(lost, ProbeOutcome::Good { .. }), "{lost:?}");
    host.until("a login that fails", |host| {
        match host.upstream.own().snapshot().last_error {
            Some(error) if error.contains("307") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    assert_eq!(logins(&primary)?, before);
    Ok(())
}

/// How many logins the primary has audited, of whatever outcome.
fn logins(primary: &Primary) -> Result<usize> {
    let text = std::fs::read_to_string(primary.audit_log()).context("audit log")?;
    Ok(text.matches(r#""path":"auth/approle/login""#).count())
}

/// A node that answers for its health and sends everybody else to the active one.
struct Standby {
    address: String,
    redirected: std::sync::Arc<std::sync::atomic::AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Standby {
    async fn start(active: &Primary) -> Result<Standby> {
        let health = active.root().get("sys/health").await?.body.to_string();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let redirected: std::sync::Arc<std::sync::atomic::AtomicUsize> = std::sync::Arc::default();
        let (active, count) = (active.address(), std::sync::Arc::clone(&redirected));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = answer(stream, active.clone(), health.clone(), count.clone());
                tokio::spawn(answer);
            }
        });
        Ok(Standby {
            address,
            redirected,
            task,
        })
    }

    fn redirected(&self) -> usize {
        self.redirected.load(std::sync::atomic::Ordering::SeqCst)
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers the requests of a connection.
async fn answer(
    mut stream: tokio::net::TcpStream,
    active: String,
    health: String,
    count: std::sync::Arc<std::sync::atomic::AtomicUsize>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    loop {
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let target = head.split(' ').nth(1).unwrap_or("/").to_owned();
        let answer = if target == "/v1/sys/health" {
            format!(
                "HTTP/1.1 429 Too Many Requests\r\ncontent-length: {}\r\n\r\n{health}",
                health.len()
            )
        } else {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            format!(
                "HTTP/1.1 307 Temporary Redirect\r\nlocation: {active}{target}\r\ncontent-length: 0\r\n\r\n"
            )
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
