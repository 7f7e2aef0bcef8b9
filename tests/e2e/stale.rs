//! What changes rows, or how they look, and leaves nothing in the WAL: the table is named.

use headwater_protocol::frame::{Frame, Frames};
use headwater_tests::kafka::Kafka;
use headwater_tests::session::Session;
use headwater_tests::topic;

use crate::world::{World, database_with_slot, postgres};
use headwater_tests::types::bytes;

/// Reads the slot to its end, in a session that knows nothing from before, and returns which
/// tables it names as stale.
fn stale(sql: &Session, slot: &str) -> Vec<String> {
    let writes = sql.column(&format!(
        "select encode(data, 'hex') from pg_logical_slot_get_binary_changes(\
         '{slot}', null, null, 'output', 'frames', 'tables', 'public.*')"
    ));
    let mut names = std::collections::HashMap::new();
    let mut found = Vec::new();
    let (mut frames, mut counted) = (0, 0);
    for write in &writes {
        let write = bytes(write);
        for frame in Frames::new(&write) {
            match frame.unwrap() {
                Frame::Relation(relation) => {
                    let name = format!("{}.{}", relation.schema, relation.table);
                    names.insert(relation.id, name);
                }
                Frame::Stale(stale) => {
                    frames += 1;
                    found.push(format!("{}: {}", names[&stale.relation], stale.reason));
                }
                Frame::Change(_) => frames += 1,
                Frame::Commit(commit) => counted += commit.changes,
                _ => {}
            }
        }
    }
    assert_eq!(counted, frames, "commits count stale tables too");
    found
}

/// A table with rows, a unique index beside its key, and columns of several types.
const TABLE: &str =
    "create table t (id int primary key, other int not null, n int, s varchar(20), ts timestamp);
     create unique index t_other on t (other);
     insert into t select n, n, n, n, now() from generate_series(1, 3) n;";

