//! Frames to records: which topic, which key, how many records a change becomes.
//!
//! | change | records |
//! |---|---|
//! | insert, update | the value |
//! | update that changes the key | a tombstone for the old key, then the value |
//! | delete | the envelope where there is one, then a tombstone |
//! | change whose schema the registry does not take | none, or a dead letter: [`schemas`] |
//! | truncate | as `--truncate` says: [`truncate`] |
//! | quarantined change | none, or a dead letter: [`quarantine`] |
//! | record that its topic does not take | none, or a dead letter: [`undelivered`] |
//! | logical message | its content, in a topic of its own: [`message`] |
//!
//! All records of one change carry its position, so that `(hw.lsn, hw.seq)` names it.

mod held;
mod message;
mod notices;
mod quarantine;
mod schemas;
mod target;
mod transaction;
mod truncate;
mod undelivered;

use std::collections::HashMap;
use std::rc::Rc;

use headwater_protocol::frame::{
    Begin, Change, Commit, Frame, Hello, Op, PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN, Relation,
    Stale,
};
use headwater_protocol::{Lsn, VERSION};

pub(super) use self::held::Held;
use self::notices::{Notice, Notices};
use self::schemas::{Renewed, Sent};
use self::target::Target;
use self::transaction::Transaction;
pub(super) use self::undelivered::Policy;
use self::undelivered::Undelivered;
use super::chunks::Chunks;
use super::fetch::{Fetch, Fetched};
use super::session::Session;
use crate::ack::Ack;
use crate::cli::{StreamOptions, ToastMode, UnkeyedMode, ValueEnvelope};
use crate::dead_letters::DeadLetters;
use crate::error::{Error, Result};
use crate::registry::{Registrar, Schemas, Stamp};
use crate::route::Router;
use crate::sink::{Delivered, Keying, Record, TopicId};

/// Why a table is stale of which a row could not be fetched.
const LOST_ROW: &str = "it or its key has changed since an update that left large values out of the \
     WAL, so that the row cannot be read";

/// What the record of a change that is no delete has.
enum NewValue {
    AsItCame,
    /// The row as it is now.
    Fetched(Vec<u8>),
    /// The row as it is now cannot be sent, for this reason.
    Unreadable(String),
    /// There is no such row: the change that removed it follows.
    Nothing,
    /// Whether there is such a row cannot be told.
    Lost,
    /// The row as it is now has schemas of which the ids are not known.
    Awaits(Box<Schemas>),
}

/// The frames' reader. What it knows of relations lasts one session.
pub(super) struct Applier<'a> {
    options: &'a StreamOptions,
    policy: Policy<'a>,
    router: &'a mut Router,
    fetch: Fetch<'a>,
    /// By which the ids of schemas are learned; none where records have no schema.
    registrar: Option<&'a Registrar>,
    relations: HashMap<u32, Rc<Target>>,
    /// Changes that wait for an id.
    held: Held,
    stamp: Stamp,
    transaction: Option<Transaction>,
    notices: Notices,
    /// The topic of logical messages, once one has come.
    messages: Option<TopicId>,
    /// What is copied again meanwhile.
    chunks: Chunks<'a>,
}

impl<'a> Applier<'a> {
    /// Knows nothing of any relation yet.
    pub(super) fn new(
        options: &'a StreamOptions,
        dead_letters: Option<&'a DeadLetters>,
        router: &'a mut Router,
        fetch: Fetch<'a>,
        chunks: Chunks<'a>,
        registrar: Option<&'a Registrar>,
    ) -> Self {
        Applier {
            options,
            policy: Policy {
                options,
                dead_letters,
            },
            router,
            fetch,
            registrar,
            relations: HashMap::new(),
            held: Held::default(),
            stamp: Stamp::default(),
            transaction: None,
            notices: Notices::default(),
            messages: None,
            chunks,
        }
    }

    /// The session broke: forgets what belongs to it, and the transaction that was arriving,
    /// which will come again.
    pub(super) fn end_session(&mut self, ack: &mut Ack) {
        self.relations.clear();
        self.fetch.disconnect();
        if let Some(transaction) = self.transaction.take() {
            let token = transaction.token;
            let count = self.held.forget(token);
            ack.abandon(token);
            ack.delivered(Delivered { token, count });
        }
    }

