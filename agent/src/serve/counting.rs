//! Counting for coverage, off the way of the answer: what passed is queued, and one task judges and counts it.

use std::{collections::HashMap, sync::Arc};

use http::{Response, StatusCode, uri::PathAndQuery};
use replica::vault::foresee::Foreseen;
use shared::{
    acl::Operation,
    api::{Call, Kind, RequestNamespace},
    coverage::{Caller, Carried, CoverageKey, Foretold},
    name::{TokenDigest, WorkloadName},
    settings::Settings,
    time::{BootTime, Now},
    workload::Peer,
};
use tokio::sync::{mpsc, oneshot};

use super::{ask::Ask, body::RelayBody, headers, replica::Replica, respond, stats};
use crate::coverage::{CountedRequest, Coverage, path};

/// Requests that wait to be judged; what finds no room is counted without a look into the replica.
const WAITING: usize = 256;

/// What was foreseen of reads and is used again within the same second.
const KNOWN: usize = 4096;

/// Policies of a token that are kept.
const POLICIES: usize = 16;

/// What the paths below these are is never mirrored by path.
const SYSTEM: [&str; 4] = ["auth/", "cubbyhole/", "identity/", "sys/"];

/// Bytes at the head of an answer in which the id of its lease is looked for; the secret comes after it.
const HEAD: usize = 512;

/// Marks an answer that came with a lease, in its extensions.
#[derive(Clone)]
pub(crate) struct Leased;

/// Whether an answer that begins like this comes with a lease.
pub(crate) fn comes_with_a_lease(head: &[u8]) -> bool {
    const FIELD: &[u8] = b"\"lease_id\":\"";
    let head = head.get(..HEAD).unwrap_or(head);
    let at = head.windows(FIELD.len()).position(|part| part == FIELD);
    at.and_then(|at| head.get(at + FIELD.len()))
        .is_some_and(|next| *next != b'"')
}

/// The way to the counting task. It ends with the last of these.
pub(crate) struct Counter {
    items: mpsc::Sender<Item>,
    replica: Arc<dyn Replica>,
    coverage: Arc<Coverage>,
}

enum Item {
    Answered(Box<Answered>),
    /// Everything queued before is counted.
    Mark(oneshot::Sender<()>),
}

/// A request that was answered.
struct Answered {
    ask: Ask,
    status: StatusCode,
    by_primary: bool,
    leased: bool,
}

impl Counter {
    /// Starts the counting task.
    pub(crate) fn start(replica: Arc<dyn Replica>, coverage: Arc<Coverage>) -> Self {
        let (items, queue) = mpsc::channel(WAITING);
        let foreseer = Foreseer::new(replica.clone());
        tokio::spawn(count(queue, foreseer, coverage.clone()));
        Self {
            items,
            replica,
            coverage,
        }
    }

    /// Counts an answered request.
    pub(crate) fn passed(&self, ask: Ask, answer: &Response<RelayBody>) {
        let passed = Answered {
            ask,
            status: answer.status(),
            by_primary: respond::source(answer) == "primary",
            leased: answer.extensions().get::<Leased>().is_some(),
        };
        if let Err(full) = self.items.try_send(Item::Answered(Box::new(passed)))
            && let Item::Answered(passed) = full.into_inner()
        {
            let foreseen = passed.without_a_look(self.replica.as_ref());
            passed.count(foreseen, self.replica.as_ref(), &self.coverage);
        }
    }

    /// Waits until everything that was answered before is counted.
    pub(crate) async fn caught_up(&self) {
        let (mark, reached) = oneshot::channel();
        if self.items.send(Item::Mark(mark)).await.is_ok() {
            let _ = reached.await;
        }
    }
}

async fn count(mut queue: mpsc::Receiver<Item>, mut foreseer: Foreseer, coverage: Arc<Coverage>) {
    while let Some(item) = queue.recv().await {
        match item {
            Item::Answered(answered) => {
                let foreseen = foreseer.foreseen(&answered);
                answered.count(foreseen, foreseer.replica.as_ref(), &coverage);
            }
            Item::Mark(reached) => {
                let _ = reached.send(());
            }
        }
    }
}

/// Judges by rule what needs no look, the rest as the replica would answer it; reads once a second each.
struct Foreseer {
    replica: Arc<dyn Replica>,
    known: HashMap<Same, Foreseen>,
    since: BootTime,
}

/// What makes two reads the same.
#[derive(PartialEq, Eq, Hash)]
struct Same {
    token: Option<TokenDigest>,
    standing: Option<WorkloadName>,
    uid: u32,
    unit: Option<String>,
    operation: Operation,
    namespace: RequestNamespace,
    target: PathAndQuery,
}

impl Foreseer {
    fn new(replica: Arc<dyn Replica>) -> Self {
        let since = replica.now().boot;
        Self {
            replica,
            known: HashMap::new(),
            since,
        }
    }

    fn foreseen(&mut self, answered: &Answered) -> Foreseen {
        let call = match answered.by_rule(&self.replica.settings()) {
            Ok(call) => call,
            Err(foreseen) => return foreseen,
        };
        if matches!(call.kind, Kind::TokenRevokeSelf | Kind::LeaseRevoke) {
            // By now its own effect would be foreseen.
            return answered.without_a_look(self.replica.as_ref());
        }
        let now = self.replica.now();
        let Some(same) = answered.same(call) else {
            return self.look(answered, call, now);
        };
        if now.boot.since(self.since).as_secs() > 0 || self.known.len() >= KNOWN {
            self.known.clear();
            self.since = now.boot;
        }
        if let Some(known) = self.known.get(&same) {
            return known.clone();
        }
        let foreseen = self.look(answered, call, now);
        self.known.insert(same, foreseen.clone());
        foreseen
    }

