//! One writer: runs transactions and finds out what became of those whose end it did not see.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use headwater_protocol::Lsn;

use super::plan::{Plan, Rows};
use super::shifting::Layout;
use super::tables::{Key, Table};
use crate::Random;
use crate::session::{Session, SqlError};
use crate::torture::arena::connect;
use crate::torture::history::{Committed, History, Kind};

/// How long a server may be away before a writer gives up: far more than any fault lasts.
const PATIENCE: Duration = Duration::from_secs(240);

/// Rolled back: one ordinary transaction of so many.
const ROLLED_BACK: u64 = 20;
/// Prepared, and committed or rolled back later: one of so many.
const PREPARED: u64 = 12;
/// With an ALTER TABLE: one of so many of the writer that alters.
const ALTERS: u64 = 60;

/// A writer and what it knows of its rows.
pub(crate) struct Writer {
    number: u32,
    conninfo: String,
    session: Option<Session>,
    random: Random,
    history: History,
    /// Transactions so far, whatever became of them.
    transactions: u64,
    sequence: u64,
    rows: Rows,
    /// The table that this writer alters.
    layout: Option<Layout>,
}

/// A transaction that has begun.
struct Begun {
    number: u64,
    xid: u64,
    after: Lsn,
}

impl Writer {
    pub(crate) fn new(number: u32, conninfo: String, random: Random, history: History) -> Self {
        Writer {
            number,
            conninfo,
            session: None,
            random,
            history,
            transactions: 0,
            sequence: 0,
            rows: Rows::new(),
            layout: None,
        }
    }

    /// Makes it the one that alters [`Table::Shifting`].
    #[must_use]
    pub(crate) fn altering(mut self) -> Self {
        self.layout = Some(Layout::default());
        self
    }

    /// One transaction of a random kind.
    ///
    /// # Errors
    /// A sentence, if the database did something that no fault explains.
    pub(crate) fn transact(&mut self) -> Result<(), String> {
        let Some(begun) = self.begin() else {
            return Ok(());
        };
        let altered = match &self.layout {
            Some(layout) if self.random.below(ALTERS) == 0 => Some(layout.clone()),
            _ => None,
        };
        if let Some(mut layout) = altered {
            let mut plan = self.plan(&begun, BTreeSet::new());
            layout.alter(&mut plan, &mut self.random);
            if self.commit(&begun, plan, "alter table")? {
                self.layout = Some(layout);
            }
            return Ok(());
        }
        if self.layout.is_some() && self.random.below(8) == 0 {
            let mut plan = self.plan(&begun, BTreeSet::new());
            for _ in 0..1 + self.random.below(5) {
                plan.change(Table::Shifting, &mut self.random);
            }
            return self.commit(&begun, plan, "altered table").map(drop);
        }
        let mut plan = self.plan(&begun, BTreeSet::new());
        let kind = plan.fill(&mut self.random);
        match self.random.below(ROLLED_BACK * PREPARED) {
            chance if chance.is_multiple_of(ROLLED_BACK) => self.roll_back(&plan),
            chance if chance.is_multiple_of(PREPARED) => self.prepare(&begun, plan),
            _ => self.commit(&begun, plan, kind).map(drop),
        }
    }

    /// Runs a transaction that the caller makes up, and says whether it was committed.
    ///
    /// # Errors
    /// As [`Writer::transact`].
    pub(crate) fn write(
        &mut self,
        kind: Kind,
        fill: impl FnOnce(&mut Plan, &mut Random),
    ) -> Result<bool, String> {
        let begin = Instant::now();
        let begun = loop {
            if let Some(begun) = self.begin() {
                break begun;
            }
            if begin.elapsed() > PATIENCE {
                return Err(self.away());
            }
        };
        let mut plan = self.plan(&begun, BTreeSet::new());
        fill(&mut plan, &mut self.random);
        self.commit(&begun, plan, kind)
    }

    /// Which writer it is.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// The rows that are there by what was committed, but for those of the ledger.
    pub(crate) fn into_rows(self) -> Rows {
        self.rows
    }

    /// None while the server is away.
    fn begin(&mut self) -> Option<Begun> {
        if self.session.is_none() {
            self.session = connect(&self.conninfo).ok();
        }
        let session = self.session.as_ref()?;
        let begun = session.attempt(
            "begin; select pg_current_wal_insert_lsn(), pg_current_xact_id()::text::bigint % (1::bigint << 32)",
        );
        let Ok(rows) = begun else {
            self.session = None;
            return None;
        };
        let field = |place: usize| rows.first().and_then(|row| row[place].as_deref());
        let (after, xid) = (field(0)?.parse().ok()?, field(1)?.parse().ok()?);
        self.transactions += 1;
        Some(Begun {
            number: self.transactions,
            xid,
            after,
        })
    }

    fn plan(&self, begun: &Begun, avoided: BTreeSet<Key>) -> Plan {
        Plan::new(
            self.number,
            begun.number,
            begun.xid,
            self.sequence,
            &self.rows,
        )
        .avoiding(avoided)
    }

    /// Runs and commits; says whether that came to pass.
    fn commit(&mut self, begun: &Begun, plan: Plan, kind: Kind) -> Result<bool, String> {
        self.sequence = plan.sequence();
        let ran = self.run(&plan, "commit; select pg_current_wal_insert_lsn()");
        let by = match ran {
            Ok(by) => by,
            Err(error) => {
                self.excuse(&error, &plan.sql)?;
                match self.find_out(begun.number)? {
                    Some(by) => by,
                    None => return Ok(false),
                }
            }
        };
        self.record(begun, plan, kind, by);
        Ok(true)
    }

