//! Schemas, and their text.
//!
//! A tree that is built once a plan and printed once. The text is the same for the same tree,
//! byte for byte: registries tell schemas apart by it, and a key's schema id is part of
//! the key.
//!
//! # Why the text is no longer than the types
//!
//! A named type is defined where it first occurs and referred to by its full name
//! afterwards. Twenty row types that each hold the one before twice are twenty definitions,
//! though a million paths lead through them: the definitions share their types ([`Rc`]), and
//! printing enters each once. It takes stack for the depth of the tree, which
//! whoever builds one bounds.

use std::collections::HashSet;
use std::rc::Rc;

use super::{Decimal, FullName};
use crate::json;

/// A schema.
#[derive(Clone, Debug)]
pub enum Schema {
    /// One of Avro's primitive types.
    Boolean,
    /// 32 bits, signed.
    Int,
    /// 64 bits, signed.
    Long,
    /// IEEE 754, 32 bits.
    Float,
    /// IEEE 754, 64 bits.
    Double,
    /// Any bytes.
    Bytes,
    /// UTF-8.
    String,
    /// An `int` of days since 1970-01-01.
    Date,
    /// A `long` of microseconds since midnight.
    TimeMicros,
    /// A `long` of microseconds since 1970-01-01 UTC.
    TimestampMicros,
    /// A `long` of microseconds since 1970-01-01 in a zone that nobody knows.
    LocalTimestampMicros,
    /// A `string` in RFC 4122's form.
    Uuid,
    /// `bytes` of the unscaled number.
    Decimal(Decimal),
    /// A type with properties of ours.
    Annotated(Box<Schema>, Vec<Property>),
    /// Null or a value. If the value's schema is a union, null is put before its branches,
    /// which then count from 1. Never within another `Optional` or within a union.
    Optional(Box<Schema>),
    /// One of several, none of them a union or null.
    Union(Vec<Schema>),
    /// Items of one schema.
    Array(Box<Schema>),
    /// Values of one schema by strings.
    Map(Box<Schema>),
    /// A record.
    Record(Rc<Record>),
    /// One of some symbols.
    Enum(Rc<Enum>),
}

/// A record. Two of them in one schema have the same name only if they are the same.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its name.
    pub name: FullName,
    /// In the order in which values stand in the bytes.
    pub fields: Vec<Field>,
}

/// A field of a record. Its default is null if its schema is [`Schema::Optional`]; any
/// other has none.
#[derive(Clone, Debug)]
pub struct Field {
    /// In Avro's alphabet: see [`escape`](super::escape).
    pub name: String,
    /// Of its values.
    pub schema: Schema,
    /// What else is known of it.
    pub properties: Vec<Property>,
}

/// An enum of Avro.
#[derive(Clone, Debug)]
pub struct Enum {
    /// Its name.
    pub name: FullName,
    /// In Avro's alphabet, all different: see [`escape`](super::escape). Values are their
    /// positions.
    pub symbols: Vec<String>,
}

/// Something of ours that a schema says beside what Avro defines: readers that do not know it
/// pass it over (Avro specification, "Schema Declaration").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// None of Avro's own.
    pub name: &'static str,
    /// What it says.
    pub value: PropertyValue,
}

/// What a property says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PropertyValue {
    /// A string.
    Text(String),
    /// An array of strings.
    Texts(Vec<String>),
}

impl Property {
    /// What a column is in Postgres: `format_type`'s text, with the type's modifier.
    pub fn pg_type(name: impl Into<String>) -> Self {
        Property::text("pgType", name)
    }

    /// The domain that a column is of.
    pub fn pg_domain(name: impl Into<String>) -> Self {
        Property::text("pgDomain", name)
    }

    /// The labels of an enum whose values are strings, in their order.
    pub fn labels(labels: Vec<String>) -> Self {
        Property {
            name: "labels",
            value: PropertyValue::Texts(labels),
        }
    }

    /// What is in a string that holds JSON.
    pub fn json() -> Self {
        Property::text("contentType", "application/json")
    }

    fn text(name: &'static str, value: impl Into<String>) -> Self {
        Property {
            name,
            value: PropertyValue::Text(value.into()),
        }
    }
}

impl Field {
    /// A field without properties.
    pub fn new(name: impl Into<String>, schema: Schema) -> Self {
        Field {
            name: name.into(),
            schema,
            properties: Vec::new(),
        }
    }
}

impl Schema {
    /// The record of this name and these fields.
    pub fn record(name: FullName, fields: Vec<Field>) -> Self {
        Schema::Record(Rc::new(Record { name, fields }))
    }

    /// The same or null. What can be null already stays as it is.
    #[must_use]
    pub fn optional(self) -> Self {
        match self {
            Schema::Optional(_) => self,
            schema => Schema::Optional(Box::new(schema)),
        }
    }

    /// The same with a property.
    #[must_use]
    pub fn with(self, property: Property) -> Self {
        match self {
            Schema::Annotated(schema, mut properties) => {
                properties.push(property);
                Schema::Annotated(schema, properties)
            }
            schema => Schema::Annotated(Box::new(schema), vec![property]),
        }
    }

