//! The options of `headwater doctor`.

use std::time::Duration;

use clap::Args;

use super::StreamOptions;

/// Looks at all that a stream needs, and says of each whether it is there.
///
/// Takes the options of `headwater stream` and asks the same questions, of the server, the role,
/// the tables, Kafka and the schema registry, and changes nothing. What is missing comes with the
/// statement, the command or the option that mends it, in the order in which to mend it. Exits
/// with 0 where a stream would start, with or without warnings, with 1 where it would not, with 2
/// where the command line is wrong, and with 3 where it would refuse because changes are lost.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  \
    headwater doctor -d shop -b kafka:9092\n  \
    headwater doctor -d postgres://cdc@db/shop -b kafka:9092 -t 'orders*' --toast require-full\n  \
    headwater doctor -d shop -b kafka:9092 --format avro -r http://registry:8081 --json")]
pub struct DoctorOptions {
    /// The stream that is to run.
    #[command(flatten)]
    pub stream: StreamOptions,

    /// How long to watch the server between two looks at its slots and transactions: the second
    /// one tells how fast a slot's WAL grows, and which transactions stay
    #[arg(
        long,
        value_name = "SECONDS",
        default_value = "2",
        value_parser = seconds,
        help_heading = "Report"
    )]
    pub sample: Duration,

    /// Show the last statement of a transaction that is in the way; it may hold values of rows
    #[arg(long, help_heading = "Report")]
    pub show_queries: bool,

    /// Exit with 1 at warnings, and at what could not be looked at, too
    #[arg(long, help_heading = "Report")]
    pub strict: bool,

    /// Print one JSON object
    #[arg(long, help_heading = "Report")]
    pub json: bool,
}

/// The longest time that is worth waiting for: an hour is a mistyped minute.
const LONGEST_SAMPLE: f64 = 600.0;

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=LONGEST_SAMPLE).contains(&seconds) => {
            Ok(Duration::from_secs_f64(seconds))
        }
        _ => Err("expected seconds, from 0 to 600, such as 2 or 0.5".to_owned()),
    }
}
