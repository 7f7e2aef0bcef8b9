//! Which relations a transaction changes in the catalogs, known when its replay begins.
//!
//! The server logs the cache invalidations of each command and, before it replays a
//! transaction, has collected those of all of it on the transaction
//! (`ReorderBufferAddInvalidations`). Among them is one for the relation cache for each
//! relation whose entry a command touched: ALTER TABLE of every form, ATTACH PARTITION on
//! both sides, CREATE INDEX, also ANALYZE and GRANT. Those of commands that a savepoint
//! took back are among them too.
//!
//! Two kinds of commands change how a table's rows look and do not touch its entry: ALTER
//! SCHEMA RENAME, and ALTER TYPE of a row type or an enum that a column is made of. Their
//! messages are for the system caches and hold a hash of a key. For these the catalogs are
//! searched for the tables that may be meant.

use std::ffi::c_int;

use pgrx::pg_sys;

use super::types::{FIRST_USER_OID, catalog_row};

/// What a transaction's messages name.
#[derive(Default)]
struct Changed {
    relations: Vec<u32>,
    /// Hashes of the OIDs of schemas.
    schemas: Vec<u32>,
    enums: bool,
}

/// The OIDs in ascending order, each once; none for almost every transaction.
///
/// # Safety
///
/// `txn` is the transaction of a callback under way, and the snapshot in force is the one
/// from before it.
pub(super) unsafe fn changed_relations(txn: *mut pg_sys::ReorderBufferTXN) -> Vec<u32> {
    // SAFETY: the caller's.
    let mut changed = unsafe { changed(txn) };
    let mut relations = std::mem::take(&mut changed.relations);
    if !changed.schemas.is_empty() {
        relations.extend(relations_of_schemas(&changed.schemas));
    }
    if changed.enums || relations.iter().any(|relation| is_row_type(*relation)) {
        relations.extend(relations_of_user_types());
    }
    relations.sort_unstable();
    relations.dedup();
    relations
}

/// # Safety
///
/// `txn` is the transaction of a callback under way.
unsafe fn changed(txn: *mut pg_sys::ReorderBufferTXN) -> Changed {
    let mut changed = Changed::default();
    // SAFETY: the caller's; the array holds so many messages.
    let messages = unsafe {
        let count = usize::try_from((*txn).ninvalidations).unwrap_or(0);
        if count == 0 || (*txn).invalidations.is_null() {
            return changed;
        }
        std::slice::from_raw_parts((*txn).invalidations, count)
    };
    for message in messages {
        // SAFETY: a message's first byte says which member of the union it is. One of a
        // system cache has that cache's number.
        unsafe {
            let id = c_int::from(message.id);
            if id == pg_sys::SHAREDINVALRELCACHE_ID {
                // 0 stands for all relations: a publication of all tables came or went.
                if message.rc.dbId == pg_sys::MyDatabaseId && message.rc.relId != pg_sys::InvalidOid
                {
                    changed.relations.push(message.rc.relId.to_u32());
                }
            } else if id >= 0 && message.cc.dbId == pg_sys::MyDatabaseId {
                if id == pg_sys::SysCacheIdentifier::NAMESPACEOID as c_int {
                    changed.schemas.push(message.cc.hashValue);
                }
                changed.enums |= id == pg_sys::SysCacheIdentifier::ENUMOID as c_int;
            }
        }
    }
    // A transaction that makes many tables repeats itself a lot.
    changed.relations.sort_unstable();
    changed.relations.dedup();
    changed
}

fn is_row_type(relation: u32) -> bool {
    // SAFETY: a lookup in the system cache; a relation that is not there has no kind.
    let kind = unsafe { pg_sys::get_rel_relkind(pg_sys::Oid::from(relation)) };
    kind.cast_unsigned() == pg_sys::RELKIND_COMPOSITE_TYPE
}

/// All relations of the schemas whose OIDs have these hashes.
fn relations_of_schemas(hashes: &[u32]) -> Vec<u32> {
    let mut relations = Vec::new();
    // SAFETY: the struct is that of the catalog.
    unsafe {
        scan::<pg_sys::FormData_pg_class>(pg_sys::RelationRelationId, |class| {
            let hash = pg_sys::GetSysCacheHashValue(
                pg_sys::SysCacheIdentifier::NAMESPACEOID as c_int,
                pg_sys::Datum::from(class.relnamespace),
                pg_sys::Datum::from(0_usize),
                pg_sys::Datum::from(0_usize),
                pg_sys::Datum::from(0_usize),
            );
            if hashes.contains(&hash) {
                relations.push(class.oid.to_u32());
            }
        });
    }
    relations
}

/// All relations with a column of a type that is not the server's own.
fn relations_of_user_types() -> Vec<u32> {
    let mut relations = Vec::new();
    // SAFETY: the struct is that of the catalog.
    unsafe {
        scan::<pg_sys::FormData_pg_attribute>(pg_sys::AttributeRelationId, |column| {
            if column.attnum > 0 && column.atttypid.to_u32() >= FIRST_USER_OID {
                relations.push(column.attrelid.to_u32());
            }
        });
    }
    relations
}

/// Hands over every row of a catalog as of the snapshot in force.
///
/// # Safety
///
/// `T` is the struct of the catalog's rows.
unsafe fn scan<T>(catalog: pg_sys::Oid, mut row: impl FnMut(&T)) {
    let lock = pg_sys::AccessShareLock as pg_sys::LOCKMODE;
    // SAFETY: opened and closed in pairs; an ERROR in between ends the transaction that
    // replays the change, which gives everything back. A row is valid until the next.
    unsafe {
        let relation = pg_sys::table_open(catalog, lock);
        let scan = pg_sys::systable_beginscan(
            relation,
            pg_sys::InvalidOid,
            false,
            std::ptr::null_mut(),
            0,
            std::ptr::null_mut(),
        );
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            row(&*catalog_row::<T>(tuple));
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(relation, lock);
    }
}
