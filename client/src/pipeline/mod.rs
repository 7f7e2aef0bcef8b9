//! The stream: frames from the slot, records to the sink, positions back.
//!
//! ```text
//! ReplicationStream ─► Applier ─► Session::send ─► sink
//!        ▲                                           │ reports
//!        └── status update ◄── Positions ◄── Ack ◄───┘
//! ```
//!
//! # What a broken connection costs
//!
//! The server streams again from the position that is asked for, so only records
//! behind it can come twice. Before asking, everything sent is delivered; then what is
//! asked for is the end of the last whole transaction, and only the one that was
//! arriving comes again, from its beginning.

mod apply;
mod attempts;
mod chunks;
mod fetch;
mod positions;
mod session;
mod status;

use std::sync::Arc;
use std::time::{Duration, Instant};

use headwater_protocol::Lsn;
use headwater_protocol::frame::Frames;

use self::apply::Applier;
use self::attempts::Attempts;
use self::chunks::{Chunks, Parts};
use self::fetch::Fetch;
pub use self::positions::Positions;
use self::session::{Delivery, Session};
use crate::ack::Ack;
use crate::backoff::Backoff;
use crate::cli::StreamOptions;
use crate::dead_letters::DeadLetters;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{Activity, Metrics};
use crate::registry::Registrar;
use crate::route::Router;
use crate::sink::Sink;
use crate::source::connection::Connector;
use crate::source::plugin::Plugin;
use crate::source::replication::{Event, ReplicationStream};
use crate::source::slot::{Slot, System};
use crate::start;
use crate::state::Runs;
use crate::stop::Stop;

/// How long to wait for the server's next message. Reports, status updates and the
/// stop flag are looked at in between.
const READ_TIMEOUT: Duration = Duration::from_millis(200);

/// The same while the registry is asked for a schema's id: it answers within milliseconds, and a
/// change waits for it.
const REGISTRY_TIMEOUT: Duration = Duration::from_millis(10);

/// How long a slot may stay in use at the first start: an instance that was just
/// stopped needs a moment, one that runs stays.
const FIRST_START_PATIENCE: Duration = Duration::from_secs(3);

/// How long another process may hold the slot after our own connection broke.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// What the stream needs.
pub struct Pipeline<'a> {
    /// Opens its sessions.
    pub connector: &'a Connector,
    /// The plugin's options.
    pub plugin: &'a Plugin,
    /// The command line.
    pub options: &'a StreamOptions,
    /// Where records go.
    pub sink: &'a Arc<dyn Sink>,
    /// Where changes go that cannot be delivered; none to stop at them.
    pub dead_letters: Option<&'a DeadLetters>,
    /// By which the ids of schemas are learned; none where records have no schema.
    pub registrar: Option<&'a Registrar>,
    /// Names the topics.
    pub router: &'a mut Router,
    /// The server that the slot belongs to.
    pub system: &'a System,
    /// Whether to stop.
    pub stop: &'a Stop,
    /// Where it tells how it fares.
    pub metrics: &'a Metrics,
}

/// The slot, taken and streaming. Nothing was read from it yet.
pub struct Taken {
    stream: ReplicationStream,
    backend_pid: u32,
}

impl Taken {
    /// The server's process that streams.
    pub fn backend_pid(&self) -> u32 {
        self.backend_pid
    }
}

