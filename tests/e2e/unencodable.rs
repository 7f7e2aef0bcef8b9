//! What cannot be encoded must not stop the stream: decoding is deterministic, so an
//! error at one change would be an error at that change for ever.

use headwater_tests::session::Session;
use serde_json::Value;

use crate::world::postgres;

/// A database of an encoding, with a slot and a table in it.
fn database(name: &str, encoding: &str) -> Session {
    let server = postgres();
    server.session("postgres").run(&format!(
        "create database {name} encoding '{encoding}' locale 'C' template template0"
    ));
    let sql = server.session(name);
    sql.run("create extension headwater");
    sql.run("create table items (id int primary key, name text)");
    sql.run(&format!(
        "select pg_create_logical_replication_slot('{name}', 'headwater')"
    ));
    sql
}

/// The lines of the change envelope, as a query reads them.
fn peek(sql: &Session, slot: &str, options: &str) -> Vec<Value> {
    sql.column(&format!(
        "select data from pg_logical_slot_peek_changes('{slot}', null, null{options})"
    ))
    .iter()
    .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}")))
    .collect()
}

/// What a program that reads the slot is sent, in bytes.
fn received(database: &str) -> String {
    let end = postgres()
        .session(database)
        .value("select pg_current_wal_insert_lsn()");
    let output = postgres()
        .pg_recvlogical(database, database, &end)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_database_in_another_encoding_streams_utf8() {
    for (name, encoding, sql_name) in [
        (
            "encoding_latin1",
            "LATIN1",
            "convert_from('\\xc3a9', 'UTF8')",
        ),
        (
            "encoding_euc_jp",
            "EUC_JP",
            "convert_from('\\xe697a5e69cac', 'UTF8')",
        ),
    ] {
        let sql = database(name, encoding);
        sql.run(&format!("insert into items values (1, {sql_name})"));
        let expected = if encoding == "LATIN1" { "é" } else { "日本" };
        let seen = peek(&sql, name, "");
        assert_eq!(seen[0]["after"]["name"], expected, "{encoding} through SQL");
        let line: Value = serde_json::from_str(received(name).trim()).unwrap();
        assert_eq!(line["after"]["name"], expected, "{encoding} over the wire");
    }
}

#[test]
fn text_without_an_equivalent_is_quarantined_and_the_next_row_follows() {
    let name = "encoding_win1252";
    let sql = database(name, "WIN1252");
    sql.run("insert into items values (1, chr(129)), (2, 'fine')");
    let seen = peek(&sql, name, "");
    assert_eq!(seen.len(), 2, "{seen:?}");
    let reason = seen[0]["quarantined"].as_str().unwrap_or_default();
    assert!(reason.contains("\"name\""), "names the column: {seen:?}");
    assert_eq!(seen[1]["after"]["name"], "fine");
}

#[test]
fn a_message_outside_transactions_is_converted_too() {
    let name = "encoding_message";
    let sql = database(name, "LATIN1");
    sql.run("select pg_logical_emit_message(false, convert_from('\\xc3a9', 'UTF8'), 'content')");
    let line: Value = serde_json::from_str(received(name).trim()).unwrap();
    assert_eq!(line["op"], "m");
    assert_eq!(line["message"]["prefix"], "é");
}

#[test]
fn a_row_above_the_limit_is_quarantined_before_it_is_printed() {
    let name = "unencodable_large";
    let sql = database(name, "UTF8");
    // Compressed to nothing in the table, and far over the limit as text. The array has
    // no encoder of its own: its output function must not even be called.
    sql.run(
        "create table arrays (id int primary key, a text[]);
         insert into arrays values (1, array[repeat('\"', 3000000)]), (2, '{fine}');
         insert into items values (1, repeat('x', 3000000)), (2, 'fine')",
    );
    let seen = peek(&sql, name, ", 'max_row_bytes', '1048576'");
    let verdicts: Vec<bool> = seen
        .iter()
        .map(|change| change.get("quarantined").is_some())
        .collect();
    assert_eq!(verdicts, [true, false, true, false], "{seen:?}");
    assert!(
        seen[0]["quarantined"]
            .as_str()
            .is_some_and(|reason| reason.contains("max_row_bytes")),
        "{seen:?}"
    );
}

#[test]
fn encode_holds_the_settings_at_every_call() {
    let sql = database("encode_settings", "UTF8");
    sql.run("create table spans (id int primary key, i interval)");
    sql.run("insert into spans values (1, '1 day 2 hours'), (2, '1 day 2 hours')");
    sql.run("begin; declare c cursor for select convert_from(headwater.encode(s.*, 'envelope=row'), 'utf8') from spans s");
    let first = sql.value("fetch c");
    sql.run("set intervalstyle = 'iso_8601'; set timezone = 'Asia/Tokyo'");
    let second = sql.value("fetch c");
    assert_eq!(first.replace(":1", ":2"), second);
    assert_eq!(
        sql.value("show intervalstyle"),
        "iso_8601",
        "the session's own setting is put back"
    );
    sql.run("rollback");
}

#[test]
fn encode_encodes_what_it_is_given_whatever_the_options_select() {
    let sql = database("encode_unselected", "UTF8");
    sql.run("insert into items values (1, 'a')");
    let line = sql.value(
        "select convert_from(headwater.encode(i.*, 'envelope=row', 'exclude_tables=items'), 'utf8') \
         from items i",
    );
    assert_eq!(line, "{\"id\":1}\t{\"id\":1,\"name\":\"a\"}");
}
