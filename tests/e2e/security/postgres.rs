//! Postgres: what libpq's `sslmode` and its kin promise holds for the client, whose sessions all come
//! about in one place, and what is refused is told as for the others.

use std::sync::LazyLock;

use headwater_tests::Postgres;
use headwater_tests::certificates::{CLIENT, Holder};
use headwater_tests::client::{Client, Ended};

use super::{CERTIFICATES, shows_no_secret};
use headwater_tests::kafka::secured::PASSWORD;

/// Each test here waits for the others: it shows one certificate at a time.
static SERVER: LazyLock<Postgres> = LazyLock::new(|| {
    let postgres = Postgres::new();
    let sql = postgres.database("security");
    sql.run("create table t (id int primary key); insert into t values (1), (2)");
    postgres.require_tls(&CERTIFICATES, CLIENT, PASSWORD);
    postgres
});

/// A client that opens an ordinary session and one for replication, and prints the table.
fn connect(host: &str, user: &str, more: &str) -> Ended {
    let conninfo = format!(
        "host={host} port={} user={user} dbname=security {more}",
        SERVER.port()
    );
    let arguments = [
        "stream",
        "-d",
        &conninfo,
        "--sink",
        "stdout",
        "--snapshot",
        "only",
    ];
    let ended = Client::start_with(arguments, &[("PGPASSWORD", PASSWORD)]).wait();
    shows_no_secret(&ended.stderr);
    ended
}

#[track_caller]
fn is_let_in(host: &str, user: &str, more: &str) {
    let ended = connect(host, user, more);
    ended.expect(0, &[]);
    assert_eq!(ended.stdout.lines().count(), 2, "{}", ended.stdout);
}

#[track_caller]
fn is_refused(host: &str, user: &str, more: &str, says: &[&str]) {
    connect(host, user, more)
        .expect(1, says)
        .expect(1, &["hint: "]);
}

#[test]
fn sslmode_promises_what_it_does_for_libpq() {
    let authority = format!("sslrootcert={}", CERTIFICATES.authority().display());
    let stranger = format!("sslrootcert={}", CERTIFICATES.stranger().display());
    let identity = CERTIFICATES.identity(Holder::Client).display().to_string();
    let endpoint = format!("localhost:{}", SERVER.port());

    // What the server shows is fine.
    let full = format!("sslmode=verify-full {authority}");
    is_let_in("localhost", "postgres", &full);
    is_let_in(
        "127.0.0.1",
        "postgres",
        &format!("{full} channel_binding=require"),
    );
    is_let_in("localhost", "postgres", "sslmode=require");
    is_let_in(
        "localhost",
        CLIENT,
        &format!("{full} sslcert={identity} sslkey={identity}"),
    );
    is_refused(
        "localhost",
        "postgres",
        &format!("sslmode=verify-full {stranger}"),
        &[
            &format!("the certificate of {endpoint} is refused"),
            "its issuer, CN=Headwater's tests, is not among",
            "hint: Name the certificate of its issuer: sslrootcert=FILE",
        ],
    );
    is_refused(
        "localhost",
        CLIENT,
        &full,
        &["valid client certificate", "sslkey"],
    );
    is_refused(
        "localhost",
        "postgres",
        "sslmode=disable",
        &["no encryption", "sslmode=verify-full"],
    );
    is_refused(
        "localhost",
        CLIENT,
        &format!("{full} sslcert={identity} sslkey={identity} channel_binding=require"),
        &["channel binding", "scram-sha-256"],
    );

    SERVER.show(&CERTIFICATES, Holder::Expired);
    is_refused(
        "localhost",
        "postgres",
        &format!("sslmode=verify-ca {authority}"),
        &[&endpoint, "it ended on", "renewed"],
    );
    // Encrypted, and nothing else was asked for.
    is_let_in("localhost", "postgres", "sslmode=require");

    SERVER.show(&CERTIFICATES, Holder::Elsewhere);
    is_refused(
        "localhost",
        "postgres",
        &full,
        &[
            "does not match host name \"localhost\"",
            "elsewhere.example",
            "subjectAltName",
        ],
    );
    is_let_in(
        "localhost",
        "postgres",
        &format!("sslmode=verify-ca {authority}"),
    );
}
