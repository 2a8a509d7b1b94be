//! What the primary refuses to Holdover for want of a rule in its policy: every request of its own that was refused, until
//! that one is answered, and every rule that is not granted, whether or not anything was asked by it yet.
//!
//! The one place that sends Holdover's own requests notes each answer here, so that no room can forget to. A token that is
//! refused as such is another matter: [`super::own`].

mod in_use;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use parking_lot::Mutex;
use serde::Serialize;
use shared::{settings::Settings, time::BootTime};
use tokio::sync::Notify;

use self::in_use::InUse;
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
    /// Rules of the configuration that were not granted when that was last asked.
    lacking: Vec<LackingRule>,
}

/// A rule that is not granted.
#[derive(Clone, PartialEq, Eq, Debug)]
struct LackingRule {
    /// With what of it is lacking.
    rule: PolicyRule,
    /// Whether that was asked about a path that Holdover made up, because it knows of none that is in use: there may be
    /// none, or what is granted may be narrower than the rule, and enough.
    supposed: bool,
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
    /// Whether nothing that the rule is for is known to be in use.
    pub supposed: bool,
}

impl fmt::Display for MissingRight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rights = self.capabilities.join(", ");
        write!(f, "the primary refuses Holdover {rights} on {}", self.path)?;
        match (&self.rule, &self.why) {
            (Some(rule), Some(why)) if self.supposed => write!(
                f,
                ", of which nothing is in use yet: unless something narrower is granted, grant the rule for path {rule:?} ({why}); holdover config policy --missing prints what is lacking"
            ),
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
            .filter(|one| rules.iter().any(|needed| needed.path == one.rule.path));
        let untold = lacking
            .filter(|one| !is_told(&one.rule))
            .map(MissingRight::of_rule);
        let untold: Vec<_> = untold.collect();
        refused.into_iter().chain(untold).collect()
    }

    /// The right to ask for `path`, where that was refused.
    pub fn missing_on(&self, path: &str, settings: &Settings) -> Option<MissingRight> {
        let known = self.known.lock();
        let mut refused = known.refused.keys();
        let of = refused.find(|of| of.path == path)?;
        Some(of.missing(&policy::rules(settings), &known.lacking))
    }

    /// What was refused, to be asked about again.
    fn refused_paths(&self) -> Vec<RefusedRequest> {
        self.known.lock().refused.keys().cloned().collect()
    }

    /// Takes in what the primary says that the token may do.
    fn learn(&self, lacking: Vec<LackingRule>, granted: &[RefusedRequest]) {
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
    fn missing(&self, rules: &[PolicyRule], lacking: &[LackingRule]) -> MissingRight {
        let rule = policy::rule_of(rules, &self.path, self.capability);
        let lacks = |rule: &PolicyRule| {
            let mut shown = lacking.iter().filter(|one| !one.supposed);
            shown.any(|one| one.rule.path == rule.path)
        };
        let whole = rule.is_some_and(|rule| !rule.path.ends_with('*') || lacks(rule));
        MissingRight {
            path: self.path.clone(),
            capabilities: vec![self.capability.to_owned()],
            rule: rule.map(|rule| rule.path.clone()),
            why: rule.map(|rule| rule.why.to_owned()),
            in_outages: whole && rule.is_some_and(|rule| rule.needed == RuleNeeded::InOutages),
            supposed: false,
        }
    }
}

impl MissingRight {
    fn of_rule(lacking: &LackingRule) -> Self {
        let LackingRule { rule, supposed } = lacking;
        let names = rule.capabilities.iter();
        Self {
            path: rule.path.clone(),
            capabilities: names.map(|name| (*name).to_owned()).collect(),
            rule: Some(rule.path.clone()),
            why: Some(rule.why.to_owned()),
            in_outages: !supposed && rule.needed == RuleNeeded::InOutages,
            supposed: *supposed,
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
        let in_use = InUse::of(&self.local().view, &rules);
        let asked: Vec<_> = rules
            .into_iter()
            .map(|rule| AskedRule::of(rule, &in_use, &refused))
            .collect();
        let paths = asked.iter().flat_map(AskedRule::paths);
        let paths: BTreeSet<_> = paths.chain(refused.iter().map(|of| &of.path)).collect();
        let paths = AskedPaths {
            paths: paths.into_iter().cloned().collect(),
        };
        let request = Request::write(CAPABILITIES, &paths).asking();
        let shown = self.ask(&request, Urgency::Authority).await?.shown()?;
        let told: Capabilities = shown.data()?;
        let lacking: Vec<_> = asked
            .into_iter()
            .filter_map(|rule| rule.lacking(&told))
            .collect();
        let granted = refused
            .into_iter()
            .filter(|of| grants(&told, &of.path, of.capability));
        self.rights()
            .learn(lacking.clone(), &granted.collect::<Vec<_>>());
        Ok(lacking.into_iter().map(|one| one.rule).collect())
    }

    /// Keeps asking what Holdover's own token may do, until the daemon stops: seldom, and soon where something is lacking.
    pub async fn watch_rights(self) {
        let mut in_doubt = EVERY_IN_DOUBT;
        loop {
            while !self.can_ask_for_rights() {
                tokio::time::sleep(LOOK).await;
            }
            let asked = self.missing_rules().await.inspect_err(|error| {
                tracing::debug!(%error, "what Holdover's own token may do could not be asked");
            });
            // A refusal is an answer; anything else may be over in a moment.
            let is_unanswered = asked.is_err_and(|error| error.decision().is_none());
            let (pause, next) = match self.rights().is_in_doubt() || is_unanswered {
                true => (in_doubt, (in_doubt * 3 / 2).min(EVERY)),
                false => (EVERY, EVERY_IN_DOUBT),
            };
            in_doubt = next;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.next_return() => {}
                () = self.rights().refused.notified() => {
                    tokio::time::sleep(SETTLE).await;
                    in_doubt = EVERY_IN_DOUBT;
                }
            }
        }
    }

