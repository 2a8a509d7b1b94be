//! The least-privilege policy that Holdover's own login needs at the primary: exactly the requests that are made.
//!
//! `config policy` prints it, and the suites run under it. A request that is added anywhere needs a rule here; the
//! suite `upstream` fails for a request without a rule and for a rule without a request.

use std::collections::BTreeMap;

use shared::settings::{Mirror, MirrorPath, Settings};

use crate::status::RuleStatus;

/// The policy for this configuration, as HCL with a comment for each rule. Paths are those of the configured
/// namespace, in which it must be written.
pub fn required_policy(settings: &Settings) -> String {
    let head = "# What Holdover's own login needs at the primary, and nothing else.\n";
    Rules::of(settings).text(head, settings.namespace.as_str())
}

/// What `then` needs beyond `now`, to be added to the policy that is granted; none if that is nothing.
pub fn added_policy(now: &Settings, then: &Settings) -> Option<String> {
    let (old, mut new) = (Rules::of(now), Rules::of(then));
    new.0.retain(|path, rule| {
        let known = old.0.get(path);
        rule.capabilities
            .iter()
            .any(|name| known.is_none_or(|known| !known.capabilities.contains(name)))
    });
    let head = "# What Holdover's own login needs at the primary beside what it has: add it to its policy.\n";
    (!new.0.is_empty()).then(|| new.text(head, then.namespace.as_str()))
}

const VALUES: &str = "mirrored values";

/// What every configuration needs, a line each: the path, the capability, whether outages lack something without it, and
/// what it is needed for.
const ALWAYS: &str = "\
auth/token/lookup-self read outages whether the primary serves, and Holdover's own token lives
auth/token/renew-self update upkeep keep Holdover's own token alive
auth/token/revoke-self update upkeep end the one before, once nothing hangs on it
sys/mounts read outages which secrets engine a path belongs to
sys/auth read outages which auth method a path belongs to
sys/mounts/auth/token/tune read upkeep how long tokens live where nothing else is said
sys/capabilities-self update upkeep which of these rules are lacking
sys/policies/detailed/acl list outages every policy, to decide by in an outage
identity/entity/id/+ read outages entities of live tokens: templated and identity policies
identity/group/id/+ read outages their groups
auth/token/lookup update outages learn a token that a client uses
auth/token/lookup-accessor update outages whether it still lives; what a minted token is
auth/token/revoke-accessor update upkeep report revocations of an outage; end what was minted in vain
sys/leases/revoke update upkeep report revocations of an outage; end replaced leases
sys/leases/lookup update upkeep whether a lease that was to be revoked is gone";

/// What each workload needs, where `{}` is its role.
const OF_WORKLOAD: &str = "\
auth/token/roles/{} read outages what the role of a workload allows
auth/token/create/{} update outages log its workloads in
auth/token/renew-accessor update upkeep keep standing tokens of workloads alive";

/// What each AppRole mount needs, where `{}` is the mount.
const OF_APPROLE: &str = "\
auth/{}/role/+ read outages AppRole roles that workloads log in to
auth/{}/role/+/role-id read outages AppRole roles that workloads log in to
auth/{}/role/+/secret-id/lookup update outages whether a secret id still stands
auth/{}/role/+/secret-id-accessor/lookup update outages whether a secret id still stands
sys/mounts/auth/{}/tune read outages how long their tokens live
identity/mfa/login-enforcement list outages whether logins need a second factor
identity/mfa/login-enforcement/+ read outages whether logins need a second factor";

/// What a mirrored lease needs.
const OF_LEASE: &str = "\
sys/leases/lookup update outages whether leases of Holdover's own still live
sys/leases/renew update outages keep them alive";

/// When a rule is missed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RuleNeeded {
    /// Without it something that is configured would not work in an outage.
    InOutages,
    /// Without it the primary has more work, or is told less.
    ForUpkeep,
}

/// A rule that Holdover's own login needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyRule {
    /// The path, with `+` for any one segment, and `*` at its end for anything.
    pub path: String,
    /// What it grants.
    pub capabilities: Vec<&'static str>,
    /// What it is needed for.
    pub why: &'static str,
    /// When it is missed.
    pub needed: RuleNeeded,
}

