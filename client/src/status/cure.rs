//! Commands that mend, as they can be pasted into a shell.

use headwater_protocol::table_pattern::TablePattern;

use super::stream::Stream;
use crate::cli::KafkaArguments;
use crate::shell::quoted;

/// Commands for the streams of one cluster. How to connect to the database, beside its name, is
/// left to whoever pastes them: it may hold a password.
#[derive(Clone, Debug)]
pub(super) struct Commands {
    brokers: String,
}

impl Commands {
    pub(super) fn new(kafka: &KafkaArguments) -> Self {
        Commands {
            brokers: kafka.brokers.clone(),
        }
    }

    /// Copies a stale table again.
    pub(super) fn snapshot(&self, stream: &Stream, schema: &str, table: &str) -> String {
        let pattern = TablePattern::exact(schema, table).to_string();
        format!("{} -t {}", self.of("snapshot", stream), quoted(&pattern))
    }

    /// Starts the stream again.
    pub(super) fn stream(&self, stream: &Stream) -> String {
        self.of("stream", stream)
    }

    /// Begins the stream anew, with a snapshot.
    pub(super) fn resnapshot(&self, stream: &Stream) -> String {
        format!("{} --resnapshot", self.of("stream", stream))
    }

    /// Gives the stream up.
    pub(super) fn drop(&self, stream: &Stream) -> String {
        self.of("drop", stream)
    }

    /// Shows dead letters.
    pub(super) fn tail(&self, topic: &str) -> String {
        format!(
            "headwater tail {} -b {} --from-beginning --exit --headers",
            quoted(topic),
            quoted(&self.brokers)
        )
    }

    /// Says what a stream needs.
    pub(super) fn doctor(&self) -> String {
        format!("headwater doctor -b {}", quoted(&self.brokers))
    }

    fn of(&self, command: &str, stream: &Stream) -> String {
        let prefix = match stream.topic_prefix.as_deref() {
            None | Some("") => String::new(),
            Some(prefix) => format!(" --topic-prefix {}", quoted(prefix)),
        };
        format!(
            "headwater {command} -d {} -S {}{prefix} -b {}",
            quoted(&stream.slot.database),
            quoted(&stream.slot.name),
            quoted(&self.brokers)
        )
    }
}
