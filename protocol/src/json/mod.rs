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

mod bits;
mod bytes;
mod datetime;
mod hstore;
mod integer;
mod interval;
mod jsonb;
mod money;
mod network;
mod numeric;
mod position;
mod string;

pub use bits::{bit_length, bits};
pub use bytes::{bytea, uuid};
pub use datetime::{date, time, timestamp, timestamptz, timetz};
pub use hstore::hstore;
pub use integer::{integer, unsigned};
pub use interval::{infinite_interval, interval};
pub use jsonb::{MAX_JSONB_TEXT_BYTES, jsonb, jsonb_within};
pub use money::money;
pub use network::{cidr, inet, macaddr};
pub use numeric::numeric;
pub use position::{pg_lsn, tid};
pub use string::{LONGEST_ESCAPE, json_line, string, string_part};

pub use crate::ValueError;

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
