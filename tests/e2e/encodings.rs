//! Databases whose text is not UTF-8: what leaves them is.

use headwater_tests::session::Session;
use headwater_tests::topic;
use serde_json::Value;

use crate::names::escaped;
use crate::world::{World, kafka, postgres};

/// A world in a database of an encoding. The session speaks UTF-8.
fn world(name: &str, encoding: &str) -> World<'static> {
    let server = postgres();
    server.session("postgres").run(&format!(
        "create database {name} encoding '{encoding}' locale 'C' template template0"
    ));
    let sql = server.session(name);
    sql.run(&format!(
        "set client_encoding = 'UTF8'; create extension headwater; create schema {name};
         set search_path = {name}, public"
    ));
    World {
        postgres: server,
        kafka: kafka(),
        sql,
        name: name.to_owned(),
    }
}

/// A table whose every name and value has the word in it.
fn table(sql: &Session, word: &str) {
    sql.run(&format!(
        "create table \"t{word}\" (\"k{word}\" text primary key, \"v{word}\" text, j jsonb, c varchar(20), a text[],
             o json, body text);
         alter table \"t{word}\" alter body set storage external"
    ));
}

fn rows(word: &str, from: i32) -> String {
    (from..from + 3)
        .map(|n| {
            format!(
                "('{n}{word}', '{word}', '{{\"{word}\":[\"{word}\"]}}', '{word}', '{{{word},null}}', '{{\"{word}\": \"{word}\"}}', \
                 repeat('{word}', 5000))"
            )
        })
        .collect::<Vec<_>>()
        .join(", ")
}

#[test]
fn copied_streamed_and_fetched_rows_are_utf8() {
    for (name, encoding, word, more) in [
        ("encodings_latin1", "LATIN1", "é", &[][..]),
        ("encodings_euc_jp", "EUC_JP", "日本", &[]),
        (
            "encodings_sql_ascii",
            "SQL_ASCII",
            "日本é",
            &["--encoding", "assume-utf8"],
        ),
    ] {
        let world = world(name, encoding);
        table(&world.sql, word);
        let table = format!("\"t{word}\"");
        world
            .sql
            .run(&format!("insert into {table} values {}", rows(word, 1)));
        let pattern = format!("{name}.{table}");
        let mut arguments = vec!["-t", pattern.as_str()];
        arguments.extend(more);
        let mut client = world.stream(&arguments);
        client.streams();
        world.sql.run(&format!(
            "insert into {table} values {}; update {table} set c = c || 'x' where \"k{word}\" < '5';
             delete from {table} where \"k{word}\" = '6{word}';
             update {table} set \"k{word}\" = '9{word}' where \"k{word}\" = '5{word}'",
            rows(word, 4)
        ));
        world.catches_up();
        client.terminate().expect(0, &[]);
        let records = topic::read(
            world.kafka,
            &format!("{name}.{}", escaped(&format!("t{word}"))),
        );
        assert!(
            records
                .iter()
                .any(|record| record.headers.contains_key("hw.fetched")),
            "{encoding}: no row was fetched"
        );
        assert_eq!(
            topic::fold(&records),
            world.rows(&table, &format!("t.\"k{word}\"")),
            "{encoding}"
        );
    }
}

#[test]
fn lines_are_the_same_through_sql_and_over_the_wire() {
    for (name, encoding, word, options) in [
        ("encodings_lines_latin1", "LATIN1", "é", &[][..]),
        ("encodings_lines_euc_jp", "EUC_JP", "日本", &[]),
        (
            "encodings_lines_ascii",
            "SQL_ASCII",
            "日本é",
            &["encoding=assume-utf8"],
        ),
    ] {
        let world = world(name, encoding);
        table(&world.sql, word);
        world.sql.run(&format!(
            "select pg_create_logical_replication_slot('{name}', 'headwater')"
        ));
        world.sql.run(&format!(
            "insert into \"t{word}\" values {}; delete from \"t{word}\"",
            rows(word, 1)
        ));
        let given: String = options
            .iter()
            .filter_map(|option| option.split_once('='))
            .map(|(name, value)| format!(", '{name}', '{value}'"))
            .collect();
        let through_sql: Vec<Value> = world
            .sql
            .column(&format!(
                "select data from pg_logical_slot_peek_changes('{name}', null, null{given})"
            ))
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let end = world.sql.value("select pg_current_wal_insert_lsn()");
        let mut program = world.postgres.pg_recvlogical(name, name, &end);
        for option in options {
            program.args(["-o", option]);
        }
        let output = program.output().unwrap();
        let received = String::from_utf8(output.stdout).unwrap();
        let received: Vec<Value> = received
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(through_sql, received, "{encoding}");
        assert_eq!(received.len(), 6, "{encoding}");
        let first = &received[0];
        assert_eq!(first["source"]["table"], format!("t{word}"));
        assert_eq!(first["after"][format!("v{word}")], word);
        assert_eq!(first["after"]["j"][word][0], word);
        assert_eq!(
            received[3]["before"][format!("k{word}")],
            format!("1{word}")
        );
    }
}

