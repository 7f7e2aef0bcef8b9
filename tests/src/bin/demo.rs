//! `make demo`: rows written in psql arrive in a real Kafka, snapshot first, then live,
//! deletes as tombstones, on servers that are gone afterwards.
//!
//! It is the walkthrough with which Bottled Water introduced the idea in 2015, step by
//! step. Every statement is run by psql, and every record is printed as a consumer reads
//! it back: none is an echo of what was written.

use std::io::IsTerminal;
use std::time::Instant;

use headwater_tests::installation::{self, output};
use headwater_tests::kafka::{COMPACTS_AT_ONCE, ConsoleConsumer};
use headwater_tests::topic::{self, Record};
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Kafka, Postgres};
use nix::sys::signal::{SigSet, Signal};

const DATABASE: &str = "demo";
const TOPIC: &str = "test";
const KEY_1: &str = r#"{"id":1}"#;

fn main() {
    std::panic::set_hook(Box::new(|failure| {
        let message = failure
            .payload_as_str()
            .unwrap_or("failed without a message");
        eprintln!("demo: {message}");
    }));
    let begin = Instant::now();
    say("Starting a throwaway Postgres and a throwaway Kafka");
    let demo = Demo::start();
    let client = demo.walk_through();
    say(&format!(
        "That was all of it, in {} s",
        begin.elapsed().as_secs()
    ));
    if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        demo.stay_up();
    }
    client.terminate().expect(0, &[]);
}

struct Demo {
    postgres: Postgres,
    kafka: Kafka,
}

impl Demo {
    fn start() -> Self {
        let (postgres, kafka) = (Postgres::new(), Kafka::new());
        postgres
            .session("postgres")
            .run(&format!("create database {DATABASE}"));
        println!(
            "Postgres {}, port {}",
            postgres.installation().version(),
            postgres.port()
        );
        println!("Apache Kafka, {}", kafka.brokers());
        Demo { postgres, kafka }
    }

    /// Returns the client, which still streams.
    fn walk_through(&self) -> Client {
        say("A topic that Kafka compacts at once: it keeps the newest record of each key");
        self.create_topic();

        say("In psql: the extension, a table, a first row; the slot is for the last step");
        self.psql("create extension headwater");
        self.psql("select pg_create_logical_replication_slot('lines', 'headwater')");
        self.psql("create table test (id serial primary key, value text)");
        self.psql("insert into test (value) values ('hello world!')");

        say("The client copies what is there, then follows the changes");
        let client = self.start_client();

        say(
            "A consumer, Kafka's own, reads from the beginning: the row from before the client's start",
        );
        let mut consumer = self.console_consumer();
        print_records(&consumer.records(1));

        say("Rows that are inserted now arrive as they are committed");
        self.psql("insert into test (value) values ('hello from Postgres')");
        print_records(&consumer.records(1));
        self.psql("insert into test (value) values ('hello'), ('again')");
        print_records(&consumer.records(2));

        say("An update is the new row under the same key");
        self.psql("update test set value = 'modified' where id = 1");
        print_records(&consumer.records(1));
        self.psql(
            "insert into test (value) values ('Kafka compacts what was written before this')",
        );
        print_records(&consumer.records(1));

        let kept = self.compacted(|key_1| {
            key_1
                .value
                .as_deref()
                .is_some_and(|row| row.contains("modified"))
        });
        say("Kafka has compacted: a second consumer sees only the newest record of key 1");
        print_records(&self.console_consumer().records(kept));

        say("A delete is the key and null, a tombstone");
        self.psql("delete from test where id = 1");
        print_records(&consumer.records(1));
        self.psql("delete from test where id in (2, 3)");
        print_records(&consumer.records(2));
        self.psql("insert into test (value) values ('and what was written before this')");
        print_records(&consumer.records(1));

        self.compacted(|key_1| key_1.value.is_none());
        say("Compacted again: a third consumer, headwater's own, finds the tombstones still there");
        self.tail();

        say(
            "The same changes without client and Kafka: the plugin's own lines, through pg_recvlogical",
        );
        self.pg_recvlogical();
        client
    }