#[test]
fn alters_that_leave_rows_behind_name_the_table_and_what_changed() {
    let sql = database_with_slot("stale_named");
    for (ddl, expected) in [
        (
            "alter table t add c int default 5",
            r#"column "c" was added with a value for every row"#,
        ),
        ("alter table t rename n to m", r#"column "n" is "m" now"#),
        ("alter table t drop n", r#"column "n" was dropped"#),
        // Without a rewrite, where the session's time zone is UTC.
        (
            "alter table t alter ts type timestamptz",
            r#"column "ts" has another type"#,
        ),
        (
            "alter table t alter n type oid",
            r#"column "n" has another type"#,
        ),
        (
            "alter table t replica identity using index t_other",
            "its key was (id) and is (other)",
        ),
        (
            "alter table t replica identity nothing",
            "it has no key any more",
        ),
        (
            "alter table t drop constraint t_pkey",
            "it has no key any more",
        ),
        (
            "drop index t_other; alter table t drop constraint t_pkey, add primary key (other, id)",
            "its key was (id) and is (other, id)",
        ),
        (
            "alter table t alter id type bigint",
            "its key (id) was retyped",
        ),
        (
            "alter table t alter id type int using id + 100",
            "its key (id) was retyped",
        ),
        ("alter table t rename to u", "it was public.t"),
        (
            "alter table t rename to v; alter table v rename to w",
            "it was public.t",
        ),
        ("alter table t set unlogged", "it is unlogged now"),
        (
            "drop table t; create table t (id int primary key)",
            "it was dropped",
        ),
        (
            "alter table t rename n to m; alter table t add c text default 'x'",
            r#"column "n" is "m" now; column "c" was added with a value for every row"#,
        ),
        // Rows sent in between have a name that is gone again.
        (
            "alter table t rename n to m; insert into t values (9, 9); alter table t rename m to n",
            r#"column "m" is "n" now"#,
        ),
        (
            "alter table t drop n, add n int",
            r#"column "n" was dropped"#,
        ),
        (
            "alter table t alter n type bigint; alter table t rename n to m",
            r#"column "n" is "m" now"#,
        ),
    ] {
        sql.run("drop table if exists t, u, w");
        sql.run(TABLE);
        stale(&sql, "stale_named");
        sql.run(ddl);
        let found = stale(&sql, "stale_named");
        let reasons: Vec<&str> = found
            .iter()
            .map(|stale| stale.split_once(": ").unwrap().1)
            .collect();
        assert_eq!(reasons, [expected], "{ddl}");
    }
}

#[test]
fn what_leaves_every_row_as_it_was_sent_names_nothing() {
    let sql = database_with_slot("stale_unnamed");
    sql.run("create role stale_reader");
    for ddl in [
        "analyze t",
        "vacuum t",
        "vacuum full t",
        "cluster t using t_pkey",
        "reindex table t",
        "grant select on t to stale_reader",
        "create index on t (n)",
        "drop index t_other",
        "comment on column t.n is 'a number'",
        "alter table t alter n set statistics 10",
        "alter table t alter s set storage external",
        "alter table t alter n set default 5",
        "alter table t alter n set not null, alter n drop not null",
        "alter table t add check (n > 0)",
        "alter table t add c int",
        "alter table t add c int; alter table t drop c",
        "alter table t rename n to m; alter table t rename m to n",
        "alter table t alter s type varchar(40)",
        "alter table t alter s type text",
        "alter table t replica identity full",
        "alter table t replica identity nothing; alter table t replica identity default",
        "alter table t set (fillfactor = 50)",
        "alter table t owner to stale_reader",
        "alter table t rename constraint t_pkey to key",
        "begin; savepoint s; alter table t rename n to m; insert into t values (9, 9); rollback to s; \
         insert into t values (8, 8); commit",
        "begin; alter table t rename n to m; rollback",
        // Every row is sent again.
        "alter table t alter n type text",
        "alter table t add c int default 5, alter n type text",
        "alter table t rename n to m; alter table t alter m type text",
        "alter table t add r float default random()",
        "alter table t set unlogged, alter n type text; alter table t set logged",
        "create table fresh (id int primary key); alter table fresh add c int default 1; drop table fresh",
        "create table fresh (id int primary key); alter table fresh add c int default 1; \
         alter table fresh rename c to d; drop table fresh",
        "create temporary table fresh (id int primary key); insert into fresh values (1); \
         alter table fresh add c int default 1; drop table fresh",
        "create unlogged table fresh (id int primary key); alter table fresh add c int default 1; drop table fresh",
        "create view seen as select n from t; alter view seen rename n to m; drop view seen",
        "create schema elsewhere; create table elsewhere.t (like t including all); \
         alter table elsewhere.t rename n to m; drop schema elsewhere cascade",
        "create publication everything for all tables; drop publication everything",
    ] {
        sql.run("drop table if exists t");
        sql.run(TABLE);
        stale(&sql, "stale_unnamed");
        sql.run(ddl);
        assert_eq!(stale(&sql, "stale_unnamed"), [""; 0], "{ddl}");
    }
}

#[test]
fn a_table_that_stood_in_for_a_catalog_stops_nothing_when_it_is_gone() {
    let sql = database_with_slot("stale_catalog");
    sql.run("create table t (id int primary key) with (user_catalog_table = true)");
    sql.run("alter table t add c int default 5");
    sql.run("drop table t");
    sql.run("create table u (id int primary key, n int)");
    sql.run("alter table u rename n to m");
    assert_eq!(
        stale(&sql, "stale_catalog"),
        [r#"public.u: column "n" is "m" now"#]
    );
}

#[test]
fn rows_of_a_table_made_in_the_same_transaction_count_too() {
    let sql = database_with_slot("stale_new");
    sql.run(
        "create table t (id int primary key);
         insert into t values (1);
         alter table t add c int default 5",
    );
    assert_eq!(
        stale(&sql, "stale_new"),
        [r#"public.t: column "c" was added with a value for every row"#]
    );
}

#[test]
fn a_table_that_moves_out_of_what_is_captured_or_into_it_is_named() {
    let sql = database_with_slot("stale_moved");
    sql.run("create schema s");
    sql.run(TABLE);
    sql.run("alter table t set schema s");
    assert_eq!(stale(&sql, "stale_moved"), ["public.t: it is s.t now"]);
    sql.run("alter table s.t set schema public");
    assert_eq!(stale(&sql, "stale_moved"), ["public.t: it was s.t"]);
}

#[test]
fn schemas_and_types_that_change_name_the_tables_that_are_made_of_them() {
    let sql = database_with_slot("stale_types");
    let reset = || {
        sql.run(
            "drop schema if exists s, z cascade; drop table if exists u, v, w;
             drop type if exists mood, pair, pairs cascade; drop domain if exists moods cascade;
             create type mood as enum ('sad', 'happy');
             create domain moods as mood[];
             create type pair as (a int, b mood);
             create type other_mood as enum ('sad', 'happy');
             create schema s;
             create table s.t (id int primary key);
             create table u (id int primary key, m mood);
             create table v (id int primary key, n moods, p pair[]);
             create table w (id int primary key, o other_mood, q int4range)"
                .replace(
                    "create type other",
                    "drop type if exists other_mood cascade; create type other",
                )
                .as_str(),
        );
        stale(&sql, "stale_types");
    };
    for (ddl, expected) in [
        (
            "alter type mood rename value 'sad' to 'blue'",
            vec![
                r#"public.u: "sad" in column "m" is "blue" now"#,
                r#"public.v: "sad" in column "n" is "blue" now; "sad" in column "p" is "blue" now"#,
            ],
        ),
        (
            "alter type pair rename attribute a to c",
            vec![r#"public.v: "a" in column "p" is "c" now"#],
        ),
        (
            "alter type pair drop attribute a",
            vec![r#"public.v: "a" in column "p" was dropped"#],
        ),
        ("alter type mood add value 'calm'", vec![]),
        ("alter type pair add attribute c text", vec![]),
        ("alter domain moods add check (value is not null)", vec![]),
        ("create type third as enum ('x'); drop type third", vec![]),
        (
            "create schema z; grant usage on schema public to public",
            vec![],
        ),
        (
            "alter schema public rename to z; alter schema z rename to public",
            vec![],
        ),
    ] {
        reset();
        sql.run(ddl);
        assert_eq!(stale(&sql, "stale_types"), expected, "{ddl}");
    }
    reset();
    sql.run("alter schema public rename to z");
    sql.run("alter schema z rename to public");
    assert_eq!(
        stale(&sql, "stale_types"),
        [
            "public.u: it is z.u now",
            "public.v: it is z.v now",
            "public.w: it is z.w now",
            "public.u: it was z.u",
            "public.v: it was z.v",
            "public.w: it was z.w",
        ]
    );
}

#[test]
fn partitions_that_come_and_go_with_their_rows_name_their_table() {
    let sql = database_with_slot("stale_partitions");
    sql.run(
        "create table events (id int primary key, n int) partition by range (id);
         create table low partition of events for values from (0) to (10);
         create table high (n int, id int primary key)",
    );
    stale(&sql, "stale_partitions");
    for (ddl, expected) in [
        (
            "alter table events attach partition high for values from (10) to (20)",
            vec![
                "public.high: it lost the rows that public.events has now",
                "public.events: it has the rows that public.high had",
            ],
        ),
        (
            "alter table events rename n to m",
            vec![r#"public.events: column "n" is "m" now"#],
        ),
        (
            "alter table events add c int default 5",
            vec![r#"public.events: column "c" was added with a value for every row"#],
        ),
        ("alter table events add d float default random()", vec![]),
        (
            "insert into events values (1, 1, 1, 1), (11, 1, 1, 1)",
            vec![],
        ),
        ("alter table events alter d type text", vec![]),
        ("analyze events; create index on events (m)", vec![]),
        (
            "alter table events detach partition high",
            vec![
                "public.events: it lost the rows that public.high has now",
                "public.high: it has the rows that public.events had",
            ],
        ),
        (
            "drop table low",
            vec!["public.events: a partition of it was dropped"],
        ),
        (
            "create table late partition of events for values from (0) to (10); insert into events values (2, 2)",
            vec![],
        ),
        (
            "alter table events rename to happenings",
            vec!["public.happenings: it was public.events"],
        ),
    ] {
        sql.run(ddl);
        assert_eq!(stale(&sql, "stale_partitions"), expected, "{ddl}");
    }
}

#[test]
fn the_same_wal_names_the_same_tables_at_every_reading() {
    let sql = database_with_slot("stale_again");
    sql.run(TABLE);
    sql.run("alter table t rename n to m; insert into t values (7, 7)");
    sql.run("alter table t add c int default 5");
    sql.run("alter table t drop s");
    let peek = || {
        sql.column(
            "select encode(data, 'hex') from pg_logical_slot_peek_binary_changes(\
             'stale_again', null, null, 'output', 'frames')",
        )
    };
    assert_eq!(peek(), peek());
    assert_eq!(stale(&sql, "stale_again").len(), 3);
}

#[test]
fn lines_leave_it_to_the_servers_log() {
    let sql = database_with_slot("stale_lines");
    sql.run(TABLE);
    sql.run("select count(*) from pg_logical_slot_get_changes('stale_lines', null, null)");
    sql.run("alter table t rename n to stale_lines_renamed");
    let lines =
        sql.column("select data from pg_logical_slot_get_changes('stale_lines', null, null)");
    assert_eq!(lines, [""; 0]);
    let log = postgres().log();
    assert!(
        log.contains(r#"column "n" is "stale_lines_renamed" now"#),
        "{log}"
    );
}

#[test]
fn the_client_names_a_stale_table_once_remembers_it_and_forgets_it_with_a_snapshot() {
    let world = World::new("stale_client");
    world.sql.run(TABLE);
    let mut client = world.stream(&[]);
    client.streams();
    world.sql.run("alter table t rename n to m");
    let warning = client.says("table is stale");
    for part in [
        "stale_client.t",
        r#"column \"n\" is \"m\" now"#,
        "headwater snapshot --slot stale_client --table 'stale_client.t'",
    ] {
        assert!(warning.contains(part), "no {part:?} in: {warning}");
    }
    world.sql.run("alter table t rename m to n");
    world.sql.run("update t set n = n + 1 where id = 1");
    world.catches_up();
    let ended = client.terminate();
    ended.expect(0, &[]);
    assert_eq!(
        ended.stderr.matches("table is stale").count(),
        1,
        "{}",
        ended.stderr
    );
    assert_eq!(state(world.kafka, "stale_client")["stale"][0]["table"], "t");

    // It is on record: the next start says so, though nothing of it is streamed again.
    let mut client = world.stream(&[]);
    client.says("table is stale");
    client.streams();
    client.terminate().expect(0, &[]);

    world.sql.run("alter table t rename n to k");
    headwater_tests::Client::run(drop_arguments(&world)).expect(0, &[]);
    let mut client = world.stream(&[]);
    client.streams();
    let ended = client.terminate();
    ended.expect(0, &[]);
    assert!(!ended.stderr.contains("table is stale"), "{}", ended.stderr);
    assert_eq!(state(world.kafka, "stale_client").get("stale"), None);
    world.topic_equals_table("t", "t.id");
}

#[test]
fn a_dropped_table_is_named_once_and_leaves_no_mark_unless_another_has_its_name() {
    let world = World::new("stale_gone");
    world.sql.run(TABLE);
    world.sql.run(
        "create table again (id int primary key);
         create table parts (id int primary key) partition by range (id);
         create table parts_1 partition of parts for values from (0) to (10);",
    );
    let mut client = world.stream(&[]);
    client.streams();
    // What was on record of a table goes with it.
    world.sql.run("alter table t rename n to m");
    client.says("table is stale");
    world.sql.run("drop table t");
    let warning = client.says("table was dropped");
    assert!(warning.contains("stale_gone.t"), "{warning}");
    world.sql.run("drop table parts");
    world.sql.run(
        "begin; drop table again; create table other (id int primary key);
         alter table other rename to again; commit",
    );
    world.catches_up();
    let ended = client.terminate();
    ended.expect(0, &["stale_gone.parts"]);
    let named = |text: &str| ended.stderr.matches(text).count();
    assert_eq!(
        (named("table was dropped"), named("table is stale")),
        (2, 2),
        "{}",
        ended.stderr
    );
    let state = state(world.kafka, "stale_gone");
    let stale = state["stale"].as_array().unwrap();
    let tables: Vec<&str> = stale
        .iter()
        .filter_map(|mark| mark["table"].as_str())
        .collect();
    assert_eq!(tables, ["again"], "{state}");

    let mut client = world.stream(&[]);
    client.streams();
    let ended = client.terminate();
    ended.expect(0, &["stale_gone.again"]);
    assert_eq!(
        ended.stderr.matches("table is stale").count(),
        1,
        "{}",
        ended.stderr
    );
    assert!(
        !ended.stderr.contains("table was dropped"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_key_that_is_lost_while_it_is_streamed_is_noticed() {
    let world = World::new("stale_key_lost");
    world.sql.run(TABLE);
    let mut client = world.stream(&["--unkeyed", "skip"]);
    client.streams();
    // No row is written: the loss alone tells.
    world.sql.run("alter table t drop constraint t_pkey");
    client.says("it has no key any more");
    world
        .sql
        .run("update t set n = 5; delete from t where id = 3");
    world.catches_up();
    client.terminate().expect(0, &[]);
    let records = topic::read(world.kafka, &world.topic("t")).len();
    assert_eq!(records, 3, "those of the snapshot");

    world.sql.run("delete from t where id = 2");
    world
        .stream(&["--unkeyed", "refuse"])
        .wait()
        .expect(1, &["stale_key_lost.t", "ADD PRIMARY KEY"]);
    world.sql.run("alter table t add primary key (id)");
    world
        .stream(&["--unkeyed", "refuse"])
        .wait()
        .expect(5, &["stale_key_lost.t", "has no key"]);
}

#[test]
fn a_table_that_is_dropped_before_it_had_a_row_needs_no_topic() {
    let world = World::new("stale_empty");
    world.sql.run("create table items (id int primary key)");
    let mut client = world.stream(&[]);
    client.streams();
    world.sql.run("create table made (id int primary key)");
    world.sql.run("drop table made");
    world.catches_up();
    client.terminate().expect(0, &["stale_empty.made"]);
    let topics = world.kafka.topics().unwrap();
    assert!(!topics.contains_key(&world.topic("made")), "{topics:?}");

    let mut client = world.stream(&["--no-create-topics"]);
    client.streams();
    world.sql.run("create table late (id int primary key)");
    world.sql.run("drop table late");
    world.sql.run("insert into items values (1)");
    world.catches_up();
    client.terminate().expect(0, &["stale_empty.late"]);
    world.topic_equals_table("items", "t.id");
}

pub(crate) fn drop_arguments(world: &World<'_>) -> Vec<String> {
    let conninfo = world.postgres.conninfo(&world.name);
    let brokers = world.kafka.brokers();
    [
        "drop",
        "-d",
        &conninfo,
        "-S",
        &world.name,
        "-b",
        &brokers,
        "--yes",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// The newest state record of a slot.
pub(crate) fn state(kafka: &Kafka, slot: &str) -> serde_json::Value {
    let key = format!("\"slot\":\"{slot}\"");
    let records = topic::read(kafka, "__headwater.state");
    let newest = records
        .iter()
        .rev()
        .find(|record| record.key.as_ref().is_some_and(|k| k.contains(&key)));
    let value = newest.and_then(|record| record.value.as_deref());
    serde_json::from_str(value.unwrap_or("null")).unwrap()
}
