//! Changes that the server could not or would not encode, and those that an operator named.
//!
//! `--quarantine` is a decision about one change by its name: the server does not look at it
//! any more and the client goes on behind it. `--on-error quarantine` is one about all such changes:
//! each is kept as a dead letter. Without either the client stops. What was named is a dead letter
//! too where there is a topic for them.

use headwater_protocol::frame::{Quarantine, QuarantinedMessage};
use headwater_protocol::{ChangeId, reserved};

use super::message::{end_alone, outside_transactions};
use super::undelivered::Undelivered;
use super::{Applier, Session, broken};
use crate::cli::{StreamOptions, UnkeyedMode};
use crate::error::{Error, ErrorKind, Result};

impl Applier<'_> {
    pub(super) fn quarantine(
        &mut self,
        quarantine: &Quarantine<'_>,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        let transaction = self
            .transaction
            .as_mut()
            .ok_or_else(|| broken("a quarantined change outside a transaction"))?;
        transaction.changes += 1;
        let transaction = *transaction;
        session.delivery.tally.quarantined += 1;
        let change = ChangeId {
            lsn: transaction.end_lsn,
            seq: quarantine.seq,
        };
        let target = match self.policy.dead_letters {
            Some(_) => self.target(quarantine.relation, "a quarantined change", session)?,
            None => self.described(quarantine.relation, "a quarantined change")?,
        };
        if !target.is_sent && self.options.unkeyed == UnkeyedMode::Skip {
            return Ok(());
        }
        let is_named = self.options.quarantine.contains(&change);
        if !is_named && !target.is_sent {
            return Err(target.unkeyed(&transaction, quarantine.seq));
        }
        // The frame has one key, where the change may have had two.
        self.chunks
            .lose((&target.schema, &target.table), transaction.xid);
        if let Some(dead_letters) = self.policy.dead_letters {
            let key = self.stamped_key(&target, quarantine.key, session)?;
            let undelivered = Undelivered {
                topic: target.topic(),
                key: key.as_deref(),
                value: None,
                headers: transaction.headers(quarantine.op.code(), quarantine.seq),
                reason: quarantine.reason,
                size: None,
            };
            let token = transaction.token;
            return self
                .policy
                .bury(dead_letters, &target, &undelivered, token, session);
        }
        if is_named {
            tracing::warn!(
                table = %target.name(),
                %change,
                op = quarantine.op.code(),
                "change left out, as --quarantine says: the topic keeps what it has of the row"
            );
            let reason = format!("change {change} was left out, as --quarantine said");
            self.chunks.stale(&target.schema, &target.table, change.lsn);
            self.policy
                .mark_stale(&target, change.lsn, &reason, session);
            return Ok(());
        }
        Err(target.unencodable(quarantine, change, self.options))
    }

    /// A message outside transactions is named by its own position, as change 0 of it.
    pub(super) fn quarantined_message(
        &mut self,
        message: &QuarantinedMessage<'_>,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        session.delivery.tally.quarantined += 1;
        let headers = match &mut self.transaction {
            Some(transaction) => {
                transaction.changes += 1;
                transaction.headers("m", message.seq)
            }
            None => outside_transactions(message.lsn, message.seq),
        };
        let change = ChangeId {
            lsn: headers.lsn,
            seq: message.seq,
        };
        if reserved::is_reserved(message.prefix) {
            tracing::warn!(prefix = message.prefix, %change, "a message to Headwater is too large");
            return Ok(());
        }
        if let Some(dead_letters) = self.policy.dead_letters {
            let undelivered = Undelivered {
                topic: Some(self.message_topic(session)?),
                key: Some(message.prefix.as_bytes()),
                value: None,
                headers,
                reason: message.reason,
                size: None,
            };
            if let Some(transaction) = self.transaction {
                let token = transaction.token;
                return self
                    .policy
                    .bury_message(dead_letters, &undelivered, token, session);
            }
            let token = session.delivery.ack.begin(message.lsn);
            let sent = self
                .policy
                .bury_message(dead_letters, &undelivered, token, session);
            end_alone(&sent, token, session);
            return sent;
        }
        if self.options.quarantine.contains(&change) {
            tracing::warn!(
                prefix = message.prefix,
                %change,
                "logical message left out, as --quarantine says"
            );
            return Ok(());
        }
        Err(unsent(message.prefix, change, message.reason, self.options))
    }
}

/// A logical message that cannot be sent.
pub(super) fn unsent(
    prefix: &str,
    change: ChangeId,
    reason: &str,
    options: &StreamOptions,
) -> Error {
    Error::new(
        ErrorKind::Data,
        format!("a logical message with prefix {prefix:?} at {change} cannot be sent: {reason}"),
    )
    .with_hint(format!(
        "To go on without this message, add --quarantine {change}. {} To go on without logical \
         messages, leave them out with --operations insert,update,delete,truncate.",
        options.by_dead_letters()
    ))
}
