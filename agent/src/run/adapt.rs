//! What one room needs of another, in the form in which it asks for it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use shared::{name::WorkloadName, secret::SecretBytes, settings::Settings, workload::PeerId};

use crate::{
    admin::{self, SyncError},
    link::files::TlsFault,
    local::Pending,
    mirror::{Mirrors, Occasion},
    parity::compare::{Refresh, Wanted},
    serve::login::{MintedLogin, Minter},
    status::MirrorStatus,
    upstream::{
        Upstream, UpstreamError, own::OwnSnapshot, policy::PolicyRule, rights::MissingRight,
        workload::MintError,
    },
};

impl Minter for Upstream {
    fn ready(&self) -> Pending<'_, Result<(), UpstreamError>> {
        Box::pin(self.until_token())
    }

    fn first_standing<'a>(&'a self, workload: &'a WorkloadName) -> Pending<'a, ()> {
        Box::pin(self.until_standing(workload))
    }

    fn mint<'a>(
        &'a self,
        workload: &'a WorkloadName,
        _peer: &'a PeerId,
    ) -> Pending<'a, Result<MintedLogin, MintError>> {
        Box::pin(async move {
            let mut minted = self.mint_for_login(workload).await?;
            let body = SecretBytes::new(std::mem::take(&mut *minted.envelope));
            Ok(MintedLogin { body })
        })
    }
}

impl admin::OwnControl for Upstream {
    fn token(&self) -> OwnSnapshot {
        self.own().snapshot()
    }

    fn untrusted(&self) -> Option<TlsFault> {
        self.link().untrusted()
    }

    fn unidentified(&self) -> Option<TlsFault> {
        self.link().unidentified()
    }

    fn missing(&self, settings: &Settings) -> Vec<MissingRight> {
        self.rights().missing(settings)
    }

    fn missing_rules(&self) -> Pending<'_, Result<Vec<PolicyRule>, UpstreamError>> {
        Box::pin(Upstream::missing_rules(self))
    }
}

/// How the mirrors stand, for the admin API.
pub(super) struct MirrorStatuses {
    mirrors: Arc<ArcSwap<Mirrors>>,
}

impl MirrorStatuses {
    pub(super) fn new(mirrors: Arc<ArcSwap<Mirrors>>) -> Self {
        Self { mirrors }
    }
}

impl admin::MirrorControl for MirrorStatuses {
    fn statuses(&self) -> Vec<MirrorStatus> {
        self.mirrors.load().statuses()
    }

    fn failures(&self, workload: &WorkloadName) -> Vec<String> {
        self.mirrors.load().failures(workload)
    }

    fn unread(&self) -> Vec<String> {
        self.mirrors.load().unread()
    }

    fn sync<'a>(&'a self, path: Option<&'a str>) -> Pending<'a, Result<(), SyncError>> {
        Box::pin(async move {
            let mirrors = self.mirrors.load_full();
            let configured = mirrors.configured().map(|one| one.path.configured());
            let wanted: Vec<_> = configured
                .filter(|one| path.is_none_or(|path| path == one))
                .collect();
            if let (Some(path), true) = (path, wanted.is_empty()) {
                return Err(SyncError::Unknown(path.to_owned()));
            }
            // What is wrong with one of them is no reason to leave the others.
            let mut failed = None;
            for path in wanted {
                let synced = mirrors.sync_now(&path, Occasion::Operator).await;
                let error = synced.map_err(|error| SyncError::Failed(error.to_string()));
                failed = failed.or(error.err());
            }
            failed.map_or(Ok(()), Err)
        })
    }
}

/// The mirrors of the configuration in force, which are asked anew for what decisions go by.
pub(super) struct LiveMirrors(pub(super) Arc<ArcSwap<Mirrors>>);

impl Refresh for LiveMirrors {
    fn refresh(&self, wanted: Wanted) -> Pending<'_, bool> {
        Box::pin(async move {
            let mirrors = self.0.load_full();
            let asked = mirrors
                .ask_anew(&wanted.tokens, &wanted.entities, wanted.authority)
                .await;
            if let Err(error) = &asked {
                tracing::debug!(%error, "what a decision went by could not be asked for");
            }
            asked.is_ok()
        })
    }
}
