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
use std::time::Instant;

use rdkafka::client::{Client, ClientContext};
use ureq::http::Uri;

use self::grant::Grant;
use super::{KafkaOptions, Property};
use crate::error::{Error, ErrorKind, Result};
use crate::tls;

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
    /// When the token that it has is due to be replaced.
    due: Mutex<Option<Instant>>,
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
                    let is_done =
                        |it: &&Property| ["client_credentials", "none"].contains(&&*it.value);
                    options.given(name).filter(|it| !is_done(it))
                });
                if let Some(property) = refused {
                    return Err(usage(format!("{property} is not supported")).with_hint(
                        "Tokens are had by client id and secret (client_credentials).",
                    ));
                }
                Some(Grant::of(options)?)
            }
        };
        Ok(Login {
            grant,
            due: Mutex::default(),
        })
    }

    /// Gives a new client its first token.
    ///
    /// # Errors
    /// There is none to be had: of kind `Disconnected` where trying again can help.
    pub(crate) fn begin<C: ClientContext>(&self, client: &Client<C>) -> Result<()> {
        let Some(grant) = &self.grant else {
            return Ok(());
        };
        let token = grant.token()?;
        hand_over::hand_over(client, &token)?;
        *self.lock() = Some(token.due);
        Ok(())
    }

    /// Gives a client the next token where it is due and there is one. Called often, by whoever may not
    /// wait: what it costs while none is due is a look at the clock, and the endpoint is asked by a
    /// thread of the grant's. The token before is good for a fifth of its life yet, and then
    /// librdkafka waits for another.
    pub(crate) fn keep<C: ClientContext>(&self, client: &Client<C>) {
        let Some(grant) = &self.grant else {
            return;
        };
        let mut due = self.lock();
        if due.is_some_and(|due| Instant::now() < due) {
            return;
        }
        if let Some(token) = grant.later_than(*due) {
            // One that is not taken would not be the next time either.
            *due = Some(token.due);
            if let Err(error) = hand_over::hand_over(client, &token) {
                tracing::warn!("no new token for Kafka: {error}");
            }
        }
    }

    /// Whose the token is that a client logs in with. None where the login is by something else, or
    /// no token is to be had.
    pub(super) fn principal(&self) -> Option<String> {
        let token = self.grant.as_ref()?.token().ok()?;
        Some(token.principal)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A warning where the secret that tokens are had by is sent in the clear to another machine.
pub(super) fn exposed(options: &KafkaOptions) -> Option<Error> {
    let url = options.property("sasl.oauthbearer.token.endpoint.url")?;
    let url: Uri = url.parse().ok()?;
    let host = url.host().filter(|host| !tls::is_loopback(host))?;
    if !is_ours(options) || url.scheme_str() != Some("http") {
        return None;
    }
    let message = format!(
        "the secret for tokens goes in the clear to {host}: -X \
         sasl.oauthbearer.token.endpoint.url=http://…"
    );
    Some(Error::failed(message).with_hint("Use the endpoint's URL with https://."))
}

/// Whether a property is kept from librdkafka, because it is carried out here.
pub(super) fn is_ours_alone(options: &KafkaOptions, name: &str) -> bool {
    OURS.contains(&name) && is_ours(options)
}

fn is_ours(options: &KafkaOptions) -> bool {
    options.is("sasl.mechanisms", "OAUTHBEARER") && options.is("sasl.oauthbearer.method", "oidc")
}

const CHOOSE_MECHANISM: &str =
    "Choose -X sasl.mechanism: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER.";

/// Refuses what librdkafka would refuse in words about how it was built.
fn check_mechanism(options: &KafkaOptions) -> Result<()> {
    let is_sasl = |it: &&Property| it.value.to_ascii_lowercase().starts_with("sasl_");
    let Some(protocol) = options.given("security.protocol").filter(is_sasl) else {
        return Ok(());
    };
    let wrong = |what: String, cure: &str| Err(usage(what).with_hint(cure));
    let Some(mechanism) = options.given("sasl.mechanisms") else {
        return wrong(
            format!(
                "{protocol} without sasl.mechanism is Kerberos (GSSAPI), which is not built in"
            ),
            CHOOSE_MECHANISM,
        );
    };
    match mechanism.value.to_ascii_uppercase().as_str() {
        "GSSAPI" => wrong(
            format!("{mechanism} is Kerberos, which is not built in"),
            CHOOSE_MECHANISM,
        ),
        "OAUTHBEARER"
            if !is_ours(options)
                && options.property("enable.sasl.oauthbearer.unsecure.jwt") != Some("true") =>
        {
            wrong(
                format!("{mechanism} says not where tokens come from"),
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
        Login::of(&KafkaOptions::of("one:9092", properties))
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
