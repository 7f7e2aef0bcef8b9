//! Settings that output functions depend on, held to fixed values.
//!
//! What leaves the server must not depend on the role that reads it or on the server's
//! configuration: the same row would then have other bytes after a restart. The values
//! are those under which `row_to_json` is the oracle.

use std::ffi::{CStr, c_char, c_int};

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
        level: Option<c_int>,
    },
}

impl OutputSettings {
    /// For a decoding session. [`OutputSettings::enter`] starts each transaction.
    pub(crate) fn replay() -> Self {
        OutputSettings {
            scope: Scope::Replay,
            fixed: false,
        }
    }

    /// For a SQL function. [`OutputSettings::enter`] starts each call and
    /// [`OutputSettings::leave`] ends it.
    ///
    /// Where the session has the values already, as Headwater's own sessions do,
    /// nothing is ever set.
    pub(super) fn call() -> Self {
        OutputSettings {
            scope: Scope::Call { level: None },
            fixed: false,
        }
    }

    /// A transaction or a call begins: what was set for the last one is gone, also if an
    /// ERROR ended it.
    pub(crate) fn enter(&mut self) {
        self.fixed = false;
        if let Scope::Call { level } = &mut self.scope {
            *level = None;
        }
    }

    pub(super) fn fix(&mut self) {
        if self.fixed {
            return;
        }
        let action = match &mut self.scope {
            Scope::Replay => pg_sys::GucAction::GUC_ACTION_LOCAL,
            Scope::Call { .. } if already_fixed() => {
                self.fixed = true;
                return;
            }
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
        }
    }
}

unsafe extern "C" {
    // src/include/utils/bytea.h and pg_locale.h; pgrx does not bind them.
    static bytea_output: c_int;
    static locale_monetary: *const c_char;
}

/// `BYTEA_OUTPUT_HEX`.
const BYTEA_OUTPUT_HEX: c_int = 1;

/// Whether the session has the values of [`FIXED`]. Asked in every call, since a cursor's
/// owner may change a setting between two rows; so it reads what the settings are kept in
/// and looks nothing up by name.
fn already_fixed() -> bool {
    let is = |current: *const c_char, value: &CStr| {
        // SAFETY: a setting's text is null or a terminated string until it is set again.
        !current.is_null() && unsafe { CStr::from_ptr(current) } == value
    };
    // SAFETY: one thread runs all server code, so nobody writes these meanwhile. A session
    // always has a time zone.
    unsafe {
        pg_sys::DateStyle == pg_sys::USE_ISO_DATES as c_int
            && pg_sys::DateOrder == pg_sys::DATEORDER_MDY as c_int
            && pg_sys::IntervalStyle == pg_sys::INTSTYLE_POSTGRES as c_int
            && pg_sys::extra_float_digits == 1
            && bytea_output == BYTEA_OUTPUT_HEX
            && is(locale_monetary, c"C")
            && is(pg_sys::namespace_search_path, c"pg_catalog")
            && is(
                pg_sys::pg_get_timezone_name(pg_sys::session_timezone),
                c"UTC",
            )
    }
}
