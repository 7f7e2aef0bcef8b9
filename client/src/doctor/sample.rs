//! What moves: looked at twice, so that what stays is told from what passes, and how fast WAL
//! piles up.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::source::connection::Connection;
use crate::source::slot::{RETAINED_WAL, WAL_SEGMENT};
use crate::source::sql;
use crate::stop::Stop;

/// One look at the server.
pub(super) struct Sample {
    at: Instant,
    pub(super) slots: Vec<SlotSize>,
    /// By their ids: a session that is between two transactions is in nobody's way.
    transactions: BTreeMap<String, Transaction>,
}

/// A slot, and the WAL that it keeps.
pub(super) struct SlotSize {
    pub(super) name: String,
    pub(super) is_active: bool,
    /// `wal_status`; empty for one that keeps none.
    pub(super) status: String,
    /// In bytes.
    pub(super) retained: u64,
    /// How much more may be written before WAL that it needs is removed; none without a limit.
    pub(super) left: Option<u64>,
    /// The server's `wal_segment_size`.
    pub(super) segment: u64,
}

/// A transaction with an id, which the creation of a slot waits for.
pub(super) struct Transaction {
    /// The session's process; none of one that is prepared.
    pid: Option<String>,
    /// The name of one that is prepared.
    prepared: Option<String>,
    pub(super) database: String,
    role: String,
    application: String,
    /// None where this role may not see it.
    state: Option<String>,
    seconds: Option<u64>,
    query: Option<String>,
}

/// Locks are shown to everybody, while pg_stat_activity shows the transactions of others to some
/// roles alone. A subtransaction has a lock of its own: the first of a session is enough.
const TRANSACTIONS: &str = "SELECT DISTINCT ON (l.pid, p.gid) l.transactionid::text, l.pid, p.gid, \
       COALESCE(a.datname, p.database), COALESCE(a.usename, p.owner), \
       a.application_name, a.state, \
       pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() \
         - COALESCE(a.xact_start, p.prepared))::int8, a.query \
     FROM pg_catalog.pg_locks l \
     LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
     LEFT JOIN pg_catalog.pg_prepared_xacts p ON l.pid IS NULL AND p.transaction = l.transactionid \
     WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted \
     ORDER BY l.pid, p.gid, pg_catalog.age(l.transactionid) DESC";

impl Sample {
    /// Looks.
    pub(super) fn take(connection: &Connection) -> Result<Self> {
        let rows = connection.query(&format!(
            "SELECT s.slot_name, s.active, COALESCE(s.wal_status, ''), {RETAINED_WAL}, s.safe_wal_size, \
               {WAL_SEGMENT} \
             FROM pg_catalog.pg_replication_slots s WHERE NOT s.temporary ORDER BY 1"
        ))?;
        let mut slots = Vec::new();
        for row in 0..rows.len() {
            let number = |column| -> Result<Option<u64>> {
                let text = rows.optional(row, column)?;
                Ok(text
                    .and_then(|text| text.parse::<i64>().ok())
                    .map(|bytes| bytes.max(0).cast_unsigned()))
            };
            slots.push(SlotSize {
                name: rows.text(row, 0)?.to_owned(),
                is_active: rows.flag(row, 1)?,
                status: rows.text(row, 2)?.to_owned(),
                retained: number(3)?.unwrap_or(0),
                left: number(4)?,
                segment: number(5)?.unwrap_or(0),
            });
        }
        let at = Instant::now();
        let rows = connection.query(TRANSACTIONS)?;
        let mut transactions = BTreeMap::new();
        for row in 0..rows.len() {
            let optional = |column| -> Result<Option<String>> {
                Ok(rows.optional(row, column)?.map(str::to_owned))
            };
            let transaction = Transaction {
                pid: optional(1)?,
                prepared: optional(2)?,
                database: optional(3)?.unwrap_or_default(),
                role: optional(4)?.unwrap_or_default(),
                application: optional(5)?.unwrap_or_default(),
                state: optional(6)?,
                seconds: rows.optional(row, 7)?.and_then(|text| text.parse().ok()),
                query: optional(8)?,
            };
            transactions.insert(rows.text(row, 0)?.to_owned(), transaction);
        }
        Ok(Sample {
            at,
            slots,
            transactions,
        })
    }

    /// Waits until this is `age` old.
    pub(super) fn wait(&self, age: Duration, stop: &Stop) -> Result<()> {
        const SLICE: Duration = Duration::from_millis(100);
        loop {
            stop.check()?;
            let left = age.saturating_sub(self.at.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(SLICE));
        }
    }

    /// The transactions that were there in an earlier look already.
    pub(super) fn staying_since(&self, earlier: &Sample) -> Vec<&Transaction> {
        let transactions = self.transactions.iter();
        transactions
            .filter(|(id, _)| earlier.transactions.contains_key(*id))
            .map(|(_, transaction)| transaction)
            .collect()
    }

    /// By how many bytes a second the slot has come to keep more, 0 where it keeps less.
    pub(super) fn growth(&self, earlier: &Sample, slot: &str) -> u64 {
        let of = |sample: &Sample| {
            let found = sample.slots.iter().find(|size| size.name == slot);
            found.map(|size| size.retained)
        };
        let millis =
            u64::try_from(self.at.duration_since(earlier.at).as_millis()).unwrap_or(u64::MAX);
        match (of(earlier), of(self)) {
            (Some(before), Some(now)) if millis > 0 => {
                now.saturating_sub(before).saturating_mul(1000) / millis
            }
            _ => 0,
        }
    }
}

impl Transaction {
    /// Whose it is, and since when. Its last statement only where that is asked for: it may hold
    /// values.
    pub(super) fn described(&self, shows_query: bool) -> String {
        let mut text = match (&self.pid, &self.prepared) {
            (_, Some(gid)) => format!("the prepared transaction '{gid}'"),
            (pid, None) => format!("process {}", pid.as_deref().unwrap_or("of nobody")),
        };
        text.push_str(&format!(
            " in database \"{}\", of role \"{}\"",
            self.database, self.role
        ));
        if !self.application.is_empty() {
            text.push_str(&format!(", application \"{}\"", self.application));
        }
        if let Some(state) = &self.state {
            text.push_str(&format!(", {state}"));
        }
        if let Some(seconds) = self.seconds {
            let age = crate::terminal::duration(Duration::from_secs(seconds));
            text.push_str(&format!(", open for {age}"));
        }
        if let (true, Some(query)) = (shows_query, &self.query) {
            let words: Vec<&str> = query.split_whitespace().collect();
            text.push_str(&format!(": {}", words.join(" ")));
        }
        text
    }

    /// The statement that ends it.
    pub(super) fn end(&self) -> String {
        match (&self.prepared, &self.pid) {
            (Some(gid), _) => format!("ROLLBACK PREPARED {};", sql::literal(gid).trim_start()),
            (None, pid) => format!(
                "SELECT pg_catalog.pg_terminate_backend({});",
                pid.as_deref().unwrap_or("NULL")
            ),
        }
    }
}
