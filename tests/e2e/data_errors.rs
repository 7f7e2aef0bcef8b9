//! A value that makes the server raise an ERROR, or that is not stored as its type says,
//! costs its row alone.

use headwater_tests::session::Session;
use serde_json::Value;

use crate::world::postgres;

/// A database with a slot and three types of its own: the output of `poison` is that of an
/// enum, and raises for every number that is no enum value's; that of `slow` sleeps.
fn database(name: &str) -> Session {
    let sql = postgres().database(name);
    sql.run(
        "create type mood as enum ('fine');
         create type poison;
         create function poison_in(cstring) returns poison as 'int4in' language internal immutable strict;
         create function poison_out(poison) returns cstring as 'enum_out' language internal immutable strict;
         create type poison (input = poison_in, output = poison_out, like = int4);
         create type slow;
         create function slow_in(cstring) returns slow as 'float8in' language internal immutable strict;
         create function slow_out(slow) returns cstring as 'pg_sleep' language internal stable strict;
         create type slow (input = slow_in, output = slow_out, like = float8);
         create type holder as (p poison, n int);
         create table items (id int primary key, p poison, ps poison[], h holder, r tstzrange)",
    );
    sql.run(&format!(
        "select pg_create_logical_replication_slot('{name}', 'headwater')"
    ));
    sql
}

/// Rows 1 to 6, of which 2 to 4 hold a number that `poison` raises for: 4242.
fn poisoned(name: &str) -> Session {
    let sql = database(name);
    sql.run(
        "begin;
         insert into items (id, p, r) select 1, oid::text::poison, '[2024-01-01 00:00+00,)' from pg_enum limit 1;
         insert into items values (2, '4242', null, null, '[2024-01-01 00:00+00,)');
         insert into items values (3, null, '{4242}', null, '[2024-01-01 00:00+00,)');
         insert into items values (4, null, null, '(4242,1)', '[2024-01-01 00:00+00,)');
         insert into items (id, r) values (5, '[2024-01-01 00:00+00,)');
         commit;
         insert into items (id, r) values (6, '[2024-01-01 00:00+00,)')",
    );
    sql
}

#[track_caller]
fn assert_neighbours_arrive(way: &str, lines: &[String]) {
    let changes: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}")))
        .collect();
    assert_eq!(changes.len(), 6, "{way}: {lines:#?}");
    for (index, column) in [(1, "p"), (2, "ps"), (3, "h")] {
        let reason = changes[index]["quarantined"].as_str().unwrap_or_default();
        for part in [&format!("\"{column}\""), "public.poison", "22P03"] {
            assert!(
                reason.contains(part),
                "{way}: {part} is not in: {}",
                lines[index]
            );
        }
        assert!(
            !lines[index].contains("4242"),
            "{way}: a value in: {}",
            lines[index]
        );
    }
    assert_eq!(changes[0]["after"]["p"], "fine", "{way}");
    for index in [0, 4, 5] {
        assert_eq!(
            changes[index]["after"]["r"], "[\"2024-01-01 00:00:00+00\",)",
            "{way}: under the fixed settings"
        );
    }
}

#[test]
fn a_value_whose_output_function_raises_costs_its_row_alone() {
    let name = "data_errors";
    let sql = poisoned(name);
    sql.run("set timezone = 'Asia/Kolkata'; set datestyle = 'German'");
    let peeked = sql.column(&format!(
        "select data from pg_logical_slot_peek_changes('{name}', null, null)"
    ));
    assert_neighbours_arrive("through SQL", &peeked);
    let encoded =
        sql.column("select convert_from(headwater.encode(i.*), 'utf8') from items i order by id");
    assert_neighbours_arrive("encode", &encoded);
    assert_eq!(sql.value("show timezone"), "Asia/Kolkata");

    sql.run(&format!(
        "alter database {name} set timezone = 'Asia/Kolkata'"
    ));
    let end = sql.value("select pg_current_wal_insert_lsn()");
    let received = postgres()
        .pg_recvlogical(name, name, &end)
        .output()
        .unwrap();
    let received = String::from_utf8(received.stdout).unwrap();
    let received: Vec<String> = received.lines().map(str::to_owned).collect();
    assert_neighbours_arrive("over the wire", &received);
    assert!(
        !postgres().log().contains("4242"),
        "a value is in the server's log"
    );
}

