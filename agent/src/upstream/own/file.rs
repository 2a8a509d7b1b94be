//! The files that Holdover's own logins are made from, and tokens that something else puts into one.

use std::{path::PathBuf, time::Duration};

use shared::{
    offboarding::{CredentialAsked, CredentialTold},
    secret::SecretText,
};

use super::{KeepError, Keeper, credential};
use crate::{
    file::{self, FileError, Stamp},
    upstream::login::LoginError,
};

/// How often they are looked at.
pub(super) const FILE_INTERVAL: Duration = Duration::from_secs(1);

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
        let path = file.path.clone();
        let looked = self
            .upstream
            .look(&path, |path| (Stamp::of(path), file::read_credential(path)));
        let (stamp, read) = match looked.await {
            Ok((stamp, read)) => (Some(stamp), read),
            Err(slow) => (None, Err(slow)),
        };
        let judged = self.file.as_ref().and_then(|file| file.judged);
        if stamp.is_some() && judged == stamp {
            return Ok(());
        }
        let own = self.upstream.own_token();
        let mut holds_another = false;
        let taken_up = match read {
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
            Err(error) => Err(LoginError::from(error).into()),
        };
        let judged = matches!(&taken_up, Ok(()) | Err(KeepError::FileRefused(_)));
        if let Some(file) = self.file.as_mut().filter(|_| judged) {
            file.judged = stamp;
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

    /// Other files are worth another login. What is wrong with one is told before another token is needed.
    pub(super) async fn look_at_files(&mut self) {
        let now = match self.stamps_now().await {
            Ok(now) => now,
            Err(slow) => {
                self.hangs = true;
                self.upstream.own().file(Some(slow.to_string()), false);
                return;
            }
        };
        let hung = std::mem::take(&mut self.hangs);
        let before = std::mem::replace(&mut self.stamps, now);
        if !before.is_empty() && before != self.stamps {
            self.refusals = 0;
            self.outdated |= self.bound;
        }
        if self.file.is_none() && (hung || before != self.stamps) {
            let fault = self.upstream.read_proof().await.err();
            self.upstream
                .own()
                .file(fault.map(|fault| fault.to_string()), false);
        }
    }

    /// How the files look now, or which of them hangs.
    async fn stamps_now(&self) -> Result<Vec<Stamp>, FileError> {
        let mut stamps = Vec::new();
        for (_, path) in self.upstream.0.auth.method.files() {
            stamps.push(self.upstream.look(path, Stamp::of).await?);
        }
        Ok(stamps)
    }

    /// Waits until one of the files is another than it was, hangs, or hangs no longer.
    pub(super) async fn files_changed(&self) {
        loop {
            let is_news = match self.stamps_now().await {
                Ok(now) => self.hangs || now != self.stamps,
                Err(_) => !self.hangs,
            };
            if is_news {
                return;
            }
            tokio::time::sleep(FILE_INTERVAL).await;
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
        self.keep_token(credential, None).await;
        tracing::info!("took up the token in {path}");
        self.life = Some(life);
        Ok(())
    }
}
