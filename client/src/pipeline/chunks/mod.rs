//! Copying tables into the running stream.
//!
//! ```text
//! reader   BEGIN, LOCK ── snapshot ── rows ──► channel ── watermark, COMMIT ─── … next chunk
//!                            │                   │            │                    ▲
//! WAL      ──── T1 ──────────┴── T2 ─────────────┼────────────W──── T3 ──►         │ verdict
//! stream        T1 …            T2 …             └──────► rows of W, without T2's keys
//! ```
//!
//! A thread reads a table in chunks, in the order of its key, each in a transaction of its own:
//! it takes a lock, then its snapshot *S*, reads rows, hands them to the stream, and writes a
//! logical message, the *watermark W*, before it commits. The stream sends the rows when it
//! comes to W. What it sends for a key is then never older than what the topic has of it.
//!
//! # Why a row that is sent is not older than its topic
//!
//! Let T be a transaction that the stream has sent before W, so that its commit is before W's
//! in the WAL.
//!
//! - If S sees T, the row that was read is T's or one that came later.
//! - If S does not see T, T's keys are in the [`Window`], and the chunk's rows of these keys are
//!   left out. The window holds the keys of every transaction that was sent since the run
//!   began and that no snapshot has seen yet. For what it has lost, see there.
//!
//! What S does not see is what it lists as running and every id from its `xmax` on, whether or
//! not it has been assigned: [`visibility::Visible::sees`] counts as the server does. So it does
//! not matter here that S lists only ids below `xmax`, and that T may be above.
//!
//! Conversely, every transaction that S sees has its commit record before W's, since it had
//! ended before S was taken, and W's transaction committed after. So when the stream is at W, it
//! has sent all that the rows can be made of, and whatever changes them later comes later. That
//! also holds if commits do not wait for the disk: a watermark that is streamed was flushed, and
//! with it all WAL before.
//!
//! # Before the first chunk
//!
//! Being sent and being seen are two things. A backend that commits flushes its record, which a
//! walsender sends at once, and only then, with a synchronous standby perhaps much later, is seen
//! by others to have ended. So a transaction may have been sent *before* the window was opened
//! and yet not be seen by S: its row would be read in its old version, sent behind the new one,
//! and stay wrong for ever. Therefore the window is opened first; then the reader ends a
//! transaction of its own, X, that has an id; then a snapshot S0 is taken; and no chunk is read
//! before every transaction that S0 lists as running has ended.
//!
//! X is there because a snapshot lists none from its `xmax` on, which is one past the newest id
//! that has *ended*: of a T that got the newest id of all and waits for its standby, it knows
//! nothing. S0 sees X. So every id below X's has ended by S0 or is listed in it, and has ended
//! when the first chunk is read. What that chunk or a later one does not see has an id above
//! X's, assigned after X's and so after the window was opened: its commit stands behind all that
//! was sent by then. A client that starts anew begins so too. The creation of a slot waits for
//! the same transactions.
//!
//! # Why the lock comes first
//!
//! A TRUNCATE or an ALTER TABLE that rewrites is not seen by snapshots as rows are. Under the
//! lock, which is held until W is committed, none of them can commit between S and W: it
//! was before S, or comes behind W. A REPEATABLE READ transaction takes its snapshot with the
//! first query, and LOCK is none.
//!
//! What makes a table [stale](crate::state::StaleTables) between two chunks makes the chunks
//! before it stale: the table is begun anew.
//!
//! # Changes that wait for the id of a schema
//!
//! The stream keeps them ([`Held`]) and goes on, so that it may come to W without having sent all that
//! is before W. What is kept of another table touches no key of this chunk. Rows of a table of which
//! changes are kept are not sent: they would stand before changes that they may already be made of,
//! and none of those is in the window yet, which gets the keys when they are sent. The chunk is read
//! again, until one comes to its W with nothing of its table kept. For the rest of a table nothing
//! has to be sent first: a key that no row had when it was searched for gets its tombstone before
//! what is kept brings it anew, as if it had come then.
//!
//! A position does not move past what is kept, so that nothing of a step is on record before all
//! that is before W is delivered. The steps until then take memory: beyond [`STEPS`] chunks are read
//! again, too.
//!
//! # Where a kill leaves it
//!
//! A step is on record only with a position at or behind its watermark: all its rows are
//! durable then. Before that it is taken again, and its old watermark is that of a thread that
//! is no more. Records that were sent behind the position come again, as ever, in the stream's
//! order: a chunk's row among them is followed by every change that the topic had before it
//! and the position had not, and by its own chunk.
//!
//! # Rows that are gone
//!
//! Behind the last chunk every row of the table has a record in the topic that is not older
//! than the run, its own or the stream's. Keys with an older one are gone. They are searched for
//! on the thread; from when they are known until their tombstones are sent, the stream notes
//! which of them it sends, and those that were sent between the search and that are found by
//! reading the rest of the topic: see [`crate::sink::GhostSearch`].

