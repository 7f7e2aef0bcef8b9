//! A thin wrapper of libpq: connecting, statements, and the copy protocol.
//!
//! Every wait for the server is a wait on the socket, never inside libpq, so that a
//! signal ends it within a fifth of a second. Connecting alone blocks in libpq, which has
//! its own timeout for each of several hosts.
//!
//! # Why session settings are set by a statement
//!
//! Timeouts that the role or the database has set would kill a session that waits for
//! Kafka, or the one that holds a snapshot open. They could be switched off by the
//! startup packet's `options`, but that would replace the user's own `options`. So they
//! are set by the first statement of each session; a statement before the snapshot is
//! exported does it no harm.

use std::cell::RefCell;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use headwater_protocol::Lsn;
use libpq::result::ErrorField;
use libpq::{Format, PQResult, Status};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};

use super::certificate;
use super::conninfo::{Conninfo, parameters};
use super::sql_error::SqlError;
use crate::stop::Stop;

/// How long one wait on a socket may last before the stop flag is looked at. Short
/// enough that a signal feels immediate, long enough to cost nothing.
const WAIT_SLICE: Duration = Duration::from_millis(200);

/// What a session needs to know before its connection string says otherwise. A peer
/// that vanished is noticed within a minute, and a host that does not answer is given
/// up after 10 seconds for the next one.
const DEFAULTS: [(&str, &str); 5] = [
    ("fallback_application_name", "headwater"),
    ("connect_timeout", "10"),
    ("keepalives_idle", "30"),
    ("keepalives_interval", "10"),
    ("keepalives_count", "3"),
];

/// Timeouts off, where this server has them, and names that depend on nobody's path.
const SESSION_SETTINGS: &str = "SELECT pg_catalog.set_config(name, \
       CASE name WHEN 'search_path' THEN '' WHEN 'client_min_messages' THEN 'error' ELSE '0' END, false) \
     FROM pg_catalog.pg_settings WHERE name IN ('statement_timeout', 'lock_timeout', \
       'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout', \
       'search_path', 'client_min_messages')";

/// Opens connections to one database.
#[derive(Clone, Debug)]
pub struct Connector {
    conninfo: Conninfo,
    stop: Stop,
}

impl Connector {
    /// Connects as `conninfo` says; waits of its connections end when `stop` is set.
    pub fn new(conninfo: Conninfo, stop: Stop) -> Self {
        Connector { conninfo, stop }
    }

    /// The same, with waits that end when another `stop` is set.
    pub fn stopped_by(&self, stop: Stop) -> Self {
        Connector {
            conninfo: self.conninfo.clone(),
            stop,
        }
    }

    /// Opens an ordinary session.
    pub fn connect(&self) -> Result<Connection, SqlError> {
        self.connect_telling(|| {})
    }

    /// The same; `connected` is called when the server has let the session in, which has taken no
    /// longer than `connect_timeout` for each address, and before its first statement.
    pub fn connect_telling(&self, connected: impl FnOnce()) -> Result<Connection, SqlError> {
        self.open(&[("client_encoding", "UTF8")], connected)
    }

    /// Opens a session that knows the replication commands as well as SQL.
    pub fn connect_replication(&self) -> Result<Connection, SqlError> {
        self.open(
            &[("client_encoding", "UTF8"), ("replication", "database")],
            || {},
        )
    }

    fn open(
        &self,
        overrides: &[(&str, &str)],
        connected: impl FnOnce(),
    ) -> Result<Connection, SqlError> {
        if self.stop.is_set() {
            return Err(SqlError::Interrupted);
        }
        // What the environment says is weaker than the string, and must not be.
        let defaults: Vec<(&str, &str)> = DEFAULTS
            .into_iter()
            .filter(|(key, _)| {
                *key != "connect_timeout" || std::env::var_os("PGCONNECT_TIMEOUT").is_none()
            })
            .collect();
        let conninfo = self.conninfo.complete(&defaults, overrides);
        if parameters(&conninfo).is_none() {
            return Err(SqlError::Unreadable);
        }
        let pq = libpq::Connection::new(&conninfo)
            .map_err(|error| certificate::explain(&conninfo, one_line(&error.to_string())))?;
        let connection = Connection {
            readiness: RefCell::new(Readiness::of(&pq)?),
            pq,
            stop: self.stop.clone(),
        };
        connected();
        connection.query(SESSION_SETTINGS)?;
        Ok(connection)
    }
}

