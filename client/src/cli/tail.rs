//! The options of `headwater tail`.

use clap::Args;

use super::{KafkaArguments, RegistryOptions};

/// Reads topics: key TAB value, one record a line, null for a tombstone.
///
/// With --registry, what is in Avro is decoded and printed in Avro's JSON encoding.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:\n  \
    headwater tail orders --from-beginning\n  \
    headwater tail orders customers -b kafka:9092 --from-beginning --exit --headers\n  \
    headwater tail orders -b kafka:9092 -r http://registry:8081 --readable")]
pub struct TailOptions {
    /// Topics to read; with several, each line begins with the topic
    #[arg(required = true, value_name = "TOPIC")]
    pub topics: Vec<String>,

    /// The cluster.
    #[command(flatten)]
    pub kafka: KafkaArguments,

    /// Where schemas are.
    #[command(flatten)]
    pub registry: RegistryOptions,

    /// Begin with the oldest record instead of the next one to come
    #[arg(long, help_heading = "Reading")]
    pub from_beginning: bool,

    /// Stop at the end of all partitions
    #[arg(short, long, help_heading = "Reading")]
    pub exit: bool,

    /// Add the headers hw.* as a last column, a JSON object
    #[arg(long, help_heading = "Reading")]
    pub headers: bool,

    /// Print Avro's dates, times and decimals as the JSON format has them, not as the numbers and
    /// bytes beneath
    #[arg(long, help_heading = "Reading")]
    pub readable: bool,
}
