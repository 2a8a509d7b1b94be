//! The log, which nothing waits for.
//!
//! Whoever takes it may stop doing so: a journald that hangs, a pipe that nobody reads. So a line goes into a queue, of which a
//! thread of its own is the only one that waits for the reader; what finds no room is dropped and counted. Within the process a
//! line costs no system call, and may be written wherever a lock is held, or by who must end.

mod journald;
mod queue;

use std::{
    io::{self, IsTerminal as _},
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tracing_subscriber::{
    Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

use self::{journald::Journald, queue::LineQueue};

/// What is logged last gets this long to be taken.
const FLUSH: Duration = Duration::from_secs(1);

/// One for the process, as what is logged is.
static QUEUE: OnceLock<Arc<LineQueue>> = OnceLock::new();

/// Sends lines of `targets` to the journal where `to_journald` says so and there is one, else to standard error.
///
/// # Errors
/// If there is no thread or no socket to be had.
pub fn start(to_journald: bool, targets: Targets) -> io::Result<()> {
    let queue = Arc::clone(QUEUE.get_or_init(Arc::default));
    let registry = tracing_subscriber::registry();
    // Where a subscriber is set already, as in tests, that one stays.
    let _ = if to_journald && Path::new(journald::SOCKET).exists() {
        let mut socket = journald::Socket::open()?;
        write_out(&queue, move |line| socket.send(line))?;
        let layer = Journald::over(queue).with_filter(targets);
        registry.with(layer).try_init()
    } else {
        write_out(&queue, |line| io::Write::write_all(&mut io::stderr(), line))?;
        let layer = fmt::layer()
            .with_ansi(io::stderr().is_terminal())
            .with_writer(move || queue::LogLine(Arc::clone(&queue)));
        registry.with(layer.with_filter(targets)).try_init()
    };
    // The usual one writes to standard error itself.
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok(())
}

/// Lines that were dropped since the start, because nobody took what was before them.
pub fn dropped() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.dropped())
}

/// Waits until what was logged is taken, for a moment at most.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(FLUSH);
    }
}

fn write_out(
    queue: &Arc<LineQueue>,
    write: impl FnMut(&[u8]) -> io::Result<()> + Send + 'static,
) -> io::Result<()> {
    let queue = Arc::clone(queue);
    let tell =
        |dropped| tracing::warn!("{dropped} lines of the log were dropped: nobody took them");
    std::thread::Builder::new()
        .name("log".into())
        .spawn(move || queue.write_out(write, tell))
        .map(drop)
}
