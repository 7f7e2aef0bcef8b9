//! Settings that output functions depend on, held to fixed values.
//!
//! What leaves the server must not depend on the role that reads it or on the server's
//! configuration: the same row would then have other bytes after a restart. The values
//! are those under which `row_to_json` is the oracle.

use std::ffi::CStr;

use pgrx::pg_sys;

/// Name and value of each setting that a built-in output function reads.
const FIXED: [(&CStr, &CStr); 7] = [
    (c"TimeZone", c"UTC"),
    (c"DateStyle", c"ISO, MDY"),
    (c"IntervalStyle", c"postgres"),
    (c"bytea_output", c"hex"),
    (c"extra_float_digits", c"1"),
    (c"lc_monetary", c"C"),
    (c"search_path", c"pg_catalog"),
];

/// Sets the values when the first output function needs them.
pub(crate) struct OutputSettings {
    scope: Scope,
    fixed: bool,
}

/// For how long the settings hold.
enum Scope {
    /// To the end of the transaction that replays a change; the server puts them back.
    Replay,
    /// To the end of one function call in a user's transaction.
    Call {
        /// The nest level to put back, while the settings are in force.
        level: Option<std::ffi::c_int>,
    },
}

impl OutputSettings {
    /// For a decoding session. [`OutputSettings::transaction`] starts each transaction.
    pub(crate) fn replay() -> Self {
        OutputSettings {
            scope: Scope::Replay,
            fixed: false,
        }
    }

    /// For a SQL function. [`OutputSettings::leave`] ends each call.
    ///
    /// Where the session has the values already, as Headwater's own sessions do,
    /// nothing is ever set.
    pub(super) fn call() -> Self {
        OutputSettings {
            scope: Scope::Call { level: None },
            fixed: already_fixed(),
        }
    }

    /// A transaction begins: the last one's settings are gone.
    pub(crate) fn transaction(&mut self) {
        self.fixed = false;
    }

    pub(super) fn fix(&mut self) {
        if self.fixed {
            return;
        }
        let action = match &mut self.scope {
            Scope::Replay => pg_sys::GucAction::GUC_ACTION_LOCAL,
            Scope::Call { level } => {
                // SAFETY: put back by `leave`, or by the transaction's abort.
                *level = Some(unsafe { pg_sys::NewGUCNestLevel() });
                pg_sys::GucAction::GUC_ACTION_SAVE
            }
        };
        for (name, value) in FIXED {
            // SAFETY: static names and values, each of which the server accepts from any role.
            unsafe {
                pg_sys::set_config_option(
                    name.as_ptr(),
                    value.as_ptr(),
                    pg_sys::GucContext::PGC_USERSET,
                    pg_sys::GucSource::PGC_S_SESSION,
                    action,
                    true,
                    0,
                    false,
                );
            }
        }
        self.fixed = true;
    }

    /// The call ends: what it set is put back.
    pub(super) fn leave(&mut self) {
        if let Scope::Call { level } = &mut self.scope
            && let Some(level) = level.take()
        {
            // SAFETY: the level was opened by this call and nothing inside is left open.
            unsafe { pg_sys::AtEOXact_GUC(true, level) };
            self.fixed = false;
        }
    }
}

fn already_fixed() -> bool {
    FIXED.iter().all(|(name, value)| {
        // SAFETY: a lookup by a static name; the result is valid until the setting changes.
        unsafe {
            let current = pg_sys::GetConfigOption(name.as_ptr(), true, false);
            !current.is_null() && CStr::from_ptr(current) == *value
        }
    })
}
