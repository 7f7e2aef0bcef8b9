//! How much WAL the slot may keep from being removed: `--max-retained-wal`.
//!
//! A slot keeps WAL until Kafka has what is in it. If Kafka is away for long enough that fills
//! the server's disk, and the database stops for everybody. The fuse is looked at by the
//! watch's own thread, so that it does not depend on the stream, which waits for Kafka then.
//!
//! # When it blows
//!
//! `stop` gives the operator a dead process to look at; the slot stays. A stream that is past the
//! limit and moves is left alone: stopped at each start it could never catch up. It is stopped
//! when it is past the limit and has confirmed nothing for [`PATIENCE`].
//!
//! `drop-slot` sacrifices the stream for the server, at the limit. A slot that is past
//! the limit when the stream begins (the client was down) may catch up first: until it has been
//! below the limit once, it is dropped only if it does not move either.
//!
//! The limit is on what `restart_lsn` holds back, since that is what the disk keeps. An open
//! transaction holds it back too, while the stream moves on; it is named in the warnings.

use std::time::{Duration, Instant};

use headwater_protocol::Lsn;

use crate::cli::{OnRetainedWal, StreamOptions};
use crate::error::{Error, ErrorKind};
use crate::source::slot::Slot;

/// Longer than a broker takes to restart and elect a leader, short against filling a disk.
const PATIENCE: Duration = Duration::from_secs(60);

/// A position that has not moved for so long is said to stand still.
const STILL: Duration = Duration::from_secs(10);

/// In percent of the limit: early enough for a person to look.
const WARN_PERCENT: u64 = 70;

/// The limit, and what was seen of the slot so far.
#[derive(Debug)]
pub(super) struct Fuse {
    limit: u64,
    action: OnRetainedWal,
    /// Both positions, with the time when they were seen to move last.
    confirmed: Moving,
    restart: Moving,
    was_below: bool,
    warned: Level,
}

#[derive(Clone, Copy, Debug, Default)]
struct Moving {
    at: Lsn,
    since: Option<Instant>,
}

/// How far the slot is, against the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    #[default]
    Fine,
    Near,
    Over,
}

/// What one look came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    /// Nothing new.
    Nothing,
    /// A level was reached.
    Warn(Reading),
    /// It is time to act.
    Blown(Reading),
}

/// The slot as a warning describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// What the slot keeps, in bytes.
    retained: u64,
    /// Everything before it is confirmed.
    confirmed: Lsn,
    /// Why that is so much.
    because: Because,
}

/// Why a slot keeps WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Because {
    /// Nobody reads it.
    Inactive,
    /// What was read is not acknowledged, for so long.
    Unacknowledged(Duration),
    /// The stream moves, and a transaction that is open holds the WAL back from here.
    OpenTransaction(Lsn),
    /// The stream has moved of late, and is behind.
    Behind,
}

impl std::fmt::Display for Because {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Because::Inactive => f.write_str("nothing streams from it"),
            Because::Unacknowledged(time) => {
                write!(f, "nothing more was acknowledged for {} s", time.as_secs())
            }
            Because::OpenTransaction(lsn) => {
                write!(f, "a transaction that began before {lsn} is still open")
            }
            Because::Behind => f.write_str("the stream is behind"),
        }
    }
}

impl Reading {
    /// Of a slot that nobody streams from.
    pub(super) fn of_inactive(slot: &Slot) -> Self {
        Reading {
            retained: retained(slot),
            confirmed: slot.confirmed_flush,
            because: Because::Inactive,
        }
    }
}

impl Moving {
    fn see(&mut self, lsn: Lsn, now: Instant) {
        if self.since.is_none() || lsn != self.at {
            *self = Moving {
                at: lsn,
                since: Some(now),
            };
        }
    }

    fn still(&self, now: Instant) -> Duration {
        self.since
            .map_or(Duration::ZERO, |since| now.duration_since(since))
    }
}

