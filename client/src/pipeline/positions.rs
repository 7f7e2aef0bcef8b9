//! Records how far the stream is durable, before that is confirmed to the server.
//!
//! A store is a round trip to the brokers, so it happens on a thread of its own, once in
//! [`STORE_INTERVAL`] or in [`STORE_BYTES`]; the stream never waits for it. What may be
//! confirmed is what is on record, so that the slot never stands further than the
//! record says: that is what lets the next start tell a slot that was moved.
//!
//! # What is on record early, and what late
//!
//! That a table is stale may be on record before the position is behind its transaction: the
//! mark is then set once more. What a copy into the stream has done may not: its records may
//! still be lost with this process, and the next would go on behind them. So each step waits
//! until the position that is recorded is at or behind it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use headwater_protocol::Lsn;

use crate::error::{Error, ErrorKind, Result};
use crate::metrics::{Metrics, Stale};
use crate::snapshot_request::RowsOf;
use crate::state::{Mark, Runs, StaleTables, State, StateStore};
use crate::watch::RestartLsn;

/// As often as a position is confirmed to the server. One small record a second is
/// nothing to a broker, and a compacted topic keeps only the last.
const STORE_INTERVAL: Duration = Duration::from_secs(1);

/// By how much WAL the position may move before it is recorded sooner: the server keeps
/// all of it until then, and can let go of no less than a segment.
const STORE_BYTES: u64 = 16 << 20;

/// How long after a failure at the end the last position is recorded again.
const AGAIN: Duration = Duration::from_millis(100);

/// Where positions are recorded, if anywhere.
pub struct Positions {
    keeper: Option<Keeper>,
    /// The tables that were marked where nothing is recorded.
    unrecorded: RefCell<StaleTables>,
}

struct Keeper {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

struct Shared {
    progress: Mutex<Progress>,
    changed: Condvar,
    metrics: Metrics,
}

struct Progress {
    wanted: Lsn,
    recorded: Lsn,
    stale: StaleTables,
    /// In the order of their positions.
    steps: VecDeque<Step>,
    /// Set at the end: until when a failure that may pass is no reason to leave it at that.
    closing: Option<Instant>,
    failure: Option<Error>,
}

/// What copies into the stream have done.
#[derive(Debug)]
pub(super) struct Step {
    /// The end of the transaction whose token its records have.
    pub end_lsn: Lsn,
    /// What is on record behind it.
    pub runs: Arc<Runs>,
    /// A table that was copied again, and the position up to which that mends whatever has made
    /// it stale. Dead letters of later changes, and of the copy itself, are not.
    pub mended: Option<(RowsOf, Lsn)>,
}

impl Positions {
    /// Without a record every position may be confirmed at once.
    pub fn unrecorded() -> Self {
        Positions {
            keeper: None,
            unrecorded: RefCell::default(),
        }
    }

    /// Goes on from `state`, which is on record. `restart_lsn` goes on record with positions.
    pub fn recorded(
        store: Box<dyn StateStore>,
        state: State,
        restart_lsn: RestartLsn,
        metrics: &Metrics,
    ) -> Result<Self> {
        tell(metrics, &state.stale);
        let shared = Arc::new(Shared {
            metrics: metrics.clone(),
            progress: Mutex::new(Progress {
                wanted: state.position,
                recorded: state.position,
                stale: state.stale.clone(),
                steps: VecDeque::new(),
                closing: None,
                failure: None,
            }),
            changed: Condvar::new(),
        });
        let keeper = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("positions".to_owned())
            .spawn(move || keeper.keep(store, state, &restart_lsn))
            .map_err(|error| Error::failed("cannot start a thread").with_source(error))?;
        Ok(Positions {
            keeper: Some(Keeper { shared, thread }),
            unrecorded: RefCell::default(),
        })
    }

