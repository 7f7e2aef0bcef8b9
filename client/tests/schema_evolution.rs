//! What each ALTER does to a table's schemas, and whether a registry takes it: the table of
//! `docs/schema-evolution.md`, each cell of which a checker of Avro's that is not ours decides,
//! and, where that takes what readers would misread, the client's own rule.
//! With `HEADWATER_BLESS=1` the test rewrites the table.

#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;

use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use headwater::registry::misread;
use headwater_protocol::avro::{self, Decimal, Enum, Field, FullName, Property, Schema};
use headwater_protocol::type_map::Kind;

/// A statement, and the schemas of a table before and after it.
struct Change {
    statement: &'static str,
    before: Table,
    after: Table,
    /// What readers of records from before and after see, or what else there is to know.
    note: &'static str,
}

#[derive(Clone)]
struct Table {
    /// Schema and name.
    name: (&'static str, &'static str),
    key: Vec<Column>,
    columns: Vec<Column>,
}

type Column = (&'static str, Schema, &'static str);

impl Table {
    /// The record that topics of whole changes hold.
    fn envelope_schema(&self) -> Schema {
        let (schema, table) = self.name;
        avro::envelope_schema(FullName::envelope(schema, table), self.value_schema())
    }

    fn value_schema(&self) -> Schema {
        let (schema, table) = self.name;
        let key = self
            .key
            .iter()
            .map(|column| field(column, column.1.clone()));
        let rest = self
            .columns
            .iter()
            .map(|column| field(column, column.1.clone().optional()));
        Schema::record(FullName::row(schema, table), key.chain(rest).collect())
    }

    fn key_schema(&self) -> Option<Schema> {
        let fields: Vec<Field> = self
            .key
            .iter()
            .map(|column| field(column, column.1.clone()))
            .collect();
        let (schema, table) = self.name;
        (!fields.is_empty()).then(|| Schema::record(FullName::key(schema, table), fields))
    }
}

fn field((name, _, pg_type): &Column, schema: Schema) -> Field {
    Field {
        name: avro::escape(name),
        schema,
        properties: vec![Property::pg_type(*pg_type)],
    }
}

/// A table with the key `id` and such a column.
fn with(schema: Schema, pg_type: &'static str) -> Table {
    table(vec![id()], vec![("c", schema, pg_type)])
}

fn table(key: Vec<Column>, columns: Vec<Column>) -> Table {
    Table {
        name: ("public", "t"),
        key,
        columns,
    }
}

/// The same table elsewhere.
fn moved(of: &Table, schema: &'static str, name: &'static str) -> Table {
    Table {
        name: (schema, name),
        ..of.clone()
    }
}

fn id() -> Column {
    ("id", Schema::Long, "bigint")
}

fn named(name: &'static str) -> Column {
    (name, Schema::String, "text")
}

fn numeric(precision: u16, scale: u16) -> Schema {
    Schema::Decimal(Decimal::new(precision, scale).unwrap())
}

fn composite(name: &str, attributes: &[(&str, Schema)]) -> Schema {
    let fields = attributes
        .iter()
        .map(|(name, schema)| Field::new(*name, schema.clone().optional()));
    Schema::record(FullName::of_type("public", name), fields.collect())
}

fn labels(labels: &[&str]) -> Schema {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    Schema::String.with(Property::labels(labels))
}

fn symbols(labels: &[&str]) -> Schema {
    Schema::Enum(Rc::new(Enum {
        name: FullName::of_type("public", "mood"),
        symbols: labels.iter().map(|label| avro::escape(label)).collect(),
    }))
}

fn array(array_type: &str, element: Schema) -> Schema {
    avro::array_schema(FullName::array("pg_catalog", array_type, None), element)
}

fn retype(statement: &'static str, before: Kind, after: Kind, note: &'static str) -> Change {
    Change {
        statement,
        before: with(before.schema(-1), "before"),
        after: with(after.schema(-1), "after"),
        note,
    }
}

const BY_USING: &str = "with `USING`";
const NEW_KEYS: &str = "[other keys](#when-the-key-changes)";

