//! Every committed change is in the topic, and nothing else is.
//!
//! A transaction is found by its id, which every record of the stream bears. Key by key, the
//! different `(hw.lsn, hw.seq)` under that id must be the changes that its writer made, one
//! for one and in their order, each with the `hw.op` of its statement: no change is missing,
//! none is made up, none is of a transaction that was rolled back. All of them bear one
//! `hw.lsn`, between the two positions at which the writer looked.
//!
//! # What may differ
//!
//! - A commit in a [`Gap`] may be missing. As soon as one record of a transaction is there, it
//!   is known exactly where it ends, and one that ends outside all gaps must be there whole.
//!   One that ends inside may be there in part: a client that died had delivered some of it,
//!   in each partition a beginning.
//!   Of one that left nothing only two positions around it are known, so one that only reaches
//!   into a gap is let off too. What the topic then comes to is for [`equal`](super::equal) to
//!   say. What is there must be right in any case.
//! - An update that left a large value where it was ([`By::Touch`]) may be sent as the row was
//!   read later (`hw.fetched`): with this change or a later one of the same key. It is left
//!   out where the row had been deleted by then, so only where the history deletes the key
//!   afterwards. No other change is ever fetched, and none is left out.
//! - A change that nothing can encode is left out, since somebody said so; whether it is kept
//!   is for [`letters`](super::letters) to say.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use headwater_protocol::Lsn;

use crate::torture::evidence::{Evidence, Gap};
use crate::torture::history::{By, Committed, Effect};
use crate::torture::log::Entry;
use crate::torture::workload::tables::{Key, Table};

/// Its name in reports.
pub const NAME: &str = "no change missing";

/// The different changes of a key under one transaction, in their order.
type Changes<'a> = BTreeMap<(Lsn, u64), &'a Entry>;
type Found<'a> = HashMap<(u32, Table, Cow<'a, str>), Changes<'a>>;

/// Where a change stands in the history: its transaction there, and its place in that.
type Place = (usize, usize);

/// What is missing, and what is too much.
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut seen = Vec::new();
    let ends = ends(&evidence.log, &mut seen);
    seen.extend(evidence.log.iter().filter_map(copied_and_fetched));
    let mut found = found(&evidence.log);
    let deletions = deletions(&evidence.history);
    let partitions = partitions(&evidence.log);
    for (place, committed) in evidence.history.iter().enumerate() {
        let end = ends.get(&committed.xid).copied();
        let name = || {
            format!(
                "transaction {} of writer {} ({}), committed between {} and {}",
                committed.xid, committed.writer, committed.kind, committed.after, committed.by
            )
        };
        if let Some(end) = end.filter(|&end| end <= committed.after || end > committed.by) {
            seen.push(format!("{}: its records say {end}", name()));
        }
        let may_be_missing = may_be_missing(committed, end, &evidence.gaps);
        let mut extents: HashMap<(Table, i32), Extent> = HashMap::new();
        for (key, effects) in by_key(committed) {
            let json = key.json();
            let partition = partitions.get(&(key.table, json.as_str())).copied();
            let place_of_key = (committed.xid, key.table, Cow::Owned(json));
            let records = found.remove(&place_of_key).unwrap_or_default();
            let last = deletions.get(&key).copied();
            let deleted_after = |at| last.is_some_and(|last| last > (place, at));
            match compare(&effects, &records, deleted_after) {
                Ok(extent) if extent.lost.is_none() || may_be_missing => {
                    if let Some(partition) = partition {
                        let whole = extents.entry((key.table, partition)).or_default();
                        *whole = whole.and(extent);
                    }
                }
                Ok(Extent { lost, .. }) => {
                    let missing = lost.map(|at| committed.changes[at].effect);
                    seen.push(format!(
                        "{}, {key}: {missing:?} is missing; the topic has nothing",
                        name()
                    ));
                }
                Err(difference) => seen.push(format!("{}, {key}: {difference}", name())),
            }
        }
        for extent in extents.values().filter(|extent| extent.has_hole()) {
            seen.push(format!("{}: {extent:?} in one partition", name()));
        }
    }
    seen.extend(found.iter().map(not_committed));
    seen
}

/// The records of the stream by transaction and key.
fn found(log: &[Entry]) -> Found<'_> {
    let mut found: Found<'_> = HashMap::new();
    for entry in log {
        if let Some(xid) = entry.xid {
            found
                .entry((xid, entry.table, Cow::Borrowed(&*entry.key)))
                .or_default()
                .entry((entry.lsn, entry.seq))
                .or_insert(entry);
        }
    }
    found
}

/// Where each transaction ends, as its records say: all the same.
pub(super) fn ends(log: &[Entry], seen: &mut Vec<String>) -> HashMap<u32, Lsn> {
    let mut ends = HashMap::new();
    for entry in log {
        let Some(xid) = entry.xid else { continue };
        let end = *ends.entry(xid).or_insert(entry.lsn);
        if end != entry.lsn {
            seen.push(format!(
                "transaction {xid}: one of its records says {end}, that of {} {} says {}",
                entry.table.name(),
                entry.key,
                entry.lsn
            ));
        }
    }
    ends
}

