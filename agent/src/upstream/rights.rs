//! What the primary refuses to Holdover for want of a rule in its policy: every request of its own that was refused, until
//! that one is answered, and every rule that is not granted, whether or not anything was asked by it yet.
//!
//! The one place that sends Holdover's own requests notes each answer here, so that no room can forget to. A token that is
//! refused as such is another matter: [`super::own`].

use std::{collections::BTreeMap, fmt, time::Duration};

use parking_lot::Mutex;
use serde::Serialize;
use shared::{settings::Settings, time::BootTime};
use tokio::sync::Notify;

use super::{
    Reply, Request, Upstream, UpstreamError,
    pace::Urgency,
    policy::{self, PolicyRule, RuleNeeded},
    reply::Access,
};

/// Refused requests that are kept; of those beyond, which come again, the next ones are kept when others were answered.
const MOST: usize = 256;

/// One that was not sent again for so long is of no use any more.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// The rules are asked about so often.
const EVERY: Duration = Duration::from_secs(300);

/// The same at first while something is lacking, or was refused; ever more rarely where nothing changes.
const EVERY_IN_DOUBT: Duration = Duration::from_secs(15);

/// What was refused is asked about so much later, because it seldom comes alone.
const SETTLE: Duration = Duration::from_secs(1);

/// How often a start, an outage's end or a new credential is looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Where a token asks what it may do.
const CAPABILITIES: &str = "sys/capabilities-self";

/// What Holdover's own token lacks. Shared by who sends, who asks, and `status`.
#[derive(Default)]
pub struct Rights {
    known: Mutex<KnownRights>,
    /// Something was refused that was not before.
    refused: Notify,
}

#[derive(Default)]
struct KnownRights {
    refused: BTreeMap<RefusedRequest, BootTime>,
    /// Rules of the configuration that were not granted when that was last asked, each with what it lacks.
    lacking: Vec<PolicyRule>,
}

/// A request that was refused.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct RefusedRequest {
    path: String,
    capability: &'static str,
}

/// A right that Holdover needs and lacks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MissingRight {
    /// What was refused, or is not granted.
    pub path: String,
    /// `read`, `list`, `scan`, `update`.
    pub capabilities: Vec<String>,
    /// The path of the rule that grants it, as `config policy` prints it; none for a request that has no rule.
    pub rule: Option<String>,
    /// What it is needed for.
    pub why: Option<String>,
    /// Whether an outage would lack something without it.
    pub in_outages: bool,
}

impl fmt::Display for MissingRight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rights = self.capabilities.join(", ");
        write!(f, "the primary refuses Holdover {rights} on {}", self.path)?;
        match (&self.rule, &self.why) {
            (Some(rule), Some(why)) => write!(
                f,
                ": grant it by the rule for path {rule:?} ({why}); holdover config policy --missing prints what is lacking"
            ),
            _ => f.write_str(", and no rule of holdover config policy grants it"),
        }
    }
}

impl Rights {
    /// Notes what an answer says of the right to that request.
    pub(super) fn note(&self, request: &Request, reply: &Reply, now: BootTime) {
        let of = RefusedRequest {
            path: request.path().to_owned(),
            capability: request.capability(),
        };
        let refused = &mut self.known.lock().refused;
        match reply.tells_of_access() {
            Access::Granted => {
                refused.remove(&of);
            }
            Access::Refused => {
                refused.retain(|_, at| now.since(*at) < REMEMBERED);
                let is_new = !refused.contains_key(&of);
                if is_new && refused.len() >= MOST {
                    return;
                }
                if is_new {
                    let RefusedRequest { path, capability } = &of;
                    tracing::warn!(
                        path,
                        capability,
                        "the primary refuses this to Holdover: its policy lacks a rule"
                    );
                    self.refused.notify_one();
                }
                refused.insert(of, now);
            }
            Access::Untold => {}
        }
    }

    /// What is lacking by what is known, as that configuration needs it: each right once.
    pub fn missing(&self, settings: &Settings) -> Vec<MissingRight> {
        let rules = policy::rules(settings);
        let known = self.known.lock();
        let refused = known
            .refused
            .keys()
            .map(|of| of.missing(&rules, &known.lacking));
        let refused: Vec<_> = refused.collect();
        let is_told = |rule: &PolicyRule| {
            let mut told = refused.iter().filter_map(|right| right.rule.as_ref());
            told.any(|told| *told == rule.path)
        };
        let lacking = known
            .lacking
            .iter()
            .filter(|rule| rules.iter().any(|needed| needed.path == rule.path));
        let untold = lacking
            .filter(|rule| !is_told(rule))
            .map(MissingRight::of_rule);
        let untold: Vec<_> = untold.collect();
        refused.into_iter().chain(untold).collect()
    }

