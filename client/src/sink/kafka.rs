//! The Kafka sink: an idempotent producer with `acks=all`.
//!
//! ```text
//!  senders: charge ── headers ── rd_kafka_producev ──► broker threads ──► Kafka
//!              ▲                                            │
//!           in_flight  ◄── the delivery thread ◄── delivery reports
//!              │
//!  deliveries / wait / flush
//!
//!  hurry ── the hurry thread ── rd_kafka_flush: what waits for company is sent now
//! ```
//!
//! **Order.** librdkafka numbers the batches of a partition and the broker refuses gaps, so
//! retries neither repeat nor reorder records; records of one key share a partition, and so
//! keep the order in which one thread sent them.
//!
//! **Nothing is lost in an outage.** Records are retried for ever (`message.timeout.ms=0`).
//! What ends a record is a broker that refuses it; then the sink fails as a whole, the
//! record's token is never reported, and the source sends it again after a restart.
//!
//! **Sizes.** A record that its topic does not take is found before anything follows it: [`size`]
//! and [`alone`].
//!
//! **One call a record.** A record costs one copy into librdkafka, its headers, one opaque
//! number that comes back with the report, and no allocation or future of our own.

mod alone;
mod dead_letter;
mod failure;
mod headers;
mod hurry;
mod in_flight;
mod search;
mod size;
mod sweep;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::Message;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

pub(crate) use self::headers::{lacks_columns, read_lsn};

use self::failure::Failure;
use self::hurry::Hurry;
use self::in_flight::InFlight;
use self::size::{Fit, OpenTopic};
use crate::error::{Error, Result};
use crate::kafka::{
    Connection, KafkaOptions, Patience, Purpose, RecordLimit, TopicMaker, in_flight_limit,
    producer, record_limit,
};
use crate::sink::{
    DeadLetter, Delivered, GhostSearch, Ghosts, Headers, Keying, Load, Record, SendError, Sink,
    Token, TopicId, Verdict,
};
use crate::state::STATE_TOPIC;

/// What a record takes beside its key, its value and `hw.unchanged`: librdkafka's message,
/// its list of headers and five headers, each allocated for itself.
const RECORD_OVERHEAD_BYTES: u64 = 700;

/// How long the delivery thread waits for reports before it looks whether it is to end.
const POLL: Duration = Duration::from_millis(100);

/// No report for so long, with records in flight, is an outage. A broker answers within
/// milliseconds; electing a new leader takes a few seconds.
const STALL: Duration = Duration::from_secs(10);

/// How often the brokers are asked in an outage while nothing is in flight.
const PROBE: Duration = Duration::from_secs(1);

// Tokens travel as pointer-sized opaques.
const _: () = assert!(usize::BITS >= u64::BITS);

/// Records into Kafka topics.
pub struct KafkaSink {
    options: KafkaOptions,
    producer: Arc<BaseProducer<Reports>>,
    topics: RwLock<Vec<Arc<OpenTopic>>>,
    limit: RecordLimit,
    /// Held by the one who sends a record alone.
    alone: Mutex<()>,
    /// What each was opened for last.
    opened: Mutex<HashMap<String, (TopicId, Keying)>>,
    maker: Arc<TopicMaker>,
    thread: Option<DeliveryThread>,
    /// None where the user said how long records linger.
    hurry: Option<Hurry>,
}

struct DeliveryThread {
    stop: Arc<AtomicBool>,
    handle: JoinHandle<()>,
}

/// What librdkafka calls back.
struct Reports {
    connection: Connection,
    in_flight: InFlight,
    headers: bool,
}

