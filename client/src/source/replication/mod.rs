//! The replication stream: a slot's changes in, positions out.

mod message;

use std::time::{Duration, SystemTime};

use headwater_protocol::Lsn;

pub use message::{MessageError, ServerMessage, StatusUpdate, WAL_DATA_HEADER_BYTES};

use super::connection::{Connection, CopyRead};
use super::sql;
use super::sql_error::SqlError;
use crate::error::{Error, ErrorKind, Result};

/// Seconds from 1970-01-01 to 2000-01-01, where Postgres' clocks begin.
const POSTGRES_EPOCH: Duration = Duration::from_secs(946_684_800);

/// How long a clean end may take. The server answers at once unless it is in the
/// middle of a transaction; then leaving without its answer loses nothing.
const END_DEADLINE: Duration = Duration::from_secs(2);

/// A slot's stream. While it lives, the slot belongs to this process.
pub struct ReplicationStream {
    connection: Connection,
    /// The highest position that was received.
    written: Lsn,
}

/// What came from the server.
pub enum Event {
    /// A write of the plugin.
    Write(Write),
    /// Everything before a position was sent.
    Keepalive {
        /// The position.
        wal_end: Lsn,
        /// The server wants a status update now.
        reply: bool,
    },
    /// Nothing within the timeout.
    Nothing,
}

/// One write of the plugin, in the buffer that libpq allocated for it.
pub struct Write(libpq::connection::PqBytes);

impl Write {
    /// The plugin's bytes.
    pub fn payload(&self) -> &[u8] {
        self.0.get(WAL_DATA_HEADER_BYTES..).unwrap_or_default()
    }
}

impl ReplicationStream {
    /// Takes the slot and streams from `start`, or from where the slot stands if that is
    /// later. `options` are the plugin's.
    pub fn start(
        connection: Connection,
        slot: &str,
        start: Lsn,
        options: &[(&str, String)],
    ) -> Result<Self, SqlError> {
        let options: Vec<String> = options
            .iter()
            .map(|(name, value)| {
                format!(
                    "{} {}",
                    sql::identifier(name),
                    sql::replication_literal(value)
                )
            })
            .collect();
        connection.begin_copy(&format!(
            "START_REPLICATION SLOT {} LOGICAL {start} ({})",
            sql::identifier(slot),
            options.join(", ")
        ))?;
        Ok(ReplicationStream {
            connection,
            written: start,
        })
    }

    /// The next message, if it has arrived.
    pub fn arrived(&mut self) -> Result<Option<Event>> {
        match self.connection.copy_read()? {
            CopyRead::Data(data) => self.event(data).map(Some),
            CopyRead::Done => Err(self.ended()),
            CopyRead::Pending => Ok(None),
        }
    }

    /// The next message; waits at most `timeout` for it.
    pub fn read(&mut self, timeout: Duration) -> Result<Event> {
        if let Some(event) = self.arrived()? {
            return Ok(event);
        }
        self.wait(timeout)
    }

    /// The next message when none has arrived: waits at most `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<Event> {
        self.connection.receive(timeout)?;
        Ok(self.arrived()?.unwrap_or(Event::Nothing))
    }

    fn event(&mut self, data: libpq::connection::PqBytes) -> Result<Event> {
        let message = ServerMessage::parse(&data)
            .map_err(|error| Error::failed("the server broke the protocol").with_source(error))?;
        Ok(match message {
            ServerMessage::WalData { start } => {
                self.written = self.written.max(start);
                Event::Write(Write(data))
            }
            ServerMessage::Keepalive { wal_end, reply } => {
                self.written = self.written.max(wal_end);
                Event::Keepalive { wal_end, reply }
            }
        })
    }

    fn ended(&self) -> Error {
        match self.connection.copy_result() {
            Err(error) => error.into(),
            Ok(()) => Error::new(
                ErrorKind::Disconnected,
                "the server ended the replication stream",
            ),
        }
    }

    /// Tells the server that everything before `flushed` is durable. With `reply` it
    /// answers with a keepalive.
    pub fn send_status(&self, flushed: Lsn, reply: bool) -> Result<()> {
        let update = StatusUpdate {
            written: self.written.max(flushed),
            flushed,
            clock: clock(),
            reply,
        };
        Ok(self.connection.copy_write(&update.encode())?)
    }

    /// Ends the stream such that the server has read every status update before.
    pub fn end(self) -> Result<()> {
        self.connection.copy_end()?;
        let start = std::time::Instant::now();
        while start.elapsed() < END_DEADLINE {
            match self.connection.copy_read()? {
                CopyRead::Data(_) => {}
                CopyRead::Done => return Ok(()),
                CopyRead::Pending => self.connection.receive(Duration::from_millis(50))?,
            }
        }
        tracing::debug!("the server did not answer the end of the stream in time");
        Ok(())
    }
}

fn clock() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH + POSTGRES_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .unwrap_or(0)
}
