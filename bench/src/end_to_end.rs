//! `make bench-e2e`: a backlog drained into Kafka, by Headwater and by Debezium Server.
//!
//! All read copies of one slot, one after another, into topics of one partition on one
//! broker. Headwater runs with its defaults; only the envelope differs between its two
//! rows, of which the second has the shape of what Debezium sends.

use headwater_tests::postgres::Options;
use headwater_tests::session::Session;
use headwater_tests::wait::{SOON, eventually};
use headwater_tests::{Kafka, Postgres};
use serde::Serialize;

use crate::client;
use crate::debezium::{Debezium, Stream, Tuning};
use crate::drain::{Drain, drain};
use crate::machine::Machine;
use crate::report;
use crate::statistics::{Spread, in_turn};
use crate::workload::WORKLOADS;

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Runs of each pipeline
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Share of 1.5 million changes
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Only pipelines whose name has one of these in it, and what they are compared with
    #[arg(long, value_delimiter = ',')]
    pipeline: Vec<String>,
    /// Print the table and write no file
    #[arg(long)]
    dry: bool,
}

/// Changes at scale 1, as a multiple of the workload's own number.
const BACKLOG: f64 = 1_500_000.0 / 420_000.0;

/// What the ratios are of.
const BASE: &str = "Debezium, tuned";

