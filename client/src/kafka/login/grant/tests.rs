#![allow(clippy::unwrap_used)]
use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;

fn options(properties: &[(&str, &str)]) -> KafkaOptions {
    let own = [
        (
            "sasl.oauthbearer.token.endpoint.url",
            "https://id.example/token?x=y",
        ),
        ("sasl.oauthbearer.client.id", "headwater"),
        ("sasl.oauthbearer.client.secret", "s3cret"),
    ];
    KafkaOptions {
        brokers: "one:9092".to_owned(),
        properties: own.iter().chain(properties).map(Property::from).collect(),
        partitions: None,
        replication: None,
        create_topics: true,
        headers: true,
    }
}

fn read(expires_in: Option<u64>, token: &str) -> Result<Token> {
    read_as(expires_in.map(Value::from), token)
}

fn read_as(expires_in: Option<Value>, token: &str) -> Result<Token> {
    let grant = Grant::of(&options(&[])).unwrap();
    let given = Given {
        access_token: token.to_owned(),
        expires_in,
    };
    grant.read(given, UNIX_EPOCH + Duration::from_secs(1_000))
}

#[test]
fn a_token_says_whose_it_is_and_when_it_ends() {
    let claims = URL_SAFE_NO_PAD.encode(r#"{"sub":"orders","exp":1600.5}"#);
    let token = read(None, &format!("e30.{claims}.c2ln")).unwrap();
    assert_eq!(
        (token.principal.as_str(), token.ends_ms),
        ("orders", 1_600_500)
    );
    let claims = URL_SAFE_NO_PAD.encode(r#"{"sub":"orders","iat":5000,"exp":5040}"#);
    let shorter = read(Some(60), &format!("e30.{claims}.c2ln")).unwrap();
    assert_eq!(shorter.ends_ms, 1_040_000, "the broker goes by the token");
    let opaque = read(Some(60), "opaque").unwrap();
    assert_eq!(
        (opaque.principal.as_str(), opaque.ends_ms),
        ("headwater", 1_060_000)
    );
}

#[test]
fn a_token_that_is_of_no_use_is_refused_without_being_shown() {
    for (expires_in, token) in [
        (None, "opaque"),
        (Some(0), "opaque"),
        (Some(60), ""),
        (Some(60), "two words"),
        (Some(60), "a\0b"),
    ] {
        let error = read(expires_in, token).err().unwrap().to_string();
        assert!(error.contains("https://id.example/token:"), "{error}");
        assert!(token.is_empty() || !error.contains(token), "{error}");
    }
}

#[test]
fn any_number_of_seconds_is_a_life() {
    for (expires_in, life_s) in [
        (Value::from(u64::MAX), 365 * 86_400),
        (Value::from(12_000_000_000_000_000_000_u64), 365 * 86_400),
        (Value::from(1e300), 365 * 86_400),
        (Value::from("3600"), 3600),
        (Value::from(59.5), 59),
    ] {
        let token = read_as(Some(expires_in.clone()), "opaque").unwrap();
        assert_eq!(token.ends_ms / 1000 - 1000, life_s, "{expires_in}");
    }
    for expires_in in ["NaN", "soon", "", "-5"] {
        assert!(
            read_as(Some(expires_in.into()), "opaque").is_err(),
            "{expires_in}"
        );
    }
}

/// The grant of an endpoint at `port` of this machine, with a token that is due since now and
/// ends in `rest`.
fn with_token(port: u16, rest: Duration) -> Arc<Grant> {
    let url = format!("http://127.0.0.1:{port}/token");
    let grant = Grant::of(&options(&[("sasl.oauthbearer.token.endpoint.url", &url)])).unwrap();
    let mut token = read(Some(60), "opaque").unwrap();
    token.due = Instant::now();
    token.ends = Instant::now() + rest;
    grant.state().newest = Some(token);
    grant
}

#[test]
fn a_token_serves_until_it_ends_while_the_endpoint_is_silent() {
    // Takes connections, by its backlog, and never answers.
    let endpoint = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = endpoint.local_addr().unwrap().port();
    let grant = with_token(port, Duration::from_secs(60));
    let asked = Instant::now();
    let token = grant.token().unwrap();
    assert!(grant.later_than(Some(token.due)).is_none());
    assert!(grant.later_than(None).is_some());
    assert!(grant.state().is_renewed, "nobody asks for the next token");
    assert!(asked.elapsed() < TIMEOUT / 2, "{:?}", asked.elapsed());
}

#[test]
fn a_thread_that_panicked_is_followed_by_another() {
    let endpoint = TcpListener::bind("127.0.0.1:0").unwrap();
    let grant = with_token(
        endpoint.local_addr().unwrap().port(),
        Duration::from_secs(60),
    );
    grant.state().is_renewed = true;
    let renewal = Renewal(Arc::clone(&grant));
    let thread = thread::spawn(move || {
        let _renewal = renewal;
        panic!("on purpose");
    });
    assert!(thread.join().is_err());
    grant.token().unwrap();
    assert!(!grant.state().is_renewed, "it is asked for again at once");
    grant.state().failed = Instant::now().checked_sub(AGAIN);
    grant.token().unwrap();
    assert!(grant.state().is_renewed, "nobody asks for the next token");
}

#[test]
fn a_token_that_has_ended_is_not_handed_out() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let error = with_token(port, Duration::ZERO).token().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
}

#[test]
fn an_answer_that_is_no_http_may_be_another_the_next_time() {
    let endpoint = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = endpoint.local_addr().unwrap().port();
    let answering = thread::spawn(move || {
        let (mut stream, _) = endpoint.accept().unwrap();
        let mut request = [0; 1024];
        let _ = stream.read(&mut request).unwrap();
        stream.write_all(b"HTTP/1.1 what\r\n\r\n").unwrap();
    });
    let error = with_token(port, Duration::ZERO).token().err().unwrap();
    answering.join().unwrap();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error:?}");
}

#[test]
fn those_who_ask_alike_share_a_grant_and_its_secret_is_not_shown() {
    let one = Grant::of(&options(&[("sasl.oauthbearer.scope", "a b")])).unwrap();
    let same = Grant::of(&options(&[("sasl.oauthbearer.scope", "a b")])).unwrap();
    let other = Grant::of(&options(&[])).unwrap();
    assert!(Arc::ptr_eq(&one, &same) && !Arc::ptr_eq(&one, &other));
    assert_eq!(
        one.request.form(),
        "grant_type=client_credentials&scope=a%20b"
    );
    assert!(!format!("{one:?}").contains("s3cret"));
}

#[test]
fn what_cannot_work_is_wrong_usage() {
    for (name, value) in [
        ("sasl.oauthbearer.client.secret", ""),
        ("sasl.oauthbearer.token.endpoint.url", "id.example/token"),
        (
            "sasl.oauthbearer.token.endpoint.url",
            "https://u:p@id.example/",
        ),
        ("sasl.oauthbearer.extensions", "auth=x"),
        ("sasl.oauthbearer.extensions", "logical-cluster=x"),
    ] {
        let error = Grant::of(&options(&[(name, value)])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{name}={value}");
        assert!(error.to_string().contains(name), "{error}");
    }
}
