//! Parity with `test_decoding`, which knows nothing of Headwater: the same operations on
//! the same keys in the same order, from copies of one slot.

use std::collections::BTreeMap;

use headwater_tests::Random;
use headwater_tests::session::Session;
use headwater_tests::topic;
use serde_json::Value;

use crate::workload;
use crate::world::World;

/// How many changes are compared at least.
const CHANGES: u64 = 100_000;

/// One change as both plugins tell it. Keys are the key columns' values, joined.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    table: String,
    op: char,
    /// The key before, where an update changed it.
    old_key: Option<String>,
    key: String,
}

#[test]
fn a_hundred_thousand_changes_are_those_of_test_decoding() {
    let world = World::new("parity");
    let sql = &world.sql;
    workload::create_tables(sql, 1_000);
    sql.run("select pg_create_logical_replication_slot('parity_source', 'test_decoding')");
    write(&world);
    for slot in ["parity_lines", "parity_pipe", "parity_client"] {
        sql.run(&format!(
            "select pg_copy_logical_replication_slot('parity_source', '{slot}', false, 'headwater')"
        ));
    }
    let end = sql.value("select pg_current_wal_insert_lsn()");

    let expected: Vec<Change> = changes_of(sql, "parity_source", "'skip-empty-xacts', '1'")
        .iter()
        .filter_map(|line| of_test_decoding(line))
        .collect();
    assert!(
        expected.len() as u64 >= CHANGES,
        "only {} changes",
        expected.len()
    );
    println!("parity: {} changes compared", expected.len());

    let lines: Vec<Change> = changes_of(sql, "parity_lines", "")
        .iter()
        .map(|line| of_line(line))
        .collect();
    assert_same("pg_logical_slot_get_changes", &expected, &lines);

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
    let piped: Vec<Change> = piped.lines().map(of_line).collect();
    assert_same("pg_recvlogical", &expected, &piped);

    let mut client = headwater_tests::Client::start([
        "stream",
        "-d",
        &world.postgres.conninfo("parity"),
        "-S",
        "parity_client",
        "-b",
        &world.kafka.brokers(),
        "--snapshot",
        "never",
        "--topic-partitions",
        "3",
    ]);
    client.streams();
    sql.run("create table parity_end (id int primary key); insert into parity_end values (1)");
    client_catches_up(&world);
    client.terminate().expect(0, &[]);
    for (table, _) in workload::TABLES {
        let (expected, found) = (
            records_expected(&expected, table),
            records_found(&world, table),
        );
        for (key, expected) in &expected {
            assert_eq!(Some(expected), found.get(key), "records of {table} {key}");
        }
        assert_eq!(expected.len(), found.len(), "keys of {table}");
    }
}

fn client_catches_up(world: &World<'_>) {
    use headwater_tests::wait::{SOON, check, eventually};
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
}

