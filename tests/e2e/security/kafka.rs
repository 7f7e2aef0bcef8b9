//! Kafka: every login over every transport, with a client of each kind: a producer, a reader and one
//! that administers have to come in the same way.

use std::time::Duration;

use headwater_tests::certificates::Holder;
use headwater_tests::client::Ended;
use headwater_tests::kafka::secured::{PASSWORD, Secured, USER, Way};
use headwater_tests::kafka::tokens::{CLIENT_ID, CLIENT_SECRET, TokenEndpoint};
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Certificates, Client};

use super::{BROKER, CERTIFICATES, ISSUER, shows_no_secret};
use crate::world::{self, World};

/// How the client comes in: properties, which it has from its environment, where secrets belong.
#[derive(Clone)]
struct Login {
    brokers: String,
    properties: Vec<(String, String)>,
}

impl Login {
    fn by(way: Way) -> Self {
        let login = Login {
            brokers: BROKER.brokers(way),
            properties: Vec::new(),
        };
        let login = login.with("security.protocol", way.protocol());
        match way {
            Way::SaslPlaintext => login,
            _ => login.with("ssl.ca.location", &path(&CERTIFICATES.authority())),
        }
    }

    fn password(way: Way, mechanism: &str, password: &str) -> Self {
        Login::by(way)
            .with("sasl.mechanism", mechanism)
            .with("sasl.username", USER)
            .with("sasl.password", password)
    }

    fn token(way: Way, endpoint: &TokenEndpoint) -> Self {
        Login::by(way)
            .with("sasl.mechanism", "OAUTHBEARER")
            .with("sasl.oauthbearer.method", "oidc")
            .with("sasl.oauthbearer.token.endpoint.url", &endpoint.url())
            .with("sasl.oauthbearer.client.id", CLIENT_ID)
            .with("sasl.oauthbearer.client.secret", CLIENT_SECRET)
            .with("sasl.oauthbearer.scope", "topics:write")
            .with("sasl.oauthbearer.extensions", "cluster=lkc1,pool=p-1")
    }

    fn certificate() -> Self {
        let file = path(&CERTIFICATES.identity(Holder::Client));
        Login::by(Way::MutualTls)
            .with("ssl.certificate.location", &file)
            .with("ssl.key.location", &file)
    }

    fn at(mut self, brokers: &str) -> Self {
        self.brokers = brokers.to_owned();
        self
    }

    /// The last value of a property counts.
    fn with(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    fn start(&self, arguments: &[&str]) -> Client {
        let properties = self.properties.iter();
        let lines: Vec<String> = properties
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let brokers = ["-b", &self.brokers];
        Client::start_with(
            arguments.iter().chain(&brokers),
            &[("HEADWATER_PROPERTIES", &lines.join("\n"))],
        )
    }

    fn tail(&self, topic: &str) -> Ended {
        self.start(&["tail", "--from-beginning", "--exit", topic])
            .wait()
    }
}

fn path(path: &std::path::Path) -> String {
    path.display().to_string()
}

/// A stream that goes on by one login after the other.
struct Stream {
    world: World<'static>,
    rows: usize,
}

impl Stream {
    fn new(name: &str) -> Self {
        let world = World::on(world::postgres(), BROKER.kafka(), name);
        world.sql.run("create table t (id int primary key)");
        Stream { world, rows: 0 }
    }

    fn start(&self, login: &Login) -> Client {
        let conninfo = self.world.postgres.conninfo(&self.world.name);
        login.start(&[
            "stream",
            "-v",
            "-v",
            "-d",
            &conninfo,
            "-S",
            &self.world.name,
        ])
    }

    #[track_caller]
    fn insert(&mut self) {
        self.rows += 1;
        self.world
            .sql
            .run(&format!("insert into t values ({})", self.rows));
    }

    /// Sends a row and reads them all.
    #[track_caller]
    fn passes(&mut self, login: &Login) {
        let mut client = self.start(login);
        client.streams();
        self.insert();
        self.world.catches_up();
        let streamed = client.terminate();
        streamed.expect(0, &[]);
        shows_no_secret(&streamed.stderr);
        let read = login.tail(&self.world.topic("t"));
        read.expect(0, &[]);
        assert_eq!(read.stdout.lines().count(), self.rows, "{}", read.stdout);
    }