    /// Everything before `position` is durable in the sink. Returns what may be
    /// confirmed now.
    pub fn confirm(&self, position: Lsn) -> Result<Lsn> {
        let Some(keeper) = &self.keeper else {
            return Ok(position);
        };
        let mut progress = keeper.shared.lock();
        if let Some(failure) = progress.failure.take() {
            return Err(failure);
        }
        if position > progress.wanted {
            progress.wanted = position;
            keeper.shared.changed.notify_one();
        }
        Ok(position.min(progress.recorded))
    }

    /// A transaction that is arriving made a table stale. That is on record as soon as a
    /// position behind the transaction is. Says whether it is news.
    pub fn mark_stale(&self, schema: &str, table: &str, mark: Mark) -> bool {
        match &self.keeper {
            Some(keeper) => {
                let mut progress = keeper.shared.lock();
                let is_news = progress.mark_stale(schema, table, mark);
                if is_news {
                    tell(&keeper.shared.metrics, &progress.stale);
                }
                is_news
            }
            None => self.unrecorded.borrow_mut().mark(schema, table, mark),
        }
    }

    /// What made a table stale did so again. Says whether it was: one that was in order until now has to
    /// be marked, with a reason.
    pub(super) fn stale_again(&self, schema: &str, table: &str, since: Lsn) -> bool {
        match &self.keeper {
            Some(keeper) => keeper.shared.lock().stale_again(schema, table, since),
            None => self
                .unrecorded
                .borrow_mut()
                .stale_again(schema, table, since),
        }
    }

    /// A step of a copy has been sent, its transaction is complete.
    pub(super) fn step(&self, step: Step) {
        match &self.keeper {
            Some(keeper) => keeper.shared.lock().steps.push_back(step),
            None => {
                if let Some((table, since)) = step.mended {
                    let mut stale = self.unrecorded.borrow_mut();
                    stale.mended(&table.schema, &table.name, since);
                }
            }
        }
    }

    /// How many steps are not on record.
    pub(super) fn steps(&self) -> usize {
        let keeper = self.keeper.as_ref();
        keeper.map_or(0, |keeper| keeper.shared.lock().steps.len())
    }

    /// What a copy of the table does not mend that replaces what is older than `since`.
    pub(super) fn stale_behind(&self, table: &RowsOf, since: Lsn) -> Option<Mark> {
        let RowsOf { schema, name } = table;
        match &self.keeper {
            Some(keeper) => {
                let progress = keeper.shared.lock();
                progress.stale.behind(schema, name, since).cloned()
            }
            None => self
                .unrecorded
                .borrow()
                .behind(schema, name, since)
                .cloned(),
        }
    }

    /// A transaction that is arriving dropped a table: no mark of it stays on record.
    pub fn forget_stale(&self, schema: &str, table: &str) {
        match &self.keeper {
            Some(keeper) => {
                let mut progress = keeper.shared.lock();
                progress.stale.forget(schema, table);
                tell(&keeper.shared.metrics, &progress.stale);
            }
            None => self.unrecorded.borrow_mut().forget(schema, table),
        }
    }

    /// Records the last position and returns what may be confirmed then. What fails in a way that
    /// passes is tried again until `until`: a record that was under way since before Kafka was back
    /// fails by its own time, whatever became of Kafka since.
    pub fn finish(&mut self, position: Lsn, until: Instant) -> Result<Lsn> {
        let Some(keeper) = self.keeper.take() else {
            return Ok(position);
        };
        {
            let mut progress = keeper.shared.lock();
            progress.wanted = progress.wanted.max(position);
            progress.closing = Some(until);
            keeper.shared.changed.notify_one();
        }
        if keeper.thread.join().is_err() {
            return Err(Error::failed("recording the position panicked"));
        }
        let mut progress = keeper.shared.lock();
        match progress.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(position.min(progress.recorded)),
        }
    }
}

impl Progress {
    /// Bytes of WAL that are durable and not on record.
    fn ahead(&self) -> u64 {
        self.wanted.0.saturating_sub(self.recorded.0)
    }

    /// Whether what fails is tried again.
    fn has_time(&self) -> bool {
        self.closing.is_none_or(|until| Instant::now() < until)
    }
}

