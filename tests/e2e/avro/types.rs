//! Every type of the server, copied and streamed, read back from Kafka by two libraries that are
//! not ours: what they find is what Postgres says.

use std::collections::BTreeMap;

use headwater_tests::readers::postgres::Comparison;
use headwater_tests::readers::{Fastavro, Reader, split};
use headwater_tests::topic::{self, Record};
use headwater_tests::types::{TypeTable, create_every_type, is_far_from_1970};
use headwater_tests::{Kafka, Session};
use serde_json::Value;

use super::streamed;
use crate::world::{World, postgres, registry};

const OPTIONS: [&str; 10] = [
    "--table",
    "types.*",
    "--exclude-table",
    "types.statistics",
    "--exclude-table",
    "types.owners",
    "--topic-partitions",
    "1",
    "--on-error",
    "quarantine",
];

/// Numerics with a scale, which [`headwater_tests::types`] has none of.
const DECIMALS: &str = "
    create table types.decimals (id serial primary key, a numeric(12,2), b numeric(38,38), c numeric(1000,500)[],
                                 d numeric(4,0), e numeric(3,5), f numeric(3,-2));
    insert into types.decimals (a, b, c, d, e, f) values
        (0, 0, '{0,null}', 0, 0, 0),
        (1234567890.10, 0.1, array[repeat('9', 500)::numeric, ('-0.' || repeat('7', 500))::numeric], -9999, 0.00999, 99900),
        (-9999999999.99, -0.00000000000000000000000000000000000001, '{-1,1}', 128, -0.00001, -100),
        (1.27, 0.99, '{1.28}', -128, 0, 12300), (-1.28, -0.99, '{-1.29}', 127, 0, 0), (null, null, null, null, null, null);";

/// Types that values were thought of for: the row types of catalogs are made of them.
#[test]
fn what_two_libraries_read_is_what_postgres_says() {
    check("avro_types", |table| !table.is_of_catalog);
}

/// Some three hundred topics; minutes.
#[test]
#[ignore = "make test-avro"]
fn what_two_libraries_read_of_rows_of_catalogs_is_what_postgres_says_too() {
    check("avro_all_types", |_| true);
}

fn check(name: &str, is_wanted: fn(&TypeTable) -> bool) {
    // Of its own: its many topics would be in the way of others.
    let kafka = Kafka::new();
    let (sql, tables) = create_every_type(postgres(), name, |_| {});
    let (tables, others): (Vec<_>, Vec<_>) = tables.into_iter().partition(is_wanted);
    for table in &others {
        sql.run(&format!("drop table types.{}", table.name));
    }
    sql.run(DECIMALS);
    let mut names: Vec<(String, String)> = tables
        .into_iter()
        .map(|table| (table.name, table.of))
        .collect();
    names.push(("decimals".to_owned(), "numeric(p,s)".to_owned()));
    let world = World::found(postgres(), &kafka, name);
    // The registry is shared: another test's tables have the same names.
    let prefix = format!("{name}.");
    let mut options = vec!["--topic-prefix", &prefix];
    options.extend(OPTIONS);
    streamed(&world, registry(), &options, || {
        sql.run("begin");
        for (table, _) in &names {
            sql.run(&format!("update types.{table} set id = id"));
        }
        sql.run("commit");
    });

    let topics = names
        .iter()
        .map(|(table, _)| format!("{prefix}types.{table}"));
    let mut records = topic::read_all(&kafka, &topics.collect::<Vec<_>>());
    let mut check = Check {
        sql: &sql,
        fastavro: Fastavro::start(),
        reader: Reader::new(registry()),
        wrong: Vec::new(),
        values: 0,
    };
    for (table, of) in &names {
        let records = records.remove(&format!("{prefix}types.{table}"));
        check.table(table, of, records.unwrap_or_default());
    }
    let Check { wrong, values, .. } = check;
    println!("{} types, {values} rows", names.len());
    assert!(
        wrong.is_empty(),
        "{} of {values}:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
}

struct Check<'w> {
    sql: &'w Session,
    fastavro: Fastavro,
    reader: Reader<'w>,
    wrong: Vec<String>,
    values: usize,
}

impl Check<'_> {
    fn table(&mut self, table: &str, of: &str, records: Vec<Record>) {
        let said: BTreeMap<i64, String> = self
            .sql
            .rows(&format!(
                "select id, row_to_json(t)::text from types.{table} t"
            ))
            .into_iter()
            .map(|mut row| {
                let id = row[0].as_deref().and_then(|id| id.parse().ok());
                (id.unwrap_or(0), row[1].take().unwrap_or_default())
            })
            .collect();
        let mut found: BTreeMap<i64, Vec<Vec<u8>>> = BTreeMap::new();
        for record in records {
            let key = self
                .reader
                .decode(record.key_bytes.as_deref().unwrap_or_default());
            let id = key.map_or(0, |(_, key)| key["id"].as_i64().unwrap_or(0));
            found
                .entry(id)
                .or_default()
                .push(record.bytes.unwrap_or_default());
        }
        for (id, said) in &said {
            let at = |what: String| format!("{of}, types.{table} {id}: {what}");
            match found.get(id).map(Vec::as_slice) {
                Some([copied, streamed]) => {
                    if copied != streamed {
                        self.wrong
                            .push(at("copied and streamed are not the same bytes".to_owned()));
                    }
                    if let Err(difference) = self.row(streamed, said) {
                        self.wrong.push(at(difference));
                    }
                }
                None if is_far_from_1970(said) => {}
                other => {
                    let records = other.map_or(0, <[_]>::len);
                    self.wrong
                        .push(at(format!("{records} records of a row that is {said}")));
                }
            }
        }
        self.values += said.len();
    }

    fn row(&mut self, bytes: &[u8], said: &str) -> Result<(), String> {
        let (id, datum) = split(bytes)?;
        let (_, by_apache) = self.reader.decode(bytes)?;
        let text = self.reader.schema(id).to_owned();
        let by_fastavro = self.fastavro.read(&text, datum)?;
        if by_apache != by_fastavro {
            return Err(format!("apache-avro {by_apache}, fastavro {by_fastavro}"));
        }
        let schema: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
        Comparison::of(&schema).same(&schema, &by_apache, said)
    }
}
