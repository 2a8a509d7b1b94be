//! Asking both sides, in flight together, and what to do about a difference: try again where time may be the reason,
//! then take policies and rules away as long as it stays.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use harness::{
    Context, Result,
    client::raw::{Ask, Client, Connection, Reply},
};
use tokio::task::JoinSet;

use crate::{
    asks::{Bearer, Wanted},
    judge::{self, Outcome},
    report::Report,
    round::{Round, Shared},
    sides::Sides,
};

/// Requests in flight.
const LANES: usize = 6;

/// Attempts at making a difference smaller.
const SHRINKING: usize = 80;

/// A request on which the sides differ.
pub(crate) struct Difference {
    pub(crate) wanted: Wanted,
    pub(crate) what: String,
    pub(crate) theirs: String,
}

/// Asks all of `asks` and counts.
pub(crate) async fn ask_all(
    sides: &Arc<Sides>,
    round: &Shared,
    asks: Vec<Wanted>,
    report: &mut Report,
) -> Result<Vec<Difference>> {
    let (asks, next) = (Arc::new(asks), Arc::new(AtomicUsize::new(0)));
    let mut lanes = JoinSet::new();
    for _ in 0..LANES {
        let (sides, round) = (sides.clone(), round.clone());
        let (asks, next) = (asks.clone(), next.clone());
        lanes.spawn(async move {
            let mut asker = Asker::new(&sides, &round).await?;
            let mut outcomes = Vec::new();
            while let Some(wanted) = asks.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (outcome, reply) = asker.both(wanted).await?;
                outcomes.push((wanted.clone(), outcome, reply));
            }
            Ok::<_, harness::Failure>((outcomes, asker.again))
        });
    }
    let mut different = Vec::new();
    while let Some(done) = lanes.join_next().await {
        let (outcomes, again) = done??;
        report.again += again;
        for (wanted, outcome, reply) in outcomes {
            if let Some(node) = reply.header("x-node") {
                report.asked(node);
            }
            let features = wanted.features.iter().chain(round.features(wanted.bearer));
            match outcome {
                Outcome::Same(verdict, answer) => report.agreed(verdict, answer, features.copied()),
                Outcome::Left(cause) => report.left(cause),
                Outcome::Different(what) => different.push(Difference {
                    theirs: format!(
                        "{} {} {}",
                        reply.status,
                        reply.header("x-node").unwrap_or_default(),
                        reply.text()
                    ),
                    wanted,
                    what,
                }),
            }
        }
    }
    Ok(different)
}

/// Asks both sides, one request after the other.
struct Asker<'a> {
    sides: &'a Sides,
    round: &'a Round,
    client: Client,
    connection: Connection,
    /// How often the node that leads was asked in place of another, which had failed.
    again: u64,
}

impl<'a> Asker<'a> {
    async fn new(sides: &'a Sides, round: &'a Round) -> Result<Asker<'a>> {
        let client = sides.client()?;
        let connection = client.connect().await?;
        Ok(Asker {
            sides,
            round,
            client,
            connection,
            again: 0,
        })
    }

    /// What becomes of one request. Something that ends while it is under way may be over for one side only: then it is
    /// asked a second time.
    async fn both(&mut self, wanted: &Wanted) -> Result<(Outcome, Reply)> {
        let (outcome, reply) = self.once(wanted).await?;
        match outcome {
            Outcome::Different(_) if self.round.ends_soon => self.once(wanted).await,
            outcome => Ok((outcome, reply)),
        }
    }

    async fn once(&mut self, wanted: &Wanted) -> Result<(Outcome, Reply)> {
        let token = self.round.token(wanted.bearer);
        let exists = exists(wanted, &self.sides.planted);
        let ask = self.ask(wanted, token)?;
        let local = &self.sides.local;
        let before = judge::ours(local, wanted, token, exists, local.clock.now());
        if self.connection.closed() {
            self.connection = self.client.connect().await?;
        }
        let reply = self.reply(&ask).await.context(format!("{wanted:?}"))?;
        let outcome = judge::compare(wanted, &reply, &before);
        if !matches!(outcome, Outcome::Different(_)) {
            return Ok((outcome, reply));
        }
        let after = judge::ours(local, wanted, token, exists, local.clock.now());
        Ok((judge::compare(wanted, &reply, &after), reply))
    }

    /// The primary's answer. What a node fails at is no decision: then it is that of the node that leads, which Holdover
    /// asks too.
    async fn reply(&mut self, ask: &Ask) -> Result<Reply> {
        let reply = self.connection.send(ask).await?;
        match &self.sides.leader {
            Some(leader) if reply.status >= 500 => {
                self.again += 1;
                leader.send(ask).await
            }
            _ => Ok(reply),
        }
    }

    fn ask(&self, wanted: &Wanted, token: &str) -> Result<Ask> {
        let mut ask = Ask::new(wanted.method, &wanted.target)?;
        if !token.is_empty() {
            ask = ask.token(token)?;
        }
        if let Some((ttl, _)) = wanted.wrap {
            ask = ask.header("X-Vault-Wrap-TTL", ttl)?;
        }
        if let Some(namespace) = wanted.namespace {
            ask = ask.header("X-Vault-Namespace", namespace)?;
        }
        if wanted.method == "PATCH" {
            ask = ask.header("Content-Type", "application/merge-patch+json")?;
        }
        ask.body = wanted.body.clone().into();
        Ok(ask)
    }
}

