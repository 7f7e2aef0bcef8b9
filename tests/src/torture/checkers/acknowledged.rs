//! Nothing is confirmed to the server before the broker has it.
//!
//! What is confirmed the server forgets, so a client that confirms first and delivers then
//! loses whatever is in between when it dies. Mostly it does not die, and nothing is ever
//! seen of it. So this looks at every moment and not only at deaths: the broker says of
//! each record when it was appended, the slot was looked at again and again. A record
//! that is appended for the first time *after* a look at which its commit was
//! confirmed already was confirmed too early.
//!
//! Nor does a record come *again* after that: what is confirmed the server sends to nobody, so
//! only a client that everybody takes for dead still has it to send. That one would put an
//! old row behind a newer one.
//!
//! The time of a look is taken when its answer has come, and both clocks are one, so a
//! client that confirms what is delivered is never accused. One that confirms too early is
//! seen if a look falls in between: with a broker that is stopped for seconds, many do.

use std::collections::HashSet;

use headwater_protocol::Lsn;

use crate::torture::evidence::Evidence;

/// Its name in reports.
pub const NAME: &str = "acknowledged after delivery";

/// Which records came too late.
pub fn check(evidence: &Evidence) -> Vec<String> {
    // What was confirmed never goes back: a slot that is made anew stands further.
    let mut confirmed: Vec<(Lsn, i64)> = Vec::new();
    for sample in &evidence.samples {
        if confirmed
            .last()
            .is_none_or(|&(lsn, _)| sample.confirmed > lsn)
        {
            confirmed.push((sample.confirmed, sample.at));
        }
    }
    let mut came = HashSet::new();
    let mut seen = Vec::new();
    for entry in &evidence.log {
        // A key is in one partition, so its first record stands before those that came again.
        let is_first = came.insert((entry.lsn, entry.seq, entry.table, &*entry.key));
        let earliest = confirmed.partition_point(|&(lsn, _)| lsn < entry.lsn);
        if let Some(&(lsn, at)) = confirmed.get(earliest)
            && entry.appended > at
        {
            seen.push(format!(
                "{} {} {}:{} {} at {}, {} ms after the slot stood at {lsn}",
                entry.table.name(),
                entry.key,
                entry.lsn,
                entry.seq,
                if is_first {
                    "was appended"
                } else {
                    "came again"
                },
                entry.appended,
                entry.appended - at
            ));
        }
    }
    seen
}
