//! What the primary answered, handed over to be compared with what the replica would have said.

use bytes::Bytes;

use super::{Server, ask::Ask, headers};
use crate::parity::{Offer, Proof};

impl Server {
    /// Hands a sample of answers over. Never waits.
    pub(crate) fn compare(&self, ask: &Ask, status: u16, answer: impl FnOnce() -> Option<Bytes>) {
        let Ok(call) = &ask.call else { return };
        if !self.parity.wants(call, status) {
            return;
        }
        self.parity.offer(Offer {
            call: call.clone(),
            proof: match (&ask.token, &ask.standing) {
                (Some((token, _)), _) => Proof::Token(token.duplicate()),
                (None, Some(workload)) => Proof::Standing(workload.clone()),
                (None, None) => Proof::Nothing,
            },
            namespace: ask.namespace().map(str::to_owned),
            unmodelled: headers::unmodelled(&ask.headers).map(str::to_owned),
            body: ask.whole_body().cloned().unwrap_or_default(),
            peer: ask.peer.clone(),
            status,
            answer: answer(),
            answered_at: self.replica.now(),
        });
    }
}
