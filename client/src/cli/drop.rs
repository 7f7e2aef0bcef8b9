//! The options of `headwater drop`.

use clap::Args;

use super::{ConnectionOptions, KafkaArguments, SinkKind, StreamName};

/// Drops a replication slot and forgets the state that belongs to it.
///
/// The slot is the place in the stream of changes: changes from there on are not
/// delivered any more, and a new stream begins with a snapshot.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  \
    headwater drop -d shop -b kafka:9092\n  \
    headwater drop -d shop --sink stdout --slot debug --yes")]
pub struct DropOptions {
    /// The database.
    #[command(flatten)]
    pub connection: ConnectionOptions,

    /// The stream.
    #[command(flatten)]
    pub stream: StreamName,

    /// Where the stream went: kafka has a state to forget, stdout has none
    #[arg(long, value_enum, default_value = "kafka", help_heading = "Drop")]
    pub sink: SinkKind,

    /// The cluster that holds the state.
    #[command(flatten)]
    pub kafka: KafkaArguments,

    /// Do not ask
    #[arg(short, long, help_heading = "Drop")]
    pub yes: bool,
}
