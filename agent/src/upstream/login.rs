//! Where Holdover's own token comes from: a file that something else writes, or a login by AppRole, by a client
//! certificate, by a signed token, or by a Kubernetes service account.

use std::{path::Path, time::Duration};

use shared::{
    name::Accessor,
    offboarding::{CredentialAsked, CredentialTold},
    secret::SecretText,
};

use super::{Request, Upstream, UpstreamError, pace::Urgency};
use crate::{
    config::AuthMethod,
    file::{self, FileError},
    link::files::TlsFault,
};

/// A token got by logging in.
pub(super) struct LoggedIn {
    pub(super) token: SecretText,
    pub(super) accessor: Accessor,
    /// What the login gave it.
    pub(super) ttl: Duration,
    pub(super) renewable: bool,
}

/// Why Holdover has no token of its own.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The client certificate cannot be shown.
    #[error("the client certificate cannot be used: {0}")]
    Certificate(String),
    /// A file of the method cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The token that a login gives ends after some uses.
    #[error("the login gives tokens of limited uses (token_num_uses)")]
    LimitedUse,
    /// The primary did not answer the login, or refused it.
    #[error("{path}: {error}")]
    Login {
        /// The path asked.
        path: String,
        /// What came of it.
        error: UpstreamError,
    },
    /// The primary did not answer what was asked about a token, or refused it.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

impl LoginError {
    /// Whether nobody knows what came of it: it may have spent a use of the credential.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.upstream(), Some(UpstreamError::Unknown(_)))
    }

    /// Whether the primary said no, rather than nothing.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self.upstream(), Some(UpstreamError::Decision(_)))
    }

    /// Whether nothing but an answer that counts was wanting, and nothing was spent.
    pub(super) fn wants_answer(&self) -> bool {
        self.upstream().is_some_and(|error| match error {
            UpstreamError::Unavailable(_)
            | UpstreamError::NotCurrent
            | UpstreamError::SlowDown { .. }
            | UpstreamError::Undecided { .. } => true,
            UpstreamError::Decision(_)
            | UpstreamError::ForeignCluster(_)
            | UpstreamError::Malformed { .. }
            | UpstreamError::NoCredential
            | UpstreamError::Offboarded(_)
            | UpstreamError::Unknown(_) => false,
        })
    }

    fn upstream(&self) -> Option<&UpstreamError> {
        match self {
            Self::Login { error, .. } | Self::Upstream(error) => Some(error),
            Self::Certificate(_) | Self::File(_) | Self::LimitedUse => None,
        }
    }
}

/// The fields of a login.
pub(super) type Proof = Vec<(&'static str, SecretText)>;

fn field(name: &'static str, text: &str) -> (&'static str, SecretText) {
    (name, SecretText::filled(|field| field.push_str(text)))
}

impl Upstream {
    /// Logs in anew; `None` where tokens come from a file.
    pub(super) async fn log_in(&self) -> Option<Result<LoggedIn, LoginError>> {
        match self.proof().await {
            Ok(None) => None,
            Ok(Some(proof)) => Some(self.log_in_with(&proof).await),
            Err(error) => Some(Err(error)),
        }
    }

    /// Where Holdover logs in.
    pub(super) fn login_path(&self) -> String {
        let mount = self.0.auth.mount.trim_matches('/');
        format!("auth/{mount}/login")
    }

    /// What it is made from. Every file of the method is read now, because projected tokens rotate; what is wrong with one is
    /// told before anything is sent.
    async fn proof(&self) -> Result<Option<Proof>, LoginError> {
        let method = &self.0.auth.method;
        match method {
            AuthMethod::TokenFile { .. } => return Ok(None),
            // What proves it is the certificate of the connection.
            AuthMethod::Cert { .. } => {
                self.link().reload_files().await;
                if let Some(TlsFault::Never(reason)) = self.link().unidentified() {
                    return Err(LoginError::Certificate(reason));
                }
            }
            _ => {}
        }
        Ok(Some(self.read_proof().await?))
    }

    /// What a login by the method is made from, but for a certificate.
    pub(super) async fn read_proof(&self) -> Result<Proof, FileError> {
        let of_file = async |name, path: &Path| {
            let credential = self.look(path, file::read_credential).await??;
            Ok((name, credential))
        };
        match &self.0.auth.method {
            AuthMethod::AppRole {
                role_id_file,
                secret_id_file,
            } => Ok(vec![
                of_file("role_id", role_id_file).await?,
                of_file("secret_id", secret_id_file).await?,
            ]),
            AuthMethod::Cert { name, .. } => {
                Ok(name.iter().map(|name| field("name", name)).collect())
            }
            AuthMethod::Jwt { role, jwt_file } => {
                let role = role.iter().map(|role| field("role", role));
                Ok(role.chain([of_file("jwt", jwt_file).await?]).collect())
            }
            AuthMethod::Kubernetes { role, jwt_file } => {
                Ok(vec![field("role", role), of_file("jwt", jwt_file).await?])
            }
            AuthMethod::TokenFile { .. } => Ok(Vec::new()),
        }
    }

    /// What comes of `look` at one of the files of the method.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        path: &Path,
        look: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Result<T, FileError> {
        let looked_at = path.to_owned();
        self.0.files.look(path, move || look(&looked_at)).await
    }

    async fn log_in_with(&self, proof: &[(&str, SecretText)]) -> Result<LoggedIn, LoginError> {
        let fields: Vec<_> = proof
            .iter()
            .map(|(name, text)| (*name, &**text.expose()))
            .collect();
        let path = self.login_path();
        let request = Request::fields(path.clone(), &fields);
        self.turn(Urgency::Authority).await;
        let failed = |error| LoginError::Login {
            path: path.clone(),
            error,
        };
        let reply = self.send(&request, None).await.map_err(failed)?;
        let told = reply.tells_of_login();
        if told != CredentialTold::Accepted {
            let _ = self.tell_own(CredentialAsked::Login, told);
        }
        let is_current = reply.provenance().as_of.is_some();
        let shown = reply.shown().map_err(failed)?;
        let auth = shown.auth().map_err(failed)?;
        if auth.num_uses != 0 {
            return Err(LoginError::LimitedUse);
        }
        let accessor = Accessor::parse(&auth.accessor)
            .map_err(|_| failed(shown.unexpected("a token without an accessor")))?;
        if is_current {
            self.local().primary_seen(false);
        }
        Ok(LoggedIn {
            token: SecretText::filled(|text| text.push_str(&auth.client_token)),
            accessor,
            ttl: Duration::from_secs(auth.lease_duration),
            renewable: auth.renewable,
        })
    }
}
