//! The partitioned tables that a partition belongs to.

use pgrx::pg_sys;

use super::relation::RelationRef;

unsafe extern "C-unwind" {
    // src/include/catalog/partition.h; exported by every server and not bound by pgrx.
    fn get_partition_ancestors(relation: pg_sys::Oid) -> *mut pg_sys::List;
}

/// The ancestors of a partition, from its parent up to the table at the top; none for a
/// table that is no partition, or is being detached.
///
/// Read from `pg_inherits` as of the snapshot in force: while decoding, that of the change.
pub(crate) fn ancestors(relation: RelationRef<'_>) -> Vec<u32> {
    if !relation.is_partition() {
        return Vec::new();
    }
    let oid = pg_sys::Oid::from(relation.id());
    // SAFETY: a catalog lookup within a transaction. It may raise an ERROR, which the guard
    // turns into a panic as for every bound function; nothing is on its frame to be dropped.
    let list =
        unsafe { pg_sys::ffi::pg_guard_ffi_boundary(|| get_partition_ancestors(oid)).as_ref() };
    let Some(list) = list else {
        return Vec::new();
    };
    let count = usize::try_from(list.length).unwrap_or(0);
    // SAFETY: a list of OIDs, of whose cells the first `length` are in use.
    let cells = unsafe { std::slice::from_raw_parts(list.elements, count) };
    cells
        .iter()
        // SAFETY: as above.
        .map(|cell| unsafe { cell.oid_value }.to_u32())
        .collect()
}
