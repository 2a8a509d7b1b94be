//! What goes to the primary and comes from it, looked at for mirrored keys: one that was written, or that is shown in a
//! newer state than is kept, is in doubt before the client has the last byte of its answer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use replica::learn::key::{AnsweredRead, Difference, SentWrite, Written};
use shared::{
    api::RequestNamespace,
    doubt::{Told, WriteEffect, WriteLine},
    kv::Doubt,
    name::Namespace,
    provenance::TokenUsed,
};

use super::{
    Handled, ask::Ask, observer::AnswerSeen, recently::Recently, replica::Replica, respond,
};
use crate::{mirror::Anew, status::fill::Fill};

/// How long an answer is held back for a doubt to be durable. In memory it is at once.
const BRIEFLY: Duration = Duration::from_millis(100);

/// The same evidence that a key is newer counts once in this time: the key was read anew since, so whoever shows it
/// again is behind.
const REFUTED_FOR: Duration = Duration::from_secs(10);

/// Evidence that is remembered. What is forgotten counts as new.
const REMEMBERED: usize = 4096;

/// Whose evidence is: what the primary shows is no user's.
const NOBODY: u32 = u32::MAX;

/// Looks at every write and at every mirrored read.
pub(crate) struct KeyWatch {
    replica: Arc<dyn Replica>,
    anew: Anew,
    counted: Recently<[u8; 32]>,
}

/// A write on its way. One that ends without a word, as when its client has gone, may have been carried out.
pub(crate) struct Sending {
    watch: Arc<KeyWatch>,
    line: WriteLine,
    namespace: Option<Namespace>,
    body: Option<Bytes>,
    is_settled: bool,
}

impl KeyWatch {
    pub(crate) fn new(replica: Arc<dyn Replica>, anew: Anew) -> Arc<Self> {
        Arc::new(Self {
            replica,
            anew,
            counted: Recently::new(REFUTED_FOR, REMEMBERED),
        })
    }

    /// How full what it remembers is.
    pub(crate) fn fill(&self) -> Fill {
        let (has, most) = self.counted.filled();
        Fill::entries("keys_shown_newer", has, most)
    }

    /// A request that is about to be sent on; none for what only reads.
    pub(crate) fn sending(self: &Arc<Self>, ask: &Ask) -> Option<Sending> {
        let line = WriteLine::parse(ask.method.as_str(), ask.target.as_str())?;
        Some(Sending {
            watch: Arc::clone(self),
            line,
            namespace: match ask.named() {
                RequestNamespace::Is(named) => Some(named),
                RequestNamespace::Configured | RequestNamespace::Foreign => None,
            },
            body: ask.whole_body().cloned(),
            is_settled: false,
        })
    }

    /// An answer to a client. What it says of mirrored keys counts if it is whole, and the trusted cluster's.
    pub(crate) async fn read(&self, ask: &Ask, used: TokenUsed, answer: &AnswerSeen<'_>) {
        if !ask.mirrored {
            return;
        }
        let evidence = answer.evidence(ask, used, self.replica.as_ref());
        let Some((call, told)) = evidence.and_then(|one| Some((one.asked.call, one.tells()?)))
        else {
            return;
        };
        let differences = self.replica.shown(&AnsweredRead { call, told });
        if !differences.is_empty() {
            self.weigh(differences, told.current).await;
        }
    }

    /// Differences that an answer shows, current or not.
    pub(crate) async fn weigh(&self, differences: Vec<Difference>, current: bool) {
        let now = self.replica.now();
        let mut doubts = Vec::new();
        for Difference { of, told, evidence } in differences {
            let vanished = match told {
                Told::Newer { vanished } if !self.is_refuted(evidence) => vanished,
                Told::Different if current => false,
                _ => {
                    self.anew.due(of);
                    continue;
                }
            };
            let since = now.steady;
            doubts.push(Doubt {
                of,
                since,
                vanished,
            });
        }
        self.doubt(doubts).await;
    }

    fn is_refuted(&self, evidence: [u8; 32]) -> bool {
        let now = self.replica.now().boot;
        let counted = self.counted.is_too_soon(&evidence, now);
        if !counted {
            self.counted.used(evidence, NOBODY, now);
        }
        counted
    }

    /// In memory when this is first polled, and on disk soon, whether or not it is waited for.
    async fn doubt(&self, doubts: Vec<Doubt>) {
        if doubts.is_empty() {
            return;
        }
        let durable = self.replica.doubt(doubts);
        self.anew.doubted();
        let _ = tokio::time::timeout(BRIEFLY, durable).await;
    }
}

impl Sending {
    /// What came of it.
    pub(crate) async fn came_to(mut self, handled: &Handled) {
        self.is_settled = true;
        let effect = effect_of(handled);
        let written = self.written(effect);
        if written.authority && effect == WriteEffect::CarriedOut {
            self.watch.anew.authority();
        }
        self.watch.doubt(written.doubts).await;
    }

    fn written(&self, effect: WriteEffect) -> Written {
        if effect == WriteEffect::None {
            return Written::default();
        }
        self.watch.replica.written(&SentWrite {
            line: &self.line,
            namespace: self.namespace.as_ref(),
            body: self.body.as_deref(),
        })
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let doubts = self.written(WriteEffect::Unknown).doubts;
        if !doubts.is_empty() {
            drop(self.watch.replica.doubt(doubts));
            self.watch.anew.doubted();
        }
    }
}

/// What an answer on its way to the client says of the write that it answers. Whatever the primary says with 5xx may have
/// been carried out; what Holdover says is that it cannot tell (504), or that it never got there.
fn effect_of(handled: &Handled) -> WriteEffect {
    let Ok(answer) = handled else {
        return WriteEffect::Unknown;
    };
    let of_primary = respond::source(answer) == "primary";
    match answer.status().as_u16() {
        200..=299 if of_primary => WriteEffect::CarriedOut,
        502 | 504 => WriteEffect::Unknown,
        500..=599 if of_primary => WriteEffect::Unknown,
        _ => WriteEffect::None,
    }
}
