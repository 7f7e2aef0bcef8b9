//! One reader's session: what each callback means for the stream.
//!
//! A transaction opens in the stream with its first change that passes the filters and
//! not before, so that one without such a change sends nothing; the client's position
//! still moves, because the server reports progress.

use headwater_protocol::frame::{Commit, Message, Op, QuarantinedMessage, Stale, Truncate, write};
use headwater_protocol::limits::Limits;
use headwater_protocol::options::{Envelope, Origin, Output, PluginOptions};
use headwater_protocol::{ChangeId, Lsn, reserved};

use crate::access::Scope;
use crate::emit::Batch;
use crate::encode::{EncodeError, Encoder, RowChange, Source, ValueEncoder};
use crate::layout::Finding;
use crate::pg::{
    DatabaseEncoding, OutputSettings, RelationRef, TupleBuffer, TupleRef, Writer, current_limits,
    limits_generation, report_stale,
};
use crate::plan_cache::PlanCache;
use crate::preamble::Preamble;
use crate::schema::SchemaCompiler;
use crate::staleness::DdlWatch;

/// Changes in a row that may pass without a write before the client hears of progress.
/// Servers before 16 send no keepalive and read no answer while a plugin is silent, so that
/// a reader is cut off after `wal_sender_timeout`; the server's own plugin reports as often.
const SILENT_CHANGES: u32 = 100;

/// What the server knows about the connection.
pub(crate) struct Connection {
    pub(crate) database: String,
    pub(crate) server_version: u32,
    /// Whether a walsender reads, so that changes may share a write.
    pub(crate) walsender: bool,
}

/// A transaction, as every callback is given it.
#[derive(Clone, Copy)]
pub(crate) struct TransactionView {
    pub(crate) xid: u32,
    pub(crate) commit_lsn: Lsn,
    pub(crate) end_lsn: Lsn,
    /// Microseconds since 1970.
    pub(crate) commit_time: i64,
}

/// A row's change, as the server hands it over.
pub(crate) struct ChangeView<'cb> {
    pub(crate) op: Op,
    pub(crate) old: Option<TupleRef<'cb>>,
    pub(crate) new: Option<TupleRef<'cb>>,
}

/// What `pg_logical_emit_message` wrote, as the server hands it over.
pub(crate) struct MessageView<'cb> {
    pub(crate) lsn: Lsn,
    pub(crate) prefix: &'cb [u8],
    pub(crate) content: &'cb [u8],
}

/// The state of one decoding session.
pub(crate) struct Session {
    options: PluginOptions,
    limits: Limits,
    /// Of the settings that `limits` were read from.
    limits_generation: u64,
    plans: PlanCache,
    watch: DdlWatch,
    encoder: Encoder,
    batch: Batch,
    old: TupleBuffer,
    new: TupleBuffer,
    preamble: Preamble,
    schemas: SchemaCompiler,
    transaction: Progress,
}

/// How far the current transaction has come.
#[derive(Default)]
struct Progress {
    /// Changes seen, before any filter.
    seen: u64,
    /// Change, truncate, message, quarantine and stale frames sent.
    sent: u64,
    /// Writes when the last change was done with.
    writes: u64,
    /// Changes since the last write or report of progress.
    silent: u32,
}

impl Session {
    pub(crate) fn new(
        options: PluginOptions,
        connection: &Connection,
        encoding: DatabaseEncoding,
    ) -> Self {
        let values = ValueEncoder::new(encoding, OutputSettings::replay(), &options);
        Session {
            encoder: Encoder::new(&options, &connection.database, values),
            batch: Batch::new(&options, connection.walsender, encoding),
            preamble: Preamble::new(connection.server_version),
            schemas: SchemaCompiler::new(&options, encoding),
            options,
            limits_generation: limits_generation(),
            limits: current_limits(),
            plans: PlanCache::default(),
            watch: DdlWatch::default(),
            old: TupleBuffer::default(),
            new: TupleBuffer::default(),
            transaction: Progress::default(),
        }
    }

    /// Whether everything that came from `origin` is to be left out. 0 is this server.
    pub(crate) fn filters_origin(&self, origin: u16) -> bool {
        self.options.origin == Origin::None && origin != 0
    }

    /// A transaction begins that changes these relations in the catalogs.
    pub(crate) fn begin(&mut self, changed: &[u32]) {
        self.transaction = Progress::default();
        self.encoder.values.calls().settings().enter();
        // Read at the begin alone: a reload in the middle of a transaction, which a walsender takes
        // notice of as it writes, does not split it.
        if self.limits_generation != limits_generation() {
            self.limits_generation = limits_generation();
            self.limits = current_limits();
            self.plans.forget();
        }
        let scope = Scope {
            options: &self.options,
            limits: &self.limits,
            encoding: self.encoder.values.encoding(),
        };
        self.watch.begin(changed, scope);
    }

