//! The plugin's options, as the server hands them over.

use std::borrow::Cow;
use std::ffi::CStr;

use headwater_protocol::options::{Encoding, PluginOptions};
use pgrx::{PgSqlErrorCode, pg_sys};

use super::encoding::DatabaseEncoding;
use super::report::{refuse, refuse_option};

/// Parses the options of `START_REPLICATION` or of the SQL interface. Options that are
/// wrong end the command.
///
/// # Safety
///
/// `list` is a list of `DefElem`, or null.
pub(super) unsafe fn parse(list: *mut pg_sys::List) -> PluginOptions {
    // SAFETY: the caller's: a list of pointers, of which the first `length` are in use.
    let elements = unsafe {
        match list.as_ref() {
            None => &[],
            Some(list) => {
                std::slice::from_raw_parts(list.elements, usize::try_from(list.length).unwrap_or(0))
            }
        }
    };
    let pairs: Vec<(String, Option<String>)> = elements
        .iter()
        // SAFETY: each element is a valid `DefElem` while the list is.
        .map(|cell| unsafe {
            let element = cell.ptr_value.cast::<pg_sys::DefElem>();
            (text((*element).defname), argument(element))
        })
        .collect();
    parse_pairs(
        pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref())),
    )
}

/// Parses pairs that came another way.
pub(super) fn parse_pairs<'a>(
    pairs: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
) -> PluginOptions {
    match PluginOptions::parse(pairs) {
        Ok(options) => options,
        Err(error) => refuse_option(error),
    }
}

/// # Safety
///
/// `element` is valid.
unsafe fn argument(element: *mut pg_sys::DefElem) -> Option<String> {
    // SAFETY: the caller's. An option without a value has no node.
    unsafe {
        if (*element).arg.is_null() {
            None
        } else {
            Some(text(pg_sys::defGetString(element)))
        }
    }
}

/// The text of an option, which arrives in the database's encoding. Patterns name tables, so
/// nothing of it may be lost.
///
/// # Safety
///
/// `pointer` is a terminated string.
pub(super) unsafe fn text(pointer: *const std::ffi::c_char) -> String {
    // SAFETY: the caller's.
    let bytes = unsafe { CStr::from_ptr(pointer) }.to_bytes();
    let encoding = DatabaseEncoding::current(Encoding::AssumeUtf8);
    let converted = encoding.to_utf8(bytes).map(Cow::into_owned);
    match converted.map(String::from_utf8) {
        Ok(Ok(text)) => text,
        _ => refuse(
            PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
            format!(
                "option text \"{}\" cannot be converted to UTF-8",
                String::from_utf8_lossy(bytes)
            ),
            None,
        ),
    }
}