impl KafkaSink {
    /// Connects, waiting at most ten seconds for the cluster's first answer.
    ///
    /// # Errors
    /// Of kind `Usage` where a property is unknown or would weaken what the sink promises;
    /// of kind `Disconnected`, naming the brokers, where none answers; `Failed` where they
    /// refuse the login.
    pub fn connect(options: &KafkaOptions) -> Result<Self> {
        let reports = Reports {
            connection: Connection::herald(options)?,
            in_flight: InFlight::new(in_flight_limit(options)?),
            headers: options.headers,
        };
        let limit = record_limit(options)?;
        let config = options.producer_config()?;
        let producer = producer(&config, reports, |reports| &reports.connection, STATE_TOPIC)?;
        let producer = Arc::new(producer);
        let maker = Arc::new(TopicMaker::new(options));
        let hurry = match options.lingers_as_told() {
            true => None,
            false => Some(Hurry::new(Arc::clone(&producer))?),
        };
        let thread = DeliveryThread::start(Arc::clone(&producer), Arc::clone(&maker))?;
        Ok(KafkaSink {
            options: options.clone(),
            producer,
            topics: RwLock::default(),
            limit,
            alone: Mutex::default(),
            opened: Mutex::default(),
            maker,
            thread: Some(thread),
            hurry,
        })
    }

    fn in_flight(&self) -> &InFlight {
        &self.producer.context().in_flight
    }

    /// Sends a record with others; `partition` overrides the partitioner.
    fn produce(
        &self,
        record: &Record<'_>,
        token: Token,
        partition: Option<i32>,
    ) -> Result<(), SendError> {
        let unchanged = headers::unchanged_text(record.headers.unchanged);
        let headers = self.written(&record.headers, unchanged.as_deref());
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let topic = topics
            .get(record.topic.0 as usize)
            .ok_or_else(|| SendError::Failed(never_opened(record.topic)))?;
        if !self.fits(record, topic, headers.as_ref(), unchanged.as_deref()) {
            return Err(SendError::Large);
        }
        self.hand_over(
            &topic.name,
            record.key,
            record.value,
            headers,
            token,
            partition,
        )
    }

    fn written(&self, facts: &Headers<'_>, unchanged: Option<&str>) -> Option<OwnedHeaders> {
        let is_on = self.options.headers;
        is_on.then(|| headers::write(facts, unchanged))
    }

    /// Whether the topic takes the record whatever becomes of it.
    fn fits(
        &self,
        record: &Record<'_>,
        topic: &OpenTopic,
        headers: Option<&OwnedHeaders>,
        unchanged: Option<&str>,
    ) -> bool {
        let limit = topic.limit();
        let bound = limit.unwrap_or(size::ASSUMED).min(self.limit.record);
        let [key, value] = [record.key, record.value].map(|part| part.map_or(0, <[u8]>::len));
        size::is_surely_within(bound, key, value, unchanged.map_or(0, str::len)) || {
            let bytes = size::alone(
                record,
                headers::lengths(headers.map(|own| own.as_borrowed())),
            );
            size::fit(bytes, limit, self.limit) == Fit::Sure
        }
    }

