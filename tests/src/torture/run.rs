//! A run: writers, client and nemesis together, then rest, then the checkers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::arena::{Arena, Format, NAME};
use super::checkers::{self, Violation};
use super::evidence::{Evidence, Refusal, Server, Trouble};
use super::history::History;
use super::log;
use super::nemesis::{Fault, Schedule, Step};
use super::proxy::Tamper;
use super::report::Report;
use super::supervisor::Supervisor;
use super::witness::{Witness, now};
use super::workload::tables::Table;
use super::workload::{Rows, Writer, Writers};
use crate::Random;
use crate::client::Client;
use crate::keeper::Exit;

/// How long everything may take to be delivered once nothing is out of order.
const RECOVERY: Duration = Duration::from_secs(240);

/// How long the comparison at the end may take.
const VERIFIED_WITHIN: Duration = Duration::from_secs(120);

/// How long the server may keep WAL that nobody needs: it finds out with its next record of
/// running transactions, which a checkpoint writes.
const RETENTION: Duration = Duration::from_secs(60);

/// A run of this length has time for outages of half a minute.
const LONG: Duration = Duration::from_secs(300);

/// Between two looks at the client.
const LOOK: Duration = Duration::from_millis(20);

/// Lines of the server's log that tell of a crash.
const CRASHES: [&str; 3] = ["was terminated by signal", "PANIC:", "reinitializing"];

/// The line of the server's log that each start leaves.
const STARTED: &str = "database system is ready to accept connections";

/// What to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Decides what is written and what goes wrong.
    pub seed: u64,
    /// What keys and values are made of.
    pub format: Format,
    /// How long faults go on.
    pub duration: Duration,
    /// How many steps there are at least, however long they take.
    pub steps: usize,
    /// Writers at once.
    pub writers: u32,
    /// Between two transactions of a writer. What this makes is to be far below what the
    /// pipeline carries: it is disturbed, not outrun, and a run of minutes fits in memory.
    pub pause: Duration,
    /// Rows of a huge transaction.
    pub huge_rows: u64,
    /// Kinds of faults.
    pub faults: Vec<Fault>,
    /// Alters what the client sends to the server.
    pub tamper: Option<Tamper>,
    /// Whether each step is printed as it comes.
    pub verbose: bool,
}

impl Settings {
    /// Every kind of fault, for so long.
    pub fn new(seed: u64, duration: Duration) -> Self {
        Settings {
            seed,
            format: Format::Json,
            duration,
            steps: 0,
            writers: 3,
            pause: Duration::from_millis(10),
            huge_rows: 30_000,
            faults: Fault::ALL.to_vec(),
            tamper: None,
            verbose: false,
        }
    }
}

/// A run that is under way.
pub(crate) struct Run {
    pub(crate) settings: Settings,
    pub(crate) arena: Arena,
    pub(crate) supervisor: Supervisor,
    pub(crate) history: History,
    /// Writes what the nemesis writes.
    pub(crate) nemesis: Writer,
    pub(crate) random: Random,
    pub(crate) refusals: Vec<Refusal>,
    /// How often the server was started.
    pub(crate) server_starts: usize,
    /// Rows of [`Table::Poisoned`] so far.
    pub(crate) poisoned: u64,
    begin: Instant,
    violations: Vec<Violation>,
    troubles: Vec<Trouble>,
    faults: BTreeMap<Fault, u64>,
}

