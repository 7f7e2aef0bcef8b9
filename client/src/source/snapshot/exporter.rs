//! The session whose temporary slot marks where the stream will begin, and which
//! exports the snapshot of exactly that point.

use headwater_protocol::Lsn;

use super::waiting::Waiting;
use crate::error::Result;
use crate::source::connection::{Connection, Connector};
use crate::source::plugin::PLUGIN;
use crate::source::sql;
use crate::source::sql_error::SqlError;

/// A temporary slot and the snapshot that belongs to it. Both end with the session.
pub(super) struct Exporter {
    connection: Connection,
    slot: String,
    snapshot: String,
    consistent_point: Lsn,
}

impl Exporter {
    /// Creates the slot. It waits until every transaction that runs now has ended.
    pub(super) fn create(connector: &Connector, reporter: &Connection) -> Result<Self> {
        let connection = connector.connect_replication()?;
        let pid = connection.backend_pid();
        let slot = format!("headwater_tmp_{pid}");
        let mut waiting = Waiting::new(reporter, pid, "running transactions to end");
        let rows = connection.query_watched(
            &format!(
                "CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL {PLUGIN} EXPORT_SNAPSHOT",
                sql::identifier(&slot)
            ),
            &mut |waited| waiting.report(waited),
        )?;
        Ok(Exporter {
            consistent_point: rows.lsn(0, 1)?,
            snapshot: rows.text(0, 2)?.to_owned(),
            slot,
            connection,
        })
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