/// Four writers at once until enough is written, so that transactions interleave.
fn write(world: &World<'_>) {
    let mut random = Random::from_environment("parity");
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (session, mut random) = (world.session(), random.fork());
            std::thread::spawn(move || {
                // Every change is a tuple inserted, updated or deleted; the server counts.
                let mut transactions: u64 = 0;
                while !transactions.is_multiple_of(100) || written(&session) < CHANGES * 3 / 2 {
                    transactions += 1;
                    if session
                        .attempt(&workload::transaction(&mut random))
                        .is_err()
                    {
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

fn written(session: &Session) -> u64 {
    let counted = session.value(
        "select pg_stat_clear_snapshot()::text || \
         coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0) from pg_stat_user_tables",
    );
    counted.parse().unwrap()
}

fn changes_of(sql: &Session, slot: &str, options: &str) -> Vec<String> {
    let separator = if options.is_empty() { "" } else { ", " };
    sql.column(&format!(
        "select data from pg_logical_slot_get_changes('{slot}', null, null{separator}{options})"
    ))
}

/// `table parity.orders: UPDATE: old-key: id[bigint]:1 new-tuple: id[bigint]:2 …`
fn of_test_decoding(line: &str) -> Option<Change> {
    let (table, rest) = line.strip_prefix("table parity.")?.split_once(": ")?;
    let (operation, tuple) = rest.split_once(": ")?;
    let (old, new) = match tuple
        .strip_prefix("old-key: ")
        .and_then(|t| t.split_once(" new-tuple: "))
    {
        Some((old, new)) => (Some(key_of_tuple(table, old)), key_of_tuple(table, new)),
        None => (None, key_of_tuple(table, tuple)),
    };
    let op = match operation {
        "INSERT" => 'c',
        "UPDATE" => 'u',
        "DELETE" => 'd',
        other => panic!("test_decoding's {other}"),
    };
    Some(Change {
        table: table.to_owned(),
        op,
        // Under REPLICA IDENTITY FULL the old key is always there.
        old_key: old.filter(|old| *old != new),
        key: new,
    })
}

/// The key columns of the workload's tables are the first ones, and their values are
/// without quotes and blanks but for `item NNN`.
fn key_of_tuple(table: &str, tuple: &str) -> String {
    let column = |name: &str| -> &str {
        let begin = tuple
            .find(&format!("{name}["))
            .unwrap_or_else(|| panic!("no {name} in {tuple}"));
        let value = &tuple[begin..][tuple[begin..].find("]:").unwrap() + 2..];
        match value.strip_prefix('\'') {
            Some(quoted) => &quoted[..quoted.find('\'').unwrap()],
            None => value.split(' ').next().unwrap(),
        }
    };
    match table {
        "lines" => format!("{}/{}", column("item"), column("n")),
        _ => column("id").to_owned(),
    }
}

fn of_line(line: &str) -> Change {
    let change: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}"));
    let table = change["source"]["table"].as_str().unwrap();
    let key = |row: &Value| (!row.is_null()).then(|| key_of_json(table, row));
    let (before, after) = (key(&change["before"]), key(&change["after"]));
    let op = change["op"].as_str().unwrap().chars().next().unwrap();
    let (old_key, key) = match op {
        'd' => (None, before.unwrap()),
        _ => (before, after.unwrap()),
    };
    Change {
        table: table.to_owned(),
        op,
        old_key: old_key.filter(|old| *old != key),
        key,
    }
}

fn key_of_json(table: &str, row: &Value) -> String {
    match table {
        "lines" => format!("{}/{}", row["item"].as_str().unwrap(), row["n"]),
        _ => row["id"].to_string(),
    }
}

#[track_caller]
fn assert_same(way: &str, expected: &[Change], found: &[Change]) {
    for (place, (expected, found)) in expected.iter().zip(found).enumerate() {
        assert_eq!(expected, found, "{way}, change {place}");
    }
    assert_eq!(expected.len(), found.len(), "{way}: number of changes");
}

/// Per key, whether each record is a row or a tombstone.
type Records = BTreeMap<String, Vec<bool>>;

fn records_expected(changes: &[Change], table: &str) -> Records {
    let mut records = Records::new();
    for change in changes.iter().filter(|change| change.table == table) {
        if let Some(old) = &change.old_key {
            records.entry(old.clone()).or_default().push(false);
        }
        records
            .entry(change.key.clone())
            .or_default()
            .push(change.op != 'd');
    }
    records
}

fn records_found(world: &World<'_>, table: &str) -> Records {
    let mut records = Records::new();
    let mut last = BTreeMap::new();
    for record in topic::read(world.kafka, &world.topic(table)) {
        let key: Value = serde_json::from_str(record.key.as_deref().unwrap()).unwrap();
        let key = key_of_json(table, &key);
        let number = |name| record.header(name).parse::<u64>();
        let place = (lsn(record.header("hw.lsn")), number("hw.seq").unwrap());
        let before = last.insert(key.clone(), place);
        assert!(
            before < Some(place),
            "{table} {key}: {before:?} before {place:?}"
        );
        records.entry(key).or_default().push(record.value.is_some());
    }
    records
}

fn lsn(text: &str) -> u64 {
    let lsn: headwater_protocol::Lsn = text.parse().unwrap();
    lsn.0
}
