//! The slot advances while its own tables rest and others are written.
//!
//! A slot that stands still keeps the WAL of the whole server. A server that reads WAL
//! without end, all of it for others, says nothing by itself: the client asks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use headwater_tests::installation::output;
use headwater_tests::postgres::Options;
use headwater_tests::session::Session;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Postgres, slot};

use crate::world::{World, kafka};

const MIB: u64 = 1 << 20;

/// How far the slot may stay behind the end of the WAL.
const LAG: u64 = 64 * MIB;

/// The same where other tests may hold the client up: a slot that stands still is behind by all
/// that is written.
const LAG_BESIDE_OTHERS: u64 = 120 * MIB;

/// How long after the load the server may still keep more: it notes where decoding can
/// begin every 15 seconds, and a note counts when the next one after it is confirmed.
const SETTLED: Duration = Duration::from_secs(40);

/// Rows of a transaction, of a kilobyte each.
const ROWS: u64 = 8_000;

/// What is written that the client does not ask for.
#[derive(Clone, Copy, Debug)]
enum Elsewhere {
    /// A table that `-t` does not name.
    Table,
    /// A table of another database.
    Database,
    /// Rows of the captured table, by an operation that is not asked for.
    Operation,
}

impl Elsewhere {
    /// Makes what is written and returns the session to write in.
    fn prepare(self, world: &World<'_>) -> Session {
        match self {
            Elsewhere::Table => {
                world.sql.run("create table other (id int, filler text)");
                world.session()
            }
            Elsewhere::Database => {
                let name = format!("{}_other", world.name);
                let sql = world.postgres.database(&name);
                sql.run("create table other (id int, filler text)");
                sql
            }
            Elsewhere::Operation => world.session(),
        }
    }

    /// One transaction.
    fn write(self, sql: &Session) {
        match self {
            Elsewhere::Table | Elsewhere::Database => {
                sql.run(&format!(
                    "insert into other select n, repeat('x', 1000) from generate_series(1, {ROWS}) n"
                ));
                // The table stays small, whatever is written to it.
                if sql.holds("select pg_relation_size('other') > 256 << 20") {
                    sql.run("truncate other");
                }
            }
            Elsewhere::Operation => {
                sql.run("update captured set filler = repeat('x', 1000)");
            }
        }
    }
}

/// When the server notes where decoding can begin.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Notes {
    /// In its own time.
    Wait,
    /// With every checkpoint: the test makes some.
    Hurry,
}

#[test]
fn the_slot_follows_what_others_write() {
    let server = Options::default().setting("max_wal_size", "256MB").start();
    for (elsewhere, name) in [
        (Elsewhere::Table, "idle_table"),
        (Elsewhere::Database, "idle_database"),
        (Elsewhere::Operation, "idle_operation"),
    ] {
        let load = Load::run(&server, name, elsewhere, 160 * MIB, Notes::Hurry);
        println!("idle: {elsewhere:?}: {load}");
        assert!(load.lag < LAG_BESIDE_OTHERS, "{elsewhere:?}: {load}");
    }
}

#[test]
#[ignore = "ten gigabytes: make test-idle"]
fn the_slot_follows_ten_gigabytes_that_others_write() {
    let server = Options::default().setting("max_wal_size", "256MB").start();
    for (elsewhere, name) in [
        (Elsewhere::Table, "idle_much_table"),
        (Elsewhere::Database, "idle_much_database"),
    ] {
        let load = Load::run(&server, name, elsewhere, 10 << 30, Notes::Wait);
        println!("idle: {elsewhere:?}: {load}");
        assert!(load.lag < LAG, "{elsewhere:?}: {load}");
    }
}

