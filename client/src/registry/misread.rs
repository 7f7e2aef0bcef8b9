//! Fields that a registry lets a reader take for something else than was written.
//!
//! # The gap
//!
//! Whether a reader with one schema reads what was written with another is decided by the types that
//! values are stored as (Avro specification, "Schema Resolution"): `int` is promoted to `long`,
//! `float` and `double`, `bytes` to `string` and `string` to `bytes`. Of logical types resolution
//! knows a single thing, that two decimals match only if precision and scale do, and a reader may
//! disregard even that ("Logical Types"). The checkers of registries do: that of Apache Avro for
//! Java, on which Confluent's and Apicurio's are built, compares the types alone. So a column that
//! goes from `date` to `timestamp` is taken as an `int` that became a `long`, and a reader with its
//! own schema shows days as microseconds, without an error: the value is wrong, and nobody notices.
//!
//! # The rule
//!
//! A field is misread where resolution succeeds and the value means something else:
//!
//! - its logical type is another one, or one of the two has none: dates, times, timestamps of
//!   either kind, decimals, whose precision and scale are a part of it as the specification says;
//! - it goes from `bytes` to `string` or back: bytes are not UTF-8 in general, and which text they
//!   become is said by the ALTER, not by Avro.
//!
//! `uuid` means nothing more: the text is the same with it and without. Plain numbers that are
//! promoted stay what they were, or are rounded to `float` as Postgres' own cast rounds them. A pair
//! that resolution does not take is unreadable, not misread, and was the registry's to refuse.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use serde_json::{Map, Value};

/// A field whose values a reader takes for something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misread {
    /// The record's full name and the field's, as in `public.orders.Row.paid`.
    pub field: String,
    /// What its values are, as in `decimal(10,2)`.
    pub written: String,
    /// What the reader takes them for.
    pub read: String,
}

/// The fields that a reader with one schema misreads of what was written with another, both JSON
/// texts of Avro schemas. None where one of them is not understood: it is no schema, or deeper than
/// 127 brackets of JSON.
pub fn misread(writer: &str, reader: &str) -> Option<Vec<Misread>> {
    let (writer, reader) = (serde_json::from_str(writer), serde_json::from_str(reader));
    let (writer, writes) = Records::of(&writer.ok()?);
    let (reader, reads) = Records::of(&reader.ok()?);
    let mut resolution = Resolution {
        writer: &writer,
        reader: &reader,
        resolved: HashSet::new(),
        found: Vec::new(),
    };
    resolution.resolve("", &writes, &reads);
    Some(resolution.found)
}

