//! `headwater status`: what it says of streams, from the outside, and how it looks on a terminal.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use headwater_tests::client::Ended;
use headwater_tests::keeper::Exit;
use headwater_tests::metrics::{ANYWHERE, Metrics};
use headwater_tests::terminal::{COLUMNS, CTRL_C, ROWS};
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Postgres, Terminal, port};
use serde_json::Value;

use crate::doctor::printed::words;
use crate::poison::UNPRINTABLE;
use crate::world::{World, kafka};

impl World<'_> {
    /// The arguments of `headwater status` of the world's stream.
    fn status_arguments(&self, more: &[&str]) -> Vec<String> {
        let mut arguments = self.arguments(more);
        arguments[0] = "status".to_owned();
        arguments
    }

    /// Runs `headwater status` to its end.
    #[track_caller]
    fn status(&self, more: &[&str]) -> Ended {
        Client::run(self.status_arguments(more))
    }

    /// What `headwater status --json` prints, and the exit code.
    #[track_caller]
    fn status_json(&self, more: &[&str]) -> (Value, Exit) {
        let ended = self.status(&[&["--json"], more].concat());
        let report = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|e| panic!("{e} in {:?}; stderr:\n{}", ended.stdout, ended.stderr));
        (report, ended.exit)
    }

    /// The same, once it is as `holds` wants it.
    #[track_caller]
    fn status_until(&self, more: &[&str], holds: impl Fn(&Value) -> bool) -> (Value, Exit) {
        eventually("the status", SOON, || {
            let (report, exit) = self.status_json(more);
            check(holds(&report), || report.to_string())?;
            Ok::<_, String>((report, exit))
        })
    }
}

fn levels(report: &Value) -> Vec<&str> {
    let troubles = report["troubles"].as_array().unwrap().iter();
    troubles.map(|it| it["level"].as_str().unwrap()).collect()
}

/// The names of all fields, at whatever depth.
fn fields(value: &Value) -> Vec<&String> {
    match value {
        Value::Object(object) => object
            .iter()
            .flat_map(|(name, value)| std::iter::once(name).chain(fields(value)))
            .collect(),
        Value::Array(array) => array.iter().flat_map(fields).collect(),
        _ => Vec::new(),
    }
}

fn rows(screen: &vt100::Screen) -> Vec<String> {
    screen.rows(0, COLUMNS).collect()
}

#[test]
fn a_status_is_redrawn_in_place_until_ctrl_c() {
    let world = World::new("status_watch");
    world.sql.run(
        "create table t (id int primary key, n int); insert into t values (1, 1);
         create table u (id int primary key)",
    );
    let mut client = world.stream(&[]);
    client.streams();
    // The usual topic of dead letters is shared with every other test.
    let dead_letters = ["--dead-letter-topic", "status_watch.dead-letters"];
    let arguments = [&["--watch", "0.5"], &dead_letters[..]].concat();
    let mut terminal = Terminal::start(world.status_arguments(&arguments));
    let screen = terminal.shows("all is well", |screen| {
        let text = screen.contents();
        text.contains("all is well") && text.contains("1 stream on record")
    });
    assert!(screen.alternate_screen(), "what was there before stays");
    assert!(screen.hide_cursor());
    let first = rows(&screen);
    assert!(first[0].starts_with("headwater status, "), "{first:#?}");
    let place = first
        .iter()
        .position(|row| row.starts_with("SLOT"))
        .unwrap();
    let row = &first[place + 1];
    assert!(
        row.starts_with("status_watch  status_watch  streaming"),
        "{row}"
    );

    // The same place, while the lines below change.
    world.sql.run("alter table t rename n to m");
    let screen = terminal.shows_text("is stale since");
    let next = rows(&screen);
    assert!(next[0].starts_with("headwater status, "), "{next:#?}");
    assert!(next[place].starts_with("SLOT"), "{next:#?}");
    let headings = next.iter().filter(|row| row.starts_with("SLOT")).count();
    assert_eq!(headings, 1, "{next:#?}");
    assert!(!screen.contents().contains("all is well"), "{next:#?}");

    terminal.types(CTRL_C);
    let (exit, screen) = terminal.ends();
    assert_eq!(exit, Exit::Code(0));
    assert!(!screen.alternate_screen() && !screen.hide_cursor());
    let left = screen.contents();
    assert!(
        left.contains("is stale since"),
        "the last report stays: {left}"
    );

    // What it names as the cure is one.
    let (report, _) = world.status_json(&dead_letters);
    let cure = report["streams"][0]["stale"][0]["cure"].as_str().unwrap();
    let words = words(cure);
    assert_eq!(words[0], "headwater");
    Client::run(&words[1..]).expect(0, &["copied: the topics are what the tables hold"]);
    let (report, exit) = world.status_until(&dead_letters, |report| levels(report).is_empty());
    assert_eq!(report["level"], "ok");
    assert_eq!(exit, Exit::Code(0));
    client.terminate().expect(0, &[]);
}

