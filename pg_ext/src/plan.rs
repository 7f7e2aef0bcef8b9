//! What is known of a relation before any row of it is seen.
//!
//! Everything that costs a catalog lookup, an escape or a decision happens here, once:
//! names as JSON, the key, the filter's verdict, and for each column the codec that
//! ends all dispatch on types. A row then takes one `match` a column.

use headwater_protocol::frame::{Column, Relation, ReplicaIdentity};
use headwater_protocol::json;
use pgrx::pg_sys::{self, Oid};

use crate::pg::{
    Attribute, ColumnDescription, DatabaseEncoding, OutputFunction, PlanMemory, RelationRef,
    base_type,
};

/// A relation, compiled.
pub(crate) struct RelationPlan {
    /// `pg_class.oid`.
    pub(crate) id: u32,
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) identity: ReplicaIdentity,
    pub(crate) columns: Vec<ColumnPlan>,
    /// Indexes into `columns`, in the order of the key's index.
    pub(crate) key: Vec<usize>,
    /// Whether the options ask for the relation.
    pub(crate) selected: bool,
    /// `"schema":…,"table":…`, as it stands in every envelope.
    pub(crate) source: Vec<u8>,
    /// Of the descriptor that the columns were read from.
    pub(crate) descriptor_address: usize,
    /// After `columns`, whose output functions use it.
    _memory: PlanMemory,
}

/// A column, compiled.
pub(crate) struct ColumnPlan {
    pub(crate) attribute: Attribute,
    pub(crate) codec: Codec,
    /// `,"name":` as it stands in every row.
    pub(crate) prefix: Vec<u8>,
    pub(crate) name: String,
    pub(crate) is_key: bool,
    type_oid: u32,
    type_modifier: i32,
}

/// How a column's value becomes bytes: the final dispatch.
pub(crate) enum Codec {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    Text,
    Name,
    Uuid,
    Date,
    Time,
    TimeTz,
    Timestamp,
    TimestampTz,
    Bytea,
    Json,
    Jsonb,
    /// Any other type: the text of its output function.
    Output(OutputFunction),
}

impl RelationPlan {
    /// `selects` says of a schema and a table whether its rows are asked for; the plan of
    /// one that is not has no columns.
    pub(crate) fn compile(
        relation: RelationRef<'_>,
        encoding: DatabaseEncoding,
        selects: impl FnOnce(&str, &str) -> bool,
    ) -> Self {
        let schema = relation.schema(encoding);
        let table = relation.name(encoding);
        let selected = selects(&schema, &table);
        let key_numbers = if selected {
            relation.key_columns()
        } else {
            Vec::new()
        };
        let mut memory = PlanMemory::default();
        let columns: Vec<ColumnPlan> = if selected {
            relation
                .columns(encoding)
                .into_iter()
                .map(|column| {
                    let is_key = key_numbers.contains(&column.attribute.number());
                    ColumnPlan::compile(column, is_key, &mut memory)
                })
                .collect()
        } else {
            Vec::new()
        };
        let index = |number: &i16| {
            columns
                .iter()
                .position(|column| column.attribute.number() == *number)
        };
        let mut source = Vec::new();
        source.extend_from_slice(b"\"schema\":");
        json::string(&mut source, schema.as_bytes());
        source.extend_from_slice(b",\"table\":");
        json::string(&mut source, table.as_bytes());
        RelationPlan {
            id: relation.id(),
            identity: relation.identity(),
            key: key_numbers.iter().filter_map(index).collect(),
            columns,
            selected,
            source,
            descriptor_address: relation.descriptor_address(),
            schema,
            table,
            _memory: memory,
        }
    }

    /// The relation as the client is told of it.
    pub(crate) fn describe(&self) -> Relation<'_> {
        Relation {
            id: self.id,
            identity: self.identity,
            schema: &self.schema,
            table: &self.table,
            columns: self
                .columns
                .iter()
                .map(|column| Column {
                    is_key: column.is_key,
                    type_oid: column.type_oid,
                    type_modifier: column.type_modifier,
                    name: &column.name,
                })
                .collect(),
        }
    }
}

impl ColumnPlan {
    fn compile(column: ColumnDescription, is_key: bool, memory: &mut PlanMemory) -> Self {
        let mut prefix = vec![b','];
        json::string(&mut prefix, column.name.as_bytes());
        prefix.push(b':');
        ColumnPlan {
            attribute: column.attribute,
            codec: Codec::of(column.type_oid, memory),
            prefix,
            name: column.name,
            is_key,
            type_oid: column.type_oid,
            type_modifier: column.type_modifier,
        }
    }
}

impl Codec {
    /// A domain has the codec of the type it is made of.
    fn of(type_oid: u32, memory: &mut PlanMemory) -> Self {
        match Oid::from(base_type(type_oid)) {
            pg_sys::BOOLOID => Codec::Bool,
            pg_sys::INT2OID => Codec::Int2,
            pg_sys::INT4OID => Codec::Int4,
            pg_sys::INT8OID => Codec::Int8,
            pg_sys::OIDOID => Codec::Oid,
            pg_sys::FLOAT4OID => Codec::Float4,
            pg_sys::FLOAT8OID => Codec::Float8,
            pg_sys::NUMERICOID => Codec::Numeric,
            pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID => Codec::Text,
            pg_sys::NAMEOID => Codec::Name,
            pg_sys::UUIDOID => Codec::Uuid,
            pg_sys::DATEOID => Codec::Date,
            pg_sys::TIMEOID => Codec::Time,
            pg_sys::TIMETZOID => Codec::TimeTz,
            pg_sys::TIMESTAMPOID => Codec::Timestamp,
            pg_sys::TIMESTAMPTZOID => Codec::TimestampTz,
            pg_sys::BYTEAOID => Codec::Bytea,
            pg_sys::JSONOID => Codec::Json,
            pg_sys::JSONBOID => Codec::Jsonb,
            _ => Codec::Output(OutputFunction::of(type_oid, memory)),
        }
    }
}
