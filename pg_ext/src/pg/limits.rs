//! The settings `headwater.tables` and `headwater.exclude_columns`: what the server's owner lets be
//! read through the plugin, whoever reads and whatever the options say.
//!
//! # Why the library looks before it defines
//!
//! The library is loaded when it is first used, by which time a session has settings. Until
//! then both are placeholders, which any role may set: a start-up option `-c headwater.tables=…`
//! takes the place of what `postgresql.conf`, ALTER DATABASE and ALTER ROLE say, as its source
//! counts for more (`set_config_option` in `guc.c`). When the setting is defined for superusers, the
//! server applies the placeholder's value under the rights of who gave it, and where those do
//! not suffice it says so in a WARNING and leaves the setting at its default
//! (`define_custom_variable`): no limit. So would a value that does not parse. A reader could lift
//! every limit that way.
//!
//! Nothing is defined, then, before each placeholder was looked at: one whose value was given by
//! who may not give it, or is no list of patterns, is an ERROR, and so is any other setting of this
//! prefix, since a limit that is misspelt would limit nothing. Loading fails, as it will at every
//! later attempt, and nothing is ever sent. A value that SET gave to a placeholder does no harm: the
//! one that it covers is kept, and is what the server falls back to.
//!
//! # Why it looks afterwards, too
//!
//! The server takes a value over by setting it, and whatever keeps it from that costs a WARNING
//! and the limit. One such thing is a parallel operation, in which no setting can be changed
//! (`set_config_option`), and in which any role can have a library loaded first. So the library
//! is not loaded within one (a parallel worker loads what its leader has before it enters that mode),
//! and whatever else there may be, the values are compared when all is defined: while they are not
//! what the placeholders had, nothing is sent, until the session ends.
//!
//! ALTER ROLE and ALTER DATABASE take a placeholder from superusers alone, on every release
//! (`validate_option_array_item`); from 15 on, also from roles that were granted SET on the parameter, whom
//! this library believes too.
//!
//! # Why no list
//!
//! The settings are not declared lists (`GUC_LIST_INPUT`): `ALTER DATABASE … SET` would then read
//! its arguments in another way once the library is loaded, and a placeholder never.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};

use headwater_protocol::limits::{EXCLUDE_COLUMNS, LimitError, Limits, NAME_BYTES, TABLES};
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PgSqlErrorCode, pg_guard, pg_sys};

use super::encoding::in_transaction;
use super::options::text;
use super::report::refuse;
use super::versions::{config_variables, may_set};

/// Of every setting of ours.
const PREFIX: &str = "headwater.";

static TABLES_SETTING: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);
static COLUMNS_SETTING: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

thread_local! {
    // One thread runs all server code.
    static GENERATION: Cell<u64> = const { Cell::new(0) };
    /// Whether the settings have what their placeholders had.
    static TAKEN_OVER: Cell<bool> = const { Cell::new(false) };
}

/// Goes up whenever a setting may have changed.
pub(crate) fn limits_generation() -> u64 {
    GENERATION.get()
}

/// The limits in force. Text that the database's encoding has no UTF-8 for ends the command.
pub(crate) fn current_limits() -> Limits {
    if !TAKEN_OVER.get() {
        refuse_not_taken_over();
    }
    let value = |setting: &GucSetting<Option<CString>>| {
        // SAFETY: a terminated string.
        let converted = setting.get().map(|value| unsafe { text(value.as_ptr()) });
        converted.unwrap_or_default()
    };
    match Limits::parse(&value(&TABLES_SETTING), &value(&COLUMNS_SETTING)) {
        Ok(limits) => limits,
        Err(error) => refuse_value(&error),
    }
}

