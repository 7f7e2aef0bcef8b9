//! How often, and how fast, a stream that breaks is tried again.
//!
//! A connection that broke is mended for as long as it takes. An internal error of the
//! server's, a panic of the plugin among them, ended one callback and left the server
//! sound: the stream goes on from the last whole transaction. Decoding is deterministic,
//! so an error that comes from the data comes again at the same place. That is told apart
//! by the position: where it does not move in [`FAULTS`] attempts, a person has to look.

use std::time::Duration;

use headwater_protocol::Lsn;

use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind};

/// Internal errors at one position before it is given up: with the pauses in between, five
/// seconds. A supervisor's pause comes on top, and what has not passed by then stays.
const FAULTS: u32 = 6;

/// A session that held for so long was a good one, though nothing may have been written:
/// longer than any pause. That says nothing of an error at one position, which a large
/// transaction may take as long to come to.
const HELD: Duration = Duration::from_secs(60);

/// The attempts since the stream last got anywhere.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    position: Lsn,
    faults: u32,
    /// How long to wait between them.
    pub backoff: Backoff,
}

impl Attempts {
    /// A session ended after some time, with everything before `position` durable.
    pub(super) fn session_ended(&mut self, position: Lsn, after: Duration) {
        if position > self.position {
            *self = Attempts {
                position,
                ..Attempts::default()
            };
        } else if after > HELD {
            self.backoff = Backoff::default();
        }
    }

    /// Whether to try again after `error`. Says what for, once.
    pub(super) fn may_pass(&mut self, error: &Error) -> bool {
        match error.kind() {
            ErrorKind::Disconnected => {}
            ErrorKind::Doubtful if self.faults < FAULTS => self.faults += 1,
            _ => return false,
        }
        self.backoff.report(error);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn internal() -> Error {
        Error::new(ErrorKind::Doubtful, "Postgres says: it failed")
    }

    #[test]
    fn an_internal_error_is_given_up_when_it_comes_again_at_the_same_place() {
        let mut attempts = Attempts::default();
        attempts.session_ended(Lsn(10), Duration::ZERO);
        for _ in 0..FAULTS {
            assert!(attempts.may_pass(&internal()));
            attempts.session_ended(Lsn(10), Duration::ZERO);
        }
        assert!(!attempts.may_pass(&internal()));
        attempts.session_ended(Lsn(11), Duration::ZERO);
        assert!(attempts.may_pass(&internal()), "it has moved");
    }

    #[test]
    fn an_error_that_is_long_in_coming_is_given_up_too() {
        let mut attempts = Attempts::default();
        attempts.session_ended(Lsn(10), 2 * HELD);
        for _ in 0..FAULTS {
            assert!(attempts.may_pass(&internal()));
            attempts.session_ended(Lsn(10), 2 * HELD);
        }
        assert!(!attempts.may_pass(&internal()));
    }

    #[test]
    fn a_broken_connection_is_never_given_up() {
        let mut attempts = Attempts::default();
        let broken = Error::new(ErrorKind::Disconnected, "it broke");
        for _ in 0..3 * FAULTS {
            attempts.session_ended(Lsn(10), Duration::ZERO);
            assert!(attempts.may_pass(&broken));
        }
        assert!(!attempts.may_pass(&Error::failed("no such table")));
    }
}
