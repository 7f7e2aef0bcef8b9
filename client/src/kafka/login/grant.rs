//! Tokens from an endpoint, by client id and secret (RFC 6749, 4.4).

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::Value;
use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::RootCerts;

use super::super::{KafkaOptions, Property};
use super::usage;
use crate::error::{Error, ErrorKind, Result};
use crate::tls::{self, Authorities, Greeting, Trust};

/// How long an answer may take. Whoever asks has a connection to Postgres to keep alive, which waits
/// for a minute.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest answer that is read: a token is some kilobytes at most.
const ANSWER_BYTES: u64 = 1 << 20;

/// Of the endpoint's own words, at most so many characters are repeated.
const WORDS: usize = 300;

/// How long after a token that was not to be had the next one is asked for.
const AGAIN: Duration = Duration::from_secs(10);

/// A token is due to be replaced after this part of its life, as librdkafka has it; and a client that
/// comes later gets the same one up to then.
const LIFE: f64 = 0.8;

/// A token that is said to live longer is replaced as if it lived for so long: a year. What is added
/// to a clock has to fit it, and an endpoint may say any number.
const LONGEST_S: f64 = 365.0 * 86_400.0;

/// What a value of a form keeps as it is (`application/x-www-form-urlencoded`).
const FORM: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'*');

/// What a token is asked for with. Whoever asks alike shares the token.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Request {
    url: String,
    id: String,
    secret: String,
    scope: Option<String>,
    extensions: Vec<(String, String)>,
    ca_file: Option<PathBuf>,
    ca_pem: Option<String>,
}

/// Where tokens come from, and the one that was given last.
pub(super) struct Grant {
    request: Request,
    agent: Agent,
    /// `host`, `port` and by whom the endpoint is trusted; none where it speaks no TLS.
    trust: Option<(String, u16, Trust)>,
    /// Held for moments alone.
    state: Mutex<State>,
    /// Held while one is asked for: who has none at all waits for the same.
    asking: Mutex<()>,
}

/// That a thread asks for the next token, for as long as this lives.
struct Renewal(Arc<Grant>);

/// Whatever ends the thread, a panic too, the next one may be started. One that has failed so is
/// not started at once: it may fail so again.
impl Drop for Renewal {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_renewed = false;
        if thread::panicking() {
            state.failed = Some(Instant::now());
        }
    }
}

#[derive(Default)]
struct State {
    /// The token that was given last.
    newest: Option<Token>,
    /// Whether a thread asks for the next one.
    is_renewed: bool,
    /// When none was to be had, since the newest.
    failed: Option<Instant>,
}

/// A token, and what librdkafka wants to know of it. Its text is of printable ASCII.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) value: String,
    /// Whose it is, as far as it says so.
    pub(super) principal: String,
    /// Milliseconds since 1970.
    pub(super) ends_ms: i64,
    /// When to ask for the next one.
    pub(super) due: Instant,
    /// When it is of no use any more, by this process' clock.
    ends: Instant,
    pub(super) extensions: Vec<(String, String)>,
}

/// What the endpoint gives (RFC 6749, 5.1).
#[derive(Deserialize)]
struct Given {
    access_token: String,
    /// Seconds: a number, which some endpoints write as a string.
    expires_in: Option<Value>,
}

/// What it says in place of that (RFC 6749, 5.2).
#[derive(Default, Deserialize)]
struct Refused {
    error: Option<String>,
    error_description: Option<String>,
}

/// The claims of a token that matter here (RFC 7519, 4.1).
#[derive(Default, Deserialize)]
struct Claims {
    sub: Option<String>,
    /// Seconds since 1970, as are those below.
    exp: Option<f64>,
    iat: Option<f64>,
}

/// The grants of this process: all its clients of one cluster log in alike.
static GRANTS: LazyLock<Mutex<HashMap<Request, Arc<Grant>>>> = LazyLock::new(Mutex::default);

