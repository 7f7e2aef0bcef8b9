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

mod gap;

use headwater_protocol::Lsn;

use self::gap::Gap;
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
    let gap = match judge(asked, recorded, slot, system) {
        Ok(start) => return Ok(start),
        Err(Refusal::Other(error)) => return Err(error),
        Err(Refusal::Gap(gap)) => gap,
    };
    // First, since no way on leads to another form: a command that was pasted without the stream's own
    // options would split its topics.
    if let Recorded::State(state) = recorded {
        check_shape(&state.shape, asked)?;
    }
    match gap.lost_after {
        _ if asked.resnapshot => Ok(Start::Anew),
        Some(lost_after) if asked.accept_gap == Some(lost_after) => Ok(Start::BehindGap {
            lost_after,
            slot: slot
                .filter(|slot| !slot.has_lost_wal)
                .map(|slot| slot.confirmed_flush),
        }),
        _ => Err(gap.into_error()),
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

/// Where topics have records of the stream: the first snapshot sends all rows in whatever form is asked
/// for.
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
mod tests;
