//! Where records go. A sink knows its own target and an opaque token per record;
//! it knows no slot and no LSN order.

mod kafka;
mod stdout;

pub use kafka::KafkaSink;
pub(crate) use kafka::{lacks_columns, read_lsn};
pub use stdout::StdoutSink;

use std::collections::HashSet;
use std::time::Duration;

use headwater_protocol::Lsn;

use crate::error::{Error, Result};

/// A topic that a sink has opened. Valid for the sink's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub u32);

/// Whom a delivery is reported to: the number that [`crate::ack::Ack`] gave the
/// transaction. The sink hands it back unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// One record, borrowing the server's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Where it goes.
    pub topic: TopicId,
    /// The key's bytes; absent for a table without key.
    pub key: Option<&'a [u8]>,
    /// The value's bytes; absent for a tombstone.
    pub value: Option<&'a [u8]>,
    /// What the record's headers say.
    pub headers: Headers<'a>,
}

/// The facts that become the headers `hw.*`.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    /// `hw.op`: `c`, `u`, `d`, `r`, `t` or `m`.
    pub op: &'static str,
    /// `hw.lsn`: the end of the commit, or a snapshot's consistent point.
    pub lsn: Lsn,
    /// `hw.seq`: the position in the transaction.
    pub seq: u64,
    /// `hw.xid` and `hw.ts`: absent for snapshot rows.
    pub transaction: Option<(u32, i64)>,
    /// `hw.unchanged`: columns that are absent from the value.
    pub unchanged: &'a [&'a str],
    /// `hw.fetched`: the value is the row as it was read later.
    pub fetched: bool,
}

/// `count` records of `token` were delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// As given to [`Sink::send`].
    pub token: Token,
    /// How many.
    pub count: u64,
}

/// Why a record was not accepted.
#[derive(Debug)]
pub enum SendError {
    /// The sink's memory is used up: nothing was accepted; call
    /// [`Sink::wait`] and send the same record again.
    Full,
    /// It will never be accepted.
    Failed(Error),
}

/// Whether a topic's records have keys, which decides what it may forget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keying {
    /// The newest record of each key is kept for ever: the topic is compacted.
    Keyed,
    /// Records without a key, which a compacted topic refuses: they are kept as long as
    /// the cluster keeps records.
    Unkeyed,
    /// Records that count each for itself, whatever their key: a compacted topic would
    /// forget some.
    Events,
}

impl Keying {
    /// By whether the table has a key.
    pub fn of(is_keyed: bool) -> Self {
        if is_keyed {
            Keying::Keyed
        } else {
            Keying::Unkeyed
        }
    }
}

/// Which of a topic's live keys get a tombstone.
#[derive(Clone, Copy, Debug)]
pub enum Ghosts {
    /// Those whose newest record is older than the snapshot of this consistent point:
    /// rows of an earlier snapshot or stream that this snapshot did not see.
    OlderThan(Lsn),
    /// Those whose newest record is not of the snapshot of this consistent point. For a
    /// stream that begins there: it brings again all that is newer, while records of another
    /// server or of a history that was rewound may carry any LSN.
    NotOf(Lsn),
    /// All of them: the table was truncated.
    All,
}

/// A target of records.
///
/// Shared by the threads of a snapshot; the stream uses it from one thread. Records
/// of one key that one thread sends keep their order to the end, whatever is retried.
pub trait Sink: Send + Sync {
    /// Makes sure that the topic exists, creating it where that is allowed. Idempotent.
    fn open_topic(&self, name: &str, keying: Keying) -> Result<TopicId>;

    /// Whether topics of tables with a key are compacted, so that no record can stand there
    /// without one.
    fn compacts(&self) -> bool;

    /// Accepts a record, copying its bytes, or nothing at all.
    fn send(&self, record: &Record<'_>, token: Token) -> Result<(), SendError>;

    /// The source has nothing more for now: records that wait for company may wait in vain.
    fn hurry(&self) {}

    /// Appends what was delivered since the last call. An error means that a record
    /// failed for good; its token is never reported.
    fn deliveries(&self, into: &mut Vec<Delivered>) -> Result<()>;

    /// Returns when there may be room again or a delivery to collect, at the latest
    /// after `timeout`.
    fn wait(&self, timeout: Duration);

    /// Waits until every accepted record is delivered, or `timeout` has passed, and
    /// says whether all were.
    fn flush(&self, timeout: Duration) -> Result<bool>;

    /// Reads `topic` to its end, partition by partition, and writes a tombstone for
    /// each key that is live there and a ghost under the rule, then waits for their
    /// delivery. `headers` stand on each tombstone. `tick` is called at least once a
    /// second, so that the caller can keep a connection alive; its error ends the sweep.
    /// Everything sent before must be delivered when this is called. Returns the
    /// number of tombstones. A sink without memory of what it wrote returns 0.
    fn sweep(
        &self,
        topic: TopicId,
        ghosts: Ghosts,
        headers: Headers<'_>,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<u64>;

    /// What finds ghosts without writing, for a topic that is written to meanwhile. None
    /// where the sink has no memory of what it wrote, or cannot tell ghosts in it. `tick` as in
    /// [`Sink::sweep`].
    fn search(
        &self,
        topic: TopicId,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<Box<dyn GhostSearch>>>;

    /// As [`Sink::send`], into this partition of the topic: a tombstone belongs where the
    /// record is that it buries.
    fn send_to(&self, record: &Record<'_>, partition: i32, token: Token) -> Result<(), SendError>;
}

/// Keys of records.
pub type Keys = HashSet<Box<[u8]>>;

/// Looks for ghosts in one topic.
pub trait GhostSearch {
    /// The numbers of the topic's partitions, ascending.
    fn partitions(&self) -> &[i32];

    /// Reads a partition to its end and returns the keys whose newest record there is older
    /// than `point`, and the offset from which on it was not read.
    fn older_than(
        &self,
        partition: i32,
        point: Lsn,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<(Keys, i64)>;

    /// Reads on from an offset and returns those of the keys that have newer records.
    fn renewed(
        &self,
        partition: i32,
        offset: i64,
        keys: &Keys,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Keys>;
}