impl Grant {
    /// The grant that the properties describe.
    ///
    /// # Errors
    /// Of kind `Usage` where one is missing or wrong.
    pub(super) fn of(options: &KafkaOptions) -> Result<Arc<Self>> {
        let request = Request::of(options)?;
        let mut grants = GRANTS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(grant) = grants.get(&request) {
            return Ok(Arc::clone(grant));
        }
        let grant = Arc::new(Grant::new(request.clone())?);
        grants.insert(request, Arc::clone(&grant));
        Ok(grant)
    }

    fn new(request: Request) -> Result<Self> {
        let roots = match (&request.ca_pem, &request.ca_file) {
            (Some(text), _) => tls::roots_of(text.as_bytes(), "https.ca.pem")?,
            (None, Some(file)) => tls::roots_in(file)?,
            (None, None) => RootCerts::PlatformVerifier,
        };
        let authorities = match (&request.ca_pem, &request.ca_file) {
            (Some(text), _) => Authorities::Pem(text.clone()),
            (None, Some(file)) => Authorities::File(file.clone()),
            (None, None) => Authorities::System,
        };
        Ok(Grant {
            trust: request.trusted(authorities),
            agent: tls::agent(roots, CONNECT_TIMEOUT, TIMEOUT, "application/json"),
            state: Mutex::default(),
            asking: Mutex::default(),
            request,
        })
    }

    /// The newest token as long as it lives. Where it is due to be replaced, a thread sees to that;
    /// where there is none, the first one is waited for.
    ///
    /// # Errors
    /// Naming the endpoint. Of kind `Disconnected` where it does not answer or is not well.
    pub(super) fn token(self: &Arc<Self>) -> Result<Token> {
        if let Some(token) = self.living() {
            self.renew_if_due();
            return Ok(token);
        }
        let _alone = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        match self.living() {
            Some(token) => Ok(token),
            None => self.next(),
        }
    }

    /// The newest token if it is another than the one that was due at `due`; otherwise a thread asks
    /// for it. Never waits for the endpoint.
    pub(super) fn later_than(self: &Arc<Self>, due: Option<Instant>) -> Option<Token> {
        self.renew_if_due();
        self.living().filter(|token| Some(token.due) != due)
    }

    fn living(&self) -> Option<Token> {
        let state = self.state();
        let newest = state.newest.as_ref();
        newest.filter(|token| Instant::now() < token.ends).cloned()
    }

    /// Has the next token asked for, once at a time, and not again soon after it was not to be had.
    fn renew_if_due(self: &Arc<Self>) {
        let mut state = self.state();
        let is_due = state
            .newest
            .as_ref()
            .is_none_or(|token| token.due <= Instant::now());
        let is_soon = state.failed.is_some_and(|at| at.elapsed() < AGAIN);
        if !is_due || is_soon || state.is_renewed {
            return;
        }
        let renewal = Renewal(Arc::clone(self));
        let thread = thread::Builder::new().name("kafka-token".to_owned());
        state.is_renewed = true;
        // A thread that cannot be started drops what it was to own, and that wants the state.
        drop(state);
        drop(thread.spawn(move || renewal.0.renew()));
    }

    fn renew(&self) {
        let _alone = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        let had_failed = self.state().failed.is_some();
        let renewed = self.next();
        if let Err(error) = renewed
            && !had_failed
        {
            tracing::warn!("no new token for Kafka, asking again: {error}");
        }
    }

