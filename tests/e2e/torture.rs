//! `make torture` until every kind of fault has come, and that its checkers see what they are for.

use std::time::Duration;

use headwater_tests::torture::checkers::{
    Violation, acknowledged, check, complete, equal, letters, order, refused, server,
};
use headwater_tests::torture::evidence::Evidence;
use headwater_tests::torture::history::{By, Effect};
use headwater_tests::torture::log::Entry;
use headwater_tests::torture::nemesis::{Fault, Schedule};
use headwater_tests::torture::workload::tables::Table;
use headwater_tests::torture::{self, Settings};

/// Faults go on for so long at least.
const DURATION: Duration = Duration::from_secs(60);

/// Its first round, with several faults at once, takes less time than that of most seeds.
const SEED: u64 = 6857;

/// A round, in which every kind of fault comes once, however slow the machine.
const STEPS: usize = Fault::ALL.len();

/// Other tests want the machine too.
const PAUSE: Duration = Duration::from_millis(25);

/// One run for all of it: what it leaves behind is then spoilt in every way.
#[test]
fn nothing_is_lost_whatever_goes_wrong_and_each_checker_sees_what_it_is_for() {
    let (report, evidence) = torture::run(Settings {
        huge_rows: 10_000,
        steps: STEPS,
        pause: PAUSE,
        ..Settings::new(SEED, DURATION)
    });
    println!("{report}");
    assert!(report.violations().is_empty(), "{report}");

    for fault in Fault::ALL {
        assert!(
            report.faults().contains_key(&fault),
            "no {} in {report}",
            fault.name()
        );
    }

    let evidence = of_one_table(evidence);
    a_record_that_is_missing_is_seen(&evidence);
    a_last_record_that_is_missing_is_seen(&evidence);
    a_record_of_nothing_committed_is_seen(&evidence);
    records_that_change_places_are_seen(&evidence);
    a_replay_that_leaves_changes_out_is_seen(&evidence);
    a_record_that_is_altered_is_seen(&evidence);
    a_ghost_is_seen(&evidence);
    an_early_acknowledgement_is_seen(&evidence);
    harm_to_the_server_is_seen(&evidence);
    a_start_that_is_not_refused_is_seen(&evidence);
}

/// A client that confirms what it has received rather than what is delivered loses nothing
/// as long as nobody kills it at the wrong moment. It is found out all the same, by the first
/// broker that is slow to answer.
#[test]
fn a_client_that_acknowledges_what_it_has_only_received_is_found_out() {
    let (report, _) = torture::run(Settings {
        faults: vec![Fault::FreezeBroker],
        tamper: Some(confirm_what_is_received),
        pause: PAUSE,
        ..Settings::new(SEED, Duration::from_secs(12))
    });
    let violations = report.violations();
    let sees = |seen: &Violation| seen.checker == acknowledged::NAME;
    assert!(violations.iter().any(sees), "{report}");
}

/// Makes the flush position of each standby status update what its write position is: the
/// client's account of what it has received. `CopyData`, its length, `r`, then the positions.
fn confirm_what_is_received(sent: &mut [u8]) {
    const UPDATE: [u8; 6] = [b'd', 0, 0, 0, 38, b'r'];
    let found = sent.windows(UPDATE.len()).position(|bytes| bytes == UPDATE);
    if let Some(at) = found.filter(|at| sent.len() >= at + 39) {
        let written = at + UPDATE.len();
        sent.copy_within(written..written + 8, written + 8);
    }
}

#[test]
fn a_seed_gives_one_schedule_and_every_kind_of_fault() {
    let steps = |seed| -> Vec<_> { Schedule::new(seed, &Fault::ALL, true).take(100).collect() };
    assert_eq!(steps(7), steps(7));
    assert_ne!(steps(7), steps(8));
    let round = &steps(7)[..Fault::ALL.len()];
    for fault in Fault::ALL {
        let count = round.iter().filter(|step| step.fault == fault).count();
        assert_eq!(count, 1, "{}", fault.name());
    }
}

