//! Parity: whether two answers to the same request agree in what must agree.
//!
//! Pure. Of an answer only [`Facts`] are kept: its status, and what of its body must agree, as keyed digests where it
//! may be secret. What is reported of a disagreement are names of fields,
//! never values.

use std::{collections::BTreeSet, ops::RangeInclusive};

use serde_json::{Map, Value};
use shared::{
    api::{Call, Kind},
    provenance::{Comparable, DeniedBy},
    time::WallTime,
};
use zeroize::Zeroizing;

use crate::{
    key::Keys,
    vault::judge::{Judgement, Standing},
};

mod blame;

pub use blame::blamed;

/// Ends of tokens agree within this beside the time that an answer took: TTLs are whole seconds.
const WITHIN_SECS: u64 = 5;

/// Fields of a look-up that no two look-ups share, or that have a comparison of their own.
const OWN_FIELDS: [&str; 9] = [
    "creation_time",
    "expire_time",
    "id",
    "identity_policies",
    "issue_time",
    "last_renewal",
    "last_renewal_time",
    "policies",
    "ttl",
];

/// What must agree of one answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    status: u16,
    /// What of the primary denied it.
    denied_by: Option<DeniedBy>,
    fields: Vec<(&'static str, Fact)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Fact {
    /// At most the primary's, in seconds.
    AtMost(u64),
    /// What makes more of a token where it is so.
    Gives(bool),
    /// Seconds since the epoch: at the earliest, at the latest.
    Ends(i64, i64),
    /// Rights: one more is more granted.
    Rights(BTreeSet<String>),
    /// A keyed digest.
    Same([u8; 32]),
}

/// How two decisions disagree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Disagreement {
    /// The same verdict, another answer; or the primary refused the request for what it is, and the replica would not.
    Differs,
    /// The replica would have granted what the primary refused, or more of it.
    GrantsMore,
    /// The replica would have refused what the primary granted.
    RefusesMore,
    /// The replica could not have decided what it is there to decide.
    Undecidable,
}

impl Disagreement {
    /// All of them, as status and metrics list them.
    pub const ALL: [Self; 4] = [
        Self::Undecidable,
        Self::RefusesMore,
        Self::GrantsMore,
        Self::Differs,
    ];

    /// As status, metrics and the log name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Differs => "differs",
            Self::GrantsMore => "grants_more",
            Self::RefusesMore => "refuses_more",
            Self::Undecidable => "undecidable",
        }
    }
}

/// What a comparison came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// They agree.
    Agree,
    /// They do not: how, and by what. The names are few: fields, or the cause of what is undecidable.
    Disagree(Disagreement, Vec<&'static str>),
    /// Nothing that the replica serves, by design or by configuration.
    NotCovered,
}

/// Compares the primary's answer with what the replica would have said to the same call.
pub fn compare(primary: &Facts, judged: &Facts, standing: Standing) -> Outcome {
    match standing {
        Standing::Uncovered(_) => return Outcome::NotCovered,
        Standing::Undecidable(cause) => {
            return Outcome::Disagree(Disagreement::Undecidable, vec![cause]);
        }
        Standing::Decided => {}
    }
    if primary.status != judged.status {
        let kind = of_statuses(primary, judged);
        return Outcome::Disagree(kind, vec!["status"]);
    }
    let mut found: Option<Disagreement> = None;
    let mut fields = Vec::new();
    for name in primary.names().chain(judged.names()) {
        if fields.contains(&name) {
            continue;
        }
        if let Some(kind) = differs(primary.field(name), judged.field(name)) {
            fields.push(name);
            if found != Some(Disagreement::GrantsMore) {
                found = Some(kind);
            }
        }
    }
    match found {
        None => Outcome::Agree,
        Some(kind) => Outcome::Disagree(kind, fields),
    }
}

fn of_statuses(primary: &Facts, judged: &Facts) -> Disagreement {
    // 404 says that the caller may ask, and that nothing is there.
    let allows = |facts: &Facts| matches!(facts.status, 200..=299 | 404);
    match primary.denied_by {
        Some(DeniedBy::Issuing) if matches!(judged.status, 200..=299) => Disagreement::GrantsMore,
        Some(DeniedBy::AccessControl | DeniedBy::Token) if allows(judged) => {
            Disagreement::GrantsMore
        }
        _ if allows(primary) && !allows(judged) => Disagreement::RefusesMore,
        // A refusal that denies nobody is of the request, and says nothing of rights.
        _ => Disagreement::Differs,
    }
}

