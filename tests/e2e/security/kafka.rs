//! Kafka: every login over every transport, with a client of each kind: a producer, a reader and one
//! that administers have to come in the same way.

use std::time::Duration;

use headwater_tests::Client;
use headwater_tests::certificates::Holder;
use headwater_tests::client::Ended;
use headwater_tests::kafka::secured::{PASSWORD, USER, Way};
use headwater_tests::kafka::tokens::{CLIENT_ID, CLIENT_SECRET, TokenEndpoint};

use super::{BROKER, CERTIFICATES, ISSUER, shows_no_secret};
use crate::world::{self, World};

/// How the client comes in: properties, which it has from its environment, where secrets belong.
#[derive(Clone)]
struct Login {
    way: Way,
    properties: Vec<(String, String)>,
}

impl Login {
    fn by(way: Way) -> Self {
        let login = Login {
            way,
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
        let brokers = BROKER.brokers(self.way);
        let brokers = ["-b", &brokers];
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
    }
}
