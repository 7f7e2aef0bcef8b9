//! Types and keys that hardly anybody has, and that must not make a wrong record: each was one.

use headwater_tests::avro::{Item, field};
use headwater_tests::session::Session;
use serde_json::Value;

use crate::avro_plugin::{items, rows, value};
use crate::world::{database_with_slot, postgres};

#[test]
fn a_column_that_the_index_of_a_key_has_twice_is_in_the_key_once() {
    let name = "odd_types_twice";
    let sql = database_with_slot(name);
    sql.run(
        "create table t (a int not null, b int not null, note text);
         create unique index i on t (b, a, b);
         alter table t replica identity using index i;
         insert into t values (1, 2, 'x'); delete from t",
    );
    let key: Value =
        serde_json::from_str(&sql.value("select headwater.avro_schema('t', 'key')")).unwrap();
    let fields: Vec<&Value> = key["fields"].as_array().unwrap().iter().collect();
    let names: Vec<&Value> = fields.iter().map(|field| &field["name"]).collect();
    assert_eq!(names, ["b", "a"]);
    assert_eq!(
        sql.column(&format!(
            "select data from pg_logical_slot_peek_changes('{name}', null, null, 'envelope', 'row')"
        )),
        [
            "{\"b\":2,\"a\":1}\t{\"a\":1,\"b\":2,\"note\":\"x\"}",
            "{\"b\":2,\"a\":1}\t"
        ]
    );
    assert_eq!(rows(&items(&sql, name, &[])).len(), 2);
}

#[test]
fn a_schema_is_the_same_for_every_session() {
    let sql = postgres().database("odd_types_settings");
    sql.run(
        "create type mood as enum ('so so'); create domain short as varchar(9);
         create table t (id int primary key, mood mood, moods mood[], short short, n numeric(5,2))",
    );
    let schemas = |sql: &Session| {
        sql.rows("select headwater.avro_schema('t', 'value'), headwater.json_schema('t')")
    };
    let plain = schemas(&sql);
    sql.run("set quote_all_identifiers = on; set search_path = pg_catalog, public");
    assert_eq!(schemas(&sql), plain);
    assert!(sql.holds("select current_setting('quote_all_identifiers')::bool"));
}

/// A database that does not say its encoding may have names that are no text, which look
/// alike once they are shown.
#[test]
fn types_whose_names_are_no_text_do_not_share_a_schema() {
    let name = "odd_types_names";
    let server = postgres();
    server.session("postgres").run(&format!(
        "create database {name} encoding 'SQL_ASCII' locale 'C' template template0"
    ));
    let sql = server.session(name);
    sql.run("create extension headwater");
    sql.run(&format!(
        "select pg_create_logical_replication_slot('{name}', 'headwater')"
    ));
    // An identifier of bytes, which this test could not send as text.
    sql.run(
        r#"do $do$ begin
           execute E'create type "r\xe8" as range (subtype = int4);
                     create type "r\xe9" as range (subtype = text);
                     create type "e\xe8" as enum (\'x\'); create type "e\xe9" as enum (\'y\');
                     create type labelled as enum (E\'\xe8\', E\'\xe9\');
                     create table ranges (id int primary key, a "r\xe8", b "r\xe9");
                     create table arrays (id int primary key, a "r\xe8"[], b "e\xe9"[]);
                     create table enums (id int primary key, a "e\xe8", b "e\xe9");
                     create table labels (id int primary key, a labelled)';
           end $do$"#,
    );
    sql.run(
        "insert into ranges values (1, '[1,2)', '[a,b)'), (2, null, null);
         insert into arrays values (1, '{}', '{y}'), (2, null, null);
         insert into enums values (1, 'x', 'y'), (2, null, null);
         do $do$ begin execute E'insert into labels values (1, E''\\xe8''), (2, null)'; end $do$",
    );
    let items = items(&sql, name, &["encoding=assume-utf8", "enum=avro"]);
    let quarantined: Vec<(&str, &str)> = items
        .iter()
        .filter_map(|item| match item {
            Item::Quarantined(table, Some(_), reason) => Some((table.as_str(), reason.as_str())),
            _ => None,
        })
        .collect();
    let reason = "column \"a\" is of a type whose name, or that of an attribute or a label of it, \
                  cannot be converted to UTF-8";
    assert_eq!(
        quarantined,
        ["ranges", "arrays", "enums", "labels"].map(|table| (table, reason))
    );
    // What needs no such name is sent, and read back.
    assert_eq!(rows(&items).len(), 4);
}

/// Releases that do not look through a multirange take a row type that holds itself. The
/// catalog of a later one has to be told.
#[test]
fn a_row_type_that_holds_itself_is_read_back_in_every_column() {
    let name = "odd_types_recursive";
    let sql = database_with_slot(name);
    sql.run(
        "create type tree as (n int, below int4multirange);
         create type branch as range (subtype = tree, multirange_type_name = branches);
         create table t (id int primary key, a tree, b tree, c branch)",
    );
    sql.run(
        "update pg_attribute set atttypid = 'branches'::regtype, attalign = 'd'
         where attrelid = 'tree'::regclass and attname = 'below'",
    );
    let node = |n: i32, below: &str| format!("row({n}, {below})::tree");
    let leaf = |n| node(n, "null");
    let over = |low: &str, high: &str| format!("branch({low}, {high})");
    let two = node(1, &format!("branches({})", over(&leaf(0), &leaf(2))));
    sql.run(&format!(
        "insert into t values (7, {two}, {two}, {})",
        over(&leaf(0), &two)
    ));
    let items = items(&sql, name, &[]);
    let rows = rows(&items);
    assert_eq!(rows.len(), 1, "{items:?}");
    let row = value(rows[0]);
    assert_eq!(field(row, "a"), field(row, "b"));
    assert!(
        format!("{:?}", field(row, "a")).contains("Int(2)"),
        "{row:?}"
    );
}

#[test]
fn a_preview_says_why_a_row_would_be_quarantined() {
    let sql = postgres().database("odd_types_preview");
    sql.run(
        "create table line (t numeric, line text primary key, envelope text);
         insert into line values (1, 'a', repeat('x', 3000)), (2, 'b', 'y')",
    );
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        sql.rows("select * from headwater.preview('line', 10, 'max_row_bytes=1024')"),
        [
            [
                some("line"),
                some("{\"line\":\"a\"}"),
                some("quarantined: the encoded row is larger than max_row_bytes (1024)")
            ],
            [
                some("line"),
                some("{\"line\":\"b\"}"),
                some("{\"t\":2,\"line\":\"b\",\"envelope\":\"y\"}")
            ],
        ]
    );
}
