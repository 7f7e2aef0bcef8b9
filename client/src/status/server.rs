//! What the server knows: its slots, who streams from them, how much WAL they keep, and the
//! copies of tables that are under way.
//!
//! All of it can be asked for in any database of the server, by any role that may connect. Where
//! more is shown to members of `pg_monitor`, the rest is there without it.

use headwater_protocol::Lsn;
use serde::{Serialize, Serializer};

use super::disk;
use super::source::Asked;
use crate::error::Result;
use crate::source::connection::{Connection, Connector, Rows};
use crate::source::plugin::PLUGIN;
use crate::source::slot::WAL_SEGMENT;
use crate::source::sql;
use crate::source::sql_error::{SqlError, sqlstate};
use crate::watch::lease;

/// What one look at the server saw.
#[derive(Clone, Debug)]
pub(super) struct Server {
    /// `server_version`
    pub version: String,
    /// The database that was asked in.
    pub database: String,
    /// Which server this is; none where the role may not know.
    pub system_identifier: Option<String>,
    /// The server's clock, in seconds since 1970.
    pub clock: f64,
    /// Where its WAL ends: on a standby, where what it has replayed does.
    pub wal_end: Lsn,
    /// `max_slot_wal_keep_size` in bytes; none where slots may keep everything.
    pub keep_limit: Option<u64>,
    /// `wal_segment_size` in bytes.
    pub wal_segment: u64,
    /// What `pg_wal` holds, in bytes; none where the role may not look, which takes `pg_monitor`.
    pub wal_folder: Option<u64>,
    /// Bytes that are free where it writes its WAL, or why that is unknown.
    pub disk_free: Result<u64, &'static str>,
    /// Slots of the plugin.
    pub slots: Vec<Slot>,
    /// Parts of tables that are being copied.
    pub copies: Vec<Copy>,
    /// Tables of the database with the rows that they are estimated to have, where asked for.
    pub tables: Vec<Table>,
}

/// A replication slot. It is told as it is: the names of its fields in JSON are those of a stream.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Slot {
    #[serde(rename = "slot")]
    pub name: String,
    pub database: String,
    /// It belongs to a copy of tables, and goes with it.
    #[serde(skip)]
    pub is_temporary: bool,
    /// Of the server's process that streams from it.
    #[serde(rename = "server_process")]
    pub active_pid: Option<u32>,
    #[serde(serialize_with = "as_text")]
    pub restart_lsn: Option<Lsn>,
    #[serde(serialize_with = "as_text")]
    pub confirmed_flush_lsn: Option<Lsn>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// How much more WAL may be written until it is lost, in bytes; none without a limit.
    pub safe_wal_size: Option<i64>,
    /// For how long nobody has streamed from it, in seconds: from Postgres 17 on.
    pub inactive_seconds: Option<f64>,
    /// Why it can not be streamed from any more: from Postgres 17 on.
    pub invalidation_reason: Option<String>,
    /// The address that the client connects from; none over a Unix socket.
    pub client_address: Option<String>,
    /// For how long the client is connected, in seconds.
    pub connected_seconds: Option<f64>,
    /// From when WAL was sent until the client said that it is delivered, in seconds, as the
    /// server has measured it last.
    #[serde(skip)]
    pub flush_lag_seconds: Option<f64>,
}

impl Slot {
    /// Of which nothing but its name is known.
    pub(super) fn named(name: &str, database: &str) -> Self {
        Slot {
            name: name.to_owned(),
            database: database.to_owned(),
            ..Slot::default()
        }
    }

    /// Whether WAL that it needs is gone, or the server has given it up for another reason.
    pub(super) fn is_lost(&self) -> bool {
        self.wal_status.as_deref() == Some("lost") || self.invalidation_reason.is_some()
    }
}

/// As Postgres prints it.
#[allow(clippy::ref_option)] // serde's signature
fn as_text<S: Serializer>(lsn: &Option<Lsn>, serializer: S) -> Result<S::Ok, S::Error> {
    match lsn {
        Some(lsn) => serializer.collect_str(lsn),
        None => serializer.serialize_none(),
    }
}

/// A part of a table that is being copied, by a snapshot before the stream or by `headwater
/// verify`. It is told as it is.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Copy {
    pub database: String,
    /// As the statement names it.
    pub table: String,
    /// Rows of this part so far.
    pub rows: u64,
    /// Pages of the table before this part, which are copied or being copied: parts are copied in
    /// order.
    pub first_page: u64,
    /// Pages of the table; none where it is in another database.
    pub pages: Option<u64>,
}

