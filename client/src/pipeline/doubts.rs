//! How often a stream begins again after an internal error of the server.
//!
//! Such an error may be chance (a file that another process has just replaced, a cache that was
//! invalidated at the wrong moment) and pass with the session, or be a defect that comes again
//! at the same change for ever. What tells them apart is whether the stream gets any further.

use headwater_protocol::Lsn;

/// Tries without getting any further. Chance does not strike so often at one place.
const TRIES: u32 = 5;

/// The tries since the stream got further.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    position: Lsn,
    tries: u32,
}

impl Doubts {
    /// Whether to begin again from `position`.
    pub(super) fn allow(&mut self, position: Lsn) -> bool {
        if position > self.position {
            *self = Doubts { position, tries: 0 };
        }
        self.tries += 1;
        self.tries <= TRIES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_again_at_one_place_ends_and_what_strikes_here_and_there_does_not() {
        let mut doubts = Doubts::default();
        for position in 1..100 {
            assert!(doubts.allow(Lsn(position)), "got further, to {position}");
        }
        let tries = (0..100).filter(|_| doubts.allow(Lsn(99))).count();
        assert_eq!(tries as u32, TRIES - 1);
        assert!(doubts.allow(Lsn(100)));
    }
}
