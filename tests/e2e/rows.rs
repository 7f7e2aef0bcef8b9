//! Every way to write a row. Postgres' table is the oracle: the topic, compacted, comes to
//! it; and where the way there matters, so do the records, one by one.

use headwater_tests::postgres::Options;
use headwater_tests::topic::{self, Record};
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Postgres};

use crate::world::{World, kafka, postgres};

/// A stream that has begun on tables of a test's own.
struct Streamed<'s> {
    world: World<'s>,
    client: Client,
}

/// Starts a stream after `tables` were made.
#[track_caller]
fn stream(name: &str, tables: &str) -> Streamed<'static> {
    stream_on(postgres(), name, tables)
}

#[track_caller]
fn stream_on<'s>(server: &'s Postgres, name: &str, tables: &str) -> Streamed<'s> {
    let world = World::on(server, kafka(), name);
    world.sql.run(tables);
    let mut client = world.stream(&[]);
    client.streams();
    Streamed { world, client }
}

impl<'s> Streamed<'s> {
    /// Runs statements: one transaction, unless they say otherwise.
    #[track_caller]
    fn writes(self, sql: &str) -> Self {
        self.world.sql.run(sql);
        self
    }

    /// Ends the stream once everything is delivered.
    #[track_caller]
    fn ends(self) -> World<'s> {
        self.world.catches_up();
        self.client.terminate().expect(0, &[]);
        self.world
    }
}

/// The records of a table's topic after the snapshot's: operation, key and, unless the
/// record is a tombstone, the value.
#[track_caller]
fn told(world: &World<'_>, table: &str) -> Vec<String> {
    let streamed = |record: &Record| record.header("hw.op") != "r";
    let text = |record: &Record| {
        let key = record.key.as_deref().unwrap_or("no key");
        match &record.value {
            Some(value) => format!("{} {key} {value}", record.header("hw.op")),
            None => format!("{} {key}", record.header("hw.op")),
        }
    };
    let records = topic::read(world.kafka, &world.topic(table));
    records.iter().filter(|r| streamed(r)).map(text).collect()
}

#[test]
fn what_a_savepoint_takes_back_never_was() {
    let world = stream(
        "rows_savepoints",
        "create table t (id int primary key, n int)",
    )
    .writes(
        "begin; insert into t values (1, 0);
             savepoint a; insert into t values (2, 0);
               savepoint b; insert into t values (3, 0); rollback to b;
               insert into t values (4, 0);
             release a;
             savepoint c; update t set n = 1 where id = 1; rollback to c;
             update t set n = 2 where id = 4; delete from t where id = 2; rollback to c;
             insert into t values (6, 0); commit",
    )
    .ends();
    assert_eq!(
        told(&world, "t"),
        [1, 2, 4, 6].map(|id| format!("c {{\"id\":{id}}} {{\"id\":{id},\"n\":0}}"))
    );
    world.topic_equals_table("t", "t.id");
}

#[test]
fn what_an_exception_takes_back_never_was() {
    let world = stream("rows_exceptions", "create table t (id int primary key)")
        .writes(
            "do $$ begin
                 for n in 1..20 loop
                     begin
                         insert into t values (n);
                         if n % 3 = 0 then perform 1 / 0; end if;
                     exception when division_by_zero then
                         insert into t values (-n);
                     end;
                 end loop;
             end $$",
        )
        .ends();
    let ids = (1..=20).map(|n| if n % 3 == 0 { -n } else { n });
    let expected: Vec<String> = ids
        .map(|id| format!("c {{\"id\":{id}}} {{\"id\":{id}}}"))
        .collect();
    assert_eq!(told(&world, "t"), expected);
    world.topic_equals_table("t", "t.id");
}

#[test]
fn a_prepared_transaction_arrives_once_and_when_it_commits() {
    let server = Options::default()
        .setting("max_prepared_transactions", "10")
        .start();
    let streamed = stream_on(
        &server,
        "rows_prepared",
        "create table t (id int primary key)",
    )
    .writes("begin; insert into t values (1); prepare transaction 'kept'")
    .writes("begin; insert into t values (2); prepare transaction 'lost'")
    .writes("insert into t values (3)");
    streamed.world.catches_up();
    assert_eq!(told(&streamed.world, "t"), ["c {\"id\":3} {\"id\":3}"]);
    let world = streamed
        .writes("commit prepared 'kept'")
        .writes("rollback prepared 'lost'")
        .ends();
    let expected = [3, 1].map(|id| format!("c {{\"id\":{id}}} {{\"id\":{id}}}"));
    assert_eq!(told(&world, "t"), expected);
    world.topic_equals_table("t", "t.id");
}

