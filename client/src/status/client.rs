//! What a running client says of itself: its metrics, in the text format of Prometheus.
//!
//! Only what the server and Kafka do not know is taken from there: how many records and
//! bytes it sends, and how far a snapshot is.

use std::collections::BTreeMap;
use std::time::Duration;

use ureq::Agent;

use crate::cli::MetricsAddress;
use crate::error::{Error, ErrorKind, Result};

/// How long an answer may take: it comes from memory.
const TIMEOUT: Duration = Duration::from_secs(3);

/// The largest answer that is read: a thousand tables with ten numbers each take less.
const ANSWER_BYTES: u64 = 16 * 1024 * 1024;

/// The numbers of one client, by name and labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Metrics {
    samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Asks one client.
pub(super) struct Questions {
    agent: Agent,
    address: String,
}

impl Questions {
    /// Of the client that serves its metrics at `address`, as it was told to.
    pub(super) fn new(address: &MetricsAddress) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            // A client is asked where it is, not by way of what leads out of the network.
            .proxy(None)
            .user_agent(concat!("headwater/", env!("CARGO_PKG_VERSION")))
            .build();
        Questions {
            agent: config.new_agent(),
            address: reachable(address),
        }
    }

    /// Looks.
    ///
    /// # Errors
    /// Nobody answers there, or what answers is no client of ours.
    pub(super) fn look(&self) -> Result<Metrics> {
        let address = &self.address;
        let other = || {
            Error::failed(format!("what answers at {address} is no headwater stream"))
                .with_hint("Give --metrics as to headwater stream.")
        };
        let answer = self.agent.get(format!("http://{address}/metrics")).call();
        let mut answer = answer.map_err(|error| silent(address, error))?;
        if !answer.status().is_success() {
            return Err(other());
        }
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES);
        let text = body
            .read_to_string()
            .map_err(|error| silent(address, error))?;
        let metrics = Metrics::parse(&text);
        let is_ours = metrics
            .samples
            .iter()
            .any(|sample| sample.name.starts_with("headwater_"));
        if is_ours { Ok(metrics) } else { Err(other()) }
    }
}

/// An address to listen at may stand for all of a machine's: there is nobody to ask at those.
fn reachable(address: &MetricsAddress) -> String {
    let host = match address.host.as_str() {
        "0.0.0.0" | "::" => "localhost".to_owned(),
        host => host.to_owned(),
    };
    let port = address.port;
    MetricsAddress { host, port }.to_string()
}

fn silent(address: &str, error: ureq::Error) -> Error {
    Error::new(
        ErrorKind::Disconnected,
        format!("the client does not answer at {address}"),
    )
    .with_source(error)
    .with_hint("Start headwater stream with --metrics, or give the address that it was given.")
}

impl Metrics {
    /// Reads the text format. What it cannot read it leaves out: a newer client may say more.
    fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim);
        let samples = lines.filter(|line| !line.starts_with('#'));
        Metrics {
            samples: samples.filter_map(Sample::parse).collect(),
        }
    }

    /// The sum over all labels; none where there is no such metric.
    pub(super) fn sum(&self, name: &str) -> Option<f64> {
        let values: Vec<f64> = self
            .samples
            .iter()
            .filter(|sample| sample.name == name)
            .map(|sample| sample.value)
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }
}

impl Sample {
    /// `name{label="value",…} value`, and perhaps a timestamp.
    fn parse(line: &str) -> Option<Self> {
        let end = line.find(['{', ' ', '\t'])?;
        let (name, mut rest) = line.split_at(end);
        let mut labels = BTreeMap::new();
        if let Some(inside) = rest.strip_prefix('{') {
            rest = parse_labels(inside, &mut labels)?;
        }
        let value = rest.split_whitespace().next()?.parse().ok()?;
        Some(Sample {
            name: name.to_owned(),
            labels,
            value,
        })
    }
}

/// Reads up to the closing brace, and returns what is behind it.
fn parse_labels<'a>(mut text: &'a str, labels: &mut BTreeMap<String, String>) -> Option<&'a str> {
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some(rest);
        }
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next()? {
                (end, '"') => break end,
                (_, '\\') => value.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.trim().to_owned(), value);
        text = rest.get(end + 1..)?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_text_format_is_read() {
        let metrics = Metrics::parse(
            "# HELP headwater_records_total Records.\n\
             # TYPE headwater_records_total counter\n\
             headwater_records_total{table=\"public.a\",op=\"c\"} 7\n\
             headwater_records_total{table=\"a \\\"b\\\", {c}\\n\\\\\"} 5 1700000000000\n\
             headwater_build_info{version=\"0.1.0\",} 1\n\
             headwater_up 1\n\
             broken{a=\"b\n\
             \n\
             also broken\n",
        );
        assert_eq!(metrics.sum("headwater_records_total"), Some(12.0));
        assert_eq!(metrics.sum("headwater_up"), Some(1.0));
        assert_eq!(metrics.sum("broken"), None);
        assert_eq!(metrics.sum("headwater_build_info"), Some(1.0));
        let tables: Vec<&str> = metrics
            .samples
            .iter()
            .filter_map(|sample| Some(sample.labels.get("table")?.as_str()))
            .collect();
        assert_eq!(tables, ["public.a", "a \"b\", {c}\n\\"]);
    }

    #[test]
    fn an_address_for_everybody_is_asked_on_this_machine() {
        for (given, asked) in [
            ("0.0.0.0:9187", "localhost:9187"),
            ("[::]:9187", "localhost:9187"),
            ("9187", "127.0.0.1:9187"),
            ("10.0.0.7:9187", "10.0.0.7:9187"),
            ("[::1]:9187", "[::1]:9187"),
        ] {
            let address = given.parse().unwrap();
            assert_eq!(reachable(&address), asked);
        }
    }
}
