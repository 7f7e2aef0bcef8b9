//! What differs between two schemas, for a person.
//!
//! Records are told apart by their full names, so that a composite type which changed is named once
//! and not at each column that has it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// Lines that say what `new` has otherwise than `old`, both JSON texts of Avro schemas: fields that
/// came, went, or have another type. None where one of them is no JSON, or nothing that a record is
/// made of differs.
pub fn difference(old: &str, new: &str) -> Vec<String> {
    let (Ok(old), Ok(new)) = (serde_json::from_str(old), serde_json::from_str(new)) else {
        return Vec::new();
    };
    let (mut before, mut after) = (Records::default(), Records::default());
    before.collect(&old, "");
    after.collect(&new, "");
    let mut lines = Vec::new();
    if before.root != after.root {
        lines.push(format!(
            "the schema is {} and was {}",
            after.root, before.root
        ));
    }
    let names: BTreeSet<&String> = before.records.keys().chain(after.records.keys()).collect();
    for name in names {
        let (Some(before), Some(after)) = (before.records.get(name), after.records.get(name))
        else {
            continue;
        };
        compare(name, before, after, &mut lines);
    }
    lines
}

/// The fields of a record, by their names, in their order's place.
type Fields = BTreeMap<String, Field>;

struct Field {
    /// The type, without what has no part in it.
    of: String,
    has_default: bool,
}

#[derive(Default)]
struct Records {
    root: String,
    records: BTreeMap<String, Fields>,
}

impl Records {
    fn collect(&mut self, schema: &Value, namespace: &str) {
        self.root = self.type_of(schema, namespace);
    }

