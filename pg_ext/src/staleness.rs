//! Tables whose rows in the stream are no longer those that they hold, though no change
//! says so.
//!
//! Most of what ALTER TABLE does touches no row: a column is renamed, or added with a
//! constant default that is kept in the catalog for all rows that are there; a key gets
//! other columns; a partition with its rows is attached. What was sent of these rows is
//! then not what the table holds, and the WAL has nothing to send. Such a table is *stale*.
//!
//! # How it is known
//!
//! When the replay of a transaction begins, the snapshot in force is that of its first
//! change: the catalogs as they were before it. When its commit is replayed, that snapshot
//! still stands and sees all that it did. So for each relation that the transaction touches
//! in the catalogs ([`crate::pg`] knows which, before the replay begins) the layout of its
//! rows is taken at the begin, under each plan by which rows are sent in between, and at the
//! commit, and what was is compared with what is.
//!
//! Nothing is remembered from one transaction to the next. So the answer is the same at
//! every decoding of the same WAL (but see below), also right after a restart, for a
//! transaction without a row, and for a table of which no row was ever seen. What does not
//! change how rows look (ANALYZE, CREATE INDEX, GRANT, an ALTER that a savepoint took back)
//! gives the same layout twice, and no mark.
//!
//! A table that is dropped is told apart ([`Finding::gone`]), as no other reading of it mends
//! anything, unless the transaction leaves another table of its name: that one takes over
//! its topic, and with it rows that it does not hold.
//!
//! A rewrite sends every row again under the new layout ([`DdlWatch::note`] is told), so
//! that rows sent before it count no more, apart from their keys and their topic.
//!
//! # What is not seen
//!
//! What another transaction did to a table that committed after this one had begun to write:
//! the snapshot of the begin is older. Two such transactions that take each other's change
//! back (a column renamed there and back) can then look as if nothing had happened, or, where
//! a session has seen the change between, give a mark; a table that the other one made is not
//! found at the begin. Rows that were sent in the same transaction still count.
//!
//! A column whose type is the row type of a table is not found where that table is altered.
//! Nor is a table that was declared `user_catalog_table`: it cannot be loaded when it may be
//! gone ([`OpenRelation::open_table`]).
//!
//! The other way round, a table without rows is named too, as what is not there writes nothing,
//! and one whose key was retyped, as nothing says whether its values are the same.

use std::collections::{BTreeMap, BTreeSet};

use crate::access::Scope;
use crate::layout::{Finding, Layout, compare};
use crate::pg::{DatabaseEncoding, OpenRelation, RelationRef};
use crate::plan::RelationPlan;

/// The relations that the transaction under replay changes in the catalogs.
#[derive(Default)]
pub(crate) struct DdlWatch {
    /// By `pg_class.oid` of the relation that stores the rows: in this order findings are
    /// sent, so that it is always the same.
    relations: BTreeMap<u32, Watched>,
}

#[derive(Default)]
struct Watched {
    /// Under which rows that are there now, or were, may have been sent.
    layouts: Vec<Layout>,
    /// So many of them were before the last rewrite.
    resent: usize,
}

impl DdlWatch {
    /// A transaction begins that changes these relations.
    pub(crate) fn begin(&mut self, changed: &[u32], scope: Scope<'_>) {
        self.relations.clear();
        for id in changed {
            let layouts = layout(*id, scope).into_iter().collect();
            let watched = Watched { layouts, resent: 0 };
            self.relations.insert(*id, watched);
        }
    }

    /// Whether there is nothing to watch, as in almost every transaction.
    pub(crate) fn is_idle(&self) -> bool {
        self.relations.is_empty()
    }

    /// The first row of `relation` is about to be sent under `plan`.
    pub(crate) fn note(
        &mut self,
        relation: RelationRef<'_>,
        plan: &RelationPlan,
        encoding: DatabaseEncoding,
    ) {
        if let Some(watched) = self.relations.get_mut(&relation.table_id()) {
            if relation.is_rewrite() {
                watched.resent = watched.layouts.len();
            }
            watched.layouts.push(Layout::of(plan, relation, encoding));
        }
    }

    /// The transaction ends: the tables that it made stale.
    pub(crate) fn finish(&mut self, scope: Scope<'_>) -> Vec<Finding> {
        let mut found = Vec::new();
        let relations = std::mem::take(&mut self.relations);
        for (id, watched) in &relations {
            if watched.layouts.is_empty() {
                continue;
            }
            let after = layout(*id, scope);
            for (index, before) in watched.layouts.iter().enumerate() {
                let resent = index < watched.resent;
                compare(*id, before, after.as_ref(), resent, &mut found);
            }
        }
        let mut seen = std::collections::HashSet::new();
        found.retain(|finding: &Finding| seen.insert((finding.table.id(), finding.reason.clone())));
        if found.iter().any(|finding| finding.gone) {
            // Whatever has a name now that it had not is among the relations of the transaction.
            let after = relations.keys().filter_map(|id| layout(*id, scope));
            settle_gone(&mut found, &after.collect::<Vec<_>>());
        }
        found
    }
}

/// Of a table that is gone nothing else is to be said: its partitions went with it. One whose
/// name another has now is stale instead, as its rows lie among those of the other.
fn settle_gone(found: &mut Vec<Finding>, after: &[Layout]) {
    let gone: BTreeSet<u32> = found
        .iter()
        .filter(|finding| finding.gone)
        .map(|finding| finding.table.id())
        .collect();
    found.retain(|finding| finding.gone || !gone.contains(&finding.table.id()));
    for Finding { table, gone, .. } in found {
        let name = |layout: &Layout| (layout.schema().to_owned(), layout.table().to_owned());
        *gone &= after.iter().all(|other| name(other) != name(table));
    }
}

/// The layout of a table as of the snapshot in force; none for what is no table.
fn layout(id: u32, scope: Scope<'_>) -> Option<Layout> {
    let relation = OpenRelation::open_table(id)?;
    let relation = relation.as_ref();
    let plan = RelationPlan::of_stream(relation, scope);
    Some(Layout::of(&plan, relation, scope.encoding))
}
