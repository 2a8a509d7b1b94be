//! The arithmetic of TTLs.

use alloc::{format, string::String};
use core::time::Duration;

use crate::span::go::human;
use crate::time::WallTime;

/// The limits that the TTL of a token or lease is calculated from. Zero means "not set", as at the primary.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TtlLimits {
    /// The mount's or system's default.
    pub default: Duration,
    /// The mount's or system's maximum.
    pub max: Duration,
    /// What the backend (role) allows at most.
    pub backend_max: Duration,
    /// What the token may live at most, from issue.
    pub explicit_max: Duration,
    /// The period of a periodic token.
    pub period: Duration,
}

impl TtlLimits {
    /// What a server has that is configured with nothing else: 32 days for both.
    pub const BUILT_IN: Self = Self {
        default: Duration::from_secs(2_764_800),
        max: Duration::from_secs(2_764_800),
        backend_max: Duration::ZERO,
        explicit_max: Duration::ZERO,
        period: Duration::ZERO,
    };

    /// The longest life from issue, for what has no period.
    pub fn longest(&self) -> Duration {
        [self.backend_max, self.explicit_max]
            .into_iter()
            .filter(|bound| !bound.is_zero())
            .fold(self.max, Duration::min)
    }
}

/// How long a token is to live, before any bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TtlWanted {
    /// The increment of a renewal.
    pub increment: Duration,
    /// The TTL of the request or role, or the one granted last.
    pub ttl: Duration,
}

/// A TTL, and what the primary warns of where it gave less than was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ttl {
    /// From now on.
    pub ttl: Duration,
    /// In its words.
    pub warning: Option<String>,
}

/// The token has lived as long as it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("past the max TTL, cannot renew")]
pub struct PastMaxTtl;

/// The TTL that the primary would give now to what was issued at `issued`. Both moments count in whole seconds, as
/// there: what is left may be up to a second more than between the moments themselves.
///
/// The rule is OpenBao's (`sdk/framework/lease.go:CalculateTTL`).
///
/// # Errors
/// If nothing is left of the maximum.
pub fn ttl(
    wanted: TtlWanted,
    limits: TtlLimits,
    issued: WallTime,
    now: WallTime,
) -> Result<Ttl, PastMaxTtl> {
    let max = limits.longest();
    let issued = WallTime::from_secs(issued.as_secs());
    let now = WallTime::from_secs(now.as_secs());
    let (mut given, cap) = if limits.period.is_zero() {
        let asked = [wanted.increment, wanted.ttl]
            .into_iter()
            .find(|span| !span.is_zero());
        let ttl = asked.unwrap_or(limits.default);
        (Ttl { ttl, warning: None }, Some(issued.plus(max)))
    } else {
        let cap = (!limits.explicit_max.is_zero()).then(|| issued.plus(limits.explicit_max));
        (capped("period", limits.period, max), cap)
    };
    let Some(cap) = cap else { return Ok(given) };
    let left = cap.since(now);
    if left.is_zero() {
        return Err(PastMaxTtl);
    }
    let cut = capped("TTL", given.ttl, left);
    given.ttl = cut.ttl;
    given.warning = cut.warning.or(given.warning);
    Ok(given)
}

