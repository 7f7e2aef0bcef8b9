//! Those who are asked, each in a thread of its own: one that does not answer delays nobody.
//!
//! Whoever asks gives up where he can: a host that is not there, a request to the client. A
//! statement that waits for a lock and a broker that froze between two answers have no end of
//! their own, and a panic ends the thread. So each question has [`PATIENCE`] once there is a
//! connection, kept by those who read the answers, and a thread that panics says so. Either is an
//! answer, too: why there is none.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::stop::Stop;
use crate::terminal;

/// How long an answer may take, which takes milliseconds where all is well. Connecting is not in
/// it: each address of Postgres, and Kafka's login and first answer have an end of their own, and
/// say better why they are given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// Between two looks whether to stop.
const SLICE: Duration = Duration::from_millis(100);

/// What somebody answered last.
pub(super) struct Answer<T> {
    /// When the answer was there.
    pub at: Instant,
    /// The answer, or why there is none.
    pub outcome: Result<T>,
}

/// Somebody who is asked.
pub(super) struct Who {
    /// As in *NAME does not answer*.
    pub name: String,
    /// Where to look while he says nothing.
    pub hint: &'static str,
}

/// What a question tells of itself while it is asked.
pub(super) struct Asked<'a>(&'a dyn Fn(Option<Instant>));

impl Asked<'_> {
    /// What it does now has an end of its own.
    pub(super) fn connecting(&self) {
        (self.0)(None);
    }

    /// From now on it waits for the answer.
    pub(super) fn connected(&self) {
        (self.0)(Some(Instant::now()));
    }
}

/// Somebody who is asked again and again.
pub(super) struct Source<T> {
    who: Who,
    patience: Duration,
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
    /// Since when the answer to the open question is waited for; none between two, while it
    /// connects, and where it was given up.
    asked: Option<Instant>,
}

