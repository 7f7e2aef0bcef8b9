//! A relation that the stream has described, and what is said of it when its changes
//! may not be sent.

use std::borrow::Cow;
use std::cell::OnceCell;

use headwater_protocol::ChangeId;
use headwater_protocol::frame::{Change, Quarantine, Relation};
use headwater_protocol::table_pattern::TablePattern;

use super::transaction::Transaction;
use crate::cli::StreamOptions;
use crate::error::{Error, ErrorKind};
use crate::registry::Schemas;
use crate::sink::{Record, TooLarge, TopicId};
use crate::snapshot_request::RowsOf;
use crate::source::avro_key::KeySchema;
use crate::source::sql;

/// A relation and where its rows go.
pub(super) struct Target {
    pub(super) schema: String,
    pub(super) table: String,
    pub(super) key_columns: Vec<String>,
    /// Not for a table without key, unless `--unkeyed send` says so.
    pub(super) is_sent: bool,
    /// The schemas of its records, where they have some.
    pub(super) schemas: Option<SchemaTexts>,
    opened: OnceCell<Opened>,
}

/// The schemas of a key, if there is one, and of a value.
pub(super) struct SchemaTexts {
    pub(super) key: Option<String>,
    pub(super) value: String,
}

/// What there is once the first record of a relation has come.
pub(super) struct Opened {
    pub(super) topic: TopicId,
    pub(super) topic_name: String,
    /// By which the ids of its schemas are asked for.
    pub(super) schemas: Option<Schemas>,
    /// By which its keys are looked up, where they are in Avro and can be.
    key: Option<KeySchema>,
}

impl Target {
    pub(super) fn new(relation: &Relation<'_>, is_sent: bool) -> Self {
        let key_columns = relation.columns.iter().filter(|column| column.is_key);
        Target {
            schema: relation.schema.to_owned(),
            table: relation.table.to_owned(),
            key_columns: key_columns.map(|column| column.name.to_owned()).collect(),
            is_sent,
            schemas: None,
            opened: OnceCell::new(),
        }
    }

    /// The topic and what else was opened with it: nothing until the first record has come.
    pub(super) fn opened(&self) -> Option<&Opened> {
        self.opened.get()
    }

    /// Its topic, once it is open.
    pub(super) fn topic(&self) -> Option<TopicId> {
        self.opened().map(|opened| opened.topic)
    }

    /// Notes the topic.
    pub(super) fn open(&self, topic: TopicId, topic_name: String) {
        let schemas = self.schemas.as_ref().map(|texts| {
            Schemas::new(self.name(), &topic_name, texts.key.as_deref(), &texts.value)
        });
        let key = self.schemas.as_ref().and_then(|texts| texts.key.as_deref());
        self.opened.get_or_init(|| Opened {
            topic,
            topic_name,
            schemas,
            key: key.and_then(KeySchema::parse),
        });
    }

    /// A key as a row is looked up by it; none where it cannot be.
    pub(super) fn lookup_key<'k>(&self, key: &'k [u8]) -> Option<Cow<'k, [u8]>> {
        if self.schemas.is_none() {
            return Some(Cow::Borrowed(key));
        }
        let json = self.opened()?.key.as_ref()?.json(key)?;
        Some(Cow::Owned(json.into_bytes()))
    }

    /// About what it takes in memory: its schemas are here, and with what asks for their ids.
    pub(super) fn bytes(&self) -> usize {
        let texts = self.schemas.as_ref().map_or(0, |texts| {
            texts.value.len() + texts.key.as_ref().map_or(0, String::len)
        });
        let columns = self.key_columns.iter();
        let columns = columns.map(|name| name.len() + size_of::<String>());
        let names = 4 * (self.schema.len() + self.table.len());
        size_of::<Self>() + 2 * texts + names + columns.sum::<usize>()
    }

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
