//! The state in a compacted topic of one partition, beside the data.
//!
//! Several pipelines share the topic: each has its key. Reading takes the newest record of
//! the key up to the end of what is committed, so that an aborted transaction never counts.
//! Records go to partition 0 by number: a topic that somebody made with more partitions works.

mod newest;
pub mod record;
mod schema_ids;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use self::newest::Newest;
pub(crate) use self::newest::read_all;
pub use self::record::StateKey;
pub use self::schema_ids::KafkaSchemaIds;
use super::{State, StateStore};
use crate::error::{Error, ErrorKind, Result, kafka as kafka_errors};
use crate::kafka::{Connection, Existence, KafkaOptions, Purpose, TopicMaker, producer};

/// Where the state of every pipeline is kept.
pub(crate) const TOPIC: &str = "__headwater.state";

const PARTITION: i32 = 0;

/// How long a record may take to be acknowledged, retries included. The caller has a
/// connection to Postgres to keep alive meanwhile, which waits for 60 seconds.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one look for the acknowledgement takes: it comes within a few milliseconds.
const POLL: Duration = Duration::from_millis(2);

/// A [`StateStore`] over the topic `__headwater.state`.
pub struct KafkaState {
    writer: Writer,
    key: Vec<u8>,
    existence: Existence,
    /// Of this instance, from its first record on.
    epoch: Option<u64>,
    /// Of the record that was loaded last.
    loaded: Option<u64>,
}

/// Writes records of the topic, one after the other.
struct Writer {
    options: KafkaOptions,
    producer: BaseProducer<Reports>,
    /// Numbers what was written, to know its reports apart.
    stored: usize,
}

/// The newest report of the state's producer.
struct Reports {
    connection: Connection,
    newest: Mutex<Option<Report>>,
}

#[derive(Clone, Copy)]
struct Report {
    number: usize,
    outcome: Result<(), RDKafkaErrorCode>,
}

impl KafkaState {
    /// Connects, waiting at most ten seconds for an answer, and creates the topic if it is
    /// missing and topics may be created.
    ///
    /// # Errors
    /// Kafka does not answer; the topic is missing or cannot be created.
    pub fn connect(options: &KafkaOptions, key: &StateKey) -> Result<Self> {
        let (writer, existence) = Writer::connect(options)?;
        Ok(KafkaState {
            key: record::key(key)?,
            writer,
            existence,
            epoch: None,
            loaded: None,
        })
    }

    /// Writes a record of the key, none for a tombstone, and waits for its acknowledgement.
    fn write(&mut self, value: Option<&[u8]>) -> Result<()> {
        self.existence = Existence::Found;
        self.writer.write(&self.key, value)
    }
}

impl Writer {
    /// As [`KafkaState::connect`]; says whether the topic was there.
    fn connect(options: &KafkaOptions) -> Result<(Self, Existence)> {
        let mut config = options.producer_config()?;
        let timeout = STORE_TIMEOUT.as_millis().to_string();
        config.set("message.timeout.ms", timeout);
        config.set("linger.ms", "0");
        let reports = Reports {
            connection: Connection::silent(options)?,
            newest: Mutex::new(None),
        };
        let producer = producer(&config, reports, |reports| &reports.connection, TOPIC)?;
        let topic = TopicMaker::new(options).ensure(producer.client(), TOPIC, Purpose::State)?;
        let writer = Writer {
            options: options.clone(),
            producer,
            stored: 0,
        };
        Ok((writer, topic.existence))
    }

    /// Writes a record, none as its value for a tombstone, and waits for its acknowledgement.
    fn write(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<()> {
        let connection = &self.producer.context().connection;
        connection.login().keep(self.producer.client());
        self.stored += 1;
        let record = BaseRecord {
            topic: TOPIC,
            partition: Some(PARTITION),
            payload: value,
            key: Some(key),
            timestamp: None,
            headers: None,
            delivery_opaque: self.stored,
        };
        self.producer.send(record).map_err(|(error, _)| {
            self.not_stored(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail))
        })?;
        // librdkafka reports a failure at its own timeout; the rest is for the report itself.
        let deadline = Instant::now() + STORE_TIMEOUT + Duration::from_secs(2);
        loop {
            self.producer.poll(POLL);
            match *self.producer.context().lock() {
                Some(report) if report.number == self.stored => {
                    return report.outcome.map_err(|code| self.not_stored(code));
                }
                _ if Instant::now() < deadline => {}
                _ => return Err(self.not_stored(RDKafkaErrorCode::MessageTimedOut)),
            }
        }
    }

    fn not_stored(&self, code: RDKafkaErrorCode) -> Error {
        let kind = kafka_errors::of(code).kind();
        let hint = match kind {
            ErrorKind::Disconnected => "Kafka has to answer first.",
            _ => kafka_errors::cure(code).unwrap_or("Start again; nothing is lost."),
        };
        let brokers = self.options.brokers();
        let message =
            format!("the state was not stored in topic \"{TOPIC}\" of Kafka at {brokers}");
        Error::new(kind, message).with_source(code).with_hint(hint)
    }
}

impl KafkaState {
    fn newest(&mut self) -> Result<Newest> {
        // Only once: others may have written since.
        if std::mem::replace(&mut self.existence, Existence::Found) == Existence::Created {
            return Ok(Newest::default());
        }
        Newest::find(&self.writer.options, &self.key, &mut || Ok(()))
    }

    /// The epoch that this instance writes under: the next one, at its first record.
    fn epoch(&mut self) -> Result<u64> {
        match self.epoch {
            Some(epoch) => Ok(epoch),
            None => {
                let epoch = self.newest()?.epoch + 1;
                self.epoch = Some(epoch);
                Ok(epoch)
            }
        }
    }
}

impl StateStore for KafkaState {
    fn load(&mut self) -> Result<Option<State>> {
        let newest = self.newest()?;
        if self.epoch.is_some_and(|own| own < newest.epoch) {
            return Err(Error::new(
                ErrorKind::SlotInUse,
                format!("another instance goes on with the state in topic \"{TOPIC}\""),
            ));
        }
        self.loaded = Some(newest.epoch);
        newest.into_state()
    }

    fn store(&mut self, state: &State) -> Result<()> {
        let epoch = self.epoch()?;
        self.write(Some(&record::encode(state, epoch)?))
    }

    /// Each has an epoch of its own, one more than that of the last.
    fn starts(&self) -> Option<u64> {
        self.epoch.or(self.loaded)
    }

    fn clear(&mut self) -> Result<()> {
        (self.epoch, self.loaded) = (None, None);
        self.write(None)
    }
}

/// The newest state under `key`, none if nothing was ever stored or it was cleared, or if
/// there is no such topic. Nothing is made or written. `tick` is called at least every 2.5 seconds.
///
/// # Errors
/// Kafka does not answer, the topic may not be read, the record is of a newer release, or what
/// `tick` returns.
pub fn read(
    options: &KafkaOptions,
    key: &StateKey,
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<Option<State>> {
    Newest::find(options, &record::key(key)?, tick)?.into_state()
}

impl Reports {
    fn lock(&self) -> MutexGuard<'_, Option<Report>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        Connection::log(level, facility, line);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.connection.error(&error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        let outcome = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail)),
        };
        *self.lock() = Some(Report { number, outcome });
    }
}
