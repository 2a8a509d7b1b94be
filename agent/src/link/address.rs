//! The book of addresses, in order of preference: what is known of each, and the connections that lead there.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::uri::PathAndQuery;
use hyper_util::{client::legacy::Client, rt::TokioTimer};
use parking_lot::Mutex;
use shared::{
    name::ClusterId,
    provenance::{NodeRole, NodeSeen},
    time::WallTime,
};

use super::{
    LinkBase,
    body::RelayBody,
    connect::{Connector, Purpose},
    error::{Unavailable, Unshown},
    forward::url,
    show,
};
use crate::config::Address;

/// Idle connections are closed after this long; the primary closes them after five minutes.
const IDLE: Duration = Duration::from_secs(30);

/// Idle connections of forwards that are kept for each address.
const IDLE_FORWARDS: usize = 64;

/// Idle connections of any other use that are kept for each address.
const IDLE_OTHERS: usize = 8;

/// An address is one node's, as far as is known, after this many connections in a row led to a standby.
const STANDBYS_TELL: u32 = 3;

/// The first connections to an address ask twice, because it may be a balancer that chooses for each request.
const ASKED_TWICE: u32 = 4;

/// Requests that reached another node than the one before over the same connection, until that says something.
const ELSEWHERE_TELLS: u32 = 2;

/// Several nodes behind one address are remembered for this long.
const SEVERAL_FOR: Duration = Duration::from_secs(600);

/// Connections that are tried for the active node behind one address that leads to several.
const TRIES_FOR_ACTIVE: u32 = 6;

pub(crate) type LineClient = Client<Connector, RelayBody>;

/// The addresses. Shared by forwards, probes and Holdover's own requests.
#[derive(Clone)]
pub struct Addresses(Arc<[Monitored]>);

/// One address, and the ways there.
pub struct Monitored {
    /// The address.
    pub address: Address,
    entry: Arc<AddressEntry>,
    base: Arc<LinkBase>,
    lines: ArcSwap<Lines>,
}

/// The clients that keep an address's connections, one for each use.
pub(crate) struct Lines {
    pub(crate) forward: LineClient,
    /// Keeps none: for what failed on a connection that may have died unnoticed, and for looks.
    pub(crate) fresh: LineClient,
    /// To the active node alone.
    pub(crate) active: LineClient,
    /// Holdover's own requests.
    pub(crate) own: LineClient,
}

/// What is known of one address.
#[derive(Default)]
pub(crate) struct AddressEntry(Mutex<AddressState>);

#[derive(Clone, Debug, Default)]
struct AddressState {
    down: bool,
    /// The last connection that was opened to it came about, whatever answered.
    accepts: bool,
    behind: bool,
    latency: Option<Duration>,
    cluster: Option<ClusterId>,
    foreign: bool,
    role: Option<NodeRole>,
    last_failure: Option<AddressFailure>,
    variety: Variety,
}

/// Whether one address leads to one node or to several.
#[derive(Clone, Debug, Default)]
struct Variety {
    opened: u32,
    standbys_in_a_row: u32,
    /// Connections to it led to different nodes.
    several: Option<WallTime>,
    /// Requests over one connection did, so often and last then. Once may be a leader that moved.
    elsewhere: u32,
    elsewhere_at: Option<WallTime>,
}

/// The last failure of an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressFailure {
    /// When.
    pub at: WallTime,
    /// What was found.
    pub why: String,
}

/// What `status` shows of an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressSnapshot {
    /// Its URL.
    pub url: String,
    /// Its last probe or connection was answered by a node of the trusted cluster.
    pub healthy: bool,
    /// How long its last probe took.
    pub latency: Option<Duration>,
    /// The cluster that answered last.
    pub cluster: Option<ClusterId>,
    /// What the node is, as last seen; behind a balancer, the node of one connection.
    pub role: Option<NodeRole>,
    /// It answers, and cannot show that it is current.
    pub behind: bool,
    /// Its last failure, if any.
    pub last_failure: Option<AddressFailure>,
    /// Requests over one connection reach different nodes: a credential cannot be kept from one that was not proved.
    pub per_request: bool,
}

impl AddressSnapshot {
    /// What an operator should know of it.
    pub fn finding(&self) -> Option<String> {
        let url = &self.url;
        if self.per_request {
            return Some(format!(
                "{url} leads to another node with each request over one connection: a token cannot be kept from a node that \
                 was not proved; have the balancer choose for each connection"
            ));
        }
        (self.healthy && self.behind).then(|| {
            format!("{url} answers, and cannot show that what it says is current: nothing is learned from it")
        })
    }
}

