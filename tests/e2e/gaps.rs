//! A slot and a state that do not fit each other are refused: going on would lose changes.

use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, topic};
use serde_json::Value;

use crate::world::World;

/// A pipeline that has streamed and was stopped.
fn stopped(name: &str) -> World<'static> {
    let world = World::new(name);
    world.sql.run("create table items (id int primary key)");
    world.sql.run("insert into items values (1)");
    let mut client = world.stream(&[]);
    client.streams();
    client.terminate().expect(0, &[]);
    world
}

#[test]
fn a_dropped_slot_is_refused() {
    let world = stopped("gap_dropped");
    world
        .sql
        .run("select pg_drop_replication_slot('gap_dropped')");
    world.stream(&[]).wait().expect(3, &["gap_dropped"]);
}

#[test]
fn a_recreated_slot_is_refused() {
    let world = stopped("gap_recreated");
    world
        .sql
        .run("select pg_drop_replication_slot('gap_recreated')");
    world.sql.run("insert into items values (2)");
    world
        .sql
        .run("select pg_create_logical_replication_slot('gap_recreated', 'headwater')");
    world.stream(&[]).wait().expect(3, &["gap_recreated"]);
}

#[test]
fn an_advanced_slot_is_refused() {
    let world = stopped("gap_advanced");
    world.sql.run("insert into items values (2)");
    world
        .sql
        .run("select pg_replication_slot_advance('gap_advanced', pg_current_wal_lsn())");
    world.stream(&[]).wait().expect(3, &["gap_advanced"]);
}

#[test]
fn a_slot_without_state_is_refused_unless_no_snapshot_is_wanted() {
    let world = World::new("gap_stateless");
    world.sql.run("create table items (id int primary key)");
    world
        .sql
        .run("select pg_create_logical_replication_slot('gap_stateless', 'headwater')");
    world
        .stream(&[])
        .wait()
        .expect(3, &["gap_stateless", "--snapshot never"]);

    let mut client = world.stream(&["--snapshot", "never"]);
    client.streams();
    world.sql.run("insert into items values (1)");
    world.catches_up();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("items", "t.id");
}

#[test]
fn drop_removes_the_slot_and_what_belongs_to_it() {
    let world = stopped("gap_drop");
    let conninfo = world.postgres.conninfo("gap_drop");
    let brokers = world.kafka.brokers();
    let dropped = Client::run([
        "drop", "--yes", "-d", &conninfo, "-S", "gap_drop", "-b", &brokers,
    ]);
    dropped.expect(0, &["gap_drop"]);
    assert_eq!(world.slots(), [] as [&str; 0]);

    // Nothing is remembered: the next start takes a snapshot.
    world.sql.run("insert into items values (2)");
    let mut client = world.stream(&[]);
    client.says("snapshot complete, streaming changes");
    client.terminate().expect(0, &[]);
    world.topic_equals_table("items", "t.id");
}

/// A client that died between recording a position and telling the server of it leaves a
/// record ahead of the slot.
#[test]
fn a_record_ahead_of_the_slot_confirms_nothing_that_is_not_delivered() {
    let world = stopped("gap_ahead");
    world.sql.run("alter table items add v text");
    let records = topic::read(world.kafka, "__headwater.state");
    let state = records
        .iter()
        .rev()
        .find(|record| {
            record
                .key
                .as_deref()
                .is_some_and(|key| key.contains("\"gap_ahead\""))
        })
        .unwrap();
    let mut value: Value = serde_json::from_str(state.value.as_deref().unwrap()).unwrap();

    world.sql.run("update items set v = 'first'");
    world
        .sql
        .run("insert into items select n, 'filler' from generate_series(2, 200000) n");
    world.sql.run("update items set v = 'second' where id = 1");
    // As if all of it had been delivered, and recorded, and the client had died then.
    let position = world.sql.value("select pg_current_wal_lsn()");
    value["position"] = position.clone().into();
    let key = state.key.as_deref().unwrap();
    topic::write(world.kafka, "__headwater.state", key, &value.to_string());
    let row = "{\"id\":1,\"v\":\"second\"}";
    topic::write(world.kafka, &world.topic("items"), "{\"id\":1}", row);

    let mut client = world.stream(&[]);
    client.says("streaming slot=");
    eventually("the slot passes the record", SOON, || {
        let passed = world.sql.holds(&format!(
            "select confirmed_flush_lsn >= '{position}' from pg_replication_slots where slot_name = 'gap_ahead'"
        ));
        check(passed, || "not yet".into())
    });
    client.terminate().expect(0, &[]);
    // What is recorded as delivered is neither sent again nor half sent.
    let expected = [("{\"id\":1}".to_owned(), row.to_owned())];
    assert_eq!(world.folded("items"), expected.into());
}
