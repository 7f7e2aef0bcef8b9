//! What every client of Kafka has in common: whether its brokers answer, and its log.
//!
//! librdkafka reconnects by itself and says so in many lines. An operator needs two:
//! one when no broker answers any more and one when they do again. Its own lines
//! are kept for those who ask, at debug level under the target `librdkafka`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::{Client, ClientContext};
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer, ProducerContext};

use super::login::Login;
use super::{KafkaOptions, creation_error};
use crate::error::{Error, ErrorKind, Remedy, Result, kafka};
use crate::log;
use crate::tls::{self, Authorities, Greeting, Refusal, Trust};

/// How long brokers may take to answer for the first time. Long enough for one that is
/// just starting (two to eight seconds), short enough to read the error in a terminal.
const FIRST_CONTACT: Duration = Duration::from_secs(10);

/// How many events are taken between two questions. librdkafka's log lines are events, too, and
/// stand before the error that ends the waiting.
pub(super) const EVENTS: usize = 16;

/// How long the first question of several may take, and how long any: whoever asks has others to serve
/// meanwhile.
const BRIEF: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(2);

/// Whether the brokers of one client answer.
#[derive(Debug)]
pub(crate) struct Connection {
    brokers: String,
    login: Login,
    transport: Transport,
    /// Whether outages are logged: one client of a process does it for all.
    herald: bool,
    /// Set after the first answer: before it, an outage is an error of the start.
    met: AtomicBool,
    out: AtomicBool,
    outages: AtomicU64,
    errors: AtomicU64,
    /// Whether it was said in this outage that brokers refuse.
    away: AtomicBool,
    /// The newest complaint of librdkafka about a broker.
    complaint: Mutex<Option<Complaint>>,
}

/// Properties that name a file, or a folder.
const FILES: [&str; 5] = [
    "ssl.ca.location",
    "ssl.certificate.location",
    "ssl.key.location",
    "ssl.keystore.location",
    "ssl.crl.location",
];

/// What `security.protocol` asks for.
#[derive(Debug)]
enum Transport {
    Clear,
    /// TLS, whoever answers.
    Unverified,
    /// TLS, with brokers that are trusted so.
    Verified(Trust),
}

#[derive(Clone, Debug)]
struct Complaint {
    code: RDKafkaErrorCode,
    reason: String,
}

impl Connection {
    /// The connection that tells of outages, and first of logins that others can read.
    ///
    /// # Errors
    /// As [`Login::of`].
    pub(crate) fn herald(options: &KafkaOptions) -> Result<Self> {
        let silent = Self::silent(options)?;
        options.exposed_logins().iter().for_each(log::warn);
        Ok(Connection {
            herald: true,
            ..silent
        })
    }

    /// A connection beside one that tells of outages already.
    ///
    /// # Errors
    /// As [`Login::of`].
    pub(crate) fn silent(options: &KafkaOptions) -> Result<Self> {
        Ok(Connection {
            brokers: options.brokers().to_owned(),
            login: Login::of(options)?,
            transport: Transport::of(options)?,
            herald: false,
            met: AtomicBool::new(false),
            out: AtomicBool::new(false),
            outages: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            away: AtomicBool::new(false),
            complaint: Mutex::new(None),
        })
    }

    /// How its client logs in.
    pub(crate) fn login(&self) -> &Login {
        &self.login
    }

