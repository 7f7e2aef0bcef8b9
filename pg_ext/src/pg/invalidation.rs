//! What the server says has changed in its catalogs.
//!
//! A plan is compiled from a relation and its schema's name. The relation cache reports
//! changes of the first; those of the second reach only the system caches (`ALTER
//! SCHEMA … RENAME` touches no relation), and so do those of an enum's labels. A row type
//! is a relation. Of other types a plan holds only what no ALTER TYPE can change, so the
//! cache of types, which every new table disturbs, is not listened to.
//!
//! Callbacks of both kinds can't be unregistered and may fire inside any catalog lookup,
//! also one that a plan under compilation makes. So they are registered once per
//! process, only note what they heard, and never touch a cache: the session applies the
//! notes before it uses a plan.

use std::cell::RefCell;

use pgrx::{pg_guard, pg_sys};

/// Relations noted one by one before "all of them" is noted instead. A burst larger
/// than this is a mass DDL, after which most plans are stale anyway.
const RING: usize = 64;

struct Notes {
    registered: bool,
    all: bool,
    count: usize,
    relations: [u32; RING],
}

thread_local! {
    // One thread runs all server code; a thread-local needs no lock.
    static NOTES: RefCell<Notes> = const {
        RefCell::new(Notes { registered: false, all: false, count: 0, relations: [0; RING] })
    };
}

/// What has to be compiled anew.
pub(crate) enum Stale {
    /// One relation's plan.
    Relation(u32),
    /// Every plan.
    All,
}

/// Takes the notes and hands each to `mark`, which must look up nothing in a catalog.
/// Costs one test when there are none, as for almost every change.
pub(crate) fn take_invalidated(mut mark: impl FnMut(Stale)) {
    NOTES.with_borrow_mut(|notes| {
        if notes.all {
            mark(Stale::All);
        } else {
            for relation in &notes.relations[..notes.count] {
                mark(Stale::Relation(*relation));
            }
        }
        notes.all = false;
        notes.count = 0;
    });
}

/// Registers the callbacks, once per process.
pub(super) fn listen() {
    let first = NOTES.with_borrow_mut(|notes| !std::mem::replace(&mut notes.registered, true));
    if !first {
        return;
    }
    let nothing = pg_sys::Datum::from(0_usize);
    // SAFETY: the callbacks are static and tolerate being called at any time.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), nothing);
        for cache in [
            pg_sys::SysCacheIdentifier::NAMESPACEOID,
            pg_sys::SysCacheIdentifier::ENUMOID,
        ] {
            pg_sys::CacheRegisterSyscacheCallback(
                cache as std::ffi::c_int,
                Some(names_changed),
                nothing,
            );
        }
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
    NOTES.with_borrow_mut(|notes| {
        if relation == pg_sys::InvalidOid || notes.count == RING {
            notes.all = true;
        } else {
            notes.relations[notes.count] = relation.to_u32();
            notes.count += 1;
        }
    });
}

#[pg_guard]
unsafe extern "C-unwind" fn names_changed(
    _arg: pg_sys::Datum,
    _cache: std::ffi::c_int,
    _hash: u32,
) {
    NOTES.with_borrow_mut(|notes| notes.all = true);
}
