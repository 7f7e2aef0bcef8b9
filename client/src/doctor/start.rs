//! What a start would find now: its slot and what is on record of it, transactions that it would
//! wait for, and the WAL that slots keep.

use super::check::Check;
use super::examination::Examination;
use super::finding::{Cure, Finding};
pub(super) use super::sample::Sample;
use super::sample::{SlotSize, Transaction};
use super::words::count;
use crate::cli::SinkKind;
use crate::error::{ErrorKind, Result};
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
        cure: "`pg_drop_replication_slot`, or `--max-retained-wal`",
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
    let decided = stream::decide_by(options, recorded, slot.as_ref(), system);
    Ok(vec![match decided {
        Ok(start) => Finding::ok(would(&start, name)),
        Err(error) if error.kind() == ErrorKind::Gap => {
            let hint = error.hint().unwrap_or_default().to_owned();
            Finding::refusal(&error)
                .cured_by(Cure::option("--resnapshot"))
                .with_hint(hint)
        }
        Err(error) => Finding::refusal(&error),
    }])
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
    let mut findings = Vec::new();
    for slot in &second.slots {
        let growth = second.growth(first, &slot.name);
        let limit = limit.filter(|_| slot.name == own);
        if let Some(finding) = judge(slot, growth, limit, slot.name == own) {
            findings.push(finding);
        }
    }
    let all: u64 = second
        .slots
        .iter()
        .map(|slot| slot.retained)
        .max()
        .unwrap_or(0);
    let slots = count(second.slots.len(), "slot keeps", "slots keep");
    let fastest = second
        .slots
        .iter()
        .map(|slot| second.growth(first, &slot.name))
        .max();
    if findings.is_empty() {
        findings.push(Finding::ok(format!(
            "{slots} {} of WAL at most, {} more a second",
            bytes(all),
            bytes(fastest.unwrap_or(0))
        )));
    }
    Ok(findings)
}

/// None where nothing is wrong with it.
fn judge(slot: &SlotSize, growth: u64, limit: Option<u64>, is_own: bool) -> Option<Finding> {
    let SlotSize {
        name,
        retained,
        left,
        ..
    } = slot;
    let keeps = format!("slot \"{name}\" keeps {} of WAL", bytes(*retained));
    let more = match (growth, left) {
        (0, _) => String::new(),
        (growth, None) => format!(", {} more a second", bytes(growth)),
        (growth, Some(left)) => format!(
            ", {} more a second: it is lost in {}",
            bytes(growth),
            duration(std::time::Duration::from_secs(left / growth))
        ),
    };
    let drop = Cure::sql(format!(
        "SELECT pg_catalog.pg_drop_replication_slot({});",
        sql::literal(name)
    ));
    if slot.status == "lost" {
        let found = format!("slot \"{name}\" has lost WAL that it needs");
        // What becomes of the stream's own is said by the check of the slot.
        return (!is_own).then(|| Finding::warning(found).cured_by(drop));
    }
    let is_near = |limit: u64| retained.saturating_mul(100) >= limit.saturating_mul(NEAR_PERCENT);
    if let Some(limit) = limit.filter(|limit| is_near(*limit)) {
        let found = format!("{keeps}{more}, and --max-retained-wal is {}", bytes(limit));
        return Some(Finding::warning(found).cured_by(Cure::option(format!(
            "--max-retained-wal {}MB",
            retained.saturating_mul(2).max(1 << 20) >> 20
        ))));
    }
    if slot.status == "unreserved" || left.is_some_and(|left| is_near(retained + left)) {
        return Some(
            Finding::warning(format!("{keeps}{more}, and max_slot_wal_keep_size is near"))
                .with_hint("Have its client catch up, or raise max_slot_wal_keep_size."),
        );
    }
    if !slot.is_active && *retained >= IDLE_BYTES {
        let finding = Finding::warning(format!("{keeps}{more}, and nobody reads from it"));
        let hint = match is_own {
            true => "Start the stream. Only where it is not to go on: headwater drop.",
            false => "Only where its client does not come back: that would lose changes.",
        };
        return Some(match is_own {
            true => finding.with_hint(hint),
            false => finding.cured_by(drop).with_hint(hint),
        });
    }
    None
}
