//! Kills at random moments, under writers: afterwards the topics are the tables.
//!
//! Each test has a server and a broker of its own, kills one part several times outright
//! (half of them during a snapshot) and checks at the end that nothing is missing, nothing
//! is left over and every value is the newest. The client runs as under a supervisor: if
//! it ends with 1, it is started again; any other end fails the test.

use headwater_tests::keeper::Exit;
use headwater_tests::session::Session;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Kafka, Postgres, Random, topic};

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
    client: Option<Client>,
    restarts: u64,
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
            client: None,
            restarts: 0,
            random: Random::from_environment(name),
        }
    }

    /// Starts the client where none runs. One that has ended may have failed, but not
    /// panicked, nor found a gap or anything else that a restart does not mend.
    fn supervise(&mut self) {
        if self.client.as_mut().is_some_and(Client::is_running) {
            return;
        }
        if let Some(client) = self.client.take() {
            let ended = client.wait();
            assert_eq!(ended.exit, Exit::Code(1), "{}", ended.stderr);
            assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
            self.restarts += 1;
        }
        self.client = Some(Client::start([
            "stream",
            "-d",
            &self.postgres.conninfo(self.name),
            "-S",
            self.name,
            "-b",
            &self.kafka.brokers(),
            "--topic-partitions",
            "2",
        ]));
    }

    /// How many records all tables have in Kafka.
    fn written(&self) -> u64 {
        workload::TABLES
            .iter()
            .map(|(table, _)| self.kafka.written(table))
            .sum()
    }

    fn has_slot(&self) -> bool {
        let query = format!(
            "select exists (select from pg_replication_slots where slot_name = '{}')",
            self.name
        );
        self.sql.holds(&query)
    }

    /// Waits until the client has begun what it is to be killed in, and then for a random
    /// number of further records.
    fn reaches_a_random_moment(&mut self, phase: Phase) {
        let more = match phase {
            Phase::Snapshot => {
                if self.has_slot() {
                    self.forget();
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

    /// Makes the next start a first one: no slot, no state.
    fn forget(&mut self) {
        if let Some(client) = self.client.take() {
            client.kill();
        }
        let arguments = [
            "drop",
            "--yes",
            "-d",
            &self.postgres.conninfo(self.name),
            "-S",
            self.name,
            "-b",
            &self.kafka.brokers(),
        ];
        // The server takes a moment to see that the killed client is gone.
        eventually("the slot can be dropped", SOON, || {
            let ended = Client::run(arguments);
            if ended.exit == Exit::Code(0) || !self.has_slot() {
                Ok(())
            } else {
                Err(ended.stderr)
            }
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
        let reached = format!(
            "select coalesce(bool_or(confirmed_flush_lsn >= '{end}'), false) from pg_replication_slots \
             where slot_name = '{}'",
            self.name
        );
        eventually("everything is delivered", SOON * 2, || {
            self.supervise();
            if self.sql.holds(&reached) {
                Ok(())
            } else {
                Err(self
                    .sql
                    .rows("select * from pg_replication_slots")
                    .iter()
                    .map(|row| format!("{row:?}"))
                    .collect::<String>())
            }
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
            self.name, self.restarts
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
        if let Some(client) = pipeline.client.take() {
            client.kill();
        }
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
