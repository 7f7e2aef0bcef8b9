//! `OAUTHBEARER`: a token for each client of Kafka, and the next one before it ends.
//!
//! librdkafka asks for tokens itself where it is built with libcurl, which this program is not: it
//! has an HTTP client of its own. So librdkafka's properties keep their names and their meaning
//! (`sasl.oauthbearer.method=oidc` and what belongs to it) and are carried out here. Where
//! librdkafka leaves tokens to its user, it asks for them by an event of its queue; a client that only
//! administers serves no queue, and rdkafka's answer to that event knows no extensions. So nobody
//! waits for the event: a client gets its token when it is made, and each later one from whoever
//! works with it.
//!
//! All clients of a process that log in alike share a token: [`Grant`].

mod grant;
mod hand_over;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::{Client, ClientContext};

use self::grant::Grant;
use super::KafkaOptions;
use crate::error::{Error, ErrorKind, Result};

/// How long after a token that was not to be had the next one is asked for.
const AGAIN: Duration = Duration::from_secs(10);

/// The properties that are carried out here, once `sasl.oauthbearer.method` is `oidc`; librdkafka is
/// not told of them.
const OURS: [&str; 8] = [
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.extensions",
    "sasl.oauthbearer.token.endpoint.url",
    "https.ca.location",
    "https.ca.pem",
];

/// What librdkafka could do for `oidc`, and this does not.
const REFUSED: [&str; 2] = [
    "sasl.oauthbearer.grant.type",
    "sasl.oauthbearer.metadata.authentication.type",
];

/// Whether a property is carried out here and not by librdkafka, which would refuse it.
pub(super) fn carries_out(property: &str) -> bool {
    OURS.contains(&property)
}

/// How one client of Kafka logs in.
#[derive(Debug)]
pub(crate) struct Login {
    /// None where librdkafka sees to it alone.
    grant: Option<Arc<Grant>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the next token is due.
    due: Option<Instant>,
    /// Whether it was said that none is to be had.
    complained: bool,
}

impl Login {
    /// Reads the properties.
    ///
    /// # Errors
    /// Of kind `Usage` where they cannot work.
    pub(crate) fn of(options: &KafkaOptions) -> Result<Self> {
        check_mechanism(options)?;
        let grant = match is_ours(options) {
            false => None,
            true => {
                let refused = REFUSED.into_iter().find_map(|name| {
                    let value = options.property(name)?;
                    (value != "client_credentials" && value != "none").then_some((name, value))
                });
                if let Some((name, value)) = refused {
                    return Err(
                        usage(format!("-X {name}={value} is not supported")).with_hint(
                            "Tokens are had by client id and secret (client_credentials).",
                        ),
                    );
                }
                Some(Grant::of(options)?)
            }
        };
        Ok(Login {
            grant,
            state: Mutex::default(),
        })
    }

    /// Gives a new client its first token.
    ///
    /// # Errors
    /// There is none to be had: of kind `Disconnected` where trying again can help.
    pub(crate) fn begin<C: ClientContext>(&self, client: &Client<C>) -> Result<()> {
        self.renew(client).map(drop)
    }

    /// Gives a client the next token where it is due. Called often; what it costs while none is due
    /// is a look at the clock. A token that is not to be had is asked for again: the one before is
    /// good for a fifth of its life yet, and then librdkafka waits for another.
    pub(crate) fn keep<C: ClientContext>(&self, client: &Client<C>) {
        if self.grant.is_none() || self.lock().due.is_some_and(|due| Instant::now() < due) {
            return;
        }
        match self.renew(client) {
            Ok(()) => {
                if std::mem::take(&mut self.lock().complained) {
                    tracing::info!("there is a token for Kafka again");
                }
            }
            Err(error) => {
                let mut state = self.lock();
                state.due = Some(Instant::now() + AGAIN);
                if !std::mem::replace(&mut state.complained, true) {
                    tracing::warn!("no new token for Kafka, asking again: {error}");
                }
            }
        }
    }

    /// Whose the token is that a client logs in with. None where the login is by something else, or
    /// no token is to be had.
    pub(super) fn principal(&self) -> Option<String> {
        let token = self.grant.as_ref()?.token().ok()?;
        Some(token.principal)
    }

