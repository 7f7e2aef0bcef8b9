//! The JSON Schema (draft 2020-12) of a table's rows: what the JSON encoder can write, read off
//! the codecs that write it.
//!
//! A column that is not of the key may be null. One whose values may stand out of line may be
//! absent too, where a change left it alone (see `hw.unchanged`). Arrays have any number of
//! dimensions, which no type says: their schemas refer to themselves.

use std::collections::HashSet;

use headwater_protocol::json;
use headwater_protocol::options::{Numbers, PluginOptions};

use crate::codec::{Codec, CompositeCodec};
use crate::pg::{DatabaseEncoding, base_type, enum_labels, type_text};
use crate::plan::RelationPlan;

/// A number that JSON has no number for is a string.
const FLOAT: &str = r#"{"anyOf":[{"type":"number"},{"enum":["NaN","Infinity","-Infinity"]}]}"#;
const STRING: &str = r#"{"type":"string"}"#;
const MAP: &str = r#"{"type":"object","additionalProperties":{"type":["string","null"]}}"#;

/// The schema of the rows of a plan that was compiled for JSON.
pub(crate) fn json_schema(
    plan: &RelationPlan,
    options: &PluginOptions,
    encoding: DatabaseEncoding,
) -> String {
    let mut printer = Printer {
        quotes_numbers: options.numbers == Numbers::String,
        encoding,
        definitions: Vec::new(),
        known: HashSet::new(),
    };
    let mut members = Vec::new();
    let mut required = Vec::new();
    for column in &plan.columns {
        let value = printer.value(&column.codec, column.type_oid);
        let value = if column.is_key {
            value
        } else {
            or_null(&value)
        };
        members.push((column.name.as_str(), value));
        if column.is_key || !column.attribute.may_stand_out_of_line() {
            required.push(column.name.as_str());
        }
    }
    let title = format!("{}.{}", plan.schema, plan.table);
    let object = object(&members, &required);
    let definitions: Vec<String> = printer
        .definitions
        .iter()
        .map(|(name, schema)| format!("{}:{schema}", quoted(name)))
        .collect();
    format!(
        "{{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"title\":{},{}{}}}",
        quoted(&title),
        &object[1..object.len() - 1],
        if definitions.is_empty() {
            String::new()
        } else {
            format!(",\"$defs\":{{{}}}", definitions.join(","))
        }
    )
}

struct Printer {
    quotes_numbers: bool,
    encoding: DatabaseEncoding,
    /// Of arrays and row types, by name; in the order in which they were completed.
    definitions: Vec<(String, String)>,
    /// Those and the ones under way.
    known: HashSet<String>,
}

impl Printer {
    fn value(&mut self, codec: &Codec, declared: u32) -> String {
        match codec {
            Codec::Bool => r#"{"type":"boolean"}"#.to_owned(),
            Codec::Int2 => integer(i64::from(i16::MIN), i64::from(i16::MAX)),
            Codec::Int4 => integer(i64::from(i32::MIN), i64::from(i32::MAX)),
            Codec::Int8 | Codec::Numeric | Codec::Decimal(_) if self.quotes_numbers => {
                STRING.to_owned()
            }
            Codec::Int8 => integer(i64::MIN, i64::MAX),
            Codec::Float4 | Codec::Float8 | Codec::Numeric | Codec::Decimal(_) => FLOAT.to_owned(),
            Codec::Uuid => r#"{"type":"string","format":"uuid"}"#.to_owned(),
            // Any JSON.
            Codec::Json | Codec::Jsonb => "true".to_owned(),
            Codec::Hstore => MAP.to_owned(),
            Codec::Enum(_) => self.labels(declared),
            Codec::Array(array) => {
                let name = type_text(base_type(declared), -1, self.encoding);
                self.defined(&name, |printer| {
                    let element = printer.value(&array.element, array.element_type);
                    format!(
                        "{{\"type\":\"array\",\"items\":{{\"anyOf\":[{element},{{\"type\":\"null\"}},{}]}}}}",
                        reference(&name)
                    )
                })
            }
            Codec::Composite(composite) => {
                let name = type_text(base_type(declared), -1, self.encoding);
                // Entered once at a time: see the codec's module.
                self.defined(&name, |printer| match composite.try_borrow() {
                    Ok(composite) => printer.row_type(&composite),
                    Err(_) => "true".to_owned(),
                })
            }
            // No value of these is ever written.
            Codec::Unnameable | Codec::TooDeep => "false".to_owned(),
            _ => STRING.to_owned(),
        }
    }

    /// A reference to a definition, which is made where there is none yet.
    fn defined(&mut self, name: &str, define: impl FnOnce(&mut Self) -> String) -> String {
        if self.known.insert(name.to_owned()) {
            let schema = define(self);
            self.definitions.push((name.to_owned(), schema));
        }
        reference(name)
    }

    fn row_type(&mut self, composite: &CompositeCodec) -> String {
        let members: Vec<(&str, String)> = composite
            .attributes
            .iter()
            .map(|attribute| {
                let description = &attribute.description;
                let value = self.value(&attribute.codec, description.type_oid);
                (description.name.as_str(), or_null(&value))
            })
            .collect();
        let required: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
        object(&members, &required)
    }

    fn labels(&self, declared: u32) -> String {
        let labels: Vec<String> = enum_labels(base_type(declared), self.encoding)
            .iter()
            .map(|(_, label)| quoted(label))
            .collect();
        format!("{{\"enum\":[{}]}}", labels.join(","))
    }
}

fn object(members: &[(&str, String)], required: &[&str]) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(name, value)| format!("{}:{value}", quoted(name)))
        .collect();
    let required: Vec<String> = required.iter().map(|name| quoted(name)).collect();
    format!(
        "{{\"type\":\"object\",\"properties\":{{{}}},\"required\":[{}],\"additionalProperties\":false}}",
        members.join(","),
        required.join(",")
    )
}

fn integer(least: i64, most: i64) -> String {
    format!("{{\"type\":\"integer\",\"minimum\":{least},\"maximum\":{most}}}")
}

fn or_null(schema: &str) -> String {
    format!("{{\"anyOf\":[{schema},{{\"type\":\"null\"}}]}}")
}

/// A JSON pointer in a URI's fragment (RFC 6901, sections 3 and 6).
fn reference(name: &str) -> String {
    let mut pointer = String::from("#/$defs/");
    for byte in name.bytes() {
        match byte {
            b'~' => pointer.push_str("~0"),
            b'/' => pointer.push_str("~1"),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                pointer.push(char::from(byte));
            }
            _ => pointer.push_str(&format!("%{byte:02X}")),
        }
    }
    format!("{{\"$ref\":\"{pointer}\"}}")
}

fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    json::string(&mut out, text.as_bytes());
    String::from_utf8_lossy(&out).into_owned()
}