impl Addresses {
    /// All of them well until something is known.
    pub(crate) fn new(addresses: &[Address], base: &Arc<LinkBase>) -> Self {
        let monitored = addresses.iter().map(|address| {
            let entry = Arc::default();
            Monitored {
                lines: ArcSwap::from_pointee(Lines::new(address, base, &entry)),
                address: address.clone(),
                entry,
                base: Arc::clone(base),
            }
        });
        Self(monitored.collect())
    }

    /// The order in which a request tries them: the well ones by preference, then those that are behind, then the rest.
    /// None at which another cluster answers.
    ///
    /// As of now, because what a request meets at one must not have it go there twice, or nowhere.
    pub fn to_try(&self) -> impl Iterator<Item = &Monitored> {
        self.ordered(|_| false)
    }

    /// The same for what only the active node answers as current: it first, where it is known and well.
    pub(crate) fn active_first(&self) -> impl Iterator<Item = &Monitored> {
        self.ordered(AddressState::leads_to_active)
    }

    /// Those behind which the active node is known to be.
    pub(crate) fn leading_to_active(&self) -> impl Iterator<Item = &Monitored> {
        self.to_try()
            .filter(|one| one.entry.0.lock().leads_to_active())
    }

    /// Each once, by what is known of it now; the well ones that are `first` before all others.
    fn ordered(&self, first: fn(&AddressState) -> bool) -> impl Iterator<Item = &Monitored> {
        let ranked = self.0.iter().filter_map(|one| {
            let state = one.entry.0.lock();
            let rank = state.rank()?;
            Some(((rank, rank > 0 || !first(&state)), one))
        });
        let mut ranked: Vec<_> = ranked.collect();
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().map(|(_, one)| one)
    }

    /// The one with this scheme, host and port, if it is configured.
    pub(crate) fn at(&self, tls: bool, host: &str, port: u16) -> Option<&Monitored> {
        self.0.iter().find(|one| {
            let address = &one.address;
            let same = address.tls == tls && address.port == port;
            same && address.host.eq_ignore_ascii_case(host) && !one.is_foreign()
        })
    }

    /// Whether any of them accepts connections, as last seen: something listens there, whether it serves or not.
    pub fn accept(&self) -> bool {
        self.0.iter().any(Monitored::accepts)
    }

    /// All of them, in order of preference.
    pub fn all(&self) -> &[Monitored] {
        &self.0
    }

    /// What is known of each, in order of preference.
    pub fn snapshots(&self) -> Vec<AddressSnapshot> {
        self.0.iter().map(Monitored::snapshot).collect()
    }
}

impl Lines {
    fn new(address: &Address, base: &Arc<LinkBase>, entry: &Arc<AddressEntry>) -> Self {
        let client = |purpose, idle| {
            Client::builder(base.driven.clone())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(idle)
                .http1_title_case_headers(true)
                .build(Connector::new(address, base, entry, purpose))
        };
        Self {
            forward: client(Purpose::Forward, IDLE_FORWARDS),
            fresh: client(Purpose::Forward, 0),
            active: client(Purpose::ForwardToActive, IDLE_OTHERS),
            own: client(Purpose::Own, IDLE_OTHERS),
        }
    }
}

impl Monitored {
    /// Whether its last probe or connection was answered by the trusted cluster.
    pub fn is_healthy(&self) -> bool {
        !self.entry.0.lock().down
    }

    /// Whether it accepted the last connection that was opened to it.
    pub(crate) fn accepts(&self) -> bool {
        self.entry.0.lock().accepts
    }

    /// What is known of it.
    pub fn snapshot(&self) -> AddressSnapshot {
        let state = self.entry.0.lock().clone();
        AddressSnapshot {
            url: self.address.url.clone(),
            healthy: !state.down,
            latency: state.latency,
            cluster: state.cluster,
            role: state.role,
            behind: state.behind,
            last_failure: state.last_failure,
            per_request: state.variety.is_per_request(),
        }
    }

    pub(crate) fn lines(&self) -> arc_swap::Guard<Arc<Lines>> {
        self.lines.load()
    }

    /// Its connections are made anew from now on; those in use end with their requests.
    pub(crate) fn close(&self) {
        let lines = Lines::new(&self.address, &self.base, &self.entry);
        self.lines.store(Arc::new(lines));
    }

    /// It does not serve.
    pub(crate) fn failed(&self, why: &impl ToString) {
        self.entry.failed(why.to_string(), self.base.now());
    }

    /// It did not answer a probe: idle connections to it are not used any more.
    pub(crate) fn failed_probe(&self, why: &impl ToString) {
        self.failed(why);
        self.close();
    }

