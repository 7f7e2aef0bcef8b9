//! A row's values are read by the types as they were when it was written, whenever it is
//! decoded: after all that came later, or at once, by a reader that has read others.

use std::io::BufReader;
use std::process::{Child, Stdio};

use headwater_tests::lines::Lines;
use headwater_tests::session::Session;
use headwater_tests::wait::SOON;

use crate::world::postgres;

/// Statements between one row and the next. Those of one element run one by one, but
/// within one transaction where it says so.
const CHANGES: &[&str] = &[
    "alter type pair add attribute c int",
    "alter type pair rename attribute a to \"first one\"",
    "alter type pair drop attribute b",
    "alter type pair add attribute b int[]",
    "alter type nested add attribute extra pair",
    "alter type pair rename to couple",
    "alter type couple rename to pair",
    "alter type pair set schema elsewhere",
    "alter type elsewhere.pair set schema public",
    "alter type mood add value 'between' before 'sad'",
    "alter type mood rename value 'happy' to 'glad'",
    "alter type mood rename value 'glad' to 'happy'",
    "begin; alter type pair rename attribute \"first one\" to a",
    "alter type pair add attribute later text",
    "alter type mood rename value 'sad' to 'sorry'",
    "alter type nested drop attribute extra",
    "alter table items add added pair[]",
    "commit",
    "alter type pair drop attribute later",
    "begin; savepoint s; alter type pair add attribute never int; rollback to s",
    "alter type mood rename value 'sorry' to 'sad'; commit",
    "drop domain if exists of_pair; create domain of_pair as pair",
    "alter table items add o of_pair",
    "alter type pair add attribute last int",
];

struct Tables {
    sql: Session,
    rows: u32,
}

impl Tables {
    fn new(database: &str) -> Self {
        let sql = postgres().database(database);
        sql.run(
            "create schema elsewhere;
             create type mood as enum ('sad', 'happy');
             create type pair as (a int, b text);
             create type nested as (p pair, ps pair[], m mood);
             create table items (id int primary key, m mood, ms mood[], p pair, ps pair[], n nested, ns nested[])",
        );
        sql.run(&format!(
            "select pg_create_logical_replication_slot('{database}', 'headwater')"
        ));
        Tables { sql, rows: 0 }
    }

    /// Writes a row. Returns what Postgres says of it now.
    fn write(&mut self) -> String {
        self.rows += 1;
        let id = self.rows;
        // A row of nulls for the attributes that there are, whichever these are.
        self.sql.run(&format!(
            "insert into items (id, m, ms, p, ps, n, ns) \
             select {id}, l, array[l, null]::{moods}, p, array[p, null], n, array[n] \
             from (select (enum_range(null::mood))[1 + {id} % 2] e) labels, \
                  lateral (select e::{mood} l) label, \
                  (select jsonb_populate_record(null::{pair}, \
                       '{{\"a\": {id}, \"first one\": {id}, \"b\": null, \"c\": 7, \"later\": \"x\", \"last\": 9}}') p) pairs, \
                  lateral (select jsonb_populate_record(null::nested, \
                       jsonb_build_object('p', p, 'ps', array[p, null], 'm', e, 'extra', p)) n) nest",
            mood = self.type_of("m"),
            moods = self.type_of("ms"),
            pair = self.type_of("p"),
        ));
        self.sql.value(&format!(
            "select row_to_json(i)::text from items i where id = {id}"
        ))
    }

    fn type_of(&self, column: &str) -> String {
        self.sql.value(&format!(
            "select format_type(atttypid, null) from pg_attribute \
             where attrelid = 'items'::regclass and attname = '{column}'"
        ))
    }
}