/// Defines the settings, or refuses to: called when the library is loaded.
pub(super) fn define() {
    // SAFETY: reads what the process is; the variables are set before any library is loaded.
    let has_catalogs =
        unsafe { pg_sys::IsUnderPostmaster && pg_sys::MyDatabaseId != pg_sys::InvalidOid };
    // Whether a role may set a parameter is looked up in the catalogs, by the server too as it
    // defines one. A walsender loads plugins outside any transaction.
    if has_catalogs {
        in_transaction(look_and_define);
    } else {
        look_and_define();
    }
}

fn look_and_define() {
    // SAFETY: reads what the process is doing.
    if unsafe { pg_sys::IsInParallelMode() } {
        refuse(
            PgSqlErrorCode::ERRCODE_INVALID_TRANSACTION_STATE,
            "cannot load \"headwater\" during a parallel operation".to_owned(),
            Some("Run LOAD 'headwater' before it.".to_owned()),
        );
    }
    let before = placeholders();
    for (name, description, setting, check) in SETTINGS {
        define_one(name, description, setting, check);
    }
    if before == values(&[TABLES, EXCLUDE_COLUMNS]) {
        TAKEN_OVER.set(true);
    } else {
        refuse_not_taken_over();
    }
}

const SETTINGS: [(
    &CStr,
    &CStr,
    &GucSetting<Option<CString>>,
    pg_sys::GucStringCheckHook,
); 2] = [
    (
        c"headwater.tables",
        c"Tables whose rows Headwater may send: a comma list of schema.table, * as wildcard; empty: all.",
        &TABLES_SETTING,
        Some(check_tables),
    ),
    (
        c"headwater.exclude_columns",
        c"Columns that Headwater never sends: a comma list of schema.table.column, * as wildcard.",
        &COLUMNS_SETTING,
        Some(check_columns),
    ),
];

/// What the settings have that are not defined yet, none of which may be refused.
fn placeholders() -> BTreeMap<String, CString> {
    for variable in config_variables() {
        // SAFETY: the server's own list, none of which goes while this reads it.
        let (name, is_placeholder) = unsafe { (name_of(variable), is_placeholder(variable)) };
        if !name.starts_with(PREFIX) {
            continue;
        }
        let is_limit = [TABLES, EXCLUDE_COLUMNS].contains(&name.as_str());
        if is_limit && is_placeholder {
            // SAFETY: a placeholder is a string (`add_placeholder_variable`).
            unsafe { look_at(&name, variable.cast()) };
        } else if is_limit {
            // Of an attempt that has failed behind its definition.
            refuse_not_taken_over();
        } else if is_placeholder && !super::panics::is_setting(&name) {
            refuse(
                PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT,
                format!("unrecognized configuration parameter \"{name}\""),
                Some(format!(
                    "The settings of this release are {TABLES} and {EXCLUDE_COLUMNS}: one that is \
                     misspelt would limit nothing."
                )),
            );
        }
    }
    values(&[TABLES, EXCLUDE_COLUMNS])
}

/// What settings have where no SET covers it, of those that have something.
fn values(names: &[&str]) -> BTreeMap<String, CString> {
    let mut values = BTreeMap::new();
    for variable in config_variables() {
        // SAFETY: the server's own list; both settings are strings, as placeholders are.
        unsafe {
            let name = name_of(variable);
            if !names.contains(&name.as_str()) {
                continue;
            }
            let value = (*variable.cast::<pg_sys::config_string>()).reset_val;
            if !value.is_null() {
                values.insert(name, CStr::from_ptr(value).to_owned());
            }
        }
    }
    values
}

/// # Safety
///
/// `variable` is one of the server's.
unsafe fn name_of(variable: *const pg_sys::config_generic) -> String {
    // SAFETY: the caller's.
    unsafe { CStr::from_ptr((*variable).name) }
        .to_string_lossy()
        .to_ascii_lowercase()
}

/// # Safety
///
/// As of [`name_of`].
unsafe fn is_placeholder(variable: *const pg_sys::config_generic) -> bool {
    // SAFETY: the caller's.
    unsafe { (*variable).flags & pg_sys::GUC_CUSTOM_PLACEHOLDER as c_int != 0 }
}