/// Runs to the end, and hands over what was found beside the report.
///
/// # Panics
///
/// If the harness cannot go on.
pub fn run(settings: Settings) -> (Report, Evidence) {
    let arena = Arena::new(settings.format);
    if let Some(tamper) = settings.tamper {
        arena.to_postgres.tamper(tamper);
    }
    let mut random = Random::new(settings.seed);
    let history = History::default();
    let conninfo = arena.postgres.local_conninfo(NAME);
    let writers = Writers::start(&settings, &conninfo, &mut random, &history);
    let witness = Witness::start(conninfo.clone());
    let mut run = Run {
        supervisor: Supervisor::new(arena.arguments()),
        nemesis: Writer::new(settings.writers, conninfo, random.fork(), history.clone()),
        arena,
        history,
        random,
        refusals: Vec::new(),
        server_starts: 1,
        poisoned: 0,
        begin: Instant::now(),
        violations: Vec::new(),
        troubles: Vec::new(),
        faults: BTreeMap::new(),
        settings,
    };
    run.rage();
    let rows = writers.stop();
    if run.recover() {
        run.verify();
    }
    run.conclude(rows, witness)
}

impl Run {
    /// Faults until the time is up, or nothing goes on any more.
    fn rage(&mut self) {
        let long = self.settings.duration >= LONG;
        let schedule = Schedule::new(self.settings.seed, &self.settings.faults, long);
        let from = now();
        if !self.recover() {
            return;
        }
        self.troubles.push(Trouble { from, to: now() });
        let begin = Instant::now();
        for (number, step) in schedule.enumerate() {
            let is_over = begin.elapsed() >= self.settings.duration;
            if is_over && number >= self.settings.steps || !self.step(&step) {
                return;
            }
        }
    }

    fn step(&mut self, step: &Step) -> bool {
        self.pass(step.pause);
        if self.settings.verbose {
            println!("{:7.1} s  {step}", self.begin.elapsed().as_secs_f32());
        }
        let from = now();
        self.inject(step.fault);
        match step.overlay {
            None => self.pass(step.lasts),
            Some(overlay) => {
                self.pass(step.lasts / 4);
                self.inject(overlay);
                self.pass(step.lasts / 2);
                overlay.heal(self);
                self.pass(step.lasts / 4);
            }
        }
        step.fault.heal(self);
        self.troubles.push(Trouble { from, to: now() });
        self.supervisor.troubled();
        !step.recovers || self.recover()
    }

    fn inject(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
        self.supervisor.troubled();
        fault.inject(self);
        self.supervisor.troubled();
    }

