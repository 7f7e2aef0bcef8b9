//! What is wrong, how bad it is, and what mends it.

use std::time::Duration;

use serde::Serialize;

use super::cure::Commands;
use super::report::{Postgres, Report, Seen};
use super::source::Answer;
use super::stream::{Limit, Standing, Stream};
use crate::error::Error;
use crate::source::slot::raised_keep_size;
use crate::state::Phase;
use crate::terminal::{self, Level};

/// A limit that is reached within this time is near.
const NEAR: Duration = Duration::from_secs(3600);

/// As is one of which less than a fifth is left: the warning of `--max-retained-wal`, too.
const NEAR_PARTS: u64 = 5;

/// How far behind a stream is that is to be looked at: longer than a broker takes to be
/// replaced by another.
const BEHIND: f64 = 60.0;

/// Stale tables of one stream that are named; `--json` has all.
const NAMED: usize = 5;

/// Something that is wrong.
#[derive(Debug, Serialize)]
pub(super) struct Trouble {
    pub level: Level,
    /// The slot of the stream; null where it is of no one stream.
    pub slot: Option<String>,
    /// A sentence, lower case, no full stop.
    pub message: String,
    /// What mends it: a command, a statement, or what to do in words.
    pub cure: Option<String>,
    /// Whether changes are lost.
    pub lost: bool,
}

impl Trouble {
    fn new(level: Level, message: String) -> Self {
        Trouble {
            level,
            slot: None,
            message,
            cure: None,
            lost: false,
        }
    }

    fn warning(message: String) -> Self {
        Trouble::new(Level::Warning, message)
    }

    fn fail(message: String) -> Self {
        Trouble::new(Level::Fail, message)
    }

    fn loss(message: String) -> Self {
        Trouble {
            lost: true,
            ..Trouble::fail(message)
        }
    }

    fn cured_by(self, cure: impl Into<String>) -> Self {
        Trouble {
            cure: Some(cure.into()),
            ..self
        }
    }

    fn of(self, stream: &Stream) -> Self {
        Trouble {
            slot: Some(stream.slot.name.clone()),
            ..self
        }
    }

    fn of_silence(error: &Error) -> Self {
        Trouble {
            cure: error.hint().map(str::to_owned),
            ..Trouble::fail(error.to_string())
        }
    }
}

/// All that is wrong, the worst first.
pub(super) fn troubles(report: &Report, seen: &Seen<'_>, cures: &Commands) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    troubles.extend(silence(seen.postgres));
    troubles.extend(seen.kafka.and_then(|(_, answer)| silence(answer)));
    troubles.extend(seen.client.and_then(|(_, answer)| silence(answer)));
    troubles.extend(of_client(report));
    for stream in &report.streams {
        let found = of_stream(stream, report, cures);
        troubles.extend(found.into_iter().map(|trouble| trouble.of(stream)));
    }
    troubles.extend(nothing(report, seen, cures));
    troubles.sort_by_key(|trouble| std::cmp::Reverse((trouble.lost, trouble.level)));
    troubles
}

fn silence<T>(answer: Option<&Answer<T>>) -> Option<Trouble> {
    let error = answer?.outcome.as_ref().err()?;
    Some(Trouble::of_silence(error))
}

/// What the client itself knows best.
fn of_client(report: &Report) -> Option<Trouble> {
    let asked = report.client.as_ref()?;
    let client = asked.answer.as_ref()?;
    if client.kafka_connected == Some(false) {
        let message = format!("the client at {} waits for Kafka", asked.name);
        return Some(
            Trouble::fail(message).cured_by("See whether the brokers run: its log has more"),
        );
    }
    match client.waiting_tables {
        Some(tables) if tables > 0 => {
            let message = format!(
                "changes of {} wait for the schema registry",
                terminal::counted(tables, "table", "tables")
            );
            Some(
                Trouble::warning(message)
                    .cured_by("See whether the registry runs: the client's log has more"),
            )
        }
        _ if client.ready == Some(false) => {
            let message = format!("the client at {} is not ready", asked.name);
            let cure = format!("See what http://{}/readyz says", asked.name);
            Some(Trouble::warning(message).cured_by(&cure))
        }
        _ => None,
    }
}

