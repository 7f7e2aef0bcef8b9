//! Changes that the server could not or would not encode.
//!
//! Nothing that a row has become may be missing from a topic unnoticed, so the client stops
//! at such a change until somebody has decided. `--quarantine` is that decision, for one
//! change by its name: the server does not look at it any more and the client goes on
//! behind it. The topic keeps what it has of the row.

use headwater_protocol::frame::{Quarantine, QuarantinedMessage};
use headwater_protocol::{ChangeId, reserved};

use super::{Applier, Session, broken};
use crate::cli::UnkeyedMode;
use crate::error::{Error, ErrorKind, Result};

impl Applier<'_> {
    pub(super) fn quarantine(
        &mut self,
        quarantine: &Quarantine<'_>,
        session: &Session<'_, '_>,
    ) -> Result<()> {
        let transaction = self
            .transaction
            .as_mut()
            .ok_or_else(|| broken("a quarantined change outside a transaction"))?;
        transaction.changes += 1;
        let change = ChangeId {
            lsn: transaction.end_lsn,
            seq: quarantine.seq,
        };
        let target = self
            .relations
            .get(&quarantine.relation)
            .ok_or_else(|| broken("a quarantined change of a relation that was not described"))?;
        if !target.is_sent && self.options.unkeyed == UnkeyedMode::Skip {
            return Ok(());
        }
        let table = target.name();
        if self.options.quarantine.contains(&change) {
            tracing::warn!(
                %table,
                %change,
                op = quarantine.op.code(),
                "change left out, as --quarantine says: the topic keeps what it has of the row"
            );
            let reason = format!("change {change} was left out, as --quarantine said");
            self.chunks.stale(&target.schema, &target.table, change.lsn);
            self.chunks
                .lose((&target.schema, &target.table), transaction.xid);
            self.mark_stale(target, change.lsn, &reason, session);
            return Ok(());
        }
        if !target.is_sent {
            return Err(target.unkeyed(transaction, quarantine.seq));
        }
        let key = if quarantine.key.is_some() {
            "its key is known"
        } else {
            "its key is not known"
        };
        Err(Error::new(
            ErrorKind::Data,
            format!(
                "a change of {table} at {change} cannot be encoded ({key}): {}",
                quarantine.reason
            ),
        )
        .with_hint(format!(
            "To go on without this change, add --quarantine {change}; the topic then keeps what it \
             has of the row until that changes again. To go on without the table, leave it \
             out with --exclude-table."
        )))
    }

    /// A message outside transactions is named by its own position, as change 0 of it.
    pub(super) fn quarantined_message(&mut self, message: &QuarantinedMessage<'_>) -> Result<()> {
        if let Some(transaction) = &mut self.transaction {
            transaction.changes += 1;
        }
        let change = ChangeId {
            lsn: match self.transaction {
                Some(transaction) => transaction.end_lsn,
                None => message.lsn,
            },
            seq: message.seq,
        };
        if reserved::is_reserved(message.prefix) {
            tracing::warn!(prefix = message.prefix, %change, "a message to Headwater is too large");
            return Ok(());
        }
        if self.options.quarantine.contains(&change) {
            tracing::warn!(
                prefix = message.prefix,
                %change,
                "logical message left out, as --quarantine says"
            );
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Data,
            format!(
                "a logical message with prefix {:?} at {change} cannot be sent: {}",
                message.prefix, message.reason
            ),
        )
        .with_hint(format!(
            "To go on without this message, add --quarantine {change}. To go on without logical \
             messages, leave them out with --operations insert,update,delete,truncate."
        )))
    }
}
