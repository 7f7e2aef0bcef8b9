//! What may be done about an error of Postgres, of Kafka or of a schema registry.
//!
//! There is one definition for each of them, [`super::postgres`], [`super::kafka`] and
//! [`super::registry`], by which the client decides and from which `docs/errors.md` is written. What
//! none of them names is for a person: an error that nobody has thought of is not tried again for
//! ever in silence.

use super::ErrorKind;

/// What may be done about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// It passes: the client tries again, at growing intervals, for as long as it takes.
    Retry,
    /// It may pass: the stream tries again, a few times without getting any further.
    Doubtful,
    /// Somebody else has the slot; he may be about to leave it.
    Taken,
    /// What the stream would go on from is gone.
    Resnapshot,
    /// The record as such is refused.
    Data,
    /// A person has to mend something first.
    Operator,
    /// A defect or damage: this process cannot go on.
    Fatal,
}

impl Remedy {
    /// All of them, as the manual lists them.
    pub const ALL: [Remedy; 7] = [
        Remedy::Retry,
        Remedy::Doubtful,
        Remedy::Taken,
        Remedy::Resnapshot,
        Remedy::Data,
        Remedy::Operator,
        Remedy::Fatal,
    ];

    /// The kind of an error that is to be treated so.
    pub fn kind(self) -> ErrorKind {
        match self {
            Remedy::Retry => ErrorKind::Disconnected,
            Remedy::Doubtful => ErrorKind::Doubtful,
            Remedy::Taken => ErrorKind::SlotInUse,
            Remedy::Resnapshot => ErrorKind::Gap,
            Remedy::Data => ErrorKind::Data,
            Remedy::Operator | Remedy::Fatal => ErrorKind::Failed,
        }
    }

    /// Its name in the manual.
    pub fn name(self) -> &'static str {
        match self {
            Remedy::Retry => "retry",
            Remedy::Doubtful => "doubtful",
            Remedy::Taken => "taken",
            Remedy::Resnapshot => "resnapshot",
            Remedy::Data => "data",
            Remedy::Operator => "operator",
            Remedy::Fatal => "fatal",
        }
    }
}
