//! The binary protocol between the plugin and the client, version 1.
//!
//! One write of the plugin (one `CopyData` message of the replication stream) holds
//! one or more frames back to back, never a part of one. `docs/frame-protocol.md`
//! draws every byte; the test vectors that it shows are read and written by this crate's
//! tests.
//!
//! ```text
//! frame    := tag: u8, length: u32, body: [u8; length]
//! bytes    := length: u32, [u8; length]          0xFFFFFFFF: absent
//! text     := length: u16, [u8; length]          UTF-8
//! ```
//!
//! Integers are big-endian, as everywhere in Postgres' own protocol.
//!
//! # Why the order of frames is enough to read a change
//!
//! The stream of one session is `H`, then per transaction `B`, changes, `E`. A `R`
//! stands before the first change that uses it and replaces whatever the session
//! knew under that relation id; so does an `A`, behind the `R`, where keys and values are
//! Avro. Each session starts with nothing known, so a
//! client that reconnects keeps no schema from before.
//!
//! A change carries its position in the transaction (`seq`), counted over every
//! change before any filter, so that the pair of commit end and `seq` names a change
//! for ever, whatever options the next session uses.

mod read;
pub mod write;

pub use read::{FrameError, Frames};

use crate::Lsn;

/// The oldest version of the protocol that this build speaks.
pub const PROTOCOL_VERSION_MIN: u16 = 1;
/// The newest version of the protocol that this build speaks, and the default.
pub const PROTOCOL_VERSION_MAX: u16 = 1;

/// The length that marks an absent byte string.
pub(crate) const ABSENT: u32 = u32::MAX;

/// Bytes before a frame's body: the tag and the length.
pub const FRAME_HEADER_BYTES: usize = 5;

/// One frame's tag, the first byte.
pub(crate) mod tag {
    pub(crate) const HELLO: u8 = b'H';
    pub(crate) const BEGIN: u8 = b'B';
    pub(crate) const RELATION: u8 = b'R';
    pub(crate) const SCHEMAS: u8 = b'A';
    pub(crate) const CREATE: u8 = b'c';
    pub(crate) const UPDATE: u8 = b'u';
    pub(crate) const DELETE: u8 = b'd';
    pub(crate) const READ: u8 = b'r';
    pub(crate) const TRUNCATE: u8 = b't';
    pub(crate) const MESSAGE: u8 = b'm';
    pub(crate) const QUARANTINE: u8 = b'Q';
    pub(crate) const QUARANTINED_MESSAGE: u8 = b'q';
    pub(crate) const STALE: u8 = b'S';
    pub(crate) const COMMIT: u8 = b'E';
}

/// What happened to a row. The codes are those of the `change` envelope's `op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// An INSERT.
    Create,
    /// An UPDATE.
    Update,
    /// A DELETE.
    Delete,
    /// A row read by a snapshot.
    Read,
}

impl Op {
    /// The one-letter code: `c`, `u`, `d` or `r`.
    pub fn code(self) -> &'static str {
        match self {
            Op::Create => "c",
            Op::Update => "u",
            Op::Delete => "d",
            Op::Read => "r",
        }
    }

    pub(crate) fn tag(self) -> u8 {
        match self {
            Op::Create => tag::CREATE,
            Op::Update => tag::UPDATE,
            Op::Delete => tag::DELETE,
            Op::Read => tag::READ,
        }
    }
}

/// How a relation's old rows are identified: `pg_class.relreplident`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// `d`: the primary key.
    Default,
    /// `n`: nothing; updates and deletes say nothing of the old row.
    Nothing,
    /// `f`: the whole old row.
    Full,
    /// `i`: the columns of one unique index.
    Index,
}

impl ReplicaIdentity {
    /// The letter that `pg_class.relreplident` holds.
    pub fn code(self) -> u8 {
        match self {
            ReplicaIdentity::Default => b'd',
            ReplicaIdentity::Nothing => b'n',
            ReplicaIdentity::Full => b'f',
            ReplicaIdentity::Index => b'i',
        }
    }

    /// The identity of a letter of `pg_class.relreplident`.
    pub fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            b'd' => ReplicaIdentity::Default,
            b'n' => ReplicaIdentity::Nothing,
            b'f' => ReplicaIdentity::Full,
            b'i' => ReplicaIdentity::Index,
            _ => return None,
        })
    }
}

/// `H`: who writes; the first frame of every session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The protocol version of every frame that follows.
    pub protocol: u16,
    /// The server's `server_version_num`.
    pub server_version: u32,
    /// The plugin's release, as [`crate::VERSION`].
    pub plugin_version: &'a str,
}

/// `B`: a transaction whose changes follow. Sent ahead of the first change only: a
/// transaction without one sends neither `B` nor `E`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// The transaction id.
    pub xid: u32,
    /// Where the commit record begins.
    pub commit_lsn: Lsn,
    /// Where the commit record ends: the position to acknowledge once every record
    /// of the transaction is durable.
    pub end_lsn: Lsn,
    /// When it committed, microseconds since 1970-01-01 UTC.
    pub commit_time: i64,
}

/// `E`: the transaction is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// As in [`Begin::end_lsn`].
    pub end_lsn: Lsn,
    /// How many change, truncate, message, quarantine (of rows and of messages) and stale
    /// frames came since `B`; a reader that counted otherwise has lost some.
    pub changes: u64,
}