#[test]
fn a_key_that_cannot_be_printed_leaves_the_rows_beside_it() {
    let name = "data_errors_key";
    let sql = database(name);
    sql.run("create table keyed (p poison, id int); create unique index on keyed (id)");
    sql.run(
        "alter table keyed alter id set not null; alter table keyed replica identity full;
         insert into keyed values ('4242', 1); update keyed set id = 2; delete from keyed;
         insert into keyed values (null, 3)",
    );
    let ops: Vec<(bool, String)> = sql
        .column(&format!(
            "select data from pg_logical_slot_get_changes('{name}', null, null)"
        ))
        .iter()
        .map(|line| {
            let change: Value = serde_json::from_str(line).unwrap();
            let op = change["op"].as_str().unwrap().to_owned();
            (change["quarantined"].is_string(), op)
        })
        .collect();
    let expected = [(true, "c"), (true, "u"), (true, "d"), (false, "c")];
    assert_eq!(ops, expected.map(|(verdict, op)| (verdict, op.to_owned())));
}

#[test]
fn a_cancel_is_not_the_values_fault() {
    let name = "data_errors_cancel";
    let sql = database(name);
    sql.run("create table naps (id int primary key, s slow, r int4range)");
    sql.run("insert into naps values (1, '30', '[1,2)'); set statement_timeout = '300ms'");
    let peek = format!("select data from pg_logical_slot_peek_changes('{name}', null, null)");
    for query in [peek.as_str(), "select headwater.encode(n) from naps n"] {
        let error = sql.attempt(query).unwrap_err();
        assert_eq!(error.state, "57014", "{query}: {error}");
    }
    // In an exception block, whose subtransaction must be the one that is rolled back.
    sql.run(&format!(
        "do $$ begin
             begin
                 perform data from pg_logical_slot_peek_changes('{name}', null, null);
                 raise 'not cancelled';
             exception when query_canceled then
                 create table after_the_cancel (id int);
             end;
         end $$"
    ));
    assert_eq!(sql.value("select count(*) from after_the_cancel"), "0");
    sql.run("reset statement_timeout");
    // What returns no text is no text.
    sql.run("update naps set s = '0'");
    let encoded = sql.value("select convert_from(headwater.encode(n), 'utf8') from naps n");
    assert!(encoded.contains("\"quarantined\""), "{encoded}");
}

/// What `headwater.encode` makes of bytes that a column of some type holds.
fn encoded_as(sql: &Session, of: &str, values: &[&str]) -> Vec<String> {
    sql.run(&format!(
        "drop table if exists damaged; create table damaged (id serial primary key, v bytea); \
         insert into damaged (v) select decode(unnest(array['{}']), 'hex'); \
         set allow_system_table_mods = on; \
         update pg_attribute set atttypid = '{of}'::regtype \
         where attrelid = 'damaged'::regclass and attname = 'v'",
        values.join("','")
    ));
    sql.column("select convert_from(headwater.encode(d), 'utf8') from damaged d order by id")
}

