//! `make demo`: rows written in psql arrive in a real Kafka, snapshot first, then live,
//! deletes as tombstones, on servers that are gone afterwards.
//!
//! It is the walkthrough with which Bottled Water introduced the idea in 2015, step by
//! step. Every statement is run by psql, and every record is printed as a consumer reads
//! it back: none is an echo of what was written.
//!
//! With `FORMAT=avro` keys and values are Avro, their schemas are in a real registry, and
//! `headwater tail` is the consumer that reads both; a column is added on the way.

use std::io::IsTerminal;
use std::time::Instant;

use headwater_tests::installation::{self, output};
use headwater_tests::kafka::{COMPACTS_AT_ONCE, ConsoleConsumer};
use headwater_tests::registry::Compatibility;
use headwater_tests::topic::{self, Record};
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Kafka, Postgres, Registry};
use nix::sys::signal::{SigSet, Signal};

const DATABASE: &str = "demo";
const TOPIC: &str = "test";
/// Key 1 in JSON.
const KEY_1: &[u8] = br#"{"id":1}"#;
/// Key 1 in Avro, behind the magic byte and the schema id: the number in zigzag.
const DATUM_1: &[u8] = &[2];
const WIRE_HEADER_BYTES: usize = 5;

fn main() {
    std::panic::set_hook(Box::new(|failure| {
        let message = failure
            .payload_as_str()
            .unwrap_or("failed without a message");
        eprintln!("demo: {message}");
    }));
    let begin = Instant::now();
    let is_avro = match std::env::var("FORMAT").as_deref() {
        Ok("avro") => true,
        Ok("json" | "") | Err(_) => false,
        Ok(other) => panic!("FORMAT=\"{other}\": it is json or avro"),
    };
    say(match is_avro {
        true => "Starting a throwaway Postgres, a throwaway Kafka and a throwaway schema registry",
        false => "Starting a throwaway Postgres and a throwaway Kafka",
    });
    let demo = Demo::start(is_avro);
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
    /// Where the schemas are, if keys and values are Avro.
    registry: Option<Registry>,
}

impl Demo {
    fn start(is_avro: bool) -> Self {
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
        let registry = is_avro.then(|| Registry::new(Compatibility::Full));
        if let Some(registry) = &registry {
            println!("Apicurio Registry, {}, compatibility FULL", registry.url());
        }
        Demo {
            postgres,
            kafka,
            registry,
        }
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

        say(match self.registry {
            None => {
                "A consumer, Kafka's own, reads from the beginning: the row from before the client's start"
            }
            Some(_) => {
                "A consumer, headwater's own, decodes from the beginning: the row from before the client's start"
            }
        });
        let mut consumer = self.consumer();
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
        print_records(&self.consumer().records(kept));

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

        if let Some(registry) = &self.registry {
            say("The schemas are in the registry; readers find them by the ids in the records");
            print_subjects(registry);
            say("A column more is a version more: who reads with the older one goes on");
            self.psql("alter table test add column price numeric(8,2)");
            self.psql("insert into test (value, price) values ('with a price', 9.99)");
            print_records(&consumer.records(1));
            print_subjects(registry);
        }

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
        let avro = match &self.registry {
            None => Vec::new(),
            Some(registry) => ["--format", "avro", "-r", &registry.url()]
                .map(str::to_owned)
                .to_vec(),
        };
        show(&words(
            &format!("headwater stream -d '{conninfo}' -b {brokers}"),
            &avro,
        ));
        let asked = ["stream", "-d", &conninfo, "-b", &brokers].map(str::to_owned);
        let mut client = Client::start(asked.iter().chain(&avro));
        println!("{}", client.says("snapshot complete, streaming changes"));
        client
    }

    fn consumer(&self) -> Consumer {
        if self.registry.is_none() {
            show(&format!(
                "kafka-console-consumer --topic {TOPIC} --from-beginning --formatter-property print.key=true"
            ));
            return Consumer::Console(self.kafka.console_consumer(TOPIC));
        }
        let asked = self.tail_command(&["--from-beginning"]);
        Consumer::Tail {
            client: Client::start(&asked),
            seen: 0,
        }
    }

