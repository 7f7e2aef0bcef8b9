//! `headwater.tables` and `headwater.exclude_columns`: nobody but a superuser gets at what they
//! leave out, by whatever way. What must not be read is called a sentinel, or holds one.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use headwater_tests::Postgres;
use headwater_tests::session::{Session, SqlError};
use headwater_tests::types::bytes;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{installation, topic};

use crate::world::{World, kafka};

/// A server with limits in `postgresql.conf`.
static SERVER: LazyLock<Postgres> = LazyLock::new(|| {
    let server = Postgres::new();
    let sql = server.session("postgres");
    // ALTER SYSTEM takes only what the session knows.
    sql.run("load 'headwater'");
    sql.run("alter system set headwater.tables = 'public.*, limits_*.*'");
    sql.run(
        "alter system set headwater.exclude_columns = \
         '*.*.c_sentinel, public.t_sentinel.*, public.tree.p_sentinel, *.tree_1.note, *.tree_3.*'",
    );
    sql.run("select pg_reload_conf()");
    eventually("the server has read its file", SOON, || {
        let session = server.session("postgres");
        let set = "select coalesce(current_setting('headwater.exclude_columns', true), '') <> ''";
        check(session.holds(set), || "it has not".to_owned())
    });
    server
});

/// What none of them may see.
const TABLES: &str = "
    create role reader_DB login replication;
    create table open (id int primary key, name text, c_sentinel text);
    alter table open replica identity full;
    create table t_sentinel (id int primary key, v text);
    create schema s_sentinel; create table s_sentinel.t (id int primary key, v text);
    create type e_sentinel as enum ('v_sentinel');
    create table wide (id int primary key, body text, c_sentinel text, n int);
    alter table wide alter body set storage external, alter c_sentinel set storage external;
    create table typed (id int primary key, c_sentinel e_sentinel);
    create table keyed (c_sentinel text primary key, v text);
    create table tree (id int primary key, p_sentinel text, note text, v text) partition by list (id);
    create table tree_1 partition of tree for values in (1);
    create schema mixed; create table mixed.tree_2 partition of tree for values in (2);
    create table moving (id int primary key); insert into moving values (1);
    create table s_sentinel.coming (id int primary key); insert into s_sentinel.coming values (1)";

const WRITES: &str = "
    insert into open values (1, 'one', 'v_sentinel'); update open set name = 'two'; delete from open;
    insert into t_sentinel values (1, 'v_sentinel'); truncate t_sentinel;
    insert into s_sentinel.t values (1, 'v_sentinel'); update s_sentinel.t set v = 'v_sentinel2';
    insert into wide values (1, repeat('x', 5000), repeat('v_sentinel', 500), 1);
    update wide set n = 2;
    insert into typed values (1, 'v_sentinel');
    insert into keyed values ('v_sentinel', 'x'); update keyed set v = 'y'; delete from keyed;
    insert into tree values (1, 'v_sentinel', 'v_sentinel', 'x'), (2, 'v_sentinel', 'two', 'y');
    truncate open, t_sentinel;
    alter table open add d_sentinel int default 7; alter table open rename d_sentinel to d;
    alter table t_sentinel add w int default 7;
    alter table moving set schema s_sentinel; alter table s_sentinel.coming set schema public";

fn database(name: &str) -> Session {
    let sql = SERVER.database(name);
    sql.run(&TABLES.replace("DB", name));
    sql.run(&format!(
        "select pg_create_logical_replication_slot('{name}', 'headwater')"
    ));
    sql
}

/// A session of the role that may replicate and nothing else.
fn reader(name: &str, more: &str) -> Result<Session, SqlError> {
    let conninfo = SERVER
        .local_conninfo(name)
        .replace("user=postgres", &format!("user=reader_{name}"));
    Session::connect(&format!("{conninfo} {more}"))
}

/// What the slot holds under these options, all of it, as bytes.
fn peek(sql: &Session, slot: &str, options: &str) -> Result<Vec<u8>, SqlError> {
    let rows = sql.attempt(&format!(
        "select encode(data, 'hex') from pg_logical_slot_peek_binary_changes(\
         '{slot}', null, null, variadic '{{{options}}}')"
    ))?;
    let rows = rows.into_iter().filter_map(|mut row| row[0].take());
    Ok(rows
        .flat_map(|row| [bytes(&row), vec![b'\n']].concat())
        .collect())
}

