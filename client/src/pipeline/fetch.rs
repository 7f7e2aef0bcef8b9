//! Reads a row as it is now, for an update whose large values are not in the WAL.
//!
//! # Why the topic still converges
//!
//! What is read may be newer than the change, never older; whatever made it newer is
//! a later change that the stream brings too. A row that is not there was deleted or
//! got another key by such a later change, and the record is left out.
//!
//! While the table has no such key, or one of other columns, the row cannot be looked up
//! and the topic keeps an older one: that is the caller's to say, by the table's name. Each
//! change looks again, so a key that was dropped and made anew is found as soon as it is there.
//!
//! # Why the transaction is waited for
//!
//! A walsender streams a commit as soon as its WAL is flushed. Other sessions see the
//! commit a moment later, and with synchronous standbys only when those have answered.
//! A row read in between would be *older* than the change, and nothing after would
//! mend it. So before the first row of a transaction is read, its id must be visible.
//!
//! # How the row is found
//!
//! By the relation's OID, so that a rename does not matter, and as [`Key`] says.
//!
//! # Whose schemas the row has
//!
//! Those that its table was described with when the lookup was prepared. The lookup names their
//! fingerprint, and the encoder refuses a row that it would encode by others (SQLSTATE 40001): the
//! schemas of a row type change without a lock of the tables that use it, so nothing less
//! tells. The table is then described anew.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use headwater_protocol::frame::{Frame, Frames, Op};

use crate::error::{Error, ErrorKind, Result};
use crate::source::connection::{Connection, Connector, Rows};
use crate::source::key::Key;
use crate::source::plugin::Plugin;
use crate::source::snapshot::Description;
use crate::source::sql_error::{SqlError, sqlstate};

/// Between two looks at whether a transaction is visible: it takes microseconds where
/// no standby is waited for.
const VISIBILITY_INTERVAL: Duration = Duration::from_millis(2);

/// After this long somebody should know what is waited for.
const VISIBILITY_REPORT: Duration = Duration::from_secs(5);

/// Whether a transaction id is visible, the epoch taken from what comes next: ids
/// that are streamed are within half a cycle of it.
const IS_VISIBLE: &str = "SELECT pg_catalog.pg_visible_in_snapshot((next \
       + ((($1::int8 - next + 2147483648) % 4294967296) + 4294967296) % 4294967296 - 2147483648 \
     )::text::pg_catalog.xid8, s)::text \
     FROM (SELECT s, pg_catalog.pg_snapshot_xmax(s)::text::int8 AS next \
       FROM pg_catalog.pg_current_snapshot() AS s) AS now";

/// SQLSTATEs of a statement that names what was changed or dropped meanwhile, the schemas of its
/// rows among it. Whether it
/// was the table, the catalog says; anything else that is missing, the extension for
/// one, is an error: rows must not be left out for it.
const STALE: [&str; 6] = [
    sqlstate::SERIALIZATION_FAILURE,
    sqlstate::UNDEFINED_TABLE,
    sqlstate::UNDEFINED_COLUMN,
    sqlstate::UNDEFINED_FUNCTION,
    sqlstate::UNDEFINED_OBJECT,
    sqlstate::INVALID_SCHEMA_NAME,
];

/// Reads rows over one ordinary session, opened when it is first needed.
pub(super) struct Fetch<'a> {
    connector: &'a Connector,
    plugin: &'a Plugin,
    connection: Option<Connection>,
    /// By relation.
    statements: HashMap<u32, Statement>,
    prepared: u64,
    /// The transaction that was last seen to be visible.
    visible: Option<u32>,
}

/// A prepared statement.
struct Statement {
    name: String,
    /// Those that rows are looked up by. A change that was held may have another key than the newest
    /// of its table: by this statement its row would not be found, and be taken for deleted.
    key_columns: Vec<String>,
    /// What it takes the rows to be.
    description: Rc<Description>,
}

/// What was found.
pub(super) enum Fetched {
    /// The row.
    Row(FetchedRow),
    /// No such row: the change that removed it follows.
    Nothing,
    /// No such table or key any more: whether there is such a row cannot be told.
    Lost,
}

/// A row as the server encoded it.
pub(super) struct FetchedRow {
    rows: Rows,
    description: Rc<Description>,
}

impl FetchedRow {
    /// The row's value, or the reason why it has none.
    pub(super) fn value(&self) -> Result<Result<&[u8], String>> {
        let frame = self.rows.bytes(0, 0).unwrap_or_default();
        match Frames::new(frame).next() {
            Some(Ok(Frame::Change(change))) if change.op == Op::Read => change
                .value
                .map(Ok)
                .ok_or_else(|| Error::failed("a fetched row has no value")),
            Some(Ok(Frame::Quarantine(quarantine))) => Ok(Err(quarantine.reason.to_owned())),
            Some(Err(error)) => Err(Error::failed("a fetched row is no frame").with_source(error)),
            _ => Err(Error::failed(
                "a fetched row came as another frame than a row",
            )),
        }
    }

    /// The schemas of its key and of its value, where rows have schemas. They may be newer than
    /// those of the change.
    pub(super) fn schemas(&self) -> Option<(Option<&str>, &str)> {
        let (key, value) = self.description.schemas.as_ref()?;
        Some((key.as_deref(), value))
    }
}

