//! The client: takes a snapshot, follows the slot, forwards finished bytes.
//!
//! ```text
//! cli ─► stream ─► start ─► source::snapshot ─┐
//!                    └────► source::replication ─► pipeline ─► route ─► sink
//!                                ▲                                       │
//!                                └──── status update ◄── ack ◄───────────┘
//! ```
//!
//! The server makes the bytes; the client slices frames, picks a topic and hands them
//! on. [`source`] knows Postgres and no Kafka, [`sink`] knows its target and no LSN
//! order, [`ack`] knows positions and neither.

pub mod ack;
pub mod assemble;
pub mod backoff;
pub mod cli;
pub mod config;
pub mod dead_letters;
pub mod doctor;
pub mod drop;
pub mod error;
pub mod kafka;
pub mod log;
pub mod metrics;
pub mod parallel;
pub mod pipeline;
pub mod progress;
pub mod registry;
pub mod route;
mod shell;
pub mod sink;
pub mod snapshot;
pub mod snapshot_request;
pub mod source;
pub mod start;
pub mod state;
pub mod status;
pub mod stop;
pub mod stream;
pub mod tail;
pub mod terminal;
mod tls;
pub mod verify;
pub mod watch;
