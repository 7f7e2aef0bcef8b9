//! The start of a stream, tried as often as it takes: a copy, or a slot to go on from.

use std::sync::Arc;

use headwater_protocol::Lsn;
use headwater_protocol::table_pattern::TablePatterns;

use crate::backoff::Backoff;
use crate::cli::{CopyMode, SnapshotMode, StreamOptions};
use crate::dead_letters::DeadLetters;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{Activity, Metrics};
use crate::pipeline::{Pipeline, Positions};
use crate::registry::Registrar;
use crate::route::Router;
use crate::sink::Sink;
use crate::snapshot_request::{Scope, SnapshotRequest};
use crate::source::catalog::Catalog;
use crate::source::connection::{Connection, Connector};
use crate::source::plugin::Plugin;
use crate::source::slot::{Slot, System};
use crate::source::snapshot::{self, Copied, Snapshot};
use crate::start::{self, Asked, Recorded, Start};
use crate::state::{Mark, Phase, Runs, Shape, StaleTables, State, StateStore};
use crate::stop::Stop;
use crate::watch::RestartLsn;

/// What a start needs, tried as often as it takes.
pub(super) struct Launch<'a> {
    pub(super) options: &'a StreamOptions,
    pub(super) connector: &'a Connector,
    pub(super) plugin: &'a Plugin,
    pub(super) sink: &'a Arc<dyn Sink>,
    pub(super) dead_letters: Option<&'a DeadLetters>,
    pub(super) registrar: Option<&'a Registrar>,
    pub(super) router: Router,
    pub(super) stop: &'a Stop,
    pub(super) metrics: &'a Metrics,
    /// Counts snapshots.
    pub(super) attempt: u64,
}

/// A slot to stream from.
pub(super) struct Begun {
    system: System,
    consistent_point: Lsn,
    /// Everything before it is durable.
    position: Lsn,
}

pub(super) type Store = Option<Box<dyn StateStore>>;

