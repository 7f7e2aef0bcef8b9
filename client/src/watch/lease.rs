//! The lease of a slot: who has it may have records in flight.
//!
//! # Why the slot itself is not enough
//!
//! A slot has one reader at a time, and the server sees to that. But a reader that has lost
//! the slot still has what it read before: up to some megabytes wait in its producer, or are
//! on their way. A second instance begins from the recorded position and sends all of
//! that again and what comes after. If an old record of a key arrived behind the new
//! instance's newer one, the topic would keep the older row, and nobody would notice.
//! An idempotent producer does not help: the broker knows no order between two of them.
//!
//! So an instance takes the lease, an advisory lock named after the slot, before it decides
//! anything, and lets go when nothing of it is in flight any more. A second instance without
//! the lease reads nothing and sends nothing.
//!
//! # How one is taken over
//!
//! 1. `--take-over` queues for the lock. The owner asks once a second whether somebody does;
//!    then it stops as after SIGTERM: it delivers what it has read, records the position,
//!    confirms it and ends with exit code 4. Nothing that has arrived whole is sent twice, and
//!    nothing comes late. Where changes wait for the id of a schema, the position stays before the
//!    first of them, and what was sent behind it comes again, in its order: they are only in this
//!    instance's memory, and nothing of them was sent.
//! 2. An owner whose session has asked nothing for [`SILENCE`] is dead, frozen or cut off;
//!    one that has not let go after [`YIELD_PATIENCE`] cannot deliver. Its session
//!    is ended, and with the lock the slot.
//!
//! # What remains
//!
//! From over there nobody can tell a dead instance from a frozen one. An instance that was
//! frozen (SIGSTOP, a paused machine) or cut off in the second case and comes back
//! finds its sessions gone and ends; but what librdkafka had in its queue may be written
//! before it does, behind newer records. Only the broker could refuse that, which it does
//! for transactional producers alone. The second case is said in a warning: make sure that
//! the old instance is gone.
//!
//! A server that stops notices a vanished peer by itself: the session asks for keepalives
//! that end it within [`KEEPALIVES`], so that a start after a crash of the client's host
//! is not refused for hours.

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::source::connection::{Connection, Connector};
use crate::source::slot::Slot;
use crate::source::sql;
use crate::source::sql_error::SqlError;
use crate::stop::Stop;

/// How long to wait for an instance that is just going away.
const PATIENCE: Duration = Duration::from_secs(3);

/// The owner asks once a second: so long without a question is no delay, on a loaded machine
/// either.
const SILENCE: Duration = Duration::from_secs(10);

/// An owner that drains takes up to 8 seconds for its records and 12 for its state.
const YIELD_PATIENCE: Duration = Duration::from_secs(25);

/// The server looks for the peer after 10 seconds without a word, three times in 5 seconds
/// each, and gives up what it has sent after 25.
const KEEPALIVES: &str = "SELECT pg_catalog.set_config('tcp_keepalives_idle', '10', false), \
     pg_catalog.set_config('tcp_keepalives_interval', '5', false), \
     pg_catalog.set_config('tcp_keepalives_count', '3', false), \
     pg_catalog.set_config('tcp_user_timeout', '25000', false)";

/// The session that has the lease.
pub(super) struct Holder {
    /// The server's process.
    pub pid: u32,
    /// It has asked nothing for [`SILENCE`].
    is_silent: bool,
}

impl Holder {
    /// The refusal that names it.
    pub(super) fn in_use(&self, slot: &str) -> Error {
        let message = format!(
            "replication slot \"{slot}\" belongs to another instance (server process {})",
            self.pid
        );
        Error::new(ErrorKind::SlotInUse, message).with_hint(Slot::IN_USE_HINT)
    }
}

/// Opens a session for the lease.
pub(super) fn open(connector: &Connector) -> Result<Connection, SqlError> {
    let connection = connector.connect()?;
    connection.query(KEEPALIVES)?;
    Ok(connection)
}