#[test]
fn copied_rows_arrive_in_their_order() {
    let copy = |table: &str, options: &str| {
        format!(
            "do $$ declare file text := current_setting('data_directory') || '/rows_copied'; begin
                 execute format('copy (select n, ''row '' || n from generate_series(1, 3000) n) to %L', file);
                 execute format('copy {table} from %L {options}', file);
             end $$"
        )
    };
    let world = stream(
        "rows_copied",
        "create table t (id int primary key, body text)",
    )
    .writes(&copy("t", ""))
    .writes(&format!(
        "begin; create table frozen (id int primary key, body text); {}; commit",
        copy("frozen", "with (freeze)")
    ))
    .ends();
    let expected: Vec<String> = (1..=3000)
        .map(|n| format!("c {{\"id\":{n}}} {{\"id\":{n},\"body\":\"row {n}\"}}"))
        .collect();
    assert_eq!(told(&world, "t"), expected);
    assert_eq!(told(&world, "frozen"), expected);
    world.topic_equals_table("frozen", "t.id");
}

#[test]
fn an_upsert_is_an_insert_or_an_update() {
    let world = stream(
        "rows_upserted",
        "create table t (id int primary key, n int); insert into t values (1, 0)",
    )
    .writes(
        "insert into t values (1, 10), (2, 20) on conflict (id) do update set n = excluded.n;
         insert into t values (2, 30), (3, 30) on conflict do nothing",
    )
    .ends();
    assert_eq!(
        told(&world, "t"),
        [
            "u {\"id\":1} {\"id\":1,\"n\":10}",
            "c {\"id\":2} {\"id\":2,\"n\":20}",
            "c {\"id\":3} {\"id\":3,\"n\":30}",
        ]
    );
    world.topic_equals_table("t", "t.id");
}

/// An upsert writes its row before it knows of a rival, and takes it back when there is
/// one. The index calls a function, first to look for a rival and then to enter the row;
/// there it waits until the rival has committed.
#[test]
fn what_an_upsert_took_back_for_a_rival_never_was() {
    let streamed = stream(
        "rows_rivals",
        "create function entered(n int) returns int immutable language plpgsql as $$
         declare calls int := coalesce(nullif(current_setting('rivals.calls', true), ''), '-1');
         begin
             if calls >= 0 then
                 perform set_config('rivals.calls', (calls + 1)::text, false);
                 if calls = 1 then perform pg_advisory_xact_lock(1); end if;
             end if;
             return n;
         end $$;
         create table t (id int primary key, n int, who text);
         create unique index on t (entered(n))",
    );
    let (controller, slow) = (streamed.world.session(), streamed.world.session());
    controller.run("select pg_advisory_lock(1)");
    let backend = slow.backend();
    let slow = std::thread::spawn(move || {
        slow.run("set rivals.calls = 0");
        slow.run(
            "insert into t values (1, 5, 'slow') on conflict (entered(n)) do update set who = 'slow'",
        );
        slow.value("show rivals.calls")
    });
    eventually("the upsert waits", SOON, || {
        let waiting = controller.value(&format!(
            "select count(*) from pg_locks where locktype = 'advisory' and not granted and pid = {backend}"
        ));
        check(waiting == "1", || format!("{waiting} locks waited for"))
    });
    let streamed = streamed.writes("insert into t values (2, 5, 'rival')");
    controller.run("select pg_advisory_unlock(1)");
    let calls: u32 = slow.join().unwrap().parse().unwrap();
    assert!(calls > 2, "it looked for a rival again: {calls} calls");
    let world = streamed.ends();
    assert_eq!(
        told(&world, "t"),
        [
            r#"c {"id":2} {"id":2,"n":5,"who":"rival"}"#,
            r#"u {"id":2} {"id":2,"n":5,"who":"slow"}"#,
        ]
    );
    world.topic_equals_table("t", "t.id");
}

#[test]
fn a_merge_is_what_it_did_to_each_row() {
    let streamed = stream(
        "rows_merged",
        "create table t (id int primary key, n int); insert into t values (1, 0), (2, 0)",
    );
    if !streamed
        .world
        .sql
        .holds("select current_setting('server_version_num')::int >= 150000")
    {
        return;
    }
    let world = streamed
        .writes(
            "merge into t using (values (1), (2), (3)) v(id) on t.id = v.id
             when matched and t.id = 1 then delete
             when matched then update set n = 5
             when not matched then insert values (v.id, 7)",
        )
        .ends();
    let mut told = told(&world, "t");
    // In which order it joins is the planner's to say.
    told.sort();
    assert_eq!(
        told,
        [
            "c {\"id\":3} {\"id\":3,\"n\":7}",
            "d {\"id\":1}",
            "u {\"id\":2} {\"id\":2,\"n\":5}",
        ]
    );
    world.topic_equals_table("t", "t.id");
}