/// One session. Dropping it closes the connection, whatever is under way.
pub struct Connection {
    pq: libpq::Connection,
    readiness: RefCell<Readiness>,
    stop: Stop,
}

/// What reading the copy stream gave.
pub enum CopyRead {
    /// One whole message, in the buffer that libpq allocated for it.
    Data(libpq::connection::PqBytes),
    /// No whole message has arrived yet.
    Pending,
    /// The server ended the stream; the result says how.
    Done,
}

impl Connection {
    /// The server's process.
    pub fn backend_pid(&self) -> u32 {
        self.pq.backend_pid()
    }

    /// `server_version_num`.
    pub fn server_version(&self) -> i32 {
        self.pq.server_version()
    }

    /// The database's name.
    pub fn database(&self) -> Result<String, SqlError> {
        self.pq
            .db()
            .map_err(|error| SqlError::Unexpected(error.to_string()))
    }

    /// Runs statements and returns the rows of the last one, as text.
    pub fn query(&self, sql: &str) -> Result<Rows, SqlError> {
        self.query_watched(sql, &mut |_| ())
    }

    /// As [`Connection::query`], calling `waiting` every fifth of a second or so with the
    /// time that has passed.
    pub fn query_watched(
        &self,
        sql: &str,
        waiting: &mut dyn FnMut(Duration),
    ) -> Result<Rows, SqlError> {
        self.pq.send_query(sql).map_err(|error| self.lost(&error))?;
        self.results(waiting)
    }

    /// Runs one statement with text parameters; results come in `format`.
    pub fn query_with(
        &self,
        sql: &str,
        parameters: &[&[u8]],
        format: Format,
    ) -> Result<Rows, SqlError> {
        let parameters = Parameters::new(parameters);
        self.pq
            .send_query_params(sql, &[], &parameters.values(), &[], format)
            .map_err(|error| self.lost(&error))?;
        self.results(&mut |_| ())
    }

    /// Prepares a statement under `name`, which waits for whoever has its tables for
    /// himself. `waiting` is called as in [`Connection::query_watched`].
    pub fn prepare(
        &self,
        name: &str,
        sql: &str,
        waiting: &mut dyn FnMut(Duration),
    ) -> Result<(), SqlError> {
        self.pq
            .send_prepare(Some(name), sql, &[])
            .map_err(|error| self.lost(&error))?;
        self.results(waiting).map(drop)
    }

    /// Runs a prepared statement with text parameters; results come as binary.
    /// `waiting` is called as in [`Connection::query_watched`].
    pub fn execute(
        &self,
        name: &str,
        parameters: &[&[u8]],
        waiting: &mut dyn FnMut(Duration),
    ) -> Result<Rows, SqlError> {
        let parameters = Parameters::new(parameters);
        self.pq
            .send_query_prepared(Some(name), &parameters.values(), &[], Format::Binary)
            .map_err(|error| self.lost(&error))?;
        self.results(waiting)
    }

    /// Begins a copy out of the server, or a replication stream.
    pub fn begin_copy(&self, sql: &str) -> Result<(), SqlError> {
        self.pq.send_query(sql).map_err(|error| self.lost(&error))?;
        self.wait_for_result(&mut |_| ())?;
        match self.pq.result() {
            None => Err(self.unexpected("the server ended a copy before it began")),
            Some(result) => match result.status() {
                Status::CopyOut | Status::CopyBoth => Ok(()),
                _ => Err(self.result_error(&result)),
            },
        }
    }

    /// Reads what has arrived of a copy, without waiting.
    pub fn copy_read(&self) -> Result<CopyRead, SqlError> {
        // The binding tells these two apart from errors by their text alone.
        const PENDING: &str = "COPY still in progress";
        const DONE: &str = "COPY is done";
        match self.pq.copy_data(true) {
            Ok(data) => Ok(CopyRead::Data(data)),
            Err(libpq::errors::Error::Backend(text)) if text == PENDING => Ok(CopyRead::Pending),
            Err(libpq::errors::Error::Backend(text)) if text == DONE => Ok(CopyRead::Done),
            Err(error) => Err(self.lost(&error)),
        }
    }

