//! How a table's rows look in the stream, and whether rows sent under one layout are
//! still what the table holds under another.

use headwater_protocol::frame::{Column, Relation, ReplicaIdentity};
use pgrx::pg_sys::{self, Oid};

use crate::pg::{DatabaseEncoding, RelationRef, TypePart, base_type, type_parts};
use crate::plan::RelationPlan;

/// Findings that a reason spells out; a table may have 1,600 columns.
const FINDINGS: usize = 5;

/// What a relation's rows are sent as.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// `pg_class.oid` of the relation that the rows belong to.
    id: u32,
    schema: String,
    table: String,
    /// Of the table that the rows are sent as.
    identity: ReplicaIdentity,
    columns: Vec<LayoutColumn>,
    /// Indexes into `columns`, in the order of the key's index.
    key: Vec<usize>,
    /// The transaction that last altered each column of the key.
    key_altered: Vec<u32>,
    selected: bool,
    /// Whether the server's settings let it be sent: if not, its name is none of the reader's
    /// business either.
    permitted: bool,
    /// Whether changes reach the WAL.
    logged: bool,
    /// Whether there are rows under it. A partitioned table gives name and key to those of
    /// its partitions, which have each of its columns as their own.
    has_rows: bool,
}

#[derive(Clone, Debug)]
struct LayoutColumn {
    /// The table has it, and this part of it has not: its number means nothing.
    is_absent: bool,
    /// `attnum`, which a column keeps under any name.
    number: i16,
    name: String,
    type_oid: u32,
    type_modifier: i32,
    /// The type that decides how values are written.
    form: Oid,
    /// Rows from before the column have a value for it, which is in no row.
    fills_in: bool,
    /// Fields and labels that values are made of.
    parts: Vec<TypePart>,
}

/// A table whose rows in the stream are no longer those that it holds.
pub(crate) struct Finding {
    pub(crate) table: Layout,
    /// It was dropped, rather than that some rows of it are not what they were.
    pub(crate) gone: bool,
    pub(crate) reason: String,
}

impl Layout {
    /// The layout of a plan that was compiled from `relation`.
    pub(crate) fn of(
        plan: &RelationPlan,
        relation: RelationRef<'_>,
        encoding: DatabaseEncoding,
    ) -> Self {
        Layout {
            id: plan.id,
            schema: plan.schema.clone(),
            table: plan.table.clone(),
            identity: plan.table_identity,
            columns: plan
                .columns
                .iter()
                .map(|column| LayoutColumn {
                    is_absent: column.attribute.is_absent(),
                    number: column.attribute.number(),
                    name: column.name.clone(),
                    type_oid: column.type_oid,
                    type_modifier: column.type_modifier,
                    form: form(column.type_oid),
                    fills_in: relation.fills_in(column.attribute),
                    parts: type_parts(column.type_oid, encoding),
                })
                .collect(),
            key: plan.key.clone(),
            key_altered: plan
                .key
                .iter()
                .filter_map(|index| plan.columns.get(*index))
                .map(|column| relation.last_altered(column.attribute))
                .collect(),
            selected: plan.selected,
            permitted: plan.refusal.is_none(),
            logged: relation.is_logged(),
            has_rows: !relation.is_partitioned(),
        }
    }

    /// The relation as the client is told of it.
    pub(crate) fn describe(&self) -> Relation<'_> {
        Relation {
            id: self.id,
            identity: self.identity,
            schema: &self.schema,
            table: &self.table,
            columns: self
                .columns
                .iter()
                .enumerate()
                .map(|(index, column)| Column {
                    is_key: self.key.contains(&index),
                    type_oid: column.type_oid,
                    type_modifier: column.type_modifier,
                    name: &column.name,
                })
                .collect(),
        }
    }

    /// `pg_class.oid` of the relation that the rows belong to.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    pub(crate) fn table(&self) -> &str {
        &self.table
    }

    /// Whether changes of its rows are sent.
    fn is_sent(&self) -> bool {
        self.selected && self.logged
    }

    fn name(&self) -> String {
        if self.permitted {
            format!("{}.{}", self.schema, self.table)
        } else {
            "another table".to_owned()
        }
    }

    fn key_columns(&self) -> impl Iterator<Item = &LayoutColumn> {
        self.key.iter().filter_map(|index| self.columns.get(*index))
    }

    fn key_names(&self) -> String {
        let names: Vec<&str> = self.key_columns().map(|column| &*column.name).collect();
        names.join(", ")
    }
}

/// The type whose values are written alike: a domain's are those of the type it is made
/// of, and text is text whatever its length.
fn form(type_oid: u32) -> Oid {
    match Oid::from(base_type(type_oid)) {
        pg_sys::VARCHAROID | pg_sys::BPCHAROID => pg_sys::TEXTOID,
        other => other,
    }
}