/// Whether the object of a write exists, by the rules of the backend that is asked; none where that is not certain.
fn exists(wanted: &Wanted, planted: &[String]) -> Option<bool> {
    let call = shared::api::Call::parse(wanted.method, &wanted.target).ok()?;
    let path = call.path.as_str();
    let known = |key: &str| planted.iter().any(|planted| planted == key);
    let places = [
        "kv/data/",
        "kv/metadata/",
        "kv/detailed-metadata/",
        "lab/data/",
        "lab/metadata/",
        "old/",
    ];
    for place in places {
        if let Some(key) = path.strip_prefix(place) {
            return Some(known(key));
        }
    }
    // Elsewhere there is nothing to create.
    Some(!path.starts_with("cubbyhole/"))
}

/// Takes policies and rules away while the difference stays, and says what is left of it.
pub(crate) async fn shrunk(
    sides: &Sides,
    round: &mut Round,
    difference: &Difference,
) -> Result<String> {
    let mut attempts = SHRINKING;
    let Bearer::Token(token) = difference.wanted.bearer else {
        return Ok(told(round, difference, None));
    };
    for nr in 0..round.policies.len() {
        let mut rule = round.policies[nr].rules.len();
        while rule > 0 && attempts > 0 {
            rule -= 1;
            attempts -= 1;
            let before = round.policies[nr].clone();
            let less = before.without(rule);
            if !is_used(round, token, &before.name) {
                break;
            }
            round.write(&sides.root, &less).await?;
            sides.verify().await?;
            let stays = Asker::new(sides, round)
                .await?
                .both(&difference.wanted)
                .await?;
            match stays.0 {
                Outcome::Different(_) => round.policies[nr] = less,
                _ => {
                    round.write(&sides.root, &before).await?;
                    sides.verify().await?;
                }
            }
        }
    }
    Ok(told(round, difference, Some(token)))
}

fn is_used(round: &Round, token: usize, name: &str) -> bool {
    round.tokens[token].policies.iter().any(|own| own == name)
}

fn told(round: &Round, difference: &Difference, token: Option<usize>) -> String {
    let Difference {
        wanted,
        what,
        theirs,
    } = difference;
    let mut text = format!("{what}\nprimary: {theirs}\nrequest: {wanted:?}\n");
    if let Some(nr) = token {
        let token = &round.tokens[nr];
        text += &format!(
            "token: policies {:?}, entity {:?}\n",
            token.policies, token.entity
        );
        for policy in &round.policies {
            if is_used(round, nr, &policy.name) && !policy.rules.is_empty() {
                text += &format!(
                    "--- {} (slashes {}, wildcards {}, ends in {:?})\n{}",
                    policy.name,
                    policy.slashes,
                    policy.wildcards,
                    policy.ends_in,
                    policy.text()
                );
            }
        }
    }
    text
}
