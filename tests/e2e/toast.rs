//! Values that an update left where they are (TOAST) are not in the WAL.

use headwater_tests::postgres::Options;
use headwater_tests::topic;
use headwater_tests::wait::{SOON, check, eventually};

use crate::poison::UNPRINTABLE;
use crate::world::{World, kafka};

/// A table with a value that Postgres keeps out of line, and an update that does not
/// touch it.
fn documents(world: &World) {
    world.sql.run(
        "create table documents (id int primary key, title text, body text);
         alter table documents alter body set storage external;
         insert into documents values (1, 'first', repeat('0123456789abcdef', 1024))",
    );
}

#[test]
fn fetch_replaces_the_record_by_the_row_as_it_is_now() {
    let world = World::new("toast_fetch");
    documents(&world);
    world.streamed(&[], || {
        world.sql.run("update documents set title = 'second'")
    });
    world.topic_equals_table("documents", "t.id");
    let records = topic::read(world.kafka, &world.topic("documents"));
    let update = records.last().unwrap();
    assert_eq!(update.header("hw.op"), "u");
    assert!(
        update.headers.contains_key("hw.fetched"),
        "{:?}",
        update.headers
    );
    assert!(
        !update.headers.contains_key("hw.unchanged"),
        "{:?}",
        update.headers
    );
}

#[test]
fn fetch_converges_where_the_row_has_moved_on() {
    let world = World::new("toast_moved");
    documents(&world);
    // Each of these is decoded after all of them are committed.
    world.streamed(&[], || {
        world.sql.run(
            "begin;
         update documents set title = 'second';
         update documents set id = 2;
         update documents set title = 'third';
         insert into documents values (3, 'gone soon', repeat('x', 10000));
         update documents set title = 'gone sooner' where id = 3;
         delete from documents where id = 3;
         commit",
        )
    });
    world.topic_equals_table("documents", "t.id");
}

