//! `make bench-latency`: from a commit to its record at a consumer.
//!
//! Writers are open-loop: each transaction has its moment, whatever became of those
//! before, so that a pipeline that stalls is not spared the load that would have come
//! meanwhile. The clock of a transaction starts at that moment, so that a pipeline that takes
//! the writers' CPU does not hide what they wait for it; it ends when the consumer, in this
//! same process, has its last record.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use headwater_tests::postgres::Options;
use headwater_tests::session::Session;
use headwater_tests::wait::{SOON, eventually};
use headwater_tests::{Kafka, Postgres};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use serde::Serialize;

use crate::client;
use crate::debezium::{Debezium, Format, Stream, Tuning};
use crate::machine::Machine;
use crate::parity::id_in_json;
use crate::process::cpu_seconds;
use crate::report;
use crate::statistics::{Spread, in_turn, is_wanted};
use crate::workload::MIXED_COLUMNS;

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Runs of each pipeline
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each run that are measured, after as many seconds of warming up
    #[arg(long, default_value_t = 15, requires = "dry")]
    seconds: u64,
    /// Only pipelines whose name has one of these in it: the first is what the others are
    /// compared with
    #[arg(long, value_delimiter = ',', requires = "dry")]
    pipeline: Vec<String>,
    /// Transactions a second
    #[arg(long, value_delimiter = ',', default_values_t = [500, 5_000], requires = "dry")]
    rate: Vec<u64>,
    /// Rows of a transaction
    #[arg(long, default_value_t = 1, requires = "dry")]
    rows: u64,
    /// More arguments of the client, to see what they change
    #[arg(long, value_delimiter = ' ', requires = "dry")]
    client: Vec<String>,
    /// Print the table and write no file
    #[arg(long)]
    dry: bool,
}

/// Sessions that write: enough that none has to wait for its own last commit, unless the
/// machine is busy; how late they were is in the results.
const WRITERS: u64 = 8;

const PIPELINES: [(&str, Option<Tuning>); 2] = [
    ("Debezium, for latency", Some(Tuning::Latency)),
    ("headwater", None),
];

#[derive(Serialize)]
struct Result {
    machine: Machine,
    /// Of each run that were measured.
    seconds: u64,
    runs: Vec<Run>,
}

#[derive(Clone, Serialize)]
struct Run {
    pipeline: &'static str,
    rate: u64,
    round: usize,
    /// Transactions that were measured.
    measured: usize,
    /// Milliseconds.
    p50: f64,
    p99: f64,
    p999: f64,
    max: f64,
    /// How late the writers were in sending, in milliseconds; part of the above.
    late_p50: f64,
    late_p99: f64,
    cpu: Cpu,
}

/// CPU microseconds a transaction.
#[derive(Clone, Copy, Serialize)]
struct Cpu {
    pipeline: f64,
    walsender: f64,
    broker: f64,
}

/// What one run came to: of each transaction of the measured half, in milliseconds.
struct Measured {
    latencies: Vec<f64>,
    late: Vec<f64>,
    cpu: Cpu,
}

const DATABASE: &str = "latency";

/// Runs it.
pub(crate) fn run(arguments: &Arguments) {
    let postgres = Options::default()
        .setting("shared_buffers", "1GB")
        .setting("max_wal_size", "16GB")
        .start();
    let kafka = Kafka::new();
    let sql = postgres.database(DATABASE);
    sql.run(&format!(
        "create table mixed ({MIXED_COLUMNS}); create publication everything for all tables"
    ));
    let machine = Machine::here(&postgres);
    let bench = Bench {
        postgres,
        kafka,
        sql,
        seconds: arguments.seconds,
        rows: arguments.rows,
        client: arguments.client.clone(),
    };
    let wanted: Vec<(&str, Option<Tuning>)> = PIPELINES
        .into_iter()
        .filter(|(name, _)| is_wanted(name, &arguments.pipeline))
        .collect();
    let mut runs = Vec::new();
    for &rate in &arguments.rate {
        for (round, index) in in_turn(arguments.rounds, wanted.len()) {
            let (pipeline, tuning) = wanted[index];
            let measured = bench.run(tuning, &format!("run_{rate}_{round}_{index}"), rate);
            let run = Run::of(pipeline, rate, round, measured);
            eprintln!(
                "{pipeline} at {rate}/s: p50 {:.2} ms, p99 {:.2} ms (late {:.2}, {:.2}), CPU {:.0} µs",
                run.p50, run.p99, run.late_p50, run.late_p99, run.cpu.pipeline
            );
            runs.push(run);
        }
    }
    let result = Result {
        machine,
        seconds: arguments.seconds,
        runs,
    };
    let page = page(&result, &arguments.rate);
    println!("{page}");
    if !arguments.dry {
        report::json("latency", &result);
        report::page("latency", &page);
    }
}

struct Bench {
    postgres: Postgres,
    kafka: Kafka,
    sql: Session,
    seconds: u64,
    rows: u64,
    client: Vec<String>,
}

