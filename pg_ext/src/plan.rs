//! What is known of a relation before any row of it is seen.
//!
//! Everything that costs a catalog lookup, an escape or a decision happens here, once:
//! names as JSON, the key, the filter's verdict, and for each column the codec that
//! ends all dispatch on types. A row then takes one `match` a column.

use std::collections::HashMap;

use headwater_protocol::frame::{Column, Relation, ReplicaIdentity};
use headwater_protocol::json;
use headwater_protocol::options::Partitions;

use crate::access::{Access, Refusal, Scope};
use crate::codec::{Codec, CodecCompiler, member_prefix};
use crate::pg::{
    Attribute, ColumnDescription, DatabaseEncoding, OpenRelation, OwnerRef, RelationRef, ancestors,
};

/// A relation, compiled: how its tuples become rows of the table that they are sent as. That
/// is the relation itself, or the partitioned table at the top of a partition.
pub(crate) struct RelationPlan {
    /// `pg_class.oid` of the table that the rows are sent as.
    pub(crate) id: u32,
    pub(crate) schema: String,
    pub(crate) table: String,
    /// The relation's own schema and name, if it is a part of that table.
    pub(crate) partition: Option<(String, String)>,
    /// The relation's own: it is not inherited.
    pub(crate) identity: ReplicaIdentity,
    /// The table's.
    pub(crate) table_identity: ReplicaIdentity,
    /// The table's, in its order, with the places that they have in the relation's tuples.
    pub(crate) columns: Vec<ColumnPlan>,
    /// Indexes into `columns`, in the order of the key's index.
    pub(crate) key: Vec<usize>,
    /// Whether the relation's replica identity brings the whole key of an old row. A
    /// partition's may lack columns of the table's key.
    pub(crate) old_rows_have_key: bool,
    /// Whether the options ask for the relation, and it may be sent.
    pub(crate) selected: bool,
    /// Why nothing of the table may be sent.
    pub(crate) refusal: Option<Refusal>,
    /// Whether a column of the key may not be sent: no row of the table has another key, and none
    /// is sent.
    pub(crate) key_is_excluded: bool,
    /// Whether all names are what the catalog holds. Others can be shown, but two of them
    /// may look the same.
    pub(crate) names_are_exact: bool,
    /// `"schema":…,"table":…`, as it stands in every JSON envelope.
    pub(crate) source: Vec<u8>,
    /// Of the descriptor that the columns were read from.
    pub(crate) descriptor_address: usize,
    /// Other relations that this was made from, those above a partition and those of row
    /// types: no message of the relation itself tells that one of them has changed.
    pub(crate) depends_on: Vec<u32>,
    /// Types whose names the schemas have, as [`crate::pg::type_hash`] names them.
    pub(crate) names_types: Vec<u32>,
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
    /// The plan of a relation in a stream: whether its rows are asked for is the options' to
    /// say.
    pub(crate) fn of_stream(relation: RelationRef<'_>, scope: Scope<'_>) -> Self {
        let options = scope.options;
        RelationPlan::compile(relation, scope, |schema, table| {
            relation.is_streamed(options.partitions) && options.selects(schema, table)
        })
    }