    /// The type's name, having noted the fields of each record in it.
    fn type_of(&mut self, schema: &Value, namespace: &str) -> String {
        match schema {
            Value::String(name) => full_name(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|it| self.type_of(it, namespace));
                let branches: Vec<String> = branches.collect();
                match &*branches {
                    [null, other] if null == "null" => format!("{} or null", grouped(other)),
                    _ => format!("[{}]", branches.join(", ")),
                }
            }
            Value::Object(schema) => self.named(schema, namespace),
            _ => "?".to_owned(),
        }
    }

    fn named(&mut self, schema: &Map<String, Value>, namespace: &str) -> String {
        let text = |key: &str| schema.get(key).and_then(Value::as_str);
        let own = text("namespace").unwrap_or(namespace);
        let kind = schema.get("type").unwrap_or(&Value::Null);
        match kind.as_str() {
            Some("record" | "error") => {
                let name = full_name(text("name").unwrap_or("?"), own);
                let inner = name.rsplit_once('.').map_or("", |(namespace, _)| namespace);
                let inner = inner.to_owned();
                let mut fields = Fields::new();
                for field in schema
                    .get("fields")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                {
                    let of = self.type_of(field.get("type").unwrap_or(&Value::Null), &inner);
                    let has_default = field.get("default").is_some();
                    let name = field.get("name").and_then(Value::as_str).unwrap_or("?");
                    fields.insert(name.to_owned(), Field { of, has_default });
                }
                self.records.insert(name.clone(), fields);
                name
            }
            Some("enum") => {
                let symbols = schema.get("symbols").and_then(Value::as_array);
                let symbols = symbols.into_iter().flatten().filter_map(Value::as_str);
                let symbols: Vec<&str> = symbols.collect();
                let name = full_name(text("name").unwrap_or("?"), own);
                format!("enum {name}({})", symbols.join(", "))
            }
            Some("fixed") => {
                let name = full_name(text("name").unwrap_or("?"), own);
                let size = schema.get("size").unwrap_or(&Value::Null);
                format!("fixed {name}({size})")
            }
            Some("array") => {
                let items = self.type_of(schema.get("items").unwrap_or(&Value::Null), namespace);
                format!("array of {}", grouped(&items))
            }
            Some("map") => {
                let values = self.type_of(schema.get("values").unwrap_or(&Value::Null), namespace);
                format!("map of {}", grouped(&values))
            }
            _ => {
                let base = self.type_of(kind, namespace);
                match text("logicalType") {
                    Some("decimal") => {
                        let part = |key| schema.get(key).and_then(Value::as_u64).unwrap_or(0);
                        format!("decimal({},{})", part("precision"), part("scale"))
                    }
                    Some(logical) => format!("{logical}({base})"),
                    None => base,
                }
            }
        }
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    const PRIMITIVE: [&str; 8] = [
        "null", "boolean", "int", "long", "float", "double", "bytes", "string",
    ];
    if namespace.is_empty() || name.contains('.') || PRIMITIVE.contains(&name) {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}

fn compare(record: &str, before: &Fields, after: &Fields, lines: &mut Vec<String>) {
    for (name, field) in after {
        match before.get(name) {
            None => {
                let default = if field.has_default {
                    ""
                } else {
                    ", without a default"
                };
                lines.push(format!(
                    "{record}: field {name} added, {}{default}",
                    field.of
                ));
            }
            Some(old) if old.of != field.of => lines.push(format!(
                "{record}: field {name} changed from {} to {}",
                old.of, field.of
            )),
            Some(_) => {}
        }
    }
    for (name, field) in before {
        if !after.contains_key(name) {
            let default = if field.has_default {
                ""
            } else {
                ", which had no default"
            };
            lines.push(format!(
                "{record}: field {name} removed, {}{default}",
                field.of
            ));
        }
    }
}

/// Keeps a type of several words together.
fn grouped(of: &str) -> String {
    if of.contains(' ') {
        format!("({of})")
    } else {
        of.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fields: &str) -> String {
        format!(
            r#"{{"type":"record","name":"Row","namespace":"public.orders","fields":[{fields}]}}"#
        )
    }

    #[test]
    fn fields_that_came_went_and_changed_are_named() {
        let old = row(r#"{"name":"id","type":"int"},
               {"name":"gone","type":["null","string"],"default":null},
               {"name":"a","type":["null","int"],"default":null},
               {"name":"sum","type":["null",{"type":"bytes","logicalType":"decimal","precision":8,"scale":2}],"default":null}"#);
        let new = row(r#"{"name":"id","type":"long"},
               {"name":"a","type":["null","string"],"default":null},
               {"name":"new","type":["null",{"type":"int","logicalType":"date"}],"default":null},
               {"name":"bare","type":"int"},
               {"name":"sum","type":["null",{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}],"default":null}"#);
        assert_eq!(
            difference(&old, &new),
            [
                "public.orders.Row: field a changed from int or null to string or null",
                "public.orders.Row: field bare added, int, without a default",
                "public.orders.Row: field id changed from int to long",
                "public.orders.Row: field new added, date(int) or null",
                "public.orders.Row: field sum changed from decimal(8,2) or null to decimal(9,2) or \
                 null",
                "public.orders.Row: field gone removed, string or null",
            ]
        );
        assert_eq!(difference(&old, &old), Vec::<String>::new());
    }

    #[test]
    fn a_composite_type_is_named_once() {
        let point = |of: &str| {
            row(&format!(
                r#"{{"name":"a","type":["null",{{"type":"record","name":"point","namespace":"public",
                    "fields":[{{"name":"x","type":"{of}"}}]}}],"default":null}},
                   {{"name":"b","type":["null","public.point"],"default":null}}"#
            ))
        };
        assert_eq!(
            difference(&point("int"), &point("long")),
            ["public.point: field x changed from int to long"]
        );
    }

    #[test]
    fn properties_that_avro_does_not_know_are_no_difference() {
        let with = |property: &str| {
            row(&format!(
                r#"{{"name":"a","type":["null","int"],"default":null{property}}}"#
            ))
        };
        let (old, new) = (with(""), with(r#","pgType":"integer""#));
        assert_eq!(difference(&old, &new), Vec::<String>::new());
    }

    #[test]
    fn a_label_that_an_enum_gets_is_a_difference() {
        let with = |labels: &str| {
            row(&format!(
                r#"{{"name":"a","type":["null",{{"type":"enum","name":"public.mood","symbols":[{labels}]}}]}}"#
            ))
        };
        assert_eq!(
            difference(&with(r#""ok""#), &with(r#""ok","sad""#)),
            [
                "public.orders.Row: field a changed from (enum public.mood(ok)) or null to (enum \
                 public.mood(ok, sad)) or null"
            ]
        );
    }

    #[test]
    fn what_is_no_schema_has_no_difference() {
        for text in ["", "{", "7", "[]", "{}", r#"{"type":7}"#] {
            let _ = difference(text, &row(""));
            let _ = difference(&row(""), text);
        }
    }
}
