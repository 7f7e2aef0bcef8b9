//! Records as lines on stdout: key, TAB, value; `null` for what is absent.

use std::io::{BufWriter, ErrorKind as IoErrorKind, Stdout, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Delivered, Ghosts, Headers, Record, SendError, Sink, Token, TopicId};
use crate::error::{Error, ErrorKind, Result};

/// Lines are written out when the pipeline collects deliveries, or when so much has
/// gathered.
const BUFFER_BYTES: usize = 64 << 10;

/// Prints records. One is delivered when its line has been written out.
pub struct StdoutSink<W: Write + Send = Stdout>(Mutex<Lines<W>>);

struct Lines<W: Write> {
    out: BufWriter<W>,
    /// What is in the buffer, or was written and not reported yet.
    unreported: Vec<Delivered>,
}

impl Default for StdoutSink {
    fn default() -> Self {
        StdoutSink::new(std::io::stdout())
    }
}

impl<W: Write + Send> StdoutSink<W> {
    /// Prints to `out`.
    pub fn new(out: W) -> Self {
        StdoutSink(Mutex::new(Lines {
            out: BufWriter::with_capacity(BUFFER_BYTES, out),
            unreported: Vec::new(),
        }))
    }

    /// A panic elsewhere cannot leave a line half counted.
    fn lock(&self) -> MutexGuard<'_, Lines<W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write> Lines<W> {
    fn line(&mut self, record: &Record<'_>) -> std::io::Result<()> {
        self.field(record.key)?;
        self.out.write_all(b"\t")?;
        self.field(record.value)?;
        self.out.write_all(b"\n")
    }

    /// Within JSON a bare line break or TAB stands between tokens only, where a space
    /// means the same.
    fn field(&mut self, bytes: Option<&[u8]>) -> std::io::Result<()> {
        let Some(bytes) = bytes else {
            return self.out.write_all(b"null");
        };
        for (index, part) in bytes
            .split(|byte| matches!(byte, b'\n' | b'\r' | b'\t'))
            .enumerate()
        {
            if index > 0 {
                self.out.write_all(b" ")?;
            }
            self.out.write_all(part)?;
        }
        Ok(())
    }

    fn accepted(&mut self, token: Token) {
        match self.unreported.last_mut() {
            Some(last) if last.token == token => last.count += 1,
            _ => self.unreported.push(Delivered { token, count: 1 }),
        }
    }
}

impl<W: Write + Send> Sink for StdoutSink<W> {
    fn open_topic(&self, _name: &str) -> Result<TopicId> {
        Ok(TopicId(0))
    }

    fn send(&self, record: &Record<'_>, token: Token) -> Result<(), SendError> {
        let mut lines = self.lock();
        lines
            .line(record)
            .map_err(|error| SendError::Failed(write_error(error)))?;
        lines.accepted(token);
        Ok(())
    }

    fn deliveries(&self, into: &mut Vec<Delivered>) -> Result<()> {
        let mut lines = self.lock();
        if !lines.unreported.is_empty() {
            lines.out.flush().map_err(write_error)?;
            into.append(&mut lines.unreported);
        }
        Ok(())
    }

    fn wait(&self, timeout: Duration) {
        // A write blocks until the reader takes it, so there is never less room later.
        std::thread::sleep(timeout.min(Duration::from_millis(10)));
    }

    fn flush(&self, _timeout: Duration) -> Result<bool> {
        self.lock().out.flush().map_err(write_error)?;
        Ok(true)
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
}

/// A reader that has seen enough, as `head` does, is no failure.
fn write_error(error: std::io::Error) -> Error {
    if error.kind() == IoErrorKind::BrokenPipe {
        Error::new(ErrorKind::Interrupted, "the reader of stdout has gone")
    } else {
        Error::failed("cannot write to stdout").with_source(error)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use headwater_protocol::Lsn;

    use super::*;

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

    #[test]
    fn a_record_is_a_line_and_delivered_once_written() {
        let mut out = Vec::new();
        let sink = StdoutSink::new(&mut out);
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
        let mut delivered = Vec::new();
        sink.deliveries(&mut delivered).unwrap();
        let count = |token, count| Delivered {
            token: Token(token),
            count,
        };
        assert_eq!(delivered, [count(1, 2), count(2, 1)]);
        drop(sink);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"id\":1}\t{\"a\":  2}\n{\"id\":1}\tnull\nnull\t{}\n"
        );
    }

    #[test]
    fn a_reader_that_goes_away_is_no_failure() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(IoErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let sink = StdoutSink::new(Closed);
        sink.send(&record(None, None), Token(1)).unwrap();
        let error = sink.deliveries(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    }
}
