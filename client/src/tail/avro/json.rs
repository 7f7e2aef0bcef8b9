//! A datum in Avro's JSON encoding (Avro 1.12, "JSON Encoding").
//!
//! A union's value is `null` or an object of the branch's name and the value. Bytes are a string with a
//! character U+0000 to U+00FF for each, and those that are no printable ASCII are escaped,
//! so that no terminal takes them for commands. NaN and the infinities, for
//! which JSON has no number, are strings, as in Java's implementation. A map's entries have no
//! order; they are sorted.

use std::fmt;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::{InnerDecimalSchema, NamesRef, NamespaceRef, ResolvedSchema};
use apache_avro::types::Value;
use headwater_protocol::json;
use num_bigint::BigInt;

use super::{Bytes, logical};

/// Why bytes are no datum of a schema.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// They end before it does.
    Short,
    /// They go on behind it, by so many bytes.
    Long(usize),
    /// Something in it is not what the schema says.
    Malformed,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Short => f.write_str("they end too early"),
            Wrong::Long(bytes) => write!(f, "{bytes} bytes too many"),
            Wrong::Malformed => f.write_str("they are malformed"),
        }
    }
}

/// Writes a datum.
///
/// # Errors
/// The bytes are none of this schema. A part may have been written.
pub(super) fn datum(out: &mut Vec<u8>, schema: &Schema, datum: &[u8]) -> Result<(), Wrong> {
    let mut bytes = Bytes {
        rest: datum,
        is_short: false,
    };
    // Its errors hold values.
    let reader = GenericDatumReader::builder(schema).build();
    let value = reader.and_then(|reader| reader.read_value(&mut bytes));
    if bytes.is_short {
        return Err(Wrong::Short);
    }
    let value = value.map_err(|_| Wrong::Malformed)?;
    if !bytes.rest.is_empty() {
        return Err(Wrong::Long(bytes.rest.len()));
    }
    let resolved = ResolvedSchema::try_from(schema).map_err(|_| Wrong::Malformed)?;
    let writer = Writer {
        names: resolved.get_names(),
    };
    writer.value(out, schema, &value, None)
}

/// Knows what names stand for.
struct Writer<'s> {
    names: &'s NamesRef<'s>,
}

impl Writer<'_> {
    fn value(
        &self,
        out: &mut Vec<u8>,
        schema: &Schema,
        value: &Value,
        namespace: NamespaceRef<'_>,
    ) -> Result<(), Wrong> {
        match (schema, value) {
            (Schema::Null, Value::Null) => out.extend_from_slice(b"null"),
            (Schema::Boolean, Value::Boolean(true)) => out.extend_from_slice(b"true"),
            (Schema::Boolean, Value::Boolean(false)) => out.extend_from_slice(b"false"),
            (Schema::Int, Value::Int(number)) => json::integer(out, i64::from(*number)),
            (Schema::Long, Value::Long(number)) => json::integer(out, *number),
            (Schema::Float, Value::Float(number)) => float(out, *number, f64::from(*number)),
            (Schema::Double, Value::Double(number)) => float(out, *number, *number),
            (Schema::Bytes, Value::Bytes(bytes)) | (Schema::Fixed(_), Value::Fixed(_, bytes)) => {
                byte_string(out, bytes);
            }
            (Schema::String, Value::String(text)) | (Schema::Enum(_), Value::Enum(_, text)) => {
                json::string(out, text.as_bytes());
            }
            (Schema::Decimal(decimal), Value::Decimal(unscaled)) => {
                logical::decimal(out, &BigInt::from(unscaled.clone()), decimal.scale);
            }
            (Schema::Array(array), Value::Array(items)) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    comma(out, index);
                    self.value(out, &array.items, item, namespace)?;
                }
                out.push(b']');
            }
            (Schema::Map(map), Value::Map(entries)) => {
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                out.push(b'{');
                for (index, (key, value)) in entries.into_iter().enumerate() {
                    comma(out, index);
                    json::string(out, key.as_bytes());
                    out.push(b':');
                    self.value(out, &map.types, value, namespace)?;
                }
                out.push(b'}');
            }
            (Schema::Union(union), Value::Union(branch, value)) => {
                let branch = union.variants().get(*branch as usize);
                self.branch(out, branch.ok_or(Wrong::Malformed)?, value, namespace)?;
            }
            (Schema::Record(record), Value::Record(fields)) => {
                let name = record.name.fully_qualified_name(namespace);
                out.push(b'{');
                for (index, (field, (_, value))) in record.fields.iter().zip(fields).enumerate() {
                    comma(out, index);
                    json::string(out, field.name.as_bytes());
                    out.push(b':');
                    self.value(out, &field.schema, value, name.namespace())?;
                }
                out.push(b'}');
            }
            (Schema::Ref { name }, value) => {
                let name = name.fully_qualified_name(namespace);
                let schema = self.names.get(&*name).ok_or(Wrong::Malformed)?;
                self.value(out, schema, value, name.namespace())?;
            }
            (_, value) if logical::text(out, value) => {}
            _ => return Err(Wrong::Malformed),
        }
        Ok(())
    }

    /// Writes the value of a union's branch, with the branch's name unless it is null.
    fn branch(
        &self,
        out: &mut Vec<u8>,
        schema: &Schema,
        value: &Value,
        namespace: NamespaceRef<'_>,
    ) -> Result<(), Wrong> {
        if *schema == Schema::Null {
            return self.value(out, schema, value, namespace);
        }
        out.push(b'{');
        json::string(out, branch_name(schema, namespace).as_bytes());
        out.push(b':');
        self.value(out, schema, value, namespace)?;
        out.push(b'}');
        Ok(())
    }
}

