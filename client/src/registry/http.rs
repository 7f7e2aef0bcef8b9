//! Questions and answers over HTTP: the login, the time that an answer may take, what a status
//! means.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::{HeaderValue, StatusCode};
use ureq::tls::RootCerts;
use ureq::{Agent, Body};

use super::endpoint::{Endpoint, Login};
use crate::cli::RegistryOptions;
use crate::config::Secret;
use crate::error::{Error, ErrorKind, Remedy, Result, registry as registry_errors};
use crate::tls::{self, Authorities, Greeting, Trust};

/// How long a question may take, from the look at its host's name to the answer's last byte. A
/// registry answers within milliseconds, one whose store elects a leader within seconds.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for a host that does not answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest answer that is read: many times what a schema of 1600 columns takes.
const ANSWER_BYTES: u64 = 16 * 1024 * 1024;

/// Of the registry's own words, at most so many characters are repeated.
const WORDS: usize = 2_000;

/// The media type of Confluent's protocol, and what older servers and proxies say instead.
const ACCEPT: &str = "application/vnd.schemaregistry.v1+json, application/json;q=0.9";
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// Asks one registry, which may have several addresses.
pub(super) struct Http {
    agent: Agent,
    endpoints: Vec<Instance>,
    trust: Trust,
}

struct Instance {
    endpoint: Endpoint,
    /// The header `Authorization`.
    authorization: Option<HeaderValue>,
}

/// What a registry answered.
pub(super) enum Answer<T> {
    /// What was asked for.
    Found(T),
    /// It says no, for this reason.
    Refused(Refusal),
}

/// A status that is no success, and what the registry says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// The number of Confluent's protocol, where there is one.
    pub(super) code: Option<u32>,
    /// Its words, or none.
    pub(super) words: String,
    /// Who says it.
    endpoint: String,
    /// Whether it is about a schema that was sent.
    of_schema: bool,
}

/// The body of an answer that is no success.
#[derive(Default, Deserialize)]
struct Complaint {
    error_code: Option<u32>,
    #[serde(default)]
    message: String,
}

impl Refusal {
    /// The error for a person. `what` is what was asked for, as in "schema 5 cannot be read".
    pub(super) fn into_error(self, what: &str) -> Error {
        let kind = self.remedy().kind();
        let status = StatusCode::from_u16(self.status);
        let reason = status.ok().and_then(|status| status.canonical_reason());
        let mut text = format!(
            "{what}: the schema registry at {} answers {}",
            self.endpoint, self.status
        );
        if let Some(reason) = reason {
            text = format!("{text} ({reason})");
        }
        if !self.words.is_empty() {
            text = format!("{text}: {}", self.words);
        }
        let error = Error::new(kind, text);
        match registry_errors::cure(self.status, self.code).filter(|_| !self.is_misplaced()) {
            Some(cure) => error.with_hint(cure),
            None => error,
        }
    }

    fn remedy(&self) -> Remedy {
        match self.is_misplaced() {
            true => Remedy::Operator,
            false => registry_errors::of(self.status, self.code),
        }
    }

    /// Whether it finds fault with a schema, and none was sent.
    fn is_misplaced(&self) -> bool {
        !self.of_schema && registry_errors::of(self.status, self.code) == Remedy::Data
    }
}

impl Http {
    /// Reads what the options name.
    ///
    /// # Errors
    /// Of kind `Usage`: the URL is none, two logins are given, a file cannot be read.
    pub(super) fn new(urls: &str, options: &RegistryOptions) -> Result<Self> {
        Http::within(TIMEOUT, urls, options)
    }

    /// As [`Http::new`], where an answer may take as long as `timeout`.
    pub(super) fn within(timeout: Duration, urls: &str, options: &RegistryOptions) -> Result<Self> {
        let explicit = Credentials::read(options)?;
        let endpoints = urls.split(',').map(|url| {
            let endpoint = Endpoint::parse(url)?;
            let authorization = explicit.authorization(endpoint.login())?;
            Ok(Instance {
                endpoint,
                authorization,
            })
        });
        let roots = match &options.ca {
            Some(path) => tls::roots_in(path)?,
            None => RootCerts::PlatformVerifier,
        };
        Ok(Http {
            endpoints: endpoints.collect::<Result<_>>()?,
            agent: tls::agent(roots, CONNECT_TIMEOUT, timeout, ACCEPT),
            trust: Trust {
                authorities: match &options.ca {
                    Some(path) => Authorities::File(path.clone()),
                    None => Authorities::System,
                },
                checks_host: true,
            },
        })
    }

