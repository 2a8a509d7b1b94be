//! Requests on their way to the primary: so many at once, and everybody has a share of them.
//!
//! A place is taken before anything is sent, and held until the answer was read to its end, whoever waits for it meanwhile. So
//! what clients ask neither fells the primary nor fills the way to it; and Holdover's own requests, which take no place, wait
//! for nobody's.

use std::{convert::Infallible, sync::Arc, time::Duration};

use shared::{doubt::WriteHeard, share::Sharer};

use super::{
    Server,
    ask::{Ask, Class},
    custody::{Custody, Unsendable, carry_out},
    follow::{Came, Forwarding, buffered, may_lease},
    forward_token::ForwardToken,
    headers,
    key_watch::Sending,
};
use crate::{
    driver::{Handle, Side},
    link::{
        Link, Unavailable,
        body::ANSWERS,
        forward::{ForwardError, Outgoing},
        once::{Right, Undone},
        room::BodyRoom,
    },
};

/// What it takes to send what is sent once.
pub(super) struct Passage {
    /// The right to.
    pub(super) right: Right,
    /// Its place among the requests that are on their way.
    pub(super) place: BodyRoom,
}

impl Server {
    /// The request on its way. What is sent once goes its way in a task of its own, by the right to send it: if its client went,
    /// nobody would learn otherwise what came of it.
    ///
    /// # Errors
    /// [`Unsendable`].
    pub(super) fn sending(
        &self,
        ask: &mut Ask,
        token: &ForwardToken,
    ) -> Result<Forwarding, Unsendable> {
        let by = Sharer::from(&ask.party);
        if ask.repeatable {
            let place = self.place(by).ok_or(Unsendable::NoPlace)?;
            return self.forwarding(ask, token, place);
        }
        let passage = self.passage(ask, by)?;
        let forwarding = self.forwarding_once(ask, token, passage.place)?;
        let in_custody = self.in_custody(ask, token, forwarding);
        let receipt = carry_out(&self.unattended, passage.right, in_custody);
        Ok(Box::pin(async move {
            let lost = Err(ForwardError::Unknown(Unavailable::Timeout));
            receipt.await.unwrap_or(lost)
        }))
    }

    /// The same of what streams. A read, and what comes as its client sends it, ends with its client, but for what may bring
    /// something.
    pub(super) fn streaming(
        &self,
        ask: &mut Ask,
        token: &ForwardToken,
    ) -> Result<Forwarding, Unsendable> {
        let is_write = !ask.method.is_safe() && ask.whole_body().is_some();
        if ask.may_issue() || is_write {
            return self.sending(ask, token);
        }
        if ask.repeatable {
            let place = self.place(&ask.party).ok_or(Unsendable::NoPlace)?;
            return self.forwarding(ask, token, place);
        }
        let by = Sharer::from(&ask.party);
        let passage = self.passage(ask, by)?;
        self.forwarding_once(ask, token, passage.place)
    }

    /// What it takes to send what is sent once.
    ///
    /// # Errors
    /// [`Unsendable`].
    pub(super) fn passage(&self, ask: &mut Ask, by: Sharer) -> Result<Passage, Unsendable> {
        let right = ask.take_right(&self.replica).ok_or(Unsendable::Sent)?;
        match self.place(by) {
            Some(place) => Ok(Passage { right, place }),
            None => {
                ask.once.undone(Undone::unsent());
                Err(Unsendable::NoPlace)
            }
        }
    }

    /// A place among the requests that are on their way.
    fn place(&self, by: impl Into<Sharer>) -> Option<BodyRoom> {
        let rules = self.rules.load();
        let total = rules.shared(rules.limits.forwards.into());
        self.forwards.place(by, total)
    }

    /// The same as [`Self::forwarding`], of what there is a right to send once, which comes back where it is not sent.
    fn forwarding_once(
        &self,
        ask: &mut Ask,
        token: &ForwardToken,
        place: BodyRoom,
    ) -> Result<Forwarding, Unsendable> {
        self.forwarding(ask, token, place)
            .inspect_err(|_| ask.once.undone(Undone::unsent()))
    }

