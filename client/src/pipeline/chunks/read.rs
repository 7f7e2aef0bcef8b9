//! Reads a chunk: rows behind a key, in the key's order, in a transaction of its own.
//!
//! The lock comes before the snapshot: see the module's description. It is waited for a moment
//! at a time, so that the stream can forget meanwhile what newer snapshots see.
//!
//! The last key goes to the server as a parameter of `set_config` and not as a part of the
//! statement: a statement that fails is logged there.
//!
//! # How large a chunk is
//!
//! So many rows are asked for as are expected to fit, by those of the chunk before; what
//! does not fit is thrown away and comes with the next one. So memory is bounded whatever the
//! rows are like, by one row more than [`CHUNK_BYTES`].

use headwater_protocol::avro::Fingerprint;
use headwater_protocol::frame::{Frame, Frames, Op};
use libpq::Format;

use super::visibility::Visible;
use crate::error::{Error, Result};
use crate::registry::{HEADER_BYTES, Ids, Stamp};
use crate::snapshot_request::{RowsOf, key_bytes};
use crate::source::avro_key::KeySchema;
use crate::source::catalog::Table;
use crate::source::connection::{Connection, Connector};
use crate::source::key::Key;
use crate::source::plugin::Plugin;
use crate::source::snapshot::{self, CopyBinary, CopyError, Description};
use crate::source::sql;
use crate::source::sql_error::{SqlError, sqlstate};

/// Rows of a chunk at most: read and sent within a few tenths of a second, and large enough
/// that its transaction and its watermark cost nothing beside it.
const CHUNK_ROWS: u64 = 20_000;

/// Bytes of a chunk: they wait in memory until the stream comes to the watermark.
const CHUNK_BYTES: usize = 8 * 1024 * 1024;

/// Rows of the first chunk of a table, of which nothing is known.
const FIRST_ROWS: u64 = 1_000;

/// Rows that are looked up one by one in one transaction.
const LOOKUPS: usize = 1_000;

/// Nobody's rows are left out unseen, no commit waits for a standby, which may be this very
/// stream, and a chunk is read along the key's index.
const SETTINGS: &str = "SET row_security = off; SET synchronous_commit = local; \
     SET lock_timeout = '2s'; SET enable_sort = off; SET enable_incremental_sort = off; SET jit = off";

/// Why a table is not copied, or not now.
pub(super) enum Unread {
    /// It is gone, or another than it was: look at the catalog again.
    Changed,
    /// Somebody has it for himself.
    Locked,
    /// It cannot be copied, for this reason.
    Unfit(String),
    /// Anything else.
    Failed(Error),
}

impl From<SqlError> for Unread {
    fn from(error: SqlError) -> Self {
        if error.is_any_of(&[sqlstate::SERIALIZATION_FAILURE]) {
            // A type that it is made of has changed since it was described.
            Unread::Changed
        } else if error.is_any_of(&[sqlstate::LOCK_NOT_AVAILABLE, sqlstate::DEADLOCK_DETECTED]) {
            Unread::Locked
        } else if error.is_any_of(&[
            sqlstate::UNDEFINED_TABLE,
            sqlstate::UNDEFINED_COLUMN,
            sqlstate::INVALID_SCHEMA_NAME,
        ]) {
            Unread::Changed
        } else if error.is_any_of(&[sqlstate::INSUFFICIENT_PRIVILEGE]) {
            Unread::Unfit(Error::from(error).to_string())
        } else if error.is_data_exception() {
            // The server's words would quote the key.
            let sqlstate = error.sqlstate().unwrap_or_default();
            Unread::Unfit(format!(
                "a key of it cannot be read back from JSON (SQLSTATE {sqlstate})"
            ))
        } else {
            Unread::Failed(error.into())
        }
    }
}

impl From<Error> for Unread {
    fn from(error: Error) -> Self {
        Unread::Failed(error)
    }
}

impl From<CopyError> for Unread {
    fn from(error: CopyError) -> Self {
        Unread::Failed(error.into())
    }
}

/// Rows of a table, as of one snapshot.
pub(super) struct Rows {
    pub(super) snapshot: Visible,
    pub(super) frames: Vec<u8>,
    pub(super) count: u64,
    /// The key of the last one; none where there are no more behind it.
    pub(super) after: Option<String>,
    pub(super) schemas: Option<SchemaTexts>,
}

/// The schemas of rows, where they have some.
pub(super) struct SchemaTexts {
    pub(super) key: String,
    pub(super) value: String,
}

