//! The session that keeps tables as they are while they are copied.
//!
//! A rewriting ALTER between the export of a snapshot and the copy of a table would
//! leave the copy empty without any error: the new file holds no row that the old
//! snapshot sees. `ACCESS SHARE` keeps such an ALTER, a TRUNCATE and a rename waiting
//! and delays nothing else; the session has no transaction id, so nothing waits for it
//! either, least of all the slot that is created meanwhile.
//!
//! # Why the copying sessions hold the same locks
//!
//! A statement that wants a table for itself queues behind the guard, and everyone who
//! asks for that table later queues behind the statement, a copying session too. The
//! guard would wait for the copy, the copy for the statement and the statement for
//! the guard: a deadlock that the server cannot see, because the guard's wait is in
//! the client. So every session takes its locks before the slot is created, the guard
//! patiently, the others without waiting; where one is refused, all let go, the
//! statement gets its turn, and the snapshot begins anew.
//!
//! # Why partitioned tables are locked too
//!
//! Under `--partitions root` the shape and the topic of a partition's rows are those of the
//! table at the top: a DETACH or a renamed column in between would change them within one
//! copy. Those at the top are locked first, as statements on them do it, so that no two
//! sessions can wait for each other.
//!
//! Where the copy is for a stream, the same session holds an advisory lock named after the
//! slot: two instances that copied at once could overwrite records of the other's stream with
//! older rows.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::waiting::Waiting;
use crate::error::{Error, ErrorKind, Result};
use crate::source::catalog::{Table, TableName};
use crate::source::connection::{Connection, Connector, Rows};
use crate::source::sql;
use crate::source::sql_error::{SqlError, sqlstate};

/// How long to wait for an instance that is just going away.
const PATIENCE: Duration = Duration::from_secs(3);

/// Locks on every captured table, held until [`Guard::release`] or the end of the
/// session.
pub(super) struct Guard {
    connection: Connection,
    /// With how many partitioned tables stand above: so the order is from the top down.
    locked: BTreeSet<(usize, TableName)>,
}

impl Guard {
    /// Opens the session.
    pub(super) fn open(connector: &Connector) -> Result<Self> {
        Ok(Guard {
            connection: connector.connect()?,
            locked: BTreeSet::new(),
        })
    }

    /// Takes the advisory lock of `slot`, which one that copies for its stream has alone.
    pub(super) fn claim(&self, slot: &str) -> Result<()> {
        let start = Instant::now();
        while !try_lock(&self.connection, slot)? {
            if start.elapsed() > PATIENCE {
                return Err(other_instance(&self.connection, slot)?);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// The session, for reading the catalog before the locks are taken.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Locks the tables, waiting for those who have them now. False if one of them is
    /// gone: read the catalog again.
    pub(super) fn lock<'t>(
        &mut self,
        tables: impl Iterator<Item = &'t Table>,
        reporter: &Connection,
    ) -> Result<bool> {
        self.connection
            .query("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY")?;
        for table in tables {
            self.locked.extend(needed(table));
        }
        let Some(statement) = self.lock_statement() else {
            return Ok(true);
        };
        let pid = self.connection.backend_pid();
        let mut waiting = Waiting::new(reporter, pid, "locks on the captured tables");
        is_locked(
            self.connection
                .query_watched(&statement, &mut |waited| waiting.report(waited)),
        )
    }

    /// Opens a session that holds the same locks, in a transaction that has seen
    /// nothing yet. None if somebody waits for one of the tables.
    pub(super) fn companion(&self, connector: &Connector) -> Result<Option<Connection>> {
        let connection = connector.connect()?;
        connection.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        let locked = match self.lock_statement() {
            None => true,
            Some(statement) => is_locked(connection.query(&format!("{statement} NOWAIT")))?,
        };
        Ok(locked.then_some(connection))
    }

    fn lock_statement(&self) -> Option<String> {
        let names: Vec<String> = self.locked.iter().map(|(_, name)| name.sql()).collect();
        (!names.is_empty()).then(|| {
            format!(
                "LOCK TABLE ONLY {} IN ACCESS SHARE MODE",
                names.join(", ONLY ")
            )
        })
    }

    /// Whether the locks on a table and on those above it are held. Names identify tables
    /// here: a locked table cannot be renamed.
    pub(super) fn holds(&self, table: &Table) -> bool {
        needed(table).all(|name| self.locked.contains(&name))
    }

    /// Lets the tables go. That this succeeds proves that the locks were held until now.
    pub(super) fn release(&mut self) -> Result<(), SqlError> {
        self.connection.query("COMMIT").map(drop)
    }
}

/// The locks that a table's copy needs.
fn needed(table: &Table) -> impl Iterator<Item = (usize, TableName)> {
    let own = TableName {
        schema: table.schema.clone(),
        table: table.name.clone(),
    };
    table.ancestors.iter().cloned().chain([own]).enumerate()
}

/// Tells locks that another try may get from other errors.
fn is_locked(result: Result<Rows, SqlError>) -> Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error)
            if error.is_any_of(&[
                sqlstate::UNDEFINED_TABLE,
                sqlstate::INVALID_SCHEMA_NAME,
                sqlstate::LOCK_NOT_AVAILABLE,
                sqlstate::DEADLOCK_DETECTED,
            ]) =>
        {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

fn try_lock(connection: &Connection, slot: &str) -> Result<bool, SqlError> {
    let statement = format!("SELECT pg_catalog.pg_try_advisory_lock({})", lock_key(slot));
    connection.query(&statement)?.flag(0, 0)
}

fn lock_key(slot: &str) -> String {
    format!(
        "pg_catalog.hashtext('headwater'), pg_catalog.hashtext({})",
        sql::literal(slot)
    )
}

fn other_instance(connection: &Connection, slot: &str) -> Result<Error, SqlError> {
    let rows = connection.query(&format!(
        "SELECT l.pid FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.oid = l.database \
         WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2 \
           AND d.datname = pg_catalog.current_database() \
           AND l.classid::int8 = pg_catalog.hashtext('headwater')::int8 & 4294967295 \
           AND l.objid::int8 = pg_catalog.hashtext({})::int8 & 4294967295",
        sql::literal(slot)
    ))?;
    let pid = rows.optional(0, 0)?.unwrap_or("unknown").to_owned();
    Ok(Error::new(
        ErrorKind::SlotInUse,
        format!("another instance takes the snapshot for replication slot \"{slot}\" (server process {pid})"),
    )
    .with_hint("Stop the other instance, or choose another name with --slot."))
}
