//! Copies the rows: each session takes one part of a table after another, each row
//! goes to the sink as it comes.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use headwater_protocol::Lsn;
use headwater_protocol::frame::{Change, Frame, Frames, Op, Quarantine};

use super::copy_binary::{CopyBinary, CopyError};
use super::job::{self, Job};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::sink::{Headers, Record, SendError, Sink, Token, TopicId};
use crate::source::catalog::Table;
use crate::source::connection::Connection;
use crate::source::plugin::Plugin;
use crate::stop::Stop;

/// How long to wait for the sink at a time.
const WAIT: Duration = Duration::from_millis(100);

/// A table and where its rows go.
pub(super) struct Target {
    /// The table as the snapshot sees it.
    pub table: Table,
    /// The relation that its rows are sent as.
    pub relation: u32,
    /// Its topic.
    pub topic: TopicId,
}

/// What every session of one copy shares.
pub(super) struct Copy<'a> {
    /// What is copied.
    pub targets: &'a [Target],
    /// How rows are encoded.
    pub plugin: &'a Plugin,
    /// Where they go.
    pub sink: &'a dyn Sink,
    /// Under which token they are reported.
    pub token: Token,
    /// What their headers say.
    pub consistent_point: Lsn,
    /// Whether to stop.
    pub stop: &'a Stop,
}

#[derive(Default)]
struct Shared {
    next_job: AtomicUsize,
    rows: AtomicU64,
    gave_up: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl Copy<'_> {
    /// Copies everything through `sessions` and returns once the sink has delivered
    /// every row, with their number.
    pub(super) fn run(&self, sessions: Vec<Connection>, progress: &mut Progress) -> Result<u64> {
        let jobs = job::plan(self.targets.iter().map(|target| &target.table));
        let shared = Shared::default();
        let mut delivered = 0;
        std::thread::scope(|scope| {
            let threads: Vec<_> = sessions
                .into_iter()
                .map(|session| {
                    let (jobs, shared) = (&jobs, &shared);
                    scope.spawn(move || self.session(&session, jobs, shared))
                })
                .collect();
            loop {
                let finished = threads
                    .iter()
                    .all(std::thread::ScopedJoinHandle::is_finished);
                let sent = shared.rows.load(Ordering::Acquire);
                if finished && (delivered >= sent || shared.gave_up.load(Ordering::Acquire)) {
                    break;
                }
                progress.update(sent);
                self.sink.wait(WAIT);
                match self.stop.check().and_then(|()| self.collect()) {
                    Ok(count) => delivered += count,
                    Err(error) => shared.give_up(error),
                }
            }
        });
        match shared.failure.into_inner() {
            Ok(None) => Ok(shared.rows.into_inner()),
            Ok(Some(error)) => Err(error),
            Err(_) => Err(Error::failed("a session of the snapshot panicked")),
        }
    }

    fn collect(&self) -> Result<u64> {
        let mut deliveries = Vec::new();
        self.sink.deliveries(&mut deliveries)?;
        Ok(deliveries
            .iter()
            .filter(|delivered| delivered.token == self.token)
            .map(|delivered| delivered.count)
            .sum())
    }

    fn session(&self, session: &Connection, jobs: &[Job], shared: &Shared) {
        while !shared.gave_up.load(Ordering::Acquire) {
            let Some(job) = jobs.get(shared.next_job.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            if let Err(error) = self.copy(session, job, shared) {
                shared.give_up(error);
            }
        }
    }

    fn copy(&self, session: &Connection, job: &Job, shared: &Shared) -> Result<()> {
        let Some(target) = self.targets.get(job.table) else {
            return Ok(());
        };
        session.begin_copy(&format!(
            "COPY (SELECT {} FROM ONLY {} AS t{}) TO STDOUT (FORMAT binary)",
            self.plugin.encode_call("t.*"),
            target.table.sql_name(),
            job.condition()
        ))?;
        let mut reader = CopyBinary::default();
        while let Some(message) = session.copy_next()? {
            reader.push(&message, &mut |row: &[u8]| self.row(row, target, shared))?;
        }
        session.copy_result()?;
        if reader.is_complete() {
            Ok(())
        } else {
            Err(Error::failed(format!(
                "the copy of table {} ended before its last row",
                target.table.sql_name()
            )))
        }
    }

    fn row(&self, row: &[u8], target: &Target, shared: &Shared) -> Result<()> {
        let change = read_frame(row, &target.table)?;
        if change.relation != target.relation {
            return Err(moved(&target.table));
        }
        let record = Record {
            topic: target.topic,
            key: change.key,
            value: change.value,
            headers: Headers {
                op: Op::Read.code(),
                lsn: self.consistent_point,
                seq: change.seq,
                transaction: None,
                unchanged: &change.unchanged,
                fetched: false,
            },
        };
        loop {
            match self.sink.send(&record, self.token) {
                Ok(()) => break,
                Err(SendError::Failed(error)) => return Err(error),
                Err(SendError::Full) => {
                    if shared.gave_up.load(Ordering::Acquire) {
                        return Err(Error::new(ErrorKind::Interrupted, "the copy was given up"));
                    }
                    self.sink.wait(WAIT);
                }
            }
        }
        shared.rows.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

impl Shared {
    /// Keeps the first error; what others say afterwards follows from it.
    fn give_up(&self, error: Error) {
        if let Ok(mut failure) = self.failure.lock() {
            failure.get_or_insert(error);
        }
        self.gave_up.store(true, Ordering::Release);
    }
}

impl From<CopyError> for Error {
    fn from(error: CopyError) -> Self {
        Error::failed("the server broke the protocol").with_source(error)
    }
}

fn read_frame<'a>(row: &'a [u8], table: &Table) -> Result<Change<'a>> {
    let name = || format!("{}.{}", table.schema, table.name);
    match Frames::new(row).next() {
        Some(Ok(Frame::Change(change))) if change.op == Op::Read => Ok(change),
        Some(Ok(Frame::Quarantine(quarantine))) => Err(quarantined(&quarantine, &name())),
        Some(Err(error)) => {
            Err(Error::failed(format!("a row of {} is no frame", name())).with_source(error))
        }
        Some(Ok(_)) | None => Err(Error::failed(format!(
            "a row of {} came as another frame than a row",
            name()
        ))),
    }
}

/// DETACH … CONCURRENTLY waits for nobody before its first half is done.
fn moved(table: &Table) -> Error {
    Error::failed(format!(
        "table {} was attached to another table or detached from one while it was copied",
        table.sql_name()
    ))
    .with_hint("Start again: the snapshot begins anew.")
}

fn quarantined(quarantine: &Quarantine<'_>, table: &str) -> Error {
    Error::new(
        ErrorKind::Data,
        format!("a row of {table} cannot be encoded: {}", quarantine.reason),
    )
    .with_hint("Mend the row, or leave the table out with --exclude-table.")
}