#[test]
fn what_is_wrong_comes_with_what_mends_it() {
    let world = World::new("status_wrong");
    let slot = "there is no replication slot \"status_wrong\"";
    let ended = world.status(&[]);
    assert_eq!(ended.exit, Exit::Code(1), "{}", ended.stderr);
    assert!(ended.stdout.contains(slot), "{}", ended.stdout);

    world.sql.run(UNPRINTABLE);
    world.sql.run(
        "create table t (id int primary key, value unprintable); insert into t values (1, null)",
    );
    let letters = ["--dead-letter-topic", "status_wrong.letters"];
    let mut client = world.stream(&[&["--on-error", "quarantine"][..], &letters].concat());
    client.streams();
    world.sql.run("insert into t values (2, '1')");
    let (report, exit) = world.status_until(&letters, |report| levels(report).len() == 2);
    assert_eq!(levels(&report), ["warning", "warning"], "{report}");
    let stream = &report["streams"][0];
    assert_eq!(stream["state"], "streaming", "{report}");
    assert_eq!(stream["quarantined"]["records"], 1, "{report}");
    assert_eq!(stream["stale"][0]["table"], "t", "{report}");
    assert_eq!(exit, Exit::Code(0));
    let page = include_str!("../../docs/status.md");
    for field in fields(&report) {
        // Its name ends what is in quotes, or has an index behind it.
        let is_told = ["`", "["]
            .iter()
            .any(|end| page.contains(&format!("{field}{end}")));
        assert!(is_told, "docs/status.md lacks {field}");
    }
    let strict = world.status(&[&["--strict"][..], &letters].concat());
    assert_eq!(strict.exit, Exit::Code(1), "{}", strict.stderr);
    client.terminate().expect(0, &[]);

    let (report, exit) = world.status_json(&[]);
    assert_eq!(report["streams"][0]["state"], "inactive", "{report}");
    let cure = report["troubles"][0]["cure"].as_str().unwrap();
    let shown = cure.replace('\'', "");
    let pairs = [
        "headwater stream -d ",
        "host=127.0.0.1",
        "dbname=status_wrong",
        " -S status_wrong",
    ];
    assert!(pairs.iter().all(|pair| shown.contains(pair)), "{cure}");
    assert_eq!(exit, Exit::Code(1));

    world
        .sql
        .run("select pg_drop_replication_slot('status_wrong')");
    let (report, exit) = world.status_json(&[]);
    assert_eq!(report["streams"][0]["state"], "missing", "{report}");
    assert_eq!(report["troubles"][0]["lost"], true, "{report}");
    assert_eq!(exit, Exit::Code(3), "changes are lost");
}

