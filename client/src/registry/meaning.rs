//! Whether two schemas read the same bytes alike, so that one id may stand for both.
//!
//! A registry may take two texts for one schema: properties that Avro does not know, such as `pgType`,
//! have no part in it. Unlike Avro's Parsing Canonical Form, logical types count here: by another
//! scale the same bytes are another number.

use serde_json::Value;
use twox_hash::XxHash3_128;

/// What a reader goes by (Avro specification, "Schema Declaration", "Logical Types").
const PARTS: [&str; 11] = [
    "type",
    "name",
    "namespace",
    "fields",
    "items",
    "values",
    "symbols",
    "size",
    "logicalType",
    "precision",
    "scale",
];

/// XXH3-128 of what a reader goes by in a schema, given as JSON text; of the text, where it is none.
pub(super) fn meaning(schema: &str) -> u128 {
    let text = match serde_json::from_str(schema) {
        Ok(mut schema) => {
            reduce(&mut schema);
            schema.to_string()
        }
        Err(_) => schema.to_owned(),
    };
    XxHash3_128::oneshot(text.as_bytes())
}

fn reduce(schema: &mut Value) {
    match schema {
        Value::Object(parts) => {
            parts.retain(|name, _| PARTS.contains(&name.as_str()));
            parts.values_mut().for_each(reduce);
        }
        Value::Array(items) => items.iter_mut().for_each(reduce),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(of: &str, more: &str) -> String {
        format!(
            r#"{{"type":"record","name":"Row","fields":[{{"name":"a","type":{of},"default":null{more}}}]}}"#
        )
    }

    /// It is on record, beside ids: another number would say of each that it is another schema's.
    #[test]
    fn its_form_is_fixed() {
        let schema = row(
            r#"{"type":"int","logicalType":"date"}"#,
            r#","pgType":"date""#,
        );
        assert_eq!(
            meaning(&schema),
            290_978_118_823_260_404_604_377_528_741_196_329_598
        );
    }

    #[test]
    fn properties_do_not_count_and_types_names_and_scales_do() {
        let decimal = |scale: u32| {
            format!(r#"{{"type":"bytes","logicalType":"decimal","precision":8,"scale":{scale}}}"#)
        };
        let known = meaning(&row(&decimal(2), ""));
        assert_eq!(known, meaning(&row(&decimal(2), r#","pgType":"numeric""#)));
        for other in [
            row(&decimal(3), ""),
            row(r#""bytes""#, ""),
            row(&decimal(2), "").replace("Row", "Other"),
            row(&decimal(2), "").replace(r#""a""#, r#""b""#),
            "no JSON".to_owned(),
        ] {
            assert_ne!(known, meaning(&other), "{other}");
        }
    }
}
