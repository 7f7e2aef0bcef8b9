//! A registry that is slow, fails, refuses, loses answers or has lost everything: what is known goes
//! on, what is new waits or stops the stream with a clear error, and nothing is lost.

use std::time::Duration;

use headwater_tests::readers::Reader;
use headwater_tests::registry::Compatibility;
use headwater_tests::registry::proxy::{Fault, Proxy};
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Registry, topic};

use super::stream;
use crate::world::{World, registry};

fn answer(status: u16) -> Fault {
    let body = format!("{{\"error_code\":{status},\"message\":\"as the test says\"}}");
    Fault::Answer(status, body)
}

/// Creates a table with one row.
fn create(world: &World<'_>, table: &str) {
    world.sql.run(&format!(
        "create table {table} (id int primary key, a text); insert into {table} values (1, 'sesame')"
    ));
}

/// Waits until a topic has so many records.
#[track_caller]
fn arrive(world: &World<'_>, table: &str, count: usize) {
    eventually("the records arrive", SOON, || {
        let records = topic::try_read(world.kafka, &world.topic(table));
        let records = records.map_err(|error| error.to_string())?;
        check(records.len() == count, || format!("{table}: {records:?}"))
    });
}

/// Fails unless a topic has the one row of its table, which the registry knows the schemas of.
#[track_caller]
fn assert_arrived_once(world: &World<'_>, registry: &Registry, table: &str) {
    let records = Reader::new(registry).topic(world.kafka, &world.topic(table));
    let values: Vec<_> = records.iter().map(|record| &record.value).collect();
    let row = serde_json::json!({ "id": 1, "a": "sesame" });
    assert_eq!(values, [&Some(row)], "{table}");
}

#[test]
fn what_passes_is_waited_for_while_known_tables_go_on() {
    let world = World::new("avro_faults");
    let proxy = Proxy::to(registry());
    create(&world, "known");
    let mut client = stream(&world, &proxy.url(), &[]);
    client.streams();
    let faults = [
        ("slow", Fault::Late(Duration::from_secs(2))),
        ("lost", Fault::Lost),
        ("failed", answer(500)),
        ("overrun", answer(503)),
    ];
    for (place, (name, fault)) in faults.into_iter().enumerate() {
        let asked = proxy.requests().len();
        let heals = !matches!(fault, Fault::Late(_));
        proxy.set(fault);
        create(&world, name);
        world
            .sql
            .run(&format!("insert into known values ({}, 'more')", place + 2));
        arrive(&world, "known", place + 2);
        eventually("the registry is asked", SOON, || {
            let more = proxy.requests().len() - asked;
            check(more > 0, || "not once".to_owned())
        });
        if heals {
            let early = topic::try_read(world.kafka, &world.topic(name)).unwrap_or_default();
            assert_eq!(early, [], "{name}: before its schema is known");
            proxy.set(Fault::None);
        }
        world.catches_up();
        assert_arrived_once(&world, registry(), name);
        proxy.set(Fault::None);
    }
    client.terminate().expect(0, &[]);
}

#[test]
fn what_a_person_has_to_mend_stops_the_stream_and_loses_nothing() {
    let world = World::new("avro_refusals");
    let proxy = Proxy::to(registry());
    create(&world, "known");
    for (table, fault, code, said) in [
        ("login", answer(401), 1, "401"),
        ("permission", answer(403), 1, "403"),
        ("path", answer(404), 1, "/apis/ccompat/v7"),
        ("schema", answer(422), 5, "as the test says"),
    ] {
        let mut client = stream(&world, &proxy.url(), &[]);
        client.streams();
        proxy.set(fault);
        create(&world, table);
        let ended = client.wait();
        let topic = world.topic(table);
        ended.expect(code, &[said, &topic]);
        assert!(!ended.stderr.contains("sesame"), "{}", ended.stderr);
        proxy.set(Fault::None);
        let client = stream(&world, &proxy.url(), &[]);
        world.catches_up();
        assert_arrived_once(&world, registry(), table);
        client.terminate().expect(0, &[]);
    }
}

/// A row that is read again and has a newer schema than its change, a table that is gone, one that was
/// truncated, and a copy of a table whose schemas are known.
#[test]
fn what_waits_for_an_id_stops_nothing_else() {
    let world = World::new("avro_waits");
    let proxy = Proxy::to(registry());
    for table in ["known", "doomed", "emptied", "large"] {
        create(&world, table);
    }
    world.sql.run(
        "alter table large add body text;
         alter table large alter body set storage external;
         update large set body = repeat('x', 5000)",
    );
    let letters = format!("{}.letters", world.name);
    let options = [
        "--on-error",
        "quarantine",
        "--dead-letter-topic",
        &letters,
        "--truncate",
        "ignore",
    ];
    let url = proxy.url();
    let mut client = stream(&world, &url, &options);
    client.streams();
    proxy.set(Fault::Closed);
    world.sql.run(
        "begin; update large set a = 'changed'; alter table large add b int; commit;
         begin; alter table doomed alter a type int using 7; commit;
         insert into doomed values (2, 2);
         drop table doomed;
         alter table emptied add b int; insert into emptied values (2, 'two', 2); truncate emptied;
         insert into known values (2, 'more')",
    );
    arrive(&world, "known", 2);
    let (conninfo, brokers) = (world.postgres.conninfo(&world.name), world.kafka.brokers());
    let known = format!("{}.known", world.name);
    let again = Client::start([
        "snapshot",
        "-d",
        &conninfo,
        "-S",
        &world.name,
        "-b",
        &brokers,
        "-t",
        &known,
    ]);
    arrive(&world, "known", 4);
    world.sql.run("insert into known values (3, 'more')");
    arrive(&world, "known", 5);
    proxy.set(Fault::None);
    again.wait().expect(0, &[]);
    world.catches_up();
    client
        .terminate()
        .expect(0, &["doomed", "table was dropped"]);
    let records = Reader::new(registry()).topic(world.kafka, &world.topic("large"));
    let newest = records.last().and_then(|record| record.value.clone());
    let row = serde_json::json!({ "id": 1, "a": "changed", "body": "x".repeat(5000), "b": null });
    assert_eq!(newest, Some(row));
    let dead = topic::read(world.kafka, &letters);
    assert!(!dead.is_empty(), "the change of the dropped table");
    let mut client = stream(&world, &url, &options);
    client.streams();
    let ended = client.terminate();
    assert!(!ended.stderr.contains("doomed"), "{}", ended.stderr);
}

