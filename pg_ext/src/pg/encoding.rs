//! Text in UTF-8, whatever the database's encoding is.

use std::borrow::Cow;
use std::ffi::{CStr, c_int};

use headwater_protocol::options::Encoding;
use pgrx::pg_sys;

/// How the database's text becomes UTF-8.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum DatabaseEncoding {
    /// It is UTF-8: the server verified every byte when it was stored.
    Utf8,
    /// It has another encoding, by the server's number (`pg_enc`).
    Other(c_int),
    /// Nobody knows what the bytes mean.
    SqlAscii,
    /// The same, and the reader says that they are UTF-8: each text is checked.
    AssumedUtf8,
}

/// The text can't be converted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotUtf8;

impl DatabaseEncoding {
    /// The encoding of the database that this process is connected to, and what the reader
    /// says of one that has none.
    pub(crate) fn current(assumed: Encoding) -> Self {
        // SAFETY: reads a process-wide setting that never changes after start.
        let encoding = unsafe { pg_sys::GetDatabaseEncoding() };
        if encoding == pg_sys::pg_enc::PG_UTF8 as c_int {
            DatabaseEncoding::Utf8
        } else if encoding == pg_sys::pg_enc::PG_SQL_ASCII as c_int {
            match assumed {
                Encoding::Strict => DatabaseEncoding::SqlAscii,
                Encoding::AssumeUtf8 => DatabaseEncoding::AssumedUtf8,
            }
        } else {
            DatabaseEncoding::Other(encoding)
        }
    }

    /// The text as UTF-8, borrowed where nothing has to be done.
    ///
    /// A UTF-8 database verifies text when it comes in, and yet may hold some that is none: from
    /// a cast without function, from an extension, from a release that verified less. A reader
    /// could not take the record apart, so it is verified again; for ASCII that costs a
    /// comparison for each sixteen bytes.
    pub(crate) fn to_utf8<'t>(self, text: &'t [u8]) -> Result<Cow<'t, [u8]>, NotUtf8> {
        match self {
            DatabaseEncoding::Utf8 | DatabaseEncoding::AssumedUtf8 => {
                match std::str::from_utf8(text) {
                    Ok(_) => Ok(Cow::Borrowed(text)),
                    Err(_) => Err(NotUtf8),
                }
            }
            _ if text.is_ascii() => Ok(Cow::Borrowed(text)),
            DatabaseEncoding::SqlAscii => Err(NotUtf8),
            DatabaseEncoding::Other(encoding) => {
                in_transaction(|| convert(encoding, text)).map(Cow::Owned)
            }
        }
    }

    /// Text that is only shown or named by: what can't be converted is replaced.
    pub(crate) fn to_utf8_lossy(self, text: &[u8]) -> String {
        let converted = self.to_utf8(text);
        let bytes = converted.as_deref().unwrap_or(text);
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// The name of the database that this process is connected to.
    pub(super) fn database_name(self) -> String {
        in_transaction(|| {
            // SAFETY: a catalog lookup within a transaction; the result is null or a
            // terminated string in the current memory context.
            unsafe {
                let name = pg_sys::get_database_name(pg_sys::MyDatabaseId);
                if name.is_null() {
                    String::new()
                } else {
                    self.name(CStr::from_ptr(name))
                }
            }
        })
    }

    /// Whether a name of the catalog is what [`DatabaseEncoding::name`] makes of it, and
    /// nothing in it was replaced.
    pub(super) fn is_exact(self, name: &CStr) -> bool {
        self == DatabaseEncoding::Utf8 || self.to_utf8(name.to_bytes()).is_ok()
    }

    /// A name of the catalog as UTF-8.
    pub(super) fn name(self, name: &CStr) -> String {
        self.to_utf8_lossy(name.to_bytes())
    }
}

/// Runs what reads the catalogs. A walsender starts a session, and is handed a message
/// that belongs to no transaction, outside any: there `read` gets one of its own, which
/// has no xid and ends at once.
pub(super) fn in_transaction<T>(read: impl FnOnce() -> T) -> T {
    // SAFETY: started and committed in pairs; an ERROR in between ends the session, which
    // aborts the transaction. Both switch the current memory context, which is put back.
    unsafe {
        if pg_sys::IsTransactionState() {
            return read();
        }
        let outer = pg_sys::CurrentMemoryContext;
        pg_sys::StartTransactionCommand();
        pg_sys::CurrentMemoryContext = outer;
        let result = read();
        pg_sys::CommitTransactionCommand();
        pg_sys::CurrentMemoryContext = outer;
        result
    }
}

/// Source bytes given to the server's conversion at once; the rest of a character that
/// is cut goes with the next.
const CHUNK: usize = 16 << 10;

/// `MAX_CONVERSION_GROWTH`: bytes that one byte may become.
const GROWTH: usize = 4;

/// The text from another encoding, through the server's conversion.
///
/// Some encodings have bytes that mean no character (0x81 in WIN1252) and that the server
/// stores all the same. So the conversion is asked not to raise an ERROR, which would stop
/// the stream there for ever, but to say how far it came.
fn convert(encoding: c_int, text: &[u8]) -> Result<Vec<u8>, NotUtf8> {
    let utf8 = pg_sys::pg_enc::PG_UTF8 as c_int;
    // SAFETY: a catalog lookup.
    let function = unsafe { pg_sys::FindDefaultConversionProc(encoding, utf8) };
    if function == pg_sys::InvalidOid {
        return Err(NotUtf8);
    }
    let mut converted = Vec::with_capacity(text.len() + text.len() / 8);
    let mut buffer = vec![0_u8; GROWTH * CHUNK.min(text.len()) + 2 * GROWTH];
    let size = c_int::try_from(buffer.len()).map_err(|_| NotUtf8)?;
    let mut rest = text;
    while !rest.is_empty() {
        let chunk = &rest[..rest.len().min(CHUNK)];
        // SAFETY: reads the chunk alone and writes at most GROWTH bytes for each of its
        // bytes and a terminator; returns how many bytes of the chunk it converted.
        let (taken, written) = unsafe {
            let taken = pg_sys::pg_do_encoding_conversion_buf(
                function,
                encoding,
                utf8,
                chunk.as_ptr().cast_mut(),
                chunk.len() as c_int,
                buffer.as_mut_ptr(),
                size,
                true,
            );
            (taken, CStr::from_ptr(buffer.as_ptr().cast()).to_bytes())
        };
        match usize::try_from(taken) {
            Ok(taken @ 1..) => {
                converted.extend_from_slice(written);
                rest = &rest[taken..];
            }
            _ => return Err(NotUtf8),
        }
    }
    Ok(converted)
}
