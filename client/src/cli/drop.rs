//! The options of `headwater drop`.

use clap::Args;

use super::{ConnectionOptions, KafkaArguments, SinkKind};

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

    /// Replication slot
    #[arg(
        short = 'S',
        long,
        value_name = "NAME",
        default_value = "headwater",
        env = "HEADWATER_SLOT"
    )]
    pub slot: String,

    /// Where the stream went: kafka has a state to forget, stdout has none
    #[arg(long, value_enum, default_value = "kafka", env = "HEADWATER_SINK")]
    pub sink: SinkKind,

    /// Prefix of the topics, which the state is kept by
    #[arg(
        long,
        value_name = "PREFIX",
        default_value = "",
        env = "HEADWATER_TOPIC_PREFIX"
    )]
    pub topic_prefix: String,

    /// The cluster that holds the state.
    #[command(flatten)]
    pub kafka: KafkaArguments,

    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}
