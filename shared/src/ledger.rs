//! Ledger entries: what is written of every decision that the replica took.
//!
//! The chain (`seq`, `prev`, `mac`) is added where the entry is committed. Field names are fixed.

pub mod claim;
pub mod share;

use alloc::{string::String, vec::Vec};
use core::fmt::Display;

use serde::{Deserialize, Serialize, Serializer};

use crate::{
    grant::Grant,
    name::{Accessor, OutageId, PolicyName, TokenDigest, WorkloadName},
    time::WallTime,
    workload::PeerId,
};

/// What an entry is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryKind {
    /// Requests refused, aggregated per uid, reason and second.
    Denial,
    /// A replica token swapped for a primary one at recovery.
    Exchange,
    /// A token issued by the replica.
    Grant,
    /// A lease taken out of its pool.
    Lease,
    /// The primary refuses Holdover's own credential, or accepts one again.
    Offboarding,
    /// An operator's command.
    Operator,
    /// A policy set that was quarantined because the replica would have granted more, or is no longer.
    Parity,
    /// Reads served by the replica, aggregated per grant, path and second.
    Read,
    /// A replica token renewed.
    Renewal,
    /// A token refused for good.
    Revocation,
    /// The machine changed its state.
    State,
    /// A login or creation whose outcome at the primary is unknown: it may hold an unused token.
    Unknown,
}

/// An entry before it is chained. Absent fields are left out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// When, RFC 3339 in UTC when written out.
    #[serde(with = "rfc3339")]
    pub time: WallTime,
    /// What it is about.
    pub kind: EntryKind,
    /// `allowed`, `denied`, or what a state changed to.
    pub outcome: String,
    /// Why it was denied, as a fixed word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The outage that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage: Option<OutageId>,
    /// The workload entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadName>,
    /// The peer's user id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The peer's systemd unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The token's accessor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accessor: Option<Accessor>,
    /// The token's keyed digest.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "digest")]
    pub token: Option<TokenDigest>,
    /// The request's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Policies granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyName>,
    /// Seconds granted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// When what was granted ends.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "rfc3339_option"
    )]
    pub deadline: Option<WallTime>,
    /// How old the deciding authority or value was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica_age_seconds: Option<u64>,
    /// How many requests this entry stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

impl Entry {
    /// An entry with nothing but what every entry has.
    pub fn new(kind: EntryKind, outcome: impl Into<String>, time: WallTime) -> Self {
        Self {
            time,
            kind,
            outcome: outcome.into(),
            reason: None,
            outage: None,
            workload: None,
            uid: None,
            unit: None,
            accessor: None,
            token: None,
            path: None,
            policies: Vec::new(),
            ttl_seconds: None,
            deadline: None,
            replica_age_seconds: None,
            count: None,
        }
    }

    /// The same, about this grant, whoever holds it, and the outage that it was issued in.
    #[must_use]
    pub fn about(mut self, grant: &Grant) -> Self {
        self = self.of_peer(grant.peer.as_ref());
        self.accessor = Some(grant.accessor.clone());
        self.token = Some(grant.digest);
        self.outage = grant.replica().map(|replica| replica.outage.clone());
        self
    }

    /// The same, about this peer.
    #[must_use]
    pub fn of_peer(mut self, peer: Option<&PeerId>) -> Self {
        if let Some(peer) = peer {
            self.workload = Some(peer.workload.clone());
            self.uid = Some(peer.uid);
            self.unit.clone_from(&peer.unit);
        }
        self
    }
}

/// As its text; a field without one is left out.
fn shown<S: Serializer>(value: &Option<impl Display>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => to.collect_str(value),
        None => to.serialize_none(),
    }
}

mod rfc3339 {
    use super::WallTime;
    use alloc::string::String;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(time: &WallTime, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<WallTime, D::Error> {
        let text = String::deserialize(from)?;
        WallTime::parse_rfc3339(&text).ok_or_else(|| D::Error::custom("not an RFC 3339 time"))
    }
}

mod rfc3339_option {
    use super::WallTime;
    use serde::Deserializer;

    pub(super) use super::shown as serialize;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<WallTime>, D::Error> {
        super::rfc3339::deserialize(from).map(Some)
    }
}

mod digest {
    use super::TokenDigest;
    use alloc::string::String;
    use serde::{Deserialize, Deserializer, de::Error};

    pub(super) use super::shown as serialize;

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<TokenDigest>, D::Error> {
        let text = String::deserialize(from)?;
        let mut bytes = [0u8; 32];
        crate::hex::read(text.as_bytes(), &mut bytes)
            .ok_or_else(|| D::Error::custom("not a digest"))?;
        Ok(Some(TokenDigest(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn an_entry_is_written_with_fixed_names_and_read_back() {
        let mut entry = Entry::new(EntryKind::Grant, "allowed", WallTime::from_secs(0));
        entry.token = Some(TokenDigest([0xab; 32]));
        entry.deadline = Some(WallTime::from_secs(60));
        let text = serde_json::to_string(&entry).unwrap();
        assert!(text.starts_with(
            r#"{"time":"1970-01-01T00:00:00Z","kind":"grant","outcome":"allowed","token":"abab"#
        ));
        assert!(text.contains(r#""deadline":"1970-01-01T00:01:00Z""#) && !text.contains("uid"));
        assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), entry);
        assert_eq!(entry.token.unwrap().to_string().len(), 64);
    }
}
