use super::*;
use crate::state::{Runs, StaleTables};

const CONSISTENT: Lsn = Lsn(100);

fn system() -> System {
    System {
        identifier: "7".to_owned(),
        timeline: 1,
    }
}

fn slot(confirmed_flush: u64) -> Slot {
    Slot {
        active_pid: None,
        confirmed_flush: Lsn(confirmed_flush),
        restart_lsn: None,
        retained_wal_bytes: 0,
        safe_wal_bytes: None,
        has_lost_wal: false,
        wal_end: Some(Lsn(1000)),
    }
}

fn state(phase: Phase, position: u64) -> State {
    State {
        system_identifier: "7".to_owned(),
        timeline: 1,
        phase,
        consistent_point: CONSISTENT,
        position: Lsn(position),
        restart_lsn: None,
        shape: numbers("exact"),
        stale: StaleTables::default(),
        runs: Runs::default(),
    }
}

fn numbers(value: &str) -> Shape {
    let numbers = ("numbers".to_owned(), value.to_owned());
    [numbers].into_iter().collect()
}

fn stream(position: u64) -> Start {
    Start::Stream {
        consistent_point: CONSISTENT,
        position: Lsn(position),
    }
}

fn asked(snapshot: SnapshotMode, shape: &Shape) -> Asked<'_> {
    Asked {
        snapshot,
        slot: "headwater",
        shape,
        resnapshot: false,
        accept_gap: None,
    }
}

fn outcome(
    mode: SnapshotMode,
    recorded: Recorded<'_>,
    slot: Option<&Slot>,
) -> Result<Start, ErrorKind> {
    decide(&asked(mode, &numbers("exact")), recorded, slot, &system()).map_err(|error| error.kind())
}

#[test]
fn the_record_and_the_slot_decide() {
    use Recorded::{Nothing, State as Kept, Unkept};
    use SnapshotMode::{Initial, Never};
    let copied = state(Phase::Copied, 100);
    let streaming = state(Phase::Streaming, 150);
    let (at_snapshot, behind, ahead) = (slot(100), slot(140), slot(151));
    for (mode, recorded, slot, expected) in [
        (Initial, Nothing, None, Ok(Start::Snapshot)),
        (Never, Nothing, None, Ok(Start::CreateSlot)),
        (Initial, Nothing, Some(&at_snapshot), Err(ErrorKind::Gap)),
        (Never, Nothing, Some(&at_snapshot), Ok(stream(100))),
        (Initial, Kept(&copied), None, Ok(Start::Snapshot)),
        (Never, Kept(&copied), None, Err(ErrorKind::Gap)),
        (Initial, Kept(&copied), Some(&at_snapshot), Ok(stream(100))),
        (Initial, Kept(&copied), Some(&behind), Err(ErrorKind::Gap)),
        (Initial, Kept(&streaming), None, Err(ErrorKind::Gap)),
        (Initial, Kept(&streaming), Some(&behind), Ok(stream(150))),
        (Initial, Kept(&streaming), Some(&ahead), Err(ErrorKind::Gap)),
        (Never, Kept(&streaming), Some(&ahead), Err(ErrorKind::Gap)),
        (Initial, Unkept, None, Ok(Start::Snapshot)),
        (Never, Unkept, None, Ok(Start::CreateSlot)),
        (Initial, Unkept, Some(&at_snapshot), Ok(stream(100))),
    ] {
        assert_eq!(
            outcome(mode, recorded, slot),
            expected,
            "{mode:?} {recorded:?} {slot:?}"
        );
    }
}

#[test]
fn a_copy_alone_is_refused_beside_a_recorded_stream() {
    let streaming = state(Phase::Streaming, 150);
    let only = SnapshotMode::Only;
    assert_eq!(outcome(only, Recorded::Nothing, None), Ok(Start::Snapshot));
    assert_eq!(
        outcome(only, Recorded::Unkept, Some(&slot(1))),
        Ok(Start::Snapshot)
    );
    assert_eq!(
        outcome(only, Recorded::State(&streaming), Some(&slot(1))),
        Err(ErrorKind::Failed)
    );
}

