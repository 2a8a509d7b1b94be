//! AppRole: one outage, and a role for everything that may be wrong.

use harness::Result;
use harness::canary::Canaries;
use harness::client::raw::Reply;
use harness::host::{Host, own_uid};
use serde_json::{Value, json};

use crate::stage::{Bookends, Role, error, login, token};
use crate::{BOUND, orders, orders_of, plan};

const NOBODY: &str = "00000000-0000-0000-0000-000000000000";
const INVALID: &str = "invalid role or secret ID";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_login_is_answered_as_the_primary_would_or_left_to_it() -> Result<()> {
    let host = plan().start().await?;
    let cast = Cast::assemble(&host).await?;
    let online = cast.right.proven_at(&host).await?;
    let shown = lookup(&host, &token(&online, "primary")?).await?;
    let refused = host.ask(&cast.right.login_with(NOBODY)).await?;
    assert_eq!(
        (refused.status, error(&refused)?),
        (400, INVALID.to_owned())
    );
    host.cut().await?;
    let offline = host.ask(&cast.right.login()).await?;
    like_online(&host, &cast.right, &offline, &online, &shown).await?;
    replayed(&host, &cast.right).await?;
    cast.left_to_the_primary(&host).await?;
    cast.refused_as_by_the_primary(&host).await?;
    cast.narrowed(&host).await?;
    restarted(&host, &cast, &token(&offline, "replica")?).await?;
    cast.kept_nowhere(&host)
}

/// A role for everything that may be wrong with a login.
struct Cast {
    right: Role,
    revoked: Role,
    expired: Role,
    removed: Role,
    narrowed: Role,
    renamed: Role,
    limited: Role,
    bound: Role,
    unused: Role,
}

impl Cast {
    /// All of them in use at the primary; what befalls them there befalls them after that, and Holdover has seen it.
    async fn assemble(host: &Host) -> Result<Cast> {
        let primary = &host.primary;
        let orders = json!({ "token_policies": ["orders"], "token_ttl": "10m" });
        let right = Role::make(
            primary,
            "right",
            orders.clone(),
            json!({ "metadata": "{\"host\":\"h1\"}" }),
        );
        let narrow = json!({ "token_policies": ["orders", "billing"] });
        let limited = json!({ "token_policies": ["orders"], "secret_id_num_uses": 5 });
        let bound = json!({ "cidr_list": ["127.0.0.1/32"] });
        let short = json!({ "token_policies": ["orders"], "secret_id_ttl": "15s" });
        let cast = Cast {
            right: right.await?,
            revoked: Role::of_orders(primary, "revoked").await?,
            removed: Role::of_orders(primary, "removed").await?,
            narrowed: Role::make(primary, "narrowed", narrow, json!({})).await?,
            renamed: Role::of_orders(primary, "renamed").await?,
            limited: Role::make(primary, "limited", limited, json!({})).await?,
            bound: Role::make(primary, "bound", orders, bound).await?,
            unused: Role::of_orders(primary, "unused").await?,
            expired: Role::make(primary, "short", short, json!({})).await?,
        };
        let proven = [&cast.revoked, &cast.removed, &cast.narrowed, &cast.renamed];
        for role in [&cast.expired, &cast.bound].into_iter().chain(proven) {
            role.proven_at(host).await?;
        }
        cast.limited.used_at(host).await?;
        let bookends = Bookends::proven_at(host).await?;
        let root = primary.root();
        cast.revoked.destroy_secret_id(primary).await?;
        root.delete(&cast.removed.path()).await?.ok()?;
        root.write(
            &cast.narrowed.path(),
            &json!({ "token_policies": ["orders"] }),
        )
        .await?;
        let renamed = format!("{}/role-id", cast.renamed.path());
        root.write(&renamed, &json!({ "role_id": "another-role-id" }))
            .await?;
        bookends.verified(host).await?;
        Ok(cast)
    }

