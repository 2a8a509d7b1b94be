//! An answer that is kept as it is: what of it is stored, and whether it is still what is held.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use shared::{
    change::Change,
    kv::{Form, Place, Record, VersionState},
    name::{LeaseId, RequestPath},
    secret::SecretBytes,
    time::WallTime,
};

use super::{context::MirrorContext, read::bytes};
use crate::upstream::{Envelope, Said, ShownReply, UpstreamError};

/// What a read answered.
pub(super) enum PlainAnswer {
    /// Something to keep.
    Kept(KeptAnswer),
    /// A lease.
    Leased(NewLease),
    /// A token, or something wrapped: nobody else may have it.
    Token,
}

/// What is kept of an answer.
pub(super) struct KeptAnswer {
    /// Whether it is there.
    state: VersionState,
    form: Form,
    body: SecretBytes,
}

/// A lease as it was given.
pub(super) struct NewLease {
    pub(super) id: LeaseId,
    /// Seconds.
    pub(super) granted: u64,
    pub(super) renewable: bool,
    pub(super) data: SecretBytes,
}

impl KeptAnswer {
    /// Whether it may take the place of what is held: at one path the primary does not answer in one form and then in
    /// another.
    pub(super) fn is_like(&self, held: &Record) -> bool {
        match (&held.form, &self.form) {
            _ if self.state == VersionState::Gone || held.state == VersionState::Gone => true,
            (Form::Bare(one), Form::Bare(other)) => one.kind == other.kind,
            (Form::Envelope { .. }, Form::Envelope { .. }) => true,
            (Form::Bare(_), Form::Envelope { .. }) | (Form::Envelope { .. }, Form::Bare(_)) => {
                false
            }
        }
    }

    fn bare(state: VersionState, shown: &ShownReply) -> Self {
        Self {
            state,
            form: Form::Bare(shown.content().clone()),
            body: SecretBytes::filled(|body| body.extend_from_slice(shown.body())),
        }
    }

    fn enveloped(state: VersionState, envelope: Envelope<'_>) -> Self {
        let data = envelope.object().map_or("null", RawValue::get);
        Self {
            state,
            body: bytes(data),
            form: Form::Envelope {
                lease_duration: envelope.lease_duration,
                warnings: envelope.into_warnings(),
            },
        }
    }
}

/// Reads what `path` answers.
///
/// # Errors
/// If it is a refusal, or nothing that a read of a path shows.
pub(super) fn of(said: &Said, path: &RequestPath) -> Result<PlainAnswer, UpstreamError> {
    let kept = match said {
        Said::Emptied(shown) => KeptAnswer::enveloped(VersionState::Gone, shown.envelope()?),
        Said::Missing(shown) => KeptAnswer::bare(VersionState::Gone, shown),
        Said::Shown(shown) if shown.is_enveloped() => {
            let envelope = shown.envelope()?;
            if envelope.is_wrapped() || envelope.has_token() {
                return Ok(PlainAnswer::Token);
            }
            if !envelope.lease_id.is_empty() {
                return leased(shown, &envelope, path).map(PlainAnswer::Leased);
            }
            of_envelope(shown)?
        }
        Said::Shown(shown) => of_bare(shown)?,
        other => return Err(other.unfit()),
    };
    Ok(PlainAnswer::Kept(kept))
}

/// Something in an envelope that is there.
///
/// # Errors
/// If there is no such envelope.
pub(super) fn of_envelope(shown: &ShownReply) -> Result<KeptAnswer, UpstreamError> {
    shown.object()?;
    Ok(KeptAnswer::enveloped(VersionState::Live, shown.envelope()?))
}

/// The lease that an answer with a `lease_id` of this path gave, whatever else is wrong with it.
pub(super) fn stray_lease(said: &Said, path: &RequestPath) -> Option<LeaseId> {
    #[derive(Deserialize)]
    struct Stray {
        lease_id: String,
    }
    let Said::Shown(shown) = said else {
        return None;
    };
    let stray: Stray = serde_json::from_slice(shown.body()).ok()?;
    lease_of(&stray.lease_id, path)
}

fn leased(
    shown: &ShownReply,
    envelope: &Envelope<'_>,
    path: &RequestPath,
) -> Result<NewLease, UpstreamError> {
    let id = lease_of(&envelope.lease_id, path)
        .ok_or_else(|| shown.unexpected("a lease of another path"))?;
    let data = envelope
        .object()
        .ok_or_else(|| shown.unexpected("a lease without data"))?;
    if envelope.lease_duration == 0 {
        return Err(shown.unexpected("a lease without a duration"));
    }
    Ok(NewLease {
        id,
        granted: envelope.lease_duration,
        renewable: envelope.renewable,
        data: bytes(data.get()),
    })
}

/// The primary makes a lease's id of the path that it was asked for, and a part of its own.
fn lease_of(id: &str, path: &RequestPath) -> Option<LeaseId> {
    let own = id.strip_prefix(path.as_str())?.strip_prefix('/')?;
    (!own.is_empty()).then(|| LeaseId::parse(id).ok())?
}

/// Something without an envelope: a document of JSON, or of another kind that is no page for people.
fn of_bare(shown: &ShownReply) -> Result<KeptAnswer, UpstreamError> {
    match shown.media_type().as_deref() {
        Some("application/json") => {
            shown.bare::<BTreeMap<String, IgnoredAny>>()?;
        }
        Some("text/html" | "application/xhtml+xml") => {
            return Err(shown.unexpected("a page of HTML"));
        }
        None => return Err(shown.unexpected("no Content-Type")),
        Some(_) if shown.body().is_empty() => {
            return Err(shown.unexpected("there is nothing in it"));
        }
        Some(_) => {}
    }
    Ok(KeptAnswer::bare(VersionState::Live, shown))
}

/// What has to be stored of an answer: nothing, where it is what is held and counts as covered.
pub(super) fn change(
    context: &MirrorContext,
    place: &Place,
    KeptAnswer { state, form, body }: KeptAnswer,
    at: WallTime,
) -> Option<Change> {
    let view = &context.local.view;
    let secrets = view.secrets();
    let held = secrets.records.get(&(place.clone(), None));
    let same = held.is_some_and(|held| {
        let alike = (held.record.state, &held.record.form) == (state, &form);
        alike && matches!(held.body.open(view.keys()), Ok(known) if known.expose() == body.expose())
    });
    if same && held.is_some_and(|held| held.record.covered) {
        return None;
    }
    let record = Record {
        place: place.clone(),
        version: None,
        state,
        verified_at: at,
        covered: true,
        form,
    };
    Some(Change::Record(Box::new(record), (!same).then_some(body)))
}