/// Which tables are stale when rows of relation `stored` that were sent under `before` are
/// now, without a change of their own, what `after` says; none there if the relation is
/// gone. `resent` says that each row was sent again under another layout since.
pub(crate) fn compare(
    stored: u32,
    before: &Layout,
    after: Option<&Layout>,
    resent: bool,
    found: &mut Vec<Finding>,
) {
    let mut find = |table: &Layout, reason: String| {
        found.push(Finding {
            table: table.clone(),
            gone: after.is_none() && table.id == stored,
            reason,
        });
    };
    let Some(after) = after else {
        if before.is_sent() && before.id != stored {
            find(before, "a partition of it was dropped".to_owned());
        } else if before.is_sent() {
            // Its records stay where they are, also when a table of its name follows.
            find(before, "it was dropped".to_owned());
        }
        return;
    };
    match (before.is_sent(), after.is_sent()) {
        (false, false) => {}
        (true, false) if !after.logged => {
            find(before, "it is unlogged now".to_owned());
        }
        (true, false) => find(before, format!("it is {} now", after.name())),
        (false, true) if resent => {}
        (false, true) if !before.logged => find(after, "it was unlogged".to_owned()),
        (false, true) => find(after, format!("it was {}", before.name())),
        (true, true) if before.id != after.id => {
            find(
                before,
                format!("it lost the rows that {} has now", after.name()),
            );
            find(after, format!("it has the rows that {} had", before.name()));
        }
        (true, true) => {
            let reasons = differences(before, after, resent);
            if !reasons.is_empty() {
                find(after, spell_out(reasons));
            }
        }
    }
}

/// What is different about rows that were sent under `before`.
fn differences(before: &Layout, after: &Layout, resent: bool) -> Vec<String> {
    let mut reasons = Vec::new();
    if (&before.schema, &before.table) != (&after.schema, &after.table) {
        reasons.push(format!("it was {}", before.name()));
    }
    if key_differs(before, after, resent) {
        reasons.push(match (before.key.is_empty(), after.key.is_empty()) {
            (true, _) => "it had no key".to_owned(),
            (_, true) => "it has no key any more".to_owned(),
            _ if before.key_names() == after.key_names() => {
                format!("its key ({}) was retyped", after.key_names())
            }
            _ => format!(
                "its key was ({}) and is ({})",
                before.key_names(),
                after.key_names()
            ),
        });
    }
    if resent || !before.has_rows {
        return reasons;
    }
    for column in before.columns.iter().filter(|column| !column.is_absent) {
        let name = &column.name;
        match after.columns.iter().find(|new| new.number == column.number) {
            None => reasons.push(format!("column \"{name}\" was dropped")),
            Some(new) if new.name != *name => {
                reasons.push(format!("column \"{name}\" is \"{}\" now", new.name));
            }
            Some(new) if new.form != column.form => {
                reasons.push(format!("column \"{name}\" has another type"));
            }
            Some(new) => parts_differ(column, new, &mut reasons),
        }
    }
    for column in &after.columns {
        let is_new = before.columns.iter().all(|old| old.number != column.number);
        if is_new && column.fills_in {
            reasons.push(format!(
                "column \"{}\" was added with a value for every row",
                column.name
            ));
        }
    }
    reasons
}

/// What is different about the fields and labels of values that were sent. A field that was
/// added is null in all of them, and a label that was added in none.
fn parts_differ(before: &LayoutColumn, after: &LayoutColumn, reasons: &mut Vec<String>) {
    let column = &before.name;
    for part in &before.parts {
        let name = &part.name;
        match after.parts.iter().find(|new| new.id == part.id) {
            None => reasons.push(format!("\"{name}\" in column \"{column}\" was dropped")),
            Some(new) if new.name != *name => reasons.push(format!(
                "\"{name}\" in column \"{column}\" is \"{}\" now",
                new.name
            )),
            Some(new) if new.type_oid != part.type_oid => {
                reasons.push(format!(
                    "\"{name}\" in column \"{column}\" has another type"
                ));
            }
            Some(_) => {}
        }
    }
}

/// Whether rows may have another key than they were sent with. A rewrite gives a column the
/// values of any expression, also without another type. That much is known of it: ALTER
/// COLUMN TYPE writes the column's row in the catalog anew.
fn key_differs(before: &Layout, after: &Layout, resent: bool) -> bool {
    let same =
        |(old, new): (&LayoutColumn, &LayoutColumn)| old.name == new.name && old.form == new.form;
    before.key.len() != after.key.len()
        || resent && before.key_altered != after.key_altered
        || !before.key_columns().zip(after.key_columns()).all(same)
}

fn spell_out(mut reasons: Vec<String>) -> String {
    let more = reasons.len().saturating_sub(FINDINGS);
    reasons.truncate(FINDINGS);
    if more > 0 {
        reasons.push(format!("and {more} changes more"));
    }
    reasons.join("; ")
}
