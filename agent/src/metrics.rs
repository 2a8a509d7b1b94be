//! What Prometheus sees: names and labels as the documentation fixes them.
//!
//! Counters and histograms are kept where things happen; gauges are set from the status at each scrape, so that
//! `/metrics` and `status` cannot disagree.

use std::{sync::atomic::Ordering, time::Duration};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

use crate::{
    parity::counts::Counts,
    serve::{learn_queue::LearnQueue, stats::Stats},
    status::DaemonStatus,
};

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The states of the machine, in the order of a life.
const STATES: [&str; 5] = [
    "following",
    "suspect",
    "holdover",
    "recovering",
    "exhausted",
];

/// Every metric. Shared by the tasks that count.
pub struct Metrics {
    /// Counting goes on meanwhile: this is only held while the text is made.
    registry: Mutex<Registry>,
    lateness: Histogram,
    learning: LearnQueue,
    unlearned: Counter,
    gauges: Gauges,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct PathLabel {
    path: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OriginLabel {
    origin: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct AddressLabel {
    address: String,
}

#[derive(Default)]
struct Gauges {
    state: Family<StateLabel, Gauge>,
    ready: Gauge,
    autonomy: Gauge,
    mirror_age: Family<PathLabel, Gauge>,
    mirror_values: Family<PathLabel, Gauge>,
    mirror_errors: Family<PathLabel, Gauge>,
    grants: Family<OriginLabel, Gauge>,
    pool_size: Family<PathLabel, Gauge>,
    pool_ready: Family<PathLabel, Gauge>,
    pool_handed_out: Family<PathLabel, Gauge>,
    healthy: Family<AddressLabel, Gauge>,
    free: Gauge,
    ledger: Gauge,
    ledger_max: Gauge,
    quarantined: Gauge,
}

impl Metrics {
    /// Over what the workload socket counts, its queue of tokens to be learned, and what comparing counts.
    pub fn new(socket: &Stats, learning: LearnQueue, parity: &Counts) -> Self {
        let metrics = Self {
            registry: Mutex::default(),
            lateness: Histogram::new([0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 30.0, 300.0]),
            learning,
            unlearned: Counter::default(),
            gauges: Gauges::default(),
        };
        let mut registry = Registry::with_prefix("holdover");
        register_socket(socket, &mut registry);
        parity.register(&mut registry);
        metrics.register_counters(&mut registry);
        metrics.gauges.register(&mut registry);
        Self {
            registry: Mutex::new(registry),
            ..metrics
        }
    }

    /// A grant was durably revoked this long after its deadline.
    pub fn revoked_late(&self, by: Duration) {
        self.lateness.observe(by.as_secs_f64());
    }

    /// Tokens seen that nothing is known of.
    pub fn tokens_unlearned(&self) -> u64 {
        self.learning.unlearned()
    }

    /// The text that Prometheus reads, with gauges from `status`.
    pub fn render(&self, status: &DaemonStatus) -> String {
        self.gauges.set(status);
        let unlearned = self.unlearned.inner();
        unlearned.store(self.tokens_unlearned(), Ordering::Relaxed);
        let mut page = String::new();
        let registry = self.registry.lock();
        // Writing to a String does not fail; a page without its end is refused by every reader.
        if text::encode(&mut page, &registry).is_err() {
            page.clear();
        }
        page
    }

    fn register_counters(&self, registry: &mut Registry) {
        registry.register(
            "revocation_lateness_seconds",
            "How long after its deadline a grant was durably revoked; it was refused at the deadline",
            self.lateness.clone(),
        );
        registry.register(
            "tokens_unlearned",
            "Tokens seen that nothing is known of, which an outage would make undecidable",
            self.unlearned.clone(),
        );
        registry.register(
            "build",
            "The running version",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
    }
}

fn register_socket(socket: &Stats, registry: &mut Registry) {
    registry.register(
        "requests",
        "Requests answered, by who answered, the operation and the HTTP status",
        socket.requests.clone(),
    );
    registry.register(
        "request_duration_seconds",
        "Time from a request's head to its answer's head",
        socket.durations.clone(),
    );
}

impl Gauges {
    fn register(&self, registry: &mut Registry) {
        let state = self.state.clone();
        registry.register(
            "state",
            "1 for the machine's state, 0 for the others",
            state,
        );
        let help = "1 if the replica could take over now";
        registry.register("ready", help, self.ready.clone());
        let help = "How long Holdover could carry on if the primary died now";
        registry.register("autonomy_seconds", help, self.autonomy.clone());
        let help =
            "Age of a mirror's least recently verified value; absent until its first complete pass";
        registry.register("mirror_age_seconds", help, self.mirror_age.clone());
        let help = "Keys or leases that a mirror holds";
        registry.register("mirror_values", help, self.mirror_values.clone());
        let help = "Failed cycles of a mirror in a row";
        registry.register("mirror_errors", help, self.mirror_errors.clone());
        let help = "Grants that live, by who minted them";
        registry.register("grants", help, self.grants.clone());
        let help = "Leases that a pool is to keep ready";
        registry.register("pool_size", help, self.pool_size.clone());
        let help = "Leases of a pool that nobody has";
        registry.register("pool_ready", help, self.pool_ready.clone());
        let help = "Leases of a pool that workloads took in an outage and that live";
        registry.register("pool_handed_out", help, self.pool_handed_out.clone());
        let help = "1 if an address of the primary answered last time";
        registry.register("address_healthy", help, self.healthy.clone());
        let help = "Bytes that are free where the replica lies; -1 if that is not known";
        registry.register("store_free_bytes", help, self.free.clone());
        let help = "What the ledger's entries take in the replica";
        registry.register("ledger_bytes", help, self.ledger.clone());
        let help = "The most that they may take: issuing ends before";
        registry.register("ledger_max_bytes", help, self.ledger_max.clone());
        let help = "Policy sets that only the primary decides for, because the replica would have granted more";
        registry.register("quarantined", help, self.quarantined.clone());
    }

    fn set(&self, status: &DaemonStatus) {
        for state in STATES {
            let is = i64::from(state == status.state);
            self.state.get_or_create(&StateLabel { state }).set(is);
        }
        self.ready.set(i64::from(status.ready));
        self.autonomy.set(signed(status.autonomy_seconds));
        for family in [&self.mirror_age, &self.mirror_values, &self.mirror_errors] {
            family.clear();
        }
        for mirror in &status.mirrors {
            let label = PathLabel {
                path: mirror.path.clone(),
            };
            if let Some(age) = mirror.age {
                self.mirror_age
                    .get_or_create(&label)
                    .set(signed(age.into()));
            }
            let count = signed(mirror.count);
            self.mirror_values.get_or_create(&label).set(count);
            let errors = signed(mirror.errors);
            self.mirror_errors.get_or_create(&label).set(errors);
        }
        self.set_pools(status);
        let grants = &status.grants;
        for (origin, count) in [("primary", grants.primary), ("replica", grants.replica)] {
            let label = OriginLabel { origin };
            self.grants.get_or_create(&label).set(signed(count));
        }
        let store = &status.store;
        self.free.set(store.free_bytes.map_or(-1, signed));
        self.ledger.set(signed(store.ledger_bytes));
        self.ledger_max.set(signed(store.ledger_max_bytes));
        let quarantined = u64::try_from(status.parity.quarantined.len()).unwrap_or(u64::MAX);
        self.quarantined.set(signed(quarantined));
        self.healthy.clear();
        for one in &status.addresses {
            let address = one.address.clone();
            let healthy = i64::from(one.healthy);
            self.healthy
                .get_or_create(&AddressLabel { address })
                .set(healthy);
        }
    }
}

impl Gauges {
    fn set_pools(&self, status: &DaemonStatus) {
        for family in [&self.pool_size, &self.pool_ready, &self.pool_handed_out] {
            family.clear();
        }
        for pool in &status.pools {
            let path = pool.path.clone();
            let label = PathLabel { path };
            for (family, count) in [
                (&self.pool_size, pool.size),
                (&self.pool_ready, pool.ready),
                (&self.pool_handed_out, pool.handed_out),
            ] {
                family.get_or_create(&label).set(signed(count));
            }
        }
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{AddressStatus, GrantCounts, MirrorStatus, PoolStatus};

    fn status() -> DaemonStatus {
        DaemonStatus {
            state: "holdover".to_owned(),
            ready: true,
            autonomy_seconds: 77,
            addresses: vec![AddressStatus {
                address: "https://a:8200".to_owned(),
                healthy: false,
                latency_ms: None,
            }],
            mirrors: vec![
                MirrorStatus {
                    path: "secret/data/a/*".to_owned(),
                    count: 3,
                    age: Some(5.into()),
                    ..MirrorStatus::default()
                },
                MirrorStatus {
                    path: "kv/never".to_owned(),
                    errors: 2,
                    ..MirrorStatus::default()
                },
            ],
            pools: vec![PoolStatus {
                path: "db/creds/a".to_owned(),
                size: 4,
                ready: 3,
                handed_out: 1,
                ..PoolStatus::default()
            }],
            grants: GrantCounts {
                primary: 4,
                replica: 1,
            },
            ..DaemonStatus::default()
        }
    }

    #[test]
    fn names_and_labels_are_as_documented() {
        let (stats, (learning, _seen)) = (Stats::default(), LearnQueue::new());
        let metrics = Metrics::new(&stats, learning, &Counts::default());
        stats.count("replica", "read", 200, Duration::from_millis(2));
        metrics.revoked_late(Duration::from_millis(20));
        let page = metrics.render(&status());
        for line in [
            "holdover_state{state=\"holdover\"} 1",
            "holdover_state{state=\"following\"} 0",
            "holdover_ready 1",
            "holdover_autonomy_seconds 77",
            "holdover_mirror_age_seconds{path=\"secret/data/a/*\"} 5",
            "holdover_mirror_errors{path=\"kv/never\"} 2",
            "holdover_grants{origin=\"replica\"} 1",
            "holdover_requests_total{source=\"replica\",operation=\"read\",code=\"200\"} 1",
            "holdover_request_duration_seconds_count{source=\"replica\",operation=\"read\"} 1",
            "holdover_revocation_lateness_seconds_bucket{le=\"0.05\"} 1",
            "holdover_pool_size{path=\"db/creds/a\"} 4",
            "holdover_pool_ready{path=\"db/creds/a\"} 3",
            "holdover_pool_handed_out{path=\"db/creds/a\"} 1",
            "holdover_tokens_unlearned_total 0",
            "holdover_parity_checks_total{result=\"agree\"} 0",
            "holdover_parity_mismatches_total{kind=\"grants_more\"} 0",
            "holdover_quarantined 0",
            "holdover_address_healthy{address=\"https://a:8200\"} 0",
            "# EOF",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }

    #[test]
    fn a_mirror_that_went_leaves_no_series_behind() {
        let metrics = Metrics::new(&Stats::default(), LearnQueue::new().0, &Counts::default());
        let page = metrics.render(&status());
        assert!(page.contains("mirror_values{path=\"kv/never\"}"));
        assert!(!page.contains("mirror_age_seconds{path=\"kv/never\"}"));
        let page = metrics.render(&DaemonStatus::default());
        assert!(!page.contains("kv/never") && !page.contains("secret/data/a"));
        assert!(!page.contains("db/creds/a"));
    }
}
