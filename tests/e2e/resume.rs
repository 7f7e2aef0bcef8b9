//! Kills at random moments, under writers: afterwards the topics are the tables.
//!
//! Each test has a server and a broker of its own, kills one part several times outright
//! (half of them during a snapshot) and checks at the end that nothing is missing, nothing
//! is left over and every value is the newest. The client runs as under a supervisor: if
//! it ends with 1, it is started again; any other end fails the test.

use headwater_tests::session::Session;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Kafka, Postgres, Random, slot, topic};

use crate::supervised::Supervised;
use crate::workload::{self, Writers};
use crate::world::{assert_same, rows};

/// The torture kills more, and more often.
const KILLS: u64 = 4;
/// So many rows a table that a snapshot takes long enough to be hit.
const ROWS: u64 = 40_000;

/// What a kill aims at. A snapshot may end, and a stream begin, before it hits.
#[derive(Clone, Copy)]
enum Phase {
    Snapshot,
    Stream,
}

/// A pipeline that is being killed. The parts are owned, as a killed broker is started
/// again in its place.
struct Pipeline {
    name: &'static str,
    postgres: Postgres,
    kafka: Kafka,
    sql: Session,
    client: Supervised,
    random: Random,
}

impl Pipeline {
    fn new(name: &'static str) -> Self {
        let postgres = Postgres::new();
        let sql = postgres.database(name);
        workload::create_tables(&sql, ROWS);
        Pipeline {
            name,
            kafka: Kafka::new(),
            sql,
            postgres,
            client: Supervised::new(name, &["--topic-partitions", "2"]),
            random: Random::from_environment(name),
        }
    }

    fn supervise(&mut self) {
        self.client.keep_running(&self.postgres, &self.kafka);
    }

    /// How many records all tables have in Kafka.
    fn written(&self) -> u64 {
        workload::TABLES
            .iter()
            .map(|(table, _)| self.kafka.written(table))
            .sum()
    }

    fn has_slot(&self) -> bool {
        slot::exists(&self.sql, self.name)
    }

    /// Waits until the client has begun what it is to be killed in, and then for a random
    /// number of further records.
    fn reaches_a_random_moment(&mut self, phase: Phase) {
        let more = match phase {
            Phase::Snapshot => {
                if self.has_slot() {
                    self.client.forget(&self.postgres, &self.kafka);
                }
                self.random.below(ROWS * 2)
            }
            Phase::Stream => {
                eventually("the stream begins", SOON, || {
                    self.supervise();
                    check(self.has_slot(), || "no slot yet".into())
                });
                self.random.below(5_000)
            }
        };
        let begin = self.written();
        eventually("records arrive", SOON, || {
            self.supervise();
            // A broker that does not answer in time seems to have none.
            let written = self.written().saturating_sub(begin);
            check(written >= more, || format!("{written} of {more}"))
        });
    }

    /// Runs the whole: kills under writers, half of them in snapshots, then compares.
    fn survives(mut self, mut kill: impl FnMut(&mut Self)) {
        let conninfo = self.postgres.local_conninfo(self.name);
        let writers = Writers::start(3, &mut self.random, move || Session::connect(&conninfo));
        let (mut in_snapshot, mut in_stream) = (0, 0);
        for point in 0..KILLS {
            let phase = if point % 2 == 0 {
                Phase::Snapshot
            } else {
                Phase::Stream
            };
            self.reaches_a_random_moment(phase);
            let streaming = self.has_slot();
            println!(
                "{}: kill {point} with {} records written, in the {}",
                self.name,
                self.written(),
                if streaming { "stream" } else { "snapshot" }
            );
            if streaming {
                in_stream += 1
            } else {
                in_snapshot += 1
            }
            kill(&mut self);
            self.sql = reconnected(&self.postgres, self.name);
        }
        assert!(
            in_snapshot > 0 && in_stream > 0,
            "{in_snapshot} kills in snapshots, {in_stream} in streams"
        );

        let transactions = writers.stop();
        let end = self.sql.value("select pg_current_wal_insert_lsn()");
        eventually("everything is delivered", SOON * 2, || {
            self.supervise();
            check(slot::has_passed(&self.sql, self.name, &end), || {
                let slots = self.sql.rows("select * from pg_replication_slots");
                format!("{end} not reached by {slots:?}")
            })
        });
        let mut records = 0;
        for (table, key) in workload::TABLES {
            let all = topic::read(&self.kafka, table);
            records += all.len();
            assert_same(&topic::fold(&all), &rows(&self.sql, table, key));
        }
        println!(
            "{}: {in_snapshot} kills in snapshots and {in_stream} in streams survived, client restarted {} times, \
             {transactions} transactions, {records} records",
            self.name, self.client.restarts
        );
    }
}

/// A session after the server may have restarted.
fn reconnected(postgres: &Postgres, database: &str) -> Session {
    eventually("Postgres is back", SOON, || {
        let session = Session::connect(&postgres.local_conninfo(database))?;
        session.attempt("select 1").map(|_| session)
    })
}

#[test]
fn the_topics_are_the_tables_after_kills_of_the_client() {
    Pipeline::new("kill_client").survives(|pipeline| {
        pipeline.client.kill();
    });
}

#[test]
fn the_topics_are_the_tables_after_kills_of_the_broker() {
    Pipeline::new("kill_broker").survives(|pipeline| {
        pipeline.kafka.kill();
        pipeline.kafka.start();
    });
}

#[test]
fn the_topics_are_the_tables_after_kills_of_the_walsender() {
    Pipeline::new("kill_walsender").survives(|pipeline| {
        let walsender = format!(
            "select pid from pg_stat_replication where pid in \
             (select active_pid from pg_replication_slots where database = '{}')",
            pipeline.name
        );
        let pid = eventually("a walsender", SOON, || {
            pipeline.supervise();
            pipeline
                .sql
                .rows(&walsender)
                .into_iter()
                .next()
                .ok_or("none")
        });
        let pid = pid[0].as_deref().and_then(|pid| pid.parse().ok()).unwrap();
        pipeline.postgres.kill_backend(pid);
        // The postmaster ends every other backend too.
        eventually("the server restarts", SOON, || {
            match pipeline.sql.attempt("select 1") {
                Ok(_) => Err("not yet"),
                Err(_) => Ok(()),
            }
        });
    });
}
