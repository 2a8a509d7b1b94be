//! What Prometheus sees: names and labels as the documentation fixes them.
//!
//! Counters and histograms are kept where things happen; gauges are made from the status at each scrape, so that
//! `/metrics` and `status` cannot disagree.

use std::{sync::atomic::Ordering, time::Duration};

use parking_lot::Mutex;
use prometheus_client::{
    encoding::text,
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::Gauge,
        histogram::Histogram,
        info::Info,
    },
    registry::Registry,
};

use crate::{
    log,
    parity::counts::Counts,
    serve::{learn_queue::LearnQueue, stats::Stats},
    status::{
        AddressStatus, DaemonStatus, MirrorStatus, PoolStatus,
        fill::{Fill, FillUnit},
        ledger::{LedgerStatus, ShareStatus},
    },
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
}

impl Metrics {
    /// Over what the workload socket counts, its queue of tokens to be learned, and what comparing counts.
    pub fn new(socket: &Stats, learning: LearnQueue, parity: &Counts) -> Self {
        let metrics = Self {
            registry: Mutex::default(),
            lateness: Histogram::new([0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 30.0, 300.0]),
            learning,
            unlearned: Counter::default(),
        };
        let mut registry = Registry::with_prefix("holdover");
        register_socket(socket, &mut registry);
        parity.register(&mut registry);
        metrics.register_counters(&mut registry);
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

    /// The text that Prometheus reads, with gauges from `status` and of how full everything is.
    pub fn render(&self, status: &DaemonStatus, fills: &[Fill]) -> String {
        let unlearned = self.unlearned.inner();
        unlearned.store(self.tokens_unlearned(), Ordering::Relaxed);
        let mut page = String::new();
        let written = text::encode_registry(&mut page, &self.registry.lock())
            .and_then(|()| text::encode_registry(&mut page, &gauges(status)))
            .and_then(|()| text::encode_registry(&mut page, &filled(fills)))
            .and_then(|()| text::encode_eof(&mut page));
        // Writing to a String does not fail; a page without its end is refused by every reader.
        if written.is_err() {
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
    registry.register(
        "headers_dropped",
        "Headers of clients' requests that were not sent to the primary, by name; 64 names are told apart",
        socket.dropped.counts.clone(),
    );
}

/// What the status says now. A mirror or an address that went leaves nothing behind.
fn gauges(status: &DaemonStatus) -> Registry {
    let mut page = Registry::with_prefix("holdover");
    let states = STATES.map(|state| (state, i64::from(state == status.state)));
    let help = "1 for the machine's state, 0 for the others";
    family(&mut page, "state", help, "state", states);
    let help = "1 if the replica could take over now";
    gauge(&mut page, "ready", help, status.ready.into());
    let help = "1 if the primary took away what this host was entitled to";
    let offboarded = status.offboarded.is_some();
    gauge(&mut page, "offboarded", help, offboarded.into());
    let help = "How long Holdover could carry on if the primary died now";
    let autonomy = signed(status.autonomy_seconds);
    gauge(&mut page, "autonomy_seconds", help, autonomy);
    mirrors(&mut page, &status.mirrors);
    let grants = &status.grants;
    let grants = [("primary", grants.primary), ("replica", grants.replica)];
    let grants = grants.map(|(origin, count)| (origin, signed(count)));
    let help = "Grants that live, by who minted them";
    family(&mut page, "grants", help, "origin", grants);
    let help = "Grants that an outage left, and that are settled with the primary at their use";
    let unsettled = signed(status.grants.unsettled);
    gauge(&mut page, "grants_unsettled", help, unsettled);
    pools(&mut page, &status.pools);
    addresses(&mut page, &status.addresses);
    let store = &status.store;
    let help = "Bytes that are free where the replica lies; -1 if that is not known";
    let free = store.free_bytes.map_or(-1, signed);
    gauge(&mut page, "store_free_bytes", help, free);
    ledger(&mut page, &status.ledger);
    page.register(
        "log_dropped_lines",
        "Lines of the log that were dropped because nobody took what was before them",
        ConstCounter::new(log::dropped()),
    );
    let help = "Policies, and workloads' issuing, that are left to the primary because the replica would have granted more";
    let quarantined = i64::try_from(status.parity.quarantined.len());
    gauge(
        &mut page,
        "quarantined",
        help,
        quarantined.unwrap_or(i64::MAX),
    );
    page
}

/// What others can make grow, each with its bound.
fn filled(fills: &[Fill]) -> Registry {
    type OfFill = fn(&Fill) -> u64;
    let shown: [(&str, &str, &str, FillUnit, OfFill); 4] = [
        (
            "entries",
            "Entries of what clients or the primary can make grow",
            "map",
            FillUnit::Entries,
            |fill| fill.has,
        ),
        (
            "entries_bound",
            "The most entries that there may be of it",
            "map",
            FillUnit::Entries,
            |fill| fill.most,
        ),
        (
            "memory_bytes",
            "Bytes in memory for clients",
            "of",
            FillUnit::Bytes,
            |fill| fill.has,
        ),
        (
            "memory_bytes_bound",
            "The most bytes that there may be of it",
            "of",
            FillUnit::Bytes,
            |fill| fill.most,
        ),
    ];
    let mut page = Registry::with_prefix("holdover");
    for (name, help, label, unit, value) in shown {
        let of_unit = fills.iter().filter(|fill| fill.unit == unit);
        let each = of_unit.map(|fill| (fill.of, signed(value(fill))));
        family(&mut page, name, help, label, each);
    }
    page
}

fn addresses(page: &mut Registry, all: &[AddressStatus]) {
    type Shown = fn(&AddressStatus) -> i64;
    let shown: [(&str, &str, Shown); 5] = [
        (
            "address_healthy",
            "1 if an address of the primary answered last time",
            |one| one.healthy.into(),
        ),
        (
            "address_active",
            "1 if the active node answered there last",
            |one| (one.role.as_deref() == Some("active")).into(),
        ),
        (
            "address_behind",
            "1 if what answers there cannot be shown to be current",
            |one| one.behind.into(),
        ),
        (
            "address_in_use",
            "1 if requests are sent there first",
            |one| one.in_use.into(),
        ),
        (
            "address_latency_milliseconds",
            "How long the last probe of an address took; -1 before the first",
            |one| one.latency_ms.map_or(-1, signed),
        ),
    ];
    for (name, help, value) in shown {
        let each = all.iter().map(|one| (one.address.as_str(), value(one)));
        family(page, name, help, "address", each);
    }
}

fn mirrors(page: &mut Registry, all: &[MirrorStatus]) {
    let each = |value: fn(&MirrorStatus) -> Option<u64>| {
        let shown = all
            .iter()
            .map(move |one| Some((one.path.as_str(), signed(value(one)?))));
        shown.flatten()
    };
    let ages = each(|one| one.age.map(u64::from));
    let help =
        "Age of a mirror's least recently verified value; absent until its first complete pass";
    family(page, "mirror_age_seconds", help, "path", ages);
    let counts = each(|one| Some(one.count));
    let help = "Keys or leases that a mirror holds";
    family(page, "mirror_values", help, "path", counts);
    let doubted = each(|one| Some(one.doubted));
    let help = "Keys of a mirror that may be superseded: an outage answers 503 for them until they are read anew";
    family(page, "mirror_doubted", help, "path", doubted);
    let left_out = each(|one| Some(one.left_out));
    let help = "Keys of a mirror that there was no room for: an outage answers 503 for them";
    family(page, "mirror_left_out", help, "path", left_out);
    let errors = each(|one| Some(one.errors));
    let help = "Failed passes of a mirror in a row";
    family(page, "mirror_errors", help, "path", errors);
}

fn ledger(page: &mut Registry, ledger: &LedgerStatus) {
    let figures = [
        (
            "ledger_bytes",
            "What the ledger's entries take in the replica, in bytes",
            ledger.bytes,
        ),
        (
            "ledger_max_bytes",
            "The most that they may take: ledger.max_size, of which each workload has a share",
            ledger.max_bytes,
        ),
        (
            "ledger_undelivered_bytes",
            "What those of them take that were not delivered to journald, and that shares are filled with",
            ledger.undelivered_bytes,
        ),
        (
            "ledger_promised_bytes",
            "What is kept free in the ledger for the ends of grants, in bytes",
            ledger.promised_bytes,
        ),
        (
            "ledger_delivering",
            "1 if the ledger's entries are sent to journald and it took the last ones",
            (ledger.delivered_to.is_some() && ledger.problem.is_none()).into(),
        ),
    ];
    for (name, help, value) in figures {
        gauge(page, name, help, signed(value));
    }
    page.register(
        "ledger_dropped_entries",
        "Entries that found no room in the ledger since the start",
        ConstCounter::new(ledger.dropped),
    );
    let each = |value: fn(&ShareStatus) -> u64| {
        let shares = ledger.shares.iter();
        shares.filter_map(move |share| Some((share.workload.as_deref()?, signed(value(share)))))
    };
    let used = each(|share| share.used_bytes.saturating_add(share.promised_bytes));
    let help = "What a workload has taken of the ledger, with what is kept for the ends of its grants, in bytes";
    family(page, "ledger_share_used_bytes", help, "workload", used);
    let room = each(|share| share.room_bytes);
    let help =
        "The most that logins, renewals and leases of a workload may take of the ledger, in bytes";
    family(page, "ledger_share_room_bytes", help, "workload", room);
    let left = each(|share| share.left_bytes);
    let help = "What is left of that room, because neither the workload nor others took it, in bytes: at 0 nothing is issued for it";
    family(page, "ledger_share_left_bytes", help, "workload", left);
}

fn pools(page: &mut Registry, all: &[PoolStatus]) {
    let each = |value: fn(&PoolStatus) -> u64| {
        let shown = all.iter();
        shown.map(move |one| (one.path.as_str(), signed(value(one))))
    };
    let sizes = each(|one| one.size);
    let help = "Leases that a pool is to keep ready";
    family(page, "pool_size", help, "path", sizes);
    let ready = each(|one| one.ready);
    let help = "Leases of a pool that nobody has";
    family(page, "pool_ready", help, "path", ready);
    let taken = each(|one| one.handed_out);
    let help = "Leases of a pool that workloads took in an outage and that live";
    family(page, "pool_handed_out", help, "path", taken);
}

fn gauge(page: &mut Registry, name: &str, help: &str, value: i64) {
    let gauge = Gauge::<i64>::default();
    gauge.set(value);
    page.register(name, help, gauge);
}

/// One gauge for each value of `label`.
fn family<'a>(
    page: &mut Registry,
    name: &str,
    help: &str,
    label: &'static str,
    values: impl IntoIterator<Item = (&'a str, i64)>,
) {
    let family = Family::<[(&str, String); 1], Gauge>::default();
    for (of, value) in values {
        family.get_or_create(&[(label, of.to_owned())]).set(value);
    }
    page.register(name, help, family);
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::GrantCounts;

    fn status() -> DaemonStatus {
        DaemonStatus {
            state: "holdover".to_owned(),
            ready: true,
            autonomy_seconds: 77,
            addresses: vec![AddressStatus {
                address: "https://a:8200".to_owned(),
                healthy: false,
                latency_ms: None,
                cluster: None,
                role: Some("active".to_owned()),
                behind: true,
                in_use: true,
                per_request: false,
                last_failure: None,
            }],
            mirrors: vec![
                MirrorStatus {
                    path: "secret/data/a/*".to_owned(),
                    count: 3,
                    doubted: 1,
                    left_out: 0,
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
            ledger: LedgerStatus {
                bytes: 900,
                max_bytes: 1000,
                undelivered_bytes: 800,
                dropped: 3,
                delivered_to: Some("journald".to_owned()),
                shares: vec![ShareStatus {
                    workload: Some("orders".to_owned()),
                    used_bytes: 500,
                    promised_bytes: 100,
                    room_bytes: 700,
                    left_bytes: 50,
                    ..ShareStatus::default()
                }],
                ..LedgerStatus::default()
            },
            grants: GrantCounts {
                primary: 4,
                replica: 1,
                unsettled: 0,
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
        let fills = [
            Fill::entries("users", 3, 1024),
            Fill::bytes("unread_answers", 77, 64 << 20),
        ];
        let page = metrics.render(&status(), &fills);
        for line in [
            "holdover_entries{map=\"users\"} 3",
            "holdover_entries_bound{map=\"users\"} 1024",
            "holdover_memory_bytes{of=\"unread_answers\"} 77",
            "holdover_memory_bytes_bound{of=\"unread_answers\"} 67108864",
            "holdover_state{state=\"holdover\"} 1",
            "holdover_state{state=\"following\"} 0",
            "holdover_ready 1",
            "holdover_autonomy_seconds 77",
            "holdover_mirror_age_seconds{path=\"secret/data/a/*\"} 5",
            "holdover_mirror_doubted{path=\"secret/data/a/*\"} 1",
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
            "holdover_ledger_bytes 900",
            "holdover_ledger_max_bytes 1000",
            "holdover_ledger_undelivered_bytes 800",
            "holdover_ledger_delivering 1",
            "holdover_ledger_dropped_entries_total 3",
            "holdover_ledger_share_used_bytes{workload=\"orders\"} 600",
            "holdover_ledger_share_room_bytes{workload=\"orders\"} 700",
            "holdover_ledger_share_left_bytes{workload=\"orders\"} 50",
            "holdover_address_healthy{address=\"https://a:8200\"} 0",
            "# EOF",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }

    #[test]
    fn a_mirror_that_went_leaves_no_series_behind() {
        let metrics = Metrics::new(&Stats::default(), LearnQueue::new().0, &Counts::default());
        let page = metrics.render(&status(), &[]);
        assert!(page.contains("mirror_values{path=\"kv/never\"}"));
        assert!(!page.contains("mirror_age_seconds{path=\"kv/never\"}"));
        let page = metrics.render(&DaemonStatus::default(), &[]);
        assert!(!page.contains("kv/never") && !page.contains("secret/data/a"));
        assert!(!page.contains("db/creds/a"));
    }
}
