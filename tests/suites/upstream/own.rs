//! Holdover's own token: got, renewed, succeeded, kept through everything but the primary's own word.

use std::time::Duration;

use harness::{
    Context, Result,
    bao::{Primary, Transport},
    eventually,
};
use serde_json::json;
use shared::change::CredentialName;

use super::rig::{BOUND, Host, Plan, audited};

fn own(host: &Host) -> std::result::Result<String, String> {
    host.credential(&CredentialName::Own)
        .ok_or_else(|| format!("{:?}", host.upstream.own().snapshot()))
}

#[tokio::test]
async fn a_token_is_renewed_before_it_ends_and_survives_a_restart_without_the_primary() -> Result<()>
{
    let primary = Primary::start(Transport::Plain).await?;
    let role = json!({ "token_ttl": "3s", "token_max_ttl": "1h" });
    let host = Plan::new(&primary)?.role(role).start(&primary).await?;
    let token = host.until("a login", own).await?;
    eventually(BOUND, "three renewals", async || {
        let renewals = audited(&primary).map_err(|failure| failure.to_string())?;
        match renewals
            .iter()
            .filter(|one| one.path == "auth/token/renew-self")
            .count()
        {
            3.. => Ok(()),
            few => Err(few.to_string()),
        }
    })
    .await?;
    assert_eq!(own(&host).ok(), Some(token.clone()));
    primary.kill9()?;
    let host = host.restart().await?;
    assert_eq!(
        own(&host).ok(),
        Some(token),
        "the sealed one is used as it is"
    );
    Ok(())
}

#[tokio::test]
async fn a_token_near_its_end_is_succeeded_in_time_and_lives_out_its_own() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    // Both tokens live for a third of this: long enough to be seen on a machine that is busy for seconds.
    let role = json!({ "token_ttl": "20s", "token_max_ttl": "20s" });
    let host = Plan::new(&primary)?.role(role).start(&primary).await?;
    let first = host.until("a login", own).await?;
    host.until("its successor, with the first one kept", |host| {
        let kept = host.credential(&CredentialName::OwnPrevious);
        match own(host) {
            Ok(token) if token != first && kept.as_ref() == Some(&first) => Ok(()),
            other => Err(format!("{other:?}, kept {kept:?}")),
        }
    })
    .await?;
    let alive = primary
        .api(&first)
        .get("auth/token/lookup-self")
        .await?
        .status;
    assert_eq!(alive, 200, "what hangs on the first lives on");
    host.until("the first to be forgotten", |host| {
        match host.credential(&CredentialName::OwnPrevious) {
            Some(token) if token == first => Err("still there".to_owned()),
            _ => Ok(()),
        }
    })
    .await
}

#[tokio::test]
async fn a_lost_token_is_replaced_and_a_lost_login_makes_no_storm() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    let host = Plan::new(&primary)?.start(&primary).await?;
    let first = host.until("a login", own).await?;
    primary
        .api(&first)
        .post("auth/token/revoke-self", &json!({}))
        .await?
        .ok()?;
    host.upstream.probe(true).await;
    let second = host
        .until("another login", |host| match own(host) {
            Ok(token) if token != first => Ok(token),
            other => Err(format!("{other:?}")),
        })
        .await?;
    // The token and the login at once: every attempt fails now.
    host.write("secret_id", "no-such-secret-id")?;
    primary
        .api(&second)
        .post("auth/token/revoke-self", &json!({}))
        .await?
        .ok()?;
    host.upstream.probe(true).await;
    let before = lines(&primary)?;
    let watch = harness::clock::Stopwatch::start();
    while watch.elapsed() < Duration::from_secs(8) {
        host.upstream.probe(false).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let spent = lines(&primary)? - before;
    assert!(spent <= 30, "{spent} lines of audit in 8 s");
    let status = host.upstream.own().snapshot();
    assert!(status.refused && status.errors >= 2, "{status:?}");
    // It is not stuck, and did not lock itself out: with a good secret id it comes back.
    host.new_secret_id(&primary).await?;
    host.until("a login at last", |host| match own(host) {
        Ok(token) if token != second && !host.upstream.own().is_refused() => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
}

fn lines(primary: &Primary) -> Result<usize> {
    Ok(std::fs::read_to_string(primary.audit_log())?
        .lines()
        .count())
}

#[tokio::test]
async fn a_token_file_is_taken_up_whenever_it_holds_a_good_token() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    let root = primary.root();
    let plan = Plan::new(&primary)?;
    let path = plan.path("token");
    let mut host = plan
        .file(|file| file.unset("primary.auth").token_file(&path))
        .prepare()
        .await?;
    let policy = holdover::upstream::policy::required_policy(&host.config.settings);
    harness::world::policy(&root, "holdover", &policy).await?;
    let mint = async || {
        let body = json!({ "policies": ["holdover"], "no_default_policy": true, "period": "1h" });
        root.post("auth/token/create-orphan", &body)
            .await?
            .text("/auth/client_token")
    };
    let (first, second) = (mint().await?, mint().await?);
    host.write("token", &format!("{first}\n"))?;
    host.run();
    let is = |wanted: String| {
        move |host: &Host| match own(host) {
            Ok(token) if token == wanted => Ok(()),
            other => Err(format!("{other:?} {:?}", host.upstream.own().snapshot())),
        }
    };
    host.until("the first token", is(first.clone())).await?;
    host.write("token", "s.not-a-token-of-this-primary")?;
    host.until("a complaint", |host| {
        match host.upstream.own().snapshot().file_error {
            Some(error) if error.contains("refused") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    assert_eq!(
        own(&host).ok(),
        Some(first),
        "a bad file does not cost the good token"
    );
    assert_eq!(host.upstream.own().snapshot().errors, 0);
    host.write("token", &second)?;
    host.until("the second token", is(second.clone())).await?;
    std::fs::remove_file(&path)?;
    let host = host.restart().await?;
    host.until("the sealed token", is(second)).await?;
    let status = host.upstream.probe(true).await;
    assert!(
        format!("{status:?}").contains("authenticated: true"),
        "{status:?}"
    );
    Ok(())
}

#[tokio::test]
async fn requests_stay_under_the_configured_rate() -> Result<()> {
    let primary = Primary::start(Transport::Plain).await?;
    harness::world::World::seed(&primary, 40).await?;
    let plan = Plan::new(&primary)?
        .mirror("secret/data/shop/*", &[])
        .file(|file| file.set("primary.requests_per_second", 20));
    let before = lines(&primary)?;
    let watch = harness::clock::Stopwatch::start();
    let host = plan.start(&primary).await?;
    host.until("all values", |host| match host.keys().len() {
        83.. => Ok(()),
        few => Err(few.to_string()),
    })
    .await?;
    let spent = (lines(&primary)? - before) / 2;
    let most = watch.elapsed().as_secs_f64() * 20.0 + 20.0;
    assert!(
        (spent as f64) < most,
        "{spent} requests in {:?}",
        watch.elapsed()
    );
    assert!(
        watch.elapsed() > Duration::from_secs(3),
        "{:?}",
        watch.elapsed()
    );
    host.status_of("secret/data/shop/*")
        .map(drop)
        .context("status")
}