#[test]
fn who_does_not_answer_hides_nobody_else() {
    let world = World::new("status_away");
    world.sql.run("create table t (id int primary key)");
    world.streamed(&[], || ());
    let nobody = format!("127.0.0.1:{}", port::free());

    let mut arguments = world.status_arguments(&[]);
    let brokers = arguments.iter().position(|word| word == "-b").unwrap();
    arguments[brokers + 1].clone_from(&nobody);
    let ended = Client::run(arguments);
    assert_eq!(ended.exit, Exit::Code(1), "{}", ended.stderr);
    for text in ["no answer", "status_away", "inactive", "does not answer"] {
        assert!(
            ended.stdout.contains(text),
            "no {text:?} in {}",
            ended.stdout
        );
    }

    let mut arguments = world.status_arguments(&["--json"]);
    let database = arguments.iter().position(|word| word == "-d").unwrap();
    let (host, number) = nobody.split_once(':').unwrap();
    arguments[database + 1] = format!("host={host} port={number} dbname=status_away");
    let ended = Client::run(arguments);
    assert_eq!(ended.exit, Exit::Code(1), "{}", ended.stderr);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    let error = report["postgres"]["error"].as_str().unwrap();
    assert!(error.contains("cannot connect to Postgres"), "{error}");
    let stream = &report["streams"][0];
    assert_eq!(stream["state"], "unknown", "{report}");
    assert_eq!(stream["phase"], "streaming", "{report}");
    assert!(stream["position"].is_string(), "{report}");
}

#[test]
fn who_takes_connections_and_never_answers_is_given_up() {
    // Nothing listens behind these: the kernel takes connections, and that is all.
    let silent = || TcpListener::bind("127.0.0.1:0").unwrap();
    let (broker, client) = (silent(), silent());
    let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
    let (broker, client) = (address(&broker), address(&client));
    // A server of its own: a transaction with such a lock holds up new slots of all databases.
    let postgres = Postgres::new();
    let sql = postgres.database("status_silent");
    sql.run("begin; lock table pg_catalog.pg_settings in access exclusive mode");
    let conninfo = postgres.conninfo("status_silent");
    let ended = Client::run([
        "status",
        "-d",
        &conninfo,
        "-b",
        &broker,
        "--metrics",
        &client,
        "--json",
    ]);
    assert_eq!(ended.exit, Exit::Code(1), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("3 things are wrong"),
        "{}",
        ended.stderr
    );
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    for (who, why) in [
        ("postgres", "Postgres has not answered within 15 s"),
        ("kafka", "does not answer"),
        ("client", "the client does not answer at"),
    ] {
        let error = report[who]["error"].as_str().unwrap_or_default();
        assert!(error.contains(why), "{report}");
        let is_told = |trouble: &Value| trouble["message"].as_str() == Some(error);
        let troubles = report["troubles"].as_array().unwrap();
        assert!(troubles.iter().any(is_told), "{report}");
    }
    assert_eq!(levels(&report), ["fail"; 3], "{report}");
}

