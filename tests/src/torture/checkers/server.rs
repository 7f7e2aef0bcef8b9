//! The server comes to no harm: no process of it crashes, it starts only when the nemesis
//! starts it, and WAL is not retained for a slot that has nothing to wait for.

use crate::torture::evidence::Evidence;

/// Its name in reports.
pub const NAME: &str = "server unharmed";

/// More retained at rest is more than the segment that is written to, the one before and
/// what happened since the server last recorded its running transactions.
pub const RETAINED_AT_REST_MAX: u64 = 64 << 20;

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
    if server.retained_at_rest > RETAINED_AT_REST_MAX {
        seen.push(format!(
            "the server retains {} bytes of WAL for the slot at rest, {RETAINED_AT_REST_MAX} are allowed",
            server.retained_at_rest
        ));
    }
    seen
}
