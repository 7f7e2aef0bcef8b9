//! The WAL that slots keep, and lose.

use headwater_tests::postgres::Options;
use headwater_tests::session::Session;

use super::printed::User;

/// Of WAL: what a segment takes.
const SEGMENT_MB: usize = 16;

/// Writes so many megabytes of WAL.
fn writes(sql: &Session, megabytes: usize) {
    for _ in 0..megabytes / SEGMENT_MB {
        sql.run("select pg_logical_emit_message(false, 'headwater-test', 'filled')");
        sql.run("select pg_switch_wal()");
    }
}

#[test]
fn what_slots_keep_and_what_they_have_lost_is_named_and_mended() {
    let mut postgres = Options::default().start();
    let sql = postgres.database("kept");
    sql.run("create table items (id int primary key)");
    let conninfo = postgres.conninfo("kept");
    let options = [
        "-d", &conninfo, "--sink", "stdout", "--sample", "0", "-S", "own",
    ];
    let mut user = User::new(&mut postgres, &options);
    let limit = |megabytes: usize| {
        sql.run(&format!(
            "alter system set max_slot_wal_keep_size = '{megabytes}MB'"
        ));
        sql.run("select pg_reload_conf()");
    };
    let make = |slot: &str| {
        sql.run(&format!(
            "select pg_create_logical_replication_slot('{slot}', 'headwater')"
        ));
    };

    make("forgotten");
    writes(&sql, 1100);
    user.hears_and_mends("retained_wal", "warning", "nobody reads");

    make("slow");
    limit(96);
    writes(&sql, 80);
    user.hears_and_mends("retained_wal", "warning", "is near");

    make("own");
    limit(1);
    writes(&sql, 64);
    sql.run("checkpoint");
    let report = user.asks();
    assert_eq!(report.exit_code, 3, "{:#?}", report.fails());
    user.hears_and_mends("slot", "fail", "has lost WAL");
    let report = user.asks();
    let lost: Vec<_> = report
        .of("retained_wal")
        .into_iter()
        .filter(|found| found.severity == "warning")
        .collect();
    assert_eq!(lost.len(), 2, "{lost:#?}");
    for found in lost {
        // What becomes of its own is the stream's to do.
        let is_own = found.found.contains("\"own\"");
        assert_eq!(found.cure.is_none(), is_own, "{found:?}");
        if !is_own {
            user.mends(found);
        }
    }
    sql.run("select pg_drop_replication_slot('own')");
    user.is_well("retained_wal");
}
