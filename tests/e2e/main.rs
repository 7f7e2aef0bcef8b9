//! The behaviours that users rely on, each on a real Postgres and a real Kafka.
//!
//! Most tests share one server and one broker and keep to a database, a slot and topics
//! of their own (see [`world`]). Tests that kill a server, or hold transactions open,
//! which every new slot of a server waits for, start their own.

#![allow(clippy::unwrap_used)]

mod alerts;
mod alters;
mod avro;
mod avro_plugin;
mod avro_stream;
mod bounds;
mod changed_types;
mod completions;
mod connections;
mod data_errors;
mod demo;
mod doctor;
mod drain;
mod encodings;
mod fuse;
mod gaps;
mod guarantees;
mod handoff;
mod idle;
mod invalidation;
mod limits;
mod lines;
mod messages;
mod metrics;
mod names;
mod odd_types;
mod operations;
mod options;
mod outage;
mod panics;
mod parity;
mod partitions;
mod pictures;
mod poison;
mod rebuild;
mod refusals;
mod registry;
mod relations;
mod resume;
mod rewrites;
mod rows;
mod same_bytes;
mod secrets;
mod security;
mod settings;
mod sizes;
mod slots_view;
mod snapshot_again;
mod snapshot_kills;
mod stale;
mod status;
mod supervised;
mod tail_avro;
mod take_over;
mod toast;
mod torture;
mod truncate;
mod unencodable;
mod unkeyed;
mod values;
mod verify;
mod verify_large;
mod walkthrough;
mod workload;
mod world;