#[test]
fn a_database_without_an_encoding_needs_to_be_told_what_it_holds() {
    let world = world("encodings_strict", "SQL_ASCII");
    world.sql.run(
        "create table items (id int primary key, name text); insert into items values (1, 'ascii')",
    );
    world
        .stream(&[])
        .wait()
        .expect(1, &["SQL_ASCII", "--encoding assume-utf8"]);
    assert_eq!(world.slots(), [""; 0]);
    world
        .sql
        .run("select pg_create_logical_replication_slot('encodings_strict', 'headwater')");
    let error = world
        .sql
        .attempt("select data from pg_logical_slot_peek_changes('encodings_strict', null, null)")
        .unwrap_err();
    assert!(error.hint.contains("encoding=assume-utf8"), "{error}");
}

#[test]
fn text_that_is_no_utf8_is_quarantined_where_utf8_was_assumed() {
    let world = world("encodings_invalid", "SQL_ASCII");
    world
        .sql
        .run("create table items (id int primary key, name text)");
    let mut client = world.stream(&["--encoding", "assume-utf8"]);
    client.streams();
    world.sql.run(
        "insert into items values (1, 'é');
         insert into items values (2, E'\\xe9'); insert into items values (3, 'è')",
    );
    let ended = client.wait();
    ended.expect(
        5,
        &[
            "encodings_invalid.items",
            "column \"name\"",
            "its key is known",
        ],
    );
    let hint = ended.stderr.split("--quarantine ").nth(1).unwrap();
    let named: String = hint.chars().take_while(|c| !" ;".contains(*c)).collect();
    let mut client = world.stream(&["--encoding", "assume-utf8", "--quarantine", &named]);
    client.says("change left out");
    world.catches_up();
    client.terminate().expect(0, &[]);
    let keys: Vec<String> = world.folded("items").into_keys().collect();
    assert_eq!(keys, [r#"{"id":1}"#, r#"{"id":3}"#]);
}

#[test]
fn text_that_slipped_past_a_utf8_database_is_quarantined() {
    let name = "encodings_slipped";
    let world = world(name, "UTF8");
    world.sql.run(
        "create extension hstore; create cast (bytea as text) without function;
         create table texts (id int primary key, v text);
         create table arrays (id int primary key, v varchar[]);
         create table maps (id int primary key, v hstore);
         create table documents (id int primary key, v jsonb)",
    );
    world.sql.run(&format!(
        "select pg_create_logical_replication_slot('{name}', 'headwater')"
    ));
    for (table, value) in [
        ("texts", "'\\xe9'::bytea::text"),
        ("arrays", "array['\\xe9'::bytea::text]"),
        ("maps", "hstore('k', '\\xe9'::bytea::text)"),
        ("documents", "jsonb_build_object('k', '\\xe9'::bytea::text)"),
    ] {
        world.sql.run(&format!(
            "insert into {table} values (1, null); insert into {table} values (2, {value});
             insert into {table} values (3, null)"
        ));
        let lines = world.sql.column(&format!(
            "select convert_from(data, 'utf8') from pg_logical_slot_get_binary_changes(\
             '{name}', null, null)"
        ));
        let quarantined: Vec<bool> = lines.iter().map(|line| line.contains("UTF-8")).collect();
        assert_eq!(quarantined, [false, true, false], "{table}: {lines:?}");
    }
}

#[test]
fn names_that_are_no_utf8_are_never_guessed() {
    let name = "encodings_names";
    let world = world(name, "SQL_ASCII");
    world.sql.run(
        "do $$ begin execute E'create table \"a\\xe9\" (id int primary key)';
               execute E'create table \"a\\xe8\" (id int primary key)';
               execute E'create table b (id int primary key, \"\\xe9\" int, \"\\xe8\" int)';
               execute E'create type pair as (\"\\xe9\" int, \"\\xe8\" int)';
               execute E'create type mood as enum (''\\xe9'', ''\\xe8'', ''é'')'; end $$;
         create table pairs (id int primary key, p pair); create table moods (m mood[], id mood primary key);
         create table fine (\"é\" int primary key)",
    );
    world.sql.run(&format!(
        "select pg_create_logical_replication_slot('{name}', 'headwater')"
    ));
    world.sql.run(
        "do $$ begin execute E'insert into \"a\\xe9\" values (1)';
               execute E'insert into \"a\\xe8\" values (1)'; end $$;
         insert into b values (1, 1, 1); insert into pairs values (1, null), (2, '(1,2)');
         do $$ begin execute E'insert into moods values (''{}'', ''\\xe9''), (''{\\xe8}'', ''é'')'; end $$;
         insert into moods values ('{é}', 'é') on conflict (id) do update set m = '{é}';
         insert into fine values (1)",
    );
    let verdicts: Vec<bool> = world
        .sql
        .column(&format!(
            "select data from pg_logical_slot_peek_changes('{name}', null, null, 'encoding', 'assume-utf8')"
        ))
        .iter()
        .map(|line| {
            let change: Value = serde_json::from_str(line).unwrap();
            change["quarantined"]
                .as_str()
                .is_some_and(|reason| reason.contains("converted to UTF-8"))
        })
        .collect();
    assert_eq!(
        verdicts,
        [true, true, true, false, true, true, true, false, false]
    );
}
