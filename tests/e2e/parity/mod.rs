//! Parity with two plugins that know nothing of Headwater: every change that
//! `test_decoding` and `wal2json` tell from copies of one slot, with the same old row, the
//! same new row and in the same order.

mod change;
mod test_decoding;
mod wal2json;
mod writes;

use std::collections::{BTreeMap, BTreeSet};

use headwater_tests::postgres::Options;
use headwater_tests::session::Session;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Random, topic};

use crate::workload::is_a_conflict;
use crate::world::{World, kafka};
use change::{Change, Line, Types};

/// How many changes are compared at least.
const CHANGES: u64 = 100_000;

/// The tables that the client follows, with their keys: those that have one.
const KEYED: [(&str, &[&str]); 6] = [
    ("orders", &["id"]),
    ("lines", &["item", "n"]),
    ("notes", &["id"]),
    ("tags", &["word", "n"]),
    ("pages", &["id"]),
    ("drafts", &["id"]),
];

#[test]
fn a_hundred_thousand_changes_are_those_of_test_decoding_and_wal2json() {
    // A server of its own: the writers lock each other out all the time.
    let postgres = Options::default()
        .setting("deadlock_timeout", "10ms")
        .start();
    let world = World::on(&postgres, kafka(), "parity");
    let sql = &world.sql;
    writes::create_tables(sql);
    sql.run("select pg_create_logical_replication_slot('parity_source', 'test_decoding')");
    write(&world);
    let mut slots = vec![
        ("parity_lines", "headwater"),
        ("parity_pipe", "headwater"),
        ("parity_client", "headwater"),
    ];
    // `make test` brings it for its server, not for each one that a developer may name.
    let wal2json = std::env::var_os("HW_TEST_PG_CONFIG").is_none()
        || postgres.installation().has_library("wal2json");
    if wal2json {
        slots.push(("parity_wal2json", "wal2json"));
    }
    for (slot, plugin) in slots {
        sql.run(&format!(
            "select pg_copy_logical_replication_slot('parity_source', '{slot}', false, '{plugin}')"
        ));
    }
    let end = sql.value("select pg_current_wal_insert_lsn()");

    let types = Types::of(sql, "parity");
    let lines = changes_of(sql, "parity_lines", "");
    let told: Vec<Line> = lines.iter().map(|line| Line::read(line, &types)).collect();
    let changes: Vec<Change> = told.iter().map(|line| line.change.clone()).collect();

    let expected = test_decoding::changes(&changes_of(sql, "parity_source", ""));
    assert_same("test_decoding", &expected, &changes);
    if wal2json {
        // It warns of each change whose row has no identity.
        sql.run("set client_min_messages = error");
        assert_same_as_wal2json(sql, &changes, &types);
    }
    every_kind_is_there(&changes);
    println!("parity: {} changes compared", changes.len());

    let piped = world
        .postgres
        .pg_recvlogical("parity", "parity_pipe", &end)
        .output()
        .unwrap();
    assert!(
        piped.status.success(),
        "{}",
        String::from_utf8_lossy(&piped.stderr)
    );
    let piped = String::from_utf8(piped.stdout).unwrap();
    let differs = lines
        .iter()
        .map(String::as_str)
        .zip(piped.lines())
        .position(|(read, piped)| read != piped);
    assert_eq!(differs, None, "line that pg_recvlogical prints otherwise");
    assert_eq!(
        lines.len(),
        piped.lines().count(),
        "lines of pg_recvlogical"
    );

    deliver(&world);
    for (table, key) in KEYED {
        let (expected, found) = (
            records_expected(&told, table, key),
            records_found(&world, table),
        );
        for (key, expected) in &expected {
            assert_eq!(Some(expected), found.get(key), "records of {table} {key}");
        }
        assert_eq!(expected.len(), found.len(), "keys of {table}");
    }
}

