//! The session whose temporary slot marks where the stream will begin, and which
//! exports the snapshot of exactly that point.
//!
//! # Why the creation of the slot may be given up
//!
//! It waits for every transaction that runs. One of them may come to want a table for
//! itself, as a migration of several statements does, and then waits for the sessions that
//! hold the tables for the copy: a deadlock that the server cannot see, because those
//! wait in the client. So the chain of waits is looked at meanwhile, and where it leads
//! back to them, all let go and the snapshot begins anew.

use headwater_protocol::Lsn;

use super::waiting::Waiting;
use crate::error::Result;
use crate::source::connection::{Connection, Connector};
use crate::source::plugin::PLUGIN;
use crate::source::sql;
use crate::source::sql_error::{SqlError, sqlstate};

/// A temporary slot and the snapshot that belongs to it. Both end with the session.
pub(super) struct Exporter {
    connection: Connection,
    slot: String,
    snapshot: String,
    consistent_point: Lsn,
}

impl Exporter {
    /// Creates the slot. It waits until every transaction that runs now has ended. None if
    /// one of them waits for a lock of the server processes `locking`.
    pub(super) fn create(
        connector: &Connector,
        reporter: &Connection,
        locking: &[u32],
    ) -> Result<Option<Self>> {
        let connection = connector.connect_replication()?;
        let pid = connection.backend_pid();
        let slot = format!("headwater_tmp_{pid}");
        let mut waiting = Waiting::new(reporter, pid, "running transactions to end");
        let created = connection.query_watched(
            &format!(
                "CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL {PLUGIN} EXPORT_SNAPSHOT",
                sql::identifier(&slot)
            ),
            &mut |waited| {
                waiting.report(waited);
                waiting.cancel_if_behind(locking, waited);
            },
        );
        let rows = match created {
            Err(error) if error.is_any_of(&[sqlstate::QUERY_CANCELED]) => return Ok(None),
            created => created?,
        };
        Ok(Some(Exporter {
            consistent_point: rows.lsn(0, 1)?,
            snapshot: rows.text(0, 2)?.to_owned(),
            slot,
            connection,
        }))
    }

    /// The temporary slot's name.
    pub(super) fn slot(&self) -> &str {
        &self.slot
    }

    /// Everything that committed before it is in the snapshot, nothing after it.
    pub(super) fn consistent_point(&self) -> Lsn {
        self.consistent_point
    }

    /// Makes a session see the snapshot, in its one transaction to the end.
    pub(super) fn import(&self, session: &Connection) -> Result<()> {
        session.query(&format!(
            "SET TRANSACTION SNAPSHOT {}",
            sql::literal(&self.snapshot)
        ))?;
        // A role under row security gets an error instead of a part of the rows.
        session.query("SET LOCAL row_security = off")?;
        Ok(())
    }

    /// Whether the slot is still there. Any statement here ends the exported snapshot,
    /// so this comes after the last import.
    pub(super) fn verify(&self) -> Result<(), SqlError> {
        self.connection.query("SELECT 1").map(drop)
    }
}