#[test]
fn a_slot_that_loses_its_wal_is_told_of_before_it_is_lost_and_behind_that() {
    let postgres = Postgres::new();
    let world = World::on(&postgres, kafka(), "status_wal");
    let run = |statements: &[&str]| statements.iter().for_each(|it| world.sql.run(it));
    let limited = [
        "alter system set max_slot_wal_keep_size = '1MB'",
        "select pg_reload_conf()",
    ];
    run(&limited);
    world.sql.run("create table t (id int primary key)");
    world.streamed(&[], || world.sql.run("insert into t values (1)"));
    let letters = ["--dead-letter-topic", "status_wal.letters"];
    let doctor = || {
        let mut arguments = world.arguments(&["--sample", "0", "--json"]);
        arguments[0] = "doctor".to_owned();
        let ended = Client::run(arguments);
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        let checks = report["checks"].as_array().unwrap().clone();
        move |id: &str| {
            let check = checks.iter().find(|check| check["id"] == id);
            check.unwrap_or_else(|| panic!("no {id}")).clone()
        }
    };
    let write = "select pg_logical_emit_message(true, 'wal', repeat('x', 1000)); \
                 select pg_switch_wal()";

    // Its WAL is there still: who acts now loses nothing.
    let (report, exit) = world.status_until(&letters, |report| {
        world.sql.run(write);
        report["streams"][0]["wal_status"] == "unreserved"
    });
    assert_eq!(report["streams"][0]["state"], "inactive", "{report}");
    let trouble = report["troubles"].as_array().unwrap().iter();
    let trouble = trouble.clone().find(|trouble| {
        let message = trouble["message"].as_str().unwrap();
        message.contains("the next checkpoint removes WAL that it needs")
    });
    let cure = trouble.unwrap()["cure"].as_str().unwrap().to_owned();
    assert_eq!(exit, Exit::Code(1), "{report}");
    let found = doctor()("retained_wal");
    assert_eq!(found["severity"], "warning", "{found}");
    let text = found["found"].as_str().unwrap();
    assert!(text.contains("more than max_slot_wal_keep_size"), "{text}");

    // What both print mends it.
    let of_doctor = found["cure"]["text"].as_str().unwrap();
    let of_status: Vec<&str> = cure.lines().filter(|line| line.ends_with(';')).collect();
    assert_eq!(of_status.len(), 2, "{cure}");
    for statements in [of_status, of_doctor.lines().collect()] {
        run(&statements);
        let (report, _) = world.status_until(&letters, |report| {
            report["streams"][0]["wal_status"] != "unreserved"
        });
        assert_ne!(report["streams"][0]["wal_status"], "lost", "{report}");
        run(&limited);
    }

    // Nobody acted.
    let (report, exit) = world.status_until(&letters, |report| {
        world.sql.run(write);
        world.sql.run("checkpoint");
        report["streams"][0]["wal_status"] == "lost"
    });
    let stream = &report["streams"][0];
    assert_eq!(stream["state"], "lost", "{report}");
    assert_eq!(stream["retained_bytes"], Value::Null, "{report}");
    assert_eq!(exit, Exit::Code(3), "changes are lost");
    let trouble = &report["troubles"][0];
    assert_eq!(trouble["lost"], true, "{report}");
    let position = stream["position"].as_str().unwrap();
    assert_eq!(
        trouble["message"].as_str().unwrap(),
        format!("WAL that slot \"status_wal\" needs is gone: changes behind {position} are lost")
    );
    let found = doctor();
    let text = found("retained_wal")["found"].to_string();
    assert!(text.contains("has lost WAL that it needs"), "{text}");
    let start = found("slot");
    assert_eq!(start["severity"], "fail", "{start}");
    assert_eq!(start["cure"]["text"], "--resnapshot", "{start}");

    // What status prints mends that, too.
    let cure = words(trouble["cure"].as_str().unwrap());
    assert_eq!(cure[..2], ["headwater", "stream"], "{cure:?}");
    assert_eq!(cure.last().unwrap(), "--resnapshot", "{cure:?}");
    let mut client = Client::start(&cure[1..]);
    client.streams();
    let (_, exit) = world.status_until(&letters, |report| levels(report).is_empty());
    assert_eq!(exit, Exit::Code(0));
    client.terminate().expect(0, &[]);
}