    /// A request on its way, with what the answer brings in custody.
    fn in_custody(&self, ask: &Ask, token: &ForwardToken, forwarding: Forwarding) -> Forwarding {
        let (replica, asked, used) = (Arc::clone(&self.replica), ask.again(), token.used(ask));
        Box::pin(async move {
            let mut answer = forwarding.await?;
            let custody = {
                let seen = answer.answered();
                let evidence = seen.evidence(&asked, used, replica.as_ref());
                evidence.and_then(|evidence| Custody::of(&evidence, &asked, Arc::clone(&replica)))
            };
            if let Some(custody) = custody {
                answer.parts.extensions.insert(custody);
            }
            Ok(answer)
        })
    }

    /// The request as it is sent, and the answer as far as it is buffered. Owns all that it needs, and its place until the
    /// answer was read.
    ///
    /// # Errors
    /// [`Unsendable::NoPlace`] if it may leave more keys in doubt than its sender's share.
    fn forwarding(
        &self,
        ask: &mut Ask,
        token: &ForwardToken,
        place: BodyRoom,
    ) -> Result<Forwarding, Unsendable> {
        let link: Link = self.link.clone();
        let class = ask.class();
        let rules = self.rules.load_full();
        let passed = ask.passing();
        let sending = self.keys.sending(ask, passed, rules.is_halved())?;
        let body = ask.body_to_send();
        let mut headers = headers::outgoing(&ask.headers, &rules.forward_headers);
        token.apply(&mut headers);
        if let Some(namespace) = &ask.named_for_it {
            headers.insert(headers::VAULT_NAMESPACE, namespace.clone());
        }
        if class != Class::Stream || token.is_hidden() {
            headers::ask_for_identity(&mut headers);
        }
        let outgoing = Outgoing {
            method: ask.method.clone(),
            target: ask.target.clone(),
            headers,
            repeatable: ask.repeatable,
        };
        let room = self.buffers.room(&ask.party, rules.shared(ANSWERS));
        let is_hidden = token.is_hidden();
        let forwarding = Box::pin(async move {
            let answer = link.forward(&outgoing, body).await?;
            let mut answer = buffered(answer, may_lease(&outgoing), class, is_hidden, room).await?;
            answer.body = match class {
                Class::Read => answer.body.in_place(place), // It is in a room.
                Class::Issue | Class::Once | Class::Stream => answer.body.whole_in_place(place),
            };
            Ok(answer)
        });
        Ok(match sending {
            Some(sending) => self.watched(sending, forwarding),
            None => forwarding,
        })
    }

    /// A write on its way, and what is in doubt by it: from when it should have been heard of, or the replica takes over.
    fn watched(&self, sending: Sending, forwarding: Forwarding) -> Forwarding {
        let (driver, patience) = (self.driver.clone(), self.rules.load().read_deadline);
        Box::pin(async move {
            let came = tokio::select! {
                biased;
                came = forwarding => came,
                never = unheard(&sending, &driver, patience) => match never {},
            };
            sending.came_to(heard_of(&came)).await;
            came
        })
    }
}

/// Leaves in doubt what a write may have done that is not heard of. Once is not enough: what was half sent when it was late may
/// be whole later; and what was read anew since may be superseded again, until the replica takes over.
async fn unheard(sending: &Sending, driver: &Handle, patience: Duration) -> Infallible {
    let (mut is_taken_over, mut is_whole) = (false, false);
    loop {
        tokio::select! {
            () = driver.until(|side| side == Some(Side::Replica)), if !is_taken_over => {
                is_taken_over = true;
            }
            () = tokio::time::sleep(patience), if !is_whole => {}
            else => std::future::pending().await,
        }
        is_whole = sending.may_be_acted_on();
        sending.is_unheard().await;
    }
}

/// What was heard of a write.
fn heard_of(came: &Came) -> WriteHeard {
    match came {
        Err(error) if error.nothing_sent() => WriteHeard::Refused,
        Err(_) => WriteHeard::Unheard,
        Ok(answer) if answer.undone().is_some() => WriteHeard::Refused,
        Ok(answer) => WriteHeard::of_status(answer.parts.status.as_u16()),
    }
}