    /// Nobody here can know: 503, and one text for all, that tells nobody what it was.
    async fn left_to_the_primary(&self, host: &Host) -> Result<()> {
        let mut texts = Vec::new();
        for ask in [
            self.right.login_with(NOBODY),
            login(NOBODY, &self.right.secret_id),
            login(&self.right.role_id, &self.revoked.secret_id),
            login("another-role-id", &self.renamed.secret_id),
            self.unused.login(),
            self.limited.login(),
        ] {
            texts.push(undecided(&host.ask(&ask).await?)?);
        }
        texts.dedup();
        assert_eq!(texts.len(), 1, "{texts:?}");
        assert!(
            texts[0].contains("not verified before the outage"),
            "{texts:?}"
        );
        let bound = undecided(&host.ask(&self.bound.login()).await?)?;
        assert!(bound.contains("bound to addresses"), "{bound}");
        Ok(())
    }

    /// What Holdover saw to be dead: the primary's own words, and nothing is granted.
    async fn refused_as_by_the_primary(&self, host: &Host) -> Result<()> {
        for role in [&self.revoked, &self.removed, &self.renamed] {
            let reply = host.ask(&role.login()).await?;
            let outcome = (reply.status, reply.source());
            assert_eq!(
                outcome,
                (400, Some("replica")),
                "{}: {}",
                role.name,
                reply.text()
            );
            assert_eq!(error(&reply)?, INVALID);
        }
        let ended = harness::eventually(BOUND, "the end of a secret id", async || {
            match host.ask(&self.expired.login()).await {
                Ok(reply) if reply.status == 400 => Ok(reply),
                Ok(reply) => Err(reply.text()),
                Err(failure) => Err(failure.to_string()),
            }
        });
        assert_eq!(error(&ended.await?)?, INVALID);
        for (body, status, text) in [
            (
                json!({ "role_id": self.right.role_id }),
                400,
                "missing secret_id",
            ),
            (
                json!({ "secret_id": self.right.secret_id }),
                500,
                "missing role_id",
            ),
        ] {
            let reply = host.write("auth/approle/login", "", &body).await?;
            assert_eq!((reply.status, error(&reply)?), (status, text.to_owned()));
        }
        Ok(())
    }

    /// Only what the role gave at the end.
    async fn narrowed(&self, host: &Host) -> Result<()> {
        let reply = host.ask(&self.narrowed.login()).await?;
        let token = token(&reply, "replica")?;
        assert_eq!(
            reply.json()?["auth"]["policies"],
            json!(["default", "orders"])
        );
        let (own, _) = host.secret("orders")?;
        let (foreign, _) = host.secret("billing")?;
        assert_eq!(host.read(own, &token).await?.status, 200);
        assert_eq!(host.read(foreign, &token).await?.status, 403);
        Ok(())
    }

    /// No secret id is on disk or in the log, whatever form it is written in.
    fn kept_nowhere(&self, host: &Host) -> Result<()> {
        let mut canaries = Canaries::default();
        for role in [&self.right, &self.revoked, &self.limited, &self.unused] {
            canaries.plant(&role.name, role.secret_id.as_bytes())?;
        }
        let folder = host.daemon.folder();
        let places = [
            folder.join("state"),
            folder.join("anchor"),
            host.daemon.log(),
        ];
        let places: Vec<_> = places.iter().map(AsRef::as_ref).collect();
        canaries.search(&places)?.clean()
    }
}

/// The answer, and what a look-up shows of the token, but for what differs by nature.
async fn like_online(
    host: &Host,
    role: &Role,
    offline: &Reply,
    online: &Reply,
    shown: &Value,
) -> Result<()> {
    let token = token(offline, "replica")?;
    assert!(token.starts_with("ho."));
    assert_eq!(masked(offline.json()?), masked(online.json()?));
    assert_eq!(offline.json()?["auth"]["lease_duration"], 600);
    assert_eq!(
        offline.json()?["auth"]["metadata"],
        json!({ "host": "h1", "role_name": role.name })
    );
    assert_eq!(masked(lookup(host, &token).await?), masked(shown.clone()));
    let (path, password) = host.secret("orders")?;
    let read = host.read(path, &token).await?;
    assert_eq!(read.json()?["data"]["data"]["password"], password);
    let (foreign, _) = host.secret("billing")?;
    assert_eq!(host.read(foreign, &token).await?.status, 403);
    Ok(())
}

