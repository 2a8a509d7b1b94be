//! A small builder of `holdover.toml`: a test names what it is about and leaves the rest at its default.

use std::path::Path;

use toml::{Table, Value};

use crate::failure::{Context, Failure, Result};

/// A configuration in the making.
#[derive(Clone, Debug, Default)]
pub struct Config {
    root: Table,
    wrong: Option<String>,
}

impl Config {
    /// An empty one.
    pub fn new() -> Config {
        Config::default()
    }

    /// Sets a key by its dotted path: `set("failover.failures", 2)`. Replaces what was there.
    pub fn set(mut self, dotted: &str, value: impl Into<Value>) -> Config {
        if put(&mut self.root, dotted, value.into()).is_none() {
            self.wrong = Some(format!("{dotted} crosses something that is no table"));
        }
        self
    }

    /// Takes a key out again.
    pub fn unset(mut self, dotted: &str) -> Config {
        let (parents, last) = dotted.rsplit_once('.').unwrap_or(("", dotted));
        let mut table = Some(&mut self.root);
        for name in parents.split('.').filter(|name| !name.is_empty()) {
            table = table
                .and_then(|t| t.get_mut(name))
                .and_then(Value::as_table_mut);
        }
        table.and_then(|t| t.remove(last));
        self
    }

    /// The primary's addresses, in order of preference, and the CA of their certificates.
    pub fn primary(self, addresses: &[String], ca_file: Option<&Path>) -> Config {
        let config = self.set("primary.addresses", addresses.to_vec());
        match ca_file {
            Some(path) => config.set("primary.ca_file", text(path)),
            None => config,
        }
    }

    /// Holdover's own login by AppRole.
    pub fn approle(self, role_id_file: &Path, secret_id_file: &Path) -> Config {
        self.set("primary.auth.method", "approle")
            .set("primary.auth.role_id_file", text(role_id_file))
            .set("primary.auth.secret_id_file", text(secret_id_file))
    }

    /// Holdover's own login by a token in a file.
    pub fn token_file(self, path: &Path) -> Config {
        self.set("primary.auth.method", "token_file")
            .set("primary.auth.path", text(path))
    }

    /// Adds a key slot of kind `file`.
    pub fn key_file(self, path: &Path) -> Config {
        let slot = Table::from_iter([
            ("source".to_owned(), Value::from("file")),
            ("path".to_owned(), Value::from(text(path))),
        ]);
        self.push("replica.key", slot)
    }

    /// Adds a `[[mirror]]` of `path`, with these further keys.
    pub fn mirror(self, path: &str, keys: &[(&str, Value)]) -> Config {
        let mut table = Table::from_iter([("path".to_owned(), Value::from(path))]);
        table.extend(
            keys.iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        );
        self.push("mirror", table)
    }

    /// Adds a `[[workload]]`.
    pub fn workload(self, workload: Workload) -> Config {
        self.push("workload", workload.0.root)
    }

    /// This configuration with all that `other` says: tables are joined, lists of tables put one after the other.
    pub fn merged(mut self, other: &Config) -> Config {
        join(&mut self.root, &other.root);
        self.wrong = self.wrong.or_else(|| other.wrong.clone());
        self
    }

    /// The file's text.
    pub fn to_toml(&self) -> Result<String> {
        match &self.wrong {
            Some(wrong) => Err(Failure::new(wrong)),
            None => toml::to_string(&self.root).context("configuration"),
        }
    }

    fn push(mut self, dotted: &str, table: Table) -> Config {
        let mut list = match self.get(dotted) {
            Some(Value::Array(list)) => list.clone(),
            _ => Vec::new(),
        };
        list.push(Value::Table(table));
        self = self.set(dotted, list);
        self
    }

    fn get(&self, dotted: &str) -> Option<&Value> {
        let mut names = dotted.split('.');
        let first = self.root.get(names.next()?)?;
        names.try_fold(first, |value, name| value.get(name))
    }
}

/// A `[[workload]]` in the making.
#[derive(Clone, Debug)]
pub struct Workload(Config);

impl Workload {
    /// An entry of this name, which logs in through the token role `role`. Nothing matches it yet.
    pub fn new(name: &str, role: &str) -> Workload {
        Workload(Config::new().set("name", name).set("role", role))
    }

    /// Matches peers of this uid.
    pub fn uid(self, uid: u32) -> Workload {
        self.set("match.uid", i64::from(uid))
    }

    /// Issues in an outage, with this policy TTL and this `max_ttl`, as in `"15m"`.
    pub fn issues(self, ttl: &str, max_ttl: &str) -> Workload {
        self.set("failover.issue", true)
            .set("failover.ttl", ttl)
            .set("failover.max_ttl", max_ttl)
    }

    /// Requests without a token use the workload's own.
    pub fn auto_token(self) -> Workload {
        self.set("auto_token", true)
    }

    /// Sets any key by its dotted path.
    pub fn set(self, dotted: &str, value: impl Into<Value>) -> Workload {
        Workload(self.0.set(dotted, value))
    }
}

fn join(into: &mut Table, from: &Table) {
    for (name, value) in from {
        match (into.get_mut(name), value) {
            (Some(Value::Table(old)), Value::Table(new)) => join(old, new),
            (Some(Value::Array(old)), Value::Array(new)) if new.iter().all(Value::is_table) => {
                old.extend(new.iter().cloned());
            }
            (Some(old), new) => *old = new.clone(),
            (None, new) => {
                into.insert(name.clone(), new.clone());
            }
        }
    }
}

fn put(table: &mut Table, dotted: &str, value: Value) -> Option<()> {
    match dotted.split_once('.') {
        None => {
            table.insert(dotted.to_owned(), value);
            Some(())
        }
        Some((name, rest)) => {
            let below = table
                .entry(name)
                .or_insert_with(|| Value::Table(Table::new()));
            put(below.as_table_mut()?, rest, value)
        }
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
