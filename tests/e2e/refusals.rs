//! Whatever a user gets wrong: a clear error that names it and says what to do, the right
//! exit code, no panic, nothing lost, the server still up.

use std::net::TcpListener;

use headwater_tests::client::Ended;
use headwater_tests::postgres::Options;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Postgres, topic};

use crate::world::{World, kafka, postgres};

/// A world with one row, which no refusal may lose.
fn world(name: &str) -> World<'static> {
    let world = World::new(name);
    world.sql.run("create table items (id int primary key)");
    world.sql.run("insert into items values (1)");
    world
}

/// The server answers, the refused start left no slot, and a right one brings the row.
#[track_caller]
fn recovers(world: &World<'_>) {
    assert_eq!(
        world.slots(),
        [] as [&str; 0],
        "slots after a refused start"
    );
    let mut client = world.stream(&[]);
    client.streams();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("items", "t.id");
}

fn stream(conninfo: &str, brokers: &str, more: &[&str]) -> Ended {
    let mut arguments = vec!["stream", "-d", conninfo, "-b", brokers];
    arguments.extend(more);
    Client::run(arguments)
}

#[test]
fn unknown_flags_and_values_are_usage_errors() {
    Client::run(["stream", "--snapshoot", "never"]).expect(2, &["--snapshoot", "--snapshot"]);
    Client::run(["stream", "--snapshot", "sometimes"])
        .expect(2, &["sometimes", "initial", "never"]);
    Client::run(["strem"]).expect(2, &["strem", "stream"]);
    Client::run(["stream", "--snapshot-workers", "many"]).expect(2, &["many"]);
}

#[test]
fn options_that_say_nothing_without_another_are_usage_errors() {
    Client::run(["stream", "--dead-letter-topic", "dead"])
        .expect(2, &["--dead-letter-topic", "--on-error quarantine"]);
    Client::run(["stream", "--on-retained-wal", "drop-slot"])
        .expect(2, &["--on-retained-wal", "--max-retained-wal"]);
    Client::run(["stream", "--on-error", "quarantine", "--sink", "stdout"])
        .expect(2, &["--on-error quarantine", "--sink stdout"]);
}

#[test]
fn a_table_pattern_that_is_none_is_quoted() {
    let world = world("bad_pattern");
    let ended = world.stream(&["-t", "\"unclosed"]).wait();
    ended.expect(2, &["unclosed"]);
    recovers(&world);
}

#[test]
fn a_pattern_that_no_table_matches_is_named() {
    let world = world("no_table");
    world
        .stream(&["-t", "no_table.itmes"])
        .wait()
        .expect(1, &["no_table.itmes"]);
    recovers(&world);
}

#[test]
fn librdkafka_refuses_a_property_that_it_does_not_know() {
    let world = world("bad_property");
    world
        .stream(&["-X", "linger.msec=5"])
        .wait()
        .expect(2, &["linger.msec"]);
    world
        .stream(&["-X", "linger.ms=soon"])
        .wait()
        .expect(2, &["linger.ms"]);
    recovers(&world);
}

#[test]
fn a_server_without_logical_wal_is_told_how_to_get_it() {
    let postgres = Options::default().setting("wal_level", "replica").start();
    let world = World::on(&postgres, kafka(), "no_wal_level");
    world.sql.run("create table items (id int primary key)");
    world
        .stream(&[])
        .wait()
        .expect(1, &["wal_level", "logical", "ALTER SYSTEM SET wal_level"]);
    assert!(world.sql.holds("select true"));
}

#[test]
fn a_plugin_that_is_not_listed_is_told_how_to_be() {
    if !postgres().installation().lists_output_plugins() {
        println!(
            "this minor version of Postgres has no output_plugin_libraries: nothing to refuse"
        );
        return;
    }
    let postgres = Options::default().with_output_plugins_unlisted().start();
    let world = World::on(&postgres, kafka(), "not_listed");
    world
        .sql
        .run("create table items (id int primary key); insert into items values (1)");
    world
        .stream(&[])
        .wait()
        .expect(1, &["output_plugin_libraries", "headwater", "reload"]);

    // The cure that it names is the cure.
    world
        .sql
        .run("alter system set output_plugin_libraries = 'pgoutput', 'test_decoding', 'headwater'");
    world.sql.run("select pg_reload_conf()");
    eventually("the setting is loaded", SOON, || {
        let listed = world.session().value("show output_plugin_libraries");
        check(listed.contains("headwater"), || listed)
    });
    recovers(&world);
}

#[test]
fn a_database_without_the_extension_is_told_to_create_it() {
    let world = world("no_extension");
    world.sql.run("drop extension headwater");
    world
        .stream(&[])
        .wait()
        .expect(1, &["CREATE EXTENSION headwater"]);
    world.sql.run("create extension headwater");
    recovers(&world);
}

#[test]
fn a_slot_that_is_not_there_is_named() {
    let world = world("no_slot");
    let conninfo = world.postgres.conninfo("no_slot");
    Client::run([
        "drop",
        "--yes",
        "-d",
        &conninfo,
        "-S",
        "no_slot",
        "-b",
        &world.kafka.brokers(),
    ])
    .expect(1, &["no_slot"]);
    recovers(&world);
}

#[test]
fn a_slot_of_another_plugin_is_refused() {
    let world = world("other_plugin");
    world
        .sql
        .run("select pg_create_logical_replication_slot('other_plugin', 'test_decoding')");
    world
        .stream(&["--snapshot", "never"])
        .wait()
        .expect(1, &["other_plugin", "test_decoding"]);
    world
        .sql
        .run("select pg_drop_replication_slot('other_plugin')");
    recovers(&world);
}