#[test]
fn values_that_are_not_stored_as_their_type_says_are_quarantined() {
    let name = "data_errors_layout";
    let sql = database(name);
    sql.run("create extension hstore");
    // Little-endian words: dimensions, offset of the data, element type, lengths, bounds.
    let arrays = [
        "",
        "00",
        "01000000",
        "ffffffff0000000017000000",
        "070000000000000017000000",
        // Lengths beyond the data, negative, and beyond any number.
        "0100000000000000170000000a0000000100000001000000",
        "010000000000000017000000ffffffff0100000001000000",
        "060000000000000017000000ffffff7fffffff7fffffff7fffffff7fffffff7fffffff7f010000000100000001000000010000000100000001000000",
        // Data that begins beyond the end, and a bitmap that does.
        "01000000ffffff7f170000000100000001000000",
        "010000001800000017000000ffffff000100000001000000",
        // Another element type.
        "0100000000000000190000000100000001000000",
    ];
    let texts = [
        // An element longer than all, some of no length, some shorter than their header, one
        // out of line.
        "010000000000000019000000010000000100000000ffff0f61",
        "0100000000000000190000000100000001000000000000000000",
        "01000000000000001900000001000000010000000c00000000000000",
        "01000000000000001900000001000000010000001200000000000000",
        "0100000000000000190000000100000001000000011261616161616161616161616161616161",
    ];
    for (of, values) in [
        ("int4[]", &arrays[..]),
        ("text[]", &texts[..]),
        ("holder", &arrays[..]),
    ] {
        let encoded = encoded_as(&sql, of, values);
        for (value, line) in values.iter().zip(&encoded) {
            assert!(line.contains("\"quarantined\""), "{of} {value}: {line}");
        }
    }
    // Compressed, and no way to expand it: the server says so.
    let damaged = "01000000000000001900000001000000010000004200000064000000ffffffffffffffff";
    let encoded = encoded_as(&sql, "text[]", &[damaged]);
    for part in ["\\\"v\\\"", "text[]", "XX001"] {
        assert!(encoded[0].contains(part), "{part} is not in {}", encoded[0]);
    }
    sql.run("create cast (bytea as hstore) without function; create cast (bytea as inet) without function; \
             create cast (bytea as varbit) without function; create cast (bytea as jsonb) without function");
    sql.run("create table casts (id serial primary key, h hstore, i inet, b varbit, j jsonb)");
    sql.run(
        "insert into casts (h) values ('\\x'::bytea::hstore), ('\\x00000000'::bytea::hstore), ('\\xffffffff'::bytea::hstore);
         insert into casts (i) values ('\\x'::bytea::inet), ('\\x0920'::bytea::inet), ('\\x022000'::bytea::inet);
         insert into casts (b) values ('\\x'::bytea::varbit), ('\\xffffffff'::bytea::varbit), ('\\x0900000000'::bytea::varbit);
         insert into casts (j) values ('\\x'::bytea::jsonb), ('\\xffffffff'::bytea::jsonb)",
    );
    let lines = sql.column(&format!(
        "select data from pg_logical_slot_get_changes('{name}', null, null, 'tables', 'public.casts')"
    ));
    assert_eq!(lines.len(), 11);
    for line in &lines {
        assert!(line.contains("\"quarantined\""), "{line}");
    }
}

#[test]
fn row_types_within_each_other_are_bounded_however_they_are_shared() {
    let name = "data_errors_deep";
    let sql = database(name);
    sql.run(
        "create type d1 as (v int);
         do $$ begin for n in 2..120 loop
             execute format('create type d%s as (v d%s)', n, n - 1);
         end loop; end $$;
         create table deep (id int primary key, a d60, b d100, c d120)",
    );
    let rows = |inner: &str, levels: usize| {
        format!("{}{inner}{}", "row(".repeat(levels), ")".repeat(levels))
    };
    sql.run(&format!(
        "insert into deep values (1, {0}::d60);
         insert into deep (id, b) select 2, {1}::d100 from deep;
         insert into deep (id, c) select 3, {2}::d120 from deep where id = 1;
         insert into deep (id, c) values (4, row(null)::d120)",
        rows("1", 60),
        rows("a", 40),
        rows("a", 60),
    ));
    let lines = sql.column(&format!(
        "select data from pg_logical_slot_get_changes('{name}', null, null)"
    ));
    let quarantined: Vec<bool> = lines
        .iter()
        .map(|line| line.contains("nested too deeply"))
        .collect();
    assert_eq!(quarantined, [false, false, true, false], "{lines:#?}");
}
