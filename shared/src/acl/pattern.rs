//! Rule paths, and finding the one rule that decides a request's path.
//!
//! The primary knows three kinds of path: exact, prefix (`kv/*`) and with segment wildcards (`kv/+/x`). Here
//! each kind has a structure of its own, so that the cost of a decision grows with the path, not with the
//! number of rules.

use alloc::{boxed::Box, collections::BTreeMap, string::String, vec, vec::Vec};
use core::{cmp::Reverse, ops::Bound};

use super::error::Reason;

/// The path of a rule, without its trailing `*` where it is a prefix.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Pattern {
    Exact(String),
    Prefix(String),
    /// As written, a trailing `*` included.
    Segments(String),
}

/// Number of a rule in the table's owner.
pub(super) type RuleId = u32;

/// Rules by path.
#[derive(Clone, Debug, Default)]
pub(super) struct PatternTable {
    exact: BTreeMap<Box<str>, RuleId>,
    prefixes: PrefixTable,
    segments: SegmentTree,
}

/// Texts with a rule each; finds the longest that a text begins with.
#[derive(Clone, Debug, Default)]
pub(super) struct PrefixTable {
    /// In byte order.
    entries: Vec<PrefixEntry>,
}

#[derive(Clone, Debug)]
struct PrefixEntry {
    text: Box<str>,
    /// The longest other entry that this one begins with.
    parent: Option<usize>,
    rule: RuleId,
}

/// Segment rules by their segments.
#[derive(Clone, Debug, Default)]
struct SegmentTree {
    nodes: Vec<SegmentNode>,
    rules: Vec<SegmentRule>,
}

#[derive(Clone, Debug, Default)]
struct SegmentNode {
    literal: BTreeMap<Box<str>, usize>,
    any: Option<usize>,
    /// The rule that ends here: index into `rules`.
    whole: Option<RuleId>,
    /// Rules that end in `*` within the next segment, by what precedes the `*` in it.
    open: PrefixTable,
}

#[derive(Clone, Debug)]
struct SegmentRule {
    rank: Rank<Box<str>>,
    rule: RuleId,
}

/// How specific a match is; the greatest decides. The order of fields is the primary's order of criteria.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Rank<T> {
    /// Bytes before the first wildcard.
    first_wildcard: usize,
    /// Whether the rule covers the path to its end, not only a beginning.
    whole: bool,
    /// `+` segments.
    wildcards: Reverse<usize>,
    /// Bytes, without a trailing `*`.
    length: usize,
    text: T,
}

impl Pattern {
    /// Classes a path, which has its namespace before it.
    pub(super) fn new(path: String) -> Result<Self, Reason> {
        if path.contains("+*") {
            return Err(Reason::MixedWildcards);
        }
        if path == "+" || path.starts_with("+/") || path.contains("/+") {
            return Ok(Self::Segments(path));
        }
        Ok(match path.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.into()),
            None => Self::Exact(path),
        })
    }

    /// As an author writes it.
    pub(super) fn display(&self) -> String {
        match self {
            Self::Exact(path) | Self::Segments(path) => path.clone(),
            Self::Prefix(path) => alloc::format!("{path}*"),
        }
    }
}

/// The part of a path, as written in a policy, that every path it matches begins with.
pub(super) fn literal_prefix(path: &str) -> &str {
    let end = path.find(['+', '*']).unwrap_or(path.len());
    path.get(..end).unwrap_or("")
}

