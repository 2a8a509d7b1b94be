//! Balancers that choose per connection.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Backends;
use crate::bao::api::Api;
use crate::failure::{Context, Result};
use crate::port::Port;
use crate::together;

/// How often backends are checked, and how long one may take to answer.
const CHECK: Duration = Duration::from_millis(200);
/// How long a backend may take to accept. One whose link is silent never does more than that.
const CONNECT: Duration = Duration::from_secs(2);

/// Which backend a connection goes to.
pub(super) enum Choice {
    Next,
    Sticky,
    Checked(Check),
}

/// Which backends are well.
pub(super) struct Check {
    pub(super) statuses: Vec<u16>,
    pub(super) http: reqwest::Client,
}

/// The listener and what passes through it.
pub(super) struct Streams {
    port: Port,
    tasks: Vec<JoinHandle<()>>,
    life: watch::Sender<()>,
}

/// What each connection needs.
struct Routes {
    backends: Backends,
    /// Where each source went last; none if the balancer forgets.
    sticky: Option<Mutex<BTreeMap<IpAddr, String>>>,
    /// Which backends are well; none if nobody looks.
    well: Option<watch::Receiver<Vec<String>>>,
}

impl Streams {
    pub(super) async fn open(backends: Backends, choice: Choice) -> Result<Streams> {
        let port = Port::reserve()?;
        let listener = TcpListener::bind(("127.0.0.1", port.number()))
            .await
            .context("the balancer's listener")?;
        let (mut tasks, mut routes) = (Vec::new(), Routes::to(backends.clone()));
        match choice {
            Choice::Next => {}
            Choice::Sticky => routes.sticky = Some(Mutex::default()),
            Choice::Checked(check) => {
                let (tell, well) = watch::channel(check.well(&backends).await);
                routes.well = Some(well);
                tasks.push(tokio::spawn(check.keep_telling(backends, tell)));
            }
        }
        let (life, end) = watch::channel(());
        tasks.push(tokio::spawn(accept(listener, Arc::new(routes), end)));
        Ok(Streams { port, tasks, life })
    }

    pub(super) fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.port.number())
    }

    pub(super) fn hang_up(&self) {
        self.life.send_replace(());
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn accept(listener: TcpListener, routes: Arc<Routes>, end: watch::Receiver<()>) {
    while let Ok((mut client, from)) = listener.accept().await {
        let (routes, mut end) = (routes.clone(), end.clone());
        // Only what comes from now on ends it.
        end.mark_unchanged();
        tokio::spawn(async move {
            let pass = async {
                let mut server = routes.connect(from.ip()).await?;
                client.set_nodelay(true)?;
                server.set_nodelay(true)?;
                copy_bidirectional(&mut client, &mut server).await
            };
            // Either side may go at any time.
            tokio::select! {
                _ = pass => {}
                _ = end.changed() => {}
            }
        });
    }
}

impl Routes {
    fn to(backends: Backends) -> Routes {
        let (sticky, well) = (None, None);
        Routes {
            backends,
            sticky,
            well,
        }
    }

    async fn connect(&self, from: IpAddr) -> std::io::Result<TcpStream> {
        match &self.sticky {
            Some(sticky) => self.stay(sticky, from).await,
            None => connect(self.next().as_deref()).await,
        }
    }

    fn next(&self) -> Option<String> {
        let well = |address: &String| match &self.well {
            Some(well) => well.borrow().contains(address),
            None => true,
        };
        self.backends.take_turn().into_iter().find(well)
    }

    /// To where this source went before, or to the next that takes the connection.
    async fn stay(
        &self,
        sticky: &Mutex<BTreeMap<IpAddr, String>>,
        from: IpAddr,
    ) -> std::io::Result<TcpStream> {
        let lock = || sticky.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.backends.all();
        let before = lock().get(&from).filter(|one| all.contains(one)).cloned();
        let begin = all.iter().position(|one| Some(one) == before.as_ref());
        let mut last = connect(None).await;
        for address in all.iter().cycle().skip(begin.unwrap_or(0)).take(all.len()) {
            last = connect(Some(address)).await;
            if last.is_ok() {
                lock().insert(from, address.clone());
                break;
            }
        }
        last
    }
}

async fn connect(address: Option<&str>) -> std::io::Result<TcpStream> {
    let Some(address) = address else {
        return Err(std::io::ErrorKind::NotConnected.into());
    };
    tokio::time::timeout(CONNECT, TcpStream::connect(address)).await?
}

impl Check {
    async fn keep_telling(self, backends: Backends, tell: watch::Sender<Vec<String>>) {
        loop {
            tell.send_replace(self.well(&backends).await);
            tokio::time::sleep(CHECK).await;
        }
    }

    async fn well(&self, backends: &Backends) -> Vec<String> {
        let all = backends.all();
        let asked = all
            .iter()
            .map(async |address| Ok(self.is_well(address).await));
        let answers = together(asked).await.unwrap_or_default();
        let well = all.into_iter().zip(answers);
        well.filter(|(_, well)| *well).map(|(one, _)| one).collect()
    }

    async fn is_well(&self, address: &str) -> bool {
        let client = Api::new(self.http.clone(), &format!("https://{address}"), "");
        let asked = tokio::time::timeout(CHECK, client.get("sys/health")).await;
        matches!(asked, Ok(Ok(answer)) if self.statuses.contains(&answer.status))
    }
}
