//! The walkthrough that Bottled Water made famous, asserted; `make demo` shows it.

use headwater_tests::Client;
use headwater_tests::kafka::COMPACTS_AT_ONCE;
use headwater_tests::topic::{self, Record};
use headwater_tests::wait::{SOON, check, eventually};

use crate::world::World;

fn pairs(records: &[Record]) -> Vec<(&str, Option<&str>)> {
    records
        .iter()
        .map(|record| {
            (
                record.key.as_deref().unwrap_or_default(),
                record.value.as_deref(),
            )
        })
        .collect()
}

#[test]
fn rows_arrive_snapshot_first_then_live_and_compaction_keeps_the_newest() {
    let world = World::new("walkthrough");
    let (sql, kafka) = (&world.sql, world.kafka);
    sql.run("create table test (id serial primary key, value text)");
    sql.run("insert into test (value) values ('hello world!')");
    let name = world.topic("test");
    kafka.create_topic(&name, 1, &COMPACTS_AT_ONCE);
    let read = || topic::read(kafka, &name);

    let mut client = world.stream(&[]);
    client.says("snapshot complete, streaming changes");
    let records = read();
    assert_eq!(
        pairs(&records),
        [(r#"{"id":1}"#, Some(r#"{"id":1,"value":"hello world!"}"#))]
    );
    assert_eq!(records[0].header("hw.op"), "r");

    sql.run("insert into test (value) values ('hello from Postgres')");
    sql.run("insert into test (value) values ('and again')");
    world.catches_up();
    let records = read();
    assert_eq!(
        pairs(&records[records.len() - 2..]),
        [
            (
                r#"{"id":2}"#,
                Some(r#"{"id":2,"value":"hello from Postgres"}"#)
            ),
            (r#"{"id":3}"#, Some(r#"{"id":3,"value":"and again"}"#)),
        ]
    );

    sql.run("update test set value = 'modified' where id = 1");
    world.catches_up();
    // A batch that follows closes the update's segment, so that the cleaner takes it.
    sql.run("insert into test (value) values ('the newest')");
    let first = eventually("compaction drops the first value of key 1", SOON, || {
        let mut records = read();
        records.retain(|record| record.key.as_deref() == Some(r#"{"id":1}"#));
        check(
            records.len() == 1
                && records[0].value.as_deref() != Some(r#"{"id":1,"value":"hello world!"}"#),
            || format!("{records:?}"),
        )
        .map(|()| records)
    });
    assert_eq!(
        pairs(&first),
        [(r#"{"id":1}"#, Some(r#"{"id":1,"value":"modified"}"#))]
    );
    assert_eq!(first[0].header("hw.op"), "u");

    sql.run("delete from test where id in (1, 2)");
    world.catches_up();
    sql.run("insert into test (value) values ('after the deletes')");
    world.catches_up();
    let kept = eventually("compaction leaves the tombstones alone", SOON, || {
        let mut records = read();
        records.retain(|record| {
            ["{\"id\":1}", "{\"id\":2}"]
                .map(Some)
                .contains(&record.key.as_deref())
        });
        check(records.len() == 2, || format!("{records:?}")).map(|()| records)
    });
    assert_eq!(pairs(&kept), [(r#"{"id":1}"#, None), (r#"{"id":2}"#, None)]);
    assert_eq!(kept[0].header("hw.op"), "d");
    world.topic_equals_table("test", "t.id");
    client.terminate().expect(0, &[]);
}

#[test]
fn records_carry_where_they_come_from() {
    let world = World::new("headers");
    world
        .sql
        .run("create table items (id int primary key, name text)");
    world.sql.run("insert into items values (1, 'a')");
    world.streamed(&[], || {
        world.sql.run(
        "begin; insert into items values (2, 'b'); update items set id = 3 where id = 2; commit",
    )
    });

    let mut records = topic::read(world.kafka, &world.topic("items"));
    let snapshot = records.remove(
        records
            .iter()
            .position(|r| r.headers["hw.op"] == "r")
            .unwrap(),
    );
    assert_eq!(
        snapshot.headers.keys().collect::<Vec<_>>(),
        ["hw.lsn", "hw.op", "hw.seq"]
    );

    // A key change is a tombstone for the old key and a record for the new one, and both
    // are the same change.
    records.sort_by_key(|r| {
        (
            r.header("hw.seq").parse::<u64>().unwrap(),
            r.value.is_some(),
        )
    });
    let places: Vec<_> = records
        .iter()
        .map(|r| {
            (
                r.key.as_deref().unwrap(),
                r.value.as_deref(),
                r.header("hw.seq"),
            )
        })
        .collect();
    assert_eq!(
        places,
        [
            (r#"{"id":2}"#, Some(r#"{"id":2,"name":"b"}"#), "0"),
            (r#"{"id":2}"#, None, "1"),
            (r#"{"id":3}"#, Some(r#"{"id":3,"name":"b"}"#), "1"),
        ]
    );
    for record in &records {
        assert_eq!(record.header("hw.lsn"), records[0].header("hw.lsn"));
        assert_eq!(record.header("hw.xid"), records[0].header("hw.xid"));
        assert!(record.header("hw.ts").parse::<i64>().unwrap() > 1_600_000_000_000_000);
    }
    assert_ne!(records[0].header("hw.lsn"), snapshot.header("hw.lsn"));
}

#[test]
fn topics_are_made_compacted_with_as_many_partitions_as_asked_for() {
    let world = World::new("made_topics");
    world.sql.run("create table items (id int primary key)");
    world
        .sql
        .run("insert into items select generate_series(1, 200)");
    let mut client = world.stream(&["--topic-partitions", "3"]);
    client.streams();
    client.terminate().expect(0, &[]);
    let name = world.topic("items");
    assert_eq!(world.kafka.topics().unwrap().get(&name), Some(&3));
    assert_eq!(
        world.kafka.topic_setting(&name, "cleanup.policy"),
        "compact"
    );
    let state = "__headwater.state";
    assert_eq!(world.kafka.topics().unwrap().get(state), Some(&1));
    assert_eq!(
        world.kafka.topic_setting(state, "cleanup.policy"),
        "compact"
    );

    let records = topic::read(world.kafka, &name);
    assert_eq!(records.len(), 200);
    let used: std::collections::BTreeSet<_> = records.iter().map(|r| r.partition).collect();
    assert_eq!(used.len(), 3, "keys are spread over the partitions");
}

#[test]
fn tail_prints_a_topic_from_its_beginning() {
    let world = World::new("tail");
    world
        .sql
        .run("create table items (id int primary key, name text)");
    world.sql.run("insert into items values (1, 'one')");
    world.streamed(&[], || world.sql.run("delete from items"));

    let brokers = world.kafka.brokers();
    let name = world.topic("items");
    let options = ["--from-beginning", "--exit"];
    let tail = Client::run(["tail", "-b", &brokers, options[0], options[1], &name]);
    tail.expect(0, &[]);
    assert_eq!(
        tail.stdout,
        "{\"id\":1}\t{\"id\":1,\"name\":\"one\"}\n{\"id\":1}\tnull"
    );

    // Without them it waits for what comes.
    let mut tail = Client::start(["tail", "-b", &brokers, "--from-beginning", &name]);
    tail.prints("null");
    tail.terminate().expect(0, &[]);
}