/// The same login again is another token, and both live.
async fn replayed(host: &Host, role: &Role) -> Result<()> {
    let (path, _) = host.secret("orders")?;
    let first = token(&host.ask(&role.login()).await?, "replica")?;
    let second = token(&host.ask(&role.login()).await?, "replica")?;
    assert_ne!(first, second);
    for token in [first, second] {
        assert_eq!(host.read(path, &token).await?.status, 200);
    }
    Ok(())
}

/// After `kill -9` in the outage: what was issued lives, and everything is decided as before.
async fn restarted(host: &Host, cast: &Cast, issued: &str) -> Result<()> {
    host.daemon.kill9()?;
    host.daemon.start()?;
    host.daemon.wait_state("holdover", BOUND).await?;
    let (path, _) = host.secret("orders")?;
    assert_eq!(host.read(path, issued).await?.status, 200);
    token(&host.ask(&cast.right.login()).await?, "replica")?;
    assert_eq!(host.ask(&cast.revoked.login()).await?.status, 400);
    undecided(&host.ask(&cast.right.login_with(NOBODY)).await?)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_are_bounded_and_failures_lock_the_role_id_as_at_the_primary() -> Result<()> {
    let host = plan().start().await?;
    let (tried, locked) = (
        Role::of_orders(&host.primary, "tried").await?,
        Role::of_orders(&host.primary, "locked").await?,
    );
    tried.proven_at(&host).await?;
    locked.proven_at(&host).await?;
    // Five at the primary lock it here too.
    for nr in 0..5 {
        let failed = host.ask(&locked.login_with(&format!("guess-{nr}"))).await?;
        assert_eq!((failed.status, failed.source()), (400, Some("primary")));
    }
    host.cut().await?;
    for ask in [locked.login(), locked.login_with("guess-5")] {
        let refused = host.ask(&ask).await?;
        let outcome = (refused.status, refused.source(), error(&refused)?);
        assert_eq!(
            outcome,
            (403, Some("replica"), "permission denied".to_owned())
        );
    }
    // What only the primary could judge is no failure, however often it is tried, and locks out nothing that was accepted.
    for nr in 0..5 {
        for _ in 0..3 {
            undecided(&host.ask(&tried.login_with(&format!("guess-{nr}"))).await?)?;
        }
    }
    let spent = host.ask(&tried.login_with("guess-5")).await?;
    undecided(&spent)?;
    assert!(error(&spent)?.contains("too many"), "{}", spent.text());
    token(&host.ask(&tried.login()).await?, "replica")?;
    host.restore().await?;
    limited_by_the_minute(&host, &tried).await
}

/// `limits.login_failures_per_minute_per_uid`: over it, the right secret id waits too.
async fn limited_by_the_minute(host: &Host, role: &Role) -> Result<()> {
    host.reconfigure(|config| config.set("limits.login_failures_per_minute_per_uid", 1))?;
    let over = harness::eventually(BOUND, "429", async || {
        let tried = host.ask(&role.login_with("wrong")).await;
        match tried.map_err(|failure| failure.to_string())? {
            over if over.status == 429 => Ok(over),
            other => Err(other.text()),
        }
    });
    let over = over.await?;
    assert!(error(&over)?.contains("failed logins"), "{}", over.text());
    assert_eq!(host.ask(&role.login()).await?.status, 429);
    Ok(())
}

/// Long before any cycle would: a refusal alone ends nothing, it has Holdover ask at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_primary_refuses_through_the_socket_is_asked_about_at_once() -> Result<()> {
    let plan = plan().set("failover.authority_interval", "1h");
    let host = plan.set("failover.authority_max_age", "2h").start().await?;
    let (gone, kept) = (
        Role::of_orders(&host.primary, "gone").await?,
        Role::of_orders(&host.primary, "kept").await?,
    );
    gone.proven_at(&host).await?;
    kept.proven_at(&host).await?;
    gone.destroy_secret_id(&host.primary).await?;
    let refused = host.ask(&gone.login()).await?;
    assert_eq!((refused.status, refused.source()), (400, Some("primary")));
    gone.until(&host, |shown| shown["dead"] == 1).await?;
    host.cut().await?;
    let dead = host.ask(&gone.login()).await?;
    assert_eq!((dead.status, error(&dead)?), (400, INVALID.to_owned()));
    token(&host.ask(&kept.login()).await?, "replica").map(drop)
}

