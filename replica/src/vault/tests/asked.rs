//! Questions, and what a client got.

use serde_json::Value;
use shared::{
    api::{Call, RequestNamespace},
    approle::Attempt,
    change::{Change, Expects},
    doubt::Writer,
    name::{OutageId, WorkloadName},
    workload::Peer,
};

use super::world::NOW;
use crate::{
    ledger::Note,
    samples::{Seeded, now},
    vault::{
        Answer, Presented, Query, answer,
        foresee::{Foreseen, foresee},
        judge::{Judgement, judge},
        refuse_unread,
        writer::writer,
    },
    view::View,
};

/// What a client got, read.
pub(super) struct Said {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) text: String,
    pub(super) age: Option<u64>,
    pub(super) outage: Option<OutageId>,
    pub(super) changes: Vec<Change>,
    pub(super) expects: Expects,
    pub(super) note: Option<Note>,
    pub(super) attempt: Option<Attempt>,
}

impl Said {
    /// The only error.
    pub(super) fn error(&self) -> &str {
        assert_eq!(
            self.body["errors"].as_array().unwrap().len(),
            1,
            "{}",
            self.text
        );
        self.body["errors"][0].as_str().unwrap()
    }

    /// The only warning.
    pub(super) fn warning(&self) -> &str {
        assert_eq!(
            self.body["warnings"].as_array().unwrap().len(),
            1,
            "{}",
            self.text
        );
        self.body["warnings"][0].as_str().unwrap()
    }
}

/// What is asked.
pub(super) struct Ask<'a> {
    view: &'a View,
    method: &'a str,
    target: &'a str,
    token: Option<&'a str>,
    standing: Option<WorkloadName>,
    body: String,
    peer: Option<Peer>,
    namespace: RequestNamespace,
    unmodelled: Option<&'a str>,
    at: u64,
}

impl<'a> Ask<'a> {
    pub(super) fn new(view: &'a View, method: &'a str, target: &'a str) -> Self {
        Self {
            view,
            method,
            target,
            token: None,
            standing: None,
            body: String::new(),
            peer: None,
            namespace: RequestNamespace::Configured,
            unmodelled: None,
            at: NOW,
        }
    }

    pub(super) fn token(mut self, token: &'a str) -> Self {
        self.token = Some(token);
        self
    }

    pub(super) fn standing(mut self, workload: &str) -> Self {
        self.standing = Some(WorkloadName::parse(workload).unwrap());
        self
    }

    pub(super) fn body(mut self, body: Value) -> Self {
        self.body = body.to_string();
        self
    }

    pub(super) fn raw(mut self, body: &str) -> Self {
        self.body = body.into();
        self
    }

    pub(super) fn peer(mut self, peer: Peer) -> Self {
        self.peer = Some(peer);
        self
    }

    pub(super) fn at(mut self, secs: u64) -> Self {
        self.at = secs;
        self
    }

    pub(super) fn namespace(mut self, namespace: &'a str) -> Self {
        self.namespace = RequestNamespace::of_header([namespace.as_bytes()].into_iter());
        self
    }

    pub(super) fn unmodelled(mut self, header: &'a str) -> Self {
        self.unmodelled = Some(header);
        self
    }

    /// What an outage would make of it.
    pub(super) fn foreseen(&self) -> Foreseen {
        self.put(|view, query| foresee(view, query, &Seeded::new(self.at)))
    }

    /// What would be answered if the outage began now.
    pub(super) fn judged(self) -> Judgement {
        self.put(|view, query| judge(view, query, &Seeded::new(self.at)))
    }

    /// Whether who asks can have had the right to write there.
    pub(super) fn writer(&self) -> Writer {
        self.put(|view, query| writer(view, query, &Seeded::new(self.at)))
    }

    pub(super) fn said(self) -> Said {
        let answered = self.put(|view, query| answer(view, query, &Seeded::new(self.at)));
        Said::of(answered)
    }

    /// What it is refused with before its body is read, if it is.
    pub(super) fn refused_unread(&self) -> Option<Said> {
        let refused = self.put(|view, query| refuse_unread(view, query, &Seeded::new(self.at)));
        refused.map(Said::of)
    }

    fn put<T>(&self, to: impl FnOnce(&View, &Query<'_>) -> T) -> T {
        let call = Call::parse(self.method, self.target).unwrap();
        let presented = match (&self.token, &self.standing) {
            (Some(token), _) => Presented::Token(token),
            (None, Some(workload)) => Presented::Standing(workload),
            (None, None) => Presented::Nothing,
        };
        let query = Query {
            call: &call,
            presented,
            namespace: &self.namespace,
            unmodelled: self.unmodelled,
            body: self.body.as_bytes(),
            peer: self.peer.as_ref(),
            now: now(self.at),
        };
        to(self.view, &query)
    }
}

impl Said {
    fn of(answer: Answer) -> Self {
        let Answer {
            response,
            changes,
            expects,
            note,
            attempt,
        } = answer;
        let text = String::from_utf8(response.body.to_vec()).unwrap();
        Self {
            status: response.status,
            body: match text.is_empty() {
                true => Value::Null,
                false => serde_json::from_str(&text).unwrap(),
            },
            text,
            age: response.age,
            outage: response.outage,
            changes,
            expects,
            note,
            attempt,
        }
    }
}
