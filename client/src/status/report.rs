//! What is told: all that was seen, joined, with what is wrong in it.
//!
//! `--json` prints this as it is, so its names are an interface: `docs/status.md` describes them.
//! A field may come; none changes its meaning or goes without a new [`VERSION`].

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::client::Metrics;
use super::history::{Behind, History};
use super::record::{Recorded, Records, Wanted};
use super::server::{self, Server};
use super::source::Answer;
use super::trouble::{Trouble, troubles};
use crate::snapshot_request::Scope;
use crate::state::{Part, Phase, Run, State};
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

/// How a stream fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Standing {
    /// Somebody streams from its slot.
    Streaming,
    /// Its slot belongs to a copy of tables.
    Copying,
    /// Nobody streams from its slot.
    Inactive,
    /// WAL that its slot needs is gone.
    Lost,
    /// It is on record and has no slot.
    Missing,
    /// It is on record, and of another server.
    Elsewhere,
    /// Postgres did not say.
    Unknown,
}

impl Standing {
    pub(super) fn word(self) -> &'static str {
        match self {
            Standing::Streaming => "streaming",
            Standing::Copying => "copying",
            Standing::Inactive => "inactive",
            Standing::Lost => "lost",
            Standing::Missing => "no slot",
            Standing::Elsewhere => "elsewhere",
            Standing::Unknown => "unknown",
        }
    }

    pub(super) fn level(self) -> Level {
        match self {
            Standing::Streaming | Standing::Copying | Standing::Elsewhere => Level::Ok,
            Standing::Unknown => Level::Warning,
            Standing::Inactive | Standing::Lost | Standing::Missing => Level::Fail,
        }
    }
}

/// A stream: its slot, what is on record of it, or both.
#[derive(Debug, Serialize)]
pub(super) struct Stream {
    pub slot: String,
    pub database: String,
    /// Null where nothing is on record.
    pub topic_prefix: Option<String>,
    pub state: Standing,
    pub server_process: Option<u32>,
    pub client_address: Option<String>,
    pub connected_seconds: Option<f64>,
    pub inactive_seconds: Option<f64>,
    pub invalidation_reason: Option<String>,
    pub restart_lsn: Option<String>,
    pub confirmed_flush_lsn: Option<String>,
    /// WAL behind `confirmed_flush_lsn`.
    pub lag_bytes: Option<u64>,
    pub lag_seconds: Option<f64>,
    /// Whether it is more than `lag_seconds`, by nobody knows how much.
    pub lag_seconds_at_least: bool,
    /// WAL that the slot keeps from being removed.
    pub retained_bytes: Option<u64>,
    pub wal_status: Option<String>,
    pub safe_wal_size: Option<i64>,
    /// Which limit comes first.
    pub limit: Option<Limit>,
    /// Until it is reached if the slot does not move, at `wal_rate`.
    pub seconds_until_limit: Option<f64>,
    /// Bytes of WAL a second that the slot moves ahead by.
    pub rate: Option<f64>,
    /// Null where nothing is on record, as the following are.
    pub phase: Option<Phase>,
    pub position: Option<String>,
    pub quarantined: Option<Letters>,
    pub stale: Vec<Stale>,
    /// The copy into the running stream that is under way.
    pub snapshot: Option<Snapshot>,
    /// What the last copy that has ended could not do.
    pub failures: Vec<String>,
    /// Why the record cannot be read.
    pub unreadable: Option<String>,
}

/// What ends a slot that does not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Limit {
    MaxSlotWalKeepSize,
    Disk,
}

/// Dead letters.
#[derive(Debug, Serialize)]
pub(super) struct Letters {
    pub topic: String,
    pub records: u64,
}

/// A table whose records are not what it holds.
#[derive(Debug, Serialize)]
pub(super) struct Stale {
    pub schema: String,
    pub table: String,
    pub since: String,
    pub reason: String,
    pub cure: String,
}

/// A copy into a running stream.
#[derive(Debug, Serialize)]
pub(super) struct Snapshot {
    pub run: String,
    /// Where it is; null before its first table.
    pub table: Option<String>,
    /// Rows are copied, then tombstones are sent for rows that are gone.
    pub part: &'static str,
    pub rows: u64,
    pub tombstones: u64,
    /// As the server estimates; null where it cannot be known.
    pub estimated_rows: Option<u64>,
    pub rows_per_second: Option<f64>,
    /// Other copies that wait for their turn.
    pub waiting: usize,
    pub failures: Vec<String>,
}