impl PatternTable {
    pub(super) fn new<'p>(patterns: impl IntoIterator<Item = (&'p Pattern, RuleId)>) -> Self {
        let (mut exact, mut prefixes) = (BTreeMap::new(), BTreeMap::new());
        let mut segments = SegmentBuilder::default();
        for (pattern, rule) in patterns {
            match pattern {
                Pattern::Exact(path) => {
                    exact.insert(path.as_str().into(), rule);
                }
                Pattern::Prefix(path) => {
                    prefixes.insert(path.as_str(), rule);
                }
                Pattern::Segments(path) => segments.insert(path, rule),
            }
        }
        Self {
            exact,
            prefixes: PrefixTable::new(prefixes),
            segments: segments.finish(),
        }
    }

    /// The rule that decides `path`. For lists and scans (`lists`), a rule may be written without the slash
    /// that their paths end in.
    pub(super) fn find(&self, path: &str, lists: bool) -> Option<RuleId> {
        let trimmed = path.strip_suffix('/').filter(|_| lists);
        self.exact
            .get(path)
            .or_else(|| self.exact.get(trimmed?))
            .copied()
            .or_else(|| self.find_wild(path))
            .or_else(|| self.find_wild(trimmed?))
    }

    fn find_wild(&self, path: &str) -> Option<RuleId> {
        let prefix = self.prefixes.longest(path);
        if self.segments.rules.is_empty() {
            return prefix.map(|entry| entry.rule);
        }
        let segment = self.segments.best(path);
        match (prefix, segment) {
            (Some(prefix), Some(segment)) if prefix.rank() > segment.rank.borrowed() => {
                Some(prefix.rule)
            }
            (_, Some(segment)) => Some(segment.rule),
            (prefix, None) => prefix.map(|entry| entry.rule),
        }
    }

    /// Rules whose path, exact or before its `*`, begins with `start`.
    pub(super) fn beginning_with<'t>(
        &'t self,
        start: &'t str,
    ) -> impl Iterator<Item = RuleId> + 't {
        let exact = self
            .exact
            .range::<str, _>((Bound::Included(start), Bound::Unbounded))
            .take_while(move |(path, _)| path.starts_with(start))
            .map(|(_, rule)| *rule);
        let at = self.prefixes.entries.partition_point(|e| &*e.text < start);
        let prefixes = self.prefixes.entries.get(at..).unwrap_or(&[]);
        exact.chain(
            prefixes
                .iter()
                .take_while(move |entry| entry.text.starts_with(start))
                .map(|entry| entry.rule),
        )
    }

    /// Whether `path` begins with the text of a prefix rule.
    pub(super) fn covers(&self, path: &str) -> bool {
        self.prefixes.longest(path).is_some()
    }

    /// Whether there are segment rules.
    pub(super) fn has_segments(&self) -> bool {
        !self.segments.rules.is_empty()
    }

    /// Segment rules whose first segments match those of `mount`, which ends in `/`.
    pub(super) fn segments_into<'t>(&'t self, mount: &'t str) -> impl Iterator<Item = RuleId> + 't {
        self.segments.rules.iter().filter_map(move |rule| {
            leads_into(&rule.rank.text, !rule.rank.whole, mount).then_some(rule.rule)
        })
    }
}

/// Whether the first segments of a rule's path match those of a mount. As the primary has it, a rule that
/// ends in `*` before the mount's last segment does not.
fn leads_into(body: &str, open: bool, mount: &str) -> bool {
    let mount = mount.strip_suffix('/').unwrap_or(mount);
    let mut segments = body.split('/').peekable();
    mount.split('/').all(|wanted| match segments.next() {
        Some("+") => true,
        Some(segment) if segment == wanted => true,
        Some(segment) => open && segments.peek().is_none() && wanted.starts_with(segment),
        None => false,
    })
}

impl PrefixTable {
    /// From texts in byte order.
    pub(super) fn new<T: Into<Box<str>>>(texts: impl IntoIterator<Item = (T, RuleId)>) -> Self {
        let mut entries: Vec<PrefixEntry> = Vec::new();
        for (text, rule) in texts {
            let text: Box<str> = text.into();
            let mut parent = entries.len().checked_sub(1);
            while let Some(entry) = parent.and_then(|at| entries.get(at)) {
                if text.starts_with(&*entry.text) {
                    break;
                }
                parent = entry.parent;
            }
            entries.push(PrefixEntry { text, parent, rule });
        }
        Self { entries }
    }

    /// The longest entry that `text` begins with.
    ///
    /// Every entry between that one and `text` in byte order begins with it too, so it is the last entry not
    /// after `text` or one of that entry's parents.
    fn longest(&self, text: &str) -> Option<&PrefixEntry> {
        let after = self.entries.partition_point(|entry| &*entry.text <= text);
        let mut entry = self.entries.get(after.checked_sub(1)?)?;
        let common = common_bytes(&entry.text, text);
        while entry.text.len() > common {
            entry = self.entries.get(entry.parent?)?;
        }
        Some(entry)
    }

    /// The longest entry that `text` begins with.
    pub(super) fn longest_text(&self, text: &str) -> Option<&str> {
        self.longest(text).map(|entry| &*entry.text)
    }

