//! Says whom the snapshot waits for, while it waits.

use std::time::Duration;

use crate::source::connection::Connection;

/// A wait shorter than this is not worth a line.
const FIRST_REPORT: Duration = Duration::from_secs(3);

/// One line this often while it lasts.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Reports the wait of one backend through another session.
pub(super) struct Waiting<'a> {
    reporter: &'a Connection,
    backend_pid: u32,
    what: &'static str,
    next: Duration,
}

impl<'a> Waiting<'a> {
    /// Will say that `backend_pid` waits for `what`.
    pub(super) fn new(reporter: &'a Connection, backend_pid: u32, what: &'static str) -> Self {
        Waiting {
            reporter,
            backend_pid,
            what,
            next: FIRST_REPORT,
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
