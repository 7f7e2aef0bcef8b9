//! Values in Avro's binary encoding, and the schemas that they are read by.
//!
//! Nothing stands between a value and its bytes: a plan holds how each column is written, and
//! the writers here append to a buffer, as those of [`crate::json`] do. A key or a row is the
//! bare encoding of its record; what readers need to find the schema is put before it by
//! whoever knows the registry.
//!
//! # What a table's schemas are
//!
//! - Every column that is no part of the key is null or a value, with null as the default,
//!   whatever its NOT NULL says: so a column can come and go under every rule of
//!   compatibility, and an old row can hold the key alone.
//! - A column of the key is a plain value, in the key's record and in the row's.
//! - A key's schema says nothing that can change when no key does ([`Schema::to_key_json`]):
//!   its id is part of the key's bytes.
//! - A column whose value is not in the WAL is null, and named besides: in the frame, and in
//!   `unchanged` of the envelope.
//!
//! What each type becomes is [`crate::type_map`]'s to say.
//!
//! A writer that fails may have appended a part: the caller takes it back by
//! truncating the buffer to its length before the call. No value ever makes one panic.

mod collection;
mod datetime;
mod decimal;
mod envelope;
mod fingerprint;
mod name;
mod schema;
mod write;

pub use collection::{
    ArrayShape, array_schema, dimensions, hstore, hstore_schema, multirange_schema, range,
    range_schema,
};
pub use datetime::{date, interval, interval_schema, time, timestamp, timetz, timetz_schema};
pub use decimal::{Decimal, decimal};
pub use envelope::{Source, envelope_end, envelope_schema, partition, unchanged};
pub use fingerprint::Fingerprint;
pub use name::{FullName, escape};
pub use schema::{Enum, Field, Property, PropertyValue, Record, Schema};
pub use write::{
    NULL, begin_items, boolean, branch, bytes, double, end_items, float, int, long, string,
    string_with, unquoted,
};
