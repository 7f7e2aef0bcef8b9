//! Logical messages: the outbox that needs no table.

use headwater_tests::topic::{self, Record};
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Kafka, Postgres};

use crate::world::{World, postgres};

/// The topic that a test's messages go to.
fn topic_name(world: &World<'_>) -> String {
    format!("{}.out", world.name)
}

fn stream(world: &World<'_>, more: &[&str]) -> Client {
    let topic = topic_name(world);
    let mut arguments = vec!["--message-topic", &topic];
    arguments.extend(more);
    let mut client = world.stream(&arguments);
    client.streams();
    client
}

fn messages(world: &World<'_>) -> Vec<Record> {
    topic::read(world.kafka, &topic_name(world))
}

/// Key and value.
fn texts(records: &[Record]) -> Vec<(&str, &str)> {
    records
        .iter()
        .map(|record| {
            (
                record.key.as_deref().expect("a message has a key"),
                record.value.as_deref().expect("a message has a value"),
            )
        })
        .collect()
}

/// Whether LSN `a` lies before `b`.
#[track_caller]
fn before(world: &World<'_>, a: &str, b: &str) -> bool {
    world
        .sql
        .holds(&format!("select '{a}'::pg_lsn < '{b}'::pg_lsn"))
}

#[test]
fn a_transactional_message_stands_in_its_place_among_the_rows() {
    let world = World::new("msg_rows");
    world.sql.run("create table items (id int primary key)");
    let mut client = world.stream(&["--topic-prefix", "msgs."]);
    client.streams();
    world.sql.run(
        "begin;
         insert into items values (1);
         select pg_logical_emit_message(true, 'order', 'first');
         savepoint s;
         insert into items values (2);
         select pg_logical_emit_message(true, 'order', 'rolled back');
         rollback to s;
         insert into items values (3);
         select pg_logical_emit_message(true, 'order', 'second');
         commit",
    );
    world
        .sql
        .run("begin; select pg_logical_emit_message(true, 'order', 'never'); rollback");
    world.catches_up();
    client.terminate().expect(0, &[]);

    let messages = topic::read(world.kafka, "msgs.messages");
    assert_eq!(texts(&messages), [("order", "first"), ("order", "second")]);
    let rows = topic::read(world.kafka, "msgs.msg_rows.items");
    let place = |record: &Record| {
        (
            record.header("hw.op").to_owned(),
            record.header("hw.seq").to_owned(),
        )
    };
    assert_eq!(
        messages.iter().map(place).collect::<Vec<_>>(),
        [
            ("m".to_owned(), "1".to_owned()),
            ("m".to_owned(), "3".to_owned())
        ]
    );
    assert_eq!(
        rows.iter().map(place).collect::<Vec<_>>(),
        [
            ("c".to_owned(), "0".to_owned()),
            ("c".to_owned(), "2".to_owned())
        ]
    );
    for header in ["hw.lsn", "hw.xid", "hw.ts"] {
        for message in &messages {
            assert_eq!(message.header(header), rows[0].header(header), "{header}");
        }
    }
    assert_eq!(
        world.kafka.topic_setting("msgs.messages", "cleanup.policy"),
        "delete",
        "no message stands for another"
    );
}

#[test]
fn a_message_outside_transactions_comes_at_its_own_position_whatever_becomes_of_its_writer() {
    let world = World::new("msg_lone");
    world.sql.run("create table items (id int primary key)");
    let client = stream(&world, &[]);
    world.sql.run("begin; insert into items values (1)");
    let early = world
        .sql
        .value("select pg_logical_emit_message(false, 'lone', 'within')");
    world.sql.run("commit");
    world.sql.run("begin");
    let orphan = world
        .sql
        .value("select pg_logical_emit_message(false, 'lone', 'of a rollback')");
    world.sql.run("rollback");
    world.catches_up();
    client.terminate().expect(0, &[]);

    let messages = messages(&world);
    assert_eq!(
        texts(&messages),
        [("lone", "within"), ("lone", "of a rollback")]
    );
    for (message, lsn) in messages.iter().zip([&early, &orphan]) {
        assert_eq!(message.header("hw.op"), "m");
        assert_eq!(message.header("hw.lsn"), lsn);
        assert_eq!(message.header("hw.seq"), "0");
        assert_eq!(
            message.headers.keys().collect::<Vec<_>>(),
            ["hw.lsn", "hw.op", "hw.seq"],
            "it belongs to no transaction"
        );
    }
    let rows = topic::read(world.kafka, &world.topic("items"));
    assert!(before(&world, &early, rows[0].header("hw.lsn")));
}

