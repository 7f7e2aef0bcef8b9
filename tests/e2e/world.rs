//! What a test works on: a database, a slot and topics that are its own.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use headwater_tests::client::Ended;
use headwater_tests::registry::Compatibility;
use headwater_tests::session::Session;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Kafka, Postgres, Registry, topic};

/// One server for all tests that leave it as it was.
static POSTGRES: LazyLock<Postgres> = LazyLock::new(Postgres::new);
/// One broker for all tests that leave it as it was.
static KAFKA: LazyLock<Kafka> = LazyLock::new(Kafka::new);

/// One registry for all tests that leave it as it was; whoever asks first starts it.
static REGISTRY: LazyLock<Registry> = LazyLock::new(|| Registry::new(Compatibility::Full));

/// The shared schema registry, whose compatibility is FULL.
pub(crate) fn registry() -> &'static Registry {
    &REGISTRY
}

/// The shared server.
pub(crate) fn postgres() -> &'static Postgres {
    &POSTGRES
}

/// The shared broker.
pub(crate) fn kafka() -> &'static Kafka {
    &KAFKA
}

/// A database of its own on the shared server, with a slot of its name.
pub(crate) fn database_with_slot(name: &str) -> Session {
    let sql = postgres().database(name);
    sql.run(&format!(
        "select pg_create_logical_replication_slot('{name}', 'headwater')"
    ));
    sql
}

/// A database of its own on some server, and a broker. Database, slot and schema have the
/// test's name, and so, as `{schema}.{table}` says, have its topics.
pub(crate) struct World<'s> {
    pub(crate) postgres: &'s Postgres,
    pub(crate) kafka: &'s Kafka,
    pub(crate) sql: Session,
    pub(crate) name: String,
}

impl World<'static> {
    /// A world on the shared servers.
    pub(crate) fn new(name: &str) -> Self {
        World::on(postgres(), kafka(), name)
    }
}

impl<'s> World<'s> {
    /// A world on given servers.
    pub(crate) fn on(postgres: &'s Postgres, kafka: &'s Kafka, name: &str) -> Self {
        postgres
            .database(name)
            .run(&format!("create schema {name}"));
        World::found(postgres, kafka, name)
    }

    /// A world whose database is there already.
    pub(crate) fn found(postgres: &'s Postgres, kafka: &'s Kafka, name: &str) -> Self {
        let sql = postgres.session(name);
        sql.run(&format!("set search_path = {name}, public"));
        World {
            postgres,
            kafka,
            sql,
            name: name.to_owned(),
        }
    }

    /// Another session with the database.
    pub(crate) fn session(&self) -> Session {
        let session = self.postgres.session(&self.name);
        session.run(&format!("set search_path = {}, public", self.name));
        session
    }

    /// The topic of a table.
    pub(crate) fn topic(&self, table: &str) -> String {
        format!("{}.{table}", self.name)
    }

    /// The arguments of `headwater stream` into the broker.
    pub(crate) fn arguments(&self, more: &[&str]) -> Vec<String> {
        let conninfo = self.postgres.conninfo(&self.name);
        let brokers = self.kafka.brokers();
        let mut arguments = vec!["stream", "-d", &conninfo, "-S", &self.name, "-b", &brokers];
        arguments.extend(more);
        arguments.into_iter().map(str::to_owned).collect()
    }

    /// Starts `headwater stream` into the broker.
    pub(crate) fn stream(&self, more: &[&str]) -> Client {
        Client::start(self.arguments(more))
    }

    /// Runs `headwater verify` of the stream to its end.
    #[track_caller]
    pub(crate) fn verify(&self, more: &[&str]) -> Ended {
        let mut arguments = self.arguments(more);
        arguments[0] = "verify".to_owned();
        Client::run(arguments)
    }

    /// Does something while a client streams, and stops the client once all of it has arrived.
    #[track_caller]
    pub(crate) fn streamed(&self, more: &[&str], write: impl FnOnce()) {
        let mut client = self.stream(more);
        client.streams();
        write();
        self.catches_up();
        client.terminate().expect(0, &[]);
    }