#[track_caller]
fn holds_no_sentinel(what: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(at) = text.find("sentinel") {
        let excerpt = &text.as_bytes()[at.saturating_sub(80)..(at + 80).min(text.len())];
        panic!("{what}: {}", String::from_utf8_lossy(excerpt));
    }
}

#[test]
fn no_option_and_no_setting_shows_a_reader_what_is_excluded() {
    let name = "limits_reader";
    let sql = database(name);
    sql.run(WRITES);
    let reader_sql = || {
        let session = reader(name, "").unwrap();
        session.run("set client_min_messages = error");
        session
    };
    let session = reader_sql();
    // Without limits all of it is there to be found.
    sql.run("set headwater.tables = ''; set headwater.exclude_columns = ''");
    for sentinel in [
        "v_sentinel2",
        "c_sentinel",
        "t_sentinel",
        "p_sentinel",
        "s_sentinel.coming",
    ] {
        let bytes = peek(&sql, name, "output,frames,tables,*.*").unwrap();
        let found = String::from_utf8_lossy(&bytes).contains(sentinel);
        assert!(found, "{sentinel} is nowhere");
    }
    let mut seen = 0;
    for form in [
        "output,lines",
        "output,lines,envelope,row",
        "output,frames",
        "output,frames,envelope,change",
        "output,frames,format,avro",
        "output,frames,format,avro,envelope,change,enum,avro",
    ] {
        for more in [
            "",
            ",partitions,leaf",
            ",tables,*.*",
            ",tables,*.*,partitions,leaf,exclude_tables,none",
            ",tables,s_sentinel.t,operations,insert",
            ",max_row_bytes,1024",
            ",origin,any,batch_bytes,1024,encoding,assume-utf8",
        ] {
            let options = format!("{form}{more}");
            let bytes = peek(&session, name, &options).unwrap_or_else(|e| panic!("{options}: {e}"));
            holds_no_sentinel(&options, &bytes);
            seen += usize::from(!bytes.is_empty());
        }
    }
    assert!(seen >= 36, "{seen} of the readings had rows");

    // What a session sets before the library is there, and after.
    for before in [
        "set headwater.tables = '*.*'; set headwater.exclude_columns = ''",
        "select set_config('headwater.exclude_columns', '', false), set_config('headwater.tables', '', false)",
        "begin; set local headwater.tables = '*.*'; set local headwater.exclude_columns = ''",
        "set headwater.tables = 'public.*'; reset all",
        "discard all",
        "set headwater.exclude_columns = 'no pattern'",
    ] {
        let session = reader_sql();
        session.run(before);
        let bytes = peek(&session, name, "output,lines,tables,*.*").unwrap();
        holds_no_sentinel(before, &bytes);
        assert!(
            bytes.windows(3).any(|w| w == b"one"),
            "{before}: nothing was read"
        );
        for after in [
            "set headwater.tables = ''",
            "set local headwater.exclude_columns = ''",
            "select set_config('headwater.tables', '', false)",
        ] {
            let refused = session.attempt(after).unwrap_err();
            assert_eq!(refused.state, "42501", "{after}: {refused}");
            session.run("rollback");
        }
    }
    for statement in [
        format!("alter role reader_{name} set headwater.tables = '*.*'"),
        format!("alter role reader_{name} set headwater.exclude_columns = ''"),
        format!("alter database {name} set headwater.tables = '*.*'"),
        "alter system set headwater.tables = ''".to_owned(),
        "create function pg_temp.f() returns int language sql set headwater.tables = '*.*' as 'select 1'"
            .to_owned(),
    ] {
        assert!(reader_sql().attempt(&statement).is_err(), "{statement}");
    }

    // Options of the connection come before the library is loaded, and hide what the file says.
    for options in [
        "-c headwater.tables=*.*",
        "-c headwater.tables=",
        "-c headwater.exclude_columns=",
        "-c Headwater.Exclude_Columns=",
        "-c headwater.exclude_columns=a.b.c",
        "-c headwater.exclude_column=a.b.c",
    ] {
        // Sessions of the tests have options of their own; a program has the environment's. What
        // failed once fails again.
        let read = format!("select data from pg_logical_slot_peek_changes('{name}', null, null)");
        let output = as_reader(name, "psql")
            .env("PGOPTIONS", options)
            .args([
                "-At",
                "-c",
                &read,
                "-c",
                &read,
                "-c",
                "load 'headwater'",
                "-c",
                &read,
            ])
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{options}");
        assert!(
            stderr.contains("permission denied to set parameter")
                || stderr.contains("unrecognized configuration parameter"),
            "{options}: {stderr}"
        );
        let output = received(name, None, options);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{options}");
        assert!(stderr.contains("parameter"), "{options}: {stderr}");
    }
    for option in [
        "tables=*.*",
        "output=frames",
        "partitions=leaf",
        "envelope=row",
    ] {
        let output = received(name, Some(option), "");
        assert!(!output.stdout.is_empty(), "{option}: {:?}", output.stderr);
        holds_no_sentinel(option, &output.stdout);
        holds_no_sentinel(option, &output.stderr);
    }
    // A walsender takes SQL, and loads the plugin outside any transaction.
    let walsender = reader(name, "replication=database").unwrap();
    walsender.run("set client_min_messages = error");
    walsender.run("set headwater.tables = '*.*'");
    walsender.run("set headwater.exclude_columns = ''");
    walsender.run("CREATE_REPLICATION_SLOT other TEMPORARY LOGICAL headwater NOEXPORT_SNAPSHOT");
    let bytes = peek(&walsender, name, "output,lines").unwrap();
    assert!(!bytes.is_empty());
    holds_no_sentinel("a walsender's SQL", &bytes);
    let logged = SERVER.logged(&["is quarantined", "is stale"]);
    assert!(!logged.is_empty(), "the server's log says nothing");
    for line in logged {
        holds_no_sentinel("the log", line.as_bytes());
    }
}

