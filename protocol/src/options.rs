//! The plugin's options: one table, [`OPTIONS`], from which the parser, the help text
//! and the reference page come.
//!
//! Options reach the plugin as Postgres' grammar leaves them: a list of names, each
//! with an argument or none, possibly twice. Everything that is not understood is an
//! error that quotes it, because an option that is silently ignored is found out only
//! by the changes that are missing.

mod reference;
mod table;

use std::fmt;

pub use reference::{help, reference};
pub use table::{OPTIONS, OptionSpec};

use crate::ChangeId;
use crate::frame::PROTOCOL_VERSION_MAX;
use crate::table_pattern::{self, TablePatterns};

/// `batch_bytes` where it is not given. Each write flushes the walsender's socket;
/// packing rows into writes of this size halved the cost of the whole server side
/// against a write a row (Postgres 15, 500,000 rows of 300 bytes).
pub const DEFAULT_BATCH_BYTES: usize = 64 << 10;

/// `max_row_bytes` where it is not given: far above any row that a broker takes, far
/// below the 1 GiB at which a server's buffer ends.
pub const DEFAULT_MAX_ROW_BYTES: usize = 64 << 20;

/// How many changes `quarantine` may name. An operator names poison rows one by one;
/// what has more of them is left out as a table.
pub const MAX_QUARANTINED: usize = 1000;

/// `output`: what a write of the plugin holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Text, one change a line.
    Lines,
    /// The binary protocol of [`crate::frame`].
    Frames,
}

/// `format`: how keys and values are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// JSON, value by value what `row_to_json` prints.
    Json,
    /// Avro's binary encoding: in frames, which carry the schemas.
    Avro,
}

/// `enum`: what an enum is in Avro.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enums {
    /// A string: a label more is no change to the schema's type.
    String,
    /// An enum of Avro, but for one that the table's key holds: the key's schema stays what it is
    /// when a label is added.
    Avro,
}

/// `envelope`: what the value of a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// `before`, `after`, `source`, `op`, `ts_ms`.
    Change,
    /// The row alone.
    Row,
}

/// `origin`: which changes are sent by where they were first made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// All.
    Any,
    /// Only those made on this server, none that came by replication.
    None,
}

/// `partitions`: which table a partition's rows belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitions {
    /// The partitioned table at the top: its name, columns and key.
    Root,
    /// The partition itself.
    Leaf,
}

/// `numbers`: how numbers that other readers may round are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// As JSON numbers of any length.
    Exact,
    /// `int8` and `numeric` as strings.
    String,
}

/// `encoding`: what text is in a database that does not say which encoding it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Nobody knows: such a database is refused.
    Strict,
    /// UTF-8, which every text is checked to be.
    AssumeUtf8,
}

/// `operations`: which kinds of changes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operations {
    /// INSERT.
    pub insert: bool,
    /// UPDATE.
    pub update: bool,
    /// DELETE.
    pub delete: bool,
    /// TRUNCATE.
    pub truncate: bool,
    /// `pg_logical_emit_message`.
    pub message: bool,
}

impl Operations {
    /// Every operation.
    pub const ALL: Operations = Operations {
        insert: true,
        update: true,
        delete: true,
        truncate: true,
        message: true,
    };

    /// No operation.
    pub const NONE: Operations = Operations {
        insert: false,
        update: false,
        delete: false,
        truncate: false,
        message: false,
    };
}

/// What one session of the plugin was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginOptions {
    /// Text or frames.
    pub output: Output,
    /// The encoding of keys and values.
    pub format: Format,
    /// The shape of values; where it is not given, `change` in lines and `row` in frames.
    pub envelope: Envelope,
    /// The tables to send; absent: all.
    pub tables: Option<TablePatterns>,
    /// Tables not to send, whatever `tables` says.
    pub exclude_tables: TablePatterns,
    /// The kinds of changes to send.
    pub operations: Operations,
    /// Whether changes that came by replication are sent.
    pub origin: Origin,
    /// Which table a partition's rows belong to.
    pub partitions: Partitions,
    /// How `int8` and `numeric` are written in JSON.
    pub numbers: Numbers,
    /// What an enum is in Avro.
    pub enums: Enums,
    /// What the text of a SQL_ASCII database is.
    pub encoding: Encoding,
    /// How many bytes of one transaction go into one write, under a walsender:
    /// 1 KiB to 16 MiB.
    pub batch_bytes: usize,
    /// A change with a larger row is quarantined: 1 KiB to 256 MiB.
    pub max_row_bytes: usize,
    /// Changes of rows that are quarantined unseen, in order: at most
    /// [`MAX_QUARANTINED`].
    pub quarantine: Vec<ChangeId>,
    /// The version of `frames` to write, within
    /// [`PROTOCOL_VERSION_MIN`](crate::frame::PROTOCOL_VERSION_MIN) and
    /// [`PROTOCOL_VERSION_MAX`].
    pub protocol: u16,
}

impl Default for PluginOptions {
    fn default() -> Self {
        Draft::default().finish()
    }
}

