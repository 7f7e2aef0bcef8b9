//! `headwater stream`: preconditions, snapshot, then the stream.
//!
//! Whatever breaks before the stream runs is tried again where that can help: a
//! snapshot whose server went away begins anew, which is safe because nothing of it
//! was made permanent.

use headwater_protocol::Lsn;

use crate::assemble;
use crate::backoff::Backoff;
use crate::cli::{SnapshotMode, StreamOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::{Pipeline, Positions};
use crate::route::Router;
use crate::sink::Sink;
use crate::source::catalog::Catalog;
use crate::source::connection::{Connection, Connector};
use crate::source::plugin::Plugin;
use crate::source::preconditions;
use crate::source::slot::{Slot, System};
use crate::source::snapshot::{Copied, Snapshot};
use crate::start::{self, Recorded, Start};
use crate::state::{Phase, State, StateStore};
use crate::stop::Stop;

/// Runs the command to its end.
pub fn run(options: &StreamOptions) -> Result<()> {
    let stop = Stop::on_signals()?;
    match stream(options, &stop) {
        Err(error) if error.kind() == ErrorKind::Interrupted => {
            tracing::info!(reason = %error, "stopped");
            Ok(())
        }
        other => other,
    }
}

fn stream(options: &StreamOptions, stop: &Stop) -> Result<()> {
    let plugin = Plugin::new(options)?;
    let connector = Connector::new(options.connection.conninfo(), stop.clone());
    let connection = connector.connect()?;
    check(&connection, &plugin, options)?;
    let database = connection.database()?;
    drop(connection);
    let sink = assemble::sink(options)?;
    let mut store = assemble::state_store(
        options.sink,
        &assemble::kafka_options(options),
        &options.topic_prefix,
        &database,
        &options.slot,
    )?;
    let mut launch = Launch {
        options,
        connector: &connector,
        plugin: &plugin,
        sink: sink.as_ref(),
        router: router(options),
        stop,
        attempt: 0,
    };
    let Some(begun) = launch.begin(&mut store)? else {
        return Ok(());
    };
    launch.follow(&begun, store)
}

fn router(options: &StreamOptions) -> Router {
    Router::new(options.topic.clone(), options.topic_prefix.clone())
}

/// Everything that can be refused before anything is changed.
fn check(connection: &Connection, plugin: &Plugin, options: &StreamOptions) -> Result<()> {
    let slot_exists = Slot::find(connection, &options.slot)?.is_some();
    let new_slots = match options.snapshot {
        _ if slot_exists => 0,
        SnapshotMode::Initial => 2,
        SnapshotMode::Never | SnapshotMode::Only => 1,
    };
    preconditions::check(connection, new_slots)?;
    let catalog = Catalog::read(connection, plugin)?;
    catalog.check_patterns(options.included().as_ref())?;
    catalog.check_keys(options.unkeyed)?;
    catalog.check_toast(options.toast)?;
    let mut names = router(options);
    for table in &catalog.tables {
        names.topic(&table.schema, &table.name)?;
    }
    Ok(())
}

/// What a start needs, tried as often as it takes.
struct Launch<'a> {
    options: &'a StreamOptions,
    connector: &'a Connector,
    plugin: &'a Plugin,
    sink: &'a dyn Sink,
    router: Router,
    stop: &'a Stop,
    /// Counts snapshots.
    attempt: u64,
}

/// A slot to stream from.
struct Begun {
    system: System,
    consistent_point: Lsn,
    /// Everything before it is durable.
    position: Lsn,
}

type Store = Option<Box<dyn StateStore>>;

impl Launch<'_> {
    /// Gets to a slot that can be streamed from; none if a copy was all that was asked for.
    fn begin(&mut self, store: &mut Store) -> Result<Option<Begun>> {
        let mut backoff = Backoff::default();
        loop {
            match self.try_begin(store) {
                Err(error) if error.kind() == ErrorKind::Disconnected => {
                    backoff.report(&error);
                    backoff.wait(self.stop)?;
                }
                other => return other,
            }
        }
    }

    fn try_begin(&mut self, store: &mut Store) -> Result<Option<Begun>> {
        let replication = self.connector.connect_replication()?;
        let system = System::identify(&replication)?;
        let slot = Slot::find(&replication, &self.options.slot)?;
        let state = store.as_mut().map(|store| store.load()).transpose()?;
        let recorded = match &state {
            None => Recorded::Unkept,
            Some(None) => Recorded::Nothing,
            Some(Some(state)) => Recorded::State(state),
        };
        let (mode, name) = (self.options.snapshot, &self.options.slot);
        match start::decide(mode, recorded, slot.as_ref(), name, &system)? {
            Start::Snapshot => {
                drop(replication);
                self.snapshot(store, system)
            }
            Start::CreateSlot => {
                let consistent_point = Slot::create(&replication, name, &mut |_| ())?;
                tracing::info!(slot = %name, %consistent_point, "slot created, without a snapshot");
                Ok(Some(Begun {
                    system,
                    consistent_point,
                    position: consistent_point,
                }))
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

    fn snapshot(&mut self, store: &mut Store, system: System) -> Result<Option<Begun>> {
        let copied = Snapshot {
            connector: self.connector,
            plugin: self.plugin,
            options: self.options,
            sink: self.sink,
            router: &mut self.router,
            stop: self.stop,
            attempt: &mut self.attempt,
        }
        .take()?;
        let consistent_point = copied.consistent_point();
        if self.options.snapshot == SnapshotMode::Only {
            tracing::info!(rows = copied.rows, %consistent_point, "snapshot complete");
            return Ok(None);
        }
        let begun = Begun {
            system,
            consistent_point,
            position: consistent_point,
        };
        if let Some(store) = store {
            store.store(&begun.state(Phase::Copied))?;
        }
        self.promote(&copied)?;
        tracing::info!(
            rows = copied.rows,
            %consistent_point,
            "snapshot complete, streaming changes"
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
    fn follow(mut self, begun: &Begun, store: Store) -> Result<()> {
        let pipeline = Pipeline {
            connector: self.connector,
            plugin: self.plugin,
            options: self.options,
            sink: self.sink,
            router: &mut self.router,
            system: &begun.system,
            stop: self.stop,
        };
        let taken = pipeline.take_slot()?;
        let state = begun.state(Phase::Streaming);
        let positions = match store {
            None => Positions::unrecorded(),
            Some(mut store) => {
                store.store(&state)?;
                Positions::recorded(store, state)?
            }
        };
        tracing::info!(slot = %self.options.slot, position = %begun.position, "streaming");
        pipeline.run(taken, begun.position, positions)
    }
}

impl Begun {
    fn state(&self, phase: Phase) -> State {
        State {
            system_identifier: self.system.identifier.clone(),
            timeline: self.system.timeline,
            phase,
            consistent_point: self.consistent_point,
            position: self.position,
        }
    }
}
