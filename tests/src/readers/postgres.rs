//! What Postgres says of a value, against what a reader of Avro found.
//!
//! Postgres speaks by `row_to_json`, under the settings of [`crate::types`]. Its text is taken
//! apart here, by rules that are Postgres' own (calendar, numeric, range and interval
//! literals), and by the schema, which says what was to be written. Nothing of Headwater's is
//! used.

mod interval;
mod range;
mod time;

use std::collections::{BTreeMap, HashMap};

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::apache::double;

/// Compares a row or a part of one.
pub struct Comparison<'s> {
    /// Records by their full names.
    names: HashMap<String, &'s Value>,
}

type Same = Result<(), String>;

impl<'s> Comparison<'s> {
    /// Knows the named types of a schema.
    pub fn of(schema: &'s Value) -> Self {
        let mut names = HashMap::new();
        collect(schema, "", &mut names);
        Comparison { names }
    }

    /// Fails with the first difference of a value, found under this schema, from Postgres' JSON.
    ///
    /// # Errors
    ///
    /// A sentence with both.
    pub fn same(&self, schema: &Value, found: &Value, said: &str) -> Same {
        match self.resolved(schema) {
            Value::Array(branches) => self.union(branches, found, said),
            Value::String(primitive) => scalar(primitive, &Value::Null, found, said),
            object => {
                let of = object["type"].as_str().unwrap_or_default();
                match of {
                    "record" => self.record(object, found, said),
                    "array" => self.array(object, found, said),
                    "map" => map(found, said),
                    "" => self.same(&object["type"], found, said),
                    _ => scalar(of, object, found, said),
                }
            }
        }
    }

    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let name = schema.as_str().unwrap_or_default();
        self.names.get(name).copied().unwrap_or(schema)
    }

    fn union(&self, branches: &[Value], found: &Value, said: &str) -> Same {
        if found.is_null() {
            return equal(&Value::Null, found, said == "null", said);
        }
        let not_null = branches.iter().filter(|branch| *branch != "null");
        let mut of_this_form = not_null.filter(|branch| {
            let is_array = self.resolved(branch)["type"] == "array";
            branches.len() <= 2 || is_array == found.is_array()
        });
        match (of_this_form.next(), of_this_form.next()) {
            (Some(branch), None) => self.same(branch, found, said),
            _ => Err(format!("no one branch of {branches:?} for {found}")),
        }
    }

    fn record(&self, schema: &Value, found: &Value, said: &str) -> Same {
        let has = |name: &str| found.get(name).is_some();
        if has("dimensions") && has("elements") {
            return self.shaped(schema, found, said);
        }
        if has("lower_inclusive") && has("empty") {
            return self.range(schema, found, said);
        }
        match schema["name"].as_str().unwrap_or_default() {
            "Interval" | "headwater.Interval" => return interval::same(found, said),
            "TimeTz" | "headwater.TimeTz" => return time::with_zone(found, said),
            _ => {}
        }
        let said: BTreeMap<String, Box<RawValue>> = parsed(said)?;
        let fields = fields(schema);
        if fields.len() != said.len() {
            return Err(format!("{} fields, not {}", fields.len(), said.len()));
        }
        for field in fields {
            let name = field["name"].as_str().unwrap_or_default();
            let Some(said) = said.get(&unescaped(name)) else {
                return Err(format!("Postgres has no {name}"));
            };
            self.same(&field["type"], &found[name], said.get())
                .map_err(|difference| format!("{name}: {difference}"))?;
        }
        Ok(())
    }

    fn array(&self, schema: &Value, found: &Value, said: &str) -> Same {
        let items = found.as_array().map_or(&[][..], Vec::as_slice);
        let said: Vec<String> = match said.starts_with('"') {
            true => range::members(&unquoted(said)?)?,
            false => elements(said)?,
        };
        self.all(&schema["items"], items, &said)
    }

    /// An array with dimensions: Postgres nests them, the record has the elements in a row.
    fn shaped(&self, schema: &Value, found: &Value, said: &str) -> Same {
        let dimensions = found["dimensions"].as_array();
        let mut said = match dimensions.is_some_and(Vec::is_empty) {
            // An empty array has none.
            true => elements(said)?,
            false => vec![said.to_owned()],
        };
        for dimension in dimensions.into_iter().flatten() {
            let mut next = Vec::new();
            for part in &said {
                let within = elements(part)?;
                if dimension["length"].as_u64() != Some(within.len() as u64) {
                    return Err(format!("{dimension} for {} elements", within.len()));
                }
                next.extend(within);
            }
            said = next;
        }
        let of = fields(schema)
            .iter()
            .find(|field| field["name"] == "elements")
            .map_or(&Value::Null, |field| &field["type"]["items"]);
        let items = found["elements"].as_array();
        self.all(of, items.map_or(&[], Vec::as_slice), &said)
    }

    fn all(&self, of: &Value, found: &[Value], said: &[String]) -> Same {
        if found.len() != said.len() {
            return Err(format!("{} elements, not {}", found.len(), said.len()));
        }
        for (index, (found, said)) in found.iter().zip(said).enumerate() {
            self.same(of, found, said)
                .map_err(|difference| format!("[{index}]: {difference}"))?;
        }
        Ok(())
    }

    fn range(&self, schema: &Value, found: &Value, said: &str) -> Same {
        let text = match said.starts_with('"') {
            true => unquoted(said)?,
            false => said.to_owned(),
        };
        let range = range::parsed(&text)?;
        for (name, said) in [
            ("empty", range.is_empty),
            ("lower_inclusive", range.lower_inclusive),
            ("upper_inclusive", range.upper_inclusive),
        ] {
            equal(&json!(said), &found[name], found[name] == json!(said), name)?;
        }
        for (name, said) in [("lower", range.lower), ("upper", range.upper)] {
            let of = fields(schema).iter().find(|field| field["name"] == name);
            let said = match said {
                Some(text) => Value::String(text).to_string(),
                None => "null".to_owned(),
            };
            self.same(of.map_or(&Value::Null, |f| &f["type"]), &found[name], &said)
                .map_err(|difference| format!("{name}: {difference}"))?;
        }
        Ok(())
    }
}

