//! Partitioned tables: whose rows a partition's are, in both modes.

use std::collections::BTreeMap;

use headwater_protocol::frame::{Frame, Frames, Op};
use headwater_tests::session::Session;
use headwater_tests::types::bytes;
use headwater_tests::{Client, topic};
use serde_json::Value;

use crate::stale::drop_arguments;
use crate::world::{World, database_with_slot};

/// A table whose partitions all have other shapes than its own: another order, dropped
/// columns, a level in between. The key's columns have other numbers everywhere.
const EVENTS: &str = "
    create table events (
        gone int, id int, at date, name text, n numeric(8,2), tags jsonb, primary key (id, at)
    ) partition by range (at);
    alter table events drop column gone;
    create table events_1 partition of events for values from ('2024-01-01') to ('2024-02-01');
    create table events_2 (
        tags jsonb, x int, n numeric(8,2), y text, at date not null, name text, id int not null
    );
    alter table events_2 drop column x, drop column y;
    alter table events attach partition events_2 for values from ('2024-02-01') to ('2024-03-01');
    create table events_3 (
        at date not null, n numeric(8,2), name text, tags jsonb, z int, id int not null
    ) partition by range (at);
    alter table events_3 drop column z;
    create table events_3_a (
        name text, id int not null, w int, n numeric(8,2), tags jsonb, at date not null
    );
    alter table events_3_a drop column w;
    alter table events_3 attach partition events_3_a for values from ('2024-03-01') to ('2024-03-06');
    create table events_3_b partition of events_3 default;";

const ATTACH_3: &str = "alter table events attach partition events_3 for values from ('2024-03-01') to ('2024-04-01');";

/// The primary key of a partition between has another name in PG's eyes: it is made when the
/// partition is attached.
fn create_events(sql: &Session) {
    sql.run(&format!("{EVENTS}\n{ATTACH_3}"));
}

const ROWS: &str = "insert into events (id, at, name, n, tags) values
    (1, '2024-01-05', 'one', 1.50, '[\"a\",1.50]'), (2, '2024-02-05', 'two', null, null),
    (3, '2024-03-05', 'a', 3, '[]'), (4, '2024-03-06', 'b', 4, '{\"x y\":null}');";

const LEAVES: [&str; 4] = ["events_1", "events_2", "events_3_a", "events_3_b"];

#[test]
fn partitions_are_one_topic_of_the_tables_shape_copied_and_streamed() {
    let world = World::new("partitions_root");
    create_events(&world.sql);
    world.sql.run(ROWS);
    let mut client = world.stream(&[]);
    client.streams();
    world.sql.run(
        "insert into events (id, at, name, n, tags) select id + 10, at, name, n, tags from events;
         update events set n = n + 1 where id in (1, 13, 14);
         update events set id = 22 where id = 2;
         delete from events where id = 11;",
    );
    // From one partition to another and back, in one transaction and in two.
    world.sql.run(
        "begin; update events set at = '2024-02-07' where id = 1;
         update events set at = '2024-01-07' where id = 1; commit;
         update events set at = '2024-03-07' where id = 3;
         update events set at = '2024-01-09' where id = 14;",
    );
    world.catches_up();
    world.topic_equals_table("events", "t.id, t.at");
    // Rows that are rewritten are the table's, too.
    world
        .sql
        .run("alter table events alter n type text using 'n ' || n");
    world.catches_up();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("events", "t.id, t.at");
    for leaf in LEAVES.iter().chain(&["events_3"]) {
        assert!(
            topic::try_read(world.kafka, &world.topic(leaf)).is_err(),
            "{leaf} has a topic of its own"
        );
    }
}

#[test]
fn a_row_that_moves_with_the_same_key_stays_in_the_topic() {
    let world = World::new("partitions_moved");
    // The key is the identity of each partition, and does not say which one it is.
    world.sql.run(
        "create table items (id int not null, place text not null, name text)
             partition by list (place);
         create table items_a partition of items for values in ('a');
         create table items_b (name text, place text not null, id int not null);
         alter table items attach partition items_b for values in ('b');
         alter table items add primary key (id, place)",
    );
    world.streamed(&[], || world.sql.run(
        "insert into items values (1, 'a', 'x'), (2, 'a', 'y');
         update items set place = 'b' where id = 1;
         begin; delete from items where id = 2; insert into items values (2, 'a', 'again'); commit;
         begin; update items set place = 'b' where id = 2; update items set place = 'a' where id = 2; commit",
    ));
    world.topic_equals_table("items", "t.id, t.place");
}