/// Opens a session and takes the lease, waiting a moment for an instance that ends. Where
/// `take_over` says so, the owner is asked to end, and made to if it does not.
///
/// The connection's waits end with `closing`, which is set here when `stop` is.
pub(super) fn take(
    connector: &Connector,
    slot: &str,
    take_over: bool,
    stop: &Stop,
    closing: &Stop,
) -> Result<Connection> {
    let connection = open(connector)?;
    let begin = Instant::now();
    while !try_take(&connection, slot)? {
        match holder(&connection, slot)? {
            Some(_) if take_over => {
                demand(&connection, connector, slot, stop, closing)?;
                return Ok(connection);
            }
            Some(holder) if begin.elapsed() > PATIENCE => return Err(holder.in_use(slot)),
            _ => {}
        }
        stop.check()?;
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(connection)
}

/// Takes the lease if nobody has it.
pub(super) fn try_take(connection: &Connection, slot: &str) -> Result<bool, SqlError> {
    let statement = format!("SELECT pg_catalog.pg_try_advisory_lock({})", key(slot));
    connection.query(&statement)?.flag(0, 0)
}

/// Who has the lease.
pub(super) fn holder(connection: &Connection, slot: &str) -> Result<Option<Holder>, SqlError> {
    let rows = connection.query(&format!(
        "SELECT l.pid, coalesce(a.state = 'idle' AND \
                a.state_change < pg_catalog.clock_timestamp() - interval '{} s', false) \
         FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a USING (pid) \
         WHERE l.granted AND {}",
        SILENCE.as_secs(),
        is_lock_of(slot)
    ))?;
    if rows.is_empty() {
        return Ok(None);
    }
    Ok(Some(Holder {
        pid: rows.parse(0, 0)?,
        is_silent: rows.flag(0, 1)?,
    }))
}

/// The session that queues for the lease.
pub(super) fn wanted_by(connection: &Connection, slot: &str) -> Result<Option<u32>, SqlError> {
    let rows = connection.query(&format!(
        "SELECT l.pid FROM pg_catalog.pg_locks l WHERE NOT l.granted AND {}",
        is_lock_of(slot)
    ))?;
    match rows.is_empty() {
        true => Ok(None),
        false => rows.parse(0, 0).map(Some),
    }
}

/// Queues for the lease, which its owner sees, until it is there.
fn demand(
    connection: &Connection,
    connector: &Connector,
    slot: &str,
    stop: &Stop,
    closing: &Stop,
) -> Result<()> {
    tracing::info!(
        slot,
        "asking the other instance to end, as --take-over says"
    );
    let reporter = connector.connect()?;
    let mut refused = None;
    let mut ended = false;
    let statement = format!("SELECT pg_catalog.pg_advisory_lock({})", key(slot));
    let locked = connection.query_watched(&statement, &mut |waited| {
        if stop.is_set() {
            closing.set();
        }
        if ended {
            return;
        }
        match end_owner(&reporter, slot, waited) {
            Ok(done) => ended = done,
            Err(error) => {
                refused = Some(error);
                closing.set();
            }
        }
    });
    match refused {
        Some(error) => Err(error),
        None => {
            locked?;
            Ok(())
        }
    }
}

/// Ends an owner that is silent or has had its time. Says whether it did.
fn end_owner(reporter: &Connection, slot: &str, waited: Duration) -> Result<bool> {
    let Some(owner) = holder(reporter, slot)? else {
        return Ok(false);
    };
    if !owner.is_silent && waited < YIELD_PATIENCE {
        return Ok(false);
    }
    tracing::warn!(
        server_process = owner.pid,
        "the other instance does not end by itself: ending its sessions. Make sure that it is \
         gone: records that it still has in flight could arrive behind newer ones"
    );
    Slot::end_session(reporter, slot, owner.pid)?;
    if let Some(pid) = Slot::find(reporter, slot)?.and_then(|found| found.active_pid) {
        Slot::end_session(reporter, slot, pid)?;
    }
    Ok(true)
}

fn key(slot: &str) -> String {
    format!(
        "pg_catalog.hashtext('headwater stream'), pg_catalog.hashtext({})",
        sql::literal(slot)
    )
}

/// Advisory locks are those of a database.
fn is_lock_of(slot: &str) -> String {
    format!(
        "{} AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d \
                           WHERE d.datname = pg_catalog.current_database())",
        is_of(slot)
    )
}

/// Whether row `l` of `pg_locks` is the lease of this slot, or a wait for it, in whatever database.
/// Advisory locks show their two numbers as OIDs.
pub(crate) fn is_of(slot: &str) -> String {
    format!(
        "l.locktype = 'advisory' AND l.objsubid = 2 \
         AND l.classid::int8 = pg_catalog.hashtext('headwater stream')::int8 & 4294967295 \
         AND l.objid::int8 = pg_catalog.hashtext({})::int8 & 4294967295",
        sql::literal(slot)
    )
}
