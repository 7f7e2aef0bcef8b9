//! Rates: what has moved between two looks, and how far behind a slot is by the clock.
//!
//! The oldest of the looks that count is a minute old, so that a rate is one of now, and not
//! one of a single second in which a checkpoint was written.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use headwater_protocol::Lsn;

use super::server::Server;

/// Seconds that rates are taken over.
const WINDOW: f64 = 60.0;

/// Where a server and its slots stood at one time.
#[derive(Clone, Debug)]
struct Sample {
    /// The server's clock.
    at: f64,
    wal_end: Lsn,
    confirmed: BTreeMap<String, Lsn>,
}

/// The looks of the last minute, the oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    samples: VecDeque<Sample>,
    /// Counts that only grow, by their names: when they were seen, and how far they were.
    counts: BTreeMap<String, VecDeque<(Instant, u64)>>,
}

/// How far behind a slot is by the clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Behind {
    /// So many seconds ago the WAL ended where the slot stands now.
    Seconds(f64),
    /// Longer than has been looked at.
    MoreThan(f64),
}

impl History {
    /// Adds a look at the server.
    pub(super) fn add(&mut self, server: &Server) {
        let goes_on = self
            .samples
            .back()
            .is_none_or(|last| server.clock >= last.at && server.wal_end >= last.wal_end);
        // Another server answers, or its clock was set back: what was seen is of no use.
        if !goes_on {
            self.samples.clear();
        }
        let confirmed = server.slots.iter().filter_map(|slot| {
            let confirmed = slot.confirmed_flush_lsn?;
            Some((slot.name.clone(), confirmed))
        });
        self.samples.push_back(Sample {
            at: server.clock,
            wal_end: server.wal_end,
            confirmed: confirmed.collect(),
        });
        while self
            .samples
            .get(1)
            .is_some_and(|second| server.clock - second.at >= WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// Adds how far counts were `at` a time.
    pub(super) fn count(&mut self, at: Instant, counts: BTreeMap<String, u64>) {
        for (name, count) in counts {
            let seen = self.counts.entry(name).or_default();
            if seen.back().is_some_and(|(_, last)| *last > count) {
                seen.clear();
            }
            seen.push_back((at, count));
        }
        self.counts.retain(|_, seen| {
            let is_old = |(time, _): &(Instant, u64)| (at - *time).as_secs_f64() >= WINDOW;
            while seen.get(1).is_some_and(is_old) {
                seen.pop_front();
            }
            !seen.back().is_some_and(is_old)
        });
    }

    /// Bytes of WAL written a second; none until there are two looks.
    pub(super) fn wal_rate(&self) -> Option<f64> {
        self.rate(|sample| Some(sample.wal_end.0))
    }

    /// Bytes of WAL a second that a slot moved ahead by.
    pub(super) fn slot_rate(&self, slot: &str) -> Option<f64> {
        self.rate(|sample| sample.confirmed.get(slot).map(|lsn| lsn.0))
    }

    /// How fast a count grows, a second.
    pub(super) fn count_rate(&self, name: &str) -> Option<f64> {
        let seen = self.counts.get(name)?;
        let ((first, from), (last, to)) = (seen.front()?, seen.back()?);
        let seconds = (*last - *first).as_secs_f64();
        (seconds > 0.0).then(|| to.saturating_sub(*from) as f64 / seconds)
    }

    /// How far a slot that stands at `confirmed` is behind.
    pub(super) fn behind(&self, confirmed: Lsn) -> Option<Behind> {
        let (oldest, newest) = (self.samples.front()?, self.samples.back()?);
        let passed = self
            .samples
            .iter()
            .rev()
            .find(|sample| sample.wal_end <= confirmed);
        Some(match passed {
            Some(sample) => Behind::Seconds(newest.at - sample.at),
            None => Behind::MoreThan(newest.at - oldest.at),
        })
    }

    /// Between the first look that has the value and the newest.
    fn rate(&self, value: impl Fn(&Sample) -> Option<u64>) -> Option<f64> {
        let newest = self.samples.back()?;
        let (first, from) = self
            .samples
            .iter()
            .find_map(|sample| Some((sample, value(sample)?)))?;
        let (to, seconds) = (value(newest)?, newest.at - first.at);
        // What went back began anew.
        (seconds > 0.0 && to >= from).then(|| (to - from) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::status::server::Slot;

    fn server(clock: f64, wal_end: u64, confirmed: u64) -> Server {
        Server {
            version: "15.20".to_owned(),
            database: "shop".to_owned(),
            system_identifier: None,
            clock,
            wal_end: Lsn(wal_end),
            keep_limit: None,
            wal_segment: 16 << 20,
            wal_folder: None,
            disk_free: Err("nobody looked"),
            slots: vec![Slot {
                confirmed_flush_lsn: Some(Lsn(confirmed)),
                ..Slot::named("s", "shop")
            }],
            copies: Vec::new(),
            tables: Vec::new(),
        }
    }

    fn history(looks: &[(f64, u64, u64)]) -> History {
        let mut history = History::default();
        for (clock, wal_end, confirmed) in looks {
            history.add(&server(*clock, *wal_end, *confirmed));
        }
        history
    }

    #[test]
    fn a_rate_takes_two_looks() {
        assert_eq!(history(&[(1.0, 100, 0)]).wal_rate(), None);
        let two = history(&[(1.0, 100, 0), (3.0, 500, 100)]);
        assert_eq!(two.wal_rate(), Some(200.0));
        assert_eq!(two.slot_rate("s"), Some(50.0));
        assert_eq!(two.slot_rate("another"), None);
    }

    #[test]
    fn a_count_that_went_back_began_anew() {
        let mut history = History::default();
        let begin = Instant::now();
        let mut count = |seconds, count| {
            let counts = BTreeMap::from([("rows".to_owned(), count)]);
            history.count(begin + Duration::from_secs(seconds), counts);
            history.count_rate("rows")
        };
        assert_eq!(count(0, 100), None);
        assert_eq!(count(2, 200), Some(50.0));
        assert_eq!(count(3, 7), None);
        assert_eq!(count(5, 27), Some(10.0));
        assert_eq!(count(120, 27), Some(0.0));
    }

    #[test]
    fn what_is_older_than_a_minute_counts_no_more() {
        let looks = [(0.0, 0, 0), (30.0, 3_000, 0), (90.0, 3_600, 0)];
        assert_eq!(history(&looks).wal_rate(), Some(10.0));
    }

    #[test]
    fn a_slot_is_behind_by_the_time_since_the_wal_ended_there() {
        let looks = history(&[(0.0, 100, 0), (1.0, 200, 0), (2.0, 300, 0)]);
        for (confirmed, expected) in [
            (300, Behind::Seconds(0.0)),
            (299, Behind::Seconds(1.0)),
            (100, Behind::Seconds(2.0)),
            (99, Behind::MoreThan(2.0)),
        ] {
            assert_eq!(looks.behind(Lsn(confirmed)), Some(expected), "{confirmed}");
        }
    }

    #[test]
    fn a_server_whose_wal_went_back_is_another_one() {
        let looks = history(&[(0.0, 100, 0), (1.0, 50, 0)]);
        assert_eq!(looks.wal_rate(), None);
    }
}
