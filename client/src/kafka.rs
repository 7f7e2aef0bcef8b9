//! Kafka, as the sink, the state store and `headwater tail` share it: how a client is
//! configured, what it logs, how topics are made and how a partition is read to its end.

mod config;
mod connection;
mod exposure;
mod login;
mod principal;
mod property;
mod read;
mod tools;
mod topics;

use std::fmt;

pub use config::parse_property;
pub(crate) use config::{
    Limit, Reading, RecordLimit, check_property, creation_error, in_flight_limit, record_limit,
};
pub(crate) use connection::{Connection, Patience, Watch, first_contact, producer};
pub(crate) use principal::Principal;
pub use property::Property;
pub(crate) use read::{Pace, Reader};
pub(crate) use tools::ToolCommand;
pub(crate) use topics::{Existence, Inspection, Misfit, NoCreation, Purpose, TopicMaker, is_name};

/// Which Kafka, and how its topics are made.
#[derive(Clone)]
pub struct KafkaOptions {
    /// `host:port`, several separated by commas: the brokers asked first.
    pub brokers: String,
    /// Properties of librdkafka, by their names; they win over Headwater's own choices.
    pub properties: Vec<Property>,
    /// Partitions of a topic that is created: at least 1; none for the broker's default.
    pub partitions: Option<i32>,
    /// Replicas of a topic that is created: at least 1; none for the broker's default.
    pub replication: Option<i32>,
    /// Whether missing topics are created; otherwise they are an error.
    pub create_topics: bool,
    /// Whether records carry the headers `hw.*`. Without them a record does not say
    /// which snapshot it belongs to, and a sweep after a snapshot finds no ghosts.
    pub headers: bool,
}

#[cfg(test)]
impl KafkaOptions {
    /// Those of a test: of these brokers and with these properties, all else as it is by default.
    pub(crate) fn of(brokers: &str, properties: &[(&str, &str)]) -> Self {
        KafkaOptions {
            brokers: brokers.to_owned(),
            properties: properties.iter().map(Property::from).collect(),
            partitions: None,
            replication: None,
            create_topics: true,
            headers: true,
        }
    }
}

/// What may be shown of properties: some of their values are secrets.
pub(crate) fn property_names(properties: &[Property]) -> Vec<&str> {
    properties.iter().map(|property| &*property.name).collect()
}

impl fmt::Debug for KafkaOptions {
    // Properties hold passwords: their names alone are shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaOptions")
            .field("brokers", &self.brokers)
            .field("properties", &property_names(&self.properties))
            .field("partitions", &self.partitions)
            .field("replication", &self.replication)
            .field("create_topics", &self.create_topics)
            .field("headers", &self.headers)
            .finish()
    }
}
