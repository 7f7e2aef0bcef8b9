//! Whether the process lives, and whether it does its work.
//!
//! All that decides it is here, told by those who know it, and judged when somebody asks. Nobody
//! else keeps an opinion.
//!
//! # Alive is not ready
//!
//! A process that waits for Kafka is alive: to kill it would cost the records that it has in
//! flight, and mend nothing. What a restart mends is a main thread that hangs. So *alive* asks
//! whether its loop has turned, wherever it promises to; while it starts it promises nothing,
//! since the creation of a slot waits for the transactions of others as long as they run.
//!
//! *Ready* means that changes get to Kafka: there is a session that streams, the brokers answer,
//! and whatever is owed gets less. A stream that owes nothing is ready however long nothing is
//! written. One that owes something has [`PATIENCE`] for the next record to be delivered or
//! for the acknowledged position to move, each of which begins it anew: so a transaction of hours
//! keeps it ready as long as its records arrive. A table that waits for its schema's id is no
//! debt while others can go on; when no more of it can be kept, all wait, and that is one.

use std::time::{Duration, Instant};

use headwater_protocol::Lsn;

use super::figures::Activity;

/// How long the main loop may take for one turn. Between two turns may lie a pause of 10 seconds
/// and two connections, which try several hosts for 10 seconds each, and at the end up to 20
/// seconds for what is in flight.
pub(super) const TURN: Duration = Duration::from_secs(120);

/// How long nothing may move before it counts as standing still: longer than the election of a
/// leader takes (seconds), and than one record, sent alone, of the largest size.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What the main thread sees, each time it looks around.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Messages of the server so far.
    pub(super) heard: u64,
    /// Records that Kafka has acknowledged so far.
    pub(super) delivered: u64,
    /// Rows of the snapshot that were read so far.
    pub(super) copied: u64,
    /// Records that wait for that.
    pub(super) in_flight: u64,
    /// Everything before it is in Kafka.
    pub(super) reached: Lsn,
    /// And that is on record, and the server told.
    pub(super) confirmed: Lsn,
    /// The thread waits for something else than the server.
    pub(super) is_blocked: bool,
    /// It waits for the schema registry, since no more can be kept.
    pub(super) is_full: bool,
    /// The brokers answer, as far as is known.
    pub(super) kafka_answers: bool,
}

impl Look {
    /// Whether something is to be done that others wait for.
    fn owes(&self) -> bool {
        self.in_flight > 0 || self.confirmed < self.reached || self.is_blocked || self.is_full
    }
}

/// What was seen last, and when it moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Health {
    phase: Activity,
    /// A session streams.
    is_connected: bool,
    look: Look,
    /// When the main loop turned.
    turned: Instant,
    /// When something was delivered or acknowledged, or nothing was owed.
    moved: Instant,
    /// When the server was heard, or not listened to.
    heard: Instant,
}

impl Health {
    pub(super) fn new(now: Instant) -> Self {
        Health {
            phase: Activity::Starting,
            is_connected: false,
            look: Look {
                kafka_answers: true,
                ..Look::default()
            },
            turned: now,
            moved: now,
            heard: now,
        }
    }

    pub(super) fn phase(&self) -> Activity {
        self.phase
    }

    pub(super) fn is_connected(&self) -> bool {
        self.is_connected
    }

    /// The process does something else from now on.
    pub(super) fn enter(&mut self, phase: Activity, now: Instant) {
        self.phase = phase;
        (self.turned, self.moved, self.heard) = (now, now, now);
    }

    /// A session streams, or none does any more.
    pub(super) fn connected(&mut self, is_connected: bool, now: Instant) {
        self.is_connected = is_connected;
        (self.turned, self.heard) = (now, now);
    }

    /// The main loop has turned.
    pub(super) fn looked(&mut self, look: Look, now: Instant) {
        let before = std::mem::replace(&mut self.look, look);
        self.turned = now;
        let has_moved = look.delivered != before.delivered
            || look.confirmed != before.confirmed
            || look.copied != before.copied;
        // What is owed from now on has its time from now on. A snapshot always owes its end.
        let is_at_rest = self.phase != Activity::Snapshot && !before.owes();
        if has_moved || is_at_rest {
            self.moved = now;
        }
        if look.heard != before.heard || look.is_blocked {
            self.heard = now;
        }
    }

    /// The main thread does not hang, and gets no further.
    pub(super) fn turns(&mut self, now: Instant) {
        self.turned = now;
    }

    /// Work goes on that nothing is delivered by: a topic is read, say.
    pub(super) fn works(&mut self, now: Instant) {
        (self.turned, self.moved) = (now, now);
    }

