//! Transactions that are hard to carry.

use crate::torture::run::Run;
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

/// A row that nothing can print between two that are fine; in the next transaction it is
/// deleted, so that no snapshot meets it.
pub(super) fn poison_row(run: &mut Run) {
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
        plan.poison(poisoned);
        plan.harmless(after);
    });
    run.expect(written);
    let written = run
        .nemesis
        .write("poison row", |plan, _| plan.delete(poisoned));
    run.expect(written);
}
