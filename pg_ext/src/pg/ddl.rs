//! Which relations a transaction changes in the catalogs, known when its replay begins.
//!
//! The server logs the cache invalidations of each command and, before it replays a
//! transaction, has collected those of all of it on the transaction
//! (`ReorderBufferAddInvalidations`). Among them is one for the relation cache for each
//! relation whose entry a command touched: ALTER TABLE of every form, ATTACH PARTITION on
//! both sides, CREATE INDEX, also ANALYZE and GRANT. Those of commands that a savepoint
//! took back are among them too.

use pgrx::pg_sys;

/// The OIDs in ascending order, each once; none for almost every transaction.
///
/// # Safety
///
/// `txn` is the transaction of a callback under way.
pub(super) unsafe fn changed_relations(txn: *mut pg_sys::ReorderBufferTXN) -> Vec<u32> {
    // SAFETY: the caller's; the array holds so many messages, and a message's first byte
    // says which member of the union it is.
    let mut relations: Vec<u32> = unsafe {
        let count = usize::try_from((*txn).ninvalidations).unwrap_or(0);
        if count == 0 || (*txn).invalidations.is_null() {
            return Vec::new();
        }
        std::slice::from_raw_parts((*txn).invalidations, count)
            .iter()
            .filter(|message| i32::from(message.id) == pg_sys::SHAREDINVALRELCACHE_ID)
            .filter(|message| message.rc.dbId == pg_sys::MyDatabaseId)
            .map(|message| message.rc.relId.to_u32())
            // 0 stands for all relations: a publication of all tables came or went.
            .filter(|relation| *relation != 0)
            .collect()
    };
    relations.sort_unstable();
    relations.dedup();
    relations
}