    /// Whether a restart would help not. The error says what hangs.
    pub(super) fn live(&self, now: Instant) -> Result<(), String> {
        let turned = now.duration_since(self.turned);
        match self.phase {
            Activity::Starting | Activity::Waiting => Ok(()),
            _ if turned <= TURN => Ok(()),
            _ => Err(format!(
                "the main loop has not turned for {} s",
                turned.as_secs()
            )),
        }
    }

    /// Whether changes get to Kafka. The error says why not, in one line.
    pub(super) fn ready(&self, now: Instant) -> Result<(), String> {
        match self.phase {
            Activity::Starting => return Err("it is starting".to_owned()),
            Activity::Waiting => {
                return Err("it waits for another instance to let go of the slot".to_owned());
            }
            Activity::Stopping => return Err("it is stopping".to_owned()),
            Activity::Snapshot | Activity::Streaming => {}
        }
        if !self.look.kafka_answers {
            return Err("Kafka does not answer; the log says why".to_owned());
        }
        let still = now.duration_since(self.moved);
        let seconds = still.as_secs();
        if self.phase == Activity::Snapshot {
            return match still > PATIENCE {
                true => Err(format!("no row of the snapshot has moved for {seconds} s")),
                false => Ok(()),
            };
        }
        if !self.is_connected {
            return Err("no session streams from Postgres; it is trying again".to_owned());
        }
        if self.look.owes() && still > PATIENCE {
            return Err(self.standstill(seconds));
        }
        let silent = now.duration_since(self.heard);
        if silent > PATIENCE {
            let seconds = silent.as_secs();
            return Err(format!("Postgres has sent nothing for {seconds} s"));
        }
        Ok(())
    }

