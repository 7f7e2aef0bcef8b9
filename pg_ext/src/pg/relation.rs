//! A relation as its descriptor and its indexes describe it.
//!
//! # The heap of a rewrite
//!
//! An ALTER TABLE that rewrites writes all rows of the table into a new heap, which then
//! takes the table's place (`ATRewriteTable`, `finish_heap_swap`). To a plugin that asks
//! for rewrites they are inserts into that heap, a relation of its own: `pg_temp_<oid>`,
//! without indexes, whose `relrewrite` names the table. It was made from the table's new
//! descriptor, so the columns have the same numbers, names and types (`make_new_heap`);
//! schema, name, replica identity and key are the table's, which has its new catalog
//! entries before the first row is written. Values that stand out of line are written
//! anew, so that none is left out of the WAL. VACUUM FULL and CLUSTER copy their heaps
//! without logical records, and send nothing.

use std::ffi::{CStr, c_char, c_int};
use std::marker::PhantomData;

use headwater_protocol::frame::ReplicaIdentity;
use headwater_protocol::options::Partitions;
use pgrx::pg_sys;

use super::encoding::DatabaseEncoding;
use super::types::catalog_row;
use super::versions;

/// A relation for the time of one callback.
#[derive(Clone, Copy)]
pub(crate) struct RelationRef<'cb> {
    relation: pg_sys::Relation,
    callback: PhantomData<&'cb ()>,
}

/// Where a column's value stands in a tuple and how it is passed. Made from a
/// descriptor alone, so that no reader can mistake a number for a pointer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attribute {
    pub(super) index: usize,
    /// `attlen`: bytes, -1 for a varlena, -2 for a C string.
    pub(super) length: i16,
    pub(super) by_value: bool,
}

impl Attribute {
    /// In no tuple: null wherever it is read.
    pub(crate) const ABSENT: Attribute = Attribute {
        index: usize::MAX - 1,
        length: 0,
        by_value: true,
    };

    /// Whether this is [`Attribute::ABSENT`].
    pub(crate) fn is_absent(self) -> bool {
        self.index == Attribute::ABSENT.index
    }

    /// Whether a value may be in a TOAST table, and then be left out of the WAL.
    pub(crate) fn may_stand_out_of_line(self) -> bool {
        self.length == -1
    }

    /// `attnum`: from 1; a dropped column keeps its own.
    pub(crate) fn number(self) -> i16 {
        // A relation has at most 1,600 columns.
        i16::try_from(self.index + 1).unwrap_or(i16::MAX)
    }
}

/// A column of a relation.
#[derive(Clone, Debug)]
pub(crate) struct ColumnDescription {
    pub(crate) attribute: Attribute,
    pub(crate) name: String,
    pub(crate) type_oid: u32,
    pub(crate) type_modifier: i32,
}

impl<'cb> RelationRef<'cb> {
    /// # Safety
    ///
    /// `relation` is open, and stays so for `'cb`.
    pub(super) unsafe fn new(relation: pg_sys::Relation) -> Self {
        RelationRef {
            relation,
            callback: PhantomData,
        }
    }

    /// Whether this is the heap of a rewrite.
    pub(crate) fn is_rewrite(self) -> bool {
        self.rewritten() != pg_sys::InvalidOid
    }

