//! The schema registry, by Confluent's protocol, which Apicurio, Karapace and Redpanda speak too.
//!
//! # Why no client crate
//!
//! `schema_registry_converter`, the one that is kept, knows no compatibility check and no level,
//! tells 502 and 503 from the rest and no 409 from a 401, gives its errors as text, and brings 98
//! crates, an async runtime and a second TLS library among them. The six questions that are asked
//! here are this file; HTTP is `ureq`'s, blocking, over the OpenSSL that librdkafka is linked with,
//! so that one library and the system's store of certificates serve both.
//!
//! # Trying again
//!
//! Each call is one attempt at each address. What may pass is an error of kind `Disconnected`, and
//! whoever asks knows how long it may wait, and what it has to do meanwhile.

mod difference;
mod endpoint;
mod http;
mod meaning;
mod misread;
mod promise;
mod refused;
mod registrar;
#[cfg(test)]
mod replay;
mod stamp;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::IgnoredAny;

use self::http::{Answer, Http, Refusal};
use crate::cli::RegistryOptions;
use crate::error::{Error, ErrorKind, Result};
pub use difference::difference;
pub use endpoint::Endpoint;
pub use misread::{Misread, misread};
pub use refused::Refused;
pub use registrar::{Ids, Registrar, Schemas, Standing};
pub use stamp::{HEADER_BYTES, Stamp};

/// Schemas by their ids that are kept: a topic has one a version. Beyond it they are asked for
/// again.
const KEPT: usize = 1_000;

/// A schema that no record's goes with, at no level but NONE: nothing is promoted to it or from it.
const CONTRADICTION: &str = r#""boolean""#;

/// What stands as it is in a part of a URL's path (RFC 3986, unreserved).
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A schema registry.
pub struct Registry {
    http: Http,
    schemas: Mutex<HashMap<u32, Arc<str>>>,
}

/// Why an id has no schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoSchema {
    /// The registry has none.
    Unknown,
    /// It is of something else than Avro.
    Other(String),
}

/// A schema as a subject has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Registered {
    /// Its id, which records carry.
    pub id: u32,
    /// Its number within the subject, from 1 on.
    pub version: u32,
    /// The schema, as JSON text.
    pub schema: String,
}

/// The answer to a schema that is registered.
#[derive(Deserialize)]
struct Numbered {
    id: u32,
}

/// The answer to an id.
#[derive(Deserialize)]
struct Text {
    schema: String,
    /// Absent for Avro.
    #[serde(rename = "schemaType")]
    schema_type: Option<String>,
}

#[derive(Deserialize)]
struct Level {
    /// As an answer of `GET /config` has it.
    #[serde(rename = "compatibilityLevel")]
    level: String,
}

#[derive(Deserialize)]
struct Compatible {
    is_compatible: bool,
    #[serde(default)]
    messages: Option<Vec<String>>,
}

impl Registry {
    /// The registry that the options name; none if they name none. Nobody is asked yet.
    ///
    /// # Errors
    /// Of kind `Usage`: what is wrong with the options.
    pub fn new(options: &RegistryOptions) -> Result<Option<Self>> {
        let Some(urls) = &options.url else {
            return Ok(None);
        };
        Ok(Some(Registry {
            http: Http::new(urls, options)?,
            schemas: Mutex::default(),
        }))
    }

    /// A warning where the login is sent in the clear to another machine.
    pub(crate) fn exposed_login(&self) -> Option<Error> {
        self.http.exposed_login()
    }

    /// Its addresses, without logins.
    pub fn name(&self) -> String {
        self.http.name()
    }

    /// Asks for what everybody may know, so that a login which is refused, or a URL behind which
    /// there is no registry, is found out before anything begins. One that does not answer may
    /// come back.
    ///
    /// # Errors
    /// One that a person has to mend.
    pub fn probe(&self) -> Result<()> {
        match self.answers() {
            Err(error) if error.kind() == ErrorKind::Disconnected => {
                tracing::warn!(%error, "tables with a new schema will wait");
                Ok(())
            }
            answered => answered,
        }
    }

    /// As [`Registry::probe`], for whom one that does not answer is an error too.
    ///
    /// # Errors
    /// The registry does not answer, or refuses the login.
    pub(crate) fn answers(&self) -> Result<()> {
        match self.http.get::<IgnoredAny>("/schemas/types")? {
            Answer::Refused(refusal) if matches!(refusal.status, 401 | 407) => {
                Err(refusal.into_error("nothing can be asked"))
            }
            // What a user may ask is told by what is asked; older servers do not know the question.
            Answer::Refused(_) | Answer::Found(_) => Ok(()),
        }
    }