impl Pipeline<'_> {
    /// As [`Pipeline::take_slot`] after a session of ours has broken, whose process the server
    /// may take a while to end: to wait for it is to wait for a connection.
    pub fn take_slot_again(&self, position: Lsn, own_pid: u32) -> Result<Taken> {
        self.take_slot(position).map_err(|error| {
            if is_held_by(&error, own_pid) {
                Error::new(ErrorKind::Disconnected, error.to_string())
            } else {
                error
            }
        })
    }

    /// Takes the slot, to stream from `position` or from where it stands if that is later.
    /// While it is held, no other instance can stream from it.
    pub fn take_slot(&self, position: Lsn) -> Result<Taken> {
        let start = Instant::now();
        let mut backoff = Backoff::default();
        loop {
            match self.start(position) {
                Err(error)
                    if error.kind() == ErrorKind::SlotInUse
                        && start.elapsed() < FIRST_START_PATIENCE =>
                {
                    tracing::debug!(%error, "waiting for the slot");
                    if self.options.take_over {
                        self.end_holder()?;
                    }
                    backoff.wait(self.stop)?;
                }
                Err(error) if error.kind() == ErrorKind::SlotInUse => {
                    return Err(error.with_hint(Slot::IN_USE_HINT));
                }
                other => return other,
            }
        }
    }

    /// Streams until a signal or an error; broken connections are mended. Everything
    /// before `position` is durable; `runs` are gone on with.
    pub fn run(self, taken: Taken, position: Lsn, positions: Positions, runs: Runs) -> Result<()> {
        let Pipeline {
            connector,
            plugin,
            options,
            sink,
            dead_letters,
            registrar,
            system,
            stop,
            router,
            metrics,
        } = self;
        let ack = Ack::new(position);
        let mut delivery = Delivery::new(sink.as_ref(), ack, positions, stop, metrics);
        metrics.enter(Activity::Streaming);
        let parts = Parts {
            connector,
            plugin,
            sink,
            options,
            dead_letters,
            registrar,
        };
        let chunks = Chunks::new(parts, runs)?;
        let fetch = Fetch::new(connector, plugin);
        let mut applier = Applier::new(options, dead_letters, router, fetch, chunks, registrar);
        let opener = Opener {
            connector,
            plugin,
            slot: &options.slot,
            system,
        };
        let mut taken = taken;
        let mut attempts = Attempts::default();
        loop {
            let begun = Instant::now();
            let mut session = Session::new(taken.stream, &mut delivery);
            metrics.connected(true);
            let error = follow(&mut applier, &mut session);
            match error.kind() {
                ErrorKind::Interrupted => return session.shut_down(),
                ErrorKind::Disconnected | ErrorKind::Doubtful => {}
                // What was delivered before is confirmed, so that it does not come again.
                _ => {
                    if let Err(secondary) = session.shut_down() {
                        tracing::debug!(error = %secondary, "could not confirm the last position");
                    }
                    return Err(error);
                }
            }
            drop(session);
            metrics.connected(false);
            applier.end_session(&mut delivery.ack);
            let ended = Ended {
                error,
                after: begun.elapsed(),
                backend_pid: taken.backend_pid,
            };
            taken = match reconnect(&opener, &mut delivery, ended, &mut attempts) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    let position = delivery.drain()?;
                    tracing::info!(%position, "stopped");
                    return Ok(());
                }
                // The record may be another instance's by now.
                Err(error) if error.kind() == ErrorKind::SlotInUse => return Err(error),
                // What a gap's error names is where the next start finds the stream.
                Err(error) => {
                    if let Err(secondary) = delivery.drain() {
                        tracing::warn!(error = %secondary, "cannot record the last position");
                    }
                    return Err(error);
                }
                Ok(taken) => taken,
            };
            metrics.count(|figures| figures.postgres_reconnects += 1);
            tracing::info!(position = %delivery.ack.flush_lsn(), "streaming again");
        }
    }

    /// Ends the session that streams from the slot: no instance has the lease any more, so it
    /// is another program's, or that of an instance which is gone.
    fn end_holder(&self) -> Result<()> {
        let (connection, name) = (self.connector.connect()?, &self.options.slot);
        if let Some(pid) = Slot::find(&connection, name)?.and_then(|slot| slot.active_pid) {
            tracing::warn!(
                slot = %name,
                server_process = pid,
                "ending the session that streams from the slot, as --take-over says"
            );
            Slot::end_session(&connection, name, pid)?;
        }
        Ok(())
    }

    fn start(&self, position: Lsn) -> Result<Taken> {
        Opener {
            connector: self.connector,
            plugin: self.plugin,
            slot: &self.options.slot,
            system: self.system,
        }
        .start(position)
    }
}

