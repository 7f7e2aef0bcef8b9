//! The session beside the stream: whose turn it is, and how the slot fares.
//!
//! It has a thread and a connection of its own, so that it goes on while the stream waits
//! for Kafka, and asks a question a second. What it finds that ends the stream it says
//! through [`Stop`], as a signal does: the stream drains what it can, and [`Watch::end`] then
//! tells why.

mod fuse;
pub(crate) mod lease;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use headwater_protocol::Lsn;

use self::fuse::Fuse;
use crate::cli::{OnRetainedWal, StreamOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{Metrics, Retained};
use crate::source::connection::{Connection, Connector};
use crate::source::slot::Slot;
use crate::stop::Stop;

/// Between two questions: who wants the lease is heard within it.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long another instance may have the lease after our session broke, before this one
/// ends: as long as it may have the slot. One that finds the slot still streaming lets go
/// again sooner.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// The oldest WAL that the slot needs, as its thread sees it.
///
/// The server sets the value in memory, then writes it to disk, and only then removes WAL. So
/// what was seen at two looks is on disk, and no crash takes it back.
#[derive(Clone, Debug, Default)]
pub struct RestartLsn(Arc<AtomicU64>);

impl RestartLsn {
    /// None until it was seen twice.
    pub fn get(&self) -> Option<Lsn> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            lsn => Some(Lsn(lsn)),
        }
    }

    fn set(&self, lsn: Lsn) {
        self.0.store(lsn.0, Ordering::Relaxed);
    }
}

/// How long the end of a stream waits for its slot to be dropped: the session that has it
/// is given 10 seconds to end.
const ACT_DEADLINE: Duration = Duration::from_secs(15);

/// This instance's claim to a slot, and the thread that keeps it.
pub struct Watch {
    shared: Arc<Shared>,
    restart_lsn: RestartLsn,
    /// Ends the waits of the watch's own connection: the lease outlives `stop`.
    closing: Stop,
}

#[derive(Default)]
struct Shared {
    found: Mutex<Found>,
    changed: Condvar,
}

#[derive(Default)]
struct Found {
    /// Why the stream has to end.
    error: Option<Error>,
    /// The slot is being dropped: the error comes when it is.
    acting: bool,
}

/// What the thread works with.
struct Watcher {
    connector: Connector,
    slot: String,
    stop: Stop,
    closing: Stop,
    shared: Arc<Shared>,
    session: Session,
    /// At the look before.
    seen: Option<Lsn>,
    restart_lsn: RestartLsn,
    fuse: Option<Fuse>,
    metrics: Metrics,
}

/// The session that holds the lease, or held it.
enum Session {
    Open(Connection),
    Broken { backend_pid: u32, since: Instant },
}

impl Watch {
    /// Takes the lease of the slot, from another instance where `--take-over` says so, and
    /// keeps it until [`Watch::end`]. Sets `stop` when the stream has to end.
    ///
    /// # Errors
    /// Of kind `SlotInUse` where another instance has it and does not let go.
    pub fn begin(
        connector: &Connector,
        options: &StreamOptions,
        stop: &Stop,
        metrics: &Metrics,
    ) -> Result<Self> {
        let (slot, take_over) = (&options.slot, options.take_over);
        let closing = Stop::default();
        let connector = connector.stopped_by(closing.clone());
        let connection = lease::take(&connector, slot, take_over, stop, &closing)?;
        let shared = Arc::new(Shared::default());
        let watcher = Watcher {
            connector,
            slot: slot.clone(),
            stop: stop.clone(),
            closing: closing.clone(),
            shared: Arc::clone(&shared),
            session: Session::Open(connection),
            seen: None,
            restart_lsn: RestartLsn::default(),
            fuse: Fuse::asked(options),
            metrics: metrics.clone(),
        };
        let restart_lsn = watcher.restart_lsn.clone();
        std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || watcher.run())
            .map_err(|error| Error::failed("cannot start a thread").with_source(error))?;
        Ok(Watch {
            shared,
            restart_lsn,
            closing,
        })
    }

    /// Where the slot's needs begin, as they move.
    pub fn restart_lsn(&self) -> RestartLsn {
        self.restart_lsn.clone()
    }

    /// Lets go of the slot; nothing of this instance may be in flight any more. What the
    /// watch found goes before the outcome of the stream, which follows from it.
    pub fn end(self, outcome: Result<()>) -> Result<()> {
        let found = self.shared.lock();
        let (mut found, _) = self
            .shared
            .changed
            .wait_timeout_while(found, ACT_DEADLINE, |found| found.acting)
            .unwrap_or_else(PoisonError::into_inner);
        match found.error.take() {
            Some(error) => Err(error),
            None => outcome,
        }
    }
}

