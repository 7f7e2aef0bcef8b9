//! What a running stream is asked to copy again, as it travels through the WAL.
//!
//! Only the stream writes to topics, so that the records of a key keep their order. Whoever
//! wants rows sent anew therefore asks the stream, by a transactional logical message: it is
//! durable with its commit, it is read by whichever process streams from the slot then, and
//! it has a place among the changes.
//!
//! ```json
//! {"slot":"headwater","id":"9f…","tables":"shop.*","exclude":"shop.tmp_*"}
//! {"slot":"headwater","id":"9f…","table":{"schema":"shop","name":"orders"},"keys":["{\"id\":5}"]}
//! ```
//!
//! A key is the text of the topic's key, byte for byte, within a JSON string: a tombstone must
//! have exactly the bytes of the record that it buries, and a JSON object would not keep them. One
//! that begins with the byte 0, as Avro's keys do, is a 0 and its bytes in hexadecimal: see
//! [`key_text`].

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};

use headwater_protocol::reserved;
use headwater_protocol::table_pattern::{TablePatterns, selects};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::source::connection::Connection;
use crate::source::sql_error::SqlError;

/// A message's content at most. It goes into the state record, of which a broker takes up to
/// a megabyte by default: a few requests may wait there for their turn.
pub const MAX_BYTES: usize = 128 * 1024;

/// An id at most: it stays on record when its request is done.
const ID_BYTES: usize = 64;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Wire", try_from = "Wire")]
pub struct SnapshotRequest {
    /// The stream that is asked, by its slot; others read the message too, and leave it.
    pub slot: String,
    /// Names the request for ever.
    pub id: String,
    /// What to copy.
    pub scope: Scope,
}

/// What to copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Whole tables.
    Tables {
        /// As after `--table`; every captured table where it is absent.
        tables: Option<TablePatterns>,
        /// As after `--exclude-table`.
        exclude: TablePatterns,
    },
    /// The rows of one table that have these keys, and a tombstone for each key that no row
    /// has.
    Keys {
        /// The table that the rows are sent as: the partitioned one at the top, unless the
        /// stream has `--partitions leaf`.
        table: RowsOf,
        /// The topic's keys, each as [`key_text`] makes it.
        keys: Vec<String>,
    },
}

/// The form in the message. What it does not know it refuses, so that a request of another
/// release is never taken for a larger one than it is.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    slot: String,
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tables: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exclude: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table: Option<RowsOf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<String>>,
}

impl From<SnapshotRequest> for Wire {
    fn from(request: SnapshotRequest) -> Self {
        let mut wire = Wire {
            slot: request.slot,
            id: request.id,
            tables: None,
            exclude: None,
            table: None,
            keys: None,
        };
        match request.scope {
            Scope::Tables { tables, exclude } => {
                wire.tables = tables.map(|patterns| patterns.to_string());
                wire.exclude = (!exclude.is_empty()).then(|| exclude.to_string());
            }
            Scope::Keys { table, keys } => {
                wire.table = Some(table);
                wire.keys = Some(keys);
            }
        }
        wire
    }
}

impl TryFrom<Wire> for SnapshotRequest {
    type Error = &'static str;

    fn try_from(wire: Wire) -> Result<Self, Self::Error> {
        const PATTERN: &str = "a table pattern cannot be read";
        let parse = |text: String| TablePatterns::parse(&text).map_err(|_| PATTERN);
        let scope = match (wire.table, wire.keys) {
            (Some(table), Some(keys)) if wire.tables.is_none() && wire.exclude.is_none() => {
                Scope::Keys { table, keys }
            }
            (None, None) => Scope::Tables {
                tables: wire.tables.map(parse).transpose()?,
                exclude: wire.exclude.map(parse).transpose()?.unwrap_or_default(),
            },
            _ => return Err("either tables, or one table and its keys"),
        };
        Ok(SnapshotRequest {
            slot: wire.slot,
            id: wire.id,
            scope,
        })
    }
}

/// A table by its names, both unquoted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RowsOf {
    /// The schema.
    pub schema: String,
    /// The table.
    pub name: String,
}

impl Scope {
    /// Whether it may hold rows of this table.
    pub fn covers(&self, schema: &str, table: &str) -> bool {
        match self {
            Scope::Tables { tables, exclude } => selects(tables.as_ref(), exclude, schema, table),
            Scope::Keys { table: one, .. } => one.schema == schema && one.name == table,
        }
    }
}

/// A topic's key as the text that a request has it by; none for bytes that no key of ours has.
pub fn key_text(key: &[u8]) -> Option<String> {
    if key.first() != Some(&0) {
        return std::str::from_utf8(key).ok().map(str::to_owned);
    }
    let mut text = String::with_capacity(1 + 2 * key.len());
    text.push('\0');
    for byte in key {
        text.push(char::from_digit(u32::from(byte >> 4), 16)?);
        text.push(char::from_digit(u32::from(byte & 15), 16)?);
    }
    Some(text)
}

/// The topic's key that a text stands for; none if it stands for none.
pub fn key_bytes(text: &str) -> Option<Vec<u8>> {
    let Some(digits) = text.strip_prefix('\0') else {
        return Some(text.as_bytes().to_vec());
    };
    let pairs = digits.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair)
            .ok()
            .filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    pairs.collect()
}

impl fmt::Display for RowsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl SnapshotRequest {
    /// A request with an id of its own.
    pub fn new(slot: &str, scope: Scope) -> Self {
        SnapshotRequest {
            slot: slot.to_owned(),
            id: unique(),
            scope,
        }
    }

