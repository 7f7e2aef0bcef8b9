//! What has to stand before a frame that means something: `H` once a session, `B` once
//! a transaction, `R` once a description, with `A` behind it where rows are Avro. Each is sent with the first frame that needs it
//! and not before, so that nothing is sent for a transaction without changes.
//!
//! A relation that was compiled anew often has the description that it had, and all
//! partitions of a table share the table's: what was sent is remembered, and compared
//! once a plan. Of plans that saw the same catalogs, as those of a thousand partitions mostly do,
//! only the first is: to make a description of Avro is to make its schemas.

use std::collections::HashMap;

use headwater_protocol::VERSION;
use headwater_protocol::frame::{Begin, Hello, PROTOCOL_VERSION_MAX, Relation, Schemas, write};

use crate::emit::Batch;
use crate::plan::RelationPlan;
use crate::plan_cache::CachedPlan;
use crate::schema::SchemaCompiler;
use crate::session::TransactionView;

/// How many bytes of descriptions are remembered: those of thousands of tables, and with their
/// schemas those of hundreds. Then all are forgotten and sent again when they are needed, since
/// a session that lives for months must not remember every table that ever was.
const REMEMBERED_BYTES: usize = 1 << 20;

/// What the reader was told so far.
pub(crate) struct Preamble {
    server_version: u32,
    greeted: bool,
    open: bool,
    /// By relation: the newest `R`, and the `A` behind it.
    described: HashMap<u32, Vec<u8>>,
    /// The length of all of them.
    described_bytes: usize,
    /// By relation: the epoch of the plans whose description the reader was told, or knew, last.
    told_in: HashMap<u32, u64>,
}

impl Preamble {
    pub(crate) fn new(server_version: u32) -> Self {
        Preamble {
            server_version,
            greeted: false,
            open: false,
            described: HashMap::new(),
            described_bytes: 0,
            told_in: HashMap::new(),
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
        schemas: &SchemaCompiler,
    ) {
        self.open(batch, transaction);
        if std::mem::replace(&mut cached.announced, true) {
            return;
        }
        let relation = cached.plan.id;
        if cached.epoch.is_some() && cached.epoch == self.told_in.get(&relation).copied() {
            return;
        }
        let mut description = Vec::new();
        describe(&cached.plan, schemas, &mut description);
        if self.described.get(&relation) != Some(&description) {
            self.tell(batch, relation, description);
        }
        match cached.epoch {
            Some(epoch) => self.told_in.insert(relation, epoch),
            None => self.told_in.remove(&relation),
        };
    }

    /// Describes a relation that no row follows of. Says whether the reader knew it
    /// otherwise: what the plans have announced is then to be compared with it again.
    pub(crate) fn describe(
        &mut self,
        batch: &mut Batch,
        transaction: TransactionView,
        relation: &Relation<'_>,
    ) -> bool {
        self.open(batch, transaction);
        let mut description = Vec::new();
        write::relation(&mut description, relation);
        let known = self.described.get(&relation.id);
        if known.is_some_and(|known| known.starts_with(&description)) {
            return false;
        }
        self.tell(batch, relation.id, description);
        self.told_in.remove(&relation.id);
        true
    }

    fn tell(&mut self, batch: &mut Batch, relation: u32, description: Vec<u8>) {
        batch.lead(|out| out.extend_from_slice(&description));
        self.remember(relation, description);
    }

    fn remember(&mut self, relation: u32, description: Vec<u8>) {
        if self.described_bytes > REMEMBERED_BYTES {
            self.described.clear();
            self.described_bytes = 0;
            self.told_in.clear();
        }
        self.described_bytes += description.len();
        if let Some(before) = self.described.insert(relation, description) {
            self.described_bytes -= before.len();
        }
    }

    /// The transaction ends. Says whether it was opened.
    pub(crate) fn close(&mut self) -> bool {
        std::mem::replace(&mut self.open, false)
    }
}

/// Appends what the reader has to know of a relation before its rows: `R`, and under Avro `A`.
pub(crate) fn describe(plan: &RelationPlan, schemas: &SchemaCompiler, out: &mut Vec<u8>) {
    write::relation(out, &plan.describe());
    if let Some(schemas) = schemas.compile(plan) {
        let frame = Schemas {
            relation: plan.id,
            key: schemas.key.as_deref(),
            value: &schemas.value,
        };
        write::schemas(out, &frame);
    }
}