impl Drop for Watch {
    /// Nobody waits for the thread: it ends when its question is answered or given up.
    fn drop(&mut self) {
        self.closing.set();
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the time of the next question, or for the end.
    fn rest(&self, closing: &Stop) {
        let found = self.lock();
        let _rested = self
            .changed
            .wait_timeout_while(found, INTERVAL, |_| !closing.is_set());
    }
}

/// Where Kafka does not answer at the start, nothing streams, and the fuse holds all the same:
/// a slot past the limit is dropped where that is asked for. Returns the error to end with.
pub fn unreachable_sink(connector: &Connector, options: &StreamOptions, error: Error) -> Error {
    let name = &options.slot;
    let drop_if_past = || -> Result<Option<Error>> {
        let Some(fuse) = Fuse::asked(options) else {
            return Ok(None);
        };
        let connection = connector.connect()?;
        let slot = Slot::find(&connection, name)?;
        let Some(slot) = slot.filter(|slot| slot.active_pid.is_none()) else {
            return Ok(None);
        };
        // Without the lease somebody else is at work.
        let is_due = fuse.action() == OnRetainedWal::DropSlot && fuse.is_past(&slot);
        if !is_due || !lease::try_take(&connection, name)? {
            return Ok(None);
        }
        Slot::drop(&connection, name)?;
        Ok(Some(fuse.error(name, &fuse::Reading::of_inactive(&slot))))
    };
    match drop_if_past() {
        Ok(Some(blown)) => blown.with_source(error),
        Ok(None) => error,
        Err(other) => {
            tracing::warn!(error = %other, "cannot look at how much WAL the slot keeps");
            error
        }
    }
}

impl Watcher {
    fn run(mut self) {
        while !self.closing.is_set() {
            match self.look() {
                Ok(None) => {}
                Ok(Some(found)) => self.end_stream(found),
                Err(error) if error.kind() == ErrorKind::SlotInUse => self.end_stream(error),
                Err(error) => self.broken(&error),
            }
            self.shared.rest(&self.closing);
        }
    }

    /// Where the stream ends anyway there is nothing to find any more. Questions go on: an
    /// owner that drains must not look like one that is gone.
    fn end_stream(&self, error: Error) {
        let mut found = self.shared.lock();
        if found.acting || !self.stop.is_set() {
            found.error = Some(error);
            found.acting = false;
            self.stop.set();
            self.shared.changed.notify_all();
        }
    }

    fn broken(&mut self, error: &Error) {
        self.metrics.retained(None);
        if let Session::Open(connection) = &self.session {
            tracing::warn!(
                %error,
                slot = self.slot,
                "the session that keeps other instances off the slot broke, trying again until it \
                 passes"
            );
            self.session = Session::Broken {
                backend_pid: connection.backend_pid(),
                since: Instant::now(),
            };
        } else {
            tracing::debug!(%error, "the slot's lease cannot be taken again yet");
        }
    }

    /// What ends the stream, if something does.
    fn look(&mut self) -> Result<Option<Error>> {
        let connection = match &self.session {
            Session::Open(connection) => connection,
            Session::Broken { backend_pid, since } => {
                if let Some(connection) = self.take_again(*backend_pid, *since)? {
                    tracing::info!(
                        slot = self.slot,
                        "other instances are kept off the slot again"
                    );
                    self.session = Session::Open(connection);
                }
                return Ok(None);
            }
        };
        self.heed(connection)?;
        let Some(slot) = Slot::find(connection, &self.slot)? else {
            self.metrics.retained(None);
            return Ok(None);
        };
        self.metrics.retained(retained(&slot));
        let blown = match &mut self.fuse {
            // A stream that ends by itself needs no fuse.
            Some(fuse) if !self.stop.is_set() => fuse.check(&self.slot, &slot),
            _ => None,
        };
        let found = match blown {
            Some((OnRetainedWal::DropSlot, error)) => {
                self.shared.lock().acting = true;
                self.stop.set();
                let failed = Slot::wrest(connection, &self.slot).err();
                Some(failed.unwrap_or(error))
            }
            Some((OnRetainedWal::Stop, error)) => Some(error),
            None => None,
        };
        self.note(slot.restart_lsn);
        Ok(found)
    }

    fn note(&mut self, restart_lsn: Option<Lsn>) {
        if let (Some(before), Some(_)) = (self.seen, restart_lsn) {
            self.restart_lsn.set(before);
        }
        self.seen = restart_lsn;
    }

    fn heed(&self, connection: &Connection) -> Result<()> {
        match lease::wanted_by(connection, &self.slot)? {
            None => Ok(()),
            Some(pid) => Err(Error::new(
                ErrorKind::SlotInUse,
                format!(
                    "another instance (server process {pid}) takes over replication slot \"{}\"",
                    self.slot
                ),
            )),
        }
    }

    /// The old session may still hold the lease, as the server sees it. Another instance that
    /// keeps it has begun, and this one has nothing to say any more.
    fn take_again(&self, own_pid: u32, since: Instant) -> Result<Option<Connection>> {
        let connection = lease::open(&self.connector)?;
        if lease::try_take(&connection, &self.slot)? {
            return Ok(Some(connection));
        }
        match lease::holder(&connection, &self.slot)? {
            Some(holder) if holder.pid == own_pid => {
                Slot::end_session(&connection, &self.slot, own_pid)?;
                Ok(None)
            }
            Some(holder) if since.elapsed() > RECONNECT_PATIENCE => Err(holder.in_use(&self.slot)),
            _ => Ok(None),
        }
    }
}

/// How the slot stands. On a standby the end of its WAL is what it has replayed.
fn retained(slot: &Slot) -> Option<Retained> {
    let bytes = u64::try_from(slot.retained_wal_bytes).unwrap_or(0);
    let replayed = slot.restart_lsn.map(|lsn| Lsn(lsn.0 + bytes));
    Some(Retained {
        wal_end: slot.wal_end.or(replayed)?,
        bytes,
        safe_bytes: slot
            .safe_wal_bytes
            .map(|safe| u64::try_from(safe).unwrap_or(0)),
    })
}
