//! Every metric, with what it means and where it comes from: the page that is served, the one in
//! `docs/`, and the tests of dashboard and alerts are made from this table.
//!
//! Names are those that queries use: `headwater_`, a noun, the unit, and `_total` for what only grows.

use headwater_protocol::{Lsn, VERSION};

use super::Reading;
use super::figures::Activity;
use super::samples::Samples;

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It grows, and begins at 0: with the process, or with the record that it is part of.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It is 1, and its labels are what it says.
    Info,
}

impl Kind {
    /// As OpenMetrics has it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Info => "info",
        }
    }
}

/// One metric.
pub struct Metric {
    /// As queries have it.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// `bytes`, `seconds`, or nothing for numbers of things.
    pub unit: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means, as one sentence.
    pub meaning: &'static str,
    pub(super) read: fn(&Reading, &mut Samples),
}

impl Metric {
    /// The name without what its kind adds.
    pub(super) fn family(&self) -> &'static str {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge => "",
            Kind::Info => "_info",
        };
        self.name.strip_suffix(suffix).unwrap_or(self.name)
    }
}

/// Metrics of one subject.
pub struct Group {
    /// Its heading.
    pub title: &'static str,
    /// What is to be known of all of them; may be empty.
    pub about: &'static str,
    /// They.
    pub metrics: &'static [Metric],
}

/// All of them, in the order of the page.
pub fn metrics() -> impl Iterator<Item = &'static Metric> {
    GROUPS.iter().flat_map(|group| group.metrics)
}

const fn counter(
    name: &'static str,
    unit: &'static str,
    meaning: &'static str,
    read: fn(&Reading, &mut Samples),
) -> Metric {
    Metric {
        name,
        kind: Kind::Counter,
        unit,
        labels: &[],
        meaning,
        read,
    }
}

const fn gauge(
    name: &'static str,
    unit: &'static str,
    meaning: &'static str,
    read: fn(&Reading, &mut Samples),
) -> Metric {
    Metric {
        kind: Kind::Gauge,
        ..counter(name, unit, meaning, read)
    }
}

const BYTES: &str = "bytes";
const SECONDS: &str = "seconds";
const COUNT: &str = "";

/// A position of which nothing is known yet is none.
fn position(lsn: Lsn) -> Option<u64> {
    (lsn > Lsn::INVALID).then_some(lsn.0)
}