    /// The schema with this id, as JSON text. It is asked for once.
    ///
    /// # Errors
    /// There is none, it is not of Avro, or the registry does not answer.
    pub fn schema(&self, id: u32) -> Result<Arc<str>> {
        self.look_up(id)?.map_err(|none| match none {
            NoSchema::Unknown => {
                let name = self.name();
                let text = format!("the schema registry at {name} has no schema {id}");
                Error::failed(text).with_hint(
                    "It is another registry than the one the records were written with, or it was \
                     emptied.",
                )
            }
            NoSchema::Other(other) => {
                Error::failed(format!("schema {id} is of {other}, not of AVRO"))
            }
        })
    }

    /// As [`Registry::schema`], for whom it is an answer that there is none.
    ///
    /// # Errors
    /// The registry does not answer, or not this.
    pub fn look_up(&self, id: u32) -> Result<Result<Arc<str>, NoSchema>> {
        if let Some(known) = self.lock().get(&id) {
            return Ok(Ok(Arc::clone(known)));
        }
        let found: Text = match self.http.get(&format!("/schemas/ids/{id}"))? {
            Answer::Found(found) => found,
            Answer::Refused(refusal) if refusal.status == 404 => {
                return Ok(Err(NoSchema::Unknown));
            }
            Answer::Refused(refusal) => {
                return Err(refusal.into_error(&format!("schema {id} cannot be read")));
            }
        };
        if let Some(other) = found.schema_type.filter(|it| it != "AVRO") {
            return Ok(Err(NoSchema::Other(other)));
        }
        let schema: Arc<str> = found.schema.into();
        let mut schemas = self.lock();
        if schemas.len() >= KEPT {
            schemas.clear();
        }
        schemas.insert(id, Arc::clone(&schema));
        Ok(Ok(schema))
    }