    pub(crate) fn change(
        &mut self,
        transaction: TransactionView,
        relation: RelationRef<'_>,
        change: &ChangeView<'_>,
        writer: &mut Writer<'_>,
    ) {
        let seq = self.next_seq();
        // What ALTER TABLE writes into the table's new heap, rows that are there already.
        let op = if relation.is_rewrite() {
            Op::Update
        } else {
            change.op
        };
        if !self.asks_for(op) {
            return self.stay_in_touch(writer);
        }
        let encoding = self.encoder.values.encoding();
        let scope = Scope {
            options: &self.options,
            limits: &self.limits,
            encoding,
        };
        let cached = self.plans.get(relation, scope);
        if !cached.plan.selected {
            return self.stay_in_touch(writer);
        }
        if !self.watch.is_idle()
            && cached.noted_in.replace(transaction.xid) != Some(transaction.xid)
        {
            self.watch.note(relation, &cached.plan, encoding);
        }
        let frames = self.options.output == Output::Frames;
        if frames {
            self.preamble
                .announce(&mut self.batch, transaction, cached, &self.schemas);
        }
        let is_named = self.options.quarantines(ChangeId {
            lsn: transaction.end_lsn,
            seq,
        });
        // One that is named is not looked at: the look may be what fails.
        let (old, new) = if is_named {
            (None, None)
        } else {
            (change.old, change.new)
        };
        let change = RowChange {
            op,
            source: transaction.source(seq),
            old: old.map(|tuple| self.old.deform(tuple, relation)),
            new: new.map(|tuple| self.new.deform(tuple, relation)),
        };
        let (encoder, plan) = (&mut self.encoder, &mut cached.plan);
        self.batch.append(writer, |out| {
            let result = if is_named {
                Err(EncodeError::Named)
            } else if frames {
                encoder.frame(plan, &change, out)
            } else {
                encoder.line(plan, &change, out)
            };
            match result {
                Ok(()) => {}
                Err(reason) if frames => encoder.quarantine_frame(plan, &change, &reason, out),
                Err(reason) => encoder.quarantine_line(plan, &change, &reason, out),
            }
        });
        self.transaction.sent += 1;
        self.stay_in_touch(writer);
    }

