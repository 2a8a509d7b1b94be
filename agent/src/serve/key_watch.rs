//! What goes to the primary and comes from it, looked at for mirrored keys: one that was written, or that is shown in a
//! newer state than is kept, is in doubt before the client has the last byte of its answer.

use std::{sync::Arc, time::Duration};

use replica::learn::key::{AnsweredRead, Difference, SentWrite, Written};
use shared::{
    api::RequestNamespace,
    doubt::{Reach, Told, WriteEffect, WriteHeard, WriteLine, Writer},
    kv::Doubt,
    name::Namespace,
    provenance::TokenUsed,
    share::Total,
};

use super::{
    ask::Ask, custody::Unsendable, headers, observer::AnswerSeen, recently::Recently,
    replica::Replica,
};
use crate::{
    link::{
        passed::Passed,
        room::{BodyRoom, Rooms},
    },
    mirror::{Anew, AuthorityWrite},
    status::fill::Fill,
};

/// How long an answer is held back for a doubt to be durable. In memory it is at once.
const BRIEFLY: Duration = Duration::from_millis(100);

/// The same evidence that a key is newer counts once in this time: the key was read anew since, so whoever shows it
/// again is behind.
const REFUTED_FOR: Duration = Duration::from_secs(10);

/// Evidence that is remembered. What is forgotten counts as new.
const REMEMBERED: usize = 4096;

/// Writes to mirrored keys on their way, shared, of which only the primary knows whether their senders may write. Each may leave a
/// key in doubt if the primary goes away just then, and whoever makes tokens up must not have many.
const UNKNOWN_WRITERS: u64 = 64;

/// Whose evidence is: what the primary shows is no user's.
const NOBODY: u32 = u32::MAX;

/// Looks at every write and at every mirrored read.
pub(crate) struct KeyWatch {
    replica: Arc<dyn Replica>,
    anew: Anew,
    counted: Recently<[u8; 32]>,
    unknown: Rooms,
}

/// A write on its way. One that ends without a word may have been carried out.
pub(crate) struct Sending {
    watch: Arc<KeyWatch>,
    write: Write,
    /// As it was when it was sent.
    writer: Writer,
    /// One of the few of those of whom only the primary knows whether they may write.
    _place: Option<BodyRoom>,
    /// Where it may change who may do what.
    authority: Option<AuthorityWrite>,
    is_settled: bool,
}

/// What is known of it.
struct Write {
    ask: Ask,
    line: WriteLine,
    namespace: Option<Namespace>,
    passed: Passed,
}

impl KeyWatch {
    pub(crate) fn new(replica: Arc<dyn Replica>, anew: Anew) -> Arc<Self> {
        Arc::new(Self {
            replica,
            anew,
            counted: Recently::new(REFUTED_FOR, REMEMBERED),
            unknown: Rooms::default(),
        })
    }

    /// How full what it remembers is.
    pub(crate) fn fills(&self) -> [Fill; 2] {
        let (has, most) = self.counted.filled();
        [
            Fill::entries("keys_shown_newer", has, most),
            Fill::count(
                "writes_of_unknown_tokens",
                self.unknown.taken(),
                UNKNOWN_WRITERS,
            ),
        ]
    }

    /// A request that is about to be sent on, its body as far as it has `passed`; none for what only reads. `halved` if there is a
    /// workload entry.
    ///
    /// # Errors
    /// [`Unsendable::NoPlace`] if its sender has its share of those on their way.
    pub(crate) fn sending(
        self: &Arc<Self>,
        ask: &Ask,
        passed: Passed,
        halved: bool,
    ) -> Result<Option<Sending>, Unsendable> {
        let Some(write) = Write::of(ask, passed) else {
            return Ok(None);
        };
        let Written { doubts, authority } = write.leaves(&self.replica);
        let touches = !doubts.is_empty();
        let writer = match touches || authority {
            true => self.writer(&write),
            false => Writer::Unknown,
        };
        let place = match touches && writer == Writer::Unknown {
            true => Some(self.place(ask, halved).ok_or(Unsendable::NoPlace)?),
            false => None,
        };
        let changes = authority && writer != Writer::MayNot;
        Ok(Some(Sending {
            authority: changes.then(|| self.anew.authority_changes()),
            watch: Arc::clone(self),
            write,
            writer,
            _place: place,
            is_settled: false,
        }))
    }