    /// Waits until everything that is committed now is acknowledged by the broker: the
    /// slot moves only past delivered transactions.
    #[track_caller]
    pub(crate) fn catches_up(&self) {
        let end = self.sql.value("select pg_current_wal_insert_lsn()");
        let reached = format!(
            "select coalesce(confirmed_flush_lsn, '0/0') >= '{end}', confirmed_flush_lsn, active \
             from pg_replication_slots where slot_name = '{}'",
            self.name
        );
        eventually("the slot passes all that is committed", SOON, || {
            let slot = self.sql.rows(&reached);
            let passed = slot
                .first()
                .is_some_and(|row| row[0].as_deref() == Some("t"));
            check(passed, || format!("{end} not reached by {slot:?}"))
        });
    }

    /// Waits until the walsender has decoded all that is committed, whether or not the client has
    /// read it.
    #[track_caller]
    pub(crate) fn is_sent(&self) {
        let end = self.sql.value("select pg_current_wal_insert_lsn()");
        let sent = format!(
            "select coalesce(max(sent_lsn), '0/0') >= '{end}' from pg_stat_replication r \
             join pg_replication_slots s on s.active_pid = r.pid where slot_name = '{}'",
            self.name
        );
        eventually("the walsender sends all that is committed", SOON, || {
            check(self.sql.value(&sent) == "t", || format!("{end} not sent"))
        });
    }

    /// What the topic of a table comes to.
    #[track_caller]
    pub(crate) fn folded(&self, table: &str) -> BTreeMap<String, String> {
        topic::fold(&topic::read(self.kafka, &self.topic(table)))
    }

    /// What the topic of a table ought to come to: the key of each row and the row, as
    /// Postgres itself puts them into JSON.
    #[track_caller]
    pub(crate) fn rows(&self, table: &str, key: &str) -> BTreeMap<String, String> {
        rows(&self.sql, table, key)
    }

    /// Fails unless the topic of a table comes to the table.
    #[track_caller]
    pub(crate) fn topic_equals_table(&self, table: &str, key: &str) {
        assert_same(&self.folded(table), &self.rows(table, key));
    }

    /// Drops the slot that has the world's name.
    pub(crate) fn drop_slot(&self) {
        self.sql
            .run(&format!("select pg_drop_replication_slot('{}')", self.name));
    }

    /// The names of the database's slots, temporary ones too.
    pub(crate) fn slots(&self) -> Vec<String> {
        self.sql.column(
            "select slot_name from pg_replication_slots where database = current_database() \
             order by 1",
        )
    }
}

/// Each row of a table by its key, both in Postgres' own JSON.
#[track_caller]
pub(crate) fn rows(sql: &Session, table: &str, key: &str) -> BTreeMap<String, String> {
    let rows = sql.rows(&format!(
        "select (select row_to_json(k.*) from (select {key}) k)::text, row_to_json(t.*)::text \
         from {table} t"
    ));
    let text = |value: Option<String>| value.unwrap_or_default();
    rows.into_iter()
        .map(|mut row| (text(row[0].take()), text(row[1].take())))
        .collect()
}

/// Fails with the first differences of a topic to its table.
#[track_caller]
pub(crate) fn assert_same(topic: &BTreeMap<String, String>, table: &BTreeMap<String, String>) {
    if topic == table {
        return;
    }
    let missing = table.iter().filter(|(key, _)| !topic.contains_key(*key));
    let surplus = topic.iter().filter(|(key, _)| !table.contains_key(*key));
    let other = table
        .iter()
        .filter_map(|(key, row)| Some((key, row, topic.get(key).filter(|value| *value != row)?)));
    panic!(
        "the topic has {} keys and the table {}\nmissing: {:#?}\nsurplus: {:#?}\n(key, row, record): {:#?}",
        topic.len(),
        table.len(),
        missing.take(5).collect::<Vec<_>>(),
        surplus.take(5).collect::<Vec<_>>(),
        other.take(5).collect::<Vec<_>>(),
    );
}
