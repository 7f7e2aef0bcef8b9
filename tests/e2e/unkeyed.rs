//! Tables without a key, there from the start and made later.

use headwater_tests::topic;

use crate::poison::UNPRINTABLE;
use crate::world::World;

/// A table with a key and one without, a row in each.
fn world(name: &str) -> World<'static> {
    let world = World::new(name);
    world.sql.run(
        "create table keyed (id int primary key); create table heap (n int);
         insert into keyed values (1); insert into heap values (1)",
    );
    world
}

#[test]
fn refuse_names_every_table_and_what_to_do() {
    let world = world("unkeyed_refuse");
    world
        .sql
        .run("create table \"Other heap\" (n int); create table late_pk (id int unique)");
    world.stream(&[]).wait().expect(
        1,
        &[
            "unkeyed_refuse.heap, unkeyed_refuse.late_pk",
            "unkeyed_refuse.Other heap",
            "ALTER TABLE \"unkeyed_refuse\".\"Other heap\" ADD PRIMARY KEY",
            "--exclude-table",
            "--unkeyed skip",
            "--unkeyed send",
        ],
    );
    assert_eq!(world.slots(), [] as [&str; 0]);
}

#[test]
fn refuse_stops_at_the_first_row_of_a_table_made_later_and_loses_nothing() {
    let world = world("unkeyed_later");
    world.sql.run("drop table heap");
    let mut client = world.stream(&[]);
    client.streams();
    world
        .sql
        .run("create table heap (n int); insert into heap values (1)");
    world.sql.run("insert into keyed values (2)");
    client.wait().expect(
        5,
        &[
            "unkeyed_later.heap",
            "has no key",
            "--unkeyed skip",
            "ADD PRIMARY KEY",
        ],
    );
    let mut client = world.stream(&["-T", "unkeyed_later.heap"]);
    client.streams();
    world.catches_up();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("keyed", "t.id");
    assert!(
        !world
            .kafka
            .topics()
            .unwrap()
            .contains_key(&world.topic("heap"))
    );
}

#[test]
fn refuse_stops_at_a_row_that_cannot_be_encoded_too() {
    let world = World::new("unkeyed_poison");
    world.sql.run(UNPRINTABLE);
    world
        .sql
        .run("create table keyed (id int primary key); insert into keyed values (1)");
    let mut client = world.stream(&[]);
    client.streams();
    world
        .sql
        .run("create table heap (value unprintable); insert into heap values ('1')");
    world.sql.run("insert into keyed values (2)");
    let ended = client.wait();
    ended.expect(5, &["unkeyed_poison.heap", "has no key"]);

    // It was not passed over: it stops the next start, too.
    world
        .stream(&["--unkeyed", "send"])
        .wait()
        .expect(5, &["unkeyed_poison.heap", "--quarantine"]);
    let mut client = world.stream(&["--unkeyed", "skip"]);
    client.streams();
    world.catches_up();
    client.terminate().expect(0, &["unkeyed_poison.heap"]);
    world.topic_equals_table("keyed", "t.id");
}

#[test]
fn a_table_that_has_just_lost_its_key_is_not_truncated_unnoticed() {
    let world = world("unkeyed_truncate");
    world.sql.run("drop table heap");
    let mut client = world.stream(&[]);
    client.streams();
    world
        .sql
        .run("alter table keyed drop constraint keyed_pkey; truncate keyed");
    client.wait().expect(
        5,
        &["unkeyed_truncate.keyed was truncated", "--truncate ignore"],
    );
    world.sql.run("alter table keyed add primary key (id)");
    let mut client = world.stream(&["--truncate", "tombstone"]);
    client.streams();
    world.catches_up();
    client.terminate().expect(
        0,
        &[
            "it has no key any more",
            "unkeyed_truncate.keyed",
            "its rows stay in the topic",
        ],
    );
}

#[test]
fn skip_leaves_such_tables_out_and_names_them() {
    let world = world("unkeyed_skip");
    let mut client = world.stream(&["--unkeyed", "skip"]);
    client.streams();
    world.sql.run(
        "create table later (n int);
         begin; insert into keyed values (2); insert into later values (1);
         insert into heap values (2); insert into keyed values (3); commit",
    );
    world.catches_up();
    let ended = client.terminate();
    ended.expect(0, &["unkeyed_skip.heap", "unkeyed_skip.later", "left out"]);
    world.topic_equals_table("keyed", "t.id");
    let topics = world.kafka.topics().unwrap();
    for table in ["heap", "later"] {
        assert!(!topics.contains_key(&world.topic(table)), "{table}");
    }
}

#[test]
fn send_gives_rows_without_key_to_a_topic_that_is_not_compacted() {
    let world = world("unkeyed_send");
    let mut client = world.stream(&["--unkeyed", "send"]);
    client.streams();
    world
        .sql
        .run("create table later (n int); insert into later values (1); update later set n = 2");
    world
        .sql
        .run("insert into heap values (1); delete from later; delete from later");
    world.catches_up();
    let ended = client.terminate();
    ended.expect(
        0,
        &[
            "unkeyed_send.later",
            "rows were deleted",
            "--envelope change",
        ],
    );
    assert_eq!(ended.stderr.matches("rows were deleted").count(), 1);
    world.topic_equals_table("keyed", "t.id");
    for (table, expected) in [
        ("heap", [("r", "{\"n\":1}"), ("c", "{\"n\":1}")]),
        ("later", [("c", "{\"n\":1}"), ("u", "{\"n\":2}")]),
    ] {
        let records = topic::read(world.kafka, &world.topic(table));
        let found: Vec<_> = records
            .iter()
            .map(|record| {
                assert_eq!(record.key, None);
                (record.header("hw.op"), record.value.as_deref().unwrap())
            })
            .collect();
        assert_eq!(found, expected, "{table}");
        assert_eq!(
            world
                .kafka
                .topic_setting(&world.topic(table), "cleanup.policy"),
            "delete"
        );
    }
}

#[test]
fn send_goes_on_when_a_table_gets_a_key_or_changes_it_and_stops_at_a_row_that_has_lost_it() {
    let world = world("unkeyed_turns");
    let mut client = world.stream(&["--unkeyed", "send"]);
    client.streams();
    world
        .sql
        .run("alter table heap add primary key (n); insert into heap values (2)");
    let said = client.says("will lose records by age or size");
    assert!(said.contains("unkeyed_turns.heap"), "{said}");
    // Without a row in between, no key is no reason to stop.
    world.sql.run(
        "alter table keyed drop constraint keyed_pkey; alter table keyed add primary key (id)",
    );
    world.sql.run("insert into keyed values (2)");
    world.catches_up();
    world.topic_equals_table("keyed", "t.id");
    world
        .sql
        .run("alter table keyed drop constraint keyed_pkey; insert into keyed values (3)");
    client
        .wait()
        .expect(5, &["unkeyed_turns.keyed", "without a key"]);
    world.stream(&["--unkeyed", "send"]).wait().expect(
        1,
        &[
            "unkeyed_turns.keyed",
            "cleanup.policy=compact",
            "--add-config cleanup.policy=delete,retention.ms=-1,retention.bytes=-1",
        ],
    );
}
