//! The slot changes behind the client's back, or another client wants it.
//!
//! A start on a slot that has lost changes must be refused and must not write a record. Then
//! it is mended by what the refusal says, so that the run goes on: by `--resnapshot`, or by
//! `--accept-gap` with the position that it names, which leaves every table stale until
//! another gap is mended by a snapshot.

use std::time::Duration;

use headwater_protocol::Lsn;

use crate::client::Client;
use crate::keeper::Exit;
use crate::torture::arena::NAME;
use crate::torture::evidence::Refusal;
use crate::torture::run::Run;
use crate::torture::supervisor::field;
use crate::wait::{SOON, check, eventually};

/// Changes that are committed before the slot loses some: more than any poll of the client
/// holds.
const LOST: usize = 100;

/// A client that may not go on says so within this: it waits some seconds for a slot that is
/// in use.
const REFUSED_WITHIN: Duration = Duration::from_secs(60);

/// How the slot comes to lose changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It is dropped.
    Dropped,
    /// It is moved ahead.
    Advanced,
}

pub(super) fn lose(run: &mut Run, how: Loss) {
    if !run.recover() {
        return;
    }
    let (lost_after, refusal) = take_away(run, how);
    if run.random.below(2) == 0 {
        resnapshot(run, lost_after);
        return;
    }
    let Some(position) = field(&refusal, "--accept-gap ") else {
        run.complain("refused", format!("no --accept-gap is offered:\n{refusal}"));
        resnapshot(run, lost_after);
        return;
    };
    let position = position.trim_end_matches('.').to_owned();
    let arguments = vec!["--accept-gap".to_owned(), position];
    run.supervisor.go_on_behind_gap(lost_after, arguments);
    if run.recover() {
        let (lost_after, _) = take_away(run, Loss::Dropped);
        resnapshot(run, lost_after);
    }
}

pub(super) fn second_client(run: &mut Run) {
    if !run.recover() {
        return;
    }
    // Records that it wrote could not be told from those of the first by their number: what
    // it wrote out of order the other checkers see.
    let (exit, stderr) = started(run);
    run.refusals.push(Refusal {
        after: "a client beside another",
        due: 4,
        exit,
        written: 0,
        stderr,
    });
}

/// Stops the client, takes changes away from the slot, and sees the next start refused.
/// Returns what the server had confirmed, and the refusal.
fn take_away(run: &mut Run, how: Loss) -> (Lsn, String) {
    stop_client(run);
    let begin = run.history.changes();
    eventually("more changes are committed", SOON, || {
        let more = run.history.changes() - begin;
        check(more >= LOST, || format!("{more} of {LOST}"))
    });
    let sql = run.arena.sql();
    let confirmed =
        format!("select confirmed_flush_lsn from pg_replication_slots where slot_name = '{NAME}'");
    eventually("the slot is released", SOON, || {
        let active = format!("select active from pg_replication_slots where slot_name = '{NAME}'");
        check(!sql.holds(&active), || "it is active".to_owned())
    });
    let lost_after = sql.value(&confirmed);
    let after = match how {
        Loss::Dropped => {
            sql.run(&format!("select pg_drop_replication_slot('{NAME}')"));
            "a slot that was dropped"
        }
        Loss::Advanced => {
            sql.run(&format!(
                "select pg_replication_slot_advance('{NAME}', pg_current_wal_flush_lsn())"
            ));
            "a slot that was advanced"
        }
    };
    let written = run.written();
    let (exit, stderr) = started(run);
    run.refusals.push(Refusal {
        after,
        due: 3,
        exit,
        written: run.written().saturating_sub(written),
        stderr: stderr.clone(),
    });
    let lost_after = lost_after
        .parse()
        .unwrap_or_else(|e| panic!("a slot stood at \"{lost_after}\": {e}"));
    (lost_after, stderr)
}

/// By SIGTERM or outright.
fn stop_client(run: &mut Run) {
    if run.random.below(2) == 0 {
        super::process::kill_client(run);
    } else {
        run.supervisor.stop();
    }
}

/// From the next start on. It is not waited for: what comes next may hit the snapshot.
fn resnapshot(run: &mut Run, lost_after: Lsn) {
    let arguments = vec!["--resnapshot".to_owned()];
    run.supervisor.go_on_behind_gap(lost_after, arguments);
}

/// Starts a client that is to be refused. Returns its exit code, none if it went on and had
/// to be killed, and what it said.
fn started(run: &Run) -> (Option<i32>, String) {
    let ended = Client::start(run.supervisor.command()).wait_or_kill(REFUSED_WITHIN);
    let code = match ended.exit {
        Exit::Code(code) => Some(code),
        _ => None,
    };
    (code, ended.stderr)
}
