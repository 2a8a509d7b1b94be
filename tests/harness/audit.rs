//! What a server has audited.

use std::path::Path;

use serde_json::Value;

use crate::failure::{Context, Result};

/// An entry of an audit log: a request, or the answer to one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Audited {
    /// `request` or `response`.
    pub kind: String,
    /// As `read`.
    pub operation: String,
    /// Without `/v1/`.
    pub path: String,
    /// Of the token that it was asked with, or that a login gave.
    pub policies: Vec<String>,
    /// What went wrong, if anything did.
    pub error: Option<String>,
}

impl Audited {
    /// Everything in the log at `path`, in order. A line that is still being written is left out.
    pub fn read(path: &Path) -> Result<Vec<Audited>> {
        let text = std::fs::read_to_string(path).context("audit log")?;
        let entries = text.lines().map(serde_json::from_str);
        Ok(entries.flatten().map(|entry| Audited::of(&entry)).collect())
    }

    fn of(entry: &Value) -> Audited {
        let text = |at: &str| entry.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let policies = entry.pointer("/auth/policies").cloned();
        Audited {
            kind: text("/type").unwrap_or_default(),
            operation: text("/request/operation").unwrap_or_default(),
            path: text("/request/path").unwrap_or_default(),
            policies: policies
                .and_then(|policies| serde_json::from_value(policies).ok())
                .unwrap_or_default(),
            error: text("/error").filter(|error| !error.is_empty()),
        }
    }
}
