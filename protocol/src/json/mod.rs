//! Values as JSON: the bytes that Postgres' `row_to_json` prints for them, in a session
//! with `TimeZone` UTC.
//!
//! Every writer appends to a buffer and looks at nothing before its end. What can be
//! malformed returns an error, and may then have appended a part: the caller takes it
//! back by truncating the buffer to its length before the call. No value ever makes
//! a writer panic.
//!
//! The input is what the server holds in memory, so integers within it have the byte
//! order of the machine; none of it needs to be aligned.

mod bytes;
mod datetime;
mod integer;
mod jsonb;
mod numeric;
mod string;

use std::fmt;

pub use bytes::{bytea, uuid};
pub use datetime::{date, time, timestamp, timestamptz, timetz};
pub use integer::{integer, unsigned};
pub use jsonb::{MAX_JSONB_TEXT_BYTES, jsonb, jsonb_within};
pub use numeric::numeric;
pub use string::{json_line, string};

/// The bytes of a value are not what its type says. The message holds none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueError {
    /// Not a `numeric` as the server stores it.
    MalformedNumeric,
    /// Not a `jsonb` as the server stores it.
    MalformedJsonb,
    /// A `jsonb` whose text would be longer than it may be.
    TooLarge,
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValueError::MalformedNumeric => "malformed numeric value",
            ValueError::MalformedJsonb => "malformed jsonb value",
            ValueError::TooLarge => "jsonb value whose text is too large",
        })
    }
}

impl std::error::Error for ValueError {}

/// What a writer appends, as text, behind something that it must leave alone.
#[cfg(test)]
fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = b"before ".to_vec();
    write(&mut out);
    String::from_utf8_lossy(&out)
        .strip_prefix("before ")
        .map_or_else(
            || panic!("the buffer's content was changed: {out:?}"),
            str::to_owned,
        )
}
