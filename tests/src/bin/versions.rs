//! `make test-versions`: what the extension does on each server that it was built for.
//!
//! Every argument is the `pg_config` of a server with the extension installed. For each,
//! a throwaway cluster runs the plugin in both outputs, the snapshot's encoder and the
//! client, and every type that the server has; the table shows what came of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, ExitCode};

use headwater_protocol::frame::{Frame, Frames};
use headwater_tests::altered;
use headwater_tests::postgres::Options;
use headwater_tests::session::Session;
use headwater_tests::types::bytes;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Installation, Postgres};
use serde_json::Value;

/// One row with something of each kind, and what Postgres says of it.
const ROW: &str = "(1, 'text', 1.50, '2024-02-29 12:00+00', '{\"a\": 1}', null)";
const COLUMNS: &str = "id int primary key, a text, b numeric, c timestamptz, d jsonb, e float8";

/// Panics unless the server does as it should.
type Check = fn(&Postgres);

/// What is tried, in this order; each fails alone.
const CHECKS: [(&str, Check); 11] = [
    ("loads", loads),
    ("lines", lines),
    ("frames", frames),
    ("encode", encode),
    ("altered", altered),
    ("virtual", virtual_columns),
    ("client", client),
    ("doctor", doctor),
    ("status", status),
    ("limits", limits),
    // The last one: it leaves settings behind.
    ("types", types),
];

