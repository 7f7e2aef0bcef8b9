//! Logical messages: what `pg_logical_emit_message` wrote, one record each.
//!
//! The key is the message's prefix and the value its content, byte for byte, so that an
//! outbox needs no table. The topic is not compacted: the newest message of a prefix says
//! nothing of those before it.
//!
//! # Where a message stands
//!
//! A transactional message is a change like any other: it comes with its transaction's
//! commit, in its place among the rows, and is gone with a rollback. Any other is decoded
//! when its WAL record is read, whatever becomes of the transaction that wrote it: before the
//! commit that it may have been written in, and between the commits that surround its
//! record. The server reads WAL records in their order and streams a transaction whole, so
//! the ends of commits and of such messages, as they arrive, only grow; a message that
//! takes its place in [`crate::ack::Ack`]'s queue like a transaction of one record is
//! therefore never passed by the flush position before it is delivered.
//!
//! Its position is the *end* of its record, and the server sends a message again when its
//! record *begins* at or behind the position that is asked for: an acknowledged message
//! does not come again, and one that is not acknowledged does.
//!
//! Messages with a prefix of [`headwater_protocol::reserved`] are no records: they are said to
//! this client.

use headwater_protocol::Lsn;
use headwater_protocol::frame::Message;
use headwater_protocol::reserved;

use super::quarantine::unsent;
use super::undelivered::Undelivered;
use super::{Applier, Session, broken};
use crate::error::Result;
use crate::sink::{Headers, Keying, Record, Token, TopicId, Verdict};

impl Applier<'_> {
    pub(super) fn message(
        &mut self,
        message: &Message<'_>,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        let is_own = reserved::is_reserved(message.prefix);
        session.delivery.tally.messages += u64::from(!is_own);
        match (&mut self.transaction, message.transactional) {
            (Some(transaction), true) if is_own => {
                transaction.changes += 1;
                self.own_message(message);
                Ok(())
            }
            (None, false) if is_own => Ok(()),
            (Some(transaction), true) => {
                transaction.changes += 1;
                let headers = transaction.headers("m", message.seq);
                let token = transaction.token;
                self.send_message(message, headers, token, session)
            }
            (None, false) => self.lone_message(message, session),
            (None, true) => Err(broken("a message without its transaction")),
            (Some(_), false) => Err(broken("a message of no transaction within one")),
        }
    }

    /// One that is said to this client, or to another release of it.
    fn own_message(&mut self, message: &Message<'_>) {
        match message.prefix {
            reserved::SNAPSHOT => self.chunks.ask(message.content),
            reserved::WATERMARK => self.chunks.pass(message.content),
            _ => {}
        }
    }

    fn lone_message(&mut self, message: &Message<'_>, session: &mut Session<'_, '_>) -> Result<()> {
        let headers = outside_transactions(message.lsn, message.seq);
        let token = session.delivery.ack.begin(message.lsn);
        let sent = self.send_message(message, headers, token, session);
        end_alone(&sent, token, session);
        sent
    }

    fn send_message(
        &mut self,
        message: &Message<'_>,
        headers: Headers<'_>,
        token: Token,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        let record = Record {
            topic: self.message_topic(session)?,
            key: Some(message.prefix.as_bytes()),
            value: Some(message.content),
            headers,
        };
        let Verdict::TooLarge(size) = session.offer(&record, token)? else {
            return Ok(());
        };
        let reason = size.to_string();
        let undelivered = Undelivered::too_large(&record, &reason, &size);
        match self.policy.dead_letters {
            Some(dead_letters) => {
                self.policy
                    .bury_message(dead_letters, &undelivered, token, session)
            }
            None => Err(unsent(
                message.prefix,
                undelivered.change(),
                &reason,
                self.options,
            )),
        }
    }

    /// Opened with the first message: most databases have none.
    pub(super) fn message_topic(&mut self, session: &Session<'_, '_>) -> Result<TopicId> {
        if let Some(topic) = self.messages {
            return Ok(topic);
        }
        let name = self.options.messages();
        let topic = session.delivery.sink.open_topic(&name, Keying::Events)?;
        Ok(*self.messages.insert(topic))
    }
}

/// The headers of a message outside transactions, of which its own position is all that there is.
pub(super) fn outside_transactions(lsn: Lsn, seq: u64) -> Headers<'static> {
    Headers {
        op: "m",
        lsn,
        seq,
        transaction: None,
        unchanged: &[],
        fetched: false,
    }
}

/// A message outside transactions was sent, or not.
pub(super) fn end_alone(sent: &Result<()>, token: Token, session: &mut Session<'_, '_>) {
    match sent {
        Ok(()) => session.delivery.ack.commit(token),
        // It comes again with the next session, under another token.
        Err(_) => session.delivery.ack.abandon(token),
    }
}
