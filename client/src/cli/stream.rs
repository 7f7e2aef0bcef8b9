//! The options of `headwater stream`.

use std::fmt;

use clap::{ArgAction, Args, ValueEnum};
use headwater_protocol::{ChangeId, Lsn};

use super::bytes::bytes;
use super::slot_name::slot_name;
use super::{ConnectionOptions, MetricsOptions, RegistryOptions, TableOptions};
use crate::kafka::{Property, parse_property, property_names};
use crate::route::{Template, TemplateError, check_literal, check_name};

/// Takes a consistent snapshot of the tables, then follows the replication slot.
///
/// A slot that exists is followed from where it stands. Stop it with SIGINT or SIGTERM:
/// it delivers what it has read, tells Postgres, and resumes there the next time.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  \
    headwater stream -d shop -b kafka:9092\n  \
    headwater stream -d postgres://cdc@db/shop -b kafka:9092 -t 'orders*' -T orders_tmp\n  \
    headwater stream -d shop -b kafka:9092 --format avro -r http://registry:8081\n  \
    headwater stream -d shop -b kafka:9092 --on-error quarantine\n  \
    headwater stream -d shop -b kafka:9092 --max-retained-wal 20GB --on-retained-wal drop-slot\n  \
    headwater stream -d shop -b kafka:9092 --resnapshot\n  \
    headwater stream -d shop --sink stdout --slot debug\n  \
    headwater stream --config headwater.toml")]
pub struct StreamOptions {
    /// The database.
    #[command(flatten)]
    pub connection: ConnectionOptions,