#[test]
fn a_slot_without_its_wal_is_refused_at_every_start() {
    let streaming = state(Phase::Streaming, 150);
    let lost = Slot {
        has_lost_wal: true,
        ..slot(140)
    };
    for (mode, recorded) in [
        (SnapshotMode::Initial, Recorded::State(&streaming)),
        (SnapshotMode::Initial, Recorded::Unkept),
        (SnapshotMode::Never, Recorded::Nothing),
    ] {
        let outcome = outcome(mode, recorded, Some(&lost));
        assert_eq!(outcome, Err(ErrorKind::Gap), "{mode:?} {recorded:?}");
    }
    let same = check_same(&system(), &system(), Some(&lost), "headwater", Lsn(150));
    assert_eq!(same.map_err(|error| error.kind()), Err(ErrorKind::Gap));
}

#[test]
fn another_server_or_history_is_refused() {
    let known = state(Phase::Streaming, 150);
    for (identifier, timeline) in [("8", 1), ("7", 2)] {
        let system = System {
            identifier: identifier.to_owned(),
            timeline,
        };
        let recorded = Recorded::State(&known);
        let asked = asked(SnapshotMode::Initial, &known.shape);
        let decided = decide(&asked, recorded, Some(&slot(140)), &system);
        assert_eq!(decided.map_err(|error| error.kind()), Err(ErrorKind::Gap));
    }
}

#[test]
fn a_history_that_was_wound_back_is_refused_where_it_shows() {
    let known = State {
        restart_lsn: Some(Lsn(120)),
        ..state(Phase::Streaming, 150)
    };
    let seen = |wal_end: Option<u64>, restart_lsn: u64| {
        let slot = Slot {
            wal_end: wal_end.map(Lsn),
            restart_lsn: Some(Lsn(restart_lsn)),
            ..slot(140)
        };
        outcome(SnapshotMode::Initial, Recorded::State(&known), Some(&slot))
    };
    assert_eq!(seen(Some(149), 120), Err(ErrorKind::Gap), "its end");
    assert_eq!(seen(Some(500), 119), Err(ErrorKind::Gap), "its beginning");
    for (wal_end, restart_lsn) in [(Some(150), 120), (Some(500), 130), (None, 120)] {
        let outcome = seen(wal_end, restart_lsn);
        assert_eq!(outcome, Ok(stream(150)), "{wal_end:?} {restart_lsn}");
    }
    let rewound = Slot {
        wal_end: Some(Lsn(149)),
        ..slot(140)
    };
    let same = check_same(&system(), &system(), Some(&rewound), "headwater", Lsn(150));
    assert_eq!(same.map_err(|error| error.kind()), Err(ErrorKind::Gap));
}

/// A stream that runs says the same as the start that follows it.
#[test]
fn a_gap_that_a_running_stream_meets_names_the_same_ways_on() {
    let other = System {
        timeline: 2,
        ..system()
    };
    let (ahead, behind) = (slot(151), slot(140));
    for (now, slot) in [
        (&other, Some(&behind)),
        (&system(), None),
        (&system(), Some(&ahead)),
    ] {
        let same = check_same(&system(), now, slot, "headwater", Lsn(150));
        let error = same.expect_err("a gap");
        assert_eq!(error.kind(), ErrorKind::Gap);
        let hint = error.hint().unwrap_or_default();
        for way in ["--resnapshot", "--accept-gap 0/96"] {
            assert!(hint.contains(way), "no {way:?} in {hint}");
        }
    }
}