    /// The relation that rows of this one belong to: the table that it is the new heap of,
    /// otherwise itself. None for the new heap of what is no table, a materialized view, or
    /// of a table that is gone.
    pub(crate) fn owner(self) -> Option<OwnerRef<'cb>> {
        if !self.is_rewrite() {
            return Some(OwnerRef::Itself(self));
        }
        OpenRelation::open(self.rewritten().to_u32())
            .filter(|table| table.as_ref().kind() == pg_sys::RELKIND_RELATION)
            .map(OwnerRef::Opened)
    }

    /// `pg_class.oid` of the table whose rows are stored here, now or once the rewrite is
    /// complete.
    pub(crate) fn table_id(self) -> u32 {
        if self.is_rewrite() {
            self.rewritten().to_u32()
        } else {
            self.id()
        }
    }

    /// Whether changes reach the WAL.
    pub(crate) fn is_logged(self) -> bool {
        // SAFETY: an open relation has its pg_class row.
        let persistence = unsafe { (*(*self.relation).rd_rel).relpersistence };
        persistence.cast_unsigned() == pg_sys::RELPERSISTENCE_PERMANENT
    }

    /// The transaction that wrote the catalog's row of a column of the table whose rows are
    /// stored here; 0 where there is none.
    pub(crate) fn last_altered(self, attribute: Attribute) -> u32 {
        // SAFETY: a lookup in the system cache; the row's header is read before it is given
        // back. Freezing leaves the number there.
        unsafe {
            let row = pg_sys::SearchSysCache2(
                pg_sys::SysCacheIdentifier::ATTNUM as std::ffi::c_int,
                pg_sys::Datum::from(pg_sys::Oid::from(self.table_id())),
                pg_sys::Datum::from(attribute.number()),
            );
            if row.is_null() {
                return 0;
            }
            let xmin = (*(*row).t_data).t_choice.t_heap.t_xmin;
            pg_sys::ReleaseSysCache(row);
            pg_sys::TransactionId::into_inner(xmin)
        }
    }

    /// Whether rows that were there before the column have a value for it that the catalog
    /// keeps (`pg_attribute.attmissingval`).
    pub(crate) fn fills_in(self, attribute: Attribute) -> bool {
        let descriptor = self.descriptor();
        // SAFETY: an open relation has its descriptor; the index is below natts.
        unsafe {
            let count = usize::try_from((*descriptor).natts).unwrap_or(0);
            attribute.index < count
                && versions::attribute(descriptor, attribute.index).atthasmissing
        }
    }

    fn rewritten(self) -> pg_sys::Oid {
        // SAFETY: an open relation has its pg_class row.
        unsafe { (*(*self.relation).rd_rel).relrewrite }
    }

    /// `pg_class.oid`.
    pub(crate) fn id(self) -> u32 {
        // SAFETY: the relation is open.
        unsafe { (*self.relation).rd_id.to_u32() }
    }

    /// Whether the relation is one whose rows are streamed: an ordinary table. A partitioned
    /// one has no rows of its own; where it stands for its partitions, it can be truncated
    /// and described. A materialized view writes WAL that is decoded too (REFRESH …
    /// CONCURRENTLY), and so do tables of system kinds.
    pub(crate) fn is_streamed(self, partitions: Partitions) -> bool {
        match self.kind() {
            pg_sys::RELKIND_RELATION => true,
            pg_sys::RELKIND_PARTITIONED_TABLE => partitions == Partitions::Root,
            _ => false,
        }
    }

    /// Whether the relation is a partitioned table, which has no rows of its own.
    pub(crate) fn is_partitioned(self) -> bool {
        self.kind() == pg_sys::RELKIND_PARTITIONED_TABLE
    }

    pub(super) fn is_partition(self) -> bool {
        // SAFETY: an open relation has its pg_class row.
        unsafe { (*(*self.relation).rd_rel).relispartition }
    }

    fn kind(self) -> u8 {
        // SAFETY: an open relation has its pg_class row.
        unsafe { (*(*self.relation).rd_rel).relkind.cast_unsigned() }
    }

    /// Where the descriptor stands. Two descriptors at one address at different times
    /// may differ; two addresses always mean that the relation was loaded anew.
    pub(crate) fn descriptor_address(self) -> usize {
        self.descriptor() as usize
    }

    pub(super) fn descriptor(self) -> pg_sys::TupleDesc {
        // SAFETY: the relation is open.
        unsafe { (*self.relation).rd_att }
    }

    /// A copy of the descriptor that lives until `FreeTupleDesc`: it may outlive the query
    /// that asked for it, and a reference instead would be one to lose.
    pub(super) fn copy_descriptor(self) -> pg_sys::TupleDesc {
        // SAFETY: the relation is open. The copy is made in memory that is never emptied.
        unsafe {
            let outer = pg_sys::CurrentMemoryContext;
            pg_sys::CurrentMemoryContext = pg_sys::CacheMemoryContext;
            let copy = pg_sys::CreateTupleDescCopyConstr(self.descriptor());
            pg_sys::CurrentMemoryContext = outer;
            copy
        }
    }

    /// The table's name.
    pub(crate) fn name(self, encoding: DatabaseEncoding) -> String {
        // SAFETY: an open relation has its pg_class row; a name is terminated.
        let name = unsafe { CStr::from_ptr((*(*self.relation).rd_rel).relname.data.as_ptr()) };
        encoding.name(name)
    }

    /// The schema's name: a catalog lookup.
    pub(crate) fn schema(self, encoding: DatabaseEncoding) -> String {
        // SAFETY: a lookup in the system cache, copied into the current memory context.
        let name = unsafe { pg_sys::get_namespace_name((*(*self.relation).rd_rel).relnamespace) };
        if name.is_null() {
            // The schema of a relation that is being decoded exists in the snapshot.
            return String::new();
        }
        // SAFETY: a terminated copy, freed with the callback's memory.
        encoding.name(unsafe { CStr::from_ptr(name) })
    }

    /// Whether schema, table and columns have names that can be said in UTF-8.
    pub(crate) fn has_exact_names(self, encoding: DatabaseEncoding) -> bool {
        if encoding == DatabaseEncoding::Utf8 {
            return true;
        }
        // SAFETY: an open relation has its pg_class row; names are terminated, the schema's
        // is null or a copy.
        let own_names_are = unsafe {
            let class = (*self.relation).rd_rel;
            let schema = pg_sys::get_namespace_name((*class).relnamespace);
            (schema.is_null() || encoding.is_exact(CStr::from_ptr(schema)))
                && encoding.is_exact(CStr::from_ptr((*class).relname.data.as_ptr()))
        };
        own_names_are && self.has_exact_columns(encoding)
    }

    /// Whether the columns have names that can be said in UTF-8.
    pub(super) fn has_exact_columns(self, encoding: DatabaseEncoding) -> bool {
        let descriptor = self.descriptor();
        // SAFETY: an open relation has its descriptor.
        let count = usize::try_from(unsafe { (*descriptor).natts }).unwrap_or(0);
        encoding == DatabaseEncoding::Utf8
            || (0..count)
                // SAFETY: the index is below natts.
                .map(|index| unsafe { versions::attribute(descriptor, index) })
                .filter(|column| !column.attisdropped)
                .all(|column| {
                    // SAFETY: a name is terminated.
                    let name = unsafe { CStr::from_ptr(column.attname.data.as_ptr()) };
                    encoding.is_exact(name)
                })
    }

    /// `pg_class.relreplident`.
    pub(crate) fn identity(self) -> ReplicaIdentity {
        // SAFETY: an open relation has its pg_class row.
        let code = unsafe { (*(*self.relation).rd_rel).relreplident };
        ReplicaIdentity::from_code(code.cast_unsigned()).unwrap_or(ReplicaIdentity::Nothing)
    }

    /// The live columns that have a stored value, in their order.
    pub(crate) fn columns(self, encoding: DatabaseEncoding) -> Vec<ColumnDescription> {
        self.describe(encoding, is_stored)
    }

    /// The live attributes of a row type: a row that is stored as a value holds those that
    /// are virtual in its table as well.
    pub(super) fn attributes(self, encoding: DatabaseEncoding) -> Vec<ColumnDescription> {
        self.describe(encoding, |_| true)
    }

    fn describe(
        self,
        encoding: DatabaseEncoding,
        is_wanted: impl Fn(&pg_sys::FormData_pg_attribute) -> bool,
    ) -> Vec<ColumnDescription> {
        let descriptor = self.descriptor();
        // SAFETY: an open relation has its descriptor.
        let count = usize::try_from(unsafe { (*descriptor).natts }).unwrap_or(0);
        (0..count)
            // SAFETY: the index is below natts.
            .map(|index| (index, unsafe { versions::attribute(descriptor, index) }))
            .filter(|(_, column)| !column.attisdropped && is_wanted(column))
            .map(|(index, column)| ColumnDescription {
                attribute: Attribute {
                    index,
                    length: column.attlen,
                    by_value: column.attbyval,
                },
                // SAFETY: a name is terminated.
                name: encoding.name(unsafe { CStr::from_ptr(column.attname.data.as_ptr()) }),
                type_oid: column.atttypid.to_u32(),
                type_modifier: column.atttypmod,
            })
            .collect()
    }

    /// The numbers of the key's columns, in the index' order; none without a key.
    ///
    /// The key has to be what a delete brings along, or its tombstone could not be
    /// made: the columns of the replica identity's index, and under FULL, which brings
    /// everything, those of the primary key. One that is checked only at the commit is no
    /// key: until then two rows may have it. A column that the index has twice is one of the
    /// key once, as no record has a field twice.
    pub(crate) fn key_columns(self) -> Vec<i16> {
        // SAFETY: the relation is open; the call loads the list of its indexes.
        let replica_index = unsafe { pg_sys::RelationGetReplicaIndex(self.relation) };
        let index = match self.identity() {
            ReplicaIdentity::Nothing => pg_sys::InvalidOid,
            ReplicaIdentity::Default | ReplicaIdentity::Index => replica_index,
            // SAFETY: set by the call above.
            ReplicaIdentity::Full => unsafe { (*self.relation).rd_pkindex },
        };
        if index == pg_sys::InvalidOid {
            return Vec::new();
        }
        // SAFETY: takes a reference to the index' relcache entry, given back below.
        let index = unsafe { pg_sys::RelationIdGetRelation(index) };
        if index.is_null() {
            return Vec::new();
        }
        // SAFETY: an open index has its pg_index row, whose vector holds indnatts numbers,
        // the key's before those that are only included.
        unsafe {
            let form = (*index).rd_index;
            let count = if (*form).indimmediate {
                usize::try_from((*form).indnkeyatts).unwrap_or(0)
            } else {
                0
            };
            let mut numbers = Vec::with_capacity(count);
            for number in (*form).indkey.values.as_slice(count) {
                if !numbers.contains(number) {
                    numbers.push(*number);
                }
            }
            pg_sys::RelationClose(index);
            numbers
        }
    }
}

