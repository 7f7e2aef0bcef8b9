//! What librdkafka is told.
//!
//! A property of the user wins over every default here, under whichever of its names
//! it was given: librdkafka knows several properties by two names, and rdkafka keeps
//! them in a hash map and so applies them in any order, so aliases are resolved first.
//! Two things are not for choice, since the promise of no lost and no reordered record
//! rests on them: idempotence with `acks=all`, and a partition that follows from the key.

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;

use super::{KafkaOptions, Property, login};
use crate::config::secret::is_secret_property;
use crate::error::{Error, ErrorKind, Result};

/// What a producer may hold that the broker has not acknowledged, unless
/// `queue.buffering.max.kbytes` says otherwise. An idempotent producer of librdkafka has one
/// request of at most a megabyte (`batch.size`) under way for a partition: it holds
/// messages in flight against its limit of five requests (`rktp_msgs_inflight` in
/// rdkafka_broker.c). Measured with 250-byte rows into one partition over loopback: 4, 8, 16,
/// 32 and 128 MiB carried the same number of records a second, within noise; 8 MiB took a tenth
/// less CPU than 16. It is some 8,000 such records a round trip: more for many partitions
/// behind a slow network.
const DEFAULT_MEMORY_BYTES: u64 = 8 << 20;

/// How long a record waits for company, in milliseconds. Under load a batch is full
/// before (`batch.size`, a megabyte): 1, 2, 5 and 20 ms carried the same number of records a
/// second. At 50,000 a second 2 ms cost client and broker less than half of what 0 ms did, and
/// 5 ms a fifth less again, for latency that users would feel. A record that comes alone does
/// not wait for it (`sink::kafka::hurry`).
const LINGER_MS: &str = "2";

/// librdkafka's own `batch.size`.
const DEFAULT_BATCH_BYTES: u64 = 1_000_000;

/// librdkafka's largest `message.max.bytes`.
const MESSAGE_MAX_BYTES: u64 = 1_000_000_000;

