//! What a start would find now: its slot and what is on record of it, transactions that it would
//! wait for, and the WAL that slots keep.

use std::time::Duration;

use super::check::Check;
use super::examination::Examination;
use super::finding::{Cure, Finding};
pub(super) use super::sample::Sample;
use super::sample::{SlotSize, Transaction};
use crate::cli::{SinkKind, StreamOptions};
use crate::error::Result;
use crate::source::slot::{Slot, System, raised_keep_size};
use crate::source::sql;
use crate::start::{Recorded, Start};
use crate::state::{self, StateKey};
use crate::stream;
use crate::terminal::{bytes, duration};

pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "slot",
        title: "the slot and what is on record of it fit together: a start loses no change",
        cure: "`--resnapshot` or `--accept-gap`, where changes are lost already",
        look: slot,
    },
    Check {
        id: "open_transactions",
        title: "no transaction stays open that the creation of a slot would wait for",
        cure: "`pg_terminate_backend`, or `ROLLBACK PREPARED`",
        look: open_transactions,
    },
    Check {
        id: "retained_wal",
        title: "no slot keeps WAL for nobody, nor nears the limit behind which it is lost",
        cure: "`pg_drop_replication_slot`, a higher `max_slot_wal_keep_size` or `--max-retained-wal`",
        look: retained_wal,
    },
];

/// Looks at what is looked at twice, for the first time.
pub(super) fn first_sample(exam: &mut Examination<'_>) -> Result<()> {
    exam.first = Some(Sample::take(exam.connection()?)?);
    Ok(())
}

/// And for the second, when enough time has passed.
fn second_sample<'e>(exam: &'e mut Examination<'_>) -> Result<(&'e Sample, &'e Sample)> {
    exam.facts()?;
    if exam.second.is_none() {
        if let Some(first) = &exam.first {
            first.wait(exam.doctor.sample, exam.stop)?;
        }
        exam.second = Some(Sample::take(exam.connection()?)?);
    }
    match (&exam.first, &exam.second) {
        (Some(first), Some(second)) => Ok((first, second)),
        _ => Err(super::examination::unknown(
            "the server was not looked at twice",
        )),
    }
}

fn slot(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let (options, name) = (exam.options, &exam.options.slot);
    let slot = match exam.slot() {
        Ok(slot) => slot,
        // A slot of this name that is none of a stream's.
        Err(error) if error.hint().is_some() && exam.facts.is_some() => {
            let cure = Cure::option(format!("--slot {name}_2"));
            return Ok(vec![Finding::refusal(&error).cured_by(cure)]);
        }
        Err(error) => return Err(error),
    };
    if let Some(pid) = slot.as_ref().and_then(|slot| slot.active_pid) {
        let found = format!("slot \"{name}\" is streamed from, by server process {pid}");
        return Ok(vec![Finding::ok(found)]);
    }
    let Some(system) = &exam.system else {
        let why = "without a replication connection it is not known which server this is";
        return Ok(vec![Finding::skipped(why)]);
    };
    let state = match options.sink {
        SinkKind::Stdout => None,
        SinkKind::Kafka => {
            let key = StateKey {
                prefix: options.topic_prefix.clone(),
                database: exam.facts()?.database.clone(),
                slot: name.clone(),
            };
            let (cluster, stop) = (exam.cluster()?, exam.stop);
            Some(match cluster.has_state() {
                false => None,
                true => state::read(cluster.options(), &key, &mut || stop.check())?,
            })
        }
    };
    let recorded = match &state {
        None => Recorded::Unkept,
        Some(None) => Recorded::Nothing,
        Some(Some(state)) => Recorded::State(state),
    };
    Ok(vec![decided(options, recorded, slot.as_ref(), system)])
}

/// What a start does, or why it refuses. `--resnapshot` is the cure of what is lost, where it does
/// not contradict another option, and none of options that do not fit to those on record.
fn decided(
    options: &StreamOptions,
    recorded: Recorded<'_>,
    slot: Option<&Slot>,
    system: &System,
) -> Finding {
    let error = match stream::decide_by(options, recorded, slot, system) {
        Ok(start) => return Finding::ok(would(&start, &options.slot)),
        Err(error) => error,
    };
    let anew = StreamOptions {
        resnapshot: true,
        ..options.clone()
    };
    let would_begin = stream::check_options(&anew)
        .and_then(|()| stream::decide_by(&anew, recorded, slot, system))
        .is_ok();
    let finding = Finding::refusal(&error);
    match would_begin {
        true => finding
            .cured_by(Cure::option("--resnapshot"))
            .with_hint(error.hint().unwrap_or_default()),
        false => finding,
    }
}

fn would(start: &Start, name: &str) -> String {
    match start {
        Start::Snapshot => format!("a start takes a snapshot and makes slot \"{name}\""),
        Start::CreateSlot => format!("a start makes slot \"{name}\", without a snapshot"),
        Start::Stream { position, .. } => {
            format!("a start goes on with slot \"{name}\" from {position}")
        }
        Start::Anew => "changes are lost: a start begins anew, as --resnapshot says".to_owned(),
        Start::BehindGap { lost_after, .. } => {
            format!("changes after {lost_after} are lost, and accepted by --accept-gap")
        }
    }
}