/// A type, as far as it has a part in this.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Type {
    /// What is not made of others.
    Single(Single),
    Array(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Type>),
    /// By its place among [`Records`].
    Record(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Single {
    /// What values are stored as: a primitive type, `enum` or `fixed`.
    stored: String,
    logical: Option<Logical>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Logical {
    name: String,
    /// Of a decimal.
    digits: Option<(u64, u64)>,
}

impl fmt::Display for Single {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.logical {
            None => f.write_str(&self.stored),
            Some(Logical {
                digits: Some((precision, scale)),
                ..
            }) => write!(f, "decimal({precision},{scale})"),
            Some(Logical { name, .. }) => write!(f, "{name}({})", self.stored),
        }
    }
}

impl Single {
    /// Whether resolution takes values of this type for such of `reader`.
    fn resolves_to(&self, reader: &Single) -> bool {
        self.stored == reader.stored
            || matches!(
                (&*self.stored, &*reader.stored),
                ("int", "long" | "float" | "double")
                    | ("long", "float" | "double")
                    | ("float", "double")
            )
            || self.is_text_for_bytes(reader)
    }

    fn is_text_for_bytes(&self, reader: &Single) -> bool {
        matches!(
            (&*self.stored, &*reader.stored),
            ("bytes", "string") | ("string", "bytes")
        )
    }

    fn is_misread_as(&self, reader: &Single) -> bool {
        let means_the_same = self.logical == reader.logical && !self.is_text_for_bytes(reader);
        self.resolves_to(reader) && !means_the_same
    }
}

struct Record {
    /// With its namespace.
    name: String,
    fields: BTreeMap<String, Type>,
}

/// The records of a schema.
#[derive(Default)]
struct Records(Vec<Record>);

impl Records {
    /// And the type of the whole schema.
    fn of(schema: &Value) -> (Self, Type) {
        let mut parser = Parser::default();
        let whole = parser.parse(schema, "");
        (parser.records, whole)
    }
}

#[derive(Default)]
struct Parser {
    records: Records,
    /// Named types, by their full names.
    named: HashMap<String, Type>,
}

impl Parser {
    fn parse(&mut self, schema: &Value, namespace: &str) -> Type {
        match schema {
            Value::String(name) => {
                let qualified = qualified(name, namespace);
                let known = self.named.get(&qualified).or_else(|| self.named.get(name));
                known.cloned().unwrap_or_else(|| single(name, None))
            }
            Value::Array(branches) => {
                let branches = branches.iter().map(|it| self.parse(it, namespace));
                Type::Union(branches.collect())
            }
            Value::Object(schema) => self.parse_object(schema, namespace),
            _ => single("?", None),
        }
    }

    fn parse_object(&mut self, schema: &Map<String, Value>, namespace: &str) -> Type {
        let text = |key: &str| schema.get(key).and_then(Value::as_str);
        let part = |key: &str| schema.get(key).unwrap_or(&Value::Null);
        let namespace = text("namespace").unwrap_or(namespace);
        let name = || qualified(text("name").unwrap_or("?"), namespace);
        match text("type") {
            Some("record" | "error") => self.parse_record(name(), part("fields")),
            Some(stored @ ("enum" | "fixed")) => {
                let of = single(stored, logical(schema));
                self.named.insert(name(), of.clone());
                of
            }
            Some("array") => Type::Array(Box::new(self.parse(part("items"), namespace))),
            Some("map") => Type::Map(Box::new(self.parse(part("values"), namespace))),
            _ => match self.parse(part("type"), namespace) {
                Type::Single(of) => single(&of.stored, logical(schema).or(of.logical)),
                of => of,
            },
        }
    }

    fn parse_record(&mut self, name: String, fields: &Value) -> Type {
        let place = self.records.0.len();
        let inner = name.rsplit_once('.').map_or("", |(namespace, _)| namespace);
        let inner = inner.to_owned();
        self.named.insert(name.clone(), Type::Record(place));
        self.records.0.push(Record {
            name,
            fields: BTreeMap::new(),
        });
        for field in fields.as_array().into_iter().flatten() {
            let of = self.parse(field.get("type").unwrap_or(&Value::Null), &inner);
            let name = field.get("name").and_then(Value::as_str).unwrap_or("?");
            self.records.0[place].fields.insert(name.to_owned(), of);
        }
        Type::Record(place)
    }
}

fn single(stored: &str, logical: Option<Logical>) -> Type {
    Type::Single(Single {
        stored: stored.to_owned(),
        logical,
    })
}

fn logical(schema: &Map<String, Value>) -> Option<Logical> {
    let name = schema.get("logicalType")?.as_str()?;
    let number = |key: &str| schema.get(key).and_then(Value::as_u64);
    let digits = (name == "decimal").then(|| {
        (
            number("precision").unwrap_or(0),
            number("scale").unwrap_or(0),
        )
    });
    (name != "uuid").then(|| Logical {
        name: name.to_owned(),
        digits,
    })
}

fn qualified(name: &str, namespace: &str) -> String {
    match namespace.is_empty() || name.contains('.') {
        true => name.to_owned(),
        false => format!("{namespace}.{name}"),
    }
}

struct Resolution<'s> {
    writer: &'s Records,
    reader: &'s Records,
    /// Pairs of records, each of which is gone through once: a record may hold itself.
    resolved: HashSet<(usize, usize)>,
    found: Vec<Misread>,
}

