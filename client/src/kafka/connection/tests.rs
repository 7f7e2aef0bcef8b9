#![allow(clippy::unwrap_used)]
use super::*;

fn options(brokers: &str) -> KafkaOptions {
    KafkaOptions::of(brokers, &[])
}

fn herald(brokers: &str) -> Connection {
    Connection::herald(&options(brokers)).unwrap()
}

fn transport(connection: &Connection, reason: &str) {
    let error = KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure);
    connection.error(&error, reason);
}

#[test]
fn a_question_may_take_longer_each_time_up_to_a_bound() {
    let mut patience = Patience::new();
    let millis: Vec<u128> = (0..5).map(|_| patience.more().as_millis()).collect();
    assert_eq!(millis, [500, 1000, 2000, 2000, 2000]);
}

#[test]
fn an_unreachable_broker_is_named_with_the_last_complaint() {
    let connection = herald("one:9092,two:9092");
    connection.error(
        &KafkaError::Global(RDKafkaErrorCode::PartitionEOF),
        "no complaint at all",
    );
    transport(
        &connection,
        "one:9092/bootstrap: connection refused (after 0ms in state CONNECT)",
    );
    connection.error(
        &KafkaError::Global(RDKafkaErrorCode::AllBrokersDown),
        "2/2 brokers are down",
    );
    let error = connection.unreachable();
    assert_eq!(
        error.to_string(),
        "Kafka at one:9092,two:9092 does not answer: one:9092: connection refused"
    );
    assert_eq!(error.kind(), ErrorKind::Disconnected);
    assert!(error.hint().is_some());
}

#[test]
fn a_refused_login_is_final() {
    let connection = herald("one:9092");
    assert!(!connection.refused());
    connection.error(
        &KafkaError::Global(RDKafkaErrorCode::Authentication),
        "SASL authentication error",
    );
    assert!(connection.refused());
    assert_eq!(connection.unreachable().kind(), ErrorKind::Failed);
}

#[test]
fn a_refusal_is_told_in_an_outage_that_began_otherwise() {
    let connection = herald("one:9092");
    connection.met.store(true, Ordering::Relaxed);
    transport(&connection, "one:9092/1: Connection refused");
    connection.lost("gone");
    assert!(!connection.away.load(Ordering::Relaxed));
    let error = KafkaError::Global(RDKafkaErrorCode::Authentication);
    connection.error(&error, "one:9092/1: Invalid username or password");
    assert!(connection.away.load(Ordering::Relaxed));
    connection.alive();
    assert!(!connection.away.load(Ordering::Relaxed));
}

#[test]
fn an_outage_begins_after_the_first_answer_and_ends_with_a_sign_of_life() {
    let connection = herald("one:9092");
    connection.lost("gone");
    assert!(
        !connection.out.load(Ordering::Relaxed),
        "an outage before the first answer"
    );
    connection.met.store(true, Ordering::Relaxed);
    connection.lost("gone");
    assert!(connection.out.load(Ordering::Relaxed));
    connection.alive();
    assert!(!connection.out.load(Ordering::Relaxed));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let properties = [
        ("security.protocol", "SSL"),
        ("ssl.key.location", "/nowhere/client.key"),
    ];
    let error = Transport::of(&KafkaOptions::of("one:9092", &properties));
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("/nowhere/client.key"), "{error}");
}

#[test]
fn a_complaint_names_its_broker() {
    for (complaint, broker) in [
        (
            "ssl://one:9093: SSL handshake failed: x",
            Some(("one", 9093)),
        ),
        (
            "sasl_ssl://one.example:9093/2: SSL: x",
            Some(("one.example", 9093)),
        ),
        ("[::1]:9093/1: Connect: x", Some(("::1", 9093))),
        ("GroupCoordinator: no route", None),
        ("1/1 brokers are down", None),
    ] {
        assert_eq!(broker_of(complaint), broker, "{complaint}");
    }
}
