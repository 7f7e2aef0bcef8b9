//! `headwater snapshot`: tables are copied again into a stream that goes on meanwhile.

use headwater_tests::session::Session;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Postgres, Random, topic};

use crate::poison::UNPRINTABLE;
use crate::stale::state;
use crate::workload::{self, Writers};
use crate::world::{World, kafka};

impl World<'_> {
    /// The arguments of `headwater snapshot` for the world's stream.
    fn copy_arguments(&self, more: &[&str]) -> Vec<String> {
        let conninfo = self.postgres.conninfo(&self.name);
        let brokers = self.kafka.brokers();
        let mut arguments = vec![
            "snapshot", "-d", &conninfo, "-S", &self.name, "-b", &brokers,
        ];
        arguments.extend(more);
        arguments.into_iter().map(str::to_owned).collect()
    }

    /// Copies tables again and waits for it.
    #[track_caller]
    fn copies(&self, more: &[&str]) -> headwater_tests::client::Ended {
        Client::run(self.copy_arguments(more))
    }

    /// Waits until this many copies are on record as ended, and returns them.
    #[track_caller]
    fn ends(&self, count: usize) -> Vec<serde_json::Value> {
        eventually("the copy ends", SOON, || {
            let state = state(self.kafka, &self.name);
            let ended = state["runs"]["ended"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            if ended.len() >= count {
                Ok(ended)
            } else {
                Err(state.to_string())
            }
        })
    }
}

#[test]
fn a_stale_table_is_mended_by_a_copy_into_the_running_stream() {
    let world = World::new("again_stale");
    world.sql.run(
        "create table t (id int primary key, n int);
         insert into t select n, n from generate_series(1, 5000) n",
    );
    let mut client = world.stream(&[]);
    client.streams();
    world.sql.run("alter table t rename n to m");
    client.says("table is stale");
    world
        .copies(&["-t", "again_stale.t"])
        .expect(0, &["copied: the topics are what the tables hold"]);
    assert!(
        client.stderr().contains("copied again"),
        "{}",
        client.stderr()
    );
    world.topic_equals_table("t", "t.id");
    client.terminate().expect(0, &[]);

    // The mark is gone from the record.
    let mut client = world.stream(&[]);
    client.streams();
    let ended = client.terminate();
    assert!(!ended.stderr.contains("table is stale"), "{}", ended.stderr);
}

#[test]
fn what_can_not_be_copied_is_refused_by_name() {
    let world = World::new("again_refused");
    world.sql.run(
        "create table t (id int primary key); create table u (n int); create table v (id int primary key)",
    );
    world
        .copies(&["-t", "again_refused.t"])
        .expect(1, &["slot \"again_refused\" does not exist"]);
    let mut client = world.stream(&["--unkeyed", "skip", "-T", "again_refused.v"]);
    client.streams();
    world
        .copies(&["-t", "again_refused.nothing"])
        .expect(1, &["no table matches pattern again_refused.nothing"]);
    world
        .copies(&["-t", "again_refused.*"])
        .expect(1, &["have no order to copy them by: again_refused.u"]);
    world
        .copies(&["-t", "again_refused.v"])
        .expect(1, &["no table that is streamed and has a key matches"]);
    client.terminate().expect(0, &[]);
}

#[test]
fn a_copy_under_writers_survives_kills_and_goes_on_where_it_was() {
    const ROWS: u64 = 30_000;
    // More of them take longer and find more.
    let kills = std::env::var("HW_TEST_KILLS").map_or(3, |kills| kills.parse().unwrap());
    let world = World::new("again_load");
    // Unqualified names of the workload are those of the world's schema.
    world
        .sql
        .run("alter database again_load set search_path = again_load, public");
    workload::create_tables(&world.sql, ROWS);
    let arguments = ["--topic-partitions", "2"];
    let mut client = world.stream(&arguments);
    client.streams();
    let conninfo = world.postgres.local_conninfo("again_load");
    let mut random = Random::from_environment("again_load");
    let writers = Writers::start(2, &mut random, move || Session::connect(&conninfo));
    world
        .copies(&["-t", "again_load.*", "--no-wait"])
        .expect(0, &[]);
    for _ in 0..kills {
        let tables = workload::TABLES.iter();
        let written = || -> u64 {
            let topics = tables.clone().map(|(table, _)| world.topic(table));
            topics.map(|topic| world.kafka.written(&topic)).sum()
        };
        let (begin, more) = (written(), random.below(ROWS));
        eventually("records are written", SOON, || {
            let now = written().saturating_sub(begin);
            check(now >= more, || format!("{now} of {more}"))
        });
        client.kill();
        client = eventually("the slot is free again", SOON, || {
            let mut client = world.stream(&arguments);
            client.try_streams().map(|()| client)
        });
        // What a thread of the client does in the server may end too.
        world.sql.run(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = \
             current_database() and query like '%headwater_chunk%' and pid <> pg_backend_pid()",
        );
    }
    let ended = world.ends(1);
    assert_eq!(ended[0].get("failures"), None, "{ended:?}");
    let transactions = writers.stop();
    world.catches_up();
    println!("{transactions} transactions, {ended:?}");
    for (table, key) in workload::TABLES {
        world.topic_equals_table(table, key);
    }
    client.terminate().expect(0, &[]);
}

