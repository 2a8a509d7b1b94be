//! Request lines as they were sent, kept where the HTTP library would drop a part of them.
//!
//! A `#` in a target has no business in a request. The library cuts it off with what follows, and would have us send
//! on another target than was asked for. So lines that contain one are noted as their bytes arrive, and the request
//! is refused.

use std::sync::Arc;

use parking_lot::Mutex;

/// The longest line that is looked into; a longer one is more than a head may be.
const LONGEST: usize = 64 * 1024;

/// What is kept for the next line, in bytes.
const USUAL: usize = 1024;

/// The request line of a connection. Its reader writes it, its handler asks for it.
#[derive(Clone, Default)]
pub(crate) struct RequestLine(Arc<Mutex<Line>>);

#[derive(Default)]
struct Line {
    state: LineState,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum LineState {
    /// What comes next is the first line of a request.
    #[default]
    Expected,
    /// It came as far as it is here.
    Partly,
    /// It is past.
    Past,
}

impl RequestLine {
    /// Bytes arrived.
    pub(crate) fn arrived(&self, bytes: &[u8]) {
        let mut line = self.0.lock();
        match line.state {
            LineState::Past => return,
            LineState::Expected => line.bytes.clear(),
            LineState::Partly => {}
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        let room = LONGEST.saturating_sub(line.bytes.len());
        line.bytes.extend(part.iter().take(room));
        line.state = match end {
            Some(_) => LineState::Past,
            None => LineState::Partly,
        };
    }

    /// An answer is being sent: what arrives next is another request.
    pub(crate) fn answered(&self) {
        let mut line = self.0.lock();
        line.state = LineState::Expected;
        // A long one is rare, and there are many connections.
        line.bytes.clear();
        line.bytes.shrink_to(USUAL);
    }

    /// Whether the target was sent as `target` and a fragment.
    pub(crate) fn had_fragment(&self, target: &str) -> bool {
        let line = self.0.lock();
        if !line.bytes.contains(&b'#') {
            return false;
        }
        let sent = line.bytes.split(|byte| *byte == b' ').nth(1);
        let rest = sent.and_then(|sent| sent.strip_prefix(target.as_bytes()));
        rest.is_some_and(|rest| rest.starts_with(b"#"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_is_seen_in_whatever_pieces_it_arrives() {
        let line = RequestLine::default();
        for piece in ["GET /v", "1/a#", "b HTTP", "/1.1\r\nHost: h\r\n\r\n"] {
            line.arrived(piece.as_bytes());
        }
        assert!(line.had_fragment("/v1/a"));
        assert!(!line.had_fragment("/v1/b"));
    }

    #[test]
    fn other_lines_may_contain_anything() {
        let line = RequestLine::default();
        line.arrived(b"PUT /v1/a HTTP/1.1\r\nX: /v1/a#b\r\n\r\n{\"a\":\"#\"}");
        line.arrived(b"GET /v1/a#b HTTP/1.1\r\n");
        assert!(!line.had_fragment("/v1/a"));
        line.answered();
        line.arrived(b"GET /v1/a#b HTTP/1.1\r\n");
        assert!(line.had_fragment("/v1/a"));
    }
}
