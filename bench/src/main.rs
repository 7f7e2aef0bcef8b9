//! `make bench-…`: what Headwater costs, beside its peers, in one run.
//!
//! Absolute times of one machine mean nothing on another, so every figure is a ratio to a
//! peer that ran minutes before or after, on the same data, with its changes counted: a
//! run that lost one is void.

mod client;
mod debezium;
mod drain;
mod end_to_end;
mod latency;
mod machine;
mod parity;
mod peers;
mod plugin;
mod process;
mod reader;
mod report;
mod snapshot;
mod statistics;
mod workload;

use clap::Parser;

/// Measures, prints a table, and writes bench/results and docs/performance.md.
#[derive(Debug, Parser)]
enum Command {
    /// The output plugins: CPU of the walsender
    Plugin(plugin::Arguments),
    /// A backlog into Kafka, beside Debezium Server
    #[command(name = "e2e")]
    EndToEnd(end_to_end::Arguments),
    /// A table into Kafka, beside Debezium Server; encoding alone, beside COPY
    Snapshot(snapshot::Arguments),
    /// Commit to consumer, beside Debezium Server
    Latency(latency::Arguments),
}

fn main() {
    match Command::parse() {
        Command::Plugin(arguments) => plugin::run(&arguments),
        Command::EndToEnd(arguments) => end_to_end::run(&arguments),
        Command::Snapshot(arguments) => snapshot::run(&arguments),
        Command::Latency(arguments) => latency::run(&arguments),
    }
}
