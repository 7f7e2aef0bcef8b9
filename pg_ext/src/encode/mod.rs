//! A row's bytes. Knows a plan and a row; no transaction, no catalog, no way out.

mod avro;
mod change;
mod envelope;
mod json;
mod value;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use headwater_protocol::ValueError;
use headwater_protocol::frame::Op;
use headwater_protocol::limits::{EXCLUDE_COLUMNS, TABLES};
use headwater_protocol::options::{Envelope, Format, PluginOptions};

use crate::pg::{
    Attribute, Column, Malformed, NotUtf8, Raised, Row, SqlState, server_error, type_name,
};
use crate::plan::{ColumnPlan, RelationPlan};

pub(crate) use envelope::Source;
pub(crate) use value::ValueEncoder;

/// Encodes changes under one session's options.
pub(crate) struct Encoder {
    format: Format,
    envelope: Envelope,
    max_row_bytes: usize,
    database: String,
    /// The database's name as JSON.
    quoted_database: Vec<u8>,
    pub(crate) values: ValueEncoder,
    /// Kept from row to row, so that none is allocated.
    old_key: Vec<u8>,
    new_key: Vec<u8>,
    /// Indexes of the columns that the last row left out.
    unchanged: Vec<usize>,
}

/// One row's change, ready to be encoded.
pub(crate) struct RowChange<'t> {
    pub(crate) op: Op,
    pub(crate) source: Source,
    pub(crate) old: Option<Row<'t>>,
    pub(crate) new: Option<Row<'t>>,
}

/// Why a row has no bytes. Says nothing of any value.
#[derive(Debug)]
pub(crate) enum EncodeError {
    Value {
        column: String,
        error: ValueError,
    },
    NotUtf8 {
        column: String,
    },
    WrongLayout {
        column: String,
    },
    /// The server raised an ERROR, whose message may quote the value.
    Raised {
        column: String,
        type_name: String,
        state: SqlState,
    },
    NoLabel {
        column: String,
    },
    TooDeep {
        column: String,
    },
    TypeNotUtf8 {
        column: String,
    },
    /// Of the row itself; one of the server's has none.
    NullKey {
        column: String,
    },
    KeyNotInWal {
        column: String,
    },
    /// The identity of a partition lacks columns of its table's key.
    KeyNotInOldRow {
        partition: String,
    },
    OldRowNotInWal,
    DeleteWithoutKey,
    Panicked,
    /// A column of the key may not be sent. Which one is not said.
    KeyExcluded,
    NameNotUtf8,
    /// The option `quarantine` names the change.
    Named,
    TooLarge {
        limit: usize,
    },
    MessageTooLarge {
        limit: usize,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::Value { column, error } => {
                write!(f, "column \"{column}\" cannot be encoded: {error}")
            }
            EncodeError::NotUtf8 { column } => write!(
                f,
                "the text of column \"{column}\" cannot be converted to UTF-8"
            ),
            EncodeError::WrongLayout { column } => {
                write!(f, "column \"{column}\" is not stored as its type says")
            }
            EncodeError::Raised {
                column,
                type_name,
                state,
            } => write!(
                f,
                "column \"{column}\" cannot be encoded: the server failed on a value of type \
                 {type_name} with SQLSTATE {state}"
            ),
            EncodeError::NoLabel { column } => write!(
                f,
                "column \"{column}\" holds an enum value that the catalog does not have"
            ),
            EncodeError::TooDeep { column } => write!(
                f,
                "column \"{column}\" is of a type that is nested too deeply"
            ),
            EncodeError::TypeNotUtf8 { column } => write!(
                f,
                "column \"{column}\" is of a type whose name, or that of an attribute or a label of \
                 it, cannot be converted to UTF-8"
            ),
            EncodeError::NullKey { column } => {
                write!(f, "the row has no value for key column \"{column}\"")
            }
            EncodeError::Panicked => {
                write!(f, "the encoder failed at it: a defect of headwater's")
            }
            EncodeError::KeyNotInWal { column } => {
                write!(f, "the value of key column \"{column}\" is not in the WAL")
            }
            EncodeError::KeyNotInOldRow { partition } => write!(
                f,
                "the replica identity of partition {partition} lacks columns of the table's key, so \
                 the WAL does not hold the key that the row had"
            ),
            EncodeError::OldRowNotInWal => f.write_str(
                "the WAL does not hold the old row: the replica identity does not ask for it",
            ),
            EncodeError::KeyExcluded => write!(
                f,
                "the server's setting {EXCLUDE_COLUMNS} has a column of its key: take that out of it, \
                 give the table a replica identity index without the column, or leave the table out \
                 of {TABLES}"
            ),
            EncodeError::NameNotUtf8 => f.write_str(
                "the name of the schema, of the table or of a column cannot be converted to UTF-8",
            ),
            EncodeError::Named => f.write_str("the option \"quarantine\" names it"),
            EncodeError::DeleteWithoutKey => {
                f.write_str("the deleted row has no key to name it by")
            }
            EncodeError::TooLarge { limit } => {
                write!(f, "the encoded row is larger than max_row_bytes ({limit})")
            }
            EncodeError::MessageTooLarge { limit } => {
                write!(f, "the message is larger than max_row_bytes ({limit})")
            }
        }
    }
}

/// What is wrong with one value; its column is named by the caller.
enum ValueFault {
    Value(ValueError),
    NotUtf8,
    WrongLayout,
    /// At a value of a type inside the column's, where one is named.
    Raised(Raised, Option<u32>),
    NoLabel,
    TooDeep,
    TypeNotUtf8,
    TooLarge,
}