    fn place(&self, ask: &Ask, halved: bool) -> Option<BodyRoom> {
        let all = UNKNOWN_WRITERS;
        self.unknown.place(&ask.party, Total { all, halved })
    }

    /// Whether who sent it may write there. Whoever may not by what is mirrored, may by what was just changed.
    fn writer(&self, write: &Write) -> Writer {
        match write.writer(&self.replica) {
            Writer::MayNot if self.anew.is_authority_behind() => Writer::Unknown,
            writer => writer,
        }
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
    pub(crate) async fn came_to(mut self, heard: WriteHeard) {
        self.is_settled = true;
        let effect = self.effect(heard);
        self.note_authority(effect);
        let written = self.written(effect);
        if written.authority && effect == WriteEffect::CarriedOut {
            self.watch.anew.authority();
        }
        self.watch.doubt(written.doubts).await;
    }

    /// It should have been heard of by now. What it may have done is in doubt, whatever is heard of it later.
    pub(crate) async fn is_unheard(&self) {
        let effect = self.effect(WriteHeard::Unheard);
        self.watch.doubt(self.written(effect).doubts).await;
    }

    /// Whether as much of it has gone out as the primary acts on.
    pub(super) fn may_be_acted_on(&self) -> bool {
        self.write.may_be_acted_on()
    }

    fn effect(&self, heard: WriteHeard) -> WriteEffect {
        let reach = match self.may_be_acted_on() {
            true => Reach::Enough,
            false => Reach::Short,
        };
        let judge = || self.writer.and(self.watch.writer(&self.write));
        let writer = match heard {
            WriteHeard::Unheard => judge(),
            WriteHeard::CarriedOut | WriteHeard::Refused => self.writer,
        };
        WriteEffect::of(heard, reach, writer)
    }

    fn note_authority(&self, effect: WriteEffect) {
        if let (Some(write), true) = (&self.authority, effect != WriteEffect::None) {
            write.may_count(self.watch.replica.now().steady);
        }
    }

    fn written(&self, effect: WriteEffect) -> Written {
        match effect {
            WriteEffect::None => Written::default(),
            WriteEffect::CarriedOut | WriteEffect::Unknown => {
                self.write.leaves(&self.watch.replica)
            }
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let effect = self.effect(WriteHeard::Unheard);
        self.note_authority(effect);
        let doubts = self.written(effect).doubts;
        if !doubts.is_empty() {
            drop(self.watch.replica.doubt(doubts));
            self.watch.anew.doubted();
        }
    }
}

impl Write {
    fn of(ask: &Ask, passed: Passed) -> Option<Self> {
        let line = WriteLine::parse(ask.method.as_str(), ask.target.as_str())?;
        Some(Self {
            ask: ask.again(),
            line,
            namespace: match ask.named() {
                RequestNamespace::Is(named) => Some(named),
                RequestNamespace::Configured | RequestNamespace::Foreign => None,
            },
            passed,
        })
    }

    /// Whether the primary may act on what has gone out of it.
    fn may_be_acted_on(&self) -> bool {
        self.line.needs_no_body() || self.passed.is_enough()
    }

    /// What it leaves to be done where it may have been carried out.
    fn leaves(&self, replica: &Arc<dyn Replica>) -> Written {
        replica.written(&SentWrite {
            line: &self.line,
            namespace: self.namespace.as_ref(),
            body: self.ask.whole_body().map(|body| &body[..]),
        })
    }

    /// Whether who sent it may write there.
    fn writer(&self, replica: &Arc<dyn Replica>) -> Writer {
        match &self.ask.call {
            Ok(call) if !headers::logs_in_inline(&self.ask.headers) => {
                replica.writer(&self.ask.query(call, &[], replica.now()))
            }
            _ => Writer::Unknown,
        }
    }
}