#[test]
fn statements_that_write_by_joining_are_their_rows() {
    let world = stream(
        "rows_joined",
        "create table t (id int primary key, n int); create table u (id int primary key, n int);
         insert into t select n, 0 from generate_series(1, 6) n; insert into u select n, n from generate_series(1, 3) n",
    )
    .writes("update t set n = u.n * 10 from u where u.id = t.id")
    .writes("delete from t using u where t.id = u.id + 3")
    .writes(
        "with gone as (delete from u where id = 1 returning id),
              moved as (update u set id = 30 where id = 3 returning id),
              made as (insert into u select id + 100, 0 from gone returning id)
         insert into t select id, -1 from made",
    )
    .ends();
    world.topic_equals_table("t", "t.id");
    world.topic_equals_table("u", "t.id");
    let mut of_t = told(&world, "t");
    of_t.sort();
    assert_eq!(
        of_t,
        [
            "c {\"id\":101} {\"id\":101,\"n\":-1}",
            "d {\"id\":4}",
            "d {\"id\":5}",
            "d {\"id\":6}",
            "u {\"id\":1} {\"id\":1,\"n\":10}",
            "u {\"id\":2} {\"id\":2,\"n\":20}",
            "u {\"id\":3} {\"id\":3,\"n\":30}",
        ]
    );
}

#[test]
fn a_key_that_changes_leaves_a_tombstone_each_time() {
    let tables = "create table t (id int primary key, n int);
         insert into t select n, n from generate_series(1, 9) n";
    let world = stream("rows_moved", tables)
        // Twice in one transaction.
        .writes(
            "begin; update t set id = 11 where id = 1; update t set id = 21 where id = 11; commit",
        )
        // There and back.
        .writes(
            "begin; update t set id = 12 where id = 2; update t set id = 2 where id = 12; commit",
        )
        // Two rows exchange their keys.
        .writes(
            "begin; update t set id = -3 where id = 3; update t set id = 3 where id = 4;
             update t set id = 4 where id = -3; commit",
        )
        // Gone and made anew.
        .writes("begin; delete from t where id = 5; insert into t values (5, 50); commit")
        // Into the place of a row that is gone.
        .writes("begin; delete from t where id = 6; update t set id = 6 where id = 7; commit")
        // All at once.
        .writes("update t set id = id + 100 where id in (8, 9)")
        .ends();
    let row = |op: &str, id: i32, n: i32| format!("{op} {{\"id\":{id}}} {{\"id\":{id},\"n\":{n}}}");
    let gone = |id: i32| format!("d {{\"id\":{id}}}");
    let expected = [
        [gone(1), row("u", 11, 1), gone(11), row("u", 21, 1)],
        [gone(2), row("u", 12, 2), gone(12), row("u", 2, 2)],
        [gone(3), row("u", -3, 3), gone(4), row("u", 3, 4)],
        [gone(-3), row("u", 4, 3), gone(5), row("c", 5, 50)],
        [gone(6), gone(7), row("u", 6, 7), gone(8)],
    ];
    let last = [row("u", 108, 8), gone(9), row("u", 109, 9)];
    assert_eq!(told(&world, "t"), [expected.as_flattened(), &last].concat());
    world.topic_equals_table("t", "t.id");
}

#[test]
fn a_key_of_several_columns_is_in_the_order_of_its_index() {
    let world = stream(
        "rows_composite",
        "create table t (n int, note text, region text, primary key (region, n));
         insert into t values (1, 'a', 'it''s \"here\"'), (2, 'b', 'there')",
    )
    .writes("update t set n = 3 where n = 1")
    .writes("update t set region = 'elsewhere' where n = 2")
    .writes("update t set note = 'c' where n = 2")
    .writes("delete from t where n = 3")
    .ends();
    assert_eq!(
        told(&world, "t"),
        [
            r#"d {"region":"it's \"here\"","n":1}"#,
            r#"u {"region":"it's \"here\"","n":3} {"n":3,"note":"a","region":"it's \"here\""}"#,
            r#"d {"region":"there","n":2}"#,
            r#"u {"region":"elsewhere","n":2} {"n":2,"note":"b","region":"elsewhere"}"#,
            r#"u {"region":"elsewhere","n":2} {"n":2,"note":"c","region":"elsewhere"}"#,
            r#"d {"region":"it's \"here\"","n":3}"#,
        ]
    );
    world.topic_equals_table("t", "t.region, t.n");
}

