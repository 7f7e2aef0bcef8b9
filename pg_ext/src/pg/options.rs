//! The plugin's options, as the server hands them over.

use std::borrow::Cow;
use std::ffi::CStr;

use headwater_protocol::options::{Encoding, PluginOptions};
use pgrx::{PgSqlErrorCode, pg_sys};

use super::encoding::DatabaseEncoding;
use super::report::{refuse, refuse_option};

/// The most bytes that options may take, names and values: a hundred times what long lists of tables
/// do. Everybody may give options, and they are kept outside of the server's memory contexts, where what
/// cannot be had ends the whole server.
const MOST_BYTES: usize = 1 << 20;

/// Refuses options of so many bytes, if they are too many.
pub(super) fn refuse_too_long(bytes: usize) {
    if bytes > MOST_BYTES {
        refuse(
            PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("options of {bytes} bytes are too long: {MOST_BYTES} are the most"),
            Some("Let patterns stand for many tables, with * as wildcard.".to_owned()),
        );
    }
}

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
    // SAFETY: each element is a valid `DefElem` while the list is, with a terminated name.
    refuse_too_long(elements.iter().fold(0, |sum, cell| unsafe {
        let element = cell.ptr_value.cast::<pg_sys::DefElem>();
        let value = match (*element).arg.is_null() {
            true => 0,
            false => CStr::from_ptr(pg_sys::defGetString(element)).count_bytes(),
        };
        sum + CStr::from_ptr((*element).defname).count_bytes() + value
    }));
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