fn refuse_not_taken_over() -> ! {
    refuse(
        PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
        format!("{TABLES} and {EXCLUDE_COLUMNS} could not be taken over as the library was loaded"),
        Some("Nothing is sent by this session: connect anew.".to_owned()),
    )
}

fn define_one(
    name: &'static CStr,
    description: &'static CStr,
    setting: &'static GucSetting<Option<CString>>,
    check: pg_sys::GucStringCheckHook,
) {
    // SAFETY: the hooks are guarded, and the setting lives as long as the process.
    unsafe {
        GucRegistry::define_string_guc_with_hooks(
            name,
            description,
            c"The options of who reads can only narrow it.",
            setting,
            GucContext::Suset,
            GucFlags::default(),
            check,
            Some(assigned),
            None,
        );
    }
}

/// Refuses a placeholder whose value the definition would not take over.
///
/// # Safety
///
/// `placeholder` is a variable of the server's.
unsafe fn look_at(name: &str, placeholder: *const pg_sys::config_string) {
    // SAFETY: the caller's. The value that holds where no SET covers it is null or terminated.
    unsafe {
        if (*placeholder).reset_val.is_null() {
            return;
        }
        if !may_set(&raw const (*placeholder).gen_) {
            refuse(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("permission denied to set parameter \"{name}\""),
                Some(
                    "What Headwater may send is for a superuser to say. Connect without this setting \
                     among the options of the connection (PGOPTIONS too)."
                        .to_owned(),
                ),
            );
        }
        if let Err(error) = check(name, CStr::from_ptr((*placeholder).reset_val)) {
            refuse_value(&error);
        }
    }
}

fn refuse_value(error: &LimitError) -> ! {
    refuse(
        PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
        error.to_string(),
        Some(format!(
            "{} Until a superuser has mended it nothing is sent.",
            error.error.hint()
        )),
    )
}

/// Whether a value is a list of patterns, of names that a table or a column can have. Looks nothing
/// up, not even the encoding, as it may be asked outside of transactions.
fn check(name: &str, value: &CStr) -> Result<(), LimitError> {
    let value = value.to_bytes();
    let (tables, columns): (&[u8], &[u8]) = if name == TABLES {
        (value, b"")
    } else {
        (b"", value)
    };
    Limits::check(tables, columns)
}

// A server whose names are longer, which is one that was built so, would have limits refused that are
// right.
const _: () = assert!(pg_sys::NAMEDATALEN as usize == NAME_BYTES + 1);

#[pg_guard]
unsafe extern "C-unwind" fn check_tables(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: the server's call of a check hook.
    unsafe { accepts(TABLES, *value) }
}

#[pg_guard]
unsafe extern "C-unwind" fn check_columns(
    value: *mut *mut c_char,
    _extra: *mut *mut c_void,
    _source: pg_sys::GucSource::Type,
) -> bool {
    // SAFETY: as above.
    unsafe { accepts(EXCLUDE_COLUMNS, *value) }
}

/// # Safety
///
/// Called from a check hook; `value` is null, which is the default, or terminated.
unsafe fn accepts(name: &str, value: *const c_char) -> bool {
    if value.is_null() {
        return true;
    }
    // SAFETY: the caller's.
    let Err(error) = check(name, unsafe { CStr::from_ptr(value) }) else {
        return true;
    };
    let detail = format!("{}. {}", error.error, error.error.hint());
    if let Ok(detail) = CString::new(detail) {
        // SAFETY: what `GUC_check_errdetail` does: the server reads a copy of it next.
        unsafe { pg_sys::GUC_check_errdetail_string = pg_sys::pstrdup(detail.as_ptr()) };
    }
    false
}

/// Raises nothing: a setting is put back at the end of transactions too.
#[pg_guard]
unsafe extern "C-unwind" fn assigned(_value: *const c_char, _extra: *mut c_void) {
    GENERATION.set(GENERATION.get().wrapping_add(1));
}
