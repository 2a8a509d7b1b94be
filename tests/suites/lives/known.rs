//! What the primary says at the moment of a cut: what the replica may go by until it is told more.

use std::collections::BTreeSet;

use harness::bao::api::Api;
use harness::client::raw::Reply;
use harness::{Context, Failure, Result};
use serde_json::Value;

use crate::cast::Token;
use crate::causes;
use crate::place::{PROBES, Place, SECRETS};

/// What the primary says to one token.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rights {
    /// Statuses, by probe. None at all for a token that the primary would not make.
    statuses: Vec<u16>,
}

/// What the primary said of everything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// By token.
    pub(crate) rights: Vec<Rights>,
    /// Values that may be given, by secret; none stands for an absent one.
    pub(crate) values: Vec<BTreeSet<Option<String>>>,
    /// Where settling may have gone halfway: what it said before.
    pub(crate) before: Option<Box<Known>>,
}

/// What a check found.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// Both sides say yes.
    Granted,
    /// Both sides say no.
    Refused,
    /// The replica leaves to the primary what the primary would have granted.
    Undecided(&'static str),
    /// A token of an outage that is over was not carried on, which recovery may decide.
    NotCarriedOn,
}

impl Rights {
    pub(crate) async fn of(api: &Api, place: &Place) -> Result<Rights> {
        let mut statuses = Vec::new();
        for nr in 0..PROBES {
            let probe = place.probe(nr);
            let answer = api.get(&probe).await?;
            match answer.status {
                200 | 403 | 404 => statuses.push(answer.status),
                status => {
                    let text = format!("{probe}: {status}: {}", answer.body);
                    return Err(Failure::new(text));
                }
            }
        }
        Ok(Rights { statuses })
    }

    pub(crate) fn permits(&self, probe: usize) -> bool {
        self.statuses
            .get(probe)
            .is_some_and(|status| *status != 403)
    }

    fn finds(&self, probe: usize) -> bool {
        self.statuses.get(probe) == Some(&200)
    }

    /// What both permit.
    pub(crate) fn and(mut self, other: &Rights) -> Rights {
        for (nr, status) in self.statuses.iter_mut().enumerate() {
            if !other.permits(nr) {
                *status = 403;
            }
        }
        self
    }
}

impl Known {
    pub(crate) fn permits(&self, token: usize, probe: usize) -> bool {
        let now = self
            .rights
            .get(token)
            .is_some_and(|rights| rights.permits(probe));
        now || self
            .before
            .as_ref()
            .is_some_and(|before| before.permits(token, probe))
    }

    fn finds(&self, token: usize, probe: usize) -> bool {
        self.rights
            .get(token)
            .is_some_and(|rights| rights.finds(probe))
    }

    fn may_give(&self, probe: usize, value: &Option<String>) -> bool {
        let now = self
            .values
            .get(probe)
            .is_none_or(|values| values.contains(value));
        now || self
            .before
            .as_ref()
            .is_some_and(|before| before.may_give(probe, value))
    }

    /// Holds the replica's answer against this. `Err` is a violation: more than the primary would have given, or less
    /// without a cause.
    pub(crate) fn judge(
        &self,
        question: &Question<'_>,
        reply: &Reply,
    ) -> std::result::Result<Found, String> {
        let (nr, probe) = (question.nr, question.probe);
        let permitted = self.permits(nr, probe) && !question.dead;
        match (reply.status, permitted) {
            (200 | 404, false) => Err(match question.dead {
                true => "is granted to a token that Holdover was told is revoked".into(),
                false => "is granted, and the primary refuses it".into(),
            }),
            (200 | 404, true) => self.judge_value(question, reply),
            (403 | 503, false) => Ok(Found::Refused),
            (403 | 503, true) => self.judge_refusal(question, reply),
            _ => Err("is no answer that a read can have".into()),
        }
    }

    fn judge_value(
        &self,
        question: &Question<'_>,
        reply: &Reply,
    ) -> std::result::Result<Found, String> {
        let probe = question.probe;
        if probe >= SECRETS.len() {
            return Ok(Found::Granted);
        }
        let value = value_of(reply).map_err(|failure| failure.to_string())?;
        match self.may_give(probe, &value) {
            true => Ok(Found::Granted),
            false => Err(format!(
                "shows {value:?}, and may show {:?}",
                self.values[probe]
            )),
        }
    }

    fn judge_refusal(
        &self,
        question: &Question<'_>,
        reply: &Reply,
    ) -> std::result::Result<Found, String> {
        if question.loosely || self.before.is_some() {
            return Ok(Found::NotCarriedOn);
        }
        if reply.status == 503 && !self.finds(question.nr, question.probe) {
            // Nothing is there to be read.
            return Ok(Found::Undecided("nothing is there"));
        }
        match causes::cause(question, reply) {
            Some(cause) => Ok(Found::Undecided(cause)),
            None => Err("is refused, and the primary grants it".into()),
        }
    }
}

/// What is asked, by whom.
pub(crate) struct Question<'a> {
    pub(crate) nr: usize,
    pub(crate) token: &'a Token,
    pub(crate) probe: usize,
    /// Holdover knows that the token is dead.
    pub(crate) dead: bool,
    /// Only what is granted counts.
    pub(crate) loosely: bool,
    /// It was written through the socket after the last pass.
    pub(crate) written: bool,
    /// It was changed at the primary after the last pass.
    pub(crate) changed: bool,
    /// Its mount was taken away, and another one put in its place, after the last pass.
    pub(crate) remounted: bool,
    /// The primary took it, and those above it, since the last outage.
    pub(crate) proved: bool,
    /// An entity decides with it.
    pub(crate) has_entity: bool,
    /// No pass has ended since the last outage.
    pub(crate) at_once: bool,
}

/// The text of a secret; none where there is none.
pub(crate) fn value_of(reply: &Reply) -> Result<Option<String>> {
    if reply.status == 404 {
        return Ok(None);
    }
    let text = reply.json_text("/data/data/text").context("a secret")?;
    Ok(Some(text))
}

/// The policies of an `auth` block.
pub(crate) fn policies(body: &Value) -> BTreeSet<String> {
    let policies = body["auth"]["policies"].as_array();
    let texts = policies.into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}
