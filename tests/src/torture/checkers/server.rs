//! The server comes to no harm: no process of it crashes, it starts only when the nemesis
//! starts it, and WAL is not retained for a slot that has nothing to wait for.
//!
//! At rest that is nearly nothing. While writers write and nothing has been out of order for a
//! while it is what they wrote since the server last recorded its running transactions,
//! which it does every 15 seconds.

use crate::torture::evidence::{Evidence, Sample, Trouble};

/// Its name in reports.
pub const NAME: &str = "server unharmed";

/// More retained at rest is more than the segment that is written to, the one before and
/// what happened since the server last recorded its running transactions.
pub const RETAINED_AT_REST_MAX: u64 = 64 << 20;

/// So long after its mending a trouble may still show in what is retained, milliseconds.
const AFTERMATH: i64 = 30_000;

/// What harm there is.
pub fn check(evidence: &Evidence) -> Vec<String> {
    let server = &evidence.server;
    let mut seen: Vec<String> = server
        .crashes
        .iter()
        .map(|line| format!("the server's log has: {line}"))
        .collect();
    if server.starts != server.starts_due {
        seen.push(format!(
            "the server was started {} times, {} of them by the nemesis",
            server.starts, server.starts_due
        ));
    }
    match server.retained_at_rest {
        Some(retained) if retained <= RETAINED_AT_REST_MAX => {}
        Some(retained) => seen.push(format!(
            "the server retains {retained} bytes of WAL for the slot at rest, \
             {RETAINED_AT_REST_MAX} are allowed"
        )),
        None => seen.push("no slot retains WAL at rest".to_owned()),
    }
    let calm = evidence
        .samples
        .iter()
        .filter(|sample| is_calm(sample, &evidence.troubles));
    let most = calm.max_by_key(|sample| sample.retained);
    if let Some(sample) = most.filter(|sample| sample.retained > RETAINED_AT_REST_MAX) {
        seen.push(format!(
            "the server retains {} bytes of WAL for the slot at {}, long after all was mended, \
             {RETAINED_AT_REST_MAX} are allowed",
            sample.retained, sample.at
        ));
    }
    seen
}

/// Whether nothing had been out of order for long when the slot was looked at.
fn is_calm(sample: &Sample, troubles: &[Trouble]) -> bool {
    let begun = troubles.partition_point(|trouble| trouble.from <= sample.at);
    troubles[..begun]
        .last()
        .is_some_and(|last| sample.at >= last.to + AFTERMATH)
}