fn differs(primary: Option<&Fact>, judged: Option<&Fact>) -> Option<Disagreement> {
    match (primary, judged) {
        (Some(Fact::AtMost(most)), Some(Fact::AtMost(is))) => {
            let more = *is > most.saturating_add(WITHIN_SECS);
            more.then_some(Disagreement::GrantsMore)
        }
        (Some(Fact::Gives(there)), Some(Fact::Gives(here))) if there != here => Some(match here {
            true => Disagreement::GrantsMore,
            false => Disagreement::Differs,
        }),
        (Some(Fact::Ends(first, last)), Some(Fact::Ends(from, to))) => {
            let apart = from.saturating_sub(*last).max(first.saturating_sub(*to));
            (apart > WITHIN_SECS.cast_signed()).then_some(Disagreement::Differs)
        }
        (Some(Fact::Rights(there)), Some(Fact::Rights(here))) if there != here => {
            Some(match here.is_subset(there) {
                true => Disagreement::Differs,
                false => Disagreement::GrantsMore,
            })
        }
        (there, here) if there == here => None,
        _ => Some(Disagreement::Differs),
    }
}

impl Facts {
    /// What must agree of the primary's answer to `call`, as [`Facts::of`] has it.
    pub fn decided(
        call: &Call,
        decision: Comparable,
        body: Option<&[u8]>,
        given: RangeInclusive<WallTime>,
        keys: &Keys,
    ) -> Self {
        Self {
            denied_by: decision.denied_by(),
            ..Self::of(call, decision.status(), body, given, keys)
        }
    }

    /// What must agree of an answer of `status` with `body` to `call`, given somewhen in `given`: a busy primary's
    /// answer may be seconds old when it is there. Without a body (it streamed, or is not to be looked into) the status
    /// alone.
    pub fn of(
        call: &Call,
        status: u16,
        body: Option<&[u8]>,
        given: RangeInclusive<WallTime>,
        keys: &Keys,
    ) -> Self {
        let envelope = body
            .filter(|_| matches!(status, 200..=299 | 404))
            .and_then(|body| serde_json::from_slice::<Map<String, Value>>(body).ok());
        let mut facts = Self {
            status,
            denied_by: None,
            fields: Vec::new(),
        };
        if let Some(envelope) = envelope {
            let reading = AnswerRead {
                envelope,
                given,
                keys,
            };
            reading.facts(call, &mut facts.fields);
        }
        facts
    }

    /// What must agree of a judgement of `call` made `at`. Where the primary's body was not looked into, neither is
    /// this one's.
    pub fn judged(
        call: &Call,
        judgement: &Judgement,
        primary: &Self,
        at: WallTime,
        keys: &Keys,
    ) -> Self {
        let body = (!primary.fields.is_empty()).then_some(&judgement.response.body[..]);
        Self::of(call, judgement.response.status, body, at..=at, keys)
    }

    /// Whether the replica would still say the same: then what it goes by was not replaced in between.
    pub fn are_as(&self, before: &Self) -> bool {
        compare(before, self, Standing::Decided) == Outcome::Agree
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }

    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().map(|(name, _)| *name)
    }

    fn field(&self, wanted: &str) -> Option<&Fact> {
        let mut fields = self.fields.iter();
        fields
            .find(|(name, _)| *name == wanted)
            .map(|(_, fact)| fact)
    }
}

/// An answer being read.
struct AnswerRead<'a> {
    envelope: Map<String, Value>,
    given: RangeInclusive<WallTime>,
    keys: &'a Keys,
}