/// What there is of [`Table::Orders`]: enough to be spoilt, and less to be checked.
fn of_one_table(mut evidence: Evidence) -> Evidence {
    let table = Table::Orders;
    evidence.log.retain(|entry| entry.table == table);
    evidence.letters.clear();
    evidence.tables.retain(|(other, _), _| *other == table);
    for committed in &mut evidence.history {
        committed.changes.retain(|change| change.key.table == table);
    }
    evidence
        .history
        .retain(|committed| !committed.changes.is_empty());
    assert_eq!(check(&evidence), []);
    evidence
}

/// Spoils a copy of the evidence and fails unless exactly `due` complain, each at least once
/// with `text`.
#[track_caller]
fn seen_by(due: &[&str], text: &str, evidence: &Evidence, spoil: impl FnOnce(&mut Evidence)) {
    let mut spoilt = evidence.clone();
    spoil(&mut spoilt);
    let violations = check(&spoilt);
    let mut who: Vec<&str> = violations.iter().map(|seen| seen.checker).collect();
    who.sort_unstable();
    who.dedup();
    let mut due = due.to_vec();
    due.sort_unstable();
    assert_eq!(who, due, "{violations:#?}");
    let names = |seen: &Violation| seen.what.contains(text);
    assert!(
        violations.iter().any(names),
        "no {text:?} in {violations:#?}"
    );
}

/// The place of a record of the stream that came once, among several of its key: with one
/// right before it and one right behind that are not fetched either.
fn middle(evidence: &Evidence) -> usize {
    let log = &evidence.log;
    let plain = |entry: &Entry| entry.xid.is_some() && entry.row.is_some() && !entry.fetched;
    let stands_alone = |&at: &usize| {
        let same: Vec<usize> = (0..log.len())
            .filter(|&other| same_key(&log[other], &log[at]))
            .collect();
        let came = same
            .iter()
            .filter(|&&other| (log[other].lsn, log[other].seq) == (log[at].lsn, log[at].seq));
        let place = same.partition_point(|&other| other < at);
        let around = same.get(place.wrapping_sub(1)..place + 2);
        came.count() == 1
            && around.is_some_and(|around| around.iter().all(|&other| plain(&log[other])))
    };
    (0..log.len())
        .filter(|&at| log[at].table == Table::Orders && plain(&log[at]))
        .find(stands_alone)
        .expect("a change that came once, between two others of its key")
}

/// The place of the newest record of a key that came by the stream.
fn last(evidence: &Evidence) -> usize {
    let log = &evidence.log;
    (0..log.len())
        .rev()
        .filter(|&at| log[at].table == Table::Orders)
        .find(|&at| {
            let entry = &log[at];
            let is_newest = log[at + 1..]
                .iter()
                .all(|other| other.table != entry.table || other.key != entry.key);
            let came_before = log[..at].iter().any(|other| {
                other.table == entry.table && other.key == entry.key && other.row != entry.row
            });
            entry.row.is_some() && entry.xid.is_some() && is_newest && came_before
        })
        .expect("a key whose newest record is of the stream")
}

fn same_key(one: &Entry, other: &Entry) -> bool {
    one.table == other.table && one.key == other.key
}

fn a_record_that_is_missing_is_seen(evidence: &Evidence) {
    let at = middle(evidence);
    let xid = evidence.log[at].xid.expect("of the stream").to_string();
    seen_by(&[complete::NAME], &xid, evidence, |spoilt| {
        spoilt.log.remove(at);
    });
}

/// As a client that forgets what was in flight when it died.
fn a_last_record_that_is_missing_is_seen(evidence: &Evidence) {
    let entry = evidence.log[last(evidence)].clone();
    let due = [complete::NAME, equal::NAME];
    seen_by(&due, &entry.key, evidence, |spoilt| {
        spoilt.log.retain(|other| {
            !(same_key(other, &entry) && (other.lsn, other.seq) == (entry.lsn, entry.seq))
        });
    });
}

