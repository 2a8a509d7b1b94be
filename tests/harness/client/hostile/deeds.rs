//! What a hostile user does: each lane one thing, over and over, as fast as it is let.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::{Target, words};
use crate::client::raw::{Ask, Client, Connection};
use crate::failure::Result;
use crate::random::Seeded;

/// What a lane does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deed {
    /// Holds a connection and says nothing.
    Sits,
    /// Sends all but the end of a body, and then a byte now and then.
    HalfSends,
    /// Asks for much and reads nothing of it.
    NeverReads,
    /// Logs in by AppRole with ids that are wrong.
    LogsIn,
    /// Brings tokens that nobody has.
    MakesUpTokens,
    /// Says what is no request, or an odd one.
    Strays,
    /// Connects and is gone.
    ComesAndGoes,
}

/// How many lanes do what. Together more than one user may have connections by default, which is 256; what lasts takes not
/// quite all of them, so that there is room for what is fast.
pub(super) const LANES: &[(Deed, usize)] = &[
    (Deed::Sits, 80),
    (Deed::HalfSends, 100),
    (Deed::NeverReads, 30),
    (Deed::LogsIn, 12),
    (Deed::MakesUpTokens, 16),
    (Deed::Strays, 16),
    (Deed::ComesAndGoes, 16),
];

/// From the end of one to the next of the same lane.
const AGAIN: Duration = Duration::from_millis(20);

/// Requests over one connection before it is closed.
const REQUESTS: usize = 200;

/// Bytes of a body that is announced, and never whole.
const ANNOUNCED: usize = 1_000_000;

/// How long whoever never reads stays.
const STAYS: Duration = Duration::from_secs(3);

/// Between two bytes of a body.
const DRIBBLE: Duration = Duration::from_millis(200);

/// For an answer to what may be given none.
const LISTENS: Duration = Duration::from_millis(200);

/// For an answer to what is a request.
const ANSWER: Duration = Duration::from_secs(30);

/// Does one thing for ever. What comes of it does not matter.
pub(super) async fn lane(deed: Deed, target: &Target, mut seeded: Seeded) {
    loop {
        let _ = once(deed, target, &mut seeded).await;
        sleep(AGAIN).await;
    }
}

async fn once(deed: Deed, target: &Target, seeded: &mut Seeded) -> Result<()> {
    match deed {
        Deed::Sits => sits(target).await,
        Deed::HalfSends => half_sends(target, seeded).await,
        Deed::NeverReads => never_reads(target).await,
        Deed::LogsIn => logs_in(target, seeded).await,
        Deed::MakesUpTokens => makes_up_tokens(target, seeded).await,
        Deed::Strays => strays(target, seeded).await,
        Deed::ComesAndGoes => comes_and_goes(target).await,
    }
}

async fn connect(target: &Target) -> Result<UnixStream> {
    Ok(UnixStream::connect(&target.socket).await?)
}

async fn connection(target: &Target) -> Result<Connection> {
    let client = Client::unix(&target.socket).within(ANSWER);
    client.connect().await
}

async fn sits(target: &Target) -> Result<()> {
    let mut stream = connect(target).await?;
    // Until it is closed.
    while stream.read(&mut [0]).await? > 0 {}
    Ok(())
}

async fn half_sends(target: &Target, seeded: &mut Seeded) -> Result<()> {
    let mut stream = connect(target).await?;
    let (begin, one_more) = words::half_a_body(target, seeded, ANNOUNCED);
    stream.write_all(&begin).await?;
    let mut heard = [0; 1024];
    loop {
        tokio::select! {
            // Refused, or closed.
            _ = stream.read(&mut heard) => return Ok(()),
            () = sleep(DRIBBLE) => stream.write_all(one_more).await?,
        }
    }
}

async fn never_reads(target: &Target) -> Result<()> {
    let mut stream = connect(target).await?;
    let (large, token) = (&target.large, &target.token);
    let ask = format!("GET {large} HTTP/1.1\r\nHost: h\r\nX-Vault-Token: {token}\r\n\r\n");
    stream.write_all(ask.repeat(8).as_bytes()).await?;
    sleep(STAYS).await;
    Ok(())
}

async fn logs_in(target: &Target, seeded: &mut Seeded) -> Result<()> {
    let mut connection = connection(target).await?;
    for _ in 0..REQUESTS {
        let role_id = match seeded.chance(50) {
            true => target.role_id.clone(),
            false => words::uuid(seeded),
        };
        let body = json!({ "role_id": role_id, "secret_id": words::uuid(seeded) });
        let ask = Ask::post("/v1/auth/approle/login", &body);
        connection.send(&ask).await?;
    }
    Ok(())
}

async fn makes_up_tokens(target: &Target, seeded: &mut Seeded) -> Result<()> {
    let mut connection = connection(target).await?;
    for _ in 0..REQUESTS {
        let ask = Ask::get(seeded.one(words::PATHS)).token(&words::token(seeded))?;
        connection.send(&ask).await?;
    }
    Ok(())
}

async fn strays(target: &Target, seeded: &mut Seeded) -> Result<()> {
    let mut stream = connect(target).await?;
    let says = words::stray(target, seeded);
    // Whoever refuses early closes before it has read everything.
    let _ = timeout(LISTENS, stream.write_all(&says)).await;
    let mut heard = vec![0; 16 << 10];
    let listens = async { while stream.read(&mut heard).await.is_ok_and(|count| count > 0) {} };
    let _ = timeout(LISTENS, listens).await;
    Ok(())
}

async fn comes_and_goes(target: &Target) -> Result<()> {
    for _ in 0..REQUESTS {
        drop(connect(target).await?);
        tokio::task::yield_now().await;
    }
    Ok(())
}
