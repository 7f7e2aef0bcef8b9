//! A row's bytes. Knows a plan and a row; no transaction, no catalog, no way out.

mod change;
mod envelope;
mod json;
mod value;

use std::fmt;

use headwater_protocol::frame::Op;
use headwater_protocol::json::ValueError;
use headwater_protocol::options::{Envelope, PluginOptions};

use crate::pg::{NotUtf8, Row};

pub(crate) use envelope::Source;
pub(crate) use value::ValueEncoder;

/// Encodes changes under one session's options.
pub(crate) struct Encoder {
    envelope: Envelope,
    max_row_bytes: usize,
    database: Vec<u8>,
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
    Value { column: String, error: ValueError },
    NotUtf8 { column: String },
    WrongLayout { column: String },
    KeyNotInWal { column: String },
    TooLarge { limit: usize },
    OutOfMemory { bytes: usize },
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
            EncodeError::KeyNotInWal { column } => {
                write!(f, "the value of key column \"{column}\" is not in the WAL")
            }
            EncodeError::TooLarge { limit } => {
                write!(f, "the encoded row is larger than max_row_bytes ({limit})")
            }
            EncodeError::OutOfMemory { bytes } => {
                write!(f, "no memory for a value of {bytes} bytes")
            }
        }
    }
}

/// What is wrong with one value; its column is named by the caller.
enum ValueFault {
    Value(ValueError),
    NotUtf8,
    WrongLayout,
    TooLarge,
    OutOfMemory(usize),
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

impl ValueFault {
    fn of(self, column: &str, max_row_bytes: usize) -> EncodeError {
        let column = column.to_owned();
        match self {
            ValueFault::Value(error) => EncodeError::Value { column, error },
            ValueFault::NotUtf8 => EncodeError::NotUtf8 { column },
            ValueFault::WrongLayout => EncodeError::WrongLayout { column },
            ValueFault::TooLarge => EncodeError::TooLarge {
                limit: max_row_bytes,
            },
            ValueFault::OutOfMemory(bytes) => EncodeError::OutOfMemory { bytes },
        }
    }
}

impl Encoder {
    pub(crate) fn new(options: &PluginOptions, database: &str, values: ValueEncoder) -> Self {
        let mut quoted = Vec::new();
        headwater_protocol::json::string(&mut quoted, database.as_bytes());
        Encoder {
            envelope: options.envelope,
            max_row_bytes: options.max_row_bytes,
            database: quoted,
            values,
            old_key: Vec::new(),
            new_key: Vec::new(),
            unchanged: Vec::new(),
        }
    }
}
