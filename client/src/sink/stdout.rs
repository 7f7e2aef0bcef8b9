//! Records as lines on stdout: key, TAB, value; `null` for what is absent.
//!
//! A thread of its own writes, because a reader may be slow or paused: the pipeline
//! must keep answering the server meanwhile, and finds the sink full instead.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{
    Delivered, GhostSearch, Ghosts, Headers, Keying, Load, Record, SendError, Sink, Token, TopicId,
};
use crate::error::{Error, ErrorKind, Result};

/// How many bytes of lines wait for the reader at most, apart from those in the write
/// that is under way. Several of the plugin's writes, so that neither side waits for
/// the other's every step.
const BUFFER_BYTES: usize = 1 << 20;

/// Prints records. One is delivered when its line has been written.
pub struct StdoutSink(Arc<Shared>);

struct Shared {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    /// Lines that wait to be written.
    buffer: Vec<u8>,
    /// What they are.
    accepted: Vec<Delivered>,
    /// What was written and is not yet reported.
    delivered: Vec<Delivered>,
    /// Records so far.
    taken: u64,
    written: u64,
    written_bytes: u64,
    is_writing: bool,
    is_closed: bool,
    failure: Option<(io::ErrorKind, String)>,
}

impl StdoutSink {
    /// Prints to stdout.
    pub fn open() -> Result<Self> {
        StdoutSink::new(io::stdout())
    }

    /// Prints to `out`.
    pub fn new(out: impl Write + Send + 'static) -> Result<Self> {
        let shared = Arc::new(Shared {
            lines: Mutex::default(),
            changed: Condvar::new(),
        });
        let writer = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("stdout".to_owned())
            .spawn(move || writer.write_lines(out))
            .map_err(|error| Error::failed("cannot start a thread").with_source(error))?;
        Ok(StdoutSink(shared))
    }
}

impl Drop for StdoutSink {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    /// A panic elsewhere cannot leave a line half counted: lines and counts change
    /// together, by code that does not panic.
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_lines(&self, mut out: impl Write) {
        let mut bytes = Vec::new();
        let mut lines = self.lock();
        loop {
            while lines.buffer.is_empty() {
                if lines.is_closed {
                    return;
                }
                lines = self
                    .changed
                    .wait(lines)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            std::mem::swap(&mut bytes, &mut lines.buffer);
            let mut accepted = std::mem::take(&mut lines.accepted);
            lines.is_writing = true;
            drop(lines);
            let written = out.write_all(&bytes).and_then(|()| out.flush());
            let length = bytes.len() as u64;
            bytes.clear();
            // A giant row's memory is not kept.
            bytes.shrink_to(2 * BUFFER_BYTES);
            lines = self.lock();
            lines.is_writing = false;
            match written {
                Ok(()) => {
                    lines.written += accepted.iter().map(|run| run.count).sum::<u64>();
                    lines.written_bytes += length;
                    lines.delivered.append(&mut accepted);
                }
                Err(error) => {
                    lines.failure = Some((error.kind(), error.to_string()));
                    self.changed.notify_all();
                    return;
                }
            }
            self.changed.notify_all();
        }
    }
}

impl Lines {
    fn is_full(&self) -> bool {
        self.buffer.len() >= BUFFER_BYTES
    }

    /// A reader that has seen enough, as `head` does, is no failure.
    fn check(&self) -> Result<()> {
        match &self.failure {
            None => Ok(()),
            Some((io::ErrorKind::BrokenPipe, _)) => Err(Error::new(
                ErrorKind::Interrupted,
                "the reader of stdout has gone",
            )),
            Some((_, reason)) => Err(Error::failed(format!("cannot write to stdout: {reason}"))),
        }
    }

    fn push(&mut self, record: &Record<'_>, token: Token) {
        self.field(record.key);
        self.buffer.push(b'\t');
        self.field(record.value);
        self.buffer.push(b'\n');
        self.taken += 1;
        match self.accepted.last_mut() {
            Some(last) if last.token == token => last.count += 1,
            _ => self.accepted.push(Delivered { token, count: 1 }),
        }
    }

    /// Within JSON a bare line break or TAB stands between tokens only, where a space
    /// means the same.
    fn field(&mut self, bytes: Option<&[u8]>) {
        let Some(bytes) = bytes else {
            self.buffer.extend_from_slice(b"null");
            return;
        };
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        for byte in &mut self.buffer[start..] {
            if matches!(byte, b'\n' | b'\r' | b'\t') {
                *byte = b' ';
            }
        }
    }
}

impl Sink for StdoutSink {
    fn open_topic(&self, _name: &str, _keying: Keying) -> Result<TopicId> {
        Ok(TopicId(0))
    }

    fn compacts(&self) -> bool {
        false
    }