    /// As `host:port`, separated by commas.
    pub(crate) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Takes what librdkafka reports about its connections.
    pub(crate) fn error(&self, error: &KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, reason, "error");
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => {
                let reason = self.complaint().map(|complaint| complaint.reason);
                self.lost(reason.as_deref().unwrap_or("no broker answers"));
            }
            Some(code) if is_of_connection(code) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                // The broker's answer to a certificate comes when the handshake seems over.
                let code = match tls::is_about_the_clients_certificate(reason) {
                    true => RDKafkaErrorCode::SSL,
                    false => code,
                };
                let reason = plain(reason);
                let complaint = Complaint { code, reason };
                *self.lock() = Some(complaint.clone());
                if kafka::of(code) != Remedy::Retry {
                    self.turned_away(&complaint);
                }
            }
            _ => {}
        }
    }

    /// Says once that records wait.
    pub(crate) fn lost(&self, reason: &str) {
        if self.herald
            && self.met.load(Ordering::Relaxed)
            && !self.out.swap(true, Ordering::Relaxed)
        {
            self.outages.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(brokers = self.brokers, reason, "waiting for Kafka");
        }
    }

    /// Says once in an outage that brokers answer and refuse: a person has to mend something,
    /// whatever the outage began with. Records wait, since that may be a restart with a wrong
    /// certificate; librdkafka tries on.
    fn turned_away(&self, complaint: &Complaint) {
        if self.herald
            && self.met.load(Ordering::Relaxed)
            && !self.away.swap(true, Ordering::Relaxed)
        {
            if !self.out.swap(true, Ordering::Relaxed) {
                self.outages.fetch_add(1, Ordering::Relaxed);
            }
            let reason = match self.refusal(complaint) {
                Some(refusal) => refusal.to_string(),
                None => complaint.reason.clone(),
            };
            tracing::warn!(
                brokers = self.brokers,
                reason,
                "waiting for Kafka, which refuses"
            );
        }
    }

    /// What is wrong with the certificate of the broker that a complaint is about.
    fn refusal(&self, complaint: &Complaint) -> Option<Refusal> {
        let Transport::Verified(trust) = &self.transport else {
            return None;
        };
        let (host, port) = broker_of(&complaint.reason)?;
        let is_refused = complaint.code == RDKafkaErrorCode::SSL && tls::lasts(&complaint.reason);
        is_refused.then(|| tls::examine(host, port, trust, Greeting::None))?
    }

    /// Says once that an outage is over. Called for every sign of life, so it is cheap.
    pub(crate) fn alive(&self) {
        if self.out.load(Ordering::Relaxed) && self.out.swap(false, Ordering::Relaxed) {
            self.away.store(false, Ordering::Relaxed);
            tracing::info!(brokers = self.brokers, "Kafka answers again");
        }
    }

    /// Whether the brokers answer: no outage is known.
    pub(crate) fn answers(&self) -> bool {
        !self.out.load(Ordering::Relaxed)
    }

    /// How many outages there were.
    pub(crate) fn outages(&self) -> u64 {
        self.outages.load(Ordering::Relaxed)
    }

    /// How many connections to single brokers failed or broke.
    pub(crate) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }

    /// Asks the brokers for a sign of life, which is any answer about `topic`, and waits a moment
    /// for it, each time a longer one.
    pub(crate) fn probe<C: ClientContext>(
        &self,
        client: &Client<C>,
        topic: &str,
        patience: &mut Patience,
    ) {
        if client.fetch_metadata(Some(topic), patience.more()).is_ok() {
            self.alive();
            *patience = Patience::new();
        }
    }

    /// Takes a line of librdkafka's log.
    pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, line: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::warn!(target: "librdkafka", facility, "{line}");
            }
            _ => tracing::debug!(target: "librdkafka", facility, "{line}"),
        }
    }

    fn complaint(&self) -> Option<Complaint> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Complaint>> {
        self.complaint
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The error of a start without an answer.
    fn unreachable(&self) -> Error {
        let complaint = self.complaint();
        if let Some(refusal) = complaint.as_ref().and_then(|own| self.refusal(own)) {
            let message = format!("Kafka at {} is not trusted: {refusal}", self.brokers);
            return Error::failed(message).with_hint(refusal.cure("-X ssl.ca.location=FILE"));
        }
        if complaint.is_none() && self.speaks_tls_unasked() {
            return Error::failed(format!(
                "Kafka at {} speaks TLS, for which it was not asked",
                self.brokers
            ))
            .with_hint("Add -X security.protocol=SSL, or SASL_SSL where a login is asked for.");
        }
        let code = complaint.as_ref().map(|complaint| complaint.code);
        let what = match code {
            Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed) => {
                "refuses the login"
            }
            _ => "does not answer",
        };
        let mut message = format!("Kafka at {} {what}", self.brokers);
        if let Some(complaint) = &complaint {
            message = format!("{message}: {}", complaint.reason);
        }
        let kind = code.map_or(ErrorKind::Disconnected, |code| kafka::of(code).kind());
        let is_of_client =
            |complaint: &Complaint| tls::is_about_the_clients_certificate(&complaint.reason);
        let hint = match code {
            Some(RDKafkaErrorCode::Resolve) => {
                "Check --brokers (HEADWATER_BROKERS): host:port, several separated by commas."
            }
            Some(_) if complaint.as_ref().is_some_and(is_of_client) => {
                "The broker asks for a certificate of the client, by an authority that it trusts: \
                 -X ssl.certificate.location=FILE and -X ssl.key.location=FILE."
            }
            code => code.and_then(kafka::cure).unwrap_or(
                "Start Kafka, or check --brokers (HEADWATER_BROKERS) and -X security.protocol: a \
                 broker that is spoken to in another protocol than its listener's hangs up in \
                 silence.",
            ),
        };
        Error::new(kind, message).with_hint(hint)
    }

    /// Whether it is TLS that a broker waits for in vain: it says nothing, and neither does
    /// librdkafka.
    fn speaks_tls_unasked(&self) -> bool {
        let first = self.brokers.split(',').next();
        let Some((host, port)) = first.and_then(|first| first.trim().rsplit_once(':')) else {
            return false;
        };
        matches!(self.transport, Transport::Clear)
            && port.parse().is_ok_and(|port| tls::is_spoken(host, port))
    }

    /// Whether trying on is pointless: the brokers answer, and refuse.
    fn refused(&self) -> bool {
        self.complaint()
            .is_some_and(|complaint| kafka::of(complaint.code) != Remedy::Retry)
    }
}

