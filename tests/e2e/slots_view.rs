//! The view `headwater.slots`.

use crate::world::{database_with_slot, postgres};

#[test]
fn slots_are_told_with_what_they_keep_to_everybody() {
    let name = "slots_view";
    let sql = database_with_slot(name);
    sql.run(&format!(
        "select pg_create_logical_replication_slot('{name}_other', 'test_decoding')"
    ));
    sql.run(
        "create table t (body text); insert into t select repeat('x', 1000) from generate_series(1, 2000);
         create role slots_view_reader",
    );
    sql.run("set role slots_view_reader");
    let of_this = format!("from headwater.slots where database = '{name}'");
    assert_eq!(sql.column(&format!("select slot {of_this}")), [name]);
    assert_eq!(
        sql.rows(&format!(
            "select active, active_pid, wal_status, safe_wal_size,
               lag_bytes between 2000000 and retained_wal_bytes,
               (select (restart_lsn, confirmed_flush_lsn) from pg_replication_slots
                where slot_name = slot) = (restart_lsn, confirmed_flush_lsn) {of_this}"
        )),
        [[
            Some("f".to_owned()),
            None,
            Some("reserved".to_owned()),
            None,
            Some("t".to_owned()),
            Some("t".to_owned())
        ]]
    );
    sql.run("reset role");
    // Acknowledged: nothing is outstanding but what came since.
    sql.run(&format!(
        "select count(*) from pg_logical_slot_get_changes('{name}', null, null)"
    ));
    let lag = sql.value(&format!("select lag_bytes < 1000000 {of_this}"));
    assert_eq!(lag, "t");
    // Slots of other databases are told too.
    let elsewhere = postgres().database("slots_view_elsewhere");
    assert_eq!(elsewhere.column(&format!("select slot {of_this}")), [name]);
}
