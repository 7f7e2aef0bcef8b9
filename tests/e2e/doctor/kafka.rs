//! Topics that are there and not as they should be, those that are not, and what is on record.

use headwater_tests::installation::output;
use headwater_tests::postgres::Options;
use headwater_tests::registry::Compatibility;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Kafka, Registry};

use super::printed::User;
use crate::world::kafka;

fn add(user: &mut User<'_>, options: &[&str]) {
    user.arguments
        .extend(options.iter().map(|&it| it.to_owned()));
}

#[test]
fn each_topic_that_is_not_fit_is_named_and_mended() {
    let mut postgres = Options::default().start();
    let sql = postgres.database("topics");
    sql.run("create table items (id int primary key); create table other (id int primary key)");
    let kafka = kafka();
    let (conninfo, brokers) = (postgres.conninfo("topics"), kafka.brokers());
    let options = [
        "-d", &conninfo, "-b", &brokers, "--slot", "topics", "--sample", "0",
    ];
    let mut user = User::new(&mut postgres, &options).with_tools_of(kafka);
    add(&mut user, &["--topic-prefix", "fit."]);

    // What hangs on tables that nobody could name is not well.
    let report = user.asks_with(&["-p", "1"]);
    assert_eq!(report.of("brokers")[0].severity, "ok");
    for id in ["topics", "cleanup_policy", "message_size", "replicas"] {
        let found = report.of(id)[0];
        assert_eq!(found.severity, "skipped", "{found:?}");
    }

    add(&mut user, &["--topic-replication", "3"]);
    user.hears_and_mends("topics", "fail", "\"fit.items\"");

    kafka.create_topic(
        "fit.items",
        1,
        &[
            ("cleanup.policy", "delete"),
            ("max.message.bytes", "500000"),
            ("min.insync.replicas", "2"),
        ],
    );
    user.hears_and_mends("cleanup_policy", "warning", "\"fit.items\"");
    user.hears_and_mends("message_size", "fail", "500000");
    user.hears_and_mends("replicas", "fail", "min.insync.replicas=2");
    add(&mut user, &["--topic-partitions", "4"]);
    user.hears_and_mends("partitions", "warning", "\"fit.items\"");

    let is_made = || kafka.topics().unwrap().contains_key("fit.other");
    assert!(!is_made(), "the doctor makes no topic");
    add(&mut user, &["--no-create-topics"]);
    user.hears_and_mends("topics", "fail", "\"fit.other\"");
    assert!(is_made());

    kafka.create_topic("fit.dead-letters", 4, &[("cleanup.policy", "compact")]);
    add(&mut user, &["--on-error", "quarantine"]);
    user.hears_and_mends("cleanup_policy", "warning", "\"fit.dead-letters\"");
    sql.run("create table events (n int)");
    kafka.create_topic("fit.events", 4, &[("cleanup.policy", "compact")]);
    add(&mut user, &["--unkeyed", "send"]);
    user.hears_and_mends("cleanup_policy", "fail", "\"fit.events\"");
    kafka.configure_topic("fit.events", &[("segment.bytes", "1048576")]);
    add(&mut user, &["-X", "batch.size=1200000"]);
    user.hears_and_mends("message_size", "fail", "segment.bytes");
    add(&mut user, &["--dead-letter-topic", "fit.items"]);
    user.hears_and_mends("topic_names", "fail", "\"fit.items\"");
    add(&mut user, &["--message-topic", "fit.items"]);
    user.hears_and_mends("topic_names", "fail", "\"fit.items\"");
    sql.run("drop table events");
    user.gives("-X", "batch.size=1000000");
    user.hears_and_mends("topics", "fail", "\"headwater-messages\"");

    // A slot of which nothing is on record could have lost changes.
    sql.run("select pg_create_logical_replication_slot('topics', 'headwater')");
    let report = user.asks();
    assert_eq!(report.exit_code, 3, "{:#?}", report.fails());
    user.hears_and_mends("slot", "fail", "nothing is on record");
    sql.run("select pg_drop_replication_slot('topics')");
    sql.run("select pg_create_logical_replication_slot('topics', 'test_decoding')");
    user.hears_and_mends("slot", "fail", "test_decoding");

    sql.run("select pg_create_logical_replication_slot('topics_2', 'headwater')");
    sql.run("create table load as select g from generate_series(1, 20000) g");
    sql.run("drop table load");
    add(&mut user, &["--max-retained-wal", "1MB"]);
    user.hears_and_mends("retained_wal", "warning", "\"topics_2\"");
}

