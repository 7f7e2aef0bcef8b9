//! The servers, the network between them and the client, and what is made there once.

use super::proxy::Proxy;
use super::workload::tables::{self, Table};
use crate::kafka::{Detour, Kafka};
use crate::port;
use crate::postgres::{Options, Postgres};
use crate::registry::{Compatibility, Registry, url_at};
use crate::session::{Session, SqlError};
use crate::wait::{SOON, eventually};

/// The database and the slot.
pub const NAME: &str = "torture";

/// The topic of dead letters.
pub const DEAD_LETTERS: &str = "torture-dead";

/// A session that says nothing when the server is stopped under it.
pub(crate) fn connect(conninfo: &str) -> Result<Session, SqlError> {
    let session = Session::connect(conninfo)?;
    session.attempt("set client_min_messages = error")?;
    Ok(session)
}

/// Long enough for a machine under load, short against the outages that it is to notice.
pub const WAL_SENDER_TIMEOUT: &str = "8s";

/// Topics that forget nothing, and tell of each record when the broker appended it.
const TOPIC_SETTINGS: [(&str, &str); 3] = [
    ("cleanup.policy", "compact"),
    ("min.compaction.lag.ms", "86400000"),
    ("message.timestamp.type", "LogAppendTime"),
];

/// Partitions of each topic.
const PARTITIONS: i32 = 2;

/// What keys and values are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `--format json`
    Json,
    /// `--format avro`, with a schema registry.
    Avro,
}

/// A server and a broker, each behind a proxy for the client.
pub struct Arena {
    /// The server.
    pub postgres: Postgres,
    /// The broker.
    pub kafka: Kafka,
    /// The client's way to the server.
    pub to_postgres: Proxy,
    /// The client's way to the broker.
    pub to_kafka: Proxy,
    /// The schemas, where keys and values are Avro. It allows every schema: a table's column
    /// changes its type back and forth.
    pub registry: Option<Registry>,
    /// The client's way to it.
    pub to_registry: Option<Proxy>,
}

impl Arena {
    /// Starts all of it, with tables and topics.
    ///
    /// # Panics
    ///
    /// If a part does not start.
    pub fn new(format: Format) -> Self {
        let postgres = Options::default()
            .setting("max_prepared_transactions", "20")
            .start();
        let sql = postgres.database(NAME);
        sql.run(tables::CREATE);
        let broker_port = port::free();
        let to_kafka = Proxy::to(broker_port);
        let kafka = Kafka::with_detour(Some(Detour {
            port: broker_port,
            advertised: to_kafka.port(),
        }));
        for table in Table::ALL {
            kafka.create_topic(table.name(), PARTITIONS, &TOPIC_SETTINGS);
        }
        kafka.create_topic(DEAD_LETTERS, 1, &[("cleanup.policy", "delete")]);
        let registry = match format {
            Format::Json => None,
            Format::Avro => Some(Registry::new(Compatibility::None)),
        };
        let arena = Arena {
            to_postgres: Proxy::to(postgres.port()),
            postgres,
            kafka,
            to_kafka,
            to_registry: registry.as_ref().map(|registry| Proxy::to(registry.port())),
            registry,
        };
        arena.set_wal_sender_timeout(WAL_SENDER_TIMEOUT);
        arena
    }

    /// A session of the harness's own, past the proxy; waits for a server that starts.
    ///
    /// # Panics
    ///
    /// If there is none after [`SOON`].
    #[track_caller]
    pub fn sql(&self) -> Session {
        let conninfo = self.postgres.local_conninfo(NAME);
        eventually("Postgres answers", SOON, || connect(&conninfo))
    }

    /// The arguments of the client.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = self.command("stream");
        if self.registry.is_some() {
            arguments.extend(["--format", "avro"].map(str::to_owned));
        }
        arguments
    }

    /// Those that compare the topics with the tables: but for [`Table::Shifting`], whose
    /// records of before an ADD COLUMN lack the column, and so are not the bytes of the row.
    pub fn verification(&self) -> Vec<String> {
        let but_for = format!("public.{}", Table::Shifting.name());
        let mut arguments = self.command("verify");
        arguments.extend(["--exclude-table".to_owned(), but_for]);
        arguments
    }

    fn command(&self, verb: &str) -> Vec<String> {
        let postgres = format!(
            "host=127.0.0.1 port={} user=postgres dbname={NAME}",
            self.to_postgres.port()
        );
        let kafka = format!("127.0.0.1:{}", self.to_kafka.port());
        let mut command = [verb, "-d", &postgres, "-S", NAME, "-b", &kafka]
            .map(str::to_owned)
            .to_vec();
        if let Some(way) = &self.to_registry {
            command.extend(["-r".to_owned(), url_at(way.port())]);
        }
        command
    }

    /// Sets `wal_sender_timeout` for the sessions that are open as well.
    ///
    /// # Panics
    ///
    /// If the server refuses it.
    pub fn set_wal_sender_timeout(&self, value: &str) {
        let sql = self.sql();
        sql.run(&format!("alter system set wal_sender_timeout = '{value}'"));
        sql.run("select pg_reload_conf()");
    }
}
