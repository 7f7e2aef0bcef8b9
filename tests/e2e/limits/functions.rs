//! The SQL functions.

use headwater_tests::types::bytes;

use super::{WRITES, database, holds_no_sentinel, reader};

#[test]
fn the_functions_say_no_more_than_the_stream() {
    let name = "limits_functions";
    let sql = database(name);
    sql.run(WRITES);
    sql.run("insert into open values (2, 'three', 'v_sentinel')");
    let partitioned = |table: &str| {
        sql.holds(&format!(
            "select relkind = 'p' from pg_class where oid = '{table}'::regclass"
        ))
    };
    let session = reader(name, "").unwrap();
    let calls = |table: &str| {
        // What a partition's own name excludes is known of a row by who says where it is from.
        let row = if partitioned(table) {
            "t.tableoid, t.*"
        } else {
            "t.*"
        };
        [
            format!("headwater.relation('{table}')"),
            format!("headwater.relation('{table}', 'output=frames', 'format=avro')"),
            format!("headwater.avro_schema('{table}', 'value')"),
            format!("headwater.avro_schema('{table}', 'key')"),
            format!("headwater.json_schema('{table}')"),
            format!("headwater.topic('{table}')"),
            format!("headwater.encode(null::{table})"),
            format!("headwater.encode({row}) from {table} t"),
            format!("headwater.encode({row}, 'output=frames', 'format=avro') from {table} t"),
            format!("headwater.encode(t.tableoid, t.*, 'partitions=leaf') from {table} t"),
            format!("headwater.preview('{table}')"),
        ]
    };
    let tables = [
        "t_sentinel",
        "s_sentinel.t",
        "keyed",
        "pg_catalog.pg_authid",
    ];
    for granted in [false, true] {
        if granted {
            sql.run(&format!(
                "grant usage on schema s_sentinel to reader_{name};
                 grant select on all tables in schema public, s_sentinel to reader_{name}"
            ));
            sql.run(&format!("insert into t_sentinel values (5, 'v_sentinel'); grant select on pg_authid to reader_{name}"));
        }
        for call in tables.iter().flat_map(|table| calls(table)) {
            // A null row is none, and a table without rows asks for no schema.
            match session.attempt(&format!("select {call}")) {
                Ok(rows) => assert!(
                    rows.iter().flatten().all(Option::is_none),
                    "{call}: {rows:?}"
                ),
                Err(refused) => {
                    assert_eq!(refused.state, "42501", "{call}: {refused}");
                    let said = refused.to_string();
                    assert!(!said.contains("c_sentinel"), "{call}: {said}");
                    assert!(!said.contains("v_sentinel"), "{call}: {said}");
                }
            }
        }
        for call in ["open", "wide", "typed", "tree", "tree_1"]
            .iter()
            .flat_map(|table| calls(table))
        {
            match session.attempt(&format!("select {call}")) {
                Ok(rows) => {
                    for value in rows.into_iter().flatten().flatten() {
                        holds_no_sentinel(&call, value.as_bytes());
                        if let Some(hex) = value.strip_prefix("\\x") {
                            holds_no_sentinel(&call, &bytes(hex));
                        }
                    }
                }
                Err(refused) => {
                    assert!(!granted, "{call}: {refused}");
                    assert_eq!(refused.state, "42501", "{call}: {refused}");
                }
            }
        }
    }
    let refused = session
        .attempt("select headwater.relation('keyed')")
        .unwrap_err();
    assert!(refused.message.contains("a column of its key"), "{refused}");
    assert_eq!(
        session.column(
            "select headwater.json_schema('tree')::json->'properties'->>'note' is not null"
        ),
        ["t"],
        "a column that a part has not is one of the table"
    );
}

/// What an expression of PL/pgSQL keeps lives on over the statements of a transaction.
#[test]
fn a_column_that_gets_an_excluded_name_is_left_out_from_then_on() {
    let sql = database("limits_renamed");
    sql.run(
        "insert into open values (1, 'one', 'v_sentinel');
         alter table open rename c_sentinel to seen;
         create function f() returns setof text language plpgsql as $f$
         declare r open; begin
           for i in 1..2 loop
             execute 'select * from open' into r;
             return next convert_from(headwater.encode(r, 'envelope=row'), 'UTF8');
             if i = 1 then execute 'alter table open rename seen to c_sentinel'; end if;
           end loop;
         end $f$",
    );
    let lines = sql.column("select * from f()");
    assert!(lines[0].contains("\"seen\":\"v_sentinel\""), "{}", lines[0]);
    holds_no_sentinel("after the column was renamed", lines[1].as_bytes());
    assert!(lines[1].contains("\"name\":\"one\""), "{}", lines[1]);
}
