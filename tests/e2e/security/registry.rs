//! The schema registry: TLS as a reverse proxy before it has it, and a token behind that.

use headwater_tests::Client;
use headwater_tests::certificates::Holder;
use headwater_tests::client::Ended;
use headwater_tests::registry::proxy::{Fault, Proxy};
use headwater_tests::registry::tls::Terminator;

use super::CERTIFICATES;
use crate::world::{self, World};

const TOKEN: &str = "a-token-which-nobody-may-log";

/// Copies a table in Avro: its schemas are registered before its first row.
fn copy(world: &World<'_>, registry: &Terminator, token: &str, authority: &str) -> Ended {
    let url = registry.url();
    let arguments = world.arguments(&[
        "--format",
        "avro",
        "-r",
        &url,
        "--registry-ca",
        authority,
        "--snapshot",
        "only",
    ]);
    let ended = Client::start_with(&arguments, &[("HEADWATER_REGISTRY_TOKEN", token)]).wait();
    assert!(!ended.stderr.contains(token), "{}", ended.stderr);
    ended
}

#[test]
fn a_registry_is_trusted_by_its_certificate_and_asks_for_a_token() {
    let world = World::new("security_registry");
    world
        .sql
        .run("create table t (id int primary key); insert into t values (1)");
    let guard = Proxy::to(world::registry());
    guard.set(Fault::Guarded(format!("Bearer {TOKEN}")));
    let terminator = |holder| Terminator::before(guard.port(), &CERTIFICATES.identity(holder));
    let server = terminator(Holder::Server);
    let authority = CERTIFICATES.authority().display().to_string();
    let stranger = CERTIFICATES.stranger().display().to_string();

    for (registry, authority, says) in [
        (
            &server,
            &stranger,
            "its issuer, CN=Headwater's tests, is not among",
        ),
        (&terminator(Holder::Expired), &authority, "it ended on"),
        (
            &terminator(Holder::Elsewhere),
            &authority,
            "it is for elsewhere.example, and not for localhost",
        ),
    ] {
        let endpoint = format!("localhost:{}", registry.port());
        let refused = copy(&world, registry, TOKEN, authority);
        refused.expect(1, &["is not trusted", &endpoint, says, "hint: "]);
    }
    assert_eq!(
        guard.requests(),
        [] as [&str; 0],
        "asked of whom is not trusted"
    );

    copy(&world, &server, "another-token", &authority).expect(1, &["401"]);
    copy(&world, &server, TOKEN, &authority).expect(0, &[]);
    let subjects = world::registry().subjects();
    assert!(
        subjects.contains(&"security_registry.t-value".to_owned()),
        "{subjects:?}"
    );
}