fn as_reader(database: &str, program: &str) -> Command {
    let mut command = SERVER.program(program, database);
    command.env("PGUSER", format!("reader_{database}"));
    command
}

/// What pg_recvlogical prints of a copy of the slot, as the role that may replicate.
fn received(name: &str, option: Option<&str>, settings: &str) -> Output {
    let sql = SERVER.session(name);
    sql.run(&format!(
        "select pg_copy_logical_replication_slot('{name}', '{name}_copy')"
    ));
    let end = sql.value("select pg_current_wal_lsn()");
    let output = SERVER
        .pg_recvlogical(name, &format!("{name}_copy"), &end)
        .env("PGUSER", format!("reader_{name}"))
        .env("PGOPTIONS", settings)
        .args(option.iter().flat_map(|option| ["-o", option]))
        .output()
        .unwrap();
    sql.run(&format!("select pg_drop_replication_slot('{name}_copy')"));
    output
}

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

/// In a parallel operation the server takes no setting over as it defines one, but for a warning.
#[test]
fn a_library_that_is_loaded_within_a_parallel_operation_sends_nothing() {
    let name = "limits_parallel";
    let sql = database(name);
    sql.run(WRITES);
    let reader = reader(name, "").unwrap();
    // No worker starts, so that the leader itself runs the plan, in parallel mode.
    reader.run(
        "set force_parallel_mode = on; set max_parallel_workers = 0;
         create function pg_temp.f() returns text language plpgsql parallel safe
           as 'begin return headwater.version(); end'",
    );
    for _ in 0..2 {
        let refused = reader.attempt("select pg_temp.f()").map(drop);
        let refused = refused.expect_err("loaded in parallel mode");
        assert!(
            refused.message.contains("parallel operation"),
            "{}",
            refused.message
        );
    }
    // Outside of it the library is loaded, and limits.
    let sent = peek(&reader, name, "").unwrap();
    assert!(!sent.is_empty(), "nothing was sent");
    holds_no_sentinel("after a load in parallel mode", &sent);
}

