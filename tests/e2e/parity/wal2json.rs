//! What `wal2json` prints, in its format 2:
//!
//! ```text
//! {"action":"U","xid":745,"schema":"s","table":"orders",
//!  "columns":[{"name":"id","value":2}],"identity":[{"name":"id","value":1}]}
//! ```

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::change::{Change, Tuple, Types, members, string};

/// One line a change and nothing else.
pub(super) const OPTIONS: &str = ", 'format-version', '2', 'include-transaction', 'false', \
     'include-xids', 'true', 'include-types', 'false'";

/// Tables without a replica identity: wal2json leaves out their updates and deletes.
const WITHOUT_IDENTITY: [&str; 2] = ["events", "copied"];

/// The change of a line.
#[track_caller]
pub(super) fn change(line: &str, types: &Types) -> Change {
    let line = members(line);
    let table = string(line["table"].get());
    let op = match line["action"].get() {
        "\"I\"" => 'c',
        "\"U\"" => 'u',
        "\"D\"" => 'd',
        "\"T\"" => 't',
        other => panic!("wal2json's {other}"),
    };
    let tuple = |name: &str| line.get(name).map(|row| tuple(row, &table, types));
    let (mut old, new) = (tuple("identity"), tuple("columns"));
    // It tells the key of every update; one that the update left alone is not old.
    if op == 'u' && !is_full(&table) && is_part(&old, &new) {
        old = None;
    }
    Change::new(line["xid"].get().parse().unwrap(), &table, op, old, new)
}

/// A change as wal2json can tell it, if it does.
pub(super) fn told_by_it(change: &Change, types: &Types) -> Option<Change> {
    let table = change.table.as_str();
    if WITHOUT_IDENTITY.contains(&table) && ['u', 'd'].contains(&change.op) {
        return None;
    }
    let mut change = change.clone();
    for tuple in [&mut change.old, &mut change.new].into_iter().flatten() {
        for (column, value) in tuple {
            // JSON has no word for them, and wal2json says null.
            let lost = is_number(types.of_column(table, column))
                && value
                    .as_deref()
                    .is_some_and(|text| ["NaN", "Infinity", "-Infinity"].contains(&text));
            if lost {
                *value = None;
            }
        }
    }
    let Change { old, new, .. } = change;
    Some(Change::new(change.xid, table, change.op, old, new))
}

fn tuple(row: &RawValue, table: &str, types: &Types) -> Tuple {
    let columns: Vec<BTreeMap<String, Box<RawValue>>> =
        serde_json::from_str(row.get()).unwrap_or_else(|e| panic!("{e} in {row}"));
    columns
        .iter()
        .map(|column| {
            let name = string(column["name"].get());
            let value = column["value"].get();
            let text = match value {
                "null" => None,
                _ if !value.starts_with('"') => Some(value.to_owned()),
                // It leaves out how a bytea begins.
                _ if types.of_column(table, &name) == "bytea" => {
                    Some(format!("\\x{}", string(value)))
                }
                _ => Some(string(value)),
            };
            (name, text)
        })
        .collect()
}

fn is_full(table: &str) -> bool {
    ["notes", "seats"].contains(&table)
}

fn is_part(old: &Option<Tuple>, new: &Option<Tuple>) -> bool {
    let (Some(old), Some(new)) = (old, new) else {
        return false;
    };
    old.iter()
        .all(|(column, value)| new.get(column) == Some(value))
}

fn is_number(of_type: &str) -> bool {
    ["real", "double precision", "numeric"].contains(&of_type)
}
