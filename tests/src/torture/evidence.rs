//! What a run leaves behind for the checkers: plain data, which a test can alter to see
//! them complain.

use std::collections::BTreeMap;

use headwater_protocol::Lsn;

use super::history::Committed;
use super::log::{Entry, Letter, Row};
use super::workload::tables::Table;

/// All that the checkers know.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// What was committed; each writer's in its order.
    pub history: Vec<Committed>,
    /// What the topics hold; each partition's in its order.
    pub log: Vec<Entry>,
    /// What the topic of dead letters holds.
    pub letters: Vec<Letter>,
    /// What the tables held at the same time, at rest.
    pub tables: BTreeMap<(Table, Box<str>), Row>,
    /// Where changes need not have come one by one, since a snapshot stands for them or
    /// somebody accepted their loss.
    pub gaps: Vec<Gap>,
    /// When something was out of order, in the order of time, none with another.
    pub troubles: Vec<Trouble>,
    /// The slot as it was seen now and then, in the order of time.
    pub samples: Vec<Sample>,
    /// What became of starts on a slot that had lost changes.
    pub refusals: Vec<Refusal>,
    /// The server at the end.
    pub server: Server,
}

/// Commits that end behind `lost_after` and no later than `resumed_at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The server had everything up to here confirmed.
    pub lost_after: Lsn,
    /// The stream goes on from here.
    pub resumed_at: Lsn,
}

/// A time at which something was out of order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// From its making, milliseconds since 1970 …
    pub from: i64,
    /// … to its mending.
    pub to: i64,
}

/// One look at the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When the answer had come, milliseconds since 1970.
    pub at: i64,
    /// What the client had confirmed.
    pub confirmed: Lsn,
    /// WAL that the server keeps for the slot, in bytes.
    pub retained: u64,
}

/// A start of the client on a slot that had lost changes, or beside another client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What had been done.
    pub after: &'static str,
    /// The exit code that is due.
    pub due: i32,
    /// How it ended; none if it went on instead.
    pub exit: Option<i32>,
    /// Records that it wrote.
    pub written: u64,
    /// What it said.
    pub stderr: String,
}

/// What the server's side tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// Lines of its log that tell of a crash of a server process.
    pub crashes: Vec<String>,
    /// How often it was started.
    pub starts: usize,
    /// How often the nemesis, and the first start, started it.
    pub starts_due: usize,
    /// WAL retained for the slot at rest, in bytes; none if there is no slot, or one that
    /// retains nothing any more.
    pub retained_at_rest: Option<u64>,
}