    /// Does what is due without a frame. To be called now and then.
    pub(super) fn tick(&mut self, session: &mut Session<'_, '_>) -> Result<()> {
        self.send_held(session)?;
        self.tell_held(session);
        session.delivery.tally.copies = self.chunks.queued();
        self.chunks.tick(session)
    }

    /// Whether something waits for an answer of the registry.
    pub(super) fn is_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes one frame.
    pub(super) fn frame(&mut self, frame: &Frame<'_>, session: &mut Session<'_, '_>) -> Result<()> {
        match frame {
            Frame::Hello(hello) => greet(hello),
            Frame::Begin(begin) => self.begin(begin, session),
            Frame::Relation(relation) => {
                self.relation(relation);
                Ok(())
            }
            Frame::Schemas(schemas) => self.schemas(schemas),
            Frame::Change(change) => self.change(change, session),
            Frame::Truncate(truncate) => self.truncate(truncate, session),
            Frame::Quarantine(quarantine) => self.quarantine(quarantine, session),
            Frame::QuarantinedMessage(message) => self.quarantined_message(message, session),
            Frame::Stale(stale) => self.stale(stale, session),
            Frame::Commit(commit) => self.commit(commit, session),
            Frame::Message(message) => self.message(message, session),
            _ => Err(broken("a frame that this release does not know")),
        }
    }

    fn begin(&mut self, begin: &Begin, session: &mut Session<'_, '_>) -> Result<()> {
        if self.transaction.is_some() {
            return Err(broken("a transaction within a transaction"));
        }
        self.chunks.begin();
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
        let (token, end_lsn) = (transaction.token, transaction.end_lsn);
        if let Err(error) = self.chunks.commit(token, end_lsn, &self.held, session) {
            // It comes again with the next session, if there is one.
            self.transaction = Some(transaction);
            return Err(error);
        }
        session.delivery.ack.commit(token);
        let commit_time = transaction.commit_time;
        session.delivery.tally.committed(end_lsn, commit_time);
        Ok(())
    }

    fn relation(&mut self, relation: &Relation<'_>) {
        let is_sent = relation.is_keyed() || self.options.unkeyed == UnkeyedMode::Send;
        let target = Target::new(relation, is_sent);
        if !target.is_sent && self.options.unkeyed == UnkeyedMode::Skip {
            let lsn = self.transaction_end();
            self.notices.say(Notice::Skipped, relation.id, &target, lsn);
        }
        self.fetch.forget(relation.id);
        self.relations.insert(relation.id, Rc::new(target));
    }

    /// The relation of a change, with its topic open if its rows are sent: its first record opens
    /// it, so that one which is described because it was dropped needs none.
    fn target(
        &mut self,
        relation: u32,
        what: &str,
        session: &Session<'_, '_>,
    ) -> Result<Rc<Target>> {
        let target = self.described(relation, what)?;
        if target.is_sent && target.opened().is_none() {
            let name = self.router.topic(&target.schema, &target.table)?;
            let keying = Keying::of(!target.key_columns.is_empty());
            let topic = session.delivery.sink.open_topic(&name, keying)?;
            target.open(topic, name);
        }
        Ok(target)
    }

    fn described(&self, relation: u32, what: &str) -> Result<Rc<Target>> {
        let target = self.relations.get(&relation);
        target
            .map(Rc::clone)
            .ok_or_else(|| broken(&format!("{what} of a relation that was not described")))
    }

    fn change(&mut self, change: &Change<'_>, session: &mut Session<'_, '_>) -> Result<()> {
        let transaction = self
            .transaction
            .as_mut()
            .ok_or_else(|| broken("a change outside a transaction"))?;
        transaction.changes += 1;
        let transaction = *transaction;
        session.delivery.tally.change(change.op);
        let target = self.target(change.relation, "a change", session)?;
        if change.key.is_none() && self.options.unkeyed == UnkeyedMode::Refuse {
            return Err(target.unkeyed(&transaction, change.seq));
        }
        if target.topic().is_none() {
            return Ok(());
        }
        self.send_or_hold(&target, &transaction, change, session)
    }

