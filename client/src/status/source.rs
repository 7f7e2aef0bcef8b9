//! Those who are asked, each in a thread of its own: one that does not answer delays nobody.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::stop::Stop;

/// Between two looks whether to stop.
const SLICE: Duration = Duration::from_millis(100);

/// What somebody answered last.
pub(super) struct Answer<T> {
    /// When the answer was there.
    pub at: Instant,
    /// The answer, or why there is none.
    pub outcome: Result<T>,
}

/// Somebody who is asked again and again.
pub(super) struct Source<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    newest: Mutex<Newest<T>>,
    changed: Condvar,
}

struct Newest<T> {
    answer: Option<Arc<Answer<T>>>,
    /// How many answers there were.
    count: u64,
}

impl<T: Send + Sync + 'static> Source<T> {
    /// Asks now, and again `interval` after each answer, until `stop` is set. Nobody waits for
    /// the thread: a question that is not answered must not delay the end.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn ask(
        interval: Duration,
        stop: &Stop,
        mut question: impl FnMut() -> Result<T> + Send + 'static,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            newest: Mutex::new(Newest {
                answer: None,
                count: 0,
            }),
            changed: Condvar::new(),
        });
        let (theirs, stop) = (Arc::clone(&shared), stop.clone());
        std::thread::Builder::new()
            .name("status".to_owned())
            .spawn(move || {
                while !stop.is_set() {
                    let outcome = question();
                    let at = Instant::now();
                    theirs.put(Answer { at, outcome });
                    while at.elapsed() < interval && !stop.is_set() {
                        std::thread::sleep(SLICE.min(interval));
                    }
                }
            })
            .map_err(|error| Error::failed("cannot start a thread").with_source(error))?;
        Ok(Source { shared })
    }

    /// The newest answer, and how many there were.
    pub(super) fn newest(&self) -> (Option<Arc<Answer<T>>>, u64) {
        let newest = self.shared.lock();
        (newest.answer.clone(), newest.count)
    }

    /// Waits for answer number `count`, counted from 1, or for one that says why there is none.
    ///
    /// # Errors
    /// `stop` is set.
    pub(super) fn wait(&self, count: u64, stop: &Stop) -> Result<Arc<Answer<T>>> {
        let mut newest = self.shared.lock();
        loop {
            if let Some(answer) = &newest.answer
                && (newest.count >= count || answer.outcome.is_err())
            {
                return Ok(Arc::clone(answer));
            }
            stop.check()?;
            let waited = self.shared.changed.wait_timeout(newest, SLICE);
            newest = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<T> Shared<T> {
    fn put(&self, answer: Answer<T>) {
        let mut newest = self.lock();
        newest.answer = Some(Arc::new(answer));
        newest.count += 1;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Newest<T>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