fn a_record_of_nothing_committed_is_seen(evidence: &Evidence) {
    let at = middle(evidence);
    let xid = evidence.log[at].xid;
    seen_by(
        &[complete::NAME],
        "no such change was committed",
        evidence,
        |spoilt| {
            // As if its transaction had been rolled back.
            let before = spoilt.history.len();
            spoilt
                .history
                .retain(|committed| Some(committed.xid) != xid);
            assert_eq!(spoilt.history.len(), before - 1);
        },
    );
}

fn records_that_change_places_are_seen(evidence: &Evidence) {
    let at = middle(evidence);
    let after = evidence.log[at + 1..]
        .iter()
        .position(|other| same_key(other, &evidence.log[at]))
        .map(|further| at + 1 + further)
        .expect("a later record of the key");
    let is_newest = !evidence.log[after + 1..]
        .iter()
        .any(|other| same_key(other, &evidence.log[at]));
    let due: &[&str] = if is_newest {
        &[order::NAME, equal::NAME]
    } else {
        &[order::NAME]
    };
    seen_by(due, "comes in between", evidence, |spoilt| {
        spoilt.log.swap(at, after);
        let offset = spoilt.log[at].offset;
        spoilt.log[at].offset = spoilt.log[after].offset;
        spoilt.log[after].offset = offset;
    });
}

/// A replay that breaks off and is never completed leaves an old row as the newest record:
/// the order is seen to be wrong as soon as anything follows.
fn a_replay_that_leaves_changes_out_is_seen(evidence: &Evidence) {
    let at = last(evidence);
    let newest = evidence.log[at].clone();
    let first = evidence
        .log
        .iter()
        .find(|other| same_key(other, &newest) && other.row != newest.row)
        .cloned()
        .expect("an earlier record of the key");
    seen_by(&[equal::NAME], &newest.key, evidence, |spoilt| {
        spoilt.log.insert(at + 1, first.clone());
    });
    let changes = evidence
        .log
        .iter()
        .filter(|other| same_key(other, &newest))
        .map(|other| (other.lsn, other.seq))
        .collect::<std::collections::BTreeSet<_>>();
    if changes.len() > 2 {
        seen_by(&[order::NAME], "comes in between", evidence, |spoilt| {
            spoilt.log.insert(at + 1, newest.clone());
            spoilt.log.insert(at + 1, first);
        });
    }
}

fn a_record_that_is_altered_is_seen(evidence: &Evidence) {
    let newest = &evidence.log[last(evidence)];
    seen_by(&[equal::NAME], &newest.key, evidence, |spoilt| {
        let same = |entry: &&mut Entry| {
            same_key(entry, newest) && (entry.lsn, entry.seq) == (newest.lsn, newest.seq)
        };
        for entry in spoilt.log.iter_mut().filter(same) {
            entry.row.as_mut().expect("no tombstone").digest ^= 1;
        }
    });
    // A change of the same key that came again as another.
    let at = middle(evidence);
    seen_by(&[order::NAME], "came at offset", evidence, |spoilt| {
        let mut again = spoilt.log[at].clone();
        if let Some(row) = &mut again.row {
            row.digest ^= 1;
        }
        spoilt.log.insert(at + 1, again);
    });
    seen_by(&[complete::NAME], "is missing", evidence, |spoilt| {
        let xid = spoilt.log[at].xid;
        let of_xid = |committed: &&mut torture::history::Committed| Some(committed.xid) == xid;
        let committed = spoilt.history.iter_mut().find(of_xid);
        let changes = &mut committed.expect("its transaction").changes;
        for change in changes {
            if let Effect::Put { sequence, .. } = &mut change.effect {
                *sequence += 1;
            }
        }
    });
}

/// A row that was deleted, and whose tombstone nobody sent.
fn a_ghost_is_seen(evidence: &Evidence) {
    let key = evidence.log[last(evidence)].key.clone();
    seen_by(
        &[equal::NAME],
        "the table has no such row",
        evidence,
        |spoilt| {
            spoilt.tables.remove(&(Table::Orders, key));
        },
    );
}