#[test]
fn the_identity_is_the_index_that_the_table_names() {
    let world = stream(
        "rows_identity",
        "create table t (id int primary key, a int not null, b text not null, c int not null);
         create unique index t_identity on t (c, b) include (a);
         alter table t replica identity using index t_identity;
         insert into t values (1, 10, 'x', 100), (2, 20, 'y', 200)",
    )
    // Neither the primary key nor an included column belongs to it.
    .writes("update t set id = 3, a = 11 where id = 1")
    .writes("update t set b = 'z' where id = 3")
    .writes("delete from t where id = 2")
    .ends();
    assert_eq!(
        told(&world, "t"),
        [
            r#"u {"c":100,"b":"x"} {"id":3,"a":11,"b":"x","c":100}"#,
            r#"d {"c":100,"b":"x"}"#,
            r#"u {"c":100,"b":"z"} {"id":3,"a":11,"b":"z","c":100}"#,
            r#"d {"c":200,"b":"y"}"#,
        ]
    );
    world.topic_equals_table("t", "t.c, t.b");
}

#[test]
fn what_is_told_of_the_old_row_is_what_the_identity_logs() {
    let sql = postgres().database("rows_before");
    sql.run(
        "create table by_key (id int primary key, n int);
         create table by_all (id int primary key, n int); alter table by_all replica identity full;
         create table by_index (id int primary key, n int not null); create unique index i on by_index (n);
         alter table by_index replica identity using index i;
         create table by_nothing (id int primary key, n int); alter table by_nothing replica identity nothing;
         create table without_key (id int, n int)",
    );
    sql.run("select pg_create_logical_replication_slot('rows_before', 'headwater')");
    for (table, updated, moved, deleted) in [
        ("by_key", "null", r#"{"id":1}"#, r#"{"id":2}"#),
        (
            "by_all",
            r#"{"id":1,"n":1}"#,
            r#"{"id":1,"n":2}"#,
            r#"{"id":2,"n":3}"#,
        ),
        ("by_index", r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#),
        ("by_nothing", "null", "null", "null"),
        ("without_key", "null", "null", "null"),
    ] {
        sql.run(&format!("insert into {table} values (1, 1)"));
        sql.run(&format!("update {table} set n = 2"));
        sql.run(&format!("update {table} set id = 2, n = 3"));
        sql.run(&format!("delete from {table}"));
        let seen = sql.column(
            "select concat_ws(' ', j->>'op', j->'before', j->'after') from (select data::json j \
             from pg_logical_slot_get_changes('rows_before', null, null)) changes",
        );
        let expected = [
            r#"c null {"id":1,"n":1}"#.to_owned(),
            format!(r#"u {updated} {{"id":1,"n":2}}"#),
            format!(r#"u {moved} {{"id":2,"n":3}}"#),
            format!("d {deleted} null"),
        ];
        assert_eq!(seen, expected, "{table}");
    }
}

#[test]
fn generated_columns_are_told_and_may_be_the_key() {
    let world = stream(
        "rows_generated",
        "create table t (a int, doubled int generated always as (a * 2) stored primary key,
                         label text generated always as ('no. ' || a) stored);
         insert into t values (1), (2)",
    )
    .writes("insert into t values (3); update t set a = 5 where a = 1; delete from t where a = 2")
    .ends();
    assert_eq!(
        told(&world, "t"),
        [
            r#"c {"doubled":6} {"a":3,"doubled":6,"label":"no. 3"}"#,
            r#"d {"doubled":2}"#,
            r#"u {"doubled":10} {"a":5,"doubled":10,"label":"no. 5"}"#,
            r#"d {"doubled":4}"#,
        ]
    );
    world.topic_equals_table("t", "t.doubled");
}

#[test]
fn virtual_columns_are_in_neither_snapshot_nor_stream() {
    let server = postgres();
    if !server
        .session("postgres")
        .holds("select current_setting('server_version_num')::int >= 180000")
    {
        return;
    }
    let world = stream(
        "rows_virtual",
        "create table t (doubled int generated always as (id * 2) virtual, id int primary key, n int);
         insert into t values (default, 1, 1)",
    )
    .writes("insert into t values (default, 2, 2)")
    .ends();
    let folded = world.folded("t");
    let expected = [1, 2].map(|n| {
        (
            format!("{{\"id\":{n}}}"),
            format!("{{\"id\":{n},\"n\":{n}}}"),
        )
    });
    assert_eq!(folded, expected.into());
}

#[test]
fn numbers_that_the_server_gives_out_are_told() {
    let world = stream(
        "rows_numbered",
        "create table t (id int generated always as identity primary key, s serial, b bigserial, n int)",
    )
    .writes("insert into t (n) values (10), (20)")
    .writes("insert into t (id, n) overriding system value values (-5, 30)")
    .ends();
    assert_eq!(
        told(&world, "t"),
        [
            r#"c {"id":1} {"id":1,"s":1,"b":1,"n":10}"#,
            r#"c {"id":2} {"id":2,"s":2,"b":2,"n":20}"#,
            r#"c {"id":-5} {"id":-5,"s":3,"b":3,"n":30}"#,
        ]
    );
    world.topic_equals_table("t", "t.id");
}

/// A row that was written before a column came has fewer values than the table columns;
/// what is missing is kept with the column.
#[test]
fn a_row_that_is_older_than_its_table_has_all_its_columns() {
    for identity in ["default", "full"] {
        let world = stream(
            &format!("rows_older_{identity}"),
            &format!(
                "create table t (first int, id int primary key, middle text, last text);
                 alter table t replica identity {identity};
                 insert into t select n, n, 'middle', 'last ' || n from generate_series(1, 5) n;
                 alter table t drop middle, drop first;
                 alter table t add word text default 'it''s', add n numeric default 1.50 not null,
                               add at timestamptz default '2024-02-29 12:00+00', add empty int;
                 insert into t (id, last) select n, 'newer' from generate_series(6, 8) n"
            ),
        )
        .writes("update t set last = 'changed' where id in (1, 6)")
        .writes("update t set id = id + 100 where id in (2, 7)")
        .writes("update t set word = null where id = 3")
        .writes("delete from t where id in (4, 8)")
        .ends();
        world.topic_equals_table("t", "t.id");
        assert_eq!(
            told(&world, "t")[0],
            r#"u {"id":1} {"id":1,"last":"changed","word":"it's","n":1.50,"at":"2024-02-29T12:00:00+00:00","empty":null}"#,
            "{identity}"
        );
    }
}

#[test]
fn columns_that_come_and_go_while_streaming_are_those_of_the_row() {
    let world = stream(
        "rows_altered",
        "create table t (id int primary key, a int, b text); insert into t values (1, 1, 'b')",
    )
    .writes("alter table t drop a")
    .writes("insert into t values (2, 'b')")
    .writes("alter table t add v uuid default gen_random_uuid(), add c int default 7")
    .writes("insert into t (id) values (3)")
    .writes("update t set b = 'all of them'")
    .ends();
    world.topic_equals_table("t", "t.id");
}

#[test]
fn a_null_may_stand_in_any_column() {
    const COLUMNS: [&str; 10] = [
        "int",
        "text",
        "bigint",
        "numeric",
        "boolean",
        "timestamptz",
        "bytea",
        "jsonb",
        "uuid",
        "char(3)",
    ];
    let columns: Vec<String> = (0..COLUMNS.len())
        .map(|n| format!("c{n} {}", COLUMNS[n]))
        .collect();
    let values = [
        "1",
        "'x'",
        "2",
        "3.0",
        "true",
        "'2024-01-01'",
        "'\\x00'",
        "'{}'",
        "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
        "'y'",
    ];
    // Each column alone null, each alone not, none and all.
    let mut inserts = String::new();
    let count = COLUMNS.len();
    let masks = (0..count)
        .flat_map(|n| [1 << n, !(1 << n)])
        .chain([0, usize::MAX]);
    for (id, mask) in masks.enumerate() {
        let row: Vec<&str> = (0..count)
            .map(|n| {
                if mask >> n & 1 == 1 {
                    "null"
                } else {
                    values[n]
                }
            })
            .collect();
        inserts.push_str(&format!("insert into t values ({}, {id});", row.join(", ")));
    }
    let world = stream(
        "rows_nulls",
        &format!(
            "create table t ({}, id int primary key)",
            columns.join(", ")
        ),
    )
    .writes(&inserts)
    .ends();
    assert_eq!(world.folded("t").len(), 2 * count + 2);
    world.topic_equals_table("t", "t.id");
}

#[test]
fn a_wide_text_arrives_whole() {
    let world = stream(
        "rows_wide",
        "create table t (id int primary key, a text, b text)",
    )
    .writes(
        "insert into t select 1, string_agg(md5(n::text), 'ü\"\\'), repeat('日本', 50000) \
             from generate_series(1, 12000) n",
    )
    .ends();
    world.topic_equals_table("t", "t.id");
}
