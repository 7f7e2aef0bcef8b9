//! The Avro schemas of a plan: read off the codecs that write its bytes, type by type, so that
//! the two say the same.
//!
//! They are made when the reader is told of the plan, which happens once, and kept nowhere: a
//! thousand partitions have one schema, and each plan a copy of it would.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use headwater_protocol::avro::{self, Enum, Field, FullName, Property, Schema, escape};
use headwater_protocol::options::{Envelope, Format, PluginOptions};
use headwater_protocol::type_map::{self, Kind};

use crate::codec::{ArrayCodec, Codec, CompositeCodec, RangeCodec};
use crate::pg::{
    DatabaseEncoding, EnumLabels, base_type, base_type_and_modifier, enum_labels, qualified_name,
    type_text,
};
use crate::plan::{ColumnPlan, RelationPlan};

/// Makes the schemas of one session's plans.
pub(crate) struct SchemaCompiler {
    format: Format,
    envelope: Envelope,
    encoding: DatabaseEncoding,
}

/// The schemas of a relation's records, as JSON.
pub(crate) struct AvroSchemas {
    /// None without a key.
    pub(crate) key: Option<String>,
    pub(crate) value: String,
}

impl SchemaCompiler {
    pub(crate) fn new(options: &PluginOptions, encoding: DatabaseEncoding) -> Self {
        SchemaCompiler {
            format: options.format,
            envelope: options.envelope,
            encoding,
        }
    }

    /// The schemas of a plan; none where its records are JSON. Looks up names of types as of
    /// the snapshot in force, which is the plan's.
    pub(crate) fn compile(&self, plan: &RelationPlan) -> Option<AvroSchemas> {
        if self.format != Format::Avro {
            return None;
        }
        let mut types = TypeSchemas {
            encoding: self.encoding,
            composites: HashMap::new(),
        };
        let (schema, table) = (&plan.schema, &plan.table);
        let columns = plan.columns.iter().map(|column| types.column(column));
        let row = Schema::record(FullName::row(schema, table), columns.collect());
        let value = match self.envelope {
            Envelope::Row => row,
            Envelope::Change => avro::envelope_schema(FullName::envelope(schema, table), row),
        };
        let mut key = Vec::new();
        for index in &plan.key {
            key.push(types.column(&plan.columns[*index]));
        }
        Some(AvroSchemas {
            key: (!key.is_empty())
                .then(|| Schema::record(FullName::key(schema, table), key).to_key_json()),
            value: value.to_json(),
        })
    }
}

/// The schemas of the types of one plan.
struct TypeSchemas {
    encoding: DatabaseEncoding,
    /// By OID of the row type: each is made once, however often it occurs.
    composites: HashMap<u32, Schema>,
}

impl TypeSchemas {
    fn column(&mut self, column: &ColumnPlan) -> Field {
        let schema = self.value(&column.codec, column.type_oid, column.type_modifier);
        let schema = if column.is_key {
            schema
        } else {
            schema.optional()
        };
        self.field(&column.name, schema, column.type_oid, column.type_modifier)
    }

    /// A field, and what it is in Postgres.
    fn field(&self, name: &str, schema: Schema, declared: u32, type_modifier: i32) -> Field {
        let (base, base_modifier) = base_type_and_modifier(declared, type_modifier);
        let mut field = Field::new(escape(name), schema);
        let of = type_text(base, base_modifier, self.encoding);
        field.properties.push(Property::pg_type(of));
        if base != declared {
            let domain = type_text(declared, -1, self.encoding);
            field.properties.push(Property::pg_domain(domain));
        }
        field
    }

    /// The schema of what a codec writes for values of a type.
    fn value(&mut self, codec: &Codec, declared: u32, type_modifier: i32) -> Schema {
        match codec {
            Codec::Hstore => avro::hstore_schema(),
            Codec::Enum(labels) => self.labels(base_type(declared), labels),
            Codec::Array(array) => {
                let (array_type, modifier) = base_type_and_modifier(declared, type_modifier);
                self.array(array, array_type, modifier)
            }
            Codec::Composite(composite) => self.composite(composite, base_type(declared)),
            Codec::Range(range) => self.range(range),
            Codec::Multirange(range) => avro::multirange_schema(self.range(range)),
            // No value of these is ever written.
            Codec::Unnameable | Codec::TooDeep => Schema::String,
            _ => {
                let (base, modifier) = base_type_and_modifier(declared, type_modifier);
                let kind = type_map::built_in(base).unwrap_or(Kind::Output);
                kind.schema(modifier)
            }
        }
    }

    fn name_of(&self, type_oid: u32) -> FullName {
        let (schema, name) = qualified_name(type_oid, self.encoding);
        FullName::of_type(&schema, &name)
    }

    fn labels(&self, type_oid: u32, codec: &EnumLabels) -> Schema {
        let labels = enum_labels(type_oid, self.encoding).into_iter();
        let labels = labels.map(|(_, label)| label);
        // Avro has no enum without symbols. Nor has one without labels any values.
        if codec.are_numbered() && labels.len() > 0 {
            let symbols = labels.map(|label| escape(&label)).collect();
            let name = self.name_of(type_oid);
            Schema::Enum(Rc::new(Enum { name, symbols }))
        } else {
            Schema::String.with(Property::labels(labels.collect()))
        }
    }

    /// `type_modifier` is that of the elements.
    fn array(&mut self, codec: &ArrayCodec, array_type: u32, type_modifier: i32) -> Schema {
        let element = self.value(&codec.element, codec.element_type, type_modifier);
        let (schema, name) = qualified_name(array_type, self.encoding);
        let decimal = match codec.element {
            Codec::Decimal(decimal) => Some(decimal),
            _ => None,
        };
        avro::array_schema(FullName::array(&schema, &name, decimal), element)
    }

    fn range(&mut self, codec: &RangeCodec) -> Schema {
        let bound = self.value(&codec.bound, codec.subtype, -1);
        avro::range_schema(self.name_of(codec.range_type), bound)
    }

    fn composite(&mut self, codec: &Rc<RefCell<CompositeCodec>>, type_oid: u32) -> Schema {
        if let Some(schema) = self.composites.get(&type_oid) {
            return schema.clone();
        }
        // Borrowed elsewhere only while a row is encoded.
        let Ok(codec) = codec.try_borrow() else {
            return Schema::String;
        };
        let mut fields = Vec::new();
        for attribute in &codec.attributes {
            let (of, modifier) = (
                attribute.description.type_oid,
                attribute.description.type_modifier,
            );
            let schema = self.value(&attribute.codec, of, modifier).optional();
            fields.push(self.field(&attribute.description.name, schema, of, modifier));
        }
        let schema = Schema::record(self.name_of(type_oid), fields);
        self.composites.insert(type_oid, schema.clone());
        schema
    }
}
