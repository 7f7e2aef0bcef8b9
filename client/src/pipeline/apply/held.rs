//! Changes of tables whose schema ids are not known yet, because the registry does not answer.
//!
//! # What goes on, and what waits
//!
//! The changes of such a table are kept in their order, and those of other tables are sent: no
//! record of two tables shares a key, so nothing is reordered that a reader could tell. A change
//! that is kept counts as sent and not delivered ([`crate::ack`]), so that no position moves past its
//! transaction, whatever is delivered behind it: a crash costs memory and no change. When the id is
//! known they are sent, as if they had just come, before anything newer of the table.
//!
//! Memory is bounded: past [`HELD_BYTES`], or [`HELD_TRANSACTIONS`] that cannot be acknowledged, the
//! stream waits, and the server keeps the WAL, as where Kafka is away. It also waits at what cannot
//! be kept: a TRUNCATE, whose tombstones stand behind everything before it, and a chunk of a copy.
//!
//! A session that breaks changes nothing for transactions that have arrived whole: they do not come
//! again. What was kept of the one that was arriving is let go, since it does.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use headwater_protocol::frame::{Change, Op};

use super::target::Target;
use super::transaction::Transaction;
use crate::sink::Token;
use crate::snapshot_request::RowsOf;

/// Bytes of changes that are kept at most, but for one more: a quarter of what a client may take on
/// ordinary loads.
const HELD_BYTES: usize = 16 << 20;

/// Transactions that wait for their acknowledgement at most while changes are kept, about 40 bytes
/// each.
const HELD_TRANSACTIONS: usize = 500_000;

/// What a change costs beside its bytes.
const OVERHEAD: usize = 256;

/// The changes, by table, in the order in which they came.
#[derive(Default)]
pub(super) struct Held {
    tables: BTreeMap<RowsOf, VecDeque<HeldChange>>,
    bytes: usize,
}

/// A change that is kept, with all that it needs to be sent later.
pub(super) struct HeldChange {
    pub(super) target: Rc<Target>,
    pub(super) transaction: Transaction,
    op: Op,
    relation: u32,
    seq: u64,
    key: Option<Box<[u8]>>,
    old_key: Option<Box<[u8]>>,
    value: Option<Box<[u8]>>,
    unchanged: Vec<String>,
}

impl HeldChange {
    pub(super) fn new(target: &Rc<Target>, transaction: &Transaction, change: &Change<'_>) -> Self {
        HeldChange {
            target: Rc::clone(target),
            transaction: *transaction,
            op: change.op,
            relation: change.relation,
            seq: change.seq,
            key: change.key.map(Box::from),
            old_key: change.old_key.map(Box::from),
            value: change.value.map(Box::from),
            unchanged: change.unchanged.iter().map(|it| (*it).to_owned()).collect(),
        }
    }

