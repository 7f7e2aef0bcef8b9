//! Postgres is the oracle: every value is what `row_to_json` says, byte for byte, and a
//! snapshot's bytes are those of the stream.

use headwater_tests::Postgres;
use headwater_tests::session::Session;
use headwater_tests::topic;

use crate::world::{World, postgres};

/// Some of each kind of type, for the way through Kafka: [`headwater_tests::types`] has all.
const VALUES: &[(&str, &[&str])] = &[
    ("boolean", &["true", "false"]),
    ("int2", &["0", "-32768", "32767"]),
    ("int4", &["0", "-2147483648", "2147483647"]),
    (
        "int8",
        &[
            "0",
            "-9223372036854775808",
            "9223372036854775807",
            "9007199254740993",
        ],
    ),
    (
        "float4",
        &[
            "0",
            "-0.0",
            "1e-45",
            "3.4028235e38",
            "0.1",
            "1234567.8",
            "1e6",
            "1e15",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
        ],
    ),
    (
        "float8",
        &[
            "0",
            "-0.0",
            "5e-324",
            "1.7976931348623157e308",
            "0.1",
            "1e15",
            "1e16",
            "1e-5",
            "0.0001",
            "123456789012345680",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
        ],
    ),
    (
        "numeric",
        &[
            "0",
            "0.00",
            "-1.50",
            "1e40",
            "1e-40",
            "12345678901234567890123456789.123456789",
            "10000",
            "0.0001",
            "9999.9999",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "repeat('9', 4000)::numeric",
            "('0.' || repeat('7', 3000))::numeric",
        ],
    ),
    ("numeric(12,2)", &["0", "1", "-1234567890.10"]),
    (
        "text",
        &[
            "''",
            "'plain'",
            "'%s %n %d %%'",
            "E'tab\\there'",
            "E'line\\nfeed\\rreturn'",
            "E'\\x01\\x1f\\x7f'",
            "'\"quoted\" \\ / back'",
            "'Grüße, 世界 🐘'",
            "U&'\\2028\\2029\\FEFF'",
            "'{\"not\":\"json\"}'",
            "repeat('long ', 3000)",
        ],
    ),
    ("varchar(20)", &["'short'", "''"]),
    ("char(6)", &["'ab'", "''"]),
    ("name", &["'a name'"]),
    ("\"char\"", &["'x'", "''", "'\"'"]),
    (
        "uuid",
        &[
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
            "'00000000-0000-0000-0000-000000000000'",
        ],
    ),
    (
        "date",
        &[
            "'2024-02-29'",
            "'0001-01-01'",
            "'4713-01-01 BC'",
            "'0044-03-15 BC'",
            "'5874897-12-31'",
            "'12024-01-01'",
            "'infinity'",
            "'-infinity'",
        ],
    ),
    (
        "time",
        &["'00:00'", "'23:59:59.999999'", "'24:00'", "'12:34:56.1'"],
    ),
    (
        "timetz",
        &[
            "'00:00+00'",
            "'24:00:00+15:59:59'",
            "'12:34:56.123456-08:30'",
            "'01:02:03-15:59:59'",
        ],
    ),
    (
        "timestamp",
        &[
            "'2024-02-29 12:34:56.789'",
            "'0001-01-01 BC'",
            "'4713-01-01 00:00:00 BC'",
            "'294276-12-31 23:59:59.999999'",
            "'1999-12-31 23:59:59.999999'",
            "'1969-12-31 23:59:59.000001'",
            "'infinity'",
            "'-infinity'",
        ],
    ),
    (
        "timestamptz",
        &[
            "'2024-02-29 12:34:56.789+05:30'",
            "'0001-01-01 00:00:00+00 BC'",
            "'294276-12-31 23:59:59.999999+00'",
            "'1900-01-01 00:00:00+00'",
            "'infinity'",
            "'-infinity'",
        ],
    ),
    (
        "bytea",
        &["''", "'\\x00ff80'", "decode(repeat('00ff', 2000), 'hex')"],
    ),
    (
        "json",
        &[
            "'{\"a\": [1, 2.50, null], \"a\": \"twice\"}'",
            "'  \"spaced\"  '",
            "'1e400'",
        ],
    ),
    (
        "jsonb",
        &[
            "'{\"b\": {\"c\": [true, \"\\u0041\\n\"]}, \"a\": 1.50}'",
            "'null'",
            "'\"text\"'",
        ],
    ),
    ("interval", &["'1 year 2 mons -3 days 04:05:06.7'"]),
    ("inet", &["'192.168.0.1/24'", "'::1'"]),
    ("bit(5)", &["B'10110'"]),
    ("xid", &["'4294967295'"]),
    ("oid", &["4294967295"]),
    ("regclass", &["'pg_class'"]),
    ("money", &["1234.5"]),
    ("point", &["'(1.5,-2)'"]),
    ("tsvector", &["'fat cat':: tsvector"]),
    ("int4range", &["'[1,5)'", "'empty'"]),
    ("mood", &["'happy'", "'it''s \"complicated\"'"]),
];

