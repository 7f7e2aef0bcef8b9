//! The table of `docs/schema-evolution.md`, asked of a real registry about the schemas that a
//! real server makes: each ALTER, each level. What it takes and the client refuses is [`super::misread`].

use std::collections::BTreeMap;

use headwater_tests::installation::workspace;
use headwater_tests::registry::Compatibility::{Backward, Forward, Full};
use headwater_tests::{Registry, Session};

use crate::world::postgres;

/// A row of the table: how it begins, a table `t`, and what is done to it.
struct Case {
    row: &'static str,
    before: &'static str,
    alter: &'static str,
    /// Options of the plugin.
    options: &'static str,
}

const fn case(row: &'static str, before: &'static str, alter: &'static str) -> Case {
    Case {
        row,
        before,
        alter,
        options: "",
    }
}

const PLAIN: &str = "create table t (id bigint primary key, c text)";

/// In the table's order; both ways where an arrow has two ends.
const CASES: &[Case] = &[
    case(
        "`ADD COLUMN`",
        PLAIN,
        "alter table t add d text not null default 'x', add e int[], add f int default 7",
    ),
    case("`DROP COLUMN`", PLAIN, "alter table t drop c"),
    case("`RENAME COLUMN` |", PLAIN, "alter table t rename c to d"),
    case(
        "`SET`/`DROP NOT NULL`",
        PLAIN,
        "alter table t alter c set not null, alter c set default 'x', alter c set storage external, \
         add check (id > 0); create index on t (c)",
    ),
    case(
        "`TYPE`: smallint ↔ integer",
        "create table t (id bigint primary key, c smallint)",
        "alter table t alter c type int",
    ),
    case(
        "`TYPE`: smallint ↔ integer",
        "create table t (id bigint primary key, c int)",
        "alter table t alter c type smallint",
    ),
    case(
        "`TYPE`: integer → bigint",
        "create table t (id bigint primary key, c int)",
        "alter table t alter c type bigint",
    ),
    case(
        "`TYPE`: bigint → integer",
        "create table t (id bigint primary key, c bigint)",
        "alter table t alter c type int",
    ),
    case(
        "`TYPE`: real → double precision",
        "create table t (id bigint primary key, c real)",
        "alter table t alter c type double precision",
    ),
    case(
        "`TYPE`: double precision → real",
        "create table t (id bigint primary key, c double precision)",
        "alter table t alter c type real",
    ),
    case(
        "`TYPE`: integer → numeric",
        "create table t (id bigint primary key, c int)",
        "alter table t alter c type numeric",
    ),
    case(
        "`TYPE`: text → integer",
        PLAIN,
        "alter table t alter c type int using 1",
    ),
    case(
        "`TYPE`: integer → text",
        "create table t (id bigint primary key, c int)",
        "alter table t alter c type text",
    ),
    case(
        "`TYPE`: varchar(n) ↔",
        "create table t (id bigint primary key, c varchar(10))",
        "alter table t alter c type varchar(20)",
    ),
    case(
        "`TYPE`: varchar(n) ↔",
        PLAIN,
        "alter table t alter c type char(5)",
    ),
    case(
        "`TYPE`: numeric(p,s) ↔ numeric",
        "create table t (id bigint primary key, c numeric(10,2))",
        "alter table t alter c type numeric",
    ),
    case(
        "`TYPE`: numeric(p,s) ↔ numeric",
        "create table t (id bigint primary key, c numeric)",
        "alter table t alter c type numeric(10,2)",
    ),
    case(
        "`TYPE`: uuid ↔ text",
        "create table t (id bigint primary key, c uuid)",
        "alter table t alter c type text",
    ),
    case(
        "`TYPE`: uuid ↔ text",
        PLAIN,
        "alter table t alter c type uuid using null",
    ),
    case(
        "`TYPE`: json ↔ jsonb",
        "create table t (id bigint primary key, c json)",
        "alter table t alter c type jsonb",
    ),
    case(
        "`TYPE`: json ↔ jsonb",
        "create table t (id bigint primary key, c jsonb)",
        "alter table t alter c type json",
    ),
    case(
        "`TYPE`: text ↔ json",
        PLAIN,
        "alter table t alter c type json using null",
    ),
    case(
        "`TYPE`: text ↔ json",
        "create table t (id bigint primary key, c json)",
        "alter table t alter c type text",
    ),
    case(
        "`TYPE`: bytea ↔ text",
        "create table t (id bigint primary key, c bytea)",
        "alter table t alter c type text using null",
    ),
    case(
        "`TYPE`: bytea ↔ text",
        PLAIN,
        "alter table t alter c type bytea using null",
    ),
    case(
        "`TYPE`: date → timestamp",
        "create table t (id bigint primary key, c date)",
        "alter table t alter c type timestamp",
    ),
    case(
        "`TYPE`: timestamp ↔ timestamptz",
        "create table t (id bigint primary key, c timestamp)",
        "alter table t alter c type timestamptz",
    ),
    case(
        "`TYPE`: timestamp ↔ timestamptz",
        "create table t (id bigint primary key, c timestamptz)",
        "alter table t alter c type timestamp",
    ),
    case(
        "`TYPE`: timestamptz → date",
        "create table t (id bigint primary key, c timestamptz)",
        "alter table t alter c type date",
    ),
    case(
        "`TYPE`: timestamp → time",
        "create table t (id bigint primary key, c timestamp)",
        "alter table t alter c type time",
    ),
    case(
        "`TYPE`: integer ↔ date",
        "create table t (id bigint primary key, c int)",
        "alter table t alter c type date using null",
    ),
    case(
        "`TYPE`: integer ↔ date",
        "create table t (id bigint primary key, c date)",
        "alter table t alter c type int using null",
    ),
    case(
        "`TYPE`: bigint ↔ timestamp, timestamptz, time",
        "create table t (id bigint primary key, c bigint)",
        "alter table t alter c type timestamptz using null",
    ),
    case(
        "`TYPE`: bigint ↔ timestamp, timestamptz, time",
        "create table t (id bigint primary key, c time)",
        "alter table t alter c type bigint using null",
    ),
    case(
        "`TYPE`: date → bigint, double precision",
        "create table t (id bigint primary key, c date)",
        "alter table t alter c type double precision using null",
    ),
    case(
        "`TYPE`: integer → integer[]",
        "create table t (id bigint primary key, c int)",
        "alter table t alter c type int[] using array[c]",
    ),
    case(
        "`TYPE`: integer[] → bigint[]",
        "create table t (id bigint primary key, c int[])",
        "alter table t alter c type bigint[]",
    ),
    case(
        "`TYPE`: timestamp[] ↔ timestamptz[]",
        "create table t (id bigint primary key, c timestamp[])",
        "alter table t alter c type timestamptz[]",
    ),
    case(
        "`TYPE`: a domain ↔ its base type",
        "create domain email as text; create table t (id bigint primary key, c email)",
        "alter table t alter c type text",
    ),
    case(
        "`TYPE`: a domain ↔ its base type",
        "create domain email as text; create table t (id bigint primary key, c text)",
        "alter table t alter c type email",
    ),
    case(
        "`TYPE`: a domain ↔ its base type",
        "create domain email as text; create table t (id bigint primary key, c email)",
        "alter domain email add check (value <> ''); alter domain email rename to mail",
    ),
    case(
        "`ADD PRIMARY KEY`",
        "create table t (id bigint, c text)",
        "alter table t add primary key (id)",
    ),
    case(
        "`DROP CONSTRAINT` of the primary key",
        PLAIN,
        "alter table t drop constraint t_pkey",
    ),
    case(
        "a column more in the primary key",
        "create table t (id bigint primary key, c text not null)",
        "alter table t drop constraint t_pkey, add primary key (id, c)",
    ),
    case(
        "a column less in the primary key",
        "create table t (id bigint, c text, primary key (id, c))",
        "alter table t drop constraint t_pkey, add primary key (id)",
    ),
    case(
        "another column as the primary key",
        "create table t (id bigint primary key, c text not null)",
        "alter table t drop constraint t_pkey, add primary key (c)",
    ),
    case(
        "another column as the primary key",
        "create table t (id bigint primary key, c text not null unique)",
        "alter table t replica identity using index t_c_key",
    ),
    case(
        "`TYPE` of a key's column: integer → bigint",
        "create table t (id int primary key, c text)",
        "alter table t alter id type bigint",
    ),
    case(
        "`TYPE` of a key's column: timestamp ↔ timestamptz",
        "create table t (id timestamp primary key, c text)",
        "alter table t alter id type timestamptz",
    ),
    case(
        "`RENAME COLUMN` of a key's column",
        PLAIN,
        "alter table t rename id to key",
    ),
    case(
        "`ALTER TYPE` of a row type",
        "create type pair as (a int); create table t (id bigint primary key, c pair)",
        "alter type pair add attribute b text",
    ),
    case(
        "`ALTER TYPE` of a row type",
        "create type pair as (a int, b text); create table t (id bigint primary key, c pair)",
        "alter type pair drop attribute b",
    ),
    case(
        "`ALTER TYPE` of a row type",
        "create type pair as (a int); create table t (id bigint primary key, c pair)",
        "alter type pair rename attribute a to b",
    ),
    case(
        "`ALTER TYPE … RENAME TO` of a row type",
        "create type pair as (a int); create table t (id bigint primary key, c pair)",
        "alter type pair rename to couple",
    ),
    case(
        "`ALTER TYPE … SET SCHEMA` of a row type",
        "create type pair as (a int); create table t (id bigint primary key, c pair)",
        "alter type pair set schema public",
    ),
    case(
        "`ALTER TYPE … ADD VALUE`",
        "create type mood as enum ('sad'); create table t (id bigint primary key, c mood)",
        "alter type mood add value 'ok'",
    ),
    Case {
        row: "the same, under `enum=avro` | yes",
        before: "create type mood as enum ('sad'); create table t (id bigint primary key, c mood)",
        alter: "alter type mood add value 'ok'",
        options: ", 'enum=avro'",
    },
    case(
        "`ALTER TYPE … RENAME VALUE`",
        "create type mood as enum ('sad', 'ok'); create table t (id bigint primary key, c mood)",
        "alter type mood rename value 'ok' to 'fine'",
    ),
    Case {
        row: "the same, under `enum=avro` | no",
        before: "create type mood as enum ('sad', 'ok'); create table t (id bigint primary key, c mood)",
        alter: "alter type mood rename value 'ok' to 'fine'",
        options: ", 'enum=avro'",
    },
    case("`RENAME TO` of a table", PLAIN, "alter table t rename to u"),
    case(
        "`SET SCHEMA` of a table",
        PLAIN,
        "alter table t set schema elsewhere",
    ),
];

