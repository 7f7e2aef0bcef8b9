//! What schemas make of a change: its parts get the ids that they are read by, it waits for them, or
//! it cannot be sent because the registry does not take its schema.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use headwater_protocol::frame::{Change, Schemas as SchemasFrame};

use super::super::fetch::FetchedRow;
use super::held::{HeldChange, RowChange, What};
use super::target::{SchemaTexts, Target};
use super::transaction::Transaction;
use super::undelivered::Undelivered;
use super::{Applier, Session, broken};
use crate::error::{Error, Result};
use crate::registry::{Ids, Refused, Schemas, Stamp, Standing};
use crate::sink::{Delivered, Headers, Record, Token};
use crate::snapshot_request::RowsOf;

/// How long to wait for the registry at a time: status updates come in between.
const WAIT: std::time::Duration = std::time::Duration::from_millis(100);

/// Whether a change can be sent.
pub(super) enum Readiness {
    /// As it is.
    Bare,
    /// With these ids.
    Stamped(Ids),
    /// When the registry has answered.
    Waiting,
    /// Not at all.
    Refused(Arc<Refused>),
}

/// What came of sending a change.
pub(super) enum Sent {
    Sent,
    /// Nothing of it was: the row that was read for it has schemas of which the ids are not known.
    Awaits(Box<Schemas>),
}