#[test]
fn a_first_snapshot_that_waits_for_the_registry_keeps_nobody_waiting() {
    let world = World::new("avro_snapshot_waits");
    let proxy = Proxy::to(registry());
    proxy.set(Fault::Closed);
    create(&world, "t");
    let mut client = stream(&world, &proxy.url(), &[]);
    client.says("tables with a new schema wait");
    let held = world.sql.value(
        "select (select count(*) from pg_locks where relation = 't'::regclass)
              + (select count(*) from pg_replication_slots where database = current_database())
              + (select count(*) from pg_stat_activity where datname = current_database()
                 and state like 'idle in transaction%')",
    );
    assert_eq!(held, "0", "locks, slots and transactions");
    world
        .sql
        .run("set lock_timeout = '2s'; alter table t add b int default 7");
    proxy.set(Fault::None);
    client.streams();
    world.catches_up();
    let records = Reader::new(registry()).topic(world.kafka, &world.topic("t"));
    let values: Vec<_> = records.iter().map(|record| &record.value).collect();
    let row = serde_json::json!({ "id": 1, "a": "sesame", "b": 7 });
    assert_eq!(values, [&Some(row)]);
    client.terminate().expect(0, &[]);
}

#[test]
fn the_login_is_that_of_the_url() {
    let world = World::new("avro_login");
    let proxy = Proxy::to(registry());
    // me:right
    proxy.set(Fault::Guarded("Basic bWU6cmlnaHQ=".to_owned()));
    create(&world, "t");
    let url = |login: &str| proxy.url().replace("http://", &format!("http://{login}@"));
    for login in ["me:wrong", "you:right"] {
        let refused = stream(&world, &url(login), &[]).wait();
        refused.expect(1, &["401", &proxy.url()]);
        let password = login.split(':').next_back().unwrap();
        assert!(!refused.stderr.contains(password), "{}", refused.stderr);
    }
    let mut client = stream(&world, &url("me:right"), &[]);
    client.streams();
    world.catches_up();
    client.terminate().expect(0, &[]);
    assert_arrived_once(&world, registry(), "t");
}

#[test]
fn while_it_runs_a_registry_that_has_lost_everything_stops_no_known_table_and_gives_no_id_twice() {
    let world = World::new("avro_emptied");
    let mut registry = Registry::new(Compatibility::Full);
    create(&world, "known");
    let mut client = stream(&world, &registry.url(), &[]);
    client.streams();
    registry.kill();
    world.sql.run("insert into known values (2, 'two')");
    arrive(&world, "known", 2);
    registry.start();
    world.sql.run("insert into known values (3, 'three')");
    arrive(&world, "known", 3);
    // It gets the id that the records of the other carry.
    create(&world, "new");
    let subjects = ["new", "known"].map(|table| format!("subject {}-value", world.topic(table)));
    let [new, known] = subjects.each_ref().map(String::as_str);
    client.wait().expect(1, &[new, known, "Restore it"]);
    let sent = topic::try_read(world.kafka, &world.topic("new")).unwrap_or_default();
    assert_eq!(sent, [], "nothing under an id of another schema");
}

#[test]
fn a_copy_into_the_stream_that_may_not_ask_ends_the_client() {
    let world = World::new("avro_chunked_denied");
    let proxy = Proxy::to(registry());
    create(&world, "t");
    proxy.set(answer(403));
    let client = stream(&world, &proxy.url(), &["--snapshot-mode", "chunked"]);
    client.wait().expect(1, &["answers 403", "Allow the user"]);
}

/// The event of a TRUNCATE is of the schema that its table's rows have.
#[test]
fn a_truncate_under_a_schema_that_is_refused_is_a_dead_letter() {
    let world = World::new("avro_truncate_refused");
    world
        .sql
        .run("create table log (at int); insert into log values (1)");
    let letters = format!("{}.letters", world.name);
    let options = [
        "--envelope",
        "change",
        "--unkeyed",
        "send",
        "--truncate",
        "ignore",
        "--on-error",
        "quarantine",
        "--dead-letter-topic",
        &letters,
    ];
    let mut client = stream(&world, &registry().url(), &options);
    client.streams();
    world
        .sql
        .run("begin; alter table log drop at; alter table log add at bool; truncate log; commit");
    world.catches_up();
    client.terminate().expect(0, &["truncated"]);
    let letters = topic::read(world.kafka, &letters);
    let told: Vec<_> = letters
        .iter()
        .map(|letter| (letter.header("hw.op"), letter.header("hw.relation")))
        .collect();
    assert_eq!(told, [("t", "avro_truncate_refused.log")]);
    let reason = letters[0].header("hw.reason");
    assert!(reason.contains("not compatible"), "{reason}");
}
