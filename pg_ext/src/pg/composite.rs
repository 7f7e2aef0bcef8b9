//! Row types, and rows that are stored as values.
//!
//! A stored row names its type in its header. It may be older than the type: what it lacks
//! at the end is filled up by `heap_deform_tuple`, as the server itself does
//! (`composite_to_json` reads each attribute with `heap_getattr`, which fills up alike).
//! No attribute is out of line: a tuple that becomes a value is flattened first
//! (`toast_flatten_tuple_to_datum` in `heaptoast.c`). It may be compressed, or have a short
//! header.

use pgrx::pg_sys;

use super::encoding::DatabaseEncoding;
use super::relation::{ColumnDescription, RelationRef};
use super::tuple::{Row, TupleBuffer, TupleRef};

/// A row type.
pub(crate) struct CompositeType {
    type_oid: u32,
    /// A copy that is this value's own.
    descriptor: pg_sys::TupleDesc,
    tuple: TupleBuffer,
    /// `pg_type.typrelid`: what changes when the type does.
    pub(crate) relation: u32,
    /// Whether its attributes have names that can be said in UTF-8.
    pub(crate) names_are_exact: bool,
}

impl CompositeType {
    /// The row type of this OID and its attributes; none if it is no row type.
    ///
    /// Takes no lock, as the reorder buffer takes none on the relations that it decodes:
    /// an ALTER TYPE under way holds one until its commit, which may wait for this very
    /// reader where commits are synchronous.
    pub(crate) fn load(
        type_oid: u32,
        encoding: DatabaseEncoding,
    ) -> Option<(Self, Vec<ColumnDescription>)> {
        // SAFETY: catalog lookups. The relation's reference is given back when all that
        // borrows from it is done.
        unsafe {
            let relation = pg_sys::get_typ_typrelid(pg_sys::Oid::from(type_oid));
            if relation == pg_sys::InvalidOid {
                return None;
            }
            let open = pg_sys::RelationIdGetRelation(relation);
            if open.is_null() {
                return None;
            }
            let borrowed = RelationRef::new(open);
            let attributes = borrowed.attributes(encoding);
            let descriptor = borrowed.copy_descriptor();
            let names_are_exact = borrowed.has_exact_columns(encoding);
            pg_sys::RelationClose(open);
            let composite = CompositeType {
                type_oid,
                descriptor,
                tuple: TupleBuffer::default(),
                relation: relation.to_u32(),
                names_are_exact,
            };
            Some((composite, attributes))
        }
    }

    /// Splits a stored row into its values; none if its header names another type.
    ///
    /// `bytes` is the whole varlena, with a header of four bytes and aligned as the server
    /// aligns it.
    pub(super) fn deform_bytes<'t>(&'t mut self, bytes: &'t [u8]) -> Option<Row<'t>> {
        if bytes.len() < size_of::<pg_sys::HeapTupleHeaderData>() {
            return None;
        }
        let header = bytes
            .as_ptr()
            .cast_mut()
            .cast::<pg_sys::HeapTupleHeaderData>();
        // SAFETY: long enough for a header, which in a composite value has this member of
        // the union.
        let type_oid = unsafe { (*header).t_choice.t_datum.datum_typeid };
        if type_oid.to_u32() != self.type_oid {
            return None;
        }
        let mut tuple = pg_sys::HeapTupleData {
            t_len: u32::try_from(bytes.len()).ok()?,
            t_data: header,
            ..Default::default()
        };
        // SAFETY: the tuple is read before the call returns; its data, which the values
        // point to, lives for 't. The descriptor is that of the type that the row names.
        unsafe {
            let tuple = TupleRef::new(&raw mut tuple)?;
            Some(self.tuple.deform_decoded(tuple, self.descriptor))
        }
    }
}

impl Drop for CompositeType {
    fn drop(&mut self) {
        // SAFETY: the copy belongs to this value alone, in memory that is never emptied.
        unsafe { pg_sys::FreeTupleDesc(self.descriptor) };
    }
}
