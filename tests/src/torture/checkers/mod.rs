//! What may never happen, told from what a run leaves behind.
//!
//! Each checker is a function of the [`Evidence`] alone. So each can be shown to see what it
//! is for: a test takes the evidence of a run that was all right, spoils it in one way and
//! looks who complains.
//!
//! | checker | what holds |
//! |---|---|
//! | [`equal`] | at rest the newest record of each key is the row of the table |
//! | [`complete`] | each committed change is in the topic, and nothing that was not committed |
//! | [`letters`] | each change that cannot be encoded is kept where that was asked for |
//! | [`order`] | per key, records are in the order of the changes, replays excepted |
//! | [`acknowledged`] | nothing is confirmed to the server before the broker has it |
//! | [`server`] | no process of the server crashed, WAL is not retained for ever |
//! | [`refused`] | a start on a slot that lost changes, or beside another client, is refused |

pub mod acknowledged;
pub mod complete;
pub mod equal;
pub mod letters;
pub mod order;
pub mod refused;
pub mod server;

use std::fmt;

use super::evidence::Evidence;

/// More of one kind say nothing new.
const SHOWN: usize = 8;

/// Something that may never happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Who saw it.
    pub checker: &'static str,
    /// What, with key and position.
    pub what: String,
}

impl Violation {
    /// One that `checker` saw.
    pub fn new(checker: &'static str, what: impl Into<String>) -> Self {
        Violation {
            checker,
            what: what.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.checker, self.what)
    }
}

/// A checker's name, and what it sees.
type Checker = (&'static str, fn(&Evidence) -> Vec<String>);

/// Everything that all checkers see.
pub fn check(evidence: &Evidence) -> Vec<Violation> {
    let checkers: [Checker; 7] = [
        (equal::NAME, equal::check),
        (complete::NAME, complete::check),
        (letters::NAME, letters::check),
        (order::NAME, order::check),
        (acknowledged::NAME, acknowledged::check),
        (server::NAME, server::check),
        (refused::NAME, refused::check),
    ];
    let mut violations = Vec::new();
    for (name, check) in checkers {
        let seen = check(evidence);
        let more = seen.len().saturating_sub(SHOWN);
        violations.extend(
            seen.into_iter()
                .take(SHOWN)
                .map(|what| Violation::new(name, what)),
        );
        if more > 0 {
            violations.push(Violation::new(name, format!("and {more} more")));
        }
    }
    violations
}
