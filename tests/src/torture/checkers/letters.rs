//! Under `--on-error quarantine` each change that nothing can encode is kept as a dead letter,
//! and nothing else is one.
//!
//! A letter bears what the record would have borne: the key, the transaction, the end of its
//! commit, and a place in it that no record has. It may come again, as records do. A change
//! that `--quarantine` names has one only where it comes again under `--on-error quarantine`:
//! it may have one, and need not.

use std::collections::{HashMap, HashSet};

use headwater_protocol::Lsn;

use super::complete::{ends, may_be_missing};
use crate::torture::evidence::Evidence;
use crate::torture::history::{Committed, Effect};
use crate::torture::workload::tables::Table;

/// Its name in reports.
pub const NAME: &str = "dead letters";

/// What was not kept, and what should not have been.
pub fn check(evidence: &Evidence) -> Vec<String> {
    // Where transactions end differently `complete` says so.
    let ends = ends(&evidence.log, &mut Vec::new());
    let records: HashSet<(Lsn, u64)> = evidence
        .log
        .iter()
        .filter(|entry| entry.table == Table::Poisoned)
        .map(|entry| (entry.lsn, entry.seq))
        .collect();
    let mut due: HashMap<(u32, String), &Committed> = HashMap::new();
    let mut missing = HashMap::new();
    for committed in &evidence.history {
        let end = ends.get(&committed.xid).copied();
        let may_be_missing = may_be_missing(committed, end, &evidence.gaps);
        for change in &committed.changes {
            if let Effect::Unprintable { is_kept } = change.effect {
                let place = (committed.xid, change.key.json());
                due.insert(place.clone(), committed);
                if is_kept && !may_be_missing {
                    missing.insert(place, committed);
                }
            }
        }
    }
    let mut seen = Vec::new();
    for letter in &evidence.letters {
        let place = (letter.xid, letter.key.clone());
        missing.remove(&place);
        let is_right = due.get(&place).is_some_and(|committed| {
            letter.relation == format!("public.{}", Table::Poisoned.name())
                && letter.lsn > committed.after
                && letter.lsn <= committed.by
                && !records.contains(&(letter.lsn, letter.seq))
        });
        if !is_right {
            seen.push(format!("{letter:?} is of no change that cannot be encoded"));
        }
    }
    seen.extend(missing.iter().map(|((xid, key), committed)| {
        format!(
            "transaction {xid}, committed between {} and {}: {key} is in no dead letter",
            committed.after, committed.by
        )
    }));
    seen
}
