//! Topics as a consumer sees them.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::Kafka;
use crate::wait::SOON;

/// One record.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The partition that it lies in.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// The key as text.
    pub key: Option<String>,
    /// The value as text; none for a tombstone.
    pub value: Option<String>,
    /// The key's bytes.
    pub key_bytes: Option<Vec<u8>>,
    /// The value's bytes.
    pub bytes: Option<Vec<u8>>,
    /// The headers as text.
    pub headers: BTreeMap<String, String>,
}

impl Record {
    /// A header's value.
    ///
    /// # Panics
    ///
    /// If the record has no such header.
    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        match self.headers.get(name) {
            Some(value) => value,
            None => panic!("no header \"{name}\" on {self:?}"),
        }
    }

    fn of(message: &BorrowedMessage<'_>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = message.headers().map(|headers| {
            headers
                .iter()
                .map(|header| {
                    (
                        header.key.to_owned(),
                        text(header.value.unwrap_or_default()),
                    )
                })
                .collect()
        });
        Record {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(text),
            value: message.payload().map(text),
            key_bytes: message.key().map(<[u8]>::to_vec),
            bytes: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        }
    }
}

/// Key TAB value, as a console consumer prints it, and where it lies.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &Option<String>| bytes.clone().unwrap_or_else(|| "null".into());
        write!(
            f,
            "{}:{} {}\t{} {:?}",
            self.partition,
            self.offset,
            text(&self.key),
            text(&self.value),
            self.headers
        )
    }
}

/// Reads a topic from its beginning to the end that it has at the call. Records of one
/// partition are in their order.
///
/// # Panics
///
/// If there is no such topic or it cannot be read.
#[track_caller]
pub fn read(kafka: &Kafka, topic: &str) -> Vec<Record> {
    match try_read(kafka, topic) {
        Ok(records) => records,
        Err(e) => panic!("cannot read topic \"{topic}\": {e}"),
    }
}

/// As [`read`], with an error for a topic that is not there yet.
pub fn try_read(kafka: &Kafka, topic: &str) -> Result<Vec<Record>, KafkaError> {
    let mut records = Vec::new();
    for_each(kafka, topic, |message| records.push(Record::of(message)))?;
    Ok(records)
}

/// Reads several topics, which nobody writes to, to their ends, with one consumer.
///
/// # Panics
///
/// If one of them is missing or cannot be read.
#[track_caller]
pub fn read_all(kafka: &Kafka, topics: &[String]) -> BTreeMap<String, Vec<Record>> {
    let mut records: BTreeMap<String, Vec<Record>> = BTreeMap::new();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let result = consume(kafka, &topics, |message| {
        let of_topic = records.entry(message.topic().to_owned()).or_default();
        of_topic.push(Record::of(message));
    });
    if let Err(e) = result {
        panic!("cannot read {} topics: {e}", topics.len());
    }
    records
}

/// As [`try_read`], one record at a time: for topics that are larger than memory.
pub fn for_each(
    kafka: &Kafka,
    topic: &str,
    take: impl FnMut(&BorrowedMessage<'_>),
) -> Result<(), KafkaError> {
    consume(kafka, &[topic], take)
}

fn consume(
    kafka: &Kafka,
    topics: &[&str],
    mut take: impl FnMut(&BorrowedMessage<'_>),
) -> Result<(), KafkaError> {
    let consumer: BaseConsumer = kafka
        .config()
        .set("group.id", "headwater-tests")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("check.crcs", "true")
        .create()?;
    // Asking first spares librdkafka half a second of looking for the leaders.
    let asked = if let [topic] = topics {
        Some(*topic)
    } else {
        None
    };
    let metadata = consumer.fetch_metadata(asked, SOON)?;
    let mut assignment = TopicPartitionList::new();
    // By partition, for librdkafka's binding does not say the topic: how many are not at their ends.
    let mut unread: Vec<usize> = Vec::new();
    for topic in topics {
        let found = metadata.topics().iter().find(|it| it.name() == *topic);
        let partitions = found.map_or(0, |it| it.partitions().len() as i32);
        if partitions == 0 {
            return Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopic));
        }
        unread.resize(unread.len().max(partitions as usize), 0);
        for partition in 0..partitions {
            assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
            unread[partition as usize] += 1;
        }
    }
    consumer.assign(&assignment)?;

    let mut heard = Instant::now();
    while unread.iter().any(|&count| count > 0) {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                take(&message);
                heard = Instant::now();
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                // It is told again when more has come, to a topic that is written to.
                let count = &mut unread[partition as usize];
                *count = count.saturating_sub(1);
            }
            Some(Err(e)) => return Err(e),
            None if heard.elapsed() > SOON => {
                return Err(KafkaError::MessageConsumption(
                    RDKafkaErrorCode::OperationTimedOut,
                ));
            }
            None => {}
        }
    }
    Ok(())
}

/// Writes one record and waits for the broker's acknowledgement.
///
/// # Panics
///
/// If it is not acknowledged.
#[track_caller]
pub fn write(kafka: &Kafka, topic: &str, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
    let record = BaseRecord::to(topic).key(key.as_ref());
    produce(kafka, topic, record.payload(value.as_ref()));
}

/// Writes a tombstone and waits for the broker's acknowledgement.
///
/// # Panics
///
/// If it is not acknowledged.
#[track_caller]
pub fn bury(kafka: &Kafka, topic: &str, key: impl AsRef<[u8]>) {
    produce(kafka, topic, BaseRecord::to(topic).key(key.as_ref()));
}

#[track_caller]
fn produce(kafka: &Kafka, topic: &str, record: BaseRecord<'_, [u8], [u8]>) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", kafka.brokers())
        .set("partitioner", "murmur2_random")
        .create()
        .unwrap_or_else(|e| panic!("a producer: {e}"));
    producer
        .send(record)
        .unwrap_or_else(|(e, _)| panic!("a record for {topic}: {e}"));
    producer
        .flush(SOON)
        .unwrap_or_else(|e| panic!("a record for {topic}: {e}"));
}

/// What a compacted topic comes to: the newest value of each key, without tombstoned ones.
///
/// # Panics
///
/// If a record has no key, or a key's records lie in several partitions: then compaction
/// would not be this.
pub fn fold(records: &[Record]) -> BTreeMap<String, String> {
    let mut partition_of = BTreeMap::new();
    let mut folded = BTreeMap::new();
    for record in records {
        let Some(key) = &record.key else {
            panic!("no key: {record:?}");
        };
        let partition = *partition_of.entry(key).or_insert(record.partition);
        assert_eq!(
            partition, record.partition,
            "key in two partitions: {record:?}"
        );
        match &record.value {
            Some(value) => folded.insert(key.clone(), value.clone()),
            None => folded.remove(key),
        };
    }
    folded
}
