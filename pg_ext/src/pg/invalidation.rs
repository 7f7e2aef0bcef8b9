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
//!
//! They raise nothing, whatever happens: the server calls them at the end of transactions
//! too, where an ERROR comes too late and takes the whole server down
//! (`AtEOXact_Inval` follows the commit record in `CommitTransaction`). A panic is a defect
//! of ours, costs the notes, and "all of them" stands for what they were.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pgrx::{pg_guard, pg_sys};

use super::panics::{Place, panic_point};

/// Relations noted one by one before "all of them" is noted instead. A burst larger
/// than this is a mass DDL, after which most plans are stale anyway.
const RING: usize = 64;

thread_local! {
    // One thread runs all server code; a thread-local needs no lock.
    static NOTES: Notes = const {
        Notes {
            registered: Cell::new(false),
            all: Cell::new(false),
            count: Cell::new(0),
            relations: [const { Cell::new(0) }; RING],
        }
    };
}

/// Cells, so that a callback in the middle of anything finds them free.
struct Notes {
    registered: Cell<bool>,
    all: Cell<bool>,
    /// How many of `relations` are notes.
    count: Cell<usize>,
    relations: [Cell<u32>; RING],
}

impl Notes {
    fn note(&self, relation: u32) {
        let count = self.count.get();
        match self.relations.get(count) {
            Some(free) if relation != 0 => {
                free.set(relation);
                self.count.set(count + 1);
            }
            _ => self.all.set(true),
        }
    }
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
    NOTES.with(|notes| {
        let count = notes.count.take();
        if notes.all.take() {
            mark(Stale::All);
        } else {
            for relation in &notes.relations[..count] {
                mark(Stale::Relation(relation.get()));
            }
        }
    });
}

/// Registers the callbacks, once per process.
pub(super) fn listen() {
    if NOTES.with(|notes| notes.registered.replace(true)) {
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
    hear(|notes| notes.note(relation.to_u32()));
}

#[pg_guard]
unsafe extern "C-unwind" fn names_changed(
    _arg: pg_sys::Datum,
    _cache: std::ffi::c_int,
    _hash: u32,
) {
    hear(|notes| notes.all.set(true));
}

/// Takes a note, in a callback that must not fail.
fn hear(note: impl FnOnce(&Notes)) {
    NOTES.with(|notes| {
        let noted = catch_unwind(AssertUnwindSafe(|| {
            panic_point(Place::Invalidation);
            note(notes);
        }));
        if noted.is_err() {
            notes.all.set(true);
        }
    });
}
