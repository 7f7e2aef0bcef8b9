//! Records that are larger than their topic takes, and what becomes of changes that cannot be
//! delivered: the stream stops before anything follows them, or keeps them as dead letters.

use std::collections::BTreeMap;

use headwater_tests::topic::{self, Record};

use crate::poison::UNPRINTABLE;
use crate::world::{World, kafka};

/// A topic for a table of the world, that takes batches of `bytes`.
fn narrow_topic(world: &World<'_>, table: &str, bytes: u64) {
    let limit = bytes.to_string();
    let settings = [("cleanup.policy", "compact"), ("max.message.bytes", &limit)];
    kafka().create_topic(&world.topic(table), 1, &settings);
}

/// By key.
fn dead_letters(topic: &str) -> BTreeMap<String, Record> {
    let letters = topic::read(kafka(), topic);
    let count = letters.len();
    let by_key: BTreeMap<String, Record> = letters
        .into_iter()
        .map(|letter| (letter.key.clone().unwrap_or_default(), letter))
        .collect();
    assert_eq!(by_key.len(), count, "each change once: {by_key:?}");
    by_key
}

#[test]
fn a_record_that_its_topic_does_not_take_stops_the_stream_before_what_follows_it() {
    let world = World::new("sizes_stop");
    world.sql.run("create table t (id int primary key, v text)");
    narrow_topic(&world, "t", 2000);
    let plain = ["-X", "compression.type=none", "-X", "batch.size=2000"];
    let mut client = world.stream(&plain);
    client.streams();
    world.sql.run(
        "insert into t values (1, 'small');
         begin; insert into t values (2, repeat('secret', 500));
         insert into t values (3, 'behind it'); commit",
    );
    let ended = client.wait();
    let facts = [
        "sizes_stop.t",
        "its key is id",
        "over the 2000 that topic \"sizes_stop.t\" takes",
        "max.message.bytes=3",
        "--on-error quarantine",
        "--quarantine ",
    ];
    ended.expect(5, &facts);
    assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
    let keys = |topic: BTreeMap<String, String>| topic.into_keys().collect::<Vec<_>>();
    assert_eq!(keys(world.folded("t")), ["{\"id\":1}"]);

    // What the hint says mends it.
    let settings = [("cleanup.policy", "compact"), ("max.message.bytes", "4000")];
    kafka().configure_topic(&world.topic("t"), &settings);
    world.streamed(&plain, || {});
    world.topic_equals_table("t", "id");
}

#[test]
fn a_topic_that_takes_less_than_a_batch_is_refused_when_it_is_opened() {
    let world = World::new("sizes_batch");
    world.sql.run("create table t (id int primary key)");
    narrow_topic(&world, "t", 5000);
    let ended = world.stream(&[]).wait();
    ended.expect(
        1,
        &["sizes_batch.t", "5000", "1000000", "-X batch.size=5000"],
    );
}

#[test]
fn a_limit_that_is_lowered_while_the_client_runs_is_heeded_by_the_next_start() {
    let world = World::new("sizes_lowered");
    world.sql.run("create table t (id int primary key, v text)");
    narrow_topic(&world, "t", 4000);
    let plain = |batch| ["-X", "compression.type=none", "-X", batch];
    let mut client = world.stream(&plain("batch.size=1000"));
    client.streams();
    world.sql.run("insert into t values (1, repeat('x', 2000))");
    world.catches_up();
    let settings = [("cleanup.policy", "compact"), ("max.message.bytes", "1000")];
    kafka().configure_topic(&world.topic("t"), &settings);
    world.sql.run("insert into t values (2, repeat('y', 2000))");
    client.wait().expect(1, &["takes 1000 bytes now"]);

    world
        .stream(&plain("batch.size=1001"))
        .wait()
        .expect(1, &["-X batch.size=1000"]);
    let mut arguments = plain("batch.size=1000").to_vec();
    arguments.extend([
        "--on-error",
        "quarantine",
        "--dead-letter-topic",
        "sizes_lowered-dead",
    ]);
    world.streamed(&arguments, || {
        world.sql.run("insert into t values (3, 'fine')")
    });
    assert_eq!(world.folded("t").len(), 2);
    let letters = dead_letters("sizes_lowered-dead");
    assert_eq!(letters["{\"id\":2}"].header("hw.limit"), "1000");
}

#[test]
fn a_row_of_a_snapshot_that_its_topic_does_not_take_stops_it() {
    let world = World::new("sizes_snapshot");
    world.sql.run(
        "create table t (id int primary key, v text);
         insert into t values (1, 'fine'), (2, repeat('secret', 500))",
    );
    narrow_topic(&world, "t", 2000);
    let plain = ["-X", "compression.type=none", "-X", "batch.size=2000"];
    let ended = world.stream(&plain).wait();
    let facts = [
        "a row of sizes_snapshot.t cannot be sent",
        "over the 2000",
        "--on-error quarantine",
    ];
    ended.expect(5, &facts);
    assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
    assert_eq!(world.slots(), [""; 0], "no slot retains WAL");
}

