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
mod doubts;
mod fetch;
mod positions;
mod session;
mod status;

use std::time::{Duration, Instant};

use headwater_protocol::Lsn;
use headwater_protocol::frame::Frames;

use self::apply::Applier;
use self::doubts::Doubts;
use self::fetch::Fetch;
pub use self::positions::Positions;
use self::session::{Delivery, Session};
use crate::ack::Ack;
use crate::backoff::Backoff;
use crate::cli::StreamOptions;
use crate::dead_letters::DeadLetters;
use crate::error::{Error, ErrorKind, Result};
use crate::route::Router;
use crate::sink::Sink;
use crate::source::connection::Connector;
use crate::source::plugin::Plugin;
use crate::source::replication::{Event, ReplicationStream};
use crate::source::slot::{Slot, System};
use crate::start;
use crate::stop::Stop;

/// How long to wait for the server's next message. Reports, status updates and the
/// stop flag are looked at in between.
const READ_TIMEOUT: Duration = Duration::from_millis(200);

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
    pub sink: &'a dyn Sink,
    /// Where changes go that cannot be delivered; none to stop at them.
    pub dead_letters: Option<&'a DeadLetters>,
    /// Names the topics.
    pub router: &'a mut Router,
    /// The server that the slot belongs to.
    pub system: &'a System,
    /// Whether to stop.
    pub stop: &'a Stop,
}

/// The slot, taken and streaming. Nothing was read from it yet.
pub struct Taken {
    stream: ReplicationStream,
    backend_pid: u32,
}

impl Pipeline<'_> {
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
                    backoff.wait(self.stop)?;
                }
                Err(error) if error.kind() == ErrorKind::SlotInUse => {
                    return Err(error.with_hint(
                        "Stop the other instance, or choose another name with --slot.",
                    ));
                }
                other => return other,
            }
        }
    }

    /// Streams until a signal or an error; broken connections are mended. Everything
    /// before `position` is durable.
    pub fn run(self, taken: Taken, position: Lsn, positions: Positions) -> Result<()> {
        let Pipeline {
            connector,
            plugin,
            options,
            sink,
            dead_letters,
            system,
            stop,
            router,
        } = self;
        let mut delivery = Delivery::new(sink, Ack::new(position), positions, stop);
        let fetch = Fetch::new(connector, plugin);
        let mut applier = Applier::new(options, dead_letters, router, fetch);
        let opener = Opener {
            connector,
            plugin,
            slot: &options.slot,
            system,
        };
        let mut taken = taken;
        let mut doubts = Doubts::default();
        loop {
            let mut session = Session::new(taken.stream, &mut delivery);
            let error = follow(&mut applier, &mut session);
            match error.kind() {
                ErrorKind::Interrupted => return session.shut_down(),
                ErrorKind::Disconnected => {}
                ErrorKind::Doubtful if doubts.allow(session.delivery.ack.flush_lsn()) => {}
                // What was delivered before is confirmed, so that it does not come again.
                _ => {
                    if let Err(secondary) = session.shut_down() {
                        tracing::debug!(error = %secondary, "could not confirm the last position");
                    }
                    return Err(error);
                }
            }
            drop(session);
            let mut backoff = Backoff::default();
            backoff.report(&error);
            if let Some(token) = applier.end_session() {
                delivery.ack.abandon(token);
            }
            let own_pid = taken.backend_pid;
            taken = match reconnect(&opener, &mut delivery, own_pid, backoff, &mut doubts) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    let position = delivery.drain()?;
                    tracing::info!(%position, "stopped");
                    return Ok(());
                }
                other => other?,
            };
            tracing::info!(position = %delivery.ack.flush_lsn(), "streaming again");
        }
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
    match session.read(READ_TIMEOUT)? {
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
    fn start_again(&self, position: Lsn) -> Result<Taken> {
        let connection = self.connector.connect_replication()?;
        if System::identify(&connection)? != *self.system {
            return Err(Error::new(
                ErrorKind::Gap,
                format!(
                    "the server is another one since the connection broke, or another history: \
                     expected system {} on timeline {}",
                    self.system.identifier, self.system.timeline
                ),
            )
            .with_hint("Connect to the server that the stream came from."));
        }
        let slot = Slot::find(&connection, self.slot)?;
        start::check_unmoved(slot.as_ref(), self.slot, position)?;
        drop(connection);
        self.start(position)
    }
}

/// Tries until the slot streams again from the last whole transaction.
fn reconnect(
    opener: &Opener<'_>,
    delivery: &mut Delivery<'_>,
    own_pid: u32,
    mut backoff: Backoff,
    doubts: &mut Doubts,
) -> Result<Taken> {
    delivery.flush()?;
    let position = delivery.ack.flush_lsn();
    let start = Instant::now();
    loop {
        backoff.wait(delivery.stop)?;
        delivery.collect()?;
        let error = match opener.start_again(position) {
            Ok(taken) => return Ok(taken),
            Err(error) => error,
        };
        // The server may take wal_sender_timeout to notice that our old session is gone.
        let is_own_ghost = error.to_string().contains(&format!("PID {own_pid}"));
        match error.kind() {
            ErrorKind::Disconnected => {}
            ErrorKind::Doubtful if doubts.allow(position) => {}
            ErrorKind::SlotInUse if is_own_ghost || start.elapsed() < RECONNECT_PATIENCE => {}
            _ => return Err(error),
        }
        backoff.report(&error);
    }
}