/// Whether a column is there and has values of its own: a virtual generated one (from 18
/// on) is computed when read and never stored.
fn is_stored(column: &pg_sys::FormData_pg_attribute) -> bool {
    !column.attisdropped && column.attgenerated.cast_unsigned() != b'v'
}

/// A relation that was opened by its OID, until this is dropped.
pub(crate) struct OpenRelation(pg_sys::Relation);

impl OpenRelation {
    /// The relation as of the snapshot in force; none if it has none of that OID.
    pub(crate) fn open(id: u32) -> Option<Self> {
        // SAFETY: takes a reference to the relcache entry, given back when this is dropped.
        // As everywhere in decoding there is no lock: the snapshot is of the past.
        let relation = unsafe { pg_sys::RelationIdGetRelation(pg_sys::Oid::from(id)) };
        // Made only where there is one: it is closed whenever it goes.
        (!relation.is_null()).then(|| OpenRelation(relation))
    }

    /// The table of that OID, ordinary or partitioned, that is not temporary, logged or not.
    /// What is none is not loaded: one lookup tells.
    ///
    /// Nor is one that was declared `user_catalog_table`. The server loads it as it does its
    /// own catalogs, with the place that its rows have today (`RelationInitPhysicalAddr` in
    /// `relcache.c`): one that was dropped since would be an ERROR at every attempt.
    pub(crate) fn open_table(id: u32) -> Option<Self> {
        is_watched_table(pg_sys::Oid::from(id))
            .then(|| Self::open(id))
            .flatten()
    }

