//! Copies the rows: each session takes one part of a table after another, each row
//! goes to the sink as it comes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headwater_protocol::Lsn;
use headwater_protocol::frame::{Change, Op};

use super::scan::{Scan, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::sink::{Headers, Record, SendError, Sink, Token, TopicId};
use crate::source::connection::Connection;
use crate::source::plugin::Plugin;
use crate::stop::Stop;

/// How long to wait for the sink at a time.
const WAIT: Duration = Duration::from_millis(100);

/// A table and where its rows go.
pub(super) struct Target {
    /// The table.
    pub source: Source,
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

impl Copy<'_> {
    /// Copies everything through `sessions` and returns once the sink has delivered
    /// every row, with their number.
    pub(super) fn run(&self, sessions: Vec<Connection>, progress: &mut Progress) -> Result<u64> {
        let scan = Scan::new(
            self.plugin,
            self.targets.iter().map(|target| &target.source),
        );
        let rows = AtomicU64::new(0);
        let mut delivered = 0;
        std::thread::scope(|scope| {
            let threads: Vec<_> = sessions
                .into_iter()
                .map(|session| {
                    let (scan, rows) = (&scan, &rows);
                    scope.spawn(move || {
                        scan.read(&session, |table, row| self.row(row, table, scan, rows));
                    })
                })
                .collect();
            loop {
                let finished = threads
                    .iter()
                    .all(std::thread::ScopedJoinHandle::is_finished);
                let sent = rows.load(Ordering::Acquire);
                if finished && (delivered >= sent || scan.has_given_up()) {
                    break;
                }
                progress.update(sent);
                self.sink.wait(WAIT);
                match self.stop.check().and_then(|()| self.collect()) {
                    Ok(count) => delivered += count,
                    Err(error) => scan.give_up(error),
                }
            }
        });
        scan.outcome()?;
        Ok(rows.into_inner())
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

    fn row(
        &self,
        change: &Change<'_>,
        table: usize,
        scan: &Scan<'_>,
        rows: &AtomicU64,
    ) -> Result<()> {
        let Some(target) = self.targets.get(table) else {
            return Ok(());
        };
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
                    if scan.has_given_up() {
                        return Err(Error::new(ErrorKind::Interrupted, "the copy was given up"));
                    }
                    self.sink.wait(WAIT);
                }
            }
        }
        rows.fetch_add(1, Ordering::Release);
        Ok(())
    }
}
