//! Builds the sink and the state's store that the command line asks for.

use std::sync::Arc;

use crate::cli::{FormatMode, KafkaArguments, SinkKind, StreamOptions};
use crate::error::Result;
use crate::kafka::KafkaOptions;
use crate::log;
use crate::metrics::Metrics;
use crate::registry::{self, Registrar, Registry};
use crate::sink::{KafkaSink, Sink, StdoutSink};
use crate::state::{KafkaSchemaIds, KafkaState, SchemaIds, StateKey, StateStore};
use crate::stop::Stop;

/// Where records go.
pub fn sink(options: &StreamOptions) -> Result<Arc<dyn Sink>> {
    Ok(match options.sink {
        SinkKind::Stdout => Arc::new(StdoutSink::open()?),
        SinkKind::Kafka => Arc::new(KafkaSink::connect(&kafka_options(options))?),
    })
}

/// Where the state of the stream of `slot` in `database` is kept; a sink without memory
/// has no such place.
pub fn state_store(
    sink: SinkKind,
    kafka: &KafkaOptions,
    prefix: &str,
    database: &str,
    slot: &str,
) -> Result<Option<Box<dyn StateStore>>> {
    if sink == SinkKind::Stdout {
        return Ok(None);
    }
    let key = state_key(prefix, database, slot);
    Ok(Some(Box::new(KafkaState::connect(kafka, &key)?)))
}

/// Where the schema ids of the stream of `slot` in `database` are kept, beside its state.
pub fn schema_ids(
    sink: SinkKind,
    kafka: &KafkaOptions,
    prefix: &str,
    database: &str,
    slot: &str,
) -> Result<Option<Box<dyn SchemaIds>>> {
    if sink == SinkKind::Stdout {
        return Ok(None);
    }
    let key = state_key(prefix, database, slot);
    Ok(Some(Box::new(KafkaSchemaIds::connect(kafka, &key)?)))
}

/// Asks for the ids that records begin with; none where they begin with none.
pub fn registrar(
    options: &StreamOptions,
    database: &str,
    stop: &Stop,
    metrics: &Metrics,
) -> Result<Option<Registrar>> {
    if options.format == FormatMode::Json {
        return Ok(None);
    }
    let registry = Registry::new(&options.registry)?.ok_or_else(registry::missing)?;
    registry.exposed_login().iter().for_each(log::warn);
    registry.probe()?;
    let ids = schema_ids(
        options.sink,
        &kafka_options(options),
        &options.topic_prefix,
        database,
        &options.slot,
    )?;
    Registrar::start(registry, ids, stop, metrics).map(Some)
}

fn state_key(prefix: &str, database: &str, slot: &str) -> StateKey {
    StateKey {
        prefix: prefix.to_owned(),
        database: database.to_owned(),
        slot: slot.to_owned(),
    }
}

/// The cluster and how topics are made there.
pub fn kafka_options(options: &StreamOptions) -> KafkaOptions {
    KafkaOptions {
        partitions: options.topic_partitions,
        replication: options.topic_replication,
        create_topics: !options.no_create_topics,
        headers: options.headers,
        ..cluster(&options.kafka)
    }
}

/// The cluster alone, for commands that make no topics of their own.
pub fn cluster(kafka: &KafkaArguments) -> KafkaOptions {
    KafkaOptions {
        brokers: kafka.brokers.clone(),
        properties: kafka.properties.clone(),
        partitions: None,
        replication: None,
        create_topics: true,
        headers: true,
    }
}
