//! Where a stream begins: decided from the slot and from what is on record of the
//! last run, before anything is changed.
//!
//! # Why a slot alone is not enough
//!
//! A slot that exists says nothing of the snapshot, and one of the same name may have
//! been dropped and made again, or moved ahead by hand, while nobody looked: the stream
//! would go on with a silent gap. So the record of each run holds the position up to
//! which everything is durable, and it is written *before* that position is confirmed
//! to the server. A slot that stands further than the record was moved by somebody else.
//!
//! # A history that was wound back
//!
//! A backup that is restored, or a standby that is promoted, goes on under the same system
//! identifier, and has not written what the old server wrote last, or has written something
//! else in its place. Recovery to a point in time and promotion begin a new timeline, and
//! slots are in no base backup: both are seen. A copy of the data directory that was taken while the
//! server was down has the slot and the timeline. It is seen by its WAL's end, while that
//! lies before the recorded position. Once it has written past that, it is seen by
//! the slot's `restart_lsn`: the server has that on disk before it acts on it, so it only moves
//! ahead, over crashes too, and a slot that reaches further back than is on record is an older
//! one. (`confirmed_flush_lsn` would not do: a crash takes it back to the last checkpoint.)
//!
//! What cannot be seen is such a copy that is younger than the last `restart_lsn` on record,
//! which moves every quarter of a minute while the stream runs, on a server that has written
//! past the recorded position before the client came back to it.
//!
//! # Ways on behind a gap
//!
//! What a gap has lost cannot be had again, so a start refuses, and names two ways on. With
//! `--resnapshot` it begins anew: the snapshot sends every row, and a tombstone for every key
//! that the tables do not have any more. With `--accept-gap` it goes on from where the slot
//! stands, or from a new one, and every table is marked as stale. That one names the
//! position behind which changes are lost: in a unit file it accepts this gap and no later one.

use headwater_protocol::Lsn;

use crate::cli::SnapshotMode;
use crate::error::{Error, ErrorKind, Result};
use crate::source::slot::{Slot, System};
use crate::state::{Difference, Phase, Shape, State};

/// What is on record.
#[derive(Clone, Copy, Debug)]
pub enum Recorded<'a> {
    /// The sink keeps no record: the slot alone tells.
    Unkept,
    /// Nothing, though there is a place for it.
    Nothing,
    /// The newest state.
    State(&'a State),
}

/// What the command line asks for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// `--snapshot`
    pub snapshot: SnapshotMode,
    /// The name of the slot.
    pub slot: &'a str,
    /// The options that decide topics, keys and the form of values.
    pub shape: &'a Shape,
    /// `--resnapshot`
    pub resnapshot: bool,
    /// `--accept-gap`
    pub accept_gap: Option<Lsn>,
}

/// What to do first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Take a snapshot, whose slot becomes the stream's.
    Snapshot,
    /// Create the slot and stream what comes after.
    CreateSlot,
    /// Stream from the slot as it is.
    Stream {
        /// Where the stream began.
        consistent_point: Lsn,
        /// Everything before it is durable.
        position: Lsn,
    },
    /// Drop the slot if there is one, and go on as from [`Start::Snapshot`].
    Anew,
    /// Go on although changes are lost.
    BehindGap {
        /// They begin here.
        lost_after: Lsn,
        /// Where the slot stands; none where there is none that can be streamed from.
        slot: Option<Lsn>,
    },
}

/// Changes that no stream can bring any more.
struct Gap {
    /// What happened.
    message: String,
    /// What was delivered before it; unknown where nothing is on record.
    lost_after: Option<Lsn>,
    /// What else may help.
    advice: String,
}

/// Why a start is refused.
enum Refusal {
    Gap(Gap),
    Other(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Other(error)
    }
}

/// Decides, or refuses with [`ErrorKind::Gap`] where going on would lose changes or split
/// topics.
pub fn decide(
    asked: &Asked<'_>,
    recorded: Recorded<'_>,
    slot: Option<&Slot>,
    system: &System,
) -> Result<Start> {
    match judge(asked, recorded, slot, system) {
        Ok(start) => Ok(start),
        Err(Refusal::Other(error)) => Err(error),
        Err(Refusal::Gap(_)) if asked.resnapshot => Ok(Start::Anew),
        Err(Refusal::Gap(Gap {
            lost_after: Some(lost_after),
            ..
        })) if asked.accept_gap == Some(lost_after) => Ok(Start::BehindGap {
            lost_after,
            slot: slot
                .filter(|slot| !slot.has_lost_wal)
                .map(|slot| slot.confirmed_flush),
        }),
        Err(Refusal::Gap(gap)) => Err(gap.into_error()),
    }
}