impl<'s> Resolution<'s> {
    fn resolve(&mut self, field: &str, written: &'s Type, read: &'s Type) {
        match (written, read) {
            (Type::Union(branches), _) => {
                for branch in branches {
                    self.resolve(field, branch, read);
                }
            }
            (_, Type::Union(branches)) => {
                if let Some(branch) = self.branch(written, branches) {
                    self.resolve(field, written, branch);
                }
            }
            (Type::Single(written), Type::Single(read)) if written.is_misread_as(read) => {
                self.found.push(Misread {
                    field: field.to_owned(),
                    written: written.to_string(),
                    read: read.to_string(),
                });
            }
            (Type::Array(written), Type::Array(read)) | (Type::Map(written), Type::Map(read)) => {
                self.resolve(field, written, read);
            }
            (Type::Record(written), Type::Record(read)) => self.resolve_records(*written, *read),
            _ => {}
        }
    }

    fn resolve_records(&mut self, written: usize, read: usize) {
        if !self.resolved.insert((written, read)) {
            return;
        }
        let (writer, reader) = (self.writer, self.reader);
        let (written, read) = (&writer.0[written], &reader.0[read]);
        for (name, of) in &written.fields {
            if let Some(read) = read.fields.get(name) {
                self.resolve(&format!("{}.{name}", written.name), of, read);
            }
        }
    }