impl<T: Send + Sync + 'static> Source<T> {
    /// Asks now, and again `interval` after each answer, until `stop` is set. Nobody waits for
    /// the thread: a question that is not answered must not delay the end.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn ask(
        who: Who,
        interval: Duration,
        stop: &Stop,
        question: impl FnMut(&Asked) -> Result<T> + Send + 'static,
    ) -> Result<Self> {
        Source::ask_patiently(who, PATIENCE, interval, stop, question)
    }

    fn ask_patiently(
        who: Who,
        patience: Duration,
        interval: Duration,
        stop: &Stop,
        mut question: impl FnMut(&Asked) -> Result<T> + Send + 'static,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            newest: Mutex::new(Newest {
                answer: None,
                count: 0,
                asked: Some(Instant::now()),
            }),
            changed: Condvar::new(),
        });
        let (theirs, stop, name) = (Arc::clone(&shared), stop.clone(), who.name.clone());
        std::thread::Builder::new()
            .name("status".to_owned())
            .spawn(move || {
                let since = |at| theirs.lock().asked = at;
                let asked = Asked(&since);
                while !stop.is_set() {
                    since(Some(Instant::now()));
                    // What a panic leaves of the question is not asked again.
                    let outcome = catch_unwind(AssertUnwindSafe(|| question(&asked)));
                    let Ok(outcome) = outcome else {
                        return theirs.put(Err(panicked(&name)));
                    };
                    let at = Instant::now();
                    theirs.put(outcome);
                    while at.elapsed() < interval && !stop.is_set() {
                        std::thread::sleep(SLICE.min(interval));
                    }
                }
            })
            .map_err(|error| Error::failed("cannot start a thread").with_source(error))?;
        Ok(Source {
            who,
            patience,
            shared,
        })
    }

    /// The newest answer, and how many there were.
    pub(super) fn newest(&self) -> (Option<Arc<Answer<T>>>, u64) {
        let mut newest = self.shared.lock();
        self.give_up(&mut newest);
        (newest.answer.clone(), newest.count)
    }

    /// Waits for answer number `count`, counted from 1, or for one that says why there is none.
    ///
    /// # Errors
    /// `stop` is set.
    pub(super) fn wait(&self, count: u64, stop: &Stop) -> Result<Arc<Answer<T>>> {
        let mut newest = self.shared.lock();
        loop {
            self.give_up(&mut newest);
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

    /// A question that is open for too long counts as answered. An answer that comes all the
    /// same takes its place.
    fn give_up(&self, newest: &mut Newest<T>) {
        if newest.asked.is_some_and(|at| at.elapsed() >= self.patience) {
            newest.put(Err(silent(&self.who, self.patience)));
        }
    }
}

fn silent(who: &Who, patience: Duration) -> Error {
    let patience = terminal::duration(patience);
    let message = format!("{} has not answered within {patience}", who.name);
    Error::new(ErrorKind::Disconnected, message).with_hint(who.hint)
}

fn panicked(name: &str) -> Error {
    Error::failed(format!("asking {name} has panicked"))
        .with_hint("This is a defect of headwater status: please report what standard error says.")
}

impl<T> Newest<T> {
    fn put(&mut self, outcome: Result<T>) {
        let at = Instant::now();
        self.answer = Some(Arc::new(Answer { at, outcome }));
        self.count += 1;
        self.asked = None;
    }
}

impl<T> Shared<T> {
    fn put(&self, outcome: Result<T>) {
        self.lock().put(outcome);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Newest<T>> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::sync::mpsc;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(20);

    fn who() -> Who {
        Who {
            name: "Postgres".to_owned(),
            hint: "Look at it.",
        }
    }

    fn error<T>(answer: &Answer<T>) -> String {
        answer.outcome.as_ref().err().unwrap().to_string()
    }

    #[test]
    fn who_does_not_answer_is_given_up_and_heard_all_the_same() {
        let (answer, question) = mpsc::channel();
        let stop = Stop::default();
        let source = Source::ask_patiently(who(), MOMENT, MOMENT, &stop, move |_| {
            question.recv().map_err(|_| Error::failed("nobody is left"))
        });
        let source = source.unwrap();
        let given_up = source.wait(1, &stop).unwrap();
        assert_eq!(
            error(&given_up),
            "Postgres has not answered within 0.0 s",
            "it is the first"
        );
        let hint = given_up.outcome.as_ref().err().unwrap().hint();
        assert_eq!(hint, Some("Look at it."));
        assert_eq!(source.newest().1, 1, "it is given up once");
        answer.send(7).unwrap();
        let heard = loop {
            match &source.wait(1, &stop).unwrap().outcome {
                Ok(answer) => break *answer,
                Err(_) => std::thread::yield_now(),
            }
        };
        assert_eq!(heard, 7);
        stop.set();
    }

    #[test]
    fn who_is_being_connected_to_is_not_given_up() {
        let (step, steps) = mpsc::channel();
        let stop = Stop::default();
        let question = move |asked: &Asked| {
            asked.connecting();
            steps.recv().unwrap();
            asked.connected();
            steps.recv().unwrap();
            Ok(7)
        };
        let none = Duration::ZERO;
        let source = Source::ask_patiently(who(), none, MOMENT, &stop, question).unwrap();
        while source.shared.lock().asked.is_some() {
            std::thread::yield_now();
        }
        assert_eq!(source.newest().1, 0, "it connects still");
        step.send(()).unwrap();
        let given_up = source.wait(1, &stop).unwrap();
        assert_eq!(
            error(&given_up),
            "Postgres has not answered within 0.0 s",
            "it has connected, and is asked"
        );
        stop.set();
        step.send(()).unwrap();
    }

    #[test]
    fn a_question_that_panics_is_answered() {
        let stop = Stop::default();
        let question = |_: &Asked| -> Result<u32> { panic!("of a test") };
        let source = Source::ask(who(), MOMENT, &stop, question).unwrap();
        for look in [1, 2] {
            let answer = source.wait(look, &stop).unwrap();
            assert_eq!(error(&answer), "asking Postgres has panicked");
        }
    }
}
