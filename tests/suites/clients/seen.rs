//! What one client saw with one token in one state, and what must be true of it.

use std::fmt;

use harness::Result;
use harness::host::Host;
use serde::Deserialize;

/// Who is in charge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// The primary.
    Following,
    /// The replica.
    Outage,
}

/// The token of a round.
pub(crate) struct Token {
    origin: &'static str,
    text: Option<String>,
    renewable: bool,
}

impl Token {
    /// Given to the client as `BAO_TOKEN`.
    pub(crate) fn given(origin: &'static str, text: &str) -> Token {
        Token {
            origin,
            text: Some(text.to_owned()),
            renewable: true,
        }
    }

    /// None: the workload's own stands in.
    pub(crate) fn none() -> Token {
        Token {
            origin: "no token",
            text: None,
            renewable: true,
        }
    }

    /// The same string after the outage: it stands for a token of the primary, which cannot be renewed.
    pub(crate) fn exchanged(self) -> Token {
        Token {
            origin: "from a login in the outage, exchanged",
            renewable: false,
            ..self
        }
    }

    /// As the client is given it.
    pub(crate) fn text(&self) -> Option<&str> {
        self.text.as_deref()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.origin)
    }
}

/// What a client saw.
#[derive(Debug, Deserialize)]
pub(crate) struct Seen {
    /// `password` of the first secret of orders.
    pub(crate) password: String,
    /// The entries of the warnings of that read.
    pub(crate) warnings: Vec<String>,
    /// The names of orders' secrets.
    pub(crate) keys: Vec<String>,
    /// A login at the database, and its lease.
    pub(crate) username: String,
    pub(crate) database_password: String,
    pub(crate) lease_id: String,
    pub(crate) lease_duration: u64,
    /// The token, as a look-up shows it.
    pub(crate) id: String,
    pub(crate) policies: Vec<String>,
    pub(crate) ttl: u64,
    /// The TTL after renewal; none if it was refused as not renewable.
    pub(crate) renewed: Option<u64>,
    /// Capabilities on a secret of orders, and on one of billing.
    pub(crate) capabilities: Vec<String>,
    pub(crate) foreign: Vec<String>,
}

impl Seen {
    /// Fails the test unless it is what the primary would have shown.
    pub(crate) async fn judge(&self, host: &Host, token: &Token, state: State) -> Result<()> {
        let round = format!("{token}, {state:?}: {self:?}");
        let (_, password) = host.secret("orders")?;
        assert_eq!(self.password, password, "{round}");
        assert_eq!(self.keys, listed(host), "{round}");
        assert!(!self.lease_id.is_empty(), "{round}");
        assert!((1..=600).contains(&self.lease_duration), "{round}");
        let postgres = host.postgres()?;
        assert!(
            postgres
                .can_login(&self.username, &self.database_password)
                .await?,
            "{round}"
        );
        assert_eq!(self.policies, ["default", "orders"], "{round}");
        assert!(self.ttl > 0, "{round}");
        match token.renewable {
            true => assert!(self.renewed.is_some_and(|ttl| ttl > 0), "{round}"),
            false => assert_eq!(self.renewed, None, "{round}"),
        }
        assert_eq!(self.capabilities, ["read"], "{round}");
        assert_eq!(self.foreign, ["deny"], "{round}");
        // The standing token shows itself to nobody; any other is shown as it was sent.
        assert_eq!(self.id, token.text().unwrap_or_default(), "{round}");
        match state {
            State::Following => assert!(self.warnings.is_empty(), "{round}"),
            State::Outage => assert_eq!(self.warnings.len(), 1, "{round}"),
        }
        Ok(())
    }
}

fn listed(host: &Host) -> Vec<String> {
    host.world
        .below("orders")
        .filter_map(|secret| secret.path.rsplit('/').next())
        .map(str::to_owned)
        .collect()
}