    /// What was refused, to be asked about again.
    fn refused_paths(&self) -> Vec<RefusedRequest> {
        self.known.lock().refused.keys().cloned().collect()
    }

    /// Takes in what the primary says that the token may do.
    fn learn(&self, lacking: Vec<PolicyRule>, granted: &[RefusedRequest]) {
        let known = &mut *self.known.lock();
        known.lacking = lacking;
        for of in granted {
            known.refused.remove(of);
        }
    }

    fn is_in_doubt(&self) -> bool {
        let known = self.known.lock();
        !known.lacking.is_empty() || !known.refused.is_empty()
    }
}

impl RefusedRequest {
    /// The right to it, by the rule that should grant it. Where others of the same rule are granted, one path alone is
    /// refused, and what that is about tells the room that asked.
    fn missing(&self, rules: &[PolicyRule], lacking: &[PolicyRule]) -> MissingRight {
        let rule = policy::rule_of(rules, &self.path, self.capability);
        let whole = rule.is_some_and(|rule| {
            !rule.path.ends_with('*') || lacking.iter().any(|one| one.path == rule.path)
        });
        MissingRight {
            path: self.path.clone(),
            capabilities: vec![self.capability.to_owned()],
            rule: rule.map(|rule| rule.path.clone()),
            why: rule.map(|rule| rule.why.to_owned()),
            in_outages: whole && rule.is_some_and(|rule| rule.needed == RuleNeeded::InOutages),
        }
    }
}

impl MissingRight {
    fn of_rule(rule: &PolicyRule) -> Self {
        let names = rule.capabilities.iter();
        Self {
            path: rule.path.clone(),
            capabilities: names.map(|name| (*name).to_owned()).collect(),
            rule: Some(rule.path.clone()),
            why: Some(rule.why.to_owned()),
            in_outages: rule.needed == RuleNeeded::InOutages,
        }
    }
}

/// `sys/capabilities-self`.
#[derive(Serialize)]
struct AskedPaths {
    paths: Vec<String>,
}

/// By path what may be done there.
type Capabilities = BTreeMap<String, Vec<String>>;

impl Upstream {
    /// The rules of the configuration that Holdover's own token is not granted, with what of each is lacking, as the primary
    /// says it now, in one request.
    ///
    /// # Errors
    /// [`UpstreamError`]; a denial where the token may not ask.
    pub async fn missing_rules(&self) -> Result<Vec<PolicyRule>, UpstreamError> {
        let rules = {
            let authority = self.local().view.authority();
            policy::rules(&authority.settings)
        };
        let refused = self.rights().refused_paths();
        let examples = rules.iter().map(PolicyRule::example);
        let paths = examples.chain(refused.iter().map(|of| of.path.clone()));
        let asked = AskedPaths {
            paths: paths.collect(),
        };
        let request = Request::write(CAPABILITIES, &asked).asking();
        let shown = self.ask(&request, Urgency::Authority).await?.shown()?;
        let told: Capabilities = shown.data()?;
        let lacking: Vec<_> = rules
            .into_iter()
            .filter_map(|rule| rule.without(&told))
            .collect();
        let granted = refused
            .into_iter()
            .filter(|of| grants(&told, &of.path, of.capability));
        self.rights()
            .learn(lacking.clone(), &granted.collect::<Vec<_>>());
        Ok(lacking)
    }

    /// Keeps asking what Holdover's own token may do, until the daemon stops: seldom, and soon where something is lacking.
    pub async fn watch_rights(self) {
        let mut in_doubt = EVERY_IN_DOUBT;
        loop {
            while !self.can_ask_for_rights() {
                tokio::time::sleep(LOOK).await;
            }
            if let Err(error) = self.missing_rules().await {
                tracing::debug!(%error, "what Holdover's own token may do could not be asked");
            }
            let (pause, next) = match self.rights().is_in_doubt() {
                true => (in_doubt, (in_doubt * 3 / 2).min(EVERY)),
                false => (EVERY, EVERY_IN_DOUBT),
            };
            in_doubt = next;
            let refused = self.rights().refused.notified();
            if tokio::time::timeout(pause, refused).await.is_ok() {
                tokio::time::sleep(SETTLE).await;
                in_doubt = EVERY_IN_DOUBT;
            }
        }
    }

    /// In an outage the primary is not asked, nor without a token.
    fn can_ask_for_rights(&self) -> bool {
        let is_outage = self.local().view.authority().phase.is_outage();
        !is_outage && self.offboarded().is_none() && self.own_token().is_some()
    }
}

