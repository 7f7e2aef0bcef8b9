//! The options of `headwater status`.

use std::time::Duration;

use clap::Args;

use super::stream::{topic_name, topic_prefix};
use super::{ConnectionOptions, KafkaArguments, MetricsAddress, SinkKind};

/// Says how streams fare: how far behind they are, what they keep, what is wrong, what mends it.
///
/// Asks the server for its slots, and Kafka for what is on record of their streams, and changes
/// nothing. Looks twice, a second apart, for how fast WAL is written. Where Postgres or Kafka does
/// not answer it says so, and shows what the other one knows. Exits with 0 where all is well, with
/// or without warnings, with 1 where something is not, and with 3 where changes are lost.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  \
    headwater status -d shop -b kafka:9092\n  \
    headwater status -d shop -b kafka:9092 --metrics localhost:9187 --watch\n  \
    headwater status -d shop -b kafka:9092 --json | jq '.streams[].lag_bytes'")]
pub struct StatusOptions {
    /// The database.
    #[command(flatten)]
    pub connection: ConnectionOptions,

    /// Only the stream of this replication slot; all of the server's where it is not given
    #[arg(short = 'S', long, value_name = "NAME", help_heading = "Stream")]
    pub slot: Option<String>,

    /// Only streams with this prefix of topics
    #[arg(
        long,
        value_name = "PREFIX",
        value_parser = topic_prefix,
        help_heading = "Stream"
    )]
    pub topic_prefix: Option<String>,

    /// Where the streams go: kafka has a record of them, stdout has none
    #[arg(long, value_enum, default_value = "kafka", help_heading = "Stream")]
    pub sink: SinkKind,

    /// The cluster that has the record.
    #[command(flatten)]
    pub kafka: KafkaArguments,

    /// Topic of the streams' dead letters, `dead-letters` behind their prefix where it is not
    /// given
    #[arg(
        long,
        value_name = "NAME",
        value_parser = topic_name,
        help_heading = "Topics"
    )]
    pub dead_letter_topic: Option<String>,

    /// Ask the running client, too, which serves its metrics at this address, HOST:PORT, as it was
    /// given there: it alone knows how much it sends
    #[arg(long, value_name = "ADDR", help_heading = "Monitoring")]
    pub metrics: Option<MetricsAddress>,

    /// Look again every so many seconds until Ctrl-C, in place on a terminal, elsewhere one report
    /// after the other; with --json one a line
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = seconds,
        help_heading = "Report"
    )]
    pub watch: Option<Duration>,

    /// Exit with 1 at warnings, too
    #[arg(long, help_heading = "Report")]
    pub strict: bool,

    /// Print one JSON object
    #[arg(long, help_heading = "Report")]
    pub json: bool,
}

/// Between two looks: a look takes some statements and a read of a short topic, and what is told
/// of rates needs some time between two.
const INTERVALS: std::ops::RangeInclusive<f64> = 0.5..=3600.0;

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if INTERVALS.contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected seconds, from 0.5 to 3600".to_owned()),
    }
}
