//! What schemas make of a change: its parts get the ids that they are read by, it waits for them, or
//! it cannot be sent because the registry does not take its schema.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

use headwater_protocol::frame::{Change, Schemas as SchemasFrame};

use super::super::fetch::FetchedRow;
use super::held::HeldChange;
use super::target::{SchemaTexts, Target};
use super::transaction::Transaction;
use super::undelivered::Undelivered;
use super::{Applier, Session, broken};
use crate::error::{Error, Result};
use crate::registry::{Ids, Refused, Schemas, Stamp, Standing};
use crate::sink::{Delivered, Headers, Record, TopicId};
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
    ) -> Result<()> {
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
                self.refuse(target, transaction, change, refused, session)
            }
            Readiness::Waiting => Err(Error::failed("a change was sent before its schema's id")),
        }
    }

    /// The registry does not take the table's schema.
    fn refuse(
        &mut self,
        target: &Target,
        transaction: &Transaction,
        change: &Change<'_>,
        refused: &Refused,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        let Some(dead_letters) = self.policy.dead_letters else {
            return Err(refused.error(&self.options.by_dead_letters()));
        };
        let table = (&*target.schema, &*target.table);
        self.chunks.lose(table, transaction.xid);
        let headers = transaction.headers(change.op.code(), change.seq);
        let reason = refused.reason();
        let undelivered = Undelivered {
            topic: target.topic(),
            key: change.key,
            value: change.value,
            headers,
            reason: &reason,
            size: None,
        };
        let token = transaction.token;
        self.policy
            .bury(dead_letters, target, &undelivered, token, session)
    }

    /// Keeps a change until the ids of its schemas are known, or until there is room for it.
    pub(super) fn hold(
        &mut self,
        target: &Rc<Target>,
        transaction: &Transaction,
        change: &Change<'_>,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        session.delivery.ack.sent(transaction.token);
        self.held.push(HeldChange::new(target, transaction, change));
        while self.held.is_full(session.delivery.ack.in_flight()) {
            self.wait_for_registry(session)?;
        }
        Ok(())
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
            let readiness = self.readiness(&first.target)?;
            if matches!(readiness, Readiness::Waiting) {
                return Ok(());
            }
            let Some(held) = self.held.pop(table) else {
                return Ok(());
            };
            let HeldChange {
                target,
                transaction,
                ..
            } = &held;
            let sent = self.send_change(target, transaction, &held.change(), &readiness, session);
            if let Err(error) = sent {
                // Records of it that were sent come again, in their order.
                self.held.put_back(held);
                return Err(error);
            }
            // Its records are counted by now, if it has any.
            session.delivery.ack.delivered(Delivered {
                token: held.transaction.token,
                count: 1,
            });
        }
        Ok(())
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

    /// Waits until nothing is kept.
    pub(super) fn send_all_held(&mut self, session: &mut Session<'_, '_>) -> Result<()> {
        while !self.held.is_empty() {
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

    /// Sends what tells of a truncate.
    pub(super) fn send_event(
        &mut self,
        target: &Target,
        topic: TopicId,
        value: &[u8],
        transaction: &Transaction,
        headers: Headers<'_>,
        session: &mut Session<'_, '_>,
    ) -> Result<()> {
        let schemas = target.opened().and_then(|opened| opened.schemas.as_ref());
        let ids = match self.awaited_ids(schemas, session)? {
            None => None,
            Some(Ok(ids)) => Some(ids),
            Some(Err(refused)) => return Err(refused.error(&self.options.by_dead_letters())),
        };
        let value = match ids {
            None => value,
            Some(ids) => self.stamp.bytes(ids.value, value),
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

    /// The value of a row that was read again, which may be of a newer schema than the change; or
    /// why it has none.
    pub(super) fn fetched_value<'r>(
        &self,
        target: &Target,
        row: &'r FetchedRow,
        session: &mut Session<'_, '_>,
    ) -> Result<Result<Cow<'r, [u8]>, String>> {
        let value = match row.value()? {
            Ok(value) => value,
            Err(reason) => return Ok(Err(reason)),
        };
        let Some(opened) = target.opened().filter(|_| self.registrar.is_some()) else {
            return Ok(Ok(Cow::Borrowed(value)));
        };
        let (key, of_value) = row.schemas()?;
        let schemas = Schemas::new(target.name(), &opened.topic_name, key, of_value);
        Ok(match self.awaited_ids(Some(&schemas), session)? {
            None => Ok(Cow::Borrowed(value)),
            Some(Ok(ids)) => Ok(Cow::Owned(Stamp::owned(ids.value, value))),
            Some(Err(refused)) => Err(refused.reason()),
        })
    }
}