/// `R`: a relation as of the changes that follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation<'a> {
    /// `pg_class.oid`.
    pub id: u32,
    /// How old rows are identified.
    pub identity: ReplicaIdentity,
    /// The schema's name, unquoted.
    pub schema: &'a str,
    /// The table's name, unquoted.
    pub table: &'a str,
    /// The columns in their order, dropped ones left out.
    pub columns: Vec<Column<'a>>,
}

impl Relation<'_> {
    /// Whether rows of the relation have a key.
    pub fn is_keyed(&self) -> bool {
        self.columns.iter().any(|column| column.is_key)
    }
}

/// One column of a [`Relation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<'a> {
    /// Whether the column belongs to the key.
    pub is_key: bool,
    /// `pg_attribute.atttypid`.
    pub type_oid: u32,
    /// `pg_attribute.atttypmod`, -1 where the type has none.
    pub type_modifier: i32,
    /// The column's name, unquoted.
    pub name: &'a str,
}

/// `c`, `u`, `d`, `r`: one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// What happened.
    pub op: Op,
    /// The relation, described by an earlier `R`.
    pub relation: u32,
    /// Position in the transaction, from 0, counted before any filter. 0 for `r`.
    pub seq: u64,
    /// The row's key, encoded; absent where the relation has none.
    pub key: Option<&'a [u8]>,
    /// The key that the row had before, where this change gave it another one.
    pub old_key: Option<&'a [u8]>,
    /// The row or the envelope, encoded; absent for a delete outside an envelope.
    pub value: Option<&'a [u8]>,
    /// Columns whose value is not in the WAL because the change left it where it is
    /// (TOAST). They are absent from `value`, and null there in Avro.
    pub unchanged: Vec<&'a str>,
}

/// `t`: a TRUNCATE of one or more relations at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncate<'a> {
    /// Position in the transaction, as in [`Change::seq`].
    pub seq: u64,
    /// CASCADE was given.
    pub cascade: bool,
    /// RESTART IDENTITY was given.
    pub restart_identity: bool,
    /// The relations, each with its envelope where there is one.
    pub relations: Vec<(u32, Option<&'a [u8]>)>,
    /// Where only a part of each relation was truncated: the partition, by schema and name,
    /// as many as relations. Empty where whole relations were.
    pub partitions: Vec<(&'a str, &'a str)>,
}

/// `m`: what `pg_logical_emit_message` wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Whether it belongs to the transaction around it. Otherwise it stands between
    /// transactions and [`Message::lsn`] is its own position.
    pub transactional: bool,
    /// Where the message stands in the WAL.
    pub lsn: Lsn,
    /// Position in the transaction; 0 where it belongs to none.
    pub seq: u64,
    /// What the writer named it.
    pub prefix: &'a str,
    /// The bytes as they were given.
    pub content: &'a [u8],
}

/// `Q`: a change that could not be encoded. It stands where the change would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quarantine<'a> {
    /// The relation, described by an earlier `R`.
    pub relation: u32,
    /// What happened to the row.
    pub op: Op,
    /// Position in the transaction.
    pub seq: u64,
    /// The row's key, where it could be encoded.
    pub key: Option<&'a [u8]>,
    /// Why, without any value of the row.
    pub reason: &'a str,
}

/// `q`: a logical message whose content could not be sent. It stands where the message
/// would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuarantinedMessage<'a> {
    /// As in [`Message::transactional`].
    pub transactional: bool,
    /// As in [`Message::lsn`].
    pub lsn: Lsn,
    /// As in [`Message::seq`].
    pub seq: u64,
    /// What the writer named it; no more of it than 65,535 bytes.
    pub prefix: &'a str,
    /// Why, without anything of the content.
    pub reason: &'a str,
}

/// `S`: what was sent of a relation is no longer what it holds, and no change says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stale<'a> {
    /// The relation, described by an earlier `R`.
    pub relation: u32,
    /// The relation is no more, and the transaction left none of its name.
    pub gone: bool,
    /// What the transaction did to it.
    pub reason: &'a str,
}

/// `A`: the Avro schemas that a relation's keys and values are written with from here on, under
/// `format=avro`. It follows the relation's `R` and replaces the schemas that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schemas<'a> {
    /// The relation, described by an earlier `R`.
    pub relation: u32,
    /// The schema of keys, as JSON; none if its rows have no key.
    pub key: Option<&'a str>,
    /// The schema of values, as JSON.
    pub value: &'a str,
}

/// One message of the stream, borrowing from the bytes it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame<'a> {
    /// `H`
    Hello(Hello<'a>),
    /// `B`
    Begin(Begin),
    /// `R`
    Relation(Relation<'a>),
    /// `A`
    Schemas(Schemas<'a>),
    /// `c`, `u`, `d`, `r`
    Change(Change<'a>),
    /// `t`
    Truncate(Truncate<'a>),
    /// `m`
    Message(Message<'a>),
    /// `Q`
    Quarantine(Quarantine<'a>),
    /// `q`
    QuarantinedMessage(QuarantinedMessage<'a>),
    /// `S`
    Stale(Stale<'a>),
    /// `E`
    Commit(Commit),
}

#[cfg(test)]
mod tests;
