//! `headwater snapshot`: asks a running stream to copy tables again, and waits until it has.
//!
//! What becomes of the request is read from the record of the stream, so that it does not
//! matter where the stream runs, nor which process of it has begun or ended the copy.

use std::time::{Duration, Instant};

use headwater_protocol::Lsn;
use headwater_protocol::table_pattern::TablePatterns;

use crate::assemble;
use crate::cli::{SinkKind, SnapshotOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Progress, Unit};
use crate::snapshot_request::{Scope, SnapshotRequest};
use crate::source::catalog::Catalog;
use crate::source::connection::{Connection, Connector};
use crate::source::plugin::Plugin;
use crate::source::slot::Slot;
use crate::state::{Ended, Part, Run, State, StateStore};
use crate::stop::Stop;

/// Between two looks at the record, which is written once a second.
const INTERVAL: Duration = Duration::from_secs(1);

/// Runs the command to its end.
pub fn run(options: &SnapshotOptions) -> Result<()> {
    let stop = Stop::on_signals()?;
    let connector = Connector::new(options.connection.conninfo(), stop.clone());
    let connection = connector.connect()?;
    let database = connection.database()?;
    let mut store = assemble::state_store(
        SinkKind::Kafka,
        &assemble::cluster(&options.kafka),
        &options.stream.topic_prefix,
        &database,
        &options.stream.slot,
    )?
    .ok_or_else(|| Error::failed("Kafka keeps no state"))?;
    let state = check_stream(&connection, store.as_mut(), options)?;
    let tables: TablePatterns = options.tables.iter().flatten().cloned().collect();
    let exclude: TablePatterns = options.exclude_tables.iter().flatten().cloned().collect();
    let expected = check_tables(&connection, &tables, &exclude, &state)?;
    let scope = Scope::Tables {
        tables: Some(tables),
        exclude,
    };
    let request = SnapshotRequest::new(&options.stream.slot, scope);
    request.send(&connection)?;
    let end = connection
        .query("SELECT pg_catalog.pg_current_wal_insert_lsn()")?
        .lsn(0, 0)?;
    tracing::info!(run = request.id, "asked the stream to copy tables again");
    if options.no_wait {
        return Ok(());
    }
    match wait(store.as_mut(), &request.id, end, expected, &stop) {
        Err(error) if error.kind() == ErrorKind::Interrupted => {
            tracing::info!(
                run = request.id,
                "not waiting any more: the stream goes on with the copy"
            );
            Ok(())
        }
        other => other,
    }
}

/// That there is a stream to copy into.
fn check_stream(
    connection: &Connection,
    store: &mut dyn StateStore,
    options: &SnapshotOptions,
) -> Result<State> {
    let name = &options.stream.slot;
    let slot = Slot::find(connection, name)?.ok_or_else(|| {
        Error::failed(format!(
            "replication slot \"{name}\" does not exist: there is no stream to copy tables into"
        ))
        .with_hint("Name the stream's slot with --slot, or begin one with headwater stream.")
    })?;
    let state = store.load()?.ok_or_else(|| {
        Error::failed(format!(
            "nothing is on record of a stream of slot \"{name}\" in this Kafka cluster"
        ))
        .with_hint("Give --brokers and --topic-prefix as to headwater stream.")
    })?;
    if slot.active_pid.is_none() {
        tracing::warn!(
            slot = name,
            "nobody streams from the slot: the request waits until somebody does"
        );
    }
    Ok(state)
}

/// Refuses tables that are not there and those that cannot be copied. Returns how many rows
/// are to be expected.
fn check_tables(
    connection: &Connection,
    tables: &TablePatterns,
    exclude: &TablePatterns,
    state: &State,
) -> Result<Option<u64>> {
    let plugin = Plugin::selecting(tables, exclude, state.shape.value("partitions"))?;
    let catalog = Catalog::read(connection, &plugin)?;
    catalog.check_patterns(Some(tables))?;
    let unkeyed = catalog.unkeyed();
    if !unkeyed.is_empty() {
        return Err(Error::failed(format!(
            "tables without a primary key or a replica identity index have no order to copy them \
             by: {unkeyed}"
        ))
        .with_hint("Leave them out with --exclude-table, or give them a key."));
    }
    Ok(catalog
        .tables
        .iter()
        .map(|table| table.estimated_rows)
        .sum())
}

/// Waits until the run has ended. `end` is behind the request.
fn wait(
    store: &mut dyn StateStore,
    id: &str,
    end: Lsn,
    expected: Option<u64>,
    stop: &Stop,
) -> Result<()> {
    let mut progress = Progress::new("snapshot", Unit::Rows, expected);
    loop {
        match store.load() {
            Ok(Some(state)) => {
                if let Some(ended) = state.runs.ended.iter().find(|ended| ended.id == id) {
                    progress.finish(ended.sent.rows, "every row of the snapshot is delivered");
                    return outcome(ended);
                }
                let run = state.runs.queue.iter().find(|run| run.request.id == id);
                match run {
                    Some(run) => {
                        progress.update(run.sent.rows);
                        progress.say(doing(run));
                    }
                    None if state.position >= end => return Err(unheard()),
                    None => progress.say(", waiting for the stream to take it up"),
                }
            }
            Ok(None) => return Err(unheard()),
            Err(error) if error.kind() == ErrorKind::Disconnected => {
                tracing::debug!(%error, "cannot see how far the copy is");
            }
            Err(error) => return Err(error),
        }
        let since = Instant::now();
        while since.elapsed() < INTERVAL {
            stop.check()?;
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Beside the rows that are sent.
fn doing(run: &Run) -> &'static str {
    match run.place.as_ref().map(|place| &place.part) {
        None if run.sent.rows == 0 => ", waiting for its turn",
        Some(Part::Ghosts(_)) => "; looking for rows that are gone",
        _ => "",
    }
}

fn outcome(ended: &Ended) -> Result<()> {
    if ended.failures.is_empty() {
        tracing::info!(
            rows = ended.sent.rows,
            tombstones = ended.sent.tombstones,
            "copied: the topics are what the tables hold"
        );
        return Ok(());
    }
    Err(
        Error::failed(format!("not copied: {}", ended.failures.join("; "))).with_hint(
            "Only tables that the stream captures can be copied into it. Its log says more.",
        ),
    )
}

fn unheard() -> Error {
    Error::failed("the stream has passed the request and not taken it up").with_hint(
        "If the stream was begun anew meanwhile, its snapshot has copied the tables. If not, \
             install the same release in the server and as the client that streams.",
    )
}
