//! When a status update is due, and when it asks for an answer.
//!
//! # Why the client asks
//!
//! A position moves by transactions that arrive, and by keepalives where none do. A server
//! sends a keepalive of its own accord when it has read all of its WAL, or when it has not
//! heard from the client for half of `wal_sender_timeout` (`WalSndWaitForWal` and
//! `WalSndKeepaliveIfNecessary` in walsender.c). While others write faster than it reads,
//! it has never read all of it; and a client that tells its position in time is always
//! heard from. So it would say nothing for as long as that goes on, and the slot would keep
//! the WAL of all of it. A status update may ask for an answer, which is a keepalive with
//! the position reached, and comes even then: the server looks for messages after every
//! record that it reads.
//!
//! One question is under way at a time. In the middle of a large transaction the server
//! looks at none, and they would pile up.

use std::time::{Duration, Instant};

use headwater_protocol::Lsn;

/// After the position has moved: what Postgres keeps is at most this old.
const MOVED_INTERVAL: Duration = Duration::from_secs(1);

/// By how many bytes the position may move before it is confirmed at once: one segment of
/// WAL, the least that a server can let go of.
const MOVED_BYTES: u64 = 16 << 20;

/// While the server is not listened to: its request for an answer, half of
/// `wal_sender_timeout` before it ends the connection, would not be seen.
const BLOCKED_INTERVAL: Duration = Duration::from_secs(1);

/// Otherwise: the server asks where it wants to hear sooner, and is answered at once.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);

/// How long nothing is heard of the server's position before it is asked for. Another 34
/// bytes four times a second, so that a burst of WAL is noticed before it is much.
const QUIET: Duration = Duration::from_millis(250);

/// The same while the server runs ahead: at a gigabyte a second it gets 50 MB further.
const RUNNING: Duration = Duration::from_millis(50);

/// A server that has come this much further between two answers is running ahead.
const RUNNING_BYTES: u64 = 1 << 20;

/// What the client does between two looks at the timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attention {
    /// It reads what the server sends.
    Listening,
    /// It waits for the sink or for another session.
    Blocked,
}

/// A status update that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// It tells the position.
    Tell,
    /// It asks for the server's, too.
    Ask,
}

/// Remembers the last status update and the last keepalive.
#[derive(Debug)]
pub(super) struct StatusTimer {
    sent: Instant,
    confirmed: Lsn,
    /// The server's position, as the last keepalive had it.
    heard: Lsn,
    heard_at: Instant,
    /// A question is under way.
    asked: bool,
    /// How long to wait for the next keepalive before asking.
    patience: Duration,
}

impl StatusTimer {
    /// Nothing was said yet; the first update is due when there is something to say.
    pub(super) fn new(now: Instant) -> Self {
        StatusTimer {
            sent: now,
            confirmed: Lsn::INVALID,
            heard: Lsn::INVALID,
            heard_at: now,
            asked: false,
            patience: QUIET,
        }
    }

    /// The update that is due, if any, which would confirm `position`.
    pub(super) fn due(&self, position: Lsn, attention: Attention, now: Instant) -> Option<Update> {
        let since = now.duration_since(self.sent);
        if attention == Attention::Blocked {
            return (since >= BLOCKED_INTERVAL).then_some(Update::Tell);
        }
        if self.until_question(now) == Some(Duration::ZERO) {
            return Some(Update::Ask);
        }
        let moved = position.0.saturating_sub(self.confirmed.0);
        let is_due = match moved {
            0 => since >= IDLE_INTERVAL,
            _ => since >= MOVED_INTERVAL || moved >= MOVED_BYTES,
        };
        is_due.then_some(Update::Tell)
    }

    /// How long until the server is to be asked; none while it has not answered.
    pub(super) fn until_question(&self, now: Instant) -> Option<Duration> {
        (!self.asked).then(|| {
            self.patience
                .saturating_sub(now.duration_since(self.heard_at))
        })
    }

    /// An update was sent.
    pub(super) fn sent(&mut self, update: Update, position: Lsn, now: Instant) {
        self.sent = now;
        self.confirmed = position;
        self.asked |= update == Update::Ask;
    }

    /// A keepalive arrived.
    pub(super) fn heard(&mut self, wal_end: Lsn, now: Instant) {
        let is_running = wal_end.0.saturating_sub(self.heard.0) >= RUNNING_BYTES;
        self.patience = if is_running { RUNNING } else { QUIET };
        self.heard = wal_end;
        self.heard_at = now;
        self.asked = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A timer that said 10 and heard 10 a moment ago.
    fn timer(start: Instant) -> StatusTimer {
        let mut timer = StatusTimer::new(start);
        timer.heard(Lsn(10), start);
        timer.sent(Update::Tell, Lsn(10), start);
        timer
    }

    /// The same, which waits for an answer.
    fn asking(start: Instant) -> StatusTimer {
        let mut timer = timer(start);
        timer.sent(Update::Ask, Lsn(10), start);
        timer
    }

    #[test]
    fn an_update_is_due_sooner_when_the_position_moved() {
        let start = Instant::now();
        let timer = asking(start);
        let due = |position, millis| {
            let now = start + Duration::from_millis(millis);
            timer.due(Lsn(position), Attention::Listening, now)
        };
        assert_eq!(due(10, 9_999), None);
        assert_eq!(due(10, 10_000), Some(Update::Tell));
        assert_eq!(due(11, 999), None);
        assert_eq!(due(11, 1_000), Some(Update::Tell));
        assert_eq!(due(10 + MOVED_BYTES - 1, 0), None);
        assert_eq!(due(10 + MOVED_BYTES, 0), Some(Update::Tell));
    }

    #[test]
    fn an_update_is_due_soon_while_the_server_is_not_heard() {
        let start = Instant::now();
        let timer = asking(start);
        let later = start + BLOCKED_INTERVAL;
        let due = |attention| timer.due(Lsn(10), attention, later);
        assert_eq!(due(Attention::Blocked), Some(Update::Tell));
        assert_eq!(due(Attention::Listening), None);
    }

    #[test]
    fn a_server_that_says_nothing_is_asked_once() {
        let start = Instant::now();
        let mut timer = timer(start);
        let due = |timer: &StatusTimer, now| timer.due(Lsn(10), Attention::Listening, now);
        assert_eq!(due(&timer, start + QUIET / 2), None);
        let asked = start + QUIET;
        assert_eq!(due(&timer, asked), Some(Update::Ask));
        timer.sent(Update::Ask, Lsn(10), asked);
        assert_eq!(due(&timer, asked + 10 * QUIET), None, "one at a time");
        timer.heard(Lsn(10), asked + 10 * QUIET);
        assert_eq!(due(&timer, asked + 11 * QUIET), Some(Update::Ask));
    }

    #[test]
    fn a_server_that_runs_ahead_is_asked_sooner() {
        let start = Instant::now();
        let mut timer = timer(start);
        timer.heard(Lsn(10 + RUNNING_BYTES), start);
        assert_eq!(timer.until_question(start), Some(RUNNING));
        timer.heard(Lsn(10 + RUNNING_BYTES), start);
        assert_eq!(timer.until_question(start), Some(QUIET), "it rests");
    }
}