/// A table, with its partitions.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub schema: String,
    pub name: String,
    /// None where it was never analyzed.
    pub estimated_rows: Option<u64>,
}

/// Asks one server, again and again over one connection.
pub(super) struct Questions {
    connector: Connector,
    slot: Option<String>,
    connection: Option<Connection>,
}

impl Questions {
    /// About one slot, or all.
    pub(super) fn new(connector: Connector, slot: Option<String>) -> Self {
        Questions {
            connector,
            slot,
            connection: None,
        }
    }

    /// Looks, connecting where that is needed. Tables are described if `with_tables` says so.
    ///
    /// # Errors
    /// The server does not answer, or not as it should.
    pub(super) fn look(&mut self, with_tables: bool, asked: &Asked) -> Result<Server> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                asked.connecting();
                self.connector.connect_telling(|| asked.connected())?
            }
        };
        let server = look(&connection, self.slot.as_deref(), with_tables)?;
        self.connection = Some(connection);
        Ok(server)
    }
}

fn look(connection: &Connection, slot: Option<&str>, with_tables: bool) -> Result<Server> {
    let rows = connection.query(&format!("{SERVER}, {WAL_SEGMENT}"))?;
    let keep_limit: Option<i64> = number(&rows, 0, 3)?;
    let system_identifier = permitted(connection.query(SYSTEM))?;
    let folder = permitted(connection.query(DATA_DIRECTORY))?;
    Ok(Server {
        version: rows.text(0, 0)?.to_owned(),
        clock: rows.parse(0, 1)?,
        wal_end: rows.lsn(0, 2)?,
        wal_segment: rows.parse(0, 4)?,
        keep_limit: keep_limit.and_then(|bytes| u64::try_from(bytes).ok()),
        database: connection.database()?,
        disk_free: disk::free(folder.as_deref(), system_identifier.as_deref()),
        system_identifier,
        wal_folder: permitted(connection.query(WAL_FOLDER))?.and_then(|bytes| bytes.parse().ok()),
        slots: slots(connection, slot)?,
        copies: copies(connection)?,
        tables: match with_tables {
            true => tables(connection)?,
            false => Vec::new(),
        },
    })
}

const SERVER: &str = "SELECT pg_catalog.current_setting('server_version'), \
     pg_catalog.date_part('epoch', pg_catalog.clock_timestamp()), \
     CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
       ELSE pg_catalog.pg_current_wal_lsn() END, \
     (SELECT s.setting::int8 * 1048576 FROM pg_catalog.pg_settings s \
      WHERE s.name = 'max_slot_wal_keep_size' AND s.setting::int8 >= 0)";

const SYSTEM: &str = "SELECT s.system_identifier FROM pg_catalog.pg_control_system() s";

const DATA_DIRECTORY: &str = "SELECT pg_catalog.current_setting('data_directory')";

const WAL_FOLDER: &str = "SELECT pg_catalog.sum(w.size) FROM pg_catalog.pg_ls_waldir() w";

/// What came later than Postgres 14 is looked for by its name in the row, as JSON.
fn slots(connection: &Connection, name: Option<&str>) -> Result<Vec<Slot>> {
    // A copy's slot says nothing of whose it is; the lease of the stream's slot does.
    let only = name.map_or_else(String::new, |name| {
        format!(
            " AND (s.slot_name = {} OR s.temporary AND EXISTS ( \
               SELECT FROM pg_catalog.pg_locks l \
               JOIN pg_catalog.pg_database d ON d.oid = l.database \
               WHERE d.datname = s.database AND l.granted AND {}))",
            sql::literal(name),
            lease::is_of(name)
        )
    });
    let rows = connection.query(&format!(
        "SELECT s.slot_name, s.database, s.temporary, s.active_pid, s.restart_lsn, \
                s.confirmed_flush_lsn, s.wal_status, s.safe_wal_size, \
                pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() \
                  - (pg_catalog.to_jsonb(s) ->> 'inactive_since')::timestamptz), \
                pg_catalog.to_jsonb(s) ->> 'invalidation_reason', \
                pg_catalog.host(r.client_addr), \
                pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - r.backend_start), \
                pg_catalog.date_part('epoch', r.flush_lag) \
         FROM pg_catalog.pg_replication_slots s \
         LEFT JOIN pg_catalog.pg_stat_replication r ON r.pid = s.active_pid \
         WHERE s.slot_type = 'logical' AND s.plugin = {}{only} \
         ORDER BY s.database, s.slot_name",
        sql::literal(PLUGIN)
    ))?;
    let slot = |row| -> Result<Slot> {
        Ok(Slot {
            name: rows.text(row, 0)?.to_owned(),
            database: rows.text(row, 1)?.to_owned(),
            is_temporary: rows.flag(row, 2)?,
            active_pid: number(&rows, row, 3)?,
            restart_lsn: number(&rows, row, 4)?,
            confirmed_flush_lsn: number(&rows, row, 5)?,
            wal_status: rows.optional(row, 6)?.map(str::to_owned),
            safe_wal_size: number(&rows, row, 7)?,
            inactive_seconds: number(&rows, row, 8)?,
            invalidation_reason: rows.optional(row, 9)?.map(str::to_owned),
            client_address: rows.optional(row, 10)?.map(str::to_owned),
            connected_seconds: number(&rows, row, 11)?,
            flush_lag_seconds: number(&rows, row, 12)?,
        })
    };
    (0..rows.len()).map(slot).collect()
}

