//! The plugin without the client: the SQL functions, pg_recvlogical, other programs.

use std::process::Command;

use headwater_protocol::frame::{Frame, Frames};
use headwater_tests::session::Session;
use headwater_tests::types::bytes;
use serde_json::Value;

use crate::world::postgres;

fn database(name: &str) -> Session {
    let sql = postgres().database(name);
    sql.run("create table items (id int primary key, name text)");
    sql.run(&format!(
        "select pg_create_logical_replication_slot('{name}', 'headwater')"
    ));
    sql
}

fn peek(sql: &Session, slot: &str, options: &str) -> Vec<String> {
    let separator = if options.is_empty() { "" } else { ", " };
    sql.column(&format!(
        "select data from pg_logical_slot_peek_changes('{slot}', null, null{separator}{options})"
    ))
}

#[test]
fn the_sql_functions_give_one_change_a_row() {
    let sql = database("lines_sql");
    sql.run("insert into items values (1, 'a'), (2, 'b'), (3, 'c')");
    sql.run(
        "begin; update items set name = 'd' where id = 1; delete from items where id = 2; commit",
    );
    sql.run("update items set id = 4 where id = 3");
    sql.run("begin; insert into items values (9, 'never'); rollback");
    let changes = peek(&sql, "lines_sql", "");
    let seen: Vec<_> = changes
        .iter()
        .map(|line| {
            let change: Value = serde_json::from_str(line).unwrap();
            (
                change["op"].as_str().unwrap().to_owned(),
                change["before"].to_string(),
                change["after"].to_string(),
            )
        })
        .collect();
    let expected = [
        ("c", "null", r#"{"id":1,"name":"a"}"#),
        ("c", "null", r#"{"id":2,"name":"b"}"#),
        ("c", "null", r#"{"id":3,"name":"c"}"#),
        ("u", "null", r#"{"id":1,"name":"d"}"#),
        ("d", r#"{"id":2}"#, "null"),
        ("u", r#"{"id":3}"#, r#"{"id":4,"name":"c"}"#),
    ];
    let expected =
        expected.map(|(op, before, after)| (op.to_owned(), before.to_owned(), after.to_owned()));
    assert_eq!(seen, expected);
}

#[test]
fn the_row_envelope_is_key_tab_row() {
    let sql = database("lines_row");
    sql.run("insert into items values (1, 'a')");
    sql.run("update items set id = 2");
    sql.run("delete from items");
    assert_eq!(
        peek(&sql, "lines_row", "'envelope', 'row'").join("\n"),
        "{\"id\":1}\t{\"id\":1,\"name\":\"a\"}\n{\"id\":1}\t\n{\"id\":2}\t{\"id\":2,\"name\":\"a\"}\n{\"id\":2}\t"
    );
}

#[test]
fn options_choose_tables_and_operations() {
    let sql = database("lines_chosen");
    sql.run("create table other (id int primary key)");
    sql.run("insert into items values (1, 'a'); insert into other values (1); delete from items");
    let ops = |options: &str| -> Vec<String> {
        peek(&sql, "lines_chosen", options)
            .iter()
            .map(|line| {
                let change: Value = serde_json::from_str(line).unwrap();
                let (table, op) = (&change["source"]["table"], &change["op"]);
                format!("{} {}", table.as_str().unwrap(), op.as_str().unwrap())
            })
            .collect()
    };
    assert_eq!(ops(""), ["items c", "other c", "items d"]);
    assert_eq!(ops("'tables', 'public.items'"), ["items c", "items d"]);
    assert_eq!(ops("'exclude_tables', 'public.it*'"), ["other c"]);
    assert_eq!(ops("'operations', 'delete'"), ["items d"]);
}

#[test]
fn truncates_and_messages_are_changes_too() {
    let sql = database("lines_others");
    sql.run("insert into items values (1, 'a'); truncate items");
    sql.run("select pg_logical_emit_message(true, 'outbox', 'content')");
    let changes = peek(&sql, "lines_others", "");
    let ops: Vec<Value> = changes
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["op"].clone())
        .collect();
    assert_eq!(ops, ["c", "t", "m"], "{changes:#?}");
}

#[test]
fn pg_recvlogical_pipes_lines() {
    let sql = database("lines_pipe");
    sql.run("insert into items select n, 'row ' || n from generate_series(1, 3000) n");
    sql.run("delete from items where id > 2990");
    let end = sql.value("select pg_current_wal_insert_lsn()");
    let received = postgres()
        .pg_recvlogical("lines_pipe", "lines_pipe", &end)
        .output()
        .unwrap();
    assert!(
        received.status.success(),
        "{}",
        String::from_utf8_lossy(&received.stderr)
    );
    let text = String::from_utf8(received.stdout).unwrap();
    let ids: Vec<i64> = text
        .lines()
        .map(|line| {
            let change: Value = serde_json::from_str(line).unwrap();
            let row = if change["op"] == "d" {
                &change["before"]
            } else {
                &change["after"]
            };
            row["id"].as_i64().unwrap()
        })
        .collect();
    let expected: Vec<i64> = (1..=3000).chain(2991..=3000).collect();
    assert_eq!(ids, expected);
}

#[test]
fn lines_go_through_jq() {
    let sql = database("lines_jq");
    sql.run("insert into items values (7, 'seven')");
    let end = sql.value("select pg_current_wal_insert_lsn()");
    let recvlogical = postgres().installation().program("pg_recvlogical");
    let pipe = format!(
        "'{}' -d '{}' -S lines_jq --start --no-loop --endpos {end} -f - | jq -r '.after.name'",
        recvlogical.display(),
        postgres().conninfo("lines_jq"),
    );
    let out = Command::new("sh").args(["-c", &pipe]).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&out.stdout),
        "seven\n",
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

#[test]
fn options_that_are_not_understood_are_quoted_and_break_nothing() {
    let sql = database("lines_refused");
    sql.run("insert into items values (1, 'a')");
    let refused = |options: &str| {
        sql.attempt(&format!(
            "select data from pg_logical_slot_get_changes('lines_refused', null, null, {options})"
        ))
        .expect_err(options)
    };
    for (options, quoted) in [
        ("'ouptut', 'lines'", "\"ouptut\""),
        ("'output', 'xml'", "\"xml\""),
        ("'envelope', ''", "\"\""),
        ("'batch_bytes', '12parsecs'", "\"12parsecs\""),
        ("'operations', 'insert,upsert'", "\"upsert\""),
        ("'tables', 'a.b.c.d'", "a.b.c.d"),
        ("'output', 'lines', 'output', 'lines'", "\"output\""),
        ("'output', 'frames', 'protocol', '999'", "999"),
    ] {
        let error = refused(options);
        assert!(error.message.contains(quoted), "{options}: {error}");
        assert_eq!(error.state, "22023", "{options}: {error}");
    }
    // Frames are bytes: the function that returns text says so.
    assert!(refused("'output', 'frames'").message.contains("binary"));
    assert_eq!(
        peek(&sql, "lines_refused", "").len(),
        1,
        "the change is still there"
    );
}

#[test]
fn a_relation_is_described_again_only_when_it_has_changed() {
    let sql = database("lines_plans");
    sql.run("create schema first; create table first.moved (id int primary key)");
    for round in 0..3 {
        // Every new table changes the catalogs, but not this one.
        sql.run(&format!(
            "insert into items values ({round}, 'x'); create table unrelated_{round} (id int)"
        ));
    }
    sql.run("insert into first.moved values (1)");
    sql.run("alter schema first rename to second");
    sql.run("insert into second.moved values (2)");
    let frames = sql.column(
        "select encode(data, 'hex') from pg_logical_slot_peek_binary_changes('lines_plans', null, null, 'output', 'frames')",
    );
    let writes: Vec<Vec<u8>> = frames.iter().map(|hex| bytes(hex)).collect();
    let described: Vec<String> = writes
        .iter()
        .flat_map(|write| Frames::new(write))
        .filter_map(|frame| match frame.unwrap() {
            Frame::Relation(relation) => Some(format!("{}.{}", relation.schema, relation.table)),
            _ => None,
        })
        .collect();
    assert_eq!(
        described,
        ["public.items", "first.moved", "second.moved"],
        "described once, and again under its new name"
    );
}
