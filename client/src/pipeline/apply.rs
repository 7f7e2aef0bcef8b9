//! Frames to records: which topic, which key, how many records a change becomes.
//!
//! | change | records |
//! |---|---|
//! | insert, update | the value |
//! | update that changes the key | a tombstone for the old key, then the value |
//! | delete | the envelope where there is one, then a tombstone |
//!
//! All records of one change carry its position, so that `(hw.lsn, hw.seq)` names it.

use std::collections::HashMap;

use headwater_protocol::frame::{
    Begin, Change, Commit, Frame, Hello, Op, PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN,
    Quarantine, Relation, Truncate,
};
use headwater_protocol::{Lsn, VERSION};

use super::fetch::{Fetch, Fetched};
use super::session::Session;
use crate::cli::{StreamOptions, ToastMode, TruncateMode, UnkeyedMode, ValueEnvelope};
use crate::error::{Error, ErrorKind, Result};
use crate::route::Router;
use crate::sink::{Headers, Keying, Record, Token, TopicId};
use crate::source::sql;

/// The frames' reader. What it knows of relations lasts one session.
pub(super) struct Applier<'a> {
    options: &'a StreamOptions,
    router: &'a mut Router,
    fetch: Fetch<'a>,
    relations: HashMap<u32, Target>,
    transaction: Option<Transaction>,
}

/// A relation and where its rows go.
struct Target {
    schema: String,
    table: String,
    key_columns: Vec<String>,
    /// Absent for a table without key that is left out.
    topic: Option<TopicId>,
}

/// The transaction that is arriving.
#[derive(Clone, Copy)]
struct Transaction {
    token: Token,
    xid: u32,
    end_lsn: Lsn,
    commit_time: i64,
    /// Change, truncate, message and quarantine frames so far.
    changes: u64,
}

impl Transaction {
    fn headers<'h>(&self, op: &'static str, seq: u64) -> Headers<'h> {
        Headers {
            op,
            lsn: self.end_lsn,
            seq,
            transaction: Some((self.xid, self.commit_time)),
            unchanged: &[],
            fetched: false,
        }
    }
}

impl<'a> Applier<'a> {
    /// Knows nothing of any relation yet.
    pub(super) fn new(
        options: &'a StreamOptions,
        router: &'a mut Router,
        fetch: Fetch<'a>,
    ) -> Self {
        Applier {
            options,
            router,
            fetch,
            relations: HashMap::new(),
            transaction: None,
        }
    }

    /// The session broke: forgets what belongs to it and returns the transaction that
    /// was arriving, which will come again.
    pub(super) fn end_session(&mut self) -> Option<Token> {
        self.relations.clear();
        self.fetch.disconnect();
        self.transaction.take().map(|transaction| transaction.token)
    }

