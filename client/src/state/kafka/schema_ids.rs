//! Records of schema ids: beside the state, one a subject, so that compaction keeps the newest of
//! each and a position that is recorded once a second does not carry them all.

use std::collections::HashMap;

use rdkafka::Message;
use serde::{Deserialize, Serialize};

use super::newest::each_record;
use super::record::StateKey;
use super::{TOPIC, Writer};
use crate::error::{Error, Result};
use crate::kafka::KafkaOptions;
use crate::state::{SchemaIds, SubjectIds};

/// The form that is written, and the newest that is read.
const VERSION: u32 = 1;

/// A [`SchemaIds`] over the topic `__headwater.state`.
pub struct KafkaSchemaIds {
    writer: Writer,
    stream: StateKey,
}

/// A record's key, whose form never changes.
#[derive(Serialize, Deserialize)]
struct Key {
    prefix: String,
    database: String,
    slot: String,
    subject: String,
}

#[derive(Serialize, Deserialize)]
struct Value {
    version: u32,
    schemas: SubjectIds,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl KafkaSchemaIds {
    /// Connects as the state does.
    ///
    /// # Errors
    /// Kafka does not answer; the topic is missing or cannot be created.
    pub fn connect(options: &KafkaOptions, stream: &StateKey) -> Result<Self> {
        let (writer, _) = Writer::connect(options)?;
        Ok(KafkaSchemaIds {
            writer,
            stream: stream.clone(),
        })
    }

    fn key(&self, subject: &str) -> Result<Vec<u8>> {
        serde_json::to_vec(&Key {
            prefix: self.stream.prefix.clone(),
            database: self.stream.database.clone(),
            slot: self.stream.slot.clone(),
            subject: subject.to_owned(),
        })
        .map_err(unwritten)
    }

    /// The subject that a key is of, if it is one of this stream.
    fn subject(&self, key: &[u8]) -> Option<String> {
        let key: Key = serde_json::from_slice(key).ok()?;
        let StateKey {
            prefix,
            database,
            slot,
        } = &self.stream;
        let is_own = key.prefix == *prefix && key.database == *database && key.slot == *slot;
        is_own.then_some(key.subject)
    }

    /// The newest record of each subject that has one: where it stands, and its value.
    fn newest(&self) -> Result<HashMap<String, (i64, Vec<u8>)>> {
        let mut newest = HashMap::new();
        each_record(&self.writer.options, &mut || Ok(()), &mut |message| {
            let Some(subject) = message.key().and_then(|key| self.subject(key)) else {
                return;
            };
            match message.payload() {
                Some(value) => newest.insert(subject, (message.offset(), value.to_vec())),
                None => newest.remove(&subject),
            };
        })?;
        Ok(newest)
    }
}

impl SchemaIds for KafkaSchemaIds {
    fn load(&mut self) -> Result<HashMap<String, SubjectIds>> {
        self.newest()?
            .into_iter()
            .map(|(subject, (offset, value))| {
                let ids = decode(&value).map_err(|error| {
                    Error::failed(format!(
                        "the schema ids of subject {subject} in topic \"{TOPIC}\", offset {offset}, \
                         cannot be read: {error}"
                    ))
                    .with_hint("If a newer Headwater wrote them, run that one.")
                })?;
                Ok((subject, ids))
            })
            .collect()
    }

    fn store(&mut self, subject: &str, ids: &SubjectIds) -> Result<()> {
        let value = Value {
            version: VERSION,
            schemas: ids.clone(),
        };
        let value = serde_json::to_vec(&value).map_err(unwritten)?;
        self.writer.write(&self.key(subject)?, Some(&value))
    }

    fn clear(&mut self) -> Result<()> {
        // Not read: what nobody can read is to go, too.
        for subject in self.newest()?.into_keys() {
            self.writer.write(&self.key(&subject)?, None)?;
        }
        Ok(())
    }
}

fn decode(value: &[u8]) -> Result<SubjectIds, String> {
    let Versioned { version } = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    if version > VERSION {
        return Err(format!(
            "they have version {version}, this release reads up to {VERSION}"
        ));
    }
    let value: Value = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    Ok(value.schemas)
}

fn unwritten(error: serde_json::Error) -> Error {
    Error::failed("schema ids cannot be written").with_source(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_written_is_read_and_a_newer_form_is_not() {
        let mut schemas = SubjectIds::default();
        schemas.put("\"int\"", 1, 7);
        let value = Value {
            version: VERSION,
            schemas: schemas.clone(),
        };
        let value = serde_json::to_vec(&value).unwrap();
        assert_eq!(decode(&value), Ok(schemas));
        let newer = decode(br#"{"version":2}"#).unwrap_err();
        assert!(newer.contains("version 2"), "{newer}");
        for text in ["", "{}", "[]", r#"{"version":1,"schemas":7}"#] {
            assert!(decode(text.as_bytes()).is_err(), "{text}");
        }
    }
}