/// The server decodes all of it at its commit, and the plugin writes nothing meanwhile.
#[test]
#[ignore = "five million rows: make test-idle"]
fn a_large_transaction_elsewhere_does_not_cost_the_connection() {
    let name = "idle_transaction";
    let server = Options::default()
        .setting("max_wal_size", "256MB")
        .setting("wal_sender_timeout", "2s")
        .start();
    let world = World::on(&server, kafka(), name);
    world.sql.run(
        "create table captured (id int primary key);
         create table other (id int, filler text)",
    );
    world.sql.run(&format!(
        "select pg_create_logical_replication_slot('{name}_taciturn', 'headwater')"
    ));
    let mut client = world.stream(&["-t", "idle_transaction.captured"]);
    client.streams();
    let reader = format!("select active_pid from pg_replication_slots where slot_name = '{name}'");
    let before = world.sql.value(&reader);
    world
        .sql
        .run("insert into other select n, 'x' from generate_series(1, 5000000) n");
    let begun = Instant::now();
    let end = world.sql.value("select pg_current_wal_insert_lsn()");
    eventually("the slot passes the transaction", 10 * SOON, || {
        assert!(client.is_running(), "the client has ended");
        check(slot::has_passed(&world.sql, name, &end), || {
            format!("{end} not reached")
        })
    });
    println!(
        "idle: a transaction of 5,000,000 rows is passed by in {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    assert_eq!(world.sql.value(&reader), before, "{}", client.stderr());
    client.terminate().expect(0, &[]);

    // One that says nothing unless it is asked: that the plugin sees to.
    let lines = output(
        server
            .pg_recvlogical(name, &format!("{name}_taciturn"), &end)
            .args(["--status-interval", "0"])
            .args(["-o", "tables=idle_transaction.captured"]),
    );
    assert_eq!(lines, "");
}

/// What was seen of a slot while others wrote.
#[derive(Debug)]
struct Load {
    written: u64,
    took: Duration,
    /// From the confirmed position to the end of the WAL, at most.
    lag: u64,
    /// The WAL that the slot kept at most.
    retained: u64,
    /// How long after the load the slot kept less than [`LAG`].
    settled: Duration,
}

impl Load {
    /// Lets a client follow a slot while `bytes` of WAL are written elsewhere.
    fn run(server: &Postgres, name: &str, elsewhere: Elsewhere, bytes: u64, notes: Notes) -> Self {
        let world = World::on(server, kafka(), name);
        world.sql.run(&format!(
            "create table captured (id int primary key, filler text);
             insert into captured select n, 'first' from generate_series(1, {ROWS}) n"
        ));
        let writer = elsewhere.prepare(&world);
        let table = format!("{name}.captured");
        let mut client = world.stream(&["-t", &table, "--operations", "insert,delete"]);
        client.streams();
        world.catches_up();

        let done = AtomicBool::new(false);
        let begun = Instant::now();
        let (written, took, (lag, retained)) = std::thread::scope(|scope| {
            let watch = scope.spawn(|| worst(server, name, &done));
            let start = writer.value("select pg_current_wal_lsn()");
            let written = loop {
                elsewhere.write(&writer);
                let written = number(
                    &writer,
                    &format!("select pg_wal_lsn_diff(pg_current_wal_lsn(), '{start}')"),
                );
                if written >= bytes {
                    break written;
                }
            };
            let took = begun.elapsed();
            done.store(true, Ordering::Relaxed);
            (written, took, watch.join().unwrap())
        });
        let settled = settles(&world, &mut client, notes);
        client.terminate().expect(0, &[]);
        world.drop_slot();
        Load {
            written,
            took,
            lag,
            retained,
            settled,
        }
    }
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} MiB in {:.1} s; confirmed position at most {} MiB behind, {} MiB of WAL kept at \
             most, less than {} MiB {:.1} s after the load",
            self.written / MIB,
            self.took.as_secs_f64(),
            self.lag / MIB,
            self.retained / MIB,
            LAG / MIB,
            self.settled.as_secs_f64()
        )
    }
}

/// The largest distances of confirmed and restart position to the end of the WAL.
fn worst(server: &Postgres, name: &str, done: &AtomicBool) -> (u64, u64) {
    let sql = server.session(name);
    let mut worst = (0, 0);
    while !done.load(Ordering::Relaxed) {
        let (lag, retained) = distances(&sql, name);
        worst = (worst.0.max(lag), worst.1.max(retained));
        std::thread::sleep(Duration::from_millis(10));
    }
    worst
}

/// Waits until the slot keeps less than [`LAG`] and returns how long it took.
fn settles(world: &World<'_>, client: &mut Client, notes: Notes) -> Duration {
    let begun = Instant::now();
    eventually("the slot lets go of the WAL", SETTLED, || {
        assert!(client.is_running(), "the client has ended");
        if notes == Notes::Hurry {
            world.sql.run("checkpoint");
        }
        let (_, retained) = distances(&world.sql, &world.name);
        check(retained < LAG, || format!("{} MiB kept", retained / MIB))
    });
    begun.elapsed()
}

/// Bytes from the confirmed and from the restart position to the end of the WAL.
fn distances(sql: &Session, slot: &str) -> (u64, u64) {
    let row = sql.rows(&format!(
        "select pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn), \
                pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) \
         from pg_replication_slots where slot_name = '{slot}'"
    ));
    let bytes = |column: usize| -> u64 {
        let text = row[0][column].as_ref().unwrap();
        // A position that was confirmed after the end was asked for is ahead of it.
        u64::try_from(text.parse::<i64>().unwrap()).unwrap_or(0)
    };
    (bytes(0), bytes(1))
}

fn number(sql: &Session, query: &str) -> u64 {
    sql.value(query).parse().unwrap()
}