    /// An entry that begins with `start`.
    pub(super) fn beginning_with(&self, start: &str) -> Option<&str> {
        let at = self.entries.partition_point(|entry| &*entry.text < start);
        let entry = self.entries.get(at)?;
        entry.text.starts_with(start).then_some(&*entry.text)
    }
}

fn common_bytes(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

impl PrefixEntry {
    fn rank(&self) -> Rank<&str> {
        Rank {
            first_wildcard: self.text.len(),
            whole: false,
            wildcards: Reverse(0),
            length: self.text.len(),
            text: &self.text,
        }
    }
}

impl Rank<Box<str>> {
    fn borrowed(&self) -> Rank<&str> {
        Rank {
            first_wildcard: self.first_wildcard,
            whole: self.whole,
            wildcards: self.wildcards,
            length: self.length,
            text: &self.text,
        }
    }
}

#[derive(Default)]
struct SegmentBuilder<'p> {
    nodes: Vec<SegmentNode>,
    open: BTreeMap<(usize, &'p str), RuleId>,
    rules: Vec<SegmentRule>,
}

impl<'p> SegmentBuilder<'p> {
    fn insert(&mut self, path: &'p str, rule: RuleId) {
        if self.nodes.is_empty() {
            self.nodes.push(SegmentNode::default());
        }
        let (body, open) = match path.strip_suffix('*') {
            Some(body) => (body, true),
            None => (path, false),
        };
        let Ok(id) = RuleId::try_from(self.rules.len()) else {
            return;
        };
        self.rules.push(SegmentRule {
            rank: Rank {
                first_wildcard: path.find('+').unwrap_or(path.len()),
                whole: !open,
                wildcards: Reverse(body.split('/').filter(|segment| *segment == "+").count()),
                length: body.len(),
                text: body.into(),
            },
            rule,
        });
        let mut at = 0;
        let mut segments = body.split('/').peekable();
        while let Some(segment) = segments.next() {
            if open && segments.peek().is_none() {
                self.open.insert((at, segment), id);
                return;
            }
            at = self.step(at, segment);
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.whole = Some(id);
        }
    }

    /// The node below `at` for `segment`, made if it is not there.
    fn step(&mut self, at: usize, segment: &str) -> usize {
        let fresh = self.nodes.len();
        let Some(node) = self.nodes.get_mut(at) else {
            return at;
        };
        let below = if segment == "+" {
            *node.any.get_or_insert(fresh)
        } else {
            *node.literal.entry(segment.into()).or_insert(fresh)
        };
        if below == fresh {
            self.nodes.push(SegmentNode::default());
        }
        below
    }

    fn finish(mut self) -> SegmentTree {
        let mut by_node: BTreeMap<usize, Vec<(&str, RuleId)>> = BTreeMap::new();
        for ((at, text), id) in self.open {
            by_node.entry(at).or_default().push((text, id));
        }
        for (at, texts) in by_node {
            if let Some(node) = self.nodes.get_mut(at) {
                node.open = PrefixTable::new(texts);
            }
        }
        SegmentTree {
            nodes: self.nodes,
            rules: self.rules,
        }
    }
}

impl SegmentTree {
    /// The most specific rule that matches `path`. Visits a node at most once.
    fn best(&self, path: &str) -> Option<&SegmentRule> {
        let segments: Vec<&str> = path.split('/').collect();
        let mut best: Option<&SegmentRule> = None;
        let mut pending = vec![(0_usize, 0_usize)];
        while let Some((at, depth)) = pending.pop() {
            let Some(node) = self.nodes.get(at) else {
                continue;
            };
            let matched = match segments.get(depth) {
                None => node.whole,
                Some(segment) => {
                    pending.extend(node.any.map(|below| (below, depth + 1)));
                    let literal = node.literal.get(*segment);
                    pending.extend(literal.map(|below| (*below, depth + 1)));
                    // Of those that end in this segment the longest is the most specific.
                    node.open.longest(segment).map(|entry| entry.rule)
                }
            };
            let matched = matched.and_then(|id| self.rules.get(usize::try_from(id).ok()?));
            if let Some(matched) = matched
                && best.is_none_or(|best| matched.rank > best.rank)
            {
                best = Some(matched);
            }
        }
        best
    }
}
