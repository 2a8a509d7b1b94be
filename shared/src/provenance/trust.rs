//! Which cluster is trusted, and up to which moment an answer is shown to be current.
//!
//! Holdover's own checks ask for the active node's answer. The index of such an answer is the *mark*: whoever had applied
//! as much says what was so at least when that check was sent. Everything that the replica knows came by such answers, so an
//! answer that reaches the mark knows no less than the replica.

use crate::{
    name::ClusterId,
    provenance::{Currency, Index, IndexForm, NodeRole, NodeSeen},
    time::WallTime,
};

/// What is held against every answer.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    pinned: Option<ClusterId>,
    mark: Option<IndexMark>,
    form: Option<IndexForm>,
    marks: u64,
}

/// The index of the last own check that was current, and when that was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
struct IndexMark {
    index: Index,
    at: WallTime,
}

/// Another cluster answers than the one that is trusted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("cluster {found} answers, but the replica trusts {pinned}")]
pub struct ForeignCluster {
    /// The one that is trusted.
    pub pinned: ClusterId,
    /// The one that answers.
    pub found: ClusterId,
}

/// What one connection has shown so far. It is of one node, but behind a balancer that chooses for each request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// The node, as it showed itself before anything else went over the connection.
    pub node: NodeSeen,
    /// Whether it was seen to refuse an index that it has not reached.
    pub honours: bool,
    /// Whether one connection to this address may lead to several nodes.
    pub shared: bool,
    /// When the node showed itself.
    shown_at: WallTime,
    /// The last moment up to which its state was shown to be current.
    as_of: Option<WallTime>,
    /// Which mark its last indexed answer reached.
    reached: u64,
}

/// An answer as it came over a connection.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Its `X-Vault-Index`, where it has one that can be read.
    pub index: Option<&'a Index>,
    /// Present where its request asked for the active node's answer.
    pub asked: Option<Asked>,
}

/// When an own check was sent, and what the mark was then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Asked {
    at: WallTime,
    marks: u64,
}

/// Where an answer comes from: all that decides whether something may be learned from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Provenance {
    /// Whose answer it is.
    pub cluster: ClusterShown,
    /// The moment up to which it is shown to be current; none where nothing shows it.
    pub as_of: Option<WallTime>,
}

/// Whose answer one is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClusterShown {
    /// The trusted cluster's.
    Pinned,
    /// Nothing shows whose.
    Unshown,
    /// Another cluster's.
    Foreign,
}

impl Asked {
    /// When the check was sent.
    pub fn at(self) -> WallTime {
        self.at
    }
}

impl Provenance {
    /// An answer of which nothing is known.
    pub const UNSHOWN: Self = Self {
        cluster: ClusterShown::Unshown,
        as_of: None,
    };
}

impl Line {
    /// A fresh connection whose node showed itself at `at`.
    pub fn new(node: NodeSeen, honours: bool, shared: bool, at: WallTime) -> Self {
        let always = node.currency(honours) == Currency::Always && !shared;
        Self {
            node,
            honours,
            shared,
            shown_at: at,
            as_of: always.then_some(at),
            reached: 0,
        }
    }

    /// What answers over it are worth.
    pub fn currency(&self) -> Currency {
        self.node.currency(self.honours)
    }
}

impl Trust {
    /// Trusts `pinned`; without one the first that is seen.
    pub fn new(pinned: Option<ClusterId>) -> Self {
        Self {
            pinned,
            ..Self::default()
        }
    }

    /// The cluster that is trusted, once one was seen.
    pub fn pinned(&self) -> Option<&ClusterId> {
        self.pinned.as_ref()
    }

    /// How the cluster's answers count, once one was seen.
    pub fn form(&self) -> Option<IndexForm> {
        self.form
    }

    /// The index that marks what is current.
    pub fn mark(&self) -> Option<&Index> {
        self.mark.as_ref().map(|mark| &mark.index)
    }

