//! `--operations` and `--origin`: what is left out, and that the rest stays where it was.

use headwater_tests::topic::{self, Record};

use crate::world::World;

const LEFT_OUT: &str = "topics will not come to equal their tables";

fn places(records: &[Record]) -> Vec<(&str, &str, &str)> {
    records
        .iter()
        .map(|record| {
            (
                record.header("hw.op"),
                record.header("hw.seq"),
                record.key.as_deref().unwrap(),
            )
        })
        .collect()
}

#[test]
fn operations_that_are_left_out_are_told_once_and_shift_nothing() {
    let world = World::new("ops");
    world
        .sql
        .run("create table items (id int primary key, n int)");
    let mut client = world.stream(&["--operations", "insert,update", "--truncate", "stop"]);
    client.streams();
    world.sql.run(
        "begin;
         insert into items values (1, 1), (2, 1);
         delete from items where id = 1;
         update items set n = 2 where id = 2;
         commit;
         truncate items",
    );
    world.catches_up();
    let ended = client.terminate();
    ended.expect(0, &[LEFT_OUT, "left_out=delete,truncate"]);
    assert_eq!(ended.stderr.matches(LEFT_OUT).count(), 1);
    assert_eq!(
        places(&topic::read(world.kafka, &world.topic("items"))),
        [
            ("c", "0", "{\"id\":1}"),
            ("c", "1", "{\"id\":2}"),
            ("u", "3", "{\"id\":2}"),
        ]
    );
}

#[test]
fn a_snapshot_copies_rows_whatever_changes_are_left_out() {
    let world = World::new("ops_copy");
    world
        .sql
        .run("create table items (id int primary key); insert into items values (1)");
    let mut client = world.stream(&["--operations", "delete"]);
    client.streams();
    world
        .sql
        .run("insert into items values (2); delete from items where id = 1");
    world.catches_up();
    client
        .terminate()
        .expect(0, &[LEFT_OUT, "left_out=insert,update,truncate"]);
    let records = topic::read(world.kafka, &world.topic("items"));
    assert_eq!(
        places(&records),
        [("r", "0", "{\"id\":1}"), ("d", "1", "{\"id\":1}")]
    );
}

#[test]
fn messages_alone_make_an_outbox() {
    let world = World::new("ops_outbox");
    world.sql.run("create table items (id int primary key)");
    let mut client = world.stream(&[
        "--operations",
        "message",
        "--snapshot",
        "never",
        "--message-topic",
        "ops_outbox.events",
    ]);
    client.streams();
    world.sql.run(
        "begin; insert into items values (1);
         select pg_logical_emit_message(true, 'made', '{\"id\":1}'); commit",
    );
    world.catches_up();
    client.terminate().expect(0, &[]);
    let records = topic::read(world.kafka, "ops_outbox.events");
    assert_eq!(places(&records), [("m", "1", "made")]);
    assert!(
        !world
            .kafka
            .topics()
            .unwrap()
            .contains_key(&world.topic("items")),
        "no topic for rows that are never sent"
    );
}

#[test]
fn changes_that_came_by_replication_are_left_out_where_origin_is_none() {
    for (name, origin, expected) in [
        ("origin_any", "any", &[1, 2, 3, 4][..]),
        ("origin_none", "none", &[1, 4][..]),
    ] {
        let world = World::new(name);
        let out = format!("{name}.out");
        world.sql.run("create table items (id int primary key)");
        let mut client = world.stream(&["--origin", origin, "--message-topic", &out]);
        client.streams();
        world.sql.run("insert into items values (1)");
        let applier = world.session();
        applier.run(&format!(
            "select pg_replication_origin_create('{name}');
             select pg_replication_origin_session_setup('{name}')"
        ));
        applier.run(
            "begin; select pg_replication_origin_xact_setup('0/1234', now());
             insert into items values (2); commit",
        );
        applier.run("insert into items values (3)");
        applier.run("select pg_logical_emit_message(false, 'from', 'elsewhere')");
        applier.run("select pg_replication_origin_session_reset()");
        applier.run("insert into items values (4)");
        applier.run("select pg_logical_emit_message(false, 'from', 'here')");
        world.catches_up();
        client.terminate().expect(0, &[]);
        applier.run(&format!("select pg_replication_origin_drop('{name}')"));

        let keys: Vec<String> = expected
            .iter()
            .map(|id| format!("{{\"id\":{id}}}"))
            .collect();
        let records = topic::read(world.kafka, &world.topic("items"));
        let found: Vec<_> = records.iter().map(|r| r.key.clone().unwrap()).collect();
        assert_eq!(found, keys, "--origin {origin}");
        let messages: Vec<_> = topic::read(world.kafka, &out)
            .into_iter()
            .map(|record| record.value.unwrap())
            .collect();
        match origin {
            "any" => assert_eq!(messages, ["elsewhere", "here"]),
            _ => assert_eq!(messages, ["here"]),
        }
    }
}