#[test]
fn a_registry_that_refuses_nothing_is_named_and_mended() {
    let mut postgres = Options::default().start();
    let sql = postgres.database("schemas");
    sql.run("create table items (id int primary key, name text)");
    let registry = Registry::new(Compatibility::None);
    let (conninfo, brokers) = (postgres.conninfo("schemas"), kafka().brokers());
    let options = [
        "-d",
        &conninfo,
        "-b",
        &brokers,
        "-S",
        "schemas",
        "--topic-prefix",
        "doctor.",
    ];
    let mut user = User::new(&mut postgres, &options);
    let url = registry.url();
    add(
        &mut user,
        &["--sample", "0", "--format", "avro", "-r", &url],
    );
    user.is_well("schemas");
    user.hears_and_mends("compatibility", "warning", "NONE");

    let schema = r#"{"type":"record","name":"other","fields":[{"name":"id","type":"bytes"}]}"#;
    registry.register("doctor.items-value", schema).unwrap();
    user.hears_and_heeds("schemas", "fail", "doctor.items-value", |user| {
        user.gives("--topic-prefix", "anew.");
    });

    // A stream starts while it is away.
    user.gives("-r", "http://127.0.0.1:1");
    user.hears_and_heeds("registry", "warning", "127.0.0.1:1", |user| {
        let report = user.asks();
        assert_eq!(report.of("schemas")[0].severity, "skipped");
        assert_eq!(report.exit_code, 0, "{:#?}", report.fails());
        user.gives("-r", &url);
    });
}

#[test]
#[ignore = "they are waited for: make test-doctor"]
fn brokers_that_do_not_answer_are_named() {
    let mut postgres = Options::default().start();
    let conninfo = postgres.conninfo("postgres");
    let options = ["-d", &conninfo, "-b", "127.0.0.1:1", "--sample", "0"];
    let mut user = User::new(&mut postgres, &options);
    user.hears_and_heeds("brokers", "fail", "127.0.0.1:1", |user| {
        user.gives("-b", &kafka().brokers());
    });
}

#[test]
#[ignore = "two brokers: make test-doctor"]
fn replicas_that_are_away_are_named() {
    let first = Kafka::new();
    let mut second = first.second();
    for (topic, replicas, settings) in [
        ("two.items", "1:2", "min.insync.replicas=2"),
        ("two.alone", "2", "min.insync.replicas=1"),
    ] {
        let mut tool = first.tool("org.apache.kafka.tools.TopicCommand");
        tool.args(["--bootstrap-server", &first.brokers(), "--create"])
            .args(["--topic", topic, "--replica-assignment", replicas])
            .args(["--config", "cleanup.policy=compact", "--config", settings]);
        output(&mut tool);
    }
    let mut postgres = Options::default().start();
    let sql = postgres.database("two");
    sql.run("create table items (id int primary key); create table alone (id int primary key)");
    let (conninfo, brokers) = (postgres.conninfo("two"), first.brokers());
    let options = ["-d", &conninfo, "-b", &brokers, "--sample", "0"];
    let mut user = User::new(&mut postgres, &options);
    add(&mut user, &["--topic-prefix", "two."]);

    let found = user.hears("replicas", "warning");
    assert!(found[0].found.contains("two.alone"), "{found:?}");
    second.kill();
    eventually("both topics are named", SOON, || {
        let found = format!("{:?}", user.asks().of("replicas"));
        let is_named = |what: &str| found.contains(what);
        let both = is_named("\\\"two.alone\\\" has 1 partition without a leader")
            && is_named("\\\"two.items\\\" has 1 of 2 replicas in sync");
        check(both, || found)
    });
    sql.run("drop table alone");
    user.hears_and_heeds("replicas", "fail", "two.items", |_| second.start());
}