#[test]
fn rows_decoded_late_have_the_types_that_they_were_written_with() {
    let mut tables = Tables::new("changed_types_late");
    let mut expected = vec![tables.write()];
    for change in CHANGES {
        tables.sql.run(change);
        expected.push(tables.write());
    }
    let found = tables.sql.column(
        "select split_part(data, E'\\t', 2) from pg_logical_slot_get_changes(\
         'changed_types_late', null, null, 'envelope', 'row', 'tables', 'public.items') \
         where data like '%{\"id\"%'",
    );
    assert_rows(&expected, &found);
}

#[test]
fn a_reader_that_follows_sees_each_type_change() {
    let name = "changed_types_live";
    let mut tables = Tables::new(name);
    let mut reader = Reader::start(name);
    let mut expected = vec![tables.write()];
    for change in CHANGES {
        tables.sql.run(change);
        expected.push(tables.write());
        // What is not committed is not sent yet.
        if tables
            .sql
            .value("select pg_current_xact_id_if_assigned() is null")
            == "t"
        {
            reader.has(&expected);
        }
    }
    reader.has(&expected);
}

/// Twelve row types that each hold the one before twice are thousands of attributes (at
/// thirty the server itself takes hours to make such a column), and row types within each
/// other a hundred deep are as deep as values are read.
#[test]
fn types_of_types_take_no_more_than_they_are() {
    let name = "changed_types_deep";
    let sql = postgres().database(name);
    sql.run("create type double_0 as (a int); create type deep_0 as (v int)");
    for n in 1..=12 {
        let m = n - 1;
        sql.run(&format!(
            "create type double_{n} as (a double_{m}, b double_{m}[])"
        ));
    }
    for n in 1..=130 {
        sql.run(&format!("create type deep_{n} as (v deep_{})", n - 1));
    }
    sql.run("create table wide (id int primary key, v double_12); create table d (id int primary key, v deep_90); create table dd (id int primary key, v deep_130)");
    sql.run(&format!(
        "select pg_create_logical_replication_slot('{name}', 'headwater')"
    ));
    sql.run("insert into wide values (1, row(null, array[row(null, null)::double_11])); insert into dd values (1, null)");
    let row = |levels: usize| {
        (1..levels).fold("row(7)".to_owned(), |row, n| {
            format!("row({row}::deep_{})", n - 1)
        })
    };
    sql.run(&format!("insert into d values (1, {})", row(91)));
    sql.run(&format!("insert into dd values (2, {})", row(131)));
    sql.run("insert into dd values (3, null)");
    let found = sql.column(&format!(
        "select data from pg_logical_slot_get_changes('{name}', null, null)"
    ));
    let quarantined: Vec<bool> = found
        .iter()
        .map(|line| line.contains("\"quarantined\""))
        .collect();
    assert_eq!(
        quarantined,
        [false, false, false, true, false],
        "{found:#?}"
    );
    for (line, table) in found.iter().zip(["wide", "dd", "d"]) {
        let row = sql.value(&format!(
            "select row_to_json(t)::text from {table} t where id = 1"
        ));
        assert!(line.contains(&row), "{table}: {line}");
    }
}

/// `pg_recvlogical`, while it runs.
struct Reader {
    process: Child,
    lines: Lines,
}

impl Reader {
    fn start(database: &str) -> Self {
        let mut process = postgres()
            .pg_recvlogical(database, database, "FFFFFFFF/FFFFFFFF")
            .args(["-o", "envelope=row", "-o", "tables=public.items"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Lines::of(process.stdout.take().map(BufReader::new));
        Reader { process, lines }
    }

    #[track_caller]
    fn has(&mut self, expected: &[String]) {
        let lines = self.lines.some(0, expected.len(), SOON);
        let found: Vec<String> = lines
            .iter()
            .map(|line| line.split_once('\t').unwrap().1.to_owned())
            .collect();
        assert_rows(expected, &found);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

#[track_caller]
fn assert_rows(expected: &[String], found: &[String]) {
    for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
        let change = index
            .checked_sub(1)
            .map_or("the beginning", |at| CHANGES[at]);
        assert_eq!(expected, found, "after {change}");
    }
    assert_eq!(expected.len(), found.len());
}