/// As a client that confirms what it has sent: the slot stands where the record ends before
/// the record is there.
fn an_early_acknowledgement_is_seen(evidence: &Evidence) {
    let at = middle(evidence);
    let (lsn, appended) = (evidence.log[at].lsn, evidence.log[at].appended);
    seen_by(
        &[acknowledged::NAME],
        &lsn.to_string(),
        evidence,
        |spoilt| {
            let place = spoilt
                .samples
                .partition_point(|sample| sample.at < appended);
            let before = spoilt.samples[place.saturating_sub(1)];
            assert!(before.confirmed < lsn, "{before:?} is before {lsn}");
            spoilt.samples[place.saturating_sub(1)].confirmed = lsn;
        },
    );
}

fn harm_to_the_server_is_seen(evidence: &Evidence) {
    seen_by(&[server::NAME], "was started", evidence, |spoilt| {
        spoilt.server.starts += 1;
    });
    seen_by(&[server::NAME], "signal 11", evidence, |spoilt| {
        let line = "server process (PID 1) was terminated by signal 11";
        spoilt.server.crashes.push(line.to_owned());
    });
    seen_by(&[server::NAME], "bytes of WAL", evidence, |spoilt| {
        spoilt.server.retained_at_rest = Some(1 << 30);
    });
    seen_by(&[server::NAME], "no slot", evidence, |spoilt| {
        spoilt.server.retained_at_rest = None;
    });
}

fn a_start_that_is_not_refused_is_seen(evidence: &Evidence) {
    for spoil in [
        |spoilt: &mut Evidence| spoilt.refusals[0].exit = Some(0),
        |spoilt: &mut Evidence| spoilt.refusals[0].written = 1,
    ] {
        seen_by(
            &[refused::NAME],
            evidence.refusals[0].after,
            evidence,
            spoil,
        );
    }
}

/// What the rules let pass, change by change, on histories small enough to be read.
mod rules {
    use super::*;
    use headwater_protocol::Lsn;
    use headwater_tests::torture::evidence::{Gap, Sample, Trouble};
    use headwater_tests::torture::history::{Change, Committed};
    use headwater_tests::torture::log::{Letter, Row};
    use headwater_tests::torture::workload::tables::Key;

    const KEY: Key = Key {
        table: Table::Documents,
        writer: 0,
        number: 1,
    };

    /// The transaction with this id commits between ten times its id and ten further.
    fn committed(xid: u32, effect: Effect) -> Committed {
        Committed {
            writer: 0,
            xid,
            kind: "single",
            after: Lsn(u64::from(xid) * 10),
            by: Lsn(u64::from(xid) * 10 + 10),
            changes: vec![Change { key: KEY, effect }],
        }
    }

    const fn put(sequence: u64, by: By) -> Effect {
        Effect::Put { sequence, by }
    }

    /// Its record, of an update or a deletion.
    fn record(xid: u32, sequence: Option<u64>, fetched: bool) -> Entry {
        Entry {
            table: KEY.table,
            partition: 0,
            offset: 0,
            appended: 0,
            key: KEY.json().into(),
            lsn: Lsn(u64::from(xid) * 10 + 5),
            seq: 1,
            op: if sequence.is_some() { 'u' } else { 'd' },
            xid: Some(xid),
            fetched,
            row: sequence.map(|sequence| Row {
                writer: 0,
                sequence,
                xid,
                digest: sequence,
            }),
        }
    }

    fn evidence(history: &[Committed], log: &[Entry]) -> Evidence {
        Evidence {
            history: history.to_vec(),
            log: log.to_vec(),
            ..Evidence::default()
        }
    }

    #[test]
    fn a_fetched_row_may_be_a_later_one_and_is_left_out_only_if_it_was_deleted() {
        let first = committed(1, put(1, By::Touch));
        let second = committed(2, put(2, By::Touch));
        let deleted = committed(3, Effect::Gone);
        let later = [record(1, Some(2), true), record(2, Some(2), true)];
        let both = [first.clone(), second.clone()];
        assert_eq!(complete::check(&evidence(&both, &later)), [] as [&str; 0]);

        let older = [record(1, Some(1), false), record(2, Some(1), true)];
        assert_eq!(complete::check(&evidence(&both, &older)).len(), 1);
        let left_out = [record(1, Some(1), false)];
        assert_eq!(complete::check(&evidence(&both, &left_out)).len(), 1);

        let all = [first, second, deleted];
        let gone = [record(1, Some(1), false), record(3, None, false)];
        assert_eq!(complete::check(&evidence(&all, &gone)), [] as [&str; 0]);
    }