    /// Waits until another outage is over: rules may have been taken away in it.
    async fn next_return(&self) {
        let recovered = || self.local().view.authority().proven_from;
        let before = recovered();
        while recovered() == before {
            tokio::time::sleep(LOOK).await;
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

/// A rule, and the paths by which the primary is asked whether it is granted.
struct AskedRule {
    rule: PolicyRule,
    /// Paths that Holdover asks for, or was refused.
    in_use: Vec<String>,
    /// Where there is none, one that it made up.
    supposed: Option<String>,
}

impl AskedRule {
    fn of(rule: PolicyRule, in_use: &InUse, refused: &[RefusedRequest]) -> Self {
        let mut known = in_use.of_rule(&rule);
        let refused = refused.iter().map(|of| &of.path);
        known.extend(refused.filter(|path| rule.covers(path)).cloned());
        Self {
            supposed: known.is_empty().then(|| rule.example()),
            in_use: known,
            rule,
        }
    }

    fn paths(&self) -> impl Iterator<Item = &String> {
        self.in_use.iter().chain(&self.supposed)
    }

    /// What of it is not granted; none where all of it is. Below a prefix an operator may mean to leave out some of it, but not
    /// all; of what stands for one segment, each is needed.
    fn lacking(mut self, told: &Capabilities) -> Option<LackingRule> {
        let paths: Vec<_> = self.in_use.iter().chain(&self.supposed).collect();
        let is_granted = |name: &&'static str| {
            let mut each = paths.iter().map(|path| grants(told, path, name));
            match self.rule.path.ends_with('*') {
                true => each.any(|granted| granted),
                false => each.all(|granted| granted),
            }
        };
        self.rule.capabilities.retain(|name| !is_granted(name));
        (!self.rule.capabilities.is_empty()).then_some(LackingRule {
            rule: self.rule,
            supposed: self.supposed.is_some(),
        })
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
        let settings = samples::settings(&["secret/data/shop/*"]);
        let on = |path: &str| rights.missing_on(path, &settings);
        let told = on("sys/mounts").map(|right| right.to_string());
        assert!(told.is_some_and(|told| told.contains("by the rule for path \"sys/mounts\"")));
        assert_eq!(on("sys/auth"), None);
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
        let lacking = |supposed| {
            values
                .clone()
                .map(move |rule| LackingRule { rule, supposed })
        };
        rights.learn(lacking(true).collect(), &[]);
        assert_eq!(missing(&rights), [("secret/data/shop/a".to_owned(), false)]);
        rights.learn(lacking(false).collect(), &[]);
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

    /// A rule of which these paths are in use.
    fn asked(rule: &PolicyRule, in_use: &[&str]) -> AskedRule {
        let in_use: Vec<_> = in_use.iter().map(|path| (*path).to_owned()).collect();
        AskedRule {
            supposed: in_use.is_empty().then(|| rule.example()),
            in_use,
            rule: rule.clone(),
        }
    }

    /// By what the primary says of the paths in use, whatever it says of others.
    #[test]
    fn what_is_granted_more_narrowly_than_a_rule_is_granted_where_that_is_all_that_is_in_use() {
        let told: Capabilities = [
            ("auth/approle/role/ci", "read"),
            ("auth/approle/role/web", "deny"),
            ("auth/approle/role/holdover", "deny"),
            ("secret/data/shop/a", "read"),
            ("secret/data/shop/b", "deny"),
            ("secret/data/shop/holdover", "deny"),
        ]
        .map(|(path, granted)| (path.to_owned(), vec![granted.to_owned()]))
        .into();
        let rule = |path: &str| PolicyRule {
            path: path.to_owned(),
            capabilities: vec!["read"],
            why: "a test",
            needed: RuleNeeded::InOutages,
        };
        let (role, prefix) = (rule("auth/approle/role/+"), rule("secret/data/shop/*"));
        let lacks = |rule: &PolicyRule, in_use: &[&str]| {
            let lacking = asked(rule, in_use).lacking(&told)?;
            Some(MissingRight::of_rule(&lacking).in_outages)
        };
        assert_eq!(lacks(&role, &["auth/approle/role/ci"]), None);
        let two = ["auth/approle/role/ci", "auth/approle/role/web"];
        assert_eq!(lacks(&role, &two), Some(true));
        let (a, b) = ("secret/data/shop/a", "secret/data/shop/b");
        assert_eq!(lacks(&prefix, &[a, b]), None, "one key may be left out");
        assert_eq!(lacks(&prefix, &[b]), Some(true));
        // A made-up path says nothing of what is in use.
        assert_eq!(lacks(&role, &[]), Some(false));
        assert_eq!(lacks(&prefix, &[]), Some(false));
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
            let lacking = rules
                .iter()
                .filter_map(|rule| asked(rule, &[]).lacking(&told));
            lacking.map(|one| one.rule.path).collect::<Vec<_>>()
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
