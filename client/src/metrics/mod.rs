//! What a running client tells of itself: numbers for Prometheus, and whether it is well.
//!
//! ```text
//! stream ─┐  plain integers, handed over once a turn
//! watch  ─┼─► Metrics ◄── /metrics: the table reads what it needs
//! others ─┘      └──────► /livez, /readyz: Health judges
//! ```
//!
//! # What counting costs
//!
//! A change is counted by the thread that handles it, in an integer of its own: one addition, no
//! atomic operation, no lock. Once for each message of the server, which is 64 KiB of
//! changes under load, the integers are copied under a lock that nobody else holds for
//! longer than a copy, too. What is rare (a dead letter, a session that is begun again) takes the lock
//! for itself. Nothing is formatted before somebody asks.
//!
//! # How many series there are
//!
//! As many as the [table](table::GROUPS) has lines, and a few more for labels whose values are
//! in this source. Tables are labels only where something is wrong with them, 100 at most.
//!
//! No row's value gets here: labels are names of tables, everything else is a number.

mod figures;
mod health;
mod lag;
mod process;
mod reference;
mod samples;
mod server;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub use self::figures::Activity;
pub(crate) use self::figures::{Copied, Figures, HeldBack, Retained, Stale, Stream, Tally};
pub use self::reference::reference;
pub use self::server::serve;
pub use self::table::{GROUPS, Group, Kind, Metric, metrics};

use self::health::{Health, Look};
use self::lag::Lag;
use self::process::Process;
use self::samples::{Format, Samples};
use crate::sink::Load;

/// Where everybody tells how he fares. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Microseconds since 1970.
    started: i64,
    told: Mutex<Told>,
}

#[derive(Debug)]
struct Told {
    figures: Figures,
    lag: Lag,
    health: Health,
}

/// What one look at the metrics finds.
struct Reading {
    figures: Figures,
    lag: Lag,
    phase: Activity,
    is_connected: bool,
    is_ready: bool,
    process: Process,
    started: i64,
    /// Microseconds since 1970.
    now: i64,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// Of a process that begins.
    pub fn new() -> Self {
        Metrics(Arc::new(Shared {
            started: micros_since_1970(),
            told: Mutex::new(Told {
                figures: Figures::default(),
                lag: Lag::default(),
                health: Health::new(Instant::now()),
            }),
        }))
    }

    /// The process does something else from now on.
    pub fn enter(&self, phase: Activity) {
        self.lock().health.enter(phase, Instant::now());
    }

    /// A session streams, or none does any more.
    pub(crate) fn connected(&self, is_connected: bool) {
        self.lock().health.connected(is_connected, Instant::now());
    }

    /// The main thread tries again what does not get any further.
    pub(crate) fn turns(&self) {
        self.lock().health.turns(Instant::now());
    }

    /// The main thread does something that takes its time and has got a little further.
    pub(crate) fn works(&self) {
        self.lock().health.works(Instant::now());
    }

    /// How the stream stands. To be called at least once a second.
    pub(crate) fn stream(&self, stream: Stream, sink: Load) {
        let now = Instant::now();
        let mut told = self.lock();
        let Told {
            figures,
            lag,
            health,
        } = &mut *told;
        if let Some((end, time)) = stream.tally.commit
            && figures.stream.tally.transactions != stream.tally.transactions
        {
            lag.arrived(end, time);
        }
        lag.reached(stream.delivered);
        health.looked(
            Look {
                heard: stream.tally.heard,
                delivered: sink.delivered_records,
                copied: figures.snapshot.map_or(0, |copied| copied.rows),
                in_flight: sink.in_flight_records,
                reached: stream.delivered,
                confirmed: stream.confirmed,
                is_blocked: stream.is_blocked,
                is_full: stream.tally.held.is_full,
                kafka_answers: sink.answers,
            },
            now,
        );
        figures.stream = stream;
        figures.sink = sink;
    }

    /// How far the snapshot is. To be called at least once a second while it is taken.
    pub(crate) fn snapshot(&self, copied: Copied, sink: Load) {
        self.count(|figures| figures.snapshot = Some(copied));
        self.flows(sink);
    }

