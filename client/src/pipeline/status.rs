//! When a status update is due.

use std::time::{Duration, Instant};

use headwater_protocol::Lsn;

/// After the position has moved: what Postgres keeps is at most this old.
const MOVED_INTERVAL: Duration = Duration::from_secs(1);

/// Otherwise: far below `wal_sender_timeout` (60 s unless it is set), after which
/// the server would end the connection.
const IDLE_INTERVAL: Duration = Duration::from_secs(10);

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
    pub(super) fn is_due(&self, position: Lsn, now: Instant) -> bool {
        let interval = if position > self.confirmed {
            MOVED_INTERVAL
        } else {
            IDLE_INTERVAL
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
        assert!(!timer.is_due(Lsn(10), after(9)));
        assert!(timer.is_due(Lsn(10), after(10)));
        assert!(!timer.is_due(Lsn(11), start + MOVED_INTERVAL / 2));
        assert!(timer.is_due(Lsn(11), after(1)));
    }
}
