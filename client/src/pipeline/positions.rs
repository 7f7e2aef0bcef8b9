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
use std::time::Duration;

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
    closing: bool,
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
                closing: false,
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

    /// Records the last position and returns what may be confirmed then.
    pub fn finish(&mut self, position: Lsn) -> Result<Lsn> {
        let Some(keeper) = self.keeper.take() else {
            return Ok(position);
        };
        {
            let mut progress = keeper.shared.lock();
            progress.wanted = progress.wanted.max(position);
            progress.closing = true;
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
            while progress.wanted <= progress.recorded && !progress.closing {
                progress = self
                    .changed
                    .wait(progress)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            let closing = progress.closing;
            let mut ahead_bytes = STORE_BYTES;
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
                    // does not wait: another instance may be about to begin.
                    Err(error) if error.kind() == ErrorKind::Disconnected && !progress.closing => {
                        ahead_bytes = u64::MAX;
                        if !std::mem::replace(&mut waits, true) {
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
            if closing {
                return;
            }
            progress = self
                .changed
                .wait_timeout_while(progress, STORE_INTERVAL, |progress| {
                    !progress.closing && progress.ahead() < ahead_bytes
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
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc;

    use super::*;
    use crate::snapshot_request::SnapshotRequest;
    use crate::state::{Phase, Shape};

    struct Recorder(mpsc::Sender<State>);

    impl StateStore for Recorder {
        fn load(&mut self) -> Result<Option<State>> {
            Ok(None)
        }

        fn store(&mut self, state: &State) -> Result<()> {
            self.0
                .send(state.clone())
                .map_err(|_| Error::failed("nobody listens"))
        }

        fn clear(&mut self) -> Result<()> {
            Ok(())
        }
    }

    /// Positions that `sender` is told the records of.
    fn recorded(before: State, sender: mpsc::Sender<State>) -> Positions {
        let store = Box::new(Recorder(sender));
        let metrics = Metrics::default();
        Positions::recorded(store, before, RestartLsn::default(), &metrics).unwrap()
    }

    fn state(position: u64) -> State {
        State {
            system_identifier: "7".to_owned(),
            timeline: 1,
            phase: Phase::Streaming,
            consistent_point: Lsn(1),
            position: Lsn(position),
            restart_lsn: None,
            shape: Shape::default(),
            stale: StaleTables::default(),
            runs: Runs::default(),
        }
    }

    #[test]
    fn a_position_is_confirmed_only_when_it_is_on_record() {
        let (sender, stored) = mpsc::channel();
        let mut positions = recorded(state(10), sender);
        assert_eq!(positions.confirm(Lsn(20)).unwrap(), Lsn(10));
        let first = stored.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(first, state(20));
        assert_eq!(positions.finish(Lsn(30)).unwrap(), Lsn(30));
        assert_eq!(stored.try_iter().last(), Some(state(30)));
    }

    #[test]
    fn a_position_far_ahead_is_on_record_before_its_time() {
        let (sender, stored) = mpsc::channel();
        let positions = recorded(state(10), sender);
        let begun = std::time::Instant::now();
        // Each of them would wait for a second after the one before.
        let ends: Vec<u64> = (1..=50).map(|n| 10 + n * STORE_BYTES).collect();
        for &end in &ends {
            positions.confirm(Lsn(end)).unwrap();
            let recorded = stored.recv_timeout(Duration::from_secs(10)).unwrap();
            assert_eq!(recorded, state(end));
        }
        let took = begun.elapsed();
        assert!(took < ends.len() as u32 * STORE_INTERVAL / 5, "{took:?}");
    }

    #[test]
    fn a_stale_table_is_on_record_with_the_position_behind_it() {
        let (sender, stored) = mpsc::channel();
        let mut positions = recorded(state(10), sender);
        let mark = || Mark {
            since: Lsn(20),
            reason: "its key changed".to_owned(),
        };
        assert!(positions.mark_stale("shop", "orders", mark()));
        assert!(!positions.mark_stale("shop", "orders", mark()), "no news");
        positions.finish(Lsn(20)).unwrap();
        let mut expected = state(20);
        expected.stale.mark("shop", "orders", mark());
        assert_eq!(stored.try_iter().collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn a_table_that_is_stale_already_needs_no_other_reason() {
        let (sender, stored) = mpsc::channel();
        let mut positions = recorded(state(10), sender);
        assert!(
            !positions.stale_again("shop", "orders", Lsn(20)),
            "it is in order"
        );
        let mark = |since| Mark {
            since: Lsn(since),
            reason: "its key changed".to_owned(),
        };
        positions.mark_stale("shop", "orders", mark(20));
        assert!(positions.stale_again("shop", "orders", Lsn(25)));
        positions.finish(Lsn(30)).unwrap();
        let mut expected = state(30);
        expected.stale.mark("shop", "orders", mark(25));
        assert_eq!(stored.try_iter().collect::<Vec<_>>(), [expected]);
    }

    #[test]
    fn a_dropped_table_is_not_on_record_behind_its_transaction() {
        let (sender, stored) = mpsc::channel();
        let mut before = state(10);
        let mark = Mark {
            since: Lsn(5),
            reason: "its key changed".to_owned(),
        };
        before.stale.mark("shop", "orders", mark);
        let mut positions = recorded(before, sender);
        positions.forget_stale("shop", "orders");
        positions.finish(Lsn(20)).unwrap();
        assert_eq!(stored.try_iter().collect::<Vec<_>>(), [state(20)]);
    }

    fn ran(id: &str) -> Runs {
        let content = format!(r#"{{"slot":"s","id":"{id}"}}"#);
        let request = SnapshotRequest::decode(content.as_bytes()).unwrap();
        let mut runs = Runs::default();
        runs.add(request, Lsn(1)).unwrap();
        runs
    }

    fn step(end: u64, id: &str, mended: bool) -> Step {
        Step {
            end_lsn: Lsn(end),
            runs: Arc::new(ran(id)),
            mended: mended.then(|| {
                let table = RowsOf {
                    schema: "shop".to_owned(),
                    name: "orders".to_owned(),
                };
                (table, Lsn(end))
            }),
        }
    }

    fn mark(since: u64) -> Mark {
        Mark {
            since: Lsn(since),
            reason: "its key changed".to_owned(),
        }
    }

    #[test]
    fn a_step_is_on_record_with_the_position_behind_it_and_no_sooner() {
        let (sender, stored) = mpsc::channel();
        let mut before = state(10);
        before.stale.mark("shop", "orders", mark(5));
        let mut positions = recorded(before, sender);
        positions.step(step(20, "a", false));
        positions.step(step(30, "b", true));
        positions.confirm(Lsn(29)).unwrap();
        let first = stored.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(first.runs, ran("a"));
        assert!(!first.stale.is_empty());
        positions.finish(Lsn(30)).unwrap();
        let last = stored.try_iter().last().unwrap();
        assert_eq!(last.runs, ran("b"));
        assert!(last.stale.is_empty(), "mended");
    }

    #[test]
    fn a_table_that_goes_stale_behind_its_copy_stays_so() {
        let (sender, stored) = mpsc::channel();
        let mut before = state(10);
        before.stale.mark("shop", "orders", mark(5));
        let mut positions = recorded(before, sender);
        positions.step(step(20, "a", true));
        assert!(
            !positions.stale_again("shop", "orders", Lsn(25)),
            "it is to be mended"
        );
        assert!(
            positions.mark_stale("shop", "orders", mark(25)),
            "it is news"
        );
        positions.finish(Lsn(30)).unwrap();
        let last = stored.try_iter().last().unwrap();
        let marks: Vec<Lsn> = last.stale.iter().map(|(.., mark)| mark.since).collect();
        assert_eq!(marks, [Lsn(25)]);
    }

    #[test]
    fn a_record_that_fails_is_an_error_and_confirms_nothing() {
        let (sender, stored) = mpsc::channel();
        drop(stored);
        let mut positions = recorded(state(10), sender);
        assert!(positions.finish(Lsn(30)).is_err());
    }

    #[test]
    fn without_a_record_everything_is_confirmed_at_once() {
        assert_eq!(Positions::unrecorded().confirm(Lsn(20)).unwrap(), Lsn(20));
    }

    #[test]
    fn without_a_record_a_table_is_news_once_too() {
        let positions = Positions::unrecorded();
        let mark = || Mark {
            since: Lsn(20),
            reason: "its key changed".to_owned(),
        };
        assert!(positions.mark_stale("shop", "orders", mark()));
        assert!(!positions.mark_stale("shop", "orders", mark()), "no news");
        assert!(positions.mark_stale("shop", "lines", mark()), "another");
    }
}
