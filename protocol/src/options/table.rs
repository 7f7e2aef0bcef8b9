//! The table of options, and how each kind of argument is read.

use std::ops::RangeInclusive;

use super::{
    Draft, Encoding, Enums, Envelope, Format, MAX_QUARANTINED, Numbers, Operations, OptionError,
    Origin, Output, Partitions,
};
use crate::ChangeId;
use crate::frame::{PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN};
use crate::table_pattern::TablePatterns;

/// A write of less than a kibibyte would be one of a single row.
const BATCH_BYTES: RangeInclusive<usize> = 1 << 10..=16 << 20;

/// The upper end leaves a factor of four, for names and escapes, below the 1 GiB at which
/// a server's buffer ends.
const MAX_ROW_BYTES: RangeInclusive<usize> = 1 << 10..=256 << 20;

/// One option of the plugin.
pub struct OptionSpec {
    /// Its name, as in `-o name=argument`.
    pub name: &'static str,
    /// What holds where it is not given.
    pub default: &'static str,
    /// What it does, in Markdown.
    pub meaning: &'static str,
    argument: Argument,
}

/// What a word means.
type SetWord = fn(&mut Draft);

/// What an option's argument is and where it goes.
enum Argument {
    /// One of some words.
    Word(&'static [(&'static str, SetWord)]),
    /// A number of bytes.
    Bytes(RangeInclusive<usize>, fn(&mut Draft, usize)),
    /// Table patterns.
    Tables(fn(&mut Draft, TablePatterns)),
    /// Some of the operations.
    Operations,
    /// Names of changes.
    Changes(fn(&mut Draft, Vec<ChangeId>)),
    /// A version of the frame protocol.
    Protocol,
}