    /// Looks at the stream by the commands that only look.
    #[track_caller]
    fn is_seen(&self, login: &Login) {
        let conninfo = self.world.postgres.conninfo(&self.world.name);
        for (command, says) in [
            ("status", "1 stream on record"),
            ("doctor", "1 broker answers"),
        ] {
            let ended = login
                .start(&[command, "-d", &conninfo, "-S", &self.world.name])
                .wait();
            assert!(
                ended.stdout.contains(says),
                "{}{}",
                ended.stdout,
                ended.stderr
            );
            shows_no_secret(&ended.stdout);
            shows_no_secret(&ended.stderr);
        }
    }
}

#[test]
fn every_login_lets_producer_reader_and_administrator_in() {
    let tokens = TokenEndpoint::of(&ISSUER, Duration::from_secs(3600));
    let mut stream = Stream::new("security_logins");
    for login in [
        Login::password(Way::SaslTls, "PLAIN", PASSWORD),
        Login::password(Way::SaslTls, "SCRAM-SHA-256", PASSWORD),
        Login::password(Way::SaslTls, "SCRAM-SHA-512", PASSWORD),
        Login::token(Way::SaslTls, &tokens),
        Login::certificate(),
    ] {
        stream.passes(&login);
    }
    // A stream has a producer for rows, one for its state, a reader and an administrator.
    assert_eq!(tokens.given(), 2, "one for the stream and one for tail");
}

#[test]
#[ignore = "the rest of the matrix: make test-security"]
fn every_login_works_without_tls_and_tls_without_a_login() {
    let tokens = TokenEndpoint::of(&ISSUER, Duration::from_secs(3600));
    let mut stream = Stream::new("security_logins_in_the_clear");
    for login in [
        Login::by(Way::Tls),
        Login::password(Way::SaslPlaintext, "PLAIN", PASSWORD),
        Login::password(Way::SaslPlaintext, "SCRAM-SHA-256", PASSWORD),
        Login::password(Way::SaslPlaintext, "SCRAM-SHA-512", PASSWORD),
        Login::token(Way::SaslPlaintext, &tokens),
    ] {
        stream.passes(&login);
        stream.is_seen(&login);
    }
    // Who listens on this machine may know the password already.
    let plain = Login::password(Way::SaslPlaintext, "PLAIN", PASSWORD);
    let elsewhere = plain
        .clone()
        .at(&format!("{},kafka.invalid:9092", plain.brokers));
    let topic = stream.world.topic("t");
    let warning = "the password for Kafka goes in the clear to kafka.invalid:9092";
    let ended = elsewhere.tail(&topic);
    ended.expect(0, &[warning, "SASL_SSL", "SCRAM-SHA-512"]);
    shows_no_secret(&ended.stderr);
    let ended = plain.tail(&topic);
    assert!(!ended.stderr.contains("in the clear"), "{}", ended.stderr);
    let conninfo = stream.world.postgres.conninfo(&stream.world.name);
    let doctor = elsewhere.start(&["doctor", "-d", &conninfo, "-S", &stream.world.name]);
    let doctor = doctor.wait();
    // Lines are broken where the terminal ends.
    let words: Vec<&str> = doctor.stdout.split_whitespace().collect();
    assert!(words.join(" ").contains(warning), "{}", doctor.stdout);
}

/// What refuses a client, and what the error then says.
struct Refused {
    login: Login,
    says: Vec<String>,
}

impl Refused {
    fn new(login: Login, says: &[&str]) -> Self {
        // Each names the endpoint.
        let mut says: Vec<String> = says.iter().map(|text| (*text).to_owned()).collect();
        says.push(login.brokers.clone());
        says.push("hint: ".to_owned());
        Refused { login, says }
    }