/// Whether the primary says that this may be done there. A path that it did not speak of it would have.
fn grants(told: &Capabilities, path: &str, capability: &str) -> bool {
    let Some(granted) = told.get(path) else {
        return true;
    };
    granted
        .iter()
        .any(|name| name == capability || name == "root")
}

impl PolicyRule {
    /// What of it is not granted; none where all of it is.
    fn without(mut self, told: &Capabilities) -> Option<Self> {
        let example = self.example();
        self.capabilities
            .retain(|name| !grants(told, &example, name));
        (!self.capabilities.is_empty()).then_some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    const DENIED: &str = r#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#;
    const DEAD: &str = r#"{"errors":["permission denied"]}"#;
    const MISSING: &str = r#"{"errors":[]}"#;

    fn at(secs: u64) -> BootTime {
        BootTime::from_millis(secs * 1000)
    }

    fn answered(rights: &Rights, path: &str, (status, body): (u16, &str), secs: u64) {
        let reply = Reply::new(status, path.to_owned(), body.as_bytes().to_vec().into());
        rights.note(&Request::read(path), &reply, at(secs));
    }

    fn missing(rights: &Rights) -> Vec<(String, bool)> {
        let settings = samples::settings(&["secret/data/shop/*"]);
        let missing = rights.missing(&settings).into_iter();
        missing
            .map(|right| (right.path, right.in_outages))
            .collect()
    }

    #[test]
    fn a_refused_request_is_kept_until_it_is_answered_and_no_other_ends_it() {
        let rights = Rights::default();
        answered(&rights, "sys/mounts", (403, DENIED), 0);
        let kept = [("sys/mounts".to_owned(), true)];
        assert_eq!(missing(&rights), kept);
        answered(&rights, "sys/auth", (200, "{}"), 1);
        answered(&rights, "sys/mounts", (403, DEAD), 1);
        answered(&rights, "sys/mounts", (403, "<html>"), 1);
        answered(&rights, "sys/mounts", (503, DENIED), 1);
        assert_eq!(missing(&rights), kept);
        answered(&rights, "sys/mounts", (404, MISSING), 2);
        assert_eq!(missing(&rights), []);
    }

    #[test]
    fn one_key_that_is_refused_is_no_reason_where_the_rule_is_granted() {
        let rights = Rights::default();
        answered(&rights, "secret/data/shop/a", (403, DENIED), 0);
        assert_eq!(missing(&rights), [("secret/data/shop/a".to_owned(), false)]);
        let rules = policy::rules(&samples::settings(&["secret/data/shop/*"]));
        let values = rules
            .into_iter()
            .filter(|rule| rule.path == "secret/data/shop/*");
        rights.learn(values.collect(), &[]);
        assert_eq!(missing(&rights), [("secret/data/shop/a".to_owned(), true)]);
    }

    #[test]
    fn what_is_kept_is_bounded_and_forgotten_when_nobody_asks_any_more() {
        let rights = Rights::default();
        for nr in 0..2 * MOST {
            answered(&rights, &format!("kv/{nr}"), (403, DENIED), 0);
        }
        assert_eq!(missing(&rights).len(), MOST);
        answered(&rights, "kv/new", (403, DENIED), REMEMBERED.as_secs());
        assert_eq!(missing(&rights), [("kv/new".to_owned(), false)]);
    }

    #[test]
    fn a_rule_lacks_what_the_primary_does_not_name() {
        let rules = policy::rules(&samples::settings(&["secret/data/shop/*"]));
        let lacking = |granted: &[&str]| {
            let told: Capabilities = rules
                .iter()
                .map(|rule| {
                    let granted = granted.iter().map(|name| (*name).to_owned());
                    (rule.example(), granted.collect())
                })
                .collect();
            let lacking = rules.iter().cloned().filter_map(|rule| rule.without(&told));
            lacking.map(|rule| rule.path).collect::<Vec<_>>()
        };
        assert_eq!(lacking(&["root"]), Vec::<String>::new());
        assert_eq!(lacking(&["deny"]).len(), rules.len());
        let all_but_scans = lacking(&["read", "list", "update"]);
        assert_eq!(all_but_scans, ["secret/detailed-metadata/shop/"]);
    }

    #[test]
    fn every_rule_covers_its_example() {
        let rules = policy::rules(&samples::settings(&["secret/data/shop/*", "kv1/a*"]));
        for rule in &rules {
            for capability in &rule.capabilities {
                let found = policy::rule_of(&rules, &rule.example(), capability);
                assert_eq!(found, Some(rule), "{}", rule.example());
            }
        }
    }
}