/// Four writers at once until enough is written, so that transactions interleave.
fn write(world: &World<'_>) {
    let mut random = Random::from_environment("parity");
    let threads: Vec<_> = (0..4)
        .map(|writer| {
            let (session, mut random) = (world.session(), random.fork());
            std::thread::spawn(move || {
                let mut transactions: u64 = 0;
                while !transactions.is_multiple_of(40) || written(&session) < CHANGES * 5 / 4 {
                    transactions += 1;
                    let transaction = writes::transaction(&mut random, writer);
                    if let Err(e) = session.attempt(&transaction) {
                        assert!(is_a_conflict(&e), "{e} in {transaction}");
                        session.run("rollback");
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

/// Every change is a tuple inserted, updated or deleted; the server counts, and counts
/// what was rolled back too.
fn written(session: &Session) -> u64 {
    let counted = session.value(
        "select pg_stat_clear_snapshot()::text || \
         coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) from pg_stat_user_tables",
    );
    counted.parse().unwrap()
}

fn changes_of(sql: &Session, slot: &str, options: &str) -> Vec<String> {
    sql.column(&format!(
        "select data from pg_logical_slot_get_changes('{slot}', null, null{options})"
    ))
}

#[track_caller]
fn assert_same(plugin: &str, expected: &[Change], found: &[Change]) {
    for (place, (expected, found)) in expected.iter().zip(found).enumerate() {
        assert_eq!(expected, found, "change {place}: {plugin}'s and ours");
    }
    assert_eq!(
        expected.len(),
        found.len(),
        "changes: {plugin}'s and ours; the next is {:?}",
        expected.get(found.len()).or(found.get(expected.len()))
    );
}

/// wal2json leaves some out, and of some it has no word for a value: see [`wal2json`].
#[track_caller]
fn assert_same_as_wal2json(sql: &Session, changes: &[Change], types: &Types) {
    let expected: Vec<Change> = changes_of(sql, "parity_wal2json", wal2json::OPTIONS)
        .iter()
        .map(|line| wal2json::change(line, types))
        .collect();
    let found: Vec<Change> = changes
        .iter()
        .filter_map(|change| wal2json::told_by_it(change, types))
        .collect();
    assert_same("wal2json", &expected, &found);
}

/// What is not there was not compared.
fn every_kind_is_there(changes: &[Change]) {
    assert!(changes.len() as u64 >= CHANGES, "{} changes", changes.len());
    let kinds: BTreeSet<(&str, char, bool)> = changes
        .iter()
        .map(|change| (change.table.as_str(), change.op, change.old.is_some()))
        .collect();
    for (table, kinds_of_table) in [
        // With and without the old key.
        ("orders", "c- u- u+ d+"),
        ("lines", "c- u- u+ d+"),
        ("tags", "c- u- u+ d+"),
        ("pages", "c- u- d+"),
        // FULL has the old row always, NOTHING and a table without a key never.
        ("notes", "c- u+ d+"),
        ("seats", "c- u+ d+"),
        ("events", "c- u- d-"),
        ("copied", "c- u- d- t-"),
        ("drafts", "c- t-"),
    ] {
        for kind in kinds_of_table.split(' ') {
            let (op, old) = (kind.chars().next().unwrap(), kind.ends_with('+'));
            assert!(kinds.contains(&(table, op, old)), "no {kind} of {table}");
        }
    }
    let unchanged = |change: &&Change| {
        change.table == "pages"
            && change.op == 'u'
            && change
                .new
                .as_ref()
                .is_some_and(|new| !new.contains_key("body"))
    };
    assert!(
        changes.iter().any(|change| unchanged(&change)),
        "no unchanged TOAST"
    );
}

/// Lets the client take all of it into Kafka.
fn deliver(world: &World<'_>) {
    let conninfo = world.postgres.conninfo("parity");
    let brokers = world.kafka.brokers();
    let mut arguments = vec![
        "stream",
        "-d",
        &conninfo,
        "-S",
        "parity_client",
        "-b",
        &brokers,
    ];
    let tables = KEYED.map(|(table, _)| format!("parity.{table}"));
    for table in &tables {
        arguments.extend(["-t", table]);
    }
    arguments.extend(["--snapshot", "never", "--topic-partitions", "3"]);
    arguments.extend(["--toast", "mark", "--truncate", "ignore"]);
    let mut client = Client::start(arguments);
    client.streams();
    let end = world.sql.value("select pg_current_wal_insert_lsn()");
    eventually("the client has delivered all", SOON, || {
        let confirmed = world.sql.value(
            "select confirmed_flush_lsn from pg_replication_slots where slot_name = 'parity_client'",
        );
        let passed = world
            .sql
            .holds(&format!("select '{confirmed}'::pg_lsn >= '{end}'"));
        check(passed, || format!("at {confirmed}, not {end}"))
    });
    client.terminate().expect(0, &[]);
}

/// Per key, each record's value; none for a tombstone.
type Records = BTreeMap<String, Vec<Option<String>>>;

/// What the lines come to: their values are compared already.
fn records_expected(lines: &[Line], table: &str, key: &[&str]) -> Records {
    let mut records = Records::new();
    let mut add = |key: String, value: Option<&str>| {
        let values = records.entry(key).or_default();
        values.push(value.map(str::to_owned));
    };
    for line in lines.iter().filter(|line| line.change.table == table) {
        let before = line.before.as_ref().map(|row| row.json(key));
        let Some(after) = &line.after else {
            if let Some(before) = before {
                add(before, None);
            }
            continue;
        };
        let key = after.json(key);
        if let Some(before) = before.filter(|before| *before != key) {
            add(before, None);
        }
        add(key, Some(&after.text));
    }
    records
}

fn records_found(world: &World<'_>, table: &str) -> Records {
    let mut records = Records::new();
    let mut last = BTreeMap::new();
    for record in topic::read(world.kafka, &world.topic(table)) {
        let key = record.key.clone().unwrap();
        let number = |name| record.header(name).parse::<u64>();
        let place = (lsn(record.header("hw.lsn")), number("hw.seq").unwrap());
        let before = last.insert(key.clone(), place);
        assert!(
            before < Some(place),
            "{table} {key}: {before:?} before {place:?}"
        );
        records.entry(key).or_default().push(record.value);
    }
    records
}

fn lsn(text: &str) -> u64 {
    let lsn: headwater_protocol::Lsn = text.parse().unwrap();
    lsn.0
}
