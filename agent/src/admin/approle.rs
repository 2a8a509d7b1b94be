//! AppRole roles in the status: whose logins an outage could answer, and why not the others.

use replica::view::Authority;
use shared::{
    approle::{AppRole, Denial},
    time::Now,
};

use crate::status::AppRoleStatus;

/// Every role that is followed, by mount and name.
pub(super) fn statuses(authority: &Authority, now: Now) -> Vec<AppRoleStatus> {
    let roles = authority.approles.values();
    roles.map(|role| status(authority, role, now)).collect()
}

fn status(authority: &Authority, role: &AppRole, now: Now) -> AppRoleStatus {
    let proofs = authority.secret_ids.values();
    let proofs = proofs.filter(|proof| proof.role == role.key);
    let (dead, living): (Vec<_>, Vec<_>) = proofs.partition(|proof| proof.is_dead(now));
    AppRoleStatus {
        role: path(authority, role),
        secret_ids: count(living.len()),
        dead: count(dead.len()),
        age_seconds: now.steady.since(role.verified_at).as_secs(),
        problem: role.problem().map(|problem| worded(problem).to_owned()),
    }
}

fn path(authority: &Authority, role: &AppRole) -> String {
    let cluster = authority.cluster.as_deref();
    let mount = cluster.and_then(|cluster| {
        let mut mounts = cluster.mounts.iter();
        mounts.find(|(_, mount)| mount.accessor == role.key.mount)
    });
    let at = mount.map_or(role.key.mount.as_str(), |(at, _)| at.trim_end_matches('/'));
    format!("{at}/role/{}", role.key.name)
}

fn worded(problem: Denial) -> &'static str {
    match problem {
        Denial::Addresses => "it is bound to addresses, which a Unix socket does not have",
        Denial::Mfa => "its logins may need a second factor",
        Denial::Role | Denial::Dead | Denial::Doubted | Denial::Old | Denial::Unseen => {
            "it makes batch, periodic, limited-use or root tokens, or binds no secret id"
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
