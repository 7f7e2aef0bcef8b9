//! Transactions before they run: their statements and what each comes to.

use std::collections::{BTreeMap, BTreeSet};

use super::tables::{Key, Table, WRITERS_MAX};
use crate::Random;
use crate::torture::history::{By, Change, Effect, Kind};

/// So few keys a table and writer that changes of one key meet often.
const KEYS: u64 = 40;

/// Rows of one batch at most.
const BATCH: u64 = 30;

/// The rows that a writer has: each live key with the sequence in its stamp.
pub(crate) type Rows = BTreeMap<Key, u64>;

/// The tables that ordinary transactions write to.
const ORDINARY: [Table; 4] = [Table::Orders, Table::Lines, Table::Notes, Table::Documents];

/// A transaction that is being put together for a writer. Statements take the rows as the
/// statements before them leave them.
#[derive(Debug)]
pub(crate) struct Plan {
    writer: u32,
    xid: u64,
    /// The sequence of the writer's last change: never used twice, whatever is rolled back.
    sequence: u64,
    /// What to run.
    pub(crate) sql: String,
    /// `COPY` has data beside its statement, and so runs alone.
    pub(crate) copies: Vec<Copy>,
    /// What it comes to.
    pub(crate) changes: Vec<Change>,
    /// The rows after it.
    pub(crate) rows: Rows,
    /// Keys that another open transaction of the same writer has changed.
    avoided: BTreeSet<Key>,
}

/// One `COPY … FROM STDIN`, run before the plan's statements.
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) statement: String,
    pub(crate) data: String,
}

impl Plan {
    /// Nothing yet but the row in the ledger, whose number is the transaction's.
    pub(crate) fn new(writer: u32, number: u64, xid: u64, sequence: u64, rows: &Rows) -> Self {
        let mut plan = Plan {
            writer,
            xid,
            sequence,
            sql: String::new(),
            copies: Vec::new(),
            changes: Vec::new(),
            rows: rows.clone(),
            avoided: BTreeSet::new(),
        };
        let entry = Key {
            table: Table::Ledger,
            writer,
            number,
        };
        let sequence = plan.next();
        plan.sql = format!("insert into ledger values ({writer}, {number}, {sequence}, {xid});\n");
        plan.changes.push(Change {
            key: entry,
            effect: Effect::Put {
                sequence,
                by: By::Insert,
            },
        });
        plan
    }

    /// Leaves out keys that are locked.
    #[must_use]
    pub(crate) fn avoiding(mut self, keys: BTreeSet<Key>) -> Self {
        self.avoided = keys;
        self
    }

    /// The sequence of its last change.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The keys that it changes.
    pub(crate) fn keys(&self) -> BTreeSet<Key> {
        self.changes.iter().map(|change| change.key).collect()
    }

    /// Statements of an ordinary transaction. Says of which kind it is.
    pub(crate) fn fill(&mut self, random: &mut Random) -> Kind {
        let table = ORDINARY[random.below(4) as usize];
        match random.below(16) {
            0..3 => {
                self.change(table, random);
                "single"
            }
            3..5 => {
                self.batch(table, random);
                "batch"
            }
            5 => {
                self.copy(table, random);
                "copy"
            }
            6..8 => {
                self.savepoints(random);
                "savepoints"
            }
            8 => {
                self.move_key(table, random);
                "key change"
            }
            9 => {
                self.swap(table, random);
                "swapped keys"
            }
            10 => {
                self.delete_and_insert(table, random);
                "delete and insert"
            }
            11..13 => {
                for _ in 0..1 + random.below(4) {
                    self.document(random);
                }
                "large values unchanged"
            }
            _ => {
                for _ in 0..2 + random.below(8) {
                    let table = ORDINARY[random.below(4) as usize];
                    self.change(table, random);
                }
                "several tables"
            }
        }
    }

    /// One row is inserted, updated or deleted.
    pub(crate) fn change(&mut self, table: Table, random: &mut Random) {
        let Some(key) = self.any(table, random) else {
            return;
        };
        match self.rows.contains_key(&key) {
            false => self.insert(key, random),
            true if random.below(5) == 0 => self.delete(key),
            true => self.update(key, random),
        }
    }

    /// Many rows by one statement each: those that are there are updated, the others
    /// inserted.
    fn batch(&mut self, table: Table, random: &mut Random) {
        let keys = self.some(table, 1 + random.below(BATCH), random);
        let (there, fresh): (Vec<Key>, Vec<Key>) = keys
            .into_iter()
            .partition(|key| self.rows.contains_key(key));
        self.touch(table, &there);
        if fresh.is_empty() {
            return;
        }
        let rows: Vec<String> = fresh.iter().map(|&key| self.row(key, random)).collect();
        self.run(&format!(
            "insert into {} ({}) values {}",
            table.name(),
            columns(table),
            rows.join(", ")
        ));
    }

