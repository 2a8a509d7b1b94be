//! How full the view is of what clients make grow, and what of it is forgotten where it is too full.
//!
//! What is forgotten leaves the decision to the primary (503 in an outage), and never allows anything: so no token goes before
//! those that hang on it, because its end would not reach them any more, and no record of a dead token while the primary does
//! not know that it is dead. Of whoever has most the least recently used goes first, and of a line of tokens its end.

use std::{collections::HashSet, sync::Arc, time::Duration};

use shared::{
    change::{Change, CredentialName, RevocationTarget},
    grant::Grant,
    lease::LeaseHolder,
    name::{Accessor, TokenDigest, WorkloadName},
    share::{
        entries,
        lines::{self, Hold, LineEntry},
    },
    time::{Now, WallTime},
};

use super::{HeldLease, LiveGrant, Owner, Secrets, View, lockout, owners::OwnerCounts};

/// Tokens of the primary's that are known and live.
pub const TOKENS: usize = 32 * 1024;

/// Records of tokens that are dead, by which they are refused in an outage rather than unknown.
pub const ENDED: usize = 16 * 1024;

/// Leases that clients read.
pub const LEASES: usize = 8 * 1024;

/// Secret ids that may log in.
pub const SECRET_IDS: usize = 8 * 1024;

/// Keys that may be in doubt one by one though nothing of them is kept. Beyond, all that is not kept in their mirror is:
/// what clients can make up must not fill the replica.
pub const MOST_UNKEPT: usize = 4096;

/// As many revocations may wait for the primary before clients are refused further ones. What Holdover and operators revoke comes
/// on top: it is bounded by the grants and leases that there are.
pub const MOST_WAITING: usize = 32_768;

/// The longest facts of a token that are kept, in bytes: its creator chooses metadata as it likes.
pub const FACTS: usize = 16 * 1024;

/// The longest body of a client's lease that is kept, in bytes.
pub const LEASE_BODY: usize = 32 * 1024;

/// A token that died so lately is remembered in any case: what tells of its life may still be on its way.
const LATELY: Duration = Duration::from_secs(10);

/// How full one thing is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filled {
    /// What it is.
    pub of: &'static str,
    /// How many there are.
    pub has: usize,
    /// How many there may be.
    pub most: usize,
}

/// Grants by what becomes of them.
#[derive(Default)]
struct Sorted<'a> {
    /// The primary's, alive.
    tokens: Vec<&'a LiveGrant>,
    /// Dead ones, and when they ended.
    ended: Vec<(&'a LiveGrant, WallTime)>,
    /// The replica's own, alive.
    issued: Vec<&'a LiveGrant>,
}

