//! What a fresh connection shows before it comes into use: whose cluster answers, what the node is there, and whether it
//! honours an index that it has not reached. All by `sys/health`, which needs no credential and is not audited.

use std::{future::poll_fn, io, pin::pin};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Version, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
    rt::{Read, Write},
};
use shared::provenance::{Health, IndexForm, NodeSeen};

use super::{FORWARD_ACTIVE, INCONSISTENT, INDEX, LinkBase, error::Unshown};
use crate::link::error::Unavailable;

/// The largest answer to `sys/health` that is read.
const LARGEST_HEALTH: usize = 64 * 1024;

/// The target of a request for a node's health.
pub(crate) const HEALTH: &str = "/v1/sys/health";

/// How often a question for a standby is asked where an active node answers it.
const TRIES_FOR_STANDBY: u32 = 3;

/// How a standby is asked whether it has come as far as an index.
const FAIL: HeaderValue = HeaderValue::from_static("fail");

/// What one connection showed, and whether two of its answers came from different nodes.
pub(crate) struct Showing {
    pub(crate) node: NodeSeen,
    pub(crate) honours: bool,
    pub(crate) several: bool,
}

/// Asks over `io`, and gives it back for use.
///
/// # Errors
/// If it is another cluster's, or a node that cannot serve, or the connection ends.
pub(crate) async fn show<T>(
    base: &LinkBase,
    host: &HeaderValue,
    thorough: bool,
    io: T,
) -> Result<(T, Showing), Unshown>
where
    T: Read + Write + Unpin + Send + 'static,
{
    let (sender, mut connection) = http1::Builder::new()
        .title_case_headers(true)
        .handshake::<_, Empty<Bytes>>(io)
        .await?;
    let shown = {
        let mut asking = pin!(Asking { base, host, sender }.all(thorough));
        tokio::select! {
            biased;
            shown = &mut asking => shown?,
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => {
                ended?;
                return Err(Unshown::closed());
            }
        }
    };
    let parts = connection.into_parts();
    if !parts.read_buf.is_empty() {
        return Err(Unavailable::Connect("more came than was asked for".to_owned()).into());
    }
    Ok((parts.io, shown))
}

struct Asking<'a> {
    base: &'a LinkBase,
    host: &'a HeaderValue,
    sender: SendRequest<Empty<Bytes>>,
}

impl Asking<'_> {
    async fn all(mut self, thorough: bool) -> Result<Showing, Unshown> {
        let node = self.node().await?;
        self.base.trust.lock().recognise(&node.cluster)?;
        if node.is_to_be_tried() {
            let (honours, several) = self.honours().await?;
            return Ok(Showing {
                node,
                honours,
                several,
            });
        }
        let again = match thorough {
            true => Some(self.node().await?),
            false => None,
        };
        let several = again.is_some_and(|again| again.role != node.role);
        Ok(Showing {
            node,
            honours: false,
            several,
        })
    }

    async fn node(&mut self) -> Result<NodeSeen, Unshown> {
        let (status, body) = self.ask(None).await?;
        match Health::read(status, &body) {
            Health::Serves(node) => Ok(node),
            Health::SlowDown => Err(Unshown::SlowDown),
            Health::CannotServe => Err(super::error::unavailable_of(status, &body).into()),
        }
    }

    /// Whether a standby refuses an index beyond any, as one does that goes by it. The form that this cluster counts in is
    /// tried first; a standby that answers as an active node is not the one that was asked before.
    async fn honours(&mut self) -> Result<(bool, bool), Unshown> {
        let (known, cluster) = {
            let trust = self.base.trust.lock();
            (trust.form(), trust.pinned().cloned())
        };
        let Some(cluster) = cluster else {
            return Ok((false, false));
        };
        let forms = match known {
            Some(form) => vec![form],
            None => IndexForm::ALL.to_vec(),
        };
        let mut several = false;
        for form in forms {
            for _ in 0..TRIES_FOR_STANDBY {
                let (status, body) = self.ask(Some((FAIL, form.beyond(&cluster)))).await?;
                match Health::read(status, &body) {
                    Health::SlowDown => {
                        self.base.trust.lock().form_shown(form);
                        return Ok((true, several));
                    }
                    // Another node than the standby that was asked before.
                    Health::Serves(node) if !node.is_to_be_tried() => several = true,
                    Health::Serves(_) | Health::CannotServe => break,
                }
            }
        }
        Ok((false, several))
    }

    async fn ask(&mut self, index: Option<(HeaderValue, String)>) -> Result<(u16, Bytes), Unshown> {
        let mut request = health_request(self.host);
        if let Some((mode, index)) = index
            && let Ok(index) = HeaderValue::from_str(&index)
        {
            request.headers_mut().insert(INCONSISTENT, mode);
            request.headers_mut().insert(INDEX, index);
        }
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        if closes(&answer) {
            return Err(Unshown::closed());
        }
        let status = answer.status().as_u16();
        Ok((status, read_health(answer.into_body()).await?))
    }
}

/// Adds what has the active node answer, where the cluster is known.
pub(crate) fn ask_as_current(base: &LinkBase, headers: &mut http::HeaderMap) {
    let beyond = base.trust.lock().beyond();
    if let Some(Ok(index)) = beyond.map(|index| HeaderValue::from_str(&index)) {
        headers.insert(INDEX, index);
        headers.insert(INCONSISTENT, HeaderValue::from_static(FORWARD_ACTIVE));
    }
}

fn health_request(host: &HeaderValue) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = http::Uri::from_static(HEALTH);
    let headers = request.headers_mut();
    headers.insert(header::HOST, host.clone());
    headers.insert("x-vault-request", HeaderValue::from_static("true"));
    request
}

/// Reads an answer to `sys/health`, which is short.
pub(crate) async fn read_health(body: Incoming) -> Result<Bytes, Unavailable> {
    let read = Limited::new(body, LARGEST_HEALTH).collect().await;
    let read = read.map_err(|error| Unavailable::of(error.as_ref()))?;
    Ok(read.to_bytes())
}

/// Whether the connection ends with this answer, so that nothing else can be sent over what showed itself.
fn closes(answer: &Response<Incoming>) -> bool {
    let says_so = answer
        .headers()
        .get_all(header::CONNECTION)
        .iter()
        .any(|value| {
            let value = value.to_str().unwrap_or_default();
            value
                .split(',')
                .any(|one| one.trim().eq_ignore_ascii_case("close"))
        });
    says_so || answer.version() == Version::HTTP_10
}

impl Unshown {
    fn closed() -> Self {
        Unavailable::Connect(
            "it ends the connection after each answer, so that nothing shows which node the next one would reach; let it keep \
             connections open"
                .to_owned(),
        )
        .into()
    }
}

impl From<hyper::Error> for Unshown {
    fn from(error: hyper::Error) -> Self {
        Unavailable::of(&error).into()
    }
}

impl From<io::Error> for Unshown {
    fn from(error: io::Error) -> Self {
        Unavailable::of(&error).into()
    }
}