#[test]
fn what_the_running_client_knows_is_told_with_the_rest() {
    let world = World::new("status_metrics");
    world.sql.run("create table t (id int primary key)");
    let mut client = world.stream(&ANYWHERE);
    let metrics = Metrics::of(&mut client);
    client.streams();
    let letters = ["--dead-letter-topic", "status_metrics.letters"];
    let arguments = [&["--metrics", metrics.address()], &letters[..]].concat();
    let (postgres, done) = (world.postgres, AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (session, begin) = (postgres.session("status_metrics"), Instant::now());
            for id in 0.. {
                if done.load(Ordering::Relaxed) || begin.elapsed() > SOON {
                    break;
                }
                session.run(&format!("insert into status_metrics.t values ({id})"));
            }
        });
        let (report, exit) = world.status_until(&arguments, |report| {
            report["client"]["records_per_second"].as_f64() > Some(0.0)
        });
        done.store(true, Ordering::Relaxed);
        assert_eq!(exit, Exit::Code(0), "{report}");
        let client = &report["client"];
        assert_eq!(client["name"], metrics.address(), "{report}");
        assert_eq!(client["ready"], true, "{report}");
        assert_eq!(client["kafka_connected"], true, "{report}");
        assert!(client["bytes_per_second"].as_f64() > Some(0.0), "{report}");
    });
    world.catches_up();
    let rows: u64 = world.sql.value("select count(*) from t").parse().unwrap();
    let (report, _) = world.status_until(&arguments, |report| {
        report["client"]["delivered_records"].as_u64() == Some(rows)
    });
    let asked = &report["client"];
    assert_eq!(asked["in_flight_records"], 0, "{report}");
    assert_eq!(asked["waiting_tables"], 0, "{report}");
    // Key and row of each.
    let least = rows * r#"{"id":1}{"id":1}"#.len() as u64;
    assert!(asked["delivered_bytes"].as_u64() >= Some(least), "{report}");
    let people = world.status(&arguments);
    let line = format!("Client    {}, ready, ", metrics.address());
    assert!(people.stdout.contains(&line), "{}", people.stdout);
    client.terminate().expect(0, &[]);
}

#[test]
fn lines_of_json_have_no_bar_between_them_on_a_terminal_either() {
    let world = World::new("status_json_lines");
    world.sql.run(
        "create table t (id int primary key, n int);
         insert into t select n, n from generate_series(1, 100000) n",
    );
    world.sql.run("analyze t");
    // Wide enough for each line.
    let arguments = world.arguments(&["--log-format", "json"]);
    let mut terminal = Terminal::sized(ROWS, 1_000, arguments);
    let screen = terminal.shows("a bar, or the end of the snapshot", |screen| {
        let text = screen.contents();
        text.contains(['█', '░']) || text.contains("\"streaming\"")
    });
    terminal.types(CTRL_C);
    let (exit, _) = terminal.ends();
    assert_eq!(exit, Exit::Code(0));
    let text = screen.contents();
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    assert!(lines.len() > 3, "{text}");
    for line in lines {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(object["message"].is_string(), "{line}");
    }
}

#[test]
fn a_snapshot_shows_a_bar_and_leaves_whole_lines_behind() {
    const ROWS: u32 = 100_000;
    let world = World::new("status_bar");
    world.sql.run(&format!(
        "create table t (id int primary key, n int);
         insert into t select n, n from generate_series(1, {ROWS}) n"
    ));
    world.sql.run("analyze t");
    let mut terminal = Terminal::start(world.arguments(&[]));
    let screen = terminal.shows("the bar", |screen| {
        let bar = rows(screen)
            .into_iter()
            .find(|row| row.starts_with("snapshot "));
        bar.is_some_and(|bar| bar.contains("█░") && bar.contains(" left"))
    });
    let bars = rows(&screen);
    let bars: Vec<&String> = bars.iter().filter(|row| row.contains('░')).collect();
    assert_eq!(bars.len(), 1, "drawn in place: {bars:#?}");
    let first = screen.contents();
    assert!(first.contains("snapshot begins tables=1"), "{first}");

    let screen = terminal.shows_text("streaming slot=status_bar");
    let left = screen.contents();
    assert!(!left.contains(['█', '░']), "{left}");
    for line in [
        "snapshot begins tables=1",
        "every row of the snapshot is delivered rows=100000",
        "snapshot complete, streaming changes rows=100000",
    ] {
        assert!(left.contains(line), "no {line:?} in {left}");
    }
    terminal.types(CTRL_C);
    let (exit, _) = terminal.ends();
    assert_eq!(exit, Exit::Code(0));
}
