//! What the client makes of what is left.

use headwater_tests::installation;

use super::{SERVER, has_fetched_rows_of, holds_no_sentinel};
use crate::world::{World, kafka};

/// The client copies, streams, fetches and compares what is left.
#[test]
fn the_client_leaves_out_what_the_server_does_not_send() {
    let _ = installation::client();
    let world = World::on(&SERVER, kafka(), "limits_client");
    world.sql.run(
        "create table open (id int primary key, body text, c_sentinel text, n int);
         alter table open alter body set storage external, alter c_sentinel set storage external;
         insert into open values (1, repeat('x', 5000), repeat('v_sentinel', 500), 1);
         create schema s_sentinel; create table s_sentinel.t (id int primary key);
         insert into s_sentinel.t values (1)",
    );
    let mut client = world.stream(&[]);
    client.says("headwater.tables does not name: s_sentinel.t");
    client.streams();
    world
        .sql
        .run("insert into open values (2, 'y', 'v_sentinel', 1); update open set n = 2");
    world.catches_up();
    world.verify(&["-t", "limits_client.open"]).expect(0, &[]);
    client.terminate().expect(0, &[]);
    has_fetched_rows_of(&world, "open", "select id, body, n from open order by id");
    world.drop_slot();
    world
        .stream(&["-t", "s_sentinel.t"])
        .wait()
        .expect(1, &["s_sentinel.t", "headwater.tables", "superuser"]);
    world
        .sql
        .run("create table keyed (c_sentinel text primary key)");
    let arguments = ["-t", "limits_client.keyed", "--topic-prefix", "keyed."];
    let ended = world.stream(&arguments).wait();
    ended.expect(1, &["limits_client.keyed", "a column of its key"]);
    holds_no_sentinel("the client", ended.stderr.as_bytes());
}
