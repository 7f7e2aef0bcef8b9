//! Postgres is the oracle: values go into a real server, their bytes come back from its
//! pages, and what our writers make of those bytes must be what `row_to_json` prints.
//!
//! The values are the edges below and random ones: `HEADWATER_ORACLE_CASES` of each type
//! (400 unless it says otherwise) from `HEADWATER_ORACLE_SEED`, which a failure prints.

#![allow(missing_docs, clippy::unwrap_used)]

mod oracle;

use std::time::{SystemTime, UNIX_EPOCH};

use headwater_protocol::avro::{self, Decimal};
use headwater_protocol::json;
use headwater_protocol::stored::{BoundLayout, Multirange, Range};
use headwater_protocol::type_map::BUILT_INS;
use num_bigint::BigInt;
use oracle::Oracle;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// A type, how its stored bytes are written, and the values to try.
struct Case {
    sql_type: &'static str,
    write: fn(&mut Vec<u8>, &[u8]),
    edges: Vec<String>,
    random: BoxedStrategy<String>,
}

#[test]
fn every_writer_prints_what_row_to_json_prints() {
    let oracle = match Oracle::start("json") {
        Ok(oracle) => oracle,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    let seed = environment("HEADWATER_ORACLE_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_micros() as u64
    });
    let cases = environment("HEADWATER_ORACLE_CASES").unwrap_or(400) as usize;
    let mut runner = seeded_runner(seed);
    for case in cases_of_every_type() {
        let mut inputs = case.edges;
        inputs.extend((0..cases).map(|_| case.random.new_tree(&mut runner).unwrap().current()));
        let samples = oracle.ask(case.sql_type, &inputs);
        for (input, sample) in inputs.iter().zip(samples) {
            let mut written = Vec::new();
            (case.write)(&mut written, &sample.stored);
            assert_eq!(
                String::from_utf8_lossy(&written),
                String::from_utf8_lossy(&sample.json),
                "{} {input:?}, HEADWATER_ORACLE_SEED={seed}",
                case.sql_type,
            );
        }
        println!("{}: {} values", case.sql_type, inputs.len());
    }
}

/// A type of the server that is no row of the map fails here, and one under a wrong OID.
#[test]
fn the_type_map_has_every_base_type_of_the_server() {
    let oracle = match Oracle::start("types") {
        Ok(oracle) => oracle,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    // True arrays are made of others, vectors too.
    let of_the_server = oracle.rows(
        "SELECT oid || ' ' || format_type(oid, NULL) FROM pg_type \
         WHERE typtype = 'b' AND typsubscript <> 'array_subscript_handler'::regproc ORDER BY oid",
    );
    let mapped: Vec<String> = BUILT_INS
        .iter()
        .map(|built_in| format!("({}, '{}')", built_in.oid, built_in.name.replace("(n)", "")))
        .collect();
    let mut of_the_map = oracle.rows(&format!(
        "SELECT oid || ' ' || format_type(to_regtype(name), NULL) \
         FROM (VALUES {}) AS map (oid, name) ORDER BY oid",
        mapped.join(", ")
    ));
    // Which this server may be too old for.
    of_the_map.retain(|row| !row.is_empty() && row != "\\N");
    let only_in = |these: &[String], those: &[String]| -> Vec<String> {
        let these = these.iter().filter(|row| !those.contains(row));
        these.cloned().collect()
    };
    assert_eq!(
        only_in(&of_the_server, &of_the_map),
        [""; 0],
        "not in the map"
    );
    assert_eq!(
        only_in(&of_the_map, &of_the_server),
        [""; 0],
        "not of the server"
    );
}

fn environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

fn seeded_runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    TestRunner::new_with_rng(Config::default(), rng)
}

