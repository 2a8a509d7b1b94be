//! What may have had an effect is sent once.
//!
//! The [`Right`] to send such a request is a value: sending takes it, and only what is [`Undone`] gives it back. So no loop
//! around a request, however it is written, can have it carried out twice.

use super::error::errors_of;

/// What a node says that leaves a request to the active one, and has done nothing.
const LEFT_TO_ACTIVE: [&str; 3] = [
    "local node not active",
    "please forward to the active node",
    "cannot write to readonly storage",
];

/// What a node says with a 503 that has looked at no request. Whatever else says 503 may be a balancer that lost the node
/// behind it in the middle.
const NOT_SERVING: [&str; 5] = [
    "Vault is sealed",
    "Vault is in standby mode",
    "no active Vault instance found",
    "node is not active",
    "server is not yet initialized",
];

/// The right to send a request once. Each has one of its own.
#[derive(Debug)]
pub(crate) struct Right(());

/// Proof that nothing of a request was carried out: none of it was sent, or what answered says so.
#[derive(Debug)]
pub(crate) struct Undone(());

impl Right {
    /// That of a request that is new here.
    pub(crate) fn of_new() -> Self {
        Self(())
    }
}

impl Undone {
    /// Nothing of it was sent.
    pub(crate) fn unsent() -> Self {
        Self(())
    }

    /// It was refused: a decision, before anything was done.
    pub(crate) fn refused() -> Self {
        Self(())
    }

    /// Whether an answer says so.
    pub(crate) fn said(status: u16, body: &[u8]) -> Option<Self> {
        let undone = match status {
            503 => is_left_to_active(body) || is_not_serving(body),
            500.. => is_left_to_active(body),
            _ => false,
        };
        undone.then_some(Self(()))
    }
}

/// Whether a node that failed says that it left a request to the active one, and did nothing.
pub(crate) fn is_left_to_active(body: &[u8]) -> bool {
    says_alone(body, |said| {
        LEFT_TO_ACTIVE.iter().any(|text| said.starts_with(text))
    })
}

fn is_not_serving(body: &[u8]) -> bool {
    says_alone(body, |said| NOT_SERVING.contains(&said))
}

/// Whether its one error is such a text: beside others, or behind other words, it may come of what was begun and could not be
/// stored any more.
fn says_alone(body: &[u8], is_such: impl Fn(&str) -> bool) -> bool {
    let errors = errors_of(body);
    matches!(errors.as_slice(), [only] if is_such(unframed(only)))
}

/// An error without the frame that the server puts around a list of one.
fn unframed(error: &str) -> &str {
    let listed = error.strip_prefix("1 error occurred:").map(str::trim_start);
    let only = listed.and_then(|listed| listed.strip_prefix("* "));
    only.unwrap_or(error)
}

impl From<Undone> for Right {
    fn from(_: Undone) -> Self {
        Self(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_undone(status: u16, text: &str) -> bool {
        let body = serde_json::json!({ "errors": [text] }).to_string();
        Undone::said(status, body.as_bytes()).is_some()
    }

    #[test]
    fn a_node_that_left_a_request_alone_says_so_in_words() {
        assert!(is_undone(503, "Vault is sealed"));
        let no_leader = "local node not active but active cluster node not found";
        assert!(is_undone(500, no_leader) && is_undone(503, no_leader));
        assert!(is_undone(500, "cannot write to readonly storage"));
        let framed = "1 error occurred:\n\t* cannot write to readonly storage\n\n";
        assert!(is_undone(500, framed));
    }

    #[test]
    fn a_status_alone_says_nothing_of_what_was_carried_out() {
        for status in [500, 502, 503, 504] {
            assert!(!is_undone(
                status,
                "upstream connect error or disconnect/reset"
            ));
            assert!(Undone::said(status, b"<html>").is_none());
            assert!(Undone::said(status, b"").is_none());
        }
        // What was begun, and could not be stored.
        let begun = "failed to register the lease: cannot write to readonly storage";
        assert!(!is_undone(500, begun));
        let two = br#"{"errors":["cannot write to readonly storage","rollback failed"]}"#;
        assert!(Undone::said(500, two).is_none());
        // A node that seals itself may have carried out what it was at.
        assert!(!is_undone(500, "Vault is sealed"));
        assert!(!is_undone(
            503,
            "failed to store the entry: Vault is sealed"
        ));
        assert!(!is_undone(200, "Vault is sealed") && !is_undone(400, "local node not active"));
    }
}
