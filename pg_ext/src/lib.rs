//! `headwater.so`: the logical decoding output plugin and the SQL functions that
//! share its encoder.
//!
//! ```text
//! WAL -> pg::callbacks -> session -> plan_cache -> encode -> emit -> CopyData
//! SQL -> pg::functions ------------> plan -------> encode -> bytea
//! ```
//!
//! Each module may know only what stands left of it: `encode` has a plan and a row
//! and knows no transaction; `emit` has bytes and knows no row. What touches a
//! pointer of the server is in [`pg`], the only module that says `unsafe`.

#![deny(unsafe_code)]

mod access;
mod codec;
mod emit;
mod encode;
mod json_schema;
mod layout;
mod pg;
mod plan;
mod plan_cache;
mod preamble;
mod schema;
mod session;
mod staleness;