    /// Sends the records of a change, now or after it was held. `bare_key` is its key without the
    /// schema's id, by which a row is looked up.
    fn apply(
        &mut self,
        target: &Target,
        transaction: &Transaction,
        change: &Change<'_>,
        bare_key: Option<&[u8]>,
        session: &mut Session<'_, '_>,
    ) -> Result<Sent> {
        let Some(topic) = target.topic() else {
            return Ok(Sent::Sent);
        };
        let is_incomplete = !change.unchanged.is_empty() && change.op != Op::Delete;
        if is_incomplete && self.options.toast == ToastMode::RequireFull {
            return Err(target.unchanged(transaction, change));
        }
        // Before anything is sent: what is to be sent may have to wait.
        let by_fetching = is_incomplete
            && self.options.toast == ToastMode::Fetch
            && self.options.envelope == ValueEnvelope::Row;
        let value = match bare_key {
            Some(key) if by_fetching => self.fetched(target, transaction, change, key, session)?,
            _ => NewValue::AsItCame,
        };
        let value = match value {
            NewValue::Awaits(schemas) => return Ok(Sent::Awaits(schemas)),
            value => value,
        };
        let table = (&*target.schema, &*target.table);
        for key in [change.old_key, change.key].into_iter().flatten() {
            self.chunks.touch(table, topic, key, transaction.xid);
        }
        if change.key.is_none() {
            self.chunks.lose(table, transaction.xid);
        }
        let policy = self.policy;
        let send = |session: &mut Session<'_, '_>, key, value, headers| {
            let record = Record {
                topic,
                key,
                value,
                headers,
            };
            policy.deliver(target, &record, transaction.token, session)
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
            } else if change.value.is_none() {
                let (relation, lsn) = (change.relation, transaction.end_lsn);
                self.notices.say(Notice::Deletes, relation, target, lsn);
            }
            return Ok(Sent::Sent);
        }
        match value {
            NewValue::AsItCame => {
                headers.unchanged = &change.unchanged;
                send(session, change.key, change.value, headers)?;
            }
            NewValue::Fetched(value) => {
                headers.fetched = true;
                send(session, change.key, Some(&value), headers)?;
            }
            NewValue::Unreadable(reason) => {
                let Some(dead_letters) = policy.dead_letters else {
                    let (seq, options) = (change.seq, self.options);
                    return Err(target.unreadable(transaction, seq, &reason, options));
                };
                headers.fetched = true;
                let undelivered = Undelivered {
                    topic: Some(topic),
                    key: change.key,
                    value: None,
                    headers,
                    reason: &reason,
                    size: None,
                };
                let token = transaction.token;
                policy.bury(dead_letters, target, &undelivered, token, session)?;
            }
            NewValue::Lost => {
                let since = transaction.end_lsn;
                self.chunks.stale(&target.schema, &target.table, since);
                policy.mark_stale(target, since, LOST_ROW, session);
            }
            NewValue::Nothing | NewValue::Awaits(_) => {}
        }
        Ok(Sent::Sent)
    }

    /// The row of a change that has left large values out of the WAL.
    fn fetched(
        &mut self,
        target: &Target,
        transaction: &Transaction,
        change: &Change<'_>,
        bare_key: &[u8],
        session: &mut Session<'_, '_>,
    ) -> Result<NewValue> {
        let Some(key) = target.lookup_key(bare_key) else {
            return Ok(NewValue::Lost);
        };
        let fetched = self.fetch.row(
            change.relation,
            &target.key_columns,
            &key,
            transaction.xid,
            &mut || session.tick_blocked(),
        )?;
        Ok(match fetched {
            Fetched::Nothing => NewValue::Nothing,
            Fetched::Lost => NewValue::Lost,
            Fetched::Row(row) => {
                session.delivery.tally.fetched_rows += 1;
                match self.fetched_value(target, &row)? {
                    Renewed::Value(value) => NewValue::Fetched(value),
                    Renewed::Unreadable(reason) => NewValue::Unreadable(reason),
                    Renewed::Awaits(schemas) => NewValue::Awaits(schemas),
                }
            }
        })
    }

    fn stale(&mut self, stale: &Stale<'_>, session: &mut Session<'_, '_>) -> Result<()> {
        let transaction = self
            .transaction
            .as_mut()
            .ok_or_else(|| broken("a stale table outside a transaction"))?;
        transaction.changes += 1;
        let transaction = *transaction;
        let since = transaction.end_lsn;
        let target = self.described(stale.relation, "a mark")?;
        if stale.gone {
            return self.drop_table(&target, &transaction, session);
        }
        self.chunks.stale(&target.schema, &target.table, since);
        self.policy
            .mark_stale(&target, since, stale.reason, session);
        Ok(())
    }

    fn transaction_end(&self) -> Lsn {
        self.transaction
            .map_or(Lsn::INVALID, |transaction| transaction.end_lsn)
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
