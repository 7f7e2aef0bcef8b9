//! Transactions that are hard to carry.

use crate::torture::run::Run;
use crate::torture::supervisor::OnPoison;
use crate::torture::workload::Plan;
use crate::torture::workload::tables::{Key, Table};

/// All rows of [`Table::Bulk`] in one transaction: inserted, or deleted where they are there.
pub(super) fn huge_transaction(run: &mut Run) {
    let rows = run.settings.huge_rows;
    let written = run
        .nemesis
        .write("huge transaction", |plan, _| plan.bulk(rows));
    run.expect(written);
}

/// A poison row under each of the two ways to deal with it. The second is not waited for.
pub(super) fn poison_row(run: &mut Run) {
    let mut ways = [OnPoison::Stop, OnPoison::Quarantine];
    if run.random.below(2) == 0 {
        ways.reverse();
    }
    for way in ways {
        // The rows before are dealt with as was asked for when they were written.
        if !run.recover() {
            return;
        }
        run.supervisor.on_poison(way);
        poison(run, way == OnPoison::Quarantine);
    }
}

/// A row that nothing can print between two that are fine; in the next transaction it is
/// deleted, so that no snapshot meets it.
fn poison(run: &mut Run, is_kept: bool) {
    run.supervisor.poisoned();
    run.poisoned += 3;
    let first = run.poisoned;
    let key = |number| Key {
        table: Table::Poisoned,
        writer: run.nemesis.number(),
        number,
    };
    let (before, poisoned, after) = (key(first), key(first + 1), key(first + 2));
    let written = run.nemesis.write("poison row", |plan: &mut Plan, _| {
        plan.harmless(before);
        plan.poison(poisoned, is_kept);
        plan.harmless(after);
    });
    run.expect(written);
    let written = run
        .nemesis
        .write("poison row", |plan, _| plan.delete(poisoned));
    run.expect(written);
}
