//! Names of any kind, from the table to its topic.

use headwater_tests::topic;

use crate::world::{World, assert_same, rows};

/// What users do to their tables. All but the first two groups have characters that no
/// topic may have.
const NAMES: &[&str] = &[
    "T",
    "t",
    "Order",
    "order",
    "with-hyphen",
    "a.b",
    "a_b",
    "with space",
    " ",
    "it's",
    "quo\"te",
    "semi;colon -- drop",
    "back\\slash",
    "per%cent %s %n",
    "$1",
    "größe",
    "世界",
    "🐘",
    "tab\tand\nline",
    "{schema}.{table}",
    "_x2e_",
    "_x2e.",
    "select",
    // 63 bytes, the longest that Postgres takes.
    "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijk",
    "ééééééééééééabcdefghijklmnopqrstuvwxyzabcdefghijklm",
];

pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The rule as docs/records.md gives it, for names without an underscore that could be read
/// as an escape's.
pub(crate) fn escaped(name: &str) -> String {
    name.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' => char::from(byte).to_string(),
            other => format!("_x{other:02x}_"),
        })
        .collect()
}

#[test]
fn every_name_has_its_topic_copied_and_streamed() {
    let world = World::new("names");
    for (index, name) in NAMES.iter().enumerate() {
        let table = quoted(name);
        world.sql.run(&format!(
            "create table {table} (id int primary key, {table} text);
             insert into {table} values ({index}, 'copied')"
        ));
    }
    let mut client = world.stream(&[]);
    client.streams();
    for name in NAMES {
        let table = quoted(name);
        world.sql.run(&format!(
            "insert into {table} select id + 1000, 'streamed' from {table}"
        ));
    }
    world.catches_up();
    client.terminate().expect(0, &[]);
    for name in NAMES {
        let topic = match *name {
            "_x2e_" => "names._x5f_x2e_".to_owned(),
            "_x2e." => "names._x5f_x2e_x2e_".to_owned(),
            name => format!("names.{}", escaped(name)),
        };
        let records = topic::read(world.kafka, &topic);
        let table = rows(&world.sql, &quoted(name), "t.id");
        assert_eq!(table.len(), 2);
        assert_same(&topic::fold(&records), &table);
    }
}

#[test]
fn a_name_too_long_for_kafka_is_cut_and_stays_its_own() {
    let world = World::new("names_long");
    let long = "é".repeat(31);
    world.sql.run(&format!("create schema \"{long}\""));
    for last in ["a", "b"] {
        world.sql.run(&format!(
            "create table \"{long}\".\"{long}{last}\" (id int primary key, name text);
             insert into \"{long}\".\"{long}{last}\" values (1, '{last}')"
        ));
    }
    let mut client = world.stream(&[]);
    client.streams();
    client.terminate().expect(0, &[]);
    let start = &escaped(&long)[..200];
    let topics = world.kafka.topics().unwrap();
    let topics: Vec<_> = topics
        .keys()
        .filter(|topic| topic.starts_with(start))
        .collect();
    assert_eq!(topics.len(), 2, "{topics:?}");
    let mut values: Vec<_> = topics
        .iter()
        .map(|topic| {
            assert_eq!(topic.len(), 249, "{topic}");
            topic::read(world.kafka, topic)[0].value.clone().unwrap()
        })
        .collect();
    values.sort_unstable();
    assert_eq!(
        values,
        ["{\"id\":1,\"name\":\"a\"}", "{\"id\":1,\"name\":\"b\"}"]
    );
}

#[test]
fn a_table_made_later_that_kafka_would_confuse_stops_the_stream_and_loses_nothing() {
    let world = World::new("names_later");
    world.sql.run(
        "create schema nl; create schema nl_b; create table nl.b_c (id int primary key);
         insert into nl.b_c values (1)",
    );
    let mut client = world.stream(&[]);
    client.streams();
    world.sql.run("insert into nl.b_c values (2)");
    world.sql.run(
        "create table nl_b.c (id int primary key);
         begin; insert into nl.b_c values (3); insert into nl_b.c values (1); commit;
         insert into nl.b_c values (4)",
    );
    client.wait().expect(
        1,
        &[
            "\"nl_b\".\"c\"",
            "\"nl\".\"b_c\"",
            "nl_b.c",
            "nl.b_c",
            "--exclude-table",
            "--topic",
        ],
    );
    let mut client = world.stream(&["-T", "nl_b.c"]);
    client.streams();
    world.catches_up();
    client.terminate().expect(0, &[]);
    let records = topic::read(world.kafka, "nl.b_c");
    assert_same(&topic::fold(&records), &rows(&world.sql, "nl.b_c", "t.id"));
}
