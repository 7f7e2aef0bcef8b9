//! A throwaway schema registry: Apicurio Registry, which keeps everything in memory and
//! speaks the protocol of Confluent's.
//!
//! Tests that share one keep to subjects of their own, which they do by keeping to topics
//! of their own. What a test asks of the registry itself is that its compatibility is set:
//! Apicurio's default, NONE, refuses nothing.

pub mod proxy;
pub mod tls;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;

use crate::installation;
use crate::keeper::{self, Folder, Kept, Service};
use crate::port;
use crate::wait::{SOON, eventually};

/// Enough for thousands of small schemas: an idle one has 90 MB of heap.
const HEAP: &str = "-Xmx160m";

/// How long a request may take: the first ones load classes.
const REQUEST: Duration = Duration::from_secs(30);

/// Which schemas may follow which in a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compatibility {
    /// All that are schemas.
    None,
    /// The newer schema reads what the older one wrote.
    Backward,
    /// The older schema reads what the newer one writes.
    Forward,
    /// Both.
    Full,
    /// Both, of every schema of the subject and not of the newest alone.
    FullTransitive,
}

impl fmt::Display for Compatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Compatibility::None => "NONE",
            Compatibility::Backward => "BACKWARD",
            Compatibility::Forward => "FORWARD",
            Compatibility::Full => "FULL",
            Compatibility::FullTransitive => "FULL_TRANSITIVE",
        })
    }
}

/// A running registry. Dropped, it is gone.
pub struct Registry {
    process: Option<Kept>,
    http: Agent,
    compatibility: Compatibility,
    port: u16,
    folder: Folder,
}

/// What the registry says instead of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The body, as it came.
    pub body: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.body)
    }
}

impl Registry {
    /// Starts an empty registry in which this compatibility holds for every subject.
    ///
    /// # Panics
    ///
    /// If it does not start, with its log.
    pub fn new(compatibility: Compatibility) -> Self {
        let http = Agent::config_builder()
            .timeout_global(Some(REQUEST))
            // The harness decides what a status means.
            .http_status_as_error(false)
            .proxy(None)
            .build();
        let mut registry = Registry {
            process: None,
            http: http.into(),
            compatibility,
            port: port::free(),
            folder: Folder::new(),
        };
        registry.start();
        registry
    }

    /// What clients are given as the registry's URL.
    pub fn url(&self) -> String {
        url_at(self.port)
    }

    /// Where it listens on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kills it outright: with it goes all that it knew.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it again where [`Registry::kill`] left it: same port, and empty.
    ///
    /// # Panics
    ///
    /// If it does not start, with its log.
    pub fn start(&mut self) {
        let folder = self.folder.path().display();
        let mut process = Service::new("java")
            .args([HEAP, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            .arg("-XX:-UsePerfData")
            .arg(format!("-Djava.io.tmpdir={folder}"))
            .arg(format!("-Dquarkus.vertx.cache-directory={folder}/vertx"))
            .arg("-Dquarkus.http.host=127.0.0.1")
            .arg(format!("-Dquarkus.http.port={}", self.port))
            .arg("-jar")
            .arg(installation::registry())
            .logging_to(&self.log_file())
            .start();
        eventually("the schema registry answers", SOON, || {
            if let Some(exit) = process.ended() {
                panic!("the schema registry ended with {exit:?}:\n{}", self.log());
            }
            self.request(self.http.get(self.at("/subjects")).call())
                .map_err(|refusal| refusal.to_string())
        });
        self.process = Some(process);
        self.set_compatibility(self.compatibility);
    }

    /// Changes which schemas may follow which, for every subject without a rule of its own.
    ///
    /// # Panics
    ///
    /// If the registry refuses it.
    #[track_caller]
    pub fn set_compatibility(&mut self, compatibility: Compatibility) {
        self.compatibility = compatibility;
        let asked = json!({ "compatibility": compatibility.to_string() }).to_string();
        let put = self.http.put(self.at("/config")).content_type(MEDIA_TYPE);
        match self.request(put.send(asked)) {
            Ok(_) => {}
            // NONE is that there is no rule, and Apicurio finds none to take away.
            Err(Refusal { status: 404, .. }) if compatibility == Compatibility::None => {}
            Err(refusal) => panic!("cannot set {compatibility}: {refusal}"),
        }
    }

    /// Sets which schemas may follow which in one subject, which has one.
    ///
    /// # Panics
    ///
    /// If the registry refuses it.
    #[track_caller]
    pub fn set_compatibility_of(&self, subject: &str, compatibility: Compatibility) {
        let asked = json!({ "compatibility": compatibility.to_string() }).to_string();
        let path = self.at(&format!("/config/{}", escaped(subject)));
        if let Err(refusal) = self.request(self.http.put(path).content_type(MEDIA_TYPE).send(asked))
        {
            panic!("cannot set {compatibility} of {subject}: {refusal}");
        }
    }

    /// The subjects that it has schemas for, sorted.
    ///
    /// # Panics
    ///
    /// If it does not answer.
    #[track_caller]
    pub fn subjects(&self) -> Vec<String> {
        let found = self.ask("/subjects");
        let mut names = strings(&found);
        names.sort();
        names
    }

    /// The version numbers of a subject, oldest first; none if there is no such subject.
    ///
    /// # Panics
    ///
    /// If it does not answer.
    #[track_caller]
    pub fn versions(&self, subject: &str) -> Vec<u64> {
        let path = format!("/subjects/{}/versions", escaped(subject));
        match self.request(self.http.get(self.at(&path)).call()) {
            Err(Refusal { status: 404, .. }) => Vec::new(),
            Err(refusal) => panic!("{path}: {refusal}"),
            Ok(found) => found
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_u64)
                .collect(),
        }
    }

    /// The id and the text of the newest schema of a subject.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn newest(&self, subject: &str) -> (u32, String) {
        let path = format!("/subjects/{}/versions/latest", escaped(subject));
        let found = self.ask(&path);
        match (found["id"].as_u64(), found["schema"].as_str()) {
            (Some(id), Some(schema)) => (id as u32, schema.to_owned()),
            _ => panic!("{path}: no id and schema in {found}"),
        }
    }