    /// The change as it came.
    pub(super) fn change(&self) -> Change<'_> {
        Change {
            op: self.op,
            relation: self.relation,
            seq: self.seq,
            key: self.key.as_deref(),
            old_key: self.old_key.as_deref(),
            value: self.value.as_deref(),
            unchanged: self.unchanged.iter().map(String::as_str).collect(),
        }
    }

    fn bytes(&self) -> usize {
        let parts = [&self.key, &self.old_key, &self.value];
        let bytes = parts.into_iter().flatten().map(|part| part.len());
        bytes.sum::<usize>() + OVERHEAD
    }
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Whether the next change of the table has to stand behind others.
    pub(super) fn holds(&self, target: &Target) -> bool {
        !self.tables.is_empty() && self.tables.contains_key(&target.table_name())
    }

    /// Whether no more may be kept, `in_flight` transactions being without acknowledgement.
    pub(super) fn is_full(&self, in_flight: usize) -> bool {
        !self.is_empty() && (self.bytes >= HELD_BYTES || in_flight >= HELD_TRANSACTIONS)
    }

    pub(super) fn push(&mut self, change: HeldChange) {
        self.bytes += change.bytes();
        let table = change.target.table_name();
        self.tables.entry(table).or_default().push_back(change);
    }

    /// The tables of which there are changes.
    pub(super) fn tables(&self) -> Vec<RowsOf> {
        self.tables.keys().cloned().collect()
    }

    /// The oldest change of a table.
    pub(super) fn first(&self, table: &RowsOf) -> Option<&HeldChange> {
        self.tables.get(table)?.front()
    }

    /// Takes out the oldest change of a table.
    pub(super) fn pop(&mut self, table: &RowsOf) -> Option<HeldChange> {
        let changes = self.tables.get_mut(table)?;
        let change = changes.pop_front()?;
        self.bytes -= change.bytes();
        if changes.is_empty() {
            self.tables.remove(table);
        }
        Some(change)
    }

    /// Puts back what was taken out and could not be sent.
    pub(super) fn put_back(&mut self, change: HeldChange) {
        self.bytes += change.bytes();
        let table = change.target.table_name();
        self.tables.entry(table).or_default().push_front(change);
    }

    /// Lets go of what is of a transaction that will come again, and says how many that were.
    pub(super) fn forget(&mut self, token: Token) -> u64 {
        let mut forgotten = 0;
        let bytes = &mut self.bytes;
        self.tables.retain(|_, changes| {
            changes.retain(|change| {
                let is_kept = change.transaction.token != token;
                if !is_kept {
                    forgotten += 1;
                    *bytes -= change.bytes();
                }
                is_kept
            });
            !changes.is_empty()
        });
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use headwater_protocol::Lsn;
    use headwater_protocol::frame::{Relation, ReplicaIdentity};

    use super::*;

    fn target(table: &str) -> Rc<Target> {
        let relation = Relation {
            id: 1,
            schema: "public",
            table,
            identity: ReplicaIdentity::Default,
            columns: Vec::new(),
        };
        Rc::new(Target::new(&relation, true))
    }

    fn change(table: &Rc<Target>, token: u64, seq: u64, value: &[u8]) -> HeldChange {
        let transaction = Transaction {
            token: Token(token),
            xid: 1,
            end_lsn: Lsn(1),
            commit_time: 0,
            changes: 1,
        };
        let change = Change {
            op: Op::Create,
            relation: 1,
            seq,
            key: Some(b"k"),
            old_key: None,
            value: Some(value),
            unchanged: vec!["a"],
        };
        HeldChange::new(table, &transaction, &change)
    }

    #[test]
    fn changes_of_a_table_come_out_as_they_went_in() {
        let (first, second) = (target("a"), target("b"));
        let mut held = Held::default();
        for (table, seq) in [(&first, 0), (&second, 1), (&first, 2)] {
            held.push(change(table, 1, seq, b"value"));
        }
        assert!(held.holds(&first) && held.holds(&second) && !held.holds(&target("c")));
        let table = first.table_name();
        let taken = held.pop(&table).map(|held| held.change().seq);
        assert_eq!(taken, Some(0));
        held.put_back(change(&first, 1, 0, b"value"));
        let rest: Vec<u64> = std::iter::from_fn(|| held.pop(&table))
            .map(|held| held.change().seq)
            .collect();
        assert_eq!(rest, [0, 2]);
        assert!(!held.holds(&first) && held.holds(&second));
    }

    #[test]
    fn what_comes_again_is_let_go_and_the_rest_stays() {
        let table = target("a");
        let mut held = Held::default();
        for (token, seq) in [(1, 0), (2, 0), (2, 1)] {
            held.push(change(&table, token, seq, b"value"));
        }
        assert_eq!(held.forget(Token(2)), 2);
        assert_eq!(held.forget(Token(1)), 1);
        assert!(held.is_empty() && held.bytes == 0);
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let table = target("a");
        let mut held = Held::default();
        assert!(!held.is_full(HELD_TRANSACTIONS), "nothing is kept");
        let value = vec![0; HELD_BYTES / 4];
        while !held.is_full(0) {
            held.push(change(&table, 1, 0, &value));
        }
        assert_eq!(held.tables[&table.table_name()].len(), 4);
        drop(held.pop(&table.table_name()));
        assert!(!held.is_full(0) && held.is_full(HELD_TRANSACTIONS));
    }
}
