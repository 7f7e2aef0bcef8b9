//! A panic is a defect of ours. It costs its row, or else the connection: never the server,
//! never a change.
//!
//! These tests run on a server with a library that panics where it is told to, by the
//! setting `headwater.test_panic` (`pg_ext/src/pg/panics.rs`). Each names its panics on the
//! server's standard error, so that a test knows that they came.

use std::sync::LazyLock;

use headwater_tests::installation::Installation;
use headwater_tests::postgres::Options;
use headwater_tests::session::Session;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, Postgres};

use crate::world::{World, assert_same, kafka, postgres};

/// The server whose library panics.
static SERVER: LazyLock<Postgres> = LazyLock::new(|| {
    Options::default()
        .installation(Installation::panicking())
        .start()
});

/// A client that follows a table, and somebody who has nothing to do with it.
struct Scene {
    world: World<'static>,
    /// None while it is stopped.
    client: Option<Client>,
    bystander: Bystander,
}

/// A session in the middle of a transaction, which ends when the server restarts.
struct Bystander {
    session: Session,
    begun: String,
}

impl Bystander {
    fn new(database: &str) -> Self {
        let session = SERVER.session(database);
        session.run("begin isolation level repeatable read");
        let begun = session.value("select pg_postmaster_start_time()");
        Bystander { session, begun }
    }

    /// Fails unless the session goes on as before, and the server is the one that it was.
    fn is_unharmed(&self) {
        let now = self.session.value("select pg_postmaster_start_time()");
        assert_eq!(now, self.begun, "the server has restarted");
    }
}

impl Scene {
    fn new(name: &str) -> Self {
        let world = World::on(&SERVER, kafka(), name);
        world.sql.run(
            "create table t (id int primary key, v text);
             create table scratch (id int primary key)",
        );
        let mut scene = Scene {
            bystander: Bystander::new(name),
            world,
            client: None,
        };
        scene.starts();
        scene
    }

    fn starts(&mut self) {
        let mut client = self.world.stream(&["--truncate", "ignore"]);
        client.streams();
        self.client = Some(client);
    }

    fn client(&mut self) -> Client {
        self.client.take().unwrap()
    }

    /// From the next connection on, the library panics as `setting` says.
    fn panics_at(&self, setting: &str) {
        let name = &self.world.name;
        self.world.sql.run(&format!(
            "alter database {name} set headwater.test_panic = '{setting}'"
        ));
        self.world.sql.run(&format!(
            "select pg_terminate_backend(active_pid) from pg_replication_slots \
             where slot_name = '{name}'"
        ));
    }

    /// From the next connection on, it does not.
    fn recovers(&self) {
        let name = &self.world.name;
        self.world
            .sql
            .run(&format!("alter database {name} reset headwater.test_panic"));
    }

    /// Transactions with something for every callback; ids from `first` on.
    fn write(&self, first: i32) {
        for id in first..first + 30 {
            self.world.sql.run(&format!(
                "begin;
                 insert into t values ({id}, 'first'), (-{id}, 'goes');
                 update t set v = 'second' where id = {id};
                 delete from t where id = -{id};
                 select pg_logical_emit_message(true, 'p', 'content');
                 insert into scratch values ({id});
                 truncate scratch;
                 commit"
            ));
        }
    }

    /// Fails unless nothing is missing and nobody has noticed.
    #[track_caller]
    fn ends_well(mut self) {
        self.world.catches_up();
        self.world.topic_equals_table("t", "id");
        self.bystander.is_unharmed();
        self.client().terminate().expect(0, &[]);
        self.world.drop_slot();
    }
}

/// How often the library has panicked as it was asked to.
fn panics(asked: &str) -> usize {
    SERVER.times_logged(&format!("headwater: a panic on demand: {asked}\n"))
}

#[test]
fn a_panic_in_a_callback_costs_the_connection_alone() {
    let scene = Scene::new("panics_callback");
    let places = [
        // Between two panics there are whole transactions, so that the stream gets on.
        ("begin", 10),
        ("change", 50),
        ("truncate", 10),
        ("message", 10),
        ("commit", 10),
    ];
    for (first, (place, every)) in (1..).step_by(100).zip(places) {
        let asked = format!("{place}:{every}");
        scene.panics_at(&asked);
        scene.write(first);
        scene.world.catches_up();
        assert!(panics(&asked) >= 2, "{asked}: {} panics", panics(&asked));
    }
    scene.ends_well();
}

#[test]
fn a_panic_at_the_start_is_tried_again() {
    let scene = Scene::new("panics_start");
    for (id, place) in (1..).zip(["init", "startup", "filter"]) {
        scene
            .world
            .sql
            .run(&format!("insert into t values ({id}, 'x')"));
        scene.panics_at(place);
        eventually("the client tries twice", SOON, || {
            check(panics(place) >= 2, || place.to_owned())
        });
        scene.recovers();
        scene.world.catches_up();
    }
    scene.ends_well();
}

#[test]
fn a_panic_that_stays_is_a_persons_business() {
    let mut scene = Scene::new("panics_stay");
    scene.panics_at("commit");
    scene.world.sql.run("insert into t values (1, 'x')");
    let ended = scene.client().wait();
    ended.expect(1, &["a panic on demand: commit", "SQLSTATE XX000"]);

    scene.recovers();
    scene.starts();
    scene.ends_well();
}

