//! `headwater verify`: what it calls equal is, and what is not it names, while writers and
//! the stream go on.

use headwater_tests::client::Ended;
use headwater_tests::{Client, Random, Session, topic};

use crate::workload::{self, Writers};
use crate::world::World;

/// The lines that name keys, sorted.
fn keys(ended: &Ended) -> Vec<String> {
    let lines = ended.stdout.lines().filter(|line| line.starts_with("  "));
    let mut keys: Vec<String> = lines.map(|line| line.trim().to_owned()).collect();
    keys.sort();
    keys
}

/// A table that nobody writes to.
fn create_items(world: &World<'_>, rows: u32) {
    world.sql.run(&format!(
        "create table items (id int primary key, name text);
         insert into items select n, 'item ' || n from generate_series(1, {rows}) n"
    ));
}

fn writers(world: &World<'_>, random: &mut Random) -> Writers {
    let (conninfo, name) = (world.postgres.conninfo(&world.name), world.name.clone());
    Writers::start(2, random, move || {
        let session = Session::connect(&conninfo)?;
        session.attempt(&format!("set search_path = {name}, public"))?;
        Ok(session)
    })
}

#[test]
fn topics_under_load_are_equal_to_their_tables() {
    let mut random = Random::from_environment("topics under load");
    for (name, envelope) in [("verify_rows", "row"), ("verify_events", "change")] {
        let world = World::new(name);
        workload::create_tables(&world.sql, 3000);
        let mut client = world.stream(&["--envelope", envelope, "--topic-partitions", "3"]);
        client.streams();
        let writers = writers(&world, &mut random);
        let verified = world.verify(&[]);
        verified.expect(0, &[]);
        for (table, _) in workload::TABLES {
            let line = format!("{name}.{table}: ");
            let line = verified.stdout.lines().find(|said| said.starts_with(&line));
            assert!(
                line.is_some_and(|line| line.ends_with(": equal")),
                "{verified:?}"
            );
        }
        assert!(writers.stop() > 0, "nothing was written meanwhile");
        client.terminate().expect(0, &[]);
    }
}

#[test]
fn what_somebody_else_did_to_a_topic_is_named_key_by_key_and_repaired() {
    let mut random = Random::from_environment("foreign records");
    let world = World::new("verify_foreign");
    workload::create_tables(&world.sql, 500);
    create_items(&world, 1000);
    let mut client = world.stream(&["--topic-partitions", "3"]);
    client.streams();
    let writers = writers(&world, &mut random);
    let items = world.topic("items");
    let write = |key: &str, value: &str| topic::write(world.kafka, &items, key, value);
    write("{\"id\":7}", "{\"id\":7,\"name\":\"somebody else's\"}");
    topic::bury(world.kafka, &items, "{\"id\":8}");
    write("{\"id\":1001}", "{\"id\":1001,\"name\":\"a ghost\"}");
    // Keys that no row can have, and that no column's type takes.
    write("{\"id\":\"none\"}", "{\"id\":1}");
    write("no JSON", "{\"id\":1}");
    // Written again, the same.
    write("{\"id\":9}", "{\"id\":9,\"name\":\"item 9\"}");
    // A tombstone of what was never there.
    topic::bury(world.kafka, &items, "{\"id\":2000}");

    let verified = world.verify(&[]);
    verified.expect(1, &["5 keys differ", "without hw.lsn"]);
    assert_eq!(
        keys(&verified),
        [
            "different {\"id\":7}",
            "extra no JSON",
            "extra {\"id\":\"none\"}",
            "extra {\"id\":1001}",
            "missing {\"id\":8}",
        ],
        "{}",
        verified.stdout
    );

    let limited = world.verify(&["-t", "verify_foreign.items", "--limit", "1", "--json"]);
    limited.expect(1, &[]);
    let json: serde_json::Value = serde_json::from_str(&limited.stdout).unwrap();
    assert_eq!(json["equal"], false);
    let [table] = &json["tables"].as_array().unwrap()[..] else {
        panic!("not one table: {json}");
    };
    assert_eq!(table["rows"], 1000);
    assert_eq!(table["different"]["keys"][0]["id"], 7);
    assert_eq!(table["extra"]["count"], 3);
    assert_eq!(table["extra"]["keys"].as_array().unwrap().len(), 1);

    let repaired = world.verify(&["--repair"]);
    repaired.expect(0, &["asked the stream"]);
    assert_eq!(
        keys(&repaired),
        [
            "was different {\"id\":7}",
            "was extra no JSON",
            "was extra {\"id\":\"none\"}",
            "was extra {\"id\":1001}",
            "was missing {\"id\":8}",
        ],
        "{}",
        repaired.stdout
    );
    assert!(writers.stop() > 0, "nothing was written meanwhile");
    world.catches_up();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("items", "t.id");
}

