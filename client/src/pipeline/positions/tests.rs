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

    fn starts(&self) -> Option<u64> {
        None
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

fn now() -> Instant {
    Instant::now()
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
    assert_eq!(positions.finish(Lsn(30), now()).unwrap(), Lsn(30));
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
    positions.finish(Lsn(20), now()).unwrap();
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
    positions.finish(Lsn(30), now()).unwrap();
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
    positions.finish(Lsn(20), now()).unwrap();
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
    positions.finish(Lsn(30), now()).unwrap();
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
    positions.finish(Lsn(30), now()).unwrap();
    let last = stored.try_iter().last().unwrap();
    let marks: Vec<Lsn> = last.stale.iter().map(|(.., mark)| mark.since).collect();
    assert_eq!(marks, [Lsn(25)]);
}

/// A store that nobody answers, so many times.
struct Away {
    times: usize,
    tries: mpsc::Sender<()>,
}

impl StateStore for Away {
    fn load(&mut self) -> Result<Option<State>> {
        Ok(None)
    }

    fn store(&mut self, _: &State) -> Result<()> {
        self.tries.send(()).unwrap();
        match self.times.checked_sub(1) {
            None => Ok(()),
            Some(left) => {
                self.times = left;
                Err(Error::new(ErrorKind::Disconnected, "nobody answers"))
            }
        }
    }

    fn starts(&self) -> Option<u64> {
        None
    }

    fn clear(&mut self) -> Result<()> {
        Ok(())
    }
}

fn away(times: usize) -> (Positions, mpsc::Receiver<()>) {
    let (tries, tried) = mpsc::channel();
    let store = Box::new(Away { times, tries });
    let restart_lsn = RestartLsn::default();
    let metrics = Metrics::default();
    let positions = Positions::recorded(store, state(10), restart_lsn, &metrics);
    (positions.unwrap(), tried)
}

#[test]
fn the_last_position_is_recorded_again_until_it_passes_or_there_is_no_time() {
    let (mut positions, tried) = away(3);
    let until = now() + Duration::from_secs(60);
    assert_eq!(positions.finish(Lsn(30), until).unwrap(), Lsn(30));
    assert_eq!(tried.try_iter().count(), 4);

    let (mut positions, tried) = away(usize::MAX);
    let error = positions.finish(Lsn(30), now() + 3 * AGAIN).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert!((1..=5).contains(&tried.try_iter().count()));
}

#[test]
fn a_record_that_fails_is_an_error_and_confirms_nothing() {
    let (sender, stored) = mpsc::channel();
    drop(stored);
    let mut positions = recorded(state(10), sender);
    assert!(positions.finish(Lsn(30), now()).is_err());
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
