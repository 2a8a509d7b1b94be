//! Holdover's own credential at the primary: whether it was taken away, ended or refused, and what it lacks.

use shared::time::WallTime;

use super::{PrimaryFacts, ReadyFacts};
use crate::upstream::rights::MissingRight;

/// How many refused rights are listed one by one.
pub(super) const RIGHTS_SHOWN: usize = 20;

/// That the host was offboarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OffboardedFacts {
    /// When that was sure.
    pub since: WallTime,
    /// When reads from the replica end.
    pub reads_end: WallTime,
}

pub(super) fn assess(facts: &ReadyFacts, reasons: &mut Vec<String>, findings: &mut Vec<String>) {
    reasons.extend(facts.offboarded.map(offboarded));
    assess_token(facts, reasons, findings);
    findings.extend(next_login(&facts.primary));
    findings.extend(unstored(&facts.primary));
    assess_rights(&facts.primary.missing, reasons, findings);
}

fn offboarded(facts: OffboardedFacts) -> String {
    let OffboardedFacts { since, reads_end } = facts;
    format!(
        "offboarded: the primary refuses Holdover's own credential since {since}: nothing is issued, and reads from the replica end at {reads_end}; give Holdover a credential that the primary accepts"
    )
}

/// Told before another token is needed.
fn next_login(primary: &PrimaryFacts) -> Option<String> {
    primary.credential?;
    let fault = primary.own.file_error.as_ref()?;
    Some(format!(
        "no other token of Holdover's own can be had: {fault}"
    ))
}

/// Of what a restart costs.
fn unstored(primary: &PrimaryFacts) -> Option<String> {
    let why = &primary.own.unstored.as_ref()?.why;
    Some(format!(
        "the own token is not stored: {why}. It is used from memory; a restart before it is stored has Holdover log in again, which \
         it cannot do in an outage"
    ))
}

fn assess_token(facts: &ReadyFacts, reasons: &mut Vec<String>, findings: &mut Vec<String>) {
    let primary = &facts.primary;
    // In an outage no other token can be had, and none is needed.
    let told = match facts.phase.is_outage() {
        true => findings,
        false => reasons,
    };
    let own = &primary.own;
    let logging_in = own.logging_in.as_ref();
    let logging_in = logging_in.map(|path| format!("{path} has not answered yet"));
    let why = own.last_error.clone().or(logging_in);
    let why = why.unwrap_or_else(|| "not asked yet".to_owned());
    match primary.credential {
        None if primary.cluster => told.push(format!("Holdover has no token of its own at the primary yet: {why}")),
        // What is wrong with its files is known before the primary is.
        None if own.last_error.is_some() => told.push(format!("Holdover has no token of its own: {why}")),
        None => {}
        Some(end) if end <= facts.now.wall => told.push(format!(
            "Holdover's own token ended at {end}: nothing is mirrored until it logs in again: {why}"
        )),
        Some(_) if own.refused && facts.offboarded.is_none() => told.push(format!(
            "the primary refuses Holdover's own token: nothing is mirrored until it logs in again: {why}"
        )),
        Some(_) => {}
    }
}

/// What an outage would lack is a reason.
fn assess_rights(missing: &[MissingRight], reasons: &mut Vec<String>, findings: &mut Vec<String>) {
    for (in_outages, told) in [(true, reasons), (false, findings)] {
        let mut texts: Vec<_> = missing
            .iter()
            .filter(|right| right.in_outages == in_outages)
            .map(ToString::to_string)
            .collect();
        let more = texts.len().saturating_sub(RIGHTS_SHOWN);
        texts.truncate(RIGHTS_SHOWN);
        told.append(&mut texts);
        if more > 0 {
            told.push(format!(
                "{more} more rights are refused to Holdover: see holdover config policy --missing"
            ));
        }
    }
}