impl Launch<'_> {
    /// Gets to a slot that can be streamed from; none if a copy was all that was asked for.
    pub(super) fn begin(&mut self, store: &mut Store) -> Result<Option<Begun>> {
        retried(self.stop, self.metrics, || self.try_begin(store))
    }

    fn try_begin(&mut self, store: &mut Store) -> Result<Option<Begun>> {
        self.metrics.enter(Activity::Starting);
        let replication = self.connector.connect_replication()?;
        let system = System::identify(&replication)?;
        let name = &self.options.slot;
        let slot = Slot::find(&replication, name)?;
        let start = decide(self.options, store, slot.as_ref(), &system)?.0;
        count_starts(self.metrics, store);
        match start {
            Start::Snapshot if self.options.snapshot_mode == CopyMode::Chunked => {
                drop(replication);
                self.copy_later(store, system)
            }
            Start::Snapshot => {
                drop(replication);
                self.snapshot(store, system)
            }
            Start::Anew => {
                if let Some(slot) = &slot {
                    self.drop_slot(&replication, slot)?;
                }
                drop(replication);
                tracing::warn!(
                    "changes are lost: beginning anew with a snapshot, as --resnapshot says"
                );
                self.snapshot(store, system)
            }
            Start::CreateSlot => {
                let consistent_point = Slot::create(&replication, name, &mut |_| ())?;
                tracing::info!(slot = %name, %consistent_point, "slot created, without a snapshot");
                Ok(Some(Begun::at(system, consistent_point)))
            }
            Start::BehindGap {
                lost_after,
                slot: stands,
            } => {
                let from = match (stands, &slot) {
                    (Some(position), _) => position,
                    (None, lost) => {
                        if let Some(lost) = lost {
                            self.drop_slot(&replication, lost)?;
                        }
                        Slot::create(&replication, name, &mut |_| ())?
                    }
                };
                tracing::warn!(
                    %lost_after,
                    %from,
                    "changes are lost: going on without them, as --accept-gap says"
                );
                Ok(Some(Begun::at(system, from)))
            }
            Start::Stream {
                consistent_point,
                position,
            } => Ok(Some(Begun {
                system,
                consistent_point,
                position,
            })),
        }
    }

    /// Drops a slot from which nothing can be streamed any more.
    fn drop_slot(&self, connection: &Connection, slot: &Slot) -> Result<()> {
        let name = &self.options.slot;
        match slot.active_pid {
            Some(_) if self.options.take_over => Slot::wrest(connection, name),
            _ => {
                slot.refuse_active(name)
                    .map_err(|error| error.with_hint(Slot::IN_USE_HINT))?;
                Slot::drop(connection, name)
            }
        }
    }

    fn snapshot(&mut self, store: &mut Store, system: System) -> Result<Option<Begun>> {
        let options = self.options;
        let copied = Snapshot {
            connector: self.connector,
            plugin: self.plugin,
            options: self.options,
            sink: self.sink.as_ref(),
            dead_letters: self.dead_letters,
            registrar: self.registrar,
            router: &mut self.router,
            stop: self.stop,
            metrics: self.metrics,
            attempt: &mut self.attempt,
            still_due: &mut |connection| still_due(connection, options, store, &system),
        }
        .take()?;
        let consistent_point = copied.consistent_point();
        if self.options.snapshot == SnapshotMode::Only {
            tracing::info!(rows = copied.rows, %consistent_point, "snapshot complete");
            return Ok(None);
        }
        let begun = Begun::at(system, consistent_point);
        if let Some(store) = store {
            let state = State {
                stale: copied.stale().clone(),
                ..begun.state(Phase::Copied, options)
            };
            // A copy of hours is not to be made again because a broker was away at its end.
            retried(self.stop, self.metrics, || store.store(&state))?;
        }
        self.promote(&copied)?;
        tracing::info!(
            rows = copied.rows,
            %consistent_point,
            "snapshot complete, streaming changes"
        );
        Ok(Some(begun))
    }

    /// Gets to a slot from which everything is streamed, and has the copy of all tables into
    /// the stream on record.
    fn copy_later(&self, store: &mut Store, system: System) -> Result<Option<Begun>> {
        let options = self.options;
        let copied = snapshot::without_rows(self.connector, &options.slot, &mut |connection| {
            still_due(connection, options, store, &system)
        })?;
        let consistent_point = copied.consistent_point();
        let begun = Begun::at(system, consistent_point);
        let scope = Scope::Tables {
            tables: None,
            exclude: TablePatterns::default(),
        };
        let mut runs = Runs::default();
        runs.add(SnapshotRequest::new(&options.slot, scope), consistent_point)
            .map_err(Error::failed)?;
        if let Some(store) = store {
            let state = State {
                runs,
                ..begun.state(Phase::Copied, options)
            };
            retried(self.stop, self.metrics, || store.store(&state))?;
        }
        self.promote(&copied)?;
        tracing::info!(
            %consistent_point,
            "streaming changes, and copying tables meanwhile, as --snapshot-mode chunked says"
        );
        Ok(Some(begun))
    }

    /// The copy of the slot stands at the same position, or nothing may follow it.
    fn promote(&self, copied: &Copied) -> Result<()> {
        let connection = self.connector.connect()?;
        let name = &self.options.slot;
        let position = Slot::promote(&connection, copied.temporary_slot(), name)?;
        if position == copied.consistent_point() {
            return Ok(());
        }
        Slot::drop(&connection, name)?;
        Err(Error::failed(format!(
            "replication slot \"{name}\" came to stand at {position}, the snapshot ends at {}",
            copied.consistent_point()
        )))
    }

    /// Streams. The state says so only once the slot is taken, so that an instance that
    /// does not get it changes nothing.
    ///
    /// What is before the position that the stream begins at is never sent again: a
    /// record sent again and newer ones not yet would leave an older row behind, under a
    /// position that says all is well.
    pub(super) fn follow(
        mut self,
        begun: &Begun,
        mut store: Store,
        restart_lsn: RestartLsn,
    ) -> Result<()> {
        let (connector, options) = (self.connector, self.options);
        let pipeline = Pipeline {
            connector,
            plugin: self.plugin,
            options,
            sink: self.sink,
            dead_letters: self.dead_letters,
            registrar: self.registrar,
            router: &mut self.router,
            system: &begun.system,
            stop: self.stop,
            metrics: self.metrics,
        };
        let mut own_pid = None;
        let (taken, state) = retried(self.stop, self.metrics, || {
            let taken = match own_pid {
                None => pipeline.take_slot(begun.position),
                Some(pid) => pipeline.take_slot_again(begun.position, pid),
            }?;
            own_pid = Some(taken.backend_pid());
            let state = state_of_taken(connector, options, self.plugin, &mut store, begun)?;
            if let Some(store) = &mut store {
                store.store(&state)?;
            }
            Ok((taken, state))
        })?;
        count_starts(self.metrics, &store);
        let (position, runs) = (state.position, state.runs.clone());
        for (schema, table, mark) in state.stale.iter() {
            mark.warn(schema, table, &options.slot);
        }
        let positions = match store {
            None => Positions::unrecorded(),
            Some(store) => Positions::recorded(store, state, restart_lsn, self.metrics)?,
        };
        tracing::info!(slot = %options.slot, %position, "streaming");
        pipeline.run(taken, position, positions, runs)
    }
}

/// As the record has them: from the first look at it, so that a scrape of a run that ends soon finds
/// the number.
fn count_starts(metrics: &Metrics, store: &Store) {
    let starts = store.as_ref().and_then(|store| store.starts());
    metrics.count(|figures| figures.starts = starts);
}

/// Tries as often as connections break.
fn retried<T>(stop: &Stop, metrics: &Metrics, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut backoff = Backoff::default();
    loop {
        metrics.turns();
        match attempt() {
            Err(error) if error.kind() == ErrorKind::Disconnected => {
                backoff.report(&error);
                backoff.wait(stop)?;
            }
            other => return other,
        }
    }
}

