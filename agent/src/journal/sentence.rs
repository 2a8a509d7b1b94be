//! What a ledger entry says, as a sentence for people.

use shared::ledger::{Entry, EntryKind};

/// The sentence. No token and no value is in it, because none is in an entry.
pub(super) fn sentence(entry: &Entry) -> String {
    let (who, path) = (who(entry), entry.path.as_deref().unwrap_or("unknown paths"));
    let count = entry.count.unwrap_or(1);
    let outcome = entry.outcome.as_str();
    match entry.kind {
        EntryKind::Denial => {
            let reason = entry.reason.as_deref().unwrap_or("unknown");
            format!(
                "The replica refused {} of {who}: {reason}.",
                requests(count)
            )
        }
        EntryKind::Exchange => {
            format!(
                "The primary gave {who} a token for one of the replica{}.",
                token(entry)
            )
        }
        EntryKind::Grant => format!(
            "The replica issued a token to {who}{}{}.",
            token(entry),
            until(entry)
        ),
        EntryKind::Lease => format!(
            "The replica handed out a lease of {path} to {who}{}.",
            until(entry)
        ),
        EntryKind::Offboarding => {
            format!("The primary's refusal of Holdover's own credential has {outcome}.")
        }
        EntryKind::Operator => format!("An operator has {outcome}{}: {who}.", token(entry)),
        EntryKind::Parity => format!("By comparing decisions, {} was {outcome}.", policies(entry)),
        EntryKind::Read => format!("The replica served {} of {path} to {who}.", requests(count)),
        EntryKind::Renewal => format!(
            "The replica renewed the token of {who}{}{}.",
            token(entry),
            until(entry)
        ),
        EntryKind::Revocation => match (&entry.accessor, &entry.path) {
            (None, Some(lease)) => format!("The lease {lease} of {who} was revoked ({outcome})."),
            _ => format!(
                "The token of {who}{} was revoked ({outcome}).",
                token(entry)
            ),
        },
        EntryKind::State => format!("Holdover is {outcome} from now on."),
        EntryKind::Unknown => {
            format!(
                "The primary may hold what nobody got, of {} of {who} to {path} ({outcome}).",
                requests(count)
            )
        }
    }
}

fn requests(count: u64) -> String {
    match count {
        1 => "1 request".to_owned(),
        more => format!("{more} requests"),
    }
}

fn who(entry: &Entry) -> String {
    let unit = entry.unit.as_ref().map(|unit| format!(", {unit}"));
    let unit = unit.unwrap_or_default();
    match (&entry.workload, entry.uid) {
        (Some(workload), Some(uid)) => format!("workload {workload} (uid {uid}{unit})"),
        (Some(workload), None) => format!("workload {workload}"),
        (None, Some(uid)) => format!("uid {uid}{unit}"),
        (None, None) => "an unnamed client".to_owned(),
    }
}

fn token(entry: &Entry) -> String {
    let accessor = entry.accessor.as_ref();
    accessor.map_or_else(String::new, |accessor| format!(", accessor {accessor}"))
}

fn until(entry: &Entry) -> String {
    let deadline = entry.deadline;
    deadline.map_or_else(String::new, |deadline| format!(", until {deadline}"))
}

fn policies(entry: &Entry) -> String {
    let names: Vec<&str> = entry.policies.iter().map(|name| name.as_str()).collect();
    match (names.is_empty(), &entry.workload) {
        (true, Some(workload)) => format!("issuing for workload {workload}"),
        (true, None) => "nothing".to_owned(),
        (false, _) => format!("policy {}", names.join(", ")),
    }
}
