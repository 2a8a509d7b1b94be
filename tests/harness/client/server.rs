//! A server that has nothing to do with Holdover: it says 404 to everything, on a Unix socket of its own.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;

use crate::failure::{Context, Failure, Result};

/// The first argument of a process that is this server.
pub const WORD: &str = "server";

/// The server's own process, with the arguments after [`WORD`]: where its socket is to be. Never ends by itself.
///
/// # Errors
/// If it cannot be there.
pub fn perform(args: &[String]) -> Result<()> {
    let [socket] = args else {
        return Err(Failure::new("a server needs a socket"));
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = UnixListener::bind(socket).context(socket)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let serving =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
            tokio::spawn(async move { drop(serving.await) });
        }
    })
}

async fn answer(
    request: Request<Incoming>,
) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    // A body that breaks off is no reason for another answer.
    let _ = request.into_body().collect().await;
    let mut answer = Response::new(Full::new(Bytes::from_static(b"{\"errors\":[]}\n")));
    *answer.status_mut() = StatusCode::NOT_FOUND;
    Ok(answer)
}
