//! What is of another namespace than the configured one reads nothing in an outage, by policies of the same name neither; and
//! what was verified in one namespace decides nothing once another is configured.

use std::time::Duration;

use harness::bao::api::Api;
use harness::client::raw::{Ask, Reply};
use harness::daemon::config::Workload;
use harness::host::{FAILOVER, Host, Plan, login_request, own_uid};
use harness::world::{self, ORDERS_POLICY};
use harness::{Context, Result};
use http::HeaderValue;
use serde_json::json;

use crate::HOLDOVER;

const TEAM: &str = "team";

/// A host whose own user is the orders workload, which issues in an outage.
fn plan() -> Plan {
    let orders = Workload::new("orders", "orders")
        .uid(own_uid())
        .set("auto_token", false)
        .issues("15m", "2h");
    Plan::new(HOLDOVER).workload(orders)
}

/// Makes a namespace, unless it is there.
async fn namespace(root: &Api, path: &str) -> Result<Api> {
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let above = root.in_namespace(above);
    above
        .write(&format!("sys/namespaces/{name}"), &json!({}))
        .await?;
    Ok(root.in_namespace(path))
}

/// A token of the policy `orders` of this namespace, which has the text of the configured one's.
async fn token_of(api: &Api) -> Result<String> {
    world::policy(api, "orders", ORDERS_POLICY).await?;
    let made = json!({ "policies": ["orders"] });
    let made = api.post("auth/token/create", &made).await?;
    made.text("/auth/client_token")
}

/// What a request can say of its namespace: values of its header, and what its path begins with.
struct Way {
    header: Vec<&'static [u8]>,
    inside: &'static str,
}