/// What cannot be sent, without ids.
struct Lost<'a> {
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl Applier<'_> {
    /// The schemas of a relation that was just described.
    pub(super) fn schemas(&mut self, schemas: &SchemasFrame<'_>) -> Result<()> {
        if self.registrar.is_none() {
            return Err(broken("schemas, which the client did not ask for"));
        }
        let target = self
            .relations
            .get_mut(&schemas.relation)
            .and_then(Rc::get_mut)
            .ok_or_else(|| broken("schemas of a relation that was not described"))?;
        target.schemas = Some(SchemaTexts {
            key: schemas.key.map(str::to_owned),
            value: schemas.value.to_owned(),
        });
        Ok(())
    }

    pub(super) fn readiness(&self, target: &Target) -> Result<Readiness> {
        let Some(registrar) = self.registrar else {
            return Ok(Readiness::Bare);
        };
        let schemas = target.opened().and_then(|opened| opened.schemas.as_ref());
        let schemas = schemas.ok_or_else(|| broken("a change without the schemas of its table"))?;
        Ok(match registrar.standing(schemas)? {
            Standing::Known(ids) => Readiness::Stamped(ids),
            Standing::Waiting => Readiness::Waiting,
            Standing::Refused(refused) => Readiness::Refused(refused),
        })
    }

    /// Sends a change that waits for nothing.
    pub(super) fn send_change(
        &mut self,
        target: &Target,
        transaction: &Transaction,
        change: &Change<'_>,
        readiness: &Readiness,
        session: &mut Session<'_, '_>,
    ) -> Result<Sent> {
        match readiness {
            Readiness::Bare => self.apply(target, transaction, change, change.key, session),
            Readiness::Stamped(ids) => {
                // Taken out, so that what is stamped does not borrow all of this.
                let mut stamp = std::mem::take(&mut self.stamp);
                let stamped = stamp.change(*ids, change);
                let sent = self.apply(target, transaction, &stamped, change.key, session);
                self.stamp = stamp;
                sent
            }
            Readiness::Refused(refused) => {
                let table = (&*target.schema, &*target.table);
                let lost = Lost {
                    key: change.key,
                    value: change.value,
                    headers: transaction.headers(change.op.code(), change.seq),
                };
                self.chunks.lose(table, transaction.xid);
                self.refuse(target, &lost, transaction.token, refused, session)?;
                Ok(Sent::Sent)
            }
            Readiness::Waiting => Err(unknown_id()),
        }
    }

    /// The registry does not take the table's schema.
    fn refuse(
        &self,
        target: &Target,
        lost: &Lost<'_>,
        token: Token,
        refused: &Refused,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        let Some(dead_letters) = self.policy.dead_letters else {
            return Err(refused.error(&self.options.by_dead_letters()));
        };
        let undelivered = Undelivered {
            topic: target.topic(),
            key: lost.key,
            value: lost.value,
            headers: lost.headers,
            reason: refused.reason(),
            size: None,
        };
        self.policy
            .bury(dead_letters, target, &undelivered, token, session)
    }

    /// Sends a change, or keeps it until it can be sent.
    pub(super) fn send_or_hold(
        &mut self,
        target: &Rc<Target>,
        transaction: &Transaction,
        change: &Change<'_>,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        let held = |awaited| HeldChange {
            awaited,
            ..HeldChange::new(target, transaction, What::Row(RowChange::new(change)))
        };
        if self.held.holds(target) {
            return self.hold(held(None), session);
        }
        let readiness = self.readiness(target)?;
        if matches!(readiness, Readiness::Waiting) {
            return self.hold(held(None), session);
        }
        match self.send_change(target, transaction, change, &readiness, session)? {
            Sent::Sent => Ok(()),
            Sent::Awaits(schemas) => self.hold(held(Some(schemas)), session),
        }
    }

    /// Keeps a change until the ids of its schemas are known, or until there is room for it.
    pub(super) fn hold(&mut self, change: HeldChange, session: &mut Session<'_, '_>) -> Result<()> {
        session.delivery.ack.sent(change.transaction.token);
        self.held.push(change);
        self.tell_held(session);
        while self.held.is_full(session.delivery.ack.in_flight()) {
            self.wait_for_registry(session)?;
        }
        Ok(())
    }

    pub(super) fn tell_held(&self, session: &mut Session<'_, '_>) {
        let in_flight = session.delivery.ack.in_flight();
        session.delivery.tally.held = self.held.back(in_flight);
    }

    /// Sends what was kept and waits for nothing any more.
    pub(super) fn send_held(&mut self, session: &mut Session<'_, '_>) -> Result<()> {
        if let Some(registrar) = self.registrar {
            registrar.check()?;
        }
        if self.held.is_empty() {
            return Ok(());
        }
        for table in self.held.tables() {
            self.send_held_table(&table, session)?;
        }
        while self.held.is_full(session.delivery.ack.in_flight()) {
            self.wait_for_registry(session)?;
        }
        Ok(())
    }

    fn send_held_table(&mut self, table: &RowsOf, session: &mut Session<'_, '_>) -> Result<()> {
        while let Some(first) = self.held.first(table) {
            if self.has_to_wait(first)? {
                return Ok(());
            }
            let Some(mut held) = self.held.pop(table) else {
                return Ok(());
            };
            match self.send_one_held(&held, session) {
                Ok(Sent::Sent) => {}
                Ok(Sent::Awaits(schemas)) => {
                    held.awaited = Some(schemas);
                    self.held.put_back(held);
                    return Ok(());
                }
                Err(error) => {
                    // Records of it that were sent come again, in their order.
                    self.held.put_back(held);
                    return Err(error);
                }
            }
            // Its records are counted by now, if it has any.
            session.delivery.ack.delivered(Delivered {
                token: held.transaction.token,
                count: 1,
            });
        }
        Ok(())
    }

    fn has_to_wait(&self, held: &HeldChange) -> Result<bool> {
        if let (Some(registrar), Some(awaited)) = (self.registrar, &held.awaited) {
            return Ok(matches!(registrar.standing(awaited)?, Standing::Waiting));
        }
        Ok(match held.what {
            What::Gone => false,
            _ => matches!(self.readiness(&held.target)?, Readiness::Waiting),
        })
    }

    fn send_one_held(&mut self, held: &HeldChange, session: &mut Session<'_, '_>) -> Result<Sent> {
        let HeldChange {
            target,
            transaction,
            what,
            ..
        } = held;
        match what {
            What::Row(row) => {
                let readiness = self.readiness(target)?;
                self.send_change(target, transaction, &row.change(), &readiness, session)
            }
            What::Truncate { seq, event } => {
                let readiness = self.readiness(target)?;
                self.send_event(target, transaction, *seq, event, &readiness, session)
                    .map(|()| Sent::Sent)
            }
            What::Gone => {
                forget_marks(target, transaction, session);
                Ok(Sent::Sent)
            }
        }
    }

    /// Waits until nothing of this table is kept.
    pub(super) fn send_held_of(
        &mut self,
        target: &Target,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        while self.held.holds(target) {
            self.wait_for_registry(session)?;
        }
        Ok(())
    }

    fn wait_for_registry(&mut self, session: &mut Session<'_, '_>) -> Result<()> {
        for table in self.held.tables() {
            self.send_held_table(&table, session)?;
        }
        if let Some(registrar) = self.registrar.filter(|_| !self.held.is_empty()) {
            registrar.wait(WAIT);
        }
        session.tick_blocked()
    }

    /// The ids of a relation's schemas, waiting for them as long as it takes; none where records
    /// have no schema.
    fn awaited_ids(
        &self,
        schemas: Option<&Schemas>,
        session: &mut Session<'_, '_>,
    ) -> Result<Option<Result<Ids, Arc<Refused>>>> {
        let (Some(registrar), Some(schemas)) = (self.registrar, schemas) else {
            return Ok(None);
        };
        registrar
            .await_ids(schemas, &mut || session.tick_blocked())
            .map(Some)
    }

    /// A key as the topic has it, for a dead letter.
    pub(super) fn stamped_key<'k>(
        &mut self,
        target: &Target,
        key: Option<&'k [u8]>,
        session: &mut Session<'_, '_>,
    ) -> Result<Option<Cow<'k, [u8]>>> {
        self.send_held_of(target, session)?;
        let Some(key) = key else {
            return Ok(None);
        };
        let schemas = target.opened().and_then(|opened| opened.schemas.as_ref());
        Ok(Some(match self.awaited_ids(schemas, session)? {
            Some(Ok(Ids { key: Some(id), .. })) => Cow::Owned(Stamp::owned(id, key)),
            _ => Cow::Borrowed(key),
        }))
    }

    /// Sends what tells of a truncate, or keeps it until it can be sent.
    pub(super) fn send_or_hold_event(
        &mut self,
        target: &Rc<Target>,
        transaction: &Transaction,
        seq: u64,
        event: &[u8],
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        if !self.held.holds(target) {
            let readiness = self.readiness(target)?;
            if !matches!(readiness, Readiness::Waiting) {
                return self.send_event(target, transaction, seq, event, &readiness, session);
            }
        }
        let event = event.into();
        let held = HeldChange::new(target, transaction, What::Truncate { seq, event });
        self.hold(held, session)
    }

    fn send_event(
        &mut self,
        target: &Target,
        transaction: &Transaction,
        seq: u64,
        event: &[u8],
        readiness: &Readiness,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        let Some(topic) = target.topic() else {
            return Ok(());
        };
        let headers = transaction.headers("t", seq);
        let value = match readiness {
            Readiness::Bare => event,
            Readiness::Stamped(ids) => self.stamp.bytes(ids.value, event),
            Readiness::Waiting => return Err(unknown_id()),
            Readiness::Refused(refused) => {
                let lost = Lost {
                    key: None,
                    value: Some(event),
                    headers,
                };
                return self.refuse(target, &lost, transaction.token, refused, session);
            }
        };
        let record = Record {
            topic,
            key: None,
            value: Some(value),
            headers,
        };
        self.policy
            .deliver(target, &record, transaction.token, session)
    }

    /// The table was dropped: marks of it, also those that what is kept may make, are of no use.
    pub(super) fn drop_table(
        &mut self,
        target: &Rc<Target>,
        transaction: &Transaction,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        if self.held.holds(target) {
            let held = HeldChange::new(target, transaction, What::Gone);
            return self.hold(held, session);
        }
        forget_marks(target, transaction, session);
        Ok(())
    }

    /// The value of a row that was read again, which may be of a newer schema than the change.
    pub(super) fn fetched_value(&self, target: &Target, row: &FetchedRow) -> Result<Renewed> {
        let value = match row.value()? {
            Ok(value) => value,
            Err(reason) => return Ok(Renewed::Unreadable(reason)),
        };
        let (Some(opened), Some(registrar)) = (target.opened(), self.registrar) else {
            return Ok(Renewed::Value(value.to_owned()));
        };
        let (key, of_value) = row
            .schemas()
            .ok_or_else(|| broken("a row without schemas"))?;
        let newer;
        let schemas = match &opened.schemas {
            Some(own) if own.are(key, of_value) => own,
            _ => {
                newer = Schemas::new(target.name(), &opened.topic_name, key, of_value);
                &newer
            }
        };
        Ok(match registrar.standing(schemas)? {
            Standing::Known(ids) => Renewed::Value(Stamp::owned(ids.value, value)),
            Standing::Waiting => Renewed::Awaits(Box::new(schemas.clone())),
            Standing::Refused(refused) => Renewed::Unreadable(refused.reason().to_owned()),
        })
    }
}

/// What a row that was read again is sent as.
pub(super) enum Renewed {
    Value(Vec<u8>),
    /// There is none, for this reason.
    Unreadable(String),
    /// The ids of these are not known yet.
    Awaits(Box<Schemas>),
}

fn unknown_id() -> Error {
    Error::failed("a change was sent before its schema's id")
}

fn forget_marks(target: &Target, transaction: &Transaction, session: &Session<'_, '_>) {
    let (schema, table) = (&target.schema, &target.table);
    session.delivery.positions.forget_stale(schema, table);
    tracing::warn!(
        table = %target.name(),
        since = %transaction.end_lsn,
        "table was dropped: its records stay in the topic; to remove them, delete its topic before \
         another table has the name"
    );
}