    pub(crate) fn truncate(
        &mut self,
        transaction: TransactionView,
        relations: &[RelationRef<'_>],
        cascade: bool,
        restart_identity: bool,
        writer: &mut Writer<'_>,
    ) {
        let seq = self.next_seq();
        if !self.options.operations.truncate {
            return self.stay_in_touch(writer);
        }
        let source = transaction.source(seq);
        let scope = Scope {
            options: &self.options,
            limits: &self.limits,
            encoding: self.encoder.values.encoding(),
        };
        let frames = self.options.output == Output::Frames;
        let (mut whole, mut parts) = (Vec::new(), Vec::new());
        for relation in relations {
            let cached = self.plans.get(*relation, scope);
            let plan = &cached.plan;
            // A table that stands for its partitions comes with them, and so does one
            // between: its name would add nothing.
            let is_between = relation.is_partitioned() && plan.partition.is_some();
            if !plan.selected || is_between {
                continue;
            }
            let truncated = Truncated {
                relation: plan.id,
                partition: plan.partition.clone(),
                envelope: (self.options.envelope == Envelope::Change).then(|| {
                    let mut envelope = Vec::new();
                    self.encoder.truncate_envelope(plan, &source, &mut envelope);
                    envelope
                }),
            };
            if frames {
                self.preamble
                    .announce(&mut self.batch, transaction, cached, &self.schemas);
            }
            if truncated.partition.is_some() {
                parts.push(truncated);
            } else {
                whole.push(truncated);
            }
        }
        parts.retain(|part| whole.iter().all(|table| table.relation != part.relation));
        if whole.is_empty() && parts.is_empty() {
            return self.stay_in_touch(writer);
        }
        for truncated in [whole, parts] {
            if truncated.is_empty() {
                continue;
            }
            if frames {
                let truncate = Truncate {
                    seq,
                    cascade,
                    restart_identity,
                    relations: truncated.iter().map(Truncated::of_relation).collect(),
                    partitions: truncated
                        .iter()
                        .filter_map(Truncated::of_partition)
                        .collect(),
                };
                self.batch
                    .append(writer, |out| write::truncate(out, &truncate));
                self.transaction.sent += 1;
            } else {
                for table in &truncated {
                    self.batch.append(writer, |out| {
                        out.extend_from_slice(table.envelope.as_deref().unwrap_or_default());
                    });
                }
            }
        }
        self.stay_in_touch(writer);
    }

    /// A logical message. Without a transaction it stands by itself, between two.
    pub(crate) fn message(
        &mut self,
        transaction: Option<TransactionView>,
        message: &MessageView<'_>,
        writer: &mut Writer<'_>,
    ) {
        let seq = match transaction {
            Some(_) => self.next_seq(),
            None => 0,
        };
        let lines = self.options.output == Output::Lines;
        let no_place = lines && self.options.envelope == Envelope::Row;
        let encoding = self.encoder.values.encoding();
        let prefix = encoding.to_utf8_lossy(message.prefix);
        let is_asked_for =
            self.options.operations.message || (!lines && reserved::is_reserved(&prefix));
        if !is_asked_for || no_place {
            return self.stay_in_touch(writer);
        }
        if lines {
            let source = match transaction {
                Some(transaction) => transaction.source(seq),
                None => Source {
                    lsn: message.lsn,
                    seq,
                    transaction: None,
                    snapshot: false,
                },
            };
            let encoder = &mut self.encoder;
            self.batch.append(writer, |out| {
                encoder.message_envelope(&prefix, message.content, &source, out);
            });
        } else {
            match transaction {
                Some(transaction) => self.preamble.open(&mut self.batch, transaction),
                None => self.preamble.greet(&mut self.batch),
            }
            let frame = Message {
                transactional: transaction.is_some(),
                lsn: message.lsn,
                seq,
                prefix: &prefix,
                content: message.content,
            };
            let (encoder, bytes) = (&self.encoder, prefix.len() + message.content.len());
            self.batch
                .append(writer, |out| match encoder.message_room(bytes, out) {
                    Ok(()) => write::message(out, &frame),
                    Err(reason) => write::quarantined_message(
                        out,
                        &QuarantinedMessage {
                            transactional: frame.transactional,
                            lsn: frame.lsn,
                            seq: frame.seq,
                            prefix: frame.prefix,
                            reason: &reason.to_string(),
                        },
                    ),
                });
        }
        if transaction.is_some() {
            self.transaction.sent += 1;
            self.stay_in_touch(writer);
        } else {
            // No commit will come to send it.
            self.batch.finish_transaction(writer);
        }
    }

    pub(crate) fn commit(&mut self, transaction: TransactionView, writer: &mut Writer<'_>) {
        if !self.watch.is_idle() {
            self.name_stale(transaction, writer);
        }
        if self.preamble.close() {
            let commit = Commit {
                end_lsn: transaction.end_lsn,
                changes: self.transaction.sent,
            };
            self.batch.append(writer, |out| write::commit(out, &commit));
        }
        let wrote = self.batch.finish_transaction(writer);
        writer.progress(!wrote);
        self.transaction = Progress::default();
    }

    /// Says of which tables the transaction changed rows without a change of theirs. Lines
    /// have no place for it: there the server's log names them.
    fn name_stale(&mut self, transaction: TransactionView, writer: &mut Writer<'_>) {
        let scope = Scope {
            options: &self.options,
            limits: &self.limits,
            encoding: self.encoder.values.encoding(),
        };
        for Finding {
            table,
            gone,
            reason,
        } in self.watch.finish(scope)
        {
            if self.options.output == Output::Lines {
                report_stale(table.schema(), table.table(), transaction.end_lsn, &reason);
                continue;
            }
            let is_news = self
                .preamble
                .describe(&mut self.batch, transaction, &table.describe());
            if is_news {
                self.plans.announce_anew();
            }
            let stale = Stale {
                relation: table.id(),
                gone,
                reason: &reason,
            };
            self.batch.append(writer, |out| write::stale(out, &stale));
            self.transaction.sent += 1;
        }
    }

    fn next_seq(&mut self) -> u64 {
        let seq = self.transaction.seen;
        self.transaction.seen += 1;
        seq
    }

    fn asks_for(&self, op: Op) -> bool {
        let operations = &self.options.operations;
        match op {
            Op::Create | Op::Read => operations.insert,
            Op::Update => operations.update,
            Op::Delete => operations.delete,
        }
    }

    /// Follows every change, whatever became of it: one that waits in the batch is as
    /// silent as one that is left out.
    fn stay_in_touch(&mut self, writer: &mut Writer<'_>) {
        let transaction = &mut self.transaction;
        let written = std::mem::replace(&mut transaction.writes, self.batch.writes());
        if written != transaction.writes {
            transaction.silent = 0;
            return;
        }
        transaction.silent += 1;
        if transaction.silent >= SILENT_CHANGES {
            transaction.silent = 0;
            writer.progress(false);
        }
    }
}

/// What a TRUNCATE emptied: a table, or one partition of it.
struct Truncated {
    relation: u32,
    partition: Option<(String, String)>,
    envelope: Option<Vec<u8>>,
}

impl Truncated {
    fn of_relation(&self) -> (u32, Option<&[u8]>) {
        (self.relation, self.envelope.as_deref())
    }

    fn of_partition(&self) -> Option<(&str, &str)> {
        let (schema, table) = self.partition.as_ref()?;
        Some((schema, table))
    }
}

impl TransactionView {
    fn source(&self, seq: u64) -> Source {
        Source {
            lsn: self.end_lsn,
            seq,
            transaction: Some((self.xid, self.commit_time)),
            snapshot: false,
        }
    }
}