    /// Reads a message's content.
    ///
    /// # Errors
    /// It is no request that this release knows. The error quotes nothing of it.
    pub fn decode(content: &[u8]) -> Result<Self> {
        if content.len() > MAX_BYTES {
            return Err(Error::failed(format!(
                "a request of {} bytes is larger than {MAX_BYTES}",
                content.len()
            )));
        }
        let request: Self = serde_json::from_slice(content).map_err(|error| {
            // The message of serde may quote a key; where it is wrong is enough.
            Error::failed(format!(
                "not a request of this release, at line {} column {}",
                error.line(),
                error.column()
            ))
        })?;
        if request.id.len() > ID_BYTES {
            return Err(Error::failed(format!(
                "the id of a request has {} bytes, more than {ID_BYTES}",
                request.id.len()
            )));
        }
        Ok(request)
    }

    /// The message's content.
    ///
    /// # Errors
    /// It is too large.
    pub fn encode(&self) -> Result<String> {
        let content = serde_json::to_string(self)
            .map_err(|error| Error::failed("a request cannot be written").with_source(error))?;
        if content.len() > MAX_BYTES {
            return Err(Error::failed(format!(
                "a request of {} bytes is larger than {MAX_BYTES}",
                content.len()
            ))
            .with_hint("Ask for fewer tables or keys at once."));
        }
        Ok(content)
    }

    /// Puts the request into the WAL, durably. A session of any role may do so.
    ///
    /// # Errors
    /// It is too large, or what the server says.
    pub fn send(&self, connection: &Connection) -> Result<()> {
        let content = self.encode()?;
        Ok(emit(connection, reserved::SNAPSHOT, content.as_bytes())?)
    }
}

/// Writes a transactional logical message. Its content goes as bytes: text would come to be
/// in the database's encoding.
///
/// # Errors
/// What the server says.
pub fn emit(connection: &Connection, prefix: &str, content: &[u8]) -> Result<(), SqlError> {
    let hex: String = content.iter().map(|byte| format!("{byte:02x}")).collect();
    connection
        .query_with(
            "SELECT pg_catalog.pg_logical_emit_message(true, $1, pg_catalog.decode($2, 'hex'))",
            &[prefix.as_bytes(), hex.as_bytes()],
            libpq::Format::Text,
        )
        .map(drop)
}

/// 64 bits from the randomness that the standard library seeds its maps with, as hex digits:
/// two requests to one stream do not come to the same.
pub fn unique() -> String {
    format!("{:016x}", RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn request(scope: Scope) -> SnapshotRequest {
        SnapshotRequest {
            slot: "s".to_owned(),
            id: "7".to_owned(),
            scope,
        }
    }

    #[test]
    fn each_key_of_a_topic_has_a_text_of_its_own() {
        for key in [&b"{\"id\":5}"[..], b"00ff", b"", b"\0\0\0\0\x07\x0a", b"\0"] {
            let text = key_text(key).unwrap();
            assert_eq!(key_bytes(&text).as_deref(), Some(key), "{text:?}");
        }
        assert_eq!(key_text(b"\xff"), None);
        for text in ["\0f", "\0fg", "\0ä"] {
            assert_eq!(key_bytes(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_request_reads_back_as_it_was_written() {
        let keys = Scope::Keys {
            table: RowsOf {
                schema: "Shop".to_owned(),
                name: "orders".to_owned(),
            },
            keys: vec![r#"{"id":5.00}"#.to_owned()],
        };
        let tables = |tables: Option<&str>, exclude: Option<&str>| Scope::Tables {
            tables: tables.map(|text| text.parse().unwrap()),
            exclude: exclude.map_or_else(TablePatterns::default, |text| text.parse().unwrap()),
        };
        for (scope, text) in [
            (
                keys,
                r#"{"slot":"s","id":"7","table":{"schema":"Shop","name":"orders"},"keys":["{\"id\":5.00}"]}"#,
            ),
            (
                tables(Some("shop.*"), Some("shop.tmp")),
                r#"{"slot":"s","id":"7","tables":"shop.*","exclude":"shop.tmp"}"#,
            ),
            (tables(None, None), r#"{"slot":"s","id":"7"}"#),
        ] {
            let request = request(scope);
            assert_eq!(request.encode().unwrap(), text);
            assert_eq!(SnapshotRequest::decode(text.as_bytes()).unwrap(), request);
        }
    }

    #[test]
    fn what_is_no_request_is_refused_without_a_word_of_it() {
        for content in [
            "",
            "secret",
            r#"{"slot":"s"}"#,
            r#"{"slot":"s","id":"7","tables":"secret..x"}"#,
            r#"{"slot":"s","id":"7","table":{"schema":"s","name":"t"}}"#,
            r#"{"slot":"s","id":"7","secret":true}"#,
            &format!("\"{}\"", "x".repeat(MAX_BYTES)),
            &format!(r#"{{"slot":"s","id":"secret{}"}}"#, "x".repeat(ID_BYTES)),
        ] {
            let error = SnapshotRequest::decode(content.as_bytes()).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn no_two_requests_have_one_id() {
        let scope = || Scope::Tables {
            tables: None,
            exclude: TablePatterns::default(),
        };
        assert_ne!(
            SnapshotRequest::new("s", scope()).id,
            SnapshotRequest::new("s", scope()).id
        );
    }
}
