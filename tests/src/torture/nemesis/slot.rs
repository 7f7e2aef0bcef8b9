//! The slot changes behind the client's back, or another client wants it.
//!
//! A start on a slot that has lost changes must be refused and must not write a record. Then
//! it is mended by what the refusal says, so that the run goes on: by `--resnapshot`, or by
//! `--accept-gap` with the position that it names, which leaves every table stale until
//! another gap is mended by a snapshot.

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
        go_on(run, lost_after, vec!["--resnapshot".to_owned()]);
        return;
    }
    let Some(position) = field(&refusal, "--accept-gap ") else {
        run.complain("refused", format!("no --accept-gap is offered:\n{refusal}"));
        go_on(run, lost_after, vec!["--resnapshot".to_owned()]);
        return;
    };
    let position = position.trim_end_matches('.').to_owned();
    if go_on(run, lost_after, vec!["--accept-gap".to_owned(), position]) {
        let (lost_after, _) = take_away(run, Loss::Dropped);
        go_on(run, lost_after, vec!["--resnapshot".to_owned()]);
    }
}

pub(super) fn second_client(run: &mut Run) {
    if !run.recover() {
        return;
    }
    // Records that it wrote could not be told from those of the first by their number: what
    // it wrote out of order the other checkers see.
    let ended = Client::start(run.supervisor.command()).wait();
    run.refusals.push(Refusal {
        after: "a client beside another",
        due: 4,
        exit: code(ended.exit),
        written: 0,
        stderr: ended.stderr,
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
    let ended = Client::start(run.supervisor.command()).wait();
    run.refusals.push(Refusal {
        after,
        due: 3,
        exit: code(ended.exit),
        written: run.written() - written,
        stderr: ended.stderr.clone(),
    });
    let lost_after = lost_after
        .parse()
        .unwrap_or_else(|e| panic!("a slot stood at \"{lost_after}\": {e}"));
    (lost_after, ended.stderr)
}

/// By SIGTERM or outright.
fn stop_client(run: &mut Run) {
    if run.random.below(2) == 0 {
        super::process::kill_client(run);
    } else if let Some(client) = run.supervisor.take() {
        let ended = client.terminate();
        if ended.exit != Exit::Code(0) {
            run.complain(
                "client keeps running",
                format!("SIGTERM: {:?}; it said:\n{}", ended.exit, ended.stderr),
            );
        }
    }
}

fn go_on(run: &mut Run, lost_after: Lsn, arguments: Vec<String>) -> bool {
    run.supervisor.go_on_behind_gap(lost_after, arguments);
    run.recover()
}

fn code(exit: Exit) -> Option<i32> {
    match exit {
        Exit::Code(code) => Some(code),
        Exit::Signal(_) => None,
    }
}