/// Two names of one property: what users write, what is set.
const ALIASES: [(&str, &str); 8] = [
    ("queue.buffering.max.ms", "linger.ms"),
    ("compression.codec", "compression.type"),
    ("request.required.acks", "acks"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("message.send.max.retries", "retries"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("fetch.message.max.bytes", "max.partition.fetch.bytes"),
    ("sasl.mechanism", "sasl.mechanisms"),
];

/// librdkafka's names of the brokers. They are an option here: a property in a file would win over
/// the brokers of a command line.
const BROKERS: [&str; 2] = ["bootstrap.servers", "metadata.broker.list"];

/// What a producer is given unless the user says otherwise.
const PRODUCER_DEFAULTS: [(&str, &str); 7] = [
    // A million 250-byte rows as JSON: 325 MB plain, 121 MB by lz4, 62 MB by zstd. lz4 took
    // less CPU than sending them plain, here and in the broker; zstd a fifth more.
    ("compression.type", "lz4"),
    ("linger.ms", LINGER_MS),
    // As Java's producers place keys, so that topics can be joined.
    ("partitioner", "murmur2_random"),
    // For ever: an outage delays records, it does not lose them.
    ("message.timeout.ms", "0"),
    // The topic's limit decides, which the sink knows; this one would be before compression.
    ("message.max.bytes", "1000000000"),
    // A broker that was away is found again within two seconds, not ten.
    ("reconnect.backoff.max.ms", "2000"),
    // A topic that the broker makes up would not be compacted.
    ("allow.auto.create.topics", "false"),
];

/// What a reader of whole partitions is given unless the user says otherwise.
const READER_DEFAULTS: [(&str, &str); 6] = [
    // Partitions are assigned, no group is ever joined; librdkafka wants a name.
    ("group.id", "headwater"),
    ("isolation.level", "read_committed"),
    // Read ahead 16 MiB or 20,000 records (each takes some 300 bytes beside its own), and
    // look soon whether there is room to go on: the default of a second made a sweep of
    // a million rows wait six seconds of seven.
    ("queued.max.messages.kbytes", "16384"),
    ("queued.min.messages", "20000"),
    ("fetch.queue.backoff.ms", "5"),
    ("reconnect.backoff.max.ms", "2000"),
];

/// What a reader needs whatever the user says.
const READER_NEEDS: [(&str, &str); 5] = [
    ("allow.auto.create.topics", "false"),
    ("enable.partition.eof", "true"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "earliest"),
];

/// Takes `KEY=VALUE` apart, for the command line.
///
/// # Errors
/// A sentence when there is no `=` or nothing before it, or it names the brokers.
pub fn parse_property(text: &str) -> Result<Property, String> {
    match text.split_once('=') {
        Some((key, _)) if BROKERS.contains(&key.trim()) => {
            Err("use --brokers, which is the option for it".to_owned())
        }
        Some((key, value)) if !key.trim().is_empty() => Ok(Property::new(key.trim(), value)),
        _ => Err("expected KEY=VALUE, as in compression.type=zstd".to_owned()),
    }
}

/// Has librdkafka judge a property by itself, where it is told of it.
///
/// # Errors
/// Of kind `Usage` when it knows no such property, or does not take the value; and where it names
/// the brokers.
pub(crate) fn check_property(name: &str, value: &str) -> Result<()> {
    if BROKERS.contains(&name) {
        let what = format!("{name} is not taken as a property");
        let error = Error::new(ErrorKind::Usage, what);
        return Err(error.with_hint(
            "Use brokers: -b, HEADWATER_BROKERS, or the key of the file before its tables.",
        ));
    }
    if login::carries_out(name) {
        return Ok(());
    }
    let mut config = ClientConfig::new();
    config.set(resolve_alias(name), value);
    match config.create_native_config() {
        Ok(_) => Ok(()),
        Err(error) => Err(creation_error(&error)),
    }
}

impl KafkaOptions {
    /// The brokers asked first.
    pub(crate) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// The last value given to a property under any of its names.
    pub(crate) fn property(&self, canonical: &str) -> Option<&str> {
        self.given(canonical).map(|property| &*property.value)
    }

    /// Whether a property has this value, in upper or lower case.
    pub(crate) fn is(&self, canonical: &str, value: &str) -> bool {
        self.property(canonical)
            .is_some_and(|own| own.eq_ignore_ascii_case(value))
    }

    /// The same as [`Self::property`], with the name and the place that it was given by.
    pub(crate) fn given(&self, canonical: &str) -> Option<&Property> {
        let mut properties = self.properties.iter().rev();
        properties.find(|property| resolve_alias(&property.name) == canonical)
    }

    /// Whether the user said how long records wait for company.
    pub(crate) fn lingers_as_told(&self) -> bool {
        self.property("linger.ms").is_some()
    }

    /// A client that only asks and administers.
    pub(crate) fn admin_config(&self) -> ClientConfig {
        let mut config = self.config(&[]);
        config.set("allow.auto.create.topics", "false");
        config
    }

    /// A producer that loses and reorders nothing.
    ///
    /// # Errors
    /// Of kind `Usage` where a property would weaken that.
    pub(crate) fn producer_config(&self) -> Result<ClientConfig> {
        self.refuse_weaker()?;
        let mut config = self.config(&PRODUCER_DEFAULTS);
        config.set("enable.idempotence", "true");
        config.set("acks", "all");
        // The sink keeps the limits itself, since librdkafka does not count all that a
        // record takes: its own must not come first.
        config.set("queue.buffering.max.kbytes", "2147483647");
        config.set("queue.buffering.max.messages", "0");
        Ok(config)
    }

    /// A consumer of assigned partitions, up to what is committed.
    pub(crate) fn reader_config(&self, reading: Reading) -> ClientConfig {
        let mut config = self.config(&READER_DEFAULTS);
        if reading == Reading::Own {
            config.set("isolation.level", "read_committed");
        }
        if reading != Reading::Following {
            // The end of a partition is known by an empty answer, which the broker holds
            // back for so long. Ten milliseconds made a sweep take 30 for each partition.
            config.set("fetch.wait.max.ms", "1");
        }
        for (name, value) in READER_NEEDS {
            config.set(name, value);
        }
        config
    }

    fn config(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers);
        config.set("client.id", "headwater");
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        for Property { name, value, .. } in &self.properties {
            if !login::is_ours_alone(self, name) {
                config.set(resolve_alias(name), value);
            }
        }
        config.set_log_level(log_level());
        config
    }

    /// Refuses what would weaken the promise.
    ///
    /// # Errors
    /// Of kind `Usage`, with where the property is from.
    pub(crate) fn refuse_weaker(&self) -> Result<()> {
        for name in DECIDED {
            if let Some(property) = self.given(name)
                && let Some(why) = weakness(name, &property.value)
            {
                let error = Error::new(ErrorKind::Usage, format!("{property} {why}"));
                return Err(error.with_hint(format!("Leave {} out.", property.name)));
            }
        }
        Ok(())
    }
}

/// The properties that the promise of no lost and no reordered record rests on.
const DECIDED: [&str; 5] = [
    "allow.auto.create.topics",
    "enable.idempotence",
    "acks",
    "partitioner",
    "transactional.id",
];

/// What a value of one of [`DECIDED`] would do to that promise.
fn weakness(name: &str, value: &str) -> Option<&'static str> {
    match (name, value) {
        ("enable.idempotence", "true")
        | ("acks", "all" | "-1")
        | ("allow.auto.create.topics", "false") => None,
        ("allow.auto.create.topics", _) => {
            Some("would let a broker make topics that delete records by age")
        }
        ("enable.idempotence", _) => Some("would let a retry write records twice or out of order"),
        ("acks", _) => Some("would report records as delivered that a broker can still lose"),
        ("partitioner", "random") => {
            Some("would scatter the records of a key, so that they lose their order")
        }
        ("transactional.id", _) => Some("would open a transaction that nothing commits"),
        _ => None,
    }
}

