//! When a status update is due.

use std::time::{Duration, Instant};

use headwater_protocol::Lsn;

/// After the position has moved: what Postgres keeps is at most this old.
const MOVED_INTERVAL: Duration = Duration::from_secs(1);

/// While the server is not listened to: its request for an answer, half of
/// `wal_sender_timeout` before it ends the connection, would not be seen.
const BLOCKED_INTERVAL: Duration = Duration::from_secs(1);

/// Otherwise: the server asks where it wants to hear sooner, and is answered at once.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);

/// What the client does between two looks at the timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attention {
    /// It reads what the server sends.
    Listening,
    /// It waits for the sink or for another session.
    Blocked,
}

/// Remembers the last status update.
#[derive(Debug)]
pub(super) struct StatusTimer {
    last: Instant,
    confirmed: Lsn,
}

impl StatusTimer {
    /// Nothing was said yet; the first update is due when there is something to say.
    pub(super) fn new(now: Instant) -> Self {
        StatusTimer {
            last: now,
            confirmed: Lsn::INVALID,
        }
    }

    /// Whether an update is due that would confirm `position`.
    pub(super) fn is_due(&self, position: Lsn, attention: Attention, now: Instant) -> bool {
        let interval = match attention {
            Attention::Blocked => BLOCKED_INTERVAL,
            Attention::Listening if position > self.confirmed => MOVED_INTERVAL,
            Attention::Listening => IDLE_INTERVAL,
        };
        now.duration_since(self.last) >= interval
    }

    /// An update was sent.
    pub(super) fn sent(&mut self, position: Lsn, now: Instant) {
        self.last = now;
        self.confirmed = position;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_due_sooner_when_the_position_moved() {
        let start = Instant::now();
        let mut timer = StatusTimer::new(start);
        timer.sent(Lsn(10), start);
        let after = |seconds| start + Duration::from_secs(seconds);
        let listening = Attention::Listening;
        assert!(!timer.is_due(Lsn(10), listening, after(9)));
        assert!(timer.is_due(Lsn(10), listening, after(10)));
        assert!(!timer.is_due(Lsn(11), listening, start + MOVED_INTERVAL / 2));
        assert!(timer.is_due(Lsn(11), listening, after(1)));
    }

    #[test]
    fn an_update_is_due_soon_while_the_server_is_not_heard() {
        let start = Instant::now();
        let timer = StatusTimer::new(start);
        let later = start + BLOCKED_INTERVAL;
        assert!(timer.is_due(Lsn::INVALID, Attention::Blocked, later));
        assert!(!timer.is_due(Lsn::INVALID, Attention::Listening, later));
    }
}
