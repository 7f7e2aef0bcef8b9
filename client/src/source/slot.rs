//! The replication slot and the server that it lives on.

use std::time::{Duration, Instant};

use headwater_protocol::Lsn;

use super::connection::Connection;
use super::plugin::PLUGIN;
use super::sql;
use super::sql_error::{SqlError, sqlstate};
use crate::error::{Error, ErrorKind, Result};

/// How long a session that was told to end may take: it may have a transaction to clean up.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Between two signals to it.
const END_INTERVAL: Duration = Duration::from_millis(200);

/// Which server this is: `IDENTIFY_SYSTEM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// The number that `initdb` gave the cluster; its standbys have it too.
    pub identifier: String,
    /// Which history: a promotion begins a new one.
    pub timeline: u32,
}

impl System {
    /// Asks the server. The connection must know the replication commands.
    pub fn identify(replication: &Connection) -> Result<Self, SqlError> {
        let rows = replication.query("IDENTIFY_SYSTEM")?;
        Ok(System {
            identifier: rows.text(0, 0)?.to_owned(),
            timeline: rows.parse(0, 1)?,
        })
    }
}

/// A row of `pg_replication_slots`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The process that streams from it.
    pub active_pid: Option<u32>,
    /// Where the stream continues.
    pub confirmed_flush: Lsn,
    /// The oldest WAL that it keeps.
    pub restart_lsn: Option<Lsn>,
    /// How much WAL it keeps, in bytes.
    pub retained_wal_bytes: i64,
    /// How many bytes may still be written before WAL that it needs may go; none where the server
    /// sets no limit, or it is gone.
    pub safe_wal_bytes: Option<i64>,
    /// Whether WAL that it needs is gone: nothing can be streamed from it any more.
    pub has_lost_wal: bool,
    /// Where the server's WAL ended when this was read; none on a standby, where what is
    /// replayed starts again from behind when it restarts.
    pub wal_end: Option<Lsn>,
}

/// What the server keeps for the slot `s`, in bytes. From 16 on it may have given up a slot that
/// still has its `restart_lsn`, and keeps nothing for it.
pub(crate) const RETAINED_WAL: &str = "CASE WHEN s.wal_status IS DISTINCT FROM 'lost' THEN \
     pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() \
       THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END, \
       s.restart_lsn)::int8 END";

/// The server's `wal_segment_size` in bytes.
pub(crate) const WAL_SEGMENT: &str =
    "pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size'))";

/// What to raise `max_slot_wal_keep_size` to for a slot that keeps, or may keep, so many bytes, in
/// MB: twice as much. The server counts in whole segments and rounds the limit down (`KeepLogSeg`
/// in xlog.c), and the segments that the slot begins and the WAL ends in count whole, too. So it
/// is two more than what is kept at least: less can be as much as nothing.
pub(crate) fn raised_keep_size(kept: u64, segment: u64) -> u64 {
    let in_segments = kept.saturating_add(segment.saturating_mul(2));
    kept.saturating_mul(2).max(in_segments).div_ceil(1 << 20)
}

impl Slot {
    /// The ways out of a slot in use.
    pub const IN_USE_HINT: &str = "Stop the other instance, choose another name with --slot, or \
                                   start with --take-over, which ends it.";

    /// Looks a slot up. One that is no logical slot of this database and this plugin
    /// is an error.
    pub fn find(connection: &Connection, name: &str) -> Result<Option<Self>> {
        let rows = connection.query(&format!(
            "SELECT s.slot_type, s.plugin, s.database, s.temporary, s.active_pid, \
                    s.confirmed_flush_lsn, s.restart_lsn, s.wal_status, \
                    {RETAINED_WAL}, \
                    pg_catalog.current_database(), \
                    CASE WHEN NOT pg_catalog.pg_is_in_recovery() \
                      THEN pg_catalog.pg_current_wal_flush_lsn() END, \
                    s.safe_wal_size \
             FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = {}",
            sql::literal(name)
        ))?;
        if rows.is_empty() {
            return Ok(None);
        }
        let other = |what: String| {
            Error::failed(format!("replication slot \"{name}\" {what}"))
                .with_hint("Choose another name with --slot.")
        };
        let (plugin, database) = (rows.optional(0, 1)?, rows.optional(0, 2)?);
        if rows.text(0, 0)? != "logical" {
            return Err(other("is a physical slot".to_owned()));
        }
        if plugin != Some(PLUGIN) {
            return Err(other(format!(
                "belongs to output plugin \"{}\"",
                plugin.unwrap_or_default()
            )));
        }
        if database != rows.optional(0, 9)? {
            return Err(other(format!(
                "belongs to database \"{}\"",
                database.unwrap_or_default()
            )));
        }
        if rows.flag(0, 3)? {
            return Err(other("is temporary".to_owned()));
        }
        Ok(Some(Slot {
            active_pid: rows.optional(0, 4)?.and_then(|pid| pid.parse().ok()),
            confirmed_flush: rows.lsn(0, 5)?,
            restart_lsn: rows.optional(0, 6)?.and_then(|lsn| lsn.parse().ok()),
            retained_wal_bytes: rows
                .optional(0, 8)?
                .and_then(|n| n.parse().ok())
                .unwrap_or(0),
            safe_wal_bytes: rows.optional(0, 11)?.and_then(|n| n.parse().ok()),
            has_lost_wal: rows.optional(0, 7)? == Some("lost"),
            wal_end: rows.optional(0, 10)?.and_then(|lsn| lsn.parse().ok()),
        }))
    }

