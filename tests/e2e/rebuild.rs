//! Each `--toast` mode by what it is for: a table rebuilt from its topic. Where the topic
//! is compacted, Kafka has really compacted it before.

use std::collections::{BTreeMap, HashMap};

use headwater_tests::kafka::COMPACTS_AT_ONCE;
use headwater_tests::topic::{self, Record};
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Random};
use serde_json::{Map, Value};

use crate::world::{World, assert_same};

/// How many transactions are written at random.
const TRANSACTIONS: usize = 150;

/// Keys are so few that every row is changed in every way.
const KEYS: u64 = 12;

/// Tables whose large values Postgres keeps out of line: one with a short key, and one whose
/// key itself is out of line. An index takes no key above 2,704 bytes.
fn create_tables(world: &World<'_>) {
    world.sql.run(
        "create table documents (id int primary key, n int, title text, body text, extra text);
         alter table documents alter body set storage external, alter extra set storage external;
         create function long_key(n int) returns text language sql immutable as
           $$ select string_agg(md5((n * 100 + i)::text), '') from generate_series(1, 78) i $$;
         create table letters (id text primary key, n int, body text);
         alter table letters alter id set storage external, alter body set storage external;
         insert into documents select n, 0, 'title', repeat('b', 5000 + n), repeat('e', 3000)
           from generate_series(1, 6) n;
         insert into letters select long_key(n), 0, repeat('l', 4000 + n) from generate_series(1, 6) n",
    );
}

/// A transaction of 1 to 6 changes, most of which leave large values where they are.
fn transaction(random: &mut Random) -> String {
    let mut sql = String::from("begin;\n");
    for _ in 0..1 + random.below(6) {
        let (a, b, v) = (
            1 + random.below(KEYS),
            1 + random.below(KEYS),
            random.below(1_000_000),
        );
        let (table, id, other) = if random.below(2) == 0 {
            ("documents", a.to_string(), b.to_string())
        } else {
            (
                "letters",
                format!("long_key({a})"),
                format!("long_key({b})"),
            )
        };
        let change = match random.below(10) {
            0..4 => format!("update {table} set n = {v} where id = {id}"),
            4 => {
                format!("update {table} set body = repeat('n', 4000 + {v} % 3000) where id = {id}")
            }
            5 => format!("update {table} set body = null where id = {id}"),
            6 => format!(
                "update {table} set id = {other} where id = {id} \
                 and not exists (select from {table} where id = {other})"
            ),
            7 => format!("delete from {table} where id = {id}"),
            _ => format!(
                "insert into {table} (id, n, body) values ({id}, {v}, repeat('i', 6000)) \
                 on conflict do nothing"
            ),
        };
        sql.push_str(&change);
        sql.push_str(";\n");
    }
    sql.push_str(if random.below(10) == 0 {
        "rollback"
    } else {
        "commit"
    });
    sql
}

fn write(world: &World<'_>) {
    let mut random = Random::from_environment(&world.name);
    for _ in 0..TRANSACTIONS {
        world.sql.run(&transaction(&mut random));
    }
}

/// Starts the client on topics that compact at once.
fn compacting(world: &World<'_>, more: &[&str]) -> Client {
    for table in ["documents", "letters"] {
        world
            .kafka
            .create_topic(&world.topic(table), 1, &COMPACTS_AT_ONCE);
    }
    let mut client = world.stream(more);
    client.streams();
    client
}

