//! Changes that cannot be delivered: what the server could not or would not encode, and records
//! that are larger than their topic takes.
//!
//! Nothing that a row has become may be missing from a topic unnoticed. By default the client
//! stops at such a change until somebody has decided; with `--on-error quarantine` it is kept as a
//! dead letter and the stream goes on. Either way the topic keeps what it has of the row.

use headwater_protocol::{ChangeId, Lsn};

use super::super::session::Session;
use super::target::Target;
use crate::cli::StreamOptions;
use crate::dead_letters::DeadLetters;
use crate::error::{Error, ErrorKind, Result};
use crate::sink::{DeadLetter, Headers, Record, Token, TooLarge, TopicId, Verdict};
use crate::snapshot_request::RowsOf;
use crate::state::Mark;

/// What the command line says of such changes.
#[derive(Clone, Copy)]
pub(in crate::pipeline) struct Policy<'a> {
    pub(in crate::pipeline) options: &'a StreamOptions,
    /// None to stop.
    pub(in crate::pipeline) dead_letters: Option<&'a DeadLetters>,
}

/// What there is of such a change.
pub(super) struct Undelivered<'a> {
    pub(super) topic: Option<TopicId>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Headers<'a>,
    pub(super) reason: &'a str,
    pub(super) size: Option<&'a TooLarge>,
}

impl<'a> Undelivered<'a> {
    pub(super) fn too_large(record: &Record<'a>, reason: &'a str, size: &'a TooLarge) -> Self {
        Undelivered {
            topic: Some(record.topic),
            key: record.key,
            value: record.value,
            headers: record.headers,
            reason,
            size: Some(size),
        }
    }

    pub(super) fn change(&self) -> ChangeId {
        ChangeId {
            lsn: self.headers.lsn,
            seq: self.headers.seq,
        }
    }

    fn letter(&self, topic: TopicId, relation: Option<&'a str>) -> DeadLetter<'a> {
        DeadLetter {
            topic,
            key: self.key,
            value: self.value,
            headers: self.headers,
            relation,
            meant_for: self.topic,
            reason: self.reason,
            bytes: self.size.map(|size| size.bytes),
            limit: self.size.and_then(|size| size.limit),
        }
    }
}

impl Policy<'_> {
    /// Sends a record of a table, waiting for room as long as it takes.
    pub(super) fn deliver(
        &self,
        target: &Target,
        record: &Record<'_>,
        token: Token,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        let Verdict::TooLarge(size) = session.offer(record, token)? else {
            return Ok(());
        };
        let refused = || target.too_large(record, &size, self.options);
        self.bury_too_large(&target.table_name(), record, &size, refused, token, session)
    }

    /// Keeps a change of a table as a dead letter.
    pub(super) fn bury(
        &self,
        dead_letters: &DeadLetters,
        target: &Target,
        undelivered: &Undelivered<'_>,
        token: Token,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        let table = target.table_name();
        self.bury_of(dead_letters, &table, undelivered, token, session)
    }

    /// As [`Policy::deliver`], a row of a table that is copied again.
    pub(in crate::pipeline) fn deliver_row(
        &self,
        table: &RowsOf,
        record: &Record<'_>,
        token: Token,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        let Verdict::TooLarge(size) = session.offer(record, token)? else {
            return Ok(());
        };
        let refused = || {
            Error::new(
                ErrorKind::Data,
                format!("a row of {table} cannot be sent again: {size}"),
            )
            .with_hint(format!("{} {}", size.cure, self.options.by_dead_letters()))
        };
        self.bury_too_large(table, record, &size, refused, token, session)
    }

    /// Keeps a record that is larger than its topic takes, unless such are `refused`.
    fn bury_too_large(
        &self,
        table: &RowsOf,
        record: &Record<'_>,
        size: &TooLarge,
        refused: impl FnOnce() -> Error,
        token: Token,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        let dead_letters = self.dead_letters.ok_or_else(refused)?;
        let reason = size.to_string();
        let undelivered = Undelivered::too_large(record, &reason, size);
        self.bury_of(dead_letters, table, &undelivered, token, session)
    }

    /// Keeps a row of a table that is copied again, and that cannot be encoded, as a dead letter.
    pub(in crate::pipeline) fn bury_row(
        &self,
        table: &RowsOf,
        record: &Record<'_>,
        reason: &str,
        token: Token,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        let Some(dead_letters) = self.dead_letters else {
            return Err(Error::failed("a row that cannot be encoded has no topic"));
        };
        let undelivered = Undelivered {
            topic: Some(record.topic),
            key: record.key,
            value: None,
            headers: record.headers,
            reason,
            size: None,
        };
        self.bury_of(dead_letters, table, &undelivered, token, session)
    }

    fn bury_of(
        &self,
        dead_letters: &DeadLetters,
        table: &RowsOf,
        undelivered: &Undelivered<'_>,
        token: Token,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        let (name, change, reason) = (table.to_string(), undelivered.change(), undelivered.reason);
        let letter = undelivered.letter(dead_letters.topic(), Some(&name));
        session.send_dead_letter(&letter, token)?;
        dead_letters.count(&name, change, reason);
        let reason = || format!("change {change} is among the dead letters: {reason}");
        self.mark(table, change.lsn, reason, session);
        Ok(())
    }

    /// Keeps a logical message as a dead letter.
    pub(super) fn bury_message(
        &self,
        dead_letters: &DeadLetters,
        undelivered: &Undelivered<'_>,
        token: Token,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        let letter = undelivered.letter(dead_letters.topic(), None);
        session.send_dead_letter(&letter, token)?;
        dead_letters.count("logical messages", undelivered.change(), undelivered.reason);
        Ok(())
    }

    /// Records of the table are from now on not what it holds.
    pub(super) fn mark_stale(
        &self,
        target: &Target,
        since: Lsn,
        reason: &str,
        session: &Session<'_, '_>,
    ) {
        self.mark(&target.table_name(), since, || reason.to_owned(), session);
    }

    /// The reason is made where it is told: of a table whose every row is a dead letter, once.
    fn mark(
        &self,
        table: &RowsOf,
        since: Lsn,
        reason: impl FnOnce() -> String,
        session: &Session<'_, '_>,
    ) {
        let RowsOf { schema, name } = table;
        let positions = &session.delivery.positions;
        if positions.stale_again(schema, name, since) {
            return;
        }
        let reason = reason();
        let mark = Mark { since, reason };
        if positions.mark_stale(schema, name, mark.clone()) {
            mark.warn(schema, name, &self.options.slot);
        }
    }
}