    /// Stamps rows anew by one statement, whatever else they hold.
    pub(crate) fn touch(&mut self, table: Table, keys: &[Key]) {
        if keys.is_empty() {
            return;
        }
        let stamps: Vec<String> = keys
            .iter()
            .map(|&key| {
                let sequence = self.put(key, By::touching(table));
                format!("({}, {sequence})", key.values())
            })
            .collect();
        let columns = table.key_columns();
        let same: Vec<String> = columns
            .split(", ")
            .map(|column| format!("t.{column} = v.{column}"))
            .collect();
        self.run(&format!(
            "update {} t set writer = {}, sequence = v.sequence, xid = {} \
             from (values {}) v ({columns}, sequence) where {}",
            table.name(),
            self.writer,
            self.xid,
            stamps.join(", "),
            same.join(" and ")
        ));
    }

    fn copy(&mut self, table: Table, random: &mut Random) {
        let keys = self.some(table, 1 + random.below(BATCH), random);
        let mut data = String::new();
        for key in keys {
            if self.rows.contains_key(&key) {
                continue;
            }
            let values = key.values().replace('\'', "").replace(", ", "\t");
            let sequence = self.put(key, By::Insert);
            let (writer, xid) = (self.writer, self.xid);
            data.push_str(&format!(
                "{values}\t{writer}\t{sequence}\t{xid}\tcopied {sequence}\n"
            ));
        }
        let statement = format!("copy {} ({}) from stdin", table.name(), columns(table));
        self.copies.push(Copy { statement, data });
    }

    /// Subtransactions that are kept or rolled back, one within the other.
    fn savepoints(&mut self, random: &mut Random) {
        for level in 0..1 + random.below(3) {
            self.change(ORDINARY[random.below(4) as usize], random);
            let kept = (self.rows.clone(), self.changes.len());
            self.run(&format!("savepoint s{level}"));
            for _ in 0..1 + random.below(4) {
                self.change(ORDINARY[random.below(4) as usize], random);
            }
            if random.below(2) == 0 {
                self.run(&format!("release s{level}"));
            } else {
                self.run(&format!("rollback to s{level}"));
                self.rows = kept.0;
                self.changes.truncate(kept.1);
            }
        }
    }

    /// A row gets a key that no other has.
    fn move_key(&mut self, table: Table, random: &mut Random) {
        let keys = self.some(table, 8, random);
        let from = keys.iter().find(|key| self.rows.contains_key(key));
        let to = keys.iter().find(|key| !self.rows.contains_key(key));
        match (from, to) {
            (Some(&from), Some(&to)) => self.rename(from, to),
            _ => self.change(table, random),
        }
    }

    /// Two rows take each other's key, by way of a third.
    fn swap(&mut self, table: Table, random: &mut Random) {
        let keys = self.some(table, 12, random);
        let mut there = keys.iter().filter(|key| self.rows.contains_key(key));
        let (one, other) = (there.next(), there.next());
        let free = keys.iter().find(|key| !self.rows.contains_key(key));
        match (one, other, free) {
            (Some(&one), Some(&other), Some(&free)) => {
                self.rename(one, free);
                self.rename(other, one);
                self.rename(free, other);
            }
            _ => self.change(table, random),
        }
    }

    /// A key that dies and lives again in one transaction, perhaps several times.
    fn delete_and_insert(&mut self, table: Table, random: &mut Random) {
        let Some(key) = self.any(table, random) else {
            return;
        };
        for _ in 0..1 + random.below(3) {
            if self.rows.contains_key(&key) {
                self.delete(key);
            }
            self.insert(key, random);
        }
    }

    /// An update that leaves a large value where it is; where there is no row yet, a row.
    fn document(&mut self, random: &mut Random) {
        let Some(key) = self.any(Table::Documents, random) else {
            return;
        };
        match self.rows.contains_key(&key) {
            true => self.touch(Table::Documents, &[key]),
            false => self.insert(key, random),
        }
    }

    pub(crate) fn insert(&mut self, key: Key, random: &mut Random) {
        let row = self.row(key, random);
        let table = key.table;
        self.run(&format!(
            "insert into {} ({}) values {row}",
            table.name(),
            columns(table)
        ));
    }

    fn update(&mut self, key: Key, random: &mut Random) {
        let sequence = self.put(key, By::Update);
        self.run(&format!(
            "update {} set writer = {}, sequence = {sequence}, xid = {}, body = {} where {}",
            key.table.name(),
            self.writer,
            self.xid,
            body(key.table, sequence, random),
            key.condition()
        ));
    }

    pub(crate) fn delete(&mut self, key: Key) {
        self.rows.remove(&key);
        self.changes.push(Change {
            key,
            effect: Effect::Gone,
        });
        self.run(&format!(
            "delete from {} where {}",
            key.table.name(),
            key.condition()
        ));
    }

