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
//! schema that they do not have, and nobody would notice. So an id that is in use for another schema
//! ends the stream, and one that is on record for two is not used before the registry has said for
//! which.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use twox_hash::XxHash3_128;

use super::meaning::meaning;
use super::refused::{Grounds, OtherId, SharedId};
use super::{Refused, Registry, difference};
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Result};
use crate::state::{SchemaIds, SubjectIds};
use crate::stop::Stop;

/// How long a refusal is taken for true: somebody may set another level.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// Answers that are kept, some hundred bytes each: what tables that come and go leave behind is let
/// go beyond it. What is still in use is asked for once more.
const KEPT: usize = 10_000;

/// How long the thread waits for work at a time: it looks then whether it is to end.
const IDLE: Duration = Duration::from_millis(200);

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

/// What the stream and the thread share.
struct Office {
    desk: Mutex<Desk>,
    /// A question was asked: what the thread waits for, and nobody else.
    asked: Condvar,
    /// Something is known that was not: what everybody else waits for.
    answered: Condvar,
    /// Counts how often something that was known is so no longer. Changed under the desk's lock.
    generation: AtomicU64,
    /// For messages.
    registry: String,
}

#[derive(Default)]
struct Desk {
    known: HashMap<Place, Known>,
    queue: VecDeque<Question>,
    /// What is on record.
    records: HashMap<String, SubjectIds>,
    is_down: bool,
    /// Why nobody asks any more. It stays: whoever waits, or comes later, is to hear of it.
    failure: Option<Failure>,
    stop: Stop,
}

/// An id that records carry, and what they mean by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Used {
    id: u32,
    meaning: u128,
}

/// An error that is told to everybody who asks.
struct Failure {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
}

/// A schema of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place {
    subject: String,
    /// XXH3-128 of its text, which may be long.
    fingerprint: u128,
}

enum Known {
    Asked,
    Id(Used),
    Refused(Arc<Refused>, Instant),
}

#[derive(Clone, Debug)]
struct Question {
    subject: String,
    table: String,
    topic: String,
    part: Part,
    schema: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Key,
    Value,
}

/// What came of a question.
enum Answer {
    Id(Used),
    Refused(Refused),
}

impl Question {
    fn place(&self) -> Place {
        Place {
            subject: self.subject.clone(),
            fingerprint: XxHash3_128::oneshot(self.schema.as_bytes()),
        }
    }

    fn used(&self, id: u32) -> Used {
        Used {
            id,
            meaning: meaning(&self.schema),
        }
    }
}

