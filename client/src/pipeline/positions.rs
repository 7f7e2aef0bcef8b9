//! Records how far the stream is durable, before that is confirmed to the server.
//!
//! A store is a round trip to the brokers, so it happens on a thread of its own and
//! at most once in [`STORE_INTERVAL`]; the stream never waits for it. What may be
//! confirmed is what is on record, so that the slot never stands further than the
//! record says: that is what lets the next start tell a slot that was moved.

use std::cell::RefCell;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use headwater_protocol::Lsn;

use crate::error::{Error, ErrorKind, Result};
use crate::state::{Mark, StaleTables, State, StateStore};

/// As often as a position is confirmed to the server. One small record a second is
/// nothing to a broker, and a compacted topic keeps only the last.
const STORE_INTERVAL: Duration = Duration::from_secs(1);

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
}

struct Progress {
    wanted: Lsn,
    recorded: Lsn,
    stale: StaleTables,
    closing: bool,
    failure: Option<Error>,
}

impl Positions {
    /// Without a record every position may be confirmed at once.
    pub fn unrecorded() -> Self {
        Positions {
            keeper: None,
            unrecorded: RefCell::default(),
        }
    }

    /// Goes on from `state`, which is on record.
    pub fn recorded(store: Box<dyn StateStore>, state: State) -> Result<Self> {
        let shared = Arc::new(Shared {
            progress: Mutex::new(Progress {
                wanted: state.position,
                recorded: state.position,
                stale: state.stale.clone(),
                closing: false,
                failure: None,
            }),
            changed: Condvar::new(),
        });
        let keeper = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("positions".to_owned())
            .spawn(move || keeper.keep(store, state))
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
            Some(keeper) => keeper.shared.lock().stale.mark(schema, table, mark),
            None => self.unrecorded.borrow_mut().mark(schema, table, mark),
        }
    }

    /// A transaction that is arriving dropped a table: no mark of it stays on record.
    pub fn forget_stale(&self, schema: &str, table: &str) {
        match &self.keeper {
            Some(keeper) => keeper.shared.lock().stale.forget(schema, table),
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

impl Shared {
    /// A panic elsewhere leaves plain numbers behind, which are as good as before.
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, mut store: Box<dyn StateStore>, mut state: State) {
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
            if progress.wanted > progress.recorded {
                state.position = progress.wanted;
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
                    // Nothing is confirmed meanwhile, so waiting loses nothing.
                    Err(error) if error.kind() == ErrorKind::Disconnected && !closing => {
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
                .wait_timeout_while(progress, STORE_INTERVAL, |progress| !progress.closing)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc;

    use super::*;
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

    fn state(position: u64) -> State {
        State {
            system_identifier: "7".to_owned(),
            timeline: 1,
            phase: Phase::Streaming,
            consistent_point: Lsn(1),
            position: Lsn(position),
            shape: Shape::default(),
            stale: StaleTables::default(),
        }
    }

    #[test]
    fn a_position_is_confirmed_only_when_it_is_on_record() {
        let (sender, stored) = mpsc::channel();
        let mut positions = Positions::recorded(Box::new(Recorder(sender)), state(10)).unwrap();
        assert_eq!(positions.confirm(Lsn(20)).unwrap(), Lsn(10));
        let first = stored.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(first, state(20));
        assert_eq!(positions.finish(Lsn(30)).unwrap(), Lsn(30));
        assert_eq!(stored.try_iter().last(), Some(state(30)));
    }

    #[test]
    fn a_stale_table_is_on_record_with_the_position_behind_it() {
        let (sender, stored) = mpsc::channel();
        let mut positions = Positions::recorded(Box::new(Recorder(sender)), state(10)).unwrap();
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
    fn a_dropped_table_is_not_on_record_behind_its_transaction() {
        let (sender, stored) = mpsc::channel();
        let mut before = state(10);
        let mark = Mark {
            since: Lsn(5),
            reason: "its key changed".to_owned(),
        };
        before.stale.mark("shop", "orders", mark);
        let mut positions = Positions::recorded(Box::new(Recorder(sender)), before).unwrap();
        positions.forget_stale("shop", "orders");
        positions.finish(Lsn(20)).unwrap();
        assert_eq!(stored.try_iter().collect::<Vec<_>>(), [state(20)]);
    }

    #[test]
    fn a_record_that_fails_is_an_error_and_confirms_nothing() {
        let (sender, stored) = mpsc::channel();
        drop(stored);
        let mut positions = Positions::recorded(Box::new(Recorder(sender)), state(10)).unwrap();
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