    /// Registers a schema under a subject and returns its id, which is the one it has if it is
    /// there already.
    ///
    /// # Errors
    /// Of kind `Data`: the registry does not take it.
    pub fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        let path = format!("/subjects/{}/versions", escaped(subject));
        match self.http.post(&path, &body(schema)?)? {
            Answer::Found(Numbered { id }) => Ok(id),
            Answer::Refused(refusal) => Err(refusal.into_error(&unregistered(subject))),
        }
    }

    /// The id that a schema has under a subject; none where it is not registered there.
    ///
    /// # Errors
    /// The registry does not answer, or not this.
    pub fn find(&self, subject: &str, schema: &str) -> Result<Option<u32>> {
        let path = format!("/subjects/{}", escaped(subject));
        match self.http.post(&path, &body(schema)?)? {
            Answer::Found(Numbered { id }) => Ok(Some(id)),
            Answer::Refused(refusal) if is_absent(&refusal) => Ok(None),
            Answer::Refused(refusal) => Err(refusal.into_error(&unregistered(subject))),
        }
    }

    /// The newest schema of a subject; none where it has none.
    ///
    /// # Errors
    /// The registry does not answer, or not this.
    pub fn latest(&self, subject: &str) -> Result<Option<Registered>> {
        self.registered(subject, "latest")
    }

    fn registered(&self, subject: &str, version: &str) -> Result<Option<Registered>> {
        let path = format!("/subjects/{}/versions/{version}", escaped(subject));
        match self.http.get(&path)? {
            Answer::Found(found) => Ok(Some(found)),
            Answer::Refused(refusal) if is_absent(&refusal) => Ok(None),
            Answer::Refused(refusal) => {
                let what = format!("version {version} of subject {subject} cannot be read");
                Err(refusal.into_error(&what))
            }
        }
    }

    /// The numbers of the versions that a subject has, the oldest first.
    ///
    /// # Errors
    /// The registry does not answer, or not this.
    pub fn versions(&self, subject: &str) -> Result<Vec<u32>> {
        match self
            .http
            .get(&format!("/subjects/{}/versions", escaped(subject)))?
        {
            Answer::Found(numbers) => Ok(numbers),
            Answer::Refused(refusal) if is_absent(&refusal) => Ok(Vec::new()),
            Answer::Refused(refusal) => {
                let what = format!("the versions of subject {subject} cannot be read");
                Err(refusal.into_error(&what))
            }
        }
    }

    /// A version of a subject by its number; none where it has none such.
    ///
    /// # Errors
    /// The registry does not answer, or not this.
    pub fn version(&self, subject: &str, number: u32) -> Result<Option<Registered>> {
        self.registered(subject, &number.to_string())
    }

    /// The level of compatibility that holds for a subject, such as `BACKWARD`: its own, or the
    /// registry's.
    ///
    /// # Errors
    /// The registry does not answer, or not this.
    pub fn compatibility(&self, subject: &str) -> Result<String> {
        match self.level(&format!(
            "/config/{}?defaultToGlobal=true",
            escaped(subject)
        ))? {
            Some(level) => Ok(level),
            // The subject has none of its own, and the server does not know of the default.
            None => self.default_compatibility(),
        }
    }

    /// As [`Registry::compatibility`], for a subject that refuses a schema; none where the registry
    /// does not say. Apicurio says NONE for one that has no level of its own, whatever its group's or
    /// the registry's is, and NONE refuses nothing.
    pub(crate) fn refusing_level(&self, subject: &str) -> Result<Option<String>> {
        let is_one = |level: &String| level != "NONE";
        match Some(self.compatibility(subject)?).filter(is_one) {
            Some(level) => Ok(Some(level)),
            None => Ok(Some(self.default_compatibility()?).filter(is_one)),
        }
    }

    /// As [`Registry::compatibility`], for a subject that takes a schema; none where the registry
    /// does not say. Whether NONE is meant is told by what no other level would take.
    pub(crate) fn taking_level(&self, subject: &str) -> Result<Option<String>> {
        let level = self.compatibility(subject)?;
        if level != "NONE" {
            return Ok(Some(level));
        }
        match self.check(subject, CONTRADICTION) {
            Ok(None) => Ok(Some(level)),
            Ok(Some(_)) => self.refusing_level(subject),
            Err(error) if error.kind() == ErrorKind::Data => self.refusing_level(subject),
            Err(error) => Err(error),
        }
    }

    /// The level of compatibility of subjects that have none of their own.
    pub(crate) fn default_compatibility(&self) -> Result<String> {
        let level = self.level("/config")?;
        level.ok_or_else(|| Error::failed("the schema registry has no compatibility level"))
    }

    fn level(&self, path: &str) -> Result<Option<String>> {
        match self.http.get(path)? {
            Answer::Found(Level { level }) => Ok(Some(level)),
            Answer::Refused(refusal) if refusal.status == 404 => Ok(None),
            Answer::Refused(refusal) => {
                Err(refusal.into_error("the compatibility level cannot be read"))
            }
        }
    }

    /// Asks whether a schema is compatible with those that the subject has, as its level says.
    /// None if it is; the registry's reasons if it is not, of which there may be none.
    ///
    /// # Errors
    /// The registry does not answer, or takes the schema for none.
    pub fn check(&self, subject: &str, schema: &str) -> Result<Option<Vec<String>>> {
        let subject_path = escaped(subject);
        let path = format!("/compatibility/subjects/{subject_path}/versions?verbose=true");
        match self.http.post(&path, &body(schema)?)? {
            Answer::Found(Compatible {
                is_compatible: true,
                ..
            }) => Ok(None),
            Answer::Found(Compatible { messages, .. }) => Ok(Some(messages.unwrap_or_default())),
            // A subject without a schema has none that this one could contradict. A server that
            // does not know the question is heard when it is asked to register.
            Answer::Refused(refusal) if matches!(refusal.status, 404 | 405) => Ok(None),
            Answer::Refused(refusal) => Err(refusal.into_error(&unregistered(subject))),
        }
    }

    /// A panic elsewhere leaves whole entries.
    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Arc<str>>> {
        self.schemas.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the registry says that there is no such subject, version or schema, and not that there is
/// no such path.
fn is_absent(refusal: &Refusal) -> bool {
    refusal.status == 404 && matches!(refusal.code, Some(40401..=40409))
}

/// What is asked for only to judge a schema, or to tell a person more: nothing where the registry says
/// no. One that is away tells it later.
fn allowed<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.kind() == ErrorKind::Disconnected => Err(error),
        Err(error) => {
            tracing::debug!(%error, "what a schema has to go with is not known");
            Ok(None)
        }
    }
}

fn unregistered(subject: &str) -> String {
    format!("a schema of subject {subject} cannot be registered")
}

fn escaped(subject: &str) -> String {
    utf8_percent_encode(subject, PATH).to_string()
}

/// A schema as the body of a question. Avro's is the type that goes without saying, and older
/// servers take no other word for it.
fn body(schema: &str) -> Result<String> {
    let text = serde_json::to_string(schema)
        .map_err(|error| Error::failed("a schema cannot be sent").with_source(error))?;
    Ok(format!("{{\"schema\":{text}}}"))
}

/// What `--format avro` says without `--registry`.
pub fn missing() -> Error {
    Error::new(
        ErrorKind::Usage,
        "--format avro needs a schema registry, by which readers know what the bytes are",
    )
    .with_hint("Add --registry URL, such as http://localhost:8081. The environment and --config count, too.")
}

#[cfg(test)]
mod tests;