/// A part of a table that is being copied by a snapshot before the stream, or by verify.
#[derive(Debug, Serialize)]
pub(super) struct Copy {
    pub database: String,
    pub table: String,
    /// Of this part, so far.
    pub rows: u64,
    /// Pages of the table before this part, which are copied or being copied.
    pub first_page: u64,
    /// Null where the table is in another database.
    pub pages: Option<u64>,
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

/// Rows of copies that are under way, of which the same is to be known.
pub(super) fn run_counts(records: &Records) -> BTreeMap<String, u64> {
    let states = records
        .streams
        .iter()
        .filter_map(|it| it.state.as_ref().ok());
    let runs = states.filter_map(|state| state.runs.queue.first());
    runs.map(|run| (run_count(run), run.sent.rows)).collect()
}

fn run_count(run: &Run) -> String {
    format!("run {}", run.request.id)
}

impl Report {
    /// Joins what was seen.
    pub(super) fn new(seen: &Seen<'_>, cures: &super::cure::Commands) -> Self {
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
            streams: streams(seen, cures),
            copies: copies(seen),
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

fn answer<T>(answer: Option<&Answer<T>>) -> Option<&T> {
    answer.and_then(|answer| answer.outcome.as_ref().ok())
}

fn streams(seen: &Seen<'_>, cures: &super::cure::Commands) -> Vec<Stream> {
    let server = answer(seen.postgres);
    let records = seen.kafka.and_then(|(_, answered)| answer(answered));
    let mut recorded: Vec<&Recorded> =
        records.map_or_else(Vec::new, |it| it.streams.iter().collect());
    let mut streams = Vec::new();
    for slot in server.map_or(&[][..], |server| &server.slots) {
        let mut stream = Stream::of_slot(slot, server, seen.history);
        let own = recorded.iter().position(|one| {
            one.key.slot == slot.name
                && one.key.database == slot.database
                && !is_of_another(one, server)
        });
        if let Some(own) = own {
            stream.add_record(recorded.remove(own), seen, cures);
        }
        streams.push(stream);
    }
    for one in recorded {
        let standing = match server {
            None => Standing::Unknown,
            Some(_) if is_of_another(one, server) => Standing::Elsewhere,
            Some(_) => Standing::Missing,
        };
        let mut stream = Stream::named(&one.key.slot, &one.key.database, standing);
        stream.add_record(one, seen, cures);
        streams.push(stream);
    }
    streams
}

/// Two servers may have a database and a slot of one name.
fn is_of_another(one: &Recorded, server: Option<&Server>) -> bool {
    let known = server.and_then(|server| server.system_identifier.as_ref());
    match (&one.state, known) {
        (Ok(state), Some(known)) => state.system_identifier != *known,
        _ => false,
    }
}

impl Stream {
    fn named(slot: &str, database: &str, state: Standing) -> Self {
        Stream {
            slot: slot.to_owned(),
            database: database.to_owned(),
            topic_prefix: None,
            state,
            server_process: None,
            client_address: None,
            connected_seconds: None,
            inactive_seconds: None,
            invalidation_reason: None,
            restart_lsn: None,
            confirmed_flush_lsn: None,
            lag_bytes: None,
            lag_seconds: None,
            lag_seconds_at_least: false,
            retained_bytes: None,
            wal_status: None,
            safe_wal_size: None,
            limit: None,
            seconds_until_limit: None,
            rate: None,
            phase: None,
            position: None,
            quarantined: None,
            stale: Vec::new(),
            snapshot: None,
            failures: Vec::new(),
            unreadable: None,
        }
    }

    fn of_slot(slot: &server::Slot, server: Option<&Server>, history: &History) -> Self {
        let is_lost =
            slot.wal_status.as_deref() == Some("lost") || slot.invalidation_reason.is_some();
        let standing = match (slot.active_pid, slot.is_temporary) {
            _ if is_lost => Standing::Lost,
            (_, true) => Standing::Copying,
            (Some(_), false) => Standing::Streaming,
            (None, false) => Standing::Inactive,
        };
        let mut stream = Stream::named(&slot.name, &slot.database, standing);
        let wal_end = server.map(|server| server.wal_end.0);
        let until = |lsn: headwater_protocol::Lsn| Some(wal_end?.saturating_sub(lsn.0));
        stream.server_process = slot.active_pid;
        stream.client_address.clone_from(&slot.client_address);
        stream.connected_seconds = slot.connected_seconds;
        stream.inactive_seconds = slot.inactive_seconds;
        stream
            .invalidation_reason
            .clone_from(&slot.invalidation_reason);
        stream.restart_lsn = slot.restart_lsn.map(|lsn| lsn.to_string());
        stream.confirmed_flush_lsn = slot.confirmed_flush_lsn.map(|lsn| lsn.to_string());
        stream.lag_bytes = slot.confirmed_flush_lsn.and_then(until);
        // From 16 on the server may have given up a slot that still has its position.
        stream.retained_bytes = slot.restart_lsn.filter(|_| !is_lost).and_then(until);
        stream.wal_status.clone_from(&slot.wal_status);
        stream.safe_wal_size = slot.safe_wal_size;
        stream.rate = history.slot_rate(&slot.name);
        stream.set_lag(slot, history);
        if let Some(server) = server.filter(|_| !is_lost) {
            stream.set_limit(server, history);
        }
        stream
    }

    /// The server measures what a client that reads has confirmed; the history shows one that
    /// stands still, too.
    fn set_lag(&mut self, slot: &server::Slot, history: &History) {
        if slot.active_pid.is_none() || slot.is_temporary {
            return;
        }
        let measured = slot.flush_lag_seconds;
        let behind = slot.confirmed_flush_lsn.and_then(|lsn| history.behind(lsn));
        (self.lag_seconds, self.lag_seconds_at_least) = match (behind, measured) {
            (None, measured) => (measured, false),
            (Some(Behind::Seconds(seconds)), measured) => {
                (Some(measured.unwrap_or(0.0).max(seconds)), false)
            }
            // Slower than it was looked at, and the server knows how slow.
            (Some(Behind::MoreThan(seconds)), Some(measured)) if measured >= seconds => {
                (Some(measured), false)
            }
            (Some(Behind::MoreThan(seconds)), _) => (Some(seconds), true),
        };
    }

    fn set_limit(&mut self, server: &Server, history: &History) {
        let by_setting = self
            .safe_wal_size
            .map(|size| (size.max(0), Limit::MaxSlotWalKeepSize));
        let by_disk = server.disk_free.ok().map(|free| {
            let free = i64::try_from(free).unwrap_or(i64::MAX);
            (free, Limit::Disk)
        });
        let nearest = by_setting
            .into_iter()
            .chain(by_disk)
            .min_by_key(|(room, _)| *room);
        let Some((room, limit)) = nearest else {
            return;
        };
        self.limit = Some(limit);
        let rate = history.wal_rate().filter(|rate| *rate > 0.0);
        self.seconds_until_limit = rate.map(|rate| room as f64 / rate);
    }

    fn add_record(&mut self, one: &Recorded, seen: &Seen<'_>, cures: &super::cure::Commands) {
        let records = seen.kafka.and_then(|(_, answered)| answer(answered));
        self.topic_prefix = Some(one.key.prefix.clone());
        let topic = seen.wanted.letters_of(&one.key.prefix);
        self.quarantined = records
            .and_then(|records| records.letters.get(&topic))
            .map(|records| Letters {
                topic,
                records: *records,
            });
        match &one.state {
            Err(error) => self.unreadable = Some(error.clone()),
            Ok(state) => self.add_state(state, seen, cures),
        }
    }

    fn add_state(&mut self, state: &State, seen: &Seen<'_>, cures: &super::cure::Commands) {
        self.phase = Some(state.phase);
        self.position = Some(state.position.to_string());
        let stale = state.stale.iter().map(|(schema, table, mark)| Stale {
            schema: schema.to_owned(),
            table: table.to_owned(),
            since: mark.since.to_string(),
            reason: mark.reason.clone(),
            cure: cures.snapshot(self, schema, table),
        });
        self.stale = stale.collect();
        self.snapshot = state
            .runs
            .queue
            .first()
            .map(|run| snapshot(run, state.runs.queue.len() - 1, seen));
        let last = state.runs.ended.last();
        self.failures = last.map_or_else(Vec::new, |ended| ended.failures.clone());
    }
}

fn snapshot(run: &Run, waiting: usize, seen: &Seen<'_>) -> Snapshot {
    let tables = answer(seen.postgres).map_or(&[][..], |server| &server.tables);
    Snapshot {
        run: run.request.id.clone(),
        table: run.place.as_ref().map(|place| place.table.to_string()),
        part: match run.place.as_ref().map(|place| &place.part) {
            None | Some(Part::Begin | Part::Rows { .. } | Part::Keys(_)) => "rows",
            Some(Part::Ghosts(_) | Part::Done) => "tombstones",
        },
        rows: run.sent.rows,
        tombstones: run.sent.tombstones,
        estimated_rows: estimate(&run.request.scope, tables),
        rows_per_second: seen.history.count_rate(&run_count(run)),
        waiting,
        failures: run.failures.clone(),
    }
}

/// The rows of all tables that were asked for; unknown where one of them was never analyzed.
fn estimate(scope: &Scope, tables: &[server::Table]) -> Option<u64> {
    if let Scope::Keys { keys, .. } = scope {
        return u64::try_from(keys.len()).ok();
    }
    let mut asked_for = tables
        .iter()
        .filter(|table| scope.covers(&table.schema, &table.name))
        .peekable();
    asked_for.peek()?;
    asked_for.map(|table| table.estimated_rows).sum()
}

fn copies(seen: &Seen<'_>) -> Vec<Copy> {
    let copies = answer(seen.postgres).map_or(&[][..], |server| &server.copies);
    let copies = copies.iter().map(|copy| Copy {
        database: copy.database.clone(),
        table: copy.table.clone(),
        rows: copy.rows,
        first_page: copy.first_page,
        pages: copy.pages,
    });
    copies.collect()
}
