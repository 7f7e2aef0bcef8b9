//! Logins that anybody between client and server can read.
//!
//! `PLAIN` sends the password as it is (RFC 4616) and `OAUTHBEARER` the token (RFC 7628), which only
//! TLS hides; `SCRAM` proves that the password is known and sends it to nobody (RFC 5802). It is a
//! warning and no refusal: the way may be somebody's own, or encrypted below TCP.

use super::{KafkaOptions, login};
use crate::error::Error;
use crate::tls;

impl KafkaOptions {
    /// A warning for each login that is sent in the clear to another machine.
    pub(crate) fn exposed_logins(&self) -> Vec<Error> {
        [self.exposed_to_brokers(), login::exposed(self)]
            .into_iter()
            .flatten()
            .collect()
    }

    fn exposed_to_brokers(&self) -> Option<Error> {
        let what = ["PLAIN", "OAUTHBEARER"]
            .into_iter()
            .zip(["password", "token"])
            .find(|(mechanism, _)| self.is("sasl.mechanisms", mechanism));
        let (mechanism, what) = what.filter(|_| self.is("security.protocol", "SASL_PLAINTEXT"))?;
        let elsewhere = self
            .brokers
            .split(',')
            .find(|broker| !tls::is_loopback(host(broker)))?;
        let message = format!(
            "the {what} for Kafka goes in the clear to {}: -X security.protocol=SASL_PLAINTEXT, \
             sasl.mechanism={mechanism}",
            elsewhere.trim()
        );
        let cure = match mechanism {
            "PLAIN" => {
                "Use a listener with TLS, -X security.protocol=SASL_SSL, or one that takes \
                 -X sasl.mechanism=SCRAM-SHA-512, by which no password is sent."
            }
            _ => "Use a listener with TLS: -X security.protocol=SASL_SSL.",
        };
        Some(Error::failed(message).with_hint(cure))
    }
}

/// The host of `HOST:PORT`, which may begin with a protocol.
fn host(broker: &str) -> &str {
    let broker = broker.trim();
    let address = broker.split_once("://").map_or(broker, |(_, rest)| rest);
    address.rsplit_once(':').map_or(address, |(host, port)| {
        match port.bytes().all(|byte| byte.is_ascii_digit()) {
            true => host,
            false => address,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposed(brokers: &str, properties: &[(&str, &str)]) -> Vec<String> {
        let warnings = KafkaOptions::of(brokers, properties).exposed_logins();
        for warning in &warnings {
            assert!(warning.hint().is_some(), "{warning} has no cure");
            assert!(!warning.to_string().contains("hunter2"), "{warning}");
        }
        warnings.iter().map(ToString::to_string).collect()
    }

    const CLEAR: (&str, &str) = ("security.protocol", "sasl_plaintext");
    const PASSWORD: (&str, &str) = ("sasl.password", "hunter2");

    #[test]
    fn a_password_in_the_clear_is_told_where_it_leaves_the_machine() {
        let plain = [CLEAR, ("sasl.mechanism", "PLAIN"), PASSWORD];
        for brokers in [
            "one:9092",
            "localhost:9092,one:9092",
            "10.0.0.7:9092",
            "[2001:db8::1]:9092",
            "SASL_PLAINTEXT://one:9092",
            "one",
        ] {
            let told = exposed(brokers, &plain);
            assert_eq!(told.len(), 1, "{brokers}: {told:?}");
            for part in ["password", "security.protocol=SASL_PLAINTEXT", "PLAIN"] {
                assert!(told[0].contains(part), "{part}: {told:?}");
            }
        }
        for brokers in [
            "localhost:9092",
            " localhost:9092 , 127.0.0.1",
            "127.8.9.1:9092",
            "[::1]:9092",
            "sasl_plaintext://kafka.localhost:9092",
        ] {
            assert!(exposed(brokers, &plain).is_empty(), "{brokers}");
        }
    }

    #[test]
    fn what_hides_the_password_is_no_reason_to_warn() {
        for properties in [
            &[][..],
            &[("sasl.mechanism", "PLAIN"), PASSWORD],
            &[CLEAR, ("sasl.mechanism", "SCRAM-SHA-512"), PASSWORD],
            &[
                ("security.protocol", "SASL_SSL"),
                ("sasl.mechanism", "PLAIN"),
                PASSWORD,
            ],
        ] {
            assert!(exposed("one:9092", properties).is_empty(), "{properties:?}");
        }
    }

    #[test]
    fn a_token_and_the_secret_that_it_is_had_by_are_told_apart() {
        let tokens = |protocol, url| {
            let properties = [
                ("security.protocol", protocol),
                ("sasl.mechanism", "OAUTHBEARER"),
                ("sasl.oauthbearer.method", "oidc"),
                ("sasl.oauthbearer.client.secret", "hunter2"),
                ("sasl.oauthbearer.token.endpoint.url", url),
            ];
            exposed("one:9092", &properties)
        };
        let told = tokens("SASL_PLAINTEXT", "http://id.example/token?of=hunter2");
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("the token"), "{told:?}");
        assert!(
            told[1].contains("sasl.oauthbearer.token.endpoint.url"),
            "{told:?}"
        );
        assert_eq!(tokens("SASL_SSL", "http://id.example/token").len(), 1);
        for url in ["https://id.example/token", "http://[::1]:8080/token"] {
            assert!(tokens("SASL_SSL", url).is_empty(), "{url}");
        }
    }
}
