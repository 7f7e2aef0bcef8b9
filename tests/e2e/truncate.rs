//! TRUNCATE under each `--truncate`.

use std::collections::BTreeMap;

use headwater_tests::Client;
use headwater_tests::topic::{self, Record};
use headwater_tests::wait::{SOON, check, eventually};
use serde_json::Value;

use crate::world::World;

/// Two tables of which one refers to the other, with two rows each.
fn orders(world: &World<'_>) {
    world.sql.run(
        "create table orders (id serial primary key, name text);
         create table lines (id serial primary key, order_id int references orders);
         insert into orders (name) values ('a'), ('b');
         insert into lines (order_id) values (1), (2)",
    );
}

fn read(world: &World<'_>, table: &str) -> Vec<Record> {
    topic::read(world.kafka, &world.topic(table))
}

#[test]
fn stop_ends_with_5_and_the_cure_goes_on_where_it_stopped() {
    let world = World::new("trunc_stop");
    orders(&world);
    let mut client = world.stream(&[]);
    client.streams();
    world.sql.run("truncate orders cascade");
    world.sql.run("insert into orders (name) values ('after')");
    client.wait().expect(
        5,
        &[
            "trunc_stop.",
            "was truncated",
            "--truncate tombstone",
            "--truncate ignore",
        ],
    );
    // Again at the same place, until somebody decides.
    world.stream(&[]).wait().expect(5, &["was truncated"]);
    let mut client = world.stream(&["--truncate", "tombstone"]);
    client.streams();
    world.catches_up();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("orders", "t.id");
    world.topic_equals_table("lines", "t.id");
}

#[test]
fn ignore_keeps_the_rows_and_says_so() {
    let world = World::new("trunc_ignore");
    orders(&world);
    let mut client = world.stream(&["--truncate", "ignore"]);
    client.streams();
    let before = [world.folded("orders"), world.folded("lines")];
    world.sql.run("truncate orders cascade");
    world.catches_up();
    let ended = client.terminate();
    ended.expect(
        0,
        &[
            "trunc_ignore.orders",
            "trunc_ignore.lines",
            "its rows stay in the topic",
        ],
    );
    assert_eq!([world.folded("orders"), world.folded("lines")], before);
}

#[test]
fn tombstone_empties_every_topic_that_a_cascade_reaches() {
    let world = World::new("trunc_cascade");
    orders(&world);
    let mut client = world.stream(&["--truncate", "tombstone", "--topic-partitions", "3"]);
    client.streams();
    world.sql.run("truncate orders restart identity cascade");
    world.catches_up();
    for table in ["orders", "lines"] {
        assert_eq!(world.folded(table), BTreeMap::new(), "{table}");
        let tombstones: Vec<_> = read(&world, table)
            .into_iter()
            .filter(|record| record.value.is_none())
            .collect();
        assert_eq!(tombstones.len(), 2, "{table}: {tombstones:?}");
        for tombstone in &tombstones {
            assert_eq!(tombstone.header("hw.op"), "t");
            assert_eq!(
                (tombstone.header("hw.lsn"), tombstone.header("hw.seq")),
                (tombstones[0].header("hw.lsn"), "0"),
                "the records of one change share its place"
            );
        }
    }
    // The identity began anew: the keys come back.
    world
        .sql
        .run("insert into orders (name) values ('new'); insert into lines (order_id) values (1)");
    world.catches_up();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("orders", "t.id");
    world.topic_equals_table("lines", "t.id");
}

#[test]
fn tombstones_reach_rows_just_sent_and_none_that_come_after() {
    let world = World::new("trunc_within");
    world.sql.run(
        "create table items (id int primary key, n int); insert into items values (1, 0), (2, 0)",
    );
    // So many that most are in flight when the truncate arrives.
    world.streamed(
        &["--truncate", "tombstone", "--topic-partitions", "3"],
        || {
            world.sql.run(
                "begin;
         insert into items select n, 1 from generate_series(3, 20000) n;
         update items set id = -id where id % 1000 = 0;
         truncate items;
         insert into items select n, 2 from generate_series(1, 500) n;
         truncate items;
         insert into items select n, 3 from generate_series(1, 100) n;
         commit;
         insert into items select n, 4 from generate_series(101, 200) n",
            )
        },
    );
    world.topic_equals_table("items", "t.id");
    assert_eq!(world.folded("items").len(), 200);
}

