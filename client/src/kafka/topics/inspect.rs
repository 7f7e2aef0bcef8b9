//! Looks at topics as a stream would find them, and makes none.
//!
//! Whether a topic could be made is asked of the cluster itself, which checks a creation
//! without carrying it out (`validate_only`): its rights, its policy, its number of brokers.

use rdkafka::admin::ConfigResource;
use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;

use super::{Purpose, REQUEST_TIMEOUT, TopicMaker};
use crate::error::{Error, Result};
use crate::kafka::ToolCommand;

/// What was seen of one topic.
#[derive(Debug)]
pub(crate) struct Inspection {
    /// Its name.
    pub(crate) name: String,
    /// What a stream would have it for.
    pub(crate) purpose: Purpose,
    /// Its partitions, none where it does not exist.
    pub(crate) partitions: Option<Vec<Partition>>,
    /// What its configuration says; none where it does not exist or may not be described.
    pub(crate) settings: Option<Settings>,
    /// The command by which a person makes it.
    pub(crate) command: ToolCommand,
}

/// Why a stream could not make a topic.
#[derive(Debug)]
pub(crate) struct NoCreation {
    /// What its start would end with.
    pub(crate) error: Error,
    /// What the cluster said; none where the command line forbids it.
    pub(crate) code: Option<RDKafkaErrorCode>,
}

/// One partition of a topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partition {
    /// Whether some broker takes records for it.
    pub(crate) has_leader: bool,
    /// How many brokers are to have it.
    pub(crate) replicas: usize,
    /// How many of them are up to date.
    pub(crate) in_sync: usize,
}

/// What decides whether records arrive and stay.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// `cleanup.policy`
    pub(crate) cleanup_policy: Option<String>,
    /// `max.message.bytes`
    pub(crate) max_message_bytes: Option<u64>,
    /// `segment.bytes`, which no batch may be larger than.
    pub(crate) segment_bytes: Option<u64>,
    /// `min.insync.replicas`, without which a record is refused.
    pub(crate) min_in_sync: Option<usize>,
}

impl Settings {
    /// None where they may not be described: rdkafka drops the broker's error, and leaves a topic
    /// without a single setting, as no topic is.
    pub(super) fn of(resource: &ConfigResource) -> Option<Self> {
        if resource.entries.is_empty() {
            return None;
        }
        let value = |setting| resource.get(setting).and_then(|entry| entry.value.clone());
        let number = |setting| value(setting).and_then(|text| text.parse().ok());
        Some(Settings {
            cleanup_policy: value("cleanup.policy"),
            max_message_bytes: number("max.message.bytes"),
            segment_bytes: number("segment.bytes"),
            min_in_sync: number("min.insync.replicas")
                .and_then(|least| usize::try_from(least).ok()),
        })
    }
}

impl TopicMaker {
    /// Looks at the topic through `client`.
    ///
    /// # Errors
    /// Kafka does not answer, or the topic may not be used.
    pub(crate) fn inspect<C: ClientContext>(
        &self,
        client: &Client<C>,
        name: &str,
        purpose: Purpose,
    ) -> Result<Inspection> {
        super::check_name(name)?;
        let metadata = client
            .fetch_metadata(Some(name), REQUEST_TIMEOUT)
            .map_err(|error| self.unanswered(name, &error))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == name);
        let code = topic.and_then(|topic| topic.error().map(RDKafkaErrorCode::from));
        let partitions = match (topic, code) {
            (None, _)
            | (
                _,
                Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic),
            ) => None,
            (Some(topic), None | Some(RDKafkaErrorCode::LeaderNotAvailable)) => {
                let partitions = topic.partitions().iter();
                Some(partitions.map(Partition::of).collect())
            }
            (_, Some(code)) => return Err(self.refused("may not be used", name, purpose, code)),
        };
        let settings = match &partitions {
            Some(_) => self.settings(name),
            None => None,
        };
        Ok(Inspection {
            name: name.to_owned(),
            purpose,
            partitions,
            settings,
            command: self.command(name, purpose),
        })
    }

    /// Whether a stream could make the topic, which does not exist: none, or why not.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub(crate) fn check_creation(
        &self,
        name: &str,
        purpose: Purpose,
    ) -> Result<Option<NoCreation>> {
        if !self.options.create_topics {
            return Ok(Some(NoCreation {
                error: self.missing(name, purpose),
                code: None,
            }));
        }
        let topic = self.new_topic(name, purpose);
        let checked = self.administer(name, |admin, options| {
            let options = options.validate_only(true);
            pollster::block_on(admin.create_topics([&topic], &options))
        })?;
        match checked.into_iter().next() {
            Some(Ok(_)) | Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | None => Ok(None),
            Some(Err((_, code))) => Ok(Some(NoCreation {
                error: self.refused("cannot be created", name, purpose, code),
                code: Some(code),
            })),
        }
    }
}

impl Partition {
    fn of(partition: &rdkafka::metadata::MetadataPartition) -> Self {
        Partition {
            has_leader: partition.leader() >= 0,
            replicas: partition.replicas().len(),
            in_sync: partition.isr().len(),
        }
    }
}
