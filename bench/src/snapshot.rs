//! `make bench-snapshot`: a table into Kafka, by Headwater and by Debezium Server; and
//! what encoding alone costs the server beside its own binary COPY.

use std::time::Instant;

use headwater::error::Error;
use headwater::source::connection::Connector;
use headwater::source::conninfo::Conninfo;
use headwater::stop::Stop;
use headwater_tests::postgres::Options;
use headwater_tests::session::Session;
use headwater_tests::wait::{SOON, eventually};
use headwater_tests::{Kafka, Postgres};
use serde::Serialize;

use crate::client;
use crate::debezium::{Debezium, Format, Stream, Tuning};
use crate::drain::{Drain, drain};
use crate::machine::Machine;
use crate::parity::Expected;
use crate::process::{cpu_seconds, cpu_seconds_with_children};
use crate::report;
use crate::statistics::{Spread, in_turn};
use crate::workload::{MIXED_COLUMNS, insert_mixed};

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Runs of each
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Rows of the table
    #[arg(long, default_value_t = 2_000_000, requires = "dry")]
    rows: u64,
    /// More arguments of the client, to see what they change
    #[arg(long, value_delimiter = ' ', requires = "dry")]
    client: Vec<String>,
    /// Print the tables and write no file
    #[arg(long)]
    dry: bool,
}

#[derive(Serialize)]
struct Result {
    machine: Machine,
    rows: u64,
    pipelines: Vec<Pipeline>,
    copies: Vec<Copies>,
}

#[derive(Serialize)]
struct Pipeline {
    pipeline: &'static str,
    rate_ratio: Spread,
    cpu_ratio: Spread,
    drains: Vec<Drain>,
}

/// One statement, run several times.
#[derive(Serialize)]
struct Copies {
    what: &'static str,
    cpu_ratio: Spread,
    wall_ratio: Spread,
    runs: Vec<CopyRun>,
}

#[derive(Clone, Copy, Serialize)]
struct CopyRun {
    seconds: f64,
    /// CPU seconds of the server's process.
    cpu: f64,
    bytes: u64,
}

const DATABASE: &str = "copied";

/// Statements, the one that the others are compared with first.
const COPIES: [(&str, &str); 4] = [
    (
        "COPY t TO STDOUT (FORMAT binary)",
        "COPY public.mixed TO STDOUT (FORMAT binary)",
    ),
    (
        "COPY (SELECT headwater.encode(t.*)), frames",
        "COPY (SELECT headwater.encode(t.*, 'output=frames') FROM public.mixed t) TO STDOUT (FORMAT binary)",
    ),
    (
        "COPY (SELECT row_to_json(t))",
        "COPY (SELECT row_to_json(t) FROM public.mixed t) TO STDOUT (FORMAT binary)",
    ),
    ("COPY t TO STDOUT, text", "COPY public.mixed TO STDOUT"),
];

/// Runs it.
pub(crate) fn run(arguments: &Arguments) {
    let postgres = Options::default()
        .setting("shared_buffers", "2GB")
        .setting("max_wal_size", "16GB")
        .setting("autovacuum", "off")
        .start();
    let sql = postgres.database(DATABASE);
    sql.run(&format!(
        "create table mixed ({MIXED_COLUMNS}); create publication everything for all tables"
    ));
    sql.run(&format!(
        "{} from generate_series(1::bigint, {}) g",
        insert_mixed(),
        arguments.rows
    ));
    // The first reader would set hint bits for all others.
    sql.run("vacuum (freeze, analyze) mixed");
    sql.run("checkpoint");
    let machine = Machine::here(&postgres);
    let result = Result {
        machine,
        rows: arguments.rows,
        copies: copies(&postgres, arguments.rounds),
        pipelines: pipelines(&postgres, &sql, arguments),
    };
    let page = page(&result);
    println!("{page}");
    if !arguments.dry {
        report::json("snapshot", &result);
        report::page("snapshot", &page);
    }
}

fn copies(postgres: &Postgres, rounds: usize) -> Vec<Copies> {
    let mut runs: Vec<Vec<CopyRun>> = vec![Vec::new(); COPIES.len()];
    for (_, index) in in_turn(rounds, COPIES.len()) {
        runs[index].push(copy(postgres, COPIES[index].1));
    }
    let base = runs[0].clone();
    COPIES
        .iter()
        .zip(runs)
        .map(|((what, _), runs)| Copies {
            what,
            cpu_ratio: Spread::of_ratios(&runs, &base, |run| run.cpu),
            wall_ratio: Spread::of_ratios(&runs, &base, |run| run.seconds),
            runs,
        })
        .collect()
}

fn copy(postgres: &Postgres, statement: &str) -> CopyRun {
    let conninfo = Conninfo {
        dbname: Some(postgres.local_conninfo(DATABASE)),
        ..Conninfo::default()
    };
    let failed = |error: Error| -> ! { panic!("{statement}: {error}") };
    let connection = Connector::new(conninfo, Stop::default())
        .connect()
        .unwrap_or_else(|e| failed(e.into()));
    let pid = connection.backend_pid();
    let (cpu, start) = (cpu_seconds(pid), Instant::now());
    connection
        .begin_copy(statement)
        .unwrap_or_else(|e| failed(e.into()));
    let mut bytes = 0;
    while let Some(row) = connection.copy_next().unwrap_or_else(|e| failed(e.into())) {
        bytes += row.len() as u64;
    }
    CopyRun {
        seconds: start.elapsed().as_secs_f64(),
        cpu: cpu_seconds(pid) - cpu,
        bytes,
    }
}

