//! What look-ups of tokens show, parsed once.

use std::time::Duration;

use serde::Deserialize;
use shared::{
    name::Accessor,
    offboarding::{CredentialAsked, CredentialTold},
    secret::{SecretBytes, SecretText},
    time::WallTime,
    token::{TokenFacts, look_up::ShownToken},
};
use zeroize::Zeroizing;

use super::{Request, ShownReply, Upstream, UpstreamError, pace::Urgency};

/// A live token, as the primary shows it to others.
pub struct LookedUp {
    /// What does not change from one look-up to the next, but by renewal.
    pub facts: TokenFacts,
    /// Its accessor; batch tokens have none.
    pub accessor: Option<Accessor>,
    /// When it ends unless renewed; none for tokens that do not end.
    pub expires: Option<WallTime>,
    /// What is left of it.
    pub ttl: Duration,
    /// Uses left; 0 is unlimited.
    pub num_uses: i64,
    /// Whether it is being revoked, or has spent its last use.
    pub is_over: bool,
    /// When the look-up was sent: what it shows is at least this fresh.
    pub asked_at: WallTime,
    /// The bytes of `data`. They hold the token itself where it was looked up by that.
    pub data: SecretBytes,
}

impl Upstream {
    /// Looks up a token by its accessor.
    ///
    /// # Errors
    /// [`UpstreamError`]; [`UpstreamError::says_dead`] tells a dead token.
    pub async fn lookup_accessor(
        &self,
        accessor: &Accessor,
        urgency: Option<Urgency>,
    ) -> Result<LookedUp, UpstreamError> {
        let fields = [("accessor", accessor.as_str())];
        let request = Request::fields("auth/token/lookup-accessor", &fields).asking();
        let asked_at = self.local().clock.now().steady;
        let reply = match urgency {
            Some(urgency) => self.ask(&request, urgency).await?,
            None => self.ask_now(&request).await?,
        };
        let shown = reply.shown()?;
        let looked_up = parse(&shown, asked_at)?;
        match &looked_up.accessor {
            Some(found) if found == accessor => Ok(looked_up),
            _ => Err(shown.unexpected("it is of another accessor")),
        }
    }

    /// Looks up a token that was seen, with Holdover's own: this spends none of its uses.
    ///
    /// # Errors
    /// As [`Upstream::lookup_accessor`].
    pub async fn lookup_token(&self, token: &SecretText) -> Result<LookedUp, UpstreamError> {
        let request = Request::fields("auth/token/lookup", &[("token", token.expose())]);
        let request = request.asking();
        let asked_at = self.local().clock.now().steady;
        let shown = self.ask(&request, Urgency::Mirror).await?.shown()?;
        match *shown.data::<NamedToken>()?.id == **token.expose() {
            true => parse(&shown, asked_at),
            false => Err(shown.unexpected("it is of another token")),
        }
    }

    /// Looks up `token` with itself.
    ///
    /// # Errors
    /// As [`Upstream::lookup_accessor`]; a 403 says that it is dead or may not look itself up.
    pub async fn lookup_self(&self, token: &SecretText) -> Result<LookedUp, UpstreamError> {
        self.turn(Urgency::Authority).await;
        let request = Request::read("auth/token/lookup-self");
        let asked_at = self.local().clock.now().steady;
        let shown = self.send(&request, Some(token)).await?.shown()?;
        parse(&shown, asked_at)
    }

    /// Looks up Holdover's own token with itself, and takes in what that says of its credential.
    ///
    /// # Errors
    /// As [`Upstream::lookup_self`].
    pub(super) async fn lookup_own(&self, token: &SecretText) -> Result<LookedUp, UpstreamError> {
        self.turn(Urgency::Authority).await;
        let request = Request::read("auth/token/lookup-self");
        let asked_at = self.local().clock.now().steady;
        let reply = self.send(&request, Some(token)).await?;
        let told = reply.tells_of_token();
        let _ = self.tell_own(CredentialAsked::Token, told);
        let looked_up = parse(&reply.shown()?, asked_at)?;
        if told == CredentialTold::Accepted {
            self.local().primary_seen(false);
        }
        Ok(looked_up)
    }
}

/// Which token a look-up by the token shows.
#[derive(Deserialize)]
struct NamedToken {
    id: Zeroizing<String>,
}

fn parse(answer: &ShownReply, asked_at: WallTime) -> Result<LookedUp, UpstreamError> {
    let data = answer.object()?;
    let shown: ShownToken = answer.part(data)?;
    // The moment that is shown is of the primary's clock, and ours may stand ahead of it for good: what is left of it does not
    // ask either.
    let expires = match shown.expire_time.as_deref() {
        None => None,
        Some(text) if WallTime::parse_rfc3339(text).is_some() => Some(asked_at.plus(shown.ttl())),
        Some(_) => return Err(answer.unexpected("expire_time is not a time")),
    };
    Ok(LookedUp {
        accessor: Accessor::parse(&shown.accessor).ok(),
        expires,
        ttl: shown.ttl(),
        num_uses: shown.num_uses,
        is_over: shown.is_over(),
        asked_at,
        data: SecretBytes::filled(|bytes| bytes.extend_from_slice(data.get().as_bytes())),
        facts: shown.facts(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Reply;

    const DATA: &str = r#"{"accessor":"4buhCDW3m45nPZhnF13OJoTe","creation_time":1795348322,"creation_ttl":3600,
        "display_name":"token","entity_id":"","expire_time":"2026-11-22T12:52:02.944639574Z","explicit_max_ttl":0,
        "id":"","issue_time":"2026-11-22T11:52:02.944650049Z","meta":null,"num_uses":0,"orphan":false,
        "path":"auth/token/create","policies":["app","default"],"renewable":true,"ttl":3599,"type":"service"}"#;

    fn looked_up(data: &str) -> Result<LookedUp, UpstreamError> {
        let body = format!(
            r#"{{"request_id":"r","lease_id":"","renewable":false,"lease_duration":0,"data":{data},
            "wrap_info":null,"warnings":null,"auth":null}}"#
        );
        let reply = Reply::new(200, "p".into(), Zeroizing::new(body.into_bytes()));
        parse(&reply.shown()?, WallTime::EPOCH)
    }

    #[test]
    fn a_look_up_by_accessor_shows_everything_but_the_token() {
        let token = looked_up(DATA).unwrap();
        assert_eq!(token.facts.policies.len(), 2);
        assert_eq!(token.facts.entity_id, None);
        assert_eq!(
            token.expires,
            Some(WallTime::EPOCH.plus(token.ttl)),
            "by our clock"
        );
        assert_eq!(token.ttl, Duration::from_secs(3599));
    }

    #[test]
    fn an_end_that_cannot_be_read_or_is_missing_is_not_taken_for_none() {
        let end = r#""2026-11-22T12:52:02.944639574Z""#;
        assert!(looked_up(&DATA.replace(end, "\"soon\"")).is_err());
        assert!(looked_up(&DATA.replace("expire_time", "expires")).is_err());
        let never = looked_up(&DATA.replace(end, "null")).unwrap();
        assert_eq!(never.expires, None);
    }
}
