//! Answers that are lost while everything else of the primary is well: what brings something into being is asked for once, and
//! what comes of it when nobody waits any more is revoked.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::bao::DatabaseRole;
use harness::client::raw::{Ask, Reply};
use harness::daemon::config::Workload;
use harness::host::{Host, Plan, RECOVERY, login_request, own_uid};
use harness::tap::Loss;
use harness::{Context, Failure, Result, eventually, world};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::HOLDOVER;

/// How long anything may take that no outage is waited for.
const BOUND: Duration = Duration::from_secs(20);

/// The path by which Holdover mints for an attested login.
const MINT: &str = "/v1/auth/token/create/orders ";
const USERPASS: &str = "/v1/auth/userpass/login/anna";
const CREATION: &str = "/v1/auth/token/create ";

/// A host whose own user is the orders workload, at a primary that is heard over plain HTTP. Nothing but what a test asks for
/// makes a token there.
async fn start() -> Result<Host> {
    let orders = Workload::new("orders", "orders").uid(own_uid());
    let host = Plan::new(HOLDOVER)
        .workload(orders.issues("15m", "2h"))
        .tapped()
        .set("primary.read_deadline", "500ms")
        .set("failover.issue_deadline", "4500ms")
        .start()
        .await?;
    let root = host.primary.root();
    let maker = r#"path "auth/token/create" { capabilities = ["update"] }"#;
    world::policy(&root, "maker", maker).await?;
    root.write("sys/auth/userpass", &json!({ "type": "userpass" }))
        .await?;
    let anna = json!({ "password": "secret", "token_policies": ["orders"] });
    root.write("auth/userpass/users/anna", &anna).await?;
    Ok(host)
}

/// The accessors of all tokens at the primary.
async fn accessors(host: &Host) -> Result<BTreeSet<String>> {
    let listed = host.primary.root().list("auth/token/accessors").await?;
    let listed = listed.data()?;
    let keys = listed["keys"].as_array().context("no keys")?;
    Ok(keys.iter().map(Value::to_string).collect())
}

/// How many tokens there are that were not there `before`.
async fn fresh(host: &Host, before: &BTreeSet<String>) -> Result<usize> {
    Ok(accessors(host).await?.difference(before).count())
}

/// Waits until there are so many more tokens than `before`.
async fn until_fresh(host: &Host, before: &BTreeSet<String>, wanted: usize) -> Result<()> {
    let what = format!("{wanted} more tokens");
    let waited = eventually(BOUND, &what, async || match fresh(host, before).await {
        Ok(found) if found == wanted => Ok(()),
        Ok(found) => Err(Failure::new(format!("{found} more"))),
        Err(failure) => Err(failure),
    });
    waited.await.map_err(|failure| host.daemon.failure(failure))
}

fn userpass() -> Ask {
    Ask::post(USERPASS, &json!({ "password": "secret" }))
}

/// A creation with a parent of its own.
async fn creation(host: &Host) -> Result<Ask> {
    let parent = json!({ "policies": ["maker", "orders"], "ttl": "1h" });
    let parent = host
        .primary
        .root()
        .post("auth/token/create", &parent)
        .await?;
    let body = json!({ "policies": ["orders"], "ttl": "1h" });
    Ask::post("/v1/auth/token/create", &body).token(&parent.text("/auth/client_token")?)
}

fn assert_unknown(reply: &Reply) {
    let outcome = (reply.status, reply.source());
    assert_eq!(outcome, (504, Some("replica")), "{}", reply.text());
    assert!(reply.text().contains("unknown"), "{}", reply.text());
}