    fn rename(&mut self, from: Key, to: Key) {
        self.rows.remove(&from);
        self.changes.push(Change {
            key: from,
            effect: Effect::Gone,
        });
        let sequence = self.put(to, By::touching(to.table));
        self.run(&format!(
            "update {} set ({}, sequence, xid) = ({}, {sequence}, {}) where {}",
            to.table.name(),
            to.table.key_columns(),
            to.values(),
            self.xid,
            from.condition()
        ));
    }

    /// Inserts `rows` rows into [`Table::Bulk`] by one statement, or deletes those that are
    /// there.
    pub(crate) fn bulk(&mut self, rows: u64) {
        let table = Table::Bulk;
        let there = self.live(table);
        if !there.is_empty() {
            self.changes.extend(there.iter().map(|&key| Change {
                key,
                effect: Effect::Gone,
            }));
            self.rows.retain(|key, _| key.table != table);
            self.run("delete from bulk");
            return;
        }
        let (writer, xid, before) = (self.writer, self.xid, self.sequence);
        for number in 0..rows {
            let key = Key {
                table,
                writer,
                number,
            };
            self.put(key, By::Insert);
        }
        self.run(&format!(
            "insert into bulk select n * {WRITERS_MAX} + {writer}, {writer}, {before} + 1 + n, {xid},              'one of many' from generate_series(0::bigint, {rows} - 1) n"
        ));
    }

    /// A row of [`Table::Poisoned`] like any other.
    pub(crate) fn harmless(&mut self, key: Key) {
        let sequence = self.put(key, By::Insert);
        self.poisoned_row(key, sequence, "null");
    }

    /// A row that no encoder can print; its change is kept as a dead letter, or not.
    pub(crate) fn poison(&mut self, key: Key, is_kept: bool) {
        let sequence = self.next();
        self.rows.insert(key, sequence);
        self.changes.push(Change {
            key,
            effect: Effect::Unprintable { is_kept },
        });
        self.poisoned_row(key, sequence, "'1'");
    }

    fn poisoned_row(&mut self, key: Key, sequence: u64, value: &str) {
        let (writer, xid) = (self.writer, self.xid);
        self.run(&format!(
            "insert into poisoned values ({}, {writer}, {sequence}, {xid}, {value})",
            key.values()
        ));
    }

    /// Appends a statement.
    pub(crate) fn run(&mut self, statement: &str) {
        self.sql.push_str(statement);
        self.sql.push_str(";\n");
    }

    /// The rows of a table are sent again as they are.
    pub(crate) fn rewritten(&mut self, table: Table) {
        let of_table = self.rows.iter().filter(|(key, _)| key.table == table);
        let again: Vec<Change> = of_table
            .map(|(&key, &sequence)| Change {
                key,
                effect: Effect::Put {
                    sequence,
                    by: By::Update,
                },
            })
            .collect();
        self.changes.extend(again);
    }

    /// The live keys of a table.
    pub(crate) fn live(&self, table: Table) -> Vec<Key> {
        self.rows
            .keys()
            .copied()
            .filter(|key| key.table == table)
            .collect()
    }

    /// Notes that a row is there, and returns its new sequence.
    fn put(&mut self, key: Key, by: By) -> u64 {
        let sequence = self.next();
        self.rows.insert(key, sequence);
        self.changes.push(Change {
            key,
            effect: Effect::Put { sequence, by },
        });
        sequence
    }

    fn row(&mut self, key: Key, random: &mut Random) -> String {
        let sequence = self.put(key, By::Insert);
        format!(
            "({}, {}, {sequence}, {}, {})",
            key.values(),
            self.writer,
            self.xid,
            body(key.table, sequence, random)
        )
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    fn any(&self, table: Table, random: &mut Random) -> Option<Key> {
        self.some(table, 1, random).into_iter().next()
    }

    /// Different keys, at most `count`.
    fn some(&self, table: Table, count: u64, random: &mut Random) -> Vec<Key> {
        let keys: BTreeSet<Key> = (0..count)
            .map(|_| Key {
                table,
                writer: self.writer,
                number: random.below(KEYS),
            })
            .collect();
        keys.difference(&self.avoided).copied().collect()
    }
}

fn columns(table: Table) -> String {
    format!("{}, writer, sequence, xid, body", table.key_columns())
}

/// Out of line where the table is for that: Postgres moves values out of rows over 2 kB.
fn body(table: Table, sequence: u64, random: &mut Random) -> String {
    if table == Table::Documents {
        return format!("repeat(md5('{sequence}'), {})", 100 + random.below(300));
    }
    match random.below(8) {
        0 => "null".to_owned(),
        1 => format!("repeat('{sequence} ', {})", random.below(100)),
        _ => format!("'body {sequence}'"),
    }
}