    /// Waits until compaction has left one record of key 1, and that one as it should be.
    /// Returns the number of all records that are left.
    fn compacted(&self, is_newest: impl Fn(&Record) -> bool) -> usize {
        eventually("Kafka compacts the topic", SOON, || {
            let records = topic::read(&self.kafka, TOPIC);
            let of_key_1: Vec<_> = records.iter().filter(|r| self.is_of_key_1(r)).collect();
            let done = matches!(of_key_1[..], [newest] if is_newest(newest));
            check(done, || format!("{of_key_1:?}")).map(|()| records.len())
        })
    }

    fn is_of_key_1(&self, record: &Record) -> bool {
        let key = record.key_bytes.as_deref().unwrap_or_default();
        match self.registry {
            None => key == KEY_1,
            Some(_) => key.get(WIRE_HEADER_BYTES..) == Some(DATUM_1),
        }
    }

    /// The arguments of `headwater tail`, which are shown.
    fn tail_command(&self, options: &[&str]) -> Vec<String> {
        let brokers = self.kafka.brokers();
        let mut asked = vec!["tail".to_owned(), "-b".to_owned(), brokers];
        if let Some(registry) = &self.registry {
            asked.extend(["-r".to_owned(), registry.url()]);
        }
        asked.extend(options.iter().map(|&option| option.to_owned()));
        asked.push(TOPIC.to_owned());
        show(&words("headwater", &asked));
        asked
    }

    fn tail(&self) {
        let tail = Client::run(self.tail_command(&["--from-beginning", "--exit"]));
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
        let registry = self.registry.as_ref().map(Registry::url);
        let avro = registry.as_ref().map(|url| format!(" -r {url}"));
        show(&format!(
            "{} tail -b {brokers}{} --from-beginning {TOPIC}",
            client.display(),
            avro.unwrap_or_default()
        ));
        show(&match registry {
            None => format!("kcat -b {brokers} -t {TOPIC} -C -K '\\t' -Z"),
            Some(url) => format!("curl {url}/subjects/{TOPIC}-value/versions/latest"),
        });
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        if signals.thread_block().and_then(|()| signals.wait()).is_ok() {
            println!();
            say("Stopping");
        }
    }
}

/// Who reads the topic, from its beginning and then live.
enum Consumer {
    Console(ConsoleConsumer),
    Tail { client: Client, seen: usize },
}

impl Consumer {
    /// The next `count` records, as they are printed.
    fn records(&mut self, count: usize) -> Vec<String> {
        match self {
            Consumer::Console(consumer) => consumer.records(count),
            Consumer::Tail { client, seen } => {
                let begin = *seen;
                *seen += count;
                eventually("headwater tail prints the records", SOON, || {
                    let lines: Vec<_> = client.stdout().lines().map(str::to_owned).collect();
                    let found = lines.get(begin..begin + count).map(<[String]>::to_vec);
                    found.ok_or_else(|| format!("{lines:?}; {}", client.stderr()))
                })
            }
        }
    }
}

/// Asks the registry as one would by hand.
fn print_subjects(registry: &Registry) {
    show(&format!("curl {}/subjects", registry.url()));
    println!("    {:?}", registry.subjects());
    for subject in registry.subjects() {
        let versions = registry.versions(&subject);
        let newest = versions.last().copied().unwrap_or_default();
        show(&format!(
            "curl {}/subjects/{subject}/versions/{newest}/schema",
            registry.url()
        ));
        println!("    {}", registry.newest(&subject).1);
    }
}

fn words(first: &str, rest: &[String]) -> String {
    let rest = rest.iter().map(String::as_str);
    std::iter::once(first)
        .chain(rest)
        .collect::<Vec<_>>()
        .join(" ")
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