    /// Replication slot; it is created when the snapshot is complete
    #[arg(
        short = 'S',
        long,
        value_name = "NAME",
        default_value = "headwater",
        value_parser = slot_name,
        help_heading = "Slot"
    )]
    pub slot: String,

    /// The tables.
    #[command(flatten)]
    pub tables: TableOptions,

    /// Kinds of changes, of insert,update,delete,truncate,message; all where it is not given,
    /// but messages on stdout only with --message-topic
    #[arg(
        long,
        value_name = "LIST",
        value_parser = operations,
        help_heading = "Tables"
    )]
    pub operations: Option<String>,

    /// `none` leaves out changes that came by replication
    #[arg(long, value_enum, default_value = "any", help_heading = "Tables")]
    pub origin: OriginMode,

    /// The table that a partition's rows belong to: the one at the top, or the partition itself
    #[arg(long, value_enum, default_value = "root", help_heading = "Tables")]
    pub partitions: PartitionsMode,

    /// What keys and values are made of; `avro` needs a schema registry
    #[arg(long, value_enum, default_value = "json", help_heading = "Records")]
    pub format: FormatMode,

    /// How Avro has enums; `avro` is for readers that want symbols, and a label that comes to such
    /// a type changes its schema
    #[arg(
        long = "enum",
        value_enum,
        default_value = "string",
        help_heading = "Records"
    )]
    pub enums: EnumMode,

    /// The schema registry.
    #[command(flatten)]
    pub registry: RegistryOptions,

    /// How bigint and numeric are written; `string` is for readers whose numbers are floats
    #[arg(long, value_enum, default_value = "exact", help_heading = "Records")]
    pub numbers: NumbersMode,

    /// What the text of a SQL_ASCII database is
    #[arg(long, value_enum, default_value = "strict", help_heading = "Tables")]
    pub encoding: EncodingMode,

    /// Go on without a change at which the stream stopped, named as it was then; repeatable
    #[arg(
        long,
        value_name = "LSN:SEQ",
        value_delimiter = ',',
        help_heading = "Slot"
    )]
    pub quarantine: Vec<ChangeId>,

    /// What a record's value is
    #[arg(long, value_enum, default_value = "row", help_heading = "Records")]
    pub envelope: ValueEnvelope,

    /// When to copy the tables
    #[arg(long, value_enum, default_value = "initial", help_heading = "Snapshot")]
    pub snapshot: SnapshotMode,

    /// How the first snapshot is taken. `whole` reads all tables as of one moment, in one long
    /// transaction, and begins anew when it is interrupted; `chunked` streams from the first
    /// moment on, copies table by table in the order of their keys, and goes on where it was
    #[arg(long, value_enum, default_value = "whole", help_heading = "Snapshot")]
    pub snapshot_mode: CopyMode,

    /// Where changes are lost, begin anew with a snapshot, which mends the topics, in place of
    /// refusing to start
    #[arg(long, conflicts_with = "accept_gap", help_heading = "Slot")]
    pub resnapshot: bool,

    /// Go on although changes after LSN are lost, as the refusal named it, and mark every table
    /// as stale
    #[arg(long, value_name = "LSN", help_heading = "Slot")]
    pub accept_gap: Option<Lsn>,

    /// End another instance that streams from the slot, and go on in its place; for one start:
    /// in the unit files of two instances it makes them end each other for ever
    #[arg(long, help_heading = "Slot")]
    pub take_over: bool,

    /// How much WAL the slot may keep from being removed, such as 20GB, before --on-retained-wal
    /// acts; a warning comes at 70 percent
    #[arg(
        long,
        value_name = "BYTES",
        value_parser = bytes,
        help_heading = "Slot"
    )]
    pub max_retained_wal: Option<u64>,

    /// What happens past --max-retained-wal
    #[arg(long, value_enum, default_value = "stop", help_heading = "Slot")]
    pub on_retained_wal: OnRetainedWal,

    /// Sessions that copy at once, 1 to 64
    #[arg(
        long,
        value_name = "N",
        default_value_t = DEFAULT_SNAPSHOT_WORKERS,
        value_parser = clap::value_parser!(u16).range(1..=64),
        help_heading = "Snapshot"
    )]
    pub snapshot_workers: u16,

    /// Tables without primary key or replica identity index
    #[arg(long, value_enum, default_value = "refuse", help_heading = "Records")]
    pub unkeyed: UnkeyedMode,

    /// Large values that an update left as they were, and that are not in the WAL
    #[arg(long, value_enum, default_value = "fetch", help_heading = "Records")]
    pub toast: ToastMode,

    /// What a TRUNCATE does
    #[arg(long, value_enum, default_value = "stop", help_heading = "Records")]
    pub truncate: TruncateMode,

    /// Where records go; stdout prints key TAB value
    #[arg(long, value_enum, default_value = "kafka", help_heading = "Records")]
    pub sink: SinkKind,

    /// Name of a table's topic; the schema public and the dot behind it are left out
    #[arg(
        long,
        value_name = "TEMPLATE",
        default_value = Template::DEFAULT,
        help_heading = "Topics"
    )]
    pub topic: Template,

    /// Put before every topic's name
    #[arg(
        long,
        value_name = "PREFIX",
        default_value = "",
        value_parser = topic_prefix,
        help_heading = "Topics"
    )]
    pub topic_prefix: String,

    /// Topic of logical messages (pg_logical_emit_message), `messages` behind the prefix where
    /// it is not given
    #[arg(
        long,
        value_name = "NAME",
        value_parser = topic_name,
        help_heading = "Topics"
    )]
    pub message_topic: Option<String>,

    /// What becomes of a change that cannot be delivered: that cannot be encoded, or whose record is
    /// larger than its topic takes
    #[arg(long, value_enum, default_value = "stop", help_heading = "Records")]
    pub on_error: ErrorMode,

    /// Topic of the changes that --on-error quarantine keeps, `dead-letters` behind the prefix
    /// where it is not given
    #[arg(
        long,
        value_name = "NAME",
        value_parser = topic_name,
        help_heading = "Topics"
    )]
    pub dead_letter_topic: Option<String>,

    /// Partitions of topics that are created; the cluster's default where it is not given
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(i32).range(1..),
        help_heading = "Topics"
    )]
    pub topic_partitions: Option<i32>,

    /// Replicas of topics that are created; the cluster's default where it is not given
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(i32).range(1..=32767),
        help_heading = "Topics"
    )]
    pub topic_replication: Option<i32>,

    /// Write to topics that exist and create none
    #[arg(long, help_heading = "Topics")]
    pub no_create_topics: bool,

    /// Headers hw.op, hw.lsn, hw.seq and others on each record
    #[arg(
        long,
        value_name = "on|off",
        default_value = "on",
        env = "HEADWATER_HEADERS",
        value_parser = on_or_off,
        action = ArgAction::Set,
        help_heading = "Records"
    )]
    pub headers: bool,

    /// The cluster.
    #[command(flatten)]
    pub kafka: KafkaArguments,

    /// Where it tells how it fares.
    #[command(flatten)]
    pub metrics: MetricsOptions,
}

/// Two sessions keep a core of the server and the client's own busy; more are worth
/// it only where the server has cores to spare.
const DEFAULT_SNAPSHOT_WORKERS: u16 = 2;

impl StreamOptions {
    /// The topic of logical messages.
    pub fn messages(&self) -> String {
        match &self.message_topic {
            Some(name) => name.clone(),
            None => format!("{}messages", self.topic_prefix),
        }
    }