#[test]
fn a_slot_in_use_ends_with_4_and_does_not_disturb_its_owner() {
    let world = world("in_use");
    let mut owner = world.stream(&[]);
    owner.streams();
    world.stream(&[]).wait().expect(4, &["in_use"]);
    world.sql.run("insert into items values (2)");
    world.catches_up();
    assert!(owner.is_running());
    owner.terminate().expect(0, &[]);
    world.topic_equals_table("items", "t.id");
    assert_eq!(topic::read(world.kafka, &world.topic("items")).len(), 2);
}

#[test]
fn a_broker_that_is_down_is_named_and_nothing_starts() {
    let world = world("kafka_down");
    // A port that was just given back: nothing listens there.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let brokers = format!("127.0.0.1:{port}");
    let conninfo = world.postgres.conninfo("kafka_down");
    stream(&conninfo, &brokers, &["-S", "kafka_down"]).expect(1, &[&brokers]);
    recovers(&world);
}

#[test]
fn a_server_that_is_down_is_named() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let conninfo = format!("host=127.0.0.1 port={port} dbname=postgres");
    stream(&conninfo, &kafka().brokers(), &[]).expect(1, &[&port.to_string()]);
}

#[test]
fn a_wrong_password_is_said_and_never_shown() {
    let postgres = Options::default().password("the right one").start();
    let world = World::on(&postgres, kafka(), "wrong_password");
    world
        .sql
        .run("create table items (id int primary key); insert into items values (1)");
    let with_password = |password: &str| {
        format!(
            "{} password='{password}'",
            postgres.conninfo("wrong_password")
        )
    };
    let brokers = kafka().brokers();
    let ended = stream(
        &with_password("guessed"),
        &brokers,
        &["-S", "wrong_password"],
    );
    ended.expect(1, &["password authentication failed", "postgres"]);
    assert!(!ended.stderr.contains("guessed"), "{}", ended.stderr);
    assert_eq!(world.slots(), [] as [&str; 0]);

    let mut client = Client::start([
        "stream",
        "-d",
        &with_password("the right one"),
        "-S",
        "wrong_password",
        "-b",
        &brokers,
    ]);
    client.streams();
    assert!(!client.stderr().contains("the right one"));
    client.terminate().expect(0, &[]);
    world.topic_equals_table("items", "t.id");
}

#[test]
fn a_topic_that_cannot_be_made_is_named() {
    let world = world("bad_topic");
    world
        .stream(&["--topic-replication", "3"])
        .wait()
        .expect(1, &["bad_topic.items", "replication"]);
    world
        .stream(&["--no-create-topics"])
        .wait()
        .expect(1, &["bad_topic.items", "--no-create-topics"]);
    recovers(&world);
}

#[test]
fn a_role_without_replication_is_told_what_it_lacks() {
    let world = world("no_replication");
    world.sql.run("create role reader_only login");
    let conninfo = world
        .postgres
        .conninfo("no_replication")
        .replace("user=postgres", "user=reader_only");
    stream(&conninfo, &kafka().brokers(), &["-S", "no_replication"])
        .expect(1, &["reader_only", "REPLICATION"]);
    recovers(&world);
    world.sql.run("drop role reader_only");
}

#[test]
fn two_tables_whose_topics_kafka_would_confuse_are_both_named() {
    let world = World::new("confused");
    world.sql.run(
        "create schema a; create schema a_b;
         create table a.b_c (id int primary key); create table a_b.c (id int primary key)",
    );
    world.stream(&[]).wait().expect(1, &["a.b_c", "a_b.c"]);
    assert_eq!(world.slots(), [] as [&str; 0]);
}

#[test]
fn the_server_outlives_every_refusal() {
    let postgres = Postgres::new();
    let sql = postgres.database("outlives");
    let begun = sql.value("select pg_postmaster_start_time()");
    sql.run("create table items (id int primary key)");
    sql.run("select pg_create_logical_replication_slot('outlives', 'headwater')");
    sql.run("insert into items values (1)");
    for options in [
        "'output'",
        "'output','x'",
        "'protocol','65536','output','frames'",
        "'tables','\"'",
        "'batch_bytes','-1'",
    ] {
        let query = format!(
            "select * from pg_logical_slot_get_binary_changes('outlives', null, null, {options})"
        );
        sql.attempt(&query).expect_err(options);
    }
    for call in [
        "headwater.encode(row(1, 2))",
        "headwater.encode(null)",
        "headwater.encode(i, 'outptu=lines')",
        "headwater.relation(0)",
        "headwater.relation('pg_class', 'x')",
    ] {
        let _refused = sql.attempt(&format!("select {call} from items i"));
    }
    assert_eq!(sql.value("select pg_postmaster_start_time()"), begun);
    assert_eq!(
        sql.rows("select data from pg_logical_slot_get_changes('outlives', null, null)")
            .len(),
        1
    );
}

#[test]
fn a_database_without_an_encoding_is_refused_before_a_slot_exists() {
    let server = postgres();
    server
        .session("postgres")
        .run("create database ascii encoding 'SQL_ASCII' locale 'C' template template0");
    let sql = server.session("ascii");
    sql.run("create extension headwater; create table items (id int primary key)");
    let brokers = kafka().brokers();
    Client::run([
        "stream",
        "-d",
        &server.conninfo("ascii"),
        "-S",
        "ascii",
        "-b",
        &brokers,
    ])
    .expect(
        1,
        &[
            "SQL_ASCII",
            "--encoding assume-utf8",
            "recreate the database",
        ],
    );
    assert_eq!(
        sql.value("select count(*) from pg_replication_slots where database = current_database()"),
        "0"
    );
}