fn main() -> ExitCode {
    let servers: Vec<String> = std::env::args().skip(1).collect();
    if servers.is_empty() {
        eprintln!("versions: give the pg_config of each server, as `make test-versions` does");
        return ExitCode::from(2);
    }
    std::panic::set_hook(Box::new(|failure| {
        let message = failure
            .payload_as_str()
            .unwrap_or("failed without a message");
        eprintln!("versions: {message}");
    }));
    let names = CHECKS.map(|(name, _)| format!("{name:8}"));
    println!("{:44}{}", "Postgres", names.concat().trim_end());
    let (mut passed, mut failed) = (0, 0);
    for server in &servers {
        let installation = Installation::of(Path::new(server));
        let version = installation.version().to_owned();
        let postgres = Options::default().installation(installation).start();
        let mut verdicts = String::new();
        for (_, check) in CHECKS {
            // What went wrong is on standard error already.
            let verdict = match catch_unwind(AssertUnwindSafe(|| check(&postgres))) {
                Ok(()) => {
                    passed += 1;
                    "ok"
                }
                Err(_) => {
                    failed += 1;
                    "FAILED"
                }
            };
            verdicts.push_str(&format!("{verdict:8}"));
        }
        println!("{version:44}{}", verdicts.trim_end());
    }
    println!("{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}

fn loads(postgres: &Postgres) {
    let sql = postgres.database("loads");
    assert_eq!(
        sql.value("select headwater.version()"),
        headwater_protocol::VERSION
    );
}

/// A database with a slot and then a table of one row, inserted, updated and deleted.
fn changed(postgres: &Postgres, name: &str) -> Session {
    let sql = postgres.database(name);
    sql.run(&format!(
        "select pg_create_logical_replication_slot('{name}', 'headwater')"
    ));
    sql.run(&format!("create table t ({COLUMNS})"));
    sql.run(&format!(
        "insert into t values {ROW}; update t set id = 2; delete from t"
    ));
    sql.run(&format!("insert into t values {ROW}"));
    sql
}

/// Rows are read as what they are, by an expression that has seen their table in another shape, too:
/// not every release looks for itself.
fn altered(postgres: &Postgres) {
    let sql = postgres.database("altered");
    sql.run("create table t (a text, b text, c text); insert into t values ('x', 'y', 'hello')");
    altered::each_row_is_encoded_as_it_is(
        &sql,
        "alter table t alter a type int8 using 4611686018427387900, \
         alter b type int8 using 4611686018427387900",
    );
}

/// A role that may replicate sees what a superuser left it, and cannot say otherwise.
fn limits(postgres: &Postgres) {
    let sql = changed(postgres, "limits");
    sql.run(
        "create role limited login replication; alter database limits set headwater.exclude_columns = '*.*.a'",
    );
    let read = |user: &str, before: &str, options: &str| {
        let read = "select data from pg_logical_slot_peek_changes('limits', null, null)";
        let mut psql = postgres.program("psql", "limits");
        psql.env("PGUSER", user).env("PGOPTIONS", options);
        let output = psql.args(["-qAt", "-c", before, "-c", read]).output();
        let output = output.unwrap_or_else(|e| panic!("cannot run psql: {e}"));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let all = "-c headwater.exclude_columns=";
    let unlimited = read("postgres", "select", all);
    assert!(unlimited.contains("\"a\":\"text\""), "{unlimited}");
    for before in ["select", "set headwater.exclude_columns = ''"] {
        let limited = read("limited", before, "");
        let (is_read, is_left_out) = (limited.contains("\"b\":1.50"), !limited.contains("text"));
        assert!(is_read && is_left_out, "{before}: {limited}");
    }
    assert_eq!(read("limited", "select", all), "");
}

fn oracle(sql: &Session) -> String {
    sql.value("select row_to_json(t)::text from t")
}

fn lines(postgres: &Postgres) {
    let sql = changed(postgres, "lines");
    let end = sql.value("select pg_current_wal_insert_lsn()");
    let lines = headwater_tests::installation::output(
        postgres
            .pg_recvlogical("lines", "lines", &end)
            .args(["-o", "envelope=row"]),
    );
    let row = oracle(&sql);
    let moved = row.replacen("\"id\":1", "\"id\":2", 1);
    assert_eq!(
        lines,
        format!(
            "{{\"id\":1}}\t{row}\n{{\"id\":1}}\t\n{{\"id\":2}}\t{moved}\n{{\"id\":2}}\t\n{{\"id\":1}}\t{row}\n"
        )
    );
}

fn frames(postgres: &Postgres) {
    let sql = changed(postgres, "frames");
    let writes = sql.column(
        "select encode(data, 'hex') from \
         pg_logical_slot_get_binary_changes('frames', null, null, 'output', 'frames')",
    );
    let values = values_of(&writes);
    let row = oracle(&sql);
    let moved = row.replacen("\"id\":1", "\"id\":2", 1);
    assert_eq!(values, [row.clone(), moved, String::new(), row]);
}

fn encode(postgres: &Postgres) {
    let sql = changed(postgres, "encoded");
    let frame = sql.column("select encode(headwater.encode(t, 'output=frames'), 'hex') from t");
    assert_eq!(values_of(&frame), [oracle(&sql)]);
}

/// A virtual column is not stored, so that it is not in the WAL: from 18 on, where there
/// are such columns, they are in neither stream nor snapshot.
fn virtual_columns(postgres: &Postgres) {
    let sql = postgres.database("virtual");
    let virtual_column = if sql.holds("select current_setting('server_version_num')::int >= 180000")
    {
        "tripled int generated always as (id * 3) virtual, "
    } else {
        ""
    };
    sql.run("select pg_create_logical_replication_slot('virtual', 'headwater')");
    sql.run(&format!(
        "create table t ({virtual_column}id int primary key, \
         doubled int generated always as (id * 2) stored, a text)"
    ));
    sql.run("insert into t (id, a) values (1, 'text'); update t set id = 2");
    let writes = sql.column(
        "select encode(data, 'hex') from \
         pg_logical_slot_get_binary_changes('virtual', null, null, 'output', 'frames')",
    );
    let row = |id: u32| format!("{{\"id\":{id},\"doubled\":{},\"a\":\"text\"}}", 2 * id);
    assert_eq!(values_of(&writes), [row(1), row(2)]);
    let frame = sql.column("select encode(headwater.encode(t, 'output=frames'), 'hex') from t");
    assert_eq!(values_of(&frame), [row(2)]);
}

/// The values of the changes in frames that are given in hexadecimal.
fn values_of(writes: &[String]) -> Vec<String> {
    let mut values = Vec::new();
    for write in writes {
        for frame in Frames::new(&bytes(write)) {
            match frame {
                Ok(Frame::Change(change)) => {
                    let value = change.value.unwrap_or_default();
                    values.push(String::from_utf8_lossy(value).into_owned());
                }
                Ok(_) => {}
                Err(e) => panic!("{e}"),
            }
        }
    }
    values
}

fn client(postgres: &Postgres) {
    let sql = postgres.database("client");
    sql.run(&format!(
        "create table t ({COLUMNS}); insert into t values {ROW}"
    ));
    let row = oracle(&sql);
    let conninfo = postgres.conninfo("client");
    let mut client = Client::start([
        "stream", "-d", &conninfo, "-S", "client", "--sink", "stdout",
    ]);
    client.prints(&row);
    client.streams();
    sql.run("update t set id = 2");
    let moved = row.replacen("\"id\":1", "\"id\":2", 1);
    client.prints(&moved);
    let end = sql.value("select pg_current_wal_insert_lsn()");
    eventually("the slot follows", SOON, || {
        let confirmed = sql.value(
            "select confirmed_flush_lsn from pg_replication_slots where slot_name = 'client'",
        );
        let passed = sql.holds(&format!("select '{confirmed}'::pg_lsn >= '{end}'"));
        check(passed, || format!("{confirmed}, not {end}"))
    });
    client.terminate().expect(0, &[]);
}

/// The status of a stream can be seen by a role that may do nothing but connect.
fn status(postgres: &Postgres) {
    let sql = postgres.database("status");
    sql.run(&format!("create table t ({COLUMNS})"));
    sql.run("create role watcher login");
    let conninfo = postgres.conninfo("status");
    let stream = [
        "stream", "-d", &conninfo, "-S", "status", "--sink", "stdout",
    ];
    let mut client = Client::start(stream);
    client.streams();
    for user in ["user=postgres", "user=watcher"] {
        let conninfo = conninfo.replace("user=postgres", user);
        let own = [
            "status", "-d", &conninfo, "-S", "status", "--sink", "stdout", "--json",
        ];
        let ended = Client::run(own);
        ended.expect(0, &[]);
        let (state, lag) = ("\"state\":\"streaming\"", "\"lag_bytes\":");
        let is_told = ended.stdout.contains(state) && ended.stdout.contains(lag);
        assert!(is_told, "{user}: {}", ended.stdout);
    }
    client.terminate().expect(0, &[]);
    let ended = Client::run([
        "status", "-d", &conninfo, "-S", "status", "--sink", "stdout",
    ]);
    ended.expect(1, &["something is wrong"]);
    assert!(ended.stdout.contains("nobody streams"), "{}", ended.stdout);
}

/// Every question of the doctor can be asked, by a role that may do no more than it needs. On a
/// release that does not know `output_plugin_libraries` it finds the line that would keep the
/// server from starting again.
fn doctor(postgres: &Postgres) {
    let sql = postgres.database("doctor");
    sql.run(&format!("create table t ({COLUMNS})"));
    sql.run("create role streamer login replication; grant select on t to streamer");
    let conninfo = postgres.conninfo("doctor");
    let doctor = |conninfo: &str, more: &[&str]| {
        let own = [
            "doctor", "-d", conninfo, "--sink", "stdout", "--sample", "0",
        ];
        Client::run(own.iter().chain(more))
    };
    let ended = doctor(&conninfo.replace("user=postgres", "user=streamer"), &[]);
    ended.expect(0, &[]);
    let lists_plugins = postgres.installation().lists_output_plugins();
    // Where no list is known, a line of it in the server's files would be wrong: not every role may look.
    let is_unseen = |line: &&str| {
        line.contains(" skip ") && (lists_plugins || !line.contains("output_plugins"))
    };
    let unseen: Vec<&str> = ended.stdout.lines().filter(is_unseen).collect();
    assert!(unseen.is_empty(), "{unseen:?}: {}", ended.stdout);
    if lists_plugins {
        return;
    }
    let file = sql.value("show config_file");
    let own = std::fs::read_to_string(&file).unwrap_or_default();
    let line = "output_plugin_libraries = 'pgoutput, test_decoding, headwater'";
    let written = std::fs::write(&file, format!("{own}\n{line}\n"));
    assert!(written.is_ok(), "cannot write {file}: {written:?}");
    let ended = doctor(&conninfo, &["--json"]);
    ended.expect(1, &["output_plugins"]);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap_or_default();
    let checks = report["checks"].as_array().into_iter().flatten();
    let mut broken = checks.filter(|check| check["severity"] == "fail");
    let cure = broken
        .next()
        .and_then(|check| check["cure"]["text"].as_str());
    headwater_tests::installation::output(
        Command::new("sh").args(["-c", cure.unwrap_or("exit 1")]),
    );
    doctor(&conninfo, &[]).expect(0, &[]);
}

fn types(postgres: &Postgres) {
    headwater_tests::types::check_every_type(postgres, "types");
}
