//! A client cannot tell: what four real clients said to a primary, recorded once, is said again to a primary, to the
//! same primary through Holdover, and to the replica in an outage. All three answer alike, but for what is listed in
//! [`masks`] and [`refused`].
//!
//! `tests/conversations/` holds the recordings. `HOLDOVER_RECORD=bao,hvac` (and `node-vault`, `vaultrs`) makes them anew
//! instead.

#[path = "conversations/answer.rs"]
mod answer;
#[path = "conversations/cast.rs"]
mod cast;
#[path = "conversations/conversation.rs"]
mod conversation;
#[path = "conversations/masks.rs"]
mod masks;
#[path = "conversations/names.rs"]
mod names;
#[path = "conversations/record.rs"]
mod record;
#[path = "conversations/refused.rs"]
mod refused;
#[path = "conversations/replay.rs"]
mod replay;
#[path = "conversations/stage.rs"]
mod stage;
#[path = "conversations/wire.rs"]
mod wire;

use harness::client::raw::Client;
use harness::host::Host;
use harness::{Context, Result};

use crate::cast::Cast;
use crate::conversation::{CLIENTS, Conversation};
use crate::masks::Masks;
use crate::refused::Refusals;
use crate::replay::{Replayed, Side};

const HOLDOVER: &str = env!("CARGO_BIN_EXE_holdover-under-test");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_conversation_is_answered_alike_by_primary_and_replica() -> Result<()> {
    if let Some(wanted) = std::env::var_os("HOLDOVER_RECORD") {
        return record::all(&wanted.to_string_lossy()).await;
    }
    let conversations = Conversation::all()?;
    let host = stage::start().await?;
    let mut masks = Masks::default();
    let mut refusals = Refusals::default();
    let mut different = Vec::new();

    let mut followed = Vec::new();
    for said in &conversations {
        let (direct, following) = while_following(&host, said).await?;
        different.extend(masks.compare(said, &direct, &following));
        followed.push(following);
    }
    let mut casts = Vec::new();
    for _ in &conversations {
        casts.push(Cast::known_to_holdover(&host).await?);
    }
    // Each cast has a login of its own; those of the replays through Holdover count too.
    stage::until_logins_are_known(&host, followed.len() + casts.len()).await?;
    host.cut().await?;
    for ((said, following), cast) in conversations.iter().zip(&followed).zip(casts) {
        let mut replica = replay::run(said, cast, &host.daemon.client(), Side::Replica).await?;
        different.extend(refusals.take_out(said, &mut replica));
        different.extend(masks.compare(said, following, &replica));
    }
    different.extend(refusals.unused());
    different.extend(masks.unused());
    assert!(
        different.is_empty(),
        "{} differences\n{}",
        different.len(),
        different.join("\n")
    );
    Ok(())
}

/// One conversation with the primary itself, and with the primary through Holdover.
async fn while_following(host: &Host, said: &Conversation) -> Result<(Replayed, Replayed)> {
    let address = host.primary.address();
    let address = address.rsplit('/').next().context("an address")?;
    stage::reset(&host.primary).await?;
    let cast = Cast::make(&host.primary).await?;
    let direct = replay::run(said, cast, &Client::tcp(address), Side::Primary).await?;
    stage::reset(&host.primary).await?;
    let cast = Cast::make(&host.primary).await?;
    let socket = host.daemon.client();
    let following = replay::run(said, cast, &socket, Side::Following).await?;
    Ok((direct, following))
}

#[test]
fn every_client_has_a_conversation_that_names_its_version_and_holds_no_secret() -> Result<()> {
    for said in Conversation::all()? {
        assert!(CLIENTS.contains(&said.client()), "{}", said.version);
        assert!(said.requests.len() >= 40, "{}: too short", said.version);
        for request in &said.requests {
            request.holds_no_secret()?;
        }
    }
    Ok(())
}
