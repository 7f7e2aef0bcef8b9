//! Waiting for a condition with a deadline, in place of sleeping.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Long enough for anything that ought to happen on a slow machine under load; a
/// deadline that passes is a failure, so it costs nothing when all is well.
pub const SOON: Duration = Duration::from_secs(90);

/// How often a condition is looked at: short against what is waited for (a server's
/// start, a compaction), long against the cost of a look.
const INTERVAL: Duration = Duration::from_millis(20);

/// Calls `condition` until it gives a value, and returns that.
///
/// `condition` says what is still missing in its error.
///
/// # Panics
///
/// After `deadline`, with `what` was waited for and the last error.
#[track_caller]
pub fn eventually<T, E: Display>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Result<T, E>,
) -> T {
    let begin = Instant::now();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(missing) if begin.elapsed() > deadline => {
                panic!("{what}: not after {} s: {missing}", deadline.as_secs())
            }
            Err(_) => std::thread::sleep(INTERVAL),
        }
    }
}

/// `Ok` if `holds`, otherwise the sentence: for conditions of [`eventually`].
pub fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}