impl PolicyRule {
    /// Whether it is for more than one path.
    pub fn has_wildcard(&self) -> bool {
        self.path.ends_with('*') || self.path.split('/').any(|segment| segment == "+")
    }

    /// A path that it is for, made up where it has a wildcard.
    pub fn example(&self) -> String {
        const ANY: &str = "holdover";
        let segments = self.path.split('/').map(|segment| match segment {
            "+" => ANY,
            other => other,
        });
        let path = segments.collect::<Vec<_>>().join("/");
        match path.strip_suffix('*') {
            Some(prefix) => format!("{prefix}{ANY}"),
            None => path,
        }
    }

    /// Whether it is for this path. Of a folder the slash at its end does not matter.
    pub fn covers(&self, path: &str) -> bool {
        if let Some(prefix) = self.path.strip_suffix('*') {
            return path.starts_with(prefix);
        }
        let ours = self.path.trim_end_matches('/').split('/');
        let theirs = path.trim_end_matches('/').split('/');
        ours.clone().count() == theirs.clone().count()
            && ours
                .zip(theirs)
                .all(|(ours, theirs)| ours == "+" || ours == theirs)
    }
}

/// The rules for this configuration, by path.
pub fn rules(settings: &Settings) -> Vec<PolicyRule> {
    Rules::of(settings).0.into_values().collect()
}

/// The rule of `rules` that grants this: the longest, as the primary goes by that.
pub fn rule_of<'a>(
    rules: &'a [PolicyRule],
    path: &str,
    capability: &str,
) -> Option<&'a PolicyRule> {
    let grants = |rule: &&PolicyRule| rule.capabilities.contains(&capability) && rule.covers(path);
    rules
        .iter()
        .filter(grants)
        .max_by_key(|rule| rule.path.len())
}

/// These rules as HCL, each with a comment.
pub fn hcl(rules: &[RuleStatus]) -> String {
    let blocks = rules.iter().map(|rule| {
        let capabilities = rule.capabilities.iter().map(String::as_str);
        block(&rule.path, capabilities, &rule.why)
    });
    blocks.collect::<Vec<_>>().join("\n")
}

/// Rules by path: each path once, however often it is needed.
#[derive(Default)]
struct Rules(BTreeMap<String, PolicyRule>);

impl Rules {
    fn of(settings: &Settings) -> Self {
        let mut rules = Rules::default();
        rules.all(ALWAYS, "");
        for workload in &settings.workloads {
            rules.all(OF_WORKLOAD, workload.role.as_str());
        }
        // Nothing, unless a workload may be issued grants in an outage at all.
        for mount in settings.approle_mounts() {
            rules.all(OF_APPROLE, mount);
        }
        for mirror in &settings.mirrors {
            rules.mirror(mirror);
        }
        rules
    }

    /// Every line of `table`, with `name` put in.
    fn all(&mut self, table: &'static str, name: &str) {
        for line in table.lines() {
            let mut parts = line.splitn(4, ' ');
            if let (Some(path), Some(capability), Some(needed), Some(why)) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            {
                let needed = match needed {
                    "outages" => RuleNeeded::InOutages,
                    _ => RuleNeeded::ForUpkeep,
                };
                self.need(&path.replace("{}", name), capability, needed, why);
            }
        }
    }