    /// Opens a connection of its own there, to see what answers.
    pub(crate) async fn open(&self) -> Result<NodeSeen, Unshown> {
        let target = PathAndQuery::from_static(show::HEALTH);
        let uri = url(&self.address, target);
        let uri = uri.map_err(|error| Unavailable::Connect(error.to_string()))?;
        let connector = Connector::new(&self.address, &self.base, &self.entry, Purpose::Look);
        Ok(connector.open(uri).await?.node())
    }

    /// Whether what it answers can be shown to be current.
    pub(crate) fn showed_current(&self, current: bool) {
        self.entry.0.lock().behind = !current;
    }

    /// Another cluster's answer came over a connection that had shown the trusted one.
    pub(crate) fn answered_foreign(&self, found: Option<ClusterId>) {
        let now = self.base.now();
        {
            let state = &mut *self.entry.0.lock();
            state.variety.elsewhere(now);
            state.cluster = found;
        }
        self.failed_probe(
            &"another cluster answered over a connection that had shown the trusted one",
        );
    }

    fn is_foreign(&self) -> bool {
        self.entry.0.lock().foreign
    }
}

impl AddressState {
    /// How late it is tried; none where another cluster answers.
    fn rank(&self) -> Option<u8> {
        match (self.foreign, self.down, self.behind) {
            (true, ..) => None,
            (_, true, _) => Some(2),
            (_, _, true) => Some(1),
            _ => Some(0),
        }
    }

    fn leads_to_active(&self) -> bool {
        self.role == Some(NodeRole::Active) || self.variety.several.is_some()
    }
}

impl AddressEntry {
    /// A fresh connection showed this node, after `latency`; `several` if two of its answers came from different ones.
    /// Whether requests over one connection reach different nodes.
    pub(crate) fn shown(
        &self,
        node: &NodeSeen,
        several: bool,
        latency: Duration,
        now: WallTime,
    ) -> bool {
        let state = &mut *self.0.lock();
        state.down = false;
        state.foreign = false;
        state.latency = Some(latency);
        state.cluster = Some(node.cluster.clone());
        let before = state.role.replace(node.role);
        let changed = before.is_some_and(|before| before != node.role);
        state.variety.opened(node.role, changed, several, now);
        several || state.variety.is_per_request()
    }

    /// Whether a connection that was to be opened was accepted.
    pub(crate) fn accepts(&self, accepted: bool) {
        self.0.lock().accepts = accepted;
    }

    /// A connection did not come about.
    pub(crate) fn not_shown(&self, why: &Unshown, now: WallTime) {
        match why {
            Unshown::Foreign(foreign) => {
                let state = &mut *self.0.lock();
                state.foreign = true;
                state.cluster = Some(foreign.found.clone());
            }
            // Something answers there.
            Unshown::SlowDown | Unshown::NotActive => return,
            Unshown::Unavailable(_) => self.0.lock().foreign = false,
        }
        self.failed(why.to_string(), now);
    }

    fn failed(&self, why: String, at: WallTime) {
        let state = &mut *self.0.lock();
        state.down = true;
        state.last_failure = Some(AddressFailure { at, why });
    }

    /// Whether a connection is asked twice what it leads to.
    pub(crate) fn is_new(&self) -> bool {
        self.0.lock().variety.opened < ASKED_TWICE
    }

    /// How many connections are worth being opened to find the active node.
    pub(crate) fn tries_for_active(&self) -> u32 {
        let state = self.0.lock();
        match (state.variety.several, state.variety.standbys_in_a_row) {
            (Some(_), _) => TRIES_FOR_ACTIVE,
            (None, STANDBYS_TELL..) => 1,
            (None, _) => STANDBYS_TELL,
        }
    }
}

impl Variety {
    fn opened(&mut self, role: NodeRole, changed: bool, several: bool, now: WallTime) {
        self.opened = self.opened.saturating_add(1);
        self.standbys_in_a_row = match role {
            NodeRole::Active => 0,
            _ => self.standbys_in_a_row.saturating_add(1),
        };
        let is_over = |since: &mut WallTime| now.since(*since) >= SEVERAL_FOR;
        self.several.take_if(is_over);
        if self.elsewhere_at.take_if(is_over).is_some() {
            self.elsewhere = 0;
        }
        if changed || several {
            self.several = Some(now);
        }
        if several {
            self.elsewhere = self.elsewhere.saturating_add(1);
            self.elsewhere_at = Some(now);
        }
    }

    /// It is sure that one connection leads to several.
    fn elsewhere(&mut self, now: WallTime) {
        self.elsewhere = ELSEWHERE_TELLS;
        self.elsewhere_at = Some(now);
    }

