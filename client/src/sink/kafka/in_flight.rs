//! What was given to librdkafka and is not acknowledged yet.
//!
//! **Memory.** librdkafka's own limit counts keys and values alone. A message costs it
//! several hundred bytes more, headers most of them, so that a limit of 32 MiB lets narrow
//! rows take ten times that. Here a record is charged with all that it takes, and the charge is
//! returned when it is delivered. A record larger than the whole limit passes alone.
//!
//! **Waking.** A record is never refused while nothing is in flight, so a delivery report
//! is due to every sender that was refused, and wakes it. It is woken when an eighth of the
//! memory is free rather than by the first report, so that a batch of thousands of reports
//! costs one wake-up. Charges go down only under the lock under which waiters look, and only a
//! sender that gets in forgets that one was refused: it has a report due itself, and that one
//! wakes the others. So no wake-up is lost.
//!
//! **Alone.** A record whose size its topic may refuse is sent with nothing beside it: while
//! one waits for that or is under way, everything else is refused, and woken when it is over. Its
//! report goes to the one who sent it, and a refusal of its size is no failure.
//!
//! **Reports** of one transaction arrive in a row, so they are kept as runs: a
//! million reports of one transaction are one pair of numbers.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::failure::Failure;
use crate::kafka::Limit;
use crate::sink::{Delivered, Load, Token};

/// Tombstones of a sweep carry it; it is never reported. No transaction has this number.
pub(super) const SWEEP: Token = Token(u64::MAX);

/// The one record that was sent alone carries it. Its own token is reported in its place.
pub(super) const ALONE: Token = Token(1 << 63);

/// The ledger between the threads that send and the one that takes delivery reports.
#[derive(Debug)]
pub(super) struct InFlight {
    limit: Limit,
    /// Below it, senders that were refused are woken.
    roomy: Limit,
    bytes: AtomicU64,
    records: AtomicU64,
    sweeping: AtomicU64,
    /// Reports so far, counted under the lock and read without.
    delivered_records: AtomicU64,
    delivered_bytes: AtomicU64,
    refused_records: AtomicU64,
    /// Nothing was in flight since [`InFlight::comes_alone`] said so last.
    was_empty: AtomicBool,
    /// A sender was refused and none has got in since.
    refused: AtomicBool,
    failed: AtomicBool,
    /// One record is to be alone: no other is let in.
    closed: AtomicBool,
    reports: Mutex<Reports>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Reports {
    runs: Vec<Delivered>,
    failure: Option<Failure>,
    /// Whether the record that was sent alone was delivered, or was too large.
    alone: Option<bool>,
    /// Reports so far, of any kind.
    taken: u64,
    waiting: usize,
}

impl InFlight {
    /// An empty ledger.
    pub(super) fn new(limit: Limit) -> Self {
        InFlight {
            limit,
            roomy: Limit {
                bytes: limit.bytes - limit.bytes / 8,
                records: limit.records - limit.records / 8,
            },
            bytes: AtomicU64::new(0),
            records: AtomicU64::new(0),
            sweeping: AtomicU64::new(0),
            delivered_records: AtomicU64::new(0),
            delivered_bytes: AtomicU64::new(0),
            refused_records: AtomicU64::new(0),
            was_empty: AtomicBool::new(true),
            refused: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            reports: Mutex::new(Reports::default()),
            changed: Condvar::new(),
        }
    }

