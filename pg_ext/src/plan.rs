//! What is known of a relation before any row of it is seen.
//!
//! Everything that costs a catalog lookup, an escape or a decision happens here, once:
//! names as JSON, the key, the filter's verdict, and for each column the codec that
//! ends all dispatch on types. A row then takes one `match` a column.

use headwater_protocol::frame::{Column, Relation, ReplicaIdentity};
use headwater_protocol::json;

use crate::codec::{Codec, CodecCompiler, member_prefix};
use crate::pg::{Attribute, ColumnDescription, DatabaseEncoding, OwnerRef, RelationRef};

/// A relation, compiled.
pub(crate) struct RelationPlan {
    /// `pg_class.oid` of the relation that the rows belong to.
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
    /// Other relations (`pg_class.oid`) that the plan was compiled from: those of row types.
    pub(crate) depends_on: Vec<u32>,
}

/// A column, compiled.
pub(crate) struct ColumnPlan {
    pub(crate) attribute: Attribute,
    pub(crate) codec: Codec,
    /// `,"name":` as it stands in every row.
    pub(crate) prefix: Vec<u8>,
    pub(crate) name: String,
    pub(crate) is_key: bool,
    pub(crate) type_oid: u32,
    pub(crate) type_modifier: i32,
}

impl RelationPlan {
    /// The plan of a relation's rows, named and keyed as the relation that they belong to.
    ///
    /// `selects` says of a schema and a table whether its rows are asked for; the plan of
    /// one that is not has no columns.
    pub(crate) fn compile(
        relation: RelationRef<'_>,
        encoding: DatabaseEncoding,
        selects: impl FnOnce(&str, &str) -> bool,
    ) -> Self {
        let owner = relation.owner();
        let is_owned = owner.is_some();
        let owner = owner.as_ref().map_or(relation, OwnerRef::as_ref);
        let schema = owner.schema(encoding);
        let table = owner.name(encoding);
        let selected = is_owned && selects(&schema, &table);
        let key_numbers = if selected {
            owner.key_columns()
        } else {
            Vec::new()
        };
        let mut codecs = CodecCompiler::new(encoding);
        let columns: Vec<ColumnPlan> = if selected {
            relation
                .columns(encoding)
                .into_iter()
                .filter(|column| owner.stores(column.attribute))
                .map(|column| {
                    let is_key = key_numbers.contains(&column.attribute.number());
                    ColumnPlan::compile(column, is_key, &mut codecs)
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
            id: owner.id(),
            identity: owner.identity(),
            key: key_numbers.iter().filter_map(index).collect(),
            columns,
            selected,
            source,
            descriptor_address: relation.descriptor_address(),
            schema,
            table,
            depends_on: codecs.into_dependencies(),
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
    fn compile(column: ColumnDescription, is_key: bool, codecs: &mut CodecCompiler) -> Self {
        ColumnPlan {
            attribute: column.attribute,
            codec: codecs.codec(column.type_oid),
            prefix: member_prefix(&column.name),
            name: column.name,
            is_key,
            type_oid: column.type_oid,
            type_modifier: column.type_modifier,
        }
    }
}
