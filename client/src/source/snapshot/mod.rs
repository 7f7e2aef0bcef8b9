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
//! The schema registry is asked before all that, and waited for while nothing is held: see the
//! module `ids`.
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
mod ids;
mod job;
mod rows;
mod scan;
mod view;
mod waiting;

use std::collections::BTreeMap;
use std::time::Duration;

use headwater_protocol::Lsn;

pub use self::copy_binary::{CopyBinary, CopyError};
pub use self::rows::copy as copy_rows;
pub use self::scan::{Scan, Source};
pub use self::view::{Description, View, ViewOptions, describe};

use self::copy::{Copy, Target};
use self::exporter::Exporter;
use self::guard::Guard;
use self::ids::Answers;
use super::catalog::{Catalog, Table, TableName};
use super::connection::{Connection, Connector};
use super::plugin::Plugin;
use super::sql_error::sqlstate;
use crate::backoff::Backoff;
use crate::cli::{SnapshotMode, StreamOptions, UnkeyedMode};
use crate::dead_letters::DeadLetters;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{Activity, Metrics};
use crate::progress::{Progress, Unit};
use crate::registry::Registrar;
use crate::route::Router;
use crate::sink::{Ghosts, Headers, Keying, Sink, Token, TopicId};
use crate::state::{Mark, StaleTables};
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
    /// By which the ids of schemas are learned; none where records have no schema.
    pub registrar: Option<&'a Registrar>,
    /// Names the topics.
    pub router: &'a mut Router,
    /// Whether to stop.
    pub stop: &'a Stop,
    /// Where it tells how far it is.
    pub metrics: &'a Metrics,
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

/// What is copied, and which tables are not, each with the reason.
struct Targets {
    targets: Vec<Target>,
    refused: Vec<(TableName, String)>,
}

/// What came of a try.
enum Try {
    Copied(Box<Copied>),
    /// The tables cannot be locked, or are not those of the snapshot.
    Disturbed,
    /// The registry has not been asked for the schemas of these.
    Unasked(Vec<Description>),
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

/// Marks where a stream will begin whose tables are copied into it later: a slot, and no rows.
/// No other instance begins a snapshot for `slot` meanwhile.
///
/// # Errors
/// As [`Snapshot::take`]; `still_due` is as there.
pub fn without_rows(
    connector: &Connector,
    slot: &str,
    still_due: &mut dyn FnMut(&Connection) -> Result<()>,
) -> Result<Copied> {
    let reporter = connector.connect()?;
    let guard = Guard::open(connector)?;
    guard.claim(slot)?;
    still_due(guard.connection())?;
    let exporter = Exporter::create(connector, &reporter, &[])?
        .ok_or_else(|| Error::new(ErrorKind::Disconnected, "the slot's creation was cancelled"))?;
    Ok(Copied {
        exporter,
        _guard: guard,
        rows: 0,
        stale: StaleTables::default(),
    })
}

impl Snapshot<'_> {
    /// Takes the snapshot and returns when the sink has delivered it.
    pub fn take(&mut self) -> Result<Copied> {
        let stop = self.stop;
        let mut answers = Answers::default();
        until_undisturbed(stop, "the snapshot", || {
            loop {
                match self.try_once(&mut answers)? {
                    Try::Copied(copied) => return Ok(Some(*copied)),
                    Try::Disturbed => return Ok(None),
                    // Not counted: that takes a table that was changed while the registry was
                    // waited for, however often it does.
                    Try::Unasked(descriptions) => self.ask(&mut answers, descriptions)?,
                }
            }
        })
    }

    fn try_once(&mut self, answers: &mut Answers) -> Result<Try> {
        *self.attempt += 1;
        self.metrics.enter(Activity::Starting);
        let guard = Guard::open(self.connector)?;
        guard.claim(&self.options.slot)?;
        (self.still_due)(guard.connection())?;
        let skip_unkeyed = self.options.unkeyed == UnkeyedMode::Skip;
        let options = ViewOptions {
            connector: self.connector,
            plugin: self.plugin,
            sessions: self.options.snapshot_workers,
            captures: &|table| table.is_keyed || !skip_unkeyed,
        };
        if self.registrar.is_some() {
            let catalog = Catalog::read(guard.connection(), self.plugin)?;
            self.check(&catalog)?;
            let descriptions = ids::described(&catalog, &options, guard.connection())?;
            self.ask(answers, descriptions)?;
        }
        let Some(mut view) = View::try_open(&options, guard)? else {
            return Ok(Try::Disturbed);
        };
        self.check(view.catalog())?;
        let captured = view.catalog().tables.iter();
        let captured = captured.filter(|table| (options.captures)(table));
        let Targets { targets, refused } = match self.targets(captured, &view, answers)? {
            Ok(targets) => targets,
            Err(unasked) => return Ok(Try::Unasked(unasked)),
        };
        let mut swept = self.without_partitions(&view)?;
        swept.extend(swept_with(&targets));
        let consistent_point = view.consistent_point();
        tracing::info!(tables = targets.len(), %consistent_point, "snapshot begins");
        self.metrics.enter(Activity::Snapshot);
        let sessions = view.take_sessions();
        let (rows, mut stale) = self.copy(&targets, consistent_point, sessions)?;
        for (name, reason) in refused {
            let since = consistent_point;
            stale.mark(&name.schema, &name.table, Mark { since, reason });
        }
        view.release()?;
        self.flush()?;
        self.sweep(&swept, consistent_point)?;
        let (exporter, guard) = view.into_parts();
        Ok(Try::Copied(Box::new(Copied {
            exporter,
            _guard: guard,
            rows,
            stale,
        })))
    }