/// What a reader is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The client's own decisions: whole partitions, and committed records alone.
    Own,
    /// A person: whole partitions.
    Whole,
    /// A person: whatever comes, for as long as it comes.
    Following,
}

/// How much may be in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Of memory.
    pub(crate) bytes: u64,
    /// Of any size.
    pub(crate) records: u64,
}

/// What may be in flight: `queue.buffering.max.kbytes` (8 MiB unless set) and
/// `queue.buffering.max.messages` (no bound of its own unless set).
///
/// # Errors
/// Of kind `Usage` where a property is not a number from 1 to 2147483647.
pub(crate) fn in_flight_limit(options: &KafkaOptions) -> Result<Limit> {
    let number = |name: &str| match options.given(name) {
        None => Ok(None),
        Some(property) => match property.value.parse::<u64>() {
            Ok(number @ 1..=2_147_483_647) => Ok(Some(number)),
            _ => Err(Error::new(
                ErrorKind::Usage,
                format!("{property} is not a number from 1 to 2147483647"),
            )),
        },
    };
    let kib = number("queue.buffering.max.kbytes")?;
    let records = number("queue.buffering.max.messages")?;
    Ok(Limit {
        bytes: kib.map_or(DEFAULT_MEMORY_BYTES, |kib| kib << 10),
        records: records.unwrap_or(u64::MAX),
    })
}

/// What a producer may gather in one batch and send in one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordLimit {
    /// `batch.size`: a batch of several records has no more bytes, compressed or not. A record
    /// above it makes a batch alone.
    pub(crate) batch: u64,
    /// `message.max.bytes`: a record of more bytes, uncompressed, is not accepted.
    pub(crate) record: u64,
    /// Whether a batch can be smaller when it is sent than the records in it.
    pub(crate) is_compressed: bool,
}

