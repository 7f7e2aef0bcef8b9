//! The thread that asks the registry: find, check, register, and put the answer on record.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::desk::{Answer, Known, Office, Part, Question, Used};
use crate::backoff::Backoff;
use crate::error::{Error, ErrorKind, Result};
use crate::metrics::Metrics;
use crate::registry::refused::{Grounds, OtherId, SharedId};
use crate::registry::{Refused, Registered, Registry, allowed, difference, promise};
use crate::state::SchemaIds;
use crate::stop::Stop;

/// How long the thread waits for work at a time: it looks then whether it is to end.
const IDLE: Duration = Duration::from_millis(200);

/// The thread's side.
pub(super) struct Clerk {
    pub(super) office: Arc<Office>,
    pub(super) registry: Registry,
    pub(super) store: Option<Box<dyn SchemaIds>>,
    pub(super) stop: Stop,
    pub(super) metrics: Metrics,
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
    pub(super) fn work(mut self) {
        let mut backoff = Backoff::default();
        while let Some(question) = self.next() {
            let asked = self.ask(&question);
            self.count(&asked);
            match asked {
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

    fn count(&self, asked: &Result<Answer>) {
        self.metrics.count(|figures| {
            let registry = &mut figures.registry;
            registry.questions += 1;
            match asked {
                Ok(Answer::Id(_)) => {}
                Ok(Answer::Refused(_)) => registry.refusals += 1,
                Err(_) => registry.errors += 1,
            }
        });
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
            self.record(question, used)?;
        }
        Ok(Answer::Id(used))
    }

    fn register(&self, question: &Question) -> Result<Result<u32, Refused>> {
        let Question {
            subject, schema, ..
        } = question;
        match self.registry.latest(subject) {
            // The first of its subject goes with whatever there is.
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Disconnected => return Err(error),
            newest => {
                if let Some(refused) = self.incompatible(question, newest)? {
                    return Ok(Err(refused));
                }
            }
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

    /// Asks whether a schema goes with those of its subject, of which `newest` is what was answered
    /// when it was asked for. Who may not read it is told what is refused all the same.
    fn incompatible(
        &self,
        question: &Question,
        newest: Result<Option<Registered>>,
    ) -> Result<Option<Refused>> {
        let Question {
            subject, schema, ..
        } = question;
        match self.registry.check(subject, schema) {
            Ok(None) => {}
            Ok(Some(messages)) => {
                let newest = newest.ok().flatten();
                let difference = newest.map(|newest| difference(&newest.schema, schema));
                return Ok(Some(question.refused(&Grounds::Incompatible {
                    level: allowed(self.registry.refusing_level(subject))?.flatten(),
                    difference: difference.unwrap_or_default(),
                    messages,
                })));
            }
            Err(error) if error.kind() == ErrorKind::Data => {
                return Ok(Some(question.not_taken(&error)));
            }
            Err(error) => return Err(error),
        }
        let Some(newest) = newest? else {
            return Ok(None);
        };
        let broken = promise::broken(&self.registry, subject, newest, schema)?;
        Ok(broken.map(|broken| {
            question.refused(&Grounds::Misread {
                difference: difference(&broken.version.schema, schema),
                level: broken.level,
                misread: broken.misread,
            })
        }))
    }

    /// Puts the id on record, and returns when that is durable.
    fn record(&mut self, question: &Question, used: Used) -> Result<()> {
        let known = self.office.lock().on_record(&question.subject).cloned();
        let mut ids = known.unwrap_or_default();
        ids.put(&question.schema, used.meaning, used.id);
        if let Some(store) = &mut self.store {
            store.store(&question.subject, &ids)?;
        }
        let subject = question.subject.clone();
        self.office.lock().put_on_record(subject, ids);
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
    pub(super) fn refused(&self, grounds: &Grounds) -> Refused {
        Refused::new(&self.table, &self.topic, &self.subject, grounds)
    }

    /// What is refused for another reason than compatibility, or in the moment between the check and
    /// the registering.
    fn not_taken(&self, error: &Error) -> Refused {
        self.refused(&Grounds::Told(error.to_string()))
    }
}
