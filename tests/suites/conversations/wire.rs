//! The recording wire: passes requests on to a primary and keeps them, in order, with their answers.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use harness::client::raw::{Ask, Client, Reply};
use harness::port::Port;
use harness::{Context, Result};
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What was said, and what was answered.
type Said = Arc<Mutex<Vec<(Ask, Reply)>>>;

/// The wire. Gone when dropped.
pub(crate) struct RecordingWire {
    port: Port,
    said: Said,
    task: JoinHandle<()>,
}

impl RecordingWire {
    /// Listens on a port of its own for clients of the primary at `target`, `address:port`.
    pub(crate) async fn to(target: &str) -> Result<RecordingWire> {
        let port = Port::reserve()?;
        let listener = TcpListener::bind(("127.0.0.1", port.number()))
            .await
            .context("the wire's listener")?;
        let said = Said::default();
        let task = tokio::spawn(serve(listener, Client::tcp(target), said.clone()));
        Ok(RecordingWire { port, said, task })
    }

    /// Where clients connect to.
    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// What has been said so far.
    pub(crate) fn said(&self) -> Vec<(Ask, Reply)> {
        self.said
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for RecordingWire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, primary: Client, said: Said) {
    while let Ok((stream, _)) = listener.accept().await {
        let (primary, said) = (primary.clone(), said.clone());
        let service = service_fn(move |request| pass(request, primary.clone(), said.clone()));
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        // A client may go at any time.
        tokio::spawn(async move { drop(connection.await) });
    }
}

async fn pass(
    request: Request<Incoming>,
    primary: Client,
    said: Said,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let answer = match exchange(request, &primary).await {
        Ok((ask, reply)) => {
            let mut answer = Response::new(Full::new(reply.body.clone()));
            *answer.status_mut() = StatusCode::from_u16(reply.status).unwrap_or_default();
            *answer.headers_mut() = reply.headers.clone();
            answer.headers_mut().remove(TRANSFER_ENCODING);
            said.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((ask, reply));
            answer
        }
        Err(failure) => {
            let mut answer = Response::new(Full::new(failure.to_string().into()));
            *answer.status_mut() = StatusCode::BAD_GATEWAY;
            answer
        }
    };
    Ok(answer)
}

async fn exchange(request: Request<Incoming>, primary: &Client) -> Result<(Ask, Reply)> {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().context("a target")?;
    let mut headers = parts.headers;
    for name in [HOST, CONTENT_LENGTH, CONNECTION, TRANSFER_ENCODING] {
        headers.remove(name);
    }
    let ask = Ask {
        method: parts.method,
        target: target.as_str().to_owned(),
        headers,
        body: body.collect().await?.to_bytes(),
    };
    let reply = primary.send(&ask).await?;
    Ok((ask, reply))
}
