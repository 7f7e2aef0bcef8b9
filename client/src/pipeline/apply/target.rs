//! A relation that the stream has described, and what is said of it when its changes
//! may not be sent.

use headwater_protocol::ChangeId;
use headwater_protocol::frame::{Change, Quarantine};
use headwater_protocol::table_pattern::TablePattern;

use super::transaction::Transaction;
use crate::cli::StreamOptions;
use crate::error::{Error, ErrorKind};
use crate::sink::{Record, TooLarge, TopicId};
use crate::snapshot_request::RowsOf;
use crate::source::sql;

/// A relation and where its rows go.
pub(super) struct Target {
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) key_columns: Vec<String>,
    /// Not for a table without key, unless `--unkeyed send` says so.
    pub(super) is_sent: bool,
    /// Absent until it was opened, which the first record does.
    pub(super) topic: Option<TopicId>,
}

impl Target {
    pub(super) fn table_name(&self) -> RowsOf {
        RowsOf {
            schema: self.schema.clone(),
            name: self.table.clone(),
        }
    }

    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    fn alter(&self, clause: &str) -> String {
        format!(
            "ALTER TABLE {} {clause}",
            sql::qualified(&self.schema, &self.table)
        )
    }

    pub(super) fn unkeyed(&self, transaction: &Transaction, seq: u64) -> Error {
        Error::new(
            ErrorKind::Data,
            format!(
                "a change of {} at {}:{seq} has no key",
                self.name(),
                transaction.end_lsn
            ),
        )
        .with_hint(format!(
            "Leave such tables out with --unkeyed skip or send them with --unkeyed send; for the \
             future, {}.",
            self.alter("ADD PRIMARY KEY (…)")
        ))
    }

    pub(super) fn unchanged(&self, transaction: &Transaction, change: &Change<'_>) -> Error {
        Error::new(
            ErrorKind::Data,
            format!(
                "an update of {} at {}:{} left columns out of the WAL: {}",
                self.name(),
                transaction.end_lsn,
                change.seq,
                change.unchanged.join(", ")
            ),
        )
        .with_hint(format!(
            "Go on with --toast fetch; for the future, {}.",
            self.alter("REPLICA IDENTITY FULL")
        ))
    }

    /// The server says why it has no bytes for the change.
    pub(super) fn unencodable(
        &self,
        quarantine: &Quarantine<'_>,
        change: ChangeId,
        options: &StreamOptions,
    ) -> Error {
        let key = if quarantine.key.is_some() {
            "its key is known"
        } else {
            "its key is not known"
        };
        Error::new(
            ErrorKind::Data,
            format!(
                "a change of {} at {change} cannot be encoded ({key}): {}",
                self.name(),
                quarantine.reason
            ),
        )
        .with_hint(format!(
            "To go on without this change, add --quarantine {change}; the topic then keeps what it \
             has of the row until that changes again. {} To go on without the table, leave it \
             out with --exclude-table.",
            options.by_dead_letters()
        ))
    }

    /// The record is over what its topic takes.
    pub(super) fn too_large(
        &self,
        record: &Record<'_>,
        size: &TooLarge,
        options: &StreamOptions,
    ) -> Error {
        let change = ChangeId {
            lsn: record.headers.lsn,
            seq: record.headers.seq,
        };
        let key = match record.key {
            Some(_) => format!("its key is {}", self.key_columns.join(", ")),
            None => "it has no key".to_owned(),
        };
        Error::new(
            ErrorKind::Data,
            format!(
                "a change of {} at {change} cannot be sent ({key}): {size}",
                self.name()
            ),
        )
        .with_hint(format!(
            "{} To go on without this change, add --quarantine {change}; the topic then keeps what \
             it has of the row until that changes again. {}",
            size.cure,
            options.by_dead_letters()
        ))
    }

    /// `reason` is why the row that was read for an update cannot be encoded.
    pub(super) fn unreadable(
        &self,
        transaction: &Transaction,
        seq: u64,
        reason: &str,
        options: &StreamOptions,
    ) -> Error {
        let (table, lsn) = (self.name(), transaction.end_lsn);
        Error::new(
            ErrorKind::Data,
            format!(
                "an update of {table} at {lsn}:{seq} left large values out of the WAL, and the row \
                 as it is now cannot be encoded: {reason}"
            ),
        )
        .with_hint(format!(
            "Mend the row, or go on without this change with --quarantine {lsn}:{seq}; the topic \
             then keeps what it has of the row until that changes again. {}",
            options.by_dead_letters()
        ))
    }

    pub(super) fn truncated(&self, transaction: &Transaction, seq: u64) -> Error {
        Error::new(
            ErrorKind::Data,
            format!(
                "{} was truncated at {}:{seq}",
                self.name(),
                transaction.end_lsn
            ),
        )
        .with_hint(
            "Go on with --truncate tombstone, which empties the topic, or --truncate ignore, \
             which keeps its records.",
        )
    }

    pub(super) fn partition_truncated(
        &self,
        partition: &str,
        transaction: &Transaction,
        seq: u64,
    ) -> Error {
        Error::new(
            ErrorKind::Data,
            format!(
                "{partition}, a partition of {}, was truncated at {}:{seq}: which of the topic's \
                 rows are gone the WAL does not say",
                self.name(),
                transaction.end_lsn
            ),
        )
        .with_hint(format!(
            "Go on with --truncate ignore, which keeps the partition's rows in the topic; headwater \
             snapshot --table '{}' removes them then. For the future, DELETE from the partition, \
             or give partitions topics of their own with --partitions leaf.",
            TablePattern::exact(&self.schema, &self.table)
        ))
    }
}