#[derive(Clone, Copy)]
enum Kind {
    Headwater(&'static str),
    Debezium(Tuning),
}

const PIPELINES: [(&str, Kind); 4] = [
    (BASE, Kind::Debezium(Tuning::Throughput)),
    ("Debezium, defaults", Kind::Debezium(Tuning::Defaults)),
    ("headwater", Kind::Headwater("row")),
    ("headwater, --envelope change", Kind::Headwater("change")),
];

#[derive(Serialize)]
struct Result {
    machine: Machine,
    changes: u64,
    pipelines: Vec<Measured>,
}

#[derive(Serialize)]
struct Measured {
    pipeline: &'static str,
    rate_ratio: Spread,
    cpu_ratio: Spread,
    drains: Vec<Drain>,
}

/// Where everything runs.
struct Bench {
    postgres: Postgres,
    kafka: Kafka,
    sql: Session,
    changes: u64,
    deletes: u64,
}

const DATABASE: &str = "backlog";

/// Runs it.
pub(crate) fn run(arguments: &Arguments) {
    let bench = Bench::prepare(arguments.scale * BACKLOG);
    let wanted: Vec<(&'static str, Kind)> = PIPELINES
        .into_iter()
        .filter(|(name, _)| {
            let named = |part: &String| name.contains(part.as_str());
            *name == BASE || arguments.pipeline.is_empty() || arguments.pipeline.iter().any(named)
        })
        .collect();
    let mut drains: Vec<Vec<Drain>> = vec![Vec::new(); wanted.len()];
    for (round, index) in in_turn(arguments.rounds, wanted.len()) {
        let (name, kind) = wanted[index];
        let drain = bench.run(kind, &format!("run_{round}_{index}"));
        eprintln!(
            "{name}: {:.0} changes/s, {:.2} µs CPU a change",
            drain.rate(),
            drain.cpu_micros()
        );
        drains[index].push(drain);
    }
    let base = &drains[0];
    let result = Result {
        machine: Machine::here(&bench.postgres),
        changes: bench.changes,
        pipelines: wanted
            .iter()
            .zip(&drains)
            .map(|((pipeline, _), drains)| Measured {
                pipeline,
                rate_ratio: Spread::of_ratios(drains, base, Drain::rate),
                cpu_ratio: Spread::of_ratios(drains, base, Drain::cpu_micros),
                drains: drains.clone(),
            })
            .collect(),
    };
    let page = page(&result);
    println!("{page}");
    if !arguments.dry {
        report::json("end-to-end", &result);
        report::page("end-to-end", &page);
    }
}

impl Bench {
    fn prepare(scale: f64) -> Self {
        let postgres = Options::default()
            .setting("shared_buffers", "1GB")
            .setting("max_wal_size", "16GB")
            .setting("autovacuum", "off")
            .start();
        let kafka = Kafka::new();
        let sql = postgres.database(DATABASE);
        sql.run("create publication everything for all tables");
        let workload = &WORKLOADS[0];
        workload.prepare(&postgres, &sql, scale);
        sql.run("select pg_create_logical_replication_slot('source', 'pgoutput')");
        let changes = workload.load(&postgres, &sql, scale);
        sql.run("checkpoint");
        // The lowest ids are deleted.
        let deletes = sql.value("select min(id) - 1 from mixed");
        let deletes = deletes
            .parse()
            .unwrap_or_else(|e| panic!("{deletes:?} is no count: {e}"));
        Bench {
            postgres,
            kafka,
            sql,
            changes,
            deletes,
        }
    }

    fn run(&self, kind: Kind, slot: &str) -> Drain {
        let plugin = match kind {
            Kind::Headwater(_) => "headwater",
            Kind::Debezium(_) => "pgoutput",
        };
        self.sql.run(&format!(
            "select pg_copy_logical_replication_slot('source', '{slot}', false, '{plugin}')"
        ));
        let drain = match kind {
            Kind::Headwater(envelope) => self.headwater(envelope, slot),
            Kind::Debezium(tuning) => self.debezium(tuning, slot),
        };
        eventually("the slot's release", SOON, || {
            self.sql
                .attempt(&format!("select pg_drop_replication_slot('{slot}')"))
        });
        drain
    }

    fn headwater(&self, envelope: &str, slot: &str) -> Drain {
        let more = ["--snapshot", "never", "--envelope", envelope];
        let mut client = client::start(&self.postgres, &self.kafka, DATABASE, slot, &more);
        // The envelope of a delete comes before its tombstone.
        let expected = self.changes
            + if envelope == "change" {
                self.deletes
            } else {
                0
            };
        let pid = client.pid();
        let drain = drain(
            &self.kafka,
            &client::topic(slot),
            (expected, self.changes),
            pid,
            || self.walsender(slot),
            || {
                assert!(
                    client.is_running(),
                    "void: headwater ended:\n{}",
                    client.stderr()
                )
            },
        );
        client.terminate().expect(0, &[]);
        drain
    }

    fn debezium(&self, tuning: Tuning, slot: &str) -> Drain {
        let topic = Debezium::topic(slot);
        self.kafka.create_topic(&topic, 1, &[]);
        let mut debezium = Debezium::start(
            &self.postgres,
            &self.kafka,
            &Stream {
                database: DATABASE,
                slot,
                snapshot_mode: "no_data",
                tuning,
            },
        );
        let pid = debezium.pid();
        drain(
            &self.kafka,
            &topic,
            (self.changes + self.deletes, self.changes),
            pid,
            || self.walsender(slot),
            || debezium.expect_running(),
        )
    }

    fn walsender(&self, slot: &str) -> Vec<u32> {
        self.sql
            .column(&format!(
                "select active_pid::text from pg_replication_slots \
                 where slot_name = '{slot}' and active_pid is not null"
            ))
            .iter()
            .filter_map(|pid| pid.parse().ok())
            .collect()
    }
}

fn page(result: &Result) -> String {
    let rows: Vec<Vec<String>> = result
        .pipelines
        .iter()
        .map(|measured| {
            let median =
                |what: fn(&Drain) -> f64| Spread::of(measured.drains.iter().map(what)).median;
            vec![
                measured.pipeline.to_owned(),
                measured.rate_ratio.show(1),
                format!("{:.0}", median(Drain::rate)),
                measured.cpu_ratio.show(3),
                format!(
                    "{:.2}",
                    median(|drain| drain.cpu_pipeline / drain.changes * 1e6)
                ),
                format!(
                    "{:.2}",
                    median(|drain| drain.cpu_server / drain.changes * 1e6)
                ),
                format!(
                    "{:.2}",
                    median(|drain| drain.cpu_broker / drain.changes * 1e6)
                ),
                format!("{:.0}", median(Drain::memory_mib)),
            ]
        })
        .collect();
    format!(
        "{}\n\n{} changes.\n\n{}",
        result.machine.sentence(),
        result.changes,
        report::table(
            &[
                "pipeline",
                "changes/s, ratio",
                "changes/s",
                "CPU a change, ratio",
                "µs pipeline",
                "µs walsender",
                "µs broker",
                "memory, MiB",
            ],
            &rows
        )
    )
}
