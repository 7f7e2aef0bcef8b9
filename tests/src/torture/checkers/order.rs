//! Per key, records are in the order of the changes, replays excepted.
//!
//! # What at least once allows
//!
//! The changes of a key have an order, that of their `(hw.lsn, hw.seq)`: commits end one
//! behind the other, and a row is changed by one transaction at a time. Call the different
//! ones that a topic holds for a key c₁ < c₂ < … < cₙ.
//!
//! A client writes the changes that the server sends, in their order, beginning at the
//! position that it was started with. When it dies, what it had written of cᵢ … cⱼ stays,
//! always a beginning of what it was to write, since the producer is idempotent and keeps a
//! partition's order through retries. The next one begins at a position up to which everything
//! is on record as delivered, so it begins with some cₖ, k ≤ j + 1. The log of a key is
//! therefore a sequence of runs, each of which goes up one by one and begins no further than
//! one behind the *last record before it*: from cⱼ only c₁ … cⱼ₊₁ may follow.
//!
//! That the last record counts, and not the highest so far, is the point. A run that
//! replays c₃ and dies, followed by one that goes on with c₉, since everything up to there had
//! once been delivered, leaves c₃ as the newest record of its key if c₉ does not come: compaction
//! would keep an old row. The rule sees it at c₉ already.
//!
//! A record that was fetched is left out where the row is gone by the time it is looked up,
//! and that may differ between a change and its replay: a step over such a change is
//! allowed.
//!
//! A change that comes again must be the same change: same key, same bytes, unless fetched.
//! And the order of positions must be that of the commits, which the stamps tell: the
//! sequences of a key, which one writer counts, never go down along c₁ … cₙ.

use std::collections::BTreeMap;

use headwater_protocol::Lsn;

use crate::torture::evidence::Evidence;
use crate::torture::log::Entry;

/// Its name in reports.
pub const NAME: &str = "order per key";

/// Where a key's records go back further, or on further, than a replay does.
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut keys: BTreeMap<_, Vec<&Entry>> = BTreeMap::new();
    for entry in &evidence.log {
        let key = (entry.table, &entry.key, entry.partition);
        keys.entry(key).or_default().push(entry);
    }
    let mut seen = Vec::new();
    for entries in keys.values() {
        let changes = changes(entries, &mut seen);
        stamps(&changes, &mut seen);
        steps(entries, &changes, &mut seen);
    }
    seen
}

/// The different changes of a key in their order, each by its first record.
fn changes<'a>(
    entries: &[&'a Entry],
    seen: &mut Vec<String>,
) -> BTreeMap<(Lsn, u64), Vec<&'a Entry>> {
    let mut changes: BTreeMap<_, Vec<&Entry>> = BTreeMap::new();
    for &entry in entries {
        let same = changes.entry((entry.lsn, entry.seq)).or_default();
        if let Some(first) = same.iter().find(|first| !first.fetched)
            && !entry.fetched
            && (first.row, first.op, first.xid) != (entry.row, entry.op, entry.xid)
        {
            seen.push(format!(
                "{}: {} came at offset {} as {} and at offset {} as {}",
                name(entry),
                place(entry),
                first.offset,
                describe(first),
                entry.offset,
                describe(entry)
            ));
        }
        same.push(entry);
    }
    changes
}

/// The sequences never go down.
fn stamps(changes: &BTreeMap<(Lsn, u64), Vec<&Entry>>, seen: &mut Vec<String>) {
    let mut before: Option<(&Entry, u64)> = None;
    for &entry in changes.values().flatten() {
        let Some(row) = entry.row.filter(|_| !entry.fetched) else {
            continue;
        };
        if let Some((earlier, sequence)) = before
            && row.sequence < sequence
        {
            seen.push(format!(
                "{}: {} has change {sequence} of writer {}, the later {} has change {}",
                name(entry),
                place(earlier),
                row.writer,
                place(entry),
                row.sequence
            ));
        }
        before = Some((entry, row.sequence));
    }
}

/// From one record to the next: back, or one further.
fn steps(entries: &[&Entry], changes: &BTreeMap<(Lsn, u64), Vec<&Entry>>, seen: &mut Vec<String>) {
    let order: Vec<(Lsn, u64)> = changes.keys().copied().collect();
    let index = |entry: &Entry| order.partition_point(|&place| place < (entry.lsn, entry.seq));
    let mut next = 0;
    let mut before: Option<&Entry> = None;
    for &entry in entries {
        let at = index(entry);
        let skipped = order.get(next..at).unwrap_or_default();
        let missed = skipped
            .iter()
            .find(|&place| changes[place].iter().all(|record| !record.fetched));
        if let Some((lsn, seq)) = missed {
            let before = before.map_or("the topic's beginning".to_owned(), |before| {
                format!("{} at offset {}", place(before), before.offset)
            });
            seen.push(format!(
                "{}: {} at offset {} follows {before}, but {lsn}:{seq} comes in between",
                name(entry),
                place(entry),
                entry.offset
            ));
        }
        next = at + 1;
        before = Some(entry);
    }
}

fn name(entry: &Entry) -> String {
    format!(
        "{} {} in partition {}",
        entry.table.name(),
        entry.key,
        entry.partition
    )
}

fn place(entry: &Entry) -> String {
    format!("{}:{}", entry.lsn, entry.seq)
}

fn describe(entry: &Entry) -> String {
    match &entry.row {
        None => format!("'{}', a tombstone", entry.op),
        Some(row) => format!(
            "'{}', change {} of writer {} with digest {:x}",
            entry.op, row.sequence, row.writer, row.digest
        ),
    }
}