/// Has everything that makes a token asked for at once, and answered as unknown; how many tokens that makes at the most.
async fn ask_for_all(host: &Host) -> Result<usize> {
    let creation = creation(host).await?;
    let wrapped = creation.clone().header("X-Vault-Wrap-TTL", "60")?;
    let (attested, userpass) = (login_request("orders"), userpass());
    let (attested, userpass, created, wrapped) = tokio::join!(
        host.ask(&attested),
        host.ask(&userpass),
        host.ask(&creation),
        host.ask(&wrapped),
    );
    for reply in [attested?, userpass?, created?, wrapped?] {
        assert_unknown(&reply);
    }
    // The wrapping is a token, too.
    Ok(5)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_login_is_one_token_though_its_answer_is_lost() -> Result<()> {
    let host = start().await?;
    let tap = host.tap()?;
    let sent = |part| tap.times_sent(part);
    let (before, minted) = (accessors(&host).await?, sent(MINT));
    for part in [MINT, USERPASS, CREATION] {
        tap.lose(part, Loss::Closed);
    }
    let tokens = ask_for_all(&host).await?;
    // The parent of what is created is not through Holdover.
    assert_eq!(fresh(&host, &before).await?, tokens + 1);
    assert_eq!(
        (sent(MINT) - minted, sent(USERPASS), sent(CREATION)),
        (1, 1, 2)
    );
    // All the time the primary was well.
    let status = host.daemon.status().await?;
    assert_eq!(
        (&status["state"], &status["last_outage"]),
        (&"following".into(), &Value::Null)
    );
    tap.lose_nothing();
    assert_eq!(host.ask(&userpass()).await?.source(), Some("primary"));
    assert_eq!(host.ask(&login_request("orders")).await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_whose_answer_was_lost_has_spent_one_use_of_its_secret_id() -> Result<()> {
    let host = start().await?;
    let (root, tap) = (host.primary.root(), host.tap()?);
    let role = "auth/approle/role/three";
    root.write(role, &json!({ "token_policies": ["orders"] }))
        .await?;
    let role_id = root.get(&format!("{role}/role-id")).await?;
    let uses = json!({ "num_uses": 3 });
    let secret_id = root.post(&format!("{role}/secret-id"), &uses).await?;
    let secret_id = secret_id.text("/data/secret_id")?;
    let body = json!({ "role_id": role_id.text("/data/role_id")?, "secret_id": secret_id });
    let login = Ask::post("/v1/auth/approle/login", &body);
    for (loss, left) in [(Loss::Closed, 2), (Loss::Held, 1)] {
        tap.lose("/v1/auth/approle/login", loss);
        assert_unknown(&host.ask(&login).await?);
        tap.lose_nothing();
        let asked = json!({ "secret_id": secret_id });
        let looked = root
            .post(&format!("{role}/secret-id/lookup"), &asked)
            .await?;
        assert_eq!(looked.data()?["secret_id_num_uses"], left);
    }
    // What is left is the client's to use.
    assert_eq!(host.ask(&login).await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_comes_when_nobody_waits_any_more_is_revoked() -> Result<()> {
    let host = start().await?;
    let (tap, before) = (host.tap()?, accessors(&host).await?);
    for part in [MINT, USERPASS, CREATION] {
        tap.lose(part, Loss::Held);
    }
    let tokens = ask_for_all(&host).await?;
    assert_eq!(fresh(&host, &before).await?, tokens + 1);
    tap.lose_nothing();
    until_fresh(&host, &before, 1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_whose_client_has_gone_is_revoked_and_one_that_it_got_is_not() -> Result<()> {
    let host = start().await?;
    let tap = host.tap()?;
    let before = accessors(&host).await?;
    for (request, part) in [
        (raw("/v1/auth/holdover/login", r#"{"role":"orders"}"#), MINT),
        (raw(USERPASS, r#"{"password":"secret"}"#), USERPASS),
    ] {
        tap.lose(part, Loss::Held);
        let sent = tap.times_sent(part);
        let mut client = tokio::net::UnixStream::connect(host.daemon.socket()).await?;
        client.write_all(request.as_bytes()).await?;
        eventually(BOUND, "the request at the primary", async || {
            match tap.times_sent(part) > sent {
                true => Ok(()),
                false => Err("not there"),
            }
        })
        .await?;
        drop(client);
        until_fresh(&host, &before, 1).await?;
        tap.lose_nothing();
        until_fresh(&host, &before, 0).await?;
    }
    // Each connection is closed right after its answer.
    let mut got = Vec::new();
    for _ in 0..20 {
        got.push(host.login("orders").await?.token);
    }
    assert_eq!(fresh(&host, &before).await?, 20);
    let (path, _) = host.secret("orders")?;
    for token in got {
        assert_eq!(host.read(path, &token).await?.status, 200);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_got_is_revoked_though_holdover_dies_before_it_could_be_told() -> Result<()> {
    let host = start().await?;
    let tap = host.tap()?;
    let before = accessors(&host).await?;
    tap.lose(USERPASS, Loss::Held);
    assert_unknown(&host.ask(&userpass()).await?);
    // The policy that allows it is gone for now.
    let rule = r#"path "auth/token/revoke-accessor""#;
    assert!(host.policy.contains(rule), "{}", host.policy);
    let without = host.policy.replace(rule, r#"path "nothing""#);
    world::policy(&host.primary.root(), "holdover", &without).await?;
    let tried = tap.times_sent("revoke-accessor");
    tap.lose_nothing();
    eventually(BOUND, "an attempt to revoke it", async || {
        match tap.times_sent("revoke-accessor") > tried {
            true => Ok(()),
            false => Err("none yet"),
        }
    })
    .await?;
    assert_eq!(fresh(&host, &before).await?, 1);
    host.daemon.kill9()?;
    world::policy(&host.primary.root(), "holdover", &host.policy).await?;
    host.daemon.start()?;
    host.daemon.wait_state("following", RECOVERY).await?;
    let what = "the token to be revoked";
    let waited = eventually(BOUND, what, async || {
        let now = accessors(&host).await?;
        // Holdover has logged in anew, and may have minted its standing token again.
        let lookups = now.difference(&before).cloned().collect::<Vec<_>>();
        for accessor in lookups {
            let body = json!({ "accessor": accessor.trim_matches('"') });
            let root = host.primary.root();
            let looked = root.post("auth/token/lookup-accessor", &body).await?;
            if looked.data()?["path"] == "auth/userpass/login/anna" {
                return Err(Failure::new("it is there"));
            }
        }
        Ok(())
    });
    waited.await.map_err(|failure| host.daemon.failure(failure))
}

/// The leases of a role of the database.
async fn leases(host: &Host, role: &str) -> Result<usize> {
    let path = format!("sys/leases/lookup/database/creds/{role}");
    let listed = host.primary.root().list(&path).await?;
    if listed.status == 404 {
        return Ok(0);
    }
    let keys = listed.data()?;
    Ok(keys["keys"].as_array().context("no keys")?.len())
}

async fn until_leases(host: &Host, role: &str, wanted: usize) -> Result<()> {
    let what = format!("{wanted} leases of {role}");
    let waited = eventually(BOUND, &what, async || match leases(host, role).await {
        Ok(found) if found == wanted => Ok(()),
        Ok(found) => Err(Failure::new(format!("{found} of them"))),
        Err(failure) => Err(failure),
    });
    waited.await.map_err(|failure| host.daemon.failure(failure))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_nobody_got_is_one_and_is_revoked_if_it_comes_late() -> Result<()> {
    let hour = Duration::from_secs(3600);
    let mut host = Plan::new(HOLDOVER)
        .database(hour, hour)
        .tapped()
        .set("primary.read_deadline", "500ms")
        .prepare()
        .await?;
    let root = host.primary.root();
    let lessee = r#"path "database/creds/*" { capabilities = ["read"] }"#;
    world::policy(&root, "lessee", lessee).await?;
    let others = DatabaseRole {
        name: "others",
        default_ttl: hour,
        max_ttl: hour,
    };
    host.primary
        .enable_database(host.postgres()?, &others)
        .await?;
    host.start().await?;
    let wanted = json!({ "policies": ["lessee"] });
    let made = root.post("auth/token/create", &wanted).await?;
    let token = made.text("/auth/client_token")?;
    host.read("auth/token/lookup-self", &token).await?;
    host.until_learned(&token).await?;
    let tap = host.tap()?;
    // Not mirrored, and lost: it is not read again.
    let path = "/v1/database/creds/others ";
    tap.lose(path, Loss::Closed);
    assert_unknown(&host.read("database/creds/others", &token).await?);
    assert_eq!(
        (tap.times_sent(path), leases(&host, "others").await?),
        (1, 1)
    );
    tap.lose_nothing();
    // Its client goes, and then it comes.
    tap.lose(path, Loss::Held);
    let request = format!(
        "GET /v1/database/creds/others HTTP/1.1\r\nHost: h\r\nX-Vault-Token: {token}\r\n\r\n"
    );
    let mut client = tokio::net::UnixStream::connect(host.daemon.socket()).await?;
    client.write_all(request.as_bytes()).await?;
    until_leases(&host, "others", 2).await?;
    drop(client);
    tap.lose_nothing();
    until_leases(&host, "others", 1).await?;
    // In a wrapping: that is taken back, and the lease within is named by nothing. The ledger says that it may be there.
    let before = accessors(&host).await?;
    tap.lose(path, Loss::Held);
    let request = request.replace("\r\n\r\n", "\r\nX-Vault-Wrap-TTL: 600\r\n\r\n");
    let mut client = tokio::net::UnixStream::connect(host.daemon.socket()).await?;
    client.write_all(request.as_bytes()).await?;
    until_leases(&host, "others", 2).await?;
    until_fresh(&host, &before, 1).await?;
    drop(client);
    tap.lose_nothing();
    until_fresh(&host, &before, 0).await?;
    assert_eq!(leases(&host, "others").await?, 2);
    // Mirrored: the replica answers with Holdover's own lease, and the late one is nobody's.
    let own = leases(&host, "orders").await?;
    tap.lose("/v1/database/creds/orders ", Loss::Held);
    let reply = host.read("database/creds/orders", &token).await?;
    let outcome = (reply.status, reply.source());
    assert_eq!(outcome, (200, Some("replica")), "{}", reply.text());
    until_leases(&host, "orders", own + 1).await?;
    tap.lose_nothing();
    until_leases(&host, "orders", own).await
}

/// Waits until Holdover has sent so many more requests with `part` in them: it lives, and does what it does again and again.
async fn goes_on(host: &Host, part: &str, more: usize) -> Result<()> {
    let tap = host.tap()?;
    let wanted = tap.times_sent(part) + more;
    let waited = eventually(BOUND, part, async || match tap.times_sent(part) {
        sent if sent >= wanted => Ok(()),
        sent => Err(format!("{sent} of {wanted}")),
    });
    waited.await.map_err(|failure| host.daemon.failure(failure))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holdovers_own_login_whose_answer_was_lost_does_not_use_its_secret_id_up() -> Result<()> {
    let host = Plan::new(HOLDOVER).tapped().prepare().await?;
    let (root, tap) = (host.primary.root(), host.tap()?);
    let role = "auth/approle/role/holdover";
    let uses = json!({ "num_uses": 3 });
    let secret_id = root.post(&format!("{role}/secret-id"), &uses).await?;
    let secret_id = secret_id.text("/data/secret_id")?;
    host.daemon.write_secret("etc/secret_id", &secret_id)?;
    let login = "/v1/auth/approle/login ";
    tap.lose(login, Loss::Closed);
    host.daemon.start()?;
    goes_on(&host, login, 1).await?;
    // Five seconds and more, in which the primary is well.
    goes_on(&host, "/v1/sys/health ", 12).await?;
    assert_eq!(tap.times_sent(login), 1);
    let asked = json!({ "secret_id": secret_id });
    let looked = root
        .post(&format!("{role}/secret-id/lookup"), &asked)
        .await?;
    assert_eq!(looked.data()?["secret_id_num_uses"], 2);
    tap.lose_nothing();
    // Whoever starts it again wants it to log in.
    host.daemon.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_ready(BOUND).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standing_token_whose_answer_was_lost_is_not_minted_again_and_again() -> Result<()> {
    let orders = Workload::new("orders", "orders").uid(own_uid());
    let host = Plan::new(HOLDOVER)
        .workload(orders.issues("15m", "2h"))
        .set("failover.authority_interval", "300ms")
        .tapped()
        .prepare()
        .await?;
    let tap = host.tap()?;
    tap.lose(MINT, Loss::Closed);
    host.daemon.start()?;
    goes_on(&host, MINT, 1).await?;
    // It is asked for its role in every cycle.
    goes_on(&host, "/v1/auth/token/roles/orders ", 5).await?;
    assert_eq!(tap.times_sent(MINT), 1);
    tap.lose_nothing();
    host.daemon.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_ready(BOUND).await.map(drop)
}

fn raw(target: &str, body: &str) -> String {
    let length = body.len();
    format!("PUT {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}")
}