pub(crate) mod visibility;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod model;
mod plan;
mod read;
mod settle;
mod step;
mod watermark;
mod window;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use headwater_protocol::Lsn;

use self::step::{Order, Report, Step, Verdict, Watch};
use self::watermark::Watermark;
use self::window::Window;
use self::worker::Worker;
use super::apply::Held;
use super::positions;
use super::session::Session;
use crate::cli::StreamOptions;
use crate::dead_letters::DeadLetters;
use crate::error::{Error, Result};
use crate::registry::Registrar;
use crate::route::Router;
use crate::sink::{Keys, Sink, Token, TopicId};
use crate::snapshot_request::{RowsOf, SnapshotRequest, unique};
use crate::source::connection::Connector;
use crate::source::plugin::Plugin;
use crate::state::{Part, Runs};
use crate::stop::Stop;

/// Steps at most that are not on record, while changes are kept: each has the requests of all runs,
/// which are half a megabyte at most and a few hundred bytes as a rule.
const STEPS: usize = 64;

/// How long the end of a run waits for its thread.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// What a reader's thread needs.
pub(super) struct Parts<'a> {
    pub(super) connector: &'a Connector,
    pub(super) plugin: &'a Plugin,
    pub(super) sink: &'a Arc<dyn Sink>,
    pub(super) options: &'a StreamOptions,
    pub(super) dead_letters: Option<&'a DeadLetters>,
    pub(super) registrar: Option<&'a Registrar>,
}

/// The stream's side of runs. What it knows outlives a session.
pub(super) struct Chunks<'a> {
    parts: Parts<'a>,
    runs: Runs,
    /// Of the first run in the queue.
    active: Option<Active>,
    /// What the transaction that is arriving has asked for.
    asked: Vec<SnapshotRequest>,
    /// The watermark in the transaction that is arriving.
    passed: Option<u64>,
}

/// A run under way.
struct Active {
    reader: String,
    reports: Receiver<Report>,
    orders: Sender<Order>,
    stop: Stop,
    thread: JoinHandle<()>,
    window: Window,
    pending: Option<Box<Step>>,
    /// A verdict that changes what the reader does, until a step shows that it was heard.
    owed: Option<(u64, Verdict)>,
    /// To be watched as soon as all that was sent is delivered.
    to_watch: Option<Watch>,
    watched: Option<Watched>,
    /// Tables that are not behind, and since when they are stale.
    stale: BTreeMap<RowsOf, Lsn>,
}

/// Keys that may be gone, and those of them that the stream has sent since.
struct Watched {
    watch: Watch,
    sent: Keys,
}

