//! Every committed change is in the topic, and nothing else is.
//!
//! A transaction is found by its id, which every record of the stream bears. Key by key, the
//! different `(hw.lsn, hw.seq)` under that id must be the changes that its writer made, one
//! for one and in their order: no change is missing, none is made up, none is of a
//! transaction that was rolled back.
//!
//! # What may differ
//!
//! - A commit in a [`Gap`](crate::torture::evidence::Gap) may be missing. Where it lies is
//!   known by two positions around it, so one that only reaches into a gap is let off too;
//!   what the topic then comes to is for [`equal`](super::equal) to say. What is there of it
//!   must still be right.
//! - An update that left a large value where it was may be sent as the row was read later
//!   (`hw.fetched`): with this change or a later one of the same key. It is left out where
//!   the row had been deleted by then, so only where the history deletes the key afterwards.
//! - A change that nothing can encode is left out, since somebody said so.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use headwater_protocol::Lsn;

use crate::torture::evidence::Evidence;
use crate::torture::history::{Committed, Effect};
use crate::torture::log::Entry;
use crate::torture::workload::tables::{Key, Table};

/// Its name in reports.
pub const NAME: &str = "no change missing";

/// The different changes of a key under one transaction, in their order.
type Changes<'a> = BTreeMap<(Lsn, u64), &'a Entry>;
type Found<'a> = HashMap<(u32, Table, Cow<'a, str>), Changes<'a>>;

/// What is missing, and what is too much.
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut found: Found<'_> = HashMap::new();
    for entry in &evidence.log {
        if let Some(xid) = entry.xid {
            found
                .entry((xid, entry.table, Cow::Borrowed(&*entry.key)))
                .or_default()
                .entry((entry.lsn, entry.seq))
                .or_insert(entry);
        }
    }
    let deletions = deletions(&evidence.history);
    let mut seen = Vec::new();
    for (place, committed) in evidence.history.iter().enumerate() {
        let may_be_missing = evidence
            .gaps
            .iter()
            .any(|gap| committed.by > gap.lost_after && committed.after < gap.resumed_at);
        for (key, effects) in by_key(committed) {
            let place_of_key = (committed.xid, key.table, Cow::Owned(key.json()));
            let records = found.remove(&place_of_key).unwrap_or_default();
            if records.is_empty() && may_be_missing {
                continue;
            }
            let deleted_later = deletions.get(&key).is_some_and(|&last| last >= place);
            if let Err(difference) = compare(&effects, &records, key, deleted_later) {
                seen.push(format!(
                    "transaction {} of writer {} ({}), committed between {} and {}, {key}: {difference}",
                    committed.xid, committed.writer, committed.kind, committed.after, committed.by
                ));
            }
        }
    }
    for ((xid, table, key), records) in found {
        let places: Vec<String> = records
            .keys()
            .map(|(lsn, seq)| format!("{lsn}:{seq}"))
            .collect();
        seen.push(format!(
            "transaction {xid}, {} {key}: the topic has {}, but no such change was committed",
            table.name(),
            places.join(", ")
        ));
    }
    seen
}

/// What a transaction does to each key, in order.
fn by_key(committed: &Committed) -> BTreeMap<Key, Vec<Effect>> {
    let mut effects: BTreeMap<Key, Vec<Effect>> = BTreeMap::new();
    for change in &committed.changes {
        effects.entry(change.key).or_default().push(change.effect);
    }
    effects
}

/// The place in the history of the last transaction that deletes each key.
fn deletions(history: &[Committed]) -> HashMap<Key, usize> {
    let mut last = HashMap::new();
    for (place, committed) in history.iter().enumerate() {
        for change in &committed.changes {
            if change.effect == Effect::Gone {
                last.insert(change.key, place);
            }
        }
    }
    last
}

fn compare(
    effects: &[Effect],
    records: &Changes<'_>,
    key: Key,
    deleted_later: bool,
) -> Result<(), String> {
    let mut records = records.iter().peekable();
    for &effect in effects {
        let matches = records.peek().is_some_and(|(_, record)| is(record, effect));
        if matches {
            records.next();
            continue;
        }
        let may_be_absent = match effect {
            Effect::Put(_) => key.table.is_fetched() && deleted_later,
            Effect::Gone => false,
            Effect::Unprintable => true,
        };
        if !may_be_absent {
            let instead = records
                .peek()
                .map_or("nothing".to_owned(), |((lsn, seq), record)| {
                    format!("{lsn}:{seq}, {}", describe(record))
                });
            return Err(format!("{effect:?} is missing; the topic has {instead}"));
        }
    }
    match records.next() {
        None => Ok(()),
        Some(((lsn, seq), record)) => Err(format!(
            "the topic has {lsn}:{seq}, {}, which was not committed",
            describe(record)
        )),
    }
}

fn is(record: &Entry, effect: Effect) -> bool {
    match (effect, &record.row) {
        (Effect::Put(sequence), Some(row)) if record.fetched => row.sequence >= sequence,
        (Effect::Put(sequence), Some(row)) => row.sequence == sequence,
        (Effect::Gone, None) => true,
        _ => false,
    }
}

fn describe(record: &Entry) -> String {
    match &record.row {
        None => "a tombstone".to_owned(),
        Some(row) => format!(
            "change {} of writer {}{}",
            row.sequence,
            row.writer,
            if record.fetched { ", fetched" } else { "" }
        ),
    }
}