#[test]
fn rows_that_are_gone_get_tombstones() {
    let world = World::new("again_ghosts");
    world.sql.run(
        "create table t (id int primary key, n int);
         insert into t select n, n from generate_series(1, 300) n",
    );
    // Messages of users are left out; Headwater's own are not.
    let mut client = world.stream(&[
        "--truncate",
        "ignore",
        "--topic-partitions",
        "3",
        "--operations",
        "insert,update,delete,truncate",
    ]);
    client.streams();
    world
        .sql
        .run("truncate t; insert into t select n, -n from generate_series(1, 400, 7) n");
    client.says("its rows stay in the topic");
    world
        .copies(&["-t", "again_ghosts.t"])
        .expect(0, &["tombstones=257"]);
    world.topic_equals_table("t", "t.id");
    client.terminate().expect(0, &[]);
}

#[test]
fn rows_of_single_keys_are_sent_again_or_buried() {
    let world = World::new("again_keys");
    world.sql.run(
        "create table t (id int primary key, n int);
         insert into t select n, n from generate_series(1, 5) n",
    );
    let messages = "again_keys.messages";
    let mut client = world.stream(&["--truncate", "ignore", "--message-topic", messages]);
    client.streams();
    world
        .sql
        .run("truncate t; insert into t values (1, 10), (3, 30)");
    // The last is none of this table's keys.
    let request = r#"{"slot":"again_keys","id":"1","table":{"schema":"again_keys","name":"t"},
        "keys":["{\"id\":1}","{\"id\":2}","{\"id\":\"x\"}"]}"#;
    let emit = |prefix: &str, content: &str| {
        let (prefix, content) = (prefix.to_owned(), content.replace('\'', "''"));
        world.sql.run(&format!(
            "select pg_logical_emit_message(true, '{prefix}', '{content}')"
        ));
    };
    emit("headwater.snapshot", request);
    // Of another stream, of no release, and of another kind.
    emit("headwater.snapshot", r#"{"slot":"other","id":"2"}"#);
    emit("headwater.snapshot", "secret");
    emit("headwater.watermark", "secret");
    emit("headwater.of-tomorrow", "secret");
    let ended = world.ends(1);
    assert_eq!(ended[0]["sent"]["rows"], 1, "{ended:?}");
    assert_eq!(ended[0]["sent"]["tombstones"], 2, "{ended:?}");
    let topic = world.folded("t");
    let ids: Vec<&str> = topic.keys().map(String::as_str).collect();
    assert_eq!(
        ids,
        [r#"{"id":1}"#, r#"{"id":3}"#, r#"{"id":4}"#, r#"{"id":5}"#]
    );
    let read = topic::read(world.kafka, &world.topic("t"));
    let last = read
        .iter()
        .rfind(|record| record.key.as_deref() == Some(r#"{"id":1}"#));
    assert_eq!(last.map(|record| record.header("hw.op")), Some("r"));
    let ended = client.terminate();
    ended.expect(0, &["cannot be read and is left out"]);
    assert!(!ended.stderr.contains("secret"), "{}", ended.stderr);
    let messages = topic::read(world.kafka, messages);
    assert_eq!(messages.len(), 0, "none of them is the application's");
}

#[test]
fn tables_of_every_shape_are_copied_in_the_order_of_their_keys() {
    let world = World::new("again_shapes");
    world.sql.run(
        "create extension citext schema public;
         create table names (name public.citext, n numeric, at timestamptz, primary key (name, n, at));
         insert into names select case n % 2 when 0 then 'k' else 'K' end || n % 50, n / 3.0,
           '2020-01-01'::timestamptz + n * interval '1 hour' from generate_series(1, 3000) n;
         insert into names values ('z', 'NaN', 'infinity'), ('z', 'NaN', '-infinity');
         create table parts (id int, region text collate \"C\", body text, primary key (region, id))
           partition by list (region);
         create table parts_a partition of parts for values in ('a');
         create table parts_b partition of parts for values in ('b') partition by range (id);
         create table parts_b_low partition of parts_b for values from (0) to (700);
         create table parts_b_high partition of parts_b for values from (700) to (9000);
         insert into parts select n, case when n % 3 = 0 then 'a' else 'b' end, repeat('x', 6000)
           from generate_series(1, 3000) n",
    );
    let mut client = world.stream(&["--truncate", "ignore"]);
    client.streams();
    // Nothing of what the topics have is worth anything.
    world.sql.run("begin; create temp table kept on commit drop as select * from names; truncate names; insert into names select * from kept where n > 30; commit");
    world.sql.run("alter table parts rename body to text");
    client.says("table is stale");
    world
        .copies(&["-t", "again_shapes.*"])
        .expect(0, &["copied: the topics are what the tables hold"]);
    world.topic_equals_table("names", "t.name, t.n, t.at");
    world.topic_equals_table("parts", "t.region, t.id");
    client.terminate().expect(0, &[]);
}

#[test]
fn a_row_that_cannot_be_encoded_does_not_stop_the_stream() {
    let world = World::new("again_poison");
    world.sql.run(UNPRINTABLE);
    world.sql.run(
        "create table t (id int primary key, value unprintable);
         insert into t values (1, null), (2, '1'), (3, null);
         create table u (id int primary key); insert into u values (1)",
    );
    let mut client = world.stream(&["--snapshot", "never"]);
    client.streams();
    world.copies(&["-t", "again_poison.*"]).expect(
        1,
        &["again_poison.t: a row of it cannot be encoded", "\"value\""],
    );
    world.topic_equals_table("u", "t.id");
    world.sql.run("insert into t values (4, null)");
    world.catches_up();
    client
        .terminate()
        .expect(0, &["a table is not copied again"]);

    let mut client = world.stream(&["--on-error", "quarantine"]);
    client.streams();
    world
        .copies(&["-t", "again_poison.t"])
        .expect(1, &["again_poison.t: still stale"]);
    let topic = world.folded("t");
    let ids: Vec<&str> = topic.keys().map(String::as_str).collect();
    assert_eq!(ids, [r#"{"id":1}"#, r#"{"id":3}"#, r#"{"id":4}"#]);
    world.sql.run("update t set value = null");
    world.catches_up();
    world
        .copies(&["-t", "again_poison.t"])
        .expect(0, &["copied: the topics are what the tables hold"]);
    world.topic_equals_table("t", "t.id");
    client.terminate().expect(0, &["kept as a dead letter"]);
}

#[test]
fn what_is_streamed_and_not_yet_visible_is_waited_for() {
    let postgres = Postgres::new();
    let world = World::on(&postgres, kafka(), "again_unseen");
    world
        .sql
        .run("create table t (id int primary key, n int); insert into t values (1, 1)");
    let mut client = world.stream(&[]);
    client.streams();
    world
        .sql
        .run("alter system set synchronous_standby_names = 'nobody'");
    world.sql.run("select pg_reload_conf()");
    world.sql.run("set synchronous_commit = local");
    let update = world.session();
    let writer = std::thread::spawn(move || update.run("update t set n = 2"));
    eventually("the update is streamed", SOON, || {
        let sent = world.folded("t");
        check(sent.values().any(|row| row.contains("2")), || {
            format!("{sent:?}")
        })
    });
    assert_eq!(world.sql.value("select n from t"), "1", "nobody sees it");
    // It waits for the standby too: no transaction ends behind the update, so that a snapshot
    // does not list it.
    let request = world.session();
    let asker = std::thread::spawn(move || {
        request.run(
            r#"select pg_logical_emit_message(true, 'headwater.snapshot', '{"slot":"again_unseen","id":"1"}')"#,
        )
    });
    let waiting = client.says("waiting for running transactions to end before tables are copied");
    assert!(waiting.contains("process "), "{waiting}");
    world
        .sql
        .run("alter system reset synchronous_standby_names");
    world.sql.run("select pg_reload_conf()");
    writer.join().unwrap();
    asker.join().unwrap();
    world.ends(1);
    world.topic_equals_table("t", "t.id");
    client.terminate().expect(0, &[]);
}

#[test]
fn a_first_snapshot_in_chunks_goes_on_after_a_kill() {
    let world = World::new("again_first");
    world.sql.run(
        "create table t (id int primary key, body text);
         insert into t select n, repeat('x', 500) from generate_series(1, 40000) n;
         create table u (id int primary key); insert into u values (1)",
    );
    let arguments = ["--snapshot-mode", "chunked"];
    let mut client = world.stream(&arguments);
    client.says("copying again");
    let topic = world.topic("t");
    eventually("a chunk arrives", SOON, || {
        check(world.kafka.written(&topic) > 5_000, || "not yet".into())
    });
    client.kill();
    world
        .sql
        .run("delete from t where id % 10 = 0; insert into t values (0, 'new')");
    let client = eventually("the slot is free again", SOON, || {
        let mut client = world.stream(&[]);
        client.try_streams().map(|()| client)
    });
    let ended = world.ends(1);
    assert_eq!(ended[0].get("failures"), None, "{ended:?}");
    world.catches_up();
    world.topic_equals_table("t", "t.id");
    world.topic_equals_table("u", "t.id");
    client.terminate().expect(0, &[]);
}