    fn next(&self) -> Result<Token> {
        let asked = self.ask();
        let mut state = self.state();
        match &asked {
            Ok(token) => {
                state.newest = Some(token.clone());
                if state.failed.take().is_some() {
                    tracing::info!("there is a token for Kafka again");
                }
            }
            Err(_) => state.failed = Some(Instant::now()),
        }
        asked
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self) -> Result<Token> {
        let asked = SystemTime::now();
        let Request { id, secret, .. } = &self.request;
        // As librdkafka and Java's client send them: not percent-encoded, which RFC 6749, 2.3.1, asks
        // for and few endpoints take.
        let pair = STANDARD.encode(format!("{id}:{secret}"));
        let answer = self
            .agent
            .post(&self.request.url)
            .header("Authorization", format!("Basic {pair}"))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .send(self.request.form());
        let mut answer = answer.map_err(|error| self.unanswered(error))?;
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES);
        let body = body.read_to_vec().map_err(|error| self.unanswered(error))?;
        if status != 200 {
            return Err(self.refused(status, &body));
        }
        let given: Given = serde_json::from_slice(&body)
            .map_err(|_| self.useless("its answer is not the JSON of RFC 6749, 5.1"))?;
        self.read(given, asked)
    }

    fn read(&self, given: Given, asked: SystemTime) -> Result<Token> {
        let value = given.access_token;
        if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(self.useless("its token is not of printable ASCII"));
        }
        let claims = claims(&value);
        let asked_s = asked
            .duration_since(UNIX_EPOCH)
            .map_or(0.0, |time| time.as_secs_f64());
        // Who gives it knows its own clock, and brokers go by what the token says.
        let claimed_s = claims.exp.zip(claims.iat).map(|(end, begin)| end - begin);
        let life_s = match (seconds(given.expires_in.as_ref()), claimed_s) {
            (Some(told_s), Some(claimed_s)) => Some(told_s.min(claimed_s)),
            (Some(told_s), None) => Some(told_s),
            // It may be one that was given before, and have lived already.
            (None, _) => claims.exp.map(|end| end - asked_s),
        };
        let life_s = life_s
            .ok_or_else(|| self.useless("its token does not say when it ends"))?
            .min(LONGEST_S);
        let life = Duration::try_from_secs_f64(life_s)
            .ok()
            .filter(|life| !life.is_zero())
            .ok_or_else(|| self.useless("its token has ended already, by this machine's clock"))?;
        let now = Instant::now();
        Ok(Token {
            principal: claims.sub.unwrap_or_else(|| self.request.id.clone()),
            ends_ms: ((asked_s + life_s) * 1000.0) as i64,
            due: now + life.mul_f64(LIFE),
            ends: now + life,
            extensions: self.request.extensions.clone(),
            value,
        })
    }

    fn unanswered(&self, error: ureq::Error) -> Error {
        let url = &self.request;
        let refusal = self
            .trust
            .as_ref()
            .filter(|_| tls::is_lasting(&error))
            .and_then(|(host, port, trust)| tls::examine(host, *port, trust, Greeting::None));
        if let Some(refusal) = refusal {
            return Error::failed(format!("no token for Kafka from {url}: {refusal}"))
                .with_hint(refusal.cure("-X https.ca.location=FILE"));
        }
        let kind = match tls::is_lasting(&error) {
            true => ErrorKind::Failed,
            false => ErrorKind::Disconnected,
        };
        Error::new(
            kind,
            format!("{url} does not answer, who gives tokens for Kafka"),
        )
        .with_source(error)
        .with_hint("Check -X sasl.oauthbearer.token.endpoint.url.")
    }

    fn refused(&self, status: u16, body: &[u8]) -> Error {
        let words: Refused = serde_json::from_slice(body).unwrap_or_default();
        let mut text = format!(
            "no token for Kafka: {} answers client \"{}\" with {status}",
            self.request, self.request.id
        );
        for words in [words.error, words.error_description].into_iter().flatten() {
            let words: String = words
                .chars()
                .filter(|c| !c.is_control())
                .take(WORDS)
                .collect();
            text = format!("{text}: {words}");
        }
        // Not now: too many questions, or a server that is not well.
        let kind = match status {
            408 | 425 | 429 | 500..=599 => ErrorKind::Disconnected,
            _ => ErrorKind::Failed,
        };
        Error::new(kind, text).with_hint(
            "Check -X sasl.oauthbearer.client.id, sasl.oauthbearer.client.secret and \
             sasl.oauthbearer.scope.",
        )
    }

    fn useless(&self, what: &str) -> Error {
        Error::failed(format!("no token for Kafka from {}: {what}", self.request))
            .with_hint("Check -X sasl.oauthbearer.token.endpoint.url.")
    }
}

