//! At rest the compacted view of each topic is its table.
//!
//! Compaction keeps the newest record of each key within a partition, so a key in two
//! partitions is a fault of its own, whatever the records say.

use std::collections::BTreeMap;

use crate::torture::evidence::Evidence;
use crate::torture::log::Entry;

/// Its name in reports.
pub const NAME: &str = "topic equals table";

/// What differs.
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut seen = Vec::new();
    let mut newest: BTreeMap<_, &Entry> = BTreeMap::new();
    for entry in &evidence.log {
        let before = newest.insert((entry.table, entry.key.clone()), entry);
        if let Some(before) = before
            && before.partition != entry.partition
        {
            seen.push(format!(
                "{} {} is in partition {} at offset {} and in partition {} at offset {}",
                entry.table.name(),
                entry.key,
                before.partition,
                before.offset,
                entry.partition,
                entry.offset
            ));
        }
    }
    for ((table, key), entry) in &newest {
        let (name, lsn, seq) = (table.name(), entry.lsn, entry.seq);
        let there = evidence.tables.get(&(*table, key.clone()));
        match (&entry.row, there) {
            (None, None) => {}
            (Some(record), Some(row)) if record == row => {}
            (Some(record), Some(row)) => seen.push(format!(
                "{name} {key}: the newest record, {lsn}:{seq}, has change {} of writer {} by \
                 transaction {} with digest {:x}, the table has change {} of writer {} by \
                 transaction {} with digest {:x}",
                record.sequence,
                record.writer,
                record.xid,
                record.digest,
                row.sequence,
                row.writer,
                row.xid,
                row.digest
            )),
            (Some(record), None) => seen.push(format!(
                "{name} {key}: the newest record, {lsn}:{seq}, has change {} of writer {}, the \
                 table has no such row",
                record.sequence, record.writer
            )),
            (None, Some(row)) => seen.push(format!(
                "{name} {key}: the newest record, {lsn}:{seq}, is a tombstone, the table has \
                 change {} of writer {}",
                row.sequence, row.writer
            )),
        }
    }
    for ((table, key), row) in &evidence.tables {
        if !newest.contains_key(&(*table, key.clone())) {
            seen.push(format!(
                "{} {key}: the topic has no record, the table has change {} of writer {} by \
                 transaction {}",
                table.name(),
                row.sequence,
                row.writer,
                row.xid
            ));
        }
    }
    seen
}