#[test]
fn content_and_prefix_arrive_byte_for_byte() {
    let world = World::new("msg_bytes");
    let client = stream(&world, &[]);
    let every_byte = "(select string_agg(set_byte('\\x00', 0, b), '' order by b) \
                       from generate_series(0, 255) b)";
    let large = "decode(repeat(md5('headwater'), 31250), 'hex')";
    for transactional in [true, false] {
        world.sql.run(&format!(
            "select pg_logical_emit_message({transactional}, 'empty', '');
             select pg_logical_emit_message({transactional}, '', 'no prefix');
             select pg_logical_emit_message({transactional}, 'Grüße\t\"世界\"', E'a\\tb\\nc\\r');
             select pg_logical_emit_message({transactional}, 'bytes', {every_byte});
             select pg_logical_emit_message({transactional}, 'large', {large} || {large})"
        ));
    }
    world.catches_up();
    client.terminate().expect(0, &[]);

    let digest: String = world.sql.value(&format!("select md5({large} || {large})"));
    let messages = messages(&world);
    assert_eq!(messages.len(), 10);
    for half in messages.chunks(5) {
        let content = |index: usize| half[index].bytes.as_deref();
        assert_eq!(half[0].key.as_deref(), Some("empty"));
        assert_eq!(content(0), Some(&b""[..]), "empty, not absent");
        assert_eq!(half[1].key.as_deref(), Some(""));
        assert_eq!(content(1), Some(&b"no prefix"[..]));
        assert_eq!(half[2].key.as_deref(), Some("Grüße\t\"世界\""));
        assert_eq!(content(2), Some(&b"a\tb\nc\r"[..]));
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(content(3), Some(all.as_slice()));
        assert_eq!(content(4).map(<[u8]>::len), Some(1_000_000));
        let hex: String = content(4)
            .unwrap_or_default()
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        assert_eq!(
            world
                .sql
                .value(&format!("select md5(decode('{hex}', 'hex'))")),
            digest
        );
    }
}

#[test]
fn the_slot_does_not_pass_a_message_that_kafka_has_not_acknowledged() {
    let mut kafka = Kafka::new();
    let world = World::on(postgres(), &kafka, "msg_held");
    // The server asks for a status update twice in that time.
    world.sql.run(
        "create table other (id int primary key); alter database msg_held set wal_sender_timeout = '6s'",
    );
    let name = topic_name(&world);
    let arguments = world.arguments(&["--message-topic", &name, "-t", "msg_held.other"]);
    let mut client = Client::start(&arguments);
    client.streams();
    let sql = world.session();
    world.catches_up();
    kafka.kill();

    let lsn = sql.value("select pg_logical_emit_message(false, 'held', 'back')");
    // Transactions that send nothing, whose ends the server reports in keepalives.
    sql.run("create table elsewhere (id int)");
    sql.run("insert into elsewhere select generate_series(1, 1000)");
    let end = sql.value("select pg_current_wal_insert_lsn()");
    eventually("the server has sent all of it", SOON, || {
        let sent = sql.column(&format!(
            "select coalesce(sent_lsn >= '{end}', false) from pg_stat_replication r join pg_replication_slots s \
             on s.active_pid = r.pid where s.slot_name = 'msg_held'"
        ));
        check(sent == ["t"], || format!("{sent:?}"))
    });
    let confirmed =
        "select confirmed_flush_lsn from pg_replication_slots where slot_name = 'msg_held'";
    // Nothing tells that a status update will *not* pass the message; three that came
    // after it have not.
    for _ in 0..3 {
        let now = sql.value("select now()");
        eventually("a status update", SOON, || {
            let heard = sql.column(&format!(
                "select coalesce(reply_time > '{now}', false) from pg_stat_replication r join pg_replication_slots s \
                 on s.active_pid = r.pid where s.slot_name = 'msg_held'"
            ));
            check(heard == ["t"], || format!("{heard:?}"))
        });
        let confirmed = sql.value(confirmed);
        assert!(
            sql.holds(&format!("select '{confirmed}'::pg_lsn < '{lsn}'::pg_lsn")),
            "the slot stands at {confirmed}, the message at {lsn}"
        );
    }
    client.kill();
    kafka.start();

    let mut client = Client::start(&arguments);
    client.streams();
    let end = sql.value("select pg_current_wal_insert_lsn()");
    eventually("the slot passes all that is committed", SOON, || {
        let confirmed = sql.value(confirmed);
        let passed = sql.holds(&format!("select '{confirmed}'::pg_lsn >= '{end}'::pg_lsn"));
        check(passed, || confirmed)
    });
    client.terminate().expect(0, &[]);
    let messages = topic::read(&kafka, &name);
    assert_eq!(texts(&messages), [("held", "back")]);
    assert_eq!(messages[0].header("hw.lsn"), lsn);
}