/// One of them.
#[derive(Clone, Copy)]
enum Sort<'a> {
    /// The primary's, alive.
    Token(&'a LiveGrant),
    /// A dead one, and when it ended.
    Ended(&'a LiveGrant, WallTime),
    /// The replica's own, alive.
    Issued,
}

impl View {
    /// Whether a token of this user's that is new here is taken in from an answer. Where there are too many already, until
    /// some were forgotten, only of whoever has less than its share of them, dead and alive: so nobody is unknown because of
    /// others.
    pub(crate) fn takes_token_of(&self, owner: Owner) -> bool {
        let issued = self.authority().settings.grants_at_most();
        self.grants.len() < (TOKENS + ENDED) / 4 * 5 + issued
            || self
                .owners
                .lock()
                .has_share_left(owner, (TOKENS + ENDED).saturating_add(issued))
    }

    /// The same of a lease.
    pub(crate) fn takes_lease_of(&self, owner: Owner) -> bool {
        let secrets = self.secrets.load();
        // Holdover's own are bounded by its configuration, and take nobody's room.
        if secrets.leases.len() < LEASES / 4 * 5 {
            return true;
        }
        let owners = client_leases(&secrets).map(|(_, token)| self.owner(token));
        let counts: OwnerCounts = owners.collect();
        counts.all() < LEASES / 4 * 5 || counts.has_share_left(owner, LEASES)
    }

    /// Whose a token is, as far as that is known.
    fn owner(&self, token: &TokenDigest) -> Owner {
        self.grant(token).and_then(|live| live.owner())
    }

    /// Whether so many grants of this workload live that the replica issued.
    pub(crate) fn has_issued(&self, most: u32, workload: &WorkloadName, now: Now) -> bool {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        // Few grants of all are few of one.
        if self.grants.len() < most {
            return false;
        }
        let is_its = |grant: &Grant| {
            let peer = grant.peer.as_ref();
            grant.is_replica() && peer.is_some_and(|peer| peer.workload == *workload)
        };
        let grants = self.grants.pin();
        let living = grants.values().filter(|live| live.lives(now));
        living.filter(|live| is_its(&live.grant)).take(most).count() >= most
    }

    /// What is to be forgotten so that everything is within its bound.
    pub fn beyond(&self, now: Now) -> Vec<Change> {
        let grants = self.grants();
        let sorted = Sorted::of(&grants, now);
        let mut gone: Vec<Change> = Vec::new();
        let tokens = self.tokens_beyond(&sorted, now).into_iter();
        gone.extend(tokens.map(Change::GrantForgotten));
        gone.extend(self.leases_beyond());
        gone.extend(self.secret_ids_beyond());
        gone.extend(self.credentials_of_nothing(now));
        gone
    }

    /// How full everything is.
    pub fn filled(&self, now: Now) -> Vec<Filled> {
        let grants = self.grants();
        let sorted = Sorted::of(&grants, now);
        let (authority, secrets) = (self.authority(), self.secrets.load());
        let (settings, doubts) = (&authority.settings, self.doubts.load());
        let issued = settings.grants_at_most();
        let compiled = authority.policies.as_ref();
        let compiled = compiled.map_or(0, |policies| policies.compiled.len());
        let clients = client_leases(&secrets).count();
        let of = |of, has, most| Filled { of, has, most };
        vec![
            of("tokens", sorted.tokens.len(), TOKENS),
            of("tokens_ended", sorted.ended.len(), ENDED),
            of("grants", sorted.issued.len(), issued),
            of("leases", clients, LEASES),
            of("secret_ids", authority.secret_ids.len(), SECRET_IDS),
            of("identities", authority.identities.len(), TOKENS + issued),
            of(
                "credentials",
                self.credentials.len(),
                issued + settings.workloads.len() + 2,
            ),
            of("revocations_waiting", self.queue.len(), MOST_WAITING),
            of(
                "keys_doubted",
                doubts.remembered(),
                secrets.keys.len() + MOST_UNKEPT,
            ),
            of("access_controls", compiled, super::acl::MAX_COMPILED),
            of(
                "logins_failed",
                self.lockouts.tried(),
                authority.approles.len(),
            ),
            of(
                "logins_guessed",
                self.lockouts.guessers(),
                lockout::MOST_CLAIMANTS,
            ),
        ]
    }

    /// Of tokens and of records of dead ones, those that are too many: never one on which something hangs that stays.
    fn tokens_beyond(&self, sorted: &Sorted<'_>, now: Now) -> Vec<TokenDigest> {
        if sorted.tokens.len() <= TOKENS && sorted.ended.len() <= ENDED {
            return Vec::new();
        }
        let untold = self.untold();
        let is_untold = |live: &LiveGrant| {
            let at = live.grant.at_primary();
            at.is_some_and(|at| untold.contains(at))
        };
        let stays = |live: &LiveGrant, ended: WallTime| {
            is_untold(live) || now.steady.since(ended) <= LATELY
        };
        let mut gone = lines::peel(
            &sorted.lines(|of| match of {
                Sort::Token(live) if is_untold(live) => Hold::CountsAndStays,
                Sort::Token(_) => Hold::Counts,
                Sort::Ended(live, at) if stays(live, at) => Hold::Stays,
                Sort::Ended(..) => Hold::Free,
                Sort::Issued => Hold::Stays,
            }),
            TOKENS,
        );
        let before: HashSet<_> = gone.iter().copied().collect();
        let mut left = sorted.lines(|of| match of {
            Sort::Ended(live, at) if stays(live, at) => Hold::CountsAndStays,
            Sort::Ended(..) => Hold::Counts,
            Sort::Token(_) | Sort::Issued => Hold::Stays,
        });
        left.retain(|entry| !before.contains(&entry.key));
        gone.extend(lines::peel(&left, ENDED));
        gone
    }

    /// Tokens of whose death the primary does not know yet.
    fn untold(&self) -> HashSet<Accessor> {
        let queue = self.queue.pin();
        let targets = queue.values().filter_map(|queued| match &queued.target {
            RevocationTarget::Token(accessor) => Some(accessor.clone()),
            RevocationTarget::Lease(_) => None,
        });
        targets.collect()
    }

    /// Leases that clients read, of the user who has most of them: with many tokens nobody takes more than with one.
    fn leases_beyond(&self) -> Vec<Change> {
        let secrets = self.secrets.load();
        if secrets.leases.len() <= LEASES {
            return Vec::new();
        }
        let clients = client_leases(&secrets).map(|(held, token)| {
            let (lease, user) = (&held.lease, self.owner(token));
            // Of whom nobody knows the user each is one.
            let alone = user.is_none().then_some(*token);
            ((user, alone), lease.renewed_at, lease.id.clone())
        });
        let gone = entries::beyond(clients, LEASES).into_iter();
        gone.map(Change::LeaseGone).collect()
    }

    /// Secret ids, of the role that has most of them.
    fn secret_ids_beyond(&self) -> Vec<Change> {
        let authority = self.authority();
        if authority.secret_ids.len() <= SECRET_IDS {
            return Vec::new();
        }
        let known = authority.secret_ids.values();
        let known = known.map(|known| (known.role.clone(), known.login_at, known.digest));
        let gone = entries::beyond(known, SECRET_IDS).into_iter();
        gone.map(Change::SecretIdGone).collect()
    }

    /// Tokens of the primary's behind grants that are no more: nobody can have them presented.
    fn credentials_of_nothing(&self, now: Now) -> Vec<Change> {
        let credentials = self.credentials.pin();
        let exchanged = credentials.keys().filter(|name| match name {
            CredentialName::Exchanged(digest) => {
                let live = self.grant(digest);
                live.is_none_or(|live| {
                    live.revoked.get().is_some() || live.grant.deadline.passed_for_good(now)
                })
            }
            _ => false,
        });
        exchanged.cloned().map(Change::CredentialGone).collect()
    }
}

impl<'a> Sorted<'a> {
    fn of(grants: &'a [Arc<LiveGrant>], now: Now) -> Self {
        let mut sorted = Self::default();
        for live in grants {
            let grant = &live.grant;
            match live.revoked.get() {
                Some(revocation) => sorted.ended.push((live, revocation.at)),
                None if grant.deadline.passed_for_good(now) => {
                    sorted.ended.push((live, grant.deadline.wall));
                }
                None if grant.is_replica() => sorted.issued.push(live),
                None => sorted.tokens.push(live),
            }
        }
        sorted
    }

    /// All of them as they hang on one another.
    fn lines(
        &self,
        hold: impl Fn(Sort<'_>) -> Hold,
    ) -> Vec<LineEntry<Owner, WallTime, TokenDigest>> {
        let entry = |live: &LiveGrant, used, of| LineEntry {
            key: live.grant.digest,
            above: live.grant.parent,
            owner: live.owner(),
            used,
            hold: hold(of),
        };
        let used = |live: &LiveGrant| live.last_used().max(live.grant.verified_at);
        let tokens = self.tokens.iter();
        let tokens = tokens.map(|live| entry(live, used(live), Sort::Token(live)));
        let ended = self.ended.iter();
        let ended = ended.map(|(live, at)| entry(live, *at, Sort::Ended(live, *at)));
        let issued = self.issued.iter();
        let issued = issued.map(|live| entry(live, used(live), Sort::Issued));
        tokens.chain(ended).chain(issued).collect()
    }
}

/// Leases that clients read, and the tokens that hold them.
fn client_leases(secrets: &Secrets) -> impl Iterator<Item = (&Arc<HeldLease>, &TokenDigest)> {
    let leases = secrets.leases.values();
    leases.filter_map(|held| match &held.lease.holder {
        LeaseHolder::Token(token) => Some((held, token)),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