/// Whether a key of which the topic has nothing may have been lost in a gap.
pub(super) fn may_be_missing(committed: &Committed, end: Option<Lsn>, gaps: &[Gap]) -> bool {
    gaps.iter().any(|gap| match end {
        Some(end) => end > gap.lost_after && end <= gap.resumed_at,
        None => committed.by > gap.lost_after && committed.after < gap.resumed_at,
    })
}

/// What a transaction does to each key, in order, with its places in the transaction.
fn by_key(committed: &Committed) -> BTreeMap<Key, Vec<(usize, Effect)>> {
    let mut effects: BTreeMap<Key, Vec<(usize, Effect)>> = BTreeMap::new();
    for (at, change) in committed.changes.iter().enumerate() {
        effects
            .entry(change.key)
            .or_default()
            .push((at, change.effect));
    }
    effects
}

/// The partition of each key.
fn partitions(log: &[Entry]) -> HashMap<(Table, &str), i32> {
    log.iter()
        .map(|entry| ((entry.table, &*entry.key), entry.partition))
        .collect()
}

/// How much of a transaction is there, by places in it.
#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    /// The last that is there.
    reached: Option<usize>,
    /// The first that should be and is not, nor is anything behind it of its key.
    lost: Option<usize>,
}

impl Extent {
    fn and(self, other: Extent) -> Extent {
        Extent {
            reached: self.reached.max(other.reached),
            lost: self.lost.into_iter().chain(other.lost).min(),
        }
    }

    /// What is there is no beginning.
    fn has_hole(self) -> bool {
        self.lost.is_some_and(|lost| self.reached > Some(lost))
    }
}

/// The last change that deletes each key.
fn deletions(history: &[Committed]) -> HashMap<Key, Place> {
    let mut last = HashMap::new();
    for (place, committed) in history.iter().enumerate() {
        for (at, change) in committed.changes.iter().enumerate() {
            if change.effect == Effect::Gone {
                last.insert(change.key, (place, at));
            }
        }
    }
    last
}

fn compare(
    effects: &[(usize, Effect)],
    records: &Changes<'_>,
    deleted_after: impl Fn(usize) -> bool,
) -> Result<Extent, String> {
    let mut extent = Extent::default();
    let mut records = records.iter().peekable();
    for &(at, effect) in effects {
        let matches = records.peek().is_some_and(|(_, record)| is(record, effect));
        if matches {
            records.next();
            extent.reached = Some(at);
            continue;
        }
        let may_be_absent = match effect {
            Effect::Put { by: By::Touch, .. } => deleted_after(at),
            Effect::Put { .. } | Effect::Gone => false,
            Effect::Unprintable { .. } => true,
        };
        if may_be_absent {
            continue;
        }
        match records.peek() {
            None => extent.lost = extent.lost.or(Some(at)),
            Some(((lsn, seq), record)) => {
                let instead = describe(record);
                return Err(format!(
                    "{effect:?} is missing; the topic has {lsn}:{seq}, {instead}"
                ));
            }
        }
    }
    match records.next() {
        None => Ok(extent),
        Some(((lsn, seq), record)) => Err(format!(
            "the topic has {lsn}:{seq}, {}, which was not committed",
            describe(record)
        )),
    }
}

fn is(record: &Entry, effect: Effect) -> bool {
    match (effect, &record.row) {
        (Effect::Put { sequence, by }, Some(row)) => {
            let is_due = if record.fetched {
                by == By::Touch && row.sequence >= sequence
            } else {
                row.sequence == sequence
            };
            is_due && record.op == by.op()
        }
        (Effect::Gone, None) => record.op == 'd' && !record.fetched,
        _ => false,
    }
}

/// A snapshot has every value of its rows.
fn copied_and_fetched(entry: &Entry) -> Option<String> {
    let name = entry.table.name();
    (entry.fetched && entry.xid.is_none()).then(|| {
        format!(
            "{name} {}: the row of a snapshot was fetched at {}:{}",
            entry.key, entry.lsn, entry.seq
        )
    })
}

fn not_committed(
    ((xid, table, key), records): (&(u32, Table, Cow<'_, str>), &Changes<'_>),
) -> String {
    let places: Vec<String> = records
        .keys()
        .map(|(lsn, seq)| format!("{lsn}:{seq}"))
        .collect();
    format!(
        "transaction {xid}, {} {key}: the topic has {}, but no such change was committed",
        table.name(),
        places.join(", ")
    )
}

fn describe(record: &Entry) -> String {
    match &record.row {
        None => format!("'{}', a tombstone", record.op),
        Some(row) => format!(
            "'{}', change {} of writer {}{}",
            record.op,
            row.sequence,
            row.writer,
            if record.fetched { ", fetched" } else { "" }
        ),
    }
}
