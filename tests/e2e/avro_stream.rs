//! `headwater stream --format avro` into Kafka, with a real schema registry: what it registers, what
//! it does without it, and what it refuses.

use std::collections::BTreeMap;

use headwater_tests::registry::Compatibility;
use headwater_tests::registry::proxy::{Fault, Proxy};
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Registry, topic};
use nix::sys::signal::Signal;

use crate::world::{self, World};

/// The newest value of each key, as `headwater tail` decodes them; `null` where it is a tombstone.
#[track_caller]
fn decoded(world: &World<'_>, registry: &str, table: &str) -> BTreeMap<String, String> {
    let (brokers, topic) = (world.kafka.brokers(), world.topic(table));
    let arguments = ["tail", "-b", &brokers, "-r", registry];
    let ended = Client::run(arguments.iter().chain(&["--from-beginning", "-e", &topic]));
    ended.expect(0, &[]);
    let lines = ended.stdout.lines();
    lines
        .map(|line| line.split_once('\t').expect("key TAB value"))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn pairs(expected: &[(&str, &str)]) -> BTreeMap<String, String> {
    let expected = expected.iter();
    expected
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// The schema id of the newest record of a topic's key, and of its value.
fn newest_ids(world: &World<'_>, table: &str) -> (u32, u32) {
    let records = topic::read(world.kafka, &world.topic(table));
    let newest = records.last().expect("a record");
    let id = |bytes: &[u8]| match bytes {
        [0, a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]),
        _ => panic!("no schema id in {bytes:?}"),
    };
    let (key, value) = (newest.key_bytes.as_deref(), newest.bytes.as_deref());
    (id(key.expect("a key")), id(value.expect("a value")))
}

#[test]
fn a_topic_in_avro_comes_to_its_table() {
    let world = World::new("avro_stream");
    let url = world::registry().url();
    let avro = ["--format", "avro", "-r", &url];
    world.sql.run(
        "create table t (id int primary key, a text);
         insert into t values (1, 'copied'), (2, 'copied')",
    );
    world.streamed(&avro, || {
        world.sql.run(
            "insert into t values (3, 'new');
             update t set a = 'changed' where id = 1;
             update t set id = 4 where id = 2",
        );
    });
    let first = newest_ids(&world, "t");
    assert_eq!(
        decoded(&world, &url, "t"),
        pairs(&[
            (r#"{"id":1}"#, r#"{"id":1,"a":{"string":"changed"}}"#),
            (r#"{"id":2}"#, "null"),
            (r#"{"id":3}"#, r#"{"id":3,"a":{"string":"new"}}"#),
            (r#"{"id":4}"#, r#"{"id":4,"a":{"string":"copied"}}"#),
        ])
    );
    let subjects = world::registry().subjects();
    for part in ["key", "value"] {
        let subject = format!("{}-{part}", world.topic("t"));
        assert!(subjects.contains(&subject), "{subject}: {subjects:?}");
    }
    world.streamed(&avro, || {
        world
            .sql
            .run("alter table t add b int; update t set b = 7 where id = 4");
    });
    let rows = decoded(&world, &url, "t");
    assert_eq!(
        rows.get(r#"{"id":4}"#).map(String::as_str),
        Some(r#"{"id":4,"a":{"string":"copied"},"b":{"int":7}}"#)
    );
    let second = newest_ids(&world, "t");
    assert_eq!(first.0, second.0, "the key's schema has not changed");
    assert_ne!(first.1, second.1, "the row's has");
    let mut client = world.stream(&avro);
    client.streams();
    world.verify(&["-r", &url]).expect(0, &[]);
    client.terminate().expect(0, &[]);
    world
        .stream(&[])
        .wait()
        .expect(3, &["--format avro", "--format json"]);
}

#[test]
fn while_the_registry_is_away_only_what_is_new_waits() {
    let world = World::new("avro_outage");
    let proxy = Proxy::to(world::registry());
    let url = proxy.url();
    let avro = ["--format", "avro", "-r", &url];
    world.sql.run("create table known (id int primary key)");
    world.streamed(&avro, || {
        world.sql.run("insert into known values (1)");
    });
    proxy.set(Fault::Closed);
    let mut client = world.stream(&avro);
    client.streams();
    world.sql.run("insert into known values (2)");
    world
        .sql
        .run("create table other (id int primary key); insert into other values (1)");
    world.sql.run("insert into known values (3)");
    client.says("tables with a new schema wait");
    let known = world.topic("known");
    eventually("the known table goes on", SOON, || {
        let records = topic::try_read(world.kafka, &known).map_err(|error| error.to_string())?;
        check(records.len() == 3, || format!("{records:?}"))
    });
    let confirmed = world.sql.value(&format!(
        "select confirmed_flush_lsn from pg_replication_slots where slot_name = '{}'",
        world.name
    ));
    // What has arrived whole is in memory, and does not come again with the next session.
    world.sql.run(&format!(
        "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '{}'",
        world.name
    ));
    client.says("streaming again");
    world.sql.run("insert into other values (2)");
    world.sql.run("insert into known values (4)");
    eventually("the known table goes on again", SOON, || {
        let records = topic::try_read(world.kafka, &known).map_err(|error| error.to_string())?;
        check(records.len() == 4, || format!("{records:?}"))
    });
    proxy.set(Fault::None);
    world.catches_up();
    client.terminate().expect(0, &["answers again"]);
    let passed = world.sql.value(&format!(
        "select confirmed_flush_lsn > '{confirmed}' from pg_replication_slots where slot_name = '{}'",
        world.name
    ));
    assert_eq!(
        passed, "t",
        "nothing behind the change that waited was acknowledged"
    );
    assert_eq!(
        decoded(&world, &world::registry().url(), "other"),
        pairs(&[
            (r#"{"id":1}"#, r#"{"id":1}"#),
            (r#"{"id":2}"#, r#"{"id":2}"#)
        ])
    );
    let records = topic::read(world.kafka, &world.topic("other"));
    assert_eq!(records.len(), 2, "each came once: {records:?}");
}

#[test]
fn a_schema_that_is_not_compatible_stops_the_stream_or_makes_dead_letters() {
    let world = World::new("avro_incompatible");
    let url = world::registry().url();
    let avro = ["--format", "avro", "-r", &url];
    world
        .sql
        .run("create table t (id int primary key, a int); create table u (id int primary key)");
    world.streamed(&avro, || world.sql.run("insert into t values (1, 1)"));
    let client = world.stream(&avro);
    world.sql.run(
        "alter table t alter a type text; insert into t values (2, 'two'); insert into u values (1)",
    );
    let row = format!(
        "{}.t.Row: field a changed from int or null to string or null",
        world.name
    );
    let subject = format!("subject {}-value", world.topic("t"));
    client.wait().expect(5, &[&row, &subject, "level FULL"]);
    let mut quarantining = avro.to_vec();
    let letters = format!("{}.letters", world.name);
    quarantining.extend(["--on-error", "quarantine", "--dead-letter-topic", &letters]);
    let mut client = world.stream(&quarantining);
    client.streams();
    world.catches_up();
    client.terminate().expect(0, &["table is stale", &row]);
    assert_eq!(
        decoded(&world, &url, "u"),
        pairs(&[(r#"{"id":1}"#, r#"{"id":1}"#)])
    );
    assert!(!topic::read(world.kafka, &letters).is_empty());
}

#[test]
fn a_registry_that_was_begun_anew_and_has_another_id_for_a_key_is_refused() {
    let world = World::new("avro_anew");
    let mut registry = Registry::new(Compatibility::Full);
    let url = registry.url();
    let avro = ["--format", "avro", "-r", &url];
    world.sql.run("create table t (id int primary key)");
    world.streamed(&avro, || world.sql.run("insert into t values (1)"));
    registry.kill();
    registry.start();
    registry
        .register("somebody-else", r#""string""#)
        .expect("a schema");
    registry
        .register("somebody-other", r#""bytes""#)
        .expect("a schema");
    let client = world.stream(&avro);
    world.sql.run("insert into t values (2)");
    let subject = format!("subject {}-key", world.topic("t"));
    client
        .wait()
        .expect(1, &[&subject, "two keys", "Restore the registry"]);
}

/// Every path on which rows come into a topic makes the same bytes, or verify would say so.
#[test]
fn rows_that_are_copied_again_fetched_or_repaired_are_stamped_alike() {
    let world = World::new("avro_paths");
    let url = world::registry().url();
    let avro = ["--format", "avro", "-r", &url, "--snapshot-mode", "chunked"];
    world.sql.run(
        "create table t (id int, day date, sum numeric(6,2), a text, large text,
                         primary key (id, day, sum));
         alter table t alter large set storage external;
         insert into t select n, date '2000-02-28' + n, n, 'copied', repeat('x', 5000)
           from generate_series(1, 5) n",
    );
    let mut client = world.stream(&avro);
    client.streams();
    client.says("nothing is left to be copied again");
    world.sql.run("update t set a = 'fetched' where id = 1");
    world.catches_up();
    let fetched = topic::read(world.kafka, &world.topic("t"));
    let fetched = fetched.last().expect("a record");
    assert_eq!(fetched.header("hw.fetched"), "true");
    let slot = &*world.name;
    let (conninfo, brokers) = (world.postgres.conninfo(&world.name), world.kafka.brokers());
    let again = ["snapshot", "-d", &conninfo, "-b", &brokers, "-S", slot];
    Client::run(again.iter().chain(&["-t", "avro_paths.t"])).expect(0, &[]);
    world.verify(&["-r", &url]).expect(0, &[]);
    let records = topic::read(world.kafka, &world.topic("t"));
    let keys = records.iter().filter_map(|it| it.key_bytes.clone());
    // Behind the id: 2, as Avro has it.
    let buried = keys.into_iter().find(|key| key[5] == 4).expect("row 2");
    topic::bury(world.kafka, &world.topic("t"), &buried);
    let foreign = [&buried[..5], &[0x7e, 0x02, 0x02, 0x00][..]].concat();
    topic::write(world.kafka, &world.topic("t"), &foreign, b"not ours");
    // Row 2's under another schema of keys, as before an ALTER of the key that leaves its bytes.
    let before = [&[0, 0xff, 0xff, 0xff, 0xff][..], &buried[5..]].concat();
    topic::write(world.kafka, &world.topic("t"), &before, b"as it was");
    let differs = world.verify(&["-r", &url]);
    differs.expect(1, &["3 keys differ"]);
    for text in [
        r#"missing {"id":2,"day":"2000-03-01","sum":"200e-2"}"#,
        r#"extra {"id":63,"#,
    ] {
        assert!(differs.stdout.contains(text), "{text}: {}", differs.stdout);
    }
    world.verify(&["-r", &url, "--repair"]).expect(0, &[]);
    client.terminate().expect(0, &[]);
}

/// ALTER TYPE takes no lock on a table that has the type, so that a row can be read under other
/// schemas than its table was described with.
#[test]
fn a_row_that_is_fetched_names_the_schema_that_it_was_encoded_by() {
    let world = World::new("avro_fetched");
    let url = world::registry().url();
    world.sql.run(
        "create type place as (x int);
         create table t (id int primary key, at place, a text, large text);
         alter table t alter large set storage external;
         insert into t values (1, row(1), 'copied', repeat('x', 5000))",
    );
    let mut client = world.stream(&["--format", "avro", "-r", &url]);
    client.streams();
    world.sql.run("update t set a = 'fetched'");
    world.catches_up();
    let (_, before) = newest_ids(&world, "t");
    // What is sent while the client does not read was decoded before the type has changed.
    client.signal(Signal::SIGSTOP);
    world.sql.run("update t set a = 'fetched again'");
    world.is_sent();
    world.sql.run("alter type place add attribute y int");
    client.signal(Signal::SIGCONT);
    world.catches_up();
    client.terminate().expect(0, &[]);
    let (_, after) = newest_ids(&world, "t");
    assert_ne!(
        before, after,
        "the type has changed, the schema's id has not"
    );
    let rows = decoded(&world, &url, "t");
    let row = rows.get(r#"{"id":1}"#).map_or("", String::as_str);
    for part in [r#""a":{"string":"fetched again"}"#, r#""y":null"#] {
        assert!(row.contains(part), "{part}: {row}");
    }
}

#[test]
fn events_in_avro_tell_of_rows_and_are_verified_by_them() {
    let world = World::new("avro_events");
    let url = world::registry().url();
    let avro = ["--format", "avro", "-r", &url, "--envelope", "change"];
    world.sql.run(
        "create table t (id int primary key, a text);
         insert into t values (1, 'copied'), (2, 'copied')",
    );
    let mut client = world.stream(&avro);
    client.streams();
    world.sql.run(
        "update t set a = 'changed' where id = 1;
         delete from t where id = 2;
         alter table t add b int; insert into t values (3, 'new', 7)",
    );
    world.catches_up();
    world.verify(&["-r", &url]).expect(0, &[]);
    client.terminate().expect(0, &[]);
    let rows = decoded(&world, &url, "t");
    let deleted = rows.get(r#"{"id":2}"#).map(String::as_str);
    assert_eq!(deleted, Some("null"), "{rows:?}");
    let new = rows.get(r#"{"id":3}"#).map_or("", String::as_str);
    assert!(
        new.contains(r#""a":{"string":"new"},"b":{"int":7}"#),
        "{new}"
    );
}
