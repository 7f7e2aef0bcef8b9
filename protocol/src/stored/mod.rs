//! Values as the server stores them, taken apart: what every format reads alike.
//!
//! The input is what the server holds in memory, so integers within it have the byte order of
//! the machine; none of it needs to be aligned. Nothing is copied, no bytes make a reader
//! panic, and what reaches past the end is malformed.

mod hstore;
mod numeric;
mod range;
mod varlena;

pub use hstore::HstorePairs;
#[cfg(test)]
pub(crate) use numeric::forms as numeric_forms;
pub(crate) use numeric::{DECIMALS_PER_DIGIT, Finite, Numeric, Special};
pub use range::{BoundLayout, Multirange, Range};
