//! How long to wait before trying again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::stop::Stop;

/// A server that restarts is back within a second; clients that all lost it should
/// not all come back at once.
const SHORTEST: Duration = Duration::from_millis(100);

/// Nobody waits longer than this for a server that is back.
const LONGEST: Duration = Duration::from_secs(10);

/// Waits that double up to 10 seconds, each shortened by chance to between half and
/// the whole of it.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
    reason: String,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff {
            next: SHORTEST,
            reason: String::new(),
        }
    }
}

impl Backoff {
    /// Says what is waited for, once for each reason.
    pub fn report(&mut self, error: &Error) {
        self.report_as(error, "trying again until it passes");
    }

    /// As [`Backoff::report`], in other words.
    pub fn report_as(&mut self, error: &Error, what: &str) {
        let reason = error.to_string();
        if reason != self.reason {
            tracing::warn!(%error, "{what}");
            self.reason = reason;
        }
    }

    /// Waits, at most until `stop` is set.
    pub fn wait(&mut self, stop: &Stop) -> Result<()> {
        let delay = self.next.mul_f64(0.5 + 0.5 * chance());
        self.next = (self.next * 2).min(LONGEST);
        let start = Instant::now();
        while let Some(left) = delay.checked_sub(start.elapsed()) {
            stop.check()?;
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
        stop.check()
    }
}

/// A number in `0..1`, from the randomness that the standard library seeds its maps with.
fn chance() -> f64 {
    let hash = RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(hash >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn waits_grow_to_a_bound_and_end_when_stopped() {
        let stop = Stop::default();
        stop.set();
        let mut backoff = Backoff::default();
        for _ in 0..20 {
            let stopped = backoff.wait(&stop).map_err(|error| error.kind());
            assert_eq!(stopped, Err(ErrorKind::Interrupted));
        }
        assert_eq!(backoff.next, LONGEST);
    }

    #[test]
    fn chance_lies_between_none_and_all() {
        for _ in 0..1000 {
            let chance = chance();
            assert!((0.0..=1.0).contains(&chance), "{chance}");
        }
    }
}