/// A partition has all names: no way to look at it shows what one of them excludes.
#[test]
fn a_partition_is_limited_under_each_of_its_names() {
    let name = "limits_partitions";
    let sql = database(name);
    sql.run("insert into tree values (1, 'p', 'n', 'x'), (2, 'p', 'n', 'y')");
    let lines = |options: &str| {
        sql.column(&format!(
            "select data from pg_logical_slot_peek_changes('{name}', null, null, 'envelope', 'row'{options})"
        ))
    };
    assert_eq!(
        lines(""),
        [
            "{\"id\":1}\t{\"id\":1,\"note\":null,\"v\":\"x\"}",
            "{\"id\":2}\t{\"id\":2,\"note\":\"n\",\"v\":\"y\"}"
        ]
    );
    // Of its own name, and not of one that headwater.tables has.
    assert_eq!(
        lines(", 'partitions', 'leaf'"),
        ["{\"id\":1}\t{\"id\":1,\"v\":\"x\"}"]
    );
}

/// Rows that are looked up by their key are read through the partitioned table.
#[test]
fn rows_that_the_client_looks_up_are_limited_under_their_partitions_names() {
    let _ = installation::client();
    let world = World::on(&SERVER, kafka(), "limits_lookups");
    world.sql.run(
        "create table tree (id int primary key, note text, body text, n int) partition by range (id);
         alter table tree alter body set storage external, alter note set storage external;
         create table tree_1 partition of tree for values from (1) to (10);
         create table tree_2 partition of tree for values from (10) to (20);
         create table tree_3 partition of tree for values from (20) to (30);
         insert into tree select id, repeat('v_sentinel', 500), repeat('x', 5000), 1
           from unnest('{5, 11, 21}'::int[]) id;
         update tree set note = 'of another' where id = 11",
    );
    let mut client = world.stream(&[]);
    client.says("has all columns of: limits_lookups.tree_3");
    client.streams();
    // Unchanged values are fetched.
    world.sql.run("update tree set n = 2");
    world.catches_up();
    // What differs is looked up to be sent again, and so is what a topic should not have.
    let topic = world.topic("tree");
    topic::write(world.kafka, &topic, "{\"id\":5}", "{\"id\":5}");
    topic::write(world.kafka, &topic, "{\"id\":21}", "{\"id\":21}");
    let verified = world.verify(&[]);
    verified.expect(1, &["2 keys differ"]);
    world.verify(&["--repair"]).expect(0, &["asked the stream"]);
    client.terminate().expect(0, &[]);
    let records = topic::read(world.kafka, &topic);
    let text = format!("{records:?}");
    holds_no_sentinel("the topic", text.as_bytes());
    assert!(text.contains("hw.fetched"), "{text}");
    assert_eq!(
        topic::fold(&records).into_values().collect::<Vec<_>>(),
        world.sql.column(
            "select row_to_json(t)::text from (select id, case when id > 10 then note end as note, \
             body, n from tree where id < 20 order by id desc) t"
        )
    );
}

/// The same of a query's own rows, which the server's functions are handed.
#[test]
fn a_row_that_is_said_to_be_stored_in_a_partition_is_limited_as_one_of_it() {
    let name = "limits_stored";
    let sql = database(name);
    sql.run(
        "create table tree_3 partition of tree for values in (3);
         insert into tree values (1, 'p', 'n', 'x'), (2, 'p', 'n', 'y'), (3, 'p', 'n', 'z')",
    );
    let rows = |stored_in: &str| {
        sql.column(&format!(
            "select coalesce(convert_from(headwater.encode({stored_in}, t.*, 'envelope=row'), 'UTF8'), \
             'nothing') from tree t order by id"
        ))
    };
    let (whole, less) = (
        "{\"id\":2}\t{\"id\":2,\"note\":\"n\",\"v\":\"y\"}",
        "{\"id\":1}\t{\"id\":1,\"note\":null,\"v\":\"x\"}",
    );
    assert_eq!(rows("t.tableoid"), [less, whole, "nothing"]);
    // It can only narrow, whatever is said.
    assert_eq!(rows("0"), ["nothing"; 3]);
    assert_eq!(rows("null"), ["nothing"; 3]);
    assert!(!rows("'open'")[1].contains("p_sentinel"));
    assert_eq!(
        sql.rows("select key, value from headwater.preview('tree')"),
        [less, whole].map(|line| {
            let (key, value) = line.split_once('\t').unwrap();
            vec![Some(key.to_owned()), Some(value.to_owned())]
        })
    );
}

