//! DDL between the changes: a table that its one writer alters again and again.
//!
//! What leaves no trace in the WAL makes a table stale: its records are those of rows as they
//! were. So each such statement is followed, in its own transaction, by an update of every
//! row; a statement that rewrites the table sends every row by itself.

use super::plan::Plan;
use super::tables::Table;
use crate::Random;

/// No more columns than this are added at a time. A row of two kilobytes would have its text
/// stored out of line and sent without it, which is another table's subject.
const COLUMNS: usize = 24;

/// What the table looks like beside the columns that stay.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layout {
    /// Columns that were added, by their numbers.
    added: Vec<u64>,
    /// The number of the next.
    next: u64,
    /// Whether `width` is a `bigint` by now.
    wide: bool,
}

impl Layout {
    /// Alters the table, with changes of its rows before and behind.
    pub(crate) fn alter(&mut self, plan: &mut Plan, random: &mut Random) {
        let table = Table::Shifting;
        plan.change(table, random);
        let is_full = self.added.len() >= COLUMNS;
        match random.below(6) {
            0..=2 if is_full => self.remove(plan, random),
            0 => {
                let added = self.add();
                plan.run(&format!("alter table shifting add column c{added} int"));
            }
            1 => {
                let added = self.add();
                plan.run(&format!(
                    "alter table shifting add column c{added} int default 7"
                ));
                plan.touch(table, &plan.live(table));
            }
            2 => {
                let added = self.add();
                plan.run(&format!(
                    "alter table shifting add column c{added} float8 default random()"
                ));
                plan.rewritten(table);
            }
            3 if !self.added.is_empty() => self.remove(plan, random),
            4 if !self.added.is_empty() => {
                let place = random.below(self.added.len() as u64) as usize;
                let from = std::mem::replace(&mut self.added[place], self.next);
                let to = self.next;
                self.next += 1;
                plan.run(&format!(
                    "alter table shifting rename column c{from} to c{to}"
                ));
                plan.touch(table, &plan.live(table));
            }
            _ => {
                self.wide = !self.wide;
                let width = if self.wide { "bigint" } else { "int" };
                plan.run(&format!(
                    "alter table shifting alter column width type {width}"
                ));
                plan.rewritten(table);
            }
        }
        for _ in 0..random.below(3) {
            plan.change(table, random);
        }
    }

    fn remove(&mut self, plan: &mut Plan, random: &mut Random) {
        let place = random.below(self.added.len() as u64) as usize;
        let gone = self.added.swap_remove(place);
        plan.run(&format!("alter table shifting drop column c{gone}"));
        plan.touch(Table::Shifting, &plan.live(Table::Shifting));
    }

    fn add(&mut self) -> u64 {
        let added = self.next;
        self.next += 1;
        self.added.push(added);
        added
    }
}