    fn check(&self, catalog: &Catalog) -> Result<()> {
        if self.options.unkeyed == UnkeyedMode::Refuse {
            catalog.check_keys(self.options.unkeyed)?;
        }
        catalog.check_toast(self.options.toast)
    }

    /// Waits until the registry has answered for all of these. Nothing may be held meanwhile.
    fn ask(&mut self, answers: &mut Answers, descriptions: Vec<Description>) -> Result<()> {
        let Some(registrar) = self.registrar else {
            return Ok(());
        };
        answers.ask(registrar, self.router, descriptions, self.stop)
    }

    /// What is copied, and what is not, since its schema is refused; or those whose schemas are not
    /// among the answers.
    fn targets<'t>(
        &mut self,
        tables: impl Iterator<Item = &'t Table>,
        view: &View,
        answers: &Answers,
    ) -> Result<Result<Targets, Vec<Description>>> {
        let (mut targets, mut refused, mut unasked) = (Vec::new(), Vec::new(), Vec::new());
        for table in tables {
            let name = TableName {
                schema: table.schema.clone(),
                table: table.name.clone(),
            };
            let description = view.describe(self.plugin, &name)?;
            let ids = match answers.of(&description) {
                None if self.registrar.is_some() => {
                    unasked.push(description);
                    continue;
                }
                None => None,
                Some(Ok(ids)) => Some(*ids),
                Some(Err(refusal)) if self.dead_letters.is_none() => {
                    return Err(refusal.error(&self.options.by_dead_letters()));
                }
                Some(Err(refusal)) => {
                    refused.push((table.sent_as.clone(), refusal.reason().to_owned()));
                    continue;
                }
            };
            let (topic, _) = self.open_topic(&description)?;
            let source = Source {
                table: table.clone(),
                relation: description.relation,
                schemas: description.fingerprint(),
            };
            targets.push(Target { source, topic, ids });
        }
        if !unasked.is_empty() {
            return Ok(Err(unasked));
        }
        for (table, reason) in &refused {
            tracing::warn!(
                table = %table.sql(),
                reason,
                "table is not copied: the schema registry does not take its schema"
            );
        }
        Ok(Ok(Targets { targets, refused }))
    }

    /// Topics of partitioned tables that have no partition, of which nothing is copied: all
    /// that was sent of them is gone. No lock holds such a table; one that is dropped
    /// meanwhile is left alone, which a transaction of its own makes possible.
    fn without_partitions(&mut self, view: &View) -> Result<BTreeMap<TopicId, String>> {
        let mut topics = BTreeMap::new();
        for name in view.catalog().without_partitions() {
            let described = match describe(self.plugin, &name.sql(), view.reporter()) {
                Err(error) if error.is_any_of(&[sqlstate::UNDEFINED_TABLE]) => continue,
                described => described?,
            };
            let description = Description::read(&described, &name.sql())?;
            let (topic, keying) = self.open_topic(&description)?;
            if keying == Keying::Keyed {
                topics.insert(topic, name.sql());
            }
        }
        Ok(topics)
    }

    /// A table's topic, and whether its rows have keys.
    fn open_topic(&mut self, description: &Description) -> Result<(TopicId, Keying)> {
        let keying = Keying::of(description.is_keyed);
        let topic = self.router.topic(&description.schema, &description.table)?;
        Ok((self.sink.open_topic(&topic, keying)?, keying))
    }

    fn copy(
        &self,
        targets: &[Target],
        consistent_point: Lsn,
        sessions: Vec<Connection>,
    ) -> Result<(u64, StaleTables)> {
        let estimates = targets
            .iter()
            .map(|target| target.source.table.estimated_rows);
        let estimated_rows = estimates.sum();
        let mut progress = Progress::new("snapshot", Unit::Rows, estimated_rows);
        let (rows, stale) = Copy {
            targets,
            plugin: self.plugin,
            sink: self.sink,
            options: self.options,
            dead_letters: self.dead_letters,
            token: self.token(),
            consistent_point,
            stop: self.stop,
            metrics: self.metrics,
            estimated_rows,
        }
        .run(sessions, &mut progress)?;
        progress.finish(rows, "every row of the snapshot is delivered");
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
            self.metrics.flows(self.sink.load());
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
        let mut progress = Progress::new("sweep", Unit::Topics, Some(topics.len() as u64));
        for (done, (topic, table)) in (0..).zip(topics) {
            let mut tick = || {
                progress.update(done);
                self.metrics.works();
                self.metrics.flows(self.sink.load());
                self.stop.check()
            };
            let tombstones = self.sink.sweep(*topic, ghosts, headers, &mut tick)?;
            if tombstones > 0 {
                tracing::info!(table, tombstones, "tombstones for rows that are gone");
            }
        }
        Ok(())
    }
}

/// Topics that hold keys, each once, with the table whose rows they hold.
fn swept_with(targets: &[Target]) -> impl Iterator<Item = (TopicId, String)> {
    let keyed = targets.iter().filter(|target| target.source.table.is_keyed);
    keyed.map(|target| (target.topic, target.source.table.sent_as.sql()))
}

/// Tries until tables stay as they are for long enough.
fn until_undisturbed<T>(
    stop: &Stop,
    what: &str,
    mut try_once: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let mut backoff = Backoff::default();
    for _ in 0..MAX_TRIES {
        if let Some(done) = try_once()? {
            return Ok(done);
        }
        tracing::info!("tables were changed meanwhile, beginning {what} anew");
        backoff.wait(stop)?;
    }
    Err(Error::failed(format!(
        "tables kept being changed during {MAX_TRIES} attempts at {what}"
    ))
    .with_hint("Name the tables to capture with --table, or try again later."))
}
