//! What the topics hold, as far as the checkers ask.

use std::borrow::Cow;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use headwater_protocol::Lsn;
use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Headers};
use serde_json::Value;
use serde_json::value::RawValue;

use super::arena::{Arena, DEAD_LETTERS};
use super::workload::tables::Table;
use crate::readers::Reader;
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
    /// The key in JSON.
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
            match value.get() {
                "null" => {}
                // A double has many texts.
                text if text.starts_with(|c: char| c == '-' || c.is_ascii_digit())
                    && text.contains(['.', 'e']) =>
                {
                    (name, text.parse::<f64>().ok()?.to_bits()).hash(&mut digest);
                }
                text => (name, text).hash(&mut digest),
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
pub fn letters(arena: &Arena) -> Vec<Letter> {
    let mut texts = Texts::of(arena);
    let number = |record: &topic::Record, name: &str| {
        let value = record.header(name).parse();
        value.unwrap_or_else(|e| panic!("{name} of {record:?}: {e}"))
    };
    let letter = |record: &topic::Record| Letter {
        relation: record.header("hw.relation").to_owned(),
        key: record
            .key_bytes
            .as_deref()
            .and_then(|key| texts.text(key))
            .unwrap_or_default(),
        lsn: position(record.header("hw.lsn")),
        seq: number(record, "hw.seq"),
        xid: number(record, "hw.xid") as u32,
    };
    topic::read(&arena.kafka, DEAD_LETTERS)
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
pub fn read(arena: &Arena) -> Vec<Entry> {
    let mut texts = Texts::of(arena);
    let mut entries = Vec::new();
    for table in Table::ALL {
        let outcome = topic::for_each(&arena.kafka, table.name(), |message| {
            let entry = entry(table, message, &mut texts);
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

/// Keys and values as JSON, whatever they are made of.
struct Texts<'r> {
    /// For Avro.
    reader: Option<Reader<'r>>,
    /// Names of fields, in their order, by schema.
    fields: HashMap<u32, Vec<String>>,
}

impl<'r> Texts<'r> {
    fn of(arena: &'r Arena) -> Self {
        Texts {
            reader: arena.registry.as_ref().map(Reader::new),
            fields: HashMap::new(),
        }
    }

    /// None for bytes that are neither a text nor a datum of the schema that they name.
    fn text(&mut self, bytes: &[u8]) -> Option<String> {
        let Some(reader) = &mut self.reader else {
            return String::from_utf8(bytes.to_vec()).ok();
        };
        let (id, row) = reader.decode(bytes).ok()?;
        let names = match self.fields.entry(id) {
            Occupied(known) => known.into_mut(),
            Vacant(new) => new.insert(names(reader.schema(id))?),
        };
        let field = |name: &String| match &row[name]["double"] {
            Value::String(bits) => {
                let bits = u64::from_str_radix(bits, 16).ok()?;
                Some(format!("\"{name}\":{:?}", f64::from_bits(bits)))
            }
            _ => Some(format!("\"{name}\":{}", row[name])),
        };
        let fields: Option<Vec<String>> = names.iter().map(field).collect();
        Some(format!("{{{}}}", fields?.join(",")))
    }
}

/// The names of a record's fields.
fn names(schema: &str) -> Option<Vec<String>> {
    let schema: Value = serde_json::from_str(schema).ok()?;
    let name = |field: &Value| Some(field["name"].as_str()?.to_owned());
    schema["fields"].as_array()?.iter().map(name).collect()
}

fn entry(table: Table, message: &BorrowedMessage<'_>, texts: &mut Texts<'_>) -> Option<Entry> {
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
        key: texts.text(message.key()?)?.into(),
        lsn: header("hw.lsn")?.parse().ok()?,
        seq: header("hw.seq")?.parse().ok()?,
        op: header("hw.op")?.chars().next()?,
        xid: match header("hw.xid") {
            Some(xid) => Some(xid.parse().ok()?),
            None => None,
        },
        fetched: header("hw.fetched").is_some(),
        row: match message.payload() {
            Some(value) => Some(Row::of(texts.text(value)?.as_bytes())?),
            None => None,
        },
    })
}
