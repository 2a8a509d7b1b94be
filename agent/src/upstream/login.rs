//! Where Holdover's own token comes from: a file that something else writes, or a login by AppRole, by a client
//! certificate, by a signed token, or by a Kubernetes service account.

use std::{path::Path, time::Duration};

use shared::{
    name::Accessor,
    offboarding::{CredentialAsked, CredentialTold},
    secret::SecretText,
};
use zeroize::Zeroizing;

use super::{Request, Upstream, UpstreamError, pace::Urgency};
use crate::config::{self, AuthMethod};

/// The longest credential file that is read, in bytes.
const LONGEST: u64 = 16 * 1024;

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
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
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

    fn upstream(&self) -> Option<&UpstreamError> {
        match self {
            Self::Login { error, .. } | Self::Upstream(error) => Some(error),
            Self::Certificate(_) | Self::File { .. } | Self::LimitedUse => None,
        }
    }
}

/// The text of a credential file, without the space around it.
///
/// # Errors
/// If it cannot be read, is empty, or is too long to be one.
pub(super) fn read_credential(path: &Path) -> Result<SecretText, LoginError> {
    let failed = |reason: String| LoginError::File {
        path: path.display().to_string(),
        reason,
    };
    let mut text = Zeroizing::new(String::new());
    config::read_bounded(path, LONGEST, &mut text).map_err(|error| failed(error.to_string()))?;
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(failed("is empty".to_owned()));
    }
    Ok(SecretText::filled(|secret| secret.push_str(trimmed)))
}

impl Upstream {
    /// Logs in anew; `None` where tokens come from a file.
    pub(super) async fn log_in(&self) -> Option<Result<LoggedIn, LoginError>> {
        match self.proof() {
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

    /// The fields of a login. Every file of the method is read now, because projected tokens rotate.
    fn proof(&self) -> Result<Option<Vec<(&'static str, SecretText)>>, LoginError> {
        let field = |name, text: &str| (name, SecretText::filled(|field| field.push_str(text)));
        Ok(Some(match &self.0.auth.method {
            AuthMethod::AppRole {
                role_id_file,
                secret_id_file,
            } => vec![
                ("role_id", read_credential(role_id_file)?),
                ("secret_id", read_credential(secret_id_file)?),
            ],
            // What proves it is the certificate of the connection.
            AuthMethod::Cert { name, .. } => {
                self.link().reload_files();
                if let Some(reason) = self.link().unidentified() {
                    return Err(LoginError::Certificate(reason));
                }
                name.iter().map(|name| field("name", name)).collect()
            }
            AuthMethod::Jwt { role, jwt_file } => {
                let role = role.iter().map(|role| field("role", role));
                role.chain([("jwt", read_credential(jwt_file)?)]).collect()
            }
            AuthMethod::Kubernetes { role, jwt_file } => {
                vec![field("role", role), ("jwt", read_credential(jwt_file)?)]
            }
            AuthMethod::TokenFile { .. } => return Ok(None),
        }))
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
        let shown = reply.shown().map_err(failed)?;
        let auth = shown.auth().map_err(failed)?;
        if auth.num_uses != 0 {
            return Err(LoginError::LimitedUse);
        }
        let accessor = Accessor::parse(&auth.accessor)
            .map_err(|_| failed(shown.unexpected("a token without an accessor")))?;
        Ok(LoggedIn {
            token: SecretText::filled(|text| text.push_str(&auth.client_token)),
            accessor,
            ttl: Duration::from_secs(auth.lease_duration),
            renewable: auth.renewable,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_the_text_without_the_space_around_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret_id");
        std::fs::write(&path, " abc\n").unwrap();
        assert_eq!(read_credential(&path).ok().unwrap().expose(), "abc");
    }

    #[test]
    fn what_is_no_credential_is_refused_without_being_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret_id");
        assert!(read_credential(&path).is_err());
        std::fs::write(&path, "\n").unwrap();
        assert!(read_credential(&path).is_err());
        std::fs::write(&path, "s".repeat(20_000)).unwrap();
        let error = read_credential(&path).err().unwrap().to_string();
        assert!(error.ends_with("is longer than 16384 bytes"), "{error}");
    }
}
