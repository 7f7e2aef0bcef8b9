//! Stopping and idling: nothing in flight is lost, and the slot holds no WAL back.

use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{slot, topic};
use nix::sys::signal::Signal;

use crate::world::World;

#[test]
fn a_stopped_client_has_delivered_what_it_confirmed_and_nothing_comes_twice() {
    for (name, signal) in [("stop_term", Signal::SIGTERM), ("stop_int", Signal::SIGINT)] {
        let world = World::new(name);
        world.sql.run("create table items (id int primary key)");
        let mut client = world.stream(&[]);
        client.streams();
        // So that the stop falls into the middle of the work.
        let session = world.session();
        let writer = std::thread::spawn(move || {
            session.run(
                "do $$ begin for n in 1..20000 loop insert into items values (n); commit; end loop; end $$",
            );
        });
        eventually("the first records arrive", SOON, || {
            let written = world.kafka.written(&world.topic("items"));
            check(written > 0, || "none".into())
        });
        client.signal(signal);
        client.wait().expect(0, &[]);
        writer.join().unwrap();

        let before = topic::read(world.kafka, &world.topic("items")).len();
        let mut client = world.stream(&[]);
        client.streams();
        world.catches_up();
        client.terminate().expect(0, &[]);
        world.topic_equals_table("items", "t.id");
        let all = topic::read(world.kafka, &world.topic("items")).len();
        assert!(before < 20_000, "{signal} came after the work");
        assert_eq!(all, 20_000, "{signal}: {before} records before the stop");
    }
}

#[test]
fn a_transaction_that_is_arriving_at_a_stop_comes_again_from_its_beginning() {
    const ROWS: usize = 300_000;
    let world = World::new("stop_within");
    world.sql.run("create table items (id int primary key)");
    let mut client = world.stream(&[]);
    client.streams();
    world.sql.run(&format!(
        "insert into items select generate_series(1, {ROWS})"
    ));
    let topic = world.topic("items");
    eventually("the first records arrive", SOON, || {
        check(world.kafka.written(&topic) > 0, || "none".into())
    });
    client.terminate().expect(0, &[]);
    let before = topic::read(world.kafka, &topic).len();
    assert!(before < ROWS, "the stop came after the transaction");

    let mut client = world.stream(&[]);
    client.streams();
    world.catches_up();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("items", "t.id");
    let all = topic::read(world.kafka, &topic).len();
    assert_eq!(all, before + ROWS, "{before} records before the stop");
}

#[test]
fn the_slot_has_passed_the_last_commit_when_a_caught_up_client_stops() {
    let world = World::new("stop_idle");
    world.sql.run("create table items (id int primary key)");
    let mut client = world.stream(&[]);
    client.streams();
    world.sql.run("insert into items values (1)");
    eventually("the record arrives", SOON, || {
        check(world.kafka.written(&world.topic("items")) == 1, || {
            "none".into()
        })
    });
    client.terminate().expect(0, &[]);
    let records = topic::read(world.kafka, &world.topic("items"));
    let commit = records[0].header("hw.lsn");
    assert!(
        slot::has_passed(&world.sql, "stop_idle", commit),
        "the slot stands before the commit at {commit}"
    );
}

#[test]
fn traffic_of_tables_that_are_not_captured_moves_the_slot() {
    let world = World::new("idle");
    world.sql.run("create table captured (id int primary key)");
    world
        .sql
        .run("create table other (id serial primary key, pad text)");
    let mut client = world.stream(&["-t", "idle.captured"]);
    client.streams();
    for _ in 0..5 {
        // The slot passes the insert, though nothing of it is sent.
        world
            .sql
            .run("insert into other (pad) select repeat('x', 500) from generate_series(1, 2000)");
        world.catches_up();
    }
    assert!(!world.kafka.topics().unwrap().contains_key("idle.other"));
    client.terminate().expect(0, &[]);
}

#[test]
fn a_restarted_client_goes_on_where_it_stopped_without_another_snapshot() {
    let world = World::new("restart");
    world
        .sql
        .run("create table items (id int primary key, name text)");
    world.sql.run("insert into items values (1, 'snapshot')");
    let mut client = world.stream(&[]);
    client.streams();
    client.terminate().expect(0, &[]);

    world
        .sql
        .run("insert into items values (2, 'while stopped')");
    let mut client = world.stream(&[]);
    client.streams();
    world.catches_up();
    client.terminate().expect(0, &[]);

    let records = topic::read(world.kafka, &world.topic("items"));
    let ops: Vec<_> = records
        .iter()
        .map(|record| record.header("hw.op"))
        .collect();
    assert_eq!(ops, ["r", "c"], "{records:?}");
    world.topic_equals_table("items", "t.id");
}