/// At most so many transactions have a line each.
const LINES: usize = 5;

fn open_transactions(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    exam.facts()?;
    let is_new = exam.slot().is_ok_and(|slot| slot.is_none());
    if !is_new {
        let found = "the slot is there: a start waits for no transaction";
        return Ok(vec![Finding::ok(found)]);
    }
    let shows_queries = exam.doctor.show_queries;
    let (first, second) = second_sample(exam)?;
    let staying: Vec<&Transaction> = second.staying_since(first);
    if staying.is_empty() {
        let found = "no transaction stays open that the creation of a slot would wait for";
        return Ok(vec![Finding::ok(found)]);
    }
    let line = |transaction: &&Transaction| {
        let finding = Finding::warning(format!(
            "the creation of a slot waits for {}",
            transaction.described(shows_queries)
        ));
        finding.cured_by(Cure::sql_in(&transaction.database, transaction.end()))
    };
    let mut findings: Vec<Finding> = staying.iter().take(LINES).map(line).collect();
    if staying.len() > LINES {
        let more = staying.len() - LINES;
        findings.push(Finding::warning(format!("and for {more} more")));
    }
    Ok(findings)
}

/// A slot that nobody reads from and that keeps less is of no concern yet: a client may be about
/// to start.
const IDLE_BYTES: u64 = 1 << 30;

/// In percent of what `--max-retained-wal` allows, or of what is left until the slot is lost.
const NEAR_PERCENT: u64 = 70;

fn retained_wal(exam: &mut Examination<'_>) -> Result<Vec<Finding>> {
    let (own, limit) = (exam.options.slot.clone(), exam.options.max_retained_wal);
    let (first, second) = second_sample(exam)?;
    if second.slots.is_empty() {
        return Ok(vec![Finding::ok("no replication slot keeps WAL")]);
    }
    let judged = second.slots.iter().map(|slot| {
        let whose = match slot.name == own {
            true => Whose::Own(limit),
            false => Whose::Other,
        };
        judge(slot, second.growth(first, &slot.name), whose)
    });
    Ok(judged.collect())
}

/// Whose a slot is.
#[derive(Clone, Copy)]
enum Whose {
    /// The stream's, which lets it keep so much (`--max-retained-wal`).
    Own(Option<u64>),
    /// Somebody else's.
    Other,
}

/// `growth` is in bytes a second.
fn judge(slot: &SlotSize, growth: u64, whose: Whose) -> Finding {
    let (name, retained, left) = (&slot.name, slot.retained, slot.left);
    let mut keeps = format!("slot \"{name}\" keeps {} of WAL", bytes(retained));
    if growth > 0 {
        keeps.push_str(&format!(", {} more a second", bytes(growth)));
        if let Some(left) = left {
            let seconds = Duration::from_secs(left / growth);
            keeps.push_str(&format!(": it is lost in {}", duration(seconds)));
        }
    }
    let is_near = |limit: u64| retained.saturating_mul(100) >= limit.saturating_mul(NEAR_PERCENT);
    if slot.status == "lost" {
        let finding = Finding::warning(format!("slot \"{name}\" has lost WAL that it needs"));
        return match whose {
            // What becomes of it is said where a start is decided.
            Whose::Own(_) => finding,
            Whose::Other => finding.cured_by(dropping(name)),
        };
    }
    if let Whose::Own(Some(limit)) = whose
        && is_near(limit)
    {
        let doubled = (retained >> 20).max(1).saturating_mul(2);
        return Finding::warning(format!(
            "{keeps}, and --max-retained-wal is {}",
            bytes(limit)
        ))
        .cured_by(Cure::option(format!("--max-retained-wal {doubled}MB")));
    }
    let is_over = slot.status == "unreserved";
    if is_over || left.is_some_and(|left| is_near(retained + left)) {
        let raised = raised_keep_size(retained, slot.segment);
        let limit = match is_over {
            true => {
                "more than max_slot_wal_keep_size: the next checkpoint removes WAL that it needs"
            }
            false => "and max_slot_wal_keep_size is near",
        };
        return Finding::warning(format!("{keeps}, {limit}"))
            .cured_by(Cure::reloaded(
                "max_slot_wal_keep_size",
                &format!("'{raised}MB'"),
            ))
            .with_hint("Where the disk can spare it. Or have the slot's client catch up.");
    }
    if slot.is_active || retained < IDLE_BYTES {
        return Finding::ok(keeps);
    }
    let finding = Finding::warning(format!("{keeps}, and nobody reads from it"));
    match whose {
        Whose::Own(_) => {
            finding.with_hint("Start the stream. Only where it is not to go on: headwater drop.")
        }
        Whose::Other => finding
            .cured_by(dropping(name))
            .with_hint("Only where its client does not come back: it would miss changes."),
    }
}