impl Fuse {
    /// A fuse for `limit` bytes.
    fn new(limit: u64, action: OnRetainedWal) -> Self {
        Fuse {
            limit,
            action,
            confirmed: Moving::default(),
            restart: Moving::default(),
            was_below: false,
            warned: Level::Fine,
        }
    }

    /// The fuse that the command line asks for.
    pub(super) fn asked(options: &StreamOptions) -> Option<Self> {
        let limit = options.max_retained_wal?;
        Some(Fuse::new(limit, options.on_retained_wal))
    }

    /// What happens when it blows.
    pub(super) fn action(&self) -> OnRetainedWal {
        self.action
    }

    /// Whether a slot is past the limit, without a history.
    pub(super) fn is_past(&self, slot: &Slot) -> bool {
        retained(slot) > self.limit
    }

    /// Looks at the slot. Each level is warned of once until the slot is below it again.
    fn look(&mut self, slot: &Slot, now: Instant) -> Finding {
        self.confirmed.see(slot.confirmed_flush, now);
        self.restart.see(slot.restart_lsn.unwrap_or_default(), now);
        let retained = retained(slot);
        let level = if retained > self.limit {
            Level::Over
        } else if retained.saturating_mul(100) >= self.limit.saturating_mul(WARN_PERCENT) {
            Level::Near
        } else {
            Level::Fine
        };
        self.was_below |= level < Level::Over;
        let reading = Reading {
            retained,
            confirmed: slot.confirmed_flush,
            because: self.because(slot, now),
        };
        let at_once = self.action == OnRetainedWal::DropSlot && self.was_below;
        if level == Level::Over && (at_once || self.confirmed.still(now) >= PATIENCE) {
            return Finding::Blown(reading);
        }
        let is_news = level > self.warned;
        self.warned = level;
        match is_news {
            true => Finding::Warn(reading),
            false => Finding::Nothing,
        }
    }

    /// Looks at the slot and warns. What to do, and the error to end with, if it has blown.
    pub(super) fn check(&mut self, name: &str, slot: &Slot) -> Option<(OnRetainedWal, Error)> {
        match self.look(slot, Instant::now()) {
            Finding::Nothing => None,
            Finding::Warn(reading) => {
                self.warn(name, &reading);
                None
            }
            Finding::Blown(reading) => Some((self.action, self.error(name, &reading))),
        }
    }

    /// Says what the slot keeps, and why.
    fn warn(&self, slot: &str, reading: &Reading) {
        tracing::warn!(
            slot,
            retained_bytes = reading.retained,
            limit_bytes = self.limit,
            confirmed = %reading.confirmed,
            because = %reading.because,
            "the slot keeps WAL from being removed, near or past --max-retained-wal"
        );
    }

    /// The error that the stream ends with when the fuse has blown.
    pub(super) fn error(&self, slot: &str, reading: &Reading) -> Error {
        let Reading {
            retained,
            confirmed,
            because,
        } = reading;
        let limit = self.limit;
        let kept = format!(
            "replication slot \"{slot}\" keeps {retained} bytes of WAL, more than the {limit} of \
             --max-retained-wal, and {because}"
        );
        match self.action {
            OnRetainedWal::Stop => Error::failed(kept).with_hint(
                "The slot stays and keeps more. Mend what holds it, then start again: a stream \
                 that moves is not stopped. To let the server live without it, headwater drop.",
            ),
            OnRetainedWal::DropSlot => Error::new(
                ErrorKind::Gap,
                format!(
                    "{kept}: it was dropped, as --on-retained-wal says, and changes after \
                     {confirmed} are lost to the stream"
                ),
            )
            .with_hint(
                "To begin anew with a snapshot, which mends the topics, start with --resnapshot. A \
                 start without it names what else there is.",
            ),
        }
    }

    fn because(&self, slot: &Slot, now: Instant) -> Because {
        let still = self.confirmed.still(now);
        if slot.active_pid.is_none() {
            Because::Inactive
        } else if still >= STILL {
            Because::Unacknowledged(still)
        } else if self.restart.still(now) >= PATIENCE {
            Because::OpenTransaction(self.restart.at)
        } else {
            Because::Behind
        }
    }
}

