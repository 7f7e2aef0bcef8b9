//! Jobs that several threads take one after another, until none is left or one has failed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// A list of jobs, and how far it is worked off.
pub struct Jobs<J> {
    jobs: Vec<J>,
    next: AtomicUsize,
    gave_up: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl<J> Jobs<J> {
    /// Jobs that are taken in their order.
    pub fn new(jobs: Vec<J>) -> Self {
        Jobs {
            jobs,
            next: AtomicUsize::new(0),
            gave_up: AtomicBool::new(false),
            failure: Mutex::default(),
        }
    }

    /// Works in the calling thread until no job is left or any thread has given up.
    pub fn work(&self, mut each: impl FnMut(&J) -> Result<()>) {
        while !self.has_given_up() {
            let Some(job) = self.jobs.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
                return;
            };
            if let Err(error) = each(job) {
                self.give_up(error);
            }
        }
    }

    /// Ends the work of all threads. The first error is kept; what others say afterwards
    /// follows from it.
    pub fn give_up(&self, error: Error) {
        if let Ok(mut failure) = self.failure.lock() {
            failure.get_or_insert(error);
        }
        self.gave_up.store(true, Ordering::Release);
    }

    /// Whether a thread gave up.
    pub fn has_given_up(&self) -> bool {
        self.gave_up.load(Ordering::Acquire)
    }

    /// How it went, when all threads have returned.
    ///
    /// # Errors
    /// The first one.
    pub fn outcome(self) -> Result<()> {
        match self.failure.into_inner() {
            Ok(None) => Ok(()),
            Ok(Some(error)) => Err(error),
            Err(_) => Err(Error::failed("a thread panicked")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_is_done_once_whoever_does_it() {
        let jobs = Jobs::new((0..1000).collect());
        let sum = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    jobs.work(|job| {
                        sum.fetch_add(*job, Ordering::Relaxed);
                        Ok(())
                    });
                });
            }
        });
        assert!(jobs.outcome().is_ok());
        assert_eq!(sum.into_inner(), 499_500);
    }

    #[test]
    fn the_first_error_ends_the_work_and_is_kept() {
        let jobs = Jobs::new(vec![1, 2, 3]);
        let mut done = Vec::new();
        jobs.work(|job| {
            done.push(*job);
            if *job == 2 {
                return Err(Error::failed("two"));
            }
            Ok(())
        });
        jobs.give_up(Error::failed("later"));
        assert_eq!(done, [1, 2]);
        assert_eq!(
            jobs.outcome().map_err(|error| error.to_string()),
            Err("two".to_owned())
        );
    }
}
