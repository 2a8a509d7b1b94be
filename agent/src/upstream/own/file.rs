//! Tokens of Holdover's own that something else puts into a file.

use std::path::PathBuf;

use shared::{
    change::{Change, CredentialName},
    offboarding::{CredentialAsked, CredentialTold},
    secret::SecretText,
};

use super::{KeepError, Keeper, credential};
use crate::{link::tls::Stamp, upstream::login};

/// A file that something else puts tokens into.
pub(super) struct TokenFile {
    pub(super) path: PathBuf,
    /// How it looked when the primary last said what it thinks of its token.
    pub(super) judged: Option<Stamp>,
}

impl Keeper {
    /// Takes up the token in the file if it is another than the one in use, once the primary knows it. With a token
    /// in hand, a file that is not there, or holds one that is refused, is no reason to stop.
    pub(super) async fn adopt_file(&mut self) -> Result<(), KeepError> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let (path, stamp) = (file.path.clone(), Stamp::of(&file.path));
        if file.judged == Some(stamp) {
            return Ok(());
        }
        let own = self.upstream.own_token();
        let mut holds_another = false;
        let taken_up = match login::read_credential(&path) {
            Ok(token)
                if own
                    .as_ref()
                    .is_some_and(|own| own.expose() == token.expose()) =>
            {
                Ok(())
            }
            Ok(token) => {
                let adopted = self.adopt(&path.display().to_string(), token).await;
                holds_another = adopted.is_err();
                adopted
            }
            Err(error) => Err(error.into()),
        };
        let judged = matches!(&taken_up, Ok(()) | Err(KeepError::FileRefused(_)));
        if let Some(file) = self.file.as_mut().filter(|_| judged) {
            file.judged = Some(stamp);
        }
        let error = taken_up.as_ref().err().map(ToString::to_string);
        self.upstream.own().file(error, holds_another);
        match taken_up {
            Err(error) if own.is_some() => {
                tracing::warn!(%error, "the token in use stays");
                Ok(())
            }
            taken_up => taken_up,
        }
    }

    async fn adopt(&mut self, path: &str, token: SecretText) -> Result<(), KeepError> {
        let looked_up = match self.upstream.lookup_self(&token).await {
            Ok(looked_up) => looked_up,
            Err(error) if error.is_denial() => {
                return Err(KeepError::FileRefused(path.to_owned()));
            }
            Err(error) => return Err(error.into()),
        };
        let Some(accessor) = looked_up.accessor.clone() else {
            return Err(KeepError::FileRefused(path.to_owned()));
        };
        let life = self.life_of(&looked_up);
        // It is in use from now on, however old it is: leases held under another are told by that.
        let credential = credential(token, accessor, &life, self.now());
        let _ = self
            .upstream
            .tell_own(CredentialAsked::Token, CredentialTold::Accepted);
        self.upstream.own().accepted();
        let mut changes = vec![Change::Credential(CredentialName::Own, credential)];
        changes.extend(self.given_back());
        self.store(changes).await?;
        tracing::info!("took up the token in {path}");
        self.life = Some(life);
        Ok(())
    }
}
