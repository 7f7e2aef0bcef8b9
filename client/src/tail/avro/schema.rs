//! A schema's text as `apache-avro` is to read it.
//!
//! Avro's JSON encoding knows no logical types: it shows the number or the bytes beneath. A
//! reader has to ignore a logical type that it does not know (Avro 1.12, "Logical Types"), so
//! one is dropped by leaving its attribute away. What remains is read exactly: no UUID is
//! parsed and no decimal converted.

use apache_avro::Schema;
use serde_json::{Map, Value};

const LOGICAL_TYPE: &str = "logicalType";

/// Which have a form that a person reads better than the one beneath, and that
/// [`super::logical`] writes.
const READABLE: [&str; 5] = [
    "date",
    "decimal",
    "local-timestamp-micros",
    "time-micros",
    "timestamp-micros",
];

/// What becomes of logical types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogicalTypes {
    /// All are left away.
    Dropped,
    /// Those of [`READABLE`] stay.
    Kept,
}

/// Reads a schema.
///
/// # Errors
/// It is none.
pub(super) fn parse(text: &str, logical_types: LogicalTypes) -> Result<Schema, apache_avro::Error> {
    match serde_json::from_str::<Value>(text) {
        Ok(mut schema) => {
            reduce(&mut schema, logical_types);
            Schema::parse(&schema)
        }
        // Says what is wrong with it.
        Err(_) => Schema::parse_str(text),
    }
}

/// Leaves logical types away in a schema and those within it, and nowhere else: a default or a
/// property may hold anything.
fn reduce(schema: &mut Value, logical_types: LogicalTypes) {
    match schema {
        Value::Array(branches) => {
            for branch in branches {
                reduce(branch, logical_types);
            }
        }
        Value::Object(attributes) => {
            if logical_types == LogicalTypes::Dropped || !is_readable(attributes) {
                attributes.remove(LOGICAL_TYPE);
            }
            for within in ["type", "items", "values"] {
                if let Some(schema) = attributes.get_mut(within) {
                    reduce(schema, logical_types);
                }
            }
            let fields = attributes.get_mut("fields").and_then(Value::as_array_mut);
            for field in fields.into_iter().flatten() {
                reduce(field, logical_types);
            }
        }
        _ => {}
    }
}

fn is_readable(attributes: &Map<String, Value>) -> bool {
    let logical_type = attributes.get(LOGICAL_TYPE).and_then(Value::as_str);
    logical_type.is_some_and(|name| READABLE.contains(&name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_logical_type_is_left_away_wherever_a_schema_stands() {
        let text = r#"{"type":"record","name":"r","fields":[
            {"name":"a","type":["null",{"type":"int","logicalType":"date"}]},
            {"name":"b","type":{"type":"array","items":{"type":"string","logicalType":"uuid"}}},
            {"name":"c","type":{"type":"map","values":{"type":"long","logicalType":"time-micros"}}},
            {"name":"d","type":"string","default":"{\"logicalType\":\"date\"}"}]}"#;
        let printed = |kept| {
            let schema = parse(text, kept).unwrap();
            let text = serde_json::to_string(&schema).unwrap();
            ["date", "uuid", "time-micros"].map(|name| text.contains(&format!("\":\"{name}\"")))
        };
        assert_eq!(printed(LogicalTypes::Dropped), [false, false, false]);
        assert_eq!(printed(LogicalTypes::Kept), [true, false, true]);
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for text in ["", "{", r#"{"type":"row"}"#, r#"{"type":"array"}"#] {
            assert!(parse(text, LogicalTypes::Dropped).is_err(), "{text}");
        }
    }
}
