//! Who gets what: two users with an entry each get their own policies and never the other's; a third gets nothing
//! that it did not bring.

use harness::Result;
use harness::cast::{Cast, Part};
use harness::client::raw::{Ask, Reply};
use harness::host::login_request;
use harness::world;
use serde_json::json;

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");
const VISITOR: &str = env!("CARGO_BIN_EXE_holdover-test-client");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_user_gets_its_own_policies_and_never_the_others() -> Result<()> {
    let cast = Cast::assemble(HOLDOVER, VISITOR).await?;
    for state in ["primary", "replica"] {
        if state == "replica" {
            cast.host().cut().await?;
        }
        for part in [Part::Orders, Part::Billing] {
            gets_its_own(&cast, part, state).await?;
            never_gets(&cast, part, part.other(), state).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_user_gets_nothing_that_it_did_not_bring() -> Result<()> {
    let cast = Cast::assemble(HOLDOVER, VISITOR).await?;
    let brought = world::token(&cast.host().primary.root(), "billing").await?;
    let (own, _) = cast.host().secret("billing")?;
    let (foreign, _) = cast.host().secret("orders")?;
    for state in ["primary", "replica"] {
        if state == "replica" {
            cast.host().until_learned(&brought).await?;
            cast.host().cut().await?;
        }
        for role in ["orders", "billing", "third"] {
            let refused = cast.send(Part::Third, &login_request(role)).await?;
            assert_eq!(refused.status, 403, "{role}: {}", refused.text());
            assert!(
                refused
                    .json()?
                    .get("auth")
                    .is_none_or(|auth| auth.is_null())
            );
        }
        for path in [own, foreign] {
            let empty_handed = cast.send(Part::Third, &get(path)).await?;
            assert_eq!(empty_handed.status, 403, "{state}: {}", empty_handed.text());
        }
        let with = |path: &str| get(path).token(&brought);
        let allowed = cast.send(Part::Third, &with(own)?).await?;
        assert_eq!((allowed.status, allowed.source()), (200, Some(state)));
        let denied = cast.send(Part::Third, &with(foreign)?).await?;
        assert_eq!((denied.status, denied.source()), (403, Some(state)));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_got_by_attestation_is_worthless_to_another_peer_in_an_outage() -> Result<()> {
    let cast = Cast::assemble(HOLDOVER, VISITOR).await?;
    let (path, _) = cast.host().secret("orders")?;
    let before = token(&cast.send(Part::Orders, &login_request("orders")).await?)?;
    // While following the primary decides, and it knows no peers.
    let passed_on = cast.send(Part::Third, &get(path).token(&before)?).await?;
    assert_eq!(
        (passed_on.status, passed_on.source()),
        (200, Some("primary"))
    );
    cast.host().cut().await?;
    let within = token(&cast.send(Part::Orders, &login_request("orders")).await?)?;
    for token in [&before, &within] {
        let ask = get(path).token(token)?;
        assert_eq!(cast.send(Part::Orders, &ask).await?.status, 200);
        for thief in [Part::Billing, Part::Third] {
            let refused = cast.send(thief, &ask).await?;
            assert_eq!(refused.status, 403, "{thief:?}: {}", refused.text());
            let look = get("auth/token/lookup-self").token(token)?;
            assert_eq!(cast.send(thief, &look).await?.status, 403, "{thief:?}");
        }
        assert_eq!(cast.send(Part::Orders, &ask).await?.status, 200);
    }
    Ok(())
}

/// By its own login, by one that names no role, and with no login at all.
async fn gets_its_own(cast: &Cast, part: Part, state: &str) -> Result<()> {
    let (path, password) = cast.host().secret(part.team())?;
    let mut policies = ["default", part.team()];
    policies.sort_unstable();
    let named = login_request(part.team());
    let unnamed = Ask::post("/v1/auth/holdover/login", &json!({}));
    for login in [named, unnamed] {
        let reply = cast.send(part, &login).await?;
        assert_eq!(
            (reply.status, reply.source()),
            (200, Some(state)),
            "{}",
            reply.text()
        );
        assert_eq!(reply.json()?["auth"]["policies"], json!(policies));
        let token = token(&reply)?;
        let look = get("auth/token/lookup-self").token(&token)?;
        let shown = cast.send(part, &look).await?.json()?;
        assert_eq!(shown["data"]["policies"], json!(policies));
        let read = cast.send(part, &get(path).token(&token)?).await?;
        assert_eq!(read.json()?["data"]["data"]["password"], password);
        assert_eq!(read.source(), Some(state));
    }
    let automatic = cast.send(part, &get(path)).await?;
    assert_eq!(automatic.json()?["data"]["data"]["password"], password);
    assert_eq!(automatic.source(), Some(state));
    Ok(())
}

/// Neither by asking for the other's role nor with what it has.
async fn never_gets(cast: &Cast, part: Part, other: Part, state: &str) -> Result<()> {
    let refused = cast.send(part, &login_request(other.team())).await?;
    assert_eq!(refused.status, 403, "{}", refused.text());
    let (path, password) = cast.host().secret(other.team())?;
    let own = token(&cast.send(part, &login_request(part.team())).await?)?;
    for ask in [get(path), get(path).token(&own)?] {
        let denied = cast.send(part, &ask).await?;
        assert_eq!((denied.status, denied.source()), (403, Some(state)));
        assert!(!denied.text().contains(password));
    }
    // The replica creates no children at all, and the primary none with what is not the role's.
    let create = Ask::post(
        "/v1/auth/token/create/orders",
        &json!({ "policies": [other.team()] }),
    );
    let escalated = cast.send(part, &create.token(&own)?).await?;
    assert!(escalated.status >= 400, "{}", escalated.text());
    assert!(!escalated.text().contains("client_token"));
    Ok(())
}

fn get(path: &str) -> Ask {
    Ask::get(&format!("/v1/{path}"))
}

fn token(reply: &Reply) -> Result<String> {
    reply.json_text("/auth/client_token")
}
