//! The clients that users already have, unmodified, pointed at the Unix socket, in both states, with every kind of
//! token: from a login while following, from a login in the outage, and with none at all.

#[path = "clients/bao.rs"]
mod bao;
#[path = "clients/hvac.rs"]
mod hvac;
#[path = "clients/seen.rs"]
mod seen;

use std::time::Duration;

use harness::Result;
use harness::client::cli::User;
use harness::daemon::config::Workload;
use harness::host::{Host, Plan, own_uid};

use crate::seen::{Seen, State, Token};

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");

/// Makes the calls that the issue lists, with one client, and tells what it saw.
trait Client {
    /// All calls as `user`.
    async fn calls(&self, user: &User, billing: &str) -> Result<Seen>;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bao_command_line_works_with_every_token_in_both_states() -> Result<()> {
    story(bao::Bao).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hvac_works_with_every_token_in_both_states() -> Result<()> {
    story(hvac::Hvac).await
}

/// The outage, seen through one client: before it, in it and after it.
async fn story(client: impl Client) -> Result<()> {
    let orders = Workload::new("orders", "orders").uid(own_uid());
    let host = Plan::new(HOLDOVER)
        .database(Duration::from_secs(600), Duration::from_secs(3600))
        .workload(orders.auto_token().issues("15m", "2h"))
        .start()
        .await?;
    let before = host.login("orders").await?;
    assert_eq!(before.source, "primary");
    let known = Token::given("from a login while following", &before.token);
    let none = Token::none();

    let first = round(&client, &host, &known, State::Following).await?;
    round(&client, &host, &none, State::Following).await?;

    host.cut().await?;
    let within = host.login("orders").await?;
    assert_eq!(within.source, "replica");
    assert!(
        within.token.starts_with("ho."),
        "a replica token without its mark"
    );
    let issued = Token::given("from a login in the outage", &within.token);
    let own = round(&client, &host, &known, State::Outage).await?;
    assert_eq!(
        own.username, first.username,
        "a lease is served again to the token that read it"
    );
    let shared = round(&client, &host, &issued, State::Outage).await?;
    assert_ne!(
        shared.username, first.username,
        "a lease that another token read was served"
    );
    round(&client, &host, &none, State::Outage).await?;

    host.restore().await?;
    // It is exchanged at its first use.
    let (path, _) = host.secret("billing")?;
    host.read_of_primary(path, &within.token).await?;
    round(&client, &host, &known, State::Following).await?;
    round(&client, &host, &issued.exchanged(), State::Following).await?;
    round(&client, &host, &none, State::Following).await?;
    Ok(())
}

/// All calls with one token in one state, and what must be true of them.
async fn round(client: &impl Client, host: &Host, token: &Token, state: State) -> Result<Seen> {
    let user = User::ourselves()?.at_socket(&host.daemon.socket());
    let user = match token.text() {
        Some(text) => user.env("BAO_TOKEN", text),
        None => user,
    };
    let (billing, _) = host.secret("billing")?;
    let seen = client.calls(&user, billing).await.map_err(|failure| {
        host.daemon
            .failure(format!("{token}, {state:?}: {failure}"))
    })?;
    seen.judge(host, token, state).await?;
    Ok(seen)
}