impl Bench {
    fn run(&self, tuning: Option<Tuning>, slot: &str, rate: u64) -> Measured {
        self.sql.run("truncate mixed");
        match tuning {
            None => {
                let more: Vec<&str> = self.client.iter().map(String::as_str).collect();
                let mut client = client::start(&self.postgres, &self.kafka, DATABASE, slot, &more);
                client.streams();
                let measured = self.write_and_read(&client::topic(slot), slot, rate, client.pid());
                client.terminate().expect(0, &[]);
                self.sql
                    .run(&format!("select pg_drop_replication_slot('{slot}')"));
                measured
            }
            Some(tuning) => {
                let topic = Debezium::topic(slot);
                self.kafka.create_topic(&topic, 1, &[]);
                let stream = Stream {
                    database: DATABASE,
                    slot,
                    snapshot_mode: "no_data",
                    tuning,
                    format: Format::Json,
                };
                let mut debezium = Debezium::start(&self.postgres, &self.kafka, &stream);
                eventually("Debezium streams", SOON, || {
                    debezium.expect_running();
                    let active = format!(
                        "select active from pg_replication_slots where slot_name = '{slot}'"
                    );
                    match self.sql.column(&active).as_slice() {
                        [active] if active == "t" => Ok(()),
                        _ => Err("its slot is not in use"),
                    }
                });
                let measured = self.write_and_read(&topic, slot, rate, debezium.pid());
                drop(debezium);
                eventually("the slot's release", SOON, || {
                    self.sql
                        .attempt(&format!("select pg_drop_replication_slot('{slot}')"))
                });
                measured
            }
        }
    }

    fn walsender(&self, slot: &str) -> u32 {
        let pid = self.sql.value(&format!(
            "select coalesce(active_pid, 0) from pg_replication_slots where slot_name = '{slot}'"
        ));
        match pid.parse() {
            Ok(pid) if pid > 0 => pid,
            _ => panic!("void: nothing reads slot {slot}"),
        }
    }

    fn write_and_read(&self, topic: &str, slot: &str, rate: u64, pipeline: u32) -> Measured {
        // As long again as is measured, for the warming up.
        let total = rate * self.seconds * 2;
        let half = (total / 2) as usize;
        let used = |walsender| [pipeline, walsender, self.kafka.pid()].map(cpu_seconds);
        let nanos =
            |count: u64| -> Vec<AtomicU64> { (0..count).map(|_| AtomicU64::new(0)).collect() };
        let (late, received) = (nanos(total), nanos(total));
        let all_written = AtomicBool::new(false);
        let (kafka, rows) = (&self.kafka, self.rows);
        let sessions: Vec<Session> = (0..WRITERS)
            .map(|_| self.postgres.session(DATABASE))
            .collect();
        let schedule = Schedule {
            begin: Instant::now(),
            rate,
        };
        let (walsender, before) = std::thread::scope(|scope| {
            let reader =
                scope.spawn(|| read(kafka, topic, schedule, rows, &received, &all_written));
            let writers: Vec<_> = sessions
                .into_iter()
                .zip(0..)
                .map(|(session, writer)| {
                    let late = &late;
                    scope.spawn(move || write(&session, schedule, rows, writer, late))
                })
                .collect();
            std::thread::sleep(schedule.due(half as u64));
            // Debezium takes the slot more than once while it starts.
            let walsender = self.walsender(slot);
            let before = used(walsender);
            for writer in writers {
                writer
                    .join()
                    .unwrap_or_else(|_| panic!("void: a writer failed"));
            }
            all_written.store(true, Ordering::Relaxed);
            reader
                .join()
                .unwrap_or_else(|_| panic!("void: the consumer failed"));
            (walsender, before)
        });
        let after = used(walsender);
        let micros = |of: usize| (after[of] - before[of]) / (total as f64 / 2.0) * 1e6;
        let millis = |nanos: &[AtomicU64]| {
            let measured = nanos.iter().skip(half);
            measured
                .map(|nanos| nanos.load(Ordering::Relaxed) as f64 / 1e6)
                .collect()
        };
        Measured {
            latencies: millis(&received),
            late: millis(&late),
            cpu: Cpu {
                pipeline: micros(0),
                walsender: micros(1),
                broker: micros(2),
            },
        }
    }
}

/// When each transaction is due.
#[derive(Clone, Copy)]
struct Schedule {
    begin: Instant,
    rate: u64,
}

impl Schedule {
    /// Since the beginning.
    fn due(self, transaction: u64) -> Duration {
        Duration::from_nanos(transaction * 1_000_000_000 / self.rate)
    }

