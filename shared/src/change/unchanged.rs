//! That nothing was written at the primary for a while: what was verified within it stands as of its end.

use crate::time::WallTime;

/// A span in which nothing was written anywhere in the cluster. It says nothing of what stands in any row, so it can put
/// nothing back that was taken away, or read anew, when it is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unchanged {
    /// When what it is about began to be verified, at the earliest.
    pub since: WallTime,
    /// Up to when nothing was written.
    pub until: WallTime,
}

impl Unchanged {
    /// As of when something is verified by this that was verified as of `verified_at`; none where this says nothing of it, or
    /// nothing new.
    pub fn reaffirms(self, verified_at: WallTime) -> Option<WallTime> {
        let within = self.since <= verified_at && verified_at < self.until;
        within.then_some(self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_verified_within_stands_and_nothing_else_moves_or_goes_back() {
        let at = WallTime::from_secs;
        let unchanged = Unchanged {
            since: at(10),
            until: at(20),
        };
        for within in [10, 19] {
            assert_eq!(unchanged.reaffirms(at(within)), Some(at(20)));
        }
        for beside in [0, 9, 20, 21] {
            assert_eq!(unchanged.reaffirms(at(beside)), None);
        }
    }
}