    fn renew<C: ClientContext>(&self, client: &Client<C>) -> Result<()> {
        let Some(grant) = &self.grant else {
            return Ok(());
        };
        let token = grant.token()?;
        hand_over::hand_over(client, &token)?;
        self.lock().due = Some(token.due);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a property is kept from librdkafka, because it is carried out here.
pub(super) fn is_ours_alone(options: &KafkaOptions, name: &str) -> bool {
    OURS.contains(&name) && is_ours(options)
}

fn is_ours(options: &KafkaOptions) -> bool {
    let is = |name, value: &str| {
        options
            .property(name)
            .is_some_and(|own| own.eq_ignore_ascii_case(value))
    };
    is("sasl.mechanisms", "OAUTHBEARER") && is("sasl.oauthbearer.method", "oidc")
}

/// Refuses what librdkafka would refuse in words about how it was built.
fn check_mechanism(options: &KafkaOptions) -> Result<()> {
    let protocol = options.property("security.protocol").unwrap_or_default();
    if !protocol.to_ascii_lowercase().starts_with("sasl_") {
        return Ok(());
    }
    let mechanism = options.property("sasl.mechanisms").unwrap_or("GSSAPI");
    let wrong = |what: String, cure: &str| Err(usage(what).with_hint(cure));
    match mechanism.to_ascii_uppercase().as_str() {
        "GSSAPI" => wrong(
            format!(
                "-X security.protocol={protocol} without sasl.mechanism is Kerberos (GSSAPI), \
                     which is not built in"
            ),
            "Choose -X sasl.mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.",
        ),
        "OAUTHBEARER"
            if !is_ours(options)
                && options.property("enable.sasl.oauthbearer.unsecure.jwt") != Some("true") =>
        {
            wrong(
                "-X sasl.mechanism=OAUTHBEARER says not where tokens come from".to_owned(),
                "Add -X sasl.oauthbearer.method=oidc, sasl.oauthbearer.token.endpoint.url, \
                 sasl.oauthbearer.client.id and sasl.oauthbearer.client.secret.",
            )
        }
        _ => Ok(()),
    }
}

fn usage(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn login(properties: &[(&str, &str)]) -> Result<Login> {
        Login::of(&KafkaOptions {
            brokers: "one:9092".to_owned(),
            properties: properties
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            partitions: None,
            replication: None,
            create_topics: true,
            headers: true,
        })
    }

    #[test]
    fn a_login_that_cannot_work_is_wrong_usage_and_says_what_works() {
        const SASL: (&str, &str) = ("security.protocol", "sasl_ssl");
        const TOKENS: (&str, &str) = ("sasl.mechanism", "OAUTHBEARER");
        const OIDC: (&str, &str) = ("sasl.oauthbearer.method", "OIDC");
        for (properties, says) in [
            (&[SASL][..], "Kerberos"),
            (&[SASL, ("sasl.mechanisms", "GSSAPI")], "Kerberos"),
            (&[SASL, TOKENS], "where tokens come from"),
            (&[SASL, TOKENS, OIDC], "token.endpoint.url"),
            (
                &[
                    SASL,
                    TOKENS,
                    OIDC,
                    ("sasl.oauthbearer.grant.type", "jwt-bearer"),
                ],
                "jwt-bearer is not supported",
            ),
        ] {
            let error = login(properties).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{properties:?}");
            assert!(error.to_string().contains(says), "{properties:?}: {error}");
            assert!(error.hint().is_some(), "{properties:?}");
        }
    }

    #[test]
    fn librdkafka_sees_to_every_other_login() {
        for properties in [
            &[][..],
            &[("security.protocol", "SSL")],
            &[
                ("security.protocol", "SASL_SSL"),
                ("sasl.mechanism", "PLAIN"),
            ],
            &[
                ("security.protocol", "SASL_PLAINTEXT"),
                ("sasl.mechanism", "OAUTHBEARER"),
                ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
            ],
        ] {
            assert!(login(properties).unwrap().grant.is_none(), "{properties:?}");
        }
    }
}
