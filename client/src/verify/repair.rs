//! `--repair`: has the stream send keys again that differ.
//!
//! Only the stream writes to a topic, or a record of this process could come to lie behind a
//! newer one of the same key. So it is asked, through the WAL: it reads the rows of the keys
//! as they are then, sends them among its own records with a tombstone for each key that has
//! no row, and leaves out what it has newer changes of.

use std::collections::{BTreeMap, VecDeque};

use headwater_protocol::Lsn;

use super::entry::Fact;
use super::passage::Passage;
use super::spill::Spill;
use super::subject::Subject;
use crate::error::Result;
use crate::snapshot_request::{RowsOf, Scope, SnapshotRequest, key_text};
use crate::source::connection::Connection;

/// The keys of one request, as its JSON has them: half of what the stream takes.
const REQUEST_BYTES: usize = 64 << 10;

/// Requests that the stream has not answered yet: it takes a few at a time, and answers
/// once a second.
const UNANSWERED: usize = 3;

/// Asks for keys.
pub(super) struct Repair<'a> {
    subjects: &'a [Subject],
    passage: &'a Passage<'a>,
    connection: &'a Connection,
    batches: BTreeMap<u32, Batch>,
    /// What was asked, oldest first, and where the WAL ended behind it.
    asked: VecDeque<(String, Lsn)>,
}

/// Keys of one table.
#[derive(Default)]
struct Batch {
    keys: Vec<String>,
    bytes: usize,
}

impl<'a> Repair<'a> {
    /// Nothing is asked yet. The connection is an ordinary session.
    pub(super) fn new(
        subjects: &'a [Subject],
        passage: &'a Passage<'a>,
        connection: &'a Connection,
    ) -> Self {
        Repair {
            subjects,
            passage,
            connection,
            batches: BTreeMap::new(),
            asked: VecDeque::new(),
        }
    }

    /// Asks for every key that `differing` holds, and returns when the stream has sent them.
    ///
    /// # Errors
    /// The server refuses the request, or the stream does not take it.
    pub(super) fn run(mut self, differing: &Spill) -> Result<()> {
        for bucket in differing.buckets() {
            differing.read(bucket, |entry| match entry.fact {
                Fact::Question(_) => self.key(entry.subject, entry.key),
                Fact::Row(_) | Fact::Record(_) => Ok(()),
            })?;
        }
        for (subject, batch) in std::mem::take(&mut self.batches) {
            self.ask(subject, batch)?;
        }
        while let Some((id, end)) = self.asked.pop_front() {
            self.passage.wait_for_run(&id, end)?;
        }
        Ok(())
    }

    fn key(&mut self, subject: u32, key: &[u8]) -> Result<()> {
        // A request has text, and not of any length. Somebody else's key that is no such
        // text stays, and the next look says so.
        let Some(key) = key_text(key) else {
            return Ok(());
        };
        let bytes = serde_json::to_string(&key).map_or(usize::MAX, |json| json.len() + 1);
        if bytes > REQUEST_BYTES {
            return Ok(());
        }
        let batch = self.batches.entry(subject).or_default();
        let full = (batch.bytes + bytes > REQUEST_BYTES).then(|| std::mem::take(batch));
        batch.bytes += bytes;
        batch.keys.push(key);
        match full {
            Some(full) => self.ask(subject, full),
            None => Ok(()),
        }
    }

    fn ask(&mut self, subject: u32, batch: Batch) -> Result<()> {
        let Some(subject) = self.subjects.get(subject as usize) else {
            return Ok(());
        };
        if batch.keys.is_empty() {
            return Ok(());
        }
        if self.asked.len() >= UNANSWERED
            && let Some((id, end)) = self.asked.pop_front()
        {
            self.passage.wait_for_run(&id, end)?;
        }
        let count = batch.keys.len();
        let scope = Scope::Keys {
            table: RowsOf {
                schema: subject.name.schema.clone(),
                name: subject.name.table.clone(),
            },
            keys: batch.keys,
        };
        let request = SnapshotRequest::new(self.passage.slot(), scope);
        request.send(self.connection)?;
        let end = self
            .connection
            .query("SELECT pg_catalog.pg_current_wal_insert_lsn()")?
            .lsn(0, 0)?;
        tracing::info!(table = %subject.name.sql(), keys = count, "asked the stream to send keys again");
        self.asked.push_back((request.id, end));
        Ok(())
    }
}