#[test]
fn a_gap_is_left_behind_by_either_of_its_ways_on() {
    let shape = numbers("exact");
    let streaming = state(Phase::Streaming, 150);
    let (ahead, behind) = (slot(151), slot(140));
    let lost = Slot {
        has_lost_wal: true,
        ..slot(140)
    };
    let other = System {
        timeline: 2,
        ..system()
    };
    let cases = [
        (None, system(), None),
        (Some(&ahead), system(), Some(Lsn(151))),
        (Some(&lost), system(), None),
        (Some(&behind), other, Some(Lsn(140))),
    ];
    for (slot, system, stands) in cases {
        let decided = |resnapshot, accept_gap| {
            let asked = Asked {
                resnapshot,
                accept_gap,
                ..asked(SnapshotMode::Initial, &shape)
            };
            decide(&asked, Recorded::State(&streaming), slot, &system)
        };
        let refusal = decided(false, None).expect_err("a gap");
        let hint = refusal.hint().unwrap_or_default();
        for way in ["--resnapshot", "--accept-gap 0/96"] {
            assert!(hint.contains(way), "no {way:?} in {hint}");
        }
        assert_eq!(decided(true, None).ok(), Some(Start::Anew), "{slot:?}");
        let behind_gap = Start::BehindGap {
            lost_after: Lsn(150),
            slot: stands,
        };
        let accepted = decided(false, Some(Lsn(150)));
        assert_eq!(accepted.ok(), Some(behind_gap), "{slot:?}");
        let another = decided(false, Some(Lsn(149))).map_err(|error| error.kind());
        assert_eq!(another, Err(ErrorKind::Gap), "{slot:?}: another gap");
    }
    for (resnapshot, accept_gap) in [(false, None), (true, None), (false, Some(Lsn(150)))] {
        let asked = Asked {
            resnapshot,
            accept_gap,
            ..asked(SnapshotMode::Initial, &shape)
        };
        let goes_on = decide(
            &asked,
            Recorded::State(&streaming),
            Some(&behind),
            &system(),
        );
        assert_eq!(goes_on.ok(), Some(stream(150)), "there is no gap");
    }
}

#[test]
fn another_shape_is_refused_with_both_values_and_both_cures() {
    use SnapshotMode::{Initial, Never};
    for (phase, mode) in [
        (Phase::Copied, Initial),
        (Phase::Streaming, Initial),
        (Phase::Streaming, Never),
    ] {
        let known = state(phase, 100);
        let shape = numbers("string");
        let recorded = Recorded::State(&known);
        let decided = decide(&asked(mode, &shape), recorded, Some(&slot(100)), &system());
        let error = decided.expect_err("topics would be split");
        assert_eq!(error.kind(), ErrorKind::Gap, "{phase:?} {mode:?}");
        let text = format!("{error} {}", error.hint().unwrap_or_default());
        for part in [
            "begun with --numbers exact",
            "asks for --numbers string",
            "Start with --numbers exact",
            "headwater drop --slot headwater",
        ] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
    }
}

#[test]
fn another_shape_is_told_before_a_gap_whose_ways_on_do_not_lead_to_it() {
    let known = state(Phase::Streaming, 150);
    let shape = numbers("string");
    for (resnapshot, accept_gap) in [(true, None), (false, Some(Lsn(150)))] {
        let asked = Asked {
            resnapshot,
            accept_gap,
            ..asked(SnapshotMode::Initial, &shape)
        };
        let decided = decide(&asked, Recorded::State(&known), Some(&slot(151)), &system());
        let error = decided.expect_err("topics would be split").to_string();
        assert!(error.contains("asks for --numbers string"), "{error}");
    }
}

#[test]
fn a_snapshot_and_a_record_that_tells_none_take_any_shape() {
    let shape = numbers("string");
    let asked = asked(SnapshotMode::Initial, &shape);
    let copied = state(Phase::Copied, 100);
    let mut silent = state(Phase::Streaming, 150);
    silent.shape = Shape::default();
    for (recorded, slot, expected) in [
        (Recorded::State(&copied), None, Start::Snapshot),
        (Recorded::Nothing, None, Start::Snapshot),
        (Recorded::State(&silent), Some(&slot(140)), stream(150)),
    ] {
        let decided = decide(&asked, recorded, slot, &system());
        assert_eq!(decided.ok(), Some(expected), "{recorded:?}");
    }
}