    /// A reader that does not come in ends at once; it waits for no outage to pass.
    #[track_caller]
    fn is(&self) {
        let ended = self.login.tail("any");
        let says: Vec<&str> = self.says.iter().map(String::as_str).collect();
        ended.expect(1, &says);
        shows_no_secret(&ended.stderr);
    }
}

#[test]
fn certificates_that_nobody_should_take_are_refused_with_what_is_wrong_with_them() {
    let stranger = path(&CERTIFICATES.stranger());
    for refused in [
        Refused::new(
            Login::by(Way::Tls).with("ssl.ca.location", &stranger),
            &[
                "is not trusted",
                "its issuer, CN=Headwater's tests, is not among",
                &stranger,
                "hint: Name the certificate of its issuer: -X ssl.ca.location=FILE.",
            ],
        ),
        Refused::new(
            Login::by(Way::Expired),
            &["is refused: it ended on ", "renewed"],
        ),
        Refused::new(
            Login::by(Way::Elsewhere),
            &[
                "it is for elsewhere.example, and not for 127.0.0.1",
                "hint: Connect by a name that the certificate is for",
            ],
        ),
        Refused::new(
            Login::password(Way::SaslTls, "PLAIN", PASSWORD).with("ssl.ca.location", &stranger),
            &["its issuer, CN=Headwater's tests, is not among"],
        ),
    ] {
        refused.is();
    }
}

#[test]
fn who_shows_no_login_or_a_wrong_one_is_refused_at_once() {
    let tokens = TokenEndpoint::of(&ISSUER, Duration::from_secs(3600));
    let wrong_secret = Login::token(Way::SaslTls, &tokens)
        .with("sasl.oauthbearer.client.secret", "not-the-secret");
    for refused in [
        Refused::new(
            Login::password(Way::SaslTls, "PLAIN", "wrong"),
            &[
                "refuses the login",
                "Invalid username or password",
                "sasl.password",
            ],
        ),
        Refused::new(
            Login::password(Way::SaslTls, "SCRAM-SHA-512", "wrong"),
            &["invalid credentials", "sasl.password"],
        ),
        Refused::new(
            Login::by(Way::MutualTls),
            // How the alert is called is the broker's Java's to say.
            &[
                "asks for a certificate of the client",
                "-X ssl.certificate.location=FILE",
            ],
        ),
    ] {
        refused.is();
    }
    let ended = wrong_secret.tail("any");
    ended.expect(
        1,
        &[
            &tokens.url(),
            "answers client \"headwater\" with 401: invalid_client: Nobody here knows you",
            "hint: Check -X sasl.oauthbearer.client.id",
        ],
    );
    assert!(!ended.stderr.contains("not-the-secret"), "{}", ended.stderr);
}

#[test]
#[ignore = "what fails in silence is waited for: make test-security"]
fn another_protocol_than_the_listeners_is_guessed() {
    for refused in [
        Refused::new(
            Login::by(Way::Tls).with("security.protocol", "PLAINTEXT"),
            &["speaks TLS, for which it was not asked", "SASL_SSL"],
        ),
        Refused::new(
            Login::by(Way::SaslTls).with("security.protocol", "SSL"),
            &[
                "does not answer",
                "-X security.protocol",
                "hangs up in silence",
            ],
        ),
        Refused::new(
            Login::by(Way::SaslPlaintext).with("security.protocol", "SSL"),
            &[
                "does not answer",
                "connecting to a PLAINTEXT broker listener?",
            ],
        ),
    ] {
        refused.is();
    }
}

#[test]
#[ignore = "tokens have to end first: make test-security"]
fn tokens_are_replaced_before_they_end_and_the_stream_notices_nothing() {
    const LIFE: Duration = Duration::from_secs(8);
    let tokens = TokenEndpoint::of(&ISSUER, LIFE);
    let mut stream = Stream::new("security_tokens");
    let mut client = stream.start(&Login::token(Way::SaslTls, &tokens));
    client.streams();
    while tokens.given() < 4 {
        stream.insert();
        stream.world.catches_up();
    }
    assert_eq!(client.said("waiting for Kafka"), None);
    // Nobody gives tokens for a while: the one that is there is good for a fifth of its life.
    tokens.answer(503);
    client.says("no new token for Kafka, asking again");
    tokens.answer(0);
    client.says("there is a token for Kafka again");
    stream.insert();
    stream.world.catches_up();
    let ended = client.terminate();
    ended.expect(0, &[]);
    shows_no_secret(&ended.stderr);
    stream.world.topic_equals_table("t", "id");
}

#[test]
#[ignore = "a broker of its own, started three times: make test-security"]
fn a_certificate_that_ends_while_all_runs_is_told_and_waited_for() {
    let certificates = Certificates::new();
    let mut broker = Secured::new(&certificates, &ISSUER);
    let sql = world::postgres().database("security_ends");
    sql.run("create table t (id int primary key)");
    let login = Login::by(Way::Tls)
        .with("ssl.ca.location", &path(&certificates.authority()))
        .at(&broker.brokers(Way::Tls));
    let conninfo = world::postgres().conninfo("security_ends");
    let mut client = login.start(&["stream", "-d", &conninfo, "-S", "security_ends"]);
    client.streams();

    let shown = certificates.identity(Holder::Server);
    let fine = std::fs::read(&shown).unwrap();
    for (content, says) in [
        (
            std::fs::read(certificates.identity(Holder::Expired)).unwrap(),
            "is refused: it ended on",
        ),
        (fine, "answers again"),
    ] {
        broker.kill();
        std::fs::write(&shown, content).unwrap();
        broker.start();
        sql.run("insert into t select count(*) from t");
        client.says(says);
    }
    eventually("both rows arrive", SOON, || {
        let written = broker.kafka().written("t");
        check(written >= 2, || format!("{written} of 2"))
    });
    client.terminate().expect(0, &[]);
}
