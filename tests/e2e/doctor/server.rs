//! Settings of the server, its extension, and the way in.

use headwater_tests::postgres::Options;

use super::printed::User;

/// What `ALTER SYSTEM` needs to be alone in.
fn set(user: &User<'_>, statements: &[&str]) {
    let sql = user.postgres.session("postgres");
    for statement in statements {
        sql.run(statement);
    }
    sql.run("select pg_reload_conf()");
}

#[test]
fn each_setting_is_named_and_mended() {
    let mut postgres = Options::default().stock().setting("fsync", "off").start();
    postgres.session("postgres").run("create database shop");
    let sql = postgres.session("shop");
    sql.run("create table items (id int primary key)");
    sql.run("create role cdc login replication password 'pear'; grant select on items to cdc");
    let lists_plugins = postgres.installation().lists_output_plugins();
    let conninfo = postgres
        .conninfo("shop")
        .replace("user=postgres", "user=cdc password=pear");
    let options = ["-d", &conninfo, "--sink", "stdout", "--sample", "0"];
    let mut user = User::new(&mut postgres, &options);

    // Of those that need a restart, each is named, and one restart serves all.
    set(
        &user,
        &[
            "alter system set max_replication_slots = 1",
            "alter system set max_wal_senders = 1",
        ],
    );
    user.postgres.restart();
    let report = user.asks();
    for (id, severity, value) in [
        ("wal_level", "fail", "replica"),
        ("replication_slots", "fail", "1"),
        ("wal_senders", "fail", "1"),
    ] {
        let found = report.of(id)[0];
        assert_eq!(found.severity, severity, "{found:?}");
        assert!(found.found.contains(value), "{found:?}");
        user.postgres
            .psql("postgres", &found.cure.as_ref().unwrap().text);
    }
    user.postgres.restart();
    for id in ["wal_level", "replication_slots", "wal_senders"] {
        user.is_well(id);
    }

    user.hears_and_mends("extension", "fail", "\"shop\"");
    user.is_well("library");
    if lists_plugins {
        user.hears_and_mends("output_plugins", "fail", "output_plugin_libraries");
    } else {
        let found = &user.hears("output_plugins", "skipped")[0].found;
        assert!(found.contains("may not see"), "{found}");
    }
    user.hears_and_mends("slot_wal_limit", "warning", "max_slot_wal_keep_size is -1");
    set(&user, &["alter system set max_slot_wal_keep_size = '64MB'"]);
    user.hears_and_mends("slot_wal_limit", "warning", "64 MB");
    set(&user, &["alter system set wal_sender_timeout = 0"]);
    user.hears_and_mends("wal_sender_timeout", "warning", "is 0");
    set(&user, &["alter system set wal_sender_timeout = '1s'"]);
    user.hears_and_mends("wal_sender_timeout", "warning", "1000 ms");

    // The way in.
    set(&user, &["alter role cdc nologin"]);
    user.hears_and_mends("connection", "fail", "not permitted to log in");
    set(&user, &["alter database shop allow_connections false"]);
    user.hears_and_mends("connection", "fail", "accepting connections");
    set(&user, &["alter role cdc connection limit 0"]);
    user.hears_and_mends("connection", "fail", "too many connections");
    let rules = user.postgres.rules();
    user.postgres.let_in("local all all trust\n");
    user.hears_and_mends("connection", "fail", "pg_hba.conf");
    user.is_well("replication_login");
    user.postgres.let_in(&rules);
    let report = user.asks();
    assert_eq!(report.exit_code, 0, "{:#?}", report.fails());
    assert!(
        !report.next.as_ref().unwrap().contains("pear"),
        "a password is shown: {:?}",
        report.next
    );
}

#[test]
fn a_transaction_that_stays_open_is_named_and_ended() {
    let mut postgres = Options::default()
        .setting("max_prepared_transactions", "5")
        .start();
    let sql = postgres.database("open");
    sql.run("create table items (id int primary key)");
    let conninfo = postgres.conninfo("open");
    let options = ["-d", &conninfo, "--sink", "stdout", "--sample", "0.2"];
    let mut user = User::new(&mut postgres, &options);
    user.is_well("open_transactions");

    let sessions = [user.postgres.session("open"), user.postgres.session("open")];
    sessions[0].run("begin; insert into items values (1)");
    sessions[1].run("begin; insert into items values (2); prepare transaction 'left behind'");
    let found = user.hears("open_transactions", "warning");
    assert_eq!(found.len(), 2, "{found:#?}");
    let text = format!("{found:?}");
    for named in [
        &sessions[0].backend().to_string(),
        "idle in transaction",
        "left behind",
    ] {
        assert!(text.contains(named), "{named} is not named: {text}");
    }
    assert!(!text.contains("insert"), "a statement is shown: {text}");
    let shown = user.asks_with(&["--show-queries"]);
    assert!(format!("{:?}", shown.of("open_transactions")).contains("insert into items"));
    assert_eq!(
        user.asks().exit_code,
        0,
        "a start waits for them, and does not fail"
    );
    assert_eq!(user.asks_with(&["--strict"]).exit_code, 1);
    for found in &found {
        user.mends(found);
    }
    user.is_well("open_transactions");
}

#[test]
fn a_standby_is_told_from_its_primary() {
    let mut primary = Options::default().start();
    primary
        .database("paired")
        .run("create table items (id int primary key)");
    let standby = primary.standby();
    let hosts = |more: &str| {
        format!(
            "host=127.0.0.1,127.0.0.1 port={},{} user=postgres dbname=paired {more}",
            standby.port(),
            primary.port()
        )
    };
    let (first, either) = (hosts(""), hosts("target_session_attrs=read-write"));
    let options = ["-d", &first, "--sink", "stdout", "--sample", "0"];
    let mut user = User::new(&mut primary, &options);
    user.hears_and_heeds("primary", "fail", "is a standby", |user| {
        user.gives("-d", &either);
    });
}