    fn look(&self, passed: &Answered, call: &Call, now: Now) -> Foreseen {
        let body = passed.ask.whole_body().cloned().unwrap_or_default();
        self.replica.foresee(&passed.ask.query(call, &body, now))
    }
}

impl Answered {
    /// What is told by rule; the call, if that takes a look.
    fn by_rule(&self, settings: &Settings) -> Result<&Call, Foreseen> {
        let call = self.ask.call.as_ref();
        let call = call.map_err(|_| of(Foretold::NotModelled))?;
        if self.is_refused() && self.status != StatusCode::NOT_FOUND {
            return Err(of(Foretold::Denied));
        }
        if let Some(header) = headers::unmodelled(&self.ask.headers) {
            let reason = format!("header {header} asks for what the replica does not model");
            return Err(because(Foretold::NotModelled, reason));
        }
        if !self.by_primary && self.status.is_success() {
            return Err(of(Foretold::Served)); // It was.
        }
        match call.kind {
            Kind::InternalUi | Kind::Wrapping => Err(of(Foretold::NotModelled)),
            Kind::Data if self.ask.mirrored || call.operation == Operation::Header => Ok(call),
            Kind::Data if !call.operation.reads() => Err(of(Foretold::Write)),
            Kind::Data => Err(self.unmirrored(call, settings)),
            _ => Ok(call),
        }
    }

    /// A read that no mirror covers: whether one could.
    fn unmirrored(&self, call: &Call, settings: &Settings) -> Foreseen {
        let path = call.path.as_str();
        if !self.ask.namespace.is(&settings.namespace) {
            let reason = "the namespace of the request is not mirrored";
            return because(Foretold::NotModelled, reason.to_owned());
        }
        if SYSTEM.iter().any(|mount| path.starts_with(mount)) {
            return of(Foretold::NotModelled);
        }
        of(Foretold::NotMirrored)
    }

    /// The verdict where there is no time for a look.
    fn without_a_look(&self, replica: &dyn Replica) -> Foreseen {
        let is_known = |digest| replica.grant(digest).is_some();
        match (self.by_rule(&replica.settings()), &self.ask.token) {
            (Err(foreseen), _) => foreseen,
            (Ok(_), Some((_, digest))) if !is_known(digest) => of(Foretold::UnknownToken),
            (Ok(_), _) => of(Foretold::Served),
        }
    }

    /// Whether the primary refused it.
    fn is_refused(&self) -> bool {
        let limited = self.status == StatusCode::TOO_MANY_REQUESTS;
        self.by_primary && self.status.is_client_error() && !limited
    }

    /// What its judgement may be used for again; none for what is not a plain read.
    fn same(&self, call: &Call) -> Option<Same> {
        let plain = call.kind == Kind::Data && call.operation != Operation::Header;
        plain.then(|| Same {
            token: self.ask.token.as_ref().map(|(_, digest)| *digest),
            standing: self.ask.standing.clone(),
            uid: self.ask.peer.uid,
            unit: self.ask.peer.unit.clone(),
            operation: call.operation,
            namespace: self.ask.namespace.clone(),
            target: self.ask.target.clone(),
        })
    }

    fn count(&self, foreseen: Foreseen, replica: &dyn Replica, coverage: &Coverage) {
        let call = self.ask.call.as_ref().ok();
        let caller = caller(&self.ask.peer);
        let carried = match (&caller, &self.ask.token) {
            (Caller::Peer { .. }, Some((_, digest))) => carried(&caller, digest, replica),
            _ => None,
        };
        let counted = CountedRequest {
            asked: CoverageKey {
                caller,
                operation: stats::operation(call).into(),
                path: call.map_or_else(|| "-".to_owned(), path::template),
                verdict: foreseen.verdict,
            },
            refused: self.is_refused(),
            leased: self.leased,
            reason: foreseen.reason,
            carried,
        };
        coverage.count(counted, replica.now().steady);
    }
}

fn of(verdict: Foretold) -> Foreseen {
    because(verdict, String::new())
}

fn because(verdict: Foretold, reason: String) -> Foreseen {
    Foreseen { verdict, reason }
}

/// The entry of a peer; the first one where several match.
fn caller(peer: &Peer) -> Caller {
    match peer.workloads.first() {
        Some(name) => Caller::Workload(name.clone()),
        None => Caller::Peer {
            uid: peer.uid,
            unit: peer.unit.clone(),
        },
    }
}

/// What a known token carries: names alone.
fn carried(caller: &Caller, token: &TokenDigest, replica: &dyn Replica) -> Option<Carried> {
    let live = replica.grant(token)?;
    let facts = &live.grant.facts;
    let created = facts.path.strip_prefix("auth/token/create/");
    let role = facts.role.as_deref().or(created);
    let policies = facts.all_policies().into_iter().take(POLICIES);
    Some(Carried {
        caller: caller.clone(),
        role: role.map(str::to_owned),
        policies: policies.map(|policy| policy.as_str().to_owned()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_told_from_an_empty_one_by_the_head_of_an_answer() {
        let leased = br#"{"request_id":"r","lease_id":"database/creds/a/x","data":{}}"#;
        assert!(comes_with_a_lease(leased));
        assert!(!comes_with_a_lease(
            br#"{"request_id":"r","lease_id":"","data":{}}"#
        ));
        assert!(!comes_with_a_lease(br#"{"lease_id":""#));
        assert!(!comes_with_a_lease(b""));
        let far = [&[b' '; HEAD][..], leased].concat();
        assert!(!comes_with_a_lease(&far));
    }
}