#[test]
fn a_connection_that_breaks_while_a_message_waits_for_kafka_holds_nothing_up() {
    let mut kafka = Kafka::new();
    let server = Postgres::new();
    let world = World::on(&server, &kafka, "msg_broken");
    world.sql.run("create table items (id int primary key)");
    let name = topic_name(&world);
    let arguments = world.arguments(&["--message-topic", &name]);
    let mut client = Client::start(&arguments);
    client.streams();
    let sql = world.session();
    sql.run("select pg_logical_emit_message(false, 'n', '0')");
    world.catches_up();
    kafka.kill();
    // More than the client holds in memory, so that one of them waits to be accepted.
    sql.run(
        "do $$ begin for n in 1..80 loop
           perform pg_logical_emit_message(false, 'n', n || repeat(' ', 900000)); commit;
         end loop; end $$",
    );
    sql.run("insert into items values (1)");
    let of_slot = "from pg_stat_replication r join pg_replication_slots s on s.active_pid = r.pid \
                   where s.slot_name = 'msg_broken'";
    let sent = format!("select sent_lsn {of_slot}");
    // The server's socket is full and the client does not read: what is sent stays.
    let mut last = String::new();
    eventually("the client is full", SOON, || {
        let reply = sql.value(&format!("select reply_time {of_slot}"));
        let now = format!("{:?} {}", sql.column(&sent), client.stderr().len());
        let same = std::mem::replace(&mut last, now.clone()) == now;
        eventually("another status update", SOON, || {
            let next = sql.value(&format!("select reply_time {of_slot}"));
            check(next != reply, || next)
        });
        check(same, || now)
    });
    let walsender = sql.value(&format!("select r.pid {of_slot}"));
    server.kill_backend(walsender.parse().unwrap());
    kafka.start();
    client.says("streaming again");
    let sql = server.session("msg_broken");
    let end = sql.value("select pg_current_wal_insert_lsn()");
    eventually("the slot passes all that is committed", SOON, || {
        let confirmed = sql.value(
            "select confirmed_flush_lsn from pg_replication_slots where slot_name = 'msg_broken'",
        );
        let passed = sql.holds(&format!("select '{confirmed}'::pg_lsn >= '{end}'::pg_lsn"));
        check(passed, || confirmed)
    });
    client.terminate().expect(0, &[]);
    let mut numbers: Vec<u64> = topic::read(&kafka, &name)
        .iter()
        .map(|record| record.value.as_deref().unwrap().trim_end().parse().unwrap())
        .collect();
    numbers.dedup();
    let mut seen: Vec<u64> = numbers.clone();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, (0..=80).collect::<Vec<_>>(), "{numbers:?}");
    assert_eq!(topic::read(&kafka, "msg_broken.items").len(), 1);
}

#[test]
fn every_message_survives_kills_between() {
    const EACH: usize = 6_000;
    let world = World::new("msg_kills");
    world.sql.run("create table items (id int primary key)");
    let mut client = stream(&world, &[]);
    let writers: Vec<_> = [("lone", false), ("bound", true)]
        .into_iter()
        .map(|(prefix, transactional)| {
            let session = world.session();
            std::thread::spawn(move || {
                session.run(&format!(
                    "do $$ begin for n in 1..{EACH} loop
                       perform pg_logical_emit_message({transactional}, '{prefix}', n::text);
                       if n % 7 = 0 then insert into items values (n) on conflict do nothing; end if;
                       commit;
                     end loop; end $$"
                ));
            })
        })
        .collect();
    let name = topic_name(&world);
    for _ in 0..4 {
        let begin = world.kafka.written(&name);
        eventually("messages arrive", SOON, || {
            let written = world.kafka.written(&name);
            check(written > begin + 500, || format!("{written} after {begin}"))
        });
        client.kill();
        client = stream(&world, &[]);
    }
    for writer in writers {
        writer.join().unwrap();
    }
    world.catches_up();
    client.terminate().expect(0, &[]);

    let messages = messages(&world);
    for prefix in ["lone", "bound"] {
        let mut seen = 0;
        for message in messages.iter().filter(|m| m.key.as_deref() == Some(prefix)) {
            let number: usize = message.value.as_deref().unwrap().parse().unwrap();
            assert!(
                number <= seen + 1,
                "after message {seen} of {prefix:?} came {number}: one is missing"
            );
            seen = seen.max(number);
        }
        assert_eq!(seen, EACH, "messages of {prefix:?}");
    }
    println!(
        "messages: {} records for {} messages",
        messages.len(),
        2 * EACH
    );
    world.topic_equals_table("items", "t.id");
}

