//! What people read about types, from the table that the writers use.

use std::fmt::Write;

use super::{BUILT_INS, Constructed, Kind};
use crate::avro::Schema;

/// The reference page `docs/type-map.md`, whole.
pub fn reference() -> String {
    let mut text = String::from(HEAD);
    let mut told = Vec::new();
    for kind in BUILT_INS.iter().map(|built_in| built_in.kind) {
        if !told.contains(&kind) {
            told.push(kind);
            row(&mut text, &types(kind), &kind_text(kind), &avro_text(kind));
        }
    }
    text.push_str(CONSTRUCTED_HEAD);
    for constructed in CONSTRUCTED {
        let (types, json, avro) = constructed_text(*constructed);
        row(&mut text, types, json, avro);
    }
    text.push_str(TAIL);
    text
}

fn row(text: &mut String, types: &str, json: &str, avro: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "| {types} | {json} | {avro} |");
}

fn types(kind: Kind) -> String {
    let names: Vec<String> = BUILT_INS
        .iter()
        .filter(|built_in| built_in.kind == kind)
        .map(|built_in| format!("`{}`", built_in.name))
        .collect();
    names.join(", ")
}

/// What is said of a kind's form in JSON.
fn kind_text(kind: Kind) -> String {
    match kind {
        Kind::Bool => "`true`, `false`",
        Kind::Int2 | Kind::Int4 => "a number",
        Kind::Int8 => "a number, exact; a string under `numbers=string`",
        Kind::Numeric => {
            "a number with every digit of its scale; a string under `numbers=string`; `\"NaN\"`, \
             `\"Infinity\"`, `\"-Infinity\"`"
        }
        Kind::Float4 | Kind::Float8 => {
            "the shortest number that reads back as the same; `\"NaN\"`, `\"Infinity\"`, \
             `\"-Infinity\"`"
        }
        Kind::Text | Kind::Name | Kind::Char | Kind::Xml => "a string",
        Kind::Date => "`\"2026-03-01\"`, ` BC` behind years before 1, `\"infinity\"`",
        Kind::Timestamp => "`\"2026-03-01T12:30:00.5\"`, as for `date`",
        Kind::TimestampTz => "`\"2026-03-01T12:30:00.5+00:00\"`, in UTC, as for `date`",
        Kind::Time => "`\"12:30:00.5\"`, `\"24:00:00\"`",
        Kind::TimeTz => "`\"12:30:00.5+02\"`",
        Kind::Interval => "`\"1 year -2 days +03:00:00\"`",
        Kind::Uuid => "`\"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\"`",
        Kind::Bytea => "`\"\\\\x00ff\"`",
        Kind::Json => "as it is, its text kept",
        Kind::Jsonb => "as it is",
        Kind::Oid | Kind::Xid8 => "a string of digits",
        Kind::Money => "`\"$1,234.50\"`",
        Kind::Bits => "`\"101\"`",
        Kind::Inet | Kind::Cidr => "`\"192.0.2.1/24\"`",
        Kind::MacAddr | Kind::MacAddr8 => "`\"08:00:2b:01:02:03\"`",
        Kind::PgLsn => "`\"16/B374D848\"`",
        Kind::Tid => "`\"(0,1)\"`",
        Kind::Output => "its text, a string",
    }
    .to_owned()
}