    /// The text of a schema.
    ///
    /// # Errors
    ///
    /// The registry has none under this id.
    pub fn schema(&self, id: u32) -> Result<String, Refusal> {
        let path = format!("/schemas/ids/{id}");
        let found = self.request(self.http.get(self.at(&path)).call())?;
        match found["schema"].as_str() {
            Some(schema) => Ok(schema.to_owned()),
            None => Err(Refusal {
                status: 200,
                body: found.to_string(),
            }),
        }
    }

    /// Registers a schema, as another producer would.
    ///
    /// # Errors
    ///
    /// The registry refuses it.
    pub fn register(&self, subject: &str, schema: &str) -> Result<u32, Refusal> {
        let path = self.at(&format!("/subjects/{}/versions", escaped(subject)));
        let asked = json!({ "schema": schema }).to_string();
        let found = self.request(self.http.post(path).content_type(MEDIA_TYPE).send(asked))?;
        match found["id"].as_u64() {
            Some(id) => Ok(id as u32),
            None => Err(Refusal {
                status: 200,
                body: found.to_string(),
            }),
        }
    }

    /// Whether a schema may follow the newest one of a subject.
    ///
    /// # Panics
    ///
    /// If it does not answer.
    #[track_caller]
    pub fn takes(&self, subject: &str, schema: &str) -> bool {
        let path = format!(
            "/compatibility/subjects/{}/versions/latest",
            escaped(subject)
        );
        let asked = json!({ "schema": schema }).to_string();
        let post = self.http.post(self.at(&path)).content_type(MEDIA_TYPE);
        match self.request(post.send(asked)) {
            Ok(found) => found["is_compatible"] == true,
            Err(refusal) => panic!("{path}: {refusal}"),
        }
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        keeper::tail_of(&self.log_file(), 60)
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url())
    }

    #[track_caller]
    fn ask(&self, path: &str) -> Value {
        match self.request(self.http.get(self.at(path)).call()) {
            Ok(found) => found,
            Err(refusal) => panic!("{path}: {refusal}"),
        }
    }

    /// What a response holds, if it is one that gives what was asked for.
    fn request(
        &self,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Value, Refusal> {
        let unanswered = |error: &dyn fmt::Display| Refusal {
            status: 0,
            body: error.to_string(),
        };
        let mut response = response.map_err(|error| unanswered(&error))?;
        let status = response.status().as_u16();
        let body = response.body_mut().read_to_string();
        let body = body.map_err(|error| unanswered(&error))?;
        match serde_json::from_str(&body) {
            Ok(value) if status == 200 => Ok(value),
            _ => Err(Refusal { status, body }),
        }
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }
}

/// What the protocol calls JSON.
const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// The URL of a registry, or of a way to one, on a port of loopback.
pub fn url_at(port: u16) -> String {
    format!("http://127.0.0.1:{port}/apis/ccompat/v7")
}

/// A subject as a part of a path.
fn escaped(subject: &str) -> String {
    let mut path = String::with_capacity(subject.len());
    for byte in subject.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                path.push(char::from(byte));
            }
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

fn strings(array: &Value) -> Vec<String> {
    array
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|name| Some(name.as_str()?.to_owned()))
        .collect()
}