impl Shared {
    /// A panic elsewhere leaves plain numbers behind, which are as good as before.
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, mut store: Box<dyn StateStore>, mut state: State, restart_lsn: &RestartLsn) {
        let mut progress = self.lock();
        let mut waits = false;
        loop {
            while progress.wanted <= progress.recorded && progress.closing.is_none() {
                progress = self
                    .changed
                    .wait(progress)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let closing = progress.closing.is_some();
            let mut ahead_bytes = STORE_BYTES;
            let mut has_failed = false;
            if progress.wanted > progress.recorded {
                state.position = progress.wanted;
                state.restart_lsn = state.restart_lsn.max(restart_lsn.get());
                if progress.take_steps(&mut state) {
                    tell(&self.metrics, &progress.stale);
                }
                state.stale.clone_from(&progress.stale);
                drop(progress);
                let stored = store.store(&state);
                progress = self.lock();
                match stored {
                    Ok(()) => {
                        progress.recorded = state.position;
                        if std::mem::take(&mut waits) {
                            tracing::info!(position = %state.position, "recording positions again");
                        }
                    }
                    // Nothing is confirmed meanwhile, so waiting loses nothing. Whoever ends
                    // does not wait for long: another instance may be about to begin.
                    Err(error)
                        if error.kind() == ErrorKind::Disconnected && progress.has_time() =>
                    {
                        has_failed = true;
                        ahead_bytes = u64::MAX;
                        if std::mem::replace(&mut waits, true) {
                            tracing::debug!(%error, "the position is not on record yet");
                        } else {
                            tracing::warn!(
                                %error,
                                "cannot record the position, trying again until it passes"
                            );
                        }
                    }
                    Err(error) => {
                        progress.failure = Some(error);
                        return;
                    }
                }
            }
            if closing && !has_failed {
                return;
            }
            let pause = match closing {
                true => AGAIN,
                false => STORE_INTERVAL,
            };
            progress = self
                .changed
                .wait_timeout_while(progress, pause, |progress| {
                    progress.closing.is_some() == closing && progress.ahead() < ahead_bytes
                })
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

impl Progress {
    /// A mark that comes behind a step that is to mend the table, and is not on record yet,
    /// outlives it.
    fn mark_stale(&mut self, schema: &str, table: &str, mark: Mark) -> bool {
        let mut is_to_be_mended = false;
        for step in &mut self.steps {
            let mends = |(of, _): &mut (RowsOf, Lsn)| of.schema == schema && of.name == table;
            is_to_be_mended |= step.mended.take_if(mends).is_some();
        }
        if is_to_be_mended {
            self.stale.forget(schema, table);
        }
        self.stale.mark(schema, table, mark)
    }

    /// One that is to be mended is not stale any more.
    fn stale_again(&mut self, schema: &str, table: &str, since: Lsn) -> bool {
        let mends = |(of, _): &(RowsOf, Lsn)| of.schema == schema && of.name == table;
        let is_to_be_mended = self
            .steps
            .iter()
            .any(|step| step.mended.as_ref().is_some_and(mends));
        !is_to_be_mended && self.stale.stale_again(schema, table, since)
    }

    /// Takes over what the position that is about to be recorded is behind. Says whether that
    /// has mended a table.
    fn take_steps(&mut self, state: &mut State) -> bool {
        let mut has_mended = false;
        let is_covered = |step: &mut Step| step.end_lsn <= state.position;
        while let Some(step) = self.steps.pop_front_if(is_covered) {
            if let Some((table, since)) = step.mended {
                self.stale.mended(&table.schema, &table.name, since);
                has_mended = true;
            }
            state.runs = Arc::unwrap_or_clone(step.runs);
        }
        has_mended
    }
}

fn tell(metrics: &Metrics, stale: &StaleTables) {
    let stale = Stale::of(stale.names());
    metrics.count(|figures| figures.stale = stale);
}

#[cfg(test)]
mod tests;
