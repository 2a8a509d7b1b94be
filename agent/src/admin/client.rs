//! The command line's way to the admin API of a running daemon.

use std::{
    error::Error,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Limited};
use reqwest::{Body, Client, RequestBuilder, redirect, retry};
use serde::{Serialize, de::DeserializeOwned};

use crate::{link::tls, status::Errors};

/// The largest answer taken, in bytes: a listing of a million grants.
const ANSWER: usize = 1 << 30;

/// The daemon of one admin socket.
pub struct AdminClient {
    socket: PathBuf,
    http: Client,
}

/// Why there is no answer, or a bad one.
#[derive(Debug, thiserror::Error)]
pub enum AdminClientError {
    /// The connection broke.
    #[error("the daemon at {} closed the connection: {}", socket.display(), innermost(source))]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// How.
        source: reqwest::Error,
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
    #[error("cannot reach the daemon at {}: {}; check that holdover run is running and that you may use its socket", socket.display(), innermost(source))]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: reqwest::Error,
    },
    /// There is no client to ask with.
    #[error("the HTTP client does not start: {0}")]
    Unstarted(#[source] Box<dyn Error + Send + Sync>),
}

impl AdminClient {
    /// Of the daemon behind `socket`; nothing is opened yet.
    ///
    /// # Errors
    /// If the HTTP client does not start.
    pub fn new(socket: &Path) -> Result<Self, AdminClientError> {
        // The socket needs no TLS, but without this reqwest would look for a provider that it does not have.
        let tls =
            tls::client_config(None).map_err(|why| AdminClientError::Unstarted(why.into()))?;
        let http = Client::builder()
            .unix_socket(socket)
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            // Each question has its own connection, because the daemon may be another one by the next.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|why| AdminClientError::Unstarted(why.into()))?;
        Ok(Self {
            socket: socket.to_owned(),
            http,
        })
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
        self.call(self.http.get(url(path)), within).await
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
        self.call(self.http.post(url(path)).json(body), within)
            .await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        within: Duration,
    ) -> Result<T, AdminClientError> {
        let (status, body) = match tokio::time::timeout(within, self.exchange(request)).await {
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
        request: RequestBuilder,
    ) -> Result<(StatusCode, Bytes), AdminClientError> {
        let answer = request.send().await.map_err(|source| self.lost(source))?;
        let status = answer.status();
        let body = Limited::new(Body::from(answer), ANSWER).collect().await;
        let body = body.map_err(|error| self.malformed(&innermost(&*error)))?;
        Ok((status, body.to_bytes()))
    }

    /// Why nothing was answered.
    fn lost(&self, source: reqwest::Error) -> AdminClientError {
        let socket = self.socket.clone();
        if source.is_builder() {
            return self.malformed(&innermost(&source));
        }
        match source.is_connect() {
            true => AdminClientError::Unreachable { socket, source },
            false => AdminClientError::Broken { socket, source },
        }
    }

    fn malformed(&self, what: &impl ToString) -> AdminClientError {
        AdminClientError::Malformed {
            socket: self.socket.clone(),
            what: what.to_string(),
        }
    }
}

fn url(path: &str) -> String {
    format!("http://localhost{path}")
}

/// What is at the bottom of an error: what is above it says where in our client it was, which is nobody's business.
fn innermost<'a>(error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost
}