    /// How the sink fares, where nothing else is to be told.
    pub(crate) fn flows(&self, sink: Load) {
        let mut told = self.lock();
        let look = Look {
            delivered: sink.delivered_records,
            copied: told.figures.snapshot.map_or(0, |copied| copied.rows),
            in_flight: sink.in_flight_records,
            kafka_answers: sink.answers,
            ..Look::default()
        };
        told.health.looked(look, Instant::now());
        told.figures.sink = sink;
    }

    /// How the slot stands; none where that is not to be learned.
    pub(crate) fn retained(&self, retained: Option<Retained>) {
        let now = micros_since_1970();
        let mut told = self.lock();
        if let Some(retained) = &retained {
            told.lag.looked(retained.wal_end, now);
        }
        told.figures.retained = retained;
    }

    /// Counts what is rare.
    pub(crate) fn count(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.lock().figures);
    }

    /// Whether a restart would not help. The error says what hangs.
    fn live(&self) -> Result<(), String> {
        self.lock().health.live(Instant::now())
    }

    /// Whether changes get to Kafka. The error says why not.
    fn ready(&self) -> Result<(), String> {
        self.lock().health.ready(Instant::now())
    }

    /// The page for Prometheus.
    fn page(&self, format: Format) -> String {
        let reading = self.reading();
        Samples::page(format, metrics(), |metric, samples| {
            (metric.read)(&reading, samples);
        })
    }

    fn reading(&self) -> Reading {
        let process = Process::look();
        let told = self.lock();
        Reading {
            figures: told.figures.clone(),
            lag: told.lag,
            phase: told.health.phase(),
            is_connected: told.health.is_connected(),
            is_ready: told.health.ready(Instant::now()).is_ok(),
            process,
            started: self.0.started,
            now: micros_since_1970(),
        }
    }

    /// A panic elsewhere leaves plain numbers behind.
    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros_since_1970() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let micros = since.map_or(0, |since| since.as_micros());
    i64::try_from(micros).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use headwater_protocol::Lsn;

    use super::*;

    /// A line of the page, without its metric's name.
    fn value<'p>(page: &'p str, name: &str) -> Option<&'p str> {
        page.lines()
            .filter_map(|line| line.strip_prefix(name))
            .find_map(|rest| rest.strip_prefix(' '))
    }

    #[test]
    fn the_page_says_what_was_told() {
        let metrics = Metrics::new();
        metrics.enter(Activity::Streaming);
        metrics.connected(true);
        let mut tally = Tally {
            inserts: 3,
            heard: 1,
            ..Tally::default()
        };
        tally.committed(Lsn(100), 1_000_000);
        let stream = Stream {
            tally,
            delivered: Lsn(100),
            confirmed: Lsn(100),
            ..Stream::default()
        };
        let load = Load {
            delivered_records: 3,
            answers: true,
            ..Load::default()
        };
        metrics.stream(stream, load);
        metrics.retained(Some(Retained {
            wal_end: Lsn(150),
            bytes: 90,
            safe_bytes: None,
        }));
        metrics.count(|figures| figures.dead_letters.add("public.t"));
        let page = metrics.page(Format::Prometheus);
        for (name, expected) in [
            ("headwater_phase{phase=\"streaming\"}", Some("1")),
            ("headwater_phase{phase=\"starting\"}", Some("0")),
            ("headwater_ready", Some("1")),
            ("headwater_changes_total{operation=\"insert\"}", Some("3")),
            ("headwater_transactions_total", Some("1")),
            ("headwater_delivered_lsn_bytes", Some("100")),
            ("headwater_lag_bytes", Some("50")),
            ("headwater_last_commit_timestamp_seconds", Some("1")),
            ("headwater_retained_wal_bytes", Some("90")),
            ("headwater_safe_wal_bytes", None),
            ("headwater_snapshot_rows", None),
            ("headwater_dead_letters_total", Some("1")),
            (
                "headwater_table_dead_letters_total{table=\"public.t\"}",
                Some("1"),
            ),
        ] {
            assert_eq!(value(&page, name), expected, "{name} in\n{page}");
        }
        assert_eq!((metrics.live(), metrics.ready()), (Ok(()), Ok(())));
    }
}
