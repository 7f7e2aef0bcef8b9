//! What is told: all that was seen, joined, with what is wrong in it.
//!
//! `--json` prints this as it is, so its names are an interface: `docs/status.md` describes them.
//! A field may come; none changes its meaning or goes without a new [`VERSION`].

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::client::Metrics;
use super::cure::Commands;
use super::history::History;
use super::record::{Records, Wanted};
use super::server::{Copy, Server};
use super::source::Answer;
use super::stream::{self, Stream};
use super::trouble::{Trouble, troubles};
use crate::terminal::Level;

/// Of the JSON's form.
const VERSION: u32 = 1;

/// Everything that one look came to.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub version: u32,
    /// When, in seconds since 1970.
    pub at: u64,
    /// The worst of what is wrong.
    pub level: Level,
    pub postgres: Asked<Postgres>,
    /// Null where no record is kept.
    pub kafka: Option<Asked<Kafka>>,
    /// Null where nobody is asked for metrics.
    pub client: Option<Asked<Client>>,
    pub streams: Vec<Stream>,
    pub copies: Vec<Copy>,
    pub troubles: Vec<Trouble>,
}

/// Somebody who was asked.
#[derive(Debug, Serialize)]
pub(super) struct Asked<T> {
    /// Who.
    pub name: String,
    /// How old the answer is; null where there is none.
    pub age_seconds: Option<f64>,
    /// Why there is no answer; null where there is one, and before it can be there.
    pub error: Option<String>,
    /// What it said.
    #[serde(flatten)]
    pub answer: Option<T>,
}

/// The server.
#[derive(Debug, Serialize)]
pub(super) struct Postgres {
    pub server_version: String,
    pub database: String,
    pub system_identifier: Option<String>,
    pub wal_end: String,
    /// Bytes a second; null until two looks are there.
    pub wal_rate: Option<f64>,
    /// `max_slot_wal_keep_size` in bytes; null where slots may keep everything.
    pub max_slot_wal_keep_size: Option<u64>,
    /// `wal_segment_size` in bytes.
    pub wal_segment_size: u64,
    /// What `pg_wal` holds in bytes; null where the role may not look.
    pub wal_folder: Option<u64>,
    /// What is free where `pg_wal` is, in bytes.
    pub disk_free: Option<u64>,
    /// Why `disk_free` is null.
    pub disk_unknown: Option<&'static str>,
}

/// The cluster.
#[derive(Debug, Serialize)]
pub(super) struct Kafka {
    /// Streams on record.
    pub recorded: usize,
}

/// The running client.
#[derive(Debug, Serialize)]
pub(super) struct Client {
    /// As `/readyz` says.
    pub ready: Option<bool>,
    /// Whether brokers answer it.
    pub kafka_connected: Option<bool>,
    /// Records that Kafka has acknowledged, a second and since it started.
    pub records_per_second: Option<f64>,
    pub delivered_records: Option<u64>,
    /// Bytes of their keys and values.
    pub bytes_per_second: Option<f64>,
    pub delivered_bytes: Option<u64>,
    pub in_flight_records: Option<u64>,
    pub lag_seconds: Option<f64>,
    /// Tables whose changes wait for the schema registry.
    pub waiting_tables: Option<u64>,
    /// Of the snapshot before its stream, if it has taken one.
    pub snapshot: Option<ClientSnapshot>,
}

/// The snapshot that a client takes before its stream.
#[derive(Debug, Serialize)]
pub(super) struct ClientSnapshot {
    pub tables: u64,
    pub tables_done: u64,
    pub rows: u64,
    pub estimated_rows: Option<u64>,
    pub rows_per_second: Option<f64>,
}

/// What everybody said last.
pub(super) struct Seen<'a> {
    pub postgres: Option<&'a Answer<Server>>,
    /// None where no record is kept.
    pub kafka: Option<(&'a str, Option<&'a Answer<Records>>)>,
    /// None where nobody is asked for metrics.
    pub client: Option<(&'a str, Option<&'a Answer<Metrics>>)>,
    pub history: &'a History,
    pub wanted: &'a Wanted,
}