/// Rows of single keys.
pub(super) struct Lookups {
    pub(super) snapshot: Visible,
    pub(super) frames: Vec<u8>,
    pub(super) count: u64,
    /// Keys that no row has, as the topic has them.
    pub(super) absent: Vec<Vec<u8>>,
    /// Keys of rows, as the topic has them: under which schema's id, nobody has looked.
    pub(super) found: Vec<Vec<u8>>,
    pub(super) schemas: Option<SchemaTexts>,
    /// How many keys were looked up.
    pub(super) keys: usize,
}

impl Lookups {
    /// What no row has: keys of rows under another id than `ids` among them. A row is sent under the
    /// one that its schema has now, and what is under another is another key for a topic. The stream
    /// sends no more under it: the lock is behind the ALTER, and the watermark behind the lock.
    pub(super) fn absent_under(&mut self, ids: Option<Ids>) -> Vec<Vec<u8>> {
        let mut absent = std::mem::take(&mut self.absent);
        if let Some(id) = ids.and_then(|ids| ids.key) {
            let found = std::mem::take(&mut self.found).into_iter();
            let is_under = |key: &Vec<u8>| {
                let bare = key.get(HEADER_BYTES..);
                bare.is_some_and(|bare| Stamp::owned(id, bare) == *key)
            };
            absent.extend(found.filter(|key| !is_under(key)));
        }
        absent
    }
}

/// A session that reads chunks.
pub(super) struct ChunkSession<'a> {
    connection: Connection,
    plugin: &'a Plugin,
    /// Rows that cannot be encoded become dead letters, by their keys.
    buries: bool,
    /// Rows of the next chunk of the leaf that the last one was of.
    expected: (Option<RowsOf>, u64),
}

/// What rows of a table are like, under the lock.
struct Described {
    relation: u32,
    key: Key,
    texts: KeyTexts,
    schemas: Option<SchemaTexts>,
}

impl Described {
    fn fingerprint(&self) -> Option<Fingerprint> {
        let schemas = self.schemas.as_ref()?;
        Some(Fingerprint::of(Some(&schemas.key), &schemas.value))
    }
}

/// How a row's key becomes the JSON that it is looked up by.
enum KeyTexts {
    /// It is that.
    Json,
    /// By its schema.
    Avro(KeySchema),
}

impl KeyTexts {
    fn json(&self, key: &[u8]) -> Result<String> {
        let text = match self {
            KeyTexts::Json => String::from_utf8(key.to_vec()).ok(),
            KeyTexts::Avro(schema) => schema.json(key),
        };
        text.ok_or_else(|| Error::failed("a row's key is none of its table"))
    }

    /// What is in the topic by this text, as the table has it; none for what is no key of it.
    fn of_topic(&self, key: &str) -> Option<TopicKey> {
        let stored = key_bytes(key)?;
        let bare = match self {
            KeyTexts::Json => &stored[..],
            KeyTexts::Avro(_) => stored.get(HEADER_BYTES..)?,
        };
        Some(TopicKey {
            json: self.json(bare).ok()?,
            bare: bare.to_vec(),
        })
    }
}

/// A key that is looked up.
struct TopicKey {
    /// As the encoder makes it.
    bare: Vec<u8>,
    json: String,
}

impl<'a> ChunkSession<'a> {
    pub(super) fn open(
        connector: &Connector,
        plugin: &'a Plugin,
        buries: bool,
    ) -> Result<Self, SqlError> {
        let connection = connector.connect()?;
        connection.query(SETTINGS)?;
        Ok(ChunkSession {
            connection,
            plugin,
            buries,
            expected: (None, FIRST_ROWS),
        })
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn snapshot(&self) -> Result<Visible, SqlError> {
        let rows = self
            .connection
            .query("SELECT pg_catalog.pg_current_snapshot()::text")?;
        Visible::parse(rows.text(0, 0)?)
            .ok_or_else(|| SqlError::Unexpected("the server's snapshot is none".to_owned()))
    }

    /// Has an id assigned and ends it. The snapshots that follow see it, and so list every
    /// transaction with an older id that has not ended. It waits for no standby: see
    /// [`SETTINGS`].
    pub(super) fn end_a_transaction(&self) -> Result<(), SqlError> {
        let assign = "SELECT pg_catalog.pg_current_xact_id()";
        self.connection.query(assign).map(drop)
    }

    /// Begins a transaction, in which nothing is seen yet.
    pub(super) fn begin(&self) -> Result<(), SqlError> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE";
        self.connection.query(begin).map(drop)
    }

    pub(super) fn commit(&self) -> Result<(), SqlError> {
        self.connection.query("COMMIT").map(drop)
    }

    pub(super) fn roll_back(&self) -> Result<(), SqlError> {
        self.connection.query("ROLLBACK").map(drop)
    }

