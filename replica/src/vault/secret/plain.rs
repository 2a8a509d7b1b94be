//! Values without versions: of KV v1, and of any other path that reads without a lease. What the primary answered is
//! kept and given again.

use serde_json::value::RawValue;
use shared::{
    acl::Allowed,
    change::Mount,
    kv::{Form, VersionState},
};
use zeroize::Zeroizing;

use super::site::Site;
use crate::{
    vault::{
        Answer,
        envelope::Contents,
        fields,
        parameter::Params,
        refusal::{Answered, Refusal, Why},
    },
    view::HeldRecord,
};

/// Answers a read at `site`.
pub(super) fn answer(site: &Site<'_>, data: &Params, allowed: &Allowed) -> Answered {
    let case = &site.case;
    let cluster = case.mounts()?;
    let mount = cluster.mounted(site.place.path.as_str());
    if !mount.is_some_and(Mount::is_kv1) {
        return kept(site);
    }
    let warnings = fields::KV1.warnings(data, allowed)?;
    let secrets = case.view.secrets();
    match site.unversioned(&secrets) {
        Some(held) => shown(site, held, warnings),
        None if secrets.keys.contains_key(&site.place) => Err(Why::ValueNotMirrored.into()),
        None => Err(site.absent()),
    }
}

/// Answers a read of a path whose parameters only its backend knows: none may be given.
pub(super) fn kept(site: &Site<'_>) -> Answered {
    let case = &site.case;
    if !case.query.call.query.is_empty() {
        return Err(Why::NotServed.into());
    }
    let secrets = case.view.secrets();
    match site.unversioned(&secrets) {
        Some(held) => shown(site, held, Vec::new()),
        None if site.state.is_none() => Err(Refusal::incomplete(site.mirror)),
        None => Err(Why::ValueNotMirrored.into()),
    }
}

fn shown(site: &Site<'_>, held: &HeldRecord, mut warnings: Vec<String>) -> Answered {
    let (case, age) = (&site.case, site.age(Some(held))?);
    let body = held.body.open(case.view.keys())?;
    let (lease_duration, said) = match &held.record.form {
        Form::Bare(content) => {
            let status = match held.record.state {
                VersionState::Live => 200,
                VersionState::Gone => 404,
            };
            let body = Zeroizing::new(body.expose().clone());
            let mut bare = Answer::new(status, body, age);
            bare.response.content = content.clone();
            return Ok(bare);
        }
        Form::Envelope {
            lease_duration,
            warnings,
        } => (*lease_duration, warnings),
    };
    warnings.extend(said.iter().cloned());
    let data: &RawValue = serde_json::from_slice(body.expose())?;
    let contents = Contents {
        lease: Some(("", false, lease_duration)),
        warnings,
        ..Contents::data(data, age)
    };
    match held.record.state {
        VersionState::Live => contents.granted(case),
        VersionState::Gone => contents.gone(case),
    }
}