    /// Reads the next message of a copy, waiting for it as long as it takes.
    pub fn copy_next(&self) -> Result<Option<libpq::connection::PqBytes>, SqlError> {
        loop {
            match self.copy_read()? {
                CopyRead::Data(data) => return Ok(Some(data)),
                CopyRead::Done => return Ok(None),
                CopyRead::Pending => {
                    self.check_stop()?;
                    self.receive(WAIT_SLICE)?;
                }
            }
        }
    }

    /// Waits until something arrives, at most `timeout`, and takes it off the socket.
    pub fn receive(&self, timeout: Duration) -> Result<(), SqlError> {
        self.readiness.borrow_mut().wait(timeout)?;
        // Also after a timeout: bytes may sit decrypted in the TLS layer, where no poll
        // sees them.
        self.pq.consume_input().map_err(|error| self.lost(&error))
    }

    /// Sends one message of a copy. It is a few bytes, so this never waits for long.
    pub fn copy_write(&self, message: &[u8]) -> Result<(), SqlError> {
        self.pq
            .put_copy_data(message)
            .and_then(|()| self.pq.flush())
            .map_err(|error| self.lost(&error))
    }

    /// Says that no more is sent.
    pub fn copy_end(&self) -> Result<(), SqlError> {
        self.pq
            .put_copy_end(None)
            .and_then(|()| self.pq.flush())
            .map_err(|error| self.lost(&error))
    }

    /// After [`CopyRead::Done`]: how the copy ended.
    pub fn copy_result(&self) -> Result<(), SqlError> {
        loop {
            self.wait_for_result(&mut |_| ())?;
            let Some(result) = self.pq.result() else {
                return Ok(());
            };
            match result.status() {
                Status::CommandOk | Status::TuplesOk => {}
                // The direction towards the server is still open, and stays so: this
                // result would be returned for ever.
                Status::CopyOut | Status::CopyBoth | Status::CopyIn => return Ok(()),
                _ => return Err(self.result_error(&result)),
            }
        }
    }

    fn results(&self, waiting: &mut dyn FnMut(Duration)) -> Result<Rows, SqlError> {
        let mut last = None;
        let mut failed = None;
        loop {
            self.wait_for_result(waiting)?;
            let Some(result) = self.pq.result() else {
                break;
            };
            match result.status() {
                Status::CommandOk | Status::TuplesOk | Status::EmptyQuery => last = Some(result),
                Status::CopyOut | Status::CopyBoth | Status::CopyIn => {
                    return Err(self.unexpected("the server began a copy instead of answering"));
                }
                _ => failed = failed.or_else(|| Some(self.result_error(&result))),
            }
        }
        match (failed, last) {
            (Some(error), _) => Err(error),
            (None, Some(result)) => Ok(Rows { result }),
            (None, None) => Err(self.unexpected("the server gave no result")),
        }
    }

    fn wait_for_result(&self, waiting: &mut dyn FnMut(Duration)) -> Result<(), SqlError> {
        let start = Instant::now();
        while self.pq.is_busy() {
            self.check_stop()?;
            self.receive(WAIT_SLICE)?;
            waiting(start.elapsed());
        }
        Ok(())
    }

    fn check_stop(&self) -> Result<(), SqlError> {
        if self.stop.is_set() {
            Err(SqlError::Interrupted)
        } else {
            Ok(())
        }
    }

    fn result_error(&self, result: &PQResult) -> SqlError {
        let field = |field| result.error_field(field).ok().flatten().map(str::to_owned);
        let message = field(ErrorField::MessagePrimary)
            .or_else(|| result.error_message().ok().flatten())
            .map_or_else(|| "no message".to_owned(), |text| one_line(&text));
        match field(ErrorField::Sqlstate) {
            Some(sqlstate) => SqlError::Server {
                sqlstate,
                message,
                hint: field(ErrorField::MessageHint),
            },
            None if self.is_broken() => SqlError::Lost(message),
            None => SqlError::Unexpected(message),
        }
    }

    /// An error that libpq itself raised on this connection. What the server said last
    /// before it closed the connection is the better reason, if it said something.
    fn lost(&self, error: &libpq::errors::Error) -> SqlError {
        let text = error.to_string();
        // The lines after the first guess at reasons.
        let message = text.lines().next().unwrap_or("no reason given").to_owned();
        if !self.is_broken() {
            return SqlError::Unexpected(message);
        }
        while let Some(result) = self.pq.result() {
            if let server @ SqlError::Server { .. } = self.result_error(&result) {
                return server;
            }
            if matches!(
                result.status(),
                Status::CopyOut | Status::CopyBoth | Status::CopyIn
            ) {
                break;
            }
        }
        SqlError::Lost(message)
    }

