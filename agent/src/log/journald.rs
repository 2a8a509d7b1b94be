//! Events as journald takes them, in its native protocol: each a datagram, its fields beside its text.

use std::{
    fmt::{self, Write as _},
    io,
    os::unix::net::UnixDatagram,
    sync::Arc,
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

use super::queue::LineQueue;

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// A value is cut after so many bytes.
const VALUE: usize = 16 << 10;

/// Fields that an event would have beyond so many bytes are left out: a datagram may have three times as many.
const EVENT: usize = 64 << 10;

/// The way to journald. Whoever uses it waits as long as journald does not take what it is sent.
pub(super) struct Socket(UnixDatagram);

impl Socket {
    pub(super) fn open() -> io::Result<Self> {
        UnixDatagram::unbound().map(Self)
    }

    /// Hands one event over.
    ///
    /// # Errors
    /// If nobody is there to take it.
    pub(super) fn send(&mut self, event: &[u8]) -> io::Result<()> {
        match self.0.send_to(event, SOCKET) {
            // It went while this waited: there may be another.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.0.send_to(event, SOCKET).map(drop)
            }
            sent => sent.map(drop),
        }
    }
}

/// Puts events into the log's queue.
pub(super) struct Journald {
    queue: Arc<LineQueue>,
}

impl Journald {
    pub(super) fn over(queue: Arc<LineQueue>) -> Self {
        Self { queue }
    }
}

impl<S: Subscriber> Layer<S> for Journald {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.queue.put(encoded(event));
    }
}

fn encoded(event: &Event<'_>) -> Vec<u8> {
    let about = event.metadata();
    let mut fields = Fields(Vec::with_capacity(512));
    fields.put("PRIORITY", priority(*about.level()));
    fields.put("SYSLOG_IDENTIFIER", "holdover");
    fields.put("TARGET", about.target());
    if let (Some(file), Some(line)) = (about.file(), about.line()) {
        fields.put("CODE_FILE", file);
        fields.put("CODE_LINE", &line.to_string());
    }
    event.record(&mut fields);
    fields.0
}

/// As syslog has it: to keep apart three levels that say something from two for looking into faults.
fn priority(of: Level) -> &'static str {
    match of {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "5",
        Level::DEBUG => "6",
        Level::TRACE => "7",
    }
}

/// What an event is sent as.
struct Fields(Vec<u8>);

impl Fields {
    /// Each value with its length before it, so that none can pass for further fields.
    fn put(&mut self, name: &str, value: &str) {
        let value = value
            .get(..value.floor_char_boundary(VALUE))
            .unwrap_or(value);
        if self.0.len() + name.len() + value.len() > EVENT {
            return;
        }
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'\n');
        let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(&journal_name(field.name()), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = String::new();
        // What cannot be formatted is cut where it cannot.
        let _ = write!(text, "{value:?}");
        self.put(&journal_name(field.name()), &text);
    }
}

/// The name of an event's own field: none can pass for what journald or systemd say.
fn journal_name(field: &str) -> String {
    if field == "message" {
        return "MESSAGE".to_owned();
    }
    let letter = |letter: char| match letter.to_ascii_uppercase() {
        letter @ ('A'..='Z' | '0'..='9') => letter,
        _ => '_',
    };
    let name = field.chars().take(60).map(letter);
    "F_".chars().chain(name).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// The fields of each event that `log` logs.
    fn logged(log: impl FnOnce()) -> Vec<BTreeMap<String, String>> {
        let queue = Arc::<LineQueue>::default();
        let layer = Journald::over(Arc::clone(&queue));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let mut events = Vec::new();
        while let Some(event) = queue.taken() {
            events.push(fields(&event));
        }
        events
    }

    fn fields(mut event: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        while !event.is_empty() {
            let end = event.iter().position(|byte| *byte == b'\n').unwrap();
            let (name, rest) = event.split_at(end);
            let (length, rest) = rest[1..].split_first_chunk().unwrap();
            let (value, rest) = rest.split_at(u64::from_le_bytes(*length) as usize);
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            fields.insert(text(name), text(value));
            event = rest.strip_prefix(b"\n").unwrap();
        }
        fields
    }

    #[test]
    fn an_event_is_its_text_its_level_and_its_fields() {
        let error = io::Error::other("no");
        let events = logged(|| {
            tracing::warn!(%error, seq = 7, "it is\nMESSAGE=not so");
            tracing::error!(path.of = "x", "broken");
        });
        let [warned, broken] = &events[..] else {
            panic!("{events:?}")
        };
        let wanted = [
            ("MESSAGE", "it is\nMESSAGE=not so"),
            ("PRIORITY", "4"),
            ("F_ERROR", "no"),
            ("F_SEQ", "7"),
            ("SYSLOG_IDENTIFIER", "holdover"),
            ("TARGET", module_path!()),
        ];
        for (name, value) in wanted {
            assert_eq!(warned.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert_eq!((&*broken["PRIORITY"], &*broken["F_PATH_OF"]), ("3", "x"));
    }

    #[test]
    fn a_text_of_any_length_fits_a_datagram() {
        let long = "\u{e4}".repeat(VALUE);
        let events =
            logged(|| tracing::info!(a = long, b = long, c = long, d = long, e = long, "{long}"));
        let size: usize = events[0].values().map(String::len).sum();
        assert!(size <= EVENT && events[0]["MESSAGE"].len() == VALUE);
    }
}
