//! A constant load on mirrored paths: nothing that the daemon does may be seen by it but by header and latency.
//!
//! Three kinds of requests run at once, none is ever sent twice: a *relay* that always has one request in flight, and a
//! steady rate of reads, alternately on connections of their own and on kept-alive ones. Reads at a rate are started
//! on time whether or not earlier ones were answered, and their latency counts from when they were due.

mod report;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Mutex as AsyncMutex;
use tokio::task::JoinSet;

use crate::client::raw::{Ask, Client, Connection, Reply};
use crate::clock::Stopwatch;
use crate::failure::{Context, Failure, Result};

pub use report::{Failed, Latencies, Report};

/// What to read, and how hard.
pub struct Plan {
    /// Holdover's workload socket.
    pub socket: PathBuf,
    /// The token of every request; empty for none.
    pub token: String,
    /// API paths without `/v1/`, and the `data` that each must answer with; null accepts any body with status 200.
    pub reads: Vec<(String, Value)>,
    /// Reads a second besides the relays'; zero for none.
    pub per_second: u32,
    /// Relays: 1 leaves no moment without a request in flight, 0 costs least.
    pub relays: usize,
    /// What a relay waits between an answer and its next request; zero for nothing at all.
    pub pause: Duration,
    /// Kept-alive connections that share the reads that are not on new ones.
    pub kept_alive: usize,
    /// The longest that an answer may take before it counts as failed.
    pub limit: Duration,
}

impl Plan {
    /// 50 reads a second, one relay, four kept-alive connections, 2 s limit.
    pub fn new(socket: &Path, token: &str, reads: Vec<(String, Value)>) -> Plan {
        Plan {
            socket: socket.to_owned(),
            token: token.to_owned(),
            reads,
            per_second: 50,
            relays: 1,
            pause: Duration::ZERO,
            kept_alive: 4,
            limit: Duration::from_secs(2),
        }
    }

    /// Starts the load.
    pub fn start(self) -> Result<Load> {
        let asks = self.reads.iter().map(|(path, data)| self.read(path, data));
        let shared = Arc::new(Shared {
            reads: asks.collect::<Result<_>>()?,
            client: Client::unix(&self.socket).within(self.limit),
            next: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            watch: Stopwatch::start(),
            report: Mutex::new(Report::default()),
        });
        if shared.reads.is_empty() {
            return Err(Failure::new("a load needs something to read"));
        }
        let mut tasks = JoinSet::new();
        for _ in 0..self.relays {
            tasks.spawn(shared.clone().relay(self.pause));
        }
        if self.per_second > 0 {
            let period = Duration::from_secs(1) / self.per_second;
            tasks.spawn(shared.clone().at_rate(period, self.kept_alive));
        }
        Ok(Load { shared, tasks })
    }

    fn read(&self, path: &str, data: &Value) -> Result<Read> {
        let ask = Ask::get(&format!("/v1/{path}"));
        let ask = if self.token.is_empty() {
            ask
        } else {
            ask.token(&self.token)?
        };
        Ok(Read {
            ask,
            data: data.clone(),
        })
    }
}

/// The first argument of a process that is a load.
pub const WORD: &str = "load";