#[test]
fn a_truncate_that_comes_twice_buries_nothing_that_came_after_it() {
    let world = World::new("trunc_twice");
    world
        .sql
        .run("create table items (id int primary key, n int); create table big (id int primary key, pad text)");
    let arguments = ["--truncate", "tombstone"];
    let mut client = world.stream(&arguments);
    client.streams();
    // Killed behind a truncate, most likely before that is acknowledged: until one came twice.
    let mut rounds = 0;
    let arrived = |world: &World<'_>| {
        let records = read(world, "items");
        records.iter().filter(|r| r.header("hw.op") == "c").count()
    };
    while rounds < 3 || arrived(&world) == rounds * 50 {
        assert!(rounds < 20, "no truncate ever came twice");
        let begin = world.kafka.written(&world.topic("items"));
        world.sql.run(&format!(
            "insert into big select n + {rounds} * 100000, repeat('x', 200) from generate_series(1, 20000) n;
             truncate items;
             insert into items select n, {rounds} from generate_series(1, 50) n;
             insert into big select n + {rounds} * 100000 + 50000, repeat('x', 200) from generate_series(1, 20000) n"
        ));
        eventually("rows behind the truncate arrive", SOON, || {
            let written = world.kafka.written(&world.topic("items"));
            check(written > begin, || format!("{written}"))
        });
        rounds += 1;
        client.kill();
        client = world.stream(&arguments);
        client.streams();
    }
    world.catches_up();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("items", "t.id");
    world.topic_equals_table("big", "t.id");
}

#[test]
fn the_event_itself_is_a_record_where_one_without_key_can_stand() {
    let world = World::new("trunc_event");
    world.sql.run(
        "create table keyed (id int primary key); create table heap (n int);
         insert into keyed values (1); insert into heap values (1)",
    );
    let mut client = world.stream(&[
        "--envelope",
        "change",
        "--unkeyed",
        "send",
        "--truncate",
        "tombstone",
    ]);
    client.streams();
    world.sql.run("begin; insert into heap values (2); truncate keyed, heap; insert into heap values (3); commit");
    world.catches_up();
    client
        .terminate()
        .expect(0, &["trunc_event.heap", "its rows stay in the topic"]);

    let heap = read(&world, "heap");
    let operations: Vec<_> = heap
        .iter()
        .map(|record| (record.header("hw.op"), record.header("hw.seq")))
        .collect();
    assert_eq!(
        operations[1..],
        [("c", "0"), ("t", "1"), ("c", "2")],
        "{heap:?}"
    );
    let event = &heap[2];
    assert_eq!(event.key, None);
    let envelope: Value = serde_json::from_str(event.value.as_deref().unwrap()).unwrap();
    assert_eq!(envelope["op"], "t");
    assert_eq!(envelope["before"], Value::Null);
    assert_eq!(envelope["after"], Value::Null);
    assert_eq!(envelope["source"]["table"], "heap");
    assert_eq!(envelope["source"]["seq"], 1);

    let keyed = read(&world, "keyed");
    assert_eq!(keyed.len(), 2, "a row and its tombstone: {keyed:?}");
    assert_eq!((keyed[1].header("hw.op"), &keyed[1].value), ("t", &None));
}

#[test]
fn stdout_prints_the_event_of_every_table() {
    let world = World::new("trunc_stdout");
    world.sql.run("create table keyed (id int primary key)");
    world
        .sql
        .run("select pg_create_logical_replication_slot('trunc_stdout', 'headwater')");
    world
        .sql
        .run("insert into keyed values (1); truncate keyed");
    let conninfo = world.postgres.conninfo("trunc_stdout");
    let mut client = Client::start([
        "stream",
        "-d",
        &conninfo,
        "-S",
        "trunc_stdout",
        "--sink",
        "stdout",
        "--envelope",
        "change",
        "--truncate",
        "ignore",
    ]);
    let line = client.prints("\"op\":\"t\"");
    assert!(
        line.starts_with("null\t{\"before\":null,\"after\":null,\"source\":"),
        "{line}"
    );
    client.terminate().expect(0, &[]);
}
