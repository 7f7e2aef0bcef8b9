//! Sessions that see the captured tables as of one point of the WAL.
//!
//! The locks come first, then the slot that exports the snapshot, then the sessions import
//! it, and last the catalog is read in it: the order that the snapshot's module explains.
//! A snapshot for the stream and one to compare with differ in what is done with the rows,
//! and in nothing here.

use headwater_protocol::Lsn;
use headwater_protocol::avro::Fingerprint;
use headwater_protocol::frame::{Frame, Frames};
use libpq::Format;

use super::exporter::Exporter;
use super::guard::Guard;
use super::until_undisturbed;
use crate::error::{Error, Result};
use crate::source::catalog::{Catalog, Table, TableName};
use crate::source::connection::{Connection, Connector, Rows};
use crate::source::plugin::Plugin;
use crate::source::sql;
use crate::source::sql_error::SqlError;
use crate::stop::Stop;

/// What a view needs.
#[derive(Clone, Copy)]
pub struct ViewOptions<'a> {
    /// Opens its sessions.
    pub connector: &'a Connector,
    /// Which tables there are, and how their rows are encoded.
    pub plugin: &'a Plugin,
    /// How many sessions see it: at least one.
    pub sessions: u16,
    /// Which of the tables are looked at.
    pub captures: &'a dyn Fn(&Table) -> bool,
}

/// The captured tables as of the consistent point. The temporary slot lives as long as this.
pub struct View {
    catalog: Catalog,
    sessions: Vec<Connection>,
    exporter: Exporter,
    guard: Guard,
    reporter: Connection,
}

impl View {
    /// Opens a view, which changes nothing and keeps no stream from going on.
    ///
    /// # Errors
    /// The tables do not come to rest, the server refuses, or `stop` is set.
    pub fn open(options: &ViewOptions<'_>, stop: &Stop) -> Result<Self> {
        until_undisturbed(stop, "the view of the tables", || {
            let guard = Guard::open(options.connector)?;
            View::try_open(options, guard)
        })
    }

    /// None if the tables cannot be locked, or are not those of the snapshot.
    pub(super) fn try_open(options: &ViewOptions<'_>, mut guard: Guard) -> Result<Option<Self>> {
        let reporter = options.connector.connect()?;
        let listed = Catalog::read(guard.connection(), options.plugin)?;
        if !guard.lock(captured(&listed, options), &reporter)? {
            return Ok(None);
        }
        let Some(sessions) = companions(&guard, options)? else {
            return Ok(None);
        };
        let locking = sessions.iter().chain([guard.connection()]);
        let locking: Vec<u32> = locking.map(Connection::backend_pid).collect();
        let Some(exporter) = Exporter::create(options.connector, &reporter, &locking)? else {
            return Ok(None);
        };
        for session in &sessions {
            exporter.import(session)?;
        }
        let Some(first) = sessions.first() else {
            return Err(Error::failed("a snapshot needs a session"));
        };
        let catalog = Catalog::read(first, options.plugin)?;
        if !captured(&catalog, options).all(|table| guard.holds(table)) {
            return Ok(None);
        }
        Ok(Some(View {
            catalog,
            sessions,
            exporter,
            guard,
            reporter,
        }))
    }

    /// Everything that committed before it is seen, nothing after it.
    pub fn consistent_point(&self) -> Lsn {
        self.exporter.consistent_point()
    }

    /// The tables as they are seen.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// A session that sees nothing in particular, and holds no lock.
    pub(super) fn reporter(&self) -> &Connection {
        &self.reporter
    }

    /// The sessions, each in its one transaction. They can be taken once.
    pub fn take_sessions(&mut self) -> Vec<Connection> {
        std::mem::take(&mut self.sessions)
    }

    /// A table as a session that has not been taken sees it.
    ///
    /// # Errors
    /// The table cannot be described, or the sessions were taken.
    pub fn describe(&self, plugin: &Plugin, table: &TableName) -> Result<Description> {
        let Some(session) = self.sessions.first() else {
            return Err(Error::failed("the sessions of a snapshot are gone"));
        };
        let table = table.sql();
        Description::read(&describe(plugin, &table, session)?, &table)
    }

    /// Lets the tables go. That this succeeds proves that locks and slot were held until now.
    pub fn release(&mut self) -> Result<()> {
        self.guard.release()?;
        Ok(self.exporter.verify()?)
    }

    /// What outlives the copy: the slot, and whoever holds the advisory lock.
    pub(super) fn into_parts(self) -> (Exporter, Guard) {
        (self.exporter, self.guard)
    }
}

/// The tables that are looked at.
pub(super) fn captured<'c>(
    catalog: &'c Catalog,
    options: &ViewOptions<'c>,
) -> impl Iterator<Item = &'c Table> + use<'c> {
    let captures = options.captures;
    catalog.tables.iter().filter(move |table| captures(table))
}

/// None if one does not get its locks.
fn companions(guard: &Guard, options: &ViewOptions<'_>) -> Result<Option<Vec<Connection>>> {
    (0..options.sessions)
        .map(|_| guard.companion(options.connector))
        .collect()
}

/// A table as the plugin describes it, so that whoever copies and whoever streams cannot come
/// to different names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Description {
    /// The relation that its rows are sent as.
    pub relation: u32,
    /// The schema that names its topic, unquoted.
    pub schema: String,
    /// The table that names its topic, unquoted.
    pub table: String,
    /// Whether its rows have keys.
    pub is_keyed: bool,
    /// The schemas of its records, as JSON, of the key and of the value; none where they have none.
    pub schemas: Option<(Option<String>, String)>,
}

/// Asks for the relation frame of a table, whose name is SQL.
pub fn describe(plugin: &Plugin, table: &str, session: &Connection) -> Result<Rows, SqlError> {
    let regclass = format!("{}::pg_catalog.regclass", sql::literal(table));
    let query = format!("SELECT {}", plugin.relation_call(&regclass));
    session.query_with(&query, &[], Format::Binary)
}

impl Description {
    /// Of its schemas.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        let (key, value) = self.schemas.as_ref()?;
        Some(Fingerprint::of(key.as_deref(), value))
    }

    /// Reads the answer of [`describe`].
    pub fn read(described: &Rows, table: &str) -> Result<Self> {
        let mut description = None;
        for frame in Frames::new(described.bytes(0, 0).unwrap_or_default()) {
            let frame = frame.map_err(|error| {
                Error::failed("a table's description is no frame").with_source(error)
            })?;
            match (frame, &mut description) {
                (Frame::Relation(relation), _) => {
                    description = Some(Description {
                        relation: relation.id,
                        schema: relation.schema.to_owned(),
                        table: relation.table.to_owned(),
                        is_keyed: relation.is_keyed(),
                        schemas: None,
                    });
                }
                (Frame::Schemas(schemas), Some(description)) => {
                    let key = schemas.key.map(str::to_owned);
                    description.schemas = Some((key, schemas.value.to_owned()));
                }
                _ => {}
            }
        }
        description
            .ok_or_else(|| Error::failed(format!("the server did not describe table {table}")))
    }
}