fn cases_of_every_type() -> Vec<Case> {
    vec![
        Case {
            sql_type: "bigint",
            write: |out, stored| json::integer(out, i64_at(stored, 0)),
            edges: strings(&["0", "9", "10", "99", "100", "-1", "9223372036854775807"])
                .chain(strings(&["-9223372036854775808", "1000000000000000000"]))
                .collect(),
            random: any::<i64>().prop_map(|n| n.to_string()).boxed(),
        },
        Case {
            sql_type: "date",
            write: |out, stored| json::date(out, i32_at(stored, 0)),
            edges: edge_dates()
                .chain(strings(&["infinity", "-infinity", "5874897-12-31"]))
                .collect(),
            random: date_text(5_874_896).boxed(),
        },
        Case {
            sql_type: "time",
            write: |out, stored| json::time(out, i64_at(stored, 0)),
            edges: edge_times().collect(),
            random: time_text().boxed(),
        },
        Case {
            sql_type: "timetz",
            write: |out, stored| json::timetz(out, i64_at(stored, 0), i32_at(stored, 8)),
            edges: edge_times()
                .flat_map(|time| {
                    ["+00", "-15:59:59", "+15:59:59", "+05:30", "-00:00:01"]
                        .map(|zone| time.clone() + zone)
                })
                .collect(),
            random: (
                time_text(),
                "[+-](0[0-9]|1[0-5])(:[0-5][0-9](:[0-5][0-9])?)?",
            )
                .prop_map(|(time, zone)| time + &zone)
                .boxed(),
        },
        Case {
            sql_type: "timestamp",
            write: |out, stored| json::timestamp(out, i64_at(stored, 0)),
            edges: edge_timestamps().collect(),
            random: timestamp_text().boxed(),
        },
        Case {
            sql_type: "timestamptz",
            write: |out, stored| json::timestamptz(out, i64_at(stored, 0)),
            edges: edge_timestamps().collect(),
            random: timestamp_text().boxed(),
        },
        Case {
            sql_type: "uuid",
            write: |out, stored| json::uuid(out, stored.first_chunk().unwrap()),
            edges: strings(&["00000000-0000-0000-0000-000000000000"]).collect(),
            random: "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}".boxed(),
        },
        Case {
            sql_type: "bytea",
            write: |out, stored| json::bytea(out, &stored[4..]),
            edges: vec![
                "\\x".to_owned(),
                format!(
                    "\\x{}",
                    (0..=255_u8).map(|b| format!("{b:02x}")).collect::<String>()
                ),
            ],
            random: "\\\\x([0-9a-f]{2}){0,80}".boxed(),
        },
        Case {
            sql_type: "text",
            write: |out, stored| json::string(out, &stored[4..]),
            edges: vec![
                String::new(),
                (1..=300_u32).filter_map(char::from_u32).collect(),
            ],
            random: text().boxed(),
        },
        Case {
            sql_type: "numeric",
            write: |out, stored| json::numeric(out, &stored[4..]).unwrap(),
            edges: edge_numerics().collect(),
            random: number_text().boxed(),
        },
        Case {
            sql_type: "numeric(1000,30)",
            write: |out, stored| {
                let decimal = Decimal::new(1000, 30).unwrap();
                write_unscaled(out, &varlena(stored)[4..], decimal);
            },
            edges: strings(&[
                "0",
                "-0.5",
                "1e-30",
                "-1e300",
                "99999999999999999.9",
                "1e969",
            ])
            .collect(),
            random: "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,30})?".boxed(),
        },
        Case {
            sql_type: "int8range",
            write: |out, stored| write_range(out, varlena(stored), INT8, integer_bound),
            edges: strings(&["empty", "(,)", "[1,)", "(,1)", "[-1,9223372036854775807)"]).collect(),
            random: range_text(any::<i32>().prop_map(i64::from).boxed()).boxed(),
        },
        Case {
            sql_type: "numrange",
            write: |out, stored| write_range(out, varlena(stored), NUMERIC, numeric_bound),
            edges: strings(&["empty", "(,)", "[1,]", "(,1]", "[1,1]", "(1.50,1e600]"]).collect(),
            random: range_text((0..1_i64 << 50).boxed()).boxed(),
        },
        Case {
            sql_type: "int4multirange",
            write: |out, stored| write_multirange(out, varlena(stored), INT4, integer_bound),
            edges: strings(&["{}", "{(,)}", "{[1,)}", "{[1,2),[3,4),[5,6)}"]).collect(),
            random: multirange_text().boxed(),
        },
        Case {
            sql_type: "nummultirange",
            write: |out, stored| write_multirange(out, varlena(stored), NUMERIC, numeric_bound),
            edges: strings(&["{}", "{(,)}", "{(,1],[1.5,1e300),[1e301,)}"]).collect(),
            random: multirange_text().boxed(),
        },
        Case {
            sql_type: "jsonb",
            write: |out, stored| json::jsonb(out, &stored[4..]).unwrap(),
            edges: edge_documents(),
            random: document()
                .prop_filter("fits a page", |text| text.len() < 1_000)
                .boxed(),
        },
    ]
}

