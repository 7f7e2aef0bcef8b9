//! How far the topics are behind the database, in seconds.
//!
//! # Why not by the newest commit alone
//!
//! The time since the last transaction that Kafka has acknowledged was committed says how far a
//! stream of transactions is behind. Where none come for an hour it says an hour, though nothing is
//! missing, and where the server is busy with the WAL of others it says nothing of what is in it. So
//! there are two series of marks, each a position and a time: the commits that arrive, and
//! where the server's WAL ended, looked at once a second. What the acknowledged position has come
//! past tells up to when everything is there: the later time of both counts. Where no mark is
//! ahead of the position there is nothing to wait for, and the lag is none.
//!
//! # Memory
//!
//! Of each series two marks are kept: the one that is waited for, and the newest. When the position
//! comes past the first, the newest takes its place. What lies between them is not told apart,
//! so that a lag is told as up to twice what it is, and never as less.

use headwater_protocol::Lsn;

/// Marks on the way of a position, each with a time.
#[derive(Clone, Copy, Debug, Default)]
struct Marks {
    awaited: Option<Mark>,
    newest: Option<Mark>,
    /// The time of the last one that was passed.
    passed: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    at: Lsn,
    /// Microseconds since 1970.
    time: i64,
}

impl Marks {
    fn set(&mut self, mark: Mark) {
        self.awaited.get_or_insert(mark);
        self.newest = Some(mark);
    }

    fn reach(&mut self, position: Lsn) {
        let is_passed = |mark: &Mark| mark.at <= position;
        if let Some(mark) = self.newest.filter(is_passed) {
            (self.awaited, self.newest) = (None, None);
            self.passed = self.passed.max(Some(mark.time));
        } else if let Some(mark) = self.awaited.filter(is_passed) {
            self.awaited = self.newest;
            self.passed = self.passed.max(Some(mark.time));
        }
    }
}

/// What is known of the lag.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lag {
    commits: Marks,
    wal_ends: Marks,
    position: Lsn,
    /// Where the server's WAL ended.
    wal_end: Option<Lsn>,
}

impl Lag {
    /// A transaction has arrived that ends there and was committed then.
    pub(super) fn arrived(&mut self, end: Lsn, commit_time: i64) {
        self.commits.set(Mark {
            at: end,
            time: commit_time,
        });
        self.commits.reach(self.position);
    }

    /// The server's WAL ended there at that time.
    pub(super) fn looked(&mut self, wal_end: Lsn, time: i64) {
        self.wal_end = Some(wal_end);
        self.wal_ends.set(Mark { at: wal_end, time });
        self.wal_ends.reach(self.position);
    }

    /// Everything before it is acknowledged.
    pub(super) fn reached(&mut self, position: Lsn) {
        self.position = self.position.max(position);
        self.commits.reach(self.position);
        self.wal_ends.reach(self.position);
    }

    /// The time of the last commit that is acknowledged, in microseconds since 1970.
    pub(super) fn last_commit(&self) -> Option<i64> {
        self.commits.passed
    }

    /// Bytes of WAL, of which not all are the stream's; none before the server was asked and
    /// something was acknowledged.
    pub(super) fn bytes(&self) -> Option<u64> {
        let is_known = self.position > Lsn::INVALID;
        let wal_end = self.wal_end.filter(|_| is_known)?;
        Some(wal_end.0.saturating_sub(self.position.0))
    }

    /// In microseconds, at a time; none before there is anything to tell it by.
    pub(super) fn micros(&self, now: i64) -> Option<u64> {
        let awaited = self.commits.awaited;
        if awaited.is_none() && self.wal_ends.awaited.is_none() {
            return self.wal_end.map(|_| 0);
        }
        let until = self.commits.passed.max(self.wal_ends.passed);
        // Nothing is acknowledged yet: as old as what is waited for.
        let until = until.or(awaited.map(|mark| mark.time))?;
        // The server's clock may be ahead.
        Some(u64::try_from(now.saturating_sub(until)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_before_anything_is_known() {
        assert_eq!(
            (Lag::default().micros(9), Lag::default().bytes()),
            (None, None)
        );
    }

    #[test]
    fn a_database_that_rests_has_no_lag_however_long() {
        let mut lag = Lag::default();
        lag.arrived(Lsn(10), 100);
        lag.reached(Lsn(10));
        lag.looked(Lsn(10), 200);
        assert_eq!((lag.micros(9_000), lag.bytes()), (Some(0), Some(0)));
        assert_eq!(lag.last_commit(), Some(100));
    }

    #[test]
    fn the_first_transaction_after_a_rest_is_as_old_as_the_last_look() {
        let mut lag = Lag::default();
        lag.arrived(Lsn(10), 100);
        lag.reached(Lsn(10));
        lag.looked(Lsn(10), 9_000);
        lag.arrived(Lsn(20), 9_001);
        assert_eq!(lag.micros(9_003), Some(3), "and not since 100");
    }

    #[test]
    fn what_is_not_acknowledged_grows_old() {
        let mut lag = Lag::default();
        lag.reached(Lsn(5));
        lag.arrived(Lsn(10), 100);
        assert_eq!(lag.micros(300), Some(200), "nothing was acknowledged yet");
        lag.arrived(Lsn(20), 250);
        lag.reached(Lsn(10));
        assert_eq!(lag.micros(300), Some(200), "up to 100 all is there");
        lag.reached(Lsn(20));
        lag.looked(Lsn(20), 290);
        assert_eq!(lag.micros(300), Some(0));
    }

    #[test]
    fn a_server_that_has_sent_nothing_of_its_wal_yet_is_behind_too() {
        let mut lag = Lag::default();
        lag.reached(Lsn(10));
        lag.looked(Lsn(10), 100);
        for second in 2..=50 {
            lag.looked(Lsn(1000 * second), 100 * second as i64);
        }
        assert_eq!(lag.micros(5_000), Some(4_900));
        assert_eq!(lag.bytes(), Some(49_990));
        lag.reached(Lsn(2_000));
        assert_eq!(lag.micros(5_000), Some(4_800));
        lag.reached(Lsn(49_000));
        assert_eq!(lag.micros(5_000), Some(4_800), "never told as less");
        lag.reached(Lsn(50_000));
        assert_eq!(lag.micros(5_000), Some(0));
    }

    #[test]
    fn a_server_whose_clock_is_ahead_makes_no_negative_lag() {
        let mut lag = Lag::default();
        lag.arrived(Lsn(10), 100);
        assert_eq!(lag.micros(50), Some(0));
    }
}
