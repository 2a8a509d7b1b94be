//! Lines on their way to whoever takes the log: bounded, and never waited for.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex};

/// Bytes of lines that wait: a thousand and more.
const ROOM: usize = 256 << 10;

/// What a line takes besides its text, in bytes.
const OVERHEAD: usize = 64;

/// Lines that wait for one thread, which writes them out.
#[derive(Default)]
pub(super) struct LineQueue {
    /// Held for moments: nothing is written, and nothing is logged, under it.
    waiting: Mutex<LinesWaiting>,
    changed: Condvar,
}

#[derive(Default)]
struct LinesWaiting {
    lines: VecDeque<Vec<u8>>,
    /// What `lines` take of [`ROOM`].
    bytes: usize,
    /// One was taken out and is being written.
    is_writing: bool,
    dropped: u64,
    /// Of `dropped`, what was told.
    told: u64,
}

impl LinesWaiting {
    fn is_done(&self) -> bool {
        self.lines.is_empty() && !self.is_writing
    }

    /// What was dropped and not told yet: told from now on, once everything before was taken.
    fn untold(&mut self) -> Option<u64> {
        let untold = self.dropped.saturating_sub(self.told);
        if untold == 0 || !self.lines.is_empty() {
            return None;
        }
        self.told = self.dropped;
        Some(untold)
    }
}

/// What a line takes of [`ROOM`].
fn size(line: &[u8]) -> usize {
    line.len().saturating_add(OVERHEAD)
}

impl LineQueue {
    /// Has `line` written out, if there is room for it.
    pub(super) fn put(&self, line: Vec<u8>) {
        let mut waiting = self.waiting.lock();
        let bytes = waiting.bytes.saturating_add(size(&line));
        if bytes > ROOM {
            waiting.dropped = waiting.dropped.saturating_add(1);
            return;
        }
        waiting.bytes = bytes;
        waiting.lines.push_back(line);
        drop(waiting);
        self.changed.notify_all();
    }

    /// Lines that found no room, or that could not be written.
    pub(super) fn dropped(&self) -> u64 {
        self.waiting.lock().dropped
    }

    /// Waits until everything is written out, no longer than `within`. Whether it is.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let mut waiting = self.waiting.lock();
        let still = |waiting: &mut LinesWaiting| !waiting.is_done();
        let waited = self.changed.wait_while_for(&mut waiting, still, within);
        !waited.timed_out()
    }

    /// Writes lines out for ever, and has `tell` say how many were dropped once lines are taken again.
    pub(super) fn write_out(
        &self,
        mut write: impl FnMut(&[u8]) -> io::Result<()>,
        tell: impl Fn(u64),
    ) {
        loop {
            let line = self.next();
            let written = write(&line);
            if let Some(untold) = self.written(written.is_ok()) {
                tell(untold);
            }
        }
    }

    fn next(&self) -> Vec<u8> {
        let mut waiting = self.waiting.lock();
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.bytes = waiting.bytes.saturating_sub(size(&line));
                waiting.is_writing = true;
                return line;
            }
            self.changed.wait(&mut waiting);
        }
    }

    /// One was written, or could not be: what is to be told of those that were dropped.
    fn written(&self, is_taken: bool) -> Option<u64> {
        let mut waiting = self.waiting.lock();
        waiting.is_writing = false;
        let untold = if is_taken {
            waiting.untold()
        } else {
            waiting.dropped = waiting.dropped.saturating_add(1);
            None
        };
        drop(waiting);
        self.changed.notify_all();
        untold
    }
}

#[cfg(test)]
impl LineQueue {
    /// The next line, if there is one.
    pub(super) fn taken(&self) -> Option<Vec<u8>> {
        self.waiting.lock().lines.pop_front()
    }
}

/// Takes one line, which comes as a whole.
pub(super) struct LogLine(pub(super) Arc<LineQueue>);

impl io::Write for LogLine {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.put(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// A queue whose reader takes a line for each `()` that it is sent, and what it took.
    fn with_reader() -> (Arc<LineQueue>, mpsc::Sender<()>, mpsc::Receiver<String>) {
        let queue = Arc::<LineQueue>::default();
        let (go, gone) = mpsc::channel();
        let (took, taken) = mpsc::channel();
        let (writing, telling) = (Arc::clone(&queue), Arc::clone(&queue));
        std::thread::spawn(move || {
            let write = move |line: &[u8]| {
                let _ = gone.recv();
                match line {
                    b"bad" => Err(io::ErrorKind::NotFound.into()),
                    line => {
                        let _ = took.send(String::from_utf8_lossy(line).into_owned());
                        Ok(())
                    }
                }
            };
            writing.write_out(write, |dropped| {
                telling.put(format!("{dropped} dropped").into_bytes());
            });
        });
        (queue, go, taken)
    }

    #[test]
    fn a_reader_that_takes_nothing_is_not_waited_for_and_what_is_dropped_is_told_once_it_does() {
        let (queue, go, taken) = with_reader();
        let line = || vec![b'l'; 1000];
        let most = 2 * ROOM / size(&line());
        (0..most).for_each(|_| queue.put(line()));
        let dropped = queue.dropped();
        assert!(dropped > 0 && !queue.flush(Duration::ZERO));
        drop(go);
        assert!(queue.flush(SOON));
        let taken: Vec<String> = taken.try_iter().collect();
        assert_eq!(taken.last(), Some(&format!("{dropped} dropped")));
        assert_eq!(taken.len() as u64 - 1 + dropped, most as u64);
        assert_eq!(queue.dropped(), dropped);
    }

    #[test]
    fn lines_are_written_in_their_order_and_room_comes_back() {
        let (queue, go, taken) = with_reader();
        drop(go);
        for nr in 0..10_000 {
            queue.put(format!("{nr}").into_bytes());
            assert!(queue.flush(SOON));
        }
        let taken: Vec<String> = taken.try_iter().collect();
        let put: Vec<String> = (0..10_000).map(|nr| nr.to_string()).collect();
        assert!(taken == put && queue.dropped() == 0);
    }

    #[test]
    fn a_line_that_cannot_be_written_counts_as_dropped() {
        let (queue, go, taken) = with_reader();
        drop(go);
        queue.put(b"bad".to_vec());
        assert!(queue.flush(SOON));
        assert_eq!((queue.dropped(), taken.try_iter().count()), (1, 0));
        queue.put(b"good".to_vec());
        let told = [taken.recv_timeout(SOON), taken.recv_timeout(SOON)];
        assert_eq!(told, [Ok("good".into()), Ok("1 dropped".into())]);
    }

    #[test]
    fn one_line_that_is_larger_than_all_room_is_dropped() {
        let queue = LineQueue::default();
        queue.put(vec![0; ROOM]);
        assert_eq!(queue.dropped(), 1);
        assert!(queue.flush(Duration::ZERO));
    }
}