impl From<ValueError> for ValueFault {
    fn from(error: ValueError) -> Self {
        ValueFault::Value(error)
    }
}

impl From<NotUtf8> for ValueFault {
    fn from(_: NotUtf8) -> Self {
        ValueFault::NotUtf8
    }
}

impl From<Raised> for ValueFault {
    fn from(raised: Raised) -> Self {
        ValueFault::Raised(raised, None)
    }
}

impl From<Malformed> for ValueFault {
    fn from(_: Malformed) -> Self {
        ValueFault::WrongLayout
    }
}

impl ValueFault {
    fn of(self, plan: &ColumnPlan, encoder: &ValueEncoder) -> EncodeError {
        let column = plan.name.clone();
        match self {
            ValueFault::Value(error) => EncodeError::Value { column, error },
            ValueFault::NotUtf8 => EncodeError::NotUtf8 { column },
            ValueFault::WrongLayout => EncodeError::WrongLayout { column },
            ValueFault::Raised(raised, inner_type) => EncodeError::Raised {
                column,
                type_name: type_name(inner_type.unwrap_or(plan.type_oid), encoder.encoding()),
                state: raised.state,
            },
            ValueFault::NoLabel => EncodeError::NoLabel { column },
            ValueFault::TooDeep => EncodeError::TooDeep { column },
            ValueFault::TypeNotUtf8 => EncodeError::TypeNotUtf8 { column },
            ValueFault::TooLarge => EncodeError::TooLarge {
                limit: encoder.max_row_bytes(),
            },
        }
    }
}

impl Encoder {
    pub(crate) fn new(options: &PluginOptions, database: &str, values: ValueEncoder) -> Self {
        let mut quoted_database = Vec::new();
        headwater_protocol::json::string(&mut quoted_database, database.as_bytes());
        Encoder {
            format: options.format,
            envelope: options.envelope,
            max_row_bytes: options.max_row_bytes,
            database: database.to_owned(),
            quoted_database,
            values,
            old_key: Vec::new(),
            new_key: Vec::new(),
            unchanged: Vec::new(),
        }
    }

    /// Appends the row with the plan's columns.
    ///
    /// A column whose value is not in the WAL is taken from `old` where that has it, and is
    /// otherwise left out (in Avro, null) and noted in `self.unchanged`.
    fn row(
        &mut self,
        plan: &mut RelationPlan,
        row: &Row<'_>,
        old: Option<&Row<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        match self.format {
            Format::Avro => self.row_as_avro(plan, row, old, out),
            _ => self.row_as_json(plan, row, old, out),
        }
    }

    /// Appends the key's columns alone. A value that is not in the WAL comes from `old`: the
    /// server logs a key column that is stored out of line with the old row.
    fn key(
        &mut self,
        plan: &mut RelationPlan,
        row: &Row<'_>,
        old: Option<&Row<'_>>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        match self.format {
            Format::Avro => self.key_as_avro(plan, row, old, out),
            _ => self.key_as_json(plan, row, old, out),
        }
    }

    /// Appends the envelope of a row's change.
    fn envelope(
        &mut self,
        plan: &mut RelationPlan,
        change: &RowChange<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        match self.format {
            Format::Avro => self.envelope_as_avro(plan, change, out),
            _ => self.envelope_as_json(plan, change, out),
        }
    }

    /// Appends a truncate's envelope. One that emptied only a partition of the table that
    /// the envelope is about says so.
    pub(crate) fn truncate_envelope(
        &self,
        plan: &RelationPlan,
        source: &Source,
        out: &mut Vec<u8>,
    ) {
        match self.format {
            Format::Avro => self.truncate_as_avro(plan, source, out),
            _ => self.truncate_as_json(plan, source, out),
        }
    }

    /// Encodes a row, or as much of it as `encode` does, and ends what that began in the
    /// server: the one place that every row goes through.
    ///
    /// A panic is a defect of ours and makes this row fail, not the stream. What it leaves
    /// behind is sound to go on with: buffers are emptied before they are used, and what an
    /// output function or a row type caches is only read between two calls. An ERROR of
    /// the server's that came from outside a subtransaction, which pgrx carries as a panic
    /// too, is none of ours to catch and goes on.
    fn contain<T>(
        &mut self,
        encode: impl FnOnce(&mut Self) -> Result<T, EncodeError>,
    ) -> Result<T, EncodeError> {
        match catch_unwind(AssertUnwindSafe(|| encode(self))) {
            Ok(result) => {
                self.values.calls().end();
                result
            }
            Err(payload) => {
                self.values.calls().roll_back();
                if server_error(payload.as_ref()).is_some() {
                    resume_unwind(payload);
                }
                Err(EncodeError::Panicked)
            }
        }
    }
}

/// A column's value, from the old row where the new one's is not in the WAL.
///
/// Inlined, as is what it calls: every column of every row is asked for, and the answer is too
/// large for a register.
#[inline(always)]
fn present<'t>(row: &Row<'t>, old: Option<&Row<'t>>, attribute: Attribute) -> Column<'t> {
    match (row.column(attribute), old) {
        (Column::UnchangedToast, Some(old)) => match old.column(attribute) {
            // An old row that lacks the column says nothing of it.
            Column::Null | Column::UnchangedToast => Column::UnchangedToast,
            value @ Column::Value(_) => value,
        },
        (column, _) => column,
    }
}
