//! What a rule grants and asks for, and how rules of several policies for one path become one.

use alloc::{borrow::ToOwned, string::String, vec::Vec};
use core::time::Duration;

use serde_json::{Map, Value};

use super::{
    Operation, Undecidable,
    capability::{Capabilities, Capability},
    filter::FilterTemplate,
    parameters::{ParameterLists, RuleOrigin},
};

/// What a rule grants and asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Permissions {
    pub(super) capabilities: Capabilities,
    pub(super) allowed: ParameterLists,
    pub(super) denied: ParameterLists,
    /// Names that a request's data must have, in lower case.
    pub(super) required: Vec<String>,
    /// Nanoseconds; positive bounds bind, negative ones matter only to each other.
    pub(super) min_wrap: i64,
    /// Nanoseconds, as above.
    pub(super) max_wrap: i64,
    /// Most keys of a list page; not positive is none.
    pub(super) page: i64,
    pub(super) filter: Option<FilterTemplate>,
    /// Operations that wait for the approval of a control group.
    pub(super) approval: Capabilities,
}

/// A list or scan that asks for more than its page.
pub(super) struct PageDenied;

impl Permissions {
    /// Merges a later rule for the same path. The first rule's control group stays.
    pub(super) fn merge(&mut self, later: &Self) {
        self.capabilities = self.capabilities.union(later.capabilities);
        if self.capabilities.denies() {
            self.allowed = ParameterLists::default();
            self.denied = ParameterLists::default();
            return;
        }
        // A bound of zero is none; a negative one is below every positive one and stays.
        let smallest = |ours: i64, theirs: i64| match ours {
            _ if theirs <= 0 => ours,
            0 => theirs,
            _ => ours.min(theirs),
        };
        self.max_wrap = smallest(self.max_wrap, later.max_wrap);
        self.min_wrap = smallest(self.min_wrap, later.min_wrap);
        self.page = smallest(self.page.max(0), later.page);
        self.allowed.merge(&later.allowed);
        self.denied.merge(&later.denied);
        for name in &later.required {
            if !self.required.contains(name) {
                self.required.push(name.clone());
            }
        }
        if self.filter.is_none() {
            self.filter.clone_from(&later.filter);
        }
    }

    pub(super) fn permits(&self, operation: Operation) -> bool {
        Capability::needed(operation).is_some_and(|needed| self.capabilities.has(needed))
    }

    pub(super) fn permits_sudo(&self) -> bool {
        self.capabilities.has(Capability::Sudo)
    }

    /// Whether there is a capability, other than `deny`.
    pub(super) fn grants_something(&self) -> bool {
        !self.capabilities.is_empty() && !self.capabilities.denies()
    }

    pub(super) fn waits_for_approval(&self, operation: Operation) -> bool {
        Capability::needed(operation).is_some_and(|needed| self.approval.has(needed))
    }

    /// What of a rule for `path` with these permissions only the primary can decide.
    pub(super) fn undecided(&self, path: &str) -> Option<Undecidable> {
        let path = path.to_owned();
        if !self.approval.is_empty() {
            return Some(Undecidable::ControlGroup { path });
        }
        let filter = self.filter.as_ref()?;
        (!filter.is_modelled()).then_some(Undecidable::ListFilter { path })
    }

    /// Whether a response may be wrapped for `ttl`, or not wrapped at all where that is `None`.
    pub(super) fn permits_wrapping(&self, ttl: Option<Duration>) -> bool {
        let ttl = ttl.map(|ttl| i64::try_from(ttl.as_nanos()).unwrap_or(i64::MAX));
        let below_max = self.max_wrap <= 0 || ttl.is_some_and(|ttl| ttl <= self.max_wrap);
        let above_min = self.min_wrap <= 0 || ttl.is_some_and(|ttl| ttl >= self.min_wrap);
        let consistent = self.min_wrap == 0 || self.max_wrap == 0 || self.max_wrap >= self.min_wrap;
        below_max && above_min && consistent
    }

    /// Whether body keys or query parameters pass. Names in `data` count as they are written where they are
    /// required, and in lower case elsewhere.
    pub(super) fn permits_data(&self, data: &Map<String, Value>, origin: RuleOrigin) -> bool {
        let listed = || !self.denied.deny(data, origin) && self.allowed.allow(data, origin);
        self.required.iter().all(|name| data.contains_key(name)) && (data.is_empty() || listed())
    }

    /// What a list's `limit` must become: `None` leaves it, `Some(0)` is unlimited.
    pub(super) fn page_for(&self, data: &Map<String, Value>) -> Result<Option<u64>, PageDenied> {
        let asked = data.get("limit");
        let asks_most = asked.is_some_and(|asked| asked.as_str() == Some("max"));
        let Some(page) = u64::try_from(self.page).ok().filter(|page| *page > 0) else {
            return Ok(asks_most.then_some(0));
        };
        match asked {
            None if self.required.iter().any(|name| name == "limit") => Err(PageDenied),
            None => Ok(Some(page)),
            Some(_) if asks_most => Ok(Some(page)),
            Some(asked) => match asked_page(asked) {
                Some(0) => Ok(Some(page)),
                Some(asked) if asked <= page => Ok(None),
                _ => Err(PageDenied),
            },
        }
    }
}

