//! A throwaway Kafka: one real broker in KRaft mode, or a second one beside it.

mod console;
pub mod secured;
pub mod tokens;

pub use console::ConsoleConsumer;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::pin::pin;
use std::process::Command;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::installation::{self, output};
use crate::keeper::{self, Folder, Kept, Service};
use crate::port;
use crate::wait::{SOON, eventually};

/// Enough for a broker under test.
const HEAP: [&str; 2] = ["-Xms256m", "-Xmx256m"];

/// How long the broker may take for a question of the harness.
const REQUEST: Duration = Duration::from_secs(30);

/// Settings with which a topic compacts as soon as anything more is written to it: each
/// batch closes the segment before it, and whatever is closed gets cleaned.
pub const COMPACTS_AT_ONCE: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("segment.ms", "1"),
    ("min.cleanable.dirty.ratio", "0.001"),
    // Tombstones stay for the length of any test.
    ("delete.retention.ms", "3600000"),
];

/// A running broker. Dropped, it is gone.
pub struct Kafka {
    broker: Option<Kept>,
    /// Asks for metadata and watermarks; it outlives restarts of the broker.
    observer: BaseConsumer,
    port: u16,
    /// The port of the cluster's controller.
    controller: u16,
    /// Options of the broker's Java alone.
    java: Vec<String>,
    folder: Folder,
}

/// How a broker differs from the ordinary one.
#[derive(Default)]
struct Shape {
    listeners: Vec<Listener>,
    /// The controller of the cluster that it joins; none where it is its own.
    controller: Option<u16>,
    /// Lines of `server.properties`.
    properties: String,
    /// Arguments of `StorageTool format`.
    format: Vec<String>,
    /// Options of the broker's Java.
    java: Vec<String>,
}

/// A listener beside the one that the harness uses.
struct Listener {
    name: &'static str,
    protocol: &'static str,
    port: u16,
    /// The port that the broker's answers name.
    advertised: u16,
}

/// A second way to a broker: whoever comes by it is told to come back through `advertised`,
/// where somebody listens who passes connections on to `port`.
#[derive(Clone, Copy, Debug)]
pub struct Detour {
    /// Where the broker listens.
    pub port: u16,
    /// What its answers say to connect to.
    pub advertised: u16,
}

impl Kafka {
    /// Formats a folder and starts a broker on it.
    ///
    /// # Panics
    ///
    /// If it does not start, with its log.
    pub fn new() -> Self {
        Kafka::with_detour(None)
    }

    /// As [`Kafka::new`], with a second way to it.
    ///
    /// # Panics
    ///
    /// If it does not start, with its log.
    pub fn with_detour(detour: Option<Detour>) -> Self {
        let detour = detour.map(|detour| Listener {
            name: "DETOUR",
            protocol: "PLAINTEXT",
            port: detour.port,
            advertised: detour.advertised,
        });
        Kafka::of(Shape {
            listeners: detour.into_iter().collect(),
            ..Shape::default()
        })
    }

    /// A second broker of this cluster. It comes and goes; the controller stays with this one.
    ///
    /// # Panics
    ///
    /// As [`Kafka::new`].
    #[must_use]
    pub fn second(&self) -> Self {
        Kafka::of(Shape {
            controller: Some(self.controller),
            // What comes later counts.
            properties: "process.roles=broker\nnode.id=2\n".to_owned(),
            ..Shape::default()
        })
    }