/// The context of a client that needs no more than its connection.
#[derive(Debug)]
pub(crate) struct Watch(pub(crate) std::sync::Arc<Connection>);

impl ClientContext for Watch {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        Connection::log(level, facility, line);
    }

    fn stats_raw(&self, _: &[u8]) {}

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(&error, reason);
    }
}

impl rdkafka::consumer::ConsumerContext for Watch {}
impl rdkafka::producer::ProducerContext for Watch {
    type DeliveryOpaque = ();
    fn delivery(&self, _: &rdkafka::producer::DeliveryResult<'_>, (): ()) {}
}

/// Whether the code says that a broker cannot be reached; a consumer reports others too.
fn is_of_connection(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::SSL
            | RDKafkaErrorCode::Authentication
            | RDKafkaErrorCode::SaslAuthenticationFailed
            | RDKafkaErrorCode::OperationTimedOut
    )
}

/// The host and the port of the broker that a complaint begins with, as `ssl://one:9093: no route`
/// or `one:9092/1: no route`.
fn broker_of(complaint: &str) -> Option<(&str, u16)> {
    let (broker, _) = complaint.split_once(": ")?;
    let address = broker.split_once("://").map_or(broker, |(_, rest)| rest);
    let address = address.split('/').next()?;
    let (host, port) = address.rsplit_once(':')?;
    Some((host.trim_matches(['[', ']']), port.parse().ok()?))
}

