//! Copies the rows: each session takes one part of a table after another, each row
//! goes to the sink as it comes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use headwater_protocol::frame::{Change, Op, Quarantine};
use headwater_protocol::{ChangeId, Lsn};

use super::rows::Row;
use super::scan::{Scan, Source};
use crate::cli::StreamOptions;
use crate::dead_letters::DeadLetters;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{Copied, Metrics};
use crate::progress::Progress;
use crate::registry::{Ids, Stamp};
use crate::sink::{
    DeadLetter, Headers, Record, SendError, Sink, Token, TooLarge, TopicId, Verdict,
};
use crate::source::connection::Connection;
use crate::source::plugin::Plugin;
use crate::state::{Mark, StaleTables};
use crate::stop::Stop;

/// How long to wait for the sink at a time.
const WAIT: Duration = Duration::from_millis(100);

/// A table and where its rows go.
pub(super) struct Target {
    /// The table.
    pub source: Source,
    /// Its topic.
    pub topic: TopicId,
    /// What its records begin with; none where they begin with nothing.
    pub ids: Option<Ids>,
}

impl Target {
    fn name(&self) -> String {
        format!("{}.{}", self.source.table.schema, self.source.table.name)
    }
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
    /// Where it tells how far it is.
    pub metrics: &'a Metrics,
    /// Of all tables, where the server has an estimate of each.
    pub estimated_rows: Option<u64>,
}

/// What the sessions have done.
struct Done<'a> {
    scan: Scan<'a>,
    rows: AtomicU64,
    /// Tables of which rows are among the dead letters.
    stale: Mutex<StaleTables>,
}

impl Done<'_> {
    /// Ends the waits of a session when another one has failed.
    fn check(&self) -> Result<()> {
        if self.scan.has_given_up() {
            return Err(Error::new(ErrorKind::Interrupted, "the copy was given up"));
        }
        Ok(())
    }

    /// A row, or the dead letter that stands for it, was sent.
    fn count(&self) {
        self.rows.fetch_add(1, Ordering::Release);
    }
}

impl Copy<'_> {
    /// Copies everything through `sessions` and returns once the sink has delivered
    /// every row, with their number and the tables of which it delivered not all as they are.
    pub(super) fn run(
        &self,
        sessions: Vec<Connection>,
        progress: &mut Progress,
    ) -> Result<(u64, StaleTables)> {
        let done = Done {
            scan: Scan::new(
                self.plugin,
                self.targets.iter().map(|target| &target.source),
            ),
            rows: AtomicU64::new(0),
            stale: Mutex::default(),
        };
        let mut delivered = 0;
        std::thread::scope(|scope| {
            let threads: Vec<_> = sessions
                .into_iter()
                .map(|session| {
                    let done = &done;
                    scope.spawn(move || {
                        let mut stamp = Stamp::default();
                        done.scan.read(&session, |table, row| {
                            self.row(&row, table, &mut stamp, done)
                        });
                    })
                })
                .collect();
            loop {
                let finished = threads
                    .iter()
                    .all(std::thread::ScopedJoinHandle::is_finished);
                let sent = done.rows.load(Ordering::Acquire);
                self.tell(sent, done.scan.tables_done());
                if finished && (delivered >= sent || done.scan.has_given_up()) {
                    break;
                }
                progress.update(sent);
                self.sink.wait(WAIT);
                match self.stop.check().and_then(|()| self.collect()) {
                    Ok(count) => delivered += count,
                    Err(error) => done.scan.give_up(error),
                }
            }
        });
        done.scan.outcome()?;
        let stale = done.stale.into_inner();
        Ok((
            done.rows.into_inner(),
            stale.unwrap_or_else(PoisonError::into_inner),
        ))
    }

    fn tell(&self, rows: u64, tables_done: usize) {
        let copied = Copied {
            tables: self.targets.len() as u64,
            tables_done: tables_done as u64,
            rows,
            estimated_rows: self.estimated_rows,
        };
        self.metrics.snapshot(copied, self.sink.load());
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

    fn row(&self, row: &Row<'_>, table: usize, stamp: &mut Stamp, done: &Done<'_>) -> Result<()> {
        let Some(target) = self.targets.get(table) else {
            return Ok(());
        };
        match row {
            Row::Encoded(change) => match target.ids {
                None => self.send(change, target, done)?,
                Some(ids) => self.send(&stamp.change(ids, change), target, done)?,
            },
            Row::Quarantined(quarantine) => match target.ids {
                None => self.quarantined(quarantine, quarantine.key, target, done)?,
                Some(ids) => {
                    let (key, _) = stamp.pair(ids, quarantine.key, None);
                    self.quarantined(quarantine, key, target, done)?;
                }
            },
        }
        done.count();
        Ok(())
    }

    fn send(&self, change: &Change<'_>, target: &Target, done: &Done<'_>) -> Result<()> {
        let record = Record {
            topic: target.topic,
            key: change.key,
            value: change.value,
            headers: self.headers(change.seq, &change.unchanged),
        };
        loop {
            match self.sink.send(&record, self.token) {
                Ok(()) => return Ok(()),
                Err(SendError::Failed(error)) => return Err(error),
                Err(SendError::Full) => {
                    done.check()?;
                    self.sink.wait(WAIT);
                }
                Err(SendError::Large) => {
                    let mut tick = || done.check();
                    return match self.sink.send_alone(&record, self.token, &mut tick)? {
                        Verdict::Accepted => Ok(()),
                        Verdict::TooLarge(size) => self.too_large(&record, &size, target, done),
                    };
                }
            }
        }
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
        key: Option<&[u8]>,
        target: &Target,
        done: &Done<'_>,
    ) -> Result<()> {
        let name = target.name();
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
            key,
            value: None,
            headers: self.headers(quarantine.seq, &[]),
            relation: Some(&name),
            meant_for: Some(target.topic),
            reason: quarantine.reason,
            bytes: None,
            limit: None,
        };
        self.bury(dead_letters, &letter, target, done)
    }

    fn too_large(
        &self,
        record: &Record<'_>,
        size: &TooLarge,
        target: &Target,
        done: &Done<'_>,
    ) -> Result<()> {
        let name = target.name();
        let Some(dead_letters) = self.dead_letters else {
            return Err(Error::new(
                ErrorKind::Data,
                format!("a row of {name} cannot be sent: {size}"),
            )
            .with_hint(format!(
                "{} Or leave the table out with --exclude-table. {}",
                size.cure,
                self.options.by_dead_letters()
            )));
        };
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
        self.bury(dead_letters, &letter, target, done)
    }

    /// A dead letter is the delivery of its row.
    fn bury(
        &self,
        dead_letters: &DeadLetters,
        letter: &DeadLetter<'_>,
        target: &Target,
        done: &Done<'_>,
    ) -> Result<()> {
        loop {
            match self.sink.send_dead_letter(letter, self.token) {
                Ok(()) => break,
                Err(SendError::Failed(error)) => return Err(error),
                Err(SendError::Full | SendError::Large) => {
                    done.check()?;
                    self.sink.wait(WAIT);
                }
            }
        }
        let change = ChangeId {
            lsn: self.consistent_point,
            seq: letter.headers.seq,
        };
        dead_letters.count(&target.name(), change, letter.reason);
        let sent_as = &target.source.table.sent_as;
        let mark = Mark {
            since: self.consistent_point,
            reason: format!(
                "rows of the snapshot are among the dead letters: {}",
                letter.reason
            ),
        };
        done.stale
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .mark(&sent_as.schema, &sent_as.table, mark);
        Ok(())
    }
}
