//! Which relations are streamed, and tables at the edge of what the server allows.

use headwater_tests::session::Session;
use headwater_tests::topic;
use serde_json::Value;

use crate::names::{escaped, quoted};
use crate::world::{World, database_with_slot};

fn lines(sql: &Session, slot: &str, options: &str) -> Vec<String> {
    sql.column(&format!(
        "select data from pg_logical_slot_peek_changes('{slot}', null, null{options})"
    ))
}

fn changes(sql: &Session, slot: &str, options: &str) -> Vec<Value> {
    lines(sql, slot, options)
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}")))
        .collect()
}

#[test]
fn only_ordinary_tables_are_streamed() {
    let name = "relations_kinds";
    let sql = database_with_slot(name);
    sql.run(
        "create table items (id int primary key, body text);
         alter table items alter body set storage external;
         create materialized view totals as select id, body from items;
         create unique index on totals (id);
         create view seen as select * from items;
         create unlogged table scratch (id int primary key);
         create temporary table passing (id int primary key);
         create sequence numbers;
         create foreign data wrapper nowhere;
         create server elsewhere foreign data wrapper nowhere;
         create foreign table far (id int) server elsewhere",
    );
    sql.run(
        "insert into items values (1, repeat('x', 10000));
         insert into scratch values (1); insert into passing values (1);
         select nextval('numbers')",
    );
    sql.run("refresh materialized view concurrently totals");
    sql.run("update seen set id = 2");
    sql.run("refresh materialized view concurrently totals; refresh materialized view totals");
    for options in ["", ", 'partitions', 'leaf'", ", 'tables', '*.*'"] {
        let tables: Vec<Value> = changes(&sql, name, options)
            .iter()
            .map(|change| change["source"]["table"].clone())
            .collect();
        assert_eq!(tables, ["items", "items"], "{options}");
    }
}

#[test]
fn the_client_copies_what_the_stream_would_bring() {
    let world = World::new("relations_copied");
    world.sql.run(
        "create table items (id int primary key);
         create materialized view totals as select 1 as id;
         create unique index on totals (id);
         create unlogged table scratch (id int primary key);
         create table parent (id int primary key, body text);
         alter table parent alter body set storage external;
         create table child (more text, primary key (id)) inherits (parent);
         insert into parent values (1, repeat('p', 10000)), (2, 'second');
         insert into child values (1, repeat('c', 10000), 'more'), (3, 'third', null)",
    );
    // Through the parent to the child's rows, and values that are not in the WAL.
    world.streamed(&[], || {
        world.sql.run(
            "update parent set id = id + 10;
         update only parent set id = 12 where id = 12;
         delete from parent where id = 13;
         refresh materialized view concurrently totals",
        )
    });
    assert_eq!(world.folded("parent"), world.rows("only parent", "t.id"));
    world.topic_equals_table("child", "t.id");
    for table in ["totals", "scratch"] {
        assert!(topic::try_read(world.kafka, &world.topic(table)).is_err());
    }
}

#[test]
fn a_table_may_have_no_column() {
    let world = World::new("relations_none");
    world.sql.run(
        "create table nothing (); insert into nothing default values;
         create table emptied (a int, b text); alter table emptied drop a, drop b;
         insert into emptied default values",
    );
    world.streamed(&["--unkeyed", "send"], || {
        world
            .sql
            .run("insert into nothing default values; insert into emptied default values")
    });
    for table in ["nothing", "emptied"] {
        let records = topic::read(world.kafka, &world.topic(table));
        let values: Vec<_> = records
            .iter()
            .map(|record| (record.key.as_deref(), record.value.as_deref()))
            .collect();
        assert_eq!(values, [(None, Some("{}")), (None, Some("{}"))], "{table}");
    }
}

#[test]
fn a_table_may_have_as_many_columns_as_the_server_allows_with_the_longest_names() {
    let world = World::new("relations_wide");
    // 63 bytes: four digits, 29 characters of two bytes, and one more.
    let columns: Vec<String> = (1..=1600)
        .map(|n| format!("\"{n:04}{}_\" int", "é".repeat(29)))
        .collect();
    world.sql.run(&format!(
        "create table wide ({}, primary key (\"{}\"))",
        columns.join(", "),
        name_of(&columns[1599])
    ));
    let longest = world.sql.value(
        "select max(octet_length(attname::text)) || ' ' || count(*) from pg_attribute \
         where attrelid = 'wide'::regclass and attnum > 0",
    );
    assert_eq!(longest, "63 1600");
    let key = format!("t.\"{}\"", name_of(&columns[1599]));
    let insert = |first: i32, others: &str| {
        let values: Vec<String> = (1..1600)
            .map(|n| others.replace("{n}", &n.to_string()))
            .collect();
        world.sql.run(&format!(
            "insert into wide values ({}, {first})",
            values.join(", ")
        ));
    };
    insert(1, "null");
    insert(2, "-{n}");
    let mut client = world.stream(&[]);
    client.streams();
    insert(3, "{n}");
    insert(4, "null");
    world.sql.run(&format!(
        "update wide set \"{}\" = 7; delete from wide t where {key} = 1",
        name_of(&columns[0])
    ));
    world.catches_up();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("wide", &key);
}

fn name_of(column: &str) -> &str {
    column.trim_end_matches(" int").trim_matches('"')
}

