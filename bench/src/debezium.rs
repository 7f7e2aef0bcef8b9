//! Debezium Server, the peer: how it is started, and the ways it is set.
//!
//! Properties go in as Java system properties, which its configuration reads like the
//! ones of a file.

use std::path::PathBuf;
use std::process::Command;

use headwater_tests::keeper::{Folder, Kept, Service};
use headwater_tests::{Kafka, Postgres, installation};
use nix::sys::signal::Signal;

/// How it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tuning {
    /// As it comes.
    Defaults,
    /// For throughput: larger batches and queues, compression.
    Throughput,
    /// For latency: polls at once, lingers never.
    Latency,
}

impl Tuning {
    fn properties(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Tuning::Defaults => &[],
            Tuning::Throughput => &[
                ("source.max.batch.size", "16384"),
                ("source.max.queue.size", "65536"),
                ("source.poll.interval.ms", "10"),
                ("sink.kafka.producer.linger.ms", "20"),
                ("sink.kafka.producer.batch.size", "524288"),
                ("sink.kafka.producer.compression.type", "lz4"),
                ("sink.kafka.producer.buffer.memory", "134217728"),
            ],
            Tuning::Latency => &[
                ("source.poll.interval.ms", "1"),
                ("sink.kafka.producer.linger.ms", "0"),
            ],
        }
    }
}

/// How it writes keys and values.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    /// JSON without schemas.
    Json,
    /// Avro, with the schemas in the Apicurio Registry at this port of loopback: Debezium's own
    /// converters speak its API.
    Avro(u16),
}

impl Format {
    fn properties(self) -> Vec<(&'static str, String)> {
        let (format, serializer) = match self {
            Format::Json => ("json", "StringSerializer"),
            Format::Avro(_) => ("avro", "ByteArraySerializer"),
        };
        let serializer = format!("org.apache.kafka.common.serialization.{serializer}");
        let own = match self {
            Format::Json => vec![("format.schemas.enable", "false".to_owned())],
            Format::Avro(port) => vec![
                (
                    "format.apicurio.registry.url",
                    format!("http://127.0.0.1:{port}/apis/registry/v2"),
                ),
                ("format.apicurio.registry.auto-register", "true".to_owned()),
                ("format.apicurio.registry.find-latest", "true".to_owned()),
            ],
        };
        let common = [
            ("format.key", format.to_owned()),
            ("format.value", format.to_owned()),
            ("sink.kafka.producer.key.serializer", serializer.clone()),
            ("sink.kafka.producer.value.serializer", serializer),
        ];
        common.into_iter().chain(own).collect()
    }
}

/// What it streams from, and how.
pub(crate) struct Stream<'a> {
    pub(crate) database: &'a str,
    /// The slot's name stands before the table's in the topic.
    pub(crate) slot: &'a str,
    /// `no_data` or `initial_only`.
    pub(crate) snapshot_mode: &'a str,
    pub(crate) tuning: Tuning,
    pub(crate) format: Format,
}

/// A running Debezium Server. Dropped, it is gone.
pub(crate) struct Debezium {
    process: Kept,
    folder: Folder,
}

impl Debezium {
    /// The topic of the table `mixed`.
    pub(crate) fn topic(slot: &str) -> String {
        format!("{slot}.public.mixed")
    }

    /// Starts it. The slot, the publication `everything` and the topics are there.
    pub(crate) fn start(postgres: &Postgres, kafka: &Kafka, stream: &Stream<'_>) -> Self {
        let home = installation::target().join("debezium/debezium-server");
        assert!(
            home.is_dir(),
            "no Debezium Server at {}: setup/debezium.sh fetches it",
            home.display()
        );
        let folder = Folder::new();
        let offsets = folder.path().join("offsets");
        let (port, offsets) = (postgres.port().to_string(), offsets.display().to_string());
        let brokers = kafka.brokers();
        let properties = [
            (
                "source.connector.class",
                "io.debezium.connector.postgresql.PostgresConnector",
            ),
            ("source.database.hostname", "127.0.0.1"),
            ("source.database.port", &port),
            ("source.database.user", "postgres"),
            ("source.database.password", "unused"),
            ("source.database.dbname", stream.database),
            ("source.plugin.name", "pgoutput"),
            ("source.publication.name", "everything"),
            ("source.publication.autocreate.mode", "disabled"),
            ("source.slot.name", stream.slot),
            ("source.snapshot.mode", stream.snapshot_mode),
            ("source.topic.prefix", stream.slot),
            ("source.table.include.list", "public.mixed"),
            ("source.offset.storage.file.filename", &offsets),
            ("source.offset.flush.interval.ms", "1000"),
            ("sink.type", "kafka"),
            ("sink.kafka.producer.bootstrap.servers", &brokers),
        ];
        let properties = properties
            .iter()
            .copied()
            .chain(stream.tuning.properties().iter().copied())
            .map(|(name, value)| (name, value.to_owned()))
            .chain(stream.format.properties())
            .map(|(name, value)| format!("-Ddebezium.{name}={value}"));
        let class_path = format!("{0}/*:{0}/lib/*", home.display());
        let process = Service::new(java())
            .args([
                "--add-opens=java.base/java.lang=ALL-UNNAMED",
                "-XX:-UsePerfData",
            ])
            // Nothing else listens for it here.
            .args(["-Dquarkus.http.port=0", "-Dquarkus.log.level=WARN"])
            .args(properties)
            .args(["-cp", &class_path, "io.debezium.server.Main"])
            .logging_to(&folder.path().join("log"))
            .ended_by(Signal::SIGKILL)
            .start();
        Debezium { process, folder }
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid().as_raw().cast_unsigned()
    }

    /// Fails with the end of what it printed unless it still runs: the run is void.
    ///
    /// # Panics
    ///
    /// If it has ended.
    pub(crate) fn expect_running(&mut self) {
        if let Some(exit) = self.process.ended() {
            let log = headwater_tests::keeper::tail_of(&self.folder.path().join("log"), 30);
            panic!("void: Debezium ended with {exit:?}:\n{log}");
        }
    }
}

/// The oldest release of Java that Debezium Server runs on.
const JAVA: u32 = 21;

/// A Java of that release or later: `HW_BENCH_JAVA`, or one that the system has.
fn java() -> PathBuf {
    if let Some(java) = std::env::var_os("HW_BENCH_JAVA") {
        return java.into();
    }
    let mut installed = std::fs::read_dir("/usr/lib/jvm")
        .into_iter()
        .flatten()
        .filter_map(|folder| Some(folder.ok()?.path().join("bin/java")));
    installed
        .find(|java| release(java).is_some_and(|release| release >= JAVA))
        .unwrap_or_else(|| panic!("no Java {JAVA} or later: name one in HW_BENCH_JAVA"))
}

fn release(java: &PathBuf) -> Option<u32> {
    let output = Command::new(java).arg("-version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let (_, version) = text.split_once("version \"")?;
    version.split(['.', '"']).next()?.parse().ok()
}