/// Sessions that copy are told by their statements, which members of `pg_read_all_stats` and
/// the role itself may see. How far a statement is, anybody may.
fn copies(connection: &Connection) -> Result<Vec<Copy>> {
    let rows = connection.query(
        "SELECT c.datname, c.source, c.tuples_processed, c.first_page, \
                CASE WHEN c.datname = pg_catalog.current_database() THEN \
                  (SELECT t.relpages FROM pg_catalog.pg_class t \
                   WHERE t.oid = pg_catalog.to_regclass(c.source)) END \
         FROM (SELECT p.datname, p.pid, p.tuples_processed, \
                 pg_catalog.substring(a.query, ' FROM ONLY (.*) AS t') AS source, \
                 pg_catalog.substring(a.query, 't.ctid >= ''[(]([0-9]+),') AS first_page \
               FROM pg_catalog.pg_stat_progress_copy p \
               JOIN pg_catalog.pg_stat_activity a ON a.pid = p.pid \
               WHERE p.command = 'COPY TO' AND a.query LIKE 'COPY (SELECT headwater.encode(%') c \
         WHERE c.source IS NOT NULL ORDER BY c.datname, c.source, c.pid",
    )?;
    let copy = |row| -> Result<Copy> {
        Ok(Copy {
            database: rows.text(row, 0)?.to_owned(),
            table: rows.text(row, 1)?.to_owned(),
            rows: rows.parse(row, 2)?,
            first_page: number(&rows, row, 3)?.unwrap_or(0),
            pages: number(&rows, row, 4)?,
        })
    };
    (0..rows.len()).map(copy).collect()
}

/// A partitioned table has the rows of its partitions, which are in its topic.
fn tables(connection: &Connection) -> Result<Vec<Table>> {
    let rows = connection.query(
        "SELECT n.nspname, r.relname, \
                CASE WHEN pg_catalog.min(c.reltuples) >= 0 \
                  THEN pg_catalog.sum(c.reltuples)::int8 END \
         FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_class r ON r.oid = COALESCE(pg_catalog.pg_partition_root(c.oid), c.oid) \
         JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace \
         WHERE c.relkind = 'r' AND c.relpersistence = 'p' \
           AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'headwater') \
         GROUP BY n.nspname, r.relname",
    )?;
    let table = |row| -> Result<Table> {
        Ok(Table {
            schema: rows.text(row, 0)?.to_owned(),
            name: rows.text(row, 1)?.to_owned(),
            estimated_rows: number(&rows, row, 2)?,
        })
    };
    (0..rows.len()).map(table).collect()
}

/// A value, none where it is null.
fn number<T: std::str::FromStr>(
    rows: &Rows,
    row: usize,
    column: usize,
) -> Result<Option<T>, SqlError> {
    match rows.optional(row, column)? {
        None => Ok(None),
        Some(_) => rows.parse(row, column).map(Some),
    }
}

/// The one value of an answer that not every role may have.
fn permitted(answer: Result<Rows, SqlError>) -> Result<Option<String>, SqlError> {
    match answer {
        Ok(rows) => Ok(rows.optional(0, 0)?.map(str::to_owned)),
        Err(error) if error.is_any_of(&[sqlstate::INSUFFICIENT_PRIVILEGE]) => Ok(None),
        Err(error) => Err(error),
    }
}
