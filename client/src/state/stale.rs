//! Tables whose records are no longer what they hold.
//!
//! The server names them ([`headwater_protocol::frame::Stale`]): a column was renamed, say,
//! which touches no row and sends none. The stream goes on and carries every later change;
//! what is wrong is what was sent before. A mark is on record before the position behind
//! its transaction is, so that it is never forgotten, and goes with the next snapshot.

use std::collections::BTreeMap;

use headwater_protocol::Lsn;

/// Tables on record at most: about 200 bytes each, in a record that a broker takes up to a
/// megabyte of by default. Those beyond it are named in the log alone.
const TABLES: usize = 1_000;

/// The tables that are stale, each with its first mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StaleTables(BTreeMap<(String, String), Mark>);

/// Since when a table is stale, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The end of the transaction that made it so.
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
             send them anew, run headwater drop --slot {slot}, then headwater stream, which begins \
             with a snapshot"
        );
    }
}

impl StaleTables {
    /// Marks a table. Says whether it was in order until now: a transaction that comes again
    /// is no news, and what happens to a table that is stale already makes it no staler.
    pub fn mark(&mut self, schema: &str, table: &str, mark: Mark) -> bool {
        let name = (schema.to_owned(), table.to_owned());
        if self.0.contains_key(&name) {
            return false;
        }
        if self.0.len() < TABLES {
            self.0.insert(name, mark);
        }
        true
    }

    /// Schema, table and mark, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, &Mark)> {
        self.0
            .iter()
            .map(|((schema, table), mark)| (&**schema, &**table, mark))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
