//! Avro as readers that are not Headwater's find it: Apache's own library for Rust, and
//! Python's fastavro.
//!
//! Both give what a datum holds as a [`Value`] in which the two can be compared:
//!
//! - null, booleans, strings, arrays, and integers, those of dates and times too, as they are;
//! - `float` and `double` as `{"double": bits}`, the bits of the number as a double, or `nan`;
//! - bytes as `{"bytes": hexadecimal digits}`, decimals as `{"unscaled": digits}`;
//! - records and maps as objects, a union's value as the value.
//!
//! [`postgres`] compares such a value with what Postgres says.

pub mod apache;
pub mod fastavro;
pub mod postgres;

pub use apache::Apache;
pub use fastavro::Fastavro;

use std::collections::HashMap;

use serde_json::Value;

use crate::kafka::Kafka;
use crate::registry::Registry;
use crate::topic::{self, Record};

/// Bytes before the datum: the magic byte and the schema id.
const HEADER_BYTES: usize = 5;

/// A key or a value: the schema's id, and the datum.
///
/// # Errors
///
/// The bytes are not in Confluent's wire format.
pub fn split(bytes: &[u8]) -> Result<(u32, &[u8]), String> {
    match bytes.split_first_chunk::<HEADER_BYTES>() {
        Some(([0, id @ ..], datum)) => Ok((u32::from_be_bytes(*id), datum)),
        _ => Err(format!("not in the wire format: {bytes:02x?}")),
    }
}

/// What a record of a topic holds.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The record itself.
    pub record: Record,
    /// The key.
    pub key: Value,
    /// The key's schema.
    pub key_schema: u32,
    /// The value; none for a tombstone.
    pub value: Option<Value>,
    /// The value's schema; none for a tombstone.
    pub value_schema: Option<u32>,
}

/// Reads topics with each record's own schema, by Apache's library.
pub struct Reader<'r> {
    registry: &'r Registry,
    texts: HashMap<u32, String>,
    apache: Apache,
}

impl<'r> Reader<'r> {
    /// Schemas come from this registry.
    pub fn new(registry: &'r Registry) -> Self {
        Reader {
            registry,
            texts: HashMap::new(),
            apache: Apache::default(),
        }
    }

    /// The text of a schema.
    ///
    /// # Panics
    ///
    /// If the registry has none under this id.
    #[track_caller]
    pub fn schema(&mut self, id: u32) -> &str {
        let registry = self.registry;
        self.texts.entry(id).or_insert_with(|| {
            registry
                .schema(id)
                .unwrap_or_else(|refusal| panic!("schema {id}: {refusal}"))
        })
    }

    /// What a key or a value holds, and its schema.
    ///
    /// # Errors
    ///
    /// The bytes are not in the wire format or no datum of the schema that they name.
    #[track_caller]
    pub fn decode(&mut self, bytes: &[u8]) -> Result<(u32, Value), String> {
        let (id, datum) = split(bytes)?;
        let text = self.schema(id).to_owned();
        let value = self.apache.read(&text, datum);
        let value = value.map_err(|error| format!("schema {id}: {error}"))?;
        Ok((id, value))
    }

    /// A topic from its beginning to its end.
    ///
    /// # Panics
    ///
    /// If there is no such topic, or a record of it cannot be decoded.
    #[track_caller]
    pub fn topic(&mut self, kafka: &Kafka, topic: &str) -> Vec<Decoded> {
        let records = topic::read(kafka, topic);
        records
            .into_iter()
            .map(|record| self.record(topic, record))
            .collect()
    }

    #[track_caller]
    fn record(&mut self, topic: &str, record: Record) -> Decoded {
        let mut decode = |part: &str, bytes: &[u8]| {
            self.decode(bytes).unwrap_or_else(|error| {
                let (partition, offset) = (record.partition, record.offset);
                panic!("the {part} of {topic}/{partition}@{offset}: {error}")
            })
        };
        let key = record.key_bytes.as_deref().unwrap_or_default();
        let (key_schema, key) = decode("key", key);
        let value = record.bytes.as_deref().map(|bytes| decode("value", bytes));
        let (value_schema, value) = value.unzip();
        Decoded {
            record,
            key,
            key_schema,
            value,
            value_schema,
        }
    }
}
