//! The snapshot: every row of the captured tables as of one point of the WAL, from
//! which the stream then goes on.
//!
//! ```text
//! guard     LOCK … ACCESS SHARE ──────────────────────────────────────► COMMIT
//! workers     LOCK … NOWAIT ─────────── SET TRANSACTION SNAPSHOT, COPY, COPY, … ─►
//! exporter          CREATE_REPLICATION_SLOT … TEMPORARY ─────────────────────────► promoted
//! sink                                           records ─► all delivered ─► ghosts swept ─► copied
//! ```
//!
//! # Why nothing is lost and nothing is read twice
//!
//! The exported snapshot sees exactly the transactions that ended before the slot's
//! consistent point, and the slot streams exactly those that end after it. The order
//! of the steps closes the gaps around that: locks come first, so that no table can
//! be rewritten or renamed between the point and its copy; the tables are listed again
//! *in* the snapshot, and one that the guard does not hold (it was created in between)
//! begins everything anew; the workers import at once and keep one transaction each,
//! since the exported snapshot ends with the exporter's next statement.
//!
//! # Why a crash leaves nothing behind
//!
//! The slot is temporary until every row is delivered and that is on record. A crash
//! before ends the sessions, and with them the slot; no WAL is retained for a client
//! that never comes back.

mod copy;
mod copy_binary;
mod exporter;
mod guard;
mod job;
mod waiting;

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_protocol::Lsn;
use headwater_protocol::frame::{Frame, Frames};
use libpq::Format;

use self::copy::{Copy, Target};
use self::exporter::Exporter;
use self::guard::Guard;
use super::catalog::{Catalog, Table};
use super::connection::{Connection, Connector, Rows};
use super::plugin::Plugin;
use super::sql;
use super::sql_error::{SqlError, sqlstate};
use crate::backoff::Backoff;
use crate::cli::{SnapshotMode, StreamOptions, UnkeyedMode};
use crate::dead_letters::DeadLetters;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::route::Router;
use crate::sink::{Ghosts, Headers, Keying, Sink, Token, TopicId};
use crate::state::StaleTables;
use crate::stop::Stop;

/// How often to begin anew because a table came, went or was wanted by another
/// statement meanwhile.
const MAX_TRIES: u32 = 10;

/// How long to wait for the sink at a time.
const FLUSH_WAIT: Duration = Duration::from_millis(100);

/// What a snapshot needs.
pub struct Snapshot<'a> {
    /// Opens its sessions.
    pub connector: &'a Connector,
    /// How rows are encoded and which tables are captured.
    pub plugin: &'a Plugin,
    /// The command line.
    pub options: &'a StreamOptions,
    /// Where rows go.
    pub sink: &'a dyn Sink,
    /// Where rows go that cannot be delivered; none to stop at them.
    pub dead_letters: Option<&'a DeadLetters>,
    /// Names the topics.
    pub router: &'a mut Router,
    /// Whether to stop.
    pub stop: &'a Stop,
    /// Reports of rows that an attempt before has sent must not be taken for this one's.
    pub attempt: &'a mut u64,
    /// Asked when no other instance can begin a snapshot any more; its error ends this one.
    pub still_due: &'a mut dyn FnMut(&Connection) -> Result<()>,
}

/// A snapshot whose every row is delivered. The temporary slot lives as long as this.
pub struct Copied {
    exporter: Exporter,
    // Keeps the advisory lock until the permanent slot takes its place.
    _guard: Guard,
    /// How many rows, dead letters among them.
    pub rows: u64,
    stale: StaleTables,
}

impl Copied {
    /// Where the stream goes on.
    pub fn consistent_point(&self) -> Lsn {
        self.exporter.consistent_point()
    }

    /// Tables of which rows are among the dead letters.
    pub fn stale(&self) -> &StaleTables {
        &self.stale
    }

    /// The slot to promote.
    pub fn temporary_slot(&self) -> &str {
        self.exporter.slot()
    }
}