impl PluginOptions {
    /// Reads options as Postgres hands them over: names with an argument or none.
    pub fn parse<'a>(
        options: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    ) -> Result<Self, OptionError> {
        let mut draft = Draft::default();
        let mut seen = [false; OPTIONS.len()];
        for (name, argument) in options {
            let index = OPTIONS
                .iter()
                .position(|option| option.name == name)
                .ok_or_else(|| OptionError::unknown_option(name))?;
            if std::mem::replace(&mut seen[index], true) {
                return Err(OptionError::new(format!(
                    "option \"{name}\" is given twice"
                )));
            }
            let argument =
                argument.ok_or_else(|| OptionError::missing_argument(&OPTIONS[index]))?;
            OPTIONS[index].set(&mut draft, argument)?;
        }
        let options = draft.finish();
        options.check()?;
        Ok(options)
    }

    /// Options that each are understood may still not go together.
    fn check(&self) -> Result<(), OptionError> {
        let needs = |option: &str, other: &str| {
            let message = format!("option \"{option}\" needs \"{other}\"");
            Err(OptionError::new(message))
        };
        match self.format {
            Format::Avro if self.output != Output::Frames => needs("format=avro", "output=frames"),
            Format::Avro if self.numbers == Numbers::String => {
                needs("numbers=string", "format=json")
            }
            Format::Json if self.enums == Enums::Avro => needs("enum=avro", "format=avro"),
            _ => Ok(()),
        }
    }

    /// Whether a change of a row is quarantined unseen.
    pub fn quarantines(&self, change: ChangeId) -> bool {
        // Empty but for the days after an accident: asked for every change.
        !self.quarantine.is_empty() && self.quarantine.binary_search(&change).is_ok()
    }

    /// Whether changes of a table are sent. Names are given unquoted, as the catalog
    /// holds them. See [`table_pattern::selects`] for system schemas.
    pub fn selects(&self, schema: &str, table: &str) -> bool {
        table_pattern::selects(self.tables.as_ref(), &self.exclude_tables, schema, table)
    }
}

/// Options under way: what was given last decides defaults that depend on others.
struct Draft {
    options: PluginOptions,
    envelope: Option<Envelope>,
}

impl Default for Draft {
    fn default() -> Self {
        Draft {
            options: PluginOptions {
                output: Output::Lines,
                format: Format::Json,
                envelope: Envelope::Change,
                tables: None,
                exclude_tables: TablePatterns::default(),
                operations: Operations::ALL,
                origin: Origin::Any,
                partitions: Partitions::Root,
                numbers: Numbers::Exact,
                enums: Enums::String,
                encoding: Encoding::Strict,
                batch_bytes: DEFAULT_BATCH_BYTES,
                max_row_bytes: DEFAULT_MAX_ROW_BYTES,
                quarantine: Vec::new(),
                protocol: PROTOCOL_VERSION_MAX,
            },
            envelope: None,
        }
    }
}

impl Draft {
    fn finish(self) -> PluginOptions {
        let envelope = self.envelope.unwrap_or(match self.options.output {
            Output::Lines => Envelope::Change,
            Output::Frames => Envelope::Row,
        });
        PluginOptions {
            envelope,
            ..self.options
        }
    }
}

/// An option that is not understood: one sentence in the server's style, and what
/// to do about it where there is something to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionError {
    /// What is wrong, with the name and the argument quoted: lower case, no full stop.
    pub message: String,
    /// What to do, as a sentence: the server's HINT.
    pub hint: Option<String>,
}

impl OptionError {
    fn new(message: String) -> Self {
        OptionError {
            message,
            hint: None,
        }
    }

    fn with_hint(self, hint: impl Into<String>) -> Self {
        OptionError {
            hint: Some(hint.into()),
            ..self
        }
    }

    fn unknown_option(name: &str) -> Self {
        let names = || OPTIONS.iter().map(|option| option.name);
        let hint = match closest(name, names()) {
            Some(close) => format!("Perhaps you meant the option \"{close}\"."),
            None => format!(
                "Valid options are: {}.",
                names().collect::<Vec<_>>().join(", ")
            ),
        };
        OptionError::new(format!("unknown option \"{name}\"")).with_hint(hint)
    }

    fn missing_argument(option: &OptionSpec) -> Self {
        OptionError::new(format!("option \"{}\" needs an argument", option.name))
            .with_hint(format!("Valid arguments: {}.", option.values()))
    }

    fn bad_argument(option: &OptionSpec, argument: &str) -> Self {
        OptionError::new(format!(
            "invalid argument for option \"{}\": \"{argument}\"",
            option.name
        ))
        .with_hint(format!("Valid arguments: {}.", option.values()))
    }
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for OptionError {}

/// The name that `given` probably was meant to be: at most a third of it has to change.
fn closest<'n>(given: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    // Distances are quadratic; nothing this long is a slip of the fingers.
    const LONGEST_TYPO: usize = 64;
    if given.len() > LONGEST_TYPO {
        return None;
    }
    names
        .map(|name| (edit_distance(given.as_bytes(), name.as_bytes()), name))
        .filter(|(distance, name)| distance * 3 <= name.len())
        .min()
        .map(|(_, name)| name)
}

/// How many insertions, deletions and replacements of a byte lead from `a` to `b`.
fn edit_distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(!from.eq_ignore_ascii_case(to));
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