/// Names that are nobody's friend. Up to 63 bytes, which is all that the server keeps.
const NAMES: [&str; 6] = [
    "quo\"te'd. \\ %s %n {x} $1",
    "line\nreturn\rtab\tend",
    "\u{1}\u{1f}\u{7f}",
    "日本語のテーブル",
    "🐘🐘🐘🐘🐘🐘🐘🐘🐘🐘🐘🐘🐘🐘🐘x63",
    "key\",\"value\":{}} --;",
];

#[test]
fn names_may_hold_any_character() {
    let world = World::new("relations_names");
    for name in NAMES {
        assert!(name.len() <= 63, "{name}");
        let name = quoted(name);
        world.sql.run(&format!(
            "create schema {name};
             create table {name}.{name} ({name} int primary key, n int, \"b\"\"ody\" text);
             alter table {name}.{name} alter \"b\"\"ody\" set storage external;
             insert into {name}.{name} values (1, 1, repeat('x', 10000))"
        ));
    }
    let only = format!("{0}.{0}", quoted(NAMES[0]));
    world
        .stream(&["-t", &only, "--snapshot", "only", "--sink", "stdout"])
        .wait()
        .expect(0, &[]);
    let mut client = world.stream(&[]);
    client.streams();
    for name in NAMES {
        let name = quoted(name);
        world.sql.run(&format!(
            "update {name}.{name} set n = 2; insert into {name}.{name} values (2, 2, null), (3, 3, '');
             delete from {name}.{name} where {name} = 3; update {name}.{name} set {name} = 5 where n = 2 and {name} = 2"
        ));
    }
    world.catches_up();
    client.terminate().expect(0, &[]);
    for name in NAMES {
        let whole = format!("{}.{}", escaped(name), escaped(name));
        // Kafka takes 249 characters; what is cut is tested with the router.
        if whole.len() > 249 {
            continue;
        }
        let records = topic::read(world.kafka, &whole);
        let table = format!("{0}.{0}", quoted(name));
        assert_eq!(
            topic::fold(&records),
            world.rows(&table, &format!("t.{}", quoted(name))),
            "{name:?}"
        );
    }
}

#[test]
fn a_line_is_one_line_whatever_the_names_are() {
    let name = "relations_lines";
    let sql = database_with_slot(name);
    for name in NAMES {
        let name = quoted(name);
        sql.run(&format!(
            "create schema {name}; create table {name}.{name} ({name} int primary key);
             insert into {name}.{name} values (1); truncate {name}.{name}"
        ));
    }
    let lines = lines(&sql, name, "");
    assert_eq!(lines.len(), 2 * NAMES.len());
    for (name, pair) in NAMES.iter().zip(lines.chunks(2)) {
        for line in pair {
            assert!(!line.contains(['\n', '\r', '\t']), "{line}");
            let change: Value = serde_json::from_str(line).unwrap();
            assert_eq!(change["source"]["schema"], *name);
            assert_eq!(change["source"]["table"], *name);
        }
        let inserted: Value = serde_json::from_str(&pair[0]).unwrap();
        assert_eq!(inserted["after"][name], 1);
    }
}

#[test]
fn a_delete_without_a_key_is_named_and_never_made_up() {
    let world = World::new("relations_unkeyed");
    world
        .sql
        .run("create table log (line text); insert into log values ('a'), ('b')");
    let mut client = world.stream(&["--unkeyed", "send"]);
    client.streams();
    world.sql.run("delete from log where line = 'a'");
    let warning = client.says("rows were deleted from a table without a key");
    assert!(warning.contains("relations_unkeyed.log"), "{warning}");
    world
        .sql
        .run("delete from log; insert into log values ('c')");
    world.catches_up();
    let ended = client.terminate();
    ended.expect(0, &[]);
    assert_eq!(
        ended.stderr.matches("rows were deleted from").count(),
        1,
        "named once"
    );
    let records = topic::read(world.kafka, &world.topic("log"));
    assert_eq!(records.len(), 3, "{records:?}");

    // In lines of key and row such a delete has no place: the others stand.
    let rows = world.sql.column(
        "select pg_create_logical_replication_slot('relations_unkeyed_lines', 'headwater')::text",
    );
    assert_eq!(rows.len(), 1);
    world
        .sql
        .run("delete from log; insert into log values ('d')");
    assert_eq!(
        lines(&world.sql, "relations_unkeyed_lines", ", 'envelope', 'row'"),
        ["\t{\"line\":\"d\"}"]
    );
    let seen = changes(&world.sql, "relations_unkeyed_lines", "");
    assert_eq!(seen.len(), 2);
    assert_eq!(
        (&seen[0]["op"], &seen[0]["before"]),
        (&"d".into(), &Value::Null)
    );
}

#[test]
fn a_deferrable_key_is_none() {
    let name = "relations_deferrable";
    let sql = database_with_slot(name);
    sql.run(
        "create table items (id int primary key deferrable, n int);
         alter table items replica identity full;
         insert into items values (1, 1), (2, 2)",
    );
    // For a moment both rows have one key: records under it would delete one of them.
    sql.run("begin; set constraints all deferred; update items set id = 3 - id; commit");
    let keys: Vec<String> = lines(&sql, name, ", 'envelope', 'row'")
        .iter()
        .map(|line| line.split('\t').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(keys, [""; 4]);
}