    /// Hands a record to librdkafka.
    fn hand_over(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: Option<OwnedHeaders>,
        token: Token,
        partition: Option<i32>,
    ) -> Result<(), SendError> {
        if let Some(failure) = self.in_flight().failure() {
            return Err(SendError::Failed(self.error(&failure)));
        }
        let unchanged_bytes =
            headers::unchanged_bytes(headers.as_ref().map(|headers| headers.as_borrowed()));
        let lengths = [key, value].map(|part| part.map_or(0, <[u8]>::len));
        let charge = charge(lengths[0], lengths[1], unchanged_bytes);
        if !self.in_flight().charge(charge, token) {
            return Err(SendError::Full);
        }
        let produced = self.producer.send(BaseRecord {
            topic,
            partition,
            payload: value,
            key,
            timestamp: None,
            headers,
            delivery_opaque: token.0 as usize,
        });
        let Err((error, _)) = produced else {
            return Ok(());
        };
        self.in_flight().discharge(charge, token);
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => Err(SendError::Full),
            // librdkafka counts a few bytes more than the record has.
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => Err(SendError::Large),
            code => Err(SendError::Failed(self.error(&Failure::Record {
                topic: topic.to_owned(),
                code: code.unwrap_or(RDKafkaErrorCode::Fail),
                bytes: lengths[0] + lengths[1],
            }))),
        }
    }

    fn topic(&self, topic: TopicId) -> Result<Arc<OpenTopic>> {
        self.topics
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(topic.0 as usize)
            .map(Arc::clone)
            .ok_or_else(|| never_opened(topic))
    }

    fn topic_name(&self, topic: TopicId) -> Result<String> {
        self.topic(topic).map(|topic| topic.name.clone())
    }

    /// Refuses a topic that takes less than the producer gathers: records that fit each for
    /// itself would be refused together.
    fn check_batches(&self, name: &str, limit: Option<u64>) -> Result<()> {
        let batch = self.limit.batch;
        match limit.filter(|limit| *limit < batch) {
            None => Ok(()),
            Some(limit) => Err(Error::failed(format!(
                "topic \"{name}\" takes batches of up to {limit} bytes (max.message.bytes), and the \
                 producer makes them of up to {batch} (batch.size)"
            ))
            .with_hint(format!(
                "Make batches smaller with -X batch.size={limit}, or raise the topic's limit: {}",
                self.options.raising(name, batch)
            ))),
        }
    }

    fn check(&self) -> Result<()> {
        match self.in_flight().failure() {
            Some(failure) => Err(self.error(&failure)),
            None => Ok(()),
        }
    }

    fn error(&self, failure: &Failure) -> Error {
        if let Some((code, reason)) = self.producer.client().fatal_error()
            && failure.wants_reason()
        {
            return Failure::Producer { code, reason }.to_error(&self.options, None);
        }
        let limit = failure
            .over_the_limit_of()
            .and_then(|topic| self.maker.max_message_bytes(topic));
        failure.to_error(&self.options, limit)
    }
}

impl Sink for KafkaSink {
    fn open_topic(&self, name: &str, keying: Keying) -> Result<TopicId> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        let known = opened.get(name).copied();
        // A table that loses its key may get another before its next row, and the broker
        // refuses that row if not. One that gets a key could lose its rows unnoticed.
        let needs_look = |known| known != keying && keying == Keying::Keyed;
        if let Some((topic, known)) = known
            && !needs_look(known)
        {
            opened.insert(name.to_owned(), (topic, keying));
            return Ok(topic);
        }
        let found = self
            .maker
            .ensure(self.producer.client(), name, Purpose::Records(keying))?;
        self.check_batches(name, found.max_message_bytes)?;
        if let Some((topic, _)) = known {
            self.topic(topic)?.learn(found.max_message_bytes);
            opened.insert(name.to_owned(), (topic, keying));
            return Ok(topic);
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let number = u32::try_from(topics.len())
            .map_err(|_| Error::failed(format!("too many topics to open \"{name}\"")))?;
        topics.push(Arc::new(OpenTopic::new(name, found.max_message_bytes)));
        opened.insert(name.to_owned(), (TopicId(number), keying));
        Ok(TopicId(number))
    }

    fn compacts(&self) -> bool {
        true
    }

    fn send(&self, record: &Record<'_>, token: Token) -> Result<(), SendError> {
        self.produce(record, token, None)
    }