fn judge(
    asked: &Asked<'_>,
    recorded: Recorded<'_>,
    slot: Option<&Slot>,
    system: &System,
) -> Result<Start, Refusal> {
    let (mode, name) = (asked.snapshot, asked.slot);
    if mode == SnapshotMode::Only {
        return match (recorded, slot) {
            (Recorded::Unkept | Recorded::Nothing, None) | (Recorded::Unkept, Some(_)) => {
                Ok(Start::Snapshot)
            }
            _ => Err(Refusal::Other(Error::failed(format!(
                "a stream of replication slot \"{name}\" exists: a copy could overwrite its newer records"
            ))
            .with_hint("Choose another --slot and --topic-prefix for the copy."))),
        };
    }
    let lost_after = match recorded {
        Recorded::State(state) => {
            let before = System {
                identifier: state.system_identifier.clone(),
                timeline: state.timeline,
            };
            check_server(&before, state.position, system, name)?;
            Some(state.position)
        }
        Recorded::Unkept | Recorded::Nothing => None,
    };
    if let Some(slot) = slot {
        check_wal(slot, name, lost_after)?;
        if let Recorded::State(state) = recorded {
            check_history(slot, name, state.position, state.restart_lsn)?;
        }
    }
    match (recorded, slot) {
        (Recorded::Unkept, Some(slot)) => Ok(from_slot(slot)),
        (Recorded::Unkept | Recorded::Nothing, None) if mode == SnapshotMode::Never => {
            Ok(Start::CreateSlot)
        }
        (Recorded::Unkept | Recorded::Nothing, None) => Ok(Start::Snapshot),
        (Recorded::Nothing, Some(slot)) if mode == SnapshotMode::Never => Ok(from_slot(slot)),
        (Recorded::Nothing, Some(_)) => Err(Refusal::Gap(Gap {
            message: format!(
                "replication slot \"{name}\" exists, but nothing is on record of its stream: \
                 whether a snapshot was taken is unknown"
            ),
            lost_after: None,
            advice: "To stream from where the slot stands, add --snapshot never.".to_owned(),
        })),
        (Recorded::State(state), slot) => continue_stream(asked, state, slot),
    }
}

fn continue_stream(
    asked: &Asked<'_>,
    state: &State,
    slot: Option<&Slot>,
) -> Result<Start, Refusal> {
    let (mode, name) = (asked.snapshot, asked.slot);
    match (state.phase, slot) {
        (Phase::Copied, None) if mode != SnapshotMode::Never => Ok(Start::Snapshot),
        (_, None) => Err(Gap::of_slot_gone(name, state.position).into()),
        (Phase::Copied, Some(slot)) if slot.confirmed_flush != state.consistent_point => {
            Err(Gap::after(
                state.position,
                format!(
                    "replication slot \"{name}\" stands at {}, but the snapshot ends at {}",
                    slot.confirmed_flush, state.consistent_point
                ),
            )
            .into())
        }
        (Phase::Streaming, Some(slot)) if slot.confirmed_flush > state.position => {
            Err(Gap::of_slot_moved(name, slot, state.position).into())
        }
        (_, Some(_)) => {
            check_shape(&state.shape, asked)?;
            Ok(Start::Stream {
                consistent_point: state.consistent_point,
                position: state.position,
            })
        }
    }
}

impl From<Gap> for Refusal {
    fn from(gap: Gap) -> Self {
        Refusal::Gap(gap)
    }
}

impl Gap {
    fn after(lost_after: Lsn, message: String) -> Self {
        Gap {
            message,
            lost_after: Some(lost_after),
            advice: String::new(),
        }
    }

    fn of_slot_gone(name: &str, position: Lsn) -> Self {
        let message = format!(
            "replication slot \"{name}\" is gone: changes after {position} are lost to the stream"
        );
        Gap::after(position, message)
    }

    fn of_slot_moved(name: &str, slot: &Slot, position: Lsn) -> Self {
        let message = format!(
            "replication slot \"{name}\" stands at {}, but only changes up to {position} are on \
             record as delivered: it was made again or moved ahead",
            slot.confirmed_flush
        );
        Gap::after(position, message)
    }

