//! The network between the client and its servers.

use headwater_tests::kafka::{Detour, Kafka};
use headwater_tests::port;
use headwater_tests::postgres::Options;
use headwater_tests::torture::proxy::{Proxy, Weather};
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, topic};

use crate::world::World;

/// Soon enough for a test, late enough for a loaded machine to answer.
const WAL_SENDER_TIMEOUT: &str = "5s";

#[test]
fn a_connection_that_is_cut_or_falls_silent_is_mended_on_either_side() {
    let name = "connections";
    let postgres = Options::default()
        .setting("wal_sender_timeout", WAL_SENDER_TIMEOUT)
        .start();
    let broker_port = port::free();
    let to_kafka = Proxy::to(broker_port);
    let kafka = Kafka::with_detour(Some(Detour {
        port: broker_port,
        advertised: to_kafka.port(),
    }));
    let to_postgres = Proxy::to(postgres.port());
    let world = World::on(&postgres, &kafka, name);
    world.sql.run("create table t (id int primary key, n int)");
    let mut client = Client::start([
        "stream",
        "-d",
        &format!(
            "host=127.0.0.1 port={} user=postgres dbname={name}",
            to_postgres.port()
        ),
        "-S",
        name,
        "-b",
        &format!("127.0.0.1:{}", to_kafka.port()),
    ]);
    client.streams();

    let mut rounds = 0..;
    let mut write = || {
        let n = rounds.next().unwrap_or(0);
        world.sql.run(&format!(
            "insert into t select n, {n} from generate_series(1, 500) n \
             on conflict (id) do update set n = {n}"
        ));
    };
    for proxy in [&to_postgres, &to_kafka] {
        write();
        proxy.cut();
        write();
        world.catches_up();

        proxy.set(Weather::Closed);
        proxy.cut();
        write();
        proxy.set(Weather::Fair);
        world.catches_up();
    }

    // Nobody hears of anybody any more; the server gives the session up.
    let walsender = "select active_pid from pg_replication_slots where slot_name = 'connections'";
    let before = world.sql.value(walsender);
    to_postgres.set(Weather::Silent);
    write();
    eventually("the server ends the session", SOON, || {
        let gone = format!("select not exists (select from pg_stat_activity where pid = {before})");
        check(world.sql.holds(&gone), || before.clone())
    });
    to_postgres.set(Weather::Fair);
    world.catches_up();

    // The broker is silent, and the server is answered meanwhile.
    let before = world.sql.value(walsender);
    to_kafka.set(Weather::Silent);
    write();
    let since = world.sql.value("select clock_timestamp()");
    eventually("twice the server's patience passes", SOON, || {
        let passed = format!(
            "select clock_timestamp() > '{since}'::timestamptz + 2 * interval '{WAL_SENDER_TIMEOUT}'"
        );
        check(world.sql.holds(&passed), || since.clone())
    });
    assert_eq!(world.sql.value(walsender), before, "{}", client.stderr());
    to_kafka.set(Weather::Fair);
    world.catches_up();

    // And one that an administrator ends.
    world
        .sql
        .run(&format!("select pg_terminate_backend({before})"));
    write();
    world.catches_up();
    world.topic_equals_table("t", "t.id");
    client.terminate().expect(0, &[]);
    let records = topic::read(&kafka, &world.topic("t"));
    assert!(records.len() >= 500, "{} records", records.len());
}

#[test]
fn no_question_is_about_all_the_topics_that_there_are() {
    let world = World::new("connections_questions");
    world.sql.run("create table t (id int primary key)");
    let loudly = ["-v", "-v", "-X", "debug=metadata"];
    let mut client = world.stream(&loudly);
    client.streams();
    let streamed = client.terminate();
    let (topic, brokers) = (world.topic("t"), world.kafka.brokers());
    let tail = ["tail", "--from-beginning", "--exit", "-b", &brokers, &topic];
    let read = Client::run(tail.iter().chain(&loudly).copied());
    for ended in [streamed, read] {
        ended.expect(0, &["metadata for 1 topic(s)"]);
        assert!(!ended.stderr.contains("for all topics"), "{}", ended.stderr);
    }
}
