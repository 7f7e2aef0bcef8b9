//! What was committed, as those who wrote it know it.

use std::sync::{Arc, Mutex};

use headwater_protocol::Lsn;

use super::workload::tables::{Key, Table};

/// What a committed transaction was made of: for the report.
pub type Kind = &'static str;

/// One committed transaction.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Who wrote it.
    pub writer: u32,
    /// Its id, without the epoch.
    pub xid: u32,
    /// What it was made of.
    pub kind: Kind,
    /// Its commit ends behind this position …
    pub after: Lsn,
    /// … and no later than here.
    pub by: Lsn,
    /// Its changes in their order.
    pub changes: Vec<Change>,
}

/// One change of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The row.
    pub key: Key,
    /// What became of it.
    pub effect: Effect,
}

/// What a change makes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is there.
    Put {
        /// In its stamp.
        sequence: u64,
        /// How it came there.
        by: By,
    },
    /// It is gone.
    Gone,
    /// It is there, but nothing can print it: its change is left out of the topic.
    Unprintable {
        /// Whether it is kept as a dead letter.
        is_kept: bool,
    },
}

/// How a row comes to be as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// It is new.
    Insert,
    /// All of its large values are new.
    Update,
    /// A large value stays where it is, so that the WAL may lack it.
    Touch,
}

impl By {
    /// An update that leaves alone what it does not stamp.
    pub fn touching(table: Table) -> Self {
        if table.is_fetched() {
            By::Touch
        } else {
            By::Update
        }
    }

    /// The `hw.op` of its record.
    pub fn op(self) -> char {
        match self {
            By::Insert => 'c',
            By::Update | By::Touch => 'u',
        }
    }
}

/// The history while it is written, by all writers at once.
#[derive(Clone, Debug, Default)]
pub struct History(Arc<Mutex<Vec<Committed>>>);

impl History {
    /// Appends a transaction whose commit is certain. Those of one writer come in their
    /// order.
    pub fn push(&self, committed: Committed) {
        self.lock().push(committed);
    }

    /// How many changes there are.
    pub fn changes(&self) -> usize {
        self.lock()
            .iter()
            .map(|committed| committed.changes.len())
            .sum()
    }

    /// All of it.
    pub fn to_vec(&self) -> Vec<Committed> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Committed>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}
