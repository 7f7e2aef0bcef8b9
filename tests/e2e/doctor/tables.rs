//! What the tables are like, under the options of a stream.

use super::printed::User;
use headwater_tests::postgres::Options;

#[test]
fn each_table_that_is_not_fit_is_named_and_mended() {
    let mut postgres = Options::default().start();
    let sql = postgres.database("fit");
    sql.run("create table items (id int primary key)");
    let conninfo = postgres.conninfo("fit");
    let options = ["-d", &conninfo, "--sink", "stdout", "--sample", "0"];
    let mut user = User::new(&mut postgres, &options);

    sql.run("create table secret (id int primary key); create schema kept; create table kept.back (id int primary key)");
    sql.run("alter database fit set headwater.tables = 'public.*,a.*,a_b.*'");
    sql.run("alter database fit set headwater.exclude_columns = 'public.secret.id'");
    user.hears_and_mends("limits", "fail", "a column of its key");
    let limits = &user.asks().of("limits")[0].found.clone();
    assert!(limits.contains("kept.back (headwater.tables)"), "{limits}");
    sql.run("alter database fit reset headwater.exclude_columns");

    sql.run("create table nothing_unique (n int); insert into nothing_unique values (1), (1)");
    sql.run("create table has_index (n int not null unique, m int unique)");
    sql.run(
        "create table has_key (n int primary key); alter table has_key replica identity nothing",
    );
    user.hears_and_mends(
        "keys",
        "fail",
        "public.has_index, public.has_key, public.nothing_unique",
    );

    sql.run("create table parts (id int primary key) partition by range (id)");
    sql.run("create table parts_1 partition of parts for values from (0) to (10)");
    sql.run("alter table parts_1 replica identity nothing");
    user.hears_and_mends("identity", "fail", "public.parts_1");

    sql.run("create unlogged table quick (id int primary key)");
    user.hears_and_mends("left_out", "warning", "public.quick");

    sql.run(
        "create foreign data wrapper elsewhere; create server other foreign data wrapper elsewhere",
    );
    sql.run("create foreign table far (id int) server other");
    user.hears_and_mends("left_out", "warning", "public.far");

    sql.run("create table wide (id int primary key, body text)");
    let found = &user.asks().checks;
    let toast = found.iter().find(|found| found.id == "toast").unwrap();
    assert_eq!(toast.severity, "ok", "rows are read again: {toast:?}");
    user.arguments
        .extend(["--toast".to_owned(), "mark".to_owned()]);
    user.hears_and_mends("toast", "warning", "public.wide");
    sql.run("alter table wide replica identity default");
    user.gives("--toast", "require-full");
    user.hears_and_mends("toast", "fail", "public.wide");

    sql.run("create table shapes (id int primary key, place point, places point[], name text)");
    let report = user.asks();
    let types = &report.of("types")[0].found;
    for (column, is_named) in [
        ("place (point)", true),
        ("places (point[])", true),
        ("name", false),
    ] {
        assert_eq!(types.contains(column), is_named, "{column} in {types}");
    }
    sql.run("drop table shapes");

    sql.run("create schema a; create schema a_b");
    sql.run("create table a.b_c (id int primary key); create table a_b.c (id int primary key)");
    user.hears_and_mends("topic_names", "fail", "\"a_b\".\"c\"");

    user.arguments
        .extend(["--snapshot-mode".to_owned(), "chunked".to_owned()]);
    user.hears_and_mends("chunks", "fail", "chunked");

    user.arguments.extend(["-t".to_owned(), "itmes".to_owned()]);
    user.hears_and_heeds("patterns", "fail", "itmes", |user| {
        user.gives("-t", "items");
    });
    sql.run("drop table items");
    user.hears("patterns", "fail");
}

#[test]
fn tables_without_a_key_that_are_meant_are_warned_of_and_can_have_one() {
    let mut postgres = Options::default().start();
    let sql = postgres.database("meant");
    sql.run("create table events (n int)");
    let conninfo = postgres.conninfo("meant");
    let options = ["-d", &conninfo, "--sink", "stdout", "--sample", "0"];
    let mut user = User::new(&mut postgres, &options);
    user.arguments
        .extend(["--unkeyed".to_owned(), "skip".to_owned()]);
    user.hears_and_mends("keys", "warning", "left out: public.events");
    sql.run("create table clicks (n int)");
    user.gives("--unkeyed", "send");
    user.hears_and_mends("keys", "warning", "find no record: public.clicks");

    sql.run("drop table events; drop table clicks");
    user.hears_and_heeds("patterns", "warning", "no table is captured", |_| {
        sql.run("create table items (id int primary key)");
    });
}

#[test]
fn a_table_that_takes_no_key_of_its_own_is_offered_none() {
    let mut postgres = Options::default().start();
    let sql = postgres.database("keyless");
    sql.run("create table deferred (n int primary key deferrable)");
    sql.run("create table parts (n int) partition by range (n)");
    sql.run("create table part partition of parts for values from (0) to (10)");
    sql.run("create table parent (n int); create table child () inherits (parent)");
    sql.run("create type shape as (n int); create table typed of shape");
    sql.run("create table plain (n int)");
    let conninfo = postgres.conninfo("keyless");
    let options = ["-d", &conninfo, "--sink", "stdout", "--sample", "0"];
    let mut user = User::new(&mut postgres, &options);
    user.arguments
        .extend(["--partitions".to_owned(), "leaf".to_owned()]);
    user.hears_and_mends("keys", "fail", "public.deferred");
}

#[test]
fn text_of_an_unknown_encoding_is_named() {
    let mut postgres = Options::default().start();
    postgres
        .session("postgres")
        .run("create database ascii encoding 'SQL_ASCII' locale 'C' template template0");
    postgres.session("ascii").run("create extension headwater");
    let conninfo = postgres.conninfo("ascii");
    let options = ["-d", &conninfo, "--sink", "stdout", "--sample", "0"];
    User::new(&mut postgres, &options).hears_and_mends("encoding", "fail", "SQL_ASCII");
}
