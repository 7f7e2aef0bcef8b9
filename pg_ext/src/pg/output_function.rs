//! The text of a type that has no encoder of its own: its output function.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::data_calls::{DataCalls, Raised};
use super::memory::PlanMemory;
use super::tuple::Value;

/// A type's output function, looked up once per plan.
pub(crate) struct OutputFunction {
    type_oid: u32,
    function: Box<pg_sys::FmgrInfo>,
    /// Of what the function caches for itself.
    memory: PlanMemory,
}

impl OutputFunction {
    pub(crate) fn of(type_oid: u32) -> Self {
        let mut memory = PlanMemory::default();
        let mut oid = pg_sys::InvalidOid;
        let mut is_varlena = false;
        let mut function = Box::<pg_sys::FmgrInfo>::default();
        // SAFETY: catalog lookups that write through valid pointers. What the function
        // caches for itself lives in the plan's memory, because the plan outlives the
        // callback.
        unsafe {
            pg_sys::getTypeOutputInfo(pg_sys::Oid::from(type_oid), &mut oid, &mut is_varlena);
            pg_sys::fmgr_info_cxt(oid, &raw mut *function, memory.context());
        }
        OutputFunction {
            type_oid,
            function,
            memory,
        }
    }

    /// The type whose function this is.
    pub(crate) fn type_oid(&self) -> u32 {
        self.type_oid
    }

    /// Whether this is the server's own `textout`, which extensions (`citext`) give to
    /// types that are text by another name: their value is the text.
    pub(crate) fn is_textout(&self) -> bool {
        self.function.fn_addr.is_some_and(|function| {
            std::ptr::fn_addr_eq(
                function,
                textout as unsafe extern "C-unwind" fn(_) -> pg_sys::Datum,
            )
        })
    }

    /// The text, in the database's encoding and in the callback's memory; none if the
    /// function returned nothing, as only a broken one does.
    pub(crate) fn call<'t>(
        &mut self,
        value: Value<'t>,
        calls: &mut DataCalls,
    ) -> Result<Option<&'t [u8]>, Raised> {
        let (function, datum) = (&raw mut *self.function, value.datum());
        // SAFETY: the function belongs to the value's type.
        let text = calls.call(|| unsafe { pg_sys::OutputFunctionCall(function, datum) });
        match text {
            Ok(text) if text.is_null() => Ok(None),
            // SAFETY: the result is terminated and lives in the current memory context, as
            // long as the row.
            Ok(text) => Ok(Some(unsafe { CStr::from_ptr(text) }.to_bytes())),
            Err(raised) => {
                self.forget();
                Err(raised)
            }
        }
    }

    /// What the function had cached when it raised may be half made, or hold what the
    /// rollback gave back: it begins anew. Its memory is emptied, so that a million rows
    /// that fail take no more of it than one.
    fn forget(&mut self) {
        let oid = self.function.fn_oid;
        // SAFETY: nothing but the function's own cache points into the memory. A catalog
        // lookup follows.
        unsafe {
            pg_sys::MemoryContextReset(self.memory.context());
            pg_sys::fmgr_info_cxt(oid, &raw mut *self.function, self.memory.context());
        }
    }
}

unsafe extern "C-unwind" {
    // src/include/utils/fmgrprotos.h. Only its address is taken: pgrx' function of this
    // name is a wrapper with an address of its own.
    fn textout(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum;
}