/// The layouts of bounds by type: `typlen`, and `typalign` in bytes.
const INT4: (i16, usize) = (4, 4);
const INT8: (i16, usize) = (8, 8);
const NUMERIC: (i16, usize) = (-1, 4);

type WriteBound = fn(&mut Vec<u8>, &[u8]);

/// A value of variable length with a header of four bytes, whichever it has on the page.
fn varlena(stored: &[u8]) -> &[u8] {
    assert_eq!(stored[0] & 0x03, 0, "header of one byte, or compressed");
    stored
}

/// As `range_out` prints it, in quotes.
fn write_range(out: &mut Vec<u8>, stored: &[u8], layout: (i16, usize), write: WriteBound) {
    let (_, range) = Range::read(&stored[4..], BoundLayout::new(layout.0, layout.1)).unwrap();
    out.push(b'"');
    write_one_range(out, &range, write);
    out.push(b'"');
}

fn write_one_range(out: &mut Vec<u8>, range: &Range<'_>, write: WriteBound) {
    if range.is_empty {
        return out.extend_from_slice(b"empty");
    }
    out.push(if range.lower_inclusive { b'[' } else { b'(' });
    range.lower.into_iter().for_each(|bound| write(out, bound));
    out.push(b',');
    range.upper.into_iter().for_each(|bound| write(out, bound));
    out.push(if range.upper_inclusive { b']' } else { b')' });
}

/// As `multirange_out` prints it, in quotes.
fn write_multirange(out: &mut Vec<u8>, stored: &[u8], layout: (i16, usize), write: WriteBound) {
    let layout = BoundLayout::new(layout.0, layout.1);
    let (_, ranges) = Multirange::read(&stored[4..], layout).unwrap();
    out.extend_from_slice(b"\"{");
    for (index, range) in ranges.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_one_range(out, &range.unwrap(), write);
    }
    out.extend_from_slice(b"}\"");
}

fn integer_bound(out: &mut Vec<u8>, bound: &[u8]) {
    let number = match *bound {
        [a, b, c, d] => i64::from(i32::from_ne_bytes([a, b, c, d])),
        _ => i64_at(bound, 0),
    };
    json::integer(out, number);
}

/// With its header: of one byte where the server could make it short.
fn numeric_bound(out: &mut Vec<u8>, bound: &[u8]) {
    let is_short = bound[0] & 0x01 != 0;
    json::numeric(out, &bound[if is_short { 1 } else { 4 }..]).unwrap();
}

fn range_text(bound: BoxedStrategy<i64>) -> impl Strategy<Value = String> {
    let bounds = prop::option::of(bound)
        .prop_flat_map(move |lower| (Just(lower), prop::option::of(0..1_000_000_i64)));
    ("[\\[(]", bounds, "[\\])]").prop_map(|(open, (lower, width), close)| {
        let upper = width.map(|width| lower.unwrap_or(0) + width);
        let text = |bound: Option<i64>| bound.map(|number| number.to_string()).unwrap_or_default();
        format!("{open}{},{}{close}", text(lower), text(upper))
    })
}

