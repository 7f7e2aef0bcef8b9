//! What a running client tells over HTTP, asked for as Prometheus and Kubernetes do.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use ureq::Agent;

use crate::client::Client;
use crate::installation;

/// The option that has a client tell, at a port of its own choice.
pub const ANYWHERE: [&str; 2] = ["--metrics", "127.0.0.1:0"];

/// A probe that takes longer counts as failed.
const REQUEST: Duration = Duration::from_secs(10);

/// What Prometheus accepts, and what a person's curl does.
const OPENMETRICS: &str =
    "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
const ANYTHING: &str = "*/*";

/// The way to a client's metrics and probes.
pub struct Metrics {
    base: String,
    http: Agent,
}

/// The answer of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The HTTP status.
    pub status: u16,
    /// Its line.
    pub line: String,
}

/// The metrics at one moment.
#[derive(Clone, Debug)]
pub struct Page(String);

/// What a reader of the format finds: by family its type, by series its value.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// `counter`, `gauge`, `info` by family.
    pub types: BTreeMap<String, String>,
    /// The names of all samples.
    pub samples: Vec<String>,
}

impl Metrics {
    /// Of a client that was started with [`ANYWHERE`], once it says where.
    ///
    /// # Panics
    ///
    /// As [`Client::says`].
    #[track_caller]
    pub fn of(client: &mut Client) -> Self {
        let line = client.says("serving metrics");
        // As text `address=…`, as JSON `"address":"…"`.
        let rest = line.split("address").nth(1).unwrap_or_default();
        let address = rest.trim_start_matches(['=', '"', ':']);
        let end = address.find(|c: char| c != ':' && c != '.' && !c.is_ascii_digit());
        let address = &address[..end.unwrap_or(address.len())];
        let http = Agent::config_builder()
            .timeout_global(Some(REQUEST))
            .http_status_as_error(false)
            .proxy(None)
            .build();
        Metrics {
            base: format!("http://{address}"),
            http: http.into(),
        }
    }

    /// Where it answers, as `host:port`.
    pub fn address(&self) -> &str {
        self.base.trim_start_matches("http://")
    }

    /// The metrics, in the older format.
    ///
    /// # Panics
    ///
    /// If it does not answer.
    #[track_caller]
    pub fn page(&self) -> Page {
        Page(self.get("/metrics", ANYTHING).line)
    }

    /// What Prometheus' own reader finds in the older format, and in OpenMetrics.
    ///
    /// # Panics
    ///
    /// If it does not take one.
    #[track_caller]
    pub fn parsed(&self) -> [Parsed; 2] {
        [
            parsed("parser", &self.page().0),
            parsed(
                "openmetrics.parser",
                &self.get("/metrics", OPENMETRICS).line,
            ),
        ]
    }

    /// The answer of `/livez`.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn live(&self) -> Probe {
        self.get("/livez", ANYTHING)
    }

    /// The answer of `/readyz`.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[track_caller]
    pub fn ready(&self) -> Probe {
        self.get("/readyz", ANYTHING)
    }

    #[track_caller]
    fn get(&self, path: &str, accept: &str) -> Probe {
        let request = self.http.get(format!("{}{path}", self.base));
        let answer = request.header("accept", accept).call();
        let answer = answer.and_then(|mut answer| {
            let line = answer.body_mut().read_to_string()?;
            let status = answer.status().as_u16();
            Ok(Probe { status, line })
        });
        answer.unwrap_or_else(|error| panic!("{}{path}: {error}", self.base))
    }
}

impl Page {
    /// The value of a series, by its name and labels as they stand there.
    pub fn value(&self, series: &str) -> Option<f64> {
        let lines = self.0.lines().filter_map(|line| line.strip_prefix(series));
        let mut values = lines.filter_map(|rest| rest.strip_prefix(' '));
        values.next()?.parse().ok()
    }
}

impl fmt::Display for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[track_caller]
fn parsed(module: &str, text: &str) -> Parsed {
    let program = format!(
        "import sys\n\
         from prometheus_client.{module} import text_string_to_metric_families as families\n\
         for family in families(sys.stdin.read()):\n    \
             print('family', family.name, family.type)\n    \
             for sample in family.samples:\n        \
                 print('sample', sample.name, float(sample.value))"
    );
    let mut python = Command::new("python3")
        .args(["-X", "utf8", "-c", &program])
        .env("PYTHONPATH", installation::prometheus_client())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start python3: {error}"));
    let mut stdin = python.stdin.take();
    if let Some(stdin) = &mut stdin {
        let written = stdin.write_all(text.as_bytes());
        assert!(written.is_ok(), "{written:?}");
    }
    drop(stdin);
    let output = python
        .wait_with_output()
        .unwrap_or_else(|error| panic!("python3: {error}"));
    assert!(
        output.status.success(),
        "{module} refuses the page: {}\n{text}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut parsed = Parsed::default();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["family", name, kind] => {
                parsed.types.insert(name.to_owned(), kind.to_owned());
            }
            ["sample", name, _] => parsed.samples.push(name.to_owned()),
            _ => panic!("{line}"),
        }
    }
    parsed
}
