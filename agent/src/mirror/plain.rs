//! An answer that is kept as it is: what of it is stored, and whether it is still what is held.

use serde::Deserialize;
use serde::de::IgnoredAny;
use shared::{
    change::Change,
    kv::{Form, Place, Record, VersionState},
    name::LeaseId,
    secret::SecretBytes,
    time::WallTime,
};

use super::{context::MirrorContext, read::bytes};
use crate::upstream::{Reply, UpstreamError};

/// What a read answered.
pub(super) enum PlainAnswer {
    /// Something to keep, and whether it is there.
    Kept(VersionState, Form, SecretBytes),
    /// A lease.
    Leased(LeaseId),
}

/// What every envelope has, and nothing else does.
#[derive(Deserialize)]
struct Marks {
    #[serde(rename = "request_id")]
    _request_id: IgnoredAny,
    #[serde(rename = "lease_id")]
    _lease_id: IgnoredAny,
}

#[derive(Deserialize)]
struct Remarks {
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

/// Reads a 200 or a 404.
///
/// # Errors
/// If it is neither, or nothing that can be given to others.
pub(super) fn of(reply: Reply) -> Result<PlainAnswer, UpstreamError> {
    let state = match reply.status() {
        200 => VersionState::Live,
        404 => VersionState::Gone,
        _ => {
            let reply = reply.success()?;
            return Err(reply.unexpected("nothing to keep in it"));
        }
    };
    if serde_json::from_slice::<Marks>(reply.body()).is_err() {
        let body = SecretBytes::filled(|body| body.extend_from_slice(reply.body()));
        return Ok(PlainAnswer::Kept(
            state,
            Form::Bare(reply.content().clone()),
            body,
        ));
    }
    let envelope = reply.envelope()?;
    if envelope.wrap_info.is_some() {
        return Err(reply.unexpected("it is wrapped, or waits for approval by a control group"));
    }
    if envelope.auth.is_some() {
        return Err(reply.unexpected("a token in it"));
    }
    if let Ok(lease) = LeaseId::parse(&envelope.lease_id) {
        return Ok(PlainAnswer::Leased(lease));
    }
    let form = Form::Envelope {
        lease_duration: envelope.lease_duration,
        warnings: reply.bare::<Remarks>()?.warnings.unwrap_or_default(),
    };
    let data = bytes(envelope.data.map_or("null", |data| data.get()));
    Ok(PlainAnswer::Kept(state, form, data))
}

/// What has to be stored of an answer: nothing, where it is what is held and counts as covered.
pub(super) fn change(
    context: &MirrorContext,
    place: &Place,
    (state, form, body): (VersionState, Form, SecretBytes),
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