/// The full name of a named type, the type's own name of any other; a logical type's is that of
/// the type beneath.
fn branch_name(schema: &Schema, namespace: NamespaceRef<'_>) -> String {
    match schema {
        Schema::Decimal(decimal) => match &decimal.inner {
            InnerDecimalSchema::Bytes => "bytes".to_owned(),
            InnerDecimalSchema::Fixed(fixed) => fixed.name.fullname(namespace),
        },
        Schema::Date => "int".to_owned(),
        Schema::TimeMicros | Schema::TimestampMicros | Schema::LocalTimestampMicros => {
            "long".to_owned()
        }
        Schema::Null => "null".to_owned(),
        Schema::Boolean => "boolean".to_owned(),
        Schema::Int => "int".to_owned(),
        Schema::Long => "long".to_owned(),
        Schema::Float => "float".to_owned(),
        Schema::Double => "double".to_owned(),
        Schema::Bytes => "bytes".to_owned(),
        Schema::String => "string".to_owned(),
        Schema::Array(_) => "array".to_owned(),
        Schema::Map(_) => "map".to_owned(),
        other => other
            .name()
            .map_or_else(String::new, |name| name.fullname(namespace)),
    }
}

/// Writes the shortest text that is read back as the same number.
fn float(out: &mut Vec<u8>, number: impl serde::Serialize, wide: f64) {
    if wide.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else if wide.is_infinite() {
        out.extend_from_slice(match wide > 0.0 {
            true => b"\"Infinity\"",
            false => b"\"-Infinity\"",
        });
    } else if let Ok(text) = serde_json::to_string(&number) {
        out.extend_from_slice(text.as_bytes());
    }
}

fn byte_string(out: &mut Vec<u8>, bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => out.push(byte),
            _ => {
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
            }
        }
    }
    out.push(b'"');
}

