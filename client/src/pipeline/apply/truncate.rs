//! What a TRUNCATE does: `--truncate`.

use headwater_protocol::frame::Truncate;

use super::{Applier, Session, broken};
use crate::cli::TruncateMode;
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
        for (relation, _) in &truncate.relations {
            let target = self
                .relations
                .get(relation)
                .ok_or_else(|| broken("a truncate of a relation that was not described"))?;
            let Some(topic) = target.topic else {
                continue;
            };
            match self.options.truncate {
                TruncateMode::Stop => return Err(target.truncated(&transaction, truncate.seq)),
                TruncateMode::Ignore => tracing::warn!(
                    table = %target.name(),
                    lsn = %transaction.end_lsn,
                    "table was truncated: its rows stay in the topic"
                ),
                TruncateMode::Tombstone if target.key_columns.is_empty() => tracing::warn!(
                    table = %target.name(),
                    lsn = %transaction.end_lsn,
                    "table without a key was truncated: its rows stay in the topic"
                ),
                TruncateMode::Tombstone => {
                    let headers = transaction.headers("t", truncate.seq);
                    let tombstones = session.empty_topic(topic, headers)?;
                    tracing::info!(table = %target.name(), tombstones, "table was truncated");
                }
            }
        }
        Ok(())
    }
}