    /// Compares a cluster that showed itself with the one that is trusted; the first ever seen is trusted from now on.
    ///
    /// # Errors
    /// If it is another.
    pub fn recognise(&mut self, found: &ClusterId) -> Result<(), ForeignCluster> {
        let pinned = self.pinned.get_or_insert_with(|| found.clone());
        if pinned == found {
            return Ok(());
        }
        Err(ForeignCluster {
            pinned: pinned.clone(),
            found: found.clone(),
        })
    }

    /// Trusts `cluster` instead; what was shown of the one before counts no more.
    pub fn change(&mut self, cluster: ClusterId) {
        let marks = self.marks + 1;
        *self = Self {
            marks,
            ..Self::new(Some(cluster))
        };
    }

    /// An index that no node reaches, in the form of this cluster, for requests that only the active node is to answer.
    pub fn beyond(&self) -> Option<alloc::string::String> {
        let form = self.form.unwrap_or(IndexForm::Raft);
        self.pinned.as_ref().map(|cluster| form.beyond(cluster))
    }

    /// A node honoured an index of this form.
    pub fn form_shown(&mut self, form: IndexForm) {
        self.form = Some(form);
    }

    /// An own check is sent now.
    pub fn asking(&self, at: WallTime) -> Asked {
        Asked {
            at,
            marks: self.marks,
        }
    }

    /// Where an answer comes from. A current answer to an own check moves the mark; any answer that reaches the mark shows
    /// that its connection's node had come so far.
    pub fn weigh(&mut self, line: &mut Line, arrival: Arrival<'_>) -> Provenance {
        let cluster = match (arrival.index, &self.pinned) {
            (Some(index), Some(pinned)) if index.cluster() != pinned => ClusterShown::Foreign,
            (Some(_), Some(_)) => ClusterShown::Pinned,
            _ if line.shared => ClusterShown::Unshown,
            _ => ClusterShown::Pinned,
        };
        if cluster != ClusterShown::Pinned {
            return Provenance {
                cluster,
                as_of: None,
            };
        }
        let as_of = match arrival.asked {
            Some(asked) => self.asked(line, arrival.index, asked),
            None => self.unasked(line, arrival.index),
        };
        Provenance { cluster, as_of }
    }

    /// An own check: the active node's answer, where the node at the other end sees to that.
    fn asked(&mut self, line: &mut Line, index: Option<&Index>, asked: Asked) -> Option<WallTime> {
        if line.currency() == Currency::Never {
            return None;
        }
        let Some(index) = index else {
            return Some(asked.at);
        };
        match self
            .mark
            .as_ref()
            .filter(|mark| !index.reaches(&mark.index))
        {
            None => self.move_mark(index, asked.at),
            // Checks that crossed each other: this one was answered before the mark moved.
            Some(_) if self.marks != asked.marks => {}
            // A node that was active once, and does not know better, is behind what another has said since.
            Some(mark) if line.shown_at <= mark.at => return None,
            // One that showed itself since says what is so now: the cluster went back, as after a restore.
            Some(_) => self.move_mark(index, asked.at),
        }
        // Through a standby it is the active node's state that was shown, not that of the standby itself.
        if line.node.role == NodeRole::Active && !line.shared {
            line.reached = self.marks;
            line.as_of = line.as_of.max(Some(asked.at));
        }
        Some(asked.at)
    }

    fn move_mark(&mut self, index: &Index, at: WallTime) {
        self.form = Some(index.form());
        self.marks += 1;
        let index = index.clone();
        self.mark = Some(IndexMark { index, at });
    }