fn dropping(slot: &str) -> Cure {
    Cure::sql(format!(
        "SELECT pg_catalog.pg_drop_replication_slot({});",
        sql::literal(slot).trim_start()
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::Parser;
    use headwater_protocol::Lsn;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::doctor::finding::Severity;
    use crate::state::{Phase, Runs, Shape, StaleTables, State};

    const GB: u64 = 1 << 30;

    fn slot(retained: u64, left: Option<u64>, status: &str) -> SlotSize {
        SlotSize {
            name: "s".to_owned(),
            is_active: false,
            status: status.to_owned(),
            retained,
            left,
            segment: 16 << 20,
        }
    }

    fn options(arguments: &[&str]) -> StreamOptions {
        let line = ["headwater", "stream", "-b", "one:9092"];
        let line = line.iter().chain(arguments);
        let Command::Stream(options) = Cli::try_parse_from(line).unwrap().command else {
            panic!("not the stream command");
        };
        *options
    }

    #[test]
    fn to_begin_anew_is_the_cure_of_what_is_lost_alone() {
        let system = System {
            identifier: "7".to_owned(),
            timeline: 1,
        };
        let state = State {
            system_identifier: "7".to_owned(),
            timeline: 1,
            phase: Phase::Streaming,
            consistent_point: Lsn(100),
            position: Lsn(150),
            restart_lsn: None,
            shape: Shape::asked(&options(&[])),
            stale: StaleTables::default(),
            runs: Runs::default(),
        };
        let slot = Slot {
            active_pid: None,
            confirmed_flush: Lsn(150),
            restart_lsn: None,
            retained_wal_bytes: 0,
            safe_wal_bytes: None,
            has_lost_wal: false,
            wal_end: Some(Lsn(1000)),
        };
        let avro = &["--format", "avro", "--registry", "http://one:8081"][..];
        let never = &["--snapshot", "never"][..];
        for (arguments, slot, cure, says) in [
            (&[][..], None, Some("--resnapshot"), "--accept-gap 0/96"),
            (avro, None, None, "Start with --format json"),
            (avro, Some(&slot), None, "Start with --format json"),
            (never, None, None, "--accept-gap 0/96"),
        ] {
            let recorded = Recorded::State(&state);
            let finding = decided(&options(arguments), recorded, slot, &system);
            assert_eq!(finding.severity, Severity::Fail, "{arguments:?}");
            let text = finding.cure.map(|cure| cure.text);
            assert_eq!(text.as_deref(), cure, "{arguments:?}");
            let hint = finding.hint.unwrap_or_default();
            assert!(hint.contains(says), "{hint}");
        }
    }

    #[test]
    fn a_slot_says_what_it_keeps_and_when_it_is_lost() {
        let slot = slot(GB / 2, Some(GB), "reserved");
        let finding = judge(&slot, 1 << 20, Whose::Other);
        assert_eq!(finding.severity, Severity::Ok);
        assert_eq!(
            finding.found,
            "slot \"s\" keeps 512 MB of WAL, 1.0 MB more a second: it is lost in 17 min 4 s"
        );
    }

    #[test]
    fn what_nobody_reads_from_is_to_be_dropped_and_ones_own_is_to_be_started() {
        let forgotten = slot(3 * GB, None, "extended");
        let other = judge(&forgotten, 0, Whose::Other);
        assert_eq!(other.severity, Severity::Warning);
        let cure = other.cure.map(|cure| cure.text);
        let drop = "SELECT pg_catalog.pg_drop_replication_slot('s');";
        assert_eq!(cure.as_deref(), Some(drop));
        let own = judge(&forgotten, 0, Whose::Own(None));
        assert_eq!((own.severity, own.cure), (Severity::Warning, None));
        let read = SlotSize {
            is_active: true,
            ..forgotten
        };
        assert_eq!(judge(&read, 0, Whose::Other).severity, Severity::Ok);
    }

    #[test]
    fn a_limit_that_is_near_comes_with_a_higher_one() {
        for (slot, whose, cure) in [
            (
                slot(3 * GB, Some(GB), "extended"),
                Whose::Other,
                "ALTER SYSTEM SET max_slot_wal_keep_size = '6144MB';\nSELECT pg_reload_conf();",
            ),
            (
                slot(GB, Some(0), "unreserved"),
                Whose::Own(None),
                "ALTER SYSTEM SET max_slot_wal_keep_size = '2048MB';\nSELECT pg_reload_conf();",
            ),
            // Twice as much would be no whole segment, and as good as nothing.
            (
                slot(7 << 20, Some(0), "unreserved"),
                Whose::Other,
                "ALTER SYSTEM SET max_slot_wal_keep_size = '39MB';\nSELECT pg_reload_conf();",
            ),
            (
                slot(3 * GB, None, "extended"),
                Whose::Own(Some(4 * GB)),
                "--max-retained-wal 6144MB",
            ),
        ] {
            let finding = judge(&slot, 0, whose);
            assert_eq!(finding.severity, Severity::Warning);
            assert_eq!(finding.cure.map(|cure| cure.text).as_deref(), Some(cure));
        }
    }
}
