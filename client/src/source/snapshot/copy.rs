//! Copies the rows: each session takes one part of a table after another, each row
//! goes to the sink as it comes.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use headwater_protocol::frame::{Change, Frame, Frames, Op, Quarantine};
use headwater_protocol::{ChangeId, Lsn};

use super::copy_binary::{CopyBinary, CopyError};
use super::job::{self, Job};
use crate::cli::StreamOptions;
use crate::dead_letters::DeadLetters;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::sink::{
    DeadLetter, Headers, Record, SendError, Sink, Token, TooLarge, TopicId, Verdict,
};
use crate::source::catalog::Table;
use crate::source::connection::Connection;
use crate::source::plugin::Plugin;
use crate::state::{Mark, StaleTables};
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
    /// The command line.
    pub options: &'a StreamOptions,
    /// Where those go that cannot be delivered; none to stop at them.
    pub dead_letters: Option<&'a DeadLetters>,
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
    /// Tables of which rows are among the dead letters.
    stale: Mutex<StaleTables>,
}

impl Copy<'_> {
    /// Copies everything through `sessions` and returns once the sink has delivered
    /// every row, with their number and the tables of which it delivered not all as they are.
    pub(super) fn run(
        &self,
        sessions: Vec<Connection>,
        progress: &mut Progress,
    ) -> Result<(u64, StaleTables)> {
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
        let stale = shared.stale.into_inner();
        match shared.failure.into_inner() {
            Ok(None) => Ok((
                shared.rows.into_inner(),
                stale.unwrap_or_else(PoisonError::into_inner),
            )),
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
        let change = match read_frame(row, &target.table)? {
            Row::Encoded(change) => change,
            Row::Quarantined(quarantine) => return self.quarantined(&quarantine, target, shared),
        };
        if change.relation != target.relation {
            return Err(moved(&target.table));
        }
        let record = Record {
            topic: target.topic,
            key: change.key,
            value: change.value,
            headers: self.headers(change.seq, &change.unchanged),
        };
        let mut wait = || shared.check();
        let size = loop {
            match self.sink.send(&record, self.token) {
                Ok(()) => break None,
                Err(SendError::Failed(error)) => return Err(error),
                Err(SendError::Full) => {
                    wait()?;
                    self.sink.wait(WAIT);
                }
                Err(SendError::Large) => {
                    match self.sink.send_alone(&record, self.token, &mut wait)? {
                        Verdict::Accepted => break None,
                        Verdict::TooLarge(size) => break Some(size),
                    }
                }
            }
        };
        if let Some(size) = size {
            let Some(dead_letters) = self.dead_letters else {
                return Err(self.too_large(target, &size));
            };
            let name = name(&target.table);
            let letter = DeadLetter {
                topic: dead_letters.topic(),
                key: record.key,
                value: record.value,
                headers: record.headers,
                relation: Some(&name),
                meant_for: Some(target.topic),
                reason: &size.to_string(),
                bytes: Some(size.bytes),
                limit: size.limit,
            };
            return self.bury(dead_letters, &letter, target, shared);
        }
        shared.rows.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn headers<'h>(&self, seq: u64, unchanged: &'h [&'h str]) -> Headers<'h> {
        Headers {
            op: Op::Read.code(),
            lsn: self.consistent_point,
            seq,
            transaction: None,
            unchanged,
            fetched: false,
        }
    }

    fn quarantined(
        &self,
        quarantine: &Quarantine<'_>,
        target: &Target,
        shared: &Shared,
    ) -> Result<()> {
        if quarantine.relation != target.relation {
            return Err(moved(&target.table));
        }
        let name = name(&target.table);
        let Some(dead_letters) = self.dead_letters else {
            return Err(Error::new(
                ErrorKind::Data,
                format!("a row of {name} cannot be encoded: {}", quarantine.reason),
            )
            .with_hint(format!(
                "Mend the row, or leave the table out with --exclude-table. {}",
                self.options.by_dead_letters()
            )));
        };
        let letter = DeadLetter {
            topic: dead_letters.topic(),
            key: quarantine.key,
            value: None,
            headers: self.headers(quarantine.seq, &[]),
            relation: Some(&name),
            meant_for: Some(target.topic),
            reason: quarantine.reason,
            bytes: None,
            limit: None,
        };
        self.bury(dead_letters, &letter, target, shared)
    }

    fn too_large(&self, target: &Target, size: &TooLarge) -> Error {
        Error::new(
            ErrorKind::Data,
            format!("a row of {} cannot be sent: {size}", name(&target.table)),
        )
        .with_hint(format!(
            "{} Or leave the table out with --exclude-table. {}",
            size.cure,
            self.options.by_dead_letters()
        ))
    }

    /// A dead letter is the delivery of its row.
    fn bury(
        &self,
        dead_letters: &DeadLetters,
        letter: &DeadLetter<'_>,
        target: &Target,
        shared: &Shared,
    ) -> Result<()> {
        loop {
            match self.sink.send_dead_letter(letter, self.token) {
                Ok(()) => break,
                Err(SendError::Failed(error)) => return Err(error),
                Err(SendError::Full | SendError::Large) => {
                    shared.check()?;
                    self.sink.wait(WAIT);
                }
            }
        }
        let change = ChangeId {
            lsn: self.consistent_point,
            seq: letter.headers.seq,
        };
        dead_letters.count(&name(&target.table), change, letter.reason);
        let sent_as = &target.table.sent_as;
        let mark = Mark {
            since: self.consistent_point,
            reason: format!(
                "rows of the snapshot are among the dead letters: {}",
                letter.reason
            ),
        };
        shared
            .stale
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .mark(&sent_as.schema, &sent_as.table, mark);
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

    /// Ends the waits of a session when another one has failed.
    fn check(&self) -> Result<()> {
        if self.gave_up.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Interrupted, "the copy was given up"));
        }
        Ok(())
    }
}

impl From<CopyError> for Error {
    fn from(error: CopyError) -> Self {
        Error::failed("the server broke the protocol").with_source(error)
    }
}

/// What the server made of a row.
enum Row<'a> {
    Encoded(Change<'a>),
    Quarantined(Quarantine<'a>),
}

fn read_frame<'a>(row: &'a [u8], table: &Table) -> Result<Row<'a>> {
    match Frames::new(row).next() {
        Some(Ok(Frame::Change(change))) if change.op == Op::Read => Ok(Row::Encoded(change)),
        Some(Ok(Frame::Quarantine(quarantine))) => Ok(Row::Quarantined(quarantine)),
        Some(Err(error)) => {
            Err(Error::failed(format!("a row of {} is no frame", name(table))).with_source(error))
        }
        Some(Ok(_)) | None => Err(Error::failed(format!(
            "a row of {} came as another frame than a row",
            name(table)
        ))),
    }
}

fn name(table: &Table) -> String {
    format!("{}.{}", table.schema, table.name)
}

/// DETACH … CONCURRENTLY waits for nobody before its first half is done.
fn moved(table: &Table) -> Error {
    Error::failed(format!(
        "table {} was attached to another table or detached from one while it was copied",
        table.sql_name()
    ))
    .with_hint("Start again: the snapshot begins anew.")
}