    /// The branch that a reader's union has for a type: the same type, or what it is promoted to.
    fn branch(&self, written: &Type, branches: &'s [Type]) -> Option<&'s Type> {
        let is_named_alike = |branch: &&Type| match (written, branch) {
            (Type::Record(written), Type::Record(read)) => {
                last_name(&self.writer.0[*written]) == last_name(&self.reader.0[*read])
            }
            _ => false,
        };
        let is_stored_alike = |branch: &&Type| match (written, branch) {
            (Type::Single(written), Type::Single(read)) => written.stored == read.stored,
            (Type::Array(_), Type::Array(_))
            | (Type::Map(_), Type::Map(_))
            | (Type::Record(_), Type::Record(_)) => true,
            _ => false,
        };
        let is_promoted = |branch: &&Type| match (written, branch) {
            (Type::Single(written), Type::Single(read)) => written.resolves_to(read),
            _ => false,
        };
        let mut found = branches.iter().find(is_named_alike);
        found = found.or_else(|| branches.iter().find(is_stored_alike));
        found.or_else(|| branches.iter().find(is_promoted))
    }
}

fn last_name(record: &Record) -> &str {
    record
        .name
        .rsplit_once('.')
        .map_or(&*record.name, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const DATE: &str = r#"{"type":"int","logicalType":"date"}"#;
    const TIME: &str = r#"{"type":"long","logicalType":"time-micros"}"#;
    const TIMESTAMP: &str = r#"{"type":"long","logicalType":"local-timestamp-micros"}"#;
    const TIMESTAMPTZ: &str = r#"{"type":"long","logicalType":"timestamp-micros"}"#;
    const UUID: &str = r#"{"type":"string","logicalType":"uuid"}"#;

    fn decimal(precision: u32, scale: u32) -> String {
        format!(
            r#"{{"type":"bytes","logicalType":"decimal","precision":{precision},"scale":{scale}}}"#
        )
    }

    fn row(of: &str) -> String {
        format!(
            r#"{{"type":"record","name":"Row","namespace":"public.t","fields":[
                {{"name":"id","type":"long"}},
                {{"name":"c","type":["null",{of}],"default":null,"pgType":"whatever"}}]}}"#
        )
    }

    /// What of a column is misread, as `written > read`.
    fn said(written: &str, read: &str) -> Vec<String> {
        let found = misread(&row(written), &row(read)).unwrap();
        let said = found.into_iter();
        said.map(|it| format!("{}: {} > {}", it.field, it.written, it.read))
            .collect()
    }

    #[test]
    fn another_meaning_of_the_same_or_of_promoted_bytes_is_misread() {
        let (small, large) = (decimal(10, 2), decimal(12, 3));
        for (written, read, expected) in [
            (DATE, TIMESTAMP, "date(int) > local-timestamp-micros(long)"),
            (DATE, TIME, "date(int) > time-micros(long)"),
            (DATE, r#""int""#, "date(int) > int"),
            (DATE, r#""double""#, "date(int) > double"),
            (r#""int""#, DATE, "int > date(int)"),
            (r#""long""#, TIMESTAMPTZ, "long > timestamp-micros(long)"),
            (
                TIMESTAMP,
                TIMESTAMPTZ,
                "local-timestamp-micros(long) > timestamp-micros(long)",
            ),
            (
                TIMESTAMP,
                TIME,
                "local-timestamp-micros(long) > time-micros(long)",
            ),
            (&small, &large, "decimal(10,2) > decimal(12,3)"),
            (&small, &decimal(12, 2), "decimal(10,2) > decimal(12,2)"),
            (&small, r#""string""#, "decimal(10,2) > string"),
            (r#""string""#, &small, "string > decimal(10,2)"),
            (r#""bytes""#, &small, "bytes > decimal(10,2)"),
            (r#""bytes""#, r#""string""#, "bytes > string"),
            (r#""string""#, r#""bytes""#, "string > bytes"),
        ] {
            let expected = format!("public.t.Row.c: {expected}");
            assert_eq!(said(written, read), [expected], "{written} read as {read}");
        }
    }

    #[test]
    fn what_keeps_its_meaning_and_what_cannot_be_read_at_all_is_not() {
        for (written, read) in [
            (r#""int""#, r#""int""#),
            (r#""int""#, r#""long""#),
            (r#""int""#, r#""double""#),
            (r#""float""#, r#""double""#),
            (UUID, r#""string""#),
            (r#""string""#, UUID),
            (DATE, DATE),
            (&*decimal(10, 2), &*decimal(10, 2)),
            // No promotion leads there: it is for the registry to refuse.
            (TIMESTAMPTZ, DATE),
            (r#""string""#, r#""int""#),
            (r#""string""#, DATE),
        ] {
            assert_eq!(said(written, read), [""; 0], "{written} read as {read}");
        }
    }

    #[test]
    fn fields_that_one_side_has_not_are_nobodys() {
        let bare = r#"{"type":"record","name":"Row","namespace":"public.t","fields":[]}"#;
        for (written, read) in [(row(DATE), bare.to_owned()), (bare.to_owned(), row(DATE))] {
            assert_eq!(misread(&written, &read), Some(Vec::new()));
        }
    }

    #[test]
    fn it_is_found_within_arrays_maps_and_records_and_told_once() {
        let within = |of: &str| {
            row(&format!(
                r#"{{"type":"array","items":["null",{of}]}},
                   {{"type":"record","name":"Array","namespace":"pg_catalog._x","fields":[
                       {{"name":"elements","type":{{"type":"map","values":["null",{of}]}}}}]}}"#
            ))
        };
        let envelope = |row: &str| {
            format!(
                r#"{{"type":"record","name":"Envelope","namespace":"public.t","fields":[
                    {{"name":"before","type":["null",{row}]}},
                    {{"name":"after","type":["null","public.t.Row"]}}]}}"#
            )
        };
        let found = misread(&envelope(&within(DATE)), &envelope(&within(TIMESTAMP))).unwrap();
        let fields: Vec<&str> = found.iter().map(|it| &*it.field).collect();
        assert_eq!(fields, ["public.t.Row.c", "pg_catalog._x.Array.elements"]);
    }

    #[test]
    fn a_record_that_holds_itself_has_an_end() {
        let tree = |of: &str| {
            format!(
                r#"{{"type":"record","name":"Tree","fields":[
                    {{"name":"leaf","type":{of}}},
                    {{"name":"branches","type":{{"type":"array","items":"Tree"}}}}]}}"#
            )
        };
        let found = misread(&tree(DATE), &tree(TIMESTAMP)).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn what_is_no_schema_is_not_understood_and_nothing_panics() {
        for text in ["", "{", "[[[["] {
            assert_eq!(misread(text, &row(DATE)), None, "{text}");
            assert_eq!(misread(&row(DATE), text), None, "{text}");
        }
        for text in ["7", "[]", "{}", r#"{"type":7}"#, r#"{"type":"record"}"#] {
            assert_eq!(misread(text, &row(DATE)), Some(Vec::new()), "{text}");
        }
    }
}