/// The names under which a client serves its numbers.
mod metric {
    pub(super) const READY: &str = "headwater_ready";
    pub(super) const KAFKA: &str = "headwater_kafka_connected";
    pub(super) const RECORDS: &str = "headwater_delivered_records_total";
    pub(super) const BYTES: &str = "headwater_delivered_bytes_total";
    pub(super) const IN_FLIGHT: &str = "headwater_in_flight_records";
    pub(super) const LAG: &str = "headwater_lag_seconds";
    pub(super) const WAITING: &str = "headwater_registry_waiting_tables";
    pub(super) const TABLES: &str = "headwater_snapshot_tables";
    pub(super) const TABLES_DONE: &str = "headwater_snapshot_tables_done";
    pub(super) const ROWS: &str = "headwater_snapshot_rows";
    pub(super) const ESTIMATED_ROWS: &str = "headwater_snapshot_estimated_rows";
}

/// The counts of a client whose growth a history follows.
pub(super) fn client_counts(metrics: &Metrics) -> BTreeMap<String, u64> {
    let names = [metric::RECORDS, metric::BYTES, metric::ROWS];
    let counts = names.into_iter().filter_map(|name| {
        let sum = metrics.sum(name)?;
        Some((name.to_owned(), sum as u64))
    });
    counts.collect()
}

impl Report {
    /// Joins what was seen.
    pub(super) fn new(seen: &Seen<'_>, cures: &Commands) -> Self {
        let history = seen.history;
        let postgres = asked("Postgres", seen.postgres, |server| {
            postgres(server, history)
        });
        let mut report = Report {
            version: VERSION,
            at: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            level: Level::Ok,
            postgres,
            kafka: seen.kafka.map(|(name, answer)| {
                asked(name, answer, |records| Kafka {
                    recorded: records.streams.len(),
                })
            }),
            client: seen
                .client
                .map(|(name, answer)| asked(name, answer, |metrics| client(metrics, history))),
            streams: stream::streams(seen, cures),
            copies: answer(seen.postgres).map_or_else(Vec::new, |server| server.copies.clone()),
            troubles: Vec::new(),
        };
        report.troubles = troubles(&report, seen, cures);
        let levels = report.troubles.iter().map(|trouble| trouble.level);
        report.level = levels.max().unwrap_or_default();
        report
    }
}

fn asked<A, T>(name: &str, answer: Option<&Answer<A>>, tell: impl FnOnce(&A) -> T) -> Asked<T> {
    let (said, error) = match answer.map(|answer| &answer.outcome) {
        Some(Ok(said)) => (Some(said), None),
        Some(Err(error)) => (None, Some(error.to_string())),
        None => (None, None),
    };
    Asked {
        name: name.to_owned(),
        age_seconds: said.and(answer).map(|answer| age(answer.at)),
        error,
        answer: said.map(tell),
    }
}

fn age(at: Instant) -> f64 {
    at.elapsed().as_secs_f64()
}

fn postgres(server: &Server, history: &History) -> Postgres {
    Postgres {
        server_version: server.version.clone(),
        database: server.database.clone(),
        system_identifier: server.system_identifier.clone(),
        wal_end: server.wal_end.to_string(),
        wal_rate: history.wal_rate(),
        max_slot_wal_keep_size: server.keep_limit,
        wal_segment_size: server.wal_segment,
        wal_folder: server.wal_folder,
        disk_free: server.disk_free.ok(),
        disk_unknown: server.disk_free.err(),
    }
}

fn client(metrics: &Metrics, history: &History) -> Client {
    let count = |name| metrics.sum(name).map(|sum| sum as u64);
    let flag = |name| metrics.sum(name).map(|sum| sum > 0.0);
    let snapshot = || {
        Some(ClientSnapshot {
            tables: count(metric::TABLES)?,
            tables_done: count(metric::TABLES_DONE)?,
            rows: count(metric::ROWS)?,
            estimated_rows: count(metric::ESTIMATED_ROWS),
            rows_per_second: history.count_rate(metric::ROWS),
        })
    };
    Client {
        ready: flag(metric::READY),
        kafka_connected: flag(metric::KAFKA),
        records_per_second: history.count_rate(metric::RECORDS),
        delivered_records: count(metric::RECORDS),
        bytes_per_second: history.count_rate(metric::BYTES),
        delivered_bytes: count(metric::BYTES),
        in_flight_records: count(metric::IN_FLIGHT),
        lag_seconds: metrics.sum(metric::LAG),
        waiting_tables: count(metric::WAITING),
        snapshot: snapshot(),
    }
}

/// What somebody said, if he did.
pub(super) fn answer<T>(answer: Option<&Answer<T>>) -> Option<&T> {
    answer.and_then(|answer| answer.outcome.as_ref().ok())
}