    /// Offline nothing tells which engine a path belongs to: `/data/` in it is KV v2, any other prefix KV v1, and one
    /// path of anything else may come with a lease.
    fn mirror(&mut self, mirror: &Mirror) {
        let literal = mirror.path.literal();
        let versioned = literal
            .split_once("/data/")
            .filter(|(mount, _)| !mount.is_empty());
        match (versioned, &mirror.path) {
            (Some((mount, name)), MirrorPath::Exact(_)) => {
                self.need(literal, "read", RuleNeeded::InOutages, VALUES);
                let metadata = format!("{mount}/metadata/{name}");
                let why = "whether it changed";
                self.need(&metadata, "read", RuleNeeded::InOutages, why);
            }
            (Some((mount, name)), MirrorPath::Prefix(_)) => {
                let values = format!("{literal}*");
                self.need(&values, "read", RuleNeeded::InOutages, VALUES);
                let metadata = format!("{mount}/metadata/{name}*");
                let why = "one key that changed just now";
                self.need(&metadata, "read", RuleNeeded::InOutages, why);
                let detailed = format!("{mount}/detailed-metadata/{}", folder_of(name));
                let why = "what changed, in one request";
                self.need(&detailed, "scan", RuleNeeded::ForUpkeep, why);
            }
            (None, MirrorPath::Prefix(_)) => {
                let values = format!("{literal}*");
                self.need(&values, "read", RuleNeeded::InOutages, VALUES);
                let why = "what there is, in one request";
                self.need(folder_of(literal), "scan", RuleNeeded::ForUpkeep, why);
            }
            (None, MirrorPath::Exact(_)) => self.one_path(literal),
        }
    }

    fn one_path(&mut self, path: &str) {
        let why = "what is kept of it, or the secret that a lease is held of";
        self.need(path, "read", RuleNeeded::InOutages, why);
        if path.starts_with("identity/") {
            return;
        }
        self.all(OF_LEASE, "");
    }

    fn need(
        &mut self,
        path: &str,
        capability: &'static str,
        needed: RuleNeeded,
        why: &'static str,
    ) {
        let rule = self.0.entry(path.to_owned()).or_insert(PolicyRule {
            path: path.to_owned(),
            capabilities: Vec::new(),
            why,
            needed,
        });
        rule.needed = rule.needed.min(needed);
        if !rule.capabilities.contains(&capability) {
            rule.capabilities.push(capability);
        }
    }

    fn text(&self, head: &str, namespace: &str) -> String {
        let mut text = head.to_owned();
        if !namespace.is_empty() {
            text += &format!("# To be written in the namespace {namespace}.\n");
        }
        for rule in self.0.values() {
            text.push('\n');
            text += &block(&rule.path, rule.capabilities.iter().copied(), rule.why);
        }
        text
    }
}

fn block<'a>(path: &str, capabilities: impl Iterator<Item = &'a str>, why: &str) -> String {
    let capabilities: Vec<_> = capabilities.map(quoted).collect();
    format!(
        "# {why}\npath {} {{\n  capabilities = [{}]\n}}\n",
        quoted(path),
        capabilities.join(", ")
    )
}

/// The part of a name that is listed: up to its last slash.
fn folder_of(name: &str) -> &str {
    let folder = name.rfind('/').map_or(0, |slash| slash + 1);
    name.get(..folder).unwrap_or_default()
}

fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::{
        acl::{Acl, AclRequest, Decision, Operation, Policy, PolicyEntry},
        identity::Identity,
        name::RoleName,
        time::WallTime,
    };

    use crate::samples;

    fn settings(mirrors: &[&str]) -> Settings {
        let mut settings = samples::settings(mirrors);
        settings.workloads.truncate(1);
        for workload in &mut settings.workloads {
            workload.role = RoleName::parse("or\"ders").unwrap();
            workload.auto_token = false;
        }
        settings
    }

    fn allows(text: &str, operation: Operation, path: &str) -> bool {
        let policy = Policy::parse("holdover", text, WallTime::EPOCH).unwrap();
        let acl = Acl::compile(
            [PolicyEntry::Known(&policy)],
            &Identity::default(),
            WallTime::EPOCH,
        );
        let decision = acl.unwrap().decide(&AclRequest {
            namespace: "",
            path,
            operation,
            data: &serde_json::Map::new(),
            wrap_ttl: None,
            help: false,
        });
        matches!(decision, Decision::Allow(_))
    }

    #[test]
    fn the_policy_allows_what_a_mirror_asks_and_no_write_to_it() {
        let text = required_policy(&settings(&[
            "secret/data/shop/or*",
            "team/kv/data/one",
            "database/creds/x",
            "kv1/shop/or*",
            "pki/cert/ca",
        ]));
        for (operation, path) in [
            (Operation::Scan, "secret/detailed-metadata/shop/"),
            (Operation::Read, "secret/metadata/shop/orders"),
            (Operation::Read, "secret/data/shop/orders/db"),
            (Operation::Read, "team/kv/metadata/one"),
            (Operation::Read, "team/kv/data/one"),
            (Operation::Read, "database/creds/x"),
            (Operation::Scan, "kv1/shop/"),
            (Operation::Read, "kv1/shop/orders/db"),
            (Operation::Read, "pki/cert/ca"),
            (Operation::Update, "auth/token/create/or\"ders"),
            (Operation::List, "sys/policies/detailed/acl/"),
        ] {
            assert!(
                allows(&text, operation, path),
                "{operation:?} {path}\n{text}"
            );
        }
        for (operation, path) in [
            (Operation::Update, "secret/data/shop/orders/db"),
            (Operation::Read, "secret/data/shop/billing"),
            (Operation::Read, "secret/metadata/shop/billing"),
            (Operation::Read, "secret/data/other"),
            (Operation::Scan, "secret/detailed-metadata/"),
            (Operation::Scan, "kv1/"),
            (Operation::Read, "kv1/shop/billing"),
            (Operation::Read, "pki/cert/crl"),
            (Operation::Update, "auth/token/create"),
            (Operation::Update, "auth/token/create/billing"),
            (Operation::Update, "sys/leases/revoke-prefix/database"),
        ] {
            assert!(
                !allows(&text, operation, path),
                "{operation:?} {path}\n{text}"
            );
        }
    }

    #[test]
    fn what_is_added_is_what_was_missing_and_nothing_else() {
        let (now, then) = (
            settings(&["secret/data/shop/*"]),
            settings(&["secret/data/shop/*", "team/kv/data/one"]),
        );
        assert_eq!(added_policy(&now, &now), None);
        let added = added_policy(&now, &then).unwrap();
        assert!(allows(&added, Operation::Read, "team/kv/data/one"));
        assert!(allows(&added, Operation::Read, "team/kv/metadata/one"));
        assert!(!added.contains("secret/data/shop") && !added.contains("sys/mounts"));
    }

    #[test]
    fn rights_over_leases_and_renewals_come_only_where_something_needs_them() {
        let text = required_policy(&settings(&["secret/data/*"]));
        assert!(!text.contains("sys/leases/renew") && text.contains("auth/token/renew-accessor"));
        assert!(allows(&text, Operation::Scan, "secret/detailed-metadata/"));
        let issuing = Settings {
            approle_mounts: vec!["approle".into()],
            ..settings(&[])
        };
        let text = required_policy(&issuing);
        let secret_id = "auth/approle/role/orders/secret-id";
        for (operation, path) in [
            (Operation::Read, "auth/approle/role/orders"),
            (Operation::Read, "auth/approle/role/orders/role-id"),
            (Operation::Update, &*format!("{secret_id}/lookup")),
            (Operation::List, "identity/mfa/login-enforcement/"),
        ] {
            assert!(allows(&text, operation, path), "{operation:?} {path}");
        }
        for (operation, path) in [
            (Operation::Update, "auth/approle/role/orders"),
            (Operation::Update, secret_id),
            (Operation::List, &*format!("{secret_id}/")),
            (Operation::Update, &*format!("{secret_id}/destroy")),
        ] {
            assert!(!allows(&text, operation, path), "{operation:?} {path}");
        }
        let mut silent = issuing;
        for workload in &mut silent.workloads {
            workload.failover.issue = false;
        }
        assert!(!required_policy(&silent).contains("approle"));
        let keys = required_policy(&settings(&["identity/oidc/.well-known/keys", "kv1/*"]));
        assert!(!keys.contains("sys/leases/renew"), "{keys}");
        let nobody = Settings {
            workloads: Vec::new(),
            ..settings(&[])
        };
        assert!(!required_policy(&nobody).contains("auth/token/create"));
    }
}