    /// The topic of changes that cannot be delivered.
    pub fn dead_letters(&self) -> String {
        match &self.dead_letter_topic {
            Some(name) => name.clone(),
            None => format!("{}dead-letters", self.topic_prefix),
        }
    }

    /// Where such changes stop the stream: how to have them kept instead, as a sentence.
    pub fn by_dead_letters(&self) -> String {
        match self.sink {
            SinkKind::Kafka => format!(
                "To keep such changes in topic \"{}\" and go on, add --on-error quarantine.",
                self.dead_letters()
            ),
            SinkKind::Stdout => {
                "A stream into Kafka can keep such changes in a topic and go on.".to_owned()
            }
        }
    }
}

/// The Kafka cluster.
#[derive(Clone, Args)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaArguments {
    /// Kafka brokers to ask first, HOST:PORT,…
    #[arg(short, long, value_name = "LIST", default_value = "localhost:9092")]
    pub brokers: String,

    /// A property of librdkafka, repeatable; one a line in the environment
    #[arg(
        short = 'X',
        value_name = "KEY=VALUE",
        env = "HEADWATER_PROPERTIES",
        hide_env_values = true,
        value_parser = parse_property
    )]
    pub properties: Vec<Property>,
}

impl fmt::Debug for KafkaArguments {
    // Properties hold passwords: their names alone are shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaArguments")
            .field("brokers", &self.brokers)
            .field("properties", &property_names(&self.properties))
            .finish()
    }
}

/// `--format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatMode {
    /// JSON, as row_to_json prints it
    Json,
    /// Avro, in the wire format that readers of a schema registry know
    Avro,
}

/// `--enum`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EnumMode {
    /// A string, with the labels as a property of its schema
    String,
    /// An enum of Avro
    Avro,
}

/// `--origin`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OriginMode {
    /// All changes
    Any,
    /// Only changes made on this server
    None,
}

/// `--partitions`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PartitionsMode {
    /// One topic for all partitions of a table; --table names the table
    Root,
    /// A topic for each partition; --table names partitions
    Leaf,
}

/// `--numbers`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NumbersMode {
    /// As JSON numbers, whatever their length
    Exact,
    /// As strings
    String,
}

/// `--encoding`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EncodingMode {
    /// Unknown: such a database is refused
    Strict,
    /// UTF-8; a change with other text is quarantined
    AssumeUtf8,
}

/// `--envelope`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ValueEnvelope {
    /// The row; a tombstone for a delete
    Row,
    /// before, after, source, op and ts_ms; after a delete a tombstone too
    Change,
}

/// `--snapshot`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SnapshotMode {
    /// Before the stream begins for the first time
    Initial,
    /// Not at all: stream what is committed from now on
    Never,
    /// Copy the tables and end, without a slot
    Only,
}

/// `--snapshot-mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CopyMode {
    /// All tables as of one moment, before the stream begins
    Whole,
    /// In chunks, while the stream runs
    Chunked,
}

/// `--on-retained-wal`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnRetainedWal {
    /// Stop, exit code 1, when nothing was acknowledged for a minute; the slot stays
    Stop,
    /// Drop the slot so that the server lives, exit code 3; --resnapshot mends it
    DropSlot,
}

/// `--unkeyed`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UnkeyedMode {
    /// Do not start with such a table
    Refuse,
    /// Leave its rows out
    Skip,
    /// Send its rows without a key
    Send,
}

/// `--toast`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ToastMode {
    /// Send the row as it is now, read from the table
    Fetch,
    /// Do not start with a table that could have them
    RequireFull,
    /// Send the row without them, naming them in the header hw.unchanged
    Mark,
}

/// `--truncate`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TruncateMode {
    /// Stop, exit code 5
    Stop,
    /// Log it; the rows stay in the topic
    Ignore,
    /// Write a tombstone for every key of the topic
    Tombstone,
}

/// `--on-error`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ErrorMode {
    /// Stop, exit code 5
    Stop,
    /// Keep it in the topic of dead letters and go on
    Quarantine,
}

/// `--sink`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SinkKind {
    /// Kafka topics
    Kafka,
    /// Lines on stdout
    Stdout,
}

fn operations(text: &str) -> Result<String, String> {
    let options = [("operations", Some(text))];
    match headwater_protocol::options::PluginOptions::parse(options) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.hint.unwrap_or(error.message)),
    }
}

pub(super) fn topic_prefix(text: &str) -> Result<String, TemplateError> {
    check_literal(text).map(|()| text.to_owned())
}

pub(super) fn topic_name(text: &str) -> Result<String, TemplateError> {
    check_name(text).map(|()| text.to_owned())
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("expected on or off".to_owned()),
    }
}