    /// Charges a record before it is sent. False if there is no room for it: then nothing is
    /// charged, and [`Self::wait`] returns when there is.
    pub(super) fn charge(&self, bytes: u64, token: Token) -> bool {
        let fits = |held: u64| {
            let total = held.saturating_add(bytes);
            (total <= self.limit.bytes || held == 0).then_some(total)
        };
        let is_let_in = token == ALONE || !self.closed.load(Ordering::Relaxed);
        let room = is_let_in
            && self.records() < self.limit.records
            && self
                .bytes
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
                .is_ok();
        if !room {
            self.refused.store(true, Ordering::Relaxed);
            return false;
        }
        if self.refused.load(Ordering::Relaxed) {
            self.refused.store(false, Ordering::Relaxed);
        }
        self.records.fetch_add(1, Ordering::Relaxed);
        if token == SWEEP {
            self.sweeping.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Whether something is in flight and all of it was sent since nothing was. Says so once,
    /// then again only after everything was acknowledged.
    pub(super) fn comes_alone(&self) -> bool {
        self.records() > 0 && self.was_empty.swap(false, Ordering::Relaxed)
    }

    /// Takes a charge back: the record was not accepted after all.
    pub(super) fn discharge(&self, bytes: u64, token: Token) {
        let reports = self.lock();
        self.settle(bytes, token);
        self.wake(&reports);
    }

    /// Takes the report that a record was delivered, whose key and value have `length` bytes.
    pub(super) fn delivered(&self, bytes: u64, length: u64, token: Token) {
        let mut reports = self.lock();
        self.settle(bytes, token);
        add(&self.delivered_records, 1);
        add(&self.delivered_bytes, length);
        reports.taken += 1;
        if token == ALONE {
            reports.alone = Some(true);
        } else if token != SWEEP {
            match reports.runs.last_mut() {
                Some(run) if run.token == token => run.count += 1,
                _ => reports.runs.push(Delivered { token, count: 1 }),
            }
        }
        self.wake(&reports);
    }

    /// Takes the report that a record failed for good. The first failure is kept.
    pub(super) fn failed(&self, bytes: u64, token: Token, failure: impl FnOnce() -> Failure) {
        let mut reports = self.lock();
        self.settle(bytes, token);
        add(&self.refused_records, 1);
        reports.taken += 1;
        self.fail(&mut reports, failure);
    }

    /// Takes the report that a record was refused for its size. That is the answer to one that
    /// was sent alone, and a failure of any other.
    pub(super) fn too_large(&self, bytes: u64, token: Token, failure: impl FnOnce() -> Failure) {
        if token != ALONE {
            return self.failed(bytes, token, failure);
        }
        let mut reports = self.lock();
        self.settle(bytes, token);
        add(&self.refused_records, 1);
        reports.taken += 1;
        reports.alone = Some(false);
        self.wake(&reports);
    }

    /// Lets nobody in any more but the record that is to be alone. Until [`Self::open`].
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Forgets what became of the last record that was sent alone. To be called when nothing is
    /// in flight: its report, if nobody has waited for it, has come then.
    pub(super) fn forget_alone(&self) {
        self.lock().alone = None;
    }

    /// Lets everybody in again.
    pub(super) fn open(&self) {
        let reports = self.lock();
        self.closed.store(false, Ordering::Relaxed);
        self.wake(&reports);
    }

    /// What became of the record that was sent alone: whether it was delivered. None until
    /// that is known.
    pub(super) fn alone(&self) -> Option<bool> {
        self.lock().alone
    }

    /// Has a delivery reported that somebody has seen for himself.
    pub(super) fn report(&self, token: Token) {
        self.lock().runs.push(Delivered { token, count: 1 });
    }

    /// Takes the news that nothing will be delivered any more.
    pub(super) fn ended(&self, failure: impl FnOnce() -> Failure) {
        self.fail(&mut self.lock(), failure);
    }

    fn fail(&self, reports: &mut Reports, failure: impl FnOnce() -> Failure) {
        if reports.failure.is_none() {
            reports.failure = Some(failure());
            self.failed.store(true, Ordering::Release);
        }
        self.wake(reports);
    }

    /// Moves the reports into `into` and returns the first failure, if there is one.
    pub(super) fn collect(&self, into: &mut Vec<Delivered>) -> Option<Failure> {
        let mut reports = self.lock();
        into.append(&mut reports.runs);
        reports.failure.clone()
    }

    /// The first failure. Cheap while there is none.
    pub(super) fn failure(&self) -> Option<Failure> {
        if !self.failed.load(Ordering::Acquire) {
            return None;
        }
        self.lock().failure.clone()
    }

    /// How many reports were taken so far.
    pub(super) fn taken(&self) -> u64 {
        self.lock().taken
    }

    /// Records that are not acknowledged.
    pub(super) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// What is in flight and what was reported. What concerns the connection is not known here.
    pub(super) fn load(&self) -> Load {
        Load {
            delivered_records: self.delivered_records.load(Ordering::Relaxed),
            delivered_bytes: self.delivered_bytes.load(Ordering::Relaxed),
            refused_records: self.refused_records.load(Ordering::Relaxed),
            in_flight_records: self.records(),
            in_flight_bytes: self.bytes.load(Ordering::Relaxed),
            limit_bytes: self.limit.bytes,
            ..Load::default()
        }
    }

    /// Tombstones of sweeps that are not acknowledged.
    pub(super) fn sweeping(&self) -> u64 {
        self.sweeping.load(Ordering::Relaxed)
    }

    /// Waits until there is room for one who was refused, or else reports to collect; until a
    /// failure; at the latest until `timeout` has passed.
    pub(super) fn wait(&self, timeout: Duration) {
        self.wait_for(timeout, |reports| self.worth_waking(reports));
    }

    /// Waits until everything is acknowledged or something failed, at the latest until
    /// `timeout` has passed, and says whether everything is.
    pub(super) fn wait_until_empty(&self, timeout: Duration) -> bool {
        self.wait_for(timeout, |reports| {
            self.records() == 0 || reports.failure.is_some()
        });
        self.records() == 0
    }

    fn wait_for(&self, timeout: Duration, done: impl Fn(&Reports) -> bool) {
        let deadline = Instant::now().checked_add(timeout);
        let mut reports = self.lock();
        reports.waiting += 1;
        while !done(&reports) {
            let left = match deadline {
                Some(deadline) => deadline.saturating_duration_since(Instant::now()),
                None => timeout,
            };
            if left.is_zero() {
                break;
            }
            reports = self
                .changed
                .wait_timeout(reports, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        reports.waiting -= 1;
    }

    fn settle(&self, bytes: u64, token: Token) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        if self.records.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.was_empty.store(true, Ordering::Relaxed);
        }
        if token == SWEEP {
            self.sweeping.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A system call, so only where somebody waits and has a reason to get up.
    fn wake(&self, reports: &Reports) {
        if reports.waiting > 0 && (self.worth_waking(reports) || self.records() == 0) {
            self.changed.notify_all();
        }
    }

    fn worth_waking(&self, reports: &Reports) -> bool {
        let reason = if self.refused.load(Ordering::Relaxed) {
            self.is_roomy()
        } else {
            !reports.runs.is_empty()
        };
        reason || reports.failure.is_some()
    }

    fn is_roomy(&self) -> bool {
        let bytes = self.bytes.load(Ordering::Relaxed);
        let records = self.records();
        let has_room = bytes <= self.roomy.bytes && records <= self.roomy.records;
        (has_room || records == 0) && !self.closed.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Reports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds to a number that is written under the lock alone: no two writers meet, and a load and a
/// store cost less than one operation that is atomic as a whole.
fn add(number: &AtomicU64, more: u64) {
    number.store(number.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::thread;

    const FOREVER: Duration = Duration::from_secs(60);
    const ONE: Token = Token(1);

    fn in_flight(bytes: u64) -> InFlight {
        let records = u64::MAX;
        InFlight::new(Limit { bytes, records })
    }

    fn failure(reason: &str) -> Failure {
        let reason = reason.to_owned();
        let code = rdkafka::error::RDKafkaErrorCode::Fatal;
        Failure::Producer { code, reason }
    }

    fn collected(in_flight: &InFlight) -> Vec<(u64, u64)> {
        let mut into = Vec::new();
        assert!(in_flight.collect(&mut into).is_none());
        into.iter().map(|run| (run.token.0, run.count)).collect()
    }

    #[test]
    fn a_record_alone_keeps_others_out_and_its_refusal_is_no_failure() {
        let in_flight = in_flight(1000);
        in_flight.close();
        assert!(!in_flight.charge(1, ONE), "let in beside it");
        assert!(in_flight.charge(5000, ALONE));
        assert_eq!(in_flight.alone(), None);
        in_flight.too_large(5000, ALONE, || failure("too large"));
        assert_eq!(in_flight.alone(), Some(false));
        assert!(in_flight.failure().is_none());
        in_flight.forget_alone();
        assert_eq!(in_flight.alone(), None, "an answer to the one before");
        assert!(in_flight.charge(5000, ALONE));
        in_flight.delivered(5000, 0, ALONE);
        assert_eq!(in_flight.alone(), Some(true));
        in_flight.report(ONE);
        in_flight.open();
        assert!(in_flight.charge(1, ONE));
        assert_eq!(collected(&in_flight), [(1, 1)]);
        in_flight.too_large(1, ONE, || failure("too large"));
        assert!(in_flight.failure().is_some());
    }

    #[test]
    fn who_was_kept_out_sleeps_until_the_record_alone_is_through() {
        let in_flight = Arc::new(in_flight(1000));
        in_flight.close();
        assert!(!in_flight.charge(1, ONE));
        let waiting = Arc::clone(&in_flight);
        let waiter = thread::spawn(move || waiting.wait(FOREVER));
        while in_flight.lock().waiting == 0 {
            thread::yield_now();
        }
        assert!(!in_flight.worth_waking(&in_flight.lock()), "it would spin");
        in_flight.open();
        waiter.join().unwrap();
        assert!(in_flight.charge(1, ONE));
    }

    #[test]
    fn reports_of_one_transaction_in_a_row_are_one_run() {
        let in_flight = in_flight(1000);
        for token in [1, 1, 1, 2, 1] {
            assert!(in_flight.charge(1, Token(token)));
            in_flight.delivered(1, 0, Token(token));
        }
        assert_eq!(collected(&in_flight), [(1, 3), (2, 1), (1, 1)]);
        assert_eq!(collected(&in_flight), []);
    }

    #[test]
    fn a_record_comes_alone_until_another_joins_it_in_flight() {
        let in_flight = in_flight(1000);
        assert!(!in_flight.comes_alone(), "nothing is in flight");
        assert!(in_flight.charge(1, ONE));
        assert!(in_flight.charge(1, ONE));
        assert!(in_flight.comes_alone(), "both came since nothing was");
        assert!(!in_flight.comes_alone(), "that was said");
        in_flight.delivered(1, 0, ONE);
        assert!(in_flight.charge(1, ONE));
        assert!(!in_flight.comes_alone(), "the second is under way");
        in_flight.delivered(1, 0, ONE);
        in_flight.delivered(1, 0, ONE);
        assert!(!in_flight.comes_alone(), "all are acknowledged");
        assert!(in_flight.charge(1, ONE));
        assert!(in_flight.comes_alone());
    }

    #[test]
    fn memory_is_bounded_and_a_record_larger_than_all_of_it_passes_alone() {
        let in_flight = in_flight(100);
        assert!(in_flight.charge(60, ONE));
        assert!(!in_flight.charge(41, ONE));
        assert!(in_flight.charge(40, ONE));
        in_flight.delivered(60, 0, ONE);
        assert!(!in_flight.charge(1_000, ONE));
        in_flight.delivered(40, 0, ONE);
        assert!(in_flight.charge(1_000, ONE));
        assert!(!in_flight.charge(1, ONE));
    }

    #[test]
    fn the_number_of_records_is_bounded_too() {
        let in_flight = InFlight::new(Limit {
            bytes: 1000,
            records: 2,
        });
        assert!(in_flight.charge(1, ONE));
        assert!(in_flight.charge(1, ONE));
        assert!(!in_flight.charge(1, ONE));
        in_flight.delivered(1, 0, ONE);
        assert!(in_flight.charge(1, ONE));
    }

    #[test]
    fn the_first_failure_is_kept_and_ends_every_wait() {
        let in_flight = in_flight(100);
        for _ in 0..3 {
            assert!(in_flight.charge(1, ONE));
        }
        in_flight.failed(1, ONE, || failure("first"));
        in_flight.failed(1, ONE, || failure("second"));
        assert_eq!(in_flight.failure(), Some(failure("first")));
        in_flight.wait(FOREVER);
        assert!(!in_flight.wait_until_empty(FOREVER));
    }

    #[test]
    fn tombstones_of_a_sweep_are_counted_and_not_reported() {
        let in_flight = in_flight(100);
        assert!(in_flight.charge(1, SWEEP));
        assert_eq!((in_flight.records(), in_flight.sweeping()), (1, 1));
        in_flight.delivered(1, 0, SWEEP);
        assert_eq!((in_flight.records(), in_flight.sweeping()), (0, 0));
        assert_eq!(collected(&in_flight), []);
    }

    #[test]
    fn whoever_was_refused_is_woken_when_there_is_room_and_not_before() {
        let in_flight = in_flight(80);
        for _ in 0..8 {
            assert!(in_flight.charge(10, ONE));
        }
        assert!(!in_flight.charge(10, ONE));
        let reports = in_flight.lock();
        assert!(!in_flight.worth_waking(&reports));
        drop(reports);
        in_flight.delivered(10, 0, ONE);
        assert!(in_flight.worth_waking(&in_flight.lock()));
        in_flight.wait(FOREVER);
        assert!(in_flight.charge(10, ONE));
    }

    #[test]
    fn a_wait_without_anything_to_wait_for_ends_with_its_timeout() {
        let in_flight = in_flight(80);
        let begun = Instant::now();
        in_flight.wait(Duration::from_millis(5));
        assert!(begun.elapsed() >= Duration::from_millis(5));
        assert!(in_flight.wait_until_empty(Duration::ZERO));
    }

    /// Several senders against one reporter, with room for a few records only: a lost
    /// wake-up would let a sender sleep for a minute.
    #[test]
    fn no_wake_up_is_lost() {
        const RECORDS: u64 = 20_000;
        let in_flight = Arc::new(in_flight(64));
        let (accepted, reports) = std::sync::mpsc::channel();
        let senders: Vec<_> = (0..3)
            .map(|token| {
                let in_flight = Arc::clone(&in_flight);
                let accepted = accepted.clone();
                thread::spawn(move || {
                    let longest = (0..RECORDS).map(|_| {
                        let begun = Instant::now();
                        while !in_flight.charge(9, Token(token)) {
                            in_flight.wait(FOREVER);
                        }
                        accepted.send(token).unwrap();
                        begun.elapsed()
                    });
                    longest.max().unwrap()
                })
            })
            .collect();
        drop(accepted);
        for token in reports {
            in_flight.delivered(9, 0, Token(token));
        }
        for sender in senders {
            let longest = sender.join().unwrap();
            assert!(longest < FOREVER, "a sender slept for {longest:?}");
        }
        let total: u64 = collected(&in_flight).iter().map(|(_, count)| count).sum();
        assert_eq!((total, in_flight.records()), (3 * RECORDS, 0));
    }

    proptest! {
        #[test]
        fn runs_add_up_to_what_was_delivered(tokens in prop::collection::vec(0u64..4, 0..200)) {
            let in_flight = in_flight(u64::MAX);
            let mut expected = [0u64; 4];
            for token in &tokens {
                prop_assert!(in_flight.charge(3, Token(*token)));
                in_flight.delivered(3, 0, Token(*token));
                expected[*token as usize] += 1;
            }
            let mut found = [0u64; 4];
            let mut into = Vec::new();
            prop_assert!(in_flight.collect(&mut into).is_none());
            for run in &into {
                found[run.token.0 as usize] += run.count;
            }
            prop_assert_eq!(found, expected);
            prop_assert!(into.windows(2).all(|pair| pair[0].token != pair[1].token));
            prop_assert_eq!(in_flight.records(), 0);
        }
    }
}
