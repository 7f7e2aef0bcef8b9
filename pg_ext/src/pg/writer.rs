//! The way out: `OutputPluginPrepareWrite` and `OutputPluginWrite`.

use std::ffi::c_int;
use std::marker::PhantomData;

use pgrx::pg_sys;

use super::versions;

/// Writes for the time of one callback.
pub(crate) struct Writer<'cb> {
    ctx: *mut pg_sys::LogicalDecodingContext,
    callback: PhantomData<&'cb ()>,
}

impl Writer<'_> {
    /// # Safety
    ///
    /// `ctx` is the context of the callback under way, and the callback may write.
    pub(super) unsafe fn new(ctx: *mut pg_sys::LogicalDecodingContext) -> Self {
        Writer {
            ctx,
            callback: PhantomData,
        }
    }

    /// Sends `bytes` as one message. Under a walsender each message is one `send`.
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        // The session cuts what it sends long before this; a longer message would be an
        // ERROR of the server's at every attempt.
        let Ok(length) = c_int::try_from(bytes.len()) else {
            return;
        };
        // SAFETY: the context is valid for the callback, in the order that
        // src/backend/replication/logical/logical.c asks for. The bytes are copied as they
        // are: no function here takes a format.
        unsafe {
            pg_sys::OutputPluginPrepareWrite(self.ctx, true);
            pg_sys::appendBinaryStringInfo((*self.ctx).out, bytes.as_ptr().cast(), length);
            pg_sys::OutputPluginWrite(self.ctx, true);
        }
    }

    /// Tells the client that there is progress although nothing is written.
    pub(crate) fn progress(&mut self, skipped_transaction: bool) {
        // SAFETY: the context is valid for the callback. The SQL interface has no client to
        // tell and the call does nothing there.
        unsafe { versions::update_progress(self.ctx, skipped_transaction) };
    }
}
