//! What docs/security.md grants is enough, and without it nobody comes in: its statements and commands
//! are run as they stand there.

use std::process::Command;

use headwater_tests::Client;
use headwater_tests::installation::{output, workspace};
use headwater_tests::kafka::secured::{LIMITED, PASSWORD, Way};

use super::{BROKER, CERTIFICATES, shows_no_secret};
use crate::world::{self, World};

/// The blocks of code in a language, as they stand on the page.
fn blocks(language: &str) -> Vec<String> {
    let page = std::fs::read_to_string(workspace().join("docs/security.md")).unwrap();
    let fence = format!("```{language}\n");
    let found = page.split(&fence).skip(1);
    found
        .map(|rest| rest.split("```").next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn the_role_may_stream_what_it_was_granted_and_read_no_other_table() {
    const ROLE: &str = "security_streamer";
    let name = "security_role";
    let sql = world::postgres().database(name);
    sql.run(
        "create table orders (id int primary key); insert into orders values (1); \
         create table customers (id int primary key); insert into customers values (1), (2); \
         create table payroll (id int primary key)",
    );
    let script = blocks("sql").concat();
    sql.run(
        &script
            .replace("streamer", ROLE)
            .replace("DATABASE shop", &format!("DATABASE {name}")),
    );
    let conninfo = world::postgres()
        .conninfo(name)
        .replace("user=postgres", &format!("user={ROLE}"));
    let stream = |more: &[&str]| {
        let brokers = world::kafka().brokers();
        let own = [
            "stream",
            "-d",
            &conninfo,
            "-S",
            name,
            "-b",
            &brokers,
            "--topic-prefix",
            "role.",
        ];
        Client::start(own.iter().chain(more))
    };
    stream(&[]).wait().expect(1, &["payroll", "SELECT"]);

    let mut client = stream(&["-t", "orders", "-t", "customers"]);
    client.streams();
    sql.run("insert into orders values (2)");
    let world = World::found(world::postgres(), world::kafka(), name);
    world.catches_up();
    client.terminate().expect(0, &[]);
    assert_eq!(world::kafka().written("role.orders"), 2);
    assert_eq!(world::kafka().written("role.customers"), 2);
}

#[test]
#[ignore = "several runs of Java: make test-security"]
fn the_acls_are_enough_for_stream_verify_and_tail() {
    let name = "security_acls";
    let kafka = BROKER.kafka();
    let world = World::on(world::postgres(), kafka, name);
    world.sql.run(
        "create table t (id int primary key, a text); insert into t values (1, 'a'), (2, 'b')",
    );
    let brokers = BROKER.brokers(Way::SaslTls);
    let properties = format!(
        "security.protocol=SASL_SSL\nssl.ca.location={}\nsasl.mechanism=PLAIN\n\
         sasl.username={LIMITED}\nsasl.password={PASSWORD}",
        CERTIFICATES.authority().display()
    );
    let conninfo = world.postgres.conninfo(name);
    let start = |command: &str, more: &[&str]| {
        let own = [command, "-b", &brokers];
        Client::start_with(
            own.iter().chain(more),
            &[("HEADWATER_PROPERTIES", &properties)],
        )
    };
    let of_stream = [
        "-d",
        &conninfo,
        "-S",
        name,
        "--topic-prefix",
        "shop.",
        "-t",
        "security_acls.*",
    ];
    let stream = |more: &[&str]| start("stream", &[&of_stream, more].concat());
    let refused = stream(&[]).wait();
    refused.expect(
        1,
        &["__headwater.state", "hint: Allow the user", "kafka-acls.sh"],
    );

    let commands = blocks("sh").concat();
    let commands: Vec<&str> = commands
        .lines()
        .filter(|line| line.starts_with("kafka-acls.sh"))
        .collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for command in commands {
        let command = command
            .replace("kafka.example:9092", &kafka.brokers())
            .replace("User:streamer", &format!("User:{LIMITED}"));
        let mut tool: Command = kafka.tool("org.apache.kafka.tools.AclCommand");
        output(tool.args(command.split(' ').skip(1)));
    }

    let mut client = stream(&["--on-error", "quarantine", "--truncate", "tombstone"]);
    client.streams();
    world.sql.run("update t set a = 'c' where id = 1");
    world.catches_up();
    let verify: Vec<&str> = of_stream.to_vec();
    start("verify", &verify).wait().expect(0, &[]);
    world.sql.run("truncate t");
    world.catches_up();
    let ended = client.terminate();
    ended.expect(0, &[]);
    shows_no_secret(&ended.stderr);
    let read = start(
        "tail",
        &["--from-beginning", "--exit", "shop.security_acls.t"],
    )
    .wait();
    read.expect(0, &[]);
    assert_eq!(read.stdout.lines().count(), 5, "{}", read.stdout);

    // A second snapshot finds what was there, and reads it.
    world.sql.run("insert into t values (7, 'again')");
    world.drop_slot();
    let mut client = stream(&["--resnapshot"]);
    client.streams();
    client.terminate().expect(0, &[]);
}