fn changes() -> Vec<Change> {
    let plain = with(Schema::String, "text");
    let two = table(vec![id()], vec![named("c"), named("d")]);
    let without_key = table(vec![], vec![id(), named("c")]);
    vec![
        Change {
            statement: "`ADD COLUMN`, with NOT NULL, DEFAULT or without",
            before: plain.clone(),
            after: two.clone(),
            note: "records from before read as null, also where the column has a default: it is \
                   in the catalog, not in the rows",
        },
        Change {
            statement: "`DROP COLUMN`",
            before: two,
            after: plain.clone(),
            note: "old readers see null in new records",
        },
        Change {
            statement: "`RENAME COLUMN`",
            before: plain.clone(),
            after: table(vec![id()], vec![named("renamed")]),
            note: "as a column dropped and another added: under the new name, old records are null",
        },
        Change {
            statement: "`SET`/`DROP NOT NULL`, `DEFAULT`, constraints, indexes, storage, triggers",
            before: plain.clone(),
            after: plain.clone(),
            note: "the schemas stay as they are",
        },
        retype(
            "`TYPE`: smallint ↔ integer",
            Kind::Int2,
            Kind::Int4,
            "one type in Avro",
        ),
        retype("`TYPE`: integer → bigint", Kind::Int4, Kind::Int8, ""),
        retype("`TYPE`: bigint → integer", Kind::Int8, Kind::Int4, ""),
        retype(
            "`TYPE`: real → double precision",
            Kind::Float4,
            Kind::Float8,
            "",
        ),
        retype(
            "`TYPE`: double precision → real",
            Kind::Float8,
            Kind::Float4,
            "",
        ),
        retype("`TYPE`: integer → numeric", Kind::Int4, Kind::Numeric, ""),
        retype("`TYPE`: text → integer", Kind::Text, Kind::Int4, ""),
        retype("`TYPE`: integer → text", Kind::Int4, Kind::Text, ""),
        Change {
            statement: "`TYPE`: varchar(n) ↔ varchar(m), text, char(n)",
            before: with(Schema::String, "character varying(10)"),
            after: with(Schema::String, "text"),
            note: "only `pgType` changes",
        },
        Change {
            statement: "`TYPE`: numeric(p,s) ↔ another precision or scale",
            before: with(numeric(10, 2), "numeric(10,2)"),
            after: with(numeric(12, 3), "numeric(12,3)"),
            note: "by Avro's specification; where a registry compares `bytes` alone, \
                   [Headwater](#taken-and-misread) refuses it",
        },
        Change {
            statement: "`TYPE`: numeric(p,s) ↔ numeric",
            before: with(numeric(10, 2), "numeric(10,2)"),
            after: with(Schema::String, "numeric"),
            note: "",
        },
        retype(
            "`TYPE`: uuid ↔ text",
            Kind::Uuid,
            Kind::Text,
            "both are strings",
        ),
        retype(
            "`TYPE`: json ↔ jsonb",
            Kind::Json,
            Kind::Jsonb,
            "one type in Avro",
        ),
        retype(
            "`TYPE`: text ↔ json",
            Kind::Text,
            Kind::Json,
            "both are strings",
        ),
        retype("`TYPE`: bytea ↔ text", Kind::Bytea, Kind::Text, ""),
        retype("`TYPE`: date → timestamp", Kind::Date, Kind::Timestamp, ""),
        retype(
            "`TYPE`: timestamp ↔ timestamptz",
            Kind::Timestamp,
            Kind::TimestampTz,
            "",
        ),
        retype(
            "`TYPE`: timestamptz → date",
            Kind::TimestampTz,
            Kind::Date,
            "",
        ),
        retype("`TYPE`: timestamp → time", Kind::Timestamp, Kind::Time, ""),
        retype("`TYPE`: integer ↔ date", Kind::Int4, Kind::Date, BY_USING),
        retype(
            "`TYPE`: bigint ↔ timestamp, timestamptz, time",
            Kind::Int8,
            Kind::Timestamp,
            BY_USING,
        ),
        retype(
            "`TYPE`: date → bigint, double precision",
            Kind::Date,
            Kind::Int8,
            BY_USING,
        ),
        Change {
            statement: "`TYPE`: integer → integer[]",
            before: with(Schema::Int, "integer"),
            after: with(array("_int4", Schema::Int), "integer[]"),
            note: "",
        },
        Change {
            statement: "`TYPE`: integer[] → bigint[]",
            before: with(array("_int4", Schema::Int), "integer[]"),
            after: with(array("_int8", Schema::Long), "bigint[]"),
            note: "",
        },
        Change {
            statement: "`TYPE`: timestamp[] ↔ timestamptz[]",
            before: with(
                array("_timestamp", Schema::LocalTimestampMicros),
                "timestamp[]",
            ),
            after: with(
                array("_timestamptz", Schema::TimestampMicros),
                "timestamptz[]",
            ),
            note: "",
        },
        Change {
            statement: "`TYPE`: a domain ↔ its base type; `ALTER DOMAIN`",
            before: table(vec![id()], vec![("c", Schema::String, "text")]),
            after: table(vec![id()], vec![("c", Schema::String, "email")]),
            note: "only the properties change",
        },
        Change {
            statement: "`ADD PRIMARY KEY`, where no identity was",
            before: without_key.clone(),
            after: plain.clone(),
            note: "records from before have no key, and the key's columns could be null",
        },
        Change {
            statement: "`DROP CONSTRAINT` of the primary key",
            before: plain.clone(),
            after: without_key,
            note: "the rows have no key any more",
        },
        Change {
            statement: "a column more in the primary key",
            before: plain.clone(),
            after: table(vec![id(), named("c")], vec![]),
            note: NEW_KEYS,
        },
        Change {
            statement: "a column less in the primary key",
            before: table(vec![id(), named("c")], vec![]),
            after: plain.clone(),
            note: NEW_KEYS,
        },
        Change {
            statement: "another column as the primary key, `REPLICA IDENTITY USING INDEX`",
            before: plain.clone(),
            after: table(vec![named("c")], vec![id()]),
            note: NEW_KEYS,
        },
        Change {
            statement: "`TYPE` of a key's column: integer → bigint",
            before: table(vec![("id", Schema::Int, "integer")], vec![named("c")]),
            after: plain.clone(),
            note: NEW_KEYS,
        },
        Change {
            statement: "`TYPE` of a key's column: numeric(p,s) ↔ another precision or scale",
            before: table(
                vec![("id", numeric(10, 2), "numeric(10,2)")],
                vec![named("c")],
            ),
            after: table(
                vec![("id", numeric(12, 2), "numeric(12,2)")],
                vec![named("c")],
            ),
            note: NEW_KEYS,
        },
        Change {
            statement: "`TYPE` of a key's column: timestamp ↔ timestamptz",
            before: table(
                vec![("at", Schema::LocalTimestampMicros, "timestamp")],
                vec![named("c")],
            ),
            after: table(
                vec![("at", Schema::TimestampMicros, "timestamptz")],
                vec![named("c")],
            ),
            note: NEW_KEYS,
        },
        Change {
            statement: "`RENAME COLUMN` of a key's column",
            before: plain.clone(),
            after: table(vec![("key", Schema::Long, "bigint")], vec![named("c")]),
            note: NEW_KEYS,
        },
        Change {
            statement: "`ALTER TYPE` of a row type: `ADD`, `DROP`, `RENAME ATTRIBUTE`",
            before: with(composite("pair", &[("a", Schema::Int)]), "pair"),
            after: with(composite("pair", &[("b", Schema::String)]), "pair"),
            note: "fields of row types come and go as columns do",
        },
        Change {
            statement: "`ALTER TYPE … RENAME TO` of a row type",
            before: with(composite("pair", &[("a", Schema::Int)]), "pair"),
            after: with(composite("couple", &[("a", Schema::Int)]), "couple"),
            note: "the record has another name",
        },
        Change {
            statement: "`ALTER TYPE … SET SCHEMA` of a row type",
            before: with(
                Schema::record(FullName::of_type("a", "pair"), vec![]),
                "a.pair",
            ),
            after: with(
                Schema::record(FullName::of_type("b", "pair"), vec![]),
                "b.pair",
            ),
            note: "records are compared by the last part of their names",
        },
        Change {
            statement: "`ALTER TYPE … ADD VALUE` of an enum",
            before: with(labels(&["sad"]), "mood"),
            after: with(labels(&["sad", "ok"]), "mood"),
            note: "only the property `labels` changes",
        },
        Change {
            statement: "the same, under `enum=avro`",
            before: with(symbols(&["sad"]), "mood"),
            after: with(symbols(&["sad", "ok"]), "mood"),
            note: "old readers do not know the new symbol",
        },
        Change {
            statement: "`ALTER TYPE … RENAME VALUE` of an enum",
            before: with(labels(&["sad", "ok"]), "mood"),
            after: with(labels(&["sad", "fine"]), "mood"),
            note: "records from before keep the old label",
        },
        Change {
            statement: "the same, under `enum=avro`",
            before: with(symbols(&["sad", "ok"]), "mood"),
            after: with(symbols(&["sad", "fine"]), "mood"),
            note: "",
        },
        Change {
            statement: "`RENAME TO` of a table",
            before: plain.clone(),
            after: moved(&plain, "public", "u"),
            note: "another topic, so another subject: nothing is compared",
        },
        Change {
            statement: "`SET SCHEMA` of a table, `ALTER SCHEMA … RENAME TO`",
            before: plain.clone(),
            after: moved(&plain, "private", "t"),
            note: "likewise; where the topics' template leaves the schema out, the subject is the \
                   same, and takes it",
        },
    ]
}

