//! The gate does to requests and answers what it was told, and tells of what it saw.

use std::time::Duration;

use harness::Result;
use harness::bao::{Primary, Transport};
use harness::client::raw::{Ask, Client, Reply};
use harness::gate::{Act, Gate};
use serde_json::json;

const BOUND: Duration = Duration::from_secs(10);

/// What a client at the gate asks for: a token, so that it can be told what arrived.
struct Visit {
    primary: Primary,
    gate: Gate,
    client: Client,
    ask: Ask,
}

impl Visit {
    async fn start() -> Result<Visit> {
        let primary = Primary::start(Transport::Tls).await?;
        let gate = Gate::before(&primary).await?;
        let address = gate.address().replace("https://", "");
        let client = Client::tls(&address, &primary.authority().ca)?.within(BOUND);
        let ask = Ask::post("/v1/auth/token/create", &json!({ "ttl": "1h" }));
        let ask = ask.token(primary.root_token())?;
        Ok(Visit {
            primary,
            gate,
            client,
            ask,
        })
    }

    async fn send(&self) -> Result<Reply> {
        self.client.send(&self.ask).await
    }

    /// How many tokens there are at the primary.
    async fn tokens(&self) -> Result<usize> {
        let listed = self.primary.root().list("auth/token/accessors").await?;
        let listed = listed.data()?;
        Ok(listed["keys"].as_array().map_or(0, Vec::len))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_loses_holds_and_shuts_as_it_is_told() -> Result<()> {
    let visit = Visit::start().await?;
    let before = visit.tokens().await?;
    assert_eq!(visit.send().await?.status, 200);
    assert_eq!(visit.tokens().await?, before + 1);

    visit.gate.rule(|_| Act::LoseAnswer);
    assert!(visit.send().await.is_err());
    assert_eq!(visit.tokens().await?, before + 2, "it arrives");

    visit.gate.shut();
    assert!(visit.send().await.is_err());
    visit.gate.open();
    assert_eq!(visit.tokens().await?, before + 2, "nothing passed");

    held(&visit, Act::Hold, before + 2).await?;
    held(&visit, Act::HoldAnswer, before + 3).await?;
    let seen = visit.gate.asked();
    let statuses: Vec<_> = seen.iter().map(|one| one.status).collect();
    let ok = Some(200);
    assert_eq!(statuses, [ok, None, ok, None, ok, None]);
    assert!(seen.iter().all(|one| one.body == visit.ask.body));
    Ok(())
}

/// Held and let go, then held and thrown away; there are so many tokens before.
async fn held(visit: &Visit, act: Act, before: usize) -> Result<()> {
    visit.gate.rule(move |_| act);
    let arrived = usize::from(act == Act::HoldAnswer);
    let let_go = async {
        visit.gate.until_held(BOUND).await?;
        let tokens = visit.tokens().await?;
        visit.gate.release();
        Ok::<_, harness::Failure>(tokens)
    };
    let (reply, tokens) = tokio::join!(visit.send(), let_go);
    assert_eq!((reply?.status, tokens?), (200, before + arrived), "{act:?}");

    let thrown_away = async {
        visit.gate.until_held(BOUND).await?;
        visit.gate.discard();
        Ok::<_, harness::Failure>(())
    };
    let (reply, thrown_away) = tokio::join!(visit.send(), thrown_away);
    thrown_away?;
    assert!(reply.is_err(), "{act:?}");
    assert_eq!(visit.tokens().await?, before + 1 + arrived, "{act:?}");
    assert_eq!(visit.gate.held(), 0);
    Ok(())
}
