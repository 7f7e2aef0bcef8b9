//! Commands that mend, as they can be pasted into a shell.

use headwater_protocol::table_pattern::TablePattern;

use super::stream::Stream;
use crate::cli::KafkaArguments;
use crate::shell::quoted;
use crate::source::conninfo::Conninfo;

/// Commands for the streams of one cluster. A password is left to whoever pastes them.
#[derive(Clone, Debug)]
pub(super) struct Commands {
    conninfo: Conninfo,
    brokers: String,
}

impl Commands {
    pub(super) fn new(conninfo: Conninfo, kafka: &KafkaArguments) -> Self {
        Commands {
            conninfo,
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
        let database = match self.conninfo.shown(None) {
            said if said.is_empty() => String::new(),
            said => format!(" -d {}", quoted(&said)),
        };
        format!("headwater doctor{database} -b {}", quoted(&self.brokers))
    }

    fn of(&self, command: &str, stream: &Stream) -> String {
        let prefix = match stream.topic_prefix.as_deref() {
            None | Some("") => String::new(),
            Some(prefix) => format!(" --topic-prefix {}", quoted(prefix)),
        };
        format!(
            "headwater {command} -d {} -S {}{prefix} -b {}",
            quoted(&self.conninfo.shown(Some(&stream.slot.database))),
            quoted(&stream.slot.name),
            quoted(&self.brokers)
        )
    }
}
