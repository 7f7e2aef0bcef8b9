//! Limits of a partition, which has several names.

use headwater_tests::{installation, topic};

use super::{SERVER, database, has_fetched_rows_of};
use crate::world::{World, kafka};

/// A partition has all names: no way to look at it shows what one of them excludes.
#[test]
fn a_partition_is_limited_under_each_of_its_names() {
    let name = "limits_partitions";
    let sql = database(name);
    sql.run("insert into tree values (1, 'p', 'n', 'x'), (2, 'p', 'n', 'y')");
    let lines = |options: &str| {
        sql.column(&format!(
            "select data from pg_logical_slot_peek_changes('{name}', null, null, 'envelope', 'row'{options})"
        ))
    };
    assert_eq!(
        lines(""),
        [
            "{\"id\":1}\t{\"id\":1,\"note\":null,\"v\":\"x\"}",
            "{\"id\":2}\t{\"id\":2,\"note\":\"n\",\"v\":\"y\"}"
        ]
    );
    // Of its own name, and not of one that headwater.tables has.
    assert_eq!(
        lines(", 'partitions', 'leaf'"),
        ["{\"id\":1}\t{\"id\":1,\"v\":\"x\"}"]
    );
}

/// Rows that are looked up by their key are read through the partitioned table.
#[test]
fn rows_that_the_client_looks_up_are_limited_under_their_partitions_names() {
    let _ = installation::client();
    let world = World::on(&SERVER, kafka(), "limits_lookups");
    world.sql.run(
        "create table tree (id int primary key, note text, body text, n int) partition by range (id);
         alter table tree alter body set storage external, alter note set storage external;
         create table tree_1 partition of tree for values from (1) to (10);
         create table tree_2 partition of tree for values from (10) to (20);
         create table tree_3 partition of tree for values from (20) to (30);
         insert into tree select id, repeat('v_sentinel', 500), repeat('x', 5000), 1
           from unnest('{5, 11, 21}'::int[]) id;
         update tree set note = 'of another' where id = 11",
    );
    let mut client = world.stream(&[]);
    client.says("has all columns of: limits_lookups.tree_3");
    client.streams();
    // Unchanged values are fetched.
    world.sql.run("update tree set n = 2");
    world.catches_up();
    // What differs is looked up to be sent again, and so is what a topic should not have.
    let topic = world.topic("tree");
    topic::write(world.kafka, &topic, "{\"id\":5}", "{\"id\":5}");
    topic::write(world.kafka, &topic, "{\"id\":21}", "{\"id\":21}");
    let verified = world.verify(&[]);
    verified.expect(1, &["2 keys differ"]);
    world.verify(&["--repair"]).expect(0, &["asked the stream"]);
    client.terminate().expect(0, &[]);
    has_fetched_rows_of(
        &world,
        "tree",
        "select id, case when id > 10 then note end as note, body, n from tree where id < 20 \
         order by id desc",
    );
}

/// The same of a query's own rows, which the server's functions are handed.
#[test]
fn a_row_that_is_said_to_be_stored_in_a_partition_is_limited_as_one_of_it() {
    let name = "limits_stored";
    let sql = database(name);
    sql.run(
        "create table tree_3 partition of tree for values in (3);
         insert into tree values (1, 'p', 'n', 'x'), (2, 'p', 'n', 'y'), (3, 'p', 'n', 'z')",
    );
    let rows = |stored_in: &str| {
        sql.column(&format!(
            "select coalesce(convert_from(headwater.encode({stored_in}, t.*, 'envelope=row'), 'UTF8'), \
             'nothing') from tree t order by id"
        ))
    };
    let (whole, less) = (
        "{\"id\":2}\t{\"id\":2,\"note\":\"n\",\"v\":\"y\"}",
        "{\"id\":1}\t{\"id\":1,\"note\":null,\"v\":\"x\"}",
    );
    assert_eq!(rows("t.tableoid"), [less, whole, "nothing"]);
    // It can only narrow, whatever is said.
    assert_eq!(rows("0"), ["nothing"; 3]);
    assert_eq!(rows("null"), ["nothing"; 3]);
    assert!(!rows("'open'")[1].contains("p_sentinel"));
    assert_eq!(
        sql.rows("select key, value from headwater.preview('tree')"),
        [less, whole].map(|line| {
            let (key, value) = line.split_once('\t').unwrap();
            vec![Some(key.to_owned()), Some(value.to_owned())]
        })
    );
}
