//! The thread that reads tables for one run, step by step, while the stream goes on.
//!
//! It holds a transaction for the time of one chunk, and none while it waits for the stream.
//! Whatever breaks is begun again with the step that it broke in. A table of which a row can
//! be neither encoded nor kept as a dead letter is left, and stays stale.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use headwater_protocol::reserved;

use super::plan::Plan;
use super::read::{ChunkSession, SchemaTexts, Unread};
use super::step::{Order, Report, Step, Then, Verdict, Watch, Work};
use super::visibility::Visible;
use super::watermark::Watermark;
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{self, Ids, Registrar, Schemas};
use crate::route::Router;
use crate::sink::{GhostSearch, Keying, Keys, Sink, TopicId};
use crate::snapshot_request::{RowsOf, Scope, emit};
use crate::source::connection::Connector;
use crate::source::plugin::Plugin;
use crate::source::sql_error::SqlError;
use crate::state::{Part, Place, Run};
use crate::stop::Stop;

/// Between two looks at whether transactions have ended.
pub(super) const QUIET_INTERVAL: Duration = Duration::from_millis(20);

/// A chunk is read again after a pause that doubles up to this: what the stream has sent and
/// nobody sees may wait for a standby that is away.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A table that is another than the catalog said, so often in a row, is waited for.
const CHANGED: u32 = 3;

/// A wait shorter than this is not worth a line.
const FIRST_REPORT: Duration = Duration::from_secs(3);

/// One line this often while it lasts.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// Between two looks at the stop flag.
const LOOK: Duration = Duration::from_millis(200);

/// Who runs what a list of transaction ids names: processes, and prepared transactions by
/// their names.
const WHO_RUNS: &str = "SELECT pg_catalog.string_agg(who, ', ') FROM ( \
       SELECT 'process ' || a.pid AS who FROM pg_catalog.pg_stat_activity a \
       WHERE a.backend_xid::text = ANY ($1::text[]) \
       UNION ALL SELECT 'prepared transaction ' || p.gid FROM pg_catalog.pg_prepared_xacts p \
       WHERE p.transaction::text = ANY ($1::text[])) AS running";

/// What the thread works with.
pub(super) struct Worker {
    pub(super) connector: Connector,
    pub(super) plugin: Plugin,
    pub(super) sink: Arc<dyn Sink>,
    /// Names topics as the stream does.
    pub(super) router: Router,
    /// By which the ids of schemas are learned; none where records have no schema.
    pub(super) registrar: Option<Registrar>,
    pub(super) slot: String,
    pub(super) run: Run,
    /// Names the thread in its watermarks.
    pub(super) reader: String,
    pub(super) number: u64,
    /// The last step whose verdict was heard.
    pub(super) heard: u64,
    /// Rows that cannot be encoded become dead letters.
    pub(super) buries: bool,
    /// Before the next chunk that is read again.
    pub(super) pause: Duration,
    /// The window was just opened.
    pub(super) must_wait: bool,
    /// Holds one: a chunk that nobody takes is the only one in memory.
    pub(super) reports: SyncSender<Report>,
    pub(super) orders: Receiver<Order>,
    /// Set when nobody listens any more.
    pub(super) stop: Stop,
}

/// Whether the run has ended.
#[derive(PartialEq, Eq)]
enum Progress {
    Going,
    Ended,
}