    /// Nanoseconds since a transaction was due.
    fn since(self, transaction: u64) -> u64 {
        let passed = self.begin.elapsed().saturating_sub(self.due(transaction));
        u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Notes how long each transaction's last record took, until all are there.
fn read(
    kafka: &Kafka,
    topic: &str,
    schedule: Schedule,
    rows: u64,
    received: &[AtomicU64],
    all_written: &AtomicBool,
) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.brokers())
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "500")
        .set("topic.metadata.refresh.interval.ms", "500")
        .create()
        .unwrap_or_else(|e| panic!("cannot make a consumer: {e}"));
    eventually("the topic", SOON, || {
        if kafka
            .topics()
            .is_ok_and(|topics| topics.contains_key(topic))
        {
            return Ok(());
        }
        Err("it is not there")
    });
    let mut partitions = TopicPartitionList::new();
    partitions
        .add_partition_offset(topic, 0, Offset::Beginning)
        .and_then(|()| consumer.assign(&partitions))
        .unwrap_or_else(|e| panic!("cannot read {topic}: {e}"));
    let mut missing = vec![rows; received.len()];
    let (mut rest, mut heard) = (received.len(), Instant::now());
    while rest > 0 {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                let number = id_in_json(record.key().unwrap_or_default()) / rows;
                let (transaction, passed) = (number as usize, schedule.since(number));
                received[transaction].store(passed, Ordering::Relaxed);
                missing[transaction] = missing[transaction]
                    .checked_sub(1)
                    .unwrap_or_else(|| panic!("void: a record came twice"));
                if missing[transaction] == 0 {
                    rest -= 1;
                }
                heard = Instant::now();
            }
            Some(Err(e)) => panic!("cannot read {topic}: {e}"),
            None => assert!(
                !all_written.load(Ordering::Relaxed) || heard.elapsed() < SOON,
                "void: {rest} transactions are missing"
            ),
        }
    }
}

/// Sends every [`WRITERS`]th transaction at its moment, and notes how late it was.
fn write(session: &Session, schedule: Schedule, rows: u64, writer: u64, late: &[AtomicU64]) {
    for number in (writer..late.len() as u64).step_by(WRITERS as usize) {
        let left = schedule
            .due(number)
            .saturating_sub(schedule.begin.elapsed());
        if !left.is_zero() {
            std::thread::sleep(left);
        }
        late[number as usize].store(schedule.since(number), Ordering::Relaxed);
        session.run(&format!(
            "insert into mixed select id, 1, 'a title of some length', 12.50, now(), true, \
             gen_random_uuid(), '{{\"a\": 1}}', 0.5, null from generate_series({}::bigint, {}) id",
            number * rows,
            (number + 1) * rows - 1
        ));
    }
}

impl Run {
    fn of(pipeline: &'static str, rate: u64, round: usize, measured: Measured) -> Self {
        let sorted = |mut millis: Vec<f64>| {
            millis.sort_by(f64::total_cmp);
            millis
        };
        let at = |millis: &[f64], share: f64| millis[((millis.len() - 1) as f64 * share) as usize];
        let (latencies, late) = (sorted(measured.latencies), sorted(measured.late));
        Run {
            pipeline,
            rate,
            round,
            measured: latencies.len(),
            p50: at(&latencies, 0.5),
            p99: at(&latencies, 0.99),
            p999: at(&latencies, 0.999),
            max: at(&latencies, 1.0),
            late_p50: at(&late, 0.5),
            late_p99: at(&late, 0.99),
            cpu: measured.cpu,
        }
    }
}

fn page(result: &Result, rates: &[u64]) -> String {
    let mut rows = Vec::new();
    for &rate in rates {
        let mut by_pipeline: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
        for run in result.runs.iter().filter(|run| run.rate == rate) {
            by_pipeline.entry(run.pipeline).or_default().push(run);
        }
        let order = || {
            PIPELINES
                .iter()
                .filter_map(|(name, _)| Some((*name, by_pipeline.get(name)?)))
        };
        let Some((_, base)) = order().next() else {
            continue;
        };
        for (pipeline, own) in order() {
            let cell = |what: fn(&Run) -> f64| {
                let millis = Spread::of(own.iter().map(|run| what(run)));
                let ratio = Spread::of_ratios(own, base, |run| what(run));
                format!("{:.2} ms, {}", millis.median, ratio.show(2))
            };
            let micros = |what: fn(&Run) -> f64| {
                let micros = Spread::of(own.iter().map(|run| what(run)));
                format!("{:.0}", micros.median)
            };
            rows.push(vec![
                format!("{rate}/s"),
                pipeline.to_owned(),
                cell(|run| run.p50),
                cell(|run| run.p99),
                cell(|run| run.p999),
                micros(|run| run.cpu.pipeline),
                micros(|run| run.cpu.walsender),
                micros(|run| run.cpu.broker),
            ]);
        }
    }
    format!(
        "{}\n\n{}",
        result.machine.sentence(),
        report::table(
            &[
                "transactions",
                "pipeline",
                "p50",
                "p99",
                "p99.9",
                "µs pipeline",
                "µs walsender",
                "µs broker"
            ],
            &rows
        )
    )
}
