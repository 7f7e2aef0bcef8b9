//! `headwater tail` on topics in Avro, whoever wrote them.

use headwater_tests::client::Ended;
use headwater_tests::registry::proxy::{Fault, Proxy};
use headwater_tests::{Client, topic};

use crate::world;

const KEY: &str =
    r#"{"type":"record","name":"Key","namespace":"tail","fields":[{"name":"id","type":"int"}]}"#;
const ONE: &str = r#"{"type":"record","name":"Row","namespace":"tail","fields":[
    {"name":"id","type":"int"},
    {"name":"day","type":["null",{"type":"int","logicalType":"date"}],"default":null}]}"#;
const TWO: &str = r#"{"type":"record","name":"Row","namespace":"tail","fields":[
    {"name":"id","type":"int"},
    {"name":"price","type":["null",{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}],"default":null}]}"#;

/// Confluent's wire format.
fn framed(id: u32, datum: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], datum].concat()
}

/// A topic with one partition and a schema for its keys.
fn topic_of(name: &str) -> (String, u32) {
    let topic = format!("tail_avro.{name}");
    world::kafka().create_topic(&topic, 1, &[]);
    let key = world::registry().register(&format!("{topic}-key"), KEY);
    (topic, key.unwrap())
}

#[track_caller]
fn tail(topic: &str, more: &[&str]) -> Ended {
    let brokers = world::kafka().brokers();
    let asked = ["tail", "-b", &brokers, "--from-beginning", "--exit", topic];
    Client::run(asked.iter().chain(more))
}

#[test]
fn each_record_is_decoded_with_the_schema_that_it_names() {
    let (kafka, registry) = (world::kafka(), world::registry());
    let (topic, key) = topic_of("versions");
    let value = format!("{topic}-value");
    let one = registry.register(&value, ONE).unwrap();
    let two = registry.register(&value, TWO).unwrap();
    topic::write(kafka, &topic, framed(key, &[2]), framed(one, &[2, 2, 2]));
    topic::write(
        kafka,
        &topic,
        framed(key, &[4]),
        framed(two, &[4, 2, 4, 0xff, 0x6a]),
    );
    topic::write(kafka, &topic, framed(key, &[6]), framed(one, &[6, 0]));
    topic::bury(kafka, &topic, framed(key, &[2]));
    topic::write(kafka, &topic, r#"{"id":1}"#, "no Avro");

    let url = registry.url();
    let raw = tail(&topic, &["-r", &url]);
    raw.expect(0, &[]);
    assert_eq!(
        raw.stdout.lines().collect::<Vec<_>>(),
        [
            "{\"id\":1}\t{\"id\":1,\"day\":{\"int\":1}}",
            "{\"id\":2}\t{\"id\":2,\"price\":{\"bytes\":\"\\u00ffj\"}}",
            "{\"id\":3}\t{\"id\":3,\"day\":null}",
            "{\"id\":1}\tnull",
            "{\"id\":1}\tno Avro",
        ]
    );
    let readable = tail(&topic, &["-r", &url, "--readable"]);
    readable.expect(0, &[]);
    assert_eq!(
        readable.stdout.lines().take(2).collect::<Vec<_>>(),
        [
            "{\"id\":1}\t{\"id\":1,\"day\":{\"int\":\"1970-01-02\"}}",
            "{\"id\":2}\t{\"id\":2,\"price\":{\"bytes\":-1.50}}",
        ]
    );

    let undecoded = tail(&topic, &[]);
    undecoded.expect(0, &["--registry URL decodes them"]);
    assert_eq!(undecoded.stdout.lines().count(), 5);
    assert_eq!(undecoded.stderr.matches("--registry").count(), 1);
}

#[test]
fn what_cannot_be_decoded_is_named_and_not_shown() {
    let (kafka, registry) = (world::kafka(), world::registry());
    let (topic, key) = topic_of("errors");
    let one = registry.register(&format!("{topic}-value"), ONE).unwrap();
    topic::write(kafka, &topic, framed(key, &[2]), framed(one, &[2, 0]));
    topic::write(kafka, &topic, framed(key, &[4]), framed(one, &[4, 0, 0]));
    let too_long = tail(&topic, &["-r", &registry.url()]);
    too_long.expect(
        1,
        &[
            &format!("cannot decode the value of {topic}/0 at offset 1"),
            &format!("no datum of schema {one}: 1 bytes too many"),
        ],
    );
    assert_eq!(too_long.stdout, "{\"id\":1}\t{\"id\":1,\"day\":null}");

    let (topic, key) = topic_of("unknown");
    topic::write(
        kafka,
        &topic,
        framed(key, &[2]),
        framed(987_654_321, &[2, 0]),
    );
    let unknown = tail(&topic, &["-r", &registry.url()]);
    unknown.expect(
        1,
        &[&format!("{topic}/0 at offset 0"), "no schema 987654321"],
    );
}

#[test]
fn a_registry_that_does_not_answer_or_not_this_is_named() {
    let (kafka, registry) = (world::kafka(), world::registry());
    let (topic, key) = topic_of("faults");
    topic::write(kafka, &topic, framed(key, &[2]), framed(key, &[2]));
    let proxy = Proxy::to(registry);
    let url = proxy.url();
    proxy.set(Fault::Guarded("Basic bWU6cmlnaHQ=".to_owned()));
    tail(&topic, &["-r", &url]).expect(1, &[&topic, &url, "401"]);
    let with_login = |login: &str| url.replace("http://", &format!("http://{login}@"));
    let refused = tail(&topic, &["-r", &with_login("me:wrong")]);
    refused.expect(1, &[&url, "401"]);
    assert!(!refused.stderr.contains("wrong"), "{}", refused.stderr);
    tail(&topic, &["-r", &with_login("me:right")]).expect(0, &[]);
    proxy.answer(500, "the store is away");
    tail(&topic, &["-r", &url]).expect(1, &[&url, "500", "the store is away"]);
    proxy.set(Fault::Closed);
    tail(&topic, &["-r", &url]).expect(1, &[&topic, &url]);
    drop(proxy);
    tail(&topic, &["-r", "ftp://registry"]).expect(2, &["--registry"]);
}