fn capped(what: &str, asked: Duration, max: Duration) -> Ttl {
    if asked <= max {
        return Ttl {
            ttl: asked,
            warning: None,
        };
    }
    let warning = format!(
        "{what} of \"{}\" exceeded the effective max_ttl of \"{}\"; {what} value is capped accordingly",
        human(asked),
        human(max)
    );
    Ttl {
        ttl: max,
        warning: Some(warning),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    const SYSTEM: TtlLimits = TtlLimits {
        default: secs(3600),
        max: secs(7200),
        backend_max: Duration::ZERO,
        explicit_max: Duration::ZERO,
        period: Duration::ZERO,
    };

    fn at(wanted: TtlWanted, limits: TtlLimits, age: u64) -> Result<Duration, PastMaxTtl> {
        let issued = WallTime::from_secs(1_000_000);
        ttl(wanted, limits, issued, issued.plus(secs(age))).map(|given| given.ttl)
    }

    #[test]
    fn default_applies_where_nothing_is_asked() {
        assert_eq!(at(TtlWanted::default(), SYSTEM, 0), Ok(secs(3600)));
    }

    #[test]
    fn the_smallest_maximum_caps_from_issue() {
        let limits = TtlLimits {
            explicit_max: secs(600),
            backend_max: secs(900),
            ..SYSTEM
        };
        let wanted = TtlWanted {
            ttl: secs(5000),
            ..TtlWanted::default()
        };
        assert_eq!(at(wanted, limits, 0), Ok(secs(600)));
        assert_eq!(at(wanted, limits, 590), Ok(secs(10)));
        assert_eq!(at(wanted, limits, 600), Err(PastMaxTtl));
    }

    #[test]
    fn a_period_knows_no_cap_but_the_explicit_one() {
        let periodic = TtlLimits {
            period: secs(60),
            ..SYSTEM
        };
        assert_eq!(at(TtlWanted::default(), periodic, 1_000_000), Ok(secs(60)));
        let capped = TtlLimits {
            explicit_max: secs(100),
            ..periodic
        };
        assert_eq!(at(TtlWanted::default(), capped, 90), Ok(secs(10)));
    }

    #[test]
    fn an_increment_goes_before_the_ttl_and_may_shorten() {
        let wanted = TtlWanted {
            increment: secs(5),
            ttl: secs(500),
        };
        assert_eq!(at(wanted, SYSTEM, 0), Ok(secs(5)));
    }

    #[test]
    fn what_is_cut_is_told_in_the_primarys_words() {
        let limits = TtlLimits {
            explicit_max: secs(300),
            ..SYSTEM
        };
        let wanted = TtlWanted {
            ttl: secs(36_000),
            ..TtlWanted::default()
        };
        let issued = WallTime::from_secs(5);
        let given = ttl(wanted, limits, issued, issued).unwrap();
        assert_eq!(
            given.warning.as_deref(),
            Some(
                "TTL of \"10h\" exceeded the effective max_ttl of \"5m\"; TTL value is capped accordingly"
            )
        );
        let periodic = TtlLimits {
            period: secs(600),
            ..limits
        };
        let given = ttl(wanted, periodic, issued, issued).unwrap();
        assert_eq!(
            given.warning.as_deref(),
            Some(
                "period of \"10m\" exceeded the effective max_ttl of \"5m\"; period value is capped accordingly"
            )
        );
    }

    #[test]
    fn moments_count_in_whole_seconds() {
        let limits = TtlLimits {
            explicit_max: secs(10),
            ..SYSTEM
        };
        let wanted = TtlWanted {
            ttl: secs(60),
            ..TtlWanted::default()
        };
        let (issued, now) = (WallTime::from_millis(1_900), WallTime::from_millis(4_100));
        assert_eq!(ttl(wanted, limits, issued, now).unwrap().ttl, secs(7));
    }

    proptest! {
        /// Whatever is asked for, nothing lives longer than its maximum from issue, in whole seconds.
        #[test]
        fn nothing_outlives_its_maximum(
            increment in 0u64..100_000, asked in 0u64..100_000, explicit in 0u64..10_000, backend in 0u64..10_000,
            age in 0u64..20_000,
        ) {
            let limits = TtlLimits {
                explicit_max: secs(explicit),
                backend_max: secs(backend),
                ..SYSTEM
            };
            let wanted = TtlWanted { increment: secs(increment), ttl: secs(asked) };
            match at(wanted, limits, age) {
                Ok(given) => prop_assert!(given + secs(age) <= limits.longest()),
                Err(PastMaxTtl) => prop_assert!(secs(age) >= limits.longest()),
            }
        }
    }
}