/// All of them, by subject.
pub const GROUPS: &[Group] = &[
    Group {
        title: "What it does",
        about: "",
        metrics: &[
            Metric {
                labels: &["phase"],
                ..gauge(
                    "headwater_phase",
                    COUNT,
                    "1 for what the process does now, 0 for the rest: starting, waiting (for another \
                     instance to let go of the slot), snapshot, streaming, stopping.",
                    |it, samples| {
                        for phase in Activity::ALL {
                            samples.put_with(&[phase.name()], it.phase == phase);
                        }
                    },
                )
            },
            gauge(
                "headwater_ready",
                COUNT,
                "1 if /readyz says 200: changes get to Kafka.",
                |it, samples| samples.put(it.is_ready),
            ),
            gauge(
                "headwater_postgres_connected",
                COUNT,
                "1 if a session streams from the slot.",
                |it, samples| samples.put(it.is_connected),
            ),
            gauge(
                "headwater_kafka_connected",
                COUNT,
                "1 if the brokers answer, as far as is known.",
                |it, samples| samples.put(it.figures.sink.answers),
            ),
            counter(
                "headwater_starts_total",
                COUNT,
                "Processes that have begun this stream, this one among them once it streams, as its record \
                 in Kafka counts them: it goes on from one to the next, so that a run which ended \
                 between two scrapes is in it, too.",
                |it, samples| samples.put_if_known(it.figures.starts),
            ),
            Metric {
                kind: Kind::Info,
                labels: &["version"],
                ..gauge(
                    "headwater_build_info",
                    COUNT,
                    "1, with the release of the client.",
                    |_, samples| samples.put_with(&[VERSION], true),
                )
            },
        ],
    },
    Group {
        title: "Position and lag",
        about: "Positions are LSNs as numbers of bytes, so that differences are bytes of WAL: \
                `16/B374D848` is 0x16B374D848. WAL is that of the whole server, so a lag in bytes \
                counts what others write, too, until the stream has passed it. A database that \
                rests has no lag in seconds: the server tells several times a second how far it \
                has read. While something is on its way, it is the time up to which everything \
                committed is in Kafka that is told from the clock of the client's machine; a clock \
                that differs from the server's shows as lag.",
        metrics: &[
            gauge(
                "headwater_server_lsn_bytes",
                BYTES,
                "Where the server's WAL ends, asked once a second.",
                |it, samples| samples.put_if_known(it.figures.retained.map(|it| it.wal_end.0)),
            ),
            gauge(
                "headwater_received_lsn_bytes",
                BYTES,
                "How far the server has sent what it has: to the end of the last transaction that has arrived, or \
                 of the WAL that it has read since.",
                |it, samples| samples.put_if_known(position(it.figures.stream.tally.received)),
            ),
            gauge(
                "headwater_delivered_lsn_bytes",
                BYTES,
                "Every record of every transaction that ends before it is acknowledged by Kafka.",
                |it, samples| samples.put_if_known(position(it.figures.stream.delivered)),
            ),
            gauge(
                "headwater_confirmed_lsn_bytes",
                BYTES,
                "What is on record in the state topic and confirmed to the server, which may forget \
                 what is before it; it follows within a second.",
                |it, samples| samples.put_if_known(position(it.figures.stream.confirmed)),
            ),
            gauge(
                "headwater_lag_bytes",
                BYTES,
                "WAL between the server's end and the delivered position.",
                |it, samples| samples.put_if_known(it.lag.bytes()),
            ),
            gauge(
                "headwater_lag_seconds",
                SECONDS,
                "How old the oldest change is that may not be in Kafka yet; 0 where there is none. \
                 Under way it is told as up to twice what it is, never as less.",
                |it, samples| {
                    let micros = it.lag.micros(it.now);
                    samples.put_if_known(micros.map(|micros| micros as f64 / 1e6));
                },
            ),
            gauge(
                "headwater_last_commit_timestamp_seconds",
                SECONDS,
                "When the last transaction was committed that Kafka has acknowledged whole, since 1970.",
                |it, samples| {
                    let micros = it.lag.last_commit();
                    samples.put_if_known(micros.map(|micros| micros as f64 / 1e6));
                },
            ),
        ],
    },
    Group {
        title: "WAL that the slot keeps",
        about: "Asked once a second by the session that keeps other instances away, so it is told \
                while Kafka is away, too. None of it is told while Postgres does not answer.",
        metrics: &[
            gauge(
                "headwater_retained_wal_bytes",
                BYTES,
                "WAL that the server keeps for the slot.",
                |it, samples| samples.put_if_known(it.figures.retained.map(|it| it.bytes)),
            ),
            gauge(
                "headwater_retained_wal_limit_bytes",
                BYTES,
                "--max-retained-wal, if it is given.",
                |it, samples| samples.put_if_known(it.figures.retained_limit),
            ),
            gauge(
                "headwater_safe_wal_bytes",
                BYTES,
                "WAL that may still be written before the slot may lose what it needs, if the server \
                 has max_slot_wal_keep_size.",
                |it, samples| {
                    let safe = it.figures.retained.and_then(|it| it.safe_bytes);
                    samples.put_if_known(safe);
                },
            ),
        ],
    },
    Group {
        title: "Changes",
        about: "Counted as they arrive. After a session broke, the transaction that was arriving comes \
                again, and counts again.",
        metrics: &[
            Metric {
                labels: &["operation"],
                ..counter(
                    "headwater_changes_total",
                    COUNT,
                    "Changes that arrived: insert, update, delete, truncate, message.",
                    |it, samples| {
                        let tally = &it.figures.stream.tally;
                        for (operation, count) in [
                            ("insert", tally.inserts),
                            ("update", tally.updates),
                            ("delete", tally.deletes),
                            ("truncate", tally.truncates),
                            ("message", tally.messages),
                        ] {
                            samples.put_with(&[operation], count);
                        }
                    },
                )
            },
            counter(
                "headwater_transactions_total",
                COUNT,
                "Transactions with changes that have arrived whole.",
                |it, samples| samples.put(it.figures.stream.tally.transactions),
            ),
            gauge(
                "headwater_in_flight_transactions",
                COUNT,
                "Transactions of which something is not acknowledged.",
                |it, samples| samples.put(it.figures.stream.in_flight),
            ),
            counter(
                "headwater_fetched_rows_total",
                COUNT,
                "Rows that were read from their table, since an update left large values out of the \
                 WAL (--toast fetch).",
                |it, samples| samples.put(it.figures.stream.tally.fetched_rows),
            ),
        ],
    },
    Group {
        title: "Delivery",
        about: "Records of the stream, of snapshots and of copies, tombstones and dead letters among \
                them. Kafka's client retries by itself for as long as it takes; how often, it tells \
                only in statistics whose size grows with the number of partitions, so it is not \
                here: a retry that does not help shows as records in flight.",
        metrics: &[
            counter(
                "headwater_delivered_records_total",
                COUNT,
                "Records that Kafka has acknowledged.",
                |it, samples| samples.put(it.figures.sink.delivered_records),
            ),
            counter(
                "headwater_delivered_bytes_total",
                BYTES,
                "Bytes of their keys and values, uncompressed.",
                |it, samples| samples.put(it.figures.sink.delivered_bytes),
            ),
            counter(
                "headwater_refused_records_total",
                COUNT,
                "Records that Kafka has refused: too large for their topic, or for good, which ends the \
                 process.",
                |it, samples| samples.put(it.figures.sink.refused_records),
            ),
            gauge(
                "headwater_in_flight_records",
                COUNT,
                "Records that wait for Kafka's acknowledgement.",
                |it, samples| samples.put(it.figures.sink.in_flight_records),
            ),
            gauge(
                "headwater_in_flight_bytes",
                BYTES,
                "Memory that they take.",
                |it, samples| samples.put(it.figures.sink.in_flight_bytes),
            ),
            gauge(
                "headwater_in_flight_limit_bytes",
                BYTES,
                "What they may take before the stream waits.",
                |it, samples| samples.put(it.figures.sink.limit_bytes),
            ),
            counter(
                "headwater_kafka_outages_total",
                COUNT,
                "How often the brokers stopped answering: all were gone, or acknowledged nothing for \
                 ten seconds.",
                |it, samples| samples.put(it.figures.sink.outages),
            ),
            counter(
                "headwater_kafka_connection_errors_total",
                COUNT,
                "Connections to brokers that failed or broke.",
                |it, samples| samples.put(it.figures.sink.connection_errors),
            ),
            counter(
                "headwater_postgres_reconnects_total",
                COUNT,
                "Sessions that were begun again after one broke.",
                |it, samples| samples.put(it.figures.postgres_reconnects),
            ),
        ],
    },
    Group {
        title: "What a person has to look at",
        about: "Tables are named by a label only where something is wrong with them, and at most 100 of \
                them: beyond that, `(others)`, or the number alone. A series that begins with 1 has \
                no increase for Prometheus: alerts go by the numbers without a label, which are there \
                from the start.",
        metrics: &[
            counter(
                "headwater_quarantined_changes_total",
                COUNT,
                "Changes that the server could not encode, or was told to leave out (--quarantine).",
                |it, samples| samples.put(it.figures.stream.tally.quarantined),
            ),
            counter(
                "headwater_dead_letters_total",
                COUNT,
                "Changes that could not be delivered and are kept as dead letters (--on-error quarantine).",
                |it, samples| samples.put(it.figures.dead_letters.total()),
            ),
            Metric {
                labels: &["table"],
                ..counter(
                    "headwater_table_dead_letters_total",
                    COUNT,
                    "Those of one table, or `logical messages`.",
                    |it, samples| {
                        for (table, count) in it.figures.dead_letters.iter() {
                            samples.put_with(&[table], count);
                        }
                    },
                )
            },
            gauge(
                "headwater_stale_tables",
                COUNT,
                "Tables whose records are not what they hold; the log says why, and headwater snapshot \
                 mends it.",
                |it, samples| samples.put(it.figures.stale.count),
            ),
            Metric {
                labels: &["table"],
                ..gauge(
                    "headwater_stale_table",
                    COUNT,
                    "1 for each such table.",
                    |it, samples| {
                        for table in &it.figures.stale.named {
                            samples.put_with(&[table], true);
                        }
                    },
                )
            },
        ],
    },
    Group {
        title: "Schema registry",
        about: "With `--format avro`. The registry is asked for what is new alone, so nothing here moves \
                while tables stay as they are. A table whose schema has no id yet waits, others go on.",
        metrics: &[
            counter(
                "headwater_registry_questions_total",
                COUNT,
                "Schemas that the registry was asked for, each of which takes up to four requests.",
                |it, samples| samples.put(it.figures.registry.questions),
            ),
            counter(
                "headwater_registry_errors_total",
                COUNT,
                "Those that it did not answer; they are asked again.",
                |it, samples| samples.put(it.figures.registry.errors),
            ),
            counter(
                "headwater_registry_refusals_total",
                COUNT,
                "Those that it does not take: incompatible, or invalid by its rules.",
                |it, samples| samples.put(it.figures.registry.refusals),
            ),
            gauge(
                "headwater_registry_waiting_tables",
                COUNT,
                "Tables of which changes are kept until their schema has an id.",
                |it, samples| samples.put(it.figures.stream.tally.held.tables),
            ),
            gauge(
                "headwater_registry_waiting_bytes",
                BYTES,
                "Memory that these changes take; at 16 MiB the stream waits.",
                |it, samples| samples.put(it.figures.stream.tally.held.bytes),
            ),
        ],
    },
    Group {
        title: "Snapshot and copies",
        about: "Of the snapshot that this process has taken before its stream, if it has; and of copies \
                into the stream (`headwater snapshot`, `--snapshot-mode chunked`).",
        metrics: &[
            gauge(
                "headwater_snapshot_tables",
                COUNT,
                "Tables that are copied; of a partitioned one each partition.",
                |it, samples| samples.put_if_known(it.figures.snapshot.map(|it| it.tables)),
            ),
            gauge(
                "headwater_snapshot_tables_done",
                COUNT,
                "Those that have been read whole.",
                |it, samples| samples.put_if_known(it.figures.snapshot.map(|it| it.tables_done)),
            ),
            gauge(
                "headwater_snapshot_rows",
                COUNT,
                "Rows that have been read and handed to Kafka's client.",
                |it, samples| samples.put_if_known(it.figures.snapshot.map(|it| it.rows)),
            ),
            gauge(
                "headwater_snapshot_estimated_rows",
                COUNT,
                "Rows in all, by the server's estimate; none where a table was never analyzed.",
                |it, samples| {
                    let estimate = it.figures.snapshot.and_then(|it| it.estimated_rows);
                    samples.put_if_known(estimate);
                },
            ),
            gauge(
                "headwater_copies",
                COUNT,
                "Copies into the stream that are under way or wait for their turn.",
                |it, samples| samples.put(it.figures.stream.tally.copies),
            ),
            counter(
                "headwater_copied_rows_total",
                COUNT,
                "Rows that copies into the stream have read.",
                |it, samples| samples.put(it.figures.stream.tally.copied_rows),
            ),
        ],
    },
    Group {
        title: "Process",
        about: "Under the names that Prometheus' own libraries use. The start time moves when a \
                supervisor has started the process again.",
        metrics: &[
            gauge(
                "process_start_time_seconds",
                SECONDS,
                "When the process began, since 1970.",
                |it, samples| samples.put(it.started as f64 / 1e6),
            ),
            counter(
                "process_cpu_seconds_total",
                SECONDS,
                "CPU time of all threads, the system's on their behalf among it.",
                |it, samples| samples.put_if_known(it.process.cpu_seconds),
            ),
            gauge(
                "process_resident_memory_bytes",
                BYTES,
                "Memory that is in RAM.",
                |it, samples| samples.put_if_known(it.process.resident_bytes),
            ),
            gauge(
                "process_virtual_memory_bytes",
                BYTES,
                "Address space.",
                |it, samples| samples.put_if_known(it.process.virtual_bytes),
            ),
            gauge(
                "process_open_fds",
                COUNT,
                "Open files and sockets.",
                |it, samples| samples.put_if_known(it.process.open_files),
            ),
        ],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_say_kind_and_unit() {
        let mut names = HashSet::new();
        for metric in metrics() {
            let name = metric.name;
            assert!(names.insert(name), "{name} is there twice");
            assert!(
                name.starts_with("headwater_") || name.starts_with("process_"),
                "{name}"
            );
            assert_eq!(
                name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{name}"
            );
            assert_eq!(name.ends_with("_info"), metric.kind == Kind::Info, "{name}");
            assert!(
                metric.family().ends_with(metric.unit),
                "{name}: {}",
                metric.unit
            );
            let labels = metric.labels.concat();
            let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
            assert!(name.chars().chain(labels.chars()).all(is_name), "{name}");
        }
    }

    #[test]
    fn meanings_are_sentences_that_need_no_escapes() {
        for metric in metrics() {
            let meaning = metric.meaning;
            assert!(meaning.ends_with('.'), "{}: {meaning}", metric.name);
            assert!(!meaning.contains(['\\', '"', '\n', '|']), "{}", metric.name);
        }
    }
}