    fn is_broken(&self) -> bool {
        self.pq.status() == libpq::connection::Status::Bad
    }

    fn unexpected(&self, message: &str) -> SqlError {
        if self.is_broken() {
            SqlError::Lost(message.to_owned())
        } else {
            SqlError::Unexpected(message.to_owned())
        }
    }
}

/// The rows of a result.
pub struct Rows {
    result: PQResult,
}

impl Rows {
    /// How many.
    pub fn len(&self) -> usize {
        self.result.ntuples()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A value's bytes; none where it is null.
    pub fn bytes(&self, row: usize, column: usize) -> Option<&[u8]> {
        (row < self.len()).then(|| self.result.value(row, column))?
    }

    /// A value's text; none where it is null.
    pub fn optional(&self, row: usize, column: usize) -> Result<Option<&str>, SqlError> {
        self.bytes(row, column)
            .map(|bytes| {
                std::str::from_utf8(bytes).map_err(|_| {
                    SqlError::Unexpected(format!("column {column} of a result is not UTF-8"))
                })
            })
            .transpose()
    }

    /// A value's text, which must be there.
    pub fn text(&self, row: usize, column: usize) -> Result<&str, SqlError> {
        self.optional(row, column)?.ok_or_else(|| {
            SqlError::Unexpected(format!("column {column} of a result is null or missing"))
        })
    }

    /// A value read as `T`, which must be there.
    pub fn parse<T: std::str::FromStr>(&self, row: usize, column: usize) -> Result<T, SqlError> {
        let text = self.text(row, column)?;
        text.parse().map_err(|_| {
            SqlError::Unexpected(format!(
                "column {column} of a result is \"{text}\", which is no {}",
                std::any::type_name::<T>()
            ))
        })
    }

    /// A value read as boolean.
    pub fn flag(&self, row: usize, column: usize) -> Result<bool, SqlError> {
        Ok(self.text(row, column)? == "t")
    }

    /// A value read as LSN.
    pub fn lsn(&self, row: usize, column: usize) -> Result<Lsn, SqlError> {
        self.parse(row, column)
    }
}

/// Text parameters with the terminating zero that libpq reads up to.
struct Parameters(Vec<Vec<u8>>);

impl Parameters {
    fn new(values: &[&[u8]]) -> Self {
        Parameters(
            values
                .iter()
                .map(|value| [value, b"\0".as_slice()].concat())
                .collect(),
        )
    }

    fn values(&self) -> Vec<Option<&[u8]>> {
        self.0.iter().map(|value| Some(value.as_slice())).collect()
    }
}

/// Waits for a connection's socket to become readable.
struct Readiness {
    poll: Poll,
    events: Events,
    socket: RawFd,
}

impl Readiness {
    const SOCKET: mio::Token = mio::Token(0);

    fn of(pq: &libpq::Connection) -> Result<Self, SqlError> {
        let socket = pq
            .socket()
            .map_err(|error| SqlError::Connect(error.to_string()))?;
        let poll = Poll::new().map_err(|error| wait_error(&error))?;
        poll.registry()
            .register(&mut SourceFd(&socket), Self::SOCKET, Interest::READABLE)
            .map_err(|error| wait_error(&error))?;
        Ok(Readiness {
            poll,
            events: Events::with_capacity(1),
            socket,
        })
    }

    /// Registering anew makes the kernel look at the socket again: events come for
    /// changes alone, and libpq may have left bytes unread.
    fn wait(&mut self, timeout: Duration) -> Result<(), SqlError> {
        self.poll
            .registry()
            .reregister(
                &mut SourceFd(&self.socket),
                Self::SOCKET,
                Interest::READABLE,
            )
            .and_then(|()| self.poll.poll(&mut self.events, Some(timeout)))
            .or_else(|error| match error.kind() {
                std::io::ErrorKind::Interrupted => Ok(()),
                _ => Err(wait_error(&error)),
            })
    }
}

fn wait_error(error: &std::io::Error) -> SqlError {
    SqlError::Unexpected(format!("cannot wait for the server: {error}"))
}

/// libpq ends its messages with a line break and puts several hosts on lines of their own.
fn one_line(message: &str) -> String {
    let lines: Vec<&str> = message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    lines.join("; ")
}
