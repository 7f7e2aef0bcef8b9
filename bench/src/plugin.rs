//! `make bench-plugin`: what a walsender spends on each plugin for the same WAL.
//!
//! Every slot is a copy of one that was made before the load, so all read the same.
//! A round reads each plugin once, and the next round begins with another one; ratios are
//! taken within a round, because what else runs on a machine changes between rounds.

use std::collections::BTreeMap;

use headwater_protocol::Lsn;
use headwater_tests::Postgres;
use headwater_tests::postgres::Options;
use headwater_tests::session::Session;
use serde::Serialize;

use crate::machine::Machine;
use crate::peers::{BASE, PEERS, Peer};
use crate::reader::{self, Reading};
use crate::report;
use crate::statistics::{Spread, in_turn, is_wanted};
use crate::workload::{Changes, WORKLOADS, Workload};

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Readings of each plugin
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Share of the usual number of changes
    #[arg(long, default_value_t = 1.0, requires = "dry")]
    scale: f64,
    /// Only these workloads
    #[arg(long, value_delimiter = ',', requires = "dry")]
    workload: Vec<String>,
    /// Only plugins whose name has one of these in it, and what they are compared with
    #[arg(long, value_delimiter = ',', requires = "dry")]
    plugin: Vec<String>,
    /// Print the table and write no file
    #[arg(long)]
    dry: bool,
}

#[derive(Serialize)]
struct Result {
    machine: Machine,
    workloads: Vec<Measured>,
}

#[derive(Serialize)]
struct Measured {
    workload: &'static str,
    about: &'static str,
    transport: &'static str,
    changes: Changes,
    plugins: Vec<PluginMeasured>,
}

#[derive(Serialize)]
struct PluginMeasured {
    plugin: &'static str,
    cpu_ratio: Spread,
    wall_ratio: Spread,
    bytes_ratio: f64,
    memory_peak: u64,
    readings: Vec<Reading>,
}

/// Runs it.
pub(crate) fn run(arguments: &Arguments) {
    let postgres = Options::default()
        .setting(
            "output_plugin_libraries",
            "pgoutput,test_decoding,headwater,wal2json,decoderbufs",
        )
        .setting("shared_buffers", "1GB")
        .setting("max_wal_size", "8GB")
        .setting("wal_sender_timeout", "0")
        .setting("autovacuum", "off")
        .start();
    let mut result = Result {
        machine: Machine::here(&postgres),
        workloads: Vec::new(),
    };
    for workload in &WORKLOADS {
        let wanted = &arguments.workload;
        if wanted.is_empty() || wanted.iter().any(|name| name == workload.name) {
            result
                .workloads
                .extend(measure(&postgres, workload, arguments));
        }
    }
    let page = page(&result);
    println!("{page}");
    if !arguments.dry {
        report::json("plugin", &result);
        report::page("plugin", &page);
    }
}

/// One workload over both transports.
fn measure(postgres: &Postgres, workload: &Workload, arguments: &Arguments) -> Vec<Measured> {
    let database = workload.name;
    let sql = postgres.database(database);
    sql.run("create publication everything for all tables; create publication nothing");
    workload.prepare(postgres, &sql, arguments.scale);
    sql.run("select pg_create_logical_replication_slot('source', 'pgoutput')");
    let changes = workload.load(postgres, &sql, arguments.scale);
    sql.run("checkpoint");
    let end: Lsn = match sql.value("select pg_current_wal_lsn()").parse() {
        Ok(end) => end,
        Err(e) => panic!("no LSN: {e}"),
    };
    let transports = [
        ("TCP", postgres.conninfo(database)),
        ("Unix socket", postgres.local_conninfo(database)),
    ];
    let measured = transports.map(|(transport, conninfo)| {
        let peers: Vec<&Peer> = PEERS.iter().filter(|peer| arguments.wants(peer)).collect();
        let mut readings: BTreeMap<usize, Vec<Reading>> = BTreeMap::new();
        for (_, index) in in_turn(arguments.rounds, peers.len()) {
            let peer = peers[index];
            let reading = read_copy(&sql, &conninfo, peer, end);
            let expected = if peer.sends {
                changes
            } else {
                Changes::default()
            };
            assert_eq!(
                reading.changes, expected,
                "void: changes that {} sent",
                peer.name
            );
            eprintln!(
                "{} {transport} {}: {:.2} s CPU, {:.2} s",
                workload.name, peer.name, reading.cpu, reading.wall
            );
            readings.entry(index).or_default().push(reading);
        }
        Measured {
            workload: workload.name,
            about: workload.about,
            transport,
            changes,
            plugins: compare(&peers, readings),
        }
    });
    sql.run("select pg_drop_replication_slot('source')");
    measured.into()
}

impl Arguments {
    fn wants(&self, peer: &Peer) -> bool {
        peer.name == BASE || is_wanted(peer.name, &self.plugin)
    }
}

fn read_copy(sql: &Session, conninfo: &str, peer: &Peer, end: Lsn) -> Reading {
    sql.run(&format!(
        "select pg_copy_logical_replication_slot('source', 'copy', false, '{}')",
        peer.plugin
    ));
    let reading = reader::read(conninfo, "copy", peer, end);
    headwater_tests::wait::eventually("the walsender's end", headwater_tests::wait::SOON, || {
        sql.attempt("select pg_drop_replication_slot('copy')")
    });
    reading
}

fn compare(peers: &[&Peer], readings: BTreeMap<usize, Vec<Reading>>) -> Vec<PluginMeasured> {
    let base = readings[&0].clone();
    let ratios = |of: &[Reading], what: fn(&Reading) -> f64| Spread::of_ratios(of, &base, what);
    readings
        .into_iter()
        .map(|(index, readings)| PluginMeasured {
            plugin: peers[index].name,
            cpu_ratio: ratios(&readings, |reading| reading.cpu),
            wall_ratio: ratios(&readings, |reading| reading.wall),
            bytes_ratio: ratios(&readings, |reading| reading.bytes as f64).median,
            memory_peak: readings
                .iter()
                .map(|reading| reading.memory)
                .max()
                .unwrap_or(0),
            readings,
        })
        .collect()
}

fn page(result: &Result) -> String {
    let mut page = format!("{}\n", result.machine.sentence());
    for measured in &result.workloads {
        page.push_str(&format!(
            "\n**{}** over {}: {}; {} changes\n\n",
            measured.workload,
            measured.transport,
            measured.about,
            measured.changes.total()
        ));
        let rows: Vec<Vec<String>> = measured
            .plugins
            .iter()
            .map(|p| row(p, measured.changes.total()))
            .collect();
        page.push_str(&report::table(
            &[
                "plugin",
                "walsender CPU",
                "wall",
                "µs CPU a change",
                "bytes",
                "memory, MiB",
            ],
            &rows,
        ));
    }
    page
}

fn row(plugin: &PluginMeasured, changes: u64) -> Vec<String> {
    let cpu = Spread::of(plugin.readings.iter().map(|reading| reading.cpu));
    vec![
        plugin.plugin.to_owned(),
        plugin.cpu_ratio.show(2),
        plugin.wall_ratio.show(2),
        format!("{:.2}", cpu.median / changes as f64 * 1e6),
        format!("{:.2}", plugin.bytes_ratio),
        format!("{:.1}", plugin.memory_peak as f64 / f64::from(1 << 20)),
    ]
}
