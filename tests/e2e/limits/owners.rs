//! Who may say what is sent, and from when on it holds.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use headwater_tests::session::Session;
use headwater_tests::wait::{SOON, check, eventually};

use super::{SERVER, database, peek, reader};

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
    // The server's file is everybody's: no other test has a table of this name.
    sql.run("create table reloaded (id int primary key, name text)");
    let encoded =
        "select convert_from(headwater.encode(t.*, 'envelope=row'), 'UTF8') from reloaded t";
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
            "truncate reloaded; insert into reloaded values ({number}, 'name')"
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
    tighten(&format!("{before}, *.reloaded.name"));
    eventually("the stream leaves the column out", SOON, || {
        let line = next();
        check(!line.contains("name"), || line)
    });
    for _ in 0..10 {
        assert!(!next().contains("name"));
    }
    // The server signals one process after the other.
    let encodes = |expected: bool| {
        eventually("a session that has encoded before does, too", SOON, || {
            let row = sql.value(encoded);
            check(row.contains("name") == expected, || row)
        });
    };
    encodes(false);
    tighten(&before);
    eventually("the stream has the column again", SOON, || {
        let line = next();
        check(line.contains("name"), || line)
    });
    encodes(true);
    receiver.kill().unwrap();
    receiver.wait().unwrap();
}
