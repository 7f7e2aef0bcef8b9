//! What a person reads at the end.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::time::Duration;

use super::checkers::Violation;
use super::evidence::Evidence;
use super::nemesis::Fault;
use super::run::Settings;
use super::supervisor::{Life, Supervisor};

/// The figures of a run, and what was against the rules.
#[derive(Clone, Debug)]
pub struct Report {
    seed: u64,
    took: Duration,
    faults: BTreeMap<Fault, u64>,
    transactions: BTreeMap<&'static str, u64>,
    changes: usize,
    records: usize,
    replayed: usize,
    fetched: usize,
    copied: usize,
    rows: usize,
    lives: Vec<Life>,
    quarantined: u64,
    letters: usize,
    refusals: usize,
    gaps: usize,
    looks: usize,
    retained_most: u64,
    retained_at_rest: Option<u64>,
    unstreamed: u64,
    unstreamed_in_a_row: u64,
    violations: Vec<Violation>,
}

impl Report {
    pub(crate) fn new(
        settings: &Settings,
        took: Duration,
        faults: BTreeMap<Fault, u64>,
        supervisor: &Supervisor,
        evidence: &Evidence,
        violations: Vec<Violation>,
    ) -> Self {
        let mut transactions = BTreeMap::new();
        for committed in &evidence.history {
            *transactions.entry(committed.kind).or_default() += 1;
        }
        let mut different = HashSet::new();
        for entry in &evidence.log {
            different.insert((entry.table, &entry.key, entry.lsn, entry.seq));
        }
        Report {
            seed: settings.seed,
            took,
            faults,
            transactions,
            changes: evidence
                .history
                .iter()
                .map(|committed| committed.changes.len())
                .sum(),
            records: evidence.log.len(),
            replayed: evidence.log.len() - different.len(),
            fetched: evidence.log.iter().filter(|entry| entry.fetched).count(),
            copied: evidence
                .log
                .iter()
                .filter(|entry| entry.xid.is_none())
                .count(),
            rows: evidence.tables.len(),
            lives: supervisor.lives().to_vec(),
            quarantined: supervisor.quarantined(),
            letters: evidence.letters.len(),
            refusals: evidence.refusals.len(),
            // The first snapshot is one too.
            gaps: evidence.gaps.len().saturating_sub(1),
            looks: evidence.samples.len(),
            retained_most: evidence
                .samples
                .iter()
                .map(|sample| sample.retained)
                .max()
                .unwrap_or(0),
            retained_at_rest: evidence.server.retained_at_rest,
            unstreamed: supervisor.unstreamed(),
            unstreamed_in_a_row: supervisor.unstreamed_in_a_row(),
            violations,
        }
    }

    /// What was against the rules.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// How often each kind of fault came.
    pub fn faults(&self) -> &BTreeMap<Fault, u64> {
        &self.faults
    }

    /// How many changes were committed.
    pub fn changes(&self) -> usize {
        self.changes
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| bytes >> 20;
        writeln!(f, "torture: seed {}, {} s", self.seed, self.took.as_secs())?;
        writeln!(f, "\nfaults: {}", self.faults.values().sum::<u64>())?;
        for (fault, count) in &self.faults {
            writeln!(f, "  {count:6}  {}", fault.name())?;
        }
        let transactions: u64 = self.transactions.values().sum();
        writeln!(f, "\ntransactions committed: {transactions}")?;
        for (kind, count) in &self.transactions {
            writeln!(f, "  {count:6}  {kind}")?;
        }
        writeln!(
            f,
            "\nchanges written: {}\n\
             records in the topics: {}, of which {} are of snapshots, {} came again and {} were fetched\n\
             rows at the end: {}\n\
             client started: {} times, {} of them in vain, {} in a row at most; {} changes quarantined, {} dead letters; refused {} times; {} gaps mended\n\
             slot looked at: {} times; WAL retained: {} MB at most, {} MB at rest",
            self.changes,
            self.records,
            self.copied,
            self.replayed,
            self.fetched,
            self.rows,
            self.lives.len(),
            self.unstreamed,
            self.unstreamed_in_a_row,
            self.quarantined,
            self.letters,
            self.refusals,
            self.gaps,
            self.looks,
            megabytes(self.retained_most),
            megabytes(self.retained_at_rest.unwrap_or(0))
        )?;
        writeln!(f, "\nviolations: {}", self.violations.len())?;
        for violation in &self.violations {
            writeln!(f, "  {violation}")?;
        }
        if self.violations.is_empty() {
            return Ok(());
        }
        for (number, life) in self.lives.iter().enumerate() {
            let arguments = life.arguments.join(" ");
            writeln!(
                f,
                "\nclient {number} {arguments}: {}\n{}",
                life.end, life.stderr
            )?;
        }
        Ok(())
    }
}
