//! Reads of mirrored values with Holdover's own token, several at the same time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use shared::{name::RequestPath, secret::SecretBytes};
use tokio::task::JoinSet;

use super::{PassError, context::MirrorContext};
use crate::upstream::{Reply, Request, Said, UpstreamError, pace::Urgency};

/// Reads at the same time.
const CONCURRENCY: usize = 8;

/// Reads values for one pass. Cheap to clone.
#[derive(Clone)]
pub(super) struct Reader {
    pub(super) context: Arc<MirrorContext>,
    pub(super) urgency: Urgency,
    /// Whether this pass has proven that Holdover's token is good.
    proven: Arc<AtomicBool>,
}

impl Reader {
    pub(super) fn new(context: &Arc<MirrorContext>, urgency: Urgency) -> Self {
        Self {
            context: Arc::clone(context),
            urgency,
            proven: Arc::default(),
        }
    }

    pub(super) async fn ask(&self, request: &Request) -> Result<Reply, UpstreamError> {
        self.context.upstream.ask(request, self.urgency).await
    }

    /// Whether a key that is not listed any more is gone: its read says 404, or 403 while Holdover's token is good. `fits`
    /// says whether another answer is what the path shows of a key that is there.
    ///
    /// # Errors
    /// If the primary did not say.
    pub(super) async fn is_gone(
        &self,
        path: &RequestPath,
        fits: impl Fn(&Said) -> Result<(), UpstreamError>,
    ) -> Result<bool, UpstreamError> {
        match self.ask(&Request::read(path.as_str())).await?.said()? {
            Said::Missing(_) => Ok(true),
            Said::No(no) if no.is_denial() && self.prove_own_token().await? => Ok(true),
            said => fits(&said).map(|()| false),
        }
    }

    /// Whether a 403 is about the path rather than about Holdover's token. Asked once in a pass.
    pub(super) async fn prove_own_token(&self) -> Result<bool, UpstreamError> {
        if self.proven.load(Ordering::Acquire) {
            return Ok(true);
        }
        let Some(token) = self.context.upstream.own_token() else {
            return Ok(false);
        };
        self.context.upstream.lookup_self(&token).await?;
        self.proven.store(true, Ordering::Release);
        Ok(true)
    }
}

/// Runs several reads at a time; starts no more after the first error, which ends the pass.
pub(super) async fn several<T: Send + 'static>(
    reads: impl Iterator<Item = impl Future<Output = Result<T, UpstreamError>> + Send + 'static>,
) -> (Vec<T>, Option<PassError>) {
    let (mut running, mut done, mut cut_off) = (JoinSet::new(), Vec::new(), None);
    let mut waiting = reads;
    loop {
        while running.len() < CONCURRENCY
            && cut_off.is_none()
            && let Some(read) = waiting.next()
        {
            running.spawn(read);
        }
        match running.join_next().await {
            None => return (done, cut_off),
            Some(Ok(Ok(read))) => done.push(read),
            Some(Ok(Err(error))) => cut_off = Some(error.into()),
            Some(Err(_)) => cut_off = Some(PassError::CutOff),
        }
    }
}

/// Errors after which nothing else of a pass is worth asking.
pub(super) fn is_cut_off(error: &UpstreamError) -> bool {
    !matches!(
        error,
        UpstreamError::Decision { .. }
            | UpstreamError::Undecided { .. }
            | UpstreamError::Malformed { .. }
    )
}

/// A copy of secret text that is wiped.
pub(super) fn bytes(text: &str) -> SecretBytes {
    SecretBytes::filled(|bytes| bytes.extend_from_slice(text.as_bytes()))
}
