//! The options of `headwater snapshot`.

use clap::Args;
use headwater_protocol::table_pattern::TablePatterns;

use super::tables::patterns;
use super::{ConnectionOptions, KafkaArguments, StreamName};

/// Copies tables again into a running stream, which goes on meanwhile.
///
/// The stream copies them in chunks, in the order of their keys; a change that comes meanwhile
/// wins over the row of a chunk. Behind the copy a topic holds what its table holds, also where
/// it was stale: rows that are gone get tombstones. The request travels through the WAL: a
/// stream that is stopped takes it up when it runs again, and one that is killed goes on with
/// it.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  \
    headwater snapshot -d shop -b kafka:9092 -t orders\n  \
    headwater snapshot -d shop -b kafka:9092 -t 'sales.*' -T sales.log --no-wait")]
pub struct SnapshotOptions {
    /// The database.
    #[command(flatten)]
    pub connection: ConnectionOptions,

    /// The stream.
    #[command(flatten)]
    pub stream: StreamName,

    /// Tables to copy, `schema.table` with `*` as wildcard; of those that the stream captures
    #[arg(
        short = 't',
        long = "table",
        value_name = "PATTERN",
        required = true,
        value_parser = patterns,
        help_heading = "Tables"
    )]
    pub tables: Vec<TablePatterns>,

    /// Tables not to copy, whatever --table says
    #[arg(
        short = 'T',
        long = "exclude-table",
        value_name = "PATTERN",
        value_parser = patterns,
        help_heading = "Tables"
    )]
    pub exclude_tables: Vec<TablePatterns>,

    /// The cluster that holds the state.
    #[command(flatten)]
    pub kafka: KafkaArguments,

    /// Ask, and do not wait for the end
    #[arg(long, help_heading = "Copy")]
    pub no_wait: bool,
}
