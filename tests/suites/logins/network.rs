//! The network lost at each step of a login: whoever is in charge answers it, and the caller sees latency alone.

use harness::Result;
use harness::host::{FAILOVER, Host, RECOVERY, login_request};
use harness::tap::Wire;

use crate::plan;
use crate::stage::{Role, token};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_does_not_fail_wherever_the_network_is_lost() -> Result<()> {
    let host = plan().wired().start().await?;
    let role = Role::of_orders(&host.primary, "ci").await?;
    role.proven_at(&host).await?;
    for wire in [
        // Before the request could be sent.
        Wire::Cut,
        // With the request sent, and no answer.
        Wire::Silent,
        Wire::Unanswered,
        // In the middle of the answer.
        Wire::Truncated(40),
    ] {
        eprintln!("wire: {wire:?}");
        host.daemon.wait_state("following", RECOVERY).await?;
        host.tap()?.set(wire);
        let (login, ask) = (role.login(), login_request("orders"));
        let (by_role, by_attestation) = tokio::join!(host.ask(&login), host.ask(&ask));
        let (path, _) = host.secret("orders")?;
        for reply in [by_role?, by_attestation?] {
            let token = token(&reply, "replica")?;
            assert!(token.starts_with("ho."));
            assert_eq!(host.read(path, &token).await?.status, 200);
        }
        host.daemon.wait_state("holdover", FAILOVER).await?;
        host.tap()?.set(Wire::Whole);
    }
    Ok(())
}

/// The answer came, and the primary went before the secret id could be verified: then it was not, and the outage says
/// that it does not know. An attested login is stored before its answer leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_durable_when_the_primary_went_is_not_made_up() -> Result<()> {
    let host = plan().start().await?;
    let (role, known) = (
        Role::of_orders(&host.primary, "ci").await?,
        Role::of_orders(&host.primary, "known").await?,
    );
    known.proven_at(&host).await?;
    may_not_verify(&host).await?;
    role.used_at(&host).await?;
    known.used_at(&host).await?;
    let attested = host.login("orders").await?;
    host.daemon.kill9()?;
    host.primary.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_state("holdover", FAILOVER).await?;
    let reply = host.ask(&role.login()).await?;
    assert_eq!(reply.status, 503, "{}", reply.text());
    token(&host.ask(&known.login()).await?, "replica")?;
    let (path, _) = host.secret("orders")?;
    let read = host.read(path, &attested.token).await?;
    assert_eq!((read.status, read.source()), (200, Some("replica")));
    Ok(())
}

/// As if the primary had gone before Holdover could look a secret id up.
async fn may_not_verify(host: &Host) -> Result<()> {
    let rule = "path \"auth/approle/role/+/secret-id/lookup\"";
    assert!(host.policy.contains(rule), "{}", host.policy);
    let policy = host.policy.replace(rule, "path \"nothing\"");
    harness::world::policy(&host.primary.root(), "holdover", &policy).await
}
