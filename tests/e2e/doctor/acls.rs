//! What a client may do in Kafka: ACLs, which an authorizer of Kafka's own decides by.

use std::process::Command;

use headwater_tests::Certificates;
use headwater_tests::installation::output;
use headwater_tests::kafka::secured::{LIMITED, PASSWORD, Secured, USER, Way};
use headwater_tests::kafka::tokens::Issuer;
use headwater_tests::postgres::Options;

use super::printed::User;

/// How one who may do everything logs in, as Kafka's tools have it.
fn administrator() -> String {
    format!(
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n\
         sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
         username=\"{USER}\" password=\"{PASSWORD}\";\n"
    )
}

#[test]
#[ignore = "many runs of Java: make test-doctor"]
fn each_right_in_kafka_is_named_and_granted() {
    let issuer = Issuer::new();
    let broker = Secured::new(&Certificates::new(), &issuer);
    let kafka = broker.kafka();
    let mut postgres = Options::default().start();
    let sql = postgres.database("acls");
    sql.run("create table items (id int primary key)");
    let (conninfo, brokers) = (
        postgres.conninfo("acls"),
        broker.brokers(Way::SaslPlaintext),
    );
    let (user, password) = (
        format!("sasl.username={LIMITED}"),
        format!("sasl.password={PASSWORD}"),
    );
    let options = [
        "-d",
        &conninfo,
        "-b",
        &brokers,
        "--sample",
        "0",
        "--topic-prefix",
        "acl.",
        "-X",
        "security.protocol=SASL_PLAINTEXT",
        "-X",
        "sasl.mechanism=PLAIN",
        "-X",
        &user,
        "-X",
        &password,
    ];
    let mut user = User::new(&mut postgres, &options)
        .with_tools_of(kafka)
        .with_file("admin.properties", &administrator());
    let revoke = |operation: &str| {
        let mut tool: Command = kafka.tool("org.apache.kafka.tools.AclCommand");
        let principal = format!("User:{LIMITED}");
        tool.args(["--bootstrap-server", &kafka.brokers(), "--remove"])
            .args(["--force", "--allow-principal", &principal])
            .args(["--operation", operation, "--topic", "acl.items"]);
        output(&mut tool);
    };

    // A user who may do nothing.
    user.hears_and_mends("topics", "fail", "\"acl.items\"");
    revoke("Create");
    user.hears_and_mends("topics", "fail", "\"acl.items\"");

    kafka.create_topic("acl.items", 1, &[("cleanup.policy", "delete")]);
    revoke("DescribeConfigs");
    user.hears_and_mends("acls", "warning", "\"acl.items\"");
    user.hears_and_heeds("cleanup_policy", "warning", "\"acl.items\"", |user| {
        let found = user.asks().of("cleanup_policy")[0].clone();
        user.mends(&found);
    });
    let report = user.asks();
    assert_eq!(report.fails().len(), 0, "{:#?}", report.fails());
}
