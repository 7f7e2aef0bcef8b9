//! What the role lacks, and what it has too much.

use super::printed::User;
use headwater_tests::postgres::Options;

#[test]
fn each_right_is_named_and_granted() {
    let mut postgres = Options::default().start();
    let sql = postgres.database("rights");
    sql.run("create schema \"my shop\"; create table \"my shop\".items (id int primary key)");
    sql.run("create table other (id int primary key)");
    sql.run("create role cdc login");
    let conninfo = postgres
        .conninfo("rights")
        .replace("user=postgres", "user=cdc");
    let options = ["-d", &conninfo, "--sink", "stdout", "--sample", "0"];
    let mut user = User::new(&mut postgres, &options);

    user.hears_and_mends("may_replicate", "fail", "\"cdc\"");
    user.is_well("replication_login");
    let reads_none = ["--snapshot", "never", "--toast", "mark"];
    let select = user.asks_with(&reads_none).of("select")[0].clone();
    assert_eq!(select.severity, "ok", "{select:?}");
    assert!(select.found.contains("2 of 2"), "{select:?}");
    user.hears_and_mends("select", "fail", "2 of 2");
    sql.run("revoke usage on schema \"my shop\" from cdc");
    user.hears_and_mends("select", "fail", "schema");
    sql.run("revoke usage on schema headwater from public");
    sql.run("revoke execute on function pg_logical_emit_message(boolean, text, text) from public");
    user.hears_and_mends("functions", "fail", "pg_logical_emit_message");
    sql.run("alter table other enable row level security");
    let report = user.asks_with(&reads_none);
    assert_eq!(report.of("row_security")[0].severity, "ok");
    user.hears_and_mends("row_security", "fail", "public.other");
    assert_eq!(user.asks().exit_code, 0);

    // The script makes a role that can do all that a stream does.
    sql.run("revoke usage on schema headwater from cdc; grant usage on schema headwater to public");
    sql.run("grant execute on function pg_logical_emit_message(boolean, text, text) to public");
    sql.run("alter table other disable row level security; alter role cdc superuser");
    let found = user.hears("superuser", "warning");
    user.mends(&found[0]);
    user.arguments
        .extend(["-U".to_owned(), "headwater".to_owned()]);
    let report = user.asks();
    assert_eq!(report.fails().len(), 0, "{:#?}", report.fails());
    assert_eq!(report.of("superuser")[0].severity, "ok");
}
