//! Memory is bounded in bytes, whatever a transaction is.
//!
//! The server decodes a transaction at its commit and keeps no more of it in memory than
//! `logical_decoding_work_mem`, whatever the plugin. So what the plugin itself needs is the
//! growth of a walsender beyond that setting. What the setting does not count is the
//! server's bookkeeping for each subtransaction; it is measured with `pgoutput` from a copy
//! of the slot, which writes nothing when it is given an empty publication.

use std::io::Read;
use std::process::{Child, Stdio};
use std::time::Instant;

use headwater_tests::postgres::Options;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, MemoryWatch, Postgres, topic};
use rdkafka::Message;

use crate::world::{World, kafka};

/// Bytes by which a process may grow.
const BOUND: u64 = 64 << 20;

/// Changes of the transactions.
const CHANGES: u64 = 1_000_000;

/// A million rows in one transaction.
#[test]
fn a_million_rows_in_one_transaction_take_no_more_memory_than_one() {
    let server = Options::default()
        .setting("max_wal_size", "8GB")
        .setting("logical_decoding_work_mem", "64MB")
        .start();
    let grown = grow(
        &server,
        "bounds_rows",
        &format!(
            "insert into t select n, 'row ' || n, n / 7.0, now() from generate_series(1, {CHANGES}) n"
        ),
    );
    grown.print("a million rows in one transaction", 64 << 20);
    assert!(grown.client < BOUND, "{grown:?}");
    assert!(grown.walsender < (64 << 20) + BOUND, "{grown:?}");
}

/// A million subtransactions of a row each.
///
/// `logical_decoding_work_mem` is large here: servers before 17 look at every
/// subtransaction for each one that they spill to disk, and a million would take days.
#[test]
#[ignore = "a million subtransactions take their time: make test-bounds"]
fn a_million_subtransactions_take_no_more_memory_than_the_server_needs_for_them() {
    let server = Options::default()
        .setting("max_wal_size", "8GB")
        .setting("logical_decoding_work_mem", "2GB")
        .start();
    let grown = grow(
        &server,
        "bounds_subtransactions",
        &format!(
            "do $$ begin
                 for n in 1..{CHANGES} loop
                     begin
                         insert into t values (n, 'row ' || n, n / 7.0, now());
                     exception when division_by_zero then null;
                     end;
                 end loop;
             end $$"
        ),
    );
    grown.print("a million subtransactions of a row each", 2 << 30);
    assert!(grown.client < BOUND, "{grown:?}");
    assert!(grown.walsender < grown.baseline + BOUND, "{grown:?}");
}

/// Five gigabytes in one transaction, in rows of ten kilobytes.
///
/// They stand in the table as they are and a batch of them compresses well, so that the
/// broker's log stays small; the WAL and what the server spills of the transaction take
/// three times five gigabytes with the table.
#[test]
#[ignore = "sixteen gigabytes of disk: make test-bounds"]
fn a_transaction_of_five_gigabytes_passes_through_a_client_of_128_mebibytes() {
    const ROWS: u64 = 500_000;
    let server = Options::default().setting("max_wal_size", "1GB").start();
    let world = World::on(&server, kafka(), "bounds_bytes");
    world.sql.run(
        "create table t (id int primary key, filler text);
         alter table t alter column filler set storage external",
    );
    let mut client = world.stream(&[]);
    client.streams();
    let (of_client, of_walsender) = (
        MemoryWatch::of(client.pid()),
        MemoryWatch::of(walsender(&world, &world.name)),
    );
    world.sql.run(&format!(
        "insert into t select n, repeat(md5(n::text), 320) from generate_series(1, {ROWS}) n"
    ));
    let committed = Instant::now();
    let end = world.sql.value("select pg_current_wal_insert_lsn()");
    catches_up(&world, &mut client, &end);
    let took = committed.elapsed();
    let (peak, walsender) = (of_client.peak(), of_walsender.growth());
    client.terminate().expect(0, &[]);

    let (mut bytes, mut arrived) = (0, vec![0_u8; ROWS as usize]);
    topic::for_each(world.kafka, &world.topic("t"), |message| {
        bytes += message.payload_len() as u64;
        let key = std::str::from_utf8(message.key().unwrap_or_default()).unwrap();
        let digits = key.trim_start_matches("{\"id\":").trim_end_matches('}');
        arrived[digits.parse::<usize>().unwrap() - 1] += 1;
    })
    .unwrap();
    println!(
        "bounds: {} MiB in one transaction of {ROWS} rows, {} s after its commit: client at most \
         {} MiB, walsender grew by {} MiB",
        bytes >> 20,
        took.as_secs(),
        peak >> 20,
        walsender >> 20
    );
    assert!(bytes > 5_000_000_000, "{bytes} bytes have arrived");
    assert!(arrived.iter().all(|&times| times == 1), "each row once");
    assert!(peak < 128 << 20, "the client had {peak} bytes");
    // What the server keeps of a transaction by default, and what the plugin may have.
    assert!(
        walsender < (64 << 20) + BOUND,
        "the walsender grew by {walsender} bytes"
    );
}