    /// Takes one frame.
    pub(super) fn frame(&mut self, frame: &Frame<'_>, session: &mut Session<'_, '_>) -> Result<()> {
        match frame {
            Frame::Hello(hello) => greet(hello),
            Frame::Begin(begin) => self.begin(begin, session),
            Frame::Relation(relation) => self.relation(relation, session),
            Frame::Change(change) => self.change(change, session),
            Frame::Truncate(truncate) => self.truncate(truncate, session),
            Frame::Quarantine(quarantine) => Err(self.quarantine(quarantine)),
            Frame::Commit(commit) => self.commit(commit, session),
            Frame::Message(message) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.changes += 1;
                }
                tracing::debug!(lsn = %message.lsn, "logical message left out");
                Ok(())
            }
            _ => Err(broken("a frame that this release does not know")),
        }
    }

    fn begin(&mut self, begin: &Begin, session: &mut Session<'_, '_>) -> Result<()> {
        if self.transaction.is_some() {
            return Err(broken("a transaction within a transaction"));
        }
        self.transaction = Some(Transaction {
            token: session.delivery.ack.begin(begin.end_lsn),
            xid: begin.xid,
            end_lsn: begin.end_lsn,
            commit_time: begin.commit_time,
            changes: 0,
        });
        Ok(())
    }

    fn commit(&mut self, commit: &Commit, session: &mut Session<'_, '_>) -> Result<()> {
        let transaction = self
            .transaction
            .take()
            .ok_or_else(|| broken("a commit without its transaction"))?;
        if transaction.changes != commit.changes || transaction.end_lsn != commit.end_lsn {
            return Err(Error::failed(format!(
                "transaction {} that ends at {} arrived with {} changes, the server sent {}",
                transaction.xid, transaction.end_lsn, transaction.changes, commit.changes
            ))
            .with_hint(
                "This is a bug: nothing of the transaction is acknowledged; please report it.",
            ));
        }
        session.delivery.ack.commit(transaction.token);
        Ok(())
    }

    fn relation(&mut self, relation: &Relation<'_>, session: &mut Session<'_, '_>) -> Result<()> {
        let is_left_out = !relation.is_keyed() && self.options.unkeyed == UnkeyedMode::Skip;
        let topic = if is_left_out {
            None
        } else {
            let name = self.router.topic(relation.schema, relation.table)?;
            Some(
                session
                    .delivery
                    .sink
                    .open_topic(&name, Keying::of(relation.is_keyed()))?,
            )
        };
        let key_columns = relation.columns.iter().filter(|column| column.is_key);
        let target = Target {
            schema: relation.schema.to_owned(),
            table: relation.table.to_owned(),
            key_columns: key_columns.map(|column| column.name.to_owned()).collect(),
            topic,
        };
        self.fetch.forget(relation.id);
        self.relations.insert(relation.id, target);
        Ok(())
    }

    fn change(&mut self, change: &Change<'_>, session: &mut Session<'_, '_>) -> Result<()> {
        let transaction = self
            .transaction
            .as_mut()
            .ok_or_else(|| broken("a change outside a transaction"))?;
        transaction.changes += 1;
        let transaction = *transaction;
        let target = self
            .relations
            .get(&change.relation)
            .ok_or_else(|| broken("a change of a relation that was not described"))?;
        let Some(topic) = target.topic else {
            return Ok(());
        };
        if change.key.is_none() && self.options.unkeyed == UnkeyedMode::Refuse {
            return Err(target.unkeyed(&transaction, change.seq));
        }
        let send = |session: &mut Session<'_, '_>, key, value, headers| {
            let record = Record {
                topic,
                key,
                value,
                headers,
            };
            session.send(&record, transaction.token)
        };
        if change.old_key.is_some() {
            let headers = transaction.headers(Op::Delete.code(), change.seq);
            send(session, change.old_key, None, headers)?;
        }
        let mut headers = transaction.headers(change.op.code(), change.seq);
        if change.op == Op::Delete {
            if change.value.is_some() {
                send(session, change.key, change.value, headers)?;
            }
            if change.key.is_some() {
                send(session, change.key, None, headers)?;
            }
            return Ok(());
        }
        if !change.unchanged.is_empty() && self.options.toast == ToastMode::RequireFull {
            return Err(target.unchanged(&transaction, change));
        }
        headers.unchanged = &change.unchanged;
        let by_fetching = !change.unchanged.is_empty()
            && self.options.toast == ToastMode::Fetch
            && self.options.envelope == ValueEnvelope::Row;
        match change.key {
            Some(key) if by_fetching => {
                let fetched = self.fetch.row(
                    change.relation,
                    &target.key_columns,
                    key,
                    transaction.xid,
                    &mut || session.tick_blocked(),
                )?;
                if let Fetched::Row(row) = fetched {
                    let headers = Headers {
                        unchanged: &[],
                        fetched: true,
                        ..headers
                    };
                    send(session, change.key, Some(row.value()?), headers)?;
                }
                Ok(())
            }
            _ => send(session, change.key, change.value, headers),
        }
    }

    fn truncate(&mut self, truncate: &Truncate<'_>, session: &mut Session<'_, '_>) -> Result<()> {
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

    fn quarantine(&self, quarantine: &Quarantine<'_>) -> Error {
        let name = self
            .relations
            .get(&quarantine.relation)
            .map_or_else(|| "an unknown relation".to_owned(), Target::name);
        let lsn = self
            .transaction
            .map_or(Lsn::INVALID, |transaction| transaction.end_lsn);
        let key = if quarantine.key.is_some() {
            "its key is known"
        } else {
            "its key is not known"
        };
        Error::new(
            ErrorKind::Data,
            format!(
                "a change of {name} at {lsn}:{} cannot be encoded ({key}): {}",
                quarantine.seq, quarantine.reason
            ),
        )
        .with_hint(format!(
            "To go on without this table, leave it out with --exclude-table '{name}'."
        ))
    }
}

impl Target {
    fn name(&self) -> String {
        format!("{}.{}", self.schema, self.table)
    }

    fn alter(&self, clause: &str) -> String {
        format!(
            "ALTER TABLE {} {clause}",
            sql::qualified(&self.schema, &self.table)
        )
    }

    fn unkeyed(&self, transaction: &Transaction, seq: u64) -> Error {
        Error::new(
            ErrorKind::Data,
            format!(
                "a change of {} at {}:{seq} has no key",
                self.name(),
                transaction.end_lsn
            ),
        )
        .with_hint(format!(
            "Leave such tables out with --unkeyed skip or send them with --unkeyed send; for the \
             future, {}.",
            self.alter("ADD PRIMARY KEY (…)")
        ))
    }

    fn unchanged(&self, transaction: &Transaction, change: &Change<'_>) -> Error {
        Error::new(
            ErrorKind::Data,
            format!(
                "an update of {} at {}:{} left columns out of the WAL: {}",
                self.name(),
                transaction.end_lsn,
                change.seq,
                change.unchanged.join(", ")
            ),
        )
        .with_hint(format!(
            "Go on with --toast fetch; for the future, {}.",
            self.alter("REPLICA IDENTITY FULL")
        ))
    }

    fn truncated(&self, transaction: &Transaction, seq: u64) -> Error {
        Error::new(
            ErrorKind::Data,
            format!(
                "{} was truncated at {}:{seq}",
                self.name(),
                transaction.end_lsn
            ),
        )
        .with_hint(
            "Go on with --truncate tombstone, which empties the topic, or --truncate ignore, \
             which keeps its records.",
        )
    }
}

fn greet(hello: &Hello<'_>) -> Result<()> {
    if !(PROTOCOL_VERSION_MIN..=PROTOCOL_VERSION_MAX).contains(&hello.protocol) {
        return Err(Error::failed(format!(
            "the plugin speaks protocol {}, this client {PROTOCOL_VERSION_MIN} to {PROTOCOL_VERSION_MAX}",
            hello.protocol
        ))
        .with_hint("Install the same release on both sides."));
    }
    if hello.plugin_version != VERSION {
        tracing::warn!(
            plugin = hello.plugin_version,
            client = VERSION,
            "releases differ"
        );
    }
    Ok(())
}

fn broken(what: &str) -> Error {
    Error::failed(format!("the plugin sent {what}"))
        .with_hint("Install the same release on both sides; if it is, please report this.")
}
