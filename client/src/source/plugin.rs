//! The plugin's options as the client sets them: the same for the stream and for the
//! snapshot's encoder, so that both make the same bytes.

use headwater_protocol::ChangeId;
use headwater_protocol::avro::Fingerprint;
use headwater_protocol::frame::PROTOCOL_VERSION_MAX;
use headwater_protocol::options::PluginOptions;
use headwater_protocol::table_pattern::TablePatterns;

use super::sql;
use crate::cli::{
    EncodingMode, EnumMode, FormatMode, NumbersMode, OriginMode, PartitionsMode, SinkKind,
    StreamOptions, TableOptions, ValueEnvelope,
};
use crate::error::{Error, ErrorKind, Result};

/// The output plugin's name, the extension's and its schema's.
pub const PLUGIN: &str = "headwater";

/// What is asked for where nothing is said.
const ALL_OPERATIONS: &str = "insert,update,delete,truncate,message";

/// The same on stdout: a message may be any bytes, and a line of them would be none.
const ROW_OPERATIONS: &str = "insert,update,delete,truncate";

/// Options as names and arguments, and what they mean.
#[derive(Clone, Debug)]
pub struct Plugin {
    arguments: Vec<(&'static str, String)>,
    options: PluginOptions,
}

/// What decides the bytes of a row, and whose rows are meant.
#[derive(Clone, Debug)]
pub struct Form {
    /// `--format`
    pub format: FormatMode,
    /// `--enum`
    pub enums: EnumMode,
    /// `--envelope`
    pub envelope: ValueEnvelope,
    /// `--partitions`
    pub partitions: PartitionsMode,
    /// `--numbers`
    pub numbers: NumbersMode,
    /// `--encoding`
    pub encoding: EncodingMode,
    /// `--table` and `--exclude-table`
    pub tables: TableOptions,
}

impl Form {
    fn of_stream(stream: &StreamOptions) -> Self {
        Form {
            format: stream.format,
            enums: stream.enums,
            envelope: stream.envelope,
            partitions: stream.partitions,
            numbers: stream.numbers,
            encoding: stream.encoding,
            tables: stream.tables.clone(),
        }
    }

    fn arguments(&self) -> Vec<(&'static str, String)> {
        let envelope = match self.envelope {
            ValueEnvelope::Row => "row",
            ValueEnvelope::Change => "change",
        };
        let partitions = match self.partitions {
            PartitionsMode::Root => "root",
            PartitionsMode::Leaf => "leaf",
        };
        let mut arguments = vec![
            ("output", "frames".to_owned()),
            ("protocol", PROTOCOL_VERSION_MAX.to_string()),
            ("envelope", envelope.to_owned()),
            ("partitions", partitions.to_owned()),
        ];
        if self.format == FormatMode::Avro {
            arguments.push(("format", "avro".to_owned()));
        }
        if self.enums == EnumMode::Avro {
            arguments.push(("enum", "avro".to_owned()));
        }
        if let Some(tables) = self.tables.included() {
            arguments.push(("tables", tables.to_string()));
        }
        let excluded = self.tables.excluded();
        if !excluded.is_empty() {
            arguments.push(("exclude_tables", excluded.to_string()));
        }
        if self.numbers == NumbersMode::String {
            arguments.push(("numbers", "string".to_owned()));
        }
        if self.encoding == EncodingMode::AssumeUtf8 {
            arguments.push(("encoding", "assume-utf8".to_owned()));
        }
        arguments
    }
}

impl Plugin {
    /// The options that the command line asks for.
    pub fn new(stream: &StreamOptions) -> Result<Self> {
        let mut arguments = Form::of_stream(stream).arguments();
        arguments.push(("operations", operations(stream).to_owned()));
        if stream.origin == OriginMode::None {
            arguments.push(("origin", "none".to_owned()));
        }
        if !stream.quarantine.is_empty() {
            let changes: Vec<String> = stream.quarantine.iter().map(ChangeId::to_string).collect();
            arguments.push(("quarantine", changes.join(",")));
        }
        Plugin::with(arguments)
    }

    /// The options by which rows are encoded as a stream of this form sends them.
    pub fn of_rows(form: &Form) -> Result<Self> {
        Plugin::with(form.arguments())
    }

    /// Options that choose these tables, and the way of a stream's `--partitions` where it is
    /// known.
    pub fn selecting(
        tables: &TablePatterns,
        exclude: &TablePatterns,
        partitions: Option<&str>,
    ) -> Result<Self> {
        let mut arguments = vec![
            ("output", "frames".to_owned()),
            ("tables", tables.to_string()),
        ];
        if !exclude.is_empty() {
            arguments.push(("exclude_tables", exclude.to_string()));
        }
        if let Some(partitions) = partitions {
            arguments.push(("partitions", partitions.to_owned()));
        }
        Plugin::with(arguments)
    }

    fn with(arguments: Vec<(&'static str, String)>) -> Result<Self> {
        let pairs = arguments
            .iter()
            .map(|(name, value)| (*name, Some(value.as_str())));
        let options = PluginOptions::parse(pairs)
            .map_err(|error| Error::new(ErrorKind::Usage, error.message))?;
        Ok(Plugin { arguments, options })
    }

    /// Names and arguments, for `START_REPLICATION`.
    pub fn arguments(&self) -> &[(&'static str, String)] {
        &self.arguments
    }

    /// Whether changes of a table are sent: the plugin's own verdict.
    pub fn selects(&self, schema: &str, table: &str) -> bool {
        self.options.selects(schema, table)
    }

    /// Whether logical messages are sent.
    pub fn sends_messages(&self) -> bool {
        self.options.operations.message
    }

    /// Whether a table's description comes with the schemas of its records.
    pub fn has_schemas(&self) -> bool {
        self.arguments
            .iter()
            .any(|(name, value)| *name == "format" && value == "avro")
    }

    /// What the options mean.
    pub fn options(&self) -> &PluginOptions {
        &self.options
    }

    /// The expression that encodes a row as a frame. `row` is SQL. With the fingerprint of the
    /// schemas that its table was described with, it is an error of the class that is tried again
    /// (SQLSTATE 40001) if the table has others by then.
    pub fn encode_call(&self, row: &str, schemas: Option<Fingerprint>) -> String {
        let schemas = schemas.map(|schemas| ("schemas", schemas.to_string()));
        format!(
            "headwater.encode({row}, VARIADIC {})",
            sql_array(self.arguments.iter().chain(&schemas))
        )
    }

    /// The expression for the Avro schema of a table's `key` or `value`, null for the key of one
    /// without. `table` is SQL.
    pub fn schema_call(&self, table: &str, part: &str) -> String {
        format!(
            "headwater.avro_schema({table}, {}, VARIADIC {})",
            sql::literal(part),
            sql_array(self.arguments.iter())
        )
    }

    /// The expression that describes a table as a frame. `table` is SQL.
    pub fn relation_call(&self, table: &str) -> String {
        format!(
            "headwater.relation({table}, VARIADIC {})",
            sql_array(self.arguments.iter())
        )
    }
}

fn sql_array<'a>(arguments: impl Iterator<Item = &'a (&'static str, String)>) -> String {
    let items: Vec<String> = arguments
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    sql::text_array(items.iter().map(String::as_str))
}

fn operations(stream: &StreamOptions) -> &str {
    match &stream.operations {
        Some(asked) => asked,
        None if stream.sink == SinkKind::Stdout && stream.message_topic.is_none() => ROW_OPERATIONS,
        None => ALL_OPERATIONS,
    }
}