/// Every option, in the order of the reference page.
pub static OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "output",
        argument: Argument::Word(&[
            ("lines", |draft| draft.options.output = Output::Lines),
            ("frames", |draft| draft.options.output = Output::Frames),
        ]),
        default: "lines",
        meaning: "what the plugin writes: text, one change a line, or the binary protocol that \
                  the client reads",
    },
    OptionSpec {
        name: "format",
        argument: Argument::Word(&[
            ("json", |draft| draft.options.format = Format::Json),
            ("avro", |draft| draft.options.format = Format::Avro),
        ]),
        default: "json",
        meaning: "how keys and values are encoded; `avro` needs `output=frames`, which carry the \
                  schemas",
    },
    OptionSpec {
        name: "envelope",
        argument: Argument::Word(&[
            ("change", |draft| draft.envelope = Some(Envelope::Change)),
            ("row", |draft| draft.envelope = Some(Envelope::Row)),
        ]),
        default: "`change` in lines, `row` in frames",
        meaning: "`change`: `before`, `after`, `source`, `op`, `ts_ms`, and `unchanged` where a \
                  value was not in the WAL. `row`: the row alone; in lines: key, TAB, row, a \
                  delete having an empty row, and truncates and messages are left out",
    },
    OptionSpec {
        name: "tables",
        argument: Argument::Tables(|draft, tables| draft.options.tables = Some(tables)),
        default: "all but system schemas",
        meaning: "the tables whose changes are sent, of those that the server's setting \
                  [`headwater.tables`](limits.md) allows",
    },
    OptionSpec {
        name: "exclude_tables",
        argument: Argument::Tables(|draft, tables| draft.options.exclude_tables = tables),
        default: "none",
        meaning: "tables whose changes are not sent, whatever `tables` says",
    },
    OptionSpec {
        name: "operations",
        argument: Argument::Operations,
        default: "all of them",
        meaning: "the kinds of changes that are sent",
    },
    OptionSpec {
        name: "origin",
        argument: Argument::Word(&[
            ("any", |draft| draft.options.origin = Origin::Any),
            ("none", |draft| draft.options.origin = Origin::None),
        ]),
        default: "any",
        meaning: "`none` leaves out changes that came to this server by replication",
    },
    OptionSpec {
        name: "partitions",
        argument: Argument::Word(&[
            ("root", |draft| draft.options.partitions = Partitions::Root),
            ("leaf", |draft| draft.options.partitions = Partitions::Leaf),
        ]),
        default: "root",
        meaning: "`root`: a partition's rows are those of the partitioned table at the top, with \
                  its name, columns and key; `leaf`: those of a table of its own. It is also \
                  the name that `tables` and `exclude_tables` are about",
    },
    OptionSpec {
        name: "numbers",
        argument: Argument::Word(&[
            ("exact", |draft| draft.options.numbers = Numbers::Exact),
            ("string", |draft| draft.options.numbers = Numbers::String),
        ]),
        default: "exact",
        meaning: "`string` writes `int8` and `numeric` as strings, in keys too, for readers whose \
                  numbers are floats; what stands inside `json` and `jsonb` is left as it is. For \
                  JSON alone: the numbers of Avro are exact for every reader",
    },
    OptionSpec {
        name: "enum",
        argument: Argument::Word(&[
            ("string", |draft| draft.options.enums = Enums::String),
            ("avro", |draft| draft.options.enums = Enums::Avro),
        ]),
        default: "string",
        meaning: "what an enum is in Avro: a string with its labels as a property, or an enum of \
                  Avro, whose readers refuse labels that they do not know yet; one that a table's \
                  key holds is a string under both",
    },
    OptionSpec {
        name: "encoding",
        argument: Argument::Word(&[
            ("strict", |draft| draft.options.encoding = Encoding::Strict),
            ("assume-utf8", |draft| {
                draft.options.encoding = Encoding::AssumeUtf8;
            }),
        ]),
        default: "strict",
        meaning: "for databases with the encoding `SQL_ASCII`, which does not say what their text \
                  is: `strict` refuses them, `assume-utf8` takes it for UTF-8 and quarantines \
                  a change with any other. Databases that have an encoding are converted",
    },
    OptionSpec {
        name: "batch_bytes",
        argument: Argument::Bytes(BATCH_BYTES, |draft, bytes| {
            draft.options.batch_bytes = bytes
        }),
        default: "65536",
        meaning: "how much of one transaction goes into one write to a replication connection; \
                  nothing is held back past the commit",
    },
    OptionSpec {
        name: "max_row_bytes",
        argument: Argument::Bytes(MAX_ROW_BYTES, |draft, bytes| {
            draft.options.max_row_bytes = bytes;
        }),
        default: "67108864",
        meaning: "a change with a larger row, and a larger logical message, is quarantined: it is \
                  reported with its key or prefix and its position, without its values, and the \
                  stream goes on",
    },
    OptionSpec {
        name: "quarantine",
        argument: Argument::Changes(|draft, changes| draft.options.quarantine = changes),
        default: "none",
        meaning: "changes of rows that are quarantined without a look at the row: the way past one \
                  at which the stream would stop for ever",
    },
    OptionSpec {
        name: "protocol",
        argument: Argument::Protocol,
        default: "1",
        meaning: "the version of `frames`; one that this release does not speak is refused",
    },
];

type SetOperation = fn(&mut Operations);

const OPERATIONS: &[(&str, SetOperation)] = &[
    ("insert", |operations| operations.insert = true),
    ("update", |operations| operations.update = true),
    ("delete", |operations| operations.delete = true),
    ("truncate", |operations| operations.truncate = true),
    ("message", |operations| operations.message = true),
];