/// Bytes by which each process grew.
#[derive(Debug)]
struct Grown {
    /// The walsender of the client.
    walsender: u64,
    /// A walsender that decodes the same and writes nothing.
    baseline: u64,
    client: u64,
}

impl Grown {
    fn print(&self, what: &str, work_mem: u64) {
        println!(
            "bounds: {what}, logical_decoding_work_mem {} MiB: walsender grew by {} MiB (by {} MiB \
             with pgoutput that writes nothing), client by {} MiB",
            work_mem >> 20,
            self.walsender >> 20,
            self.baseline >> 20,
            self.client >> 20
        );
    }
}

/// Lets a client follow `writes`, one transaction.
fn grow(server: &Postgres, name: &str, writes: &str) -> Grown {
    let world = World::on(server, kafka(), name);
    world.sql.run(
        "create table t (id int primary key, a text, b numeric, at timestamptz);
         create publication nothing",
    );
    let mut client = world.stream(&[]);
    client.streams();
    world.sql.run("insert into t values (0, 'first', 0, now())");
    world.catches_up();
    world.sql.run(&format!(
        "select pg_create_logical_replication_slot('{name}_baseline', 'pgoutput')"
    ));

    let of_client = MemoryWatch::of(client.pid());
    let of_walsender = MemoryWatch::of(walsender(&world, name));
    world.sql.run(writes);
    let end = world.sql.value("select pg_current_wal_insert_lsn()");
    catches_up(&world, &mut client, &end);
    let (walsender, client_grown) = (of_walsender.growth(), of_client.growth());
    client.terminate().expect(0, &[]);
    assert_eq!(
        world.folded("t").len() as u64,
        CHANGES + 1,
        "all of it has arrived"
    );
    Grown {
        walsender,
        baseline: baseline(&world, &format!("{name}_baseline"), &end),
        client: client_grown,
    }
}

/// The transaction is long: waits as long as the slot is behind and the client alive.
fn catches_up(world: &World<'_>, client: &mut Client, end: &str) {
    eventually("the slot passes the transaction", 10 * SOON, || {
        assert!(client.is_running(), "the client has ended");
        let confirmed = world.sql.value(&format!(
            "select confirmed_flush_lsn from pg_replication_slots where slot_name = '{}'",
            world.name
        ));
        let passed = world
            .sql
            .holds(&format!("select '{confirmed}'::pg_lsn >= '{end}'"));
        check(passed, || format!("at {confirmed}, not {end}"))
    });
}

/// How far a walsender grows that decodes what is behind a slot and sends none of it.
fn baseline(world: &World<'_>, slot: &str, end: &str) -> u64 {
    let mut reader: Child = world
        .postgres
        .pg_recvlogical(&world.name, slot, end)
        .args(["-o", "proto_version=1", "-o", "publication_names=nothing"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("pg_recvlogical: {e}"));
    let watch = MemoryWatch::of(walsender(world, slot));
    let mut received = Vec::new();
    if let Some(stdout) = &mut reader.stdout {
        stdout.read_to_end(&mut received).unwrap();
    }
    let grown = watch.growth();
    assert!(reader.wait().unwrap().success(), "pg_recvlogical failed");
    grown
}

/// The process that sends what a slot has.
fn walsender(world: &World<'_>, slot: &str) -> u32 {
    eventually("a walsender on the slot", SOON, || {
        let active = world.sql.rows(&format!(
            "select active_pid from pg_replication_slots where slot_name = '{slot}'"
        ));
        active[0][0]
            .as_ref()
            .and_then(|pid| pid.parse().ok())
            .ok_or("the slot is not active")
    })
}