#[test]
fn each_partition_can_have_a_topic_of_its_own() {
    let world = World::new("partitions_leaf");
    create_events(&world.sql);
    world.sql.run(ROWS);
    world.streamed(
        &["--partitions", "leaf", "-t", "partitions_leaf.events_*"],
        || {
            world.sql.run(
                "update events set n = 7 where id = 3; delete from events where id = 1;
         update events set at = '2024-03-07' where id = 3;",
            )
        },
    );
    // The key is the leaf's own, in the order of its own index.
    for leaf in LEAVES {
        world.topic_equals_table(leaf, "t.id, t.at");
    }
    assert!(topic::try_read(world.kafka, &world.topic("events")).is_err());
}

#[test]
fn patterns_name_the_table_or_its_partitions_and_say_so() {
    let world = World::new("partitions_named");
    create_events(&world.sql);
    world
        .stream(&["-t", "partitions_named.events_1"])
        .wait()
        .expect(
            1,
            &["partition of partitions_named.events", "--partitions leaf"],
        );
    world
        .stream(&["-t", "partitions_named.events", "--partitions", "leaf"])
        .wait()
        .expect(1, &["is partitioned", "--partitions root"]);
    // A table that has no partition yet is one that can be waited for.
    world
        .sql
        .run("create table later (id int primary key) partition by hash (id)");
    world.streamed(&["-t", "partitions_named.later"], || {
        world.sql.run(
            "create table later_1 partition of later for values with (modulus 1, remainder 0);
         insert into later values (1)",
        )
    });
    world.topic_equals_table("later", "t.id");
}

/// What the client would read from a slot of the database's name, in frames.
fn frames(sql: &Session, slot: &str, options: &str) -> Vec<Vec<u8>> {
    sql.column(&format!(
        "select encode(data, 'hex') from pg_logical_slot_peek_binary_changes('{slot}', null, null, \
         'output', 'frames'{options})"
    ))
    .iter()
    .map(|hex| bytes(hex))
    .collect()
}

/// The relations that are described, in order: schema and table, then their columns.
fn described(writes: &[Vec<u8>]) -> Vec<String> {
    writes
        .iter()
        .flat_map(|write| Frames::new(write))
        .filter_map(|frame| match frame.unwrap() {
            Frame::Relation(relation) => {
                let columns: Vec<&str> = relation.columns.iter().map(|c| c.name).collect();
                Some(format!(
                    "{}.{} {}",
                    relation.schema,
                    relation.table,
                    columns.join(",")
                ))
            }
            _ => None,
        })
        .collect()
}

/// Key and value of every change, in order.
fn changes(writes: &[Vec<u8>]) -> Vec<(Op, String, String)> {
    let text =
        |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap();
    writes
        .iter()
        .flat_map(|write| Frames::new(write))
        .filter_map(|frame| match frame.unwrap() {
            Frame::Change(change) => Some((change.op, text(change.key), text(change.value))),
            _ => None,
        })
        .collect()
}