    /// Refuses where somebody streams from it.
    ///
    /// # Errors
    /// Of kind `SlotInUse`, naming the server's process.
    pub fn refuse_active(&self, name: &str) -> Result<()> {
        match self.active_pid {
            None => Ok(()),
            Some(pid) => Err(Error::new(
                ErrorKind::SlotInUse,
                format!("replication slot \"{name}\" is in use by server process {pid}"),
            )
            .with_hint("Stop the client that streams from it.")),
        }
    }

    /// Ends the session of another instance, which uses slot `name`. One that is gone already
    /// is no error.
    ///
    /// # Errors
    /// Of kind `SlotInUse` where this user may not.
    pub fn end_session(connection: &Connection, name: &str, pid: u32) -> Result<()> {
        let statement = format!("SELECT pg_catalog.pg_terminate_backend({pid})");
        match connection.query(&statement) {
            Ok(_) => Ok(()),
            Err(error) if error.is_any_of(&[sqlstate::INSUFFICIENT_PRIVILEGE]) => Err(Error::new(
                ErrorKind::SlotInUse,
                format!(
                    "replication slot \"{name}\" is in use by server process {pid}, which this \
                     user may not end"
                ),
            )
            .with_hint(
                "Grant the user pg_signal_backend (a superuser's sessions only a superuser may \
                 end), or stop the other instance.",
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// Creates the permanent slot, for a stream without snapshot. Returns where it
    /// begins. It waits for the transactions that run now; `waiting` is called meanwhile.
    pub fn create(
        replication: &Connection,
        name: &str,
        waiting: &mut dyn FnMut(Duration),
    ) -> Result<Lsn> {
        let rows = replication
            .query_watched(
                &format!(
                    "CREATE_REPLICATION_SLOT {} LOGICAL {PLUGIN} NOEXPORT_SNAPSHOT",
                    sql::identifier(name)
                ),
                waiting,
            )
            .map_err(|error| created_meanwhile(name, error))?;
        Ok(rows.lsn(0, 1)?)
    }

    /// Makes a temporary slot permanent under another name, at the same position, which
    /// is returned.
    pub fn promote(connection: &Connection, temporary: &str, name: &str) -> Result<Lsn> {
        let rows = connection
            .query(&format!(
                "SELECT lsn FROM pg_catalog.pg_copy_logical_replication_slot({}, {}, false)",
                sql::literal(temporary),
                sql::literal(name)
            ))
            .map_err(|error| created_meanwhile(name, error))?;
        Ok(rows.lsn(0, 0)?)
    }

    /// Drops the slot.
    pub fn drop(connection: &Connection, name: &str) -> Result<()> {
        let statement = format!(
            "SELECT pg_catalog.pg_drop_replication_slot({})",
            sql::literal(name)
        );
        Ok(connection.query(&statement).map(drop)?)
    }

    /// Drops the slot, ending whoever streams from it.
    ///
    /// Once is not enough: a walsender whose reader does not read wants to send its farewell
    /// first, and waits for the socket. The next signal lets it go without.
    pub fn wrest(connection: &Connection, name: &str) -> Result<()> {
        let begin = Instant::now();
        loop {
            let Some(slot) = Slot::find(connection, name)? else {
                return Ok(());
            };
            if let Some(pid) = slot.active_pid {
                Slot::end_session(connection, name, pid)?;
            }
            match Slot::drop(connection, name) {
                Err(error)
                    if error.kind() == ErrorKind::SlotInUse && begin.elapsed() < END_PATIENCE =>
                {
                    std::thread::sleep(END_INTERVAL);
                }
                dropped => return dropped,
            }
        }
    }
}

/// A slot that appears while its snapshot was taken is another instance's.
fn created_meanwhile(name: &str, error: SqlError) -> Error {
    if error.is_any_of(&[sqlstate::DUPLICATE_OBJECT]) {
        Error::new(
            ErrorKind::SlotInUse,
            format!("replication slot \"{name}\" was created by another instance meanwhile"),
        )
        .with_hint("Stop the other instance, or choose another name with --slot.")
    } else {
        error.into()
    }
}
