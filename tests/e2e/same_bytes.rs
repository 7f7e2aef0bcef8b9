//! A row's record is the same bytes whether it was copied or streamed.

use std::collections::BTreeMap;

use headwater_tests::topic::{self, Record};

use crate::world::World;

/// Every kind of value: short and long, out of line, compressed, null, of types with a codec of
/// their own and of types that go by their text.
fn create_table(world: &World<'_>) {
    world.sql.run(
        "create type mood as enum ('sad', 'happy');
         create domain positive as numeric(20,3) check (value > 0);
         create table things (
           a int, b text, flag boolean, small int2, large int8, f4 float4, f8 float8, num numeric,
           pos positive, t text, c char(7), raw bytea, u uuid, d date, ts timestamp, tz timestamptz,
           tt time, j json, jb jsonb, arr int[], m mood, span interval, net inet, ext text, dropped int,
           primary key (b, a));
         alter table things alter ext set storage external;
         alter table things drop column dropped;
         insert into things select
           n, 'key ' || n % 7 || chr(92) || '\"', n % 2 = 0, n - 50, n::int8 << 40, 1.0 / n::float4, 1.0 / n, 1.0 / n,
           n + 0.125, repeat('compressible ', n * 30), 'c' || n, decode(repeat(md5(n::text), n % 5), 'hex'),
           md5(n::text)::uuid, date '2000-02-29' + n * 400, timestamp '1999-12-31 23:59:59.999999' + n * interval '1 day',
           timestamptz '1900-01-01 00:00+00' + n * interval '1 year', time '00:00' + n * interval '7 minutes',
           json_build_object('n', n, 'Grüße', E'a\\n\\tb'), jsonb_build_object('n', n / 8.0, 'list', array[n, null]),
           array[n, null, n + 1], (array['sad', 'happy'])[1 + n % 2]::mood, n * interval '1 month 3 days 00:00:01.5',
           ('10.0.0.' || n)::inet, repeat(md5(n::text), 200)
         from generate_series(1, 100) n;
         insert into things (a, b) select n, 'nulls' from generate_series(1, 5) n",
    );
}

/// The values of all records with some `hw.op`, by key.
fn by_key(records: &[Record], op: &str) -> BTreeMap<String, Vec<u8>> {
    records
        .iter()
        .filter(|record| record.header("hw.op") == op)
        .filter_map(|record| Some((record.key.clone()?, record.bytes.clone()?)))
        .collect()
}

/// The row within an envelope, as it stands there.
fn after(envelope: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(envelope).unwrap();
    let (_, rest) = text.split_once("\"after\":").unwrap();
    let (row, _) = rest.split_once(",\"source\":{\"version\":").unwrap();
    row.as_bytes().to_vec()
}

#[test]
fn a_copied_row_is_the_streamed_row_byte_for_byte() {
    for (name, envelope) in [("bytes_row", "row"), ("bytes_change", "change")] {
        let world = World::new(name);
        create_table(&world);
        let mut client = world.stream(&["--envelope", envelope, "--topic-partitions", "2"]);
        client.streams();
        world.sql.run(
            "begin;
             create temporary table kept as select * from things;
             delete from things;
             insert into things select * from kept;
             commit",
        );
        world.sql.run("alter table things replica identity full");
        world.sql.run("update things set a = a");
        world.catches_up();
        client.terminate().expect(0, &[]);

        let records = topic::read(world.kafka, &world.topic("things"));
        let row = |values: BTreeMap<String, Vec<u8>>| -> BTreeMap<String, Vec<u8>> {
            match envelope {
                "row" => values,
                _ => values
                    .into_iter()
                    .map(|(key, value)| (key, after(&value)))
                    .collect(),
            }
        };
        let copied = row(by_key(&records, "r"));
        assert_eq!(copied.len(), 105);
        for (op, what) in [("c", "inserted again"), ("u", "updated under FULL")] {
            let streamed = row(by_key(&records, op));
            assert_eq!(streamed.len(), copied.len(), "{what}, {envelope}");
            for (key, expected) in &copied {
                let found = &streamed[key];
                assert!(
                    found == expected,
                    "{what}, {envelope}, {key}\ncopied:   {}\nstreamed: {}",
                    String::from_utf8_lossy(expected),
                    String::from_utf8_lossy(found)
                );
            }
        }
    }
}
