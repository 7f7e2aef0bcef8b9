//! Text in UTF-8, whatever the database's encoding is.

use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_int};

use pgrx::pg_sys;

/// How the database's text becomes UTF-8.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum DatabaseEncoding {
    /// It is UTF-8: the server verified every byte when it was stored.
    Utf8,
    /// It has another encoding, which the server can convert.
    Other,
    /// Nobody knows what the bytes mean.
    SqlAscii,
}

/// The text can't be converted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotUtf8;

impl DatabaseEncoding {
    /// The encoding of the database that this process is connected to.
    pub(crate) fn current() -> Self {
        // SAFETY: reads a process-wide setting that never changes after start.
        let encoding = unsafe { pg_sys::GetDatabaseEncoding() };
        if encoding == pg_sys::pg_enc::PG_UTF8 as c_int {
            DatabaseEncoding::Utf8
        } else if encoding == pg_sys::pg_enc::PG_SQL_ASCII as c_int {
            DatabaseEncoding::SqlAscii
        } else {
            DatabaseEncoding::Other
        }
    }

    /// The text as UTF-8, borrowed where nothing has to be done.
    ///
    /// The bytes of an UTF-8 database are passed on unread: they are never made a
    /// `str`, so that even a byte that slipped past the server is no undefined
    /// behaviour here.
    pub(crate) fn to_utf8<'t>(self, text: &'t [u8]) -> Result<Cow<'t, [u8]>, NotUtf8> {
        if self == DatabaseEncoding::Utf8 || text.is_ascii() {
            return Ok(Cow::Borrowed(text));
        }
        if self == DatabaseEncoding::SqlAscii {
            return Err(NotUtf8);
        }
        let length = c_int::try_from(text.len()).map_err(|_| NotUtf8)?;
        // SAFETY: the pointer and length are one slice; the conversion only reads it and
        // answers with the same pointer or with a new terminated string in the current
        // memory context, which the end of the callback frees.
        let converted = unsafe {
            let source = text.as_ptr().cast::<c_char>();
            let result = pg_sys::pg_server_to_any(source, length, pg_sys::pg_enc::PG_UTF8 as c_int);
            if result.is_null() || std::ptr::eq(result, source) {
                return Ok(Cow::Borrowed(text));
            }
            CStr::from_ptr(result).to_bytes()
        };
        Ok(Cow::Owned(converted.to_vec()))
    }

    /// The name of the database that this process is connected to.
    ///
    /// A walsender starts a session outside any transaction, where the catalogs can't be
    /// read: there the lookup gets a transaction of its own, which has no xid and ends at
    /// once.
    pub(super) fn database_name(self) -> String {
        // SAFETY: a catalog lookup within a transaction; the result is a terminated string in
        // the current memory context. Starting and committing a transaction both switch that
        // context, which is put back.
        unsafe {
            let outer = pg_sys::CurrentMemoryContext;
            let own_transaction = !pg_sys::IsTransactionState();
            if own_transaction {
                pg_sys::StartTransactionCommand();
                pg_sys::CurrentMemoryContext = outer;
            }
            let name = pg_sys::get_database_name(pg_sys::MyDatabaseId);
            let name = if name.is_null() {
                String::new()
            } else {
                self.name(CStr::from_ptr(name))
            };
            if own_transaction {
                pg_sys::CommitTransactionCommand();
                pg_sys::CurrentMemoryContext = outer;
            }
            name
        }
    }

    /// A name of the catalog as UTF-8.
    pub(super) fn name(self, name: &CStr) -> String {
        match self.to_utf8(name.to_bytes()) {
            Ok(name) => String::from_utf8_lossy(&name).into_owned(),
            Err(NotUtf8) => String::from_utf8_lossy(name.to_bytes()).into_owned(),
        }
    }
}
