//! Calls of server functions that may raise an ERROR because of a value.
//!
//! Decoding is deterministic: an ERROR at a row would be an ERROR at that row for ever.
//! So whatever the server runs *on data* (an output function, the expansion of a
//! compressed value) runs inside an internal subtransaction, as an exception block of
//! PL/pgSQL does: after an ERROR it is rolled back, which gives back locks, buffer pins,
//! catalog references and nested states that the failed call held, and the row is
//! quarantined. Nothing is ever caught without one.
//!
//! # One a change, and only if needed
//!
//! A subtransaction is opened by the first call of a change and released at the change's
//! end. Rows of types that are written natively never open one. None gets a transaction
//! id: nothing is written.
//!
//! Under `pg_logical_slot_get_changes` the reorder buffer replays in a subtransaction of
//! its own, and its error path ends the *current* one (`ReorderBufferProcessTXN`). So ours
//! is rolled back before an ERROR goes on.
//!
//! # Settings first
//!
//! Settings that are made inside a subtransaction are undone by its rollback. They are
//! therefore fixed before it begins, once for all calls of the transaction.
//!
//! # What is not caught
//!
//! An ERROR that says something of the server instead of the value: query cancel and
//! shutdown (class 57), memory and disk space (53), locks and other objects (55), deadlocks
//! (40), I/O (58), connections (08). The same row may pass at the next attempt.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use pgrx::pg_sys::panic::{CaughtError, ErrorReport, ErrorReportWithLevel};
use pgrx::{PgSqlErrorCode, pg_sys};

use super::settings::OutputSettings;

/// The calls of one session or query.
pub(crate) struct DataCalls {
    settings: OutputSettings,
    open: Option<Outer>,
}

/// What was current when the subtransaction began.
#[derive(Clone, Copy)]
struct Outer {
    memory: pg_sys::MemoryContext,
    owner: pg_sys::ResourceOwner,
}

/// A value made the server raise an ERROR. Its message may quote the value and is dropped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raised {
    pub(crate) state: SqlState,
}

/// The five characters of an SQLSTATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SqlState([u8; 5]);

impl DataCalls {
    pub(crate) fn new(settings: OutputSettings) -> Self {
        DataCalls {
            settings,
            open: None,
        }
    }

    pub(crate) fn settings(&mut self) -> &mut OutputSettings {
        &mut self.settings
    }

    /// Calls the server. An ERROR that is the value's fault rolls the subtransaction back
    /// and is returned; another goes on, as does a panic.
    pub(super) fn call<T>(&mut self, call: impl FnOnce() -> T) -> Result<T, Raised> {
        self.begin();
        match catch_unwind(AssertUnwindSafe(call)) {
            Ok(result) => Ok(result),
            Err(payload) => {
                self.roll_back();
                match server_error(payload.as_ref()) {
                    Some(state) if state.blames_the_value() => Err(Raised { state }),
                    _ => resume_unwind(payload),
                }
            }
        }
    }

    /// The change is encoded: what its calls allocated stays, in the change's memory.
    pub(crate) fn end(&mut self) {
        if let Some(outer) = self.open.take() {
            // SAFETY: begun by `begin`, and every call inside has returned.
            unsafe {
                pg_sys::ReleaseCurrentSubTransaction();
                outer.restore();
            }
        }
    }

    /// The change is given up.
    pub(crate) fn roll_back(&mut self) {
        if let Some(outer) = self.open.take() {
            // SAFETY: begun by `begin`. pgrx' guard has taken a pending ERROR from the
            // server's stack of errors.
            unsafe {
                pg_sys::RollbackAndReleaseCurrentSubTransaction();
                outer.restore();
            }
        }
    }

    fn begin(&mut self) {
        if self.open.is_some() {
            return;
        }
        self.settings.fix();
        // SAFETY: a callback and a SQL function run inside a transaction; the function is
        // declared PARALLEL UNSAFE, since subtransactions cannot begin in parallel mode.
        // Results belong to the change, so its memory stays current.
        unsafe {
            let outer = Outer {
                memory: pg_sys::CurrentMemoryContext,
                owner: pg_sys::CurrentResourceOwner,
            };
            pg_sys::BeginInternalSubTransaction(std::ptr::null());
            pg_sys::CurrentMemoryContext = outer.memory;
            self.open = Some(outer);
        }
    }
}

impl Outer {
    /// # Safety
    ///
    /// The subtransaction that this was saved for has just ended.
    unsafe fn restore(self) {
        // SAFETY: both belong to what encloses the subtransaction and outlive it.
        unsafe {
            pg_sys::CurrentMemoryContext = self.memory;
            pg_sys::CurrentResourceOwner = self.owner;
        }
    }
}

/// The SQLSTATE of a payload that carries an ERROR of the server's; none for a panic of
/// our own.
pub(crate) fn server_error(payload: &(dyn Any + Send)) -> Option<SqlState> {
    let of_caught = |caught: &CaughtError| match caught {
        CaughtError::PostgresError(report) | CaughtError::ErrorReport(report) => {
            Some(report.sql_error_code())
        }
        CaughtError::RustPanic { .. } => None,
    };
    let code = if let Some(caught) = payload.downcast_ref::<CaughtError>() {
        of_caught(caught)
    } else if let Some(report) = payload.downcast_ref::<ErrorReportWithLevel>() {
        Some(report.sql_error_code())
    } else {
        // pgrx makes an ERROR of a bare report, which does not tell its code.
        payload
            .downcast_ref::<ErrorReport>()
            .map(|_| PgSqlErrorCode::ERRCODE_INTERNAL_ERROR)
    };
    code.map(SqlState::of)
}

impl SqlState {
    /// `PGUNSIXBIT` in `utils/elog.h`: six bits a character, the first one lowest.
    fn of(code: PgSqlErrorCode) -> Self {
        let code = code as i32;
        SqlState([0, 6, 12, 18, 24].map(|shift| b'0' + (code >> shift & 0x3F) as u8))
    }

    fn blames_the_value(self) -> bool {
        !matches!(&self.0[..2], b"08" | b"40" | b"53" | b"55" | b"57" | b"58")
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|byte| fmt::Write::write_char(f, char::from(*byte)))
    }
}