    pub(crate) fn as_ref(&self) -> RelationRef<'_> {
        // SAFETY: open as long as this lives.
        unsafe { RelationRef::new(self.0) }
    }
}

/// What [`OpenRelation::open_table`] opens.
fn is_watched_table(id: pg_sys::Oid) -> bool {
    // SAFETY: a lookup in the system cache, whose row is read before it is given back.
    unsafe {
        let row = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::RELOID as c_int,
            pg_sys::Datum::from(id),
        );
        if row.is_null() {
            return false;
        }
        let class = catalog_row::<pg_sys::FormData_pg_class>(row);
        let is_table = matches!(
            (*class).relkind.cast_unsigned(),
            pg_sys::RELKIND_RELATION | pg_sys::RELKIND_PARTITIONED_TABLE
        ) && (*class).relpersistence.cast_unsigned() != pg_sys::RELPERSISTENCE_TEMP;
        let is_watched = is_table && !is_user_catalog(row, (*class).relkind);
        pg_sys::ReleaseSysCache(row);
        is_watched
    }
}

/// Whether a row of `pg_class` is that of a table declared `user_catalog_table`.
///
/// # Safety
///
/// `row` is one of the system cache, of a relation of this kind.
unsafe fn is_user_catalog(row: pg_sys::HeapTuple, kind: c_char) -> bool {
    let mut is_null = false;
    // SAFETY: the caller's. Options that are there parse to the struct of the kind, or to
    // null where it has none, and a partitioned table cannot be declared so.
    unsafe {
        let options = pg_sys::SysCacheGetAttr(
            pg_sys::SysCacheIdentifier::RELOID as c_int,
            row,
            pg_sys::Anum_pg_class_reloptions as pg_sys::AttrNumber,
            &mut is_null,
        );
        if is_null || kind.cast_unsigned() != pg_sys::RELKIND_RELATION {
            return false;
        }
        let parsed = pg_sys::heap_reloptions(kind, options, false);
        parsed
            .cast::<pg_sys::StdRdOptions>()
            .as_ref()
            .is_some_and(|options| options.user_catalog_table)
    }
}

impl Drop for OpenRelation {
    fn drop(&mut self) {
        // An ERROR on its way out releases what its transaction held.
        if !std::thread::panicking() {
            // SAFETY: the reference that `open` took.
            unsafe { pg_sys::RelationClose(self.0) };
        }
    }
}

/// What [`RelationRef::owner`] found.
pub(crate) enum OwnerRef<'cb> {
    /// The relation that the rows are stored in.
    Itself(RelationRef<'cb>),
    /// Another one.
    Opened(OpenRelation),
}

impl OwnerRef<'_> {
    pub(crate) fn as_ref(&self) -> RelationRef<'_> {
        match self {
            OwnerRef::Itself(relation) => *relation,
            OwnerRef::Opened(relation) => relation.as_ref(),
        }
    }
}