impl Snapshot<'_> {
    /// Takes the snapshot and returns when the sink has delivered it.
    pub fn take(&mut self) -> Result<Copied> {
        let mut backoff = Backoff::default();
        for _ in 0..MAX_TRIES {
            if let Some(copied) = self.try_once()? {
                return Ok(copied);
            }
            tracing::info!("tables were changed meanwhile, beginning the snapshot anew");
            backoff.wait(self.stop)?;
        }
        Err(Error::failed(format!(
            "tables kept being changed during {MAX_TRIES} attempts at a snapshot"
        ))
        .with_hint("Name the tables to capture with --table, or try again later."))
    }

    /// None if the tables cannot be locked, or are not those of the snapshot.
    fn try_once(&mut self) -> Result<Option<Copied>> {
        *self.attempt += 1;
        let reporter = self.connector.connect()?;
        let mut guard = Guard::open(self.connector, &self.options.slot)?;
        (self.still_due)(guard.connection())?;
        let listed = Catalog::read(guard.connection(), self.plugin)?;
        if !guard.lock(self.captured(&listed), &reporter)? {
            return Ok(None);
        }
        let Some(sessions) = self.sessions(&guard)? else {
            return Ok(None);
        };
        let locking = sessions.iter().chain([guard.connection()]);
        let locking: Vec<u32> = locking.map(Connection::backend_pid).collect();
        let Some(exporter) = Exporter::create(self.connector, &reporter, &locking)? else {
            return Ok(None);
        };
        for session in &sessions {
            exporter.import(session)?;
        }
        let Some(first) = sessions.first() else {
            return Err(Error::failed("a snapshot needs a session"));
        };
        let seen = Catalog::read(first, self.plugin)?;
        if !self.captured(&seen).all(|table| guard.holds(table)) {
            return Ok(None);
        }
        self.check(&seen)?;
        let targets = self.targets(&seen, first)?;
        let mut swept = self.without_partitions(&seen, &reporter)?;
        swept.extend(swept_with(&targets));
        tracing::info!(
            tables = targets.len(),
            consistent_point = %exporter.consistent_point(),
            "snapshot begins"
        );
        let (rows, stale) = self.copy(&targets, &exporter, sessions)?;
        guard.release()?;
        exporter.verify()?;
        self.flush()?;
        self.sweep(&swept, exporter.consistent_point())?;
        Ok(Some(Copied {
            exporter,
            _guard: guard,
            rows,
            stale,
        }))
    }

    /// The sessions that will copy; none if one does not get its locks.
    fn sessions(&self, guard: &Guard) -> Result<Option<Vec<Connection>>> {
        (0..self.options.snapshot_workers)
            .map(|_| guard.companion(self.connector))
            .collect()
    }

    fn captured<'c>(&self, catalog: &'c Catalog) -> impl Iterator<Item = &'c Table> + use<'c> {
        let skip_unkeyed = self.options.unkeyed == UnkeyedMode::Skip;
        catalog
            .tables
            .iter()
            .filter(move |table| table.is_keyed || !skip_unkeyed)
    }

    fn check(&self, catalog: &Catalog) -> Result<()> {
        if self.options.unkeyed == UnkeyedMode::Refuse {
            catalog.check_keys(self.options.unkeyed)?;
        }
        catalog.check_toast(self.options.toast)
    }

    fn targets(&mut self, catalog: &Catalog, session: &Connection) -> Result<Vec<Target>> {
        let mut targets = Vec::new();
        for table in self.captured(catalog) {
            let described = self.describe(&table.sql_name(), session)?;
            let (relation, topic, _) = self.open_topic(&table.sql_name(), &described)?;
            targets.push(Target {
                table: table.clone(),
                relation,
                topic,
            });
        }
        Ok(targets)
    }

    /// Topics of partitioned tables that have no partition, of which nothing is copied: all
    /// that was sent of them is gone. No lock holds such a table; one that is dropped
    /// meanwhile is left alone, which a transaction of its own makes possible.
    fn without_partitions(
        &mut self,
        catalog: &Catalog,
        session: &Connection,
    ) -> Result<BTreeMap<TopicId, String>> {
        let mut topics = BTreeMap::new();
        for name in catalog.without_partitions() {
            let described = match self.describe(&name.sql(), session) {
                Err(error) if error.is_any_of(&[sqlstate::UNDEFINED_TABLE]) => continue,
                described => described?,
            };
            let (_, topic, keying) = self.open_topic(&name.sql(), &described)?;
            if keying == Keying::Keyed {
                topics.insert(topic, name.sql());
            }
        }
        Ok(topics)
    }

    /// A table as the plugin describes it: a relation frame.
    fn describe(&self, table: &str, session: &Connection) -> Result<Rows, SqlError> {
        let regclass = format!("{}::pg_catalog.regclass", sql::literal(table));
        let query = format!("SELECT {}", self.plugin.relation_call(&regclass));
        session.query_with(&query, &[], Format::Binary)
    }

    /// The relation that a table's rows are sent as, its topic, and whether they have keys.
    ///
    /// The topic is named from the table's description as the plugin gives it, so that
    /// snapshot and stream cannot come to different names.
    fn open_topic(&mut self, table: &str, described: &Rows) -> Result<(u32, TopicId, Keying)> {
        let described = described.bytes(0, 0).unwrap_or_default();
        let (id, topic, keying) = match Frames::new(described).next() {
            Some(Ok(Frame::Relation(relation))) => {
                let topic = self.router.topic(relation.schema, relation.table)?;
                (relation.id, topic, Keying::of(relation.is_keyed()))
            }
            Some(Err(error)) => {
                return Err(Error::failed("a table's description is no frame").with_source(error));
            }
            _ => {
                return Err(Error::failed(format!(
                    "the server did not describe table {table}"
                )));
            }
        };
        Ok((id, self.sink.open_topic(&topic, keying)?, keying))
    }

    fn copy(
        &self,
        targets: &[Target],
        exporter: &Exporter,
        sessions: Vec<Connection>,
    ) -> Result<(u64, StaleTables)> {
        let estimates = targets.iter().map(|target| target.table.estimated_rows);
        let mut progress = Progress::new(estimates.sum());
        let (rows, stale) = Copy {
            targets,
            plugin: self.plugin,
            sink: self.sink,
            options: self.options,
            dead_letters: self.dead_letters,
            token: self.token(),
            consistent_point: exporter.consistent_point(),
            stop: self.stop,
        }
        .run(sessions, &mut progress)?;
        progress.finish(rows);
        Ok((rows, stale))
    }

    /// Tokens of snapshots count down from the top; the stream's count up from zero.
    fn token(&self) -> Token {
        Token(u64::MAX - *self.attempt)
    }

    /// Waits for the rows of attempts before this one, too: one that came to the topic
    /// after the sweep would stay.
    fn flush(&self) -> Result<()> {
        while !self.sink.flush(FLUSH_WAIT)? {
            self.stop.check()?;
        }
        Ok(())
    }

    /// Rows that an earlier snapshot or stream sent and that were deleted before this
    /// snapshot began are still live in the topic: nothing after would delete them.
    fn sweep(&self, topics: &BTreeMap<TopicId, String>, consistent_point: Lsn) -> Result<()> {
        let ghosts = match self.options.snapshot {
            SnapshotMode::Only => Ghosts::OlderThan(consistent_point),
            SnapshotMode::Initial | SnapshotMode::Never => Ghosts::NotOf(consistent_point),
        };
        let headers = Headers {
            op: "d",
            lsn: consistent_point,
            seq: 0,
            transaction: None,
            unchanged: &[],
            fetched: false,
        };
        for (topic, table) in topics {
            let tombstones = self
                .sink
                .sweep(*topic, ghosts, headers, &mut || self.stop.check())?;
            if tombstones > 0 {
                tracing::info!(table, tombstones, "tombstones for rows that are gone");
            }
        }
        Ok(())
    }
}

/// Topics that hold keys, each once, with the table whose rows they hold.
fn swept_with(targets: &[Target]) -> impl Iterator<Item = (TopicId, String)> {
    let keyed = targets.iter().filter(|target| target.table.is_keyed);
    keyed.map(|target| (target.topic, target.table.sent_as.sql()))
}
