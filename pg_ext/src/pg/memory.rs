//! The memory of one callback.
//!
//! Callbacks run in the decoding context, which lives as long as the connection:
//! whatever Postgres allocates for a change (a detoasted value, the text of an output
//! function) has to be given back at the end of that change, on every path. So each
//! callback enters a context of its own, which is reset when it is left.

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use pgrx::{PgMemoryContexts, PgSqlErrorCode, pg_sys};

use super::data_calls::server_error;
use super::panics::{Place, panic_point};
use super::report::refuse;

/// A memory context that is emptied at the end of each callback.
pub(super) struct ChangeMemory {
    context: pg_sys::MemoryContext,
}

impl ChangeMemory {
    /// A child of `parent`; it goes when the parent goes.
    ///
    /// # Safety
    ///
    /// `parent` is a valid memory context.
    pub(super) unsafe fn new(parent: pg_sys::MemoryContext) -> Self {
        // SAFETY: the caller's; the name is static.
        let context = unsafe {
            pg_sys::AllocSetContextCreateExtended(
                parent,
                c"headwater change".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as pg_sys::Size,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as pg_sys::Size,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as pg_sys::Size,
            )
        };
        ChangeMemory { context }
    }

    /// Makes this the current context until the guard is dropped.
    pub(super) fn enter(&self) -> Entered {
        // SAFETY: Postgres is single-threaded; reading and setting the current context
        // is what MemoryContextSwitchTo does.
        unsafe {
            let outer = pg_sys::CurrentMemoryContext;
            pg_sys::CurrentMemoryContext = self.context;
            Entered {
                context: self.context,
                outer,
            }
        }
    }
}

/// The memory of what an output function of a plan caches for itself. It goes with the
/// plan: a relation that is compiled anew a million times must not grow the process.
#[derive(Default)]
pub(super) struct PlanMemory {
    /// Made when first asked for.
    context: Option<pg_sys::MemoryContext>,
}

impl PlanMemory {
    pub(super) fn context(&mut self) -> pg_sys::MemoryContext {
        *self.context.get_or_insert_with(|| {
            // SAFETY: the name is static. The parent lives as long as the process, so that
            // this context is deleted by its owner alone.
            unsafe {
                pg_sys::AllocSetContextCreateExtended(
                    pg_sys::CacheMemoryContext,
                    c"headwater plan".as_ptr(),
                    pg_sys::ALLOCSET_SMALL_MINSIZE as pg_sys::Size,
                    pg_sys::ALLOCSET_SMALL_INITSIZE as pg_sys::Size,
                    pg_sys::ALLOCSET_SMALL_MAXSIZE as pg_sys::Size,
                )
            }
        })
    }
}

impl Drop for PlanMemory {
    fn drop(&mut self) {
        if let Some(context) = self.context {
            // SAFETY: made by this value, and nothing that points into it outlives the plan.
            unsafe { pg_sys::MemoryContextDelete(context) };
        }
    }
}

/// Gives a value to a memory context, to be dropped with it.
///
/// Contexts go while a transaction is cleaned up, where an ERROR would raise another and
/// take the server down in the end. So a panic of a destructor, a defect of ours, is held
/// here, and what it had not given back is lost to the process.
///
/// # Safety
///
/// `context` is a valid memory context.
pub(super) unsafe fn give_to<T>(context: pg_sys::MemoryContext, value: T) -> *mut T {
    PgMemoryContexts::For(context)
        .leak_and_drop_on_delete(Given(ManuallyDrop::new(value)))
        .cast()
}

/// What a memory context owns.
#[repr(transparent)]
struct Given<T>(ManuallyDrop<T>);

impl<T> Drop for Given<T> {
    fn drop(&mut self) {
        let dropped = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: nobody uses the value once its context has called for this.
            unsafe { ManuallyDrop::drop(&mut self.0) };
            panic_point(Place::Drop);
        }));
        // The server's own ERRORs are its own to deal with.
        if let Err(payload) = dropped
            && server_error(payload.as_ref()).is_some()
        {
            resume_unwind(payload);
        }
    }
}

/// The time within a [`ChangeMemory`].
pub(super) struct Entered {
    context: pg_sys::MemoryContext,
    outer: pg_sys::MemoryContext,
}

impl Drop for Entered {
    fn drop(&mut self) {
        // SAFETY: `outer` was current when the guard was made and encloses this call.
        unsafe { pg_sys::CurrentMemoryContext = self.outer };
        // An ERROR on its way out deletes the decoding context, and with it this one;
        // no server function is called while it unwinds.
        if std::thread::panicking() {
            return;
        }
        // SAFETY: the context is a child of the decoding context, which outlives the
        // callback. Most changes allocate nothing: the flag is what the reset itself
        // looks at first, and reading it here saves the guarded call.
        unsafe {
            if !(*self.context).isReset {
                pg_sys::MemoryContextReset(self.context);
            }
        }
    }
}

/// Makes room for so many bytes more. A buffer that grows by itself aborts the server where
/// there is no memory; this is an ERROR.
pub(crate) fn make_room(buffer: &mut Vec<u8>, bytes: usize) {
    if buffer.try_reserve(bytes).is_err() {
        out_of_memory();
    }
}

/// Ends the command, as the server does where it has no memory. That is no fault of the row,
/// which comes again: quarantined, it would be missing because of a passing need.
pub(crate) fn out_of_memory() -> ! {
    refuse(
        PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY,
        "out of memory for an encoded row".to_owned(),
        None,
    )
}
