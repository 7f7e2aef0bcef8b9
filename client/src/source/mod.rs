//! Postgres: connecting, the catalog, the slot, the snapshot, the stream.

pub mod avro_key;
pub mod catalog;
mod certificate;
pub mod connection;
pub mod conninfo;
pub mod key;
pub mod plugin;
pub mod preconditions;
pub mod replication;
pub mod slot;
pub mod snapshot;
pub mod sql;
pub mod sql_error;