    fn create_topic(&self) {
        let settings = COMPACTS_AT_ONCE.map(|(name, value)| format!("--config {name}={value}"));
        show(&format!(
            "kafka-topics --create --topic {TOPIC} --partitions 1 {}",
            settings.join(" ")
        ));
        self.kafka.create_topic(TOPIC, 1, &COMPACTS_AT_ONCE);
    }

    /// Runs a statement in psql and shows what that says.
    fn psql(&self, statement: &str) {
        println!("{}", bold(&format!("{DATABASE}=# {statement};")));
        let said = output(self.postgres.program("psql", DATABASE).args([
            "--no-psqlrc",
            "--set=ON_ERROR_STOP=1",
            "--command",
            statement,
        ]));
        print!("{said}");
    }

    fn start_client(&self) -> Client {
        let conninfo = self.postgres.conninfo(DATABASE);
        let brokers = self.kafka.brokers();
        show(&format!("headwater stream -d '{conninfo}' -b {brokers}"));
        let mut client = Client::start(["stream", "-d", &conninfo, "-b", &brokers]);
        println!("{}", client.says("snapshot complete, streaming changes"));
        client
    }

    fn console_consumer(&self) -> ConsoleConsumer {
        show(&format!(
            "kafka-console-consumer --topic {TOPIC} --from-beginning --formatter-property print.key=true"
        ));
        self.kafka.console_consumer(TOPIC)
    }

    /// Waits until compaction has left one record of key 1, and that one as it should be.
    /// Returns the number of all records that are left.
    fn compacted(&self, is_newest: impl Fn(&Record) -> bool) -> usize {
        eventually("Kafka compacts the topic", SOON, || {
            let records = topic::read(&self.kafka, TOPIC);
            let of_key_1: Vec<_> = records
                .iter()
                .filter(|r| r.key.as_deref() == Some(KEY_1))
                .collect();
            let done = matches!(of_key_1[..], [newest] if is_newest(newest));
            check(done, || format!("{of_key_1:?}")).map(|()| records.len())
        })
    }

    fn tail(&self) {
        let brokers = self.kafka.brokers();
        let options = ["--from-beginning", "--exit"];
        show(&format!(
            "headwater tail -b {brokers} {} {TOPIC}",
            options.join(" ")
        ));
        let tail = Client::run(["tail", "-b", &brokers, options[0], options[1], TOPIC]);
        tail.expect(0, &[]);
        print_records(&tail.stdout.lines().map(str::to_owned).collect::<Vec<_>>());
    }

    fn pg_recvlogical(&self) {
        show(&format!(
            "pg_recvlogical -d {DATABASE} -S lines --start -f -"
        ));
        let end = self
            .postgres
            .session(DATABASE)
            .value("select pg_current_wal_insert_lsn()");
        let lines = output(&mut self.postgres.pg_recvlogical(DATABASE, "lines", &end));
        print!("{lines}");
    }

    /// Says how to connect and waits for Ctrl-C.
    fn stay_up(&self) {
        let (conninfo, brokers) = (self.postgres.conninfo(DATABASE), self.kafka.brokers());
        let client = installation::client();
        println!("Everything stays up until you press Ctrl-C. In other terminals:");
        show(&format!(
            "{} '{conninfo}'",
            self.postgres.installation().program("psql").display()
        ));
        show(&format!(
            "{} tail -b {brokers} --from-beginning {TOPIC}",
            client.display()
        ));
        show(&format!("kcat -b {brokers} -t {TOPIC} -C -K '\\t' -Z"));
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        if signals.thread_block().and_then(|()| signals.wait()).is_ok() {
            println!();
            say("Stopping");
        }
    }
}

/// What comes next, as a heading.
fn say(heading: &str) {
    println!("\n# {heading}");
}

/// A command as the user would type it.
fn show(command: &str) {
    println!("{}", bold(&format!("$ {command}")));
}

fn print_records(records: &[String]) {
    for record in records {
        println!("    {record}");
    }
}

fn bold(text: &str) -> String {
    if std::io::stdout().is_terminal() {
        format!("\x1b[1m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}
