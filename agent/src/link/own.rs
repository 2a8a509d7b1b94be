//! Holdover's own requests: asked as current, of the active node first, each answer with where it comes from.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, uri::PathAndQuery};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper_util::client::legacy::connect::capture_connection;
use shared::provenance::{Asked, ClusterShown, Currency, ForeignCluster, Provenance};
use zeroize::Zeroizing;

use super::{
    LineShown, Link, LinkBase, Monitored,
    body::{Arriving, RelayBody},
    error::{Unavailable, Unshown, is_unavailable_status},
    forward::{is_redirect, location, url},
    once::Undone,
    show,
};

/// How often a 307 is followed for one request.
const HOPS: usize = 2;

/// A connection of Holdover's own is made anew after this long: what its node is, is seen again.
const LIFE: Duration = Duration::from_secs(30);

/// A request of Holdover's own.
pub(crate) struct OwnCall {
    pub(crate) method: Method,
    pub(crate) target: PathAndQuery,
    /// With the token, if it needs one.
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Whether it may be sent again after a failure whose outcome is unknown.
    pub(crate) repeatable: bool,
    /// Whether only an answer that is shown to be current is one. What writes is the active node's to answer.
    pub(crate) current: bool,
    /// How long it may take, to the last byte.
    pub(crate) patience: Duration,
    /// The longest body that is read.
    pub(crate) largest: usize,
}

/// An answer, read whole.
pub(crate) struct OwnAnswer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Zeroizing<Vec<u8>>,
    /// The body is longer than what is read, and was left.
    pub(crate) overlong: bool,
    pub(crate) provenance: Provenance,
}

/// Why there is no answer that counts.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OwnFailure {
    /// Nothing was sent, or what answered cannot serve, or is a stranger.
    #[error(transparent)]
    Unshown(#[from] Unshown),
    /// It answers, and nothing shows that it is current.
    #[error("no node answers that can be shown to be current")]
    NotCurrent,
    /// What may not be repeated may have been carried out.
    #[error("{0}; whether it was carried out is unknown")]
    Unknown(Unavailable),
}

/// What came of one address.
enum Attempted {
    Answered(OwnAnswer),
    /// Nothing was done there.
    Unsent(OwnFailure),
    /// It may have been carried out.
    Unknown(OwnFailure),
}

impl Link {
    /// Sends `call` to the active node if there is a way, else to whoever has it answer.
    ///
    /// # Errors
    /// [`OwnFailure`], of the address that tells most.
    pub(crate) async fn call(&self, call: &OwnCall) -> Result<OwnAnswer, OwnFailure> {
        let addresses: Vec<&Monitored> = self.addresses().active_first().collect();
        let mut failure = None;
        let mut refused = None;
        for (nr, at) in addresses.iter().enumerate() {
            // What hangs at one address leaves time for the next.
            let share = u32::try_from(addresses.len() - nr).unwrap_or(1);
            let within = if call.repeatable {
                call.patience / share
            } else {
                call.patience
            };
            match self.call_at(at, call, within).await {
                Attempted::Answered(answer) if call.goes_on_after(&answer) => {
                    refused = Some(answer)
                }
                Attempted::Answered(answer) => return Ok(answer),
                Attempted::Unknown(why) if !call.repeatable => return Err(why.of_unknown_outcome()),
                Attempted::Unsent(why) | Attempted::Unknown(why) => {
                    failure = Some(telling(failure, why));
                }
            }
        }
        match refused {
            Some(answer) => Ok(answer),
            None => Err(failure.unwrap_or_else(|| self.nowhere())),
        }
    }

    async fn call_at(&self, at: &Monitored, call: &OwnCall, within: Duration) -> Attempted {
        let attempted = tokio::time::timeout(within, self.exchange(at, call)).await;
        attempted.unwrap_or_else(|_| {
            // A standby that cannot reach its active node hangs: it is asked last until it was seen to reach it.
            at.showed_current(false);
            Attempted::Unknown(Unavailable::Timeout.into())
        })
    }

    async fn exchange(&self, first: &Monitored, call: &OwnCall) -> Attempted {
        let mut at = first;
        for _ in 0..=HOPS {
            let (answer, asked) = match self.send_own(at, call).await {
                Ok(sent) => sent,
                Err(attempted) => return attempted,
            };
            if !is_redirect(&answer) {
                return self.read(at, call, answer, asked).await;
            }
            at = match location(&answer).and_then(|uri| self.configured(&uri)) {
                Some(next) => next,
                None => {
                    let what = "redirects to an address that is not configured";
                    return Attempted::Unsent(redirected(&answer, what));
                }
            };
        }
        let unavailable = Unavailable::Connect("redirects in circles".to_owned());
        Attempted::Unsent(unavailable.into())
    }

    async fn send_own(
        &self,
        at: &Monitored,
        call: &OwnCall,
    ) -> Result<(Response<Incoming>, Asked), Attempted> {
        let base = &self.0.base;
        let mut request = call.request(at).map_err(Attempted::Unsent)?;
        show::ask_as_current(base, request.headers_mut());
        let captured = capture_connection(&mut request);
        let asked = base.trust.lock().asking(base.now());
        let sent = at.lines().own.request(request);
        match sent.await {
            Ok(answer) => {
                let shown = answer.extensions().get::<LineShown>();
                if shown.is_none_or(|shown| shown.is_older_than(LIFE, base.now()))
                    && let Some(connected) = &*captured.connection_metadata()
                {
                    connected.poison();
                }
                Ok((answer, asked))
            }
            Err(error) if error.is_connect() => Err(Attempted::Unsent(Unshown::of(&error).into())),
            Err(error) => Err(Attempted::Unknown(Unavailable::of(&error).into())),
        }
    }

