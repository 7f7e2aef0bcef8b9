//! Watches a session of the snapshot while it waits: says for whom, and ends a wait that
//! would last for ever.

use std::time::Duration;

use crate::source::connection::Connection;

/// A wait shorter than this is not worth a line.
const FIRST_REPORT: Duration = Duration::from_secs(3);

/// One line this often while it lasts.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Between two looks at whether a wait can end: as often as the server's own search for
/// deadlocks, `deadlock_timeout`, whose default is a second.
const DEADLOCK_INTERVAL: Duration = Duration::from_secs(1);

/// Watches the wait of one backend through another session.
pub(super) struct Waiting<'a> {
    reporter: &'a Connection,
    backend_pid: u32,
    what: &'static str,
    next: Duration,
    next_search: Duration,
}

impl<'a> Waiting<'a> {
    /// Will say that `backend_pid` waits for `what`.
    pub(super) fn new(reporter: &'a Connection, backend_pid: u32, what: &'static str) -> Self {
        Waiting {
            reporter,
            backend_pid,
            what,
            next: FIRST_REPORT,
            next_search: DEADLOCK_INTERVAL,
        }
    }

    /// Called now and then with the time that has passed.
    pub(super) fn report(&mut self, waited: Duration) {
        if waited < self.next {
            return;
        }
        self.next = waited + REPORT_INTERVAL;
        tracing::warn!(
            seconds = waited.as_secs(),
            blocked_by = %self.blockers(),
            "waiting for {}",
            self.what
        );
    }

    /// Called now and then with the time that has passed: cancels the statement if those
    /// it waits for wait, at whatever remove, for one of the server processes `own`.
    pub(super) fn cancel_if_behind(&mut self, own: &[u32], waited: Duration) {
        if waited < self.next_search {
            return;
        }
        self.next_search = waited + DEADLOCK_INTERVAL;
        let own: Vec<String> = own.iter().map(u32::to_string).collect();
        let query = format!(
            "WITH RECURSIVE chain(pid) AS ( \
               SELECT pid FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids({backend})) AS pid \
               UNION SELECT b.pid FROM chain \
                 CROSS JOIN LATERAL pg_catalog.unnest(pg_catalog.pg_blocking_pids(chain.pid)) AS b(pid)) \
             SELECT pg_catalog.pg_cancel_backend({backend}) \
             FROM chain WHERE pid IN ({own}) LIMIT 1",
            backend = self.backend_pid,
            own = own.join(", ")
        );
        // A search that fails is put again; the wait itself says whether the server is there.
        if self
            .reporter
            .query(&query)
            .is_ok_and(|rows| !rows.is_empty())
        {
            tracing::info!("a transaction waits for a captured table and is let through");
        }
    }

    fn blockers(&self) -> String {
        let query = format!(
            "SELECT pg_catalog.string_agg(pid::text, ', ') \
             FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids({})) AS pid",
            self.backend_pid
        );
        self.reporter
            .query(&query)
            .ok()
            .and_then(|rows| rows.optional(0, 0).ok().flatten().map(str::to_owned))
            .unwrap_or_else(|| "nobody".to_owned())
    }
}
