//! Which paths a rule of the policy is for in fact: roles, entities and keys that are known here.
//!
//! An operator may grant less than a rule with a wildcard, and enough: the roles that there are, the folders that have keys.
//! What is asked about a made-up path says nothing of that.

use std::collections::BTreeSet;

use replica::view::{Authority, Secrets, View};

use crate::upstream::policy::PolicyRule;

/// Paths that are asked about for one rule. Of more, those that Holdover may not read are refused when it does.
const MOST: usize = 8;

/// Below an AppRole role's own path, what is asked there.
const OF_ROLE: [&str; 4] = [
    "",
    "/role-id",
    "/secret-id/lookup",
    "/secret-id-accessor/lookup",
];

/// What is known of one moment.
pub(super) struct InUse {
    /// Of roles, entities and groups.
    paths: BTreeSet<String>,
    /// Of keys.
    keys: BTreeSet<String>,
}

impl InUse {
    /// What `view` knows that `rules` are for; of the keys only as many as will be asked about.
    pub(super) fn of(view: &View, rules: &[PolicyRule]) -> Self {
        let authority = view.authority();
        Self {
            paths: roles(&authority).chain(identities(&authority)).collect(),
            keys: keys(&view.secrets(), rules),
        }
    }

    /// Paths that the rule is for: itself, or at most [`MOST`] that a wildcard in it stands for; none where none is known.
    pub(super) fn of_rule(&self, rule: &PolicyRule) -> Vec<String> {
        if !rule.has_wildcard() {
            return vec![rule.path.clone()];
        }
        let known = self.paths.iter().chain(&self.keys);
        let covered = known.filter(|path| rule.covers(path));
        covered.take(MOST).cloned().collect()
    }
}

fn roles(authority: &Authority) -> impl Iterator<Item = String> {
    let mounts = authority.cluster.as_ref().map(|cluster| &cluster.mounts);
    authority.approles.keys().flat_map(move |role| {
        let mut mounts = mounts.into_iter().flatten();
        let at = mounts.find(|(_, mount)| mount.accessor == role.mount);
        at.into_iter()
            .flat_map(move |(at, _)| OF_ROLE.map(|below| format!("{at}role/{}{below}", role.name)))
    })
}

fn identities(authority: &Authority) -> impl Iterator<Item = String> {
    authority.identities.iter().flat_map(|(entity, known)| {
        let groups = known.identity.groups.iter();
        let groups = groups.map(|group| format!("identity/group/id/{}", group.id));
        groups.chain([format!("identity/entity/id/{entity}")])
    })
}

/// Of each rule's keys the first: the path of the value, and of its metadata.
fn keys(secrets: &Secrets, rules: &[PolicyRule]) -> BTreeSet<String> {
    let of_rule = |rule: &PolicyRule| {
        let mut places = secrets.records.keys().map(|(place, _)| place.path.as_str());
        let mut found = BTreeSet::new();
        while found.len() < MOST
            && let Some(path) = places.next()
        {
            let metadata = path.replacen("/data/", "/metadata/", 1);
            let paths = [path.to_owned(), metadata].into_iter();
            found.extend(paths.filter(|path| rule.covers(path)));
        }
        found
    };
    let open = rules.iter().filter(|rule| rule.path.ends_with('*'));
    open.flat_map(of_rule).collect()
}