    async fn read(
        &self,
        at: &Monitored,
        call: &OwnCall,
        answer: Response<Incoming>,
        asked: Asked,
    ) -> Attempted {
        let line = answer.extensions().get::<LineShown>().cloned();
        let mut provenance = self.0.base.weigh(&answer, Some(asked));
        let named = LinkBase::cluster_of(&answer);
        let (parts, body) = answer.into_parts();
        let body = match bounded(Arriving::answer(&parts, body), call.largest).await {
            Ok(body) => body,
            Err(unavailable) => return Attempted::Unknown(unavailable.into()),
        };
        if provenance.cluster == ClusterShown::Unshown
            && let Some(line) = &line
        {
            provenance = self.bracketed(at, line, asked).await;
        }
        match provenance {
            Provenance {
                cluster: ClusterShown::Foreign,
                ..
            } => {
                at.answered_foreign(named);
                return Attempted::Unknown(self.nowhere());
            }
            // A stranger's refusal of Holdover's own login would otherwise be taken for the primary's.
            Provenance {
                cluster: ClusterShown::Unshown,
                ..
            } => return Attempted::Unknown(OwnFailure::NotCurrent),
            Provenance { as_of: None, .. } if call.current => {
                at.showed_current(false);
                return Attempted::Unknown(OwnFailure::NotCurrent);
            }
            _ => {}
        }
        Attempted::Answered(OwnAnswer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            overlong: body.is_none(),
            body: body.unwrap_or_default(),
            provenance,
        })
    }

    /// Behind a balancer that chooses for each request, an answer without an index does not say whose it is. It counts as the
    /// trusted cluster's where that was shown before it, when the connection was made, and is shown again right after it.
    async fn bracketed(&self, at: &Monitored, line: &LineShown, asked: Asked) -> Provenance {
        let current = line.line().currency() != Currency::Never;
        match self.health_at(at, |lines| &lines.own, false).await {
            Ok(_) => Provenance {
                cluster: ClusterShown::Pinned,
                as_of: current.then_some(asked.at()),
            },
            Err(_) => Provenance::UNSHOWN,
        }
    }

    /// Why there is no address to send anything to.
    fn nowhere(&self) -> OwnFailure {
        let pinned = self.pinned();
        let mut snapshots = self.addresses().snapshots().into_iter();
        let found =
            snapshots.find_map(|one| one.cluster.filter(|found| Some(found) != pinned.as_ref()));
        match (pinned, found) {
            (Some(pinned), Some(found)) => ForeignCluster { pinned, found }.into(),
            _ => Unavailable::no_address().into(),
        }
    }
}

impl OwnCall {
    fn request(&self, at: &Monitored) -> Result<Request<RelayBody>, OwnFailure> {
        let uri = url(&at.address, self.target.clone())
            .map_err(|error| Unavailable::Connect(error.to_string()))?;
        let mut request = Request::new(RelayBody::Whole(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        Ok(request)
    }

    /// Whether another address is asked after this answer: nothing was done, or doing it twice changes nothing.
    fn goes_on_after(&self, answer: &OwnAnswer) -> bool {
        let failed = answer.status == 500 || is_unavailable_status(answer.status);
        failed && (self.repeatable || Undone::said(answer.status, &answer.body).is_some())
    }
}

impl OwnFailure {
    /// The same, of a request that was sent and may not be sent again.
    fn of_unknown_outcome(self) -> Self {
        Self::Unknown(match self {
            Self::Unshown(unshown) => unshown.into_unavailable(),
            other => Unavailable::Connect(other.to_string()),
        })
    }
}

impl From<Unavailable> for OwnFailure {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unshown(unavailable.into())
    }
}

impl From<ForeignCluster> for OwnFailure {
    fn from(foreign: ForeignCluster) -> Self {
        Self::Unshown(foreign.into())
    }
}

/// What is said of another cluster, or of a node that is behind, outlasts what is said of addresses that do not answer.
fn telling(before: Option<OwnFailure>, now: OwnFailure) -> OwnFailure {
    match before {
        Some(before) if matches!(now, OwnFailure::Unshown(Unshown::Unavailable(_))) => before,
        _ => now,
    }
}

fn redirected<B>(answer: &Response<B>, what: &str) -> OwnFailure {
    let detail = what.to_owned();
    let status = answer.status().as_u16();
    Unavailable::Status { status, detail }.into()
}

/// Reads a body of at most `largest` bytes, in memory that is wiped; none of one that is longer.
async fn bounded(
    mut body: Arriving,
    largest: usize,
) -> Result<Option<Zeroizing<Vec<u8>>>, Unavailable> {
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if expected > largest {
        return Ok(None);
    }
    let mut read = Zeroizing::new(Vec::with_capacity(expected));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Unavailable::of(&error))?;
        let chunk = frame.into_data().unwrap_or_default();
        if read.len() + chunk.len() > largest {
            return Ok(None);
        }
        read.extend_from_slice(&chunk);
    }
    Ok(Some(read))
}
