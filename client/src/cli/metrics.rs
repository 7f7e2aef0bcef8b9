//! `--metrics`: where a running client tells how it fares.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use clap::Args;

/// Whether and where metrics and health are served.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Monitoring")]
pub struct MetricsOptions {
    /// Serve /metrics for Prometheus and the probes /livez and /readyz at this address, HOST:PORT;
    /// a port alone is on loopback, and port 0 is one that is free, which the log names
    #[arg(id = "metrics", long = "metrics", value_name = "ADDR")]
    pub address: Option<MetricsAddress>,
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsAddress {
    /// A name or an address, without brackets.
    pub host: String,
    /// 0 for any that is free.
    pub port: u16,
}

/// What is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not HOST:PORT or PORT, as in 127.0.0.1:9187 or 9187")]
pub struct MetricsAddressError;

impl FromStr for MetricsAddress {
    type Err = MetricsAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = match text.rsplit_once(':') {
            // Nobody who leaves the host out is to be heard on every interface by that.
            None => (Ipv4Addr::LOCALHOST.to_string(), text),
            Some((host, port)) => {
                let bare = host
                    .strip_prefix('[')
                    .and_then(|host| host.strip_suffix(']'));
                if bare.is_none() && host.contains([':', '[', ']']) {
                    return Err(MetricsAddressError);
                }
                (bare.unwrap_or(host).to_owned(), port)
            }
        };
        // What parses as a number with a sign is none of a port.
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse() {
            Ok(port) if is_number && !host.is_empty() => Ok(MetricsAddress { host, port }),
            _ => Err(MetricsAddressError),
        }
    }
}

impl fmt::Display for MetricsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MetricsAddress { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_and_a_port_alone_is_on_loopback() {
        for (text, expected) in [
            ("9187", Some("127.0.0.1:9187")),
            ("0", Some("127.0.0.1:0")),
            ("127.0.0.1:9187", Some("127.0.0.1:9187")),
            ("0.0.0.0:9187", Some("0.0.0.0:9187")),
            ("metrics.example:80", Some("metrics.example:80")),
            ("[::1]:9187", Some("[::1]:9187")),
            ("", None),
            (":9187", None),
            ("::1:9187", None),
            ("[::1:9187", None),
            ("localhost", None),
            ("localhost:", None),
            ("localhost:+9", None),
            ("localhost:65536", None),
        ] {
            let read = text.parse::<MetricsAddress>();
            let read = read.ok().map(|address| address.to_string());
            assert_eq!(read.as_deref(), expected, "{text:?}");
        }
    }
}
