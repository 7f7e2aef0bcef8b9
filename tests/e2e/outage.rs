//! A broker that is away for longer than any timeout of ours: a copy is not made again for it, a
//! stream goes on where it was, and what it waits for is said once.

use std::time::{Duration, Instant};

use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Kafka};
use headwater_tests::{slot, topic};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::{World, postgres};

/// Longer than the first contact with a broker may take, and than a position may take to be
/// recorded: ten seconds each.
const LONG: Duration = Duration::from_secs(12);

const ROWS: u64 = 200_000;

/// What is said of each record that fails, from the second one on.
const FAILS_AGAIN: &str = "the position is not on record yet";

#[test]
fn a_copy_and_a_stream_wait_for_a_broker_that_is_away() {
    waits("outage", LONG);
}

#[test]
#[ignore = "waits for minutes: make test-outage"]
fn a_copy_and_a_stream_wait_for_a_broker_that_is_away_for_long() {
    waits("outage_long", Duration::from_secs(90));
}

fn waits(name: &str, outage: Duration) {
    let mut kafka = Kafka::new();
    let world = World::on(postgres(), &kafka, name);
    world.sql.run(&format!(
        "create table t (id int primary key, n int, v text);
         insert into t select n, 0, repeat(md5(n::text), 8) from generate_series(1, {ROWS}) n"
    ));
    let topic = world.topic("t");
    let arguments = world.arguments(&[]);
    let (sql, writer) = (world.session(), world.session());
    let table = |sql: &_| crate::world::rows(sql, "t", "t.id");

    let mut client = Client::start(&arguments);
    let arrives = |kafka: &Kafka, more_than: u64| {
        eventually("records arrive", SOON, || {
            let written = kafka.written(&topic);
            check(written > more_than, || format!("{written}"))
        });
    };
    arrives(&kafka, 0);
    let copied = kafka.written(&topic);
    // A broker that hangs keeps its connections, and answers none.
    stopped(&kafka, outage);
    client.streams();
    assert!(copied < ROWS, "the copy had ended before the broker hung");
    let said = client.stderr();
    assert_eq!(said.matches("snapshot begins").count(), 1, "{said}");
    assert_eq!(kafka.written(&topic), ROWS, "the copy was made once");

    let load = std::thread::spawn(move || {
        for n in 1..=100 {
            writer.run(&format!(
                "update t set n = {n} where id % 50 = {n} % 50 and id <= 60000"
            ));
        }
    });
    arrives(&kafka, ROWS + 1000);
    // One that was killed refuses them.
    kafka.kill();
    let gone = Instant::now();
    load.join().unwrap();
    assert!(client.is_running(), "{}", client.stderr());
    sleep_until(gone + outage);
    assert!(client.is_running(), "{}", client.stderr());
    kafka.start();

    let end = sql.value("select pg_current_wal_insert_lsn()");
    eventually("the slot passes all that is committed", SOON, || {
        check(slot::has_passed(&sql, name, &end), || end.clone())
    });
    let said = client.stderr();
    client.terminate().expect(0, &["answers again"]);
    let waits = said.matches("waiting for Kafka").count();
    // A broker that wakes answers what is left of its connections, and drops them then.
    assert!((2..=4).contains(&waits), "once for each outage: {said}");
    let records = topic::read(&kafka, &topic);
    crate::world::assert_same(&topic::fold(&records), &table(&sql));
    assert_in_order(&records);
}

/// The record that was under way fails by its own ten seconds, after Kafka was away for all of them;
/// that it is back when the client looks again is what counts.
#[test]
#[ignore = "waits for timeouts: make test-outage"]
fn a_stop_at_the_end_of_an_outage_has_its_position_on_record() {
    let kafka = Kafka::new();
    let world = World::on(postgres(), &kafka, "outage_stop");
    world.sql.run("create table t (id int primary key)");
    let mut client = Client::start(world.arguments(&["-v"]));
    client.streams();

    kafka.signal(Signal::SIGSTOP);
    // Moves the position, and sends nothing.
    world.sql.run("create table u (id int primary key)");
    client.says("cannot record the position");
    let failed = Instant::now();
    // The next record begins a second later, and fails ten seconds behind that: within the eight that a
    // stop has from here on, if this is between the fourth and the tenth.
    sleep_until(failed + Duration::from_secs(6));
    assert_eq!(client.said(FAILS_AGAIN), None, "it has failed too soon");
    client.signal(Signal::SIGTERM);
    client.says(FAILS_AGAIN);
    kafka.signal(Signal::SIGCONT);
    client.wait().expect(0, &["recording positions again"]);
}

/// Each key's records are in the order of their changes.
fn assert_in_order(records: &[topic::Record]) {
    let mut newest = std::collections::HashMap::new();
    for record in records {
        let value = record.value.as_deref().unwrap_or_default();
        let row: serde_json::Value = serde_json::from_str(value).unwrap();
        let n = row["n"].as_u64().unwrap();
        let before = newest.insert(record.key.clone(), n).unwrap_or(0);
        assert!(n >= before, "{n} follows {before}: {record:?}");
    }
}

fn stopped(kafka: &Kafka, outage: Duration) {
    let broker = Pid::from_raw(i32::try_from(kafka.pid()).unwrap());
    kill(broker, Signal::SIGSTOP).unwrap();
    sleep_until(Instant::now() + outage);
    kill(broker, Signal::SIGCONT).unwrap();
}

/// An outage is nothing but time.
fn sleep_until(end: Instant) {
    std::thread::sleep(end.saturating_duration_since(Instant::now()));
}
