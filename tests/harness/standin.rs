//! Stand-ins for servers of other kinds and ages, each before a real node of 2.7: they answer health as those do and
//! know nothing of indexes; those whose standbys forward have the node ask the active one.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::LOCATION;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Map, Value};

use crate::cluster::Cluster;
use crate::failure::{Failure, Result};
use crate::front::{Backend, Body, Front, Session, pass_on, whole};

/// What every node answers by itself.
const OWN: [&str; 4] = [
    "/v1/sys/health",
    "/v1/sys/leader",
    "/v1/sys/seal-status",
    "/v1/sys/init",
];
/// What a performance standby's health is.
const PERFORMANCE_STANDBY: u16 = 473;

/// The server that is stood in for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Server {
    /// OpenBao 2.4: a standby forwards every request.
    OpenBao24,
    /// OpenBao 2.5: a standby reads for itself.
    OpenBao25,
    /// OpenBao 2.6: the same.
    OpenBao26,
    /// HashiCorp Vault: a standby forwards every request.
    Vault,
    /// HashiCorp Vault with performance standbys: they read for themselves.
    VaultPerformance,
}

/// A stand-in. Gone when dropped, with its connections.
pub struct StandIn(Front);

/// Which stand-in is before which node: what one says of another is what a client can reach.
type Names = Arc<Mutex<Vec<(String, String)>>>;

impl StandIn {
    /// Makes every node of a cluster look like `server`; in the nodes' order.
    pub async fn before_all(cluster: &Cluster, server: Server) -> Result<Vec<StandIn>> {
        let names = Names::default();
        let beyond_any = HeaderValue::from_str(&cluster.beyond_any().await?)?;
        let mut all = Vec::new();
        for node in cluster.nodes() {
            let (own, trusted) = (node.socket_address(), cluster.authority().clone());
            let (known, index) = (names.clone(), beyond_any.clone());
            let front = Front::open(cluster.authority(), move || Pretence {
                server,
                node: Backend::new(&own, &trusted),
                names: known.clone(),
                beyond_any: index.clone(),
            })
            .await?;
            lock(&names).push((node.address(), front.address()));
            all.push(StandIn(front));
        }
        Ok(all)
    }

    /// Its address: `https://127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.0.address()
    }
}

/// One client's connection to a stand-in.
struct Pretence {
    server: Server,
    node: Result<Backend>,
    names: Names,
    /// The index by which the node behind is made to ask the active one.
    beyond_any: HeaderValue,
}

impl Session for Pretence {
    async fn answer(&mut self, mut request: Request<Bytes>) -> Result<Response<Body>> {
        let path = request.uri().path().to_owned();
        let own = OWN.contains(&path.as_str());
        let headers = request.headers_mut();
        headers.remove("x-vault-index");
        headers.remove("x-vault-inconsistent");
        if self.server.forwards() && !own {
            headers.insert("x-vault-index", self.beyond_any.clone());
            let forward = HeaderValue::from_static("forward-active-node");
            headers.insert("x-vault-inconsistent", forward);
        }
        let node = self.node.as_mut().map_err(|failure| failure.clone())?;
        let mut answer = pass_on(node.send(&request).await?);
        answer.headers_mut().remove("x-vault-index");
        self.rename(&mut answer)?;
        match own {
            true => self.pretend(request.method(), &path, answer).await,
            false => Ok(answer),
        }
    }
}

impl Pretence {
    /// Has a redirect lead to the other node's stand-in.
    fn rename(&self, answer: &mut Response<Body>) -> Result<()> {
        let Some(to) = answer.headers().get(LOCATION) else {
            return Ok(());
        };
        let to = self.renamed(to.to_str()?);
        answer.headers_mut().insert(LOCATION, to.try_into()?);
        Ok(())
    }

    fn renamed(&self, text: &str) -> String {
        let names = lock(&self.names);
        let rename =
            |text: String, (node, stand_in): &(String, String)| text.replace(node, stand_in);
        names.iter().fold(text.to_owned(), rename)
    }

    /// The answer of a path that every node answers by itself, as the server would give it.
    async fn pretend(
        &self,
        method: &Method,
        path: &str,
        answer: Response<Body>,
    ) -> Result<Response<Body>> {
        let (mut head, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        let standby = path == "/v1/sys/health" && head.status == StatusCode::TOO_MANY_REQUESTS;
        if standby && self.server == Server::VaultPerformance {
            head.status = StatusCode::from_u16(PERFORMANCE_STANDBY)?;
        }
        if method == Method::HEAD {
            return Ok(whole(Response::from_parts(head, body)));
        }
        let text = self.renamed(std::str::from_utf8(&body)?);
        let said: Map<String, Value> = serde_json::from_str(&text)
            .map_err(|error| Failure::new(format!("{path}: {error}: {text}")))?;
        let said = Value::Object(self.server.as_it_says(path, said)).to_string();
        Ok(whole(Response::from_parts(head, said.into())))
    }
}

impl Server {
    /// Whether its standbys read nothing themselves.
    fn forwards(self) -> bool {
        matches!(self, Server::OpenBao24 | Server::Vault)
    }

    fn version(self) -> &'static str {
        match self {
            Server::OpenBao24 => "2.4.4",
            Server::OpenBao25 => "2.5.0",
            Server::OpenBao26 => "2.6.0",
            Server::Vault => "1.20.4",
            Server::VaultPerformance => "1.20.4+ent",
        }
    }

    /// What 2.7 says at `path`, with the fields that the server has there.
    fn as_it_says(self, path: &str, mut said: Map<String, Value>) -> Map<String, Value> {
        if said.contains_key("version") {
            said.insert("version".into(), self.version().into());
        }
        let is_vault = matches!(self, Server::Vault | Server::VaultPerformance);
        if is_vault && matches!(path, "/v1/sys/health" | "/v1/sys/leader") {
            let standby = match path {
                "/v1/sys/health" => said.get("standby") == Some(&true.into()),
                _ => said.get("is_self") == Some(&false.into()),
            };
            let performance = standby && self == Server::VaultPerformance;
            said.insert("performance_standby".into(), performance.into());
        }
        if is_vault && path == "/v1/sys/health" {
            said.insert(
                "enterprise".into(),
                (self == Server::VaultPerformance).into(),
            );
            said.insert("echo_duration_ms".into(), 0.into());
            said.insert("clock_skew_ms".into(), 0.into());
        }
        said
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
