//! The transaction that is arriving: what its records' headers say.

use headwater_protocol::Lsn;

use crate::sink::{Headers, Token};

/// The transaction that is arriving.
#[derive(Clone, Copy)]
pub(super) struct Transaction {
    pub(super) token: Token,
    pub(super) xid: u32,
    pub(super) end_lsn: Lsn,
    pub(super) commit_time: i64,
    /// Change, truncate, message and quarantine frames so far.
    pub(super) changes: u64,
}

impl Transaction {
    pub(super) fn headers<'h>(&self, op: &'static str, seq: u64) -> Headers<'h> {
        Headers {
            op,
            lsn: self.end_lsn,
            seq,
            transaction: Some((self.xid, self.commit_time)),
            unchanged: &[],
            fetched: false,
        }
    }
}
