//! A stream: its slot, what is on record of it, or both, joined.

use std::collections::BTreeMap;

use headwater_protocol::Lsn;
use serde::Serialize;

use super::cure::Commands;
use super::history::{Behind, History};
use super::record::{Recorded, Records};
use super::report::{Seen, answer};
use super::server::{self, Server, Slot};
use crate::snapshot_request::Scope;
use crate::state::{Part, Phase, Run, State};
use crate::terminal::Level;

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
    /// Nothing but its name where there is none, or Postgres did not say.
    #[serde(flatten)]
    pub slot: Slot,
    /// Null where nothing is on record.
    pub topic_prefix: Option<String>,
    pub state: Standing,
    /// WAL behind `confirmed_flush_lsn`.
    pub lag_bytes: Option<u64>,
    pub lag_seconds: Option<f64>,
    /// Whether it is more than `lag_seconds`, by nobody knows how much.
    pub lag_seconds_at_least: bool,
    /// WAL that the slot keeps from being removed.
    pub retained_bytes: Option<u64>,
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

/// All of them: those that have a slot first.
pub(super) fn streams(seen: &Seen<'_>, cures: &Commands) -> Vec<Stream> {
    let server = answer(seen.postgres);
    let records = seen.kafka.and_then(|(_, answered)| answer(answered));
    let mut recorded: Vec<&Recorded> =
        records.map_or_else(Vec::new, |it| it.streams.iter().collect());
    let mut streams = Vec::new();
    for slot in server.map_or(&[][..], |server| &server.slots) {
        let mut stream = Stream::of_slot(slot.clone(), server, seen.history);
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
        let slot = Slot::named(&one.key.slot, &one.key.database);
        let mut stream = Stream::new(slot, standing);
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
    fn new(slot: Slot, state: Standing) -> Self {
        Stream {
            slot,
            topic_prefix: None,
            state,
            lag_bytes: None,
            lag_seconds: None,
            lag_seconds_at_least: false,
            retained_bytes: None,
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

    fn of_slot(slot: Slot, server: Option<&Server>, history: &History) -> Self {
        let is_lost = slot.is_lost();
        let standing = match (slot.active_pid, slot.is_temporary) {
            _ if is_lost => Standing::Lost,
            (_, true) => Standing::Copying,
            (Some(_), false) => Standing::Streaming,
            (None, false) => Standing::Inactive,
        };
        let mut stream = Stream::new(slot, standing);
        let slot = &stream.slot;
        let wal_end = server.map(|server| server.wal_end.0);
        let until = |lsn: Lsn| Some(wal_end?.saturating_sub(lsn.0));
        stream.lag_bytes = slot.confirmed_flush_lsn.and_then(until);
        // From 16 on the server may have given up a slot that still has its position.
        stream.retained_bytes = slot.restart_lsn.filter(|_| !is_lost).and_then(until);
        stream.rate = history.slot_rate(&slot.name);
        stream.set_lag(history);
        if let Some(server) = server.filter(|_| !is_lost) {
            stream.set_limit(server, history);
        }
        stream
    }

    /// The server measures what a client that reads has confirmed; the history shows one that
    /// stands still, too.
    fn set_lag(&mut self, history: &History) {
        let slot = &self.slot;
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
            .slot
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

    fn add_record(&mut self, one: &Recorded, seen: &Seen<'_>, cures: &Commands) {
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

    fn add_state(&mut self, state: &State, seen: &Seen<'_>, cures: &Commands) {
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