    /// Reads the rows of `leaf` behind a key. The transaction stays open, and with it the
    /// lock.
    pub(super) fn rows(
        &mut self,
        leaf: &Table,
        sent_as: &RowsOf,
        after: Option<&str>,
    ) -> Result<Rows, Unread> {
        self.begin()?;
        let above = leaf.ancestors.iter().map(|name| name.sql());
        let locked: Vec<String> = above.chain([leaf.sql_name()]).collect();
        self.lock(&format!("ONLY {}", locked.join(", ONLY ")))?;
        let snapshot = self.snapshot()?;
        let described = self.describe(&leaf.sql_name(), sent_as)?;
        let name = RowsOf {
            schema: leaf.schema.clone(),
            name: leaf.name.clone(),
        };
        let limit = match &self.expected {
            (Some(known), rows) if *known == name => *rows,
            _ => FIRST_ROWS,
        };
        self.connection
            .begin_copy(&self.query(leaf, &described, after, limit)?)?;
        let mut chunk = Chunk::of(&described, self.buries);
        let mut reader = CopyBinary::default();
        // What is left of the copy is read all the same: the session has more to do.
        let mut refused = Ok(());
        while let Some(message) = self.connection.copy_next()? {
            reader.push(&message, &mut |row: &[u8]| -> Result<(), Unread> {
                if refused.is_ok() {
                    refused = chunk.take(row);
                }
                Ok(())
            })?;
        }
        self.connection.copy_result()?;
        refused?;
        if !reader.is_complete() {
            let name = leaf.sql_name();
            let text = format!("a chunk of table {name} ended before its last row");
            return Err(Error::failed(text).into());
        }
        self.expected = (Some(name), chunk.expected());
        let is_last = !chunk.is_full && chunk.count < limit;
        let after = match chunk.last_key() {
            Some(key) if !is_last => Some(described.texts.json(key)?),
            _ => None,
        };
        Ok(Rows {
            snapshot,
            frames: chunk.frames,
            count: chunk.count,
            after,
            schemas: described.schemas,
        })
    }

    /// Looks up the rows of keys, as many of them as fit. Those in `unreadable`, by their place,
    /// are of no row: they are none of the key's type. The transaction stays open.
    pub(super) fn lookups(
        &self,
        table: &RowsOf,
        keys: &[String],
        unreadable: &mut Vec<usize>,
    ) -> Result<Lookups, Unread> {
        self.begin()?;
        let name = sql::qualified(&table.schema, &table.name);
        self.lock(&name)?;
        let snapshot = self.snapshot()?;
        let described = self.describe(&name, table)?;
        let lookup = described.key.lookup(self.plugin, described.fingerprint());
        let mut chunk = Chunk::of(&described, self.buries);
        let (mut absent, mut found) = (Vec::new(), Vec::new());
        let mut looked_up = 0;
        for (index, key) in keys.iter().enumerate().take(LOOKUPS) {
            looked_up += 1;
            let mut is_there = false;
            let known = described.texts.of_topic(key);
            if let Some(known) = known.filter(|_| !unreadable.contains(&index)) {
                let parameters = [known.json.as_bytes()];
                let rows = self
                    .connection
                    .query_with(&lookup, &parameters, Format::Binary)
                    .inspect_err(|error| {
                        if error.is_data_exception() {
                            unreadable.push(index);
                        }
                    })?;
                if let Some(row) = rows.bytes(0, 0) {
                    chunk.take(row)?;
                    is_there = chunk.last_key() == Some(known.bare.as_slice());
                }
            }
            let keys = if is_there { &mut found } else { &mut absent };
            keys.extend(key_bytes(key));
            if chunk.frames.len() >= CHUNK_BYTES {
                break;
            }
        }
        Ok(Lookups {
            snapshot,
            frames: chunk.frames,
            count: chunk.count,
            absent,
            found,
            schemas: described.schemas,
            keys: looked_up,
        })
    }

    fn lock(&self, tables: &str) -> Result<(), SqlError> {
        let statement = format!("LOCK TABLE {tables} IN ACCESS SHARE MODE");
        self.connection.query(&statement).map(drop)
    }

