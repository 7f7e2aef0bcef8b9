//! What stands in a topic of Avro, as what is compared.
//!
//! A row's bytes are compared with those of the newest record of its key, as in JSON: the encoder is
//! the same. Before both stand the ids of schemas. A key's id is part of the key, and what the
//! registry says now: a record under another one is another key. A value's says by which schema it
//! is read: where that is not the table's of now, see [`super::project`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::project::{After, Schema};
use crate::backoff::Backoff;
use crate::cli::ValueEnvelope;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{HEADER_BYTES, NoSchema, Registry, Stamp};
use crate::source::avro_key::KeySchema;
use crate::stop::Stop;

/// How the records of one table are read.
pub(super) struct Form {
    registry: Arc<Registry>,
    stop: Stop,
    envelope: ValueEnvelope,
    /// 0, which no schema has, where the registry does not know the schema.
    key_id: u32,
    value_id: u32,
    key: Option<KeySchema>,
    value: Schema,
    /// By their ids; none for what is no schema of rows.
    written_by: Mutex<HashMap<u32, Option<Arc<Schema>>>>,
}

/// Makes forms.
pub(super) struct Forms {
    pub(super) registry: Arc<Registry>,
    /// Ends the wait for a registry that is away.
    pub(super) stop: Stop,
    pub(super) envelope: ValueEnvelope,
}

impl Forms {
    /// Of a table with these schemas, as JSON.
    ///
    /// # Errors
    /// The registry does not answer.
    pub(super) fn form(&self, topic: &str, key: &str, value: &str) -> Result<Form> {
        Form::new(self, topic, key, value)
    }
}

impl Form {
    fn new(forms: &Forms, topic: &str, key: &str, value: &str) -> Result<Self> {
        let id = |part: &str, schema: &str| -> Result<u32> {
            let found = forms.registry.find(&format!("{topic}-{part}"), schema)?;
            Ok(found.unwrap_or(0))
        };
        Ok(Form {
            registry: Arc::clone(&forms.registry),
            stop: forms.stop.clone(),
            envelope: forms.envelope,
            key_id: id("key", key)?,
            value_id: id("value", value)?,
            key: KeySchema::parse(key),
            value: Schema::parse(value)
                .ok_or_else(|| Error::failed("the schema of a table cannot be read"))?,
            written_by: Mutex::default(),
        })
    }

    /// A row's key as its topic has it.
    pub(super) fn key(&self, key: &[u8]) -> Vec<u8> {
        Stamp::owned(self.key_id, key)
    }

    /// A topic's key as JSON; none for one that is no key of the table.
    pub(super) fn json_key(&self, key: &[u8]) -> Option<String> {
        let (id, bare) = split(key)?;
        let schema = self.key.as_ref().filter(|_| id == self.key_id)?;
        schema.json(bare)
    }

    /// What is compared of a row, as the encoder has made it.
    pub(super) fn row(&self, value: &[u8]) -> Option<Vec<u8>> {
        match self.envelope {
            ValueEnvelope::Row => Some(value.to_vec()),
            ValueEnvelope::Change => match self.value.after(&self.value, value)? {
                After::Row(row) => Some(row),
                After::Nothing | After::Incomplete => None,
            },
        }
    }

    /// What is compared of a record; none for what is no record of the table. The registry is
    /// waited for.
    ///
    /// # Errors
    /// It was stopped.
    pub(super) fn record(&self, value: &[u8]) -> Result<Option<After>> {
        let Some((id, bare)) = split(value) else {
            return Ok(None);
        };
        if id == self.value_id {
            return Ok(match self.envelope {
                ValueEnvelope::Row => Some(After::Row(bare.to_vec())),
                ValueEnvelope::Change => self.value.after(&self.value, bare),
            });
        }
        let Some(written_by) = self.written_by(id)? else {
            return Ok(None);
        };
        Ok(match self.envelope {
            ValueEnvelope::Row => written_by.project(&self.value, bare).map(After::Row),
            ValueEnvelope::Change => written_by.after(&self.value, bare),
        })
    }

    fn written_by(&self, id: u32) -> Result<Option<Arc<Schema>>> {
        let mut known = self
            .written_by
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get(&id) {
            return Ok(known.clone());
        }
        let schema = match self.schema(id)? {
            Ok(text) => Schema::parse(&text).map(Arc::new),
            // Nobody can read such a record.
            Err(reason) => {
                tracing::warn!(
                    id,
                    ?reason,
                    "records whose id names no schema of Avro differ"
                );
                None
            }
        };
        known.insert(id, schema.clone());
        Ok(schema)
    }

    /// The text of a schema, as long as that takes: no table is locked while topics are read, and all
    /// that was read until now would be lost.
    fn schema(&self, id: u32) -> Result<Result<Arc<str>, NoSchema>> {
        let mut backoff = Backoff::default();
        loop {
            match self.registry.look_up(id) {
                Err(error) if error.kind() == ErrorKind::Disconnected => {
                    backoff.report(&error);
                    backoff.wait(&self.stop)?;
                }
                answered => return answered,
            }
        }
    }
}

/// The schema's id and what it is of.
fn split(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (header, datum) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let [0, id @ ..] = header else {
        return None;
    };
    Some((u32::from_be_bytes(*id), datum))
}