#[test]
fn partitions_that_take_turns_are_described_once() {
    let name = "partitions_once";
    let sql = database_with_slot(name);
    create_events(&sql);
    for _ in 0..2 {
        sql.run(ROWS);
        sql.run("delete from events; analyze events");
    }
    let writes = frames(&sql, name, "");
    assert_eq!(described(&writes), ["public.events id,at,name,n,tags"]);
    let keys: Vec<String> = changes(&writes)
        .into_iter()
        .map(|(_, key, _)| key)
        .collect();
    assert_eq!(keys.len(), 16);
    assert_eq!(keys[3], r#"{"id":4,"at":"2024-03-06"}"#);
}

#[test]
fn what_is_copied_is_what_is_streamed() {
    let name = "partitions_same";
    let sql = database_with_slot(name);
    create_events(&sql);
    sql.run(ROWS);
    for mode in ["root", "leaf"] {
        let streamed = changes(&frames(&sql, name, &format!(", 'partitions', '{mode}'")));
        let copied: Vec<Vec<u8>> = LEAVES
            .iter()
            .flat_map(|leaf| {
                sql.column(&format!(
                    "select encode(headwater.encode(t.*, 'output=frames', 'partitions={mode}'), 'hex') \
                     from {leaf} t"
                ))
            })
            .map(|hex| bytes(&hex))
            .collect();
        let rows = |changes: Vec<(Op, String, String)>| -> BTreeMap<String, String> {
            changes
                .into_iter()
                .map(|(_, key, value)| (key, value))
                .collect()
        };
        assert_eq!(rows(streamed), rows(changes(&copied)), "partitions={mode}");
    }
    // Read through the table, the bytes are the same again.
    let through = sql.column("select encode(headwater.encode(t.*), 'hex') from events t");
    let leaves =
        LEAVES.map(|leaf| format!("select encode(headwater.encode(t.*), 'hex') from {leaf} t"));
    assert_eq!(through, sql.column(&leaves.join(" union all ")));
    let relations = sql.column(
        "select distinct encode(headwater.relation(c.oid, 'partitions=root'), 'hex') from pg_class c \
         where c.relname like 'events%' and c.relkind in ('r', 'p')",
    );
    assert_eq!(relations.len(), 1, "all are described as the table");
}

#[test]
fn renames_and_new_columns_reach_rows_of_every_partition() {
    let name = "partitions_renamed";
    let sql = database_with_slot(name);
    create_events(&sql);
    let insert = |id: i32, table: &str, columns: &str| {
        sql.run(&format!(
            "insert into {table} ({columns}, at, name) values ({id}, '2024-01-05', 'p'), \
             ({id}, '2024-02-05', 'q'), ({id}, '2024-03-05', 'a')"
        ));
    };
    insert(1, "events", "id");
    sql.run("alter table events rename to happenings");
    insert(2, "happenings", "id");
    sql.run("create schema other; alter table happenings set schema other");
    insert(3, "other.happenings", "id");
    sql.run("alter schema other rename to another");
    insert(4, "another.happenings", "id");
    sql.run("alter table another.happenings rename id to number");
    insert(5, "another.happenings", "number");
    sql.run("alter table another.happenings add column more int default 5; alter table another.happenings drop column n");
    insert(6, "another.happenings", "number");
    let writes = frames(&sql, name, "");
    assert_eq!(
        described(&writes),
        [
            "public.events id,at,name,n,tags",
            "public.happenings id,at,name,n,tags",
            "other.happenings id,at,name,n,tags",
            "another.happenings id,at,name,n,tags",
            "another.happenings number,at,name,n,tags",
            "another.happenings number,at,name,tags,more",
        ]
    );
    let changes = changes(&writes);
    assert_eq!(changes.len(), 18);
    for (op, key, value) in &changes[15..] {
        assert_eq!(*op, Op::Create);
        let (key, value): (Value, Value) = (
            serde_json::from_str(key).unwrap(),
            serde_json::from_str(value).unwrap(),
        );
        assert_eq!((&key["number"], &value["number"]), (&6.into(), &6.into()));
        assert_eq!(value["more"], 5);
    }
}

#[test]
fn what_a_stale_mark_says_does_not_name_the_rows_after_it() {
    let name = "partitions_marked";
    let sql = database_with_slot(name);
    create_events(&sql);
    sql.run("insert into events (id, at) values (1, '2024-01-05')");
    sql.run(
        "begin; alter table events rename to happenings;
         insert into happenings (id, at) values (2, '2024-01-05');
         alter table happenings detach partition events_2; commit",
    );
    sql.run("insert into happenings (id, at) values (3, '2024-01-05')");
    let mut tables = BTreeMap::new();
    let mut seen = Vec::new();
    for write in frames(&sql, name, "") {
        for frame in Frames::new(&write) {
            match frame.unwrap() {
                Frame::Relation(relation) => {
                    tables.insert(relation.id, relation.table.to_owned());
                }
                Frame::Change(change) => seen.push(tables[&change.relation].clone()),
                Frame::Stale(stale) => assert!(tables.contains_key(&stale.relation)),
                _ => {}
            }
        }
    }
    assert_eq!(seen, ["events", "happenings", "happenings"]);
}

#[test]
fn attach_and_detach_decide_for_the_rows_after_them() {
    let name = "partitions_attached";
    let sql = database_with_slot(name);
    sql.run(EVENTS);
    let insert = |id: i32| {
        sql.run(&format!(
            "insert into events_3 (id, at, name) values ({id}, '2024-03-05', 'a'), ({id}, '2024-03-06', 'b');
             insert into events_2 (id, at) values ({id}, '2024-02-05')"
        ));
    };
    sql.run("alter table events_3 add primary key (id, at)");
    insert(1);
    sql.run(ATTACH_3);
    insert(2);
    sql.run("alter table events detach partition events_3; alter table events detach partition events_2");
    insert(3);
    sql.run(
        "begin; insert into events_2 (id, at) values (4, '2024-02-05');
         alter table events attach partition events_2 for values from ('2024-02-01') to ('2024-03-01');
         insert into events_2 (id, at) values (5, '2024-02-05');
         alter table events detach partition events_2;
         insert into events_2 (id, at) values (6, '2024-02-05'); commit",
    );
    let lines = sql.column(&format!(
        "select data from pg_logical_slot_peek_changes('{name}', null, null)"
    ));
    let seen: Vec<String> = lines
        .iter()
        .map(|line| {
            let change: Value = serde_json::from_str(line).unwrap();
            format!(
                "{} {}",
                change["source"]["table"].as_str().unwrap(),
                change["after"]["id"]
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            "events_3 1",
            "events_3 1",
            "events 1",
            "events 2",
            "events 2",
            "events 2",
            "events_3 3",
            "events_3 3",
            "events_2 3",
            "events_2 4",
            "events 5",
            "events_2 6",
        ]
    );
}

#[test]
fn a_large_value_of_a_partition_is_fetched_through_its_table() {
    for (mode, topics) in [
        ("root", &["documents"][..]),
        ("leaf", &["documents_a", "documents_b"]),
    ] {
        let world = World::new(&format!("partitions_toast_{mode}"));
        world.sql.run(
            "create table documents (id int, kind text, title text, body text,
                 primary key (kind, id)) partition by list (kind);
             create table documents_a (body text, title text, id int not null, kind text not null);
             alter table documents attach partition documents_a for values in ('a');
             create table documents_b partition of documents for values in ('b');
             alter table documents_a alter body set storage external;
             alter table documents_b alter body set storage external;
             insert into documents select n, k, 'first', repeat(k, 20000)
                 from generate_series(1, 2) n, unnest('{a,b}'::text[]) k",
        );
        let mut client = world.stream(&["--partitions", mode]);
        client.streams();
        world.sql.run(
            "update documents set title = 'second' where id = 1;
             update documents set title = 'third' where id = 2",
        );
        world.catches_up();
        client.terminate().expect(0, &[]);
        for table in topics {
            let records = topic::read(world.kafka, &world.topic(table));
            let fetched = records
                .iter()
                .filter(|record| record.headers.contains_key("hw.fetched"));
            assert_eq!(fetched.count(), 4 / topics.len(), "{mode} {table}");
            world.topic_equals_table(table, "t.kind, t.id");
        }
    }
}

#[test]
fn truncating_the_table_empties_the_topic_and_truncating_a_partition_does_not() {
    let world = World::new("partitions_truncated");
    create_events(&world.sql);
    world.sql.run(ROWS);
    let mut client = world.stream(&["--truncate", "tombstone"]);
    client.streams();
    world.sql.run(
        "truncate events; insert into events (id, at) values (9, '2024-01-05'), (8, '2024-02-05')",
    );
    world.catches_up();
    world.topic_equals_table("events", "t.id, t.at");
    let records = topic::read(world.kafka, &world.topic("events"));
    let tombstones = records.iter().filter(|record| record.value.is_none());
    assert_eq!(
        tombstones.count(),
        4,
        "each row once, in one sweep of the topic"
    );

    world.sql.run("truncate events_1");
    client.wait().expect(
        5,
        &[
            "partitions_truncated.events_1",
            "--truncate ignore",
            "DELETE",
        ],
    );
    assert_eq!(
        world.folded("events").len(),
        2,
        "what is in the other partitions stays"
    );

    let mut client = world.stream(&["--truncate", "ignore"]);
    client.says("streaming");
    client.says("events_1 was truncated: its rows stay");
    client.says("table is stale");
    world.sql.run("truncate events_3");
    client.says("partitions_truncated.events_3_b was truncated");
    world.catches_up();
    client.terminate().expect(0, &[]);
    assert_eq!(world.folded("events").len(), 2);

    // The cure that the client names: a snapshot sweeps the topic once all partitions are in.
    Client::run(drop_arguments(&world)).expect(0, &[]);
    let mut client = world.stream(&[]);
    client.streams();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("events", "t.id, t.at");
    assert_eq!(world.folded("events").len(), 1);
}

#[test]
fn what_was_sent_of_a_table_that_lost_its_last_partition_is_swept() {
    let world = World::new("partitions_none_left");
    world.sql.run(
        "create table events (id int primary key) partition by range (id);
         create table events_1 partition of events for values from (0) to (9);
         insert into events values (1), (2)",
    );
    let mut client = world.stream(&[]);
    client.streams();
    client.terminate().expect(0, &[]);
    assert_eq!(world.folded("events").len(), 2);
    Client::run(drop_arguments(&world)).expect(0, &[]);
    world.sql.run("drop table events_1");
    let mut client = world.stream(&[]);
    client.streams();
    client.terminate().expect(0, &[]);
    assert_eq!(world.folded("events").len(), 0);
}

#[test]
fn a_truncate_says_of_which_table_and_which_part() {
    let name = "partitions_truncates";
    let sql = database_with_slot(name);
    create_events(&sql);
    sql.run("create table plain (id int primary key)");
    sql.run("truncate events, plain");
    sql.run("truncate events_3, plain, events_1");
    let truncates = |mode: &str| -> Vec<(u64, usize, Vec<String>)> {
        frames(&sql, name, &format!(", 'partitions', '{mode}'"))
            .iter()
            .flat_map(|write| Frames::new(write))
            .filter_map(|frame| match frame.unwrap() {
                Frame::Truncate(truncate) => {
                    let mut parts: Vec<String> = truncate
                        .partitions
                        .iter()
                        .map(|(_, table)| (*table).to_owned())
                        .collect();
                    parts.sort();
                    Some((truncate.seq, truncate.relations.len(), parts))
                }
                _ => None,
            })
            .collect()
    };
    let parts = ["events_1", "events_3_a", "events_3_b"]
        .map(str::to_owned)
        .to_vec();
    assert_eq!(
        truncates("root"),
        [(0, 2, vec![]), (0, 1, vec![]), (0, 3, parts)]
    );
    assert_eq!(truncates("leaf"), [(0, 5, vec![]), (0, 4, vec![])]);
    let lines = sql.column(&format!(
        "select data from pg_logical_slot_peek_changes('{name}', null, null)"
    ));
    let seen: Vec<(Value, Value)> = lines
        .iter()
        .map(|line| {
            let change: Value = serde_json::from_str(line).unwrap();
            (
                change["source"]["table"].clone(),
                change["partition"]["table"].clone(),
            )
        })
        .collect();
    assert_eq!(
        seen.iter().filter(|(_, part)| part.is_null()).count(),
        3,
        "{seen:?}"
    );
    assert_eq!(seen.len(), 6, "{seen:?}");
}

#[test]
fn a_key_that_a_partition_does_not_bring_is_never_made_up() {
    let name = "partitions_identity";
    let sql = database_with_slot(name);
    create_events(&sql);
    sql.run(
        "create unique index by_id on events_1 (id);
         alter table events_1 replica identity using index by_id;
         alter table events_2 replica identity nothing;
         alter table events_3_a replica identity full;",
    );
    sql.run(ROWS);
    sql.run("update events set n = 9; delete from events");
    let seen: Vec<(char, u8, String)> = frames(&sql, name, "")
        .iter()
        .flat_map(|write| Frames::new(write))
        .filter_map(|frame| match frame.unwrap() {
            Frame::Change(change) if change.op != Op::Create => {
                let key = String::from_utf8(change.key.unwrap().to_vec()).unwrap();
                Some(('-', change.op.code().as_bytes()[0], key))
            }
            Frame::Quarantine(quarantine) => {
                let key = String::from_utf8(quarantine.key.unwrap_or(b"none").to_vec()).unwrap();
                assert!(
                    quarantine.reason.contains("public.events_"),
                    "{quarantine:?}"
                );
                Some(('Q', quarantine.op.code().as_bytes()[0], key))
            }
            _ => None,
        })
        .collect();
    let key = |id: i32, at: &str| format!("{{\"id\":{id},\"at\":\"{at}\"}}");
    assert_eq!(
        seen,
        [
            ('Q', b'u', key(1, "2024-01-05")),
            ('Q', b'u', key(2, "2024-02-05")),
            ('-', b'u', key(3, "2024-03-05")),
            ('-', b'u', key(4, "2024-03-06")),
            ('Q', b'd', "none".to_owned()),
            ('Q', b'd', "none".to_owned()),
            ('-', b'd', key(3, "2024-03-05")),
            ('-', b'd', key(4, "2024-03-06")),
        ]
    );
}

#[test]
fn partitions_whose_identity_lacks_the_key_are_named_at_the_start() {
    let world = World::new("partitions_lacking");
    create_events(&world.sql);
    world
        .sql
        .run("alter table events_2 replica identity nothing");
    world.sql.run(ROWS);
    let mut client = world.stream(&[]);
    let warning = client.says("lacks columns of their table's key");
    assert!(warning.contains("partitions_lacking.events_2"), "{warning}");
    assert!(warning.contains("REPLICA IDENTITY FULL"), "{warning}");
    client.streams();
    world.sql.run("delete from events where id = 2");
    client
        .wait()
        .expect(5, &["partitions_lacking.events_2", "key is not known"]);
}
