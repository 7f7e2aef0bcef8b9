//! What is counted, as plain numbers. Those who count hand them over; see the module above.

use std::collections::BTreeMap;

use headwater_protocol::Lsn;
use headwater_protocol::frame::Op;

use crate::sink::Load;

/// Tables that are told apart by a label: each is a time series for as long as Prometheus keeps
/// them, and a schema may have many thousand tables. What goes beyond is one more.
pub(super) const NAMED: usize = 100;

/// The label of those beyond. No table has this name: theirs have a dot.
pub(super) const OTHERS: &str = "(others)";

/// What the process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// It looks at what is there, and waits for the server to make a slot.
    Starting,
    /// Another instance has the slot, and is to let go of it.
    Waiting,
    /// Rows are copied before the stream begins.
    Snapshot,
    /// It follows the slot.
    Streaming,
    /// It delivers what it has.
    Stopping,
}

impl Activity {
    /// Each of them, in their order.
    pub(super) const ALL: [Activity; 5] = [
        Activity::Starting,
        Activity::Waiting,
        Activity::Snapshot,
        Activity::Streaming,
        Activity::Stopping,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Activity::Starting => "starting",
            Activity::Waiting => "waiting",
            Activity::Snapshot => "snapshot",
            Activity::Streaming => "streaming",
            Activity::Stopping => "stopping",
        }
    }
}

/// What the stream counts as it goes: plain integers of its one thread, since a change costs
/// about a microsecond of it in all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) inserts: u64,
    pub(crate) updates: u64,
    pub(crate) deletes: u64,
    pub(crate) truncates: u64,
    pub(crate) messages: u64,
    /// Changes that the server has not encoded.
    pub(crate) quarantined: u64,
    /// Whole ones.
    pub(crate) transactions: u64,
    /// Rows that were read for values which the WAL lacks.
    pub(crate) fetched_rows: u64,
    /// Rows of copies into the stream.
    pub(crate) copied_rows: u64,
    /// Copies that are under way or wait for their turn.
    pub(crate) copies: u64,
    /// Messages of the server, of any kind.
    pub(crate) heard: u64,
    /// The end of what has arrived whole.
    pub(crate) received: Lsn,
    /// The last transaction that has: its end, and when it was committed, in microseconds since
    /// 1970.
    pub(crate) commit: Option<(Lsn, i64)>,
    /// What waits for the ids of schemas.
    pub(crate) held: HeldBack,
}

/// Changes that wait for the ids of their schemas.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HeldBack {
    pub(crate) tables: u64,
    pub(crate) bytes: u64,
    /// No more can be kept.
    pub(crate) is_full: bool,
}

impl Tally {
    /// A row has changed.
    pub(crate) fn change(&mut self, op: Op) {
        match op {
            // A row that is read is no change; the stream has none.
            Op::Create | Op::Read => self.inserts += 1,
            Op::Update => self.updates += 1,
            Op::Delete => self.deletes += 1,
        }
    }

    /// A transaction has arrived whole.
    pub(crate) fn committed(&mut self, end: Lsn, commit_time: i64) {
        self.transactions += 1;
        self.received = self.received.max(end);
        self.commit = Some((end, commit_time));
    }
}

/// How the stream stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stream {
    pub(crate) tally: Tally,
    /// Everything before it is in Kafka.
    pub(crate) delivered: Lsn,
    /// And that is on record, and the server may be told.
    pub(crate) confirmed: Lsn,
    /// Transactions that are not acknowledged.
    pub(crate) in_flight: u64,
    /// Something else than the server is waited for.
    pub(crate) is_blocked: bool,
}

/// The slot, as the server has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retained {
    pub(crate) wal_end: Lsn,
    pub(crate) bytes: u64,
    /// None where the server sets no limit.
    pub(crate) safe_bytes: Option<u64>,
}

/// The snapshot that is taken, or was.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Copied {
    pub(crate) tables: u64,
    pub(crate) tables_done: u64,
    pub(crate) rows: u64,
    /// None where a table was never analyzed.
    pub(crate) estimated_rows: Option<u64>,
}

/// Questions to the schema registry.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Registry {
    pub(crate) questions: u64,
    /// Without an answer.
    pub(crate) errors: u64,
    /// Schemas that it does not take.
    pub(crate) refusals: u64,
}

/// Counts by table.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByTable {
    named: BTreeMap<String, u64>,
    others: u64,
}

impl ByTable {
    pub(crate) fn add(&mut self, table: &str) {
        if let Some(count) = self.named.get_mut(table) {
            *count += 1;
        } else if self.named.len() < NAMED {
            self.named.insert(table.to_owned(), 1);
        } else {
            self.others += 1;
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.named.values().sum::<u64>() + self.others
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        let others = (self.others > 0).then_some((OTHERS, self.others));
        let named = self.named.iter().map(|(table, count)| (&**table, *count));
        named.chain(others)
    }
}

/// Tables whose records are not what they hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stale {
    pub(crate) named: Vec<String>,
    pub(crate) count: u64,
}

impl Stale {
    /// The names as `schema.table`.
    pub(crate) fn of<'t>(tables: impl Iterator<Item = (&'t str, &'t str)>) -> Self {
        let mut stale = Stale::default();
        for (schema, table) in tables {
            stale.count += 1;
            if stale.named.len() < NAMED {
                stale.named.push(format!("{schema}.{table}"));
            }
        }
        stale
    }
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) stream: Stream,
    pub(crate) sink: Load,
    pub(crate) retained: Option<Retained>,
    /// `--max-retained-wal`
    pub(crate) retained_limit: Option<u64>,
    pub(crate) snapshot: Option<Copied>,
    pub(crate) registry: Registry,
    /// Processes that have begun to stream, as their record counts them; none where there is no
    /// record, and until it is read.
    pub(crate) starts: Option<u64>,
    /// Sessions that were begun anew after one broke.
    pub(crate) postgres_reconnects: u64,
    pub(crate) dead_letters: ByTable,
    pub(crate) stale: Stale,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_beyond_the_named_ones_are_counted_together() {
        let mut letters = ByTable::default();
        for number in 0..NAMED + 3 {
            letters.add(&format!("public.t{number}"));
        }
        letters.add("public.t0");
        letters.add("public.another");
        let found: Vec<(&str, u64)> = letters.iter().collect();
        assert_eq!(found.len(), NAMED + 1);
        assert!(found.contains(&("public.t0", 2)));
        assert_eq!(found.last(), Some(&(OTHERS, 4)));
        assert_eq!(letters.total(), NAMED as u64 + 5);
    }
}
