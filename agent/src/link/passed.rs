//! How much of a request's body has gone out, as far as the primary could act on it.

use std::sync::Arc;

use parking_lot::Mutex;

use super::nesting::Nesting;

/// What of a body has passed. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Passed(Arc<Mutex<Nesting>>);

impl Passed {
    /// Of one that is whole: it goes out as it is.
    pub(crate) fn whole() -> Self {
        Self(Arc::new(Mutex::new(Nesting::Closed)))
    }

    /// Of one that comes in parts.
    pub(crate) fn nothing() -> Self {
        Self(Arc::new(Mutex::new(Nesting::Before)))
    }

    /// These bytes have passed.
    pub(crate) fn pass(&self, bytes: &[u8]) {
        let mut nesting = self.0.lock();
        // What follows the document is not read.
        if *nesting != Nesting::Closed {
            *nesting = nesting.behind(bytes);
        }
    }

    /// It has ended.
    pub(crate) fn end(&self) {
        *self.0.lock() = Nesting::Closed;
    }

    /// Whether the primary may act on what it has. It reads one JSON document, and nothing behind that; of anything else
    /// nobody here knows how it is read.
    pub(crate) fn is_enough(&self) -> bool {
        matches!(*self.0.lock(), Nesting::Closed | Nesting::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_document_is_not_acted_on_and_a_whole_one_is_whatever_follows() {
        let passed = Passed::nothing();
        assert!(!passed.is_enough());
        for part in [&b" {\"data\":"[..], b"{\"a\":\"}\"", b"}"] {
            passed.pass(part);
            assert!(!passed.is_enough());
        }
        passed.pass(b"} ");
        assert!(passed.is_enough());
        passed.pass(b"{");
        assert!(passed.is_enough());
    }

    #[test]
    fn what_is_whole_or_no_document_may_be_acted_on() {
        assert!(Passed::whole().is_enough());
        let (ended, form) = (Passed::nothing(), Passed::nothing());
        ended.end();
        form.pass(b"data=1");
        assert!(ended.is_enough() && form.is_enough());
    }
}
