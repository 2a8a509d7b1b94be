//! A primary by a script: everything is answered by a real one behind it, but for one request, whose answer is spoilt on
//! its way. So its good answers are never other than the primary's.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{self, Poll},
};

use bytes::Bytes;
use harness::{Failure, Result};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full};
use hyper::{
    body::{Body, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// An answer, as far as a script changes it.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) kind: Option<String>,
    pub(super) body: Vec<u8>,
    /// What comes instead of the body, for ever.
    pub(super) endless: Option<Endless>,
}

/// A body without an end.
#[derive(Clone, Debug, Default)]
pub(super) struct Endless {
    /// What its `Content-Length` promises; without it comes in chunks.
    pub(super) promised: Option<u64>,
    /// How many bytes were taken of it.
    pub(super) taken: Arc<AtomicUsize>,
    /// Whether nobody takes any more.
    pub(super) left: Arc<AtomicBool>,
}

/// Somebody takes of it, until this is dropped.
struct Taking(Endless);

impl Body for Taking {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        const PART: &[u8] = &[b' '; 16 << 10];
        self.0.taken.fetch_add(PART.len(), Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(PART)))))
    }
}

impl Drop for Taking {
    fn drop(&mut self) {
        self.0.left.store(true, Ordering::SeqCst);
    }
}

type Sent = Either<Full<Bytes>, Taking>;

type Spoiling = Arc<dyn Fn(Answer) -> Answer + Send + Sync>;

#[derive(Default)]
struct Script {
    spoilt: Option<(Asked, Spoiling)>,
    hits: usize,
    refused: Vec<Asked>,
}

/// A request: its method and its path, without `/v1/` and the query.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Asked {
    pub(super) method: &'static str,
    pub(super) path: String,
}

/// The stand-in. Gone when dropped.
pub(super) struct StandIn {
    port: u16,
    script: Arc<Mutex<Script>>,
    _serving: JoinSet<()>,
}

impl StandIn {
    /// Before the primary at this address.
    pub(super) async fn before(primary: String) -> Result<StandIn> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let script = Arc::<Mutex<Script>>::default();
        let primary = primary.trim_start_matches("http://").to_owned();
        let (mut serving, played) = (JoinSet::new(), script.clone());
        serving.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (primary, script) = (primary.clone(), played.clone());
                let answer = service_fn(move |request| {
                    let (primary, script) = (primary.clone(), script.clone());
                    async move {
                        let answered = answer(request, &primary, &script).await;
                        answered.map_err(|failure| std::io::Error::other(failure.to_string()))
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        Ok(StandIn {
            port,
            script,
            _serving: serving,
        })
    }

    pub(super) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Answers to this request go out as `spoil` makes them.
    pub(super) fn spoil(
        &self,
        asked: &Asked,
        spoil: impl Fn(Answer) -> Answer + Send + Sync + 'static,
    ) {
        let mut script = lock(&self.script);
        script.spoilt = Some((asked.clone(), Arc::new(spoil)));
        script.hits = 0;
    }

    /// Nothing is spoilt any longer. How many answers were.
    pub(super) fn be_good(&self) -> usize {
        let mut script = lock(&self.script);
        script.spoilt = None;
        script.hits
    }

    /// The primary knows no such operation, as older ones do not.
    pub(super) fn refuse(&self, asked: Asked) {
        lock(&self.script).refused.push(asked);
    }
}

async fn answer(
    request: Request<Incoming>,
    primary: &str,
    script: &Mutex<Script>,
) -> Result<Response<Sent>> {
    let method = request.method().clone();
    let path = request.uri().path().trim_start_matches("/v1/").to_owned();
    let is_asked = |asked: &Asked| method.as_str() == asked.method && path == asked.path;
    if lock(script).refused.iter().any(is_asked) {
        let refusal = Answer {
            status: 405,
            kind: Some("application/json".to_owned()),
            body: br#"{"errors":[]}"#.to_vec(),
            endless: None,
        };
        return Ok(response(HeaderMap::new(), refusal));
    }
    let (headers, mut answer) = ask(request, primary).await?;
    let spoilt = {
        let mut script = lock(script);
        let spoilt = script.spoilt.clone().filter(|(asked, _)| is_asked(asked));
        script.hits += usize::from(spoilt.is_some());
        spoilt
    };
    if let Some((_, spoil)) = spoilt {
        answer = spoil(answer);
    }
    Ok(response(headers, answer))
}

/// The primary's own answer.
async fn ask(request: Request<Incoming>, primary: &str) -> Result<(HeaderMap, Answer)> {
    let stream = TokioIo::new(TcpStream::connect(primary).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let answered = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let kind = parts.headers.get(header::CONTENT_TYPE);
        let answer = Answer {
            status: parts.status.as_u16(),
            kind: kind.and_then(|kind| kind.to_str().ok()).map(str::to_owned),
            body: body.collect().await?.to_bytes().to_vec(),
            endless: None,
        };
        Ok((parts.headers, answer))
    };
    tokio::select! {
        biased;
        answered = answered => answered,
        ended = connection => Err(Failure::new(format!("the primary's connection ended: {ended:?}"))),
    }
}

/// With the primary's own headers, so that nothing but the script makes a difference.
fn response(mut headers: HeaderMap, answer: Answer) -> Response<Sent> {
    for changed in [
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::TRANSFER_ENCODING,
    ] {
        headers.remove(changed);
    }
    if let Some(kind) = answer.kind {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(&kind).unwrap());
    }
    if answer.status == 302 {
        let elsewhere = HeaderValue::from_static("https://elsewhere.test/login");
        headers.insert(header::LOCATION, elsewhere);
    }
    let promised = answer.endless.as_ref().and_then(|endless| endless.promised);
    if let Some(promised) = promised {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(promised));
    }
    let mut response = Response::new(match answer.endless {
        None => Either::Left(Full::from(answer.body)),
        Some(endless) => Either::Right(Taking(endless)),
    });
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap();
    *response.headers_mut() = headers;
    response
}

fn lock(script: &Mutex<Script>) -> MutexGuard<'_, Script> {
    script.lock().unwrap_or_else(PoisonError::into_inner)
}