impl Registrar {
    /// Begins with what `store` has on record; none is kept without one. `stop` ends it.
    ///
    /// # Errors
    /// The record cannot be read.
    pub fn start(
        registry: Registry,
        mut store: Option<Box<dyn SchemaIds>>,
        stop: &Stop,
    ) -> Result<Self> {
        let records = match &mut store {
            Some(store) => store.load()?,
            None => HashMap::new(),
        };
        let office = Arc::new(Office {
            registry: registry.name(),
            desk: Mutex::new(Desk {
                records,
                stop: stop.clone(),
                ..Desk::default()
            }),
            asked: Condvar::new(),
            answered: Condvar::new(),
            generation: AtomicU64::new(0),
        });
        let clerk = Clerk {
            office: Arc::clone(&office),
            registry,
            store,
            stop: stop.clone(),
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

enum Found {
    Id(u32),
    Waiting,
    Refused(Arc<Refused>),
}

impl Desk {
    fn check(&self) -> Result<()> {
        self.stop.check()?;
        match &self.failure {
            Some(failure) => Err(failure.error()),
            None => Ok(()),
        }
    }

    fn look(&mut self, question: Question) -> Found {
        let place = question.place();
        match self.known.get(&place) {
            Some(Known::Id(used)) => return Found::Id(used.id),
            Some(Known::Asked) => return Found::Waiting,
            Some(Known::Refused(refused, since)) if since.elapsed() < REFUSED_FOR => {
                return Found::Refused(Arc::clone(refused));
            }
            Some(Known::Refused(..)) | None => {}
        }
        // To ask first would take as long as nobody answers.
        let recorded = match self.is_down {
            true => self.usable(&question),
            false => None,
        };
        self.queue.push_back(question);
        match recorded {
            Some(used) => {
                self.note(place, Known::Id(used));
                Found::Id(used.id)
            }
            None => {
                self.note(place, Known::Asked);
                Found::Waiting
            }
        }
    }

    fn note(&mut self, place: Place, known: Known) {
        if self.known.len() >= KEPT && !self.known.contains_key(&place) {
            // Who asked waits for the answer to the question that is queued.
            self.known.retain(|_, known| matches!(known, Known::Asked));
        }
        self.known.insert(place, known);
    }

    /// The id on record, where that can be relied upon before anybody has confirmed it.
    fn usable(&self, question: &Question) -> Option<Used> {
        let (subject, schema) = (&question.subject, &question.schema);
        let used = question.used(self.recorded(question)?);
        let of_two = self.records.iter().any(|(other, ids)| {
            // A subject's own have an order, and its registry's word that they are one.
            other != subject && ids.has_other(schema, used.id)
        });
        (!of_two && self.contradicted(used).is_none()).then_some(used)
    }

    /// The subject whose records carry the id for another schema.
    fn contradicted(&self, used: Used) -> Option<&str> {
        self.known.iter().find_map(|(place, known)| match known {
            Known::Id(other) if other.id == used.id && other.meaning != used.meaning => {
                Some(&*place.subject)
            }
            _ => None,
        })
    }

    fn recorded(&self, question: &Question) -> Option<u32> {
        let ids = self.records.get(&question.subject)?;
        ids.id(&question.schema)
    }

    /// Lets another subject have its turn: those of one stay in their order.
    fn put_off(&mut self, subject: &str) {
        let (tried, others): (VecDeque<_>, VecDeque<_>) = self
            .queue
            .drain(..)
            .partition(|question| question.subject == subject);
        self.queue = others;
        self.queue.extend(tried);
    }
}

impl Failure {
    fn of(error: &Error) -> Self {
        Failure {
            kind: error.kind(),
            message: error.to_string(),
            hint: error.hint().map(str::to_owned),
        }
    }

    fn error(&self) -> Error {
        let error = Error::new(self.kind, &*self.message);
        match &self.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

impl Office {
    /// A panic elsewhere leaves whole entries.
    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first error is the one that counts.
    fn fail(&self, error: &Error) {
        let mut desk = self.lock();
        desk.failure.get_or_insert_with(|| Failure::of(error));
        drop(desk);
        self.answered.notify_all();
    }
}

/// The thread's side.
struct Clerk {
    office: Arc<Office>,
    registry: Registry,
    store: Option<Box<dyn SchemaIds>>,
    stop: Stop,
}

/// Whatever ends the thread, a panic too, nobody waits for it any more. Where it was asked to stop,
/// so was who waits.
impl Drop for Clerk {
    fn drop(&mut self) {
        self.office.fail(&Error::failed(
            "the thread that asks the schema registry has ended",
        ));
    }
}

impl Clerk {
    /// Answers questions until nobody can ask any more.
    fn work(mut self) {
        let mut backoff = Backoff::default();
        while let Some(question) = self.next() {
            match self.ask(&question) {
                Ok(answer) => {
                    if std::mem::take(&mut self.office.lock().is_down) {
                        tracing::info!(
                            registry = self.office.registry,
                            "the schema registry answers again"
                        );
                    }
                    backoff = Backoff::default();
                    self.answered(&question, answer);
                }
                Err(error) if error.kind() == ErrorKind::Disconnected => {
                    backoff.report_as(
                        &error,
                        "tables with a new schema wait, others go on; trying again until it passes",
                    );
                    self.unanswered(&question);
                    if backoff.wait(&self.stop).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    self.office.fail(&error);
                    return;
                }
            }
        }
    }

    /// The question whose turn it is; none when it is time to end.
    fn next(&self) -> Option<Question> {
        let mut desk = self.office.lock();
        loop {
            // The one that is left is the thread's own.
            if self.stop.check().is_err() || Arc::strong_count(&self.office) == 1 {
                return None;
            }
            if let Some(question) = desk.queue.front() {
                return Some(question.clone());
            }
            let waited = self.office.asked.wait_timeout(desk, IDLE);
            desk = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn ask(&mut self, question: &Question) -> Result<Answer> {
        let Question {
            subject, schema, ..
        } = question;
        let id = match self.registry.find(subject, schema) {
            Err(error) if error.kind() == ErrorKind::Data => {
                return Ok(Answer::Refused(question.not_taken(&error)));
            }
            found => found?,
        };
        let id = match id {
            Some(id) => id,
            None => match self.register(question)? {
                Ok(id) => id,
                Err(refused) => return Ok(Answer::Refused(refused)),
            },
        };
        let used = question.used(id);
        let desk = self.office.lock();
        if let Some(other) = desk.contradicted(used) {
            let shared = SharedId { id, subject, other };
            return Err(shared.error(&self.office.registry));
        }
        let recorded = desk.recorded(question);
        drop(desk);
        if let Some(recorded) = recorded.filter(|recorded| *recorded != id) {
            let other = OtherId {
                subject,
                topic: &question.topic,
                recorded,
                answered: id,
            };
            match question.part {
                Part::Key => return Err(other.error(&self.office.registry)),
                Part::Value => tracing::warn!(
                    subject,
                    id,
                    before = recorded,
                    "the schema registry has another id for an unchanged value schema: what was \
                     written before cannot be read by it"
                ),
            }
        }
        if recorded != Some(id) {
            self.record(question, id)?;
        }
        Ok(Answer::Id(used))
    }

    fn register(&self, question: &Question) -> Result<Result<u32, Refused>> {
        let Question {
            subject, schema, ..
        } = question;
        match self.registry.check(subject, schema) {
            Ok(None) => {}
            Ok(Some(messages)) => {
                let newest = allowed(self.registry.latest(subject))?.flatten();
                let difference = newest.map(|newest| difference(&newest.schema, schema));
                return Ok(Err(question.refused(&Grounds::Incompatible {
                    level: allowed(self.registry.refusing_level(subject))?,
                    difference: difference.unwrap_or_default(),
                    messages,
                })));
            }
            Err(error) if error.kind() == ErrorKind::Data => {
                return Ok(Err(question.not_taken(&error)));
            }
            Err(error) => return Err(error),
        }
        match self.registry.register(subject, schema) {
            Ok(id) => {
                tracing::info!(subject, id, table = question.table, "schema registered");
                Ok(Ok(id))
            }
            Err(error) if error.kind() == ErrorKind::Data => Ok(Err(question.not_taken(&error))),
            Err(error) => Err(error),
        }
    }

    /// Puts the id on record, and returns when that is durable.
    fn record(&mut self, question: &Question, id: u32) -> Result<()> {
        let known = self.office.lock().records.get(&question.subject).cloned();
        let mut ids = known.unwrap_or_default();
        ids.put(&question.schema, id);
        if let Some(store) = &mut self.store {
            store.store(&question.subject, &ids)?;
        }
        let subject = question.subject.clone();
        self.office.lock().records.insert(subject, ids);
        Ok(())
    }

    fn answered(&self, question: &Question, answer: Answer) {
        let mut desk = self.office.lock();
        let known = match answer {
            Answer::Id(used) => Known::Id(used),
            Answer::Refused(refused) => Known::Refused(Arc::new(refused), Instant::now()),
        };
        let place = question.place();
        if let Some(Known::Id(before)) = desk.known.get(&place)
            && !matches!(known, Known::Id(now) if now == *before)
        {
            self.office.generation.fetch_add(1, Ordering::Release);
        }
        desk.note(place, known);
        desk.queue.pop_front();
        drop(desk);
        self.office.answered.notify_all();
    }

    fn unanswered(&self, question: &Question) {
        let mut desk = self.office.lock();
        desk.is_down = true;
        // Whoever waits for one that is on record waits no longer; each stays in the queue.
        let waiting: Vec<Question> = desk.queue.iter().cloned().collect();
        for waiting in waiting {
            if let Some(used) = desk.usable(&waiting) {
                desk.note(waiting.place(), Known::Id(used));
            }
        }
        desk.put_off(&question.subject);
        drop(desk);
        self.office.answered.notify_all();
    }
}

impl Question {
    fn refused(&self, grounds: &Grounds) -> Refused {
        Refused::new(&self.table, &self.topic, &self.subject, grounds)
    }

    /// What is refused for another reason than compatibility, or in the moment between the check and
    /// the registering.
    fn not_taken(&self, error: &Error) -> Refused {
        self.refused(&Grounds::Told(error.to_string()))
    }
}

/// What is asked for only to tell a person more: nothing where the registry says no. One that is away
/// tells it later.
fn allowed<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.kind() == ErrorKind::Disconnected => Err(error),
        Err(error) => {
            tracing::debug!(%error, "why a schema is not compatible is not known");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::cli::RegistryOptions;
    use crate::registry::replay::{Replay, Reply};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// What is on record, as others see it.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<HashMap<String, SubjectIds>>>);

    impl SchemaIds for Memory {
        fn load(&mut self) -> Result<HashMap<String, SubjectIds>> {
            Ok(self.0.lock().unwrap().clone())
        }

        fn store(&mut self, subject: &str, ids: &SubjectIds) -> Result<()> {
            let subject = subject.to_owned();
            self.0.lock().unwrap().insert(subject, ids.clone());
            Ok(())
        }

        fn clear(&mut self) -> Result<()> {
            self.0.lock().unwrap().clear();
            Ok(())
        }
    }

    impl Memory {
        fn with(entries: &[(&str, &str, u32)]) -> Self {
            let memory = Memory::default();
            for (subject, schema, id) in entries {
                let mut known = memory.0.lock().unwrap();
                let ids = known.entry((*subject).to_owned()).or_default();
                ids.put(schema, *id);
            }
            memory
        }

        fn id(&self, subject: &str, schema: &str) -> Option<u32> {
            self.0.lock().unwrap().get(subject)?.id(schema)
        }
    }

    const KEY: &str = r#"{"type":"record","name":"Key","fields":[]}"#;
    const VALUE: &str = r#"{"type":"record","name":"Row","fields":[{"name":"a","type":"int"}]}"#;

    fn schemas() -> Schemas {
        Schemas::new("public.t".to_owned(), "t", Some(KEY), VALUE)
    }

    fn registrar(url: String, memory: &Memory) -> Registrar {
        let options = RegistryOptions {
            url: Some(url),
            ..RegistryOptions::default()
        };
        let registry = Registry::new(&options).unwrap().unwrap();
        let store: Box<dyn SchemaIds> = Box::new(memory.clone());
        Registrar::start(registry, Some(store), &Stop::default()).unwrap()
    }

    fn awaited(registrar: &Registrar) -> Result<Result<Ids, Arc<Refused>>> {
        let begun = Instant::now();
        registrar.await_ids(&schemas(), &mut || match begun.elapsed() < PATIENCE {
            true => Ok(()),
            false => Err(Error::failed("no answer in time")),
        })
    }

    const ABSENT: Reply = Reply::Says(404, r#"{"error_code":40401,"message":"none"}"#);
    const COMPATIBLE: Reply = Reply::Says(200, r#"{"is_compatible":true}"#);

    #[test]
    fn ids_are_on_record_when_they_are_known_and_asked_for_once() {
        let replay = Replay::new(vec![
            ABSENT,
            COMPATIBLE,
            Reply::Says(200, r#"{"id":5}"#),
            Reply::Says(200, r#"{"id":6}"#),
        ])
        .unwrap();
        let memory = Memory::default();
        let registrar = registrar(replay.url(), &memory);
        for _ in 0..2 {
            let ids = awaited(&registrar).unwrap().unwrap();
            assert_eq!((ids.value, ids.key), (5, Some(6)));
        }
        assert_eq!(memory.id("t-value", VALUE), Some(5));
        assert_eq!(memory.id("t-key", KEY), Some(6));
        let questions = replay.questions();
        let lines: Vec<&str> = questions.iter().map(|it| it.line.as_str()).collect();
        assert_eq!(
            lines,
            [
                "POST /subjects/t-value",
                "POST /compatibility/subjects/t-value/versions?verbose=true",
                "POST /subjects/t-value/versions",
                "POST /subjects/t-key",
            ]
        );
    }

    #[test]
    fn while_nobody_answers_what_is_on_record_is_known_and_what_is_new_waits() {
        let gone = Replay::new(vec![]).unwrap().url();
        let memory = Memory::with(&[("t-key", KEY, 5), ("t-value", VALUE, 6)]);
        let registrar = registrar(gone, &memory);
        let ids = awaited(&registrar).unwrap().unwrap();
        assert_eq!((ids.key, ids.value), (Some(5), 6));
        let new = Schemas::new("public.u".to_owned(), "u", None, VALUE);
        let standing = registrar.standing(&new).unwrap();
        assert!(matches!(standing, Standing::Waiting), "{standing:?}");
        let known = registrar.standing(&schemas()).unwrap();
        assert!(matches!(known, Standing::Known(_)), "{known:?}");
    }

    #[test]
    fn what_was_not_answered_is_asked_again() {
        let replay = Replay::new(vec![
            Reply::Says(503, ""),
            Reply::Closes,
            Reply::Says(200, r#"{"id":5}"#),
            Reply::Says(200, r#"{"id":6}"#),
        ])
        .unwrap();
        let memory = Memory::default();
        let registrar = registrar(replay.url(), &memory);
        let ids = awaited(&registrar).unwrap().unwrap();
        assert!(ids.key.is_some() && ids.value > 4, "{ids:?}");
    }

    /// Each wait ends after 100 ms at the latest, and no sooner without an answer.
    #[test]
    fn those_who_wait_do_not_wake_each_other() {
        let gone = Replay::new(vec![]).unwrap().url();
        let registrar = registrar(gone, &Memory::default());
        let (begun, length) = (Instant::now(), Duration::from_millis(600));
        let waiting = (0..2).map(|_| {
            let registrar = registrar.clone();
            std::thread::spawn(move || {
                let mut looks = 0;
                let _ = registrar.await_ids(&schemas(), &mut || {
                    looks += 1;
                    match begun.elapsed() < length {
                        true => Ok(()),
                        false => Err(Error::failed("long enough")),
                    }
                });
                looks
            })
        });
        let waiting: Vec<_> = waiting.collect();
        let looks: Vec<u32> = waiting.into_iter().map(|it| it.join().unwrap()).collect();
        assert!(looks.iter().all(|looks| *looks < 30), "{looks:?}");
    }

    #[test]
    fn what_is_known_of_tables_that_come_and_go_has_a_bound() {
        let place = |number: u128| Place {
            subject: "t-value".to_owned(),
            fingerprint: number,
        };
        let mut desk = Desk::default();
        desk.note(place(0), Known::Asked);
        for number in 1..=3 * KEPT as u128 {
            let used = Used { id: 7, meaning: 0 };
            desk.note(place(number), Known::Id(used));
        }
        assert!(desk.known.len() <= KEPT, "{}", desk.known.len());
        assert!(
            desk.known.contains_key(&place(0)),
            "it is still in the queue"
        );
    }

    #[test]
    fn another_id_for_an_unchanged_key_is_refused() {
        let replay = Replay::new(vec![
            Reply::Says(200, r#"{"id":9}"#),
            Reply::Says(200, r#"{"id":1}"#),
        ])
        .unwrap();
        let memory = Memory::with(&[("t-key", KEY, 5), ("t-value", VALUE, 6)]);
        let registrar = registrar(replay.url(), &memory);
        let error = awaited(&registrar).unwrap_err();
        let text = error.to_string();
        for part in ["t-key", "id 1 ", "id 5", "topic \"t\"", &replay.url()] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let cures = error.hint().unwrap_or_default();
        assert!(
            cures.contains("Restore") && cures.contains("new topics"),
            "{cures}"
        );
        assert_eq!(memory.id("t-key", KEY), Some(5));
        assert_eq!(memory.id("t-value", VALUE), Some(9), "a value's may change");
    }

    #[test]
    fn an_id_that_was_on_record_is_left_for_the_one_that_is_answered() {
        let replay = Replay::new(vec![
            Reply::Says(503, ""),
            Reply::Says(200, r#"{"id":2}"#),
            Reply::Says(200, r#"{"id":1}"#),
        ])
        .unwrap();
        let memory = Memory::with(&[("t-key", KEY, 2), ("t-value", VALUE, 5)]);
        let registrar = registrar(replay.url(), &memory);
        let (schemas, begun) = (schemas(), Instant::now());
        loop {
            let standing = registrar.standing(&schemas).unwrap();
            if let Standing::Known(Ids { key, value: 1 }) = standing {
                assert_eq!(key, Some(2));
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{standing:?}");
            registrar.wait(Duration::from_millis(10));
        }
    }

    #[test]
    fn an_id_stands_for_one_schema() {
        let long = VALUE.replace("int", "long");
        let replay = Replay::new(vec![
            Reply::Says(200, r#"{"id":5}"#),
            Reply::Says(200, r#"{"id":5}"#),
            ABSENT,
            COMPATIBLE,
            Reply::Says(200, r#"{"id":5}"#),
        ])
        .unwrap();
        let memory = Memory::default();
        let registrar = registrar(replay.url(), &memory);
        let ask = |table: &str, value: &str| {
            let begun = Instant::now();
            let schemas = Schemas::new(format!("public.{table}"), table, None, value);
            registrar.await_ids(&schemas, &mut || match begun.elapsed() < PATIENCE {
                true => Ok(()),
                false => Err(Error::failed("no answer in time")),
            })
        };
        let annotated = VALUE.replace("int\"", "int\",\"pgType\":\"integer\"");
        assert_eq!(ask("t", VALUE).unwrap().unwrap().value, 5);
        assert_eq!(ask("t", &annotated).unwrap().unwrap().value, 5);
        let error = ask("u", &long).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Failed);
        let text = error.to_string();
        for part in ["u-value", "t-value", "id 5", &replay.url()] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let cure = error.hint().unwrap_or_default();
        assert!(cure.contains("Restore"), "{cure}");
        assert_eq!(memory.id("u-value", &long), None);
    }

    #[test]
    fn an_id_that_is_on_record_for_two_schemas_is_not_used_while_nobody_answers() {
        let gone = Replay::new(vec![]).unwrap().url();
        let memory = Memory::with(&[
            ("t-value", VALUE, 6),
            ("u-value", "\"int\"", 6),
            ("v-value", VALUE, 7),
        ]);
        let registrar = registrar(gone, &memory);
        let of = |topic: &str| Schemas::new(format!("public.{topic}"), topic, None, VALUE);
        let begun = Instant::now();
        let known = registrar.await_ids(&of("v"), &mut || match begun.elapsed() < PATIENCE {
            true => Ok(()),
            false => Err(Error::failed("not known in time")),
        });
        assert_eq!(known.unwrap().unwrap().value, 7);
        let standing = registrar.standing(&of("t")).unwrap();
        assert!(matches!(standing, Standing::Waiting), "{standing:?}");
    }

    #[test]
    fn what_is_not_compatible_is_refused_with_the_difference() {
        let replay = Replay::new(vec![
            ABSENT,
            Reply::Says(200, r#"{"is_compatible":false,"messages":["TYPE_MISMATCH"]}"#),
            Reply::Says(
                200,
                r#"{"id":1,"version":1,"schema":"{\"type\":\"record\",\"name\":\"Row\",\"fields\":[{\"name\":\"a\",\"type\":\"string\"}]}"}"#,
            ),
            Reply::Says(200, r#"{"compatibilityLevel":"FULL"}"#),
            Reply::Says(200, r#"{"id":6}"#),
        ])
        .unwrap();
        let registrar = registrar(replay.url(), &Memory::default());
        let refused = awaited(&registrar).unwrap().unwrap_err();
        assert_eq!(
            refused.reason(),
            "its schema is not compatible with what subject t-value has for topic \"t\" at level \
             FULL: Row: field a changed from string to int (the registry says: TYPE_MISMATCH)"
        );
    }

    #[test]
    fn what_is_not_compatible_is_refused_even_where_nobody_may_ask_why() {
        let denied = || Reply::Says(403, r#"{"error_code":40301,"message":"denied"}"#);
        let replay = Replay::new(vec![
            ABSENT,
            Reply::Says(
                200,
                r#"{"is_compatible":false,"messages":["TYPE_MISMATCH"]}"#,
            ),
            denied(),
            denied(),
            Reply::Says(200, r#"{"id":6}"#),
        ])
        .unwrap();
        let registrar = registrar(replay.url(), &Memory::default());
        let refused = awaited(&registrar).unwrap().unwrap_err();
        assert_eq!(
            refused.reason(),
            "its schema is not compatible with what subject t-value has for topic \"t\" (the \
             registry says: TYPE_MISMATCH)"
        );
    }

    #[test]
    fn a_login_that_is_refused_is_an_error_at_once_for_everybody() {
        let replay = Replay::new(vec![Reply::Says(401, "")]).unwrap();
        let registrar = registrar(replay.url(), &Memory::default());
        for asked in [
            awaited(&registrar).unwrap_err(),
            awaited(&registrar.clone()).unwrap_err(),
            registrar.check().unwrap_err(),
        ] {
            assert_eq!(asked.kind(), ErrorKind::Failed, "{asked}");
            assert!(asked.to_string().contains("401"), "{asked}");
            let hint = asked.hint().unwrap_or_default();
            assert!(hint.contains("--registry-user"), "{hint}");
        }
    }

    #[test]
    fn nobody_waits_for_a_thread_that_has_panicked() {
        struct Panics;

        impl SchemaIds for Panics {
            fn load(&mut self) -> Result<HashMap<String, SubjectIds>> {
                Ok(HashMap::new())
            }

            fn store(&mut self, _: &str, _: &SubjectIds) -> Result<()> {
                panic!("as the test wants")
            }

            fn clear(&mut self) -> Result<()> {
                Ok(())
            }
        }

        let replay = Replay::new(vec![Reply::Says(200, r#"{"id":5}"#)]).unwrap();
        let options = RegistryOptions {
            url: Some(replay.url()),
            ..RegistryOptions::default()
        };
        let registry = Registry::new(&options).unwrap().unwrap();
        let registrar =
            Registrar::start(registry, Some(Box::new(Panics)), &Stop::default()).unwrap();
        let error = awaited(&registrar).unwrap_err();
        assert!(error.to_string().contains("has ended"), "{error}");
    }
}
