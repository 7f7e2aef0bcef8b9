//! A slot has one instance; another takes its place where it is told to, and only then.

use std::collections::BTreeMap;
use std::process::Stdio;

use headwater_tests::session::Session;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Random, topic};
use nix::sys::signal::Signal;

use crate::workload::{self, Writers};
use crate::world::World;

/// Fails unless the records of each key lie in the order of the changes.
fn in_order_of_changes(world: &World<'_>, table: &str) {
    let mut newest = BTreeMap::new();
    for record in topic::read(world.kafka, &world.topic(table)) {
        let place = [record.header("hw.lsn"), record.header("hw.seq")].map(str::to_owned);
        let (high, low) = place[0].split_once('/').unwrap();
        let number = |text: &str, radix| u64::from_str_radix(text, radix).unwrap();
        let place = (number(high, 16), number(low, 16), number(&place[1], 10));
        if let Some(before) = newest.insert(record.key.clone(), place) {
            assert!(before <= place, "{record:?} lies behind {before:X?}");
        }
    }
}

#[test]
fn an_instance_yields_under_load_and_nothing_is_lost_or_out_of_order() {
    let world = World::new("take_over");
    workload::create_tables(&world.sql, 2_000);
    let mut random = Random::from_environment("take_over");
    let conninfo = world.postgres.local_conninfo("take_over");
    let writers = Writers::start(2, &mut random, move || {
        let session = Session::connect(&conninfo)?;
        session
            .attempt("set search_path = take_over, public")
            .map(|_| session)
    });
    let mut first = world.stream(&[]);
    first.streams();
    world
        .stream(&[])
        .wait()
        .expect(4, &["take_over", "--take-over"]);
    assert!(first.is_running(), "a refused start disturbs nobody");

    let mut second = world.stream(&["--take-over"]);
    first.wait().expect(4, &["takes over replication slot"]);
    second.streams();
    let mut third = world.stream(&["--take-over"]);
    second.wait().expect(4, &["takes over replication slot"]);
    third.streams();
    writers.stop();
    world.catches_up();
    third.terminate().expect(0, &[]);
    for (table, key) in workload::TABLES {
        world.topic_equals_table(table, key);
        in_order_of_changes(&world, table);
    }
}

#[test]
fn an_instance_that_yields_in_its_snapshot_leaves_it_to_the_other() {
    let world = World::new("take_over_early");
    workload::create_tables(&world.sql, 100_000);
    let mut first = world.stream(&[]);
    first.says("snapshot begins");
    let mut second = world.stream(&["--take-over"]);
    first.wait().expect(4, &["takes over replication slot"]);
    second.streams();
    world.sql.run("delete from orders where id % 2 = 0");
    world.catches_up();
    second.terminate().expect(0, &[]);
    for (table, key) in workload::TABLES {
        world.topic_equals_table(table, key);
    }
}

#[test]
fn a_frozen_instance_is_ended_and_changes_nothing_when_it_wakes() {
    let world = World::new("take_over_frozen");
    world
        .sql
        .run("create table items (id int primary key, v int); insert into items values (1, 1)");
    let mut first = world.stream(&[]);
    first.streams();
    world.sql.run("update items set v = 2");
    world.catches_up();
    first.signal(Signal::SIGSTOP);

    let mut second = world.stream(&["--take-over"]);
    second.says("the other instance does not end by itself");
    second.streams();
    world.sql.run("update items set v = 3");
    world.catches_up();
    first.signal(Signal::SIGCONT);
    first.wait().expect(4, &["take_over_frozen"]);

    world.sql.run("insert into items values (2, 4)");
    world.catches_up();
    second.terminate().expect(0, &[]);
    world.topic_equals_table("items", "t.id");
    // What is on record is the new owner's.
    world.streamed(&[], || world.sql.run("update items set v = 5"));
    world.topic_equals_table("items", "t.id");
}

#[test]
fn a_session_of_another_program_is_ended_where_that_is_permitted() {
    let world = World::new("take_over_foreign");
    world.sql.run(
        "create table items (id int primary key); insert into items values (1);
         create role take_over_streamer login replication;
         grant usage on schema take_over_foreign to take_over_streamer;
         grant select on items to take_over_streamer",
    );
    world
        .sql
        .run("select pg_create_logical_replication_slot('take_over_foreign', 'headwater')");
    let mut reader = world
        .postgres
        .pg_recvlogical("take_over_foreign", "take_over_foreign", "FFFFFFFF/0")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the other program has the slot", SOON, || {
        let active = world
            .sql
            .holds("select active from pg_replication_slots where slot_name = 'take_over_foreign'");
        check(active, || "not yet".into())
    });
    let taking_over = |user: &str| {
        let options = ["--snapshot", "never", "--take-over"];
        let mut arguments = world.arguments(&options);
        arguments.extend(["-U".to_owned(), user.to_owned()]);
        headwater_tests::Client::start(arguments)
    };
    taking_over("take_over_streamer")
        .wait()
        .expect(4, &["may not end", "pg_signal_backend"]);
    assert!(reader.try_wait().unwrap().is_none(), "it is left alone");

    let mut client = taking_over("postgres");
    client.says("ending the session that streams from the slot");
    client.streams();
    assert!(!reader.wait().unwrap().success(), "its session was ended");
    world.sql.run("insert into items values (2)");
    world.catches_up();
    client.terminate().expect(0, &[]);
    assert!(world.folded("items").contains_key("{\"id\":2}"));
    world
        .sql
        .run("drop owned by take_over_streamer; drop role take_over_streamer");
}
