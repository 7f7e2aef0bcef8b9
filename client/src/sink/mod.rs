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

use crate::error::{Error, ErrorKind, Result};

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

/// What a sink has done so far, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Records that were delivered.
    pub delivered_records: u64,
    /// Bytes of their keys and values.
    pub delivered_bytes: u64,
    /// Records that the target refused.
    pub refused_records: u64,
    /// Records that are accepted and not delivered.
    pub in_flight_records: u64,
    /// The memory that they take, in bytes.
    pub in_flight_bytes: u64,
    /// What they may take before [`SendError::Full`], in bytes.
    pub limit_bytes: u64,
    /// Whether the target answers, as far as is known.
    pub answers: bool,
    /// How often it stopped answering.
    pub outages: u64,
    /// Connections to it that failed or broke.
    pub connection_errors: u64,
}

impl Default for Load {
    fn default() -> Self {
        Load {
            delivered_records: 0,
            delivered_bytes: 0,
            refused_records: 0,
            in_flight_records: 0,
            in_flight_bytes: 0,
            limit_bytes: 0,
            answers: true,
            outages: 0,
            connection_errors: 0,
        }
    }
}

/// Why a record was not accepted.
#[derive(Debug)]
pub enum SendError {
    /// The sink's memory is used up: nothing was accepted; call
    /// [`Sink::wait`] and send the same record again.
    Full,
    /// It is over what its topic is known to take, unless compression makes it fit: nothing was
    /// accepted; [`Sink::send_alone`] finds out.
    Large,
    /// It will never be accepted.
    Failed(Error),
}

/// What became of a record that its topic may not take.
#[derive(Debug)]
#[must_use]
pub enum Verdict {
    /// It is accepted, and its delivery will be reported.
    Accepted,
    /// Its topic does not take it, and nothing of it was accepted.
    TooLarge(TooLarge),
}

/// A record that its topic does not take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// Its topic.
    pub topic: String,
    /// Its size as the target counts it, uncompressed.
    pub bytes: u64,
    /// What the topic takes; none where that is not to be learned.
    pub limit: Option<u64>,
    /// What makes the topic take it, as a sentence.
    pub cure: String,
}

impl std::fmt::Display for TooLarge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TooLarge { topic, bytes, .. } = self;
        match self.limit {
            Some(limit) => write!(
                f,
                "a record of {bytes} bytes is over the {limit} that topic \"{topic}\" takes"
            ),
            None => write!(
                f,
                "a record of {bytes} bytes is over what topic \"{topic}\" takes"
            ),
        }
    }
}

impl From<TooLarge> for Error {
    fn from(record: TooLarge) -> Self {
        Error::new(ErrorKind::Data, record.to_string()).with_hint(record.cure)
    }
}

/// A change that cannot be delivered, and what is kept of it.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetter<'a> {
    /// The topic of dead letters.
    pub topic: TopicId,
    /// The key of the row, or the prefix of the message, where it is known.
    pub key: Option<&'a [u8]>,
    /// The bytes that could not be delivered, where there are some.
    pub value: Option<&'a [u8]>,
    /// What the record's headers would have said.
    pub headers: Headers<'a>,
    /// The table as `schema.table`; none for a message.
    pub relation: Option<&'a str>,
    /// Where the record would have gone, where there was one.
    pub meant_for: Option<TopicId>,
    /// Why it cannot be delivered. Never a row's value.
    pub reason: &'a str,
    /// The size of the record as its target counts it, where there was one.
    pub bytes: Option<u64>,
    /// What its topic takes, where that is the reason and known.
    pub limit: Option<u64>,
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

    /// Accepts a record for which [`Sink::send`] returned [`SendError::Large`], once everything
    /// sent before it is delivered, and returns when it is delivered or its topic has
    /// refused it. Nothing is accepted meanwhile, so that a refusal concerns this record alone.
    /// `tick` is called at least every 2.5 seconds; its error ends the wait, and the record may
    /// then be delivered nevertheless. A sink that never returns `Large` is never asked.
    fn send_alone(
        &self,
        record: &Record<'_>,
        token: Token,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Verdict> {
        let _ = (token, tick);
        Err(Error::failed(format!(
            "topic number {} takes no record alone",
            record.topic.0
        )))
    }

    /// Accepts a dead letter, or nothing at all. It always fits: what does not is cut off its
    /// value. Its delivery is reported like a record's. A sink without topics has none for it.
    fn send_dead_letter(&self, letter: &DeadLetter<'_>, token: Token) -> Result<(), SendError> {
        let _ = token;
        Err(SendError::Failed(Error::failed(format!(
            "topic number {} takes no dead letters",
            letter.topic.0
        ))))
    }

    /// The source has nothing more for now: records that wait for company may wait in vain.
    fn hurry(&self) {}

    /// What it has done and holds. Cheap enough to be asked with every message of the server.
    fn load(&self) -> Load {
        Load::default()
    }

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
