//! What the socket counts for `/metrics`: requests by source, operation and code, and how long they took.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};
use shared::{
    acl::Operation,
    api::{Call, Kind},
};

use super::dropped::DroppedHeaders;

/// Upper bounds of the histogram, in seconds: a local answer takes well under a millisecond.
const BOUNDS: [f64; 12] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0, 30.0,
];

/// The counters. Cheap to clone; to be registered under the names of their fields.
#[derive(Clone)]
pub struct Stats {
    /// `holdover_requests_total{source,operation,code}`.
    pub requests: Family<RequestLabels, Counter>,
    /// `holdover_request_duration_seconds{source,operation}`.
    pub durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    /// Headers that were not sent on.
    pub dropped: DroppedHeaders,
}

/// Labels of a request.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub struct RequestLabels {
    /// `primary` or `replica`: who wrote the answer.
    pub source: &'static str,
    /// What was asked.
    pub operation: &'static str,
    /// The status.
    pub code: u32,
}

/// `source` and `operation`, as in [`RequestLabels`].
type DurationLabels = [(&'static str, &'static str); 2];

impl Default for Stats {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BOUNDS)),
            dropped: DroppedHeaders::default(),
        }
    }
}

impl Stats {
    /// Counts an answer.
    pub(crate) fn count(
        &self,
        source: &'static str,
        operation: &'static str,
        code: u16,
        took: Duration,
    ) {
        let code = u32::from(code);
        self.requests
            .get_or_create(&RequestLabels {
                source,
                operation,
                code,
            })
            .inc();
        self.durations
            .get_or_create(&[("source", source), ("operation", operation)])
            .observe(took.as_secs_f64());
    }
}

/// The `operation` label: few words, whatever is asked.
pub(crate) fn operation(call: Option<&Call>) -> &'static str {
    let Some(call) = call else { return "other" };
    match &call.kind {
        Kind::AttestedLogin | Kind::Login => "login",
        Kind::TokenCreate => "issue",
        Kind::TokenLookup | Kind::TokenLookupAccessor | Kind::TokenLookupSelf => "lookup",
        Kind::TokenRenew | Kind::TokenRenewSelf | Kind::LeaseRenew => "renew",
        Kind::TokenRevoke | Kind::TokenRevokeSelf | Kind::LeaseRevoke => "revoke",
        Kind::LeaseLookup => "lookup",
        Kind::Capabilities
        | Kind::CapabilitiesAccessor
        | Kind::CapabilitiesSelf
        | Kind::InternalUi
        | Kind::Mounts(_) => "preflight",
        Kind::Health | Kind::Init | Kind::Leader | Kind::SealStatus => "status",
        Kind::Data | Kind::Wrapping => match call.operation {
            Operation::Read | Operation::Header => "read",
            Operation::List | Operation::Scan => "list",
            Operation::Create | Operation::Update | Operation::Patch => "write",
            Operation::Delete => "delete",
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_counted_by_source_operation_and_code() {
        let stats = Stats::default();
        let call = Call::parse("GET", "/v1/secret/data/a").unwrap();
        for _ in 0..2 {
            stats.count(
                "replica",
                operation(Some(&call)),
                200,
                Duration::from_micros(300),
            );
        }
        let labels = RequestLabels {
            source: "replica",
            operation: "read",
            code: 200,
        };
        assert_eq!(stats.requests.get_or_create(&labels).get(), 2);
    }
}
