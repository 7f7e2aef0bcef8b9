//! Which stream, as the commands say it that work on one that is there.

use clap::Args;

use super::stream::topic_prefix;

/// What the state of a stream is found by, beside its database.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Stream")]
pub struct StreamName {
    /// Replication slot of the stream
    #[arg(short = 'S', long, value_name = "NAME", default_value = "headwater")]
    pub slot: String,

    /// Prefix of the stream's topics
    #[arg(
        long,
        value_name = "PREFIX",
        default_value = "",
        value_parser = topic_prefix
    )]
    pub topic_prefix: String,
}
