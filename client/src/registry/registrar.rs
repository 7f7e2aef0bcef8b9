//! Which ids records carry: asked for on a thread of its own, on record before they are used.
//!
//! ```text
//! stream ── standing ──► known ids             ◄── record in the state topic
//!               └──► queue ──► thread: find ─► check ─► register ─► record ─► known ids
//! ```
//!
//! The stream never waits for an answer here: it has a connection to Postgres to keep alive, and
//! tables whose ids are known to go on with.
//!
//! # Why an outage stops only what is new
//!
//! An id is asked for once in a run. Where the registry does not answer then, and the id is on
//! record, it is used, and confirmed when the registry is back: schemas and their ids are facts that
//! a registry does not change. What is on record nowhere is tried until it is answered. Schemas of
//! one subject are asked for in the order in which they came, since compatibility looks at what was
//! there before.
//!
//! # Why a key's id is pinned
//!
//! It is part of the key's bytes, by which Kafka chooses partitions and compacts. A registry that was
//! begun anew hands out ids anew: the same key would be two. So an id other than the one on record is
//! an error for a key. A value with another id is only another value: readers find its schema under
//! the new id, and what was written before has lost its own, which is said. Where an id on record was
//! used while nobody answered, whoever has it looks again ([`Office::generation`]).
//!
//! # Why an id stands for one schema
//!
//! A registry that was emptied gives away an id that records carry already: they would be read by a
//! schema that they do not have, and nobody would notice. So an id that is in use, or on record since
//! an earlier run, for another schema ends the stream, also where that schema is now found under
//! another id: the records that were written before still carry the old one.

mod carriers;
mod clerk;
mod desk;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use self::clerk::Clerk;
use self::desk::{Found, Office, Part, Question};
use super::{Refused, Registry};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::state::SchemaIds;
use crate::stop::Stop;

/// The schemas of a table's records.
#[derive(Clone, Debug)]
pub struct Schemas {
    table: String,
    topic: String,
    key: Option<Arc<str>>,
    value: Arc<str>,
    /// And in which generation they were those.
    ids: Cell<Option<(u64, Ids)>>,
}

/// What records begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// None for a table without a key.
    pub key: Option<u32>,
    /// Of the row or the envelope.
    pub value: u32,
}

/// What is known of a table's ids.
#[derive(Debug)]
pub enum Standing {
    /// Its records can be sent.
    Known(Ids),
    /// The registry was asked.
    Waiting,
    /// Its records cannot be sent.
    Refused(Arc<Refused>),
}

impl Schemas {
    /// The schemas, as JSON text, of the records of `table` in `topic`.
    pub fn new(table: String, topic: &str, key: Option<&str>, value: &str) -> Self {
        Schemas {
            table,
            topic: topic.to_owned(),
            key: key.map(Arc::from),
            value: Arc::from(value),
            ids: Cell::new(None),
        }
    }

    /// The key's schema, as JSON text.
    pub fn key(&self) -> Option<&Arc<str>> {
        self.key.as_ref()
    }

    /// The value's schema, as JSON text.
    pub fn value(&self) -> &Arc<str> {
        &self.value
    }

    /// Whether they are these, as JSON text.
    pub fn are(&self, key: Option<&str>, value: &str) -> bool {
        self.key.as_deref() == key && *self.value == *value
    }

    fn question(&self, part: Part, schema: &Arc<str>) -> Question {
        let part_name = match part {
            Part::Key => "key",
            Part::Value => "value",
        };
        Question {
            subject: format!("{}-{part_name}", self.topic),
            table: self.table.clone(),
            topic: self.topic.clone(),
            part,
            schema: Arc::clone(schema),
        }
    }
}

/// Asks for ids. Cheap to clone.
#[derive(Clone)]
pub struct Registrar(Arc<Office>);
impl Registrar {
    /// Begins with what `store` has on record; none is kept without one. `stop` ends it; what comes
    /// of its questions is counted in `metrics`.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn start(
        registry: Registry,
        mut store: Option<Box<dyn SchemaIds>>,
        stop: &Stop,
        metrics: &Metrics,
    ) -> Result<Self> {
        let records = match &mut store {
            Some(store) => store.load()?,
            None => HashMap::new(),
        };
        let office = Office::new(registry.name(), records, stop.clone());
        let office = Arc::new(office);
        let clerk = Clerk {
            office: Arc::clone(&office),
            registry,
            store,
            stop: stop.clone(),
            metrics: metrics.clone(),
        };
        std::thread::Builder::new()
            .name("registry".to_owned())
            .spawn(move || clerk.work())
            .map_err(|error| Error::failed("cannot start a thread").with_source(error))?;
        Ok(Registrar(office))
    }

    /// What is known of the ids, for which the registry is asked where nothing is.
    ///
    /// # Errors
    /// One that a person has to mend: the login, another id for a key.
    pub fn standing(&self, schemas: &Schemas) -> Result<Standing> {
        if let Some((generation, ids)) = schemas.ids.get()
            && generation == self.0.generation.load(Ordering::Acquire)
        {
            return Ok(Standing::Known(ids));
        }
        let mut desk = self.0.lock();
        desk.check()?;
        let generation = self.0.generation.load(Ordering::Acquire);
        let queued = desk.queue.len();
        let value = desk.look(schemas.question(Part::Value, &schemas.value));
        let key = schemas.key.as_ref();
        let key = key.map(|key| desk.look(schemas.question(Part::Key, key)));
        if desk.queue.len() > queued {
            self.0.asked.notify_one();
        }
        drop(desk);
        Ok(match (key, value) {
            (Some(Found::Refused(refused)), _) | (_, Found::Refused(refused)) => {
                Standing::Refused(refused)
            }
            (Some(Found::Waiting), _) | (_, Found::Waiting) => Standing::Waiting,
            (key, Found::Id(value)) => {
                let key = match key {
                    Some(Found::Id(id)) => Some(id),
                    _ => None,
                };
                let ids = Ids { key, value };
                schemas.ids.set(Some((generation, ids)));
                Standing::Known(ids)
            }
        })
    }

    /// Waits for the ids as long as it takes. `tick` is called at least once a second; its error
    /// ends the wait.
    ///
    /// # Errors
    /// As [`Registrar::standing`], and what `tick` returns.
    pub fn await_ids(
        &self,
        schemas: &Schemas,
        tick: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Result<Ids, Arc<Refused>>> {
        loop {
            match self.standing(schemas)? {
                Standing::Known(ids) => return Ok(Ok(ids)),
                Standing::Refused(refused) => return Ok(Err(refused)),
                Standing::Waiting => {}
            }
            tick()?;
            self.wait(Duration::from_millis(100));
        }
    }

    /// Returns when there may be an answer, at the latest after `timeout`.
    pub fn wait(&self, timeout: Duration) {
        let desk = self.0.lock();
        let waited = self.0.answered.wait_timeout(desk, timeout);
        drop(waited);
    }

    /// An error of a question that nobody waits for. Once there is one, no question is answered any
    /// more, and everybody is told each time.
    ///
    /// # Errors
    /// As [`Registrar::standing`].
    pub fn check(&self) -> Result<()> {
        self.0.lock().check()
    }

    /// The registry's addresses, without logins.
    pub fn registry(&self) -> &str {
        &self.0.registry
    }
}
