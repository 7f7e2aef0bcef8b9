//! A change as all three plugins tell it, every value in Postgres' own text.

use std::collections::BTreeMap;

use headwater_tests::session::Session;
use serde_json::value::RawValue;

/// Column to value; none for null.
pub(super) type Tuple = BTreeMap<String, Option<String>>;

/// One change. Two of one transaction have the same `xid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) xid: u64,
    pub(super) table: String,
    /// `c`, `u`, `d`, or `t` for each table of a TRUNCATE.
    pub(super) op: char,
    /// What the WAL has of the old row, without its nulls: an old row of keys alone and
    /// one of all columns are told alike by `test_decoding`.
    pub(super) old: Option<Tuple>,
    /// The new row, without what the update left out of line and nobody tells.
    pub(super) new: Option<Tuple>,
}

impl Change {
    /// A change, with what the plugins tell in different ways told in one.
    pub(super) fn new(
        xid: u64,
        table: &str,
        op: char,
        old: Option<Tuple>,
        new: Option<Tuple>,
    ) -> Self {
        let (mut old, mut new) = (old, new);
        if let Some(old) = &mut old {
            old.retain(|_, value| value.is_some());
        }
        if let (Some(old), Some(new)) = (&old, &mut new) {
            // Left out of line, but in the old row: Headwater takes it from there.
            for (column, value) in old {
                new.entry(column.clone()).or_insert_with(|| value.clone());
            }
        }
        Change {
            xid,
            table: table.to_owned(),
            op,
            old,
            new,
        }
    }
}

/// The types of columns, by table and column.
pub(super) struct Types(BTreeMap<(String, String), String>);

impl Types {
    /// Of the tables of a schema.
    pub(super) fn of(sql: &Session, schema: &str) -> Self {
        let columns = sql.rows(&format!(
            "select relname, attname, format_type(atttypid, null) \
             from pg_attribute join pg_class c on c.oid = attrelid \
             where relnamespace = '{schema}'::regnamespace and relkind = 'r' \
             and attnum > 0 and not attisdropped"
        ));
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let columns = columns
            .iter()
            .map(|row| ((text(&row[0]), text(&row[1])), text(&row[2])));
        Types(columns.collect())
    }

    #[track_caller]
    pub(super) fn of_column(&self, table: &str, column: &str) -> &str {
        match self.0.get(&(table.to_owned(), column.to_owned())) {
            Some(name) => name,
            None => panic!("no column {table}.{column}"),
        }
    }
}

/// A line of Headwater's, and its rows as they are written.
pub(super) struct Line {
    pub(super) change: Change,
    pub(super) before: Option<Json>,
    pub(super) after: Option<Json>,
}

/// A row as JSON.
pub(super) struct Json {
    pub(super) text: String,
    members: BTreeMap<String, Box<RawValue>>,
}

impl Line {
    /// Reads a line of the `change` envelope.
    #[track_caller]
    pub(super) fn read(line: &str, types: &Types) -> Self {
        let members = members(line);
        let source = super::change::members(members["source"].get());
        let table = string(source["table"].get());
        let row = |name: &str| Json::of(members[name].get());
        let (before, after) = (row("before"), row("after"));
        let tuple = |row: &Option<Json>| row.as_ref().map(|row| row.tuple(&table, types));
        let change = Change::new(
            source["txId"].get().parse().unwrap(),
            &table,
            string(members["op"].get()).chars().next().unwrap(),
            tuple(&before),
            tuple(&after),
        );
        Line {
            change,
            before,
            after,
        }
    }
}

impl Json {
    fn of(text: &str) -> Option<Self> {
        (text != "null").then(|| Json {
            text: text.to_owned(),
            members: members(text),
        })
    }

    /// The object of some columns, in their order.
    pub(super) fn json(&self, columns: &[&str]) -> String {
        let members: Vec<String> = columns
            .iter()
            .map(|column| format!("\"{column}\":{}", self.members[*column].get()))
            .collect();
        format!("{{{}}}", members.join(","))
    }

    fn tuple(&self, table: &str, types: &Types) -> Tuple {
        self.members
            .iter()
            .map(|(column, value)| {
                let of_type = types.of_column(table, column);
                (column.clone(), in_postgres_text(value.get(), of_type))
            })
            .collect()
    }
}

/// What Postgres prints for a value that `row_to_json` writes as `json`.
fn in_postgres_text(json: &str, of_type: &str) -> Option<String> {
    if json == "null" {
        return None;
    }
    if of_type == "json" || of_type == "jsonb" {
        return Some(json.to_owned());
    }
    if !json.starts_with('"') {
        return Some(json.to_owned());
    }
    let text = string(json);
    Some(match of_type {
        "timestamp without time zone" => text.replace('T', " "),
        "timestamp with time zone" => text.replace('T', " ").replace("+00:00", "+00"),
        _ => text,
    })
}

/// The members of a JSON object, as they are written.
#[track_caller]
pub(super) fn members(json: &str) -> BTreeMap<String, Box<RawValue>> {
    serde_json::from_str(json).unwrap_or_else(|e| panic!("{e} in {json}"))
}

/// A JSON string's text.
#[track_caller]
pub(super) fn string(json: &str) -> String {
    serde_json::from_str(json).unwrap_or_else(|e| panic!("{e} in {json}"))
}
