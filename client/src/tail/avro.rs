//! Keys and values in Confluent's wire format, as text.
//!
//! ```text
//! wire format := 0x00, schema id: u32 big-endian, datum in Avro's binary encoding
//! ```
//!
//! A JSON text never begins with the byte 0, so the two formats are told apart by it. Each datum
//! is read with the schema that it names, the writer's, and nothing is resolved: what is shown
//! is what was written.
//!
//! # What a datum has to be
//!
//! `apache-avro` takes a datum that ends too early, at a string or a union, for one that has a null
//! there, and says nothing of bytes behind the end. [`Bytes`] sees both.

mod json;
mod logical;
mod schema;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, Read};

use apache_avro::Schema;

use self::schema::LogicalTypes;
use crate::error::{Error, Result};
use crate::registry::Registry;

/// The first byte.
const MAGIC: u8 = 0;

/// Bytes before the datum: the magic byte and the schema id.
const HEADER_BYTES: usize = 5;

/// How many schemas are kept. Beyond it, those that are in use are parsed again.
const KEPT: usize = 1_000;

/// Turns what is in the wire format into text.
pub(super) struct Decoder {
    registry: Registry,
    logical_types: LogicalTypes,
    schemas: HashMap<u32, Schema>,
}

impl Decoder {
    /// Reads schemas from a registry. With `readable`, dates, times and decimals are printed
    /// as a person writes them; without, as Avro's JSON encoding has them.
    pub(super) fn new(registry: Registry, readable: bool) -> Self {
        Decoder {
            registry,
            logical_types: match readable {
                true => LogicalTypes::Kept,
                false => LogicalTypes::Dropped,
            },
            schemas: HashMap::new(),
        }
    }

    /// Writes the text of a key or a value; of one that is not in the wire format, the bytes.
    ///
    /// # Errors
    /// The registry does not answer or has no such schema, or the bytes are none of that
    /// schema. The error names the schema and none of the bytes.
    pub(super) fn text(&mut self, out: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
        let Some((id, datum)) = split(bytes) else {
            out.extend_from_slice(bytes);
            return Ok(());
        };
        let schema = self.schema(id)?;
        json::datum(out, schema, datum).map_err(|wrong| {
            Error::failed(format!("bytes that are no datum of schema {id}: {wrong}"))
                .with_hint("Without --registry they are printed as they are.")
        })
    }

    fn schema(&mut self, id: u32) -> Result<&Schema> {
        if self.schemas.len() >= KEPT && !self.schemas.contains_key(&id) {
            self.schemas.clear();
        }
        Ok(match self.schemas.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let text = self.registry.schema(id)?;
                let schema = schema::parse(&text, self.logical_types).map_err(|error| {
                    Error::failed(format!("schema {id} of the registry is no Avro schema"))
                        .with_source(error)
                })?;
                new.insert(schema)
            }
        })
    }
}

/// Whether bytes are in the wire format, or look so.
pub(super) fn is_framed(bytes: &[u8]) -> bool {
    split(bytes).is_some()
}

/// The schema id and the datum of what is in the wire format.
fn split(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (header, datum) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let [MAGIC, id @ ..] = header else {
        return None;
    };
    Some((u32::from_be_bytes(*id), datum))
}

/// A datum's bytes, which know when more was asked for than they hold.
struct Bytes<'d> {
    rest: &'d [u8],
    is_short: bool,
}

impl Read for Bytes<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.is_short |= into.len() > self.rest.len();
        self.rest.read(into)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_wire_format_begins_with_a_zero_and_a_schema_id() {
        assert_eq!(split(&[0, 0, 0, 1, 2, 7, 8]), Some((258, &[7, 8][..])));
        assert_eq!(split(&[0, 0, 0, 1, 2]), Some((258, &[][..])));
        assert_eq!(split(&[0, 0, 0, 1]), None);
        assert_eq!(split(br#"{"id":1}"#), None);
        assert_eq!(split(b""), None);
    }
}
