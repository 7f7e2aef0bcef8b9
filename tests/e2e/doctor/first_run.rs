//! From nothing to a row in Kafka by what is printed, and by nothing else.

use headwater_tests::postgres::Options;
use headwater_tests::wait::{SOON, check, eventually};
use headwater_tests::{Client, topic};

use super::printed::{User, words};
use crate::world::{assert_same, kafka, rows};

/// A user goes through the list once, looks again, and once more.
const ROUNDS: usize = 5;

#[test]
fn a_stock_server_comes_to_stream_by_what_is_printed() {
    let mut postgres = Options::default().stock().start();
    postgres.session("postgres").run("create database shop");
    let sql = postgres.session("shop");
    sql.run("create table orders (item text not null, pieces int); insert into orders values ('pear', 3)");

    let conninfo = postgres
        .conninfo("shop")
        .replace("user=postgres", "user=cdc");
    let brokers = kafka().brokers();
    let options = [
        "-d",
        &conninfo,
        "-b",
        &brokers,
        "--topic-prefix",
        "first.",
        "--sample",
        "0.2",
    ];
    let mut user = User::new(&mut postgres, &options);

    let first = user.asks();
    assert_eq!((first.worst.as_str(), first.exit_code), ("fail", 1));
    assert!(first.next.is_none(), "{:?}", first.next);
    let mut round = 0;
    let next = loop {
        let report = user.asks();
        if let Some(next) = report.next {
            assert_eq!(report.exit_code, 0);
            break next;
        }
        round += 1;
        assert!(round <= ROUNDS, "still to mend: {:#?}", report.fails());
        for found in report.fails() {
            user.mends(found);
        }
    };

    let command = words(&next);
    assert_eq!(command[..2], ["headwater", "stream"], "{next}");
    let mut client = Client::start(&command[1..]);
    client.streams();
    let beside = user.asks();
    assert_eq!(beside.exit_code, 0, "{:#?}", beside.fails());
    let found = &beside.of("slot")[0].found;
    assert!(found.contains("is streamed from"), "{found}");
    // The server was restarted on the way.
    let sql = user.postgres.session("shop");
    sql.run("insert into orders values ('quince', 5)");
    eventually("both rows are in Kafka", SOON, || {
        let records = topic::read(kafka(), "first.orders");
        check(records.len() == 2, || format!("{} records", records.len()))
    });
    client.terminate().expect(0, &[]);
    assert_same(
        &topic::fold(&topic::read(kafka(), "first.orders")),
        &rows(&sql, "orders", "t.headwater_id"),
    );
}
