//! The ways in: TLS and logins to Kafka, to Postgres and to the schema registry.
//!
//! Each of the three is a real server with certificates made on the spot. What nobody should take
//! is refused in each of them with what is wrong with it, whose it is and what mends it: the
//! certificate of an authority that nobody named, one that has ended, one of another host.

mod documented;
mod kafka;
mod postgres;
mod registry;

use std::sync::{Arc, LazyLock};

use headwater_tests::Certificates;
use headwater_tests::kafka::secured::Secured;
use headwater_tests::kafka::tokens::Issuer;

/// Made once; the servers of this module show them.
static CERTIFICATES: LazyLock<Certificates> = LazyLock::new(Certificates::new);

/// Signs the tokens that the broker takes.
static ISSUER: LazyLock<Arc<Issuer>> = LazyLock::new(|| Arc::new(Issuer::new()));

/// One broker for all of these tests.
static BROKER: LazyLock<Secured> = LazyLock::new(|| Secured::new(&CERTIFICATES, &ISSUER));

/// What is not to be had in any output.
#[track_caller]
fn shows_no_secret(output: &str) {
    use headwater_tests::kafka::{secured::PASSWORD, tokens::CLIENT_SECRET};
    for secret in [PASSWORD, CLIENT_SECRET, "eyJ"] {
        assert!(!output.contains(secret), "{secret:?} in\n{output}");
    }
}