    fn record(&mut self, begun: &Begun, plan: Plan, kind: Kind, by: Lsn) {
        self.rows = plan.rows;
        self.history.push(Committed {
            writer: self.number,
            xid: begun.xid as u32,
            kind,
            after: begun.after,
            by,
            changes: plan.changes,
        });
    }

    fn roll_back(&mut self, plan: &Plan) -> Result<(), String> {
        self.sequence = plan.sequence();
        match self.run(plan, "rollback; select pg_current_wal_insert_lsn()") {
            Ok(_) => Ok(()),
            Err(error) => self.excuse(&error, &plan.sql),
        }
    }

    /// Prepares the transaction, runs some others, and then lets it come to pass or not.
    fn prepare(&mut self, begun: &Begun, plan: Plan) -> Result<(), String> {
        self.sequence = plan.sequence();
        let name = format!("torture {} {}", self.number, begun.number);
        let prepare = format!("prepare transaction '{name}'; select pg_current_wal_insert_lsn()");
        let prepared = match self.run(&plan, &prepare) {
            Ok(_) => true,
            Err(error) => {
                self.excuse(&error, &plan.sql)?;
                self.is_prepared(&name)?
            }
        };
        if !prepared {
            return Ok(());
        }
        let locked = plan.keys();
        for _ in 0..self.random.below(4) {
            if let Some(other) = self.begin() {
                let mut beside = self.plan(&other, locked.clone());
                let kind = beside.fill(&mut self.random);
                self.commit(&other, beside, kind)?;
            }
        }
        let comes_to_pass = self.random.below(4) > 0;
        let verb = if comes_to_pass { "commit" } else { "rollback" };
        // The answer may be lost, and so may the request.
        while self.is_prepared(&name)? {
            if let Err(error) = self.ask(&format!("{verb} prepared '{name}'")) {
                self.excuse(&error, &name)?;
            }
        }
        let by = position(&self.ask_patiently("select pg_current_wal_insert_lsn()")?)?;
        if comes_to_pass {
            let changed = plan.changes.clone();
            let after = std::mem::take(&mut self.rows);
            // What ran beside it has changed other rows.
            self.record(begun, plan, "prepared", by);
            let own: BTreeSet<Key> = changed.iter().map(|change| change.key).collect();
            self.rows.retain(|key, _| own.contains(key));
            self.rows
                .extend(after.into_iter().filter(|(key, _)| !own.contains(key)));
        }
        Ok(())
    }

    /// Runs a plan and ends it by `end`, whose last statement says where the WAL ends.
    fn run(&mut self, plan: &Plan, end: &str) -> Result<Lsn, SqlError> {
        let session = self.session.as_ref().ok_or_else(|| gone("no session"))?;
        for copy in &plan.copies {
            session.copy_in(&copy.statement, &copy.data)?;
        }
        let rows = session.attempt(&format!("{}{end}", plan.sql))?;
        let value = rows.first().and_then(|row| row[0].as_deref());
        value
            .and_then(|lsn| lsn.parse().ok())
            .ok_or_else(|| gone("no position"))
    }

    /// Takes an error for what a server that goes away says, or fails with it.
    fn excuse(&mut self, error: &SqlError, what: &str) -> Result<(), String> {
        self.session = None;
        let state = error.state.as_str();
        if state.is_empty() || state.starts_with("57P") || state.starts_with("08") {
            return Ok(());
        }
        let what: String = what.chars().take(1000).collect();
        Err(format!("writer {}: {error} in:\n{what}", self.number))
    }

    /// Whether a transaction whose end was not seen came to pass: by the row that it would
    /// have left in the ledger. Transaction ids would not do: one that never reached the
    /// disk is given again after a crash.
    fn find_out(&mut self, number: u64) -> Result<Option<Lsn>, String> {
        let found = self.ask_patiently(&format!(
            "select (select pg_current_wal_insert_lsn() from ledger \
             where writer = {} and number = {number})",
            self.number
        ))?;
        if found.is_empty() {
            return Ok(None);
        }
        position(&found).map(Some)
    }

    fn is_prepared(&mut self, name: &str) -> Result<bool, String> {
        let found = self.ask_patiently(&format!(
            "select exists (select from pg_prepared_xacts where gid = '{name}')"
        ))?;
        Ok(found == "t")
    }

    /// The one value of a query, empty for a null, waiting for a server that is away.
    fn ask_patiently(&mut self, sql: &str) -> Result<String, String> {
        let begin = Instant::now();
        loop {
            match self.ask(sql) {
                Ok(value) => return Ok(value),
                Err(error) => self.excuse(&error, sql)?,
            }
            if begin.elapsed() > PATIENCE {
                return Err(self.away());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ask(&mut self, sql: &str) -> Result<String, SqlError> {
        if self.session.is_none() {
            self.session = Some(connect(&self.conninfo)?);
        }
        let session = self.session.as_ref().ok_or_else(|| gone("no session"))?;
        let mut rows = session.attempt(sql)?;
        let value = rows.first_mut().and_then(|row| row[0].take());
        Ok(value.unwrap_or_default())
    }

    fn away(&self) -> String {
        format!(
            "writer {}: the server was away for {} s",
            self.number,
            PATIENCE.as_secs()
        )
    }
}

fn position(lsn: &str) -> Result<Lsn, String> {
    lsn.parse().map_err(|_| format!("\"{lsn}\" is no position"))
}

fn gone(message: &str) -> SqlError {
    SqlError {
        state: String::new(),
        message: message.to_owned(),
        hint: String::new(),
    }
}
