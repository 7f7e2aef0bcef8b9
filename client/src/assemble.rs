//! Builds the sink and the state's store that the command line asks for.

use std::sync::Arc;

use crate::cli::{KafkaArguments, SinkKind, StreamOptions};
use crate::error::Result;
use crate::kafka::KafkaOptions;
use crate::sink::{KafkaSink, Sink, StdoutSink};
use crate::state::{KafkaState, StateKey, StateStore};

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
    let key = StateKey {
        prefix: prefix.to_owned(),
        database: database.to_owned(),
        slot: slot.to_owned(),
    };
    Ok(Some(Box::new(KafkaState::connect(kafka, &key)?)))
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