/// Digits of bytes.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A name without the escapes for what Avro's names may not hold: `_xHH_` for a byte.
pub fn unescaped(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if let [b'_', b'x', high, low, b'_', ..] = *rest
            && let Ok(byte) = u8::from_str_radix(&String::from_utf8_lossy(&[high, low]), 16)
        {
            bytes.push(byte);
            rest = &rest[5..];
            continue;
        }
        bytes.push(first);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn collect<'s>(schema: &'s Value, enclosing: &str, names: &mut HashMap<String, &'s Value>) {
    match schema {
        Value::Array(branches) => {
            for branch in branches {
                collect(branch, enclosing, names);
            }
        }
        Value::Object(object) => {
            let name = object.get("name").and_then(Value::as_str);
            let mut namespace = enclosing.to_owned();
            if let Some(name) = name.filter(|_| object.contains_key("fields")) {
                if let Some(own) = object.get("namespace").and_then(Value::as_str) {
                    own.clone_into(&mut namespace);
                }
                names.insert(format!("{namespace}.{name}"), schema);
            }
            for within in ["type", "items", "values", "fields"] {
                if let Some(within) = object.get(within) {
                    collect(within, &namespace, names);
                }
            }
        }
        _ => {}
    }
}

fn fields(schema: &Value) -> &[Value] {
    schema["fields"].as_array().map_or(&[], Vec::as_slice)
}

/// A value without parts.
fn scalar(of: &str, attributes: &Value, found: &Value, said: &str) -> Same {
    let logical = attributes["logicalType"].as_str();
    let expected = match (of, logical) {
        ("null", _) => Value::Null,
        ("boolean", _) => parsed(said)?,
        ("int", Some("date")) => json!(time::days(&unquoted(said)?)?),
        ("long", Some("time-micros")) => json!(time::of_day(&unquoted(said)?)?),
        ("long", Some("timestamp-micros" | "local-timestamp-micros")) => {
            json!(time::micros(&unquoted(said)?)?)
        }
        ("int" | "long", _) => {
            let digits = said.trim_matches('"');
            json!(digits.parse::<i64>().map_err(|e| format!("{e}: {said}"))?)
        }
        ("float", _) => {
            let text = unquoted(said)?;
            let number: f32 = text.parse().map_err(|e| format!("{e}: {said}"))?;
            double(f64::from(number))
        }
        ("double", _) => {
            let text = unquoted(said)?;
            double(text.parse().map_err(|e| format!("{e}: {said}"))?)
        }
        ("bytes", Some("decimal")) => {
            let scale = attributes["scale"].as_u64().unwrap_or(0);
            json!({ "unscaled": unscaled(&unquoted(said)?, scale as usize)? })
        }
        ("bytes", _) => json!({ "bytes": unquoted(said)?.trim_start_matches("\\x") }),
        ("string", _) if attributes["contentType"] == "application/json" => {
            // What `said` is a part of was read as JSON, by which spaces around it are lost.
            let found = found.as_str().map(str::trim);
            return equal(&json!(said), &json!(found), found == Some(said), said);
        }
        ("string", _) => Value::String(unquoted(said)?),
        _ => return Err(format!("no rule for {of} {attributes}")),
    };
    equal(&expected, found, expected == *found, said)
}

fn map(found: &Value, said: &str) -> Same {
    let expected: Value = parsed(said)?;
    equal(&expected, found, expected == *found, said)
}

fn equal(expected: &Value, found: &Value, are: bool, said: &str) -> Same {
    match are {
        true => Ok(()),
        false => Err(format!("{found}, and not {expected}, which is {said}")),
    }
}

/// A number's digits without its point, which has so many behind it.
fn unscaled(text: &str, scale: usize) -> Result<String, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() != scale {
        return Err(format!("{text} has not {scale} digits behind its point"));
    }
    let digits = format!("{whole}{fraction}");
    let number: num_bigint::BigInt = digits.parse().map_err(|e| format!("{e}: {text}"))?;
    Ok(number.to_string())
}

/// The text of a JSON string; of anything else, itself.
fn unquoted(said: &str) -> Result<String, String> {
    match said.starts_with('"') {
        true => parsed(said),
        false => Ok(said.to_owned()),
    }
}

fn elements(said: &str) -> Result<Vec<String>, String> {
    let parts: Vec<Box<RawValue>> = parsed(said)?;
    Ok(parts.iter().map(|part| part.get().to_owned()).collect())
}

fn parsed<'t, T: serde::Deserialize<'t>>(text: &'t str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|e| format!("{e}: {text}"))
}