/// Rows about what one registry takes and another does not: Apicurio compares the `bytes`.
const UP_TO_THE_REGISTRY: [&str; 2] = [
    "`TYPE`: numeric(p,s) ↔ another precision or scale",
    "`TYPE` of a key's column: numeric(p,s)",
];

/// A table's schemas: of its keys, and of its values; and its topic.
struct Schemas {
    key: String,
    value: String,
    topic: String,
}

#[test]
fn a_real_registry_says_what_the_table_of_alters_says() {
    let page = std::fs::read_to_string(workspace().join("docs/schema-evolution.md")).unwrap();
    let (_, rest) = page.split_once("<!-- changes -->\n").unwrap();
    let (table, _) = rest.split_once("<!-- end -->").unwrap();
    let rows: Vec<&str> = table.lines().skip(2).collect();
    let sql = postgres().database("avro_evolution");
    sql.run("create schema elsewhere");

    let mut registry = Registry::new(Full);
    let mut found: BTreeMap<usize, [String; 3]> = BTreeMap::new();
    let mut schemas = Vec::new();
    for (number, case) in CASES.iter().enumerate() {
        let (before, after) = altered(&sql, number, case);
        let subject = |part: &str| format!("evolution-{number}-{part}");
        for (part, schema) in [("key", &before.key), ("value", &before.value)] {
            if !schema.is_empty() {
                registry.register(&subject(part), schema).unwrap();
            }
        }
        schemas.push((before, after));
    }
    for (place, level) in [Backward, Forward, Full].into_iter().enumerate() {
        registry.set_compatibility(level);
        for (number, (before, after)) in schemas.iter().enumerate() {
            let said = said(&registry, number, before, after);
            found.entry(number).or_default()[place] = said;
        }
    }

    let mut wrong = Vec::new();
    for (number, cells) in &found {
        let case = &CASES[*number];
        let row = rows.iter().find(|row| row[2..].starts_with(case.row));
        let told = row.map(|row| row.split(" | ").skip(1).take(3).map(of_registry));
        let told = told.map(Iterator::collect::<Vec<_>>);
        if told.as_deref() != Some(&cells.each_ref().map(String::as_str)) {
            wrong.push(format!(
                "{}\n  {}: {cells:?}, not {told:?}",
                case.row, case.alter
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for row in rows {
        let covered = CASES.iter().map(|case| case.row).chain(UP_TO_THE_REGISTRY);
        assert!(
            covered
                .into_iter()
                .any(|covered| row[2..].starts_with(covered)),
            "nobody has tried {row}"
        );
    }
}

/// What a registry says of what a cell tells: what would be misread, it takes.
fn of_registry(cell: &str) -> &str {
    match cell.ends_with("(misread)") {
        true => "yes",
        false => cell,
    }
}

fn altered(sql: &Session, number: usize, case: &Case) -> (Schemas, Schemas) {
    let schema = format!("e{number}");
    sql.run(&format!(
        "create schema {schema}; set search_path = {schema}; {}",
        case.before
    ));
    let oid = sql.value("select 't'::regclass::oid");
    let schemas = || Schemas {
        key: schema_of(sql, &oid, "key", case),
        value: schema_of(sql, &oid, "value", case),
        topic: sql.value(&format!("select headwater.topic({oid}::regclass)")),
    };
    let before = schemas();
    for statement in case.alter.split("; ") {
        sql.run(statement);
    }
    let after = schemas();
    // What has left its schema is in nobody's way.
    sql.run("drop table if exists elsewhere.t; drop type if exists public.pair cascade");
    (before, after)
}

/// Empty where there is none.
fn schema_of(sql: &Session, oid: &str, part: &str, case: &Case) -> String {
    sql.value(&format!(
        "select coalesce(headwater.avro_schema({oid}::regclass, '{part}'{}), '')",
        case.options
    ))
}

/// What a cell of the table has to say.
fn said(registry: &Registry, number: usize, before: &Schemas, after: &Schemas) -> String {
    if before.topic != after.topic {
        return "new subject".to_owned();
    }
    let takes = |part: &str, before: &str, after: &str| {
        // The first schema of a subject is taken as it is.
        let is_asked = !before.is_empty() && !after.is_empty();
        !is_asked || registry.takes(&format!("evolution-{number}-{part}"), after)
    };
    let key = takes("key", &before.key, &after.key);
    let value = takes("value", &before.value, &after.value);
    match (key, value) {
        (true, true) => "yes",
        (true, false) => "no",
        (false, true) => "no: key",
        (false, false) => "no: key and value",
    }
    .to_owned()
}
