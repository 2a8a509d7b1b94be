//! What the replica refuses, in which order it looks, and why it says that it does.

use harness::Result;
use harness::client::raw::Ask;
use harness::host::Host;
use serde_json::json;

use crate::{grown_stale, plan, start};

/// A token of the primary's form that nobody issued.
const NEVER_SEEN: &str = "s.abcdefghijklmnopqrstuvwx";

/// A request, and how it must be refused.
struct Case {
    what: &'static str,
    ask: Ask,
    status: u16,
    /// A part of the error's text; empty if the body must be the primary's `{"errors":[]}`.
    says: &'static str,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_has_its_status_and_its_reason() -> Result<()> {
    let host = start(plan()).await?;
    let tokens = Tokens::collect(&host).await?;
    host.cut().await?;
    grown_stale(&host, &tokens.live).await?;
    let mut wrong = Vec::new();
    for case in cases(&host, &tokens)? {
        let reply = host.ask(&case.ask).await?;
        let body = reply.text();
        let reason = match case.says {
            "" => body.trim() == r#"{"errors":[]}"#,
            says => body.to_lowercase().contains(says),
        };
        if reply.status != case.status || !reason || reply.source() != Some("replica") {
            let (what, wanted, says) = (case.what, case.status, case.says);
            let (status, source) = (reply.status, reply.source());
            wrong.push(format!(
                "{what}: {status} from {source:?} {body} instead of {wanted} {says:?}"
            ));
        }
        if body.contains("warnings") {
            wrong.push(format!("{}: an error with warnings: {body}", case.what));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Not to know is not to deny: each reason of a 503 has a text of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reasons_of_503s_can_be_told_apart() -> Result<()> {
    let host = start(plan()).await?;
    let token = host.login("orders").await?.token;
    host.cut().await?;
    grown_stale(&host, &token).await?;
    let read = |path: &str, token: &str| Ask::get(&format!("/v1/{path}")).token(token);
    let asks = [
        read("secret/data/elsewhere/one", &token)?,
        read("secret/data/volatile/one", &token)?,
        read("secret/data/shop/orders/twice?version=1", &token)?,
        read("secret/data/shop/orders/item-0000", NEVER_SEEN)?,
        Ask::post("/v1/secret/data/elsewhere/one", &json!({ "data": {} })).token(&token)?,
    ];
    let mut texts = Vec::new();
    for ask in asks {
        let reply = host.ask(&ask).await?;
        assert_eq!(reply.status, 503, "{}: {}", ask.target, reply.text());
        let body = reply.json()?;
        let error = body["errors"][0].as_str().unwrap_or_default().to_owned();
        assert!(!error.is_empty(), "{}: {body}", ask.target);
        texts.push(error);
    }
    let since = texts[0].strip_prefix("primary unavailable since ");
    let since = since.and_then(|rest| rest.strip_suffix("; path is not mirrored"));
    assert!(since.is_some(), "{}", texts[0]);
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), 5, "two reasons have one text: {texts:#?}");
    Ok(())
}

struct Tokens {
    live: String,
    /// Known, and revoked before the outage.
    dead: String,
}

impl Tokens {
    async fn collect(host: &Host) -> Result<Tokens> {
        let (live, dead) = (
            host.login("orders").await?.token,
            host.login("orders").await?,
        );
        let (path, _) = host.secret("orders")?;
        assert_eq!(host.read(path, &dead.token).await?.status, 200);
        let revoked = host
            .write("auth/token/revoke-self", &dead.token, &json!({}))
            .await?;
        assert_eq!(revoked.status, 204, "{}", revoked.text());
        let dead = dead.token;
        Ok(Tokens { live, dead })
    }
}

/// In the order in which the replica looks; each request would be refused for no earlier reason.
fn cases(host: &Host, tokens: &Tokens) -> Result<Vec<Case>> {
    let (own, _) = host.secret("orders")?;
    let (foreign, _) = host.secret("billing")?;
    let live = |path: &str| Ask::get(&format!("/v1/{path}")).token(&tokens.live);
    let case = |what, status, says, ask| Case {
        what,
        ask,
        status,
        says,
    };
    let unknown_replica = format!("ho.{}", "x".repeat(43));
    let write = |path: &str| Ask::post(&format!("/v1/{path}"), &json!({ "data": {} }));
    Ok(vec![
        // Out of form, whoever asks and for whatever.
        case("doubled slash", 400, "", Ask::get("/v1/secret//data/x")).any_text(),
        case("dots", 400, "", Ask::get("/v1/secret/data/../x")).any_text(),
        case("escaped dots", 400, "", Ask::get("/v1/secret/%2e%2e/x")).any_text(),
        // Nobody, somebody dead, and somebody unknown, before anything is said of the path.
        case(
            "no token",
            403,
            "permission denied",
            Ask::get(&format!("/v1/{own}")),
        ),
        case(
            "no token, unmirrored",
            403,
            "permission denied",
            Ask::get("/v1/secret/data/elsewhere/one"),
        ),
        case(
            "a dead token",
            403,
            "permission denied",
            Ask::get(&format!("/v1/{own}")).token(&tokens.dead)?,
        ),
        case(
            "an unknown replica token",
            403,
            "permission denied",
            Ask::get(&format!("/v1/{own}")).token(&unknown_replica)?,
        ),
        case(
            "a token never seen",
            503,
            "token",
            Ask::get(&format!("/v1/{own}")).token(NEVER_SEEN)?,
        ),
        // What the replica does not serve, before the ACL: the answer is not known.
        case(
            "an unmirrored path",
            503,
            "not mirrored",
            live("secret/data/elsewhere/one")?,
        ),
        case(
            "an unmirrored path that is forbidden",
            503,
            "not mirrored",
            live("secret/data/forbidden")?,
        ),
        case(
            "an unmirrored list",
            503,
            "not mirrored",
            live("secret/metadata/elsewhere/?list=true")?,
        ),
        case(
            "a write",
            503,
            "",
            write("secret/data/elsewhere/one").token(&tokens.live)?,
        )
        .any_text(),
        case("another login", 503, "", write("auth/userpass/login/me")).any_text(),
        case(
            "wrapping",
            503,
            "",
            live(own)?.header("X-Vault-Wrap-TTL", "60")?,
        )
        .any_text(),
        case(
            "inline auth",
            503,
            "",
            live(own)?.header("X-Vault-Inline-Auth-Path", "auth/userpass/login/me")?,
        )
        .any_text(),
        // The ACL, then what is there.
        case("a forbidden path", 403, "permission denied", live(foreign)?),
        case(
            "a forbidden path that does not exist",
            403,
            "permission denied",
            live("secret/data/shop/billing/no")?,
        ),
        case(
            "an absent secret",
            404,
            "",
            live("secret/data/shop/orders/no-such")?,
        ),
        case(
            "a version that was not mirrored",
            503,
            "version",
            live("secret/data/shop/orders/twice?version=1")?,
        ),
        case(
            "a value too old",
            503,
            "stale",
            live("secret/data/volatile/one")?,
        ),
        // Too much to answer.
        case("a body past the limit", 413, "", oversized(&tokens.live)?).any_text(),
    ])
}

impl Case {
    /// Any text will do, as long as there is one.
    fn any_text(mut self) -> Case {
        self.says = "errors";
        self
    }
}

/// A request for the replica with more than `request_size` in its body.
fn oversized(token: &str) -> Result<Ask> {
    let body = json!({ "meta": { "much": "x".repeat(1 << 20) } });
    Ask::post("/v1/auth/token/create/orders", &body).token(token)
}
