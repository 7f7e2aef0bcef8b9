//! What is said through the server's own messages.

use std::fmt::Display;

use headwater_protocol::Lsn;
use headwater_protocol::options::OptionError;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgLogLevel, PgSqlErrorCode, function_name};

/// Logs that a change is quarantined: the relation, the place and the reason, never a
/// value.
pub(crate) fn report_quarantine(
    schema: &str,
    table: &str,
    lsn: Lsn,
    seq: u64,
    reason: &dyn Display,
) {
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_DATA_EXCEPTION,
        format!("change {lsn}:{seq} of table \"{schema}.{table}\" is quarantined: {reason}"),
        function_name!(),
    )
    .report(PgLogLevel::LOG);
}

/// Logs that what was sent of a table is no longer what it holds.
pub(crate) fn report_stale(schema: &str, table: &str, lsn: Lsn, reason: &str) {
    ErrorReport::new(
        PgSqlErrorCode::ERRCODE_WARNING,
        format!("table \"{schema}.{table}\" is stale from {lsn} on: {reason}"),
        function_name!(),
    )
    .set_detail("What was sent of its rows is not what they are now, and no change says so.")
    .set_hint("Read the table again.")
    .report(PgLogLevel::LOG);
}

/// Ends the command: an option is wrong.
pub(super) fn refuse_option(error: OptionError) -> ! {
    refuse(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        error.message,
        error.hint,
    )
}

/// Ends the command with an ERROR.
pub(super) fn refuse(code: PgSqlErrorCode, message: String, hint: Option<String>) -> ! {
    let mut report = ErrorReport::new(code, message, function_name!());
    if let Some(hint) = hint {
        report = report.set_hint(hint);
    }
    report.report(PgLogLevel::ERROR);
    unreachable!("an ERROR does not return")
}