    /// A warning where a login is sent in the clear to another machine.
    pub(super) fn exposed_login(&self) -> Option<Error> {
        let exposed = self.endpoints.iter().find(|instance| {
            let elsewhere = |(host, _): (String, u16)| !tls::is_loopback(&host);
            instance.authorization.is_some()
                && !instance.endpoint.has_tls()
                && instance.endpoint.address().is_some_and(elsewhere)
        })?;
        let message = format!(
            "the login for the schema registry goes in the clear: --registry {}",
            exposed.endpoint
        );
        Some(Error::failed(message).with_hint("Use the registry's URL with https://."))
    }

    /// The registry's addresses, without logins.
    pub(super) fn name(&self) -> String {
        let names = self.endpoints.iter().map(|it| it.endpoint.to_string());
        names.collect::<Vec<_>>().join(",")
    }

    /// Asks for what `path` names.
    ///
    /// # Errors
    /// Of kind `Disconnected`: nobody answers, or not now. Of kind `Failed`: TLS cannot be agreed
    /// upon, or the answer is none of a registry's.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>> {
        self.ask(path, None)
    }

    /// Sends `body`, JSON, to what `path` names.
    ///
    /// # Errors
    /// As [`Http::get`].
    pub(super) fn post<T: DeserializeOwned>(&self, path: &str, body: &str) -> Result<Answer<T>> {
        self.ask(path, Some(body))
    }

    /// Asks one address after the other until one has an answer.
    fn ask<T: DeserializeOwned>(&self, path: &str, body: Option<&str>) -> Result<Answer<T>> {
        let mut unanswered = Error::failed("no schema registry is known");
        for instance in &self.endpoints {
            match self.ask_one(instance, path, body) {
                Err(error) if error.kind() == ErrorKind::Disconnected => unanswered = error,
                other => return other,
            }
        }
        Err(unanswered)
    }

    fn ask_one<T: DeserializeOwned>(
        &self,
        instance: &Instance,
        path: &str,
        body: Option<&str>,
    ) -> Result<Answer<T>> {
        let endpoint = &instance.endpoint;
        let (url, authorization) = (endpoint.url(path), instance.authorization.as_ref());
        let answer = match body {
            None => match authorization {
                None => self.agent.get(&url),
                Some(login) => self.agent.get(&url).header("Authorization", login),
            }
            .call(),
            Some(body) => {
                let request = self.agent.post(&url).header("Content-Type", CONTENT_TYPE);
                match authorization {
                    None => request,
                    Some(login) => request.header("Authorization", login),
                }
                .send(body)
            }
        };
        let mut answer = answer.map_err(|error| unanswered(endpoint, &self.trust, error))?;
        let status = answer.status();
        let bytes =
            read(answer.body_mut()).map_err(|error| unanswered(endpoint, &self.trust, error))?;
        if status.is_success() {
            return serde_json::from_slice(&bytes)
                .map(Answer::Found)
                .map_err(|_| {
                    Error::failed(format!(
                    "what answers at {endpoint} is no schema registry: {status} with {} bytes that \
                     are not its JSON",
                    bytes.len()
                ))
                .with_hint(
                    "Check the URL and its path: Confluent's registry has none, Apicurio's is \
                     /apis/ccompat/v7.",
                )
                });
        }
        let complaint: Complaint = serde_json::from_slice(&bytes).unwrap_or_default();
        let refusal = Refusal {
            status: status.as_u16(),
            code: complaint.error_code,
            words: complaint.message.chars().take(WORDS).collect(),
            endpoint: endpoint.to_string(),
            of_schema: body.is_some(),
        };
        match refusal.remedy().kind() {
            // Another address may be well.
            ErrorKind::Disconnected => Err(refusal.into_error("a question was not answered")),
            _ => Ok(Answer::Refused(refusal)),
        }
    }
}

fn read(body: &mut Body) -> Result<Vec<u8>, ureq::Error> {
    body.with_config().limit(ANSWER_BYTES).read_to_vec()
}

