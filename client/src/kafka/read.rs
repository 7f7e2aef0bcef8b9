//! Reads one partition from its beginning to its end.
//!
//! The end is where the broker says so (`PARTITION_EOF`), and never computed from offsets:
//! control records of transactions and the holes that compaction leaves take offsets that no
//! message ever shows, so a loop "until the offset before the high watermark" can wait for
//! ever. The high watermark that was taken at the start bounds the reading from the other side,
//! where a writer is faster than the reader.
//!
//! Partitions are read one after the other. That keeps what a caller must remember to one
//! partition, and it tells which partition has ended: the event says no topic.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::metadata::Metadata;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::connection::{EVENTS, Patience};
use super::{Connection, KafkaOptions, Reading, ToolCommand, Watch, creation_error, first_contact};
use crate::error::{Error, ErrorKind, Remedy, Result, kafka};

/// How long a reader waits for a message before it looks up.
const POLL: Duration = Duration::from_millis(200);

/// How long a cluster that has answered before may take to describe a topic.
const DESCRIBE: Duration = Duration::from_secs(20);

/// A consumer without a group: partitions are assigned, offsets are never committed.
pub(crate) struct Reader {
    consumer: BaseConsumer<Watch>,
    connection: Arc<Connection>,
    /// What names the topics that there are.
    listing: ToolCommand,
}