    fn send(&self, record: &Record<'_>, token: Token) -> Result<(), SendError> {
        let mut lines = self.0.lock();
        lines.check().map_err(SendError::Failed)?;
        if lines.is_full() {
            return Err(SendError::Full);
        }
        let was_empty = lines.buffer.is_empty();
        lines.push(record, token);
        // Otherwise the writer knows of it already.
        if was_empty && !lines.is_writing {
            self.0.changed.notify_all();
        }
        Ok(())
    }

    fn load(&self) -> Load {
        let lines = self.0.lock();
        Load {
            delivered_records: lines.written,
            delivered_bytes: lines.written_bytes,
            in_flight_records: lines.taken - lines.written,
            in_flight_bytes: lines.buffer.len() as u64,
            limit_bytes: BUFFER_BYTES as u64,
            ..Load::default()
        }
    }

    fn deliveries(&self, into: &mut Vec<Delivered>) -> Result<()> {
        let mut lines = self.0.lock();
        lines.check()?;
        into.append(&mut lines.delivered);
        Ok(())
    }

    fn wait(&self, timeout: Duration) {
        let lines = self.0.lock();
        let was_full = lines.is_full();
        let waited = self.0.changed.wait_timeout_while(lines, timeout, |lines| {
            lines.delivered.is_empty() && lines.failure.is_none() && was_full == lines.is_full()
        });
        drop(waited);
    }

    fn flush(&self, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now() + timeout;
        let mut lines = self.0.lock();
        while !lines.buffer.is_empty() || lines.is_writing {
            lines.check()?;
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Ok(false);
            };
            lines = self
                .0
                .changed
                .wait_timeout(lines, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        lines.check().map(|()| true)
    }

    fn sweep(
        &self,
        _topic: TopicId,
        _ghosts: Ghosts,
        _headers: Headers<'_>,
        _tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<u64> {
        Ok(0)
    }

    fn search(
        &self,
        _topic: TopicId,
        _tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<Box<dyn GhostSearch>>> {
        Ok(None)
    }

    fn send_to(&self, record: &Record<'_>, _partition: i32, token: Token) -> Result<(), SendError> {
        self.send(record, token)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc;

    use headwater_protocol::Lsn;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn record<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Record<'a> {
        Record {
            topic: TopicId(0),
            key,
            value,
            headers: Headers {
                op: "c",
                lsn: Lsn(1),
                seq: 0,
                transaction: None,
                unchanged: &[],
                fetched: false,
            },
        }
    }

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_record_is_a_line_and_delivered_once_written() {
        let page = Page::default();
        let sink = StdoutSink::new(page.clone()).unwrap();
        for (key, value, token) in [
            (
                Some(b"{\"id\":1}".as_slice()),
                Some(b"{\"a\":\n\t2}".as_slice()),
                1,
            ),
            (Some(b"{\"id\":1}".as_slice()), None, 1),
            (None, Some(b"{}".as_slice()), 2),
        ] {
            sink.send(&record(key, value), Token(token)).unwrap();
        }
        assert!(sink.flush(PATIENCE).unwrap());
        assert_eq!(
            String::from_utf8(page.0.lock().unwrap().clone()).unwrap(),
            "{\"id\":1}\t{\"a\":  2}\n{\"id\":1}\tnull\nnull\t{}\n"
        );
        let load = sink.load();
        assert_eq!(
            (load.delivered_records, load.in_flight_records),
            (3, 0),
            "{load:?}"
        );
        let mut delivered = Vec::new();
        sink.deliveries(&mut delivered).unwrap();
        let count_of = |token| -> u64 {
            let reports = delivered
                .iter()
                .filter(|report| report.token == Token(token));
            reports.map(|report| report.count).sum()
        };
        assert_eq!((count_of(1), count_of(2)), (2, 1));
    }

    /// Takes a write only when it is told to.
    struct Paused(mpsc::Receiver<()>);

    impl Write for Paused {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_paused_reader_makes_the_sink_full_and_blocks_nobody() {
        let (resume, paused) = mpsc::channel();
        let sink = StdoutSink::new(Paused(paused)).unwrap();
        let value = vec![b'x'; BUFFER_BYTES / 4];
        let mut accepted: u64 = 0;
        let full = loop {
            match sink.send(&record(None, Some(&value)), Token(1)) {
                Ok(()) => accepted += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(full, SendError::Full), "{full:?}");
        assert!(!sink.flush(Duration::from_millis(1)).unwrap());
        for _ in 0..accepted {
            // The writer takes several lines at once; more turns than it needs are fine.
            let _ = resume.send(());
        }
        assert!(sink.flush(PATIENCE).unwrap());
        let mut delivered = Vec::new();
        sink.deliveries(&mut delivered).unwrap();
        assert_eq!(delivered.iter().map(|d| d.count).sum::<u64>(), accepted);
    }

    #[test]
    fn a_reader_that_goes_away_is_no_failure() {
        let (_, gone) = mpsc::channel();
        let sink = StdoutSink::new(Paused(gone)).unwrap();
        sink.send(&record(None, None), Token(1)).unwrap();
        let error = sink.flush(PATIENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        let error = sink.deliveries(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    }
}
