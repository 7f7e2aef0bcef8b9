//! The text of a type that has no encoder of its own: its output function.

use std::ffi::CStr;

use pgrx::pg_sys;

use super::memory::PlanMemory;
use super::settings::OutputSettings;
use super::tuple::Value;

/// A type's output function, looked up once per plan.
pub(crate) struct OutputFunction {
    function: Box<pg_sys::FmgrInfo>,
}

impl OutputFunction {
    /// The output function of a type, for a plan that owns `memory` and the result.
    pub(crate) fn of(type_oid: u32, memory: &mut PlanMemory) -> Self {
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
        OutputFunction { function }
    }

    /// The text, in the database's encoding and in the callback's memory.
    pub(crate) fn call<'t>(&mut self, value: Value<'t>, settings: &mut OutputSettings) -> &'t [u8] {
        settings.fix();
        // SAFETY: the function belongs to the value's type. The result is terminated and
        // lives in the current memory context, as long as the row.
        unsafe {
            let text = pg_sys::OutputFunctionCall(&raw mut *self.function, value.datum());
            CStr::from_ptr(text).to_bytes()
        }
    }
}