#[test]
fn rows_of_partitions_belong_to_one_topic_and_tables_without_key_are_named() {
    let world = World::new("verify_shapes");
    world.sql.run(
        "create table parts (id int, at int, t text, primary key (id, at)) partition by range (at);
         create table parts_a partition of parts for values from (0) to (100);
         create table parts_b (t text, at int not null, id int not null, primary key (id, at));
         alter table parts attach partition parts_b for values from (100) to (200);
         create table nothing (id int primary key) partition by list (id);
         create table log (line text);
         create table docs (id int primary key, n int, doc text);
         alter table docs alter doc set storage external;
         insert into parts select n, n % 200, 'part ' || n from generate_series(1, 1000) n;
         insert into docs select n, 0, repeat('large ' || n, 1000) from generate_series(1, 20) n",
    );
    let mut client = world.stream(&["--unkeyed", "skip", "--numbers", "string"]);
    client.streams();
    world.sql.run("update docs set n = n + 1");
    world
        .sql
        .run("update parts set at = at + 100 where at < 50");
    // Nothing is written from here on: the server's own word moves the stream.
    world.catches_up();
    let verified = world.verify(&["--workers", "1"]);
    verified.expect(0, &["not verified"]);
    let said: Vec<&str> = verified.stdout.lines().collect();
    let [docs, nothing, parts, log, _] = &said[..] else {
        panic!("not five lines: {said:?}");
    };
    for (line, begin, end) in [
        (docs, "verify_shapes.docs: 20 rows, 40 records", "equal"),
        (nothing, "verify_shapes.nothing: 0 rows, 0 records", "equal"),
        (parts, "verify_shapes.parts: 1000 rows", "equal"),
        (log, "verify_shapes.log: no key", "not verified"),
    ] {
        assert!(line.starts_with(begin) && line.ends_with(end), "{said:?}");
    }
    topic::bury(world.kafka, &world.topic("parts"), "{\"id\":3,\"at\":103}");
    let verified = world.verify(&["-t", "verify_shapes.parts"]);
    verified.expect(1, &[]);
    assert_eq!(keys(&verified), ["missing {\"id\":3,\"at\":103}"]);
    client.terminate().expect(0, &[]);
}

#[test]
fn a_stream_that_is_not_on_record_or_not_running_is_said() {
    let world = World::new("verify_absent");
    create_items(&world, 10);
    world
        .verify(&[])
        .expect(1, &["nothing is on record", "verify_absent"]);
    let mut client = world.stream(&[]);
    client.streams();
    client.terminate().expect(0, &[]);
    world
        .verify(&["-t", "nosuch"])
        .expect(1, &["no table matches pattern"]);
    let mut arguments = world.arguments(&[]);
    arguments[0] = "verify".to_owned();
    let mut verify = Client::start(arguments);
    verify.says("nobody streams from the slot");
    // It goes on as soon as somebody does.
    let mut client = world.stream(&[]);
    client.streams();
    verify.wait().expect(0, &[]);
    client.terminate().expect(0, &[]);
}