/// The schema that values have, and what is said of it.
fn avro_text(kind: Kind) -> String {
    let note = match kind {
        Kind::Numeric => {
            return "`numeric(p,s)` with 0 ≤ s ≤ p: `bytes` (`decimal`, precision p, scale s), \
                    where NaN and infinity cannot be written; any other: `string`, the text of \
                    the JSON without quotes"
                .to_owned();
        }
        Kind::Interval => {
            return "record `headwater.Interval`: `months` `int`, `days` `int`, \
                                  `micros` `long`; infinity (17 on): the ends of all three"
                .to_owned();
        }
        Kind::TimeTz => {
            return "record `headwater.TimeTz`: `micros` `long` (`time-micros`), \
                                `offset` `int`, seconds east of UTC"
                .to_owned();
        }
        Kind::Date => "days since 1970-01-01; ±infinity: the ends of `int`",
        Kind::Timestamp | Kind::TimestampTz => {
            "microseconds since 1970; ±infinity: the ends of `long`; from 294247-01-10 04:00:54.775807 \
             on it cannot be written"
        }
        Kind::Time => "24:00:00 is 86400000000",
        Kind::Json | Kind::Jsonb => {
            "property `contentType`: `application/json`; the text of the JSON"
        }
        Kind::Xid8 => "64 bits without a sign, which a `long` has not",
        Kind::Money
        | Kind::Bits
        | Kind::Inet
        | Kind::Cidr
        | Kind::MacAddr
        | Kind::MacAddr8
        | Kind::PgLsn
        | Kind::Tid
        | Kind::Output => "the text of the JSON",
        _ => "",
    };
    let schema = in_words(&kind.schema(-1));
    if note.is_empty() {
        schema
    } else {
        format!("{schema}; {note}")
    }
}

fn in_words(schema: &Schema) -> String {
    match schema {
        Schema::Boolean => "`boolean`",
        Schema::Int => "`int`",
        Schema::Long => "`long`",
        Schema::Float => "`float`",
        Schema::Double => "`double`",
        Schema::Bytes => "`bytes`",
        Schema::String => "`string`",
        Schema::Date => "`int` (`date`)",
        Schema::TimeMicros => "`long` (`time-micros`)",
        Schema::TimestampMicros => "`long` (`timestamp-micros`)",
        Schema::LocalTimestampMicros => "`long` (`local-timestamp-micros`)",
        Schema::Uuid => "`string` (`uuid`)",
        Schema::Annotated(schema, _) => return in_words(schema),
        schema => return format!("`{}`", schema.to_json()),
    }
    .to_owned()
}

const CONSTRUCTED: &[Constructed] = &[
    Constructed::Array,
    Constructed::Composite,
    Constructed::Domain,
    Constructed::Enum,
    Constructed::Range,
    Constructed::Multirange,
    Constructed::Hstore,
    Constructed::Other,
];

/// The types, and what is said of their forms in JSON and in Avro.
fn constructed_text(constructed: Constructed) -> (&'static str, &'static str, &'static str) {
    match constructed {
        Constructed::Domain => (
            "domains",
            "as the type that they are made of",
            "likewise; the domain's name is the property `pgDomain` of the column",
        ),
        Constructed::Enum => (
            "enums",
            "the label, a string",
            "`string` with the labels as the property `labels`; under `enum=avro` an `enum`, the \
             labels escaped, except for one that the table's key holds",
        ),
        Constructed::Composite => (
            "row types, rows of tables as values",
            "an object",
            "a record of the type's name; each field null or a value",
        ),
        Constructed::Array => (
            "arrays, `int2vector`, `oidvector`",
            "an array, nested as deep as it has dimensions; lower bounds are not told",
            "`array` of elements or null, where it is empty or has one dimension from 1 on; else a \
             record: `dimensions`, each with `length` and `lower`, and `elements`, the last \
             dimension's first. Within another array, by way of a domain, always the record",
        ),
        Constructed::Range => (
            "ranges",
            "their text, a string",
            "a record of the type's name: `lower`, `upper`, null where there is no end, \
             `lower_inclusive`, `upper_inclusive`, `empty`",
        ),
        Constructed::Multirange => (
            "multiranges",
            "their text, a string",
            "`array` of the ranges",
        ),
        Constructed::Hstore => (
            "`hstore`",
            "an object of strings and nulls",
            "`map` of strings and nulls",
        ),
        Constructed::Other => (
            "types of other extensions, and of users",
            "their text, a string",
            "`string`, the same text",
        ),
    }
}

const HEAD: &str = "\
<!-- Generated from protocol/src/type_map. HEADWATER_BLESS=1 cargo test -p headwater-protocol rewrites it. -->

# What each type becomes

Every type is something; none is left out. [Values](values.md) has the rules behind the
JSON, and what happens to a value that cannot be written.

| type | JSON | Avro |
|---|---|---|
";

const CONSTRUCTED_HEAD: &str = "
Types that are made of others, by how they are made:

| type | JSON | Avro |
|---|---|---|
";

const TAIL: &str = "";