impl Request {
    fn of(options: &KafkaOptions) -> Result<Self> {
        let property = |name: &str| options.given(name).filter(|it| !it.value.is_empty());
        let given = |name: &str| property(name).map(|it| &*it.value);
        let needed = |name: &str| {
            property(name).ok_or_else(|| {
                let method = options.given("sasl.oauthbearer.method");
                let method = method.map(ToString::to_string).unwrap_or_default();
                usage(format!("{method} needs {name}")).with_hint(format!(
                    "Add -X {name}=…, by file or environment if it is secret."
                ))
            })
        };
        let endpoint = needed("sasl.oauthbearer.token.endpoint.url")?;
        let is_url = endpoint.value.parse::<Uri>().is_ok_and(|url| {
            let scheme = url.scheme_str().unwrap_or_default();
            let plain = url.authority().is_some_and(|it| !it.as_str().contains('@'));
            matches!(scheme, "http" | "https") && plain
        });
        if !is_url {
            // Without its value, which may hold a login.
            let endpoint = endpoint.place_and_name();
            let what = format!("{endpoint} is no URL of http or https");
            return Err(
                usage(what).with_hint("It is written as https://HOST/PATH, without a login.")
            );
        }
        Ok(Request {
            url: endpoint.value.clone(),
            id: needed("sasl.oauthbearer.client.id")?.value.clone(),
            secret: needed("sasl.oauthbearer.client.secret")?.value.clone(),
            scope: given("sasl.oauthbearer.scope").map(str::to_owned),
            extensions: property("sasl.oauthbearer.extensions")
                .map_or_else(|| Ok(Vec::new()), extensions)?,
            ca_file: given("https.ca.location")
                .filter(|file| *file != "probe")
                .map(PathBuf::from),
            ca_pem: given("https.ca.pem").map(str::to_owned),
        })
    }

    fn form(&self) -> String {
        let mut form = "grant_type=client_credentials".to_owned();
        if let Some(scope) = &self.scope {
            form.push_str("&scope=");
            // A blank may be a plus sign or %20: either is understood.
            form.extend(utf8_percent_encode(scope, FORM));
        }
        form
    }

    fn trusted(&self, authorities: Authorities) -> Option<(String, u16, Trust)> {
        let url: Uri = self.url.parse().ok()?;
        let trust = Trust {
            authorities,
            checks_host: true,
        };
        let host = url.host()?.trim_matches(['[', ']']).to_owned();
        (url.scheme_str() == Some("https")).then(|| (host, url.port_u16().unwrap_or(443), trust))
    }
}

/// The endpoint's URL without its query.
impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.url.find('?').unwrap_or(self.url.len());
        f.write_str(&self.url[..end])
    }
}

impl fmt::Debug for Grant {
    // Neither the secret nor the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Grant({}, {})", self.request, self.request.id)
    }
}

/// `name=value,…` (RFC 7628, 3.1: letters, and printable values).
fn extensions(property: &Property) -> Result<Vec<(String, String)>> {
    let pairs = property
        .value
        .split(',')
        .filter(|pair| !pair.trim().is_empty());
    let read = pairs.map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic());
        let is_value = value
            .bytes()
            .all(|byte| byte.is_ascii_graphic() || byte == b' ');
        (is_name && name != "auth" && is_value).then(|| (name.to_owned(), value.to_owned()))
    });
    read.collect::<Option<_>>().ok_or_else(|| {
        let what = property.place_and_name();
        usage(format!(
            "{what} is no list of NAME=VALUE, with commas between them"
        ))
        .with_hint("A name is of letters, and not auth.")
    })
}

/// A number of seconds, as JSON has it.
fn seconds(value: Option<&Value>) -> Option<f64> {
    match value? {
        Value::String(text) => text.parse().ok().filter(|number: &f64| !number.is_nan()),
        number => number.as_f64(),
    }
}

/// What a token says of itself, where it is a JSON Web Token. Nothing is verified: that is the
/// broker's to do.
fn claims(token: &str) -> Claims {
    let mut parts = token.split('.');
    let claims = parts
        .nth(1)
        .and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    claims
        .and_then(|claims| serde_json::from_slice(&claims).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
