//! Leases: secrets with a life of their own, held by Holdover or learned from what clients read.

use alloc::string::String;
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    kv::Place,
    name::{LeaseId, TokenDigest},
    time::{Deadline, Now, WallTime},
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
    /// Whether it may be renewed.
    pub renewable: bool,
    /// Seconds that the primary gave at issue.
    pub granted: u64,
    /// When it was issued.
    pub issued_at: WallTime,
    /// When it was last renewed or issued.
    pub renewed_at: WallTime,
    /// The backend drops it here.
    pub deadline: Deadline,
    /// When the primary last answered for it.
    pub verified_at: WallTime,
}

/// Who a lease may be served to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseHolder {
    /// Holdover's own, shared by the workloads that may read its path.
    Shared,
    /// The token that read it.
    Token(TokenDigest),
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
    /// below `full`, the life it had when new: then it is replaced.
    pub fn care(&self, full: u64, jitter: f64, now: Now) -> LeaseCare {
        let granted = Duration::from_secs(self.granted);
        let due = granted * Self::RENEW_AT_PERCENT / 100;
        let due = due.saturating_sub((granted / 10).mul_f64(jitter.clamp(0.0, 1.0)));
        let age = granted.saturating_sub(self.deadline.remaining(now));
        if age < due {
            return LeaseCare::Wait(due.saturating_sub(age));
        }
        let worn = self.granted < full / 2;
        if self.renewable && !worn && !self.deadline.passed(now) {
            LeaseCare::Renew
        } else {
            LeaseCare::Replace
        }
    }

    /// The path part of its id, for listings.
    pub fn path(&self) -> String {
        String::from(self.place.path.as_str())
    }
}