fn multirange_text() -> impl Strategy<Value = String> {
    prop::collection::vec(range_text((-5_000_000..5_000_000_i64).boxed()), 0..8)
        .prop_map(|ranges| format!("{{{}}}", ranges.join(",")))
}

/// A decimal's bytes as the number that they are, with its point.
fn write_unscaled(out: &mut Vec<u8>, payload: &[u8], decimal: Decimal) {
    let mut bytes = Vec::new();
    avro::decimal(&mut bytes, payload, decimal).unwrap();
    let length = 1 + bytes.iter().take_while(|byte| **byte >= 0x80).count();
    let number = BigInt::from_signed_bytes_be(&bytes[length..]);
    let scale = usize::from(decimal.scale());
    let digits = format!(
        "{:0>width$}",
        number.magnitude().to_string(),
        width = scale + 1
    );
    let (before, behind) = digits.split_at(digits.len() - scale);
    let sign = if number < BigInt::ZERO { "-" } else { "" };
    out.extend_from_slice(format!("{sign}{before}.{behind}").as_bytes());
}

fn edge_dates() -> impl Iterator<Item = String> {
    let years = [
        "1899", "1900", "1904", "2000", "2001", "9999", "10000", "0001", "100000",
    ];
    let days = ["01-01", "02-28", "03-01", "06-30", "12-31"];
    let ordinary = years
        .into_iter()
        .flat_map(move |year| days.map(|day| format!("{year}-{day}")));
    ordinary.chain(strings(&[
        "2000-02-29",
        "2400-02-29",
        "0001-02-29 BC",
        "0001-12-31 BC",
        "0002-01-01 BC",
        "4714-11-24 BC",
    ]))
}

fn edge_times() -> impl Iterator<Item = String> {
    strings(&[
        "00:00:00",
        "24:00:00",
        "23:59:59.999999",
        "00:00:00.000001",
        "12:30:00.1",
        "01:02:03.0405",
    ])
}

fn edge_timestamps() -> impl Iterator<Item = String> {
    let midnights = edge_dates();
    let moments = edge_dates().flat_map(|date| {
        let (day, era) = date.split_at(date.find(' ').unwrap_or(date.len()));
        ["23:59:59.999999", "00:00:00.000001", "12:00:00.5"]
            .map(|time| format!("{day} {time}{era}"))
    });
    midnights.chain(moments).chain(strings(&[
        "infinity",
        "-infinity",
        "294276-12-31 23:59:59.999999",
    ]))
}

fn edge_numerics() -> impl Iterator<Item = String> {
    let long = [
        "1e130", "1e-130", "1e4000", "-1e-4000", "9.99e255", "1e-256", "1e252", "1e256",
    ];
    let exact = [
        "0",
        "0.0",
        "0.0000",
        "-0.0000",
        "1",
        "-1",
        "10000",
        "9999",
        "0.0001",
        "0.00001",
        "100000000",
    ];
    let mixed = [
        "1234567890.0987654321",
        "-0.5",
        "12345.67800",
        "10000.0001",
        "100.0",
        "0.1000",
        "1e63",
        "1e64",
    ];
    let special = ["NaN", "Infinity", "-Infinity"];
    [&long[..], &exact, &mixed, &special]
        .concat()
        .into_iter()
        .map(str::to_owned)
}