    #[test]
    fn only_an_update_that_left_a_large_value_alone_may_be_fetched_or_left_out() {
        let deleted = committed(2, Effect::Gone);
        let gone = record(2, None, false);
        for by in [By::Insert, By::Update] {
            let history = [committed(1, put(1, by)), deleted.clone()];
            let mut fetched = record(1, Some(1), true);
            fetched.op = by.op();
            for log in [vec![gone.clone()], vec![fetched, gone.clone()]] {
                let complaints = complete::check(&evidence(&history, &log));
                assert_eq!(complaints.len(), 1, "{by:?} {log:?}: {complaints:#?}");
            }
        }
        let mut copied = record(1, Some(1), true);
        copied.xid = None;
        assert_eq!(complete::check(&evidence(&[], &[copied])).len(), 1);
        let before = [committed(1, Effect::Gone), committed(2, put(1, By::Touch))];
        let log = [record(1, None, false)];
        assert_eq!(complete::check(&evidence(&before, &log)).len(), 1);
    }

    #[test]
    fn a_record_says_where_its_transaction_ends_and_what_it_did() {
        let history = [committed(1, put(1, By::Update))];
        let fine = record(1, Some(1), false);
        let check = |log: &[Entry]| complete::check(&evidence(&history, log)).len();
        assert_eq!(check(std::slice::from_ref(&fine)), 0);
        for lsn in [10, 21] {
            let mut elsewhere = fine.clone();
            elsewhere.lsn = Lsn(lsn);
            assert_eq!(check(&[elsewhere]), 1, "{lsn}");
        }
        let mut inserted = fine.clone();
        inserted.op = 'c';
        assert_eq!(check(&[inserted]), 1);
        let mut again = fine.clone();
        again.lsn = Lsn(16);
        assert_eq!(
            check(&[fine, again]),
            2,
            "two places, and one change too many"
        );
    }

    #[test]
    fn half_a_transaction_is_all_of_it_that_a_gap_may_leave() {
        let mut history = [committed(2, put(1, By::Update))];
        let other = Key { number: 2, ..KEY };
        history[0].changes.push(Change {
            key: other,
            effect: put(2, By::Update),
        });
        let mut seen = evidence(&history, &[record(2, Some(1), false)]);
        for (lost_after, resumed_at, due) in [(20, 25, 0), (20, 24, 1), (25, 30, 1)] {
            seen.gaps = vec![Gap {
                lost_after: Lsn(lost_after),
                resumed_at: Lsn(resumed_at),
            }];
            let complaints = complete::check(&seen);
            assert_eq!(complaints.len(), due, "{:?}: {complaints:#?}", seen.gaps);
        }
        // What is there of a partition is a beginning.
        seen.gaps[0] = Gap {
            lost_after: Lsn(20),
            resumed_at: Lsn(30),
        };
        let mut snapshot = record(4, Some(2), false);
        (snapshot.xid, snapshot.key) = (None, other.json().into());
        seen.log.push(snapshot);
        assert_eq!(complete::check(&seen), [] as [&str; 0]);
        seen.history[0].changes.swap(0, 1);
        assert_eq!(complete::check(&seen).len(), 1);
    }

    #[test]
    fn what_a_gap_lost_may_be_missing_and_nothing_beside_it() {
        let history = [1, 2, 3].map(|xid| committed(xid, put(xid.into(), By::Update)));
        let mut seen = evidence(&history, &[record(1, Some(1), false)]);
        seen.gaps.push(Gap {
            lost_after: Lsn(20),
            resumed_at: Lsn(30),
        });
        let complaints = complete::check(&seen);
        assert_eq!(complaints.len(), 1, "{complaints:#?}");
        assert!(complaints[0].contains("transaction 3 "), "{complaints:#?}");
    }

