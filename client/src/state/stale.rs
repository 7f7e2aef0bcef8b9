//! Tables whose records are no longer what they hold.
//!
//! The server names them ([`headwater_protocol::frame::Stale`]): a column was renamed, say,
//! which touches no row and sends none. The stream goes on and carries every later change;
//! what is wrong is what was sent before. A mark is on record before the position behind
//! its transaction is, so that it is never forgotten, and goes with the next snapshot, of all
//! tables or into the running stream (`headwater snapshot`). A table
//! that was dropped is in no snapshot: it is named once, and has no mark.

use std::collections::{BTreeMap, BTreeSet};

use headwater_protocol::Lsn;
use headwater_protocol::table_pattern::TablePattern;

use super::cut::cut;

/// Tables on record at most: about 200 bytes each, and at most some 500, in a record that a broker
/// takes up to a megabyte of by default. Those beyond it are named in the log alone.
const TABLES: usize = 1_000;

/// The tables that are stale, each for its first reason, since its last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StaleTables {
    marks: BTreeMap<Name, Mark>,
    /// Those for which there was no room, so that each of them is news only once, too.
    unrecorded: BTreeSet<Name>,
}

/// Schema and table.
type Name = (String, String);

/// Since when a table is stale, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The end of the last transaction that made it so.
    pub since: Lsn,
    /// What that did to the table.
    pub reason: String,
}

impl Mark {
    /// Names the table in the log, and what mends it.
    pub fn warn(&self, schema: &str, table: &str, slot: &str) {
        tracing::warn!(
            table = %format!("{schema}.{table}"),
            since = %self.since,
            reason = self.reason,
            "table is stale: records of rows that have not changed since are not what it holds; to \
             send them anew, run headwater snapshot --slot {slot} --table '{}'",
            TablePattern::exact(schema, table)
        );
    }
}

impl StaleTables {
    /// Marks a table. Says whether it was in order until now: a transaction that comes again
    /// is no news, and what happens to a table that is stale already makes it no staler.
    pub fn mark(&mut self, schema: &str, table: &str, mark: Mark) -> bool {
        let name = (schema.to_owned(), table.to_owned());
        if let Some(known) = self.marks.get_mut(&name) {
            known.since = known.since.max(mark.since);
            return false;
        }
        if self.marks.len() < TABLES {
            let reason = cut(mark.reason);
            self.marks.insert(name, Mark { reason, ..mark });
            return true;
        }
        self.unrecorded.insert(name)
    }

    /// As [`StaleTables::mark`], for a table that was marked already. Says whether it was.
    pub fn stale_again(&mut self, schema: &str, table: &str, since: Lsn) -> bool {
        let name = (schema.to_owned(), table.to_owned());
        match self.marks.get_mut(&name) {
            Some(known) => {
                known.since = known.since.max(since);
                true
            }
            None => self.unrecorded.contains(&name),
        }
    }

    /// Forgets what made a table stale up to `since`, which a copy of it has mended.
    pub fn mended(&mut self, schema: &str, table: &str, since: Lsn) {
        let name = (schema.to_owned(), table.to_owned());
        if self.marks.get(&name).is_none_or(|mark| mark.since <= since) {
            self.marks.remove(&name);
            self.unrecorded.remove(&name);
        }
    }

    /// The mark of a table, if it is of a transaction that ended behind `since`.
    pub fn behind(&self, schema: &str, table: &str, since: Lsn) -> Option<&Mark> {
        let mark = self.marks.get(&(schema.to_owned(), table.to_owned()));
        mark.filter(|mark| mark.since > since)
    }

    /// Forgets a table that is gone: no snapshot would come to mend it.
    pub fn forget(&mut self, schema: &str, table: &str) {
        let name = (schema.to_owned(), table.to_owned());
        self.marks.remove(&name);
        self.unrecorded.remove(&name);
    }

    /// Schema, table and mark, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &Mark)> {
        self.marks
            .iter()
            .map(|((schema, table), mark)| (&**schema, &**table, mark))
    }

    /// Schema and table of each, also of those that there was no room for.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.marks.keys().chain(&self.unrecorded);
        all.map(|(schema, table)| (&**schema, &**table))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_news_once_whether_or_not_there_is_room_for_it() {
        let mut stale = StaleTables::default();
        let mark = || Mark {
            since: Lsn(1),
            reason: "its key changed".to_owned(),
        };
        let mut news = || {
            (0..TABLES + 2)
                .filter(|number| stale.mark("public", &format!("t{number}"), mark()))
                .count()
        };
        assert_eq!((news(), news()), (TABLES + 2, 0));
        assert_eq!(stale.iter().count(), TABLES, "on record");
    }

    #[test]
    fn a_reason_on_record_has_a_bound() {
        let mut stale = StaleTables::default();
        let mark = Mark {
            since: Lsn(1),
            reason: "its schema differs ".repeat(1_000),
        };
        assert!(stale.mark("public", "wide", mark));
        let reasons = stale.iter().map(|(_, _, mark)| mark.reason.len());
        assert!(reasons.max() < Some(500));
    }

    #[test]
    fn a_table_that_is_gone_makes_room_for_another() {
        let mut stale = StaleTables::default();
        let mark = || Mark {
            since: Lsn(1),
            reason: "its key changed".to_owned(),
        };
        for number in 0..=TABLES {
            assert!(stale.mark("public", &format!("t{number}"), mark()));
        }
        let unrecorded = format!("t{TABLES}");
        for table in ["t0", unrecorded.as_str(), "unknown"] {
            stale.forget("public", table);
        }
        assert!(
            stale.mark("public", &unrecorded, mark()),
            "it is news again"
        );
        assert!(stale.iter().any(|(_, table, _)| table == unrecorded));
    }
}