    fn unasked(&self, line: &mut Line, index: Option<&Index>) -> Option<WallTime> {
        let Some(mark) = &self.mark else {
            return line.as_of;
        };
        match index {
            Some(index) if index.reaches(&mark.index) => {
                line.reached = self.marks;
                line.as_of = line.as_of.max(Some(mark.at));
                Some(mark.at)
            }
            Some(_) => None,
            // Errors have no index. A node never goes back, so what its last indexed answer showed still holds, as long as
            // nothing newer is known.
            None if line.shared => None,
            None if line.reached == self.marks => line.as_of,
            None if line.node.role == NodeRole::Active => line.as_of,
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provenance::Health;
    use proptest::prelude::*;

    fn cluster(id: &str) -> ClusterId {
        ClusterId::parse(id).unwrap()
    }

    fn node(status: u16) -> NodeSeen {
        let body = br#"{"initialized":true,"sealed":false,"cluster_id":"c","version":"2.7.2"}"#;
        match Health::read(status, body) {
            Health::Serves(node) => node,
            other => panic!("{other:?}"),
        }
    }

    fn active() -> Line {
        Line::new(node(200), false, false, at(0))
    }

    fn standby() -> Line {
        Line::new(node(429), true, false, at(0))
    }

    fn at(secs: i64) -> WallTime {
        WallTime::from_secs(1000 + secs)
    }

    fn index(applied: u64) -> Index {
        Index::raft(cluster("c"), applied)
    }

    /// An own check at `at` that was answered with `applied`.
    fn check(trust: &mut Trust, line: &mut Line, secs: i64, applied: u64) -> Provenance {
        let asked = Some(trust.asking(at(secs)));
        let index = index(applied);
        let index = Some(&index);
        trust.weigh(line, Arrival { index, asked })
    }

    fn client(trust: &mut Trust, line: &mut Line, applied: Option<u64>) -> Provenance {
        let index = applied.map(index);
        let (index, asked) = (index.as_ref(), None);
        trust.weigh(line, Arrival { index, asked })
    }

    fn trusting() -> Trust {
        Trust::new(Some(cluster("c")))
    }

    #[test]
    fn an_own_check_is_current_as_of_its_request_through_a_standby_too() {
        let mut trust = trusting();
        for line in [&mut active(), &mut standby()] {
            assert_eq!(check(&mut trust, line, 5, 7).as_of, Some(at(5)));
        }
        let mut silent = Line::new(node(429), false, false, at(0));
        assert_eq!(check(&mut trust, &mut silent, 5, 7).as_of, None);
    }

    #[test]
    fn a_deposed_node_that_thinks_itself_active_is_behind_the_mark() {
        let (mut trust, mut old) = (trusting(), active());
        check(&mut trust, &mut standby(), 5, 9);
        assert_eq!(check(&mut trust, &mut old, 6, 8).as_of, None);
        assert_eq!(client(&mut trust, &mut old, Some(8)).as_of, None);
    }

    #[test]
    fn a_cluster_that_went_back_is_followed_over_connections_made_since() {
        let mut trust = trusting();
        check(&mut trust, &mut active(), 5, 9);
        let mut since = Line::new(node(200), false, false, at(6));
        assert_eq!(check(&mut trust, &mut since, 7, 3).as_of, Some(at(7)));
        assert_eq!(trust.mark(), Some(&index(3)));
    }

    #[test]
    fn checks_that_cross_each_other_are_both_current() {
        let (mut trust, mut line) = (trusting(), active());
        let first = trust.asking(at(1));
        check(&mut trust, &mut line, 2, 9);
        let index = index(8);
        let (index, asked) = (Some(&index), Some(first));
        let provenance = trust.weigh(&mut line, Arrival { index, asked });
        assert_eq!(provenance.as_of, Some(at(1)));
        assert_eq!(trust.mark(), Some(&self::index(9)));
    }

    #[test]
    fn a_clients_answer_is_current_as_of_the_mark_that_it_reaches() {
        let (mut trust, mut line) = (trusting(), standby());
        assert_eq!(client(&mut trust, &mut line, Some(7)).as_of, None);
        check(&mut trust, &mut line, 5, 7);
        assert_eq!(client(&mut trust, &mut line, Some(6)).as_of, None);
        assert_eq!(client(&mut trust, &mut line, None).as_of, None);
        assert_eq!(client(&mut trust, &mut line, Some(7)).as_of, Some(at(5)));
        // An error has no index: the node has come so far all the same.
        assert_eq!(client(&mut trust, &mut line, None).as_of, Some(at(5)));
        check(&mut trust, &mut line, 6, 8);
        assert_eq!(client(&mut trust, &mut line, None).as_of, None);
    }

    #[test]
    fn behind_a_balancer_of_requests_only_an_index_says_whose_answer_it_is() {
        let (mut trust, mut line) = (trusting(), Line::new(node(200), true, true, at(0)));
        assert_eq!(client(&mut trust, &mut line, None), Provenance::UNSHOWN);
        assert_eq!(check(&mut trust, &mut line, 5, 7).as_of, Some(at(5)));
        assert_eq!(client(&mut trust, &mut line, Some(7)).as_of, Some(at(5)));
        assert_eq!(client(&mut trust, &mut line, None), Provenance::UNSHOWN);
    }

    #[test]
    fn another_clusters_index_makes_its_answer_foreign_over_any_connection() {
        let (mut trust, mut line) = (trusting(), active());
        let other = Index::raft(cluster("d"), 99);
        let (index, asked) = (Some(&other), Some(trust.asking(at(1))));
        let provenance = trust.weigh(&mut line, Arrival { index, asked });
        assert_eq!(
            (provenance.cluster, provenance.as_of),
            (ClusterShown::Foreign, None)
        );
        assert_eq!(trust.mark(), None);
    }

    #[test]
    fn a_server_without_indices_is_current_where_its_active_node_answers() {
        let mut trust = trusting();
        assert_eq!(client(&mut trust, &mut active(), None).as_of, Some(at(0)));
        assert_eq!(client(&mut trust, &mut standby(), None).as_of, None);
    }

    #[test]
    fn the_first_cluster_seen_is_trusted_until_an_operator_says_otherwise() {
        let mut trust = Trust::new(None);
        assert_eq!(trust.beyond(), None);
        assert!(trust.recognise(&cluster("c")).is_ok());
        assert!(trust.recognise(&cluster("d")).is_err());
        trust.change(cluster("d"));
        assert!(trust.recognise(&cluster("d")).is_ok() && trust.mark().is_none());
    }

    /// A node of a cluster, and what it does next.
    #[derive(Clone, Debug)]
    enum Step {
        Write,
        Catch(usize),
        Check(usize),
        Client(usize, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Write),
            (0..3usize).prop_map(Step::Catch),
            (0..3usize).prop_map(Step::Check),
            (0..3usize, any::<bool>()).prop_map(|(node, error)| Step::Client(node, error)),
        ]
    }

    proptest! {
        /// Whatever lags behind what: an answer counted as current up to a moment had applied all that was written by then.
        #[test]
        fn nothing_that_lags_is_called_current(steps in proptest::collection::vec(step(), 1..60)) {
            let mut trust = trusting();
            let mut lines = [active(), standby(), standby()];
            let (mut written, mut applied) = (1u64, [1u64; 3]);
            // How much was written at each second; the nodes showed themselves at the first.
            let mut history = alloc::vec![1u64];
            for (second, step) in steps.into_iter().enumerate() {
                let now = second as i64 + 1;
                let mut said = None;
                match step {
                    Step::Write => written += 1,
                    Step::Catch(node) => applied[node] = written,
                    Step::Check(node) => {
                        let provenance = check(&mut trust, &mut lines[node], now, written);
                        prop_assert_eq!(provenance.as_of, Some(at(now)));
                    }
                    Step::Client(node, error) => {
                        let had = if node == 0 { written } else { applied[node] };
                        let index = (!error).then_some(had);
                        said = Some((client(&mut trust, &mut lines[node], index), had));
                    }
                }
                history.push(written);
                if let Some((Provenance { as_of: Some(moment), .. }, had)) = said {
                    let then = usize::try_from(moment.as_secs() - 1000).unwrap();
                    prop_assert!(had >= history[then.saturating_sub(1)], "{had} at {then}");
                }
            }
        }
    }
}