    #[test]
    fn a_replay_goes_back_as_far_as_it_likes_and_on_one_by_one() {
        let at = |xid: u32| record(xid, Some(xid.into()), false);
        let fine = [1, 2, 3, 2, 3, 1, 2, 3, 4].map(at);
        assert_eq!(order::check(&evidence(&[], &fine)), [] as [&str; 0]);
        // All of it was delivered once; but after the replay of 2 the newest record would be
        // an old one, if 4 did not happen to follow.
        let skips = [1, 2, 3, 2, 4].map(at);
        assert_eq!(order::check(&evidence(&[], &skips)).len(), 1);
        let begins_late = [2, 3, 1, 2, 3].map(at);
        assert_eq!(order::check(&evidence(&[], &begins_late)).len(), 1);
    }

    #[test]
    fn a_replay_may_leave_out_what_it_cannot_fetch_any_more() {
        let at = |xid: u32| record(xid, Some(xid.into()), xid == 2);
        let left_out = [1, 2, 3, 1, 3].map(at);
        assert_eq!(order::check(&evidence(&[], &left_out)), [] as [&str; 0]);
    }

    #[test]
    fn what_came_may_come_again_until_it_is_confirmed() {
        let mut seen = evidence(&[], &[record(1, Some(1), false), record(1, Some(1), false)]);
        seen.log[1].appended = 7;
        let sample = |at| Sample {
            at,
            confirmed: seen.log[0].lsn,
            retained: 0,
        };
        let (before, after) = (sample(6), sample(7));
        seen.samples = vec![after];
        assert_eq!(acknowledged::check(&seen), [] as [&str; 0]);
        seen.samples = vec![before];
        assert_eq!(acknowledged::check(&seen).len(), 1);
    }

    #[test]
    fn much_is_retained_only_around_a_trouble() {
        let complaints = |at: i64| {
            let mut seen = evidence(&[], &[]);
            seen.server.retained_at_rest = Some(0);
            seen.troubles = [(0, 10_000), (60_000, 61_000)]
                .map(|(from, to)| Trouble { from, to })
                .to_vec();
            seen.samples.push(Sample {
                at,
                confirmed: Lsn(1),
                retained: 1 << 30,
            });
            server::check(&seen).len()
        };
        assert_eq!([5_000, 39_000, 60_000, 90_000].map(complaints), [0; 4]);
        assert_eq!([40_000, 59_999, 91_000].map(complaints), [1; 3]);
    }

    #[test]
    fn what_cannot_be_encoded_is_kept_where_that_was_asked_for_and_nothing_else_is() {
        let key = Key {
            table: Table::Poisoned,
            ..KEY
        };
        let mut history =
            [true, false].map(|is_kept| committed(1, Effect::Unprintable { is_kept }));
        for committed in &mut history {
            committed.changes[0].key = key;
        }
        let [kept, left_out] = history;
        let letter = Letter {
            relation: "public.poisoned".to_owned(),
            key: key.json(),
            lsn: Lsn(15),
            seq: 1,
            xid: 1,
        };
        let complaints = |committed: &Committed, letters: &[Letter]| {
            let mut seen = evidence(std::slice::from_ref(committed), &[]);
            seen.letters = letters.to_vec();
            letters::check(&seen).len()
        };
        assert_eq!(complaints(&kept, &[letter.clone(), letter.clone()]), 0);
        assert_eq!(complaints(&kept, &[]), 1);
        assert_eq!(complaints(&left_out, &[]), 0);
        let elsewhere = Letter {
            lsn: Lsn(21),
            ..letter.clone()
        };
        assert_eq!(complaints(&kept, &[elsewhere]), 1);
        let harmless = committed(1, put(1, By::Insert));
        assert_eq!(complaints(&harmless, &[letter]), 1);
    }

    #[test]
    fn positions_that_are_not_in_the_order_of_commits_are_seen() {
        let turned = [record(1, Some(2), false), record(2, Some(1), false)];
        assert_eq!(order::check(&evidence(&[], &turned)).len(), 1);
    }
}