/// What the producer of these options gathers and accepts.
///
/// # Errors
/// Of kind `Usage` where a property is not a number.
pub(crate) fn record_limit(options: &KafkaOptions) -> Result<RecordLimit> {
    let config = options.config(&PRODUCER_DEFAULTS);
    let number = |name: &str, default: u64| match options.given(name) {
        None => Ok(default),
        Some(property) => property.value.parse().map_err(|_| {
            Error::new(
                ErrorKind::Usage,
                format!("{property} is not a number of bytes"),
            )
        }),
    };
    Ok(RecordLimit {
        batch: number("batch.size", DEFAULT_BATCH_BYTES)?,
        record: number("message.max.bytes", MESSAGE_MAX_BYTES)?,
        is_compressed: config.get("compression.type") != Some("none"),
    })
}

/// What librdkafka said when a client could not be made: properties are checked then.
pub(crate) fn creation_error(error: &KafkaError) -> Error {
    let message = match error {
        KafkaError::ClientConfig(_, _, name, _) if is_secret_property(name) => {
            format!("Kafka refuses the value of the property {name}")
        }
        KafkaError::ClientConfig(_, reason, name, _) => {
            format!("Kafka refuses the property {name}: {reason}")
        }
        KafkaError::ClientCreation(reason) => {
            format!("Kafka's client cannot be set up: {reason}")
        }
        other => format!("Kafka's client cannot be set up: {other}"),
    };
    Error::new(ErrorKind::Usage, message)
        .with_hint("Properties are librdkafka's, as its CONFIGURATION.md lists them.")
}

fn resolve_alias(name: &str) -> &str {
    ALIASES
        .iter()
        .find(|(alias, _)| *alias == name)
        .map_or(name, |(_, canonical)| canonical)
}

