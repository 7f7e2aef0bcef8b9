//! Whom the brokers take a client for: the principal that their ACLs name.
//!
//! What logs in decides it (Kafka's `DefaultKafkaPrincipalBuilder`): the SASL user, the owner of a
//! token, the subject of a certificate after the brokers' own rules, or nobody, which is `ANONYMOUS`.
//! A right for `ANONYMOUS` is one for everybody who reaches the brokers, so nobody is taken for it
//! who may be somebody.

use super::KafkaOptions;
use super::login::Login;

/// Properties that give the client a certificate.
const CERTIFICATES: [&str; 3] = [
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.keystore.location",
];

/// A principal of the type `User`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Principal {
    /// It logs in as this one.
    Named(String),
    /// It does not log in.
    Anonymous,
    /// The brokers alone know, by the client's certificate.
    OfCertificate,
    /// The brokers alone know, by what it logs in with.
    OfLogin,
}

impl Principal {
    /// Of a client with these properties. Asks for a token where the login is by tokens.
    pub(crate) fn of(options: &KafkaOptions, login: &Login) -> Self {
        Self::by(options, || login.principal())
    }

    fn by(options: &KafkaOptions, of_token: impl FnOnce() -> Option<String>) -> Self {
        let property = |name, default: &'static str| {
            let value = options.property(name).unwrap_or(default);
            value.to_ascii_lowercase()
        };
        let protocol = property("security.protocol", "plaintext");
        if !protocol.starts_with("sasl_") {
            let is_certified = CERTIFICATES
                .iter()
                .any(|name| options.property(name).is_some());
            return match protocol == "ssl" && is_certified {
                true => Principal::OfCertificate,
                false => Principal::Anonymous,
            };
        }
        let name = match property("sasl.mechanisms", "gssapi").as_str() {
            "oauthbearer" => of_token(),
            _ => options.property("sasl.username").map(str::to_owned),
        };
        name.map_or(Principal::OfLogin, Principal::Named)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(properties: &[(&str, &str)], of_token: Option<&str>) -> Principal {
        let options = KafkaOptions::of("one:9092", properties);
        Principal::by(&options, || of_token.map(str::to_owned))
    }

    #[test]
    fn nobody_is_anonymous_who_may_be_somebody() {
        const SASL: (&str, &str) = ("security.protocol", "SASL_SSL");
        const TLS: (&str, &str) = ("security.protocol", "ssl");
        const USER: (&str, &str) = ("sasl.username", "shop");
        const CERTIFICATE: (&str, &str) = ("ssl.certificate.location", "client.pem");
        const TOKENS: (&str, &str) = ("sasl.mechanism", "OAUTHBEARER");
        let named = |name: &str| Principal::Named(name.to_owned());
        for (properties, of_token, expected) in [
            (&[][..], None, Principal::Anonymous),
            (&[USER], None, Principal::Anonymous),
            (&[TLS], None, Principal::Anonymous),
            (&[TLS, CERTIFICATE], None, Principal::OfCertificate),
            (
                &[TLS, ("ssl.keystore.location", "client.p12")],
                None,
                Principal::OfCertificate,
            ),
            (
                &[SASL, ("sasl.mechanisms", "PLAIN"), USER, CERTIFICATE],
                None,
                named("shop"),
            ),
            (
                &[SASL, ("sasl.mechanism", "SCRAM-SHA-512")],
                None,
                Principal::OfLogin,
            ),
            (&[SASL, TOKENS], Some("orders"), named("orders")),
            (&[SASL, TOKENS, USER], Some("orders"), named("orders")),
            (&[SASL, TOKENS, CERTIFICATE], None, Principal::OfLogin),
        ] {
            assert_eq!(principal(properties, of_token), expected, "{properties:?}");
        }
    }
}
