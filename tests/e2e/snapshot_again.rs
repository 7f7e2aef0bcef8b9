//! `headwater snapshot`: tables are copied again into a stream that goes on meanwhile.

use std::collections::BTreeMap;

use headwater_tests::session::Session;
use headwater_tests::{Client, Random, topic};

use crate::workload::{self, Writers};
use crate::world::World;

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

    /// The records of a table's topic by what they say in `hw.op`.
    fn operations(&self, table: &str) -> BTreeMap<String, usize> {
        let mut counted = BTreeMap::new();
        for record in topic::read(self.kafka, &self.topic(table)) {
            let op = record.header("hw.op").to_owned();
            *counted.entry(op).or_default() += 1;
        }
        counted
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
fn a_copy_under_writers_leaves_every_topic_equal_to_its_table() {
    const ROWS: u64 = 30_000;
    let world = World::new("again_load");
    // Unqualified names of the workload are those of the world's schema.
    world
        .sql
        .run("alter database again_load set search_path = again_load, public");
    workload::create_tables(&world.sql, ROWS);
    let mut client = world.stream(&["--topic-partitions", "2"]);
    client.streams();
    let conninfo = world.postgres.local_conninfo("again_load");
    let mut random = Random::from_environment("again_load");
    let writers = Writers::start(3, &mut random, move || Session::connect(&conninfo));
    for _ in 0..2 {
        world.copies(&["-t", "again_load.*"]).expect(0, &[]);
    }
    let transactions = writers.stop();
    world.catches_up();
    let read = world.operations("orders")["r"];
    println!("{transactions} transactions, {read} records of rows read of orders");
    for (table, key) in workload::TABLES {
        world.topic_equals_table(table, key);
    }
    client.terminate().expect(0, &[]);
}