impl Drop for Active {
    /// Ends the thread; what it was about to hand over nobody takes. It looks at the flag in
    /// whatever it waits for, and is waited for no longer than such looks take.
    fn drop(&mut self) {
        self.stop.set();
        let begun = Instant::now();
        while !self.thread.is_finished() && begun.elapsed() < END_PATIENCE {
            drop(self.reports.try_recv());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl<'a> Chunks<'a> {
    /// Goes on with what is on record. The window is open before anything is streamed.
    pub(super) fn new(parts: Parts<'a>, runs: Runs) -> Result<Self> {
        let mut chunks = Chunks {
            parts,
            runs,
            active: None,
            asked: Vec::new(),
            passed: None,
        };
        chunks.activate()?;
        Ok(chunks)
    }

    /// Runs that are under way or wait for their turn.
    pub(super) fn queued(&self) -> u64 {
        self.runs.queue.len() as u64
    }

    /// A transaction begins to arrive, or what arrived of one comes again.
    pub(super) fn begin(&mut self) {
        self.asked.clear();
        self.passed = None;
    }

    /// The stream sends a change of this key.
    pub(super) fn touch(&mut self, table: (&str, &str), topic: TopicId, key: &[u8], xid: u32) {
        if let Some(active) = self.tracking(table) {
            active.window.touch(topic, key, xid);
            if let Some(watched) = &mut active.watched
                && watched.watch.topic == topic
                && let Some(key) = watched.watch.keys.get(key)
            {
                watched.sent.insert(key.clone());
            }
        }
    }

    /// A change of the table is left out, or its key is not known.
    pub(super) fn lose(&mut self, table: (&str, &str), xid: u32) {
        if let Some(active) = self.tracking(table) {
            active.window.lose(xid);
        }
    }

    /// What was sent of the table is not what it holds. Unless the run is past it, its copy has
    /// to begin behind that.
    pub(super) fn stale(&mut self, schema: &str, table: &str, since: Lsn) {
        let name = RowsOf {
            schema: schema.to_owned(),
            name: table.to_owned(),
        };
        let place = self.runs.queue.first().and_then(|run| run.place.as_ref());
        if place.is_some_and(|place| place.table == name && place.part == Part::Done) {
            return;
        }
        if let Some(active) = self.tracking((schema, table)) {
            active.stale.insert(name, since);
        }
    }

    /// A message with the prefix of requests.
    pub(super) fn ask(&mut self, content: &[u8]) {
        match SnapshotRequest::decode(content) {
            Ok(request) if request.slot == self.parts.options.slot => self.asked.push(request),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "a request to copy tables again cannot be read and is left out");
            }
        }
    }

    /// A message with the prefix of watermarks.
    pub(super) fn pass(&mut self, content: &[u8]) {
        let Some(active) = &self.active else {
            return;
        };
        self.passed = Watermark::decode(content)
            .filter(|watermark| watermark.reader == active.reader)
            .map(|watermark| watermark.number);
    }

    /// Takes in what the reader has to say. To be called now and then.
    pub(super) fn tick(&mut self, session: &mut Session<'_, '_>) -> Result<()> {
        self.watch(session)?;
        while let Some(active) = &mut self.active
            && let Ok(report) = active.reports.try_recv()
        {
            // A step that the reader does not wait for any more, since its session broke, is not
            // taken, even if its watermark came to be: the window forgets what newer snapshots
            // see and that of the step did not.
            active.pending = None;
            active.to_watch = None;
            match report {
                Report::Seen(snapshot) => active.window.seen_by(&snapshot),
                Report::Step(step) => {
                    active.window.seen_by(&step.snapshot);
                    active.pending = Some(step);
                }
                Report::Watch(watch) => {
                    active.to_watch = Some(watch);
                    self.watch(session)?;
                }
                Report::Failed(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Begins to watch keys. The session may break before all is delivered: the next one then
    /// does it, for the reader waits.
    fn watch(&mut self, session: &mut Session<'_, '_>) -> Result<()> {
        let Some(active) = self.active.as_mut().filter(|it| it.to_watch.is_some()) else {
            return Ok(());
        };
        session.deliver()?;
        if let Some(watch) = active.to_watch.take() {
            let number = watch.number;
            active.watched = Some(Watched {
                watch,
                sent: Keys::new(),
            });
            active.say(Order::Watching(number));
        }
        Ok(())
    }

    /// The transaction has arrived whole: takes up what it asked for, and does what is to be
    /// done at its watermark.
    pub(super) fn commit(
        &mut self,
        token: Token,
        end_lsn: Lsn,
        held: &Held,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        for request in std::mem::take(&mut self.asked) {
            self.take_up(request, end_lsn, session);
        }
        self.begin_next(end_lsn)?;
        if let Some(number) = self.passed.take() {
            // Handed over before the watermark was written.
            self.tick(session)?;
            self.settle(number, token, end_lsn, held, session)?;
            self.begin_next(end_lsn)?;
        }
        Ok(())
    }

    /// Starts the reader of the first run where none is at work. What the run is to mend may
    /// have happened while it waited for its turn: it replaces what is older than now.
    fn begin_next(&mut self, now: Lsn) -> Result<()> {
        if self.active.is_none()
            && let Some(run) = self.runs.queue.first_mut()
            && run.place.is_none()
        {
            run.since = run.since.max(now);
        }
        self.activate()
    }

    fn take_up(&mut self, request: SnapshotRequest, since: Lsn, session: &Session<'_, '_>) {
        let run = request.id.clone();
        match self.runs.add(request, since) {
            Ok(false) => return,
            Ok(true) => tracing::info!(run, %since, "asked to copy tables again"),
            Err(reason) => tracing::warn!(run, reason, "a request to copy tables again is refused"),
        }
        self.record(since, None, session);
    }

    fn record(&self, end_lsn: Lsn, mended: Option<(RowsOf, Lsn)>, session: &Session<'_, '_>) {
        session.delivery.positions.step(positions::Step {
            end_lsn,
            runs: Arc::new(self.runs.clone()),
            mended,
        });
    }

    /// What keeps track of this table, if its rows are still to be copied.
    fn tracking(&mut self, (schema, table): (&str, &str)) -> Option<&mut Active> {
        let active = self.active.as_mut()?;
        let run = self.runs.queue.first()?;
        let is_behind = run
            .place
            .as_ref()
            .is_some_and(|place| (&*place.table.schema, &*place.table.name) > (schema, table));
        (!is_behind && run.request.scope.covers(schema, table)).then_some(active)
    }

    /// Starts the reader of the first run.
    fn activate(&mut self) -> Result<()> {
        let (None, Some(run)) = (&self.active, self.runs.queue.first()) else {
            return Ok(());
        };
        let options = self.parts.options;
        let stop = Stop::default();
        let (reports, from_reader) = sync_channel(1);
        let (orders, to_reader) = channel();
        let reader = unique();
        let worker = Worker {
            connector: self.parts.connector.stopped_by(stop.clone()),
            plugin: self.parts.plugin.clone(),
            sink: Arc::clone(self.parts.sink),
            router: Router::new(options.topic.clone(), options.topic_prefix.clone()),
            slot: options.slot.clone(),
            run: run.clone(),
            reader: reader.clone(),
            number: 0,
            heard: 0,
            buries: self.parts.dead_letters.is_some(),
            registrar: self.parts.registrar.cloned(),
            pause: worker::QUIET_INTERVAL,
            must_wait: true,
            reports,
            orders: to_reader,
            stop: stop.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("chunks".to_owned())
            .spawn(move || worker.work())
            .map_err(|error| Error::failed("cannot start a thread").with_source(error))?;
        self.active = Some(Active {
            reader,
            reports: from_reader,
            orders,
            stop,
            thread,
            window: Window::default(),
            pending: None,
            owed: None,
            to_watch: None,
            watched: None,
            stale: BTreeMap::new(),
        });
        Ok(())
    }
}

impl Active {
    /// A reader that has ended hears nothing, and needs not.
    fn say(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    /// Says what came of a step. A verdict may be said to a reader whose session has broken
    /// meanwhile and who takes another step: one that may not be missed is said again then.
    fn judge(&mut self, number: u64, verdict: Verdict) {
        self.pending = None;
        self.owed = match &verdict {
            Verdict::Over(_) | Verdict::Anew => Some((number, verdict.clone())),
            Verdict::Applied | Verdict::Again => None,
        };
        self.say(Order::Verdict(number, verdict));
    }
}
