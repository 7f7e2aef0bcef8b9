//! What a running client tells Prometheus and its probes: that it is what has happened, and that
//! readiness follows what gets to Kafka.

use std::path::PathBuf;
use std::process::Command;

use headwater_tests::installation::{fed, promtool};
use headwater_tests::metrics::{ANYWHERE, Metrics, Page, Probe};
use headwater_tests::registry::proxy::{Fault, Proxy};
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Kafka, Postgres, topic};
use serde_json::Value;

use crate::world::{World, kafka, postgres, registry};

/// Waits until a probe answers with the status, and returns its line.
#[track_caller]
fn turns(what: &str, status: u16, probe: impl Fn() -> Probe) -> String {
    eventually(what, SOON, || {
        let answer = probe();
        check(answer.status == status, || format!("{answer:?}")).map(|()| answer.line)
    })
}

/// Waits until a series has a value.
#[track_caller]
fn comes_to(metrics: &Metrics, series: &str, holds: impl Fn(f64) -> bool) -> Page {
    eventually(series, SOON, || {
        let page = metrics.page();
        let value = page.value(series);
        check(value.is_some_and(&holds), || format!("{value:?}")).map(|()| page)
    })
}

/// The names in `docs/metrics.md`, which the table in the client's source makes.
fn documented() -> Vec<String> {
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_metrics_say_what_has_happened() {
    let world = World::new("metrics");
    world.sql.run(
        "create table t (id int primary key, n int, large text);
         alter table t alter large set storage external;
         insert into t select n, 0, repeat('x', 3000) from generate_series(1, 100) n;
         create table empty (id int primary key)",
    );
    let mut client = world.stream(&[&ANYWHERE[..], &["--max-retained-wal", "10GB"]].concat());
    let metrics = Metrics::of(&mut client);
    client.streams();
    world.sql.run(
        "insert into t values (101, 0, 'small'); insert into t values (102, 0, 'small');
         update t set n = 1 where id <= 3; delete from t where id = 4;
         select pg_logical_emit_message(true, 'outbox', 'content')",
    );
    world.catches_up();
    let page = comes_to(&metrics, "headwater_transactions_total", |n| n == 1.0);
    for (series, expected) in [
        ("headwater_changes_total{operation=\"insert\"}", 2.0),
        ("headwater_changes_total{operation=\"update\"}", 3.0),
        ("headwater_changes_total{operation=\"delete\"}", 1.0),
        ("headwater_changes_total{operation=\"truncate\"}", 0.0),
        ("headwater_changes_total{operation=\"message\"}", 1.0),
        ("headwater_fetched_rows_total", 3.0),
        ("headwater_snapshot_tables", 2.0),
        ("headwater_snapshot_tables_done", 2.0),
        ("headwater_snapshot_rows", 100.0),
        ("headwater_phase{phase=\"streaming\"}", 1.0),
        ("headwater_phase{phase=\"snapshot\"}", 0.0),
        ("headwater_ready", 1.0),
        ("headwater_postgres_connected", 1.0),
        ("headwater_kafka_connected", 1.0),
        (
            "headwater_retained_wal_limit_bytes",
            10.0 * 1024.0 * 1024.0 * 1024.0,
        ),
        ("headwater_in_flight_limit_bytes", 8.0 * 1024.0 * 1024.0),
        ("headwater_stale_tables", 0.0),
    ] {
        assert_eq!(page.value(series), Some(expected), "{series} in\n{page}");
    }
    // The snapshot's rows, two inserts, three updates, a tombstone, a message.
    comes_to(&metrics, "headwater_delivered_records_total", |n| {
        n == 107.0
    });
    comes_to(&metrics, "headwater_delivered_bytes_total", |n| {
        n > 300_000.0
    });
    // A database that rests.
    let page = comes_to(&metrics, "headwater_lag_seconds", |lag| lag == 0.0);
    let position = |series: &str| page.value(series).unwrap_or_default();
    let ends = [
        position("headwater_delivered_lsn_bytes"),
        position("headwater_received_lsn_bytes"),
    ];
    assert!(ends[0] > 0.0 && ends[0] <= ends[1], "{page}");
    assert!(
        page.value("headwater_retained_wal_bytes") > Some(0.0),
        "{page}"
    );
    assert!(
        page.value("process_resident_memory_bytes") > Some(1e6),
        "{page}"
    );

    // A mark, and a session that breaks.
    world.sql.run("alter table t rename n to m");
    comes_to(
        &metrics,
        "headwater_stale_table{table=\"metrics.t\"}",
        |n| n == 1.0,
    );
    world.sql.run(
        "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = 'metrics'",
    );
    comes_to(&metrics, "headwater_postgres_reconnects_total", |n| {
        n == 1.0
    });
    turns("it is ready again", 200, || metrics.ready());

    // It has nothing to say of names, units and help either.
    let told = fed(
        Command::new(promtool()).args(["check", "metrics"]),
        &metrics.page().to_string(),
    );
    assert_eq!(told, "");
    let [older, openmetrics] = metrics.parsed();
    let documented = documented();
    for parsed in [&older, &openmetrics] {
        let unknown: Vec<_> = parsed
            .samples
            .iter()
            .filter(|name| !documented.contains(name))
            .collect();
        assert!(unknown.is_empty(), "not in docs/metrics.md: {unknown:?}");
        assert!(parsed.samples.len() > 40, "{parsed:?}");
    }
    assert_eq!(openmetrics.types["headwater_changes"], "counter");
    assert_eq!(openmetrics.types["headwater_build"], "info");
    assert_eq!(openmetrics.types["headwater_lag_seconds"], "gauge");

    // Another instance on the same machine finds the port taken before it does anything else.
    let line = client.said("serving metrics").unwrap_or_default();
    let address = line.split("address=").nth(1).unwrap_or_default();
    Client::run(world.arguments(&["--metrics", address])).expect(
        1,
        &[
            &format!("cannot serve metrics at {address}"),
            "another port",
        ],
    );
    client.terminate().expect(0, &[]);
}

#[test]
fn a_first_snapshot_is_ready_as_soon_as_its_rows_move() {
    // A minute's, as slowly as they go below: the client is killed before.
    const ROWS: u32 = 60_000;
    // A server of its own: new slots of others would wait for the open transaction.
    let postgres = Postgres::new();
    let world = World::on(&postgres, kafka(), "metrics_snapshot");
    world.sql.run(&format!(
        "create table t (id int primary key); insert into t select generate_series(1, {ROWS})"
    ));
    world.sql.run("analyze t");
    let open = world.session();
    open.run("begin; select pg_current_xact_id()");
    // A thousand rows a second: a hundred are on their way, and each waits for a tenth of one.
    let slowly = [
        "-X",
        "queue.buffering.max.messages=100",
        "-X",
        "linger.ms=100",
    ];
    let mut client = world.stream(&[&ANYWHERE[..], &slowly].concat());
    let metrics = Metrics::of(&mut client);
    let line = turns("a slot waits for the transaction", 503, || metrics.ready());
    assert_eq!(line.trim_end(), "it is starting");
    assert_eq!(metrics.live().status, 200);

    open.run("commit");
    let page = comes_to(&metrics, "headwater_snapshot_rows", |rows| rows > 0.0);
    assert_eq!(page.value("headwater_phase{phase=\"snapshot\"}"), Some(1.0));
    let ready = metrics.ready();
    assert_eq!(ready.status, 200, "{ready:?}");
    assert_eq!(metrics.live().status, 200);
    let mut status = world.arguments(&["--metrics", metrics.address(), "--json"]);
    status[0] = "status".to_owned();
    let ended = Client::run(status);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let snapshot = &report["client"]["snapshot"];
    assert_eq!(snapshot["tables"], 1, "{report}");
    assert_eq!(snapshot["tables_done"], 0, "{report}");
    assert_eq!(snapshot["estimated_rows"], ROWS, "{report}");
    let rows = snapshot["rows"].as_u64();
    assert!(rows > Some(0) && rows < Some(u64::from(ROWS)), "{report}");
    assert!(snapshot["rows_per_second"].as_f64() > Some(0.0), "{report}");
    let page = metrics.page();
    assert_eq!(page.value("headwater_starts_total"), Some(0.0), "{page}");
    client.kill();

    let again = [&ANYWHERE[..], &["--take-over"]].concat();
    let mut client = world.stream(&again);
    let metrics = Metrics::of(&mut client);
    client.streams();
    let page = comes_to(&metrics, "headwater_phase{phase=\"streaming\"}", |is| {
        is == 1.0
    });
    assert_eq!(page.value("headwater_snapshot_rows"), Some(f64::from(ROWS)));
    assert_eq!(page.value("headwater_starts_total"), Some(1.0), "{page}");
    turns("it streams", 200, || metrics.ready());
    client.kill();

    // The record goes on counting, whoever streams.
    let mut client = world.stream(&again);
    let metrics = Metrics::of(&mut client);
    client.streams();
    comes_to(&metrics, "headwater_starts_total", |starts| starts == 2.0);
    client.terminate().expect(0, &[]);
}

#[test]
fn ready_is_who_gets_changes_to_kafka_and_alive_who_waits_for_it() {
    let mut kafka = Kafka::new();
    let world = World::on(postgres(), &kafka, "metrics_outage");
    world.sql.run("create table t (id int primary key)");
    let sql = world.session();
    let topic = world.topic("t");
    let mut client = world.stream(&ANYWHERE);
    let metrics = Metrics::of(&mut client);
    assert_eq!(metrics.live().status, 200, "while it starts");
    client.streams();
    turns("it streams", 200, || metrics.ready());

    // Nothing is written, so no delivery will tell that the outage is over.
    kafka.kill();
    let why = turns("the broker is gone", 503, || metrics.ready());
    assert!(why.contains("Kafka does not answer"), "{why}");
    assert_eq!(metrics.live().status, 200);
    let page = metrics.page();
    assert_eq!(page.value("headwater_kafka_connected"), Some(0.0), "{page}");
    assert_eq!(page.value("headwater_ready"), Some(0.0), "{page}");
    assert!(
        page.value("headwater_kafka_outages_total") >= Some(1.0),
        "{page}"
    );
    kafka.start();
    turns("an idle client hears the broker again", 200, || {
        metrics.ready()
    });

    kafka.kill();
    sql.run("insert into t select generate_series(1, 1000)");
    comes_to(&metrics, "headwater_in_flight_records", |n| n == 1000.0);
    comes_to(&metrics, "headwater_lag_seconds", |lag| lag > 0.5);
    assert_eq!(metrics.ready().status, 503);
    kafka.start();
    turns("what waited is delivered", 200, || metrics.ready());
    comes_to(&metrics, "headwater_in_flight_records", |n| n == 0.0);
    comes_to(&metrics, "headwater_lag_seconds", |lag| lag == 0.0);
    assert_eq!(topic::fold(&topic::read(&kafka, &topic)).len(), 1000);
    // The position goes on record by another connection to the broker, which may not be back yet.
    client.terminate().expect(0, &[]);
}

#[test]
fn a_table_that_waits_for_its_schema_keeps_nobody_from_being_ready() {
    let world = World::new("metrics_registry");
    let proxy = Proxy::to(registry());
    world.sql.run("create table known (id int primary key)");
    let url = proxy.url();
    let mut client = world.stream(&[&ANYWHERE[..], &["--format", "avro", "-r", &url]].concat());
    let metrics = Metrics::of(&mut client);
    client.streams();
    world.sql.run("insert into known values (1)");
    world.catches_up();
    proxy.set(Fault::Closed);
    world
        .sql
        .run("create table fresh (id int primary key); insert into fresh values (1)");
    comes_to(&metrics, "headwater_registry_waiting_tables", |n| n == 1.0);
    let page = comes_to(&metrics, "headwater_registry_errors_total", |n| n >= 1.0);
    assert!(
        page.value("headwater_registry_waiting_bytes") > Some(0.0),
        "{page}"
    );
    assert_eq!(metrics.ready().status, 200, "{page}");
    proxy.set(Fault::None);
    world.catches_up();
    comes_to(&metrics, "headwater_registry_waiting_tables", |n| n == 0.0);
    client.terminate().expect(0, &[]);
}