/// A `limit` that is a whole number, as a text or in JSON; an empty text is zero.
fn asked_page(asked: &Value) -> Option<u64> {
    match asked {
        Value::String(text) if text.is_empty() => Some(0),
        Value::String(text) => u64::try_from(text.parse::<i64>().ok()?).ok(),
        Value::Number(number) => number.as_u64(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn granting(capability: Capability) -> Permissions {
        let mut permissions = Permissions::default();
        permissions.capabilities.insert(capability);
        permissions
    }

    fn wrapped(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn deny_wins_whichever_rule_has_it() {
        let deny = Permissions {
            capabilities: Capabilities::deny(),
            ..Permissions::default()
        };
        for (mut first, second) in [
            (deny.clone(), granting(Capability::Read)),
            (granting(Capability::Read), deny),
        ] {
            first.merge(&second);
            assert!(first.capabilities.denies() && !first.permits(Operation::Read));
        }
    }

    #[test]
    fn the_smallest_bounds_of_several_rules_bind() {
        let bounded = |min, max, page| Permissions {
            min_wrap: min,
            max_wrap: max,
            page,
            ..granting(Capability::List)
        };
        let mut merged = bounded(0, 90_000_000_000, -7);
        merged.merge(&bounded(60_000_000_000, 120_000_000_000, 9));
        merged.merge(&bounded(0, 0, 5));
        assert_eq!(
            (merged.min_wrap, merged.max_wrap),
            (60_000_000_000, 90_000_000_000)
        );
        assert_eq!(merged.page, 5);
        assert!(!merged.permits_wrapping(None) && !merged.permits_wrapping(wrapped(59)));
        assert!(merged.permits_wrapping(wrapped(60)) && merged.permits_wrapping(wrapped(90)));
        assert!(!merged.permits_wrapping(wrapped(91)));
    }

    #[test]
    fn merged_bounds_that_exclude_each_other_deny() {
        let mut merged = Permissions {
            max_wrap: 1,
            ..granting(Capability::Read)
        };
        merged.merge(&Permissions {
            min_wrap: 2,
            ..granting(Capability::Read)
        });
        assert!(!merged.permits_wrapping(Some(Duration::from_nanos(1))));
        assert!(!merged.permits_wrapping(Some(Duration::from_nanos(2))));
    }

    #[test]
    fn a_negative_bound_excludes_every_positive_one_of_another_rule() {
        let mut merged = Permissions {
            max_wrap: -5,
            ..granting(Capability::Read)
        };
        assert!(merged.permits_wrapping(None));
        merged.merge(&Permissions {
            min_wrap: 1,
            ..granting(Capability::Read)
        });
        assert!(!merged.permits_wrapping(wrapped(60)));
    }

    #[test]
    fn the_first_filter_and_the_first_control_group_stay() {
        let with = |template, approval| {
            let mut permissions = granting(Capability::List);
            permissions.filter = Some(FilterTemplate::new(template));
            permissions.approval.insert(approval);
            permissions
        };
        let mut merged = granting(Capability::List);
        merged.merge(&with("{{.key}}", Capability::Read));
        merged.merge(&with("a{{.key}}", Capability::List));
        assert_eq!(merged.filter, Some(FilterTemplate::new("{{.key}}")));
        assert!(!merged.waits_for_approval(Operation::Read));
    }

    #[test]
    fn a_page_is_forced_kept_or_refused() {
        let permissions = Permissions {
            page: 5,
            ..granting(Capability::List)
        };
        let page = |data: Value| {
            let page = permissions.page_for(data.as_object().unwrap());
            page.ok()
        };
        for (data, verdict) in [
            (json!({}), Some(Some(5))),
            (json!({"limit": "max"}), Some(Some(5))),
            (json!({"limit": "0"}), Some(Some(5))),
            (json!({"limit": ""}), Some(Some(5))),
            (json!({"limit": "5"}), Some(None)),
            (json!({"limit": "+5"}), Some(None)),
            (json!({"limit": "6"}), None),
            (json!({"limit": "-1"}), None),
            (json!({"limit": "abc"}), None),
            (json!({"limit": ["5", "5"]}), None),
        ] {
            assert_eq!(page(data.clone()), verdict, "{data}");
        }
        let unlimited = granting(Capability::List);
        let most = json!({"limit": "max"});
        assert_eq!(
            unlimited.page_for(most.as_object().unwrap()).ok(),
            Some(Some(0))
        );
    }
}