/// A load of a process of its own, with the arguments after [`WORD`]: a socket, an API path without `/v1/` that needs no token,
/// and for how many seconds. What it saw goes to standard output, in JSON: how many requests were `answered` and `failed`, and
/// their `p50_us` and `p99_us`.
///
/// # Errors
/// If these are no such arguments.
pub fn perform(args: &[String]) -> Result<()> {
    let [socket, path, seconds] = args else {
        return Err(Failure::new("a load needs a socket, a path and seconds"));
    };
    let seconds = Duration::from_secs(seconds.parse().context(seconds)?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(async {
        let plan = Plan {
            per_second: 200,
            limit: Duration::from_secs(30),
            pause: Duration::from_millis(5),
            ..Plan::new(Path::new(socket), "", vec![(path.clone(), Value::Null)])
        };
        let load = plan.start()?;
        tokio::time::sleep(seconds).await;
        load.stop().await
    })?;
    let latencies = report.latencies();
    let [p50, p99] = [0.5, 0.99].map(|share| latencies.quantile(share).as_micros());
    let (answered, failed) = (latencies.count(), report.failures);
    let seen = json!({ "answered": answered, "failed": failed, "p50_us": p50, "p99_us": p99 });
    writeln!(std::io::stdout(), "{seen}")?;
    if let Some(first) = report.details.first() {
        eprintln!("{}", first.why);
    }
    Ok(())
}

/// A running load. Dropping it stops it at once.
pub struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Load {
    /// Time since the start: the clock of the report.
    pub fn elapsed(&self) -> Duration {
        self.shared.watch.elapsed()
    }

    /// How many requests are in flight at this moment.
    pub fn in_flight(&self) -> usize {
        self.shared.report().in_flight()
    }

    /// How many right answers came from this source so far, and how many requests failed.
    pub fn counted(&self, source: &str) -> (usize, usize) {
        let report = self.shared.report();
        (report.from(source), report.failures)
    }

    /// What has happened so far.
    pub fn so_far(&self) -> Report {
        self.shared.report().clone()
    }

    /// Lets requests in flight end, starts no more, and reports.
    pub async fn stop(mut self) -> Result<Report> {
        self.shared.stopping.store(true, Ordering::SeqCst);
        while let Some(ended) = self.tasks.join_next().await {
            ended.context("the load's own task")?;
        }
        let mut report = self.shared.report().clone();
        report.lasted = self.shared.watch.elapsed();
        Ok(report)
    }
}

struct Read {
    ask: Ask,
    data: Value,
}

struct Shared {
    reads: Vec<Read>,
    client: Client,
    next: AtomicUsize,
    stopping: AtomicBool,
    watch: Stopwatch,
    report: Mutex<Report>,
}

impl Shared {
    /// One request after the other, at once, alternately on a new and on a kept connection.
    async fn relay(self: Arc<Shared>, pause: Duration) {
        let kept = AsyncMutex::new(None);
        let mut fresh = false;
        while !self.stopping() {
            fresh = !fresh;
            self.one((!fresh).then_some(&kept), self.watch.elapsed())
                .await;
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
    }

    async fn at_rate(self: Arc<Shared>, period: Duration, kept_alive: usize) {
        let lanes: Vec<_> = (0..kept_alive)
            .map(|_| Arc::new(AsyncMutex::new(None)))
            .collect();
        let mut running = JoinSet::new();
        let mut due = Duration::ZERO;
        let begun = self.watch.elapsed();
        for nr in 0_usize.. {
            tokio::time::sleep((begun + due).saturating_sub(self.watch.elapsed())).await;
            if self.stopping() {
                break;
            }
            // Every other one on a new connection; the rest take turns on the kept ones.
            let lane = (nr % 2 == 1)
                .then(|| lanes.get(nr / 2 % lanes.len().max(1)).cloned())
                .flatten();
            let (shared, at) = (self.clone(), begun + due);
            running.spawn(async move { shared.one(lane.as_deref(), at).await });
            while running.try_join_next().is_some() {}
            due += period;
        }
        while running.join_next().await.is_some() {}
    }

    /// One read, which was due `at`.
    async fn one(&self, kept: Option<&AsyncMutex<Option<Connection>>>, at: Duration) {
        let Some(read) = self
            .reads
            .get(self.next.fetch_add(1, Ordering::Relaxed) % self.reads.len())
        else {
            return;
        };
        self.report().begins(self.watch.elapsed());
        let outcome = match kept {
            None => self.client.send(&read.ask).await,
            Some(lane) => self.on_kept(lane, &read.ask).await,
        };
        let end = self.watch.elapsed();
        let judged = outcome.and_then(|reply| judge(reply, &read.data));
        let mut report = self.report();
        match judged {
            Ok(source) => report.answered(source, end, end.saturating_sub(at)),
            Err(why) => {
                let (target, kept) = (read.ask.target.clone(), kept.is_some());
                report.failed(
                    Failed {
                        at,
                        after: end.saturating_sub(at),
                        target,
                        kept,
                        why,
                    },
                    end,
                );
            }
        }
    }

    /// On the lane's connection. One that the daemon had closed *before* we wrote is replaced, as any client does.
    async fn on_kept(&self, lane: &AsyncMutex<Option<Connection>>, ask: &Ask) -> Result<Reply> {
        let mut slot = lane.lock().await;
        let mut connection = match slot.take().filter(|connection| !connection.closed()) {
            Some(connection) => connection,
            None => self.client.connect().await?,
        };
        let reply = connection.send(ask).await?;
        *slot = Some(connection);
        Ok(reply)
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    fn report(&self) -> std::sync::MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer's source, if its status is 200 and its data are the expected ones.
fn judge(reply: Reply, expected: &Value) -> Result<String> {
    if reply.status != 200 {
        return Err(Failure::new(format!(
            "status {}: {}",
            reply.status,
            reply.text()
        )));
    }
    if !expected.is_null() {
        let body = reply.json()?;
        let data = body.get("data").unwrap_or(&Value::Null);
        if data != expected {
            return Err(Failure::new(format!(
                "body differs: {data} instead of {expected}"
            )));
        }
    }
    Ok(reply.source().unwrap_or("unnamed").to_owned())
}