impl Worker {
    /// Runs to the end of the run, or until nobody listens.
    pub(super) fn work(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let number = self.number;
            let error = match self.session() {
                Ok(()) => return,
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::Interrupted => return,
                ErrorKind::Data => return drop(self.reports.send(Report::Failed(error))),
                _ => {}
            }
            // Nobody will answer the next try either.
            if let Some(Err(error)) = self.registrar.as_ref().map(Registrar::check) {
                return drop(self.reports.send(Report::Failed(error)));
            }
            if self.number > number + 1 {
                backoff = Backoff::default();
            }
            backoff.report_as(
                &error,
                "the copy into the stream is interrupted, trying again",
            );
            if backoff.wait(&self.stop).is_err() {
                return;
            }
        }
    }

    /// Takes steps in one session with the server.
    fn session(&mut self) -> Result<()> {
        let connector = self.connector.clone();
        let plugin = self.plugin.clone();
        let mut session = ChunkSession::open(&connector, &plugin, self.buries)?;
        if self.must_wait {
            self.await_running(&session)?;
            self.must_wait = false;
        }
        let mut locked_out = Waiting::new();
        let mut changed = 0;
        loop {
            match self.step(&mut session) {
                Ok(Progress::Going) => (locked_out, changed) = (Waiting::new(), 0),
                Ok(Progress::Ended) => return Ok(()),
                // The catalog is looked at again with the next step.
                Err(Unread::Changed) if changed + 1 < CHANGED => {
                    changed += 1;
                    session.roll_back()?;
                }
                Err(Unread::Changed) => {
                    return Err(Error::failed(
                        "a table that is to be copied again is not as the catalog says",
                    ));
                }
                Err(Unread::Locked) => {
                    session.roll_back()?;
                    self.report(Report::Seen(session.snapshot()?))?;
                    if locked_out.is_due() {
                        tracing::warn!("waiting for a lock on a table that is to be copied again");
                    }
                }
                Err(Unread::Unfit(reason)) => {
                    session.roll_back()?;
                    self.leave(&session, reason)?;
                }
                Err(Unread::Failed(error)) => return Err(error),
            }
            self.stop.check()?;
        }
    }

    /// Waits until every transaction that has an id now has ended for everybody: see "Before
    /// the first chunk" in the module's description.
    fn await_running(&self, session: &ChunkSession<'_>) -> Result<()> {
        session.end_a_transaction()?;
        let first = session.snapshot()?;
        let mut waiting = Waiting::new();
        loop {
            let now = session.snapshot()?;
            if first.is_over_by(&now) {
                return self.report(Report::Seen(now));
            }
            if waiting.is_due() {
                tracing::warn!(
                    blocked_by = %who_runs(session, &first, &now)?,
                    "waiting for running transactions to end before tables are copied again"
                );
            }
            self.report(Report::Seen(now))?;
            self.stop.check()?;
            std::thread::sleep(QUIET_INTERVAL);
        }
    }

    fn step(&mut self, session: &mut ChunkSession<'_>) -> Result<Progress, Unread> {
        match &self.run.request.scope {
            Scope::Tables { .. } => self.next_of_tables(session),
            Scope::Keys { table, keys } => {
                let (table, keys) = (table.clone(), keys.clone());
                self.next_of_keys(session, &table, &keys)
            }
        }
    }

    fn next_of_tables(&mut self, session: &mut ChunkSession<'_>) -> Result<Progress, Unread> {
        let scope = &self.run.request.scope;
        let plan = Plan::read(session.connection(), &self.plugin, scope)?;
        let Some(place) = self.run.place.clone() else {
            return self.begin_table(session, &plan, None);
        };
        let (leaf, after) = match &place.part {
            Part::Done | Part::Keys(_) => {
                return self.begin_table(session, &plan, Some(&place.table));
            }
            Part::Ghosts(from) => return self.ghosts(session, &place, *from),
            // Gone, with everything that was to be done for it.
            _ if !plan.has(&place.table) => {
                return self.begin_table(session, &plan, Some(&place.table));
            }
            Part::Begin => (None, None),
            Part::Rows { leaf, after } => (Some(leaf), after.as_deref()),
        };
        let found = leaf.filter(|leaf| plan.leaf(&place.table, leaf).is_some());
        let (leaf, after) = match found {
            Some(leaf) => (leaf, after),
            None => match plan.next_leaf(&place.table, leaf) {
                Some(next) => (next, None),
                None => return self.ghosts(session, &place, 0),
            },
        };
        let Some(table) = plan.leaf(&place.table, leaf) else {
            return Err(Unread::Changed);
        };
        let topic = self.topic(&place.table)?;
        let rows = session.rows(table, &place.table, after)?;
        let Standing::Known(ids) = self.standing(session, &place.table, rows.schemas.as_ref())?
        else {
            return Ok(Progress::Going);
        };
        let part = match (rows.after, plan.next_leaf(&place.table, Some(leaf))) {
            (Some(after), _) => Part::Rows {
                leaf: leaf.clone(),
                after: Some(after),
            },
            (None, Some(next)) => Part::Rows {
                leaf: next.clone(),
                after: None,
            },
            (None, None) => Part::Ghosts(0),
        };
        let work = Work::Rows {
            topic,
            ids,
            frames: rows.frames,
            count: rows.count,
        };
        let then = Then::Place(Place { part, ..place });
        self.settle(session, rows.snapshot, work, then)
    }

    /// Begins with the table behind this one, or ends the run.
    fn begin_table(
        &mut self,
        session: &ChunkSession<'_>,
        plan: &Plan,
        behind: Option<&RowsOf>,
    ) -> Result<Progress, Unread> {
        if let Some(table) = plan.next_table(behind) {
            self.run.place = Some(Place {
                table: table.clone(),
                since: self.run.since,
                part: Part::Begin,
            });
            tracing::info!(%table, run = self.run.request.id, "copying again");
            return Ok(Progress::Going);
        }
        if plan.is_empty() && behind.is_none() {
            let reason = "no table that is streamed and has a key matches".to_owned();
            return self.settle_now(session, Then::Nothing(reason));
        }
        self.settle_now(session, Then::End)
    }

    fn next_of_keys(
        &mut self,
        session: &ChunkSession<'_>,
        table: &RowsOf,
        keys: &[String],
    ) -> Result<Progress, Unread> {
        let from = match self.run.place.as_ref().map(|place| &place.part) {
            Some(Part::Keys(from)) => *from,
            Some(Part::Done) => keys.len(),
            _ => 0,
        };
        let Some(keys) = keys.get(from..).filter(|keys| !keys.is_empty()) else {
            return self.settle_now(session, Then::End);
        };
        let scope = &self.run.request.scope;
        let plan = Plan::read(session.connection(), &self.plugin, scope)?;
        if !plan.has(table) {
            return Err(Unread::Unfit(
                "it is not streamed, or has no key".to_owned(),
            ));
        }
        let topic = self.topic(table)?;
        let mut unreadable = Vec::new();
        let mut looked_up = loop {
            let known = unreadable.len();
            match session.lookups(table, keys, &mut unreadable) {
                Err(Unread::Unfit(_)) if unreadable.len() > known => session.roll_back()?,
                other => break other?,
            }
        };
        let schemas = looked_up.schemas.as_ref();
        let Standing::Known(ids) = self.standing(session, table, schemas)? else {
            return Ok(Progress::Going);
        };
        let work = Work::Keys {
            topic,
            ids,
            absent: looked_up.absent_under(ids),
            frames: looked_up.frames,
            count: looked_up.count,
        };
        let then = Then::Place(Place {
            table: table.clone(),
            since: self.run.since,
            part: Part::Keys(from + looked_up.keys),
        });
        self.settle(session, looked_up.snapshot, work, then)
    }

    /// Finds keys that are gone, partition by partition from `from` on.
    fn ghosts(
        &mut self,
        session: &ChunkSession<'_>,
        place: &Place,
        from: i32,
    ) -> Result<Progress, Unread> {
        let topic = self.topic(&place.table)?;
        let stop = self.stop.clone();
        let mut tick = || stop.check();
        if let Some(search) = self.sink.search(topic, &mut tick)? {
            for partition in search.partitions().iter().filter(|number| **number >= from) {
                let verdict = self.bury(session, &*search, topic, place, *partition)?;
                if verdict == Some(Progress::Going) {
                    // Wherever the run goes on now, the next step finds it out.
                    return Ok(Progress::Going);
                }
            }
        }
        let done = Place {
            part: Part::Done,
            ..place.clone()
        };
        self.settle_now(session, Then::Mended(done))
    }

    /// None where the partition has no ghost.
    fn bury(
        &mut self,
        session: &ChunkSession<'_>,
        search: &dyn GhostSearch,
        topic: TopicId,
        place: &Place,
        partition: i32,
    ) -> Result<Option<Progress>, Unread> {
        let stop = self.stop.clone();
        let mut tick = || stop.check();
        let (keys, end) = search.older_than(partition, place.since, &mut tick)?;
        if keys.is_empty() {
            return Ok(None);
        }
        let keys: Arc<Keys> = Arc::new(keys);
        self.number += 1;
        let number = self.number;
        self.report(Report::Watch(Watch {
            number,
            topic,
            keys: Arc::clone(&keys),
        }))?;
        while !matches!(self.order()?, Order::Watching(of) if of == number) {}
        let renewed = search.renewed(partition, end, &keys, &mut tick)?;
        let work = Work::Ghosts {
            watch: number,
            topic,
            partition,
            keys,
            renewed,
        };
        let then = Then::Place(Place {
            part: Part::Ghosts(partition + 1),
            ..place.clone()
        });
        session.begin()?;
        let snapshot = session.snapshot()?;
        self.settle(session, snapshot, work, then).map(Some)
    }

    /// Goes on behind the table at hand, which cannot be copied.
    fn leave(&mut self, session: &ChunkSession<'_>, reason: String) -> Result<()> {
        let table = match (&self.run.place, &self.run.request.scope) {
            (Some(place), _) => Some(&place.table),
            (None, Scope::Keys { table, .. }) => Some(table),
            (None, Scope::Tables { .. }) => None,
        };
        let then = match table {
            Some(table) => {
                let place = Place {
                    table: table.clone(),
                    since: self.run.since,
                    part: Part::Done,
                };
                Then::Left(place, reason)
            }
            None => Then::Nothing(reason),
        };
        match self.settle_now(session, then) {
            Ok(_) => Ok(()),
            Err(Unread::Failed(error)) => Err(error),
            Err(_) => Err(Error::failed("a step without a table cannot be taken")),
        }
    }

    fn settle_now(&mut self, session: &ChunkSession<'_>, then: Then) -> Result<Progress, Unread> {
        session.begin()?;
        let snapshot = session.snapshot()?;
        self.settle(session, snapshot, Work::None, then)
    }

    /// Hands a step to the stream, marks the place in the WAL, ends the transaction, and
    /// waits for what comes of it.
    fn settle(
        &mut self,
        session: &ChunkSession<'_>,
        snapshot: Visible,
        work: Work,
        then: Then,
    ) -> Result<Progress, Unread> {
        self.number += 1;
        let number = self.number;
        let (next, table) = match &then {
            Then::Place(place) | Then::Mended(place) | Then::Left(place, _) => {
                (Some(place.clone()), Some(place.table.clone()))
            }
            Then::Nothing(_) | Then::End => (None, None),
        };
        self.report(Report::Step(Box::new(Step {
            number,
            heard: self.heard,
            snapshot,
            table,
            work,
            then,
        })))?;
        let watermark = Watermark {
            slot: self.slot.clone(),
            run: self.run.request.id.clone(),
            reader: self.reader.clone(),
            number,
        };
        emit(
            session.connection(),
            reserved::WATERMARK,
            &watermark.encode(),
        )?;
        session.commit()?;
        let verdict = self.verdict(number)?;
        self.heard = number;
        match verdict {
            Verdict::Applied if next.is_none() => return Ok(Progress::Ended),
            Verdict::Applied => {
                self.run.place = next;
                self.pause = QUIET_INTERVAL;
            }
            Verdict::Over(place) => self.run.place = Some(place),
            // What the stream has sent is seen in a moment, as a rule.
            Verdict::Again => {
                std::thread::sleep(self.pause);
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            }
            Verdict::Anew => {
                self.must_wait = true;
                self.await_running(session)?;
                self.must_wait = false;
            }
        }
        Ok(Progress::Going)
    }

    fn verdict(&self, number: u64) -> Result<Verdict> {
        loop {
            if let Order::Verdict(of, verdict) = self.order()?
                && of == number
            {
                return Ok(verdict);
            }
        }
    }

    fn order(&self) -> Result<Order> {
        let mut waiting = Waiting::new();
        loop {
            match self.orders.recv_timeout(LOOK) {
                Ok(order) => return Ok(order),
                Err(RecvTimeoutError::Timeout) => self.stop.check()?,
                Err(RecvTimeoutError::Disconnected) => return Err(unheard()),
            }
            if waiting.is_due() {
                tracing::info!(
                    "the copy waits for the stream to come to the place in the WAL where it is to \
                     be sent"
                );
            }
        }
    }

    /// The ids of a table's schemas. Where the registry has yet to answer, the table is let go, so
    /// that nobody waits for its lock, and read again when there is an answer.
    fn standing(
        &mut self,
        session: &ChunkSession<'_>,
        table: &RowsOf,
        schemas: Option<&SchemaTexts>,
    ) -> Result<Standing, Unread> {
        let (Some(registrar), Some(texts)) = (&self.registrar, schemas) else {
            return Ok(Standing::Known(None));
        };
        let topic = self.router.topic(&table.schema, &table.name);
        let topic = topic.map_err(Error::from)?;
        let schemas = Schemas::new(table.to_string(), &topic, Some(&texts.key), &texts.value);
        match registrar.standing(&schemas)? {
            registry::Standing::Known(ids) => Ok(Standing::Known(Some(ids))),
            registry::Standing::Refused(refused) => Err(Unread::Unfit(refused.reason().to_owned())),
            registry::Standing::Waiting => {
                session.roll_back()?;
                let answered = registrar.await_ids(&schemas, &mut || self.stop.check())?;
                tracing::debug!(%table, known = answered.is_ok(), "the schema registry has answered");
                Ok(Standing::Asked)
            }
        }
    }

    fn report(&self, report: Report) -> Result<()> {
        self.reports.send(report).map_err(|_| unheard())
    }

    fn topic(&mut self, table: &RowsOf) -> Result<TopicId> {
        let name = self.router.topic(&table.schema, &table.name)?;
        self.sink.open_topic(&name, Keying::Keyed)
    }
}

