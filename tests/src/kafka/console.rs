//! Kafka's own console consumer: an independent reader, the one that its users know.

use crate::keeper::{Kept, Service};
use crate::lines::Lines;
use crate::wait::SOON;

use super::Kafka;

/// A consumer that prints a topic from its beginning and then live, each record as key,
/// TAB and value; a tombstone's value is `null`. Dropped, it ends.
#[derive(Debug)]
pub struct ConsoleConsumer {
    _process: Kept,
    lines: Lines,
    seen: usize,
}

impl ConsoleConsumer {
    pub(super) fn start(kafka: &Kafka, topic: &str) -> Self {
        let mut process = Service::new("java")
            .args(kafka.java_options())
            .arg("org.apache.kafka.tools.consumer.ConsoleConsumer")
            .args(["--bootstrap-server", &kafka.brokers(), "--topic", topic])
            .args(["--from-beginning", "--formatter-property", "print.key=true"])
            .start();
        ConsoleConsumer {
            lines: Lines::of(process.take_stdout()),
            _process: process,
            seen: 0,
        }
    }

    /// The next `count` records.
    ///
    /// # Panics
    ///
    /// If they have not come after [`SOON`].
    #[track_caller]
    pub fn records(&mut self, count: usize) -> Vec<String> {
        let lines = self.lines.some(self.seen, count, SOON);
        assert!(
            lines.len() >= count,
            "{count} records expected from the console consumer, not {lines:?}"
        );
        self.seen += lines.len();
        lines
    }
}
