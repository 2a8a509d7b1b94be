//! What is sent: envelopes with one warning that tells a replica's answer, ages, errors.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use shared::{
    change::{Change, Expects},
    kv::Content,
    wire::{self, AuthBlock, Envelope, Response},
    workload::Peer,
};
use zeroize::Zeroizing;

use super::{
    Answer,
    case::Case,
    refusal::{Answered, Refusal, Why},
};
use crate::{entropy, ledger::Note};

/// What an envelope holds; the rest of it is the same for all.
pub(crate) struct Contents<'a, D = ()> {
    /// The lease: id, whether it is renewable, seconds left.
    pub(crate) lease: Option<(&'a str, bool, u64)>,
    /// What was asked for.
    pub(crate) data: Option<D>,
    /// A token.
    pub(crate) auth: Option<AuthBlock>,
    /// What the warning says beyond where the answer comes from.
    pub(crate) remark: Option<&'static str>,
    /// What the primary would warn of, in its own words.
    pub(crate) warnings: Vec<String>,
    /// Of the value, or of what decided.
    pub(crate) age: Duration,
}

impl<'a, D: Serialize> Contents<'a, D> {
    /// Nothing but `data`.
    pub(crate) fn data(data: D, age: Duration) -> Self {
        Self {
            data: Some(data),
            ..Self::nothing(age)
        }
    }

    /// Nothing at all.
    pub(crate) fn nothing(age: Duration) -> Self {
        Self {
            lease: None,
            data: None,
            auth: None,
            remark: None,
            warnings: Vec::new(),
            age,
        }
    }

    /// Writes it down with 200, the primary's own warnings, and after them the one of every answer.
    pub(crate) fn granted(mut self, case: &Case<'_>) -> Answered {
        self.warnings.push(warning(case, self.age, self.remark));
        self.write(case, 200)
    }

    /// The same with these warnings of the primary's own.
    pub(crate) fn granted_with(self, case: &Case<'_>, warnings: Vec<String>) -> Answered {
        Self { warnings, ..self }.granted(case)
    }

    /// Writes it down with 404 and the primary's own warnings alone: how it shows what is gone, without a line end.
    pub(crate) fn gone(self, case: &Case<'_>) -> Answered {
        let mut gone = self.write(case, 404)?;
        let body = &mut gone.response.body;
        if body.last() == Some(&b'\n') {
            body.pop();
        }
        Ok(gone)
    }

    fn write(self, case: &Case<'_>, status: u16) -> Answered {
        let request_id = entropy::uuid(case.entropy)?;
        let (lease_id, renewable, lease_duration) = self.lease.unwrap_or(("", false, 0));
        let body = wire::to_body(&Envelope {
            request_id: &request_id,
            lease_id,
            renewable,
            lease_duration,
            data: self.data,
            wrap_info: (),
            warnings: Some(&self.warnings[..]).filter(|warnings| !warnings.is_empty()),
            auth: self.auth,
        })?;
        Ok(Answer::new(status, body, self.age))
    }
}

/// `data` inside the envelope and beside its fields, as `sys/capabilities` has it.
#[derive(Serialize)]
struct Injected<'a> {
    #[serde(flatten)]
    top: &'a Map<String, Value>,
    #[serde(flatten)]
    envelope: Envelope<'a, &'a Map<String, Value>, ()>,
}

impl Answer {
    /// An answer that changes nothing. `age` is that of the value, or of what decided.
    pub(crate) fn new(status: u16, body: Zeroizing<Vec<u8>>, age: Duration) -> Self {
        Self {
            response: Response {
                status,
                body,
                content: Content::default(),
                age: Some(age.as_secs()),
                outage: None,
            },
            changes: Vec::new(),
            expects: Expects::default(),
            note: None,
            attempt: None,
        }
    }

    /// Done, and nothing to say.
    pub(crate) fn empty(status: u16, age: Duration) -> Self {
        Self::new(status, Zeroizing::default(), age)
    }

    /// An envelope whose `data` stands at the top level too.
    pub(crate) fn injected(case: &Case<'_>, data: &Map<String, Value>, age: Duration) -> Answered {
        let request_id = entropy::uuid(case.entropy)?;
        let warnings = [warning(case, age, None)];
        let body = wire::to_body(&Injected {
            top: data,
            envelope: Envelope {
                request_id: &request_id,
                lease_id: "",
                renewable: false,
                lease_duration: 0,
                data: Some(data),
                wrap_info: (),
                warnings: Some(&warnings),
                auth: None,
            },
        })?;
        Ok(Self::new(200, body, age))
    }

    /// The same, remembering `changes` under `expects`.
    pub(crate) fn with(self, changes: Vec<Change>, expects: Expects) -> Self {
        Self {
            changes,
            expects,
            ..self
        }
    }

    /// The same, counted by the ledger.
    pub(crate) fn noted(self, note: Note) -> Self {
        Self {
            note: Some(note),
            ..self
        }
    }

    /// What goes out of what was decided.
    pub(crate) fn of(case: &Case<'_>, decided: Answered) -> Self {
        let mut answer = decided.unwrap_or_else(|refusal| refusal.answer(case));
        answer.response.outage = case.outage().map(|outage| outage.id.clone());
        answer
    }
}

impl Refusal {
    /// Its age is that of the policies, by which everything is decided.
    fn answer(&self, case: &Case<'_>) -> Answer {
        let body = wire::to_body(&self.errors(&case.unavailable())).unwrap_or_default();
        let mut answer = Answer::new(self.status(), body, Duration::ZERO);
        let policies = case.authority.policies.as_deref();
        answer.response.age = if let Self::Undecidable(Why::TooStale { age, .. }) = self {
            Some(age.as_secs())
        } else {
            policies.map(|policies| case.age(policies.set.verified_at).as_secs())
        };
        answer.note = self.reason().map(|reason| Note::Denial {
            workload: case.query.peer.and_then(Peer::only_workload).cloned(),
            uid: case.query.peer.map(|peer| peer.uid),
            reason,
            outage: case.outage().map(|outage| outage.id.clone()),
        });
        answer
    }
}

/// The one entry in `warnings`: whose answer this is, how old, since when, in which outage.
fn warning(case: &Case<'_>, age: Duration, remark: Option<&'static str>) -> String {
    let age = age.as_secs();
    let mut text = format!("answered by holdover's replica: last verified {age} s ago");
    if let Some(outage) = case.outage() {
        let (since, id) = (outage.started_at, &outage.id);
        text.push_str(&format!(
            "; primary unavailable since {since} (outage {id})"
        ));
    }
    if let Some(remark) = remark {
        text.push_str("; ");
        text.push_str(remark);
    }
    text
}