    /// The plan of a relation's rows, named and keyed as the relation that they belong to.
    ///
    /// `selects` says of a schema and a table whether its rows are asked for; the plan of
    /// one that is not has no columns. Nor has any those that may not be sent: they are as if
    /// the table had none of them.
    pub(crate) fn compile(
        relation: RelationRef<'_>,
        scope: Scope<'_>,
        selects: impl FnOnce(&str, &str) -> bool,
    ) -> Self {
        let Scope {
            options,
            limits,
            encoding,
        } = scope;
        let owner = relation.owner();
        let is_owned = owner.is_some();
        let owner = owner.as_ref().map_or(relation, OwnerRef::as_ref);
        let by_root = options.partitions == Partitions::Root;
        let mut depends_on = if by_root || limits.excludes_columns() {
            ancestors(owner)
        } else {
            Vec::new()
        };
        let root = depends_on
            .last()
            .filter(|_| by_root)
            .copied()
            .and_then(OpenRelation::open);
        let head = root.as_ref().map_or(owner, OpenRelation::as_ref);
        let schema = head.schema(encoding);
        let table = head.name(encoding);
        let access = access_to(head, owner, &depends_on, scope);
        let selected = is_owned && access.refusal().is_none() && selects(&schema, &table);
        let (key_numbers, mut described) = if selected {
            (head.key_columns(), head.columns(encoding))
        } else {
            (Vec::new(), Vec::new())
        };
        described.retain(|column| access.table_has(&column.name));
        let place = |number: &i16| {
            described
                .iter()
                .position(|column| column.attribute.number() == *number)
        };
        let mut key: Vec<usize> = key_numbers.iter().filter_map(place).collect();
        let mut key_is_excluded = key.len() < key_numbers.len();
        if key_is_excluded {
            key.clear();
        }
        let mut described = match &root {
            Some(_) => placed_in(owner, described, encoding),
            None => described,
        };
        for (index, column) in described.iter_mut().enumerate() {
            if !access.part_has(&column.name) {
                column.attribute = Attribute::ABSENT;
                key_is_excluded |= key.contains(&index);
            }
        }
        let mut codecs = CodecCompiler::new(encoding, options);
        let mut key_codecs: HashMap<usize, Codec> = key
            .iter()
            .filter_map(|index| Some((*index, described.get(*index)?)))
            .map(|(index, column)| {
                let codec = codecs.key_codec(column.type_oid, column.type_modifier);
                (index, codec)
            })
            .collect();
        let columns: Vec<ColumnPlan> = described
            .into_iter()
            .enumerate()
            .map(|(index, column)| match key_codecs.remove(&index) {
                Some(codec) => ColumnPlan::new(column, true, codec),
                None => {
                    let codec = codecs.codec(column.type_oid, column.type_modifier);
                    ColumnPlan::new(column, false, codec)
                }
            })
            .collect();
        let old_rows_have_key = root.is_none()
            || key.is_empty()
            // A rewrite is no update: the row has the key that it had.
            || relation.is_rewrite()
            || owner.identity() == ReplicaIdentity::Full
            || {
                let brought = owner.key_columns();
                let is_brought =
                    |index: &usize| brought.contains(&columns[*index].attribute.number());
                key.iter().all(is_brought)
            };
        let (row_types, names_types) = codecs.into_dependencies();
        depends_on.extend(row_types);
        let mut source = Vec::new();
        source.extend_from_slice(b"\"schema\":");
        json::string(&mut source, schema.as_bytes());
        source.extend_from_slice(b",\"table\":");
        json::string(&mut source, table.as_bytes());
        RelationPlan {
            id: head.id(),
            partition: root
                .as_ref()
                .map(|_| (owner.schema(encoding), owner.name(encoding))),
            identity: owner.identity(),
            table_identity: head.identity(),
            key,
            old_rows_have_key,
            columns,
            selected,
            refusal: access.refusal(),
            key_is_excluded,
            names_are_exact: head.has_exact_names(encoding),
            source,
            descriptor_address: relation.descriptor_address(),
            depends_on,
            names_types,
            schema,
            table,
        }
    }

    /// The columns that a row may not show which a query read from this table, and which `part`
    /// stores, a partition of it. None if nothing of such a row may be sent, or there is no such
    /// relation.
    pub(crate) fn hidden_in(&self, part: u32, scope: Scope<'_>) -> Option<Vec<Attribute>> {
        let (head, part) = (OpenRelation::open(self.id)?, OpenRelation::open(part)?);
        let (head, part) = (head.as_ref(), part.as_ref());
        let access = access_to(head, part, &ancestors(part), scope);
        if access.refusal().is_some() {
            return None;
        }
        let columns = self.columns.iter();
        columns
            .filter(|column| !access.part_has(&column.name))
            // Without its key a row is none.
            .map(|column| (!column.is_key).then_some(column.attribute))
            .collect()
    }

    /// The relation as the client is told of it.
    pub(crate) fn describe(&self) -> Relation<'_> {
        Relation {
            id: self.id,
            identity: self.table_identity,
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

/// What may be sent of the table `head` from the relation `owner`, above which these are.
fn access_to<'l>(
    head: RelationRef<'_>,
    owner: RelationRef<'_>,
    above: &[u32],
    scope: Scope<'l>,
) -> Access<'l> {
    let above = if scope.limits.excludes_columns() {
        above
    } else {
        &[]
    };
    let above: Vec<Option<OpenRelation>> = above
        .iter()
        .filter(|id| **id != head.id())
        .map(|id| OpenRelation::open(*id))
        .collect();
    let is_part = owner.id() != head.id();
    let related: Vec<Option<RelationRef<'_>>> = above
        .iter()
        .map(|relation| relation.as_ref().map(OpenRelation::as_ref))
        .chain(is_part.then_some(Some(owner)))
        .collect();
    Access::of(head, &related, is_part, scope)
}

/// The columns of a partitioned table with the places that they have in a partition, whose
/// own order and dropped columns may be others. A partition has every column of its table,
/// by name and of the same type: the server sees to it. One that it lacked would be null in
/// every tuple.
fn placed_in(
    partition: RelationRef<'_>,
    columns: Vec<ColumnDescription>,
    encoding: DatabaseEncoding,
) -> Vec<ColumnDescription> {
    let places: HashMap<String, Attribute> = partition
        .columns(encoding)
        .into_iter()
        .map(|column| (column.name, column.attribute))
        .collect();
    columns
        .into_iter()
        .map(|column| {
            let place = places.get(&column.name).copied();
            ColumnDescription {
                attribute: place.unwrap_or(Attribute::ABSENT),
                ..column
            }
        })
        .collect()
}

impl ColumnPlan {
    fn new(column: ColumnDescription, is_key: bool, codec: Codec) -> Self {
        ColumnPlan {
            attribute: column.attribute,
            codec,
            prefix: member_prefix(&column.name),
            name: column.name,
            is_key,
            type_oid: column.type_oid,
            type_modifier: column.type_modifier,
        }
    }
}