#[test]
fn a_table_that_would_have_the_topic_of_messages_is_named_before_the_start() {
    let world = World::new("msg_taken");
    world
        .sql
        .run("create table messages (id int primary key); insert into messages values (1)");
    let taken = world.topic("messages");
    for topic in [taken.as_str(), "msg_taken_messages"] {
        world.stream(&["--message-topic", topic]).wait().expect(
            1,
            &[
                "\"messages\"",
                topic,
                "logical messages",
                "--message-topic",
                "--operations",
            ],
        );
    }
    assert_eq!(world.slots(), [] as [&str; 0]);
    world
        .stream(&["--message-topic", "a/b"])
        .wait()
        .expect(2, &["'/'", "message-topic"]);
    world
        .stream(&["--message-topic", "__headwater.state"])
        .wait()
        .expect(1, &["__headwater.state", "reserved"]);

    let rows = [
        "--message-topic",
        &taken,
        "--operations",
        "insert,update,delete,truncate",
    ];
    let mut client = world.stream(&rows);
    client.streams();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("messages", "t.id");
}

#[test]
fn a_table_that_takes_the_name_later_stops_the_stream_and_loses_nothing() {
    let world = World::new("msg_later");
    let name = world.topic("late");
    let mut client = world.stream(&["--message-topic", &name]);
    client.streams();
    world
        .sql
        .run("create table late (id int primary key); insert into late values (1)");
    client
        .wait()
        .expect(1, &["\"late\"", "logical messages", "--message-topic"]);
    let client = stream(&world, &[]);
    world.catches_up();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("late", "t.id");
}

#[test]
fn a_topic_that_may_not_be_made_is_named_with_its_first_message() {
    let world = World::new("msg_refused");
    world.sql.run("create table items (id int primary key)");
    let mut client = world.stream(&["--topic-prefix", "refused."]);
    client.streams();
    client.terminate().expect(0, &[]);

    let strict = ["--topic-prefix", "refused.", "--no-create-topics"];
    world
        .stream(&[
            "--topic-prefix",
            "refused.",
            "--no-create-topics",
            "--message-topic",
            "refused.named",
        ])
        .wait()
        .expect(
            1,
            &["refused.named", "--no-create-topics", "kafka-topics.sh"],
        );
    let mut client = world.stream(&strict);
    client.streams();
    world.sql.run("insert into items values (1)");
    world.catches_up();
    world
        .sql
        .run("select pg_logical_emit_message(false, 'late', 'topic')");
    client.wait().expect(
        1,
        &[
            "refused.messages",
            "--no-create-topics",
            "kafka-topics.sh",
            "--operations insert,update,delete,truncate",
        ],
    );

    let mut client = world.stream(&["--topic-prefix", "refused."]);
    client.streams();
    world.catches_up();
    client.terminate().expect(0, &[]);
    assert_eq!(
        texts(&topic::read(world.kafka, "refused.messages")),
        [("late", "topic")]
    );
}

#[test]
fn a_topic_that_would_forget_messages_is_named() {
    let world = World::new("msg_compact");
    world.sql.run("create table items (id int primary key)");
    let compact = [("cleanup.policy", "compact")];
    world.kafka.create_topic(&topic_name(&world), 1, &compact);
    let client = stream(&world, &[]);
    client.terminate().expect(
        0,
        &[
            "msg_compact.out",
            "cleanup.policy=compact",
            "kafka-configs.sh",
        ],
    );
}

#[test]
fn stdout_prints_messages_where_they_are_asked_for() {
    let world = World::new("msg_stdout");
    let conninfo = world.postgres.conninfo("msg_stdout");
    world.sql.run("create table items (id int primary key)");
    world
        .sql
        .run("select pg_create_logical_replication_slot('msg_stdout', 'headwater')");
    world.sql.run(
        "begin; select pg_logical_emit_message(true, 'prefix', 'content'); insert into items values (1); commit",
    );
    for (slot, more) in [
        ("msg_stdout_rows", &[][..]),
        ("msg_stdout_all", &["--message-topic", "any"][..]),
    ] {
        world.sql.run(&format!(
            "select pg_copy_logical_replication_slot('msg_stdout', '{slot}')"
        ));
        let arguments = ["stream", "-d", &conninfo, "-S", slot, "--sink", "stdout"];
        let mut client = Client::start(arguments.iter().chain(more));
        client.prints("{\"id\":1}");
        let ended = client.terminate();
        ended.expect(0, &[]);
        assert_eq!(
            ended.stdout.contains("prefix\tcontent"),
            !more.is_empty(),
            "{more:?}: {}",
            ended.stdout
        );
    }
}
