//! What has to stand before a frame that means something: `H` once a session, `B` once
//! a transaction, `R` once a plan. Each is sent with the first frame that needs it and
//! not before, so that nothing is sent for a transaction without changes.

use headwater_protocol::VERSION;
use headwater_protocol::frame::{Begin, Hello, PROTOCOL_VERSION_MAX, Relation, write};

use crate::emit::Batch;
use crate::plan_cache::CachedPlan;
use crate::session::TransactionView;

/// What the reader was told so far.
pub(crate) struct Preamble {
    server_version: u32,
    greeted: bool,
    open: bool,
}

impl Preamble {
    pub(crate) fn new(server_version: u32) -> Self {
        Preamble {
            server_version,
            greeted: false,
            open: false,
        }
    }

    pub(crate) fn greet(&mut self, batch: &mut Batch) {
        if std::mem::replace(&mut self.greeted, true) {
            return;
        }
        let hello = Hello {
            protocol: PROTOCOL_VERSION_MAX,
            server_version: self.server_version,
            plugin_version: VERSION,
        };
        batch.lead(|out| write::hello(out, &hello));
    }

    pub(crate) fn open(&mut self, batch: &mut Batch, transaction: TransactionView) {
        if std::mem::replace(&mut self.open, true) {
            return;
        }
        self.greet(batch);
        let begin = Begin {
            xid: transaction.xid,
            commit_lsn: transaction.commit_lsn,
            end_lsn: transaction.end_lsn,
            commit_time: transaction.commit_time,
        };
        batch.lead(|out| write::begin(out, &begin));
    }

    pub(crate) fn announce(
        &mut self,
        batch: &mut Batch,
        transaction: TransactionView,
        cached: &mut CachedPlan,
    ) {
        self.open(batch, transaction);
        if std::mem::replace(&mut cached.announced, true) {
            return;
        }
        batch.lead(|out| write::relation(out, &cached.plan.describe()));
    }

    /// Describes a relation that no row follows of.
    pub(crate) fn describe(
        &mut self,
        batch: &mut Batch,
        transaction: TransactionView,
        relation: &Relation<'_>,
    ) {
        self.open(batch, transaction);
        batch.lead(|out| write::relation(out, relation));
    }

    /// The transaction ends. Says whether it was opened.
    pub(crate) fn close(&mut self) -> bool {
        std::mem::replace(&mut self.open, false)
    }
}