    fn of(shape: Shape) -> Self {
        let folder = Folder::new();
        let port = port::free();
        let controller = shape.controller.unwrap_or_else(port::free);
        let mut listeners = format!("PLAINTEXT://127.0.0.1:{port}");
        if shape.controller.is_none() {
            listeners.push_str(&format!(",CONTROLLER://127.0.0.1:{controller}"));
        }
        let mut advertised = format!("PLAINTEXT://127.0.0.1:{port}");
        let mut protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
        for listener in &shape.listeners {
            let name = listener.name;
            listeners.push_str(&format!(",{name}://127.0.0.1:{}", listener.port));
            advertised.push_str(&format!(",{name}://127.0.0.1:{}", listener.advertised));
            protocols.push_str(&format!(",{name}:{}", listener.protocol));
        }
        let mut properties = include_str!("server.properties").to_owned();
        properties.push_str(&format!(
            "controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners={listeners}\n\
             advertised.listeners={advertised}\n\
             listener.security.protocol.map={protocols}\n\
             log.dirs={}\n{}",
            folder.path().join("data").display(),
            shape.properties
        ));
        let files = [
            ("server.properties", properties.as_str()),
            ("log4j2.properties", include_str!("log4j2.properties")),
        ];
        for (name, content) in files {
            let file = folder.path().join(name);
            std::fs::write(&file, content)
                .unwrap_or_else(|e| panic!("cannot write {}: {e}", file.display()));
        }

        let observer = config(&brokers(port)).create();
        let mut kafka = Kafka {
            broker: None,
            observer: observer.unwrap_or_else(|e| panic!("cannot make a consumer: {e}")),
            port,
            controller,
            java: shape.java,
            folder,
        };
        output(
            kafka
                .tool("kafka.tools.StorageTool")
                // Any 16 bytes in base64; the folder's own id is what counts.
                .args(["format", "-t", "aGVhZHdhdGVyLXRlc3RzIQ", "-c"])
                .arg(kafka.folder.path().join("server.properties"))
                .args(shape.format),
        );
        kafka.start();
        kafka
    }

    /// What clients are given as `bootstrap.servers`.
    pub fn brokers(&self) -> String {
        brokers(self.port)
    }

    /// The broker's process id.
    ///
    /// # Panics
    ///
    /// If it was killed.
    pub fn pid(&self) -> u32 {
        match &self.broker {
            Some(broker) => broker.pid().as_raw().cast_unsigned(),
            None => panic!("the broker was killed"),
        }
    }

    /// One of Kafka's own command-line tools, by its class.
    pub fn tool(&self, class: &str) -> Command {
        let mut java = Command::new("java");
        java.args(self.java_options()).arg(class);
        java
    }