fn edge_documents() -> Vec<String> {
    let list = |count: usize, item: &str| vec![item; count].join(",");
    let object = |count: usize, value: &str| {
        let pairs = (0..count).map(|key| format!("\"{}{key}\":{value}", "k".repeat(key % 5)));
        format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
    };
    let mut documents: Vec<String> = strings(&[
        "null",
        "true",
        "false",
        "0",
        "-12.50",
        "\"\"",
        "\"a\\\"b\\u0001\\n\"",
        "[]",
        "{}",
        "[[]]",
        "[{}]",
        "{\"a\":{}}",
        "{\"a\":[]}",
        "[1,\"x\",1,\"xy\",1,\"xyz\",[1],\"x\",{\"y\":1.5}]",
        "{\"b\":1,\"a\":\"\",\"aa\":[true,null],\"\":false}",
    ])
    .collect();
    for count in [31, 32, 33, 64, 65, 100] {
        documents.push(format!("[{}]", list(count, "1")));
        documents.push(format!("[{}]", list(count, "\"abc\",1,[2,\"d\"]")));
        documents.push(object(count, "1.5"));
        documents.push(object(count, "\"v\""));
        documents.push(object(count.min(64), "{\"a\":[1,\"é\"]}"));
    }
    documents.push(format!("{}{}", "[".repeat(500), "]".repeat(500)));
    documents.push(format!("{}1{}", "{\"a\":".repeat(400), "}".repeat(400)));
    documents
}

fn date_text(last_year: u32) -> impl Strategy<Value = String> {
    let year = prop_oneof![
        4 => (1900..2100_u32).prop_map(|year| (year, "")),
        2 => (1..=last_year).prop_map(|year| (year, "")),
        1 => (1..=4713_u32).prop_map(|year| (year, " BC")),
    ];
    (year, 1..=12_u32, 1..=28_u32)
        .prop_map(|((year, era), month, day)| format!("{year:04}-{month:02}-{day:02}{era}"))
}

fn time_text() -> impl Strategy<Value = String> {
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?"
}

fn timestamp_text() -> impl Strategy<Value = String> {
    (date_text(294_275), time_text()).prop_map(|(date, time)| match date.strip_suffix(" BC") {
        Some(day) => format!("{day} {time} BC"),
        None => format!("{date} {time}"),
    })
}

fn number_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,40})?",
        "-?(0|[1-9]0{0,20})(\\.0{0,20}[0-9]{1,2})?",
        "-?[1-9](\\.[0-9]{1,9})?e-?[0-9]{1,3}",
    ]
}

fn text() -> impl Strategy<Value = String> {
    let any_char = any::<char>().prop_filter("Postgres has no NUL", |c| *c != '\0');
    let special = prop::sample::select(vec![
        '"', '\\', '\n', '\t', '\u{1}', '\u{1f}', '\u{7f}', 'é',
    ]);
    let character = prop_oneof![4 => proptest::char::range(' ', '~'), 1 => any_char, 1 => special];
    prop::collection::vec(character, 0..60).prop_map(String::from_iter)
}

/// A JSON document as text.
fn document() -> impl Strategy<Value = String> {
    let string = text()
        .prop_map(|text| serde_json::to_string(&text).unwrap())
        .boxed();
    let leaf = prop_oneof![
        string.clone(),
        number_text().prop_filter("short", |text| !text.contains('e')),
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
    ];
    leaf.prop_recursive(5, 60, 8, move |inner| {
        let pair =
            (string.clone(), inner.clone()).prop_map(|(key, value)| format!("{key}:{value}"));
        prop_oneof![
            prop::collection::vec(inner, 0..8).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(pair, 0..8).prop_map(|pairs| format!("{{{}}}", pairs.join(","))),
        ]
    })
}

fn strings<'t>(texts: &'t [&'t str]) -> impl Iterator<Item = String> + 't {
    texts.iter().map(|text| (*text).to_owned())
}

fn i32_at(stored: &[u8], start: usize) -> i32 {
    i32::from_ne_bytes(*stored[start..].first_chunk().unwrap())
}

fn i64_at(stored: &[u8], start: usize) -> i64 {
    i64::from_ne_bytes(*stored[start..].first_chunk().unwrap())
}