/// Whether a reader with one schema reads everything that was written with another.
fn reads(reader: &Schema, writer: &Schema) -> bool {
    let parse = |schema: &Schema| apache_avro::Schema::parse_str(&schema.to_json()).unwrap();
    let answer = SchemaCompatibility::can_read(&parse(writer), &parse(reader));
    matches!(answer, Ok(Compatibility::Full))
}

/// Whether a reader takes what was written with another schema for something else.
fn misreads(reader: &Schema, writer: &Schema) -> bool {
    !misread(&writer.to_json(), &reader.to_json())
        .unwrap()
        .is_empty()
}

/// What becomes of a schema that follows another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Taken,
    /// By every registry, and refused by the client.
    Misread,
    Refused,
}

/// A level of compatibility.
type Level = fn(&Schema, &Schema) -> Outcome;

const BACKWARD: Level = |before, after| outcome(after, before);
const FORWARD: Level = |before, after| outcome(before, after);
const FULL: Level = |before, after| BACKWARD(before, after).max(FORWARD(before, after));

fn outcome(reader: &Schema, writer: &Schema) -> Outcome {
    match (reads(reader, writer), misreads(reader, writer)) {
        (false, _) => Outcome::Refused,
        (true, true) => Outcome::Misread,
        (true, false) => Outcome::Taken,
    }
}