/// A question to which there was no answer.
fn unanswered(endpoint: &Endpoint, trust: &Trust, error: ureq::Error) -> Error {
    if tls::is_lasting(&error) {
        let refusal = endpoint
            .address()
            .and_then(|(host, port)| tls::examine(&host, port, trust, Greeting::None));
        if let Some(refusal) = refusal {
            return Error::failed(format!(
                "the schema registry at {endpoint} is not trusted: {refusal}"
            ))
            .with_hint(refusal.cure("--registry-ca FILE"));
        }
        return Error::failed(format!(
            "TLS cannot be agreed upon with the schema registry at {endpoint}"
        ))
        .with_source(error)
        .with_hint("Check the URL's scheme, the registry's certificate, and --registry-ca.");
    }
    match error {
        ureq::Error::BodyExceedsLimit(limit) => Error::failed(format!(
            "what answers at {endpoint} is no schema registry: more than {limit} bytes"
        )),
        ureq::Error::Timeout(_) => Error::new(
            ErrorKind::Disconnected,
            format!("the schema registry at {endpoint} does not answer in time"),
        )
        .with_source(error),
        _ => Error::new(
            ErrorKind::Disconnected,
            format!("the schema registry at {endpoint} does not answer"),
        )
        .with_source(error),
    }
}

/// Who asks, as options and environment say it.
struct Credentials {
    user: Option<String>,
    password: Option<String>,
    token: Option<String>,
}

impl Credentials {
    fn read(options: &RegistryOptions) -> Result<Self> {
        let credentials = Credentials {
            user: options.user.clone(),
            password: secret(
                options.password_file.as_deref(),
                options.password.as_ref(),
                "password",
            )?,
            token: secret(
                options.token_file.as_deref(),
                options.token.as_ref(),
                "token",
            )?,
        };
        if credentials.token.is_some() && credentials.user.is_some() {
            return Err(
                usage("both a user and a token are given for the schema registry")
                    .with_hint("Leave one of them out. The environment and --config count, too."),
            );
        }
        Ok(credentials)
    }

    /// What to send. A user or a token that was given counts more than what the URL says.
    fn authorization(&self, of_url: Option<&Login>) -> Result<Option<HeaderValue>> {
        if let Some(token) = &self.token {
            return header(&format!("Bearer {token}")).map(Some);
        }
        let of_url_password = of_url.and_then(|login| login.password.as_deref());
        let user = match (&self.user, of_url) {
            (Some(user), _) => user,
            (None, Some(login)) => &login.user,
            (None, None) if self.password.is_some() => {
                return Err(usage("a password for the schema registry has no user")
                    .with_hint("Add --registry-user. The environment and --config count, too."));
            }
            (None, None) => return Ok(None),
        };
        let password = self.password.as_deref().or(of_url_password);
        let pair = format!("{user}:{}", password.unwrap_or_default());
        header(&format!("Basic {}", STANDARD.encode(pair))).map(Some)
    }
}

/// A login as a header. One that no server takes would make each question fail as if nobody answered.
fn header(login: &str) -> Result<HeaderValue> {
    let wrong = || {
        usage("the token for the schema registry has a character that no HTTP header takes").with_hint(
            "Check --registry-token-file or HEADWATER_REGISTRY_TOKEN: a token is of printable ASCII.",
        )
    };
    // HeaderValue takes bytes beyond ASCII, too, which RFC 6750, 2.1 does not.
    if !login.is_ascii() {
        return Err(wrong());
    }
    let mut value = HeaderValue::from_str(login).map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok(value)
}

/// What a file holds, but for the line's end, or else what was given.
fn secret(file: Option<&Path>, given: Option<&Secret>, what: &str) -> Result<Option<String>> {
    let text = match (file, given) {
        (Some(path), _) => String::from_utf8(contents(path)?)
            .map_err(|_| usage(format!("file {} is not UTF-8", path.display())))?,
        (None, Some(given)) => given.reveal().to_owned(),
        (None, None) => return Ok(None),
    };
    let text = text.trim_end_matches(['\r', '\n']);
    if text.chars().any(char::is_control) {
        let place = file.map_or_else(
            || format!("the schema registry's {what}"),
            |path| path.display().to_string(),
        );
        return Err(usage(format!("{place} holds more than one line")));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn contents(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|error| usage(format!("cannot read file {}", path.display())).with_source(error))
}

fn usage(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, text)
}
