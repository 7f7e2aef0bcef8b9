//! From the snapshot to the stream: nothing is lost between them, nothing comes twice at
//! rest, whatever happens to the tables in between.

use headwater_tests::session::Session;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Kafka, Postgres, Random};

use crate::workload::{self, Writers};
use crate::world::World;

/// Waits until the client has exported its snapshot: its slot is there and temporary.
fn snapshot_is_exported(world: &World<'_>) {
    eventually("the snapshot's slot", SOON, || {
        let slots = world.sql.value(
            "select count(*) from pg_replication_slots \
             where temporary and confirmed_flush_lsn is not null and database = current_database()",
        );
        check(slots == "1", || format!("{slots} slots"))
    });
}

/// Runs DDL in a thread of its own: it has to wait.
fn in_background(session: Session, ddl: &'static str) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || session.run(ddl))
}

#[test]
fn rewrites_and_truncates_wait_for_the_copy_and_nothing_is_lost() {
    let (postgres, kafka) = (Postgres::new(), Kafka::new());
    let world = World::on(&postgres, &kafka, "handoff");
    workload::create_tables(&world.sql, 60_000);
    world.sql.run(
        "create table large as select n as id, repeat('x', 300) as pad from generate_series(1, 300000) n;
         alter table large add primary key (id);
         create table rewritten as select n as id, n as v from generate_series(1, 20000) n;
         alter table rewritten add primary key (id);
         create table truncated as select * from rewritten;
         alter table truncated add primary key (id);
         create table parted (id int primary key, v int) partition by hash (id);
         create table parted_0 partition of parted for values with (modulus 2, remainder 0);
         create table parted_1 partition of parted for values with (modulus 2, remainder 1);
         insert into parted select * from rewritten",
    );
    let mut random = Random::from_environment("handoff");
    let conninfo = postgres.local_conninfo("handoff");
    let writers = Writers::start(2, &mut random, move || {
        let session = Session::connect(&conninfo)?;
        session
            .attempt("set search_path = handoff, public")
            .map(|_| session)
    });

    let mut client = world.stream(&["--truncate", "tombstone", "--snapshot-workers", "2"]);
    snapshot_is_exported(&world);
    let ddl = [
        in_background(world.session(), "alter table rewritten alter v type bigint"),
        in_background(
            world.session(),
            "truncate truncated; insert into truncated values (1, 1), (2, 2)",
        ),
        // Of the partitions alone it would not have to wait.
        in_background(world.session(), "alter table parted rename to renamed"),
    ];
    let blocked = eventually("all wait for the client's guard", SOON, || {
        let blocked = world.sql.rows(
            "select left(query, 20) from pg_stat_activity \
             where wait_event_type = 'Lock' and (query like 'alter table %' or query like 'truncate%')",
        );
        check(blocked.len() == 3, || format!("{blocked:?}")).map(|()| blocked)
    });
    assert_eq!(blocked.len(), 3);
    client.streams();
    for statement in ddl {
        statement.join().unwrap();
    }
    world.sql.run(
        "insert into rewritten values (20001, 3000000000); insert into renamed values (20001, 1)",
    );
    writers.stop();
    world.catches_up();
    client.terminate().expect(0, &[]);

    for table in ["large", "rewritten", "truncated"] {
        world.topic_equals_table(table, "t.id");
    }
    for (table, key) in workload::TABLES {
        world.topic_equals_table(table, key);
    }
    assert_eq!(
        world.folded("parted").len(),
        20_000,
        "copied under the name that it had"
    );
    assert_eq!(world.folded("renamed").len(), 1);
    assert_eq!(world.slots(), ["handoff"]);
}

#[test]
fn a_killed_snapshot_leaves_no_slot_and_holds_no_wal_back() {
    let (postgres, kafka) = (Postgres::new(), Kafka::new());
    let world = World::on(&postgres, &kafka, "killed_snapshot");
    workload::create_tables(&world.sql, 200_000);
    let client = world.stream(&[]);
    snapshot_is_exported(&world);
    client.kill();
    eventually("the slot goes with its connection", SOON, || {
        let slots = world.slots();
        check(slots.is_empty(), || format!("{slots:?}"))
    });
    // Rows that the first attempt has sent are gone before the second one.
    world.sql.run("delete from orders where id % 3 = 0");
    let mut client = world.stream(&[]);
    client.streams();
    world.catches_up();
    client.terminate().expect(0, &[]);
    for (table, key) in workload::TABLES {
        world.topic_equals_table(table, key);
    }
}

#[test]
fn a_snapshot_alone_ends_by_itself_and_leaves_no_slot() {
    let world = World::new("snapshot_only");
    workload::create_tables(&world.sql, 1_000);
    world.stream(&["--snapshot", "only"]).wait().expect(0, &[]);
    assert_eq!(world.slots(), [] as [&str; 0]);
    for (table, key) in workload::TABLES {
        world.topic_equals_table(table, key);
    }
}

#[test]
fn partitions_unlogged_and_keyless_tables_are_dealt_with() {
    let world = World::new("odd_tables");
    world.sql.run(
        "create table events (id int, at date, primary key (id, at)) partition by range (at);
         create table events_1 partition of events for values from ('2024-01-01') to ('2024-02-01');
         create table events_2 partition of events for values from ('2024-02-01') to ('2024-03-01');
         insert into events values (1, '2024-01-05'), (2, '2024-02-05');
         create unlogged table scratch (id int primary key);
         insert into scratch values (1);
         create table items (id int primary key);
         insert into items values (1)",
    );
    let mut client = world.stream(&[]);
    client.streams();
    assert!(
        client.stderr().contains("odd_tables.scratch"),
        "{}",
        client.stderr()
    );
    world
        .sql
        .run("insert into events values (3, '2024-02-06'); insert into items values (2)");
    world.catches_up();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("items", "t.id");
    world.topic_equals_table("events", "t.id, t.at");

    // A table without key is refused by name before anything starts.
    let other = World::new("keyless");
    other
        .sql
        .run("create table log (line text); insert into log values ('a')");
    other.stream(&[]).wait().expect(1, &["keyless.log"]);
    assert_eq!(other.slots(), [] as [&str; 0]);
    let mut client = other.stream(&["--unkeyed", "skip"]);
    client.streams();
    client.terminate().expect(0, &[]);
}

#[test]
fn a_transaction_that_comes_to_want_a_table_is_let_through() {
    let (postgres, kafka) = (Postgres::new(), Kafka::new());
    let world = World::on(&postgres, &kafka, "migration");
    world.sql.run(
        "create table items (id int primary key, name text); insert into items values (1, 'old')",
    );
    // A migration of several statements: the slot waits for its end, and it is about to
    // wait for the table.
    let migration = world.session();
    migration.run("begin; create table step (id int primary key)");
    let mut client = world.stream(&[]);
    eventually("the slot waits for the migration", SOON, || {
        let waiting = world.sql.value(
            "select count(*) from pg_stat_activity \
             where query like 'CREATE_REPLICATION_SLOT%' and wait_event_type = 'Lock'",
        );
        check(waiting == "1", || format!("{waiting} sessions"))
    });
    let migration = std::thread::spawn(move || {
        migration.run("alter table items add column more int default 7");
        migration.run("commit");
    });
    client.streams();
    migration.join().unwrap();
    world.sql.run("insert into items values (2, 'new', 8)");
    world.catches_up();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("items", "t.id");
    assert_eq!(world.slots(), ["migration"]);
}