#[test]
fn who_may_say_what_is_sent() {
    let name = "limits_owners";
    let sql = database(name);
    sql.run("insert into open values (1, 'one', 'v_sentinel')");
    let columns = |session: &Session| -> String {
        let line = session.value(&format!(
            "select data from pg_logical_slot_peek_changes('{name}', null, null, 'envelope', 'row')"
        ));
        line.split('\t').nth(1).unwrap().to_owned()
    };
    let all = "{\"id\":1,\"name\":\"one\",\"c_sentinel\":\"v_sentinel\"}";
    let limited = "{\"id\":1,\"name\":\"one\"}";
    assert_eq!(columns(&sql), limited, "of a superuser too");
    assert_eq!(columns(&reader(name, "").unwrap()), limited);

    // A superuser's word counts, for a role, in a database, and in a session.
    let superuser = SERVER.session(name);
    superuser.run("set headwater.exclude_columns = ''");
    assert_eq!(columns(&superuser), all);
    superuser.run("set headwater.exclude_columns = '*.*.name'");
    assert_eq!(
        columns(&superuser),
        "{\"id\":1,\"c_sentinel\":\"v_sentinel\"}"
    );
    sql.run(&format!(
        "alter role reader_{name} in database {name} set headwater.exclude_columns = ''"
    ));
    assert_eq!(columns(&reader(name, "").unwrap()), all);
    sql.run(&format!(
        "alter role reader_{name} in database {name} reset headwater.exclude_columns;
         alter database {name} set headwater.exclude_columns = '*.open.name'"
    ));
    assert_eq!(
        columns(&reader(name, "").unwrap()),
        "{\"id\":1,\"c_sentinel\":\"v_sentinel\"}"
    );
    let psql = |options: &str, user: &str| {
        let output = SERVER
            .program("psql", name)
            .env("PGUSER", user)
            .env("PGOPTIONS", options)
            .args(["-At", "-c"])
            .arg(format!(
                "select data from pg_logical_slot_peek_changes('{name}', null, null, 'envelope', 'row')"
            ))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .split('\t')
            .nth(1)
            .map(str::to_owned)
    };
    let options = "-c headwater.exclude_columns=*.*.id2";
    assert_eq!(psql(options, "postgres").as_deref(), Some(all));
    let major = SERVER.installation().version();
    let major = major.split('.').next().and_then(|v| v.parse::<u32>().ok());
    let is_15_on = major.is_some_and(|major| major >= 15);
    if is_15_on {
        let user = format!("reader_{name}");
        assert_eq!(psql(options, &user), None);
        sql.run(&format!(
            "grant set on parameter headwater.exclude_columns to {user}"
        ));
        assert_eq!(psql(options, &user).as_deref(), Some(all));
        sql.run(&format!(
            "revoke set on parameter headwater.exclude_columns from {user}"
        ));
    }

    // A limit that is misspelt limits nothing, and so nothing is sent.
    for (wrong, message) in [
        (
            "headwater.exclude_columns = 'open.name'",
            "invalid value for setting \"headwater.exclude_columns\": too few names",
        ),
        (
            "headwater.exclude_colums = '*.open.name'",
            "unrecognized configuration parameter \"headwater.exclude_colums\"",
        ),
    ] {
        let (setting, _) = wrong.split_once(" = ").unwrap();
        let plain = SERVER.session("postgres");
        plain.run(&format!("alter database {name} set {wrong}"));
        let refused = peek(&reader(name, "").unwrap(), name, "output,lines").unwrap_err();
        assert!(refused.message.contains(message), "{refused}");
        plain.run(&format!("alter database {name} reset {setting}"));
    }
    // Who has the library is told at once.
    if is_15_on {
        for statement in [
            "set",
            "alter system set",
            &format!("alter database {name} set"),
        ] {
            let refused = superuser
                .attempt(&format!(
                    "{statement} headwater.exclude_colums = '*.open.name'"
                ))
                .unwrap_err();
            assert!(
                refused.message.contains("headwater.exclude_colums"),
                "{refused}"
            );
        }
    }
    let refused = superuser
        .attempt("set headwater.tables = 'a.b.c'")
        .unwrap_err();
    assert_eq!(refused.state, "22023", "{refused}");
}