impl Change {
    /// Whether the subjects of keys and values take the change.
    fn is_taken(&self, level: Level) -> String {
        let value = level(&self.before.value_schema(), &self.after.value_schema());
        let key = match (self.before.key_schema(), self.after.key_schema()) {
            (Some(before), Some(after)) => level(&before, &after),
            // The first schema of a subject is taken as it is.
            _ => Outcome::Taken,
        };
        let parts = match (key, value) {
            (Outcome::Taken, Outcome::Taken) => return "yes".to_owned(),
            (Outcome::Taken, _) => "no",
            (_, Outcome::Taken) => "no: key",
            _ => "no: key and value",
        };
        match key.max(value) {
            Outcome::Misread => format!("{parts} (misread)"),
            _ => parts.to_owned(),
        }
    }

    /// Whether records go where no others were, by the default template.
    fn is_new_subject(&self) -> bool {
        self.before.name != self.after.name
    }
}

fn table_of_changes() -> String {
    let mut rows = String::from(
        "| ALTER TABLE … ALTER COLUMN …, and others | BACKWARD | FORWARD | FULL | |\n\
         |---|---|---|---|---|\n",
    );
    for change in changes() {
        let cells = [BACKWARD, FORWARD, FULL].map(|level| {
            if change.is_new_subject() {
                "new subject".to_owned()
            } else {
                change.is_taken(level)
            }
        });
        let (statement, note) = (change.statement, change.note);
        writeln!(rows, "| {statement} | {} | {note} |", cells.join(" | ")).unwrap();
    }
    rows
}

#[test]
fn the_table_of_changes_is_what_the_checker_says() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/schema-evolution.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once("<!-- changes -->\n").unwrap();
    let (told, after) = rest.split_once("<!-- end -->").unwrap();
    let found = table_of_changes();
    if std::env::var_os("HEADWATER_BLESS").is_some_and(|value| value == "1") {
        let page = format!("{before}<!-- changes -->\n{found}<!-- end -->{after}");
        return fs::write(&path, page).unwrap();
    }
    let differing: Vec<_> = told
        .lines()
        .zip(found.lines())
        .filter(|(told, found)| told != found)
        .collect();
    assert!(
        told == found,
        "docs/schema-evolution.md is not current; HEADWATER_BLESS=1 rewrites it: {differing:#?}"
    );
}

#[test]
fn envelopes_change_as_rows_do() {
    for change in changes().iter().filter(|change| !change.is_new_subject()) {
        for level in [BACKWARD, FORWARD] {
            let rows = level(&change.before.value_schema(), &change.after.value_schema());
            let (before, after) = (
                change.before.envelope_schema(),
                change.after.envelope_schema(),
            );
            assert_eq!(level(&before, &after), rows, "{}", change.statement);
        }
    }
}

/// What the note at SET SCHEMA says.
#[test]
fn a_table_in_another_schema_is_taken_by_the_same_subject() {
    for change in changes() {
        if change.before.name.1 == change.after.name.1 && change.is_new_subject() {
            assert_eq!(change.is_taken(FULL), "yes", "{}", change.statement);
        }
    }
}

/// A key is not stable if its bytes are not: the id of its schema is a part of them.
#[test]
fn a_keys_schema_stays_when_labels_domains_or_lengths_change() {
    let keyed = |labels: Schema, pg_type| table(vec![("k", labels, pg_type)], vec![id()]);
    let before = keyed(labels(&["sad"]), "mood");
    let after = keyed(labels(&["sad", "ok"]), "other_mood");
    assert_ne!(
        before.value_schema().to_json(),
        after.value_schema().to_json()
    );
    let text = |table: &Table| table.key_schema().unwrap().to_key_json();
    assert_eq!(text(&before), text(&after));
}
