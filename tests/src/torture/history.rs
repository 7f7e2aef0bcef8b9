//! What was committed, as those who wrote it know it.

use std::sync::{Arc, Mutex};

use headwater_protocol::Lsn;

use super::workload::tables::Key;

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
    /// It is there, with this `sequence` in its stamp.
    Put(u64),
    /// It is gone.
    Gone,
    /// It is there, but nothing can print it: its change is quarantined.
    Unprintable,
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
