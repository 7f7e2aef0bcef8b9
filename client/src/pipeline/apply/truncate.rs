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
//! # Why a partition's TRUNCATE empties nothing
//!
//! With `--partitions root` the topic holds rows of all partitions. Which keys the truncated
//! one had nobody says, and a sweep would bury rows that are there: the client stops, as it
//! does where a change cannot be said, unless it was told to leave rows in the topic.
//!
//! # Where the event itself goes
//!
//! In the `change` envelope a TRUNCATE is an event of its own. It has no key, and a compacted
//! topic takes no record without one; there the tombstones speak for it. It is sent where
//! such a record can stand: to the topics of tables without a key, and to stdout.

use headwater_protocol::frame::Truncate;

use super::{Applier, Session, broken};
use crate::cli::{TruncateMode, UnkeyedMode};
use crate::error::Result;

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
        session.delivery.tally.truncates += 1;
        let headers = transaction.headers("t", truncate.seq);
        let mut partitions = truncate.partitions.iter();
        for (relation, event) in &truncate.relations {
            let partition = partitions
                .next()
                .map(|(schema, table)| format!("{schema}.{table}"));
            let target = match self.options.truncate {
                TruncateMode::Stop => self.described(*relation, "a truncate")?,
                _ => self.target(*relation, "a truncate", session)?,
            };
            // Without a topic no row of it may be sent, but it may have had a key, and rows
            // in a topic, until a moment ago.
            if !target.is_sent && self.options.unkeyed == UnkeyedMode::Skip {
                continue;
            }
            let is_keyed = !target.key_columns.is_empty();
            let empties = self.options.truncate == TruncateMode::Tombstone && is_keyed;
            match &partition {
                Some(partition) if empties || self.options.truncate == TruncateMode::Stop => {
                    return Err(target.partition_truncated(partition, &transaction, truncate.seq));
                }
                None if self.options.truncate == TruncateMode::Stop => {
                    return Err(target.truncated(&transaction, truncate.seq));
                }
                _ => {}
            }
            if let Some(value) = event.filter(|_| target.topic().is_some())
                && !(is_keyed && session.delivery.sink.compacts())
            {
                self.send_or_hold_event(&target, &transaction, truncate.seq, value, session)?;
            }
            if let Some(topic) = target.topic().filter(|_| empties) {
                self.send_held_of(&target, session)?;
                let tombstones = session.empty_topic(topic, headers)?;
                tracing::info!(table = %target.name(), tombstones, "table was truncated");
                continue;
            }
            let what = match &partition {
                Some(partition) => format!("its partition {partition}"),
                None => "it".to_owned(),
            };
            tracing::warn!(
                table = %target.name(),
                lsn = %transaction.end_lsn,
                has_key = is_keyed,
                "{what} was truncated: its rows stay in the topic"
            );
            // Without keys a topic holds what happened, not what the table holds.
            if is_keyed {
                let reason = format!("{what} was truncated, and its rows stay in the topic");
                let since = transaction.end_lsn;
                self.chunks.stale(&target.schema, &target.table, since);
                self.policy.mark_stale(&target, since, &reason, session);
            }
        }
        Ok(())
    }
}