fn comma(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.push(b',');
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::schema::{LogicalTypes, parse};
    use super::*;

    #[track_caller]
    fn shown(kept: LogicalTypes, schema: &str, bytes: &[u8]) -> Result<String, Wrong> {
        let schema = parse(schema, kept).unwrap();
        let mut out = Vec::new();
        datum(&mut out, &schema, bytes)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[track_caller]
    fn assert_shown(schema: &str, bytes: &[u8], expected: &str) {
        assert_eq!(
            shown(LogicalTypes::Dropped, schema, bytes).as_deref(),
            Ok(expected),
            "{schema}"
        );
    }

    #[test]
    fn primitives_are_what_json_has_for_them() {
        assert_shown(r#""null""#, &[], "null");
        assert_shown(r#""boolean""#, &[1], "true");
        assert_shown(r#""int""#, &[1], "-1");
        assert_shown(
            r#""long""#,
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            "-9223372036854775808",
        );
        assert_shown(r#""float""#, &0.1_f32.to_le_bytes(), "0.1");
        assert_shown(r#""double""#, &1e300_f64.to_le_bytes(), "1e+300");
        assert_shown(r#""string""#, b"\x06a\"\n", r#""a\"\n""#);
        assert_shown(
            r#""bytes""#,
            &[8, 0, b'a', 0xff, b'\\'],
            r#""\u0000a\u00ff\\""#,
        );
    }

    #[test]
    fn what_json_has_no_number_for_is_a_string() {
        for (number, expected) in [
            (f32::NAN, "\"NaN\""),
            (f32::INFINITY, "\"Infinity\""),
            (f32::NEG_INFINITY, "\"-Infinity\""),
        ] {
            assert_shown(r#""float""#, &number.to_le_bytes(), expected);
        }
    }

    #[test]
    fn a_union_names_the_branch_of_what_is_not_null() {
        let union = r#"["null","string",{"type":"array","items":["null","int"]},
            {"type":"record","name":"Point","namespace":"a.b","fields":[{"name":"x","type":"int"}]}]"#;
        assert_shown(union, &[0], "null");
        assert_shown(union, &[2, 2, b'x'], r#"{"string":"x"}"#);
        assert_shown(union, &[4, 4, 0, 2, 6, 0], r#"{"array":[null,{"int":3}]}"#);
        assert_shown(union, &[6, 2], r#"{"a.b.Point":{"x":1}}"#);
    }

    #[test]
    fn a_named_type_is_found_again_by_its_name() {
        let schema = r#"{"type":"record","name":"Row","namespace":"s.t","fields":[
            {"name":"a","type":{"type":"record","name":"C","fields":[{"name":"n","type":"long"}]}},
            {"name":"b","type":["null","C"]}]}"#;
        assert_shown(schema, &[2, 2, 4], r#"{"a":{"n":1},"b":{"s.t.C":{"n":2}}}"#);
    }

    #[test]
    fn entries_of_a_map_are_sorted() {
        assert_shown(
            r#"{"type":"map","values":"int"}"#,
            &[4, 2, b'b', 2, 2, b'a', 4, 0],
            r#"{"a":2,"b":1}"#,
        );
    }

    #[test]
    fn logical_types_are_the_type_beneath_unless_a_person_reads_them() {
        let date = r#"["null",{"type":"int","logicalType":"date"}]"#;
        let price = r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}"#;
        assert_shown(date, &[2, 2], r#"{"int":1}"#);
        assert_shown(price, &[4, 0xff, 0x6a], r#""\u00ffj""#);
        let readable = |schema, bytes: &[u8]| shown(LogicalTypes::Kept, schema, bytes).unwrap();
        assert_eq!(readable(date, &[2, 2]), r#"{"int":"1970-01-02"}"#);
        assert_eq!(readable(price, &[4, 0xff, 0x6a]), "-1.50");
    }

    #[test]
    fn bytes_that_are_no_datum_are_told_from_one() {
        let schema = r#"{"type":"record","name":"r","fields":[
            {"name":"a","type":"string"},{"name":"b","type":["null","boolean"]}]}"#;
        let wrong = |bytes: &[u8]| shown(LogicalTypes::Dropped, schema, bytes).unwrap_err();
        assert_shown(
            schema,
            &[2, b'x', 2, 1],
            r#"{"a":"x","b":{"boolean":true}}"#,
        );
        for end in 0..4 {
            assert_eq!(wrong(&[2, b'x', 2, 1][..end]), Wrong::Short, "{end} bytes");
        }
        assert_eq!(wrong(&[2, b'x', 2, 1, 0, 0]), Wrong::Long(2));
        assert_eq!(wrong(&[2, b'x', 4]), Wrong::Malformed);
        assert_eq!(wrong(&[2, 0xff, 0]), Wrong::Malformed);
        assert_eq!(wrong(&[1, b'x', 0]), Wrong::Malformed);
    }
}
