//! Leases: secrets with a life of their own, held by Holdover or learned from what clients read.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    kv::Place,
    name::{LeaseId, TokenDigest},
    time::{Deadline, Now, WallTime},
    workload::PeerId,
};

/// A lease without its secret, which is sealed beside it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// As the primary names it.
    pub id: LeaseId,
    /// The path that was read.
    pub place: Place,
    /// Who it may be served to.
    pub holder: LeaseHolder,
    /// Who gave it up and is not served it again. Only a shared one goes on for the others.
    pub detached: Vec<Assignee>,
    /// Whether a plain read of its path brought it, so that such a read may be answered with it. What a write brought
    /// is kept without its secret, for those who ask about its id.
    pub answers_reads: bool,
    /// Whether it may be renewed.
    pub renewable: bool,
    /// Seconds that the primary gave at issue.
    pub granted: u64,
    /// When the primary issued it; renewals do not move it.
    pub issued_at: WallTime,
    /// When it was last renewed or issued.
    pub renewed_at: WallTime,
    /// The backend drops it here.
    pub deadline: Deadline,
    /// When the primary last answered for it.
    pub verified_at: WallTime,
}

/// Who a lease may be served to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseHolder {
    /// Holdover's own, taken out of its pool for this one alone.
    Assigned(Assignee),
    /// Holdover's own, in the pool of its path: nobody has seen it yet.
    Pooled,
    /// Holdover's own, shared by the workloads that may read its path.
    Shared,
    /// The token that read it at the primary.
    Token(TokenDigest),
}

impl LeaseHolder {
    /// Whether it hangs on a token of Holdover's own.
    pub fn is_own(&self) -> bool {
        !matches!(self, Self::Token(_))
    }
}

/// Who a lease of Holdover's own is served to, over all that becomes of tokens in between.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Assignee {
    /// A token that was not obtained by attestation.
    Token(TokenDigest),
    /// An attested peer, whichever of its tokens it presents.
    Workload(PeerId),
}

/// What to do with a lease of Holdover's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaseCare {
    /// Nothing before this much has passed.
    Wait(Duration),
    /// Renew it now.
    Renew,
    /// Renewing no longer helps: get a new one before this one ends.
    Replace,
}

impl Lease {
    /// A lease is renewed when this share of its granted life has passed, in percent.
    pub const RENEW_AT_PERCENT: u32 = 66;

    /// What to do with it `now`. `jitter` in 0..1 spreads hosts over a tenth of its life.
    ///
    /// Renewal that no longer lengthens a lease (its backend's max TTL is near) shows as a `granted` far
    /// below `full`, the life it had when new: then it is replaced. A wall clock that is ahead and unconfirmed makes none old.
    pub fn care(&self, full: u64, jitter: f64, now: Now) -> LeaseCare {
        let granted = Duration::from_secs(self.granted);
        let due = granted * Self::RENEW_AT_PERCENT / 100;
        let due = due.saturating_sub((granted / 10).mul_f64(jitter.clamp(0.0, 1.0)));
        let age = granted.saturating_sub(self.deadline.remaining_for_good(now));
        if age < due {
            return LeaseCare::Wait(due.saturating_sub(age));
        }
        let worn = self.granted < full / 2;
        if self.renewable && !worn && !self.deadline.passed_for_good(now) {
            LeaseCare::Renew
        } else {
            LeaseCare::Replace
        }
    }

    /// Whether it left its pool for `who`.
    pub fn is_assigned_to(&self, who: &Assignee) -> bool {
        matches!(&self.holder, LeaseHolder::Assigned(holder) if holder == who)
    }

    /// Where between 0 and 1 its own renewal is spread: leases that were got at one moment are not renewed at one. The
    /// primary made its id of random characters, so that it is another on every host.
    pub fn spread(&self) -> f64 {
        let mix = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        let hash = self.id.as_str().as_bytes().iter().fold(0x811c_9dc5, mix);
        // The low bits of the last characters matter least in this hash: let them reach the high ones.
        let hash = (hash ^ (hash >> 15)).wrapping_mul(0x85eb_ca6b);
        f64::from(hash ^ (hash >> 13)) / (f64::from(u32::MAX) + 1.0)
    }

    /// The path part of its id, for listings.
    pub fn path(&self) -> String {
        String::from(self.place.path.as_str())
    }
}