fn retained(slot: &Slot) -> u64 {
    u64::try_from(slot.retained_wal_bytes).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1000;

    /// Looks a second apart: (retained, confirmed) of each, and what they came to.
    fn looks(action: OnRetainedWal, seen: impl IntoIterator<Item = (u64, u64)>) -> Vec<String> {
        let begin = Instant::now();
        let mut fuse = Fuse::new(LIMIT, action);
        let looks = (0..)
            .zip(seen)
            .filter_map(|(second, (retained, confirmed))| {
                let slot = slot(retained, confirmed, confirmed);
                let look = fuse.look(&slot, begin + Duration::from_secs(second));
                match look {
                    Finding::Nothing => None,
                    Finding::Warn(reading) => {
                        Some(format!("{second}: warn of {}", reading.retained))
                    }
                    Finding::Blown(reading) => {
                        Some(format!("{second}: blown at {}", reading.retained))
                    }
                }
            });
        looks.collect()
    }

    fn slot(retained: u64, confirmed: u64, restart: u64) -> Slot {
        Slot {
            active_pid: Some(1),
            confirmed_flush: Lsn(confirmed),
            restart_lsn: Some(Lsn(restart)),
            retained_wal_bytes: retained.cast_signed(),
            safe_wal_bytes: None,
            has_lost_wal: false,
            wal_end: None,
        }
    }

    #[test]
    fn each_crossing_is_warned_of_once() {
        let seen = [
            (699, 1),
            (700, 2),
            (900, 3),
            (699, 4),
            (800, 5),
            (1001, 6),
            (1500, 7),
        ];
        assert_eq!(
            looks(OnRetainedWal::Stop, seen),
            ["1: warn of 700", "4: warn of 800", "5: warn of 1001"]
        );
    }

    #[test]
    fn a_stream_past_the_limit_is_stopped_only_when_it_stands_still() {
        let moving = (0..300).map(|n| (5000, n));
        assert_eq!(looks(OnRetainedWal::Stop, moving), ["0: warn of 5000"]);
        let still = (0..=60).map(|_| (5000, 7));
        assert_eq!(
            looks(OnRetainedWal::Stop, still),
            ["0: warn of 5000", "60: blown at 5000"]
        );
    }

    #[test]
    fn a_slot_is_dropped_at_the_limit() {
        let seen = [(10, 1), (800, 2), (1000, 3), (1001, 4)];
        assert_eq!(
            looks(OnRetainedWal::DropSlot, seen),
            ["1: warn of 800", "3: blown at 1001"]
        );
    }

    #[test]
    fn a_slot_that_begins_past_the_limit_may_catch_up_first() {
        let catches_up = (0..100).map(|n| (5000 - 50 * n, n)).chain([(1001, 101)]);
        assert_eq!(
            looks(OnRetainedWal::DropSlot, catches_up),
            ["0: warn of 5000", "100: blown at 1001"]
        );
        let still = (0..=60).map(|_| (5000, 7));
        assert_eq!(
            looks(OnRetainedWal::DropSlot, still),
            ["0: warn of 5000", "60: blown at 5000"]
        );
    }

    #[test]
    fn what_holds_the_wal_back_is_named() {
        let begin = Instant::now();
        let mut fuse = Fuse::new(LIMIT, OnRetainedWal::Stop);
        let mut because = |second, slot: &Slot| {
            let now = begin + Duration::from_secs(second);
            let _finding = fuse.look(slot, now);
            fuse.because(slot, now).to_string()
        };
        assert_eq!(because(0, &slot(1, 5, 5)), "the stream is behind");
        assert_eq!(
            because(12, &slot(1, 5, 5)),
            "nothing more was acknowledged for 12 s"
        );
        assert_eq!(
            because(60, &slot(1, 9, 5)),
            "a transaction that began before 0/5 is still open"
        );
        let inactive = Slot {
            active_pid: None,
            ..slot(1, 9, 5)
        };
        assert_eq!(because(61, &inactive), "nothing streams from it");
    }
}
