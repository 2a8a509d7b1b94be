//! Says a conversation again, and keeps the answers.

use std::time::Duration;

use harness::client::raw::{Ask, Client, Reply};
use harness::{Context, Failure, Result, eventually};

use crate::answer::Answer;
use crate::cast::Cast;
use crate::conversation::Conversation;
use crate::names::Names;

/// Who answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// The primary itself.
    Primary,
    /// The primary, through Holdover.
    Following,
    /// The replica.
    Replica,
}

/// The answers to a conversation.
pub(crate) struct Replayed {
    /// Who gave them.
    pub(crate) side: Side,
    /// Names of what was handed out.
    pub(crate) names: Names,
    /// One for each request; none where it is not to be compared, or could not be said.
    pub(crate) answers: Vec<Option<Answer>>,
}

/// Puts the requests of `said` to `client`, one after the other, in the name of `cast`.
pub(crate) async fn run(
    said: &Conversation,
    cast: Cast,
    client: &Client,
    side: Side,
) -> Result<Replayed> {
    let client = client.clone().within(Duration::from_secs(15));
    let (mut names, since) = (cast.names, cast.since);
    let mut answers = Vec::new();
    let mut accepted = false;
    for (number, request) in said.requests.iter().enumerate() {
        let shown = || {
            format!(
                "{side:?}: {} of {}: {} {}",
                number, said.version, request.method, request.target
            )
        };
        let ask = match request.ask(&names) {
            Ok(ask) => ask,
            // What it sends back was not handed out.
            Err(_) if side == Side::Replica => {
                answers.push(None);
                continue;
            }
            Err(failure) => return Err(failure).context(shown()),
        };
        let reply = match accepted {
            true => settled(&client, &ask, request.answered).await,
            false => client.send(&ask).await,
        };
        let reply = reply.context(shown())?;
        accepted = reply.status == 202 && side != Side::Replica;
        if side != Side::Replica {
            assert_eq!(
                reply.status,
                request.answered,
                "{}: {}",
                shown(),
                reply.text()
            );
        }
        names.learn(number, &reply);
        let answer = Answer::of(&reply, &names, since.elapsed()).context(shown())?;
        answers.push(Some(answer));
    }
    Ok(Replayed {
        side,
        names,
        answers,
    })
}

/// The answer to a look-up after the primary accepted something with 202: once it has carried that out.
async fn settled(client: &Client, ask: &Ask, status: u16) -> Result<Reply> {
    let bound = Duration::from_secs(10);
    eventually(bound, "what was accepted", async || {
        match client.send(ask).await {
            Ok(reply) if reply.status == status => Ok(reply),
            Ok(reply) => Err(Failure::new(reply.text())),
            Err(failure) => Err(failure),
        }
    })
    .await
}