impl Reader {
    /// Connects, waiting at most ten seconds for the cluster's first answer, which is one about
    /// `topic`.
    ///
    /// # Errors
    /// Kafka does not answer, or refuses a property; or what `tick` returns.
    pub(crate) fn connect(
        options: &KafkaOptions,
        reading: Reading,
        connection: fn(&KafkaOptions) -> Result<Connection>,
        topic: &str,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Self> {
        let connection = Arc::new(connection(options)?);
        let watch = Watch(Arc::clone(&connection));
        let consumer: BaseConsumer<Watch> = options
            .reader_config(reading)
            .create_with_context(watch)
            .map_err(|error| creation_error(&error))?;
        // Nothing is assigned yet: a poll can only serve events.
        first_contact(consumer.client(), &connection, topic, &mut || {
            (0..EVENTS).for_each(|_| drop(consumer.poll(Duration::ZERO)));
            tick()
        })?;
        Ok(Reader {
            consumer,
            connection,
            listing: options.tool("kafka-topics.sh", "--list"),
        })
    }

    /// The numbers of the topic's partitions. `tick` is called at least every 2.5 seconds.
    ///
    /// # Errors
    /// The topic does not exist or may not be read, Kafka does not answer for 20
    /// seconds, or what `tick` returns.
    pub(crate) fn partitions(
        &self,
        topic: &str,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Vec<i32>> {
        self.find_partitions(topic, tick)?
            .ok_or_else(|| self.refused(topic, RDKafkaErrorCode::UnknownTopicOrPartition))
    }

    /// As [`Self::partitions`], none where there is no such topic.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn find_partitions(
        &self,
        topic: &str,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<Vec<i32>>> {
        let metadata = self.metadata(topic, tick)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let Some(found) = found else {
            return Ok(None);
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => {
                let partitions = found.partitions().iter();
                Ok(Some(partitions.map(|part| part.id()).collect()))
            }
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Ok(None)
            }
            Some(code) => Err(self.refused(topic, code)),
        }
    }

    /// How many offsets the topic holds, its records and what compaction and transactions left of
    /// others; none where there is no such topic. `tick` is called at least every 2.5 seconds.
    ///
    /// # Errors
    /// As [`Self::partitions`].
    pub(crate) fn count(
        &self,
        topic: &str,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<u64>> {
        let Some(partitions) = self.find_partitions(topic, tick)? else {
            return Ok(None);
        };
        let mut count = 0;
        for partition in partitions {
            let (low, high) = self.watermarks(topic, partition, tick)?;
            count += u64::try_from(high - low).unwrap_or(0);
        }
        Ok(Some(count))
    }

    /// Calls `each` with every message of the partition, oldest first, up to the end or to
    /// the high watermark of this moment, whichever comes first. Waits through outages;
    /// `tick` is called at least every 2.5 seconds, and its error ends the reading.
    ///
    /// # Errors
    /// The topic is gone or may not be read, or what `tick` and `each` return.
    pub(crate) fn read_partition(
        &self,
        topic: &str,
        partition: i32,
        tick: &mut dyn FnMut() -> Result<()>,
        each: &mut dyn FnMut(&BorrowedMessage<'_>) -> Result<()>,
    ) -> Result<()> {
        self.read_from(topic, partition, None, tick, each).map(drop)
    }

    /// As [`Self::read_partition`], from `offset` on where there is one. Returns the offset
    /// behind the last message, to go on from.
    ///
    /// # Errors
    /// As [`Self::read_partition`].
    pub(crate) fn read_from(
        &self,
        topic: &str,
        partition: i32,
        offset: Option<i64>,
        tick: &mut dyn FnMut() -> Result<()>,
        each: &mut dyn FnMut(&BorrowedMessage<'_>) -> Result<()>,
    ) -> Result<i64> {
        let (low, high) = self.watermarks(topic, partition, tick)?;
        let begin = offset.map_or(low, |offset| offset.max(low));
        if begin >= high {
            return Ok(begin);
        }
        self.assign(&[(topic, partition)], Offset::Offset(begin))?;
        let mut next = begin;
        let outcome = self.read_assigned(topic, partition, high, tick, &mut |message| {
            next = message.offset() + 1;
            each(message)
        });
        let released = self.consumer.unassign();
        outcome?;
        released.map_err(|error| self.failed(topic, &error))?;
        Ok(next)
    }

    /// Assigns partitions from `offset` on, for [`Self::next`].
    ///
    /// # Errors
    /// The client refuses.
    pub(crate) fn assign(&self, partitions: &[(&str, i32)], offset: Offset) -> Result<()> {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in partitions {
            list.add_partition_offset(topic, *partition, offset)
                .map_err(|error| self.failed(topic, &error))?;
        }
        let topic = partitions.first().map_or("", |(topic, _)| topic);
        self.consumer
            .assign(&list)
            .map_err(|error| self.failed(topic, &error))
    }

    /// The next message of the assigned partitions of `topics`, none when `timeout` passes
    /// without one or a partition has ended. Outages are waited through.
    ///
    /// # Errors
    /// A topic is gone or may not be read.
    pub(crate) fn next(
        &self,
        topics: &[String],
        timeout: Duration,
    ) -> Result<Option<BorrowedMessage<'_>>> {
        match self.poll(timeout) {
            None | Some(Err(KafkaError::PartitionEOF(_))) => Ok(None),
            Some(Ok(message)) => {
                self.connection.alive();
                Ok(Some(message))
            }
            Some(Err(error)) => match final_code(&error) {
                Some(code) => Err(self.refused_any(topics, code)),
                None => Ok(None),
            },
        }
    }

    /// Serves events, too, and keeps the login.
    fn poll(&self, timeout: Duration) -> Option<Result<BorrowedMessage<'_>, KafkaError>> {
        self.connection.login().keep(self.consumer.client());
        self.consumer.poll(timeout)
    }

    fn read_assigned(
        &self,
        topic: &str,
        partition: i32,
        high: i64,
        tick: &mut dyn FnMut() -> Result<()>,
        each: &mut dyn FnMut(&BorrowedMessage<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut pace = Pace::new();
        loop {
            pace.keep(tick)?;
            match self.poll(POLL) {
                None => {}
                Some(Ok(message)) => {
                    self.connection.alive();
                    if message.offset() >= high {
                        return Ok(());
                    }
                    each(&message)?;
                }
                Some(Err(KafkaError::PartitionEOF(ended))) if ended == partition => return Ok(()),
                Some(Err(error)) => {
                    if let Some(code) = final_code(&error) {
                        return Err(self.refused(topic, code));
                    }
                    tracing::debug!(topic, partition, %error, "reading goes on");
                }
            }
        }
    }

    fn watermarks(
        &self,
        topic: &str,
        partition: i32,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<(i64, i64)> {
        let mut patience = Patience::new();
        loop {
            tick()?;
            let answer = self
                .consumer
                .fetch_watermarks(topic, partition, patience.more());
            match answer {
                Ok(watermarks) => return Ok(watermarks),
                Err(error) => match final_code(&error) {
                    Some(code) => return Err(self.refused(topic, code)),
                    // Serves events, and pauses before the question is put again.
                    None => drop(self.poll(POLL)),
                },
            }
        }
    }

    fn metadata(&self, topic: &str, tick: &mut dyn FnMut() -> Result<()>) -> Result<Metadata> {
        let deadline = Instant::now() + DESCRIBE;
        let mut patience = Patience::new();
        loop {
            tick()?;
            let answer = self.consumer.fetch_metadata(Some(topic), patience.more());
            match answer {
                Ok(metadata) => return Ok(metadata),
                Err(error) if Instant::now() >= deadline => return Err(self.failed(topic, &error)),
                Err(_) => drop(self.poll(POLL)),
            }
        }
    }

    fn failed(&self, topic: &str, error: &KafkaError) -> Error {
        Error::new(
            ErrorKind::Disconnected,
            format!(
                "cannot read topic \"{topic}\" from Kafka at {}",
                self.connection.brokers()
            ),
        )
        .with_source(error.clone())
    }

    fn refused(&self, topic: &str, code: RDKafkaErrorCode) -> Error {
        self.refusal(&format!("topic \"{topic}\""), code)
    }

    /// librdkafka does not say which topic an error is about.
    fn refused_any(&self, topics: &[String], code: RDKafkaErrorCode) -> Error {
        match topics {
            [topic] => self.refused(topic, code),
            topics => self.refusal(&format!("one of the topics {topics:?}"), code),
        }
    }

    fn refusal(&self, name: &str, code: RDKafkaErrorCode) -> Error {
        let brokers = self.connection.brokers();
        match code {
            RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition => {
                Error::failed(format!("{name} does not exist in Kafka at {brokers}"))
                    .with_hint(format!("List what there is: {}", self.listing))
            }
            RDKafkaErrorCode::TopicAuthorizationFailed => {
                Error::failed(format!("{name} may not be read"))
                    .with_source(code)
                    .with_hint("Allow the user Read and Describe on the topic (kafka-acls.sh).")
            }
            code => Error::failed(format!("{name} cannot be read from Kafka at {brokers}"))
                .with_source(code),
        }
    }
}

/// Calls a caller's `tick` often enough, and not for every message.
pub(crate) struct Pace {
    last: Instant,
}

impl Pace {
    /// Between two calls. With a wait of [`POLL`] between two looks it stays below a second.
    const INTERVAL: Duration = Duration::from_millis(400);

    pub(crate) fn new() -> Self {
        Pace {
            last: Instant::now(),
        }
    }

    /// Calls `tick` if it is due.
    ///
    /// # Errors
    /// What `tick` returns.
    pub(crate) fn keep(&mut self, tick: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        if self.last.elapsed() >= Self::INTERVAL {
            tick()?;
            self.last = Instant::now();
        }
        Ok(())
    }
}

/// The code of an error after which a topic cannot be read; none where reading goes on by
/// itself. Among the latter is a refused group: librdkafka asks for the group's coordinator
/// though no group is used, and users without that permission can still read.
fn final_code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    let code = error.rdkafka_error_code()?;
    let is_final = kafka::of(code) != Remedy::Retry && !is_about_groups(code);
    let last = is_final || matches!(error, KafkaError::MessageConsumptionFatal(_));
    last.then_some(code)
}

fn is_about_groups(code: RDKafkaErrorCode) -> bool {
    code == RDKafkaErrorCode::GroupAuthorizationFailed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_ends_no_reading_and_a_missing_topic_does() {
        use RDKafkaErrorCode as Code;
        for code in [
            Code::BrokerTransportFailure,
            Code::AllBrokersDown,
            Code::Resolve,
            Code::OperationTimedOut,
            Code::LeaderNotAvailable,
            Code::NotLeaderForPartition,
            Code::GroupAuthorizationFailed,
        ] {
            assert_eq!(
                final_code(&KafkaError::MessageConsumption(code)),
                None,
                "{code:?}"
            );
        }
        for code in [
            Code::UnknownTopicOrPartition,
            Code::TopicAuthorizationFailed,
        ] {
            assert_eq!(
                final_code(&KafkaError::MessageConsumption(code)),
                Some(code)
            );
        }
        let fatal = KafkaError::MessageConsumptionFatal(Code::OutOfOrderSequenceNumber);
        assert_eq!(final_code(&fatal), Some(Code::OutOfOrderSequenceNumber));
    }
}
