//! `make bench-latency`: from a commit to its record at a consumer.
//!
//! Writers are open-loop: each transaction has its moment, whatever became of those
//! before, so that a pipeline that stalls is not spared the load that would have come
//! meanwhile. The clock of a transaction starts when its statement is sent: it is committed
//! a fraction of a millisecond later, the same for every pipeline. It ends when the
//! consumer, in this same process, has its last record.

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
use crate::debezium::{Debezium, Stream, Tuning};
use crate::machine::Machine;
use crate::parity::id_of;
use crate::process::Watch;
use crate::report;
use crate::statistics::{Spread, in_turn};
use crate::workload::MIXED_COLUMNS;

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Runs of each pipeline
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each run that are measured, after as many seconds of warming up
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Only pipelines whose name has one of these in it: the first is what the others are
    /// compared with
    #[arg(long, value_delimiter = ',', requires = "dry")]
    pipeline: Vec<String>,
    /// Transactions a second
    #[arg(long, value_delimiter = ',', default_values_t = [500, 5_000])]
    rate: Vec<u64>,
    /// Rows of a transaction
    #[arg(long, default_value_t = 1)]
    rows: u64,
    /// More arguments of the client, to see what they change
    #[arg(long, value_delimiter = ' ', requires = "dry")]
    client: Vec<String>,
    /// Print the table and write no file
    #[arg(long)]
    dry: bool,
}

/// Sessions that write: enough that none has to wait for its own last commit.
const WRITERS: u64 = 8;

const PIPELINES: [(&str, Option<Tuning>); 2] = [
    ("Debezium, for latency", Some(Tuning::Latency)),
    ("headwater", None),
];

#[derive(Serialize)]
struct Result {
    machine: Machine,
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
    /// CPU microseconds a transaction of the pipeline's process, and of the broker's.
    cpu_pipeline: f64,
    cpu_broker: f64,
}

/// What one run came to.
struct Measured {
    /// Of each transaction of the measured half.
    millis: Vec<f64>,
    cpu_pipeline: f64,
    cpu_broker: f64,
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
        .filter(|(name, _)| {
            let named = |part: &String| name.contains(part.as_str());
            arguments.pipeline.is_empty() || arguments.pipeline.iter().any(named)
        })
        .collect();
    let mut runs = Vec::new();
    for &rate in &arguments.rate {
        for (round, index) in in_turn(arguments.rounds, wanted.len()) {
            let (pipeline, tuning) = wanted[index];
            let measured = bench.run(tuning, &format!("run_{rate}_{round}_{index}"), rate);
            let run = Run::of(pipeline, rate, round, measured);
            eprintln!(
                "{pipeline} at {rate}/s: p50 {:.2} ms, p99 {:.2} ms, CPU {:.0} and {:.0} µs",
                run.p50, run.p99, run.cpu_pipeline, run.cpu_broker
            );
            runs.push(run);
        }
    }
    let result = Result {
        machine: Machine::here(&bench.postgres),
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
                let measured = self.write_and_read(&client::topic(slot), rate, client.pid());
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
                let measured = self.write_and_read(&topic, rate, debezium.pid());
                drop(debezium);
                eventually("the slot's release", SOON, || {
                    self.sql
                        .attempt(&format!("select pg_drop_replication_slot('{slot}')"))
                });
                measured
            }
        }
    }

    fn write_and_read(&self, topic: &str, rate: u64, pipeline: u32) -> Measured {
        // As long again as is measured, for the warming up.
        let total = rate * self.seconds * 2;
        let clock = Instant::now();
        let nanos =
            |count: u64| -> Vec<AtomicU64> { (0..count).map(|_| AtomicU64::new(0)).collect() };
        let (sent, received) = (nanos(total), nanos(total));
        let all_written = AtomicBool::new(false);
        let watched = [Watch::of(pipeline), Watch::of(self.kafka.pid())];
        let before = watched.each_ref().map(Watch::cpu_seconds);
        let (kafka, rows) = (&self.kafka, self.rows);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| read(kafka, topic, clock, rows, &received, &all_written));
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (sent, session) = (&sent, self.postgres.session(DATABASE));
                    scope.spawn(move || write(&session, clock, rate, rows, writer, sent))
                })
                .collect();
            for writer in writers {
                writer
                    .join()
                    .unwrap_or_else(|_| panic!("void: a writer failed"));
            }
            all_written.store(true, Ordering::Relaxed);
            reader
                .join()
                .unwrap_or_else(|_| panic!("void: the consumer failed"));
        });
        let after = watched.each_ref().map(Watch::cpu_seconds);
        let micros = |of: usize| (after[of] - before[of]) / total as f64 * 1e6;
        let half = usize::try_from(total / 2).unwrap_or(0);
        let millis = sent
            .iter()
            .zip(&received)
            .skip(half)
            .map(|(sent, received)| {
                let nanos = received.load(Ordering::Relaxed) - sent.load(Ordering::Relaxed);
                nanos as f64 / 1e6
            })
            .collect();
        Measured {
            millis,
            cpu_pipeline: micros(0),
            cpu_broker: micros(1),
        }
    }
}

/// Notes when each transaction's records came, until all are there.
fn read(
    kafka: &Kafka,
    topic: &str,
    clock: Instant,
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
                let now = elapsed(clock);
                let transaction = (id_of(record.key().unwrap_or_default()) / rows) as usize;
                received[transaction].store(now, Ordering::Relaxed);
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

/// Sends every [`WRITERS`]th transaction at its moment.
fn write(session: &Session, clock: Instant, rate: u64, rows: u64, writer: u64, sent: &[AtomicU64]) {
    let begin = elapsed(clock);
    for id in (writer..sent.len() as u64).step_by(WRITERS as usize) {
        let due = begin + id * 1_000_000_000 / rate;
        let now = elapsed(clock);
        if due > now {
            std::thread::sleep(Duration::from_nanos(due - now));
        }
        sent[id as usize].store(elapsed(clock), Ordering::Relaxed);
        session.run(&format!(
            "insert into mixed select id, 1, 'a title of some length', 12.50, now(), true, \
             gen_random_uuid(), '{{\"a\": 1}}', 0.5, null from generate_series({}::bigint, {}) id",
            id * rows,
            (id + 1) * rows - 1
        ));
    }
}

/// Nanoseconds, never 0.
fn elapsed(clock: Instant) -> u64 {
    u64::try_from(clock.elapsed().as_nanos())
        .unwrap_or(u64::MAX)
        .max(1)
}

impl Run {
    fn of(pipeline: &'static str, rate: u64, round: usize, measured: Measured) -> Self {
        let mut millis = measured.millis;
        millis.sort_by(f64::total_cmp);
        let at = |share: f64| millis[((millis.len() - 1) as f64 * share) as usize];
        Run {
            pipeline,
            rate,
            round,
            measured: millis.len(),
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
            max: at(1.0),
            cpu_pipeline: measured.cpu_pipeline,
            cpu_broker: measured.cpu_broker,
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
                format!("{} ms, ratio {:.2}", millis.show(2), ratio.median)
            };
            rows.push(vec![
                format!("{rate}/s"),
                pipeline.to_owned(),
                cell(|run| run.p50),
                cell(|run| run.p99),
                cell(|run| run.p999),
                format!(
                    "{:.0}",
                    Spread::of(own.iter().map(|run| run.cpu_pipeline)).median
                ),
                format!(
                    "{:.0}",
                    Spread::of(own.iter().map(|run| run.cpu_broker)).median
                ),
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
                "µs broker"
            ],
            &rows
        )
    )
}
