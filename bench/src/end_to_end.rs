//! `make bench-e2e`: a backlog drained into Kafka, by Headwater and by Debezium Server.
//!
//! All read copies of one slot, one after another, into topics of one partition on one
//! broker. Headwater runs with its defaults; only the envelope differs between its first two
//! rows, of which the second has the shape of what Debezium sends. Its third row reads a
//! slot at the end of the backlog: memory that grew with the backlog would show. Avro is compared
//! with Debezium's Avro, one registry serving both.

use headwater_tests::postgres::Options;
use headwater_tests::registry::{Compatibility, Registry};
use headwater_tests::session::Session;
use headwater_tests::wait::{SOON, eventually};
use headwater_tests::{Kafka, Postgres};
use serde::Serialize;

use crate::client;
use crate::debezium::{self, Debezium, Stream, Tuning};
use crate::drain::{Drain, drain};
use crate::machine::Machine;
use crate::parity::{Expected, id_in_avro, id_in_json};
use crate::report;
use crate::statistics::{Spread, in_turn, is_wanted};
use crate::workload::{WORKLOADS, more_mixed};

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Runs of each pipeline
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Share of 1.5 million changes
    #[arg(long, default_value_t = 1.0, requires = "dry")]
    scale: f64,
    /// Only pipelines whose name has one of these in it: the first of a format is what the
    /// others of it are compared with
    #[arg(long, value_delimiter = ',', requires = "dry")]
    pipeline: Vec<String>,
    /// More arguments of the client, to see what they change
    #[arg(long, value_delimiter = ' ', requires = "dry")]
    client: Vec<String>,
    /// Print the table and write no file
    #[arg(long)]
    dry: bool,
}

/// Changes at scale 1, as a multiple of the workload's own number.
const BACKLOG: f64 = 1_500_000.0 / 420_000.0;