#[test]
fn a_record_is_counted_as_the_broker_counts_it_to_the_byte() {
    let world = World::new("sizes_exact");
    world.sql.run("create table t (id int primary key, v text)");
    narrow_topic(&world, "t", 2000);
    let topic = "sizes_exact-dead";
    let arguments = [
        "-X",
        "compression.type=none",
        "-X",
        "batch.size=2000",
        "--on-error",
        "quarantine",
        "--dead-letter-topic",
        topic,
    ];
    world.streamed(&arguments, || {
        // Each a byte longer than the one before, so that none is missed on either side.
        world
            .sql
            .run("insert into t select n, repeat('x', n) from generate_series(1700, 1900) n");
    });
    let letters = dead_letters(topic);
    let sizes: Vec<&str> = letters
        .values()
        .map(|letter| letter.header("hw.size"))
        .collect();
    let smallest = sizes
        .iter()
        .min_by_key(|size| size.parse::<u64>().unwrap_or(0));
    assert_eq!(smallest, Some(&"2001"), "{sizes:?}");
    assert_eq!(letters.len() + world.folded("t").len(), 201);
}

#[test]
fn what_cannot_be_delivered_is_kept_as_a_dead_letter_and_everything_else_arrives() {
    let world = World::new("sizes_quarantine");
    // Text that no codec makes smaller than half of it.
    world.sql.run(&format!(
        "{UNPRINTABLE};
         create function noise(n int) returns text immutable language sql as
           'select string_agg(md5(i::text), '''') from generate_series(1, n) i';
         create table t (id int primary key, v text, u unprintable);
         insert into t values (1, 'fine', null), (2, noise(100000), null), (3, null, '1'),
           (4, repeat('x', 3000000), null)"
    ));
    let (topic, messages) = ("sizes_quarantine-dead", "sizes_quarantine-messages");
    let arguments = [
        "--on-error",
        "quarantine",
        "--dead-letter-topic",
        topic,
        "--message-topic",
        messages,
    ];
    let mut client = world.stream(&arguments);
    client.streams();
    world.sql.run("insert into t values (11, 'fine')");
    world.sql.run(
        "begin; insert into t values (12, noise(100000));
         insert into t values (13, repeat('y', 3000000));
         insert into t values (14, 'fine', '1');
         insert into t values (15, repeat('z', 70 << 20));
         select pg_logical_emit_message(true, 'outbox', noise(100000)); commit;
         select pg_logical_emit_message(false, 'alone', noise(100000));
         update t set v = noise(100000) where id = 11;
         insert into t values (16, 'fine')",
    );
    world.catches_up();
    let ended = client.terminate();
    ended.expect(0, &["dead letter", "table is stale", "sizes_quarantine.t"]);
    let count = "changes kept as dead letters in this run table=\"sizes_quarantine.t\" changes=6";
    ended.expect(0, &[count]);

    let letters = dead_letters(topic);
    let id = |id: u32| format!("{{\"id\":{id}}}");
    let expected = [2, 3, 11, 12, 14, 15].map(id);
    let mut expected: Vec<String> = expected
        .into_iter()
        .chain(["alone".to_owned(), "outbox".to_owned()])
        .collect();
    expected.sort();
    assert_eq!(letters.keys().cloned().collect::<Vec<_>>(), expected);

    let delivered = world.folded("t");
    let sent: Vec<&String> = delivered.keys().collect();
    assert_eq!(sent, [&id(11), &id(13), &id(16), &id(1), &id(4)]);
    assert!(
        delivered[&id(11)].contains("\"v\":\"fine\""),
        "the topic keeps what it has of the row"
    );

    let noise = world.sql.value("select noise(100000)");
    let large = &letters[&id(12)];
    assert_eq!(large.header("hw.op"), "c");
    assert_eq!(large.header("hw.seq"), "0");
    assert_eq!(large.header("hw.relation"), "sizes_quarantine.t");
    assert_eq!(large.header("hw.topic"), "sizes_quarantine.t");
    assert_eq!(large.header("hw.limit"), "1048588");
    let row = format!("{{\"id\":12,\"v\":\"{noise}\",\"u\":null}}");
    assert_eq!(large.header("hw.truncated"), row.len().to_string());
    let value = large.value.as_deref().unwrap_or_default();
    assert!(row.starts_with(value), "the beginning of the row");
    assert!(value.len() > 1_047_000, "{} bytes of it", value.len());

    let unprintable = &letters[&id(14)];
    assert_eq!(unprintable.value.as_deref(), Some(""), "there are no bytes");
    assert!(
        unprintable.header("hw.reason").contains("\"u\""),
        "{unprintable:?}"
    );
    assert!(
        letters[&id(15)]
            .header("hw.reason")
            .contains("max_row_bytes")
    );
    assert_eq!(letters[&id(2)].header("hw.op"), "r", "of the snapshot");
    let message = &letters["alone"];
    assert_eq!(message.header("hw.topic"), messages);
    assert!(!message.headers.contains_key("hw.relation"), "{message:?}");
}

#[test]
fn dead_letters_need_a_topic_of_their_own() {
    let world = World::new("sizes_usage");
    world.sql.run("create table t (id int primary key)");
    world
        .stream(&["--on-error", "quarantine", "--sink", "stdout"])
        .wait()
        .expect(2, &["--sink stdout"]);
    world
        .stream(&[
            "--on-error",
            "quarantine",
            "--dead-letter-topic",
            "sizes_usage.t",
            "--topic",
            "{schema}.{table}",
        ])
        .wait()
        .expect(1, &["dead letters", "--dead-letter-topic"]);
}