fn ways() -> Vec<Way> {
    let headers: [&[&'static [u8]]; 13] = [
        &[],
        &[b""],
        &[b"/"],
        &[b"root"],
        &[b"team"],
        &[b"team/"],
        &[b"/team/"],
        &[b"TEAM"],
        &[b"other"],
        &[b"team/child"],
        &["team/\u{e9}".as_bytes()],
        &[b"te am"],
        &[b"team", b"other"],
    ];
    let of = |inside| {
        let way = move |header: &&[&'static [u8]]| Way {
            header: header.to_vec(),
            inside,
        };
        headers.iter().map(way).collect::<Vec<_>>()
    };
    ["", "team/", "other/", "team/child/"]
        .into_iter()
        .flat_map(of)
        .collect()
}

impl Way {
    fn ask(&self, method: &str, path: &str, token: &str) -> Result<Ask> {
        let target = format!("/v1/{}{path}", self.inside);
        let ask = match method {
            "GET" => Ask::get(&target),
            _ => Ask::post(&target, &json!({ "paths": ["secret/data/shop/shared"] })),
        };
        let mut ask = ask.token(token)?;
        for value in &self.header {
            let value = HeaderValue::from_bytes(value).context("a header's value")?;
            ask.headers.append("x-vault-namespace", value);
        }
        Ok(ask)
    }

    fn shown(&self) -> String {
        let values = self
            .header
            .iter()
            .map(|value| String::from_utf8_lossy(value));
        format!("{:?} {:?}", values.collect::<Vec<_>>(), self.inside)
    }
}

/// Shows `token` to the primary through the socket in every way that could teach something of it.
async fn shown_around(host: &Host, token: &str) -> Result<()> {
    for way in ways() {
        for (method, path) in [
            ("GET", "auth/token/lookup-self"),
            ("POST", "auth/token/renew-self"),
            ("POST", "sys/capabilities-self"),
            ("GET", host.secret("orders")?.0),
        ] {
            let said = host.ask(&way.ask(method, path, token)?).await?;
            assert_ne!(said.status, 503, "{}: {}", way.shown(), said.text());
        }
    }
    Ok(())
}

/// Asserts that in an outage nothing is to be had by `token`, in whatever way.
async fn reads_nothing(host: &Host, whose: &str, token: &str) -> Result<()> {
    for way in ways() {
        for (method, path) in [
            ("GET", host.secret("orders")?.0),
            ("GET", "secret/data/shop/shared"),
            ("GET", "auth/token/lookup-self"),
            ("POST", "auth/token/renew-self"),
            ("POST", "auth/token/create"),
            ("POST", "sys/capabilities-self"),
        ] {
            let reply = host.ask(&way.ask(method, path, token)?).await?;
            let refused = matches!(reply.status, 400 | 403 | 503);
            assert!(refused, "{whose} {path} {}: {}", way.shown(), reply.text());
            assert_eq!(reply.source(), Some("replica"));
        }
    }
    Ok(())
}

/// Lets Holdover learn what was shown to it before: a token that is shown last is known.
async fn caught_up(host: &Host, api: &Api) -> Result<String> {
    let last = token_of(api).await?;
    let (path, _) = host.secret("orders")?;
    let read = host.read(path, &last).await?;
    assert_eq!((read.status, read.source()), (200, Some("primary")));
    host.until_learned(&last).await?;
    Ok(last)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_a_namespace_below_reads_nothing_of_the_roots() -> Result<()> {
    let host = plan().start().await?;
    let root = host.primary.root();
    let mut theirs = Vec::new();
    for name in [TEAM, "other", "team/child"] {
        let token = token_of(&namespace(&root, name).await?).await?;
        shown_around(&host, &token).await?;
        theirs.push((name, token));
    }
    let ours = caught_up(&host, &root).await?;
    host.cut().await?;
    for (name, token) in &theirs {
        reads_nothing(&host, name, token).await?;
    }
    let (path, _) = host.secret("orders")?;
    assert_eq!(host.read(path, &ours).await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_the_root_of_siblings_and_of_children_read_nothing_of_a_namespace() -> Result<()>
{
    let host = plan().in_namespace(TEAM).start().await?;
    let root = host.primary.root();
    let mut theirs = vec![("the root", token_of(&root).await?)];
    for name in ["other", "team/child"] {
        theirs.push((name, token_of(&namespace(&root, name).await?).await?));
    }
    for (_, token) in &theirs {
        shown_around(&host, token).await?;
    }
    let ours = caught_up(&host, &root.in_namespace(TEAM)).await?;
    host.cut().await?;
    for (whose, token) in &theirs {
        reads_nothing(&host, whose, token).await?;
    }
    let (path, _) = host.secret("orders")?;
    assert_eq!(host.read(path, &ours).await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_names_another_namespace_gives_no_token_in_any_state() -> Result<()> {
    let host = plan().start().await?;
    namespace(&host.primary.root(), TEAM).await?;
    for state in ["following", "holdover"] {
        if state == "holdover" {
            host.cut().await?;
        }
        for value in ["team".as_bytes(), "team/\u{e9}".as_bytes(), b"te am"] {
            let mut ask = login_request("orders");
            let value = HeaderValue::from_bytes(value).context("a header's value")?;
            ask.headers.append("x-vault-namespace", value);
            let reply = host.ask(&ask).await?;
            assert!(
                matches!(reply.status, 400 | 503),
                "{state}: {}",
                reply.text()
            );
            assert!(!reply.text().contains("client_token"), "{state}");
        }
    }
    Ok(())
}

async fn logs_in(host: &Host) -> Result<Reply> {
    host.ask(&login_request("orders")).await
}

/// The team's namespace with Holdover's login and a mirrored secret of the same path, but no role `orders`: nothing says there
/// what that workload may do.
async fn team_of(host: &Host, path: &str) -> Result<()> {
    let team = namespace(&host.primary.root(), TEAM).await?;
    let kv = json!({ "type": "kv", "options": { "version": "2" } });
    team.write("sys/mounts/secret", &kv).await?;
    world::holdover_login_by(&team, &host.policy, &host.daemon).await?;
    let value = json!({ "data": { "password": "of the team" } });
    harness::eventually(
        Duration::from_secs(10),
        "the team's KV",
        async || match team.post(path, &value).await {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(answer.body.to_string()),
            Err(failure) => Err(failure.to_string()),
        },
    )
    .await
}

/// Starts Holdover with the team's namespace in place of the root, and waits until it was seen there.
async fn move_to_team(host: &Host) -> Result<()> {
    host.daemon.terminate(Duration::from_secs(20)).await?;
    host.reconfigure(|config| config.set("primary.namespace", TEAM))?;
    host.daemon.start()?;
    host.daemon
        .wait_for("the team's mirror", Duration::from_secs(30), |status| {
            status["mirrors"][0]["age_seconds"].is_number()
        })
        .await
        .map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_verified_in_one_namespace_decides_nothing_once_another_is_configured()
-> Result<()> {
    let host = plan().start().await?;
    let (path, _) = host.secret("orders")?;
    let before = world::token(&host.primary.root(), "orders").await?;
    assert_eq!(host.read(path, &before).await?.status, 200);
    host.until_learned(&before).await?;
    team_of(&host, path).await?;
    move_to_team(&host).await?;
    host.daemon.kill9()?;
    host.primary.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_state("holdover", FAILOVER).await?;
    let login = logs_in(&host).await?;
    assert_eq!(login.status, 503, "{}", login.text());
    for token in ["", &before] {
        let read = host.read(path, token).await?;
        assert!(matches!(read.status, 403 | 503), "{}", read.text());
        assert!(!read.text().contains("of the team"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_verified_before_a_mistyped_namespace_counts_again_once_that_is_mended()
-> Result<()> {
    let host = plan().start().await?;
    let (path, _) = host.secret("orders")?;
    let token = world::token(&host.primary.root(), "orders").await?;
    assert_eq!(host.read(path, &token).await?.status, 200);
    host.until_learned(&token).await?;
    team_of(&host, path).await?;
    move_to_team(&host).await?;
    host.daemon.terminate(Duration::from_secs(20)).await?;
    host.reconfigure(|config| config.set("primary.namespace", ""))?;
    host.primary.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_state("holdover", FAILOVER).await?;
    let read = host.read(path, &token).await?;
    let by = (read.status, read.source());
    assert_eq!(by, (200, Some("replica")), "{}", read.text());
    assert!(!read.text().contains("of the team"), "{}", read.text());
    let login = logs_in(&host).await?;
    let by = (login.status, login.source());
    assert_eq!(by, (200, Some("replica")), "{}", login.text());
    Ok(())
}
