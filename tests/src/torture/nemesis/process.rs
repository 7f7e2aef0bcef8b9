//! Processes that are killed or stopped.

use nix::sys::signal::Signal;

use crate::Client;
use crate::torture::arena::NAME;
use crate::torture::run::Run;

/// What the client sent and nobody has read yet goes down with it: see
/// [`proxy`](crate::torture::proxy).
pub(super) fn kill_client(run: &mut Run) {
    run.supervisor.kill();
    run.arena.to_kafka.cut();
    run.arena.to_postgres.cut();
}

pub(super) fn freeze_client(run: &mut Run) {
    signal_client(run.supervisor.client(), Signal::SIGSTOP);
}

pub(super) fn thaw_client(run: &mut Run) {
    signal_client(run.supervisor.client(), Signal::SIGCONT);
}

fn signal_client(client: Option<&Client>, signal: Signal) {
    if let Some(client) = client {
        client.signal(signal);
    }
}

pub(super) fn freeze_broker(run: &mut Run) {
    run.arena.kafka.signal(Signal::SIGSTOP);
}

pub(super) fn thaw_broker(run: &mut Run) {
    run.arena.kafka.signal(Signal::SIGCONT);
}

pub(super) fn terminate_walsender(run: &mut Run) {
    run.arena.sql().run(&format!(
        "select pg_terminate_backend(active_pid) from pg_replication_slots \
         where slot_name = '{NAME}' and active"
    ));
}

pub(super) fn start_postgres(run: &mut Run) {
    run.arena.postgres.start();
    run.server_starts += 1;
}
