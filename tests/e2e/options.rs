//! Options of the plugin that change what a value is or which changes are sent, with the
//! client's flags for them.

use headwater_tests::topic;
use serde_json::Value;

use crate::world::{World, database_with_slot, postgres};

#[test]
fn numbers_that_a_float_cannot_hold_can_be_strings() {
    let world = World::new("options_numbers");
    world.sql.run(
        "create type pair as (a bigint, b numeric); create type texts as (a text, b text);
         create table items (id bigint, n numeric, m numeric(5,2), i int, f float8, j jsonb,
             b bigint[], p pair, body text, primary key (id, n));
         alter table items alter body set storage external;
         insert into items values
             (9007199254740993, 1e30, -1.5, 7, 0.5, '{\"n\":1e30}', '{1,null}', '(1,NaN)', repeat('x', 10000)),
             (-1, 'NaN', null, null, 'NaN', '12345678901234567890', '{}', '(,1.0)', null)",
    );
    world.streamed(&["--numbers", "string"], || world.sql.run(
        "update items set i = 8;
         insert into items values (2, 'Infinity', 0, 0, 0, '0', null, null, ''), (3, 3, 3, 3, 3, '3', null, null, '');
         delete from items where id = 3; update items set n = 0.10 where id = 2",
    ));
    let expected = world.rows(
        "(select id::text, n::text, m::text, i, f, j, b::text[], case when p is distinct from null \
           then row((p).a::text, (p).b::text)::texts end as p, body from items)",
        "t.id, t.n",
    );
    assert_eq!(world.folded("items"), expected);
    assert!(expected.contains_key(r#"{"id":"-1","n":"NaN"}"#));
}

#[test]
fn a_change_that_is_named_is_quarantined_unseen() {
    let name = "options_quarantine";
    let sql = database_with_slot(name);
    sql.run("create table items (id int primary key, name text)");
    sql.run(
        "begin; insert into items values (1, 'a'), (2, 'b'); update items set name = 'c';
         delete from items where id = 1; commit",
    );
    let lines = |options: &str| -> Vec<Value> {
        sql.column(&format!(
            "select data from pg_logical_slot_peek_changes('{name}', null, null{options})"
        ))
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
    };
    let all = lines("");
    let lsn = all[0]["source"]["lsn"].as_u64().unwrap();
    let lsn = headwater_protocol::Lsn(lsn);
    let named = lines(&format!(", 'quarantine', '{lsn}:1, {lsn}:4'"));
    assert_eq!(named.len(), all.len());
    for (seq, (change, before)) in named.iter().zip(&all).enumerate() {
        if [1, 4].contains(&seq) {
            assert!(
                change["quarantined"]
                    .as_str()
                    .unwrap()
                    .contains("quarantine"),
                "{change}"
            );
            assert_eq!(
                (&change["op"], &change["source"]),
                (&before["op"], &before["source"])
            );
            assert_eq!(
                (&change["before"], &change["after"]),
                (&Value::Null, &Value::Null)
            );
        } else {
            assert_eq!(change, before);
        }
    }
    for wrong in ["1/2", "1/2:x", "", "1/2:3;1/2:4"] {
        let error = sql
            .attempt(&format!(
                "select data from pg_logical_slot_peek_changes('{name}', null, null, 'quarantine', '{wrong}')"
            ))
            .unwrap_err();
        assert!(error.message.contains(&format!("\"{wrong}\"")), "{error}");
        assert!(error.hint.contains("LSN:SEQ"), "{error}");
    }
}

#[test]
fn the_client_stops_at_a_quarantined_change_and_goes_on_when_told_to() {
    let world = World::new("options_poison");
    // An update of such a partition says nothing of the key that the row had.
    world.sql.run(
        "create table items (id int primary key, n int) partition by hash (id);
         create table items_1 partition of items for values with (modulus 1, remainder 0);
         alter table items_1 replica identity nothing;
         insert into items values (1, 1)",
    );
    let mut client = world.stream(&[]);
    client.streams();
    world.sql.run("insert into items values (2, 2)");
    world.sql.run("begin; insert into items values (3, 3); update items set n = 9 where id = 1; insert into items values (4, 4); commit");
    let ended = client.wait();
    ended.expect(
        5,
        &[
            "options_poison.items",
            "its key is known",
            "options_poison.items_1",
        ],
    );
    let hint = ended.stderr.split("--quarantine ").nth(1).unwrap();
    let named: String = hint.chars().take_while(|c| !" ;".contains(*c)).collect();
    assert!(named.ends_with(":1"), "the second change: {named}");

    // Another name is another change.
    world
        .stream(&["--quarantine", "0/1:1"])
        .wait()
        .expect(5, &["--quarantine"]);
    world
        .stream(&["--quarantine", "nonsense"])
        .wait()
        .expect(2, &["\"nonsense\" names no change", "LSN:SEQ"]);
    let mut client = world.stream(&["--quarantine", &named, "--quarantine", "0/1:1"]);
    let warning = client.says("change left out");
    assert!(
        warning.contains(&named) && warning.contains("options_poison.items"),
        "{warning}"
    );
    world.catches_up();
    client.terminate().expect(0, &[]);
    let folded = topic::fold(&topic::read(world.kafka, &world.topic("items")));
    let rows: Vec<&str> = folded.values().map(String::as_str).collect();
    assert_eq!(
        rows,
        [
            r#"{"id":1,"n":1}"#,
            r#"{"id":2,"n":2}"#,
            r#"{"id":3,"n":3}"#,
            r#"{"id":4,"n":4}"#
        ],
        "the topic keeps what it had of the row"
    );
}

/// Anybody may give options, and the memory that they take is not the server's to refuse.
#[test]
fn options_without_end_are_refused() {
    let name = "options_long";
    let sql = postgres().database(name);
    sql.run("create table t (id int primary key)");
    sql.run(&format!(
        "select pg_create_logical_replication_slot('{name}', 'headwater')"
    ));
    let stream = |options: &str| {
        format!("select data from pg_logical_slot_peek_changes('{name}', null, null, {options})")
    };
    for (call, state, message) in [
        (
            "select headwater.relation('t', 'tables=' || repeat('a,', 2000000) || 'a')".to_owned(),
            "54000",
            "are too long: 1048576 are the most",
        ),
        (
            "select headwater.encode(t.*, variadic array_fill('a=b'::text, '{500000}')) from (values (1)) v, t"
                .to_owned(),
            "54000",
            "are too long",
        ),
        (
            stream("'tables', repeat('a,', 2000000) || 'a'"),
            "54000",
            "options of 4000007 bytes are too long",
        ),
        (
            stream("'tables', repeat('a,', 10000) || 'a'"),
            "22023",
            "a list of more than 10000 table patterns",
        ),
    ] {
        sql.run("insert into t values (1) on conflict do nothing");
        let refused = sql.attempt(&call).map(drop).unwrap_err();
        assert_eq!(refused.state, state, "{refused}");
        assert!(refused.message.contains(message), "{refused}");
    }
    sql.run(&stream("'tables', repeat('a,', 9999) || 'a'"));
}

#[test]
fn options_may_differ_from_row_to_row() {
    let sql = postgres().database("options_by_row");
    sql.run("create table t (id int primary key); insert into t values (1)");
    assert_eq!(
        sql.column(
            "select convert_from(headwater.encode(t.*, 'envelope=' || e), 'UTF8') \
             from t, unnest('{row,change,row}'::text[]) with ordinality as v (e, n) order by n"
        )
        .iter()
        .map(|line| line.starts_with("{\"id\":1}\t"))
        .collect::<Vec<_>>(),
        [true, false, true]
    );
}