#[derive(Clone, Copy)]
enum Kind {
    Headwater(Backlog, &'static str, Format),
    Debezium(Tuning, Format),
}

impl Kind {
    fn format(self) -> Format {
        match self {
            Kind::Headwater(_, _, format) | Kind::Debezium(_, format) => format,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Avro,
}

impl Format {
    /// Finds a row's number in a record's key.
    fn id(self) -> fn(&[u8]) -> u64 {
        match self {
            Format::Json => id_in_json,
            Format::Avro => id_in_avro,
        }
    }
}

/// Which slot is copied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Backlog {
    Whole,
    End,
}

impl Backlog {
    fn slot(self) -> &'static str {
        match self {
            Backlog::Whole => "whole",
            Backlog::End => "its_end",
        }
    }
}

/// Share of the workload's rows that is inserted once more, as the backlog's end.
const END: u64 = 10;

const END_ALONE: &str = "headwater, the backlog's end alone";

/// The first of a format is what the others of it are compared with.
const PIPELINES: [(&str, Kind); 8] = [
    (
        "Debezium, tuned",
        Kind::Debezium(Tuning::Throughput, Format::Json),
    ),
    (
        "Debezium, defaults",
        Kind::Debezium(Tuning::Defaults, Format::Json),
    ),
    (
        "headwater",
        Kind::Headwater(Backlog::Whole, "row", Format::Json),
    ),
    (
        "headwater, --envelope change",
        Kind::Headwater(Backlog::Whole, "change", Format::Json),
    ),
    (
        END_ALONE,
        Kind::Headwater(Backlog::End, "row", Format::Json),
    ),
    (
        "Debezium, tuned, Avro",
        Kind::Debezium(Tuning::Throughput, Format::Avro),
    ),
    (
        "headwater, --format avro",
        Kind::Headwater(Backlog::Whole, "row", Format::Avro),
    ),
    (
        "headwater, --format avro --envelope change",
        Kind::Headwater(Backlog::Whole, "change", Format::Avro),
    ),
];

#[derive(Serialize)]
struct Result {
    machine: Machine,
    changes: u64,
    changes_of_the_end: u64,
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
    registry: Option<Registry>,
    sql: Session,
    whole: Expected,
    end: Expected,
    client: Vec<String>,
}

const DATABASE: &str = "backlog";

/// Runs it.
pub(crate) fn run(arguments: &Arguments) {
    let wanted: Vec<(&'static str, Kind)> = PIPELINES
        .into_iter()
        .filter(|(name, _)| is_wanted(name, &arguments.pipeline))
        .collect();
    let needs_registry = wanted.iter().any(|(_, kind)| kind.format() == Format::Avro);
    let bench = Bench::prepare(
        arguments.scale * BACKLOG,
        needs_registry,
        arguments.client.clone(),
    );
    let machine = Machine::here(&bench.postgres);
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
    let base = |format: Format| {
        let first = wanted.iter().position(|(_, kind)| kind.format() == format);
        &drains[first.unwrap_or(0)]
    };
    let result = Result {
        machine,
        changes: bench.whole.changes(),
        changes_of_the_end: bench.end.changes(),
        pipelines: wanted
            .iter()
            .zip(&drains)
            .map(|((pipeline, kind), drains)| {
                let base = base(kind.format());
                Measured {
                    pipeline,
                    rate_ratio: Spread::of_ratios(drains, base, Drain::rate),
                    cpu_ratio: Spread::of_ratios(drains, base, Drain::cpu_micros),
                    drains: drains.clone(),
                }
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
    fn prepare(scale: f64, needs_registry: bool, client: Vec<String>) -> Self {
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
        let slot = |backlog: Backlog| {
            let slot = backlog.slot();
            sql.run(&format!(
                "select pg_create_logical_replication_slot('{slot}', 'pgoutput')"
            ));
        };
        slot(Backlog::Whole);
        let changes = workload.load(&postgres, &sql, scale);
        slot(Backlog::End);
        let rows = changes.inserts;
        let more = more_mixed(&sql, rows, rows / END);
        sql.run("checkpoint");
        Bench {
            postgres,
            kafka,
            registry: needs_registry.then(|| Registry::new(Compatibility::Full)),
            sql,
            whole: Expected {
                keys: 1..rows + more + 1,
                updates: changes.updates,
                deletes: changes.deletes,
                records_of_a_delete: 1,
                id: id_in_json,
            },
            end: Expected::inserts(rows + 1..rows + more + 1),
            client,
        }
    }

    fn run(&self, kind: Kind, slot: &str) -> Drain {
        let (source, plugin) = match kind {
            Kind::Headwater(backlog, ..) => (backlog, "headwater"),
            Kind::Debezium(..) => (Backlog::Whole, "pgoutput"),
        };
        let source = source.slot();
        self.sql.run(&format!(
            "select pg_copy_logical_replication_slot('{source}', '{slot}', false, '{plugin}')"
        ));
        let drain = match kind {
            Kind::Headwater(backlog, envelope, format) => {
                self.headwater(backlog, envelope, format, slot)
            }
            Kind::Debezium(tuning, format) => self.debezium(tuning, format, slot),
        };
        eventually("the slot's release", SOON, || {
            self.sql
                .attempt(&format!("select pg_drop_replication_slot('{slot}')"))
        });
        drain
    }

    fn headwater(&self, backlog: Backlog, envelope: &str, format: Format, slot: &str) -> Drain {
        let mut more = vec!["--snapshot", "never", "--envelope", envelope];
        let url = self.registry.as_ref().map(Registry::url);
        if let (Format::Avro, Some(url)) = (format, &url) {
            more.extend(["--format", "avro", "--registry", url]);
        }
        more.extend(self.client.iter().map(String::as_str));
        let mut client = client::start(&self.postgres, &self.kafka, DATABASE, slot, &more);
        let mut expected = match backlog {
            Backlog::Whole => self.whole.clone(),
            Backlog::End => self.end.clone(),
        };
        if envelope == "change" {
            expected.records_of_a_delete = 2;
        }
        expected.id = format.id();
        let pid = client.pid();
        let drain = drain(
            &self.kafka,
            &client::topic(slot),
            &expected,
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

    fn debezium(&self, tuning: Tuning, format: Format, slot: &str) -> Drain {
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
                format: match (format, &self.registry) {
                    (Format::Avro, Some(registry)) => debezium::Format::Avro(registry.port()),
                    _ => debezium::Format::Json,
                },
            },
        );
        let pid = debezium.pid();
        let expected = Expected {
            records_of_a_delete: 2,
            id: format.id(),
            ..self.whole.clone()
        };
        drain(
            &self.kafka,
            &topic,
            &expected,
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
            let micros = |what: fn(&Drain) -> f64| format!("{:.2}", median(what));
            let memory = format!("{:.0}", median(Drain::memory_mib));
            let name = measured.pipeline.to_owned();
            if measured.pipeline == END_ALONE {
                // It is too short for the rest, and has another mix of changes.
                let none = || "–".to_owned();
                return vec![name, none(), none(), none(), none(), none(), none(), memory];
            }
            vec![
                name,
                measured.rate_ratio.show(1),
                format!("{:.0}", median(Drain::rate)),
                measured.cpu_ratio.show(3),
                micros(|drain| drain.cpu_pipeline / drain.changes * 1e6),
                micros(|drain| drain.cpu_server / drain.changes * 1e6),
                micros(|drain| drain.cpu_broker / drain.changes * 1e6),
                memory,
            ]
        })
        .collect();
    format!(
        "{}\n\n{} changes; {} at the backlog's end.\n\n{}",
        result.machine.sentence(),
        result.changes,
        result.changes_of_the_end,
        report::table(
            &[
                "pipeline",
                "changes/s, ratio",
                "changes/s",
                "CPU of pipeline and walsender, ratio",
                "µs pipeline",
                "µs walsender",
                "µs broker",
                "memory, MiB",
            ],
            &rows
        )
    )
}
