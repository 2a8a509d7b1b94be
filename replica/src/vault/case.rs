//! One request being decided: what it is decided from, and what is read of it.

use std::time::Duration;

use serde_json::Value;
use shared::{
    acl::Operation,
    change::{Cluster, Mount},
    failover::Outage,
    settings::{Footing, Settings},
    time::{Now, WallTime},
};

use super::{
    Query, malformed,
    parameter::Params,
    refusal::{Answered, Damaged, Refusal, Why},
};
use crate::{
    entropy::Entropy,
    table::Table,
    view::{Authority, Policies, View},
};

/// One request and everything that its decision may look at. Loaded once, so consistent in itself.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a> {
    /// Values, grants and keys.
    pub(crate) view: &'a View,
    /// Who decides, by which rules.
    pub(crate) authority: &'a Authority,
    /// The request.
    pub(crate) query: &'a Query<'a>,
    /// For what is made new.
    pub(crate) entropy: &'a dyn Entropy,
}

impl<'a> Case<'a> {
    /// The present.
    pub(crate) fn now(&self) -> Now {
        self.query.now
    }

    /// The configuration.
    pub(crate) fn settings(&self) -> &'a Settings {
        &self.authority.settings
    }

    /// The outage, if there is one.
    pub(crate) fn outage(&self) -> Option<&'a Outage> {
        self.authority.phase.outage()
    }

    /// The moment that what was proven is judged from: the cutover, or now where there was none.
    pub(crate) fn cutover(&self) -> WallTime {
        self.outage()
            .map_or(self.now().wall, |outage| outage.started_at)
    }

    /// Refuses what is mirrored, where the primary has taken away what this host was entitled to, and that is too long ago.
    pub(crate) fn entitled(&self) -> Answered<()> {
        let max_age = self.settings().bounds.authority_max_age;
        match self.authority.offboarded {
            Some(since) if since.ends_reads(max_age, self.now()) => {
                Err(Why::Offboarded(since.at).into())
            }
            _ => Ok(()),
        }
    }

    /// How long ago `verified` was.
    pub(crate) fn age(&self, verified: WallTime) -> Duration {
        self.now().wall.since(verified)
    }

    /// `verified`'s age, if no more than `max`. A bound of zero is zero.
    pub(crate) fn fresh(&self, verified: WallTime, max: Duration) -> Answered<Duration> {
        let age = self.age(verified);
        if age > max {
            return Err(Why::TooStale { age, max }.into());
        }
        Ok(age)
    }

    /// Refuses what would be decided by something that is damaged.
    pub(crate) fn intact(&self, what: impl FnOnce() -> Damaged) -> Answered<()> {
        let lost = &self.authority.lost;
        if lost.is_empty() {
            return Ok(());
        }
        let (what, within) = (what(), self.view.within(self.authority));
        let is_lost = match &what {
            Damaged::AppRole(role) => lost.has(&within.approle(role)),
            Damaged::Authority(workload) => lost.has(&within.authority(workload)),
            Damaged::Identity(entity) => lost.has(&within.identity(entity)),
            Damaged::Lease => lost.any(Table::Lease),
            Damaged::Mounts => lost.has(&within.only(Table::Cluster)),
            Damaged::Policies => self.are_policies_lost(),
            Damaged::Policy(name) => lost.has_row(&within.policy(name)),
            Damaged::Token => lost.any(Table::Grant),
        };
        match is_lost {
            true => Err(what.into()),
            false => Ok(()),
        }
    }

    /// Whether it is not known which policies there are, or when any was read.
    fn are_policies_lost(&self) -> bool {
        let (lost, within) = (&self.authority.lost, self.view.within(self.authority));
        let known = self.authority.policies.as_deref();
        let is_read = known.is_some_and(|known| known.set.is_read());
        lost.has(&within.only(Table::PoliciesSeen))
            || lost.has(&within.only(Table::Policies)) && !is_read
    }

    /// The cluster, if it was ever seen.
    pub(crate) fn cluster(&self) -> Answered<&'a Cluster> {
        self.intact(|| Damaged::Mounts)?;
        let cluster = self.authority.cluster.as_deref();
        cluster.ok_or_else(|| Why::PrimaryNeverSeen.into())
    }

    /// The cluster, if its mounts may be gone by.
    pub(crate) fn mounts(&self) -> Answered<&'a Cluster> {
        let cluster = self.cluster()?;
        self.recent(cluster.verified_at, || Footing::Mounts)?;
        Ok(cluster)
    }

    /// The mount that the path lies in, and where that is.
    pub(crate) fn mount(&self) -> Answered<(&'a str, &'a Mount)> {
        let mount = self.mounts()?.mount_of(self.query.call.path.as_str());
        Ok(mount.ok_or(Why::PathNotMirrored)?)
    }

    /// The policies, if they were ever seen and may be gone by. Of those that could not be read with the others each has
    /// its own age.
    pub(crate) fn policies(&self) -> Answered<&'a Policies> {
        self.intact(|| Damaged::Policies)?;
        let policies = self.authority.policies.as_deref();
        let policies = policies.ok_or(Why::PrimaryNeverSeen)?;
        self.recent(policies.set.verified_at, || Footing::Policies)?;
        Ok(policies)
    }

    /// Refuses what would be decided by something that was verified too long before the cutover.
    pub(crate) fn recent(
        &self,
        verified_at: WallTime,
        what: impl FnOnce() -> Footing,
    ) -> Answered<()> {
        let bounds = &self.settings().bounds;
        match bounds.is_recent(verified_at, self.cutover()) {
            true => Ok(()),
            false => Err(Why::Unverified {
                what: what(),
                max: bounds.policy_max_age,
            }
            .into()),
        }
    }

    /// Refuses what the request's headers ask for beyond what is modelled.
    pub(crate) fn modelled(&self) -> Answered<()> {
        match self.query.unmodelled {
            Some("content-type") => return Err(Why::Form.into()),
            Some(header) => return Err(Why::Header(header.to_owned()).into()),
            None => {}
        }
        self.in_namespace()
    }

    /// Refuses another namespace than the mirrored one. The primary finds the namespace before it looks at the token: it
    /// says 404 where there is none of the name, and 400 to paths that only the root namespace has, whoever asks.
    pub(crate) fn in_namespace(&self) -> Answered<()> {
        match self.query.namespace.is(&self.settings().namespace) {
            true => Ok(()),
            false => Err(Why::Namespace.into()),
        }
    }

    /// What the primary calls the request's data: keys of the JSON body, or the query where there is no body.
    pub(crate) fn parameters(&self) -> Answered<Params> {
        match self.query.call.operation {
            Operation::Create | Operation::Update | Operation::Patch => self.body(),
            _ => Ok(self.query_parameters()),
        }
    }

    fn body(&self) -> Answered<Params> {
        let body = self.query.body.trim_ascii();
        if body.is_empty() || body == b"null" {
            return Ok(Params::new());
        }
        serde_json::from_slice(body).map_err(|_| {
            let reason = malformed::reason(body);
            Refusal::Invalid(format!("failed to decode JSON input: {reason}"))
        })
    }

    /// A repeated parameter is a list, as at the primary.
    fn query_parameters(&self) -> Params {
        let mut data = Params::new();
        for (key, value) in &self.query.call.query {
            let value = Value::String(value.clone());
            match data.get_mut(key) {
                None => {
                    data.insert(key.clone(), value);
                }
                Some(Value::Array(all)) => all.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
            }
        }
        data
    }

    /// Since when the primary does not answer, as far as a client may be told.
    pub(crate) fn unavailable(&self) -> String {
        match self.outage() {
            Some(outage) => format!("primary unavailable since {}", outage.started_at),
            None => "primary did not answer".into(),
        }
    }
}