/// What is known of the ids that a table's records begin with.
enum Standing {
    /// These, or none where they begin with none.
    Known(Option<Ids>),
    /// Nothing was until now.
    Asked,
}

/// When a wait is worth a line.
struct Waiting {
    since: Instant,
    next: Duration,
}

impl Waiting {
    fn new() -> Self {
        Waiting {
            since: Instant::now(),
            next: FIRST_REPORT,
        }
    }

    fn is_due(&mut self) -> bool {
        let waited = self.since.elapsed();
        let is_due = waited >= self.next;
        if is_due {
            self.next = waited + REPORT_INTERVAL;
        }
        is_due
    }
}

fn who_runs(
    session: &ChunkSession<'_>,
    first: &Visible,
    now: &Visible,
) -> Result<String, SqlError> {
    // The views show the low half of an id.
    let running = first
        .still_running(now)
        .map(|xid| (xid & 0xFFFF_FFFF).to_string());
    let running: Vec<String> = running.collect();
    let list = format!("{{{}}}", running.join(","));
    let rows =
        session
            .connection()
            .query_with(WHO_RUNS, &[list.as_bytes()], libpq::Format::Text)?;
    Ok(rows
        .optional(0, 0)?
        .unwrap_or("nobody that is listed")
        .to_owned())
}

fn unheard() -> Error {
    Error::new(
        ErrorKind::Interrupted,
        "the stream does not listen any more",
    )
}