/// What librdkafka logs is kept for those who ask for it; building its lines costs.
fn log_level() -> RDKafkaLogLevel {
    if tracing::enabled!(target: "librdkafka", tracing::Level::DEBUG) {
        RDKafkaLogLevel::Debug
    } else {
        RDKafkaLogLevel::Warning
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cli::KafkaArguments;

    fn options(properties: &[(&str, &str)]) -> KafkaOptions {
        KafkaOptions::of("one:9092", properties)
    }

    #[test]
    fn a_property_of_the_user_wins_under_either_of_its_names() {
        for name in ["linger.ms", "queue.buffering.max.ms"] {
            let config = options(&[(name, "77")]).producer_config().unwrap();
            assert_eq!(config.get("linger.ms"), Some("77"), "{name}");
            assert_eq!(config.get("queue.buffering.max.ms"), None, "{name}");
        }
    }

    #[test]
    fn brokers_are_an_option_and_no_property() {
        for name in BROKERS {
            let error = check_property(name, "prod:9092").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{name}");
            assert!(error.to_string().contains(name), "{error}");
            let said = parse_property(&format!("{name}=prod:9092")).unwrap_err();
            assert!(said.contains("--brokers"), "{said}");
        }
    }

    #[test]
    fn the_last_of_two_values_counts() {
        let options = options(&[("acks", "1"), ("request.required.acks", "all")]);
        assert!(options.producer_config().is_ok());
    }

    #[test]
    fn what_could_lose_or_reorder_records_is_refused() {
        for (name, value) in [
            ("enable.idempotence", "false"),
            ("acks", "1"),
            ("acks", "0"),
            ("request.required.acks", "1"),
            ("partitioner", "random"),
            ("transactional.id", "mine"),
            ("allow.auto.create.topics", "true"),
        ] {
            let error = options(&[(name, value)]).producer_config().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{name}={value}");
            assert!(error.to_string().contains(value), "{error}");
        }
        for (name, value) in [
            ("acks", "-1"),
            ("acks", "all"),
            ("enable.idempotence", "true"),
        ] {
            let config = options(&[(name, value)]).producer_config();
            assert!(config.is_ok(), "{name}={value} was refused");
        }
    }

    #[test]
    fn every_default_is_a_property_that_librdkafka_knows() {
        let options = options(&[]);
        options
            .producer_config()
            .unwrap()
            .create_native_config()
            .unwrap();
        for reading in [Reading::Own, Reading::Whole, Reading::Following] {
            let config = options.reader_config(reading);
            config.create_native_config().unwrap();
        }
        options.admin_config().create_native_config().unwrap();
    }

    #[test]
    fn what_the_client_decides_by_is_committed_whatever_the_user_reads() {
        let options = options(&[("isolation.level", "read_uncommitted")]);
        for (reading, level) in [
            (Reading::Own, "read_committed"),
            (Reading::Whole, "read_uncommitted"),
        ] {
            let config = options.reader_config(reading);
            assert_eq!(config.get("isolation.level"), Some(level), "{reading:?}");
        }
    }

    #[test]
    fn the_limits_of_memory_and_records_are_the_users() {
        let limit = |properties: &[(&str, &str)]| in_flight_limit(&options(properties));
        let default = limit(&[]).unwrap();
        assert_eq!(
            (default.bytes, default.records),
            (DEFAULT_MEMORY_BYTES, u64::MAX)
        );
        let given = limit(&[
            ("queue.buffering.max.kbytes", "1024"),
            ("queue.buffering.max.messages", "7"),
        ]);
        assert_eq!(
            given.unwrap(),
            Limit {
                bytes: 1 << 20,
                records: 7
            }
        );
        for text in ["0", "-1", "", "1k", "2147483648"] {
            let error = limit(&[("queue.buffering.max.kbytes", text)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{text:?}");
        }
    }

    #[test]
    fn records_are_compressed_and_bounded_by_their_topic_alone_unless_told_otherwise() {
        let limit = |properties: &[(&str, &str)]| record_limit(&options(properties)).unwrap();
        let default = RecordLimit {
            batch: 1_000_000,
            record: 1_000_000_000,
            is_compressed: true,
        };
        assert_eq!(limit(&[]), default);
        let given = limit(&[
            ("compression.codec", "none"),
            ("batch.size", "2000"),
            ("message.max.bytes", "3000"),
        ]);
        let expected = RecordLimit {
            batch: 2000,
            record: 3000,
            is_compressed: false,
        };
        assert_eq!(given, expected);
        let error = record_limit(&options(&[("batch.size", "some")])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }

    #[test]
    fn a_bad_property_is_named_and_a_secret_is_not_shown() {
        let failure = |name, value| {
            let config = options(&[(name, value)]).producer_config().unwrap();
            let error = config.create_native_config().err().unwrap();
            creation_error(&error).to_string()
        };
        assert!(failure("no.such.property", "1").contains("no.such.property"));
        assert!(failure("linger.ms", "soon").contains("linger.ms"));
        let error = KafkaError::ClientConfig(
            rdkafka::types::RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
            "Invalid value \"hunter2\"".to_owned(),
            "sasl.password".to_owned(),
            "hunter2".to_owned(),
        );
        let message = creation_error(&error).to_string();
        assert!(!message.contains("hunter2"), "{message}");
    }

    #[test]
    fn properties_are_taken_apart_at_the_first_equals_sign() {
        assert_eq!(
            parse_property("sasl.password=a=b"),
            Ok(Property::new("sasl.password", "a=b"))
        );
        for text in ["", "linger.ms", "=5"] {
            assert!(parse_property(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn passwords_are_not_part_of_the_options_debug_form() {
        let options = options(&[("sasl.password", "hunter2")]);
        let arguments = KafkaArguments {
            brokers: options.brokers.clone(),
            properties: options.properties.clone(),
        };
        for text in [format!("{options:?}"), format!("{arguments:?}")] {
            assert!(!text.contains("hunter2"), "{text}");
            assert!(text.contains("sasl.password"), "{text}");
        }
    }
}