    /// Whether requests over one connection reach different nodes.
    fn is_per_request(&self) -> bool {
        self.elsewhere >= ELSEWHERE_TELLS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{link::Link, samples};

    fn addresses() -> Addresses {
        let address = |port: u16| Address {
            url: format!("https://vault:{port}"),
            tls: true,
            host: "vault".to_owned(),
            port,
        };
        let primary = samples::primary_config(&[address(8200), address(82), address(83)]);
        let clock = Arc::new(crate::clock::Clock::start(None).unwrap());
        let link = Link::new(&primary, None, clock).unwrap();
        link.addresses().clone()
    }

    fn order(addresses: &Addresses) -> Vec<u16> {
        let tried = addresses.to_try();
        tried.map(|one| one.address.port).collect()
    }

    fn node(status: u16) -> NodeSeen {
        use shared::provenance::Health;
        let body = br#"{"initialized":true,"sealed":false,"cluster_id":"c","version":"2.7.2"}"#;
        match Health::read(status, body) {
            Health::Serves(node) => node,
            other => panic!("{other:?}"),
        }
    }

    fn shown(one: &Monitored, status: u16) {
        let now = one.base.now();
        one.entry.shown(&node(status), false, Duration::ZERO, now);
    }

    #[tokio::test]
    async fn the_well_come_first_then_those_behind_then_the_rest() {
        let addresses = addresses();
        let [first, second, third] = addresses.all() else {
            panic!("three")
        };
        assert_eq!(order(&addresses), [8200, 82, 83]);
        first.failed(&"down");
        second.showed_current(false);
        assert_eq!(order(&addresses), [83, 82, 8200]);
        shown(first, 200);
        assert_eq!(order(&addresses), [8200, 83, 82]);
        let stranger = shared::provenance::ForeignCluster {
            pinned: ClusterId::parse("c").unwrap(),
            found: ClusterId::parse("d").unwrap(),
        };
        third.entry.not_shown(&stranger.into(), third.base.now());
        assert_eq!(order(&addresses), [8200, 82]);
        let snapshot = third.snapshot();
        assert!(!snapshot.healthy && snapshot.last_failure.is_some());
        shown(third, 200);
        assert_eq!(order(&addresses), [8200, 83, 82]);
    }

    #[tokio::test]
    async fn each_is_tried_once_whatever_becomes_of_it_meanwhile() {
        let addresses = addresses();
        let [first, second, _] = addresses.all() else {
            panic!("three")
        };
        second.failed(&"down");
        let mut tried = addresses.to_try();
        assert_eq!(tried.next().unwrap().address.port, 8200);
        first.failed(&"down");
        shown(second, 200);
        let rest: Vec<_> = tried.map(|one| one.address.port).collect();
        assert_eq!(rest, [83, 82]);
    }

    #[tokio::test]
    async fn what_only_the_active_node_answers_goes_to_it_first() {
        let addresses = addresses();
        let [first, second, _] = addresses.all() else {
            panic!("three")
        };
        shown(first, 429);
        shown(second, 200);
        let mut own = addresses.active_first().map(|one| one.address.port);
        assert_eq!(own.next(), Some(82));
        assert_eq!(own.collect::<Vec<_>>(), [8200, 83]);
    }

    #[tokio::test]
    async fn a_standby_of_its_own_address_is_not_searched_for_the_active_node_again_and_again() {
        let addresses = addresses();
        let [first, second, _] = addresses.all() else {
            panic!("three")
        };
        for _ in 0..STANDBYS_TELL {
            assert_eq!(first.entry.tries_for_active(), STANDBYS_TELL);
            shown(first, 429);
        }
        assert_eq!(first.entry.tries_for_active(), 1);
        shown(second, 429);
        shown(second, 200);
        assert_eq!(second.entry.tries_for_active(), TRIES_FOR_ACTIVE);
    }

    #[tokio::test]
    async fn a_leader_that_moved_is_not_taken_for_a_balancer_of_requests() {
        let addresses = addresses();
        let [first, ..] = addresses.all() else {
            panic!("three")
        };
        for expected in [false, true] {
            let now = first.base.now();
            let entry = &first.entry;
            // That very connection is known to lead elsewhere.
            assert!(entry.shown(&node(200), true, Duration::ZERO, now));
            assert_eq!(first.snapshot().per_request, expected);
        }
        assert!(first.snapshot().finding().is_some());
    }

    #[tokio::test]
    async fn a_redirect_leads_to_configured_addresses_only() {
        let addresses = addresses();
        assert!(addresses.at(true, "VAULT", 8200).is_some());
        assert!(addresses.at(false, "vault", 8200).is_none());
        assert!(addresses.at(true, "vault.evil", 8200).is_none());
        assert!(addresses.at(true, "vault", 443).is_none());
    }
}
