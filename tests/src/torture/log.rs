//! What the topics hold, as far as the checkers ask.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use headwater_protocol::Lsn;
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers};
use serde_json::value::RawValue;

use super::arena::DEAD_LETTERS;
use super::workload::tables::Table;
use crate::kafka::Kafka;
use crate::{Session, topic};

/// One record. Those of a partition are in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The topic's table.
    pub table: Table,
    /// The partition that it lies in.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// When the broker appended it, milliseconds since 1970.
    pub appended: i64,
    /// The key as it is.
    pub key: Box<str>,
    /// `hw.lsn`
    pub lsn: Lsn,
    /// `hw.seq`
    pub seq: u64,
    /// `hw.op`
    pub op: char,
    /// `hw.xid`; none for what a snapshot sends.
    pub xid: Option<u32>,
    /// Whether it has `hw.fetched`.
    pub fetched: bool,
    /// The row; none for a tombstone.
    pub row: Option<Row>,
}

/// A row, by its stamp and a digest of all its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Who wrote it.
    pub writer: u32,
    /// As which of its changes.
    pub sequence: u64,
    /// In which transaction.
    pub xid: u32,
    /// The same for the same values. A null and a column that is not there are one: so it is
    /// for a reader of a record from before ADD COLUMN.
    pub digest: u64,
}

impl Row {
    /// The row that a JSON object is; none where it is no object with a stamp.
    fn of(json: &[u8]) -> Option<Self> {
        // By name, whatever the order of the columns; the values as they are written.
        let fields: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(json).ok()?;
        let number = |name: &str| fields.get(name)?.get().parse::<u64>().ok();
        let mut digest = DefaultHasher::new();
        for (name, value) in &fields {
            if value.get() != "null" {
                (name, value.get()).hash(&mut digest);
            }
        }
        Some(Row {
            writer: number("writer")?.try_into().ok()?,
            sequence: number("sequence")?,
            xid: number("xid")?.try_into().ok()?,
            digest: digest.finish(),
        })
    }
}

/// One dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// `hw.relation`
    pub relation: String,
    /// The key that the record would have had.
    pub key: String,
    /// `hw.lsn`
    pub lsn: Lsn,
    /// `hw.seq`
    pub seq: u64,
    /// `hw.xid`
    pub xid: u32,
}

/// Reads the dead letters.
///
/// # Panics
///
/// If they cannot be read, or one lacks a header.
pub fn letters(kafka: &Kafka) -> Vec<Letter> {
    let number = |record: &topic::Record, name: &str| {
        let value = record.header(name).parse();
        value.unwrap_or_else(|e| panic!("{name} of {record:?}: {e}"))
    };
    let letter = |record: &topic::Record| Letter {
        relation: record.header("hw.relation").to_owned(),
        key: record.key.clone().unwrap_or_default(),
        lsn: position(record.header("hw.lsn")),
        seq: number(record, "hw.seq"),
        xid: number(record, "hw.xid") as u32,
    };
    topic::read(kafka, DEAD_LETTERS)
        .iter()
        .map(letter)
        .collect()
}

fn position(lsn: &str) -> Lsn {
    lsn.parse()
        .unwrap_or_else(|e| panic!("\"{lsn}\" is no position: {e}"))
}

/// Reads every topic to its end.
///
/// # Panics
///
/// If one cannot be read, or holds a record that no Headwater writes.
pub fn read(kafka: &Kafka) -> Vec<Entry> {
    let mut entries = Vec::new();
    for table in Table::ALL {
        let outcome = topic::for_each(kafka, table.name(), |message| {
            let entry = entry(table, message);
            entries.push(entry.unwrap_or_else(|| {
                panic!(
                    "{} {}:{} is no record of a change",
                    table.name(),
                    message.partition(),
                    message.offset()
                )
            }));
        });
        if let Err(e) = outcome {
            panic!("cannot read topic \"{}\": {e}", table.name());
        }
    }
    entries
}

/// The rows of every table by their keys, in JSON.
///
/// # Panics
///
/// If a table cannot be read, or holds a row without stamp.
pub fn tables(sql: &Session) -> BTreeMap<(Table, Box<str>), Row> {
    let mut rows = BTreeMap::new();
    for table in Table::ALL {
        let name = table.name();
        let query = format!(
            "select (select row_to_json(k.*) from (select {}) k)::text, row_to_json(t.*)::text \
             from {name} t",
            table.key_columns()
        );
        for row in sql.rows(&query) {
            let text = |place: usize| row[place].as_deref().unwrap_or_default();
            let Some(found) = Row::of(text(1).as_bytes()) else {
                panic!("a row of {name} has no stamp: {}", text(0));
            };
            rows.insert((table, text(0).into()), found);
        }
    }
    rows
}

fn entry(table: Table, message: &BorrowedMessage<'_>) -> Option<Entry> {
    let headers = message.headers()?;
    let header = |name: &str| {
        headers
            .iter()
            .find(|header| header.key == name)
            .and_then(|header| std::str::from_utf8(header.value?).ok())
    };
    Some(Entry {
        table,
        partition: message.partition(),
        offset: message.offset(),
        appended: message.timestamp().to_millis()?,
        key: std::str::from_utf8(message.key()?).ok()?.into(),
        lsn: header("hw.lsn")?.parse().ok()?,
        seq: header("hw.seq")?.parse().ok()?,
        op: header("hw.op")?.chars().next()?,
        xid: match header("hw.xid") {
            Some(xid) => Some(xid.parse().ok()?),
            None => None,
        },
        fetched: header("hw.fetched").is_some(),
        row: match message.payload() {
            Some(value) => Some(Row::of(value)?),
            None => None,
        },
    })
}
