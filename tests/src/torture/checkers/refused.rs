//! A start on a slot that has lost changes is refused, and so is one beside a client that
//! streams: with the exit code that says which, and nothing is written.

use crate::torture::evidence::Evidence;

/// Its name in reports.
pub const NAME: &str = "refused";

/// What was not refused.
pub fn check(evidence: &Evidence) -> Vec<String> {
    let mut seen = Vec::new();
    for refusal in &evidence.refusals {
        let (after, due) = (refusal.after, refusal.due);
        if refusal.exit != Some(due) {
            let ended = refusal.exit.map_or("went on".to_owned(), |code| {
                format!("ended with exit code {code}")
            });
            seen.push(format!(
                "{after}: the client {ended}, where {due} was due; it said:\n{}",
                refusal.stderr
            ));
        }
        if refusal.written > 0 {
            seen.push(format!(
                "{after}: a client that is refused wrote {} records",
                refusal.written
            ));
        }
    }
    seen
}