impl OptionSpec {
    /// The arguments that it takes, in words.
    pub fn values(&self) -> String {
        match &self.argument {
            Argument::Word(words) => join(words.iter().map(|(word, _)| *word)),
            Argument::Bytes(range, _) => {
                format!(
                    "a number of bytes from {} to {}",
                    range.start(),
                    range.end()
                )
            }
            Argument::Tables(_) => {
                "a comma list of schema.table, * as wildcard, quoted as SQL identifiers".to_owned()
            }
            Argument::Changes(_) => {
                format!("a comma list of LSN:SEQ, as in 16/B374D878:5, at most {MAX_QUARANTINED}")
            }
            Argument::Operations => {
                format!(
                    "a comma list of {}",
                    join(OPERATIONS.iter().map(|(word, _)| *word))
                )
            }
            Argument::Protocol => spoken_versions(),
        }
    }

    pub(super) fn set(&self, draft: &mut Draft, argument: &str) -> Result<(), OptionError> {
        match &self.argument {
            Argument::Word(words) => {
                let (_, set) = words
                    .iter()
                    .find(|(word, _)| *word == argument)
                    .ok_or_else(|| OptionError::bad_argument(self, argument))?;
                set(draft);
            }
            Argument::Bytes(range, set) => {
                let bytes = number(argument)
                    .filter(|bytes| range.contains(bytes))
                    .ok_or_else(|| OptionError::bad_argument(self, argument))?;
                set(draft, bytes);
            }
            Argument::Tables(set) => {
                let tables = TablePatterns::parse(argument).map_err(|error| {
                    OptionError::new(format!(
                        "invalid argument for option \"{}\": {error}",
                        self.name
                    ))
                    .with_hint(error.hint())
                })?;
                set(draft, tables);
            }
            Argument::Changes(set) => set(draft, self.changes(argument)?),
            Argument::Operations => draft.options.operations = self.operations(argument)?,
            Argument::Protocol => draft.options.protocol = self.protocol(argument)?,
        }
        Ok(())
    }

    fn operations(&self, argument: &str) -> Result<Operations, OptionError> {
        let mut operations = Operations::NONE;
        for given in argument.split(',').map(str::trim_ascii) {
            let (_, set) = OPERATIONS
                .iter()
                .find(|(word, _)| *word == given)
                .ok_or_else(|| OptionError::bad_argument(self, given))?;
            set(&mut operations);
        }
        Ok(operations)
    }

    /// In order, each once.
    fn changes(&self, argument: &str) -> Result<Vec<ChangeId>, OptionError> {
        let mut changes = Vec::new();
        for given in argument.split(',').map(str::trim_ascii) {
            let change = given
                .parse()
                .map_err(|_| OptionError::bad_argument(self, given))?;
            changes.push(change);
        }
        changes.sort_unstable();
        changes.dedup();
        if changes.len() > MAX_QUARANTINED {
            return Err(OptionError::new(format!(
                "option \"{}\" names {} changes, more than {MAX_QUARANTINED}",
                self.name,
                changes.len()
            ))
            .with_hint("Leave the table out with the option \"exclude_tables\"."));
        }
        Ok(changes)
    }

    fn protocol(&self, argument: &str) -> Result<u16, OptionError> {
        let asked = number(argument).ok_or_else(|| OptionError::bad_argument(self, argument))?;
        u16::try_from(asked)
            .ok()
            .filter(|version| (PROTOCOL_VERSION_MIN..=PROTOCOL_VERSION_MAX).contains(version))
            .ok_or_else(|| {
                OptionError::new(format!(
                    "protocol version {asked} was asked for, but this plugin speaks {}",
                    spoken_versions()
                ))
                .with_hint("Install the same release of Headwater on the server and the client.")
            })
    }
}

/// Digits alone: no sign, no space, no unit.
fn number(argument: &str) -> Option<usize> {
    argument
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| argument.parse().ok())
        .flatten()
}

fn spoken_versions() -> String {
    if PROTOCOL_VERSION_MIN == PROTOCOL_VERSION_MAX {
        PROTOCOL_VERSION_MAX.to_string()
    } else {
        format!("{PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION_MAX}")
    }
}

fn join<'w>(words: impl Iterator<Item = &'w str>) -> String {
    words.collect::<Vec<_>>().join(", ")
}