impl<'a> Fetch<'a> {
    /// Nothing is opened yet.
    pub(super) fn new(connector: &'a Connector, plugin: &'a Plugin) -> Self {
        Fetch {
            connector,
            plugin,
            connection: None,
            statements: HashMap::new(),
            prepared: 0,
            visible: None,
        }
    }

    /// The relation may have changed.
    pub(super) fn forget(&mut self, relation: u32) {
        if let (Some(statement), Some(connection)) =
            (self.statements.remove(&relation), &self.connection)
        {
            // At worst it stays until the session ends.
            let _ = connection.query(&format!("DEALLOCATE {}", statement.name));
        }
    }

    /// Closes the session.
    pub(super) fn disconnect(&mut self) {
        self.connection = None;
        self.statements.clear();
        self.visible = None;
    }

    /// The row of `relation` with `key`, as JSON of `key_columns`, not older than
    /// transaction `xid`. `tick` is called while that is waited for.
    pub(super) fn row(
        &mut self,
        relation: u32,
        key_columns: &[String],
        key: &[u8],
        xid: u32,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Fetched> {
        let result = self.try_row(relation, key_columns, key, xid, tick);
        if result
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::Disconnected)
        {
            self.disconnect();
        }
        result
    }

    fn try_row(
        &mut self,
        relation: u32,
        key_columns: &[String],
        key: &[u8],
        xid: u32,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Fetched> {
        self.await_visible(xid, tick)?;
        match self.query_row(relation, key_columns, key, tick) {
            Err(error) if error.is_any_of(&STALE) => {
                self.forget(relation);
                Ok(self.query_row(relation, key_columns, key, tick)?)
            }
            // The key is no value of the type that its columns have by now, so no row has
            // it. The message would quote the key.
            Err(error) if error.is_data_exception() => Ok(Fetched::Lost),
            other => Ok(other?),
        }
    }

    fn query_row(
        &mut self,
        relation: u32,
        key_columns: &[String],
        key: &[u8],
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Fetched, SqlError> {
        // A statement that has the table for itself keeps this waiting. An error of
        // `tick` comes again with the next one.
        let mut waiting = |_| drop(tick());
        let Some(statement) = self.statement(relation, key_columns, &mut waiting)? else {
            return Ok(Fetched::Lost);
        };
        let (name, description) = (statement.name.clone(), Rc::clone(&statement.description));
        let rows = self.connection()?.execute(&name, &[key], &mut waiting)?;
        if rows.is_empty() {
            Ok(Fetched::Nothing)
        } else {
            Ok(Fetched::Row(FetchedRow { rows, description }))
        }
    }

    fn await_visible(&mut self, xid: u32, tick: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        if self.visible == Some(xid) {
            return Ok(());
        }
        let start = Instant::now();
        let mut reported = false;
        let parameter = xid.to_string();
        loop {
            let rows = self.connection()?.query_with(
                IS_VISIBLE,
                &[parameter.as_bytes()],
                libpq::Format::Text,
            )?;
            if rows.text(0, 0)? == "true" {
                self.visible = Some(xid);
                return Ok(());
            }
            if start.elapsed() > VISIBILITY_REPORT && !std::mem::replace(&mut reported, true) {
                tracing::warn!(
                    xid,
                    "waiting for a transaction to become visible: its commit may wait for a synchronous standby"
                );
            }
            tick()?;
            std::thread::sleep(VISIBILITY_INTERVAL);
        }
    }

    fn connection(&mut self) -> Result<&Connection, SqlError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connection = self.connector.connect()?;
                connection.query("SET row_security = off")?;
                connection
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// None if the relation is gone or has another key now.
    fn statement(
        &mut self,
        relation: u32,
        key_columns: &[String],
        waiting: &mut dyn FnMut(Duration),
    ) -> Result<Option<&Statement>, SqlError> {
        let known = self.statements.get(&relation);
        if known.is_none_or(|known| known.key_columns != key_columns) {
            self.forget(relation);
            let Some(statement) = self.prepare(relation, key_columns, waiting)? else {
                return Ok(None);
            };
            self.statements.insert(relation, statement);
        }
        Ok(self.statements.get(&relation))
    }

    fn prepare(
        &mut self,
        relation: u32,
        key_columns: &[String],
        waiting: &mut dyn FnMut(Duration),
    ) -> Result<Option<Statement>, SqlError> {
        let key = Key::read(self.connection()?, relation)?;
        let Some(key) = key.filter(|key| key.is_made_of(key_columns)) else {
            return Ok(None);
        };
        let description = self.describe(relation, waiting)?;
        let lookup = key.lookup(self.plugin, description.fingerprint());
        self.prepared += 1;
        let name = format!("fetch_{}", self.prepared);
        self.connection()?.prepare(&name, &lookup, waiting)?;
        Ok(Some(Statement {
            name,
            key_columns: key_columns.to_vec(),
            description: Rc::new(description),
        }))
    }

    fn describe(
        &mut self,
        relation: u32,
        waiting: &mut dyn FnMut(Duration),
    ) -> Result<Description, SqlError> {
        let table = format!("{relation}::pg_catalog.regclass");
        let query = format!("SELECT {}", self.plugin.relation_call(&table));
        let connection = self.connection()?;
        // The unnamed statement, which the next one replaces.
        connection.prepare("", &query, waiting)?;
        let rows = connection.execute("", &[], waiting)?;
        Description::read(&rows, &relation.to_string())
            .map_err(|error| SqlError::Unexpected(error.to_string()))
    }
}