    /// A string that holds JSON.
    pub fn json() -> Self {
        Schema::String.with(Property::json())
    }

    /// The text of a value's schema: JSON without blanks.
    pub fn to_json(&self) -> String {
        self.print(true)
    }

    /// The text of a key's schema. It has none of the properties: those may change when no key
    /// does, and another text is another schema id, by which the bytes of each key would
    /// begin.
    pub fn to_key_json(&self) -> String {
        self.print(false)
    }

    fn print(&self, with_properties: bool) -> String {
        let mut printer = Printer {
            out: Vec::new(),
            defined: HashSet::new(),
            with_properties,
        };
        printer.schema(self);
        // Strings go in as strings and come out escaped: what is not UTF-8 cannot be here.
        String::from_utf8(printer.out)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    }
}

/// Prints one schema, from left to right.
struct Printer<'s> {
    out: Vec<u8>,
    /// The named types that were defined so far.
    defined: HashSet<&'s FullName>,
    with_properties: bool,
}

impl<'s> Printer<'s> {
    fn schema(&mut self, schema: &'s Schema) {
        match schema {
            Schema::Optional(inner) => match inner.as_ref() {
                Schema::Union(branches) => self.union(true, branches),
                one => self.union(true, std::slice::from_ref(one)),
            },
            Schema::Union(branches) => self.union(false, branches),
            Schema::Annotated(inner, properties) => self.single(inner, properties),
            _ => self.single(schema, &[]),
        }
    }

    fn union(&mut self, with_null: bool, branches: &'s [Schema]) {
        self.raw("[");
        if with_null {
            self.raw("\"null\"");
        }
        for (index, branch) in branches.iter().enumerate() {
            if index > 0 || with_null {
                self.raw(",");
            }
            self.schema(branch);
        }
        self.raw("]");
    }

    /// Anything but a union.
    fn single(&mut self, schema: &'s Schema, properties: &'s [Property]) {
        match schema {
            Schema::Boolean => self.primitive("boolean", properties),
            Schema::Int => self.primitive("int", properties),
            Schema::Long => self.primitive("long", properties),
            Schema::Float => self.primitive("float", properties),
            Schema::Double => self.primitive("double", properties),
            Schema::Bytes => self.primitive("bytes", properties),
            Schema::String => self.primitive("string", properties),
            Schema::Date => self.logical("int", "date", properties),
            Schema::TimeMicros => self.logical("long", "time-micros", properties),
            Schema::TimestampMicros => self.logical("long", "timestamp-micros", properties),
            Schema::LocalTimestampMicros => {
                self.logical("long", "local-timestamp-micros", properties);
            }
            Schema::Uuid => self.logical("string", "uuid", properties),
            Schema::Decimal(decimal) => {
                self.raw("{\"type\":\"bytes\",\"logicalType\":\"decimal\",\"precision\":");
                json::unsigned(&mut self.out, u64::from(decimal.precision()));
                self.raw(",\"scale\":");
                json::unsigned(&mut self.out, u64::from(decimal.scale()));
                self.close(properties);
            }
            Schema::Array(items) => {
                self.raw("{\"type\":\"array\",\"items\":");
                self.schema(items);
                self.close(properties);
            }
            Schema::Map(values) => {
                self.raw("{\"type\":\"map\",\"values\":");
                self.schema(values);
                self.close(properties);
            }
            Schema::Record(record) => {
                if self.define("record", &record.name) {
                    self.fields(&record.fields);
                    self.close(properties);
                }
            }
            Schema::Enum(definition) => {
                if self.define("enum", &definition.name) {
                    self.raw(",\"symbols\":");
                    self.texts(&definition.symbols);
                    self.close(properties);
                }
            }
            Schema::Optional(_) | Schema::Union(_) | Schema::Annotated(..) => self.schema(schema),
        }
    }

    fn primitive(&mut self, name: &str, properties: &[Property]) {
        if properties.is_empty() || !self.with_properties {
            self.text(name);
        } else {
            self.raw("{\"type\":");
            self.text(name);
            self.close(properties);
        }
    }

    fn logical(&mut self, name: &str, logical_type: &str, properties: &[Property]) {
        self.raw("{\"type\":");
        self.text(name);
        self.raw(",\"logicalType\":");
        self.text(logical_type);
        self.close(properties);
    }

    /// Begins a definition, or refers to the one that there is.
    fn define(&mut self, kind: &str, name: &'s FullName) -> bool {
        if !self.defined.insert(name) {
            self.text(&name.to_string());
            return false;
        }
        self.raw("{\"type\":");
        self.text(kind);
        self.raw(",\"name\":");
        self.text(name.name());
        self.raw(",\"namespace\":");
        self.text(name.namespace());
        true
    }