#[test]
fn a_panic_at_the_end_loses_nothing() {
    for place in ["shutdown", "drop"] {
        let name = format!("panics_{place}");
        let mut scene = Scene::new(&name);
        scene.panics_at(place);
        scene.world.sql.run("insert into t values (1, 'x')");
        scene.world.catches_up();
        scene.client().terminate().expect(0, &[]);
        assert!(panics(place) > 0, "{place}");

        scene.recovers();
        scene.starts();
        scene.ends_well();
    }
}

#[test]
fn a_panic_while_a_cache_is_invalidated_is_heard_by_nobody() {
    let scene = Scene::new("panics_caches");
    scene.panics_at("invalidation");
    let reader = "select active_pid from pg_replication_slots where slot_name = 'panics_caches'";
    scene.world.sql.run("insert into t values (1, 'x')");
    scene.world.catches_up();
    let before = scene.world.sql.value(reader);
    scene.world.sql.run(
        "alter table t add n int default 7;
         insert into t values (2, 'y');
         alter table t rename v to w;
         update t set w = 'z'",
    );
    scene.world.catches_up();
    assert_eq!(scene.world.sql.value(reader), before, "it was not cut off");

    // A session that has decoded hears of its own changes when they are committed: an
    // ERROR would come too late there.
    let sql = scene.world.session();
    for statement in [
        "select pg_create_logical_replication_slot('panics_caches_own', 'headwater')",
        "select count(*) from pg_logical_slot_get_changes('panics_caches_own', null, null)",
        "select pg_drop_replication_slot('panics_caches_own')",
    ] {
        sql.run(statement);
    }
    let heard = panics("invalidation");
    sql.run("create table another (id int); alter table another add n int");
    assert!(panics("invalidation") > heard, "the commit is heard of");
    scene.ends_well();
}

#[test]
fn a_panic_of_the_encoder_costs_its_row_alone() {
    let name = "panics_encoder";
    let world = World::on(&SERVER, kafka(), name);
    let bystander = Bystander::new(name);
    // A range goes through its output function, within a subtransaction.
    world
        .sql
        .run("create table t (id int primary key, r int4range)");
    world
        .sql
        .run("select pg_create_logical_replication_slot('panics_encoder', 'headwater')");
    world
        .sql
        .run("insert into t select n, int4range(n, n + 1) from generate_series(1, 5000) n");
    world.sql.run("set headwater.test_panic = 'encode:1000'");
    for query in [
        "select data from pg_logical_slot_get_changes('panics_encoder', null, null)",
        "select convert_from(headwater.encode(t), 'utf8') from t order by id",
    ] {
        let lines = world.sql.column(query);
        assert_eq!(lines.len(), 5000);
        for (id, line) in (1..).zip(&lines) {
            let is_whole = line.contains(&format!("\"after\":{{\"id\":{id},\"r\":\"[{id},"));
            let is_set_aside = line.contains(&format!("\"key\":{{\"id\":{id}}},\"quarantined\":"));
            let panicked = id % 1000 == 0;
            assert_eq!((is_whole, is_set_aside), (!panicked, panicked), "{line}");
        }
    }
    bystander.is_unharmed();
    world.drop_slot();
}

#[test]
fn a_stream_goes_on_past_the_rows_that_the_encoder_panics_at() {
    let name = "panics_rows";
    let world = World::on(&SERVER, kafka(), name);
    let bystander = Bystander::new(name);
    world.sql.run("create table t (id int primary key, v text)");
    world.sql.run(&format!(
        "alter database {name} set headwater.test_panic = 'encode:1000'"
    ));
    let mut client = world.stream(&["--on-error", "quarantine"]);
    client.streams();
    let reader = format!("select active_pid from pg_replication_slots where slot_name = '{name}'");
    let before = world.sql.value(&reader);
    world
        .sql
        .run("insert into t select n, 'row ' || n from generate_series(1, 10000) n");
    world.catches_up();
    assert_eq!(world.sql.value(&reader), before, "it was not cut off");
    client.terminate().expect(0, &[]);

    let mut expected = world.rows("t", "id");
    expected.retain(|key, _| !key.ends_with("000}"));
    assert_eq!(expected.len(), 9_990);
    assert_same(&world.folded("t"), &expected);
    bystander.is_unharmed();
    world.drop_slot();
}

#[test]
fn a_panic_of_a_function_fails_its_statement_alone() {
    let sql = SERVER.database("panics_function");
    let bystander = Bystander::new("panics_function");
    sql.run("create table t (id int primary key); insert into t values (1)");
    let statements = [
        "select headwater.version()",
        "select headwater.relation('t')",
        "select headwater.encode(t) from t",
    ];
    sql.run("load 'headwater'; set headwater.test_panic = 'function'");
    for statement in statements {
        let failed = sql.attempt(statement).unwrap_err();
        assert_eq!(failed.state, "XX000", "{statement}: {failed}");
    }
    sql.run("reset headwater.test_panic");
    for statement in statements {
        assert_eq!(sql.rows(statement).len(), 1, "{statement}");
    }
    bystander.is_unharmed();
}

#[test]
fn a_library_for_use_cannot_be_told_to_panic() {
    let settings = |server: &Postgres| {
        let sql = server.session("postgres");
        sql.run("load 'headwater'");
        sql.value("select count(*) from pg_settings where name like 'headwater.test%'")
    };
    assert_eq!(settings(&SERVER), "1");
    assert_eq!(settings(postgres()), "0");
}