/// One table a type, one row a value, and a last row of null.
fn create_tables(sql: &Session) -> Vec<String> {
    sql.run("create type mood as enum ('happy', 'it''s \"complicated\"')");
    VALUES
        .iter()
        .enumerate()
        .map(|(n, (of_type, values))| {
            let table = format!("t{n}");
            sql.run(&format!(
                "create table {table} (id serial primary key, v {of_type})"
            ));
            for value in *values {
                sql.run(&format!("insert into {table} (v) values ({value})"));
            }
            sql.run(&format!("insert into {table} (v) values (null)"));
            table
        })
        .collect()
}

/// The rows of a table as Postgres puts them into JSON, in the order of their making.
fn oracle(sql: &Session, table: &str) -> Vec<String> {
    sql.column(&format!(
        "select row_to_json(t)::text from {table} t order by id"
    ))
}

/// Compares values of all tables at once, so that one run shows every type that is wrong.
#[track_caller]
fn assert_rows(sql: &Session, tables: &[String], mut rows_of: impl FnMut(&str) -> Vec<String>) {
    let mut wrong = Vec::new();
    for (table, (of_type, values)) in tables.iter().zip(VALUES) {
        let (expected, found) = (oracle(sql, table), rows_of(table));
        if found.len() != expected.len() {
            wrong.push(format!(
                "{of_type}: {} rows, not {}",
                found.len(),
                expected.len()
            ));
        }
        for (row, (expected, found)) in expected.iter().zip(&found).enumerate() {
            if expected != found {
                let value = values.get(row).unwrap_or(&"null");
                wrong.push(format!(
                    "{of_type} {value}\n  row_to_json: {expected}\n  headwater:   {found}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_line_has_no_line_end_or_tab_within_json() {
    let sql = postgres().database("values_json_lines");
    sql.run("create table t (id int primary key, v json)");
    sql.run("select pg_create_logical_replication_slot('values_json_lines', 'headwater')");
    sql.run("insert into t values (1, E'{\\n\\t\"a\":\\r\\n\\t\"b\\\\n\"\\n}')");
    let line = sql.value(
        "select data from pg_logical_slot_get_changes('values_json_lines', null, null, 'envelope', 'row')",
    );
    assert_eq!(line, "{\"id\":1}\t{\"id\":1,\"v\":{  \"a\":   \"b\\n\" }}");
}

#[test]
fn records_are_what_row_to_json_says_copied_and_streamed() {
    let world = World::new("values_kafka");
    let tables = create_tables(&world.sql);
    let mut client = world.stream(&[]);
    client.streams();
    for table in &tables {
        world.sql.run(&format!(
            "insert into {table} (v) select v from {table} order by id"
        ));
    }
    world.catches_up();
    client.terminate().expect(0, &[]);
    assert_rows(&world.sql, &tables, |table| {
        let mut records = topic::read(world.kafka, &world.topic(table));
        let id = |key: &str| -> u64 {
            key.trim_matches(|c: char| !c.is_ascii_digit())
                .parse()
                .unwrap()
        };
        records.sort_by_key(|record| id(record.key.as_deref().unwrap()));
        records
            .into_iter()
            .map(|record| record.value.unwrap())
            .collect()
    });
}

#[test]
fn every_type_of_the_server_is_what_row_to_json_says() {
    // Settings of a server and a role are nothing to share.
    let server = Postgres::new();
    let (types, rows) = headwater_tests::types::check_every_type(&server, "every_type");
    println!("{types} types, {rows} rows");
}
