//! The command line's way to the admin API of a running daemon.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header::HOST};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;

use crate::status::Errors;

/// The largest answer taken, in bytes: a listing of a million grants.
const ANSWER: usize = 1 << 30;

/// The daemon of one admin socket.
pub struct AdminClient {
    socket: PathBuf,
}

/// Why there is no answer, or a bad one.
#[derive(Debug, thiserror::Error)]
pub enum AdminClientError {
    /// The connection broke.
    #[error("the daemon at {} closed the connection: {source}", socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// How.
        source: hyper::Error,
    },
    /// The answer is not what this version understands.
    #[error("the daemon at {} answered what this version does not understand: {what}", socket.display())]
    Malformed {
        /// The socket.
        socket: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The daemon said no.
    #[error("{}", errors.join("; "))]
    Refused {
        /// The status.
        status: StatusCode,
        /// Its errors.
        errors: Vec<String>,
    },
    /// It did not answer in time.
    #[error("the daemon at {} did not answer within {} s", socket.display(), within.as_secs())]
    Timeout {
        /// The socket.
        socket: PathBuf,
        /// How long it had.
        within: Duration,
    },
    /// Nobody answers there.
    #[error("cannot reach the daemon at {}: {source}; check that holdover run is running and that you may use its socket", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl AdminClient {
    /// Of the daemon behind `socket`; nothing is opened yet.
    pub fn new(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
        }
    }

    /// Reads.
    ///
    /// # Errors
    /// If the daemon cannot be reached, refuses, or takes longer than `within`.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        within: Duration,
    ) -> Result<T, AdminClientError> {
        self.call(Method::GET, path, Bytes::new(), within).await
    }

    /// Does something.
    ///
    /// # Errors
    /// If the daemon cannot be reached, refuses, or takes longer than `within`.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        within: Duration,
    ) -> Result<T, AdminClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.malformed(&error))?;
        self.call(Method::POST, path, body.into(), within).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        within: Duration,
    ) -> Result<T, AdminClientError> {
        let exchange = self.exchange(method, path, body);
        let (status, body) = match tokio::time::timeout(within, exchange).await {
            Ok(answer) => answer?,
            Err(_) => {
                let socket = self.socket.clone();
                return Err(AdminClientError::Timeout { socket, within });
            }
        };
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(|error| self.malformed(&error));
        }
        let errors = serde_json::from_slice(&body).unwrap_or_else(|_| Errors {
            errors: vec![format!("the daemon answered {status}")],
        });
        Err(AdminClientError::Refused {
            status,
            errors: errors.errors,
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), AdminClientError> {
        let broken = |source| AdminClientError::Broken {
            socket: self.socket.clone(),
            source,
        };
        let stream = UnixStream::connect(&self.socket).await;
        let stream = stream.map_err(|source| AdminClientError::Unreachable {
            socket: self.socket.clone(),
            source,
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().map_err(|error| self.malformed(&error))?;
        let host = HeaderValue::from_static("localhost");
        request.headers_mut().insert(HOST, host);
        let answer = async {
            let response = sender.send_request(request).await.map_err(broken)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER).collect().await;
            let body = body.map_err(|error| self.malformed(&error))?;
            Ok((status, body.to_bytes()))
        };
        let driven = async {
            // It ends with the answer; what it ends with is the answer's to say.
            let _ = connection.await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = answer => answer,
            () = driven => Err(self.malformed(&"nothing")),
        }
    }

    fn malformed(&self, what: &impl ToString) -> AdminClientError {
        AdminClientError::Malformed {
            socket: self.socket.clone(),
            what: what.to_string(),
        }
    }
}
