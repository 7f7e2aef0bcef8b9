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
//! What else is to stand behind them is kept in the same order: the event of a TRUNCATE, and that the
//! table was dropped, which ends its marks, also those that its last changes may get.
//!
//! Memory is bounded: past [`HELD_BYTES`], or [`HELD_TRANSACTIONS`] that cannot be acknowledged, the
//! stream waits, and the server keeps the WAL, as where Kafka is away. It also waits at what cannot
//! be kept: the tombstones of a TRUNCATE of such a table, before which all that came earlier is to be
//! delivered, and a dead letter of it.
//!
//! A copy into the stream goes on, but for such tables ([`super::super::chunks`]).
//!
//! A session that breaks changes nothing for transactions that have arrived whole: they do not come
//! again. What was kept of the one that was arriving is let go, since it does.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

use headwater_protocol::frame::{Change, Op};

use super::target::Target;
use super::transaction::Transaction;
use crate::metrics::HeldBack;
use crate::registry::Schemas;
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
pub(in crate::pipeline) struct Held {
    tables: BTreeMap<RowsOf, VecDeque<HeldChange>>,
    /// How many changes there are of a relation, by its address: one that was described again is
    /// another.
    targets: HashMap<*const Target, usize>,
    bytes: usize,
}

/// Something that is kept, with all that it needs to be sent later.
pub(super) struct HeldChange {
    pub(super) target: Rc<Target>,
    pub(super) transaction: Transaction,
    pub(super) what: What,
    /// Those of a row that was read for it, where these are what it waits for.
    pub(super) awaited: Option<Box<Schemas>>,
}

/// What is kept.
pub(super) enum What {
    Row(RowChange),
    /// What tells of a TRUNCATE.
    Truncate {
        seq: u64,
        event: Box<[u8]>,
    },
    /// The table was dropped.
    Gone,
}

/// A change of a row.
pub(super) struct RowChange {
    op: Op,
    relation: u32,
    seq: u64,
    key: Option<Box<[u8]>>,
    old_key: Option<Box<[u8]>>,
    value: Option<Box<[u8]>>,
    unchanged: Vec<String>,
}

impl RowChange {
    pub(super) fn new(change: &Change<'_>) -> Self {
        RowChange {
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
        let parts = parts.into_iter().flatten().map(|part| part.len());
        let names = self.unchanged.iter();
        let names = names.map(|name| name.len() + size_of::<String>());
        parts.chain(names).sum()
    }
}

impl HeldChange {
    pub(super) fn new(target: &Rc<Target>, transaction: &Transaction, what: What) -> Self {
        HeldChange {
            target: Rc::clone(target),
            transaction: *transaction,
            what,
            awaited: None,
        }
    }

    /// Without the target, which others may have, too.
    fn bytes(&self) -> usize {
        let what = match &self.what {
            What::Row(row) => row.bytes(),
            What::Truncate { event, .. } => event.len(),
            What::Gone => 0,
        };
        let awaited = self.awaited.as_ref().map_or(0, |schemas| {
            schemas.value().len() + schemas.key().map_or(0, |key| key.len())
        });
        what + awaited + OVERHEAD
    }
}

impl Held {
    pub(in crate::pipeline) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Whether the next change of the table has to stand behind others.
    pub(super) fn holds(&self, target: &Target) -> bool {
        !self.tables.is_empty() && self.tables.contains_key(&target.table_name())
    }

    /// Whether changes of this table are kept.
    pub(in crate::pipeline) fn holds_table(&self, table: &RowsOf) -> bool {
        self.tables.contains_key(table)
    }

    /// Whether no more may be kept, `in_flight` transactions being without acknowledgement.
    pub(super) fn is_full(&self, in_flight: usize) -> bool {
        !self.is_empty() && (self.bytes >= HELD_BYTES || in_flight >= HELD_TRANSACTIONS)
    }