    fn fields(&mut self, fields: &'s [Field]) {
        self.raw(",\"fields\":[");
        for (index, field) in fields.iter().enumerate() {
            if index > 0 {
                self.raw(",");
            }
            self.raw("{\"name\":");
            self.text(&field.name);
            self.raw(",\"type\":");
            self.schema(&field.schema);
            if matches!(field.schema, Schema::Optional(_)) {
                self.raw(",\"default\":null");
            }
            self.close(&field.properties);
        }
        self.raw("]");
    }

    /// The properties and the end of an object.
    fn close(&mut self, properties: &[Property]) {
        if self.with_properties {
            for property in properties {
                self.raw(",");
                self.text(property.name);
                self.raw(":");
                match &property.value {
                    PropertyValue::Text(text) => self.text(text),
                    PropertyValue::Texts(texts) => self.texts(texts),
                }
            }
        }
        self.raw("}");
    }

    fn texts(&mut self, texts: &[String]) {
        self.raw("[");
        for (index, text) in texts.iter().enumerate() {
            if index > 0 {
                self.raw(",");
            }
            self.text(text);
        }
        self.raw("]");
    }

    fn text(&mut self, text: &str) {
        json::string(&mut self.out, text.as_bytes());
    }

    fn raw(&mut self, json: &str) {
        self.out.extend_from_slice(json.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::{array_schema, interval_schema, range_schema};
    use super::*;

    fn pair(name: &str, half: &Schema) -> Schema {
        Schema::record(
            FullName::of_type("public", name),
            vec![
                Field::new("a", half.clone().optional()),
                Field::new("b", half.clone().optional()),
            ],
        )
    }

    fn row(fields: Vec<Field>) -> Schema {
        Schema::record(FullName::row("public", "t"), fields)
    }

    #[test]
    fn a_row_prints_as_avro_reads_it() {
        let mut note = Field::new("note", Schema::json().optional());
        note.properties = vec![
            Property::pg_type("jsonb"),
            Property::pg_domain("\"my\" doc"),
        ];
        let row = row(vec![
            Field::new("id", Schema::Long),
            note,
            Field::new("took", interval_schema().optional()),
            Field::new("gave", interval_schema().optional()),
            Field::new(
                "mood",
                Schema::String
                    .with(Property::labels(vec!["so so".to_owned(), "\"".to_owned()]))
                    .optional(),
            ),
        ]);
        assert_eq!(
            row.to_json(),
            concat!(
                r#"{"type":"record","name":"Row","namespace":"public.t","fields":["#,
                r#"{"name":"id","type":"long"},"#,
                r#"{"name":"note","type":["null",{"type":"string","contentType":"application/json"}],"#,
                r#""default":null,"pgType":"jsonb","pgDomain":"\"my\" doc"},"#,
                r#"{"name":"took","type":["null",{"type":"record","name":"Interval","#,
                r#""namespace":"headwater","fields":[{"name":"months","type":"int"},"#,
                r#"{"name":"days","type":"int"},{"name":"micros","type":"long"}]}],"default":null},"#,
                r#"{"name":"gave","type":["null","headwater.Interval"],"default":null},"#,
                r#"{"name":"mood","type":["null",{"type":"string","labels":["so so","\""]}],"#,
                r#""default":null}]}"#,
            )
        );
    }

    #[test]
    fn a_keys_schema_has_no_properties() {
        let id = |properties| Field {
            name: "id".to_owned(),
            schema: Schema::json(),
            properties,
        };
        let described = row(vec![id(vec![Property::pg_type("jsonb")])]);
        let bare = Schema::record(
            FullName::row("public", "t"),
            vec![Field::new("id", Schema::String)],
        );
        assert_ne!(described.to_json(), bare.to_json());
        assert_eq!(described.to_key_json(), bare.to_json());
    }

    #[test]
    fn null_is_the_first_branch_of_a_union_that_may_be_null() {
        let array = array_schema(FullName::array("pg_catalog", "_int4", None), Schema::Int);
        let optional = array.clone().optional().to_json();
        assert_eq!(
            optional
                .strip_prefix("[\"null\",")
                .map(|rest| format!("[{rest}")),
            Some(array.to_json())
        );
        assert_eq!(array.optional().optional().to_json(), optional);
    }

    #[test]
    fn a_type_that_occurs_a_million_times_is_defined_once() {
        let innermost = Schema::record(FullName::of_type("public", "p0"), vec![]);
        let schema = (1..=20).fold(innermost, |half, level| pair(&format!("p{level}"), &half));
        let json = schema.to_json();
        assert_eq!(json.matches("\"fields\"").count(), 21);
        assert!(json.len() < 21 * 200, "{} bytes", json.len());
    }

    #[test]
    fn arrays_within_arrays_and_ranges_take_no_more_text_than_they_are_many() {
        let length = |levels: usize| {
            let name = |kind: char, level| FullName::of_type("public", &format!("{kind}{level}"));
            let schema = (0..levels).fold(Schema::Int, |element, level| {
                let range = range_schema(name('r', level), element);
                let inner = array_schema(name('a', level), range);
                array_schema(name('b', level), inner)
            });
            schema.to_json().len()
        };
        assert!(length(100) < 15 * length(10), "{} bytes", length(100));
    }
}
