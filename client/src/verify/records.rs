//! The topics' side: records into buckets.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use headwater_protocol::Lsn;
use rdkafka::Message;
use rdkafka::message::BorrowedMessage;

use super::avro::Form;
use super::entry::{Entry, Fact, Record};
use super::spill::{Spill, Writer};
use super::subject::Subject;
use super::values::Values;
use crate::error::Result;
use crate::kafka::{Connection, KafkaOptions, Reader, Reading};
use crate::parallel::Jobs;
use crate::progress::{Progress, Unit};
use crate::sink::{lacks_columns, read_lsn};
use crate::state::STATE_TOPIC;
use crate::stop::Stop;

/// How often the progress is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// Reads topics, each partition on from where it was read to before.
pub(super) struct Topics<'a> {
    kafka: &'a KafkaOptions,
    values: Values,
    workers: u16,
    stop: &'a Stop,
    /// Where a partition of a subject's topic goes on.
    next: HashMap<(u32, i32), i64>,
}

/// What was read of one subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// Records with a key.
    pub(super) records: u64,
    /// Those of them that do not say their LSN.
    pub(super) foreign: u64,
}

#[derive(Default)]
struct Counts {
    records: AtomicU64,
    foreign: AtomicU64,
}

impl<'a> Topics<'a> {
    /// Nothing is read yet.
    pub(super) fn new(
        kafka: &'a KafkaOptions,
        values: Values,
        workers: u16,
        stop: &'a Stop,
    ) -> Self {
        Topics {
            kafka,
            values,
            workers,
            stop,
            next: HashMap::new(),
        }
    }

    /// Writes every record up to the ends that the topics have now. Records of transactions
    /// behind `point` are marked as newer.
    ///
    /// # Errors
    /// Kafka does not answer, a topic may not be read, or a folder is full.
    pub(super) fn read(
        &mut self,
        subjects: &[Subject],
        point: Lsn,
        spill: &Spill,
    ) -> Result<Vec<Read>> {
        let (partitions, expected) = self.partitions(subjects)?;
        let jobs = Jobs::new(partitions);
        let counts: Vec<Counts> = subjects.iter().map(|_| Counts::default()).collect();
        let ends = Mutex::new(HashMap::new());
        let total = || {
            let counts = counts.iter();
            counts
                .map(|count| count.records.load(Ordering::Relaxed))
                .sum()
        };
        let mut progress = Progress::new("verify: records", Unit::Records, expected);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.workers)
                .map(|_| {
                    let (jobs, counts, ends) = (&jobs, &counts, &ends);
                    let topics = &*self;
                    scope.spawn(move || {
                        let mut thread = Thread {
                            topics,
                            counts,
                            point,
                            reader: None,
                            writer: spill.writer(),
                        };
                        jobs.work(|(number, partition)| {
                            let Some(subject) = subjects.get(*number as usize) else {
                                return Ok(());
                            };
                            let end = thread.partition(*number, subject, *partition)?;
                            let mut ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
                            ends.insert((*number, *partition), end);
                            Ok(())
                        });
                        if let Err(error) = thread.writer.finish() {
                            jobs.give_up(error);
                        }
                    })
                })
                .collect();
            while !threads
                .iter()
                .all(std::thread::ScopedJoinHandle::is_finished)
            {
                progress.update(total());
                std::thread::sleep(INTERVAL);
            }
        });
        jobs.outcome()?;
        progress.finish(total(), "every record is read");
        self.next = ends.into_inner().unwrap_or_else(PoisonError::into_inner);
        let counts = counts.into_iter().map(|count| Read {
            records: count.records.into_inner(),
            foreign: count.foreign.into_inner(),
        });
        Ok(counts.collect())
    }

    /// The partitions of the topics that there are, and how many offsets they have where nothing is
    /// read yet.
    fn partitions(&self, subjects: &[Subject]) -> Result<(Vec<Part>, Option<u64>)> {
        let mut tick = || self.stop.check();
        let reader = self.reader()?;
        let mut all = Vec::new();
        let mut expected = self.next.is_empty().then_some(0);
        for (number, subject) in (0..).zip(subjects) {
            match reader.find_partitions(&subject.topic, &mut tick)? {
                Some(partitions) => {
                    all.extend(partitions.into_iter().map(|p| (number, p)));
                    if let Some(expected) = &mut expected {
                        *expected += reader.count(&subject.topic, &mut tick)?.unwrap_or(0);
                    }
                }
                None => tracing::warn!(
                    table = %subject.name.sql(),
                    topic = subject.topic,
                    "the topic does not exist"
                ),
            }
        }
        Ok((all, expected))
    }

    fn reader(&self) -> Result<Reader> {
        let mut tick = || self.stop.check();
        Reader::connect(
            self.kafka,
            Reading::Own,
            Connection::silent,
            STATE_TOPIC,
            &mut tick,
        )
    }
}

/// A subject's number, and a partition of its topic.
type Part = (u32, i32);

/// One thread that reads partitions.
struct Thread<'a> {
    topics: &'a Topics<'a>,
    counts: &'a [Counts],
    point: Lsn,
    reader: Option<Reader>,
    writer: Writer<'a>,
}

impl Thread<'_> {
    fn partition(&mut self, number: u32, subject: &Subject, partition: i32) -> Result<i64> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.topics.reader()?,
        };
        let stop = self.topics.stop;
        let from = self.topics.next.get(&(number, partition)).copied();
        let end = reader.read_from(
            &subject.topic,
            partition,
            from,
            &mut || stop.check(),
            &mut |message| self.record(number, subject.form.as_deref(), message),
        )?;
        self.reader = Some(reader);
        Ok(end)
    }

    fn record(
        &mut self,
        number: u32,
        form: Option<&Form>,
        message: &BorrowedMessage<'_>,
    ) -> Result<()> {
        // A record without a key is no row's.
        let Some(key) = message.key() else {
            return Ok(());
        };
        let lsn = read_lsn(message.headers());
        if let Some(counts) = self.counts.get(number as usize) {
            counts.records.fetch_add(1, Ordering::Relaxed);
            counts
                .foreign
                .fetch_add(u64::from(lsn.is_none()), Ordering::Relaxed);
        }
        let values = self.topics.values;
        let marked = lacks_columns(message.headers());
        let content = values.content_in(form, message.payload(), marked)?;
        self.writer.write(&Entry {
            place: values.digests.place(number, key),
            subject: number,
            key,
            fact: Fact::Record(Record {
                partition: message.partition(),
                offset: message.offset(),
                is_newer: lsn.is_some_and(|lsn| lsn > self.point),
                content,
            }),
        })
    }
}