    /// How much is kept, as [`Held::is_full`] judges it.
    pub(super) fn back(&self, in_flight: usize) -> HeldBack {
        HeldBack {
            tables: self.tables.len() as u64,
            bytes: self.bytes as u64,
            is_full: self.is_full(in_flight),
        }
    }

    pub(super) fn push(&mut self, change: HeldChange) {
        self.count(&change);
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
        if changes.is_empty() {
            self.tables.remove(table);
        }
        self.discount(&change);
        Some(change)
    }

    /// Puts back what was taken out and could not be sent.
    pub(super) fn put_back(&mut self, change: HeldChange) {
        self.count(&change);
        let table = change.target.table_name();
        self.tables.entry(table).or_default().push_front(change);
    }

    /// Lets go of what is of a transaction that will come again, and says how many that were.
    pub(super) fn forget(&mut self, token: Token) -> u64 {
        let mut forgotten = Vec::new();
        self.tables.retain(|_, changes| {
            let all = std::mem::take(changes).into_iter();
            let (again, kept): (VecDeque<_>, VecDeque<_>) =
                all.partition(|change| change.transaction.token == token);
            forgotten.extend(again);
            *changes = kept;
            !changes.is_empty()
        });
        for change in &forgotten {
            self.discount(change);
        }
        forgotten.len() as u64
    }

    fn count(&mut self, change: &HeldChange) {
        self.bytes += change.bytes();
        let sharing = self.targets.entry(Rc::as_ptr(&change.target)).or_default();
        if *sharing == 0 {
            self.bytes += change.target.bytes();
        }
        *sharing += 1;
    }

    fn discount(&mut self, change: &HeldChange) {
        self.bytes -= change.bytes();
        let target = Rc::as_ptr(&change.target);
        let sharing = self.targets.get(&target).map_or(0, |sharing| sharing - 1);
        if sharing == 0 {
            self.targets.remove(&target);
            self.bytes -= change.target.bytes();
        } else {
            self.targets.insert(target, sharing);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use headwater_protocol::Lsn;
    use headwater_protocol::frame::{Relation, ReplicaIdentity};

    use super::super::target::SchemaTexts;
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
        HeldChange::new(table, &transaction, What::Row(RowChange::new(&change)))
    }

    fn seq(held: &HeldChange) -> u64 {
        match &held.what {
            What::Row(row) => row.seq,
            What::Truncate { seq, .. } => *seq,
            What::Gone => u64::MAX,
        }
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
        let taken = held.pop(&table).as_ref().map(seq);
        assert_eq!(taken, Some(0));
        held.put_back(change(&first, 1, 0, b"value"));
        let rest: Vec<u64> = std::iter::from_fn(|| held.pop(&table))
            .map(|held| seq(&held))
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

    #[test]
    fn what_changes_share_is_counted_once_and_all_that_they_have() {
        let target_with_schemas = || {
            let mut target = target("a");
            Rc::get_mut(&mut target).unwrap().schemas = Some(SchemaTexts {
                key: Some("k".repeat(1_000)),
                value: "v".repeat(100_000),
            });
            target
        };
        let (first, again) = (target_with_schemas(), target_with_schemas());
        let mut held = Held::default();
        held.push(change(&first, 1, 0, b""));
        let one = held.bytes;
        assert!(one > 101_000, "{one}");
        held.push(change(&first, 1, 1, b""));
        let more = held.bytes - one;
        assert!(more < 1_000, "{more}");
        held.push(change(&again, 1, 2, b""));
        assert_eq!(held.bytes, 2 * one + more, "another description is more");

        let mut wide = change(&first, 1, 3, b"");
        let What::Row(row) = &mut wide.what else {
            panic!("a row");
        };
        row.unchanged = vec!["u".repeat(60); 1_600];
        let before = held.bytes;
        held.push(wide);
        let more = held.bytes - before;
        assert!(more > 1_600 * 60, "{more}");

        while held.pop(&first.table_name()).is_some() {}
        assert_eq!(held.bytes, 0);
    }
}
