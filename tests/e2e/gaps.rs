//! A slot and a state that do not fit each other are refused: going on would lose changes.

use headwater_tests::Client;

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