#[test]
fn mark_leaves_the_column_out_and_names_it() {
    let world = World::new("toast_mark");
    documents(&world);
    world.streamed(&["--toast", "mark"], || {
        world.sql.run("update documents set title = 'second'")
    });
    let records = topic::read(world.kafka, &world.topic("documents"));
    let update = records.last().unwrap();
    assert_eq!(
        update.value.as_deref(),
        Some(r#"{"id":1,"title":"second"}"#)
    );
    assert_eq!(update.header("hw.unchanged"), "body");
    assert!(
        !update.headers.contains_key("hw.fetched"),
        "{:?}",
        update.headers
    );
}

#[test]
fn require_full_refuses_tables_that_could_come_to_it_and_names_the_cure() {
    let world = World::new("toast_full");
    documents(&world);
    world
        .stream(&["--toast", "require-full"])
        .wait()
        .expect(1, &["documents", "REPLICA IDENTITY FULL"]);
    assert_eq!(
        world.slots(),
        [] as [&str; 0],
        "a refused start leaves no slot"
    );

    world.sql.run("alter table documents replica identity full");
    world.streamed(&["--toast", "require-full"], || {
        world.sql.run("update documents set title = 'second'")
    });
    world.topic_equals_table("documents", "t.id");
    let records = topic::read(world.kafka, &world.topic("documents"));
    assert!(!records.last().unwrap().headers.contains_key("hw.fetched"));
}

#[test]
fn a_column_may_have_any_name() {
    let world = World::new("toast_names");
    // `t` is also what a query may call the table.
    world.sql.run(
        "create table documents (id int primary key, t text, k text, \"T\"\"q\" text);
         alter table documents alter t set storage external;
         insert into documents values (1, repeat('0123456789abcdef', 1024), 'first', 'x')",
    );
    world.streamed(&[], || world.sql.run("update documents set k = 'second'"));
    world.topic_equals_table("documents", "t.id");
}

#[test]
fn nothing_is_left_out_because_the_extension_is_missing() {
    let world = World::new("toast_extension");
    documents(&world);
    let mut client = world.stream(&[]);
    client.streams();
    world
        .sql
        .run("drop extension headwater; update documents set title = 'second'");
    client.wait().expect(1, &["headwater"]);
    world.sql.run("create extension headwater");
    let mut client = world.stream(&[]);
    client.says("streaming");
    world.catches_up();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("documents", "t.id");
}

#[test]
fn a_key_whose_type_has_changed_since_is_left_out_and_stops_nothing() {
    let world = World::new("toast_retyped");
    documents(&world);
    world.sql.run("update documents set id = 987654321");
    let mut client = world.stream(&[]);
    client.streams();
    // The update is decoded when no row can have its key any more.
    world.sql.run(
        "begin;
         update documents set title = 'second';
         alter table documents alter id drop default,
             alter id type uuid using '00000000-0000-0000-0000-000000000001'::uuid;
         commit;
         insert into documents values ('00000000-0000-0000-0000-000000000002', 'next', 'short')",
    );
    world.catches_up();
    let ended = client.terminate();
    ended.expect(0, &[]);
    assert!(
        !ended.stderr.contains("987654321"),
        "no key in the log: {}",
        ended.stderr
    );
    let next = "{\"id\":\"00000000-0000-0000-0000-000000000002\"}";
    assert!(world.folded("documents").contains_key(next));
}

#[test]
fn a_row_that_cannot_be_encoded_when_it_is_read_stops_the_stream_by_the_updates_name() {
    let world = World::new("toast_unprintable");
    world.sql.run(UNPRINTABLE);
    documents(&world);
    world
        .sql
        .run("alter table documents add column value unprintable");
    let mut client = world.stream(&[]);
    client.streams();
    // The first is fine by itself; the row as it is when it is read is not.
    world.sql.run(
        "begin; update documents set title = 'second'; update documents set value = '1'; commit",
    );
    let ended = client.wait();
    ended.expect(
        5,
        &[
            "toast_unprintable.documents",
            "cannot be encoded",
            "\"value\"",
        ],
    );
    let hint = ended.stderr.split("--quarantine ").nth(1).unwrap();
    let first: String = hint.chars().take_while(|c| !" ;".contains(*c)).collect();
    let (lsn, seq) = first.split_once(':').unwrap();
    assert_eq!(seq, "0", "the first of the two: {first}");
    let both = format!("{first},{lsn}:1");
    let mut client = world.stream(&["--quarantine", &both]);
    client.streams();
    world.catches_up();
    client.terminate().expect(0, &["change left out"]);
    assert_eq!(
        topic::read(world.kafka, &world.topic("documents")).len(),
        1,
        "the topic keeps what it had"
    );
}

#[test]
fn the_server_is_answered_while_a_locked_table_is_waited_for() {
    let postgres = Options::default()
        .setting("wal_sender_timeout", "2s")
        .start();
    let world = World::on(&postgres, kafka(), "toast_locked");
    documents(&world);
    let mut client = world.stream(&[]);
    client.streams();
    let pid = "select active_pid from pg_replication_slots where slot_name = 'toast_locked'";
    let walsender = world.sql.value(pid);
    let locker = world.session();
    locker.run("begin; lock table documents in access exclusive mode; update documents set title = 'second'");
    locker.run("commit; begin; lock table documents in access exclusive mode");
    // Twice the timeout: the lock's age is the clock.
    eventually("the lock is old", SOON, || {
        let old = world.sql.holds(
            "select coalesce(bool_or(now() - xact_start > interval '4 s'), false) \
             from pg_stat_activity where query like '%lock table documents%' and state = 'idle in transaction'",
        );
        check(old, || "not yet".into())
    });
    assert_eq!(world.sql.value(pid), walsender, "the same connection");
    locker.run("commit");
    world.catches_up();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("documents", "t.id");
}

#[test]
fn a_key_that_is_dropped_and_made_again_is_named_and_found_again() {
    let world = World::new("toast_rekeyed");
    documents(&world);
    let mut client = world.stream(&[]);
    client.streams();
    // The update is decoded when the table has no key.
    world.sql.run(
        "begin;
         update documents set title = 'second';
         alter table documents drop constraint documents_pkey;
         commit",
    );
    let said = client.says("table is stale");
    assert!(said.contains("toast_rekeyed.documents"), "{said}");
    world
        .sql
        .run("alter table documents add primary key (id); update documents set title = 'third'");
    world.catches_up();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("documents", "t.id");
}

#[test]
fn a_table_that_comes_to_leave_values_out_is_noticed_under_require_full() {
    for (name, alter) in [
        (
            "toast_added",
            "alter table items add column body text; alter table items alter body set storage external",
        ),
        (
            "toast_stored",
            "alter table items alter body set storage external",
        ),
    ] {
        let world = World::new(name);
        world
            .sql
            .run("create table items (id int primary key, n int)");
        if name == "toast_stored" {
            world.sql.run(
                "alter table items add column body text;
                 alter table items alter body set storage plain",
            );
        }
        let mut client = world.stream(&["--toast", "require-full"]);
        client.streams();
        world.sql.run(alter);
        world
            .sql
            .run("insert into items (id, n, body) values (1, 1, repeat('x', 10000))");
        world.catches_up();
        world.sql.run("update items set n = 2");
        client.wait().expect(
            5,
            &[
                &format!("{name}.items"),
                "out of the WAL: body",
                "--toast fetch",
                &format!("ALTER TABLE \"{name}\".\"items\" REPLICA IDENTITY FULL"),
            ],
        );
        let mut client = world.stream(&["--toast", "fetch"]);
        client.streams();
        world.catches_up();
        client.terminate().expect(0, &[]);
        world.topic_equals_table("items", "t.id");
    }
}

#[test]
fn a_key_stored_out_of_line_is_no_new_key_when_an_update_leaves_it() {
    let world = World::new("toast_key");
    // 2,496 bytes: out of line in the table, and not too long for its index.
    world.sql.run(
        "create table letters (id text primary key, n int);
         alter table letters alter id set storage external;
         insert into letters select string_agg(md5(i::text), ''), 1 from generate_series(1, 78) i",
    );
    assert!(
        world.sql.holds(
            "select pg_relation_size(reltoastrelid) > 0 from pg_class where oid = 'letters'::regclass"
        ),
        "the key is in line: this would prove nothing"
    );
    let mut client = world.stream(&[]);
    client.streams();
    world.sql.run("update letters set n = 2");
    world.catches_up();
    world.sql.run("update letters set id = reverse(id)");
    world.sql.run("update letters set n = 3");
    world.catches_up();
    world.topic_equals_table("letters", "t.id");
    world.sql.run("delete from letters");
    world.catches_up();
    client.terminate().expect(0, &[]);
    world.topic_equals_table("letters", "t.id");
    let records = topic::read(world.kafka, &world.topic("letters"));
    let operations: Vec<_> = records
        .iter()
        .map(|record| (record.header("hw.op"), record.value.is_some()))
        .collect();
    let mut expected = vec![
        ("d", false),
        ("d", false),
        ("r", true),
        ("u", true),
        ("u", true),
        ("u", true),
    ];
    let mut found = operations.clone();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(
        found, expected,
        "one tombstone for each key: {operations:?}"
    );
}
