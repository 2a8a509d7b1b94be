//! What of a Kubernetes cluster the primary asks: whether a service account's token is good (TokenReview).

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use harness::Result;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

use super::jwt::{self, Signer};

/// A cluster with one service account.
pub(super) struct Cluster {
    port: u16,
    signer: Signer,
    state: Arc<Mutex<State>>,
    account: (String, String),
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct State {
    good: BTreeSet<String>,
    reviewed: Vec<String>,
    made: u32,
}

impl Cluster {
    pub(super) async fn start(namespace: &str, name: &str) -> Result<Cluster> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let state = Arc::<Mutex<State>>::default();
        let (account, seen) = ((namespace.to_owned(), name.to_owned()), state.clone());
        let username = format!("system:serviceaccount:{namespace}:{name}");
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, username) = (seen.clone(), username.clone());
                let answer = service_fn(move |request| {
                    let (state, username) = (state.clone(), username.clone());
                    async move { review(request, &state, &username).await }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        Ok(Cluster {
            port,
            signer: Signer::make()?,
            state,
            account,
            _serving: serving,
        })
    }

    pub(super) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A projected token of the account, another each time.
    pub(super) fn token(&self) -> Result<String> {
        let (namespace, name) = &self.account;
        let mut state = lock(&self.state);
        state.made += 1;
        let token = self.signer.sign(&json!({
            "iss": "https://kubernetes.default.svc",
            "sub": format!("system:serviceaccount:{namespace}:{name}"),
            "aud": ["https://kubernetes.default.svc"],
            "iat": jwt::EARLY,
            "exp": jwt::LATE,
            "jti": format!("token-{}", state.made),
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": { "name": name, "uid": "uid-1" },
            },
        }))?;
        state.good.insert(token.clone());
        Ok(token)
    }

    /// Every token that was asked about, in order.
    pub(super) fn reviewed(&self) -> Vec<String> {
        lock(&self.state).reviewed.clone()
    }

    /// The account is gone.
    pub(super) fn revoke_all(&self) {
        lock(&self.state).good.clear();
    }
}

async fn review(
    request: Request<Incoming>,
    state: &Mutex<State>,
    username: &str,
) -> std::result::Result<Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let token = asked["spec"]["token"].as_str().unwrap_or_default();
    let good = {
        let mut state = lock(state);
        state.reviewed.push(token.to_owned());
        state.good.contains(token)
    };
    let user = json!({ "username": username, "uid": "uid-1", "groups": [] });
    let status = match good {
        true => json!({
            "authenticated": true, "user": user, "audiences": asked["spec"]["audiences"],
        }),
        false => json!({ "authenticated": false, "error": "no such service account" }),
    };
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status,
    });
    let mut response = Response::new(Full::from(review.to_string()));
    *response.status_mut() = match path.ends_with("/tokenreviews") {
        true => StatusCode::CREATED,
        false => StatusCode::NOT_FOUND,
    };
    Ok(response)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