const PIPELINES: [(&str, Option<Tuning>); 3] = [
    ("Debezium, tuned", Some(Tuning::Throughput)),
    ("Debezium, defaults", Some(Tuning::Defaults)),
    ("headwater", None),
];

fn pipelines(postgres: &Postgres, sql: &Session, arguments: &Arguments) -> Vec<Pipeline> {
    let kafka = Kafka::new();
    let mut drains: Vec<Vec<Drain>> = vec![Vec::new(); PIPELINES.len()];
    for (round, index) in in_turn(arguments.rounds, PIPELINES.len()) {
        let (name, tuning) = PIPELINES[index];
        let slot = format!("run_{round}_{index}");
        let before = cpu_seconds_with_children(postgres.pid());
        let mut drain = match tuning {
            None => headwater(postgres, &kafka, &slot, arguments),
            Some(tuning) => debezium(postgres, &kafka, sql, &slot, tuning, arguments.rows),
        };
        // Sessions come and go, and nothing else uses this server.
        drain.cpu_server = cpu_seconds_with_children(postgres.pid()) - before;
        eprintln!("{name}: {:.0} rows/s", drain.rate());
        drains[index].push(drain);
    }
    let base = drains[0].clone();
    PIPELINES
        .iter()
        .zip(drains)
        .map(|((pipeline, _), drains)| Pipeline {
            pipeline,
            rate_ratio: Spread::of_ratios(&drains, &base, Drain::rate),
            cpu_ratio: Spread::of_ratios(&drains, &base, Drain::cpu_micros),
            drains,
        })
        .collect()
}

fn headwater(postgres: &Postgres, kafka: &Kafka, slot: &str, arguments: &Arguments) -> Drain {
    let mut more = vec!["--snapshot", "only"];
    more.extend(arguments.client.iter().map(String::as_str));
    let client = client::start(postgres, kafka, DATABASE, slot, &more);
    let pid = client.pid();
    let drain = drain(
        kafka,
        &client::topic(slot),
        &Expected::inserts(1..arguments.rows + 1),
        pid,
        Vec::new,
        || (),
    );
    client.wait().expect(0, &[]);
    drain
}

fn debezium(
    postgres: &Postgres,
    kafka: &Kafka,
    sql: &Session,
    slot: &str,
    tuning: Tuning,
    rows: u64,
) -> Drain {
    let topic = Debezium::topic(slot);
    kafka.create_topic(&topic, 1, &[]);
    let stream = Stream {
        database: DATABASE,
        slot,
        snapshot_mode: "initial_only",
        tuning,
        format: Format::Json,
    };
    let mut debezium = Debezium::start(postgres, kafka, &stream);
    let pid = debezium.pid();
    let expected = Expected::inserts(1..rows + 1);
    let drain = drain(kafka, &topic, &expected, pid, Vec::new, || {
        debezium.expect_running();
    });
    drop(debezium);
    eventually("the slot's release", SOON, || {
        sql.attempt(&format!(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '{slot}'"
        ))
    });
    drain
}

fn page(result: &Result) -> String {
    let pipelines: Vec<Vec<String>> = result
        .pipelines
        .iter()
        .map(|pipeline| {
            let median =
                |what: fn(&Drain) -> f64| Spread::of(pipeline.drains.iter().map(what)).median;
            vec![
                pipeline.pipeline.to_owned(),
                pipeline.rate_ratio.show(1),
                format!("{:.0}", median(Drain::rate)),
                pipeline.cpu_ratio.show(3),
                format!(
                    "{:.2}",
                    median(|drain| drain.cpu_pipeline / drain.changes * 1e6)
                ),
                format!(
                    "{:.2}",
                    median(|drain| drain.cpu_server / drain.changes * 1e6)
                ),
                format!("{:.0}", median(Drain::memory_mib)),
            ]
        })
        .collect();
    let copies: Vec<Vec<String>> = result
        .copies
        .iter()
        .map(|copies| {
            let cpu = Spread::of(copies.runs.iter().map(|run| run.cpu)).median;
            vec![
                format!("`{}`", copies.what),
                copies.cpu_ratio.show(2),
                copies.wall_ratio.show(2),
                format!("{:.2}", cpu / result.rows as f64 * 1e6),
            ]
        })
        .collect();
    format!(
        "{}\n\n{} rows of 10 mixed columns into Kafka:\n\n{}\nThe server's part alone, over a Unix \
         socket:\n\n{}",
        result.machine.sentence(),
        result.rows,
        report::table(
            &[
                "pipeline",
                "rows/s, ratio",
                "rows/s",
                "CPU of pipeline and server, ratio",
                "µs pipeline",
                "µs server",
                "memory, MiB"
            ],
            &pipelines
        ),
        report::table(
            &["statement", "server CPU", "wall", "µs CPU a row"],
            &copies
        )
    )
}