/// A stream under way, and a session that has encoded before, obey what a reload brings.
#[test]
fn a_limit_that_is_tightened_holds_from_the_next_transaction_on() {
    let name = "limits_reload";
    let sql = database(name);
    let encoded = "select convert_from(headwater.encode(t.*, 'envelope=row'), 'UTF8') from open t";
    let mut receiver = SERVER.program("pg_recvlogical", name);
    let mut receiver = receiver
        .env("PGUSER", format!("reader_{name}"))
        .args(["--dbname", name, "--slot", name, "--start", "--no-loop"])
        .args(["-o", "envelope=row", "--file", "-"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(receiver.stdout.take().unwrap()).lines();
    let mut number = 0;
    let mut next = || {
        number += 1;
        sql.run(&format!(
            "truncate open; insert into open values ({number}, 'name', 'v_sentinel')"
        ));
        lines.next().unwrap().unwrap()
    };
    assert!(next().ends_with("\"name\":\"name\"}"));
    let before = sql.value("show headwater.exclude_columns");
    sql.run("load 'headwater'");
    let tighten = |columns: &str| {
        sql.run(&format!(
            "alter system set headwater.exclude_columns = '{columns}'"
        ));
        sql.run("select pg_reload_conf()");
    };
    tighten(&format!("{before}, limits_reload.*.name, *.open.name"));
    eventually("the stream leaves the column out", SOON, || {
        let line = next();
        check(!line.contains("name"), || line)
    });
    for _ in 0..10 {
        assert!(!next().contains("name"));
    }
    assert!(!sql.value(encoded).contains("name"));
    tighten(&before);
    eventually("the stream has the column again", SOON, || {
        let line = next();
        check(line.contains("name"), || line)
    });
    assert!(sql.value(encoded).contains("name"));
    receiver.kill().unwrap();
    receiver.wait().unwrap();
}

/// The client copies, streams, fetches and compares what is left.
#[test]
fn the_client_leaves_out_what_the_server_does_not_send() {
    let _ = installation::client();
    let world = World::on(&SERVER, kafka(), "limits_client");
    world.sql.run(
        "create table open (id int primary key, body text, c_sentinel text, n int);
         alter table open alter body set storage external, alter c_sentinel set storage external;
         insert into open values (1, repeat('x', 5000), repeat('v_sentinel', 500), 1);
         create schema s_sentinel; create table s_sentinel.t (id int primary key);
         insert into s_sentinel.t values (1)",
    );
    let mut client = world.stream(&[]);
    client.says("headwater.tables does not name: s_sentinel.t");
    client.streams();
    world
        .sql
        .run("insert into open values (2, 'y', 'v_sentinel', 1); update open set n = 2");
    world.catches_up();
    world.verify(&["-t", "limits_client.open"]).expect(0, &[]);
    client.terminate().expect(0, &[]);
    let records = topic::read(world.kafka, &world.topic("open"));
    let text = format!("{records:?}");
    holds_no_sentinel("the topic", text.as_bytes());
    assert!(text.contains("hw.fetched"), "{text}");
    assert_eq!(
        topic::fold(&records).into_values().collect::<Vec<_>>(),
        world.sql.column(
            "select row_to_json(t)::text from (select id, body, n from open order by id) t"
        )
    );
    world.drop_slot();
    world
        .stream(&["-t", "s_sentinel.t"])
        .wait()
        .expect(1, &["s_sentinel.t", "headwater.tables", "superuser"]);
    world
        .sql
        .run("create table keyed (c_sentinel text primary key)");
    let arguments = ["-t", "limits_client.keyed", "--topic-prefix", "keyed."];
    let ended = world.stream(&arguments).wait();
    ended.expect(1, &["limits_client.keyed", "a column of its key"]);
    holds_no_sentinel("the client", ended.stderr.as_bytes());
}