/// Nothing to show is wrong only where everybody has answered.
fn nothing(report: &Report, seen: &Seen<'_>, cures: &Commands) -> Option<Trouble> {
    let all_said = report.postgres.answer.is_some()
        && report
            .kafka
            .as_ref()
            .is_none_or(|kafka| kafka.answer.is_some());
    if !all_said || !report.streams.is_empty() {
        return None;
    }
    Some(match &seen.wanted.slot {
        Some(slot) => Trouble::fail(format!(
            "there is no replication slot \"{slot}\" of Headwater, and nothing is on record of its \
             stream"
        ))
        .cured_by("See SELECT slot_name, plugin FROM pg_replication_slots; or leave --slot out."),
        None => Trouble::warning("there is no stream on this server".to_owned())
            .cured_by(cures.doctor()),
    })
}

fn of_stream(stream: &Stream, report: &Report, cures: &Commands) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    troubles.extend(standing(stream, cures));
    troubles.extend(wal(stream, report));
    troubles.extend(lag(stream));
    if let Some(error) = &stream.unreadable {
        troubles.push(Trouble::fail(error.clone()));
    }
    if let Some(letters) = stream.quarantined.as_ref().filter(|it| it.records > 0) {
        let message = format!(
            "{} in topic \"{}\": changes that could not be delivered",
            terminal::counted(letters.records, "dead letter", "dead letters"),
            letters.topic
        );
        troubles.push(Trouble::warning(message).cured_by(cures.tail(&letters.topic)));
    }
    troubles.extend(copies(stream));
    troubles.extend(stale(stream));
    troubles
}

fn standing(stream: &Stream, cures: &Commands) -> Option<Trouble> {
    let slot = &stream.slot.name;
    match stream.state {
        Standing::Lost => {
            let why = match &stream.slot.invalidation_reason {
                Some(reason) => format!(" ({reason})"),
                None => String::new(),
            };
            let message = format!(
                "WAL that slot \"{slot}\" needs is gone{why}: changes behind {} are lost",
                known(stream)
            );
            Some(Trouble::loss(message).cured_by(cures.resnapshot(stream)))
        }
        Standing::Missing if stream.phase == Some(Phase::Copied) => {
            let message = format!(
                "the tables of stream \"{slot}\" are copied, and it has not begun to stream"
            );
            Some(Trouble::fail(message).cured_by(cures.stream(stream)))
        }
        Standing::Missing => {
            let message = format!(
                "slot \"{slot}\" is gone: changes behind {} are lost",
                known(stream)
            );
            Some(Trouble::loss(message).cured_by(cures.resnapshot(stream)))
        }
        Standing::Inactive => {
            let since = stream
                .slot
                .inactive_seconds
                .map_or_else(String::new, |seconds| {
                    format!(" for {}", terminal::duration(seconds_of(seconds)))
                });
            let message = format!(
                "nobody streams from slot \"{slot}\"{since}; it keeps {} of WAL",
                stream
                    .retained_bytes
                    .map_or_else(|| "some".to_owned(), terminal::bytes)
            );
            let (start, drop) = (cures.stream(stream), cures.drop(stream));
            let cure = format!("{start}\nor, to give it up:\n{drop}");
            Some(Trouble::fail(message).cured_by(cure))
        }
        Standing::Streaming | Standing::Copying | Standing::Elsewhere | Standing::Unknown => None,
    }
}

/// Up to where nothing is lost.
fn known(stream: &Stream) -> String {
    let confirmed = || stream.slot.confirmed_flush_lsn.map(|lsn| lsn.to_string());
    let position = stream.position.clone().or_else(confirmed);
    position.unwrap_or_else(|| "an unknown position".to_owned())
}