    fn into_error(self) -> Error {
        let mut hint = "To begin anew with a snapshot, which mends the topics, start with \
                        --resnapshot."
            .to_owned();
        if let Some(position) = self.lost_after {
            hint.push_str(&format!(
                " To go on without the changes that are lost, start with --accept-gap {position}."
            ));
        }
        if !self.advice.is_empty() {
            hint.push(' ');
            hint.push_str(&self.advice);
        }
        Error::new(ErrorKind::Gap, self.message).with_hint(hint)
    }
}

/// Only where the stream goes on: a snapshot sends every row in the form that is asked for.
fn check_shape(shape: &Shape, asked: &Asked<'_>) -> Result<()> {
    let Some(Difference {
        recorded,
        asked: new,
    }) = shape.difference(asked.shape)
    else {
        return Ok(());
    };
    let name = asked.slot;
    Err(Error::new(
        ErrorKind::Gap,
        format!(
            "the stream of slot \"{name}\" was begun with {recorded}, this start asks for {new}: \
         its topics would be split"
        ),
    )
    .with_hint(format!(
        "Start with {recorded}, or run headwater drop --slot {name}, then headwater stream, which \
         begins with a snapshot; what it does not write to any more stays as it is."
    )))
}

fn from_slot(slot: &Slot) -> Start {
    Start::Stream {
        consistent_point: slot.confirmed_flush,
        position: slot.confirmed_flush,
    }
}

fn check_server(before: &System, position: Lsn, now: &System, name: &str) -> Result<(), Gap> {
    if before.identifier != now.identifier {
        let message = format!(
            "the stream of slot \"{name}\" came from the server with system identifier {}, this one has {}",
            before.identifier, now.identifier
        );
        return Err(Gap {
            advice: "Or connect to that server, or use another --slot and --topic-prefix for this \
                     one."
                .to_owned(),
            ..Gap::after(position, message)
        });
    }
    if before.timeline != now.timeline {
        let message = format!(
            "the stream of slot \"{name}\" followed timeline {}, the server is on {}: \
             a standby was promoted or a backup restored, and changes may differ",
            before.timeline, now.timeline
        );
        return Err(Gap::after(position, message));
    }
    Ok(())
}

fn check_wal(slot: &Slot, name: &str, lost_after: Option<Lsn>) -> Result<(), Gap> {
    if !slot.has_lost_wal {
        return Ok(());
    }
    Err(Gap {
        message: format!(
            "replication slot \"{name}\" has lost WAL that it needs: the changes in it are gone"
        ),
        lost_after,
        advice: "A higher max_slot_wal_keep_size prevents it.".to_owned(),
    })
}

/// That the server has what the stream has seen of it.
fn check_history(
    slot: &Slot,
    name: &str,
    position: Lsn,
    restart_lsn: Option<Lsn>,
) -> Result<(), Gap> {
    let seen = match (slot.wal_end, slot.restart_lsn, restart_lsn) {
        (Some(wal_end), _, _) if wal_end < position => format!(
            "the server's WAL ends at {wal_end}, but changes up to {position} are on record as \
             delivered"
        ),
        (_, Some(now), Some(before)) if now < before => {
            format!("replication slot \"{name}\" reaches back to {now}, but had moved to {before}")
        }
        _ => return Ok(()),
    };
    let message = format!(
        "{seen}: an older copy of the server was restored, and what it wrote since is another \
         history"
    );
    Err(Gap::after(position, message))
}

/// That server and slot are still those of this stream, after a connection broke. No option
/// is looked at: what they say is for a start.
pub fn check_same(
    before: &System,
    system: &System,
    slot: Option<&Slot>,
    name: &str,
    position: Lsn,
) -> Result<()> {
    let same = check_server(before, position, system, name);
    let checked = same.and_then(|()| check_unmoved(slot, name, position));
    checked.map_err(Gap::into_error)
}

fn check_unmoved(slot: Option<&Slot>, name: &str, position: Lsn) -> Result<(), Gap> {
    match slot {
        None => Err(Gap::of_slot_gone(name, position)),
        Some(slot) if slot.confirmed_flush > position => {
            Err(Gap::of_slot_moved(name, slot, position))
        }
        Some(slot) => check_wal(slot, name, Some(position))
            .and_then(|()| check_history(slot, name, position, None)),
    }
}

#[cfg(test)]
mod tests {
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
        decide(&asked(mode, &numbers("exact")), recorded, slot, &system())
            .map_err(|error| error.kind())
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
        for (resnapshot, accept_gap) in [(true, None), (false, Some(Lsn(150)))] {
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
}