    /// Sends the broker a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(broker) = &self.broker {
            broker.signal(signal);
        }
    }

    /// Kills the broker outright.
    pub fn kill(&mut self) {
        if let Some(mut broker) = self.broker.take() {
            broker.signal(Signal::SIGKILL);
            broker.wait(SOON);
        }
    }

    /// Starts the broker again where [`Kafka::kill`] left it: same ports, same data.
    ///
    /// # Panics
    ///
    /// If it does not start, with its log.
    pub fn start(&mut self) {
        let mut broker = Service::new("java")
            .args(HEAP)
            .args(&self.java)
            .args(self.java_options())
            .arg("kafka.Kafka")
            .arg(self.folder.path().join("server.properties"))
            .logging_to(&self.log_file())
            .start();
        eventually("Kafka listens", SOON, || {
            if let Some(exit) = broker.ended() {
                panic!("Kafka ended with {exit:?}:\n{}", self.log());
            }
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))
        });
        eventually("Kafka answers", SOON, || self.topics());
        self.broker = Some(broker);
    }

    /// Makes a topic with one replica.
    ///
    /// # Panics
    ///
    /// If the broker refuses it.
    #[track_caller]
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for &(setting, value) in settings {
            topic = topic.set(setting, value);
        }
        let created = block_on(self.admin().create_topics([&topic], &AdminOptions::new()));
        match created.as_deref() {
            Ok([Ok(_)]) => {}
            other => panic!("cannot create topic \"{name}\": {other:?}"),
        }
        eventually("the topic has a leader", SOON, || {
            let found = self.topics().map_err(|e| e.to_string())?;
            found
                .get(name)
                .copied()
                .filter(|&n| n == partitions)
                .ok_or(format!("{found:?}"))
        });
    }

    /// The names of all topics with their numbers of partitions.
    pub fn topics(&self) -> Result<BTreeMap<String, i32>, rdkafka::error::KafkaError> {
        let metadata = self.observer.fetch_metadata(None, REQUEST)?;
        Ok(metadata
            .topics()
            .iter()
            .map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32))
            .collect())
    }

    /// One setting of a topic.
    ///
    /// # Panics
    ///
    /// If the broker knows no such topic or setting.
    #[track_caller]
    pub fn topic_setting(&self, topic: &str, setting: &str) -> String {
        let resource = ResourceSpecifier::Topic(topic);
        let described = block_on(
            self.admin()
                .describe_configs([&resource], &AdminOptions::new()),
        )
        .unwrap_or_else(|e| panic!("cannot describe topic \"{topic}\": {e}"));
        described
            .into_iter()
            .filter_map(Result::ok)
            .find_map(|config| config.get(setting)?.value.clone())
            .unwrap_or_else(|| panic!("topic \"{topic}\" has no setting \"{setting}\""))
    }

    /// Gives a topic these settings and no others.
    ///
    /// # Panics
    ///
    /// If the broker refuses them.
    #[track_caller]
    pub fn configure_topic(&self, topic: &str, settings: &[(&str, &str)]) {
        let mut change = AlterConfig::new(ResourceSpecifier::Topic(topic));
        for &(setting, value) in settings {
            change = change.set(setting, value);
        }
        let altered = block_on(self.admin().alter_configs([&change], &AdminOptions::new()));
        match altered.as_deref() {
            Ok([Ok(_)]) => {}
            other => panic!("cannot configure topic \"{topic}\": {other:?}"),
        }
        for &(setting, value) in settings {
            eventually("the setting is in force", SOON, || {
                let found = self.topic_setting(topic, setting);
                if found == value { Ok(()) } else { Err(found) }
            });
        }
    }

    /// How many records were ever written to a topic; 0 if there is no such topic.
    pub fn written(&self, topic: &str) -> u64 {
        let partitions = self
            .topics()
            .ok()
            .and_then(|topics| topics.get(topic).copied());
        (0..partitions.unwrap_or(0))
            .filter_map(|partition| {
                self.observer
                    .fetch_watermarks(topic, partition, REQUEST)
                    .ok()
            })
            .map(|(_, high)| high as u64)
            .sum()
    }

    /// How many records were ever written to the first partition of a topic that exists:
    /// one cheap request, for those who ask often.
    pub fn written_to_first_partition(&self, topic: &str) -> u64 {
        self.observer
            .fetch_watermarks(topic, 0, REQUEST)
            .map_or(0, |(_, high)| high as u64)
    }

    /// Starts Kafka's console consumer on a topic.
    pub fn console_consumer(&self, topic: &str) -> ConsoleConsumer {
        ConsoleConsumer::start(self, topic)
    }

    /// The end of the broker's log.
    pub fn log(&self) -> String {
        keeper::tail_of(&self.log_file(), 60)
    }

    pub(crate) fn config(&self) -> ClientConfig {
        config(&self.brokers())
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config()
            .create()
            .unwrap_or_else(|e| panic!("cannot make an admin client: {e}"))
    }

    /// Options with which Java starts quickly and writes nothing outside the folder.
    fn java_options(&self) -> [String; 7] {
        let folder = self.folder.path().display();
        [
            "-XX:TieredStopAtLevel=1".into(),
            "-XX:+UseSerialGC".into(),
            "-XX:-UsePerfData".into(),
            format!("-Djava.io.tmpdir={folder}"),
            format!("-Dlog4j2.configurationFile={folder}/log4j2.properties"),
            "-cp".into(),
            format!("{}/*", installation::kafka().display()),
        ]
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

impl Default for Kafka {
    fn default() -> Self {
        Kafka::new()
    }
}

fn brokers(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// Clients that notice quickly what happens to the one broker there is.
fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", brokers)
        .set("reconnect.backoff.max.ms", "200")
        .set("fetch.wait.max.ms", "20")
        .set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
    config
}

/// Runs a future of the admin client, which has a thread of its own to complete it.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