/// What the slot keeps, and how near the limit is.
fn wal(stream: &Stream, report: &Report) -> Option<Trouble> {
    let slot = &stream.slot.name;
    let server = report.postgres.answer.as_ref()?;
    if stream.slot.wal_status.as_deref() == Some("unreserved") {
        let message = format!(
            "slot \"{slot}\" keeps more than max_slot_wal_keep_size: the next checkpoint removes \
             WAL that it needs"
        );
        return Some(Trouble::fail(message).cured_by(raised(stream, server)));
    }
    let by_setting = stream.limit == Some(Limit::MaxSlotWalKeepSize);
    let (room, whole, cure) = match by_setting {
        true => (
            u64::try_from(stream.slot.safe_wal_size?).unwrap_or(0),
            server.max_slot_wal_keep_size?,
            raised(stream, server),
        ),
        false => (
            server.disk_free?,
            server.disk_free?.saturating_add(stream.retained_bytes?),
            "See to it that the stream moves, make room, or bound it with \
             max_slot_wal_keep_size and headwater stream --max-retained-wal"
                .to_owned(),
        ),
    };
    let is_near_in_time = stream.state != Standing::Streaming
        && stream
            .seconds_until_limit
            .is_some_and(|left| left < NEAR.as_secs_f64());
    if room >= whole / NEAR_PARTS && !is_near_in_time {
        return None;
    }
    let when = stream.seconds_until_limit.map_or_else(String::new, |left| {
        format!(
            ", {} at the present rate",
            terminal::duration(seconds_of(left))
        )
    });
    let what = match by_setting {
        true => "until max_slot_wal_keep_size is reached and it is lost",
        false => "of room on the server's disk",
    };
    let message = format!(
        "slot \"{slot}\" has {} left {what}{when}",
        terminal::bytes(room)
    );
    Some(Trouble::warning(message).cured_by(cure))
}

/// Above what there is now, be it the limit or what is kept in spite of it.
fn raised(stream: &Stream, server: &Postgres) -> String {
    let limit = server.max_slot_wal_keep_size.max(stream.retained_bytes);
    let megabytes = raised_keep_size(limit.unwrap_or(0), server.wal_segment_size);
    format!(
        "ALTER SYSTEM SET max_slot_wal_keep_size = '{megabytes}MB';\n\
         SELECT pg_reload_conf();\n\
         Where the disk can spare it; and see to it that the stream moves"
    )
}

fn lag(stream: &Stream) -> Option<Trouble> {
    let seconds = stream.lag_seconds.filter(|seconds| *seconds >= BEHIND)?;
    let more = if stream.lag_seconds_at_least {
        "more than "
    } else {
        ""
    };
    let message = format!(
        "stream \"{}\" is {more}{} behind",
        stream.slot.name,
        terminal::duration(seconds_of(seconds))
    );
    Some(Trouble::warning(message).cured_by(
        "Its log says what it waits for; a transaction that is open, or larger than what was \
         sent so far, holds back what comes behind it",
    ))
}

fn copies(stream: &Stream) -> Vec<Trouble> {
    let running = stream.snapshot.iter().flat_map(|run| &run.failures);
    let of_running =
        running.map(|failure| Trouble::warning(format!("a table is not copied: {failure}")));
    let of_ended = stream
        .failures
        .iter()
        .map(|failure| Trouble::warning(format!("the last copy has left out: {failure}")));
    let troubles = of_running.chain(of_ended);
    let again = "Mend what it names, and ask for the tables again with headwater snapshot";
    troubles
        .take(NAMED)
        .map(|trouble| trouble.cured_by(again))
        .collect()
}

fn stale(stream: &Stream) -> Vec<Trouble> {
    let named = stream.stale.iter().take(NAMED).map(|stale| {
        Trouble::warning(format!(
            "{}.{} is stale since {}: {}",
            stale.schema, stale.table, stale.since, stale.reason
        ))
        .cured_by(stale.cure.clone())
    });
    let mut troubles: Vec<Trouble> = named.collect();
    let more = stream.stale.len().saturating_sub(NAMED);
    if more > 0 {
        let tables = terminal::counted(more as u64, "more table is", "more tables are");
        let message = format!("{tables} stale");
        troubles.push(
            Trouble::warning(message)
                .cured_by("headwater status --json has all, each with its cure"),
        );
    }
    troubles
}

/// What is told for people; no time is less than none, or more than can be told.
fn seconds_of(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}