/// Waits until Kafka has compacted a topic: no key before the last record, which closed
/// the segments before it, has two records.
fn compacted(world: &World<'_>, table: &str) -> Vec<Record> {
    let name = world.topic(table);
    eventually("the topic is compacted", SOON, || {
        let records = topic::read(world.kafka, &name);
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for record in records.iter().rev().skip(1) {
            *counts.entry(record.key.as_deref().unwrap()).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or_default();
        check(most <= 1, || {
            format!("a key has {most} records of {}", records.len())
        })
        .map(|()| records)
    })
}

/// Compacts the topics, one record more each, and compares.
fn assert_rebuilt_from_compacted_topics(world: &World<'_>) {
    for (table, id) in [("documents", "100"), ("letters", "'last'")] {
        world
            .sql
            .run(&format!("insert into {table} (id, n) values ({id}, 0)"));
        world.catches_up();
        world
            .sql
            .run(&format!("update {table} set n = 1 where id = {id}"));
        world.catches_up();
        let written = world.kafka.written(&world.topic(table));
        let records = compacted(world, table);
        assert_same(&topic::fold(&records), &world.rows(table, "t.id"));
        println!("{table}: {} of {written} records left", records.len());
    }
}

#[test]
fn fetch_a_compacted_topic_is_the_table() {
    let world = World::new("rebuild_fetch");
    create_tables(&world);
    let client = compacting(&world, &["--toast", "fetch"]);
    write(&world);
    world.catches_up();
    let fetched = |table: &str| {
        topic::read(world.kafka, &world.topic(table))
            .iter()
            .any(|record| record.headers.contains_key("hw.fetched"))
    };
    world.sql.run(
        "insert into documents (id, n, body) values (99, 0, repeat('f', 9000)) ; \
         insert into letters (id, n, body) values (long_key(99), 0, repeat('f', 9000))",
    );
    world.sql.run("update documents set n = 1 where id = 99; update letters set n = 1 where id = long_key(99)");
    world.catches_up();
    assert!(
        fetched("documents") && fetched("letters"),
        "no row was fetched"
    );
    assert_rebuilt_from_compacted_topics(&world);
    client.terminate().expect(0, &[]);
}

#[test]
fn require_full_a_compacted_topic_is_the_table_and_no_row_is_read() {
    let world = World::new("rebuild_full");
    create_tables(&world);
    world.stream(&["--toast", "require-full"]).wait().expect(
        1,
        &[
            "ALTER TABLE \"rebuild_full\".\"documents\" REPLICA IDENTITY FULL;",
            "ALTER TABLE \"rebuild_full\".\"letters\" REPLICA IDENTITY FULL;",
        ],
    );
    assert_eq!(world.slots(), [] as [&str; 0]);
    world.sql.run(
        "alter table documents replica identity full; alter table letters replica identity full",
    );
    let client = compacting(&world, &["--toast", "require-full"]);
    write(&world);
    world.catches_up();
    for table in ["documents", "letters"] {
        for record in topic::read(world.kafka, &world.topic(table)) {
            assert!(!record.headers.contains_key("hw.fetched"), "{record:?}");
            assert!(!record.headers.contains_key("hw.unchanged"), "{record:?}");
        }
    }
    assert_rebuilt_from_compacted_topics(&world);
    client.terminate().expect(0, &[]);
}

/// A consumer of every record, in their order, that keeps what a record names as unchanged.
#[derive(Default)]
struct Merged {
    rows: BTreeMap<String, Map<String, Value>>,
    /// The row that the last tombstone removed, and the change that it belongs to: a change
    /// of the key is a tombstone for the old one and the row under the new one.
    removed: Option<((String, String), Map<String, Value>)>,
    /// How often a value was kept.
    kept: usize,
}

impl Merged {
    /// Takes the row of a key, some of its columns left as they were.
    fn put(
        &mut self,
        place: &(String, String),
        key: &str,
        mut row: Map<String, Value>,
        unchanged: &[String],
    ) {
        for column in unchanged {
            assert!(
                !row.contains_key(column),
                "{column:?} is there and unchanged"
            );
            let moved = self.removed.as_ref().filter(|(of, _)| of == place);
            let before = self.rows.get(key).or(moved.map(|(_, row)| row));
            let before = before.unwrap_or_else(|| panic!("no row before {place:?}"));
            row.insert(column.clone(), before[column].clone());
            self.kept += 1;
        }
        self.rows.insert(key.to_owned(), row);
    }

    fn remove(&mut self, place: (String, String), key: &str) {
        self.removed = self.rows.remove(key).map(|row| (place, row));
    }
}

fn place(record: &Record) -> (String, String) {
    (
        record.header("hw.lsn").to_owned(),
        record.header("hw.seq").to_owned(),
    )
}

fn object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap()
}

fn assert_merged(world: &World<'_>, table: &str, merged: &Merged) {
    assert!(merged.kept > 0, "{table}: no value was left unchanged");
    let text = |rows: &BTreeMap<String, Map<String, Value>>| -> BTreeMap<String, String> {
        rows.iter()
            .map(|(key, row)| {
                let sorted: BTreeMap<_, _> = row.iter().collect();
                (key.clone(), serde_json::to_string(&sorted).unwrap())
            })
            .collect()
    };
    let rows = world.rows(table, "t.id");
    let expected = rows
        .into_iter()
        .map(|(key, row)| (key, object(&row)))
        .collect();
    assert_same(&text(&merged.rows), &text(&expected));
    println!("{table}: {} values kept", merged.kept);
}

#[test]
fn mark_a_consumer_that_merges_by_the_header_has_the_table() {
    let world = World::new("rebuild_mark");
    create_tables(&world);
    world.streamed(&["--toast", "mark", "--topic-partitions", "1"], || {
        write(&world)
    });
    for table in ["documents", "letters"] {
        let mut merged = Merged::default();
        for record in topic::read(world.kafka, &world.topic(table)) {
            let key = record.key.as_deref().unwrap();
            match &record.value {
                None => merged.remove(place(&record), key),
                Some(value) => {
                    let unchanged = record.headers.get("hw.unchanged");
                    let unchanged: Vec<String> = unchanged
                        .iter()
                        .flat_map(|list| list.split(','))
                        .map(str::to_owned)
                        .collect();
                    merged.put(&place(&record), key, object(value), &unchanged);
                }
            }
        }
        assert_merged(&world, table, &merged);
    }
}

#[test]
fn change_a_consumer_that_merges_by_unchanged_has_the_table() {
    let world = World::new("rebuild_change");
    create_tables(&world);
    world.streamed(&["--envelope", "change", "--topic-partitions", "1"], || {
        write(&world)
    });
    for table in ["documents", "letters"] {
        let mut merged = Merged::default();
        for record in topic::read(world.kafka, &world.topic(table)) {
            let key = record.key.as_deref().unwrap();
            let envelope = record.value.as_deref().map(object);
            match envelope
                .as_ref()
                .and_then(|envelope| envelope["after"].as_object())
            {
                Some(after) => {
                    let unchanged = envelope
                        .as_ref()
                        .and_then(|envelope| envelope.get("unchanged"));
                    let unchanged: Vec<String> = unchanged
                        .map_or(vec![], |list| serde_json::from_value(list.clone()).unwrap());
                    merged.put(&place(&record), key, after.clone(), &unchanged);
                }
                None if envelope.is_some() => {}
                None => merged.remove(place(&record), key),
            }
        }
        assert_merged(&world, table, &merged);
    }
}
