//! What a role gets that may replicate and nothing else.

use std::process::{Command, Output};

use super::{SERVER, WRITES, database, holds_no_sentinel, peek, reader};

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
