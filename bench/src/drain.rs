//! Waits until a topic holds everything, and says what that took.
//!
//! The clock runs from the first record that is seen to the last: how long a JVM takes to
//! start is another question. CPU times are taken at the same two moments.

use std::time::{Duration, Instant};

use headwater_tests::Kafka;
use serde::Serialize;

use crate::parity::Expected;
use crate::process::{Watch, cpu_seconds};

/// How often the topic is looked at: fifty times a second, whatever grows there, so that the
/// broker spends the same on it for every pipeline.
const LOOK: Duration = Duration::from_millis(20);

/// A pipeline that has written nothing more for so long has stopped.
const STALLED: Duration = Duration::from_secs(90);

/// What a pipeline used to fill a topic.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Drain {
    /// Changes within the time: some become two records.
    pub(crate) changes: f64,
    pub(crate) seconds: f64,
    /// CPU seconds of the pipeline's own process.
    pub(crate) cpu_pipeline: f64,
    /// CPU seconds of the server's processes that it reads from.
    pub(crate) cpu_server: f64,
    pub(crate) cpu_broker: f64,
    /// The most memory that the pipeline's process held, in bytes, from its start on.
    pub(crate) memory: u64,
}

impl Drain {
    /// MiB.
    pub(crate) fn memory_mib(&self) -> f64 {
        self.memory as f64 / f64::from(1 << 20)
    }

    /// Changes a second.
    pub(crate) fn rate(&self) -> f64 {
        self.changes / self.seconds
    }

    /// CPU microseconds a change, of the pipeline and the server that it reads from.
    pub(crate) fn cpu_micros(&self) -> f64 {
        (self.cpu_pipeline + self.cpu_server) / self.changes * 1e6
    }
}

/// Waits until `topic` holds what is `expected`. `server` finds the server's processes,
/// `alive` panics if the pipeline has ended.
///
/// # Panics
///
/// If nothing comes any more, or something else than expected: the run is void.
pub(crate) fn drain(
    kafka: &Kafka,
    topic: &str,
    expected: &Expected,
    pipeline: u32,
    server: impl Fn() -> Vec<u32>,
    mut alive: impl FnMut(),
) -> Drain {
    let records = expected.records();
    let watch = Watch::of(pipeline);
    let mut last = (0, Instant::now());
    let mut look = || {
        std::thread::sleep(LOOK);
        let written = match last.0 {
            0 => kafka.written(topic),
            _ => kafka.written_to_first_partition(topic),
        };
        if written > last.0 {
            last = (written, Instant::now());
        } else {
            alive();
            assert!(
                last.1.elapsed() < STALLED,
                "void: topic {topic} stays at {written} of {records} records"
            );
        }
        written
    };
    while look() == 0 {}
    let senders = server();
    let used = || {
        let server: f64 = senders.iter().map(|pid| cpu_seconds(*pid)).sum();
        (watch.cpu_seconds(), server, cpu_seconds(kafka.pid()))
    };
    let (first, start, before) = (look(), Instant::now(), used());
    while look() < records {}
    let (seconds, after) = (start.elapsed().as_secs_f64(), used());
    let memory = watch.peak();
    expected.check(kafka, topic);
    Drain {
        changes: (records - first) as f64 * expected.changes() as f64 / records as f64,
        seconds,
        cpu_pipeline: after.0 - before.0,
        cpu_server: after.1 - before.1,
        cpu_broker: after.2 - before.2,
        memory,
    }
}