impl Transport {
    /// As librdkafka reads its properties.
    ///
    /// # Errors
    /// Of kind `Usage` where a file cannot be read: OpenSSL would say so in words about itself.
    fn of(options: &KafkaOptions) -> Result<Self> {
        if !["SSL", "SASL_SSL"]
            .iter()
            .any(|protocol| options.is("security.protocol", protocol))
        {
            return Ok(Transport::Clear);
        }
        let given = |name| {
            let property = options.given(name)?;
            (!property.value.is_empty() && property.value != "probe").then_some(property)
        };
        for property in FILES.into_iter().filter_map(given) {
            std::fs::File::open(&property.value).map_err(|error| {
                let text = format!("{property} cannot be read");
                Error::new(ErrorKind::Usage, text).with_source(error)
            })?;
        }
        if options.is("enable.ssl.certificate.verification", "false") {
            return Ok(Transport::Unverified);
        }
        let place = given("ssl.ca.location").map(|it| PathBuf::from(&it.value));
        let authorities = match (given("ssl.ca.pem"), place) {
            (Some(pem), _) => Authorities::Pem(pem.value.clone()),
            (None, Some(place)) if place.is_dir() => Authorities::Folder(place),
            (None, Some(place)) => Authorities::File(place),
            (None, None) => Authorities::System,
        };
        let checks_host = !options.is("ssl.endpoint.identification.algorithm", "none");
        Ok(Transport::Verified(Trust {
            authorities,
            checks_host,
        }))
    }
}

/// librdkafka's complaint without its inner state: `one:9092/bootstrap: no route (after 3ms
/// in state CONNECT)` is `one:9092: no route`.
fn plain(reason: &str) -> String {
    let end = reason.rfind(" (after ").unwrap_or(reason.len());
    reason[..end].replacen("/bootstrap: ", ": ", 1)
}

/// Waits for the cluster's first answer, at most ten seconds: one about `topic`, whatever it is, since
/// that about all topics is long where there are many, and costs the brokers as much. `between` runs at
/// least every two seconds; in it the client can report its errors.
///
/// # Errors
/// Naming the brokers and the last complaint: of kind `Disconnected` where trying again
/// can help, `Failed` where the brokers answer and refuse, or are not trusted. Or there is no token
/// to log in by. Or what `between` returns.
pub(crate) fn first_contact<C: ClientContext>(
    client: &Client<C>,
    connection: &Connection,
    topic: &str,
    between: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    connection.login().begin(client)?;
    let deadline = Instant::now() + FIRST_CONTACT;
    let mut patience = Patience::new();
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        let answer = client.fetch_metadata(Some(topic), patience.more().min(rest));
        between()?;
        match answer {
            Ok(_) => {
                connection.met.store(true, Ordering::Relaxed);
                return Ok(());
            }
            Err(_) if Instant::now() < deadline && !connection.refused() => {}
            Err(_) => return Err(connection.unreachable()),
        }
    }
}

/// How long each of several questions may take until it is put again: twice as long each time, up to
/// a bound. A broker that is slow answers none that is given up sooner.
pub(crate) struct Patience(Duration);

impl Patience {
    pub(crate) fn new() -> Self {
        Patience(BRIEF)
    }

    /// For the next question.
    pub(super) fn more(&mut self) -> Duration {
        let now = self.0;
        self.0 = (now * 2).min(LONG);
        now
    }
}

/// A producer that has had the cluster's first answer, one about `topic`. `connection` finds in its
/// context what its errors are reported to.
///
/// # Errors
/// A property that librdkafka does not take; or as [`first_contact`].
pub(crate) fn producer<C: ProducerContext>(
    config: &ClientConfig,
    context: C,
    connection: impl Fn(&C) -> &Connection,
    topic: &str,
) -> Result<BaseProducer<C>> {
    let producer: BaseProducer<C> = config
        .create_with_context(context)
        .map_err(|error| creation_error(&error))?;
    first_contact(
        producer.client(),
        connection(producer.context()),
        topic,
        &mut || {
            (0..EVENTS).for_each(|_| producer.poll(Duration::ZERO));
            Ok(())
        },
    )?;
    Ok(producer)
}

#[cfg(test)]
mod tests;