/// Reads and applies until something ends it.
fn follow(applier: &mut Applier<'_>, session: &mut Session<'_, '_>) -> Error {
    loop {
        if let Err(error) = step(applier, session) {
            return error;
        }
    }
}

fn step(applier: &mut Applier<'_>, session: &mut Session<'_, '_>) -> Result<()> {
    session.delivery.stop.check()?;
    let timeout = if applier.is_waiting() {
        REGISTRY_TIMEOUT
    } else {
        READ_TIMEOUT
    };
    match session.read(timeout)? {
        Event::Write(write) => {
            for frame in Frames::new(write.payload()) {
                let frame = frame.map_err(|error| {
                    Error::failed("the plugin's write is not made of frames").with_source(error)
                })?;
                applier.frame(&frame, session)?;
            }
        }
        Event::Keepalive { wal_end, reply } => session.keepalive(wal_end, reply)?,
        Event::Nothing => {}
    }
    applier.tick(session)?;
    session.tick()
}

/// Starts replication on one slot of one server.
struct Opener<'a> {
    connector: &'a Connector,
    plugin: &'a Plugin,
    slot: &'a str,
    system: &'a System,
}

impl Opener<'_> {
    fn start(&self, position: Lsn) -> Result<Taken> {
        let connection = self.connector.connect_replication()?;
        let backend_pid = connection.backend_pid();
        let arguments = self.plugin.arguments();
        let stream = ReplicationStream::start(connection, self.slot, position, arguments)?;
        Ok(Taken {
            stream,
            backend_pid,
        })
    }

    /// As [`Opener::start`], having made sure that server and slot are still the same.
    /// `own_pid` is the process that streamed before, which may still seem to. What has arrived
    /// whole and is not delivered, because it waits for a schema's id, is in memory and need not
    /// come again.
    fn start_again(&self, ack: &Ack, own_pid: u32) -> Result<Taken> {
        let position = ack.flush_lsn();
        let connection = self.connector.connect_replication()?;
        let system = System::identify(&connection)?;
        let slot = Slot::find(&connection, self.slot)?;
        // Another instance moves it: that is no gap, but its right.
        if let Some(slot) = &slot
            && system == *self.system
            && slot.active_pid != Some(own_pid)
        {
            slot.refuse_active(self.slot)?;
        }
        start::check_same(self.system, &system, slot.as_ref(), self.slot, position)?;
        drop(connection);
        self.start(ack.received_lsn())
    }
}

/// Whether the slot is in use by this process of the server, as the server says it.
fn is_held_by(error: &Error, pid: u32) -> bool {
    let text = error.to_string();
    let numbers = text.split("PID ").skip(1);
    let mut pids = numbers.map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    error.kind() == ErrorKind::SlotInUse && pids.any(|it| it == Some(&*pid.to_string()))
}

/// A session that broke.
struct Ended {
    error: Error,
    after: Duration,
    backend_pid: u32,
}

/// Tries until the slot streams again from the last whole transaction.
fn reconnect(
    opener: &Opener<'_>,
    delivery: &mut Delivery<'_>,
    ended: Ended,
    attempts: &mut Attempts,
) -> Result<Taken> {
    attempts.session_ended(delivery.ack.received_lsn(), ended.after);
    let own_pid = ended.backend_pid;
    let mut error = ended.error;
    let start = Instant::now();
    loop {
        // The server may take wal_sender_timeout to notice that our old session is gone.
        let is_own_ghost = is_held_by(&error, own_pid);
        match error.kind() {
            ErrorKind::SlotInUse if is_own_ghost || start.elapsed() < RECONNECT_PATIENCE => {
                attempts.backoff.report(&error);
            }
            _ if attempts.may_pass(&error) => {}
            _ => return Err(error),
        }
        attempts.backoff.wait(delivery.stop)?;
        delivery.flush()?;
        error = match opener.start_again(&delivery.ack, own_pid) {
            Ok(taken) => return Ok(taken),
            Err(error) => error,
        };
    }
}
