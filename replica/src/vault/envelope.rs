//! What is sent: envelopes with one warning that tells a replica's answer, ages, errors.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use shared::{
    change::{Change, Expects},
    kv::Content,
    wire::{self, AuthBlock, Envelope, Response},
};
use zeroize::Zeroizing;

use super::{
    Answer,
    case::Case,
    refusal::{Refusal, Why},
};
use crate::{entropy, ledger::Note};

/// An answer in the making: granted, its body written.
pub(crate) struct Granted {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Zeroizing<Vec<u8>>,
    /// What the body is.
    pub(crate) content: Content,
    /// Of the value, or of what decided.
    pub(crate) age: Duration,
    /// What to remember.
    pub(crate) changes: Vec<Change>,
    /// What must still hold then.
    pub(crate) expects: Expects,
    /// What the ledger counts.
    pub(crate) note: Option<Note>,
}

/// What an envelope holds; the rest of it is the same for all.
pub(crate) struct Contents<'a, D> {
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
    pub(crate) fn granted(mut self, case: &Case<'_>) -> Result<Granted, Refusal> {
        let mut warnings = std::mem::take(&mut self.warnings);
        warnings.push(warning(case, self.age, self.remark));
        self.write(case, 200, Some(&warnings))
    }

    /// The same with these warnings of the primary's own.
    pub(crate) fn granted_with(
        self,
        case: &Case<'_>,
        warnings: Vec<String>,
    ) -> Result<Granted, Refusal> {
        Self { warnings, ..self }.granted(case)
    }

    /// Writes it down with 404 and the primary's own warnings alone: how it shows what is gone, without a line end.
    pub(crate) fn gone(self, case: &Case<'_>, warnings: &[String]) -> Result<Granted, Refusal> {
        let warnings = Some(warnings).filter(|warnings| !warnings.is_empty());
        let mut gone = self.write(case, 404, warnings)?;
        if gone.body.last() == Some(&b'\n') {
            gone.body.pop();
        }
        Ok(gone)
    }

    fn write(
        self,
        case: &Case<'_>,
        status: u16,
        warnings: Option<&[String]>,
    ) -> Result<Granted, Refusal> {
        let request_id = entropy::uuid(case.entropy)?;
        let (lease_id, renewable, lease_duration) = self.lease.unwrap_or(("", false, 0));
        let body = wire::to_body(&Envelope {
            request_id: &request_id,
            lease_id,
            renewable,
            lease_duration,
            data: self.data,
            wrap_info: (),
            warnings,
            auth: self.auth,
        })?;
        Ok(Granted::new(status, body, self.age))
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

impl Granted {
    /// An answer that changes nothing.
    pub(crate) fn new(status: u16, body: Zeroizing<Vec<u8>>, age: Duration) -> Self {
        Self {
            status,
            body,
            content: Content::default(),
            age,
            changes: Vec::new(),
            expects: Expects::default(),
            note: None,
        }
    }

    /// Done, and nothing to say.
    pub(crate) fn empty(status: u16, age: Duration) -> Self {
        Self::new(status, Zeroizing::new(Vec::new()), age)
    }

    /// An envelope whose `data` stands at the top level too.
    pub(crate) fn injected(
        case: &Case<'_>,
        data: &Map<String, Value>,
        age: Duration,
    ) -> Result<Self, Refusal> {
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

    /// An answer without an envelope, as the primary wrote it.
    pub(crate) fn bare(
        status: u16,
        body: Zeroizing<Vec<u8>>,
        content: Content,
        age: Duration,
    ) -> Self {
        Self {
            content,
            ..Self::new(status, body, age)
        }
    }

    /// The same, remembering `changes` under `expects`.
    pub(crate) fn with(mut self, changes: Vec<Change>, expects: Expects) -> Self {
        self.changes = changes;
        self.expects = expects;
        self
    }

    /// The same, counted by the ledger.
    pub(crate) fn noted(mut self, note: Note) -> Self {
        self.note = Some(note);
        self
    }

    /// What goes out.
    pub(crate) fn into_answer(self, case: &Case<'_>) -> Answer {
        Answer {
            response: Response {
                status: self.status,
                body: self.body,
                content: self.content,
                age: Some(self.age.as_secs()),
                outage: case.outage().map(|outage| outage.id.clone()),
            },
            changes: self.changes,
            expects: self.expects,
            note: self.note,
            attempt: None,
        }
    }
}

impl Refusal {
    /// What goes out. The age is that of the policies, by which everything is decided.
    pub(crate) fn into_answer(self, case: &Case<'_>) -> Answer {
        let outage = case.outage().map(|outage| outage.id.clone());
        let errors = self.errors(&case.unavailable());
        let body = wire::to_body(&errors).unwrap_or_default();
        let policies = case.authority.policies.as_deref();
        let age = if let Self::Undecidable(Why::TooStale { age, .. }) = &self {
            Some(age.as_secs())
        } else {
            policies.map(|policies| case.age(policies.set.verified_at).as_secs())
        };
        let note = self.reason().map(|reason| Note::Denial {
            uid: case.query.peer.map(|peer| peer.uid),
            reason,
            outage: outage.clone(),
        });
        Answer {
            response: Response {
                status: self.status(),
                body,
                content: Content::default(),
                age,
                outage,
            },
            changes: Vec::new(),
            expects: Expects::default(),
            note,
            attempt: None,
        }
    }
}

/// The one entry in `warnings`: whose answer this is, how old, since when, in which outage.
fn warning(case: &Case<'_>, age: Duration, remark: Option<&'static str>) -> String {
    let mut text = format!(
        "answered by holdover's replica: last verified {} s ago",
        age.as_secs()
    );
    if let Some(outage) = case.outage() {
        text.push_str(&format!(
            "; primary unavailable since {} (outage {})",
            outage.started_at, outage.id
        ));
    }
    if let Some(remark) = remark {
        text.push_str("; ");
        text.push_str(remark);
    }
    text
}
