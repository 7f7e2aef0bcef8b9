//! What both sides of Headwater know, and nothing else.
//!
//! The extension writes [`frame`]s inside the server, the client reads them; both
//! take their options from [`options`] and their table lists from [`table_pattern`].
//! [`json`] holds the value writers: they turn decoded values into the bytes that
//! `row_to_json` would print; [`avro`] holds those of Avro's binary encoding and its schemas.
//! [`type_map`] is the table of what each type becomes in both.
//!
//! This crate knows bytes. It has no Postgres pointers, no sockets, no Kafka, and
//! every parser in it is a pure function over a slice that returns an error on any
//! malformed input and never panics.

#![forbid(unsafe_code)]

pub mod avro;
mod change_id;
pub mod frame;
pub mod json;
pub mod limits;
mod lsn;
pub mod options;
pub mod reserved;
pub mod stored;
pub mod table_pattern;
pub mod topic;
pub mod type_map;
mod value_error;

pub use change_id::{ChangeId, ParseChangeIdError};
pub use lsn::{Lsn, ParseLsnError};
pub use value_error::ValueError;

/// The release that this crate belongs to; the extension and the client carry the same.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