    /// What the stream would say of the table's rows now.
    fn describe(&self, table: &str, sent_as: &RowsOf) -> Result<Described, Unread> {
        let rows = snapshot::describe(self.plugin, table, &self.connection)?;
        let description = Description::read(&rows, table)?;
        if description.schema != sent_as.schema || description.table != sent_as.name {
            return Err(Unread::Changed);
        }
        match Key::read(&self.connection, description.relation)? {
            Some(key) if description.is_keyed && key.is_ordered() => {
                let schemas = description.schemas.and_then(|(key, value)| {
                    let key = key?;
                    Some(SchemaTexts { key, value })
                });
                let texts = match &schemas {
                    None => KeyTexts::Json,
                    Some(schemas) => {
                        KeyTexts::Avro(KeySchema::parse(&schemas.key).ok_or_else(|| {
                            Unread::Unfit(
                                "its key has a type that no row can be looked up by".to_owned(),
                            )
                        })?)
                    }
                };
                Ok(Described {
                    relation: description.relation,
                    key,
                    texts,
                    schemas,
                })
            }
            Some(_) if description.is_keyed => Err(Unread::Unfit(
                "its key's index has an order of its own, in which rows cannot be compared"
                    .to_owned(),
            )),
            _ => Err(Unread::Unfit(
                "it has no key, and so no order to copy it by".to_owned(),
            )),
        }
    }

    fn query(
        &self,
        leaf: &Table,
        described: &Described,
        after: Option<&str>,
        limit: u64,
    ) -> Result<String, SqlError> {
        let key = &described.key;
        const SETTING: &str = "headwater_chunk.after";
        let condition = match after {
            None => String::new(),
            Some(after) => {
                self.connection.query_with(
                    "SELECT pg_catalog.set_config($1, $2, true) IS NULL",
                    &[SETTING.as_bytes(), after.as_bytes()],
                    Format::Text,
                )?;
                let json = format!("pg_catalog.current_setting('{SETTING}')::pg_catalog.json");
                format!(" WHERE {}", key.is_behind(&json))
            }
        };
        let schemas = key.operator_schemas();
        if !schemas.is_empty() {
            let schemas: Vec<String> = schemas.into_iter().map(sql::identifier).collect();
            self.connection.query(&format!(
                "SET LOCAL search_path = pg_catalog, {}",
                schemas.join(", ")
            ))?;
        }
        Ok(format!(
            "COPY (SELECT {} FROM ONLY {} AS t{condition} ORDER BY {} LIMIT {limit}) \
             TO STDOUT (FORMAT binary)",
            self.plugin.encode_call("t.*", described.fingerprint()),
            leaf.sql_name(),
            key.order(),
        ))
    }
}

/// The rows that were taken so far.
struct Chunk {
    relation: u32,
    /// As in [`ChunkSession`].
    buries: bool,
    frames: Vec<u8>,
    /// Where the last frame begins.
    last: usize,
    count: u64,
    is_full: bool,
}

impl Chunk {
    fn of(described: &Described, buries: bool) -> Self {
        Chunk {
            relation: described.relation,
            buries,
            frames: Vec::new(),
            last: 0,
            count: 0,
            is_full: false,
        }
    }

    fn take(&mut self, row: &[u8]) -> Result<(), Unread> {
        if self.is_full {
            return Ok(());
        }
        match Frames::new(row).next() {
            Some(Ok(Frame::Change(change))) if change.op == Op::Read => {
                if change.relation != self.relation || change.key.is_none() {
                    return Err(Unread::Changed);
                }
            }
            Some(Ok(Frame::Quarantine(quarantine))) => {
                if quarantine.relation != self.relation {
                    return Err(Unread::Changed);
                }
                if !self.buries || quarantine.key.is_none() {
                    return Err(Unread::Unfit(unencodable(quarantine.reason)));
                }
            }
            Some(Err(error)) => {
                return Err(Error::failed("a row is no frame").with_source(error).into());
            }
            _ => return Err(Error::failed("a row came as another frame than a row").into()),
        }
        self.frames.try_reserve(row.len()).map_err(|error| {
            Error::failed(format!("no memory for a row of {} bytes", row.len())).with_source(error)
        })?;
        self.last = self.frames.len();
        self.frames.extend_from_slice(row);
        self.count += 1;
        self.is_full = self.frames.len() >= CHUNK_BYTES;
        Ok(())
    }

    /// How many rows like these make a chunk.
    fn expected(&self) -> u64 {
        let bytes = self.frames.len() as u64;
        let Some(row) = bytes.checked_div(self.count).filter(|row| *row > 0) else {
            return FIRST_ROWS;
        };
        (CHUNK_BYTES as u64 / row).clamp(1, CHUNK_ROWS)
    }

    fn last_key(&self) -> Option<&[u8]> {
        match Frames::new(&self.frames[self.last..]).next() {
            Some(Ok(Frame::Change(change))) => change.key,
            Some(Ok(Frame::Quarantine(quarantine))) => quarantine.key,
            _ => None,
        }
    }
}

/// No row may be missing from a topic unnoticed, and none may stop the stream, which has not
/// come to it: its table stays stale.
fn unencodable(reason: &str) -> String {
    format!("a row of it cannot be encoded: {reason}")
}