/// Attestation and the entry come first: who is not listed, or is issued nothing, learns nothing of any id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_right_ids_are_nothing_without_an_entry_that_issues() -> Result<()> {
    let host = plan().start().await?;
    let role = Role::of_orders(&host.primary, "ci").await?;
    role.proven_at(&host).await?;
    host.cut().await?;
    token(&host.ask(&role.login()).await?, "replica")?;
    let stranger = orders(own_uid() + 1);
    host.reconfigure(|config| config.unset("workload").workload(stranger))?;
    let until = async |status: u16| {
        harness::eventually(BOUND, "the changed entry", async || {
            let reply = host.ask(&role.login()).await;
            match reply.map_err(|failure| failure.to_string())? {
                reply if reply.status == status => Ok(reply),
                reply => Err(format!("{}: {}", reply.status, reply.text())),
            }
        })
        .await
    };
    let refused = until(403).await?;
    assert_eq!(refused.source(), Some("replica"));
    for ask in [role.login_with(NOBODY), login(NOBODY, NOBODY)] {
        assert_eq!(host.ask(&ask).await?.text(), refused.text());
    }
    let twins = ["one", "two"].map(|name| {
        harness::daemon::config::Workload::new(name, "orders")
            .uid(own_uid())
            .issues("15m", "2h")
    });
    host.reconfigure(|config| {
        let none = config.unset("workload");
        twins
            .into_iter()
            .fold(none, harness::daemon::config::Config::workload)
    })?;
    let ambiguous = until(503).await?;
    assert!(
        error(&ambiguous)?.contains("several workloads"),
        "{}",
        ambiguous.text()
    );
    Ok(())
}

/// Where nothing is issued in an outage, nothing is asked for and nothing answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_entry_that_issues_no_rights_are_asked_for_and_nothing_is_learned() -> Result<()>
{
    let plan = orders_of(own_uid()).set("primary.approle_mounts", toml::Value::Array(vec![]));
    let host = plan.start().await?;
    assert!(!host.policy.contains("auth/approle"), "{}", host.policy);
    let role = Role::of_orders(&host.primary, "ci").await?;
    role.used_at(&host).await?;
    host.cut().await?;
    let reply = host.ask(&role.login()).await?;
    assert_eq!(reply.status, 503);
    assert!(error(&reply)?.contains("logins at this mount are not served"));
    Ok(())
}

/// 503 from the replica, with its text.
fn undecided(reply: &Reply) -> Result<String> {
    let outcome = (reply.status, reply.source());
    assert_eq!(outcome, (503, Some("replica")), "{}", reply.text());
    let text = error(reply)?;
    Ok(text
        .split_once("; ")
        .map_or(text.clone(), |(_, why)| why.to_owned()))
}

async fn lookup(host: &Host, token: &str) -> Result<Value> {
    host.read("auth/token/lookup-self", token).await?.json()
}

/// Without ids, strings of tokens, moments, warnings and remaining TTLs.
fn masked(mut body: Value) -> Value {
    const BY_NATURE: [&str; 10] = [
        "accessor",
        "client_token",
        "creation_time",
        "expire_time",
        "id",
        "issue_time",
        "lease_duration",
        "request_id",
        "ttl",
        "warnings",
    ];
    for part in ["", "/auth", "/data"] {
        if let Some(Value::Object(fields)) = body.pointer_mut(part) {
            for (name, value) in fields.iter_mut() {
                if BY_NATURE.contains(&name.as_str()) {
                    *value = Value::Null;
                }
            }
        }
    }
    body
}
