//! A first snapshot that never gets to its end, until it does: the topics are the tables.
//!
//! Client, server and walsender are ended in turn, each at a moment of the snapshot that a
//! seed decides, and rows are deleted, changed and inserted in between. What an attempt has
//! sent of rows that are gone before the next one begins must not stay.

use headwater_tests::session::Session;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Kafka, Postgres, Random, slot, topic};

use crate::supervised::Supervised;
use crate::workload;
use crate::world::{assert_same, kafka, rows};

#[test]
fn a_snapshot_killed_a_few_times_ends_equal_to_its_tables() {
    Killed::new("snapshot_kills", 10_000).survives(3);
}

#[test]
#[ignore = "twenty snapshots take their time: make test-long"]
fn a_snapshot_killed_twenty_times_ends_equal_to_its_tables() {
    Killed::new("snapshot_kills_20", 80_000).survives(20);
}

/// What is ended, in turn.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Client,
    Server,
    Walsender,
}

const VICTIMS: [Victim; 3] = [Victim::Client, Victim::Server, Victim::Walsender];

/// When, counted from the end before.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// The snapshot is exported; no row has to have been copied.
    Exported,
    /// So many records were written.
    Records(u64),
}

struct Killed {
    name: &'static str,
    postgres: Postgres,
    kafka: &'static Kafka,
    sql: Session,
    client: Supervised,
    rows: u64,
    random: Random,
}

impl Killed {
    fn new(name: &'static str, rows: u64) -> Self {
        let postgres = Postgres::new();
        postgres
            .database(name)
            .run(&format!("create schema {name}"));
        let sql = session(&postgres, name);
        workload::create_tables(&sql, rows);
        Killed {
            name,
            kafka: kafka(),
            sql,
            postgres,
            client: Supervised::new(name, &[]),
            rows,
            random: Random::from_environment(name),
        }
    }

    fn survives(mut self, kills: usize) {
        let mut too_late = 0;
        let mut killed = 0;
        while killed < kills {
            let victim = VICTIMS[killed % VICTIMS.len()];
            let moment = match self.random.below(6) {
                0 => Moment::Exported,
                _ => Moment::Records(self.random.below(self.rows * 3)),
            };
            let written = self.written();
            self.reaches(moment);
            if self.has_slot() {
                too_late += 1;
                assert!(too_late <= kills * 3, "snapshots end before they are hit");
                self.client.forget(&self.postgres, self.kafka);
                continue;
            }
            self.end(victim);
            killed += 1;
            println!(
                "{}: kill {killed} of {victim:?} at {moment:?}, {} records written since the last",
                self.name,
                self.written().saturating_sub(written)
            );
            self.change_rows(killed);
        }
        eventually("a snapshot ends", SOON * 2, || {
            self.supervise();
            check(self.has_slot(), || "no slot".into())
        });
        self.sql.run("delete from orders where id % 10 = 0");
        let end = self.sql.value("select pg_current_wal_insert_lsn()");
        eventually("everything is delivered", SOON * 2, || {
            self.supervise();
            check(slot::has_passed(&self.sql, self.name, &end), || {
                format!("{end} not reached")
            })
        });
        let mut records = 0;
        for (table, key) in workload::TABLES {
            let all = topic::read(self.kafka, &self.topic(table));
            records += all.len();
            assert_same(&topic::fold(&all), &rows(&self.sql, table, key));
        }
        println!(
            "{}: {kills} kills in snapshots survived, {too_late} came too late, client restarted {} \
             times, {records} records",
            self.name, self.client.restarts
        );
    }

    fn topic(&self, table: &str) -> String {
        format!("{}.{table}", self.name)
    }

    /// How many records all tables have in Kafka.
    fn written(&self) -> u64 {
        let topics = workload::TABLES.iter().map(|(table, _)| self.topic(table));
        topics.map(|topic| self.kafka.written(&topic)).sum()
    }

    fn has_slot(&self) -> bool {
        slot::exists(&self.sql, self.name)
    }

    fn supervise(&mut self) {
        self.client.keep_running(&self.postgres, self.kafka);
    }

    /// Waits for a moment, or for the end of the snapshot.
    fn reaches(&mut self, moment: Moment) {
        let begin = self.written();
        eventually("the moment comes", SOON, || {
            self.supervise();
            let reached = match moment {
                Moment::Exported => self.sql.holds(
                    "select exists (select from pg_replication_slots \
                                    where temporary and confirmed_flush_lsn is not null)",
                ),
                Moment::Records(records) => self.written().saturating_sub(begin) >= records,
            };
            check(reached || self.has_slot(), || format!("no {moment:?} yet"))
        });
    }

    fn end(&mut self, victim: Victim) {
        match victim {
            Victim::Client => self.client.kill(),
            Victim::Server => {
                self.postgres.crash();
                self.postgres.start();
                self.sql = session(&self.postgres, self.name);
            }
            Victim::Walsender => self.sql.run(
                "select pg_terminate_backend(pid) from pg_stat_activity \
                 where backend_type = 'walsender'",
            ),
        }
    }

    /// Some of the rows that were copied are gone before the next attempt, and others come.
    fn change_rows(&mut self, round: usize) {
        let (n, of) = (self.random.below(7), 7);
        self.sql.run(&format!(
            "delete from orders where id % {of} = {n};
             delete from lines where n = {n};
             update notes set id = id + {round} * 1000000 where id % {of} = {n} and id < 1000000"
        ));
        for _ in 0..20 {
            let transaction = workload::transaction(&mut self.random);
            if self.sql.attempt(&transaction).is_err() {
                self.sql.run("rollback");
            }
        }
    }
}

fn session(postgres: &Postgres, name: &str) -> Session {
    let session = postgres.session(name);
    session.run(&format!("set search_path = {name}, public"));
    session
}
