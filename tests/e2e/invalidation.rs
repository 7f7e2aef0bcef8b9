//! A plan is never older than the catalogs that a row was written under: DDL between the
//! writes of one transaction and between transactions, read by a session that knew the table
//! before and by one that comes late.

use headwater_tests::altered;
use headwater_tests::session::Session;
use serde_json::Value;

use crate::world::postgres;

/// What a writer does.
struct Case {
    name: &'static str,
    setup: &'static str,
    /// A write, DDL, a write, and so on.
    steps: &'static [&'static str],
    /// Schema, table, key and row of each write.
    expected: &'static [&'static str],
}

const CASES: [Case; 11] = [
    Case {
        name: "schema_renamed",
        setup: "create schema a; create table a.t (id int primary key)",
        steps: &["insert into a.t values (1)", "alter schema a rename to b", "insert into b.t values (2)"],
        expected: &[r#"a.t {"id":1} {"id":1}"#, r#"b.t {"id":2} {"id":2}"#],
    },
    Case {
        name: "schema_set",
        setup: "create schema a; create schema b; create table a.t (id int primary key)",
        steps: &["insert into a.t values (1)", "alter table a.t set schema b", "insert into b.t values (2)"],
        expected: &[r#"a.t {"id":1} {"id":1}"#, r#"b.t {"id":2} {"id":2}"#],
    },
    Case {
        name: "made_again",
        setup: "create table t (id int primary key, a int)",
        steps: &[
            "insert into t values (1, 1)",
            "drop table t; create table t (b text, id bigint, primary key (id, b))",
            "insert into t values ('x', 2)",
            "drop table t; create table t (id int primary key)",
            "insert into t values (3)",
        ],
        expected: &[
            r#"public.t {"id":1} {"id":1,"a":1}"#,
            r#"public.t {"id":2,"b":"x"} {"b":"x","id":2}"#,
            r#"public.t {"id":3} {"id":3}"#,
        ],
    },
    Case {
        name: "names_swapped",
        setup: "create table t (id int primary key, a int); create table u (id int primary key, b int)",
        steps: &[
            "insert into t values (1, 1); insert into u values (2, 2)",
            "alter table t rename to v; alter table u rename to t; alter table v rename to u",
            "insert into t values (3, 3); insert into u values (4, 4)",
        ],
        expected: &[
            r#"public.t {"id":1} {"id":1,"a":1}"#,
            r#"public.u {"id":2} {"id":2,"b":2}"#,
            r#"public.t {"id":3} {"id":3,"b":3}"#,
            r#"public.u {"id":4} {"id":4,"a":4}"#,
        ],
    },
    Case {
        name: "columns_swapped",
        setup: "create table t (id int primary key, a int, b text)",
        steps: &[
            "insert into t values (1, 1, 'x')",
            "alter table t rename a to c; alter table t rename b to a; alter table t rename c to b",
            "insert into t values (2, 2, 'y')",
            "alter table t drop a, add a bool",
            "insert into t values (3, 3, true)",
        ],
        expected: &[
            r#"public.t {"id":1} {"id":1,"a":1,"b":"x"}"#,
            r#"public.t {"id":2} {"id":2,"b":2,"a":"y"}"#,
            r#"public.t {"id":3} {"id":3,"b":3,"a":true}"#,
        ],
    },
    Case {
        name: "key_made_again",
        setup: "create table t (id int primary key, k int not null unique)",
        steps: &[
            "insert into t values (1, 10)",
            "alter table t drop constraint t_pkey",
            "insert into t values (2, 20)",
            "alter table t add primary key (k, id)",
            "insert into t values (3, 30)",
            "alter table t replica identity using index t_k_key",
            "insert into t values (4, 40)",
            "alter table t drop constraint t_k_key",
            "insert into t values (5, 50)",
            "alter table t replica identity full",
            "insert into t values (6, 60)",
            "alter table t replica identity nothing",
            "insert into t values (7, 70)",
        ],
        expected: &[
            r#"public.t {"id":1} {"id":1,"k":10}"#,
            r#"public.t  {"id":2,"k":20}"#,
            r#"public.t {"k":30,"id":3} {"id":3,"k":30}"#,
            r#"public.t {"k":40} {"id":4,"k":40}"#,
            r#"public.t  {"id":5,"k":50}"#,
            r#"public.t {"k":60,"id":6} {"id":6,"k":60}"#,
            r#"public.t  {"id":7,"k":70}"#,
        ],
    },
    Case {
        name: "key_column_renamed",
        setup: "create table t (id int primary key)",
        steps: &[
            "insert into t values (1)",
            "alter table t rename id to number",
            "insert into t values (2)",
            "alter table t alter number type text",
            "insert into t values ('3')",
        ],
        expected: &[
            r#"public.t {"id":1} {"id":1}"#,
            r#"public.t {"number":2} {"number":2}"#,
            r#"public.t {"number":"1"} {"number":"1"}"#,
            r#"public.t {"number":"2"} {"number":"2"}"#,
            r#"public.t {"number":"3"} {"number":"3"}"#,
        ],
    },
    Case {
        name: "taken_back",
        setup: "create table t (id int primary key, a int)",
        steps: &[
            "insert into t values (1, 1)",
            "do $$ begin
                 alter table t rename a to b; alter table t add c text default 'x';
                 insert into t values (9, 9); raise exception 'no';
             exception when others then null; end $$",
            "insert into t values (2, 2)",
        ],
        expected: &[
            r#"public.t {"id":1} {"id":1,"a":1}"#,
            r#"public.t {"id":2} {"id":2,"a":2}"#,
        ],
    },
    Case {
        name: "kept",
        setup: "create table t (id int primary key, a int)",
        steps: &[
            "insert into t values (1, 1)",
            "do $$ begin
                 alter table t rename a to b; insert into t values (2, 2);
                 begin alter table t rename b to c; insert into t values (9, 9); raise exception 'no';
                 exception when others then null; end;
                 insert into t values (3, 3);
             exception when others then null; end $$",
            "insert into t values (4, 4)",
        ],
        expected: &[
            r#"public.t {"id":1} {"id":1,"a":1}"#,
            r#"public.t {"id":2} {"id":2,"b":2}"#,
            r#"public.t {"id":3} {"id":3,"b":3}"#,
            r#"public.t {"id":4} {"id":4,"b":4}"#,
        ],
    },
    Case {
        name: "type_without_a_rewrite",
        setup: "create table t (id int primary key, a int, b timestamp)",
        steps: &[
            "insert into t values (1, 1, '2024-01-01')",
            "alter table t alter a type oid, alter b type timestamptz",
            "insert into t values (2, 2, '2024-01-01')",
        ],
        expected: &[
            r#"public.t {"id":1} {"id":1,"a":1,"b":"2024-01-01T00:00:00"}"#,
            r#"public.t {"id":2} {"id":2,"a":"2","b":"2024-01-01T00:00:00+00:00"}"#,
        ],
    },
    // More relations at once than are noted one by one.
    Case {
        name: "many_at_once",
        setup: "do $$ begin for n in 1..150 loop
                    execute format('create table t%s (id int primary key, a int)', n); end loop; end $$",
        steps: &[
            "insert into t1 values (1, 1); insert into t150 values (1, 1)",
            "do $$ begin for n in 1..150 loop
                 execute format('alter table t%s rename a to b', n); end loop; end $$",
            "insert into t1 values (2, 2); insert into t150 values (2, 2)",
        ],
        expected: &[
            r#"public.t1 {"id":1} {"id":1,"a":1}"#,
            r#"public.t150 {"id":1} {"id":1,"a":1}"#,
            r#"public.t1 {"id":2} {"id":2,"b":2}"#,
            r#"public.t150 {"id":2} {"id":2,"b":2}"#,
        ],
    },
];

#[test]
fn rows_are_read_as_they_were_written_within_a_transaction_and_between() {
    for case in &CASES {
        for in_one in [true, false] {
            let name = format!("invalidated_{}_{in_one}", case.name);
            let sql = postgres().database(&name);
            sql.run(case.setup);
            sql.run(&format!(
                "select pg_create_logical_replication_slot('{name}', 'headwater')"
            ));
            if in_one {
                sql.run(&format!("begin; {}; commit", case.steps.join("; ")));
            } else {
                case.steps.iter().for_each(|step| sql.run(step));
            }
            assert_eq!(read(&sql, &name), case.expected, "{name}");
        }
    }
}

/// What changes a table between two rows that one expression encodes.
const BETWEEN_ROWS: [&str; 7] = [
    "alter table t alter a type int8 using 4611686018427387900, alter b type int8 using 4611686018427387900",
    "alter table t rename a to z",
    "alter table t drop a",
    "alter table t drop b, add b int default 7",
    "alter type mood rename value 'sad' to 'blue'",
    "alter type pair rename attribute x to y",
    "alter type pair add attribute v int",
];

fn altered_between_rows(number: usize) -> Session {
    let sql = postgres().database(&format!("encoded_{number}"));
    sql.run(
        "create type mood as enum ('sad'); create type pair as (x int, w text);
         create table t (a text, b text, m mood, p pair, c text);
         insert into t values ('x', 'y', 'sad', row(1, 'z'), 'hello')",
    );
    sql
}

/// What an expression of PL/pgSQL keeps lives on over the statements of a transaction.
#[test]
fn what_a_function_encodes_are_rows_of_the_table_as_it_is_by_then() {
    for (number, ddl) in BETWEEN_ROWS.iter().enumerate() {
        altered::each_row_is_encoded_as_it_is(&altered_between_rows(number), ddl);
    }
}

/// A query's own functions may alter the table whose rows it has yet to read.
#[test]
fn what_a_query_encodes_are_rows_of_the_table_as_it_is_by_then() {
    for (number, ddl) in BETWEEN_ROWS.iter().enumerate() {
        let sql = altered_between_rows(100 + number);
        let ddl = ddl.replace('\'', "''");
        sql.run(&format!(
            "create function alter_at(i int) returns int language plpgsql as $f$
               begin if i = 2 then execute '{ddl}'; end if; return i; end $f$;
             create function one() returns t language sql volatile as 'select * from t';
             create function two() returns t language sql volatile as 'select * from t'"
        ));
        let encoded = sql.column(
            "select split_part(convert_from(headwater.encode(\
               case when alter_at(i) = 1 then one() else two() end, 'envelope=row'), 'UTF8'), e'\\t', 2) \
             from generate_series(1, 3) i",
        );
        let expected = sql.value("select row_to_json(t)::text from t");
        assert_eq!(encoded[1..], [expected.clone(), expected], "{ddl}");
    }
}

/// What the slot has: table, key and row of each change.
fn read(sql: &Session, slot: &str) -> Vec<String> {
    let get = |options: &str| {
        sql.column(&format!(
            "select data from pg_logical_slot_peek_changes('{slot}', null, null{options})"
        ))
    };
    let envelopes = get("");
    let rows = get(", 'envelope', 'row'");
    assert_eq!(envelopes.len(), rows.len(), "{envelopes:#?}\n{rows:#?}");
    envelopes
        .iter()
        .zip(&rows)
        .map(|(envelope, row)| {
            let change: Value = serde_json::from_str(envelope).unwrap();
            let text = |name: &str| change["source"][name].as_str().unwrap().to_owned();
            let row = row.replacen('\t', " ", 1);
            format!("{}.{} {row}", text("schema"), text("table"))
        })
        .collect()
}
