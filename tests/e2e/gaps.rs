//! A slot or a command line that does not fit the state is refused: going on would lose changes
//! or split topics.

use headwater_tests::client::Ended;
use headwater_tests::postgres::Options;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Postgres, slot, topic};
use serde_json::Value;

use crate::world::{World, kafka};

/// A pipeline that has streamed and was stopped.
fn stopped(name: &str) -> World<'static> {
    stopped_on(World::new(name))
}

fn stopped_on(world: World<'_>) -> World<'_> {
    world.sql.run("create table items (id int primary key)");
    world.sql.run("insert into items values (1)");
    let mut client = world.stream(&[]);
    client.streams();
    client.terminate().expect(0, &[]);
    world
}

/// The oldest WAL that the only slot of a server needs.
const RESTART_LSN: &str = "select restart_lsn from pg_replication_slots";

/// Where the state of every pipeline is.
const STATE: &str = "__headwater.state";

/// Key and value of the newest state of a slot.
fn recorded(world: &World<'_>, slot: &str) -> (String, Value) {
    let slot = format!("\"{slot}\"");
    let mut records = topic::read(world.kafka, STATE).into_iter().rev();
    let newest = records.find(|record| record.key.as_ref().is_some_and(|key| key.contains(&slot)));
    let newest = newest.expect("a state on record");
    let value = serde_json::from_str(&newest.value.unwrap()).unwrap();
    (newest.key.unwrap(), value)
}

/// What a refusal says is to come after `--accept-gap`.
fn way_on(refusal: &Ended) -> &str {
    let (_, rest) = refusal
        .stderr
        .split_once("--accept-gap ")
        .expect("the refusal names --accept-gap");
    let position = rest.split_whitespace().next();
    position.expect("a position").trim_end_matches('.')
}

/// Refused; and each way on that the refusal names, as it names it, goes on.
fn refused_and_mended(world: &World<'_>) {
    let refusal = world.stream(&[]).wait();
    refusal.expect(3, &[&world.name, "--resnapshot"]);
    let accept = way_on(&refusal);
    world.stream(&["--accept-gap", "0/1"]).wait().expect(3, &[]);
    let mut client = world.stream(&["--accept-gap", accept]);
    client.says("table is stale");
    client.streams();
    world.sql.run("insert into items values (100)");
    world.catches_up();
    client.terminate().expect(0, &[]);
    assert!(world.folded("items").contains_key("{\"id\":100}"));
    // It was for that gap: there is none now, and the tables stay marked.
    let mut client = world.stream(&["--accept-gap", accept]);
    client.says("changes after");
    client.streams();
    client.terminate().expect(0, &[]);

    // Another gap, mended by a snapshot: what was deleted meanwhile has a tombstone.
    world.drop_slot();
    world
        .sql
        .run("delete from items where id = 100; insert into items values (101)");
    let mut client = world.stream(&["--resnapshot"]);
    client.says("snapshot complete, streaming changes");
    client.streams();
    world.sql.run("insert into items values (102)");
    world.catches_up();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("items", "t.id");
    // Left in a unit file it does nothing where nothing is lost.
    let mut client = world.stream(&["--resnapshot"]);
    client.streams();
    let ended = client.terminate();
    ended.expect(0, &[]);
    assert!(!ended.stderr.contains("snapshot"), "{}", ended.stderr);
}

#[test]
fn another_server_is_refused() {
    drop(stopped("gap_server"));
    let postgres = Postgres::new();
    let world = World::on(&postgres, kafka(), "gap_server");
    world
        .sql
        .run("create table items (id int primary key); insert into items values (7)");
    world
        .stream(&[])
        .wait()
        .expect(3, &["came from the server with system identifier"]);
    refused_and_mended(&world);
}

#[test]
fn a_snapshot_that_is_refused_and_asked_for_is_a_wrong_command_line() {
    let world = World::new("gap_usage");
    for mode in ["never", "only"] {
        world
            .stream(&["--resnapshot", "--snapshot", mode])
            .wait()
            .expect(2, &["--resnapshot", &format!("--snapshot {mode}")]);
    }
    assert_eq!(world.slots(), [] as [&str; 0]);
}

/// Both decide that the slot has to go: the second must not drop what the first has made.
#[test]
fn of_two_that_begin_anew_at_once_one_does() {
    let world = stopped("gap_two");
    world.drop_slot();
    world
        .sql
        .run("select pg_create_logical_replication_slot('gap_two', 'headwater')");
    let clients = [(); 2].map(|()| world.stream(&["--resnapshot"]));
    let first = eventually("one of them streams", SOON, || {
        let streams = |client: &Client| client.stderr().contains("streaming slot=");
        clients.iter().position(streams).ok_or("none yet")
    });
    let [a, b] = clients;
    let (winner, loser) = if first == 0 { (a, b) } else { (b, a) };
    loser.wait().expect(4, &["gap_two"]);
    world.sql.run("insert into items values (2)");
    world.catches_up();
    winner.terminate().expect(0, &[]);
    world.topic_equals_table("items", "t.id");
}

#[test]
fn a_dropped_slot_is_refused() {
    let world = stopped("gap_dropped");
    world.drop_slot();
    world.sql.run("insert into items values (2)");
    refused_and_mended(&world);
}

#[test]
fn a_recreated_slot_is_refused() {
    let world = stopped("gap_recreated");
    world.drop_slot();
    world.sql.run("insert into items values (2)");
    world
        .sql
        .run("select pg_create_logical_replication_slot('gap_recreated', 'headwater')");
    refused_and_mended(&world);
}

#[test]
fn an_advanced_slot_is_refused() {
    let world = stopped("gap_advanced");
    world.sql.run("insert into items values (2)");
    world
        .sql
        .run("select pg_replication_slot_advance('gap_advanced', pg_current_wal_lsn())");
    refused_and_mended(&world);
}

/// The server removes what a slot keeps beyond `max_slot_wal_keep_size`, at a checkpoint.
#[test]
fn a_slot_whose_wal_is_gone_is_refused() {
    let postgres = Options::default()
        .setting("max_slot_wal_keep_size", "1MB")
        .setting("min_wal_size", "32MB")
        .setting("max_wal_size", "32MB")
        .start();
    let world = stopped_on(World::on(&postgres, kafka(), "gap_wal"));
    eventually("the slot loses its WAL", SOON, || {
        world
            .sql
            .run("select pg_logical_emit_message(true, 'gap', repeat('x', 1000000))");
        world.sql.run("select pg_switch_wal()");
        world.sql.run("checkpoint");
        let lost = "select wal_status = 'lost' from pg_replication_slots";
        check(world.sql.holds(lost), || world.slots().join(", "))
    });
    refused_and_mended(&world);
}

/// Slots are in no base backup.
#[test]
fn a_restored_base_backup_is_refused() {
    let server = Postgres::new();
    let world = stopped_on(World::on(&server, kafka(), "gap_backup"));
    let restored = server.restored_backup();
    world.streamed(&[], || world.sql.run("insert into items values (2)"));
    refused_and_mended(&World::found(&restored, kafka(), "gap_backup"));
}

/// Somebody has made the slot there, by hand.
#[test]
fn a_promoted_standby_is_refused() {
    let server = Postgres::new();
    let world = stopped_on(World::on(&server, kafka(), "gap_standby"));
    let standby = server.standby();
    standby.promote();
    let promoted = World::found(&standby, kafka(), "gap_standby");
    promoted
        .sql
        .run("select pg_create_logical_replication_slot('gap_standby', 'headwater')");
    world.streamed(&[], || world.sql.run("insert into items values (2)"));
    let refusal = promoted.stream(&[]).wait();
    refusal.expect(3, &["followed timeline 1, the server is on 2"]);
    refused_and_mended(&promoted);
}

/// It says what the start that follows it would say.
#[test]
fn a_gap_under_a_running_stream_ends_it_with_the_same_ways_on() {
    let world = stopped("gap_running");
    let mut client = world.stream(&[]);
    client.streams();
    world.sql.run("insert into items values (2)");
    eventually("the slot is dropped under its stream", SOON, || {
        world.sql.run(
            "select pg_terminate_backend(active_pid) from pg_replication_slots \
             where slot_name = 'gap_running' and active",
        );
        world
            .sql
            .attempt("select pg_drop_replication_slot('gap_running')")
    });
    let ended = client.wait();
    ended.expect(
        3,
        &["\"gap_running\" is gone", "--resnapshot", "--accept-gap"],
    );
    let mut client = world.stream(&["--accept-gap", way_on(&ended)]);
    client.says("table is stale");
    client.streams();
    client.terminate().expect(0, &[]);
    world.drop_slot();
    refused_and_mended(&world);
}

/// The slot comes with the files, on the timeline that it was on.
#[test]
fn a_copy_of_the_files_with_the_slot_in_it_is_refused() {
    let mut server = Postgres::new();
    stopped_on(World::on(&server, kafka(), "gap_copy"));
    server.stop();
    let copies = [server.file_copy(), server.file_copy()];
    server.start();
    let world = World::found(&server, kafka(), "gap_copy");
    let mut client = world.stream(&[]);
    client.streams();
    let before = world.sql.value(RESTART_LSN);
    let mut id = 1;
    eventually("the slot's restart_lsn is on record", SOON, || {
        // With the running transactions that a slot moves by.
        world.sql.run("checkpoint");
        id += 1;
        world.sql.run(&format!("insert into items values ({id})"));
        let (_, state) = recorded(&world, "gap_copy");
        let lsn = state["restart_lsn"].as_str().unwrap_or("0/0");
        let moved = world
            .sql
            .holds(&format!("select '{lsn}'::pg_lsn > '{before}'"));
        check(moved, || format!("{lsn} on record, {before} before"))
    });
    client.terminate().expect(0, &[]);
    let (_, state) = recorded(&world, "gap_copy");
    let position = state["position"].as_str().unwrap();

    // One copy has not come as far as the record, the other has gone past it.
    let [behind, past] = copies
        .each_ref()
        .map(|copy| World::found(copy, kafka(), "gap_copy"));
    let refusal = behind.stream(&[]).wait();
    refusal.expect(3, &["the server's WAL ends at", position]);
    past.sql.run("select pg_switch_wal()");
    past.sql.run("checkpoint");
    let is_past = format!("select pg_current_wal_flush_lsn() > '{position}'");
    assert!(past.sql.holds(&is_past), "the copy writes past the record");
    let refusal = past.stream(&[]).wait();
    refusal.expect(
        3,
        &[
            "reaches back to",
            "an older copy of the server was restored",
        ],
    );
    refused_and_mended(&past);
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

    world.streamed(&["--snapshot", "never"], || {
        world.sql.run("insert into items values (1)")
    });
    world.topic_equals_table("items", "t.id");
}

#[test]
fn drop_removes_the_slot_and_what_belongs_to_it() {
    let world = stopped("gap_drop");
    let conninfo = world.postgres.conninfo("gap_drop");
    let brokers = world.kafka.brokers();
    let drop = || {
        Client::run([
            "drop", "--yes", "-d", &conninfo, "-S", "gap_drop", "-b", &brokers,
        ])
    };
    // The state is of another server, whose slot has the same name.
    let (key, value) = recorded(&world, "gap_drop");
    let mut other = value.clone();
    other["system_identifier"] = "7".into();
    topic::write(world.kafka, STATE, &key, other.to_string());
    drop().expect(1, &["system identifier 7", "nothing was dropped"]);
    assert_eq!(world.slots(), ["gap_drop"]);
    topic::write(world.kafka, STATE, &key, value.to_string());
    // Schema ids that a newer release has written, and such as nobody has.
    let unreadable =
        [("a-key", r#"{"version":2}"#), ("a-value", "no JSON")].map(|(subject, ids)| {
            let (name, slot) = (&*world.name, "gap_drop");
            let key = format!(
                r#"{{"prefix":"","database":"{name}","slot":"{slot}","subject":"{subject}"}}"#
            );
            topic::write(world.kafka, STATE, &key, ids);
            key
        });

    drop().expect(0, &["gap_drop"]);
    assert_eq!(world.slots(), [] as [&str; 0]);
    let records = topic::read(world.kafka, STATE);
    for key in unreadable {
        let of_key = |it: &&topic::Record| it.key_bytes.as_deref() == Some(key.as_bytes());
        let newest = records.iter().rfind(of_key).expect("ids");
        assert_eq!(newest.bytes, None, "{key}");
    }

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
    let (key, mut value) = recorded(&world, "gap_ahead");

    world.sql.run("update items set v = 'first'");
    world
        .sql
        .run("insert into items select n, 'filler' from generate_series(2, 200000) n");
    world.sql.run("update items set v = 'second' where id = 1");
    // As if all of it had been delivered, and recorded, and the client had died then.
    let position = world.sql.value("select pg_current_wal_lsn()");
    value["position"] = position.clone().into();
    topic::write(world.kafka, STATE, &key, value.to_string());
    let row = "{\"id\":1,\"v\":\"second\"}";
    topic::write(world.kafka, &world.topic("items"), "{\"id\":1}", row);

    let mut client = world.stream(&[]);
    client.says("streaming slot=");
    eventually("the slot passes the record", SOON, || {
        let passed = slot::has_passed(&world.sql, "gap_ahead", &position);
        check(passed, || "not yet".into())
    });
    client.terminate().expect(0, &[]);
    // What is recorded as delivered is neither sent again nor half sent.
    let expected = [("{\"id\":1}".to_owned(), row.to_owned())];
    assert_eq!(world.folded("items"), expected.into());
}

#[test]
fn options_that_would_split_a_topic_are_refused_until_the_stream_begins_anew() {
    let world = World::new("gap_shape");
    world.sql.run(
        "create table items (id int primary key) partition by range (id);
         create table items_1 partition of items for values from (0) to (100);
         insert into items values (1)",
    );
    let goes_on = |options: &[&str]| {
        let mut client = world.stream(options);
        client.streams();
        world
            .sql
            .run("insert into items select max(id) + 1 from items");
        world.catches_up();
        client.terminate().expect(0, &[]);
    };
    goes_on(&["--partitions", "leaf"]);
    world.stream(&["--numbers", "string"]).wait().expect(
        3,
        &[
            "begun with --numbers exact --partitions leaf",
            "asks for --numbers string --partitions root",
            "Start with --numbers exact --partitions leaf",
            "headwater drop --slot gap_shape",
        ],
    );
    world
        .stream(&["--partitions", "leaf", "--topic", "t.{table}"])
        .wait()
        .expect(3, &["--topic {schema}.{table}", "--topic t.{table}"]);
    // What only chooses among the records is free, and the options of the record go on.
    goes_on(&["--partitions", "leaf", "--toast", "mark"]);
    world.topic_equals_table("items_1", "t.id");

    // What an older release recorded tells none: what is asked for is taken, from then on.
    let (key, mut value) = recorded(&world, "gap_shape");
    let shape = value.as_object_mut().unwrap().remove("shape");
    assert_eq!(
        shape.expect("options on record")["partitions"],
        Value::from("leaf")
    );
    topic::write(world.kafka, STATE, &key, value.to_string());
    goes_on(&["--partitions", "leaf", "--numbers", "string"]);
    world.stream(&["--partitions", "leaf"]).wait().expect(
        3,
        &["begun with --numbers string", "asks for --numbers exact"],
    );

    let conninfo = world.postgres.conninfo("gap_shape");
    let brokers = world.kafka.brokers();
    Client::run([
        "drop",
        "--yes",
        "-d",
        &conninfo,
        "-S",
        "gap_shape",
        "-b",
        &brokers,
    ])
    .expect(0, &[]);
    goes_on(&[]);
    world.topic_equals_table("items", "t.id");
}
