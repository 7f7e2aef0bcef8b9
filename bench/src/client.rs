//! Headwater's client, as the benches start it: with its defaults, apart from what a bench is
//! about.

use headwater_tests::{Client, Kafka, Postgres};

/// The topic of the table `mixed`: what a run writes is its own.
pub(crate) fn topic(slot: &str) -> String {
    format!("{slot}.mixed")
}

/// Starts `headwater stream`.
pub(crate) fn start(
    postgres: &Postgres,
    kafka: &Kafka,
    database: &str,
    slot: &str,
    more: &[&str],
) -> Client {
    let (conninfo, brokers) = (postgres.conninfo(database), kafka.brokers());
    let prefix = format!("{slot}.");
    let mut arguments = vec!["stream", "-d", &conninfo, "-S", slot, "-b", &brokers];
    arguments.extend(["--topic-prefix", &prefix]);
    arguments.extend(more);
    Client::start(arguments)
}
