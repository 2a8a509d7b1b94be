//! Names for what is another in each replay: `{{token.app}}` stands for the token of that replay, `{{answer.3/lease_id}}`
//! for the lease that its answer 3 gave.

use harness::client::raw::Reply;
use harness::{Failure, Result};
use serde_json::Value;

/// What of an answer a later request may send back.
const HANDED_OUT: [&str; 6] = [
    "/auth/client_token",
    "/auth/accessor",
    "/lease_id",
    "/data/username",
    "/data/password",
    "/wrap_info/token",
];

/// Names and what they stand for in one replay. The first name of a value counts.
#[derive(Clone, Default)]
pub(crate) struct Names(Vec<(String, String)>);

impl Names {
    /// Gives `value` a name. Nothing is done for what is empty or has one.
    pub(crate) fn give(&mut self, name: &str, value: &str) {
        if !value.is_empty() && !self.0.iter().any(|(_, known)| known == value) {
            self.0.push((format!("{{{{{name}}}}}"), value.to_owned()));
        }
    }

    /// Gives names to what answer `number` handed out.
    pub(crate) fn learn(&mut self, number: usize, reply: &Reply) {
        let Ok(body) = reply.json() else { return };
        for pointer in HANDED_OUT {
            if let Some(value) = body.pointer(pointer).and_then(Value::as_str) {
                self.give(&format!("answer.{number}{pointer}"), value);
            }
        }
    }

    /// `text` with names in the place of what they stand for.
    pub(crate) fn rename(&self, text: &str) -> String {
        let mut longest: Vec<_> = self.0.iter().collect();
        longest.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        longest
            .into_iter()
            .fold(text.to_owned(), |text, (name, value)| {
                text.replace(value.as_str(), name)
            })
    }

    /// `text` with what names stand for in their place.
    ///
    /// # Errors
    /// If a name is left: the answer that should have given it did not.
    pub(crate) fn fill(&self, text: &str) -> Result<String> {
        let filled = self.0.iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(name.as_str(), value)
        });
        match filled.contains("{{") {
            true => Err(Failure::new(format!("nothing is known for {filled:?}"))),
            false => Ok(filled),
        }
    }

    /// What a name, without its braces, stands for.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let name = format!("{{{{{name}}}}}");
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Names, without their braces, of what answers handed out.
    pub(crate) fn handed_out(&self) -> impl Iterator<Item = &str> {
        let names = self.0.iter().map(|(name, _)| name.trim_matches(['{', '}']));
        names.filter(|name| name.starts_with("answer."))
    }

    /// As environment of a client that is recorded: `token.app` is `TOKEN_APP`.
    pub(crate) fn environment(&self) -> impl Iterator<Item = (String, &str)> {
        self.0.iter().map(|(name, value)| {
            let name = name.trim_matches(['{', '}']).replace('.', "_");
            (name.to_uppercase(), value.as_str())
        })
    }
}

/// What kind of text it is: what it begins with up to a dot, and the length of the rest. Paths are told by their parts,
/// logins at a database by their parts without the moment at their end.
pub(crate) fn kind_of_text(text: &str) -> String {
    if let Some((start, last)) = text.rsplit_once('/') {
        return format!("{start}/+{}", last.len());
    }
    if text.starts_with("v-") {
        let parts: Vec<usize> = text.split('-').map(str::len).collect();
        return format!("login of {parts:?}");
    }
    match text.split_once('.') {
        Some((prefix, rest)) => format!("{prefix}.+{}", rest.len()),
        None => format!("+{}", text.len()),
    }
}
