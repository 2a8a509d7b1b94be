//! A token that was issued in an outage is its own process's, whatever became of it.

use harness::Result;
use harness::cast::{Cast, Part};
use harness::client::raw::Ask;
use harness::host::login_request;
use serde_json::json;

use crate::{HOLDOVER, VISITOR};

/// What one could try with the string of a token.
fn attempts(path: &str, token: &str) -> Result<Vec<Ask>> {
    let post = |path: &str, body| Ask::post(&format!("/v1/auth/token/{path}"), &body).token(token);
    let bearer =
        Ask::get(&format!("/v1/{path}")).header("Authorization", &format!("Bearer {token}"));
    let paths = json!({ "paths": [path] });
    Ok(vec![
        Ask::get(&format!("/v1/{path}")).token(token)?,
        bearer?,
        Ask::get("/v1/auth/token/lookup-self").token(token)?,
        Ask::post("/v1/sys/capabilities-self", &paths).token(token)?,
        Ask::get("/v1/sys/internal/ui/mounts").token(token)?,
        post("renew-self", json!({}))?,
        post("create", json!({}))?,
        post("create/orders", json!({}))?,
        post("revoke-self", json!({}))?,
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_issued_in_an_outage_is_its_own_users_also_once_the_primary_stands_behind_it()
-> Result<()> {
    let cast = Cast::assemble(HOLDOVER, VISITOR).await?;
    let (path, _) = cast.host().secret("orders")?;
    cast.host().cut().await?;
    let issued = cast.send(Part::Orders, &login_request("orders")).await?;
    let token = issued.json_text("/auth/client_token")?;
    assert!(token.starts_with("ho."), "{}", issued.text());
    let own = Ask::get(&format!("/v1/{path}")).token(&token)?;
    for state in ["replica", "primary"] {
        if state == "primary" {
            cast.host().restore().await?;
        }
        let read = cast.send(Part::Orders, &own).await?;
        assert_eq!(
            (read.status, read.source()),
            (200, Some(state)),
            "{}",
            read.text()
        );
        for part in [Part::Billing, Part::Third] {
            for ask in attempts(path, &token)? {
                let tried = cast.send(part, &ask).await?;
                let outcome = (tried.status, tried.source());
                assert_eq!(
                    outcome,
                    (403, Some("replica")),
                    "{state} {part:?} {}: {}",
                    ask.target,
                    tried.text()
                );
            }
        }
        let read = cast.send(Part::Orders, &own).await?;
        assert_eq!(
            read.status,
            200,
            "nobody else could end it: {}",
            read.text()
        );
    }
    Ok(())
}