    fn send_alone(
        &self,
        record: &Record<'_>,
        token: Token,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Verdict> {
        alone::send(self, record, token, tick)
    }

    fn send_dead_letter(&self, letter: &DeadLetter<'_>, token: Token) -> Result<(), SendError> {
        dead_letter::send(self, letter, token)
    }

    fn hurry(&self) {
        if let Some(hurry) = &self.hurry
            && self.in_flight().comes_alone()
        {
            hurry.up();
        }
    }

    fn load(&self) -> Load {
        let connection = &self.producer.context().connection;
        Load {
            answers: connection.answers(),
            outages: connection.outages(),
            connection_errors: connection.errors(),
            ..self.in_flight().load()
        }
    }

    fn deliveries(&self, into: &mut Vec<Delivered>) -> Result<()> {
        match self.in_flight().collect(into) {
            Some(failure) => Err(self.error(&failure)),
            None => Ok(()),
        }
    }

    fn wait(&self, timeout: Duration) {
        self.in_flight().wait(timeout);
    }

    fn flush(&self, timeout: Duration) -> Result<bool> {
        let empty = self.in_flight().wait_until_empty(timeout);
        self.check()?;
        Ok(empty)
    }

    fn sweep(
        &self,
        topic: TopicId,
        ghosts: Ghosts,
        headers: Headers<'_>,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<u64> {
        sweep::sweep(self, topic, ghosts, headers, tick)
    }

    fn search(
        &self,
        topic: TopicId,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Option<Box<dyn GhostSearch>>> {
        search::search(self, topic, tick)
    }

    fn send_to(&self, record: &Record<'_>, partition: i32, token: Token) -> Result<(), SendError> {
        self.produce(record, token, Some(partition))
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        drop(self.hurry.take());
        if let Some(thread) = self.thread.take() {
            thread.end();
        }
    }
}

impl DeliveryThread {
    fn start(producer: Arc<BaseProducer<Reports>>, maker: Arc<TopicMaker>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let handle = thread::Builder::new()
            .name("kafka-delivery".to_owned())
            .spawn(move || serve(&producer, &maker, &stopped))
            .map_err(|error| {
                Error::failed("cannot start the thread of delivery reports").with_source(error)
            })?;
        Ok(DeliveryThread { stop, handle })
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.handle.join().is_err() {
            tracing::error!("the thread of delivery reports panicked");
        }
    }
}

/// Takes delivery reports until it is told to stop.
fn serve(producer: &BaseProducer<Reports>, maker: &TopicMaker, stop: &AtomicBool) {
    let reports = producer.context();
    let mut taken = 0;
    let mut progressed = Instant::now();
    let mut probed = Instant::now();
    let mut patience = Patience::new();
    while !stop.load(Ordering::Relaxed) {
        // First, since it can take a while in which reports come.
        reports.connection.login().keep(producer.client());
        producer.poll(POLL);
        maker.rest();
        let now_taken = reports.in_flight.taken();
        if now_taken != taken || reports.in_flight.records() == 0 {
            taken = now_taken;
            progressed = Instant::now();
            // No report will tell that an outage is over where nothing waits for one.
            let is_idle = reports.in_flight.records() == 0;
            if is_idle && !reports.connection.answers() && probed.elapsed() > PROBE {
                reports
                    .connection
                    .probe(producer.client(), STATE_TOPIC, &mut patience);
                probed = Instant::now();
            }
        } else if progressed.elapsed() > STALL {
            reports
                .connection
                .lost("records are sent and not acknowledged");
        }
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        Connection::log(level, facility, line);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Fatal) {
            let code = RDKafkaErrorCode::Fatal;
            let reason = reason.to_owned();
            self.in_flight.ended(|| Failure::Producer { code, reason });
        }
        self.connection.error(&error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, token: usize) {
        let token = Token(token as u64);
        let message = match result {
            Ok(message) | Err((_, message)) => message,
        };
        let unchanged_bytes = if self.headers {
            headers::unchanged_bytes(message.headers())
        } else {
            0
        };
        let charge = charge(message.key_len(), message.payload_len(), unchanged_bytes);
        match result {
            Ok(_) => {
                self.connection.alive();
                let length = (message.key_len() + message.payload_len()) as u64;
                self.in_flight.delivered(charge, length, token);
            }
            Err((error, message)) => {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
                let failure = || Failure::Record {
                    topic: message.topic().to_owned(),
                    code,
                    bytes: message.key_len() + message.payload_len(),
                };
                match code {
                    RDKafkaErrorCode::MessageSizeTooLarge => {
                        self.in_flight.too_large(charge, token, failure);
                    }
                    _ => self.in_flight.failed(charge, token, failure),
                }
            }
        }
    }
}

fn never_opened(topic: TopicId) -> Error {
    Error::failed(format!("topic number {} was never opened", topic.0))
}

/// What a record takes, from being sent to being acknowledged. The same at both ends.
fn charge(key: usize, value: usize, unchanged: usize) -> u64 {
    (key + value + unchanged) as u64 + RECORD_OVERHEAD_BYTES
}