    /// Lets time pass.
    fn pass(&mut self, time: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < time {
            self.supervisor.tend();
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until all that is committed now is confirmed. That it never is, is a violation
    /// of its own.
    pub(crate) fn recover(&mut self) -> bool {
        let sql = self.arena.sql();
        let end = sql.value("select pg_current_wal_insert_lsn()");
        let reached = format!(
            "select coalesce(confirmed_flush_lsn, '0/0') >= '{end}', confirmed_flush_lsn, active \
             from pg_replication_slots where slot_name = '{NAME}'"
        );
        let begin = Instant::now();
        loop {
            self.supervisor.tend();
            let slot = sql.rows(&reached);
            let first = slot.first().and_then(|row| row[0].as_deref());
            // A slot that was just made stands far enough, whoever streams from it.
            if first == Some("t") && self.supervisor.streams() {
                return true;
            }
            if begin.elapsed() > RECOVERY {
                let stderr = self.supervisor.client().map(|client| client.stderr());
                let what = format!(
                    "{end} is not delivered after {} s, the slot is {slot:?}; the client said:\n{}",
                    RECOVERY.as_secs(),
                    stderr.unwrap_or_default()
                );
                self.complain("goes on", what);
                return false;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// One more witness, who looks with other eyes: what `headwater verify` says at rest.
    fn verify(&mut self) {
        let ended = Client::start(self.arena.verification()).wait_or_kill(VERIFIED_WITHIN);
        if ended.exit != Exit::Code(0) {
            let (exit, stdout, stderr) = (ended.exit, ended.stdout, ended.stderr);
            let what = format!("it ended with {exit:?} and said:\n{stdout}\n{stderr}");
            self.complain("headwater verify", what);
        }
    }

    /// How many records the topics hold.
    pub(crate) fn written(&self) -> u64 {
        Table::ALL
            .iter()
            .map(|table| self.arena.kafka.written(table.name()))
            .sum()
    }

    /// Takes what the nemesis wrote as done, or notes why it was not.
    pub(crate) fn expect(&mut self, written: Result<bool, String>) {
        if let Err(error) = written {
            self.complain("workload", error);
        }
    }

    /// Notes a violation.
    pub(crate) fn complain(&mut self, checker: &'static str, what: impl Into<String>) {
        self.violations.push(Violation::new(checker, what));
    }

    /// At rest: gathers everything and has it checked.
    fn conclude(mut self, rows: Result<Rows, String>, witness: Witness) -> (Report, Evidence) {
        let retained_at_rest = self.retained_at_rest();
        self.supervisor.stop();
        let samples = witness.finish();
        let evidence = Evidence {
            history: self.history.to_vec(),
            log: log::read(&self.arena),
            letters: log::letters(&self.arena),
            tables: log::tables(&self.arena.sql()),
            gaps: self.supervisor.gaps().to_vec(),
            troubles: std::mem::take(&mut self.troubles),
            samples,
            refusals: std::mem::take(&mut self.refusals),
            server: Server {
                crashes: self.arena.postgres.logged(&CRASHES),
                starts: self.arena.postgres.logged(&[STARTED]).len(),
                starts_due: self.server_starts,
                retained_at_rest,
            },
        };
        match rows {
            Ok(mut rows) => {
                rows.extend(self.nemesis.into_rows());
                self.violations.extend(check_model(&rows, &evidence));
            }
            Err(error) => self.violations.push(Violation::new("workload", error)),
        }
        let mut violations = self.violations;
        violations.extend_from_slice(self.supervisor.violations());
        violations.extend(checkers::check(&evidence));
        let report = Report::new(
            &self.settings,
            self.begin.elapsed(),
            self.faults,
            &self.supervisor,
            &evidence,
            violations,
        );
        (report, evidence)
    }

    /// What the server keeps for the slot once it knows that nobody needs more.
    fn retained_at_rest(&mut self) -> Option<u64> {
        let sql = self.arena.sql();
        let query = format!(
            "select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn)::bigint \
             from pg_replication_slots where slot_name = '{NAME}'"
        );
        let begin = Instant::now();
        loop {
            self.supervisor.tend();
            sql.run("checkpoint");
            let retained: Option<u64> = sql
                .rows(&query)
                .first()
                .and_then(|row| row[0].as_deref()?.parse().ok());
            let is_little =
                retained.is_some_and(|bytes| bytes <= checkers::server::RETAINED_AT_REST_MAX);
            if is_little || begin.elapsed() > RETENTION {
                return retained;
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// The tables are what the writers made of them: otherwise nothing else here means anything.
fn check_model(rows: &Rows, evidence: &Evidence) -> Vec<Violation> {
    let tables = evidence.tables.iter();
    let there: BTreeMap<(Table, &str), u64> = tables
        .filter(|((table, _), _)| *table != Table::Ledger)
        .map(|((table, key), row)| ((*table, &**key), row.sequence))
        .collect();
    let keys: Vec<String> = rows.keys().map(|key| key.json()).collect();
    let due: BTreeMap<(Table, &str), u64> = rows
        .iter()
        .zip(&keys)
        .map(|((key, &sequence), json)| ((key.table, json.as_str()), sequence))
        .collect();
    if there == due {
        return Vec::new();
    }
    let differs = |(key, sequence): (&(Table, &str), &u64)| {
        let other = there.get(key);
        (other != Some(sequence))
            .then(|| format!("{key:?}: {sequence} was written, {other:?} is there"))
    };
    let too_many = there.keys().filter(|key| !due.contains_key(*key));
    let differences: Vec<String> = due
        .iter()
        .filter_map(differs)
        .chain(too_many.map(|key| format!("{key:?} is there, and was not written")))
        .take(5)
        .collect();
    vec![Violation::new(
        "workload",
        format!(
            "the tables are not what was written: {}",
            differences.join("; ")
        ),
    )]
}
