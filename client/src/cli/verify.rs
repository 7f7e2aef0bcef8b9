//! The options of `headwater verify`.

use std::path::PathBuf;

use clap::Args;

use super::{
    ConnectionOptions, EncodingMode, KafkaArguments, RegistryOptions, StreamName, TableOptions,
};

/// Proves that topics equal their tables, while writers and the stream go on.
///
/// Takes a snapshot, waits until the stream has passed its point of the WAL, and compares the
/// bytes of each row with the newest record of its key as of that point. Prints the keys that
/// are missing in a topic, extra there, or different, and exits with 1 if there are any. How
/// rows are written and topics named is on record beside the stream's position. Give --table and
/// --exclude-table as the stream has them, or fewer: a table that it does not capture has no records.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  \
    headwater verify -d shop -b kafka:9092\n  \
    headwater verify -d shop -b kafka:9092 -t 'orders*' --json\n  \
    headwater verify -d shop -b kafka:9092 -t orders --repair")]
pub struct VerifyOptions {
    /// The database.
    #[command(flatten)]
    pub connection: ConnectionOptions,

    /// The stream.
    #[command(flatten)]
    pub stream: StreamName,

    /// The tables.
    #[command(flatten)]
    pub tables: TableOptions,

    /// What the text of a SQL_ASCII database is
    #[arg(long, value_enum, default_value = "strict", help_heading = "Tables")]
    pub encoding: EncodingMode,

    /// The cluster.
    #[command(flatten)]
    pub kafka: KafkaArguments,

    /// The schema registry, for a stream with --format avro.
    #[command(flatten)]
    pub registry: RegistryOptions,

    /// Have the running stream send the keys that differ again, rows as the tables have them by
    /// then and tombstones for those that have none, and look whether they are equal after that
    #[arg(long, help_heading = "Comparison")]
    pub repair: bool,

    /// Sessions, readers and comparisons at once, 1 to 64
    #[arg(
        long,
        value_name = "N",
        default_value_t = DEFAULT_WORKERS,
        value_parser = clap::value_parser!(u16).range(1..=64),
        help_heading = "Comparison"
    )]
    pub workers: u16,

    /// Folder for keys and digests: some 50 bytes and the key for each row and each record
    #[arg(long, value_name = "DIR", help_heading = "Comparison")]
    pub temp_dir: Option<PathBuf>,

    /// Keys to print of each kind and table; the others are counted
    #[arg(
        long,
        value_name = "N",
        default_value_t = DEFAULT_LIMIT,
        help_heading = "Comparison"
    )]
    pub limit: usize,

    /// Print one JSON object
    #[arg(long, help_heading = "Comparison")]
    pub json: bool,
}

/// As many as a snapshot has sessions.
const DEFAULT_WORKERS: u16 = 2;

/// Enough to see what the keys have in common.
const DEFAULT_LIMIT: usize = 20;