type ComparedFields = Vec<(&'static str, Fact)>;

impl AnswerRead<'_> {
    fn facts(&self, call: &Call, fields: &mut ComparedFields) {
        match &call.kind {
            Kind::AttestedLogin | Kind::Login | Kind::TokenCreate => {
                self.auth(fields);
                self.issued(fields);
            }
            Kind::TokenRenewSelf => {
                self.auth(fields);
                self.renewed(fields);
            }
            Kind::Capabilities | Kind::CapabilitiesAccessor | Kind::CapabilitiesSelf => {
                fields.push(("capabilities", Fact::Rights(self.capabilities())));
            }
            Kind::Data => self.data(fields),
            Kind::Mounts(asked) => {
                if asked.is_none() {
                    fields.push(("mounts", Fact::Rights(self.mounts())));
                }
                fields.push(("data", self.same(self.envelope.get("data"))));
            }
            Kind::TokenLookup | Kind::TokenLookupAccessor | Kind::TokenLookupSelf => {
                self.look_up(fields);
            }
            // What is left of a lease each side says for itself.
            _ => {}
        }
    }

    /// Of what has a lease, that it has one: the primary makes a new secret for every read.
    fn data(&self, fields: &mut ComparedFields) {
        let lease = self.envelope.get("lease_id").and_then(Value::as_str);
        if lease.is_some_and(|lease| !lease.is_empty()) {
            fields.push(("lease", Fact::Same([1; 32])));
            fields.push(("renewable", self.same(self.envelope.get("renewable"))));
        } else {
            fields.push(("data", self.same(self.envelope.get("data"))));
        }
    }

    fn look_up(&self, fields: &mut ComparedFields) {
        let Some(data) = self.envelope.get("data").and_then(Value::as_object) else {
            return;
        };
        let mut shown = data.clone();
        shown.retain(|name, _| !OWN_FIELDS.contains(&name.as_str()));
        fields.push(("policies", Fact::Rights(names(data.get("policies")))));
        let identity = names(data.get("identity_policies"));
        fields.push(("identity_policies", Fact::Rights(identity)));
        if let Some(ttl) = data.get("ttl").and_then(Value::as_i64) {
            let end = |at: &WallTime| at.as_secs().saturating_add(ttl);
            fields.push((
                "ttl",
                Fact::Ends(end(self.given.start()), end(self.given.end())),
            ));
        }
        fields.push(("shown", self.same(Some(&Value::Object(shown)))));
    }

    fn auth(&self, fields: &mut ComparedFields) {
        let Some(auth) = self.envelope.get("auth").and_then(Value::as_object) else {
            return;
        };
        let mut rights = names(auth.get("token_policies"));
        rights.extend(names(auth.get("identity_policies")));
        fields.push(("policies", Fact::Rights(rights)));
        for name in ["entity_id", "token_type"] {
            fields.push((name, self.same(auth.get(name))));
        }
        if let Some(ttl) = auth.get("lease_duration").and_then(Value::as_u64) {
            fields.push(("ttl", Fact::AtMost(ttl)));
        }
    }

    /// Of a new token what gives it a longer life than another of the same TTL: that it may be renewed, outlives its parent,
    /// and is not used up. Longest life and period are not shown with it.
    fn issued(&self, fields: &mut ComparedFields) {
        let Some(auth) = self.envelope.get("auth").and_then(Value::as_object) else {
            return;
        };
        for name in ["renewable", "orphan"] {
            let is_so = auth.get(name).and_then(Value::as_bool).unwrap_or(false);
            fields.push((name, Fact::Gives(is_so)));
        }
        let uses = auth.get("num_uses").and_then(Value::as_u64).unwrap_or(0);
        fields.push(("num_uses", Fact::Gives(uses == 0)));
    }

    fn renewed(&self, fields: &mut ComparedFields) {
        let auth = self.envelope.get("auth").and_then(Value::as_object);
        for name in ["renewable", "orphan"] {
            fields.push((name, self.same(auth.and_then(|auth| auth.get(name)))));
        }
    }

    /// Where each mount is that is shown.
    fn mounts(&self) -> BTreeSet<String> {
        let data = self.envelope.get("data");
        let of = |kind: &str, before: &str| {
            let shown = data.and_then(|data| data.get(kind)?.as_object());
            let paths = shown.into_iter().flat_map(Map::keys);
            paths
                .map(|path| format!("{before}{path}"))
                .collect::<Vec<_>>()
        };
        [of("auth", "auth/"), of("secret", "")]
            .concat()
            .into_iter()
            .collect()
    }

    /// Each capability at each path.
    fn capabilities(&self) -> BTreeSet<String> {
        let data = self.envelope.get("data").and_then(Value::as_object);
        let of_path = |(path, granted): (&String, &Value)| {
            let granted = names(Some(granted)).into_iter();
            let kept = granted.filter(|name| name != "deny");
            kept.map(|name| format!("{name} {path}"))
                .collect::<Vec<_>>()
        };
        data.into_iter().flatten().flat_map(of_path).collect()
    }

    /// Nothing, and null, are the same.
    fn same(&self, value: Option<&Value>) -> Fact {
        let text = value
            .filter(|value| !value.is_null())
            .and_then(|value| serde_json::to_vec(value).ok());
        let text = Zeroizing::new(text.unwrap_or_default());
        Fact::Same(self.keys.likeness(&[&text]))
    }
}

fn names(value: Option<&Value>) -> BTreeSet<String> {
    let items = value.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
