//! What is known of ids, and what is still to be asked: shared by whoever needs them and the thread
//! that asks.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use twox_hash::XxHash3_128;

use super::carriers::Carriers;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::Refused;
use crate::registry::meaning::meaning;
use crate::state::SubjectIds;
use crate::stop::Stop;

/// How long a refusal is taken for true: somebody may set another level.
const REFUSED_FOR: Duration = Duration::from_secs(60);

/// Answers that are kept, some hundred bytes each: what tables that come and go leave behind is let
/// go beyond it. What is still in use is asked for once more.
pub(super) const KEPT: usize = 10_000;

/// What the stream and the thread share.
pub(super) struct Office {
    desk: Mutex<Desk>,
    /// A question was asked: what the thread waits for, and nobody else.
    pub(super) asked: Condvar,
    /// Something is known that was not: what everybody else waits for.
    pub(super) answered: Condvar,
    /// Counts how often something that was known is so no longer. Changed under the desk's lock.
    pub(super) generation: AtomicU64,
    /// For messages.
    pub(super) registry: String,
}

#[derive(Default)]
pub(super) struct Desk {
    /// Changed by [`Desk::note`] alone, which keeps `carriers` to it.
    pub(super) known: HashMap<Place, Known>,
    pub(super) queue: VecDeque<Question>,
    /// Refusals that were asked about again and have no new answer yet: an outage of the registry is
    /// no reason to keep the changes of a table that it did not take.
    reconsidered: HashMap<Place, Arc<Refused>>,
    /// What is on record. Changed by [`Desk::put_on_record`] alone, which keeps `carriers` to it.
    records: HashMap<String, SubjectIds>,
    /// Of all that is known and on record.
    carriers: Carriers,
    pub(super) is_down: bool,
    /// Why nobody asks any more. It stays: whoever waits, or comes later, is to hear of it.
    failure: Option<Failure>,
    stop: Stop,
}

/// An id that records carry, and what they mean by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) id: u32,
    pub(super) meaning: u128,
}

/// An error that is told to everybody who asks.
struct Failure {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
}

/// A schema of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) subject: String,
    /// XXH3-128 of its text, which may be long.
    pub(super) fingerprint: u128,
}

pub(super) enum Known {
    Asked,
    Id(Used),
    Refused(Arc<Refused>, Instant),
}

#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) subject: String,
    pub(super) table: String,
    pub(super) topic: String,
    pub(super) part: Part,
    pub(super) schema: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Key,
    Value,
}

/// What came of a question.
pub(super) enum Answer {
    Id(Used),
    Refused(Refused),
}

impl Question {
    pub(super) fn place(&self) -> Place {
        Place {
            subject: self.subject.clone(),
            fingerprint: XxHash3_128::oneshot(self.schema.as_bytes()),
        }
    }

    pub(super) fn used(&self, id: u32) -> Used {
        Used {
            id,
            meaning: meaning(&self.schema),
        }
    }
}

pub(super) enum Found {
    Id(u32),
    Waiting,
    Refused(Arc<Refused>),
}

impl Desk {
    pub(super) fn check(&self) -> Result<()> {
        self.stop.check()?;
        match &self.failure {
            Some(failure) => Err(failure.error()),
            None => Ok(()),
        }
    }

    pub(super) fn look(&mut self, question: Question) -> Found {
        let place = question.place();
        match self.known.get(&place) {
            Some(Known::Id(used)) => return Found::Id(used.id),
            Some(Known::Asked) => {
                let refused = self.reconsidered.get(&place).filter(|_| self.is_down);
                return refused.map_or(Found::Waiting, |it| Found::Refused(Arc::clone(it)));
            }
            Some(Known::Refused(refused, since)) => {
                let refused = Arc::clone(refused);
                if self.is_down || since.elapsed() < REFUSED_FOR {
                    return Found::Refused(refused);
                }
                self.reconsidered.insert(place.clone(), refused);
            }
            None => {}
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

    pub(super) fn note(&mut self, place: Place, known: Known) {
        if self.known.len() >= KEPT && !self.known.contains_key(&place) {
            // Who asked waits for the answer to the question that is queued.
            let carriers = &mut self.carriers;
            self.known.retain(|place, known| {
                if let Known::Id(used) = known {
                    carriers.remove(&place.subject, *used);
                }
                matches!(known, Known::Asked)
            });
            self.reconsidered
                .retain(|place, _| self.known.contains_key(place));
        }
        if !matches!(known, Known::Asked) {
            self.reconsidered.remove(&place);
        }
        if let Some(Known::Id(before)) = self.known.get(&place) {
            self.carriers.remove(&place.subject, *before);
        }
        if let Known::Id(used) = known {
            self.carriers.add(&place.subject, used);
        }
        self.known.insert(place, known);
    }

    /// Takes in what is on record for a subject, in place of what was before.
    pub(super) fn put_on_record(&mut self, subject: String, ids: SubjectIds) {
        if let Some(before) = self.records.get(&subject) {
            for used in carried(before) {
                self.carriers.remove(&subject, used);
            }
        }
        for used in carried(&ids) {
            self.carriers.add(&subject, used);
        }
        self.records.insert(subject, ids);
    }

    /// What is on record for a subject.
    pub(super) fn on_record(&self, subject: &str) -> Option<&SubjectIds> {
        self.records.get(subject)
    }

    /// The id on record, where that can be relied upon before anybody has confirmed it.
    pub(super) fn usable(&self, question: &Question) -> Option<Used> {
        let used = question.used(self.recorded(question)?);
        self.contradicted(used).is_none().then_some(used)
    }

    /// The subject whose records carry the id for another schema, in this run or since an earlier one.
    pub(super) fn contradicted(&self, used: Used) -> Option<&str> {
        self.carriers.other(used)
    }

    pub(super) fn recorded(&self, question: &Question) -> Option<u32> {
        let ids = self.records.get(&question.subject)?;
        ids.id(&question.schema)
    }

    /// Lets another subject have its turn: those of one stay in their order.
    pub(super) fn put_off(&mut self, subject: &str) {
        let (tried, others): (VecDeque<_>, VecDeque<_>) = self
            .queue
            .drain(..)
            .partition(|question| question.subject == subject);
        self.queue = others;
        self.queue.extend(tried);
    }
}

fn carried(ids: &SubjectIds) -> impl Iterator<Item = Used> {
    ids.carried().map(|(id, meaning)| Used { id, meaning })
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
    /// Begins with what is on record. `registry` is what messages call it.
    pub(super) fn new(registry: String, records: HashMap<String, SubjectIds>, stop: Stop) -> Self {
        let mut desk = Desk {
            stop,
            ..Desk::default()
        };
        for (subject, ids) in records {
            desk.put_on_record(subject, ids);
        }
        Office {
            desk: Mutex::new(desk),
            asked: Condvar::new(),
            answered: Condvar::new(),
            generation: AtomicU64::new(0),
            registry,
        }
    }

    /// A panic elsewhere leaves whole entries.
    pub(super) fn lock(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first error is the one that counts.
    pub(super) fn fail(&self, error: &Error) {
        let mut desk = self.lock();
        desk.failure.get_or_insert_with(|| Failure::of(error));
        drop(desk);
        self.answered.notify_all();
    }
}