/// What to do first, by what is on record now, which comes with it.
fn decide(
    options: &StreamOptions,
    store: &mut Store,
    slot: Option<&Slot>,
    system: &System,
) -> Result<(Start, Option<State>)> {
    let state = store.as_mut().map(|store| store.load()).transpose()?;
    let recorded = match &state {
        None => Recorded::Unkept,
        Some(None) => Recorded::Nothing,
        Some(Some(state)) => Recorded::State(state),
    };
    let start = decide_by(options, recorded, slot, system)?;
    Ok((start, state.flatten()))
}

/// The same by a record that was read before.
pub(crate) fn decide_by(
    options: &StreamOptions,
    recorded: Recorded<'_>,
    slot: Option<&Slot>,
    system: &System,
) -> Result<Start> {
    let asked = Asked {
        snapshot: options.snapshot,
        slot: &options.slot,
        shape: &Shape::asked(options),
        resnapshot: options.resnapshot,
        accept_gap: options.accept_gap,
    };
    start::decide(&asked, recorded, slot, system)
}

/// Refuses a snapshot that another instance has taken while this one waited for its turn:
/// a copy now would write older rows behind the records of the other's stream.
fn still_due(
    connection: &Connection,
    options: &StreamOptions,
    store: &mut Store,
    system: &System,
) -> Result<()> {
    let name = &options.slot;
    let slot = Slot::find(connection, name)?;
    match decide(options, store, slot.as_ref(), system)?.0 {
        Start::Snapshot => Ok(()),
        // The gap is what this snapshot is for; the slot was dropped before.
        Start::Anew if slot.is_none() => Ok(()),
        Start::Anew | Start::CreateSlot | Start::Stream { .. } | Start::BehindGap { .. } => {
            Err(Error::new(
                ErrorKind::SlotInUse,
                format!(
                    "another instance took the snapshot for replication slot \"{name}\" meanwhile"
                ),
            )
            .with_hint("Stop the other instance, or choose another name with --slot."))
        }
    }
}

/// The state of a stream whose slot was just taken. It goes on from what was asked for, or from
/// where the slot stands if that is later. Another instance may have held it until now and
/// moved it, so what was decided before is decided again.
fn state_of_taken(
    connector: &Connector,
    options: &StreamOptions,
    plugin: &Plugin,
    store: &mut Store,
    begun: &Begun,
) -> Result<State> {
    let connection = connector.connect_replication()?;
    let system = System::identify(&connection)?;
    let slot = Slot::find(&connection, &options.slot)?;
    let (start, recorded) = decide(options, store, slot.as_ref(), &system)?;
    let confirmed = slot.map_or(Lsn::INVALID, |slot| slot.confirmed_flush);
    let mut state = State {
        position: begun.position.max(confirmed),
        ..begun.state(Phase::Streaming, options)
    };
    if let Some(recorded) = recorded {
        state.stale = recorded.stale;
        state.restart_lsn = recorded.restart_lsn;
        state.runs = recorded.runs;
    }
    match start {
        Start::Stream { .. } => {}
        Start::BehindGap { lost_after, .. } => {
            mark_all(&mut state, lost_after, &connection, plugin)?
        }
        Start::Snapshot | Start::CreateSlot | Start::Anew => {
            return Err(Error::failed(format!(
                "replication slot \"{}\" or its server changed while it was taken",
                options.slot
            ))
            .with_hint("Start again."));
        }
    }
    Ok(state)
}

/// Every table may differ from its topic behind a gap that was accepted.
fn mark_all(
    state: &mut State,
    lost_after: Lsn,
    connection: &Connection,
    plugin: &Plugin,
) -> Result<()> {
    // The server may have been wound back: records of the history that is no more go up to what
    // was lost. Only a copy that begins behind there takes them for older than itself.
    let since = state.position.max(lost_after);
    for table in &Catalog::read(connection, plugin)?.tables {
        let mark = Mark {
            since,
            reason: format!("changes after {lost_after} are lost, as --accept-gap said"),
        };
        let (schema, table) = (&table.sent_as.schema, &table.sent_as.table);
        state.stale.mark(schema, table, mark);
    }
    state.runs.begin_anew(state.position);
    // It may be another slot than the one that this was seen of.
    state.restart_lsn = None;
    Ok(())
}

impl Begun {
    /// Nothing before the consistent point is of this stream.
    fn at(system: System, consistent_point: Lsn) -> Self {
        Begun {
            system,
            consistent_point,
            position: consistent_point,
        }
    }

    fn state(&self, phase: Phase, options: &StreamOptions) -> State {
        State {
            system_identifier: self.system.identifier.clone(),
            timeline: self.system.timeline,
            phase,
            consistent_point: self.consistent_point,
            position: self.position,
            restart_lsn: None,
            shape: Shape::asked(options),
            stale: StaleTables::default(),
            runs: Runs::default(),
        }
    }
}
