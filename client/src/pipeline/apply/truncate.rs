//! What a TRUNCATE does: `--truncate`.
//!
//! # Which keys get a tombstone
//!
//! Those that the rows before the TRUNCATE left live, of this transaction and of earlier
//! ones, and none that a later row brings. A topic is therefore read only when everything
//! sent before is delivered, and nothing more is sent until every tombstone is. A crash in
//! between repeats the whole transaction, and what came after it, as nothing of that is
//! acknowledged: keys of later rows that the repeated TRUNCATE buries come again behind it.
//!
//! # Where the event itself goes
//!
//! In the `change` envelope a TRUNCATE is an event of its own. It has no key, and a compacted
//! topic takes no record without one; there the tombstones speak for it. It is sent where
//! such a record can stand: to the topics of tables without a key, and to stdout.

use headwater_protocol::frame::Truncate;

use super::{Applier, Session, Transaction, broken};
use crate::cli::TruncateMode;
use crate::error::Result;
use crate::sink::Record;

impl Applier<'_> {
    pub(super) fn truncate(
        &mut self,
        truncate: &Truncate<'_>,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        let transaction = self
            .transaction
            .as_mut()
            .ok_or_else(|| broken("a truncate outside a transaction"))?;
        transaction.changes += 1;
        let transaction = *transaction;
        if !truncate.partitions.is_empty() {
            return self.truncate_partitions(truncate, &transaction);
        }
        let headers = transaction.headers("t", truncate.seq);
        for (relation, event) in &truncate.relations {
            let target = self
                .relations
                .get(relation)
                .ok_or_else(|| broken("a truncate of a relation that was not described"))?;
            let Some(topic) = target.topic else {
                continue;
            };
            let is_keyed = !target.key_columns.is_empty();
            if self.options.truncate == TruncateMode::Stop {
                return Err(target.truncated(&transaction, truncate.seq));
            }
            if event.is_some() && !(is_keyed && session.delivery.sink.compacts()) {
                let record = Record {
                    topic,
                    key: None,
                    value: *event,
                    headers,
                };
                session.send(&record, transaction.token)?;
            }
            if self.options.truncate == TruncateMode::Tombstone && is_keyed {
                let tombstones = session.empty_topic(topic, headers)?;
                tracing::info!(table = %target.name(), tombstones, "table was truncated");
            } else {
                tracing::warn!(
                    table = %target.name(),
                    lsn = %transaction.end_lsn,
                    has_key = is_keyed,
                    "table was truncated: its rows stay in the topic"
                );
            }
        }
        Ok(())
    }

    /// Partitions whose rows are in the topic of a table that others have rows in too. Which
    /// keys they had nobody says, and emptying the topic would delete rows that are there.
    fn truncate_partitions(
        &self,
        truncate: &Truncate<'_>,
        transaction: &Transaction,
    ) -> Result<()> {
        for ((relation, _), partition) in truncate.relations.iter().zip(&truncate.partitions) {
            let target = self
                .relations
                .get(relation)
                .ok_or_else(|| broken("a truncate of a relation that was not described"))?;
            if target.topic.is_none() {
                continue;
            }
            let (schema, table) = partition;
            let partition = format!("{schema}.{table}");
            if self.options.truncate != TruncateMode::Ignore {
                return Err(target.partition_truncated(&partition, transaction, truncate.seq));
            }
            tracing::warn!(
                table = %target.name(),
                %partition,
                lsn = %transaction.end_lsn,
                "partition was truncated: its rows stay in the topic"
            );
        }
        Ok(())
    }
}