    fn standstill(&self, seconds: u64) -> String {
        let look = &self.look;
        let waits = if look.is_full {
            "it waits for the schema registry, and can keep no more".to_owned()
        } else if look.in_flight > 0 {
            format!(
                "{} records wait for Kafka to acknowledge them",
                look.in_flight
            )
        } else if look.confirmed < look.reached {
            "the position cannot be recorded in Kafka".to_owned()
        } else {
            "it waits for an answer that it needs; the log says for which".to_owned()
        };
        format!("nothing was acknowledged for {seconds} s: {waits}")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A stream that is connected and has delivered all.
    fn streaming(now: Instant) -> Health {
        let mut health = Health::new(now);
        health.enter(Activity::Streaming, now);
        health.connected(true, now);
        health.looked(look(), now);
        health
    }

    fn look() -> Look {
        Look {
            heard: 1,
            delivered: 10,
            reached: Lsn(10),
            confirmed: Lsn(10),
            kafka_answers: true,
            ..Look::default()
        }
    }

    /// Looks once a second, for so many seconds.
    fn each_second(
        health: &mut Health,
        from: Instant,
        seconds: u32,
        mut look: impl FnMut(u32) -> Look,
    ) -> Instant {
        for second in 1..=seconds {
            health.looked(look(second), from + second * SECOND);
        }
        from + seconds * SECOND
    }

    fn refusal(verdict: Result<(), String>) -> String {
        verdict.unwrap_err()
    }

    #[test]
    fn an_idle_database_is_ready_however_long_it_rests() {
        let begin = Instant::now();
        let mut health = streaming(begin);
        let now = each_second(&mut health, begin, 10_000, |second| Look {
            heard: u64::from(second) + 1,
            ..look()
        });
        assert_eq!((health.ready(now), health.live(now)), (Ok(()), Ok(())));
    }

    #[test]
    fn a_debt_that_gets_no_less_is_not_ready_and_alive() {
        let begin = Instant::now();
        let mut health = streaming(begin);
        let owing = |second: u32| Look {
            heard: 1 + u64::from(second),
            in_flight: 7,
            ..look()
        };
        // The first look finds a debt that may be of this moment.
        let now = each_second(&mut health, begin, 61, owing);
        assert_eq!(health.ready(now), Ok(()));
        let now = each_second(&mut health, now, 1, owing);
        assert_eq!(
            refusal(health.ready(now)),
            "nothing was acknowledged for 61 s: 7 records wait for Kafka to acknowledge them"
        );
        assert_eq!(health.live(now), Ok(()));
        health.looked(
            Look {
                delivered: 11,
                in_flight: 6,
                ..look()
            },
            now,
        );
        assert_eq!(health.ready(now), Ok(()), "one was delivered");
    }

    #[test]
    fn what_is_owed_after_a_rest_has_its_time_from_then_on() {
        let begin = Instant::now();
        let mut health = streaming(begin);
        let now = each_second(&mut health, begin, 500, |second| Look {
            heard: u64::from(second) + 1,
            in_flight: u64::from(second == 500),
            ..look()
        });
        assert_eq!(health.ready(now + PATIENCE), Ok(()));
    }

    #[test]
    fn a_transaction_of_hours_is_ready_while_its_records_arrive() {
        let begin = Instant::now();
        let mut health = streaming(begin);
        let now = each_second(&mut health, begin, 10_000, |second| Look {
            heard: u64::from(second) + 1,
            delivered: 10 + u64::from(second / 30),
            in_flight: 500,
            ..look()
        });
        assert_eq!(health.ready(now), Ok(()));
    }

    #[test]
    fn each_cause_is_named() {
        let begin = Instant::now();
        let stuck = |look: Look| {
            let mut health = streaming(begin);
            let now = each_second(&mut health, begin, 62, |_| look);
            refusal(health.ready(now))
        };
        for (look, cause) in [
            (
                Look {
                    reached: Lsn(20),
                    ..look()
                },
                "the position cannot be recorded",
            ),
            (
                Look {
                    is_blocked: true,
                    is_full: true,
                    ..look()
                },
                "it waits for the schema registry",
            ),
            (
                Look {
                    is_blocked: true,
                    ..look()
                },
                "an answer that it needs",
            ),
            (
                Look {
                    kafka_answers: false,
                    ..look()
                },
                "Kafka does not answer",
            ),
            (look(), "Postgres has sent nothing for 62 s"),
        ] {
            let said = stuck(look);
            assert!(said.contains(cause), "{cause}: {said}");
        }
    }

    #[test]
    fn a_session_that_broke_is_not_ready_until_it_streams_again() {
        let begin = Instant::now();
        let mut health = streaming(begin);
        health.connected(false, begin);
        assert!(refusal(health.ready(begin)).contains("no session streams"));
        health.connected(true, begin);
        assert_eq!(health.ready(begin), Ok(()));
    }

    #[test]
    fn a_snapshot_is_ready_while_rows_move_and_while_a_topic_is_read() {
        let begin = Instant::now();
        let mut health = Health::new(begin);
        health.enter(Activity::Snapshot, begin);
        assert_eq!(health.ready(begin), Ok(()));
        let now = each_second(&mut health, begin, 300, |second| Look {
            delivered: u64::from(second),
            in_flight: 3,
            kafka_answers: true,
            ..Look::default()
        });
        assert_eq!(health.ready(now), Ok(()));
        let later = now + PATIENCE + SECOND;
        assert_eq!(
            refusal(health.ready(later)),
            "no row of the snapshot has moved for 61 s"
        );
        health.works(later);
        assert_eq!(health.ready(later), Ok(()));
    }

    #[test]
    fn a_snapshot_that_reads_nothing_is_not_ready_though_nothing_is_in_flight() {
        let begin = Instant::now();
        let mut health = Health::new(begin);
        health.enter(Activity::Snapshot, begin);
        let reading = |second| Look {
            copied: u64::from(second),
            kafka_answers: true,
            ..Look::default()
        };
        let now = each_second(&mut health, begin, 300, reading);
        assert_eq!(health.ready(now), Ok(()));
        let hanging = |_| reading(300);
        let now = each_second(&mut health, now, 62, hanging);
        assert_eq!(
            refusal(health.ready(now)),
            "no row of the snapshot has moved for 62 s"
        );
    }

    #[test]
    fn a_copy_whose_end_cannot_be_recorded_is_alive_and_not_ready() {
        let begin = Instant::now();
        let mut health = Health::new(begin);
        health.enter(Activity::Snapshot, begin);
        // Hours of copying are not to be killed because a broker is away at their end.
        let now = begin + 100 * TURN;
        health.turns(now);
        assert_eq!(health.live(now), Ok(()));
        assert!(health.ready(now).is_err());
    }

    #[test]
    fn only_who_promised_to_turn_is_dead_when_it_does_not() {
        let begin = Instant::now();
        let late = begin + TURN + SECOND;
        let mut health = Health::new(begin);
        for phase in [Activity::Starting, Activity::Waiting] {
            health.enter(phase, begin);
            assert_eq!(health.live(late), Ok(()), "{phase:?}");
            assert!(health.ready(begin).is_err(), "{phase:?}");
        }
        for phase in [Activity::Streaming, Activity::Stopping] {
            health.enter(phase, begin);
            assert_eq!(health.live(begin + TURN), Ok(()), "{phase:?}");
            assert_eq!(
                refusal(health.live(late)),
                "the main loop has not turned for 121 s",
                "{phase:?}"
            );
        }
    }
}
