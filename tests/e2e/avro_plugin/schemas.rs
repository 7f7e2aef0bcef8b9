//! Schemas: when they come again, that no two tables share one, and whose rows are of which.

use headwater_protocol::avro::Fingerprint;
use headwater_tests::avro::{self, Item};
use headwater_tests::session::Session;

use super::{items, schemas};
use crate::world::{database_with_slot, postgres};

/// Statements between one row and the next, and whether they change a schema. A row that is
/// written under a schema comes behind it.
const ALTERS: &[(&str, bool)] = &[
    ("alter type pair add attribute c int", true),
    ("alter type pair rename attribute c to d", true),
    ("alter type nested rename to deeper", true),
    ("alter type mood add value 'so so'", true),
    ("alter type mood rename value 'so so' to 'fine'", true),
    (
        "alter domain small add constraint positive check (value > 0)",
        false,
    ),
    ("alter domain small rename to smaller", true),
    ("alter domain smaller set schema elsewhere", true),
    ("alter schema elsewhere rename to there", true),
    ("alter type spread rename to spreads", true),
    ("alter table t drop column gone", true),
    ("alter table t add column later numeric(3,1)[]", true),
    ("alter table t alter later type numeric(4,1)[]", true),
    ("alter table t alter later set not null", false),
    ("analyze t", false),
    ("create table beside (id int)", false),
];

#[test]
fn schemas_come_again_before_the_first_row_that_uses_them() {
    for (name, within) in [
        ("avro_plugin_alters", false),
        ("avro_plugin_alters_within", true),
    ] {
        let sql = database_with_slot(name);
        sql.run(
            "create schema elsewhere; create type pair as (a int, b text);
             create type nested as (p pair); create type mood as enum ('sad');
             create domain small as int; create domain other as int;
             create type spread as range (subtype = other);
             create table t (id serial primary key, n nested[], m mood, s small, r spread, gone int)",
        );
        let insert = "insert into t (n, later) values (null, '{1}')";
        let insert = |sql: &Session| {
            let later = sql.value(
                "select count(*) from pg_attribute where attrelid = 't'::regclass and attname = 'later'",
            );
            match later.as_str() {
                "0" => sql.run("insert into t (n) values (null)"),
                _ => sql.run(insert),
            }
        };
        insert(&sql);
        for (alter, _) in ALTERS {
            // A value that is added to an enum cannot be used in its transaction, but is there.
            if within {
                sql.run("begin");
            }
            insert(&sql);
            sql.run(&alter.replace("set not null", "set default '{}'"));
            insert(&sql);
            if within {
                sql.run("commit");
            }
        }
        let items = items(&sql, name, &["tables=public.t"]);
        let mut told = items.iter().peekable();
        let mut changed = Vec::new();
        let mut rows = 0;
        for item in told.by_ref() {
            match item {
                Item::Schemas(_) => changed.push(rows),
                Item::Row(_) => rows += 1,
                other => panic!("{other:?}"),
            }
        }
        // A rewrite sends rows again, so places are counted where none was.
        let expected = 1 + ALTERS.iter().filter(|(_, changes)| *changes).count();
        assert_eq!(changed.len(), expected, "{name}: {changed:?}");
        let newest = schemas(&items).last().unwrap().value.clone();
        assert_eq!(
            sql.value("select headwater.avro_schema('t', 'value')"),
            newest
        );
    }
}

#[test]
fn a_table_may_have_any_name_and_no_two_share_a_schema() {
    let name = "avro_plugin_names";
    let sql = database_with_slot(name);
    let mut names = std::collections::BTreeSet::new();
    for (schema, table) in [
        ("a", "b_c"),
        ("a_b", "c"),
        ("a.b", "c"),
        ("a", "b.c"),
        ("headwater", "Source"),
        ("_x68_eadwater", "Source"),
        ("größe", "1st"),
    ] {
        if schema != "headwater" {
            sql.run(&format!("create schema if not exists \"{schema}\""));
        }
        sql.run(&format!(
            "create table \"{schema}\".\"{table}\" (\"{table}\" int primary key, \"a\"\"%s\" int)"
        ));
        let schema = sql.value(&format!(
            "select headwater.avro_schema('\"{schema}\".\"{table}\"', 'value', 'envelope=change')"
        ));
        let parsed = avro::schema(&schema);
        assert!(names.insert(parsed.name().unwrap().to_string()), "{schema}");
    }
}

/// A lock on a table keeps nobody from altering a type that its columns are made of.
#[test]
fn rows_are_not_encoded_under_schemas_that_the_table_had() {
    let sql = postgres().database("avro_plugin_bound");
    sql.run(
        "create type address as (street text);
         create table t (id int primary key, a address, note text);
         insert into t values (1, row('Via Roma'), 'n')",
    );
    let fingerprint = || {
        let schema = |part| sql.value(&format!("select headwater.avro_schema('t', '{part}')"));
        Fingerprint::of(Some(&schema("key")), &schema("value"))
    };
    let encode = |schemas: Fingerprint| {
        sql.attempt(&format!(
            "select headwater.encode(t.*, 'format=avro', 'output=frames', 'schemas={schemas}') from t"
        ))
    };
    let before = fingerprint();
    assert_eq!(encode(before).map(|rows| rows.len()).ok(), Some(1));
    sql.run("begin isolation level repeatable read; select from t");
    let other = postgres().session("avro_plugin_bound");
    other.run("alter type address add attribute zip text");
    let refused = encode(before).unwrap_err();
    assert_eq!(refused.state, "40001", "{refused}");
    assert!(refused.to_string().contains("\"public.t\""), "{refused}");
    sql.run("rollback");
    assert_eq!(encode(fingerprint()).map(|rows| rows.len()).ok(), Some(1));
}

/// Who may not read a table may not hold up those who alter it either.
#[test]
fn to_describe_a_table_keeps_no_lock_that_a_user_could_not_take() {
    let sql = postgres().database("avro_plugin_lock");
    sql.run(
        "create table t (id int primary key);
         create role avro_plugin_stranger login;
         grant usage on schema headwater to avro_plugin_stranger",
    );
    let locks = "select count(*) from pg_locks where pid = pg_backend_pid() \
                 and relation = 'public.t'::regclass";
    for (role, kept) in [("avro_plugin_stranger", "0"), ("postgres", "1")] {
        sql.run(&format!("set role {role}; begin"));
        sql.run("select headwater.relation('public.t'), headwater.avro_schema('public.t', 'key')");
        assert_eq!(sql.value(locks), kept, "{role}");
        sql.run("commit; reset role");
    }
}
