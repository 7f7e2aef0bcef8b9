//! What the server says has changed in its catalogs.
//!
//! A plan is compiled from a relation and its schema's name. The relation cache reports
//! changes of the first; those of the second reach only the system caches (`ALTER
//! SCHEMA … RENAME` touches no relation), and so do those of an enum's labels. A row type
//! is a relation. Of other types a plan holds only what no ALTER TYPE can change, but for their
//! names, which an Avro schema has. The cache of types, which every new table disturbs, is
//! therefore listened to in sessions of Avro alone. It names a type by a hash of its OID.
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

/// Relations, and types, noted one by one before "all of them" is noted instead. A burst
/// larger than this is a mass DDL, after which most plans are stale anyway.
const RING: usize = 64;

thread_local! {
    static GENERATION: Cell<u64> = const { Cell::new(0) };
    // One thread runs all server code; a thread-local needs no lock.
    static NOTES: Notes = const {
        Notes {
            registered: Cell::new(false),
            hears_types: Cell::new(false),
            all: Cell::new(false),
            relations: Ring::new(),
            types: Ring::new(),
        }
    };
}

/// Cells, so that a callback in the middle of anything finds them free.
struct Notes {
    registered: Cell<bool>,
    hears_types: Cell<bool>,
    all: Cell<bool>,
    /// By OID.
    relations: Ring,
    /// By the hash of their OIDs.
    types: Ring,
}

struct Ring {
    /// How many of `notes` are any.
    count: Cell<usize>,
    notes: [Cell<u32>; RING],
}

impl Ring {
    const fn new() -> Self {
        Ring {
            count: Cell::new(0),
            notes: [const { Cell::new(0) }; RING],
        }
    }

    /// Says whether there was room. 0 means all of them. A command often reports the same
    /// relation many times, which takes one place.
    fn note(&self, what: u32) -> bool {
        let count = self.count.get();
        if self.notes[..count].iter().any(|noted| noted.get() == what) {
            return true;
        }
        match self.notes.get(count) {
            Some(free) if what != 0 => {
                free.set(what);
                self.count.set(count + 1);
                true
            }
            _ => false,
        }
    }

    fn take(&self) -> impl Iterator<Item = u32> {
        self.notes[..self.count.take()].iter().map(Cell::get)
    }
}

impl Notes {
    fn note(&self, ring: &Ring, what: u32) {
        if !ring.note(what) {
            self.all.set(true);
        }
    }
}

/// What has to be compiled anew.
pub(crate) enum Stale {
    /// What is made of one relation.
    Relation(u32),
    /// What has the name of one type, known by its hash.
    Type(u32),
    /// Every plan.
    All,
}

/// Takes the notes and hands each to `mark`, which must look up nothing in a catalog.
/// Costs one test when there are none, as for almost every change.
pub(crate) fn take_invalidated(mut mark: impl FnMut(Stale)) {
    NOTES.with(|notes| {
        let (relations, types) = (notes.relations.take(), notes.types.take());
        if notes.all.take() {
            mark(Stale::All);
        } else {
            relations.for_each(|relation| mark(Stale::Relation(relation)));
            types.for_each(|type_hash| mark(Stale::Type(type_hash)));
        }
    });
}

/// Whether nothing was noted since the last taking.
pub(crate) fn is_quiet() -> bool {
    NOTES.with(|notes| {
        !notes.all.get() && notes.relations.count.get() == 0 && notes.types.count.get() == 0
    })
}

/// Goes up whenever anything is heard, for who keeps one plan and makes that anew.
pub(super) fn generation() -> u64 {
    GENERATION.get()
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

/// As [`listen`], for changes of types.
pub(super) fn listen_to_types() {
    if NOTES.with(|notes| notes.hears_types.replace(true)) {
        return;
    }
    // SAFETY: the callback is static and tolerates being called at any time.
    unsafe {
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::TYPEOID as std::ffi::c_int,
            Some(type_changed),
            pg_sys::Datum::from(0_usize),
        );
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
    hear(|notes| notes.note(&notes.relations, relation.to_u32()));
}

#[pg_guard]
unsafe extern "C-unwind" fn type_changed(_arg: pg_sys::Datum, _cache: std::ffi::c_int, hash: u32) {
    hear(|notes| notes.note(&notes.types, hash));
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
    GENERATION.set(GENERATION.get().wrapping_add(1));
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
