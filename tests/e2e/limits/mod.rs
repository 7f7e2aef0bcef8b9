//! `headwater.tables` and `headwater.exclude_columns`: nobody but a superuser gets at what they
//! leave out, by whatever way. What must not be read is called a sentinel, or holds one.

mod client;
mod functions;
mod owners;
mod partitions;
mod reader;

use std::sync::LazyLock;

use headwater_tests::session::{Session, SqlError};
use headwater_tests::types::bytes;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Postgres, topic};

use crate::world::World;

/// A server with limits in `postgresql.conf`.
static SERVER: LazyLock<Postgres> = LazyLock::new(|| {
    let server = Postgres::new();
    let sql = server.session("postgres");
    // ALTER SYSTEM takes only what the session knows.
    sql.run("load 'headwater'");
    sql.run("alter system set headwater.tables = 'public.*, limits_*.*'");
    sql.run(
        "alter system set headwater.exclude_columns = \
         '*.*.c_sentinel, public.t_sentinel.*, public.tree.p_sentinel, *.tree_1.note, *.tree_3.*'",
    );
    sql.run("select pg_reload_conf()");
    eventually("the server has read its file", SOON, || {
        let session = server.session("postgres");
        let set = "select coalesce(current_setting('headwater.exclude_columns', true), '') <> ''";
        check(session.holds(set), || "it has not".to_owned())
    });
    server
});

/// What none of them may see.
const TABLES: &str = "
    create role reader_DB login replication;
    create table open (id int primary key, name text, c_sentinel text);
    alter table open replica identity full;
    create table t_sentinel (id int primary key, v text);
    create schema s_sentinel; create table s_sentinel.t (id int primary key, v text);
    create type e_sentinel as enum ('v_sentinel');
    create table wide (id int primary key, body text, c_sentinel text, n int);
    alter table wide alter body set storage external, alter c_sentinel set storage external;
    create table typed (id int primary key, c_sentinel e_sentinel);
    create table keyed (c_sentinel text primary key, v text);
    create table tree (id int primary key, p_sentinel text, note text, v text) partition by list (id);
    create table tree_1 partition of tree for values in (1);
    create schema mixed; create table mixed.tree_2 partition of tree for values in (2);
    create table moving (id int primary key); insert into moving values (1);
    create table s_sentinel.coming (id int primary key); insert into s_sentinel.coming values (1)";

const WRITES: &str = "
    insert into open values (1, 'one', 'v_sentinel'); update open set name = 'two'; delete from open;
    insert into t_sentinel values (1, 'v_sentinel'); truncate t_sentinel;
    insert into s_sentinel.t values (1, 'v_sentinel'); update s_sentinel.t set v = 'v_sentinel2';
    insert into wide values (1, repeat('x', 5000), repeat('v_sentinel', 500), 1);
    update wide set n = 2;
    insert into typed values (1, 'v_sentinel');
    insert into keyed values ('v_sentinel', 'x'); update keyed set v = 'y'; delete from keyed;
    insert into tree values (1, 'v_sentinel', 'v_sentinel', 'x'), (2, 'v_sentinel', 'two', 'y');
    truncate open, t_sentinel;
    alter table open add d_sentinel int default 7; alter table open rename d_sentinel to d;
    alter table t_sentinel add w int default 7;
    alter table moving set schema s_sentinel; alter table s_sentinel.coming set schema public";

fn database(name: &str) -> Session {
    let sql = SERVER.database(name);
    sql.run(&TABLES.replace("DB", name));
    sql.run(&format!(
        "select pg_create_logical_replication_slot('{name}', 'headwater')"
    ));
    sql
}

/// A session of the role that may replicate and nothing else.
fn reader(name: &str, more: &str) -> Result<Session, SqlError> {
    let conninfo = SERVER
        .local_conninfo(name)
        .replace("user=postgres", &format!("user=reader_{name}"));
    Session::connect(&format!("{conninfo} {more}"))
}

/// What the slot holds under these options, all of it, as bytes.
fn peek(sql: &Session, slot: &str, options: &str) -> Result<Vec<u8>, SqlError> {
    let rows = sql.attempt(&format!(
        "select encode(data, 'hex') from pg_logical_slot_peek_binary_changes(\
         '{slot}', null, null, variadic '{{{options}}}')"
    ))?;
    let rows = rows.into_iter().filter_map(|mut row| row[0].take());
    Ok(rows
        .flat_map(|row| [bytes(&row), vec![b'\n']].concat())
        .collect())
}

#[track_caller]
fn holds_no_sentinel(what: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(at) = text.find("sentinel") {
        let excerpt = &text.as_bytes()[at.saturating_sub(80)..(at + 80).min(text.len())];
        panic!("{what}: {}", String::from_utf8_lossy(excerpt));
    }
}

/// That a table's topic comes to hold these rows, in the order of their keys' text, some of them
/// fetched, and no record of it a sentinel.
#[track_caller]
fn has_fetched_rows_of(world: &World<'_>, table: &str, rows: &str) {
    let records = topic::read(world.kafka, &world.topic(table));
    let text = format!("{records:?}");
    holds_no_sentinel("the topic", text.as_bytes());
    assert!(text.contains("hw.fetched"), "{text}");
    let rows = format!("select row_to_json(t)::text from ({rows}) t");
    assert_eq!(
        topic::fold(&records).into_values().collect::<Vec<_>>(),
        world.sql.column(&rows)
    );
}
