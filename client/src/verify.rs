//! `headwater verify`: proves that topics equal their tables, while writers and the stream
//! go on.
//!
//! ```text
//! view at C ─► rows ──────────────┐
//!     │                           ├─► spill ─► compare ─► same
//!     └► passage: position ≥ C    │      ▲        ├─────► differs ─► report
//!                └► records ──────┘      └────────┴─ questions: another look
//! ```
//!
//! A *look* takes a snapshot at an exact point C of the WAL, by the steps of the stream's own
//! (`source::snapshot`) but for the advisory lock, since it disturbs no stream. It waits until
//! the stream has passed C, reads the topics up to the ends that they have then, and compares
//! each row's bytes with the newest record of its key as of C. What may be said of a key, and
//! why a difference takes two looks, is in [`compare`].
//!
//! The first look reads everything. Later ones look up the rows of the keys in question and
//! read topics on from where they were read to; they stop as soon as no question is left.
//!
//! # What it takes
//!
//! Memory: buckets of keys and digests, a bounded number of bytes whatever the tables hold
//! (`MEMORY_BYTES`), beside what the readers read ahead. Disk: the key and some 50 bytes for
//! each row and for each record of the topics. On the server: what a snapshot takes.
//!
//! Like any reader of a compacted topic it must be through with a topic before the tombstones
//! of deletes that it began among are removed (`delete.retention.ms`, a day by default).

mod compare;
mod entry;
mod passage;
mod records;
mod report;
mod rows;
mod spill;
mod subject;
mod values;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use clap::ValueEnum;

use self::compare::{Known, Verdict, each_key, keys_within};
use self::entry::{Digests, Entry, Fact};
use self::passage::Passage;
use self::records::Topics;
use self::report::{Finding, Report};
use self::spill::{Spill, Writer};
use self::subject::Subjects;
use self::values::Values;
use crate::assemble;
use crate::cli::{NumbersMode, PartitionsMode, ValueEnvelope, VerifyOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::parallel::Jobs;
use crate::route::{Router, Template};
use crate::source::catalog::{Catalog, Table, TableName};
use crate::source::connection::Connector;
use crate::source::plugin::{Form, Plugin};
use crate::source::preconditions;
use crate::source::snapshot::{View, ViewOptions};
use crate::state::{Shape, StateKey};
use crate::stop::Stop;

/// What the keys of all buckets that are compared at once may take. More buckets take more
/// files, and nothing else is gained by smaller ones.
const MEMORY_BYTES: usize = 48 << 20;

/// With many workers each still has so much.
const LEAST_MEMORY_BYTES: usize = 4 << 20;

/// Powers of two of buckets: 16 of them serve a million keys, and 256 files are open at most.
const BUCKET_BITS: std::ops::RangeInclusive<u32> = 4..=8;

/// How many rows there may be where nobody has counted.
const UNKNOWN_ROWS: u64 = 1_000_000;

/// How often to look. Each look leaves the keys that are written faster than it takes; a
/// difference takes two.
const LOOKS: u32 = 6;

/// Runs the command to its end.
///
/// # Errors
/// The topics are not proven to equal their tables, or it could not be found out.
pub fn run(options: &VerifyOptions) -> Result<()> {
    let stop = Stop::on_signals()?;
    let report = verify(options, &stop).map_err(unfinished)?;
    report.warn();
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let printed = if options.json {
        report.print_json(&mut out)
    } else {
        report.print(&mut out)
    };
    printed
        .and_then(|()| out.flush())
        .map_err(|error| Error::failed("standard output cannot be written").with_source(error))?;
    report.verdict()
}

/// A signal ends it without a proof, which no exit code 0 may say.
fn unfinished(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Interrupted => Error::failed("stopped by a signal before all was compared"),
        _ => error,
    }
}

fn verify(options: &VerifyOptions, stop: &Stop) -> Result<Report> {
    let connector = Connector::new(options.connection.conninfo(), stop.clone());
    let connection = connector.connect()?;
    preconditions::check(&connection, options.encoding, 1)?;
    let kafka = assemble::cluster(&options.kafka);
    let key = StateKey {
        prefix: options.topic_prefix.clone(),
        database: connection.database()?,
        slot: options.slot.clone(),
    };
    let passage = Passage::find(&kafka, &connector, key, stop)?;
    let shape = &passage.begun().shape;
    let plugin = Plugin::of_rows(&form(options, shape)?)?;
    Catalog::read(&connection, &plugin)?.check_patterns(options.tables.included().as_ref())?;
    drop(connection);
    let values = Values {
        digests: Digests::new(),
        envelope: plugin_envelope(shape)?,
    };
    let folder = options.temp_dir.clone();
    let verification = Verification {
        options,
        connector: &connector,
        plugin: &plugin,
        passage: &passage,
        values,
        folder: &folder.unwrap_or_else(std::env::temp_dir),
        stop,
    };
    let topics = Topics::new(&kafka, values, options.workers, stop);
    verification.run(topics, router(options, shape)?)
}

/// What decides the bytes of rows, as the stream was begun with it.
fn form(options: &VerifyOptions, shape: &Shape) -> Result<Form> {
    Ok(Form {
        envelope: plugin_envelope(shape)?,
        partitions: recorded(shape, "partitions", PartitionsMode::Root)?,
        numbers: recorded(shape, "numbers", NumbersMode::Exact)?,
        encoding: options.encoding,
        tables: options.tables.clone(),
    })
}

fn plugin_envelope(shape: &Shape) -> Result<ValueEnvelope> {
    recorded(shape, "envelope", ValueEnvelope::Row)
}

/// A release that recorded nothing had the default, as a rule.
fn recorded<T: ValueEnum>(shape: &Shape, name: &str, default: T) -> Result<T> {
    match shape.value(name) {
        None => Ok(default),
        Some(value) => T::from_str(value, false).map_err(|_| unknown(name, value)),
    }
}

fn router(options: &VerifyOptions, shape: &Shape) -> Result<Router> {
    let text = shape.value("topic").unwrap_or(Template::DEFAULT);
    let template = Template::parse(text).map_err(|_| unknown("topic", text))?;
    Ok(Router::new(template, options.topic_prefix.clone()))
}

fn unknown(name: &str, value: &str) -> Error {
    Error::failed(format!(
        "the stream was begun with --{name} {value}, which this release does not know"
    ))
    .with_hint("Verify with the release that streams.")
}

/// One run.
struct Verification<'a> {
    options: &'a VerifyOptions,
    connector: &'a Connector,
    plugin: &'a Plugin,
    passage: &'a Passage<'a>,
    values: Values,
    folder: &'a Path,
    stop: &'a Stop,
}

/// What a look leaves.
struct Questions {
    spill: Spill,
    /// The subjects that they are about, by their numbers.
    subjects: BTreeSet<u32>,
}

impl Verification<'_> {
    fn run(&self, mut topics: Topics<'_>, mut router: Router) -> Result<Report> {
        let mut view = self.view(&|table| table.is_keyed)?;
        let point = view.consistent_point();
        let subjects = Subjects::of(&view, self.plugin, &mut router)?;
        if subjects.list.is_empty() && subjects.unkeyed.is_empty() {
            return Err(Error::failed("there is no table to verify"));
        }
        self.name_stale(&subjects);
        let mut report = Report::new(&subjects, point, self.options.limit);
        let spill = Spill::new(self.folder, self.bucket_bits(&subjects))?;
        let sessions = view.take_sessions();
        tracing::info!(tables = subjects.list.len(), %point, "comparing");
        report.rows(&rows::scan(
            &subjects,
            sessions,
            self.plugin,
            self.values,
            &spill,
            self.stop,
        )?);
        view.release()?;
        drop(view);
        self.passage.wait(point)?;
        report.records(&topics.read(&subjects.list, point, &spill)?);
        let mut questions = self.compare(&spill, &mut report)?;
        drop(spill);
        while let Some(open) = questions {
            questions = self.look_again(&open, &subjects, &mut topics, &mut report)?;
        }
        Ok(report)
    }

    /// Looks at the keys in question as of a later point.
    fn look_again(
        &self,
        open: &Questions,
        subjects: &Subjects,
        topics: &mut Topics<'_>,
        report: &mut Report,
    ) -> Result<Option<Questions>> {
        let asked: BTreeSet<&TableName> = open
            .subjects
            .iter()
            .filter_map(|number| subjects.list.get(*number as usize))
            .map(|subject| &subject.name)
            .collect();
        let mut view = self.view(&|table| table.is_keyed && asked.contains(&table.sent_as))?;
        let point = view.consistent_point();
        tracing::info!(tables = asked.len(), %point, "looking again at keys that are not decided");
        rows::look_up(
            &subjects.list,
            view.take_sessions(),
            self.plugin,
            self.values,
            &open.spill,
        )?;
        view.release()?;
        drop(view);
        self.passage.wait(point)?;
        report.records(&topics.read(&subjects.list, point, &open.spill)?);
        self.compare(&open.spill, report)
    }

    fn view(&self, captures: &dyn Fn(&Table) -> bool) -> Result<View> {
        let options = ViewOptions {
            connector: self.connector,
            plugin: self.plugin,
            sessions: self.options.workers,
            captures,
        };
        View::open(&options, self.stop)
    }

    fn memory_bytes(&self) -> usize {
        (MEMORY_BYTES / usize::from(self.options.workers)).max(LEAST_MEMORY_BYTES)
    }

    /// Twice as many buckets as would do if the estimate were right.
    fn bucket_bits(&self, subjects: &Subjects) -> u32 {
        let rows = subjects.estimated_rows().unwrap_or(UNKNOWN_ROWS);
        let fit = keys_within(self.memory_bytes()) as u64;
        let buckets = (2 * rows).div_ceil(fit.max(1)).max(1);
        let bits = buckets.next_power_of_two().trailing_zeros();
        bits.clamp(*BUCKET_BITS.start(), *BUCKET_BITS.end())
    }

    /// Compares every key of the first look, and those in question of any later one.
    fn compare(&self, spill: &Spill, report: &mut Report) -> Result<Option<Questions>> {
        let next = Spill::new(self.folder, spill.buckets().len().trailing_zeros())?;
        let comparison = Comparison {
            digests: self.values.digests,
            look: report.looks(),
            found: Mutex::new(report),
            asked: Mutex::default(),
        };
        let buckets = Jobs::new(spill.buckets().iter().collect());
        std::thread::scope(|scope| {
            for _ in 0..self.options.workers {
                scope.spawn(|| {
                    let mut writer = next.writer();
                    buckets.work(|bucket| {
                        self.stop.check()?;
                        let memory = self.memory_bytes();
                        each_key(spill, bucket, memory, &mut |subject, key, known| {
                            comparison.key(subject, key, known, &mut writer)
                        })
                    });
                    if let Err(error) = writer.finish() {
                        buckets.give_up(error);
                    }
                });
            }
        });
        buckets.outcome()?;
        let asked = comparison.asked.into_inner();
        let subjects = asked.unwrap_or_else(PoisonError::into_inner);
        Ok((!subjects.is_empty()).then_some(Questions {
            spill: next,
            subjects,
        }))
    }

    /// Differences in such a table are no surprise, and known how to be mended.
    fn name_stale(&self, subjects: &Subjects) {
        for (schema, table, mark) in self.passage.begun().stale.iter() {
            let is_stale = |name: &TableName| name.schema == schema && name.table == table;
            if subjects.list.iter().any(|subject| is_stale(&subject.name)) {
                mark.warn(schema, table, &self.options.slot);
            }
        }
    }
}

/// What the threads of one comparison share.
struct Comparison<'a> {
    digests: Digests,
    look: u32,
    found: Mutex<&'a mut Report>,
    /// The subjects of questions that are left.
    asked: Mutex<BTreeSet<u32>>,
}

impl Comparison<'_> {
    fn key(
        &self,
        subject: u32,
        key: &[u8],
        known: &Known,
        questions: &mut Writer<'_>,
    ) -> Result<()> {
        if self.look > 1 && !known.is_asked() {
            return Ok(());
        }
        match known.verdict(self.digests) {
            Verdict::Same => Ok(()),
            Verdict::Differs(difference) => {
                self.find(subject, key, Finding::Is(difference));
                Ok(())
            }
            Verdict::Open(_) if self.look == LOOKS => {
                self.find(subject, key, Finding::Undecided);
                Ok(())
            }
            Verdict::Open(seen) => {
                let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
                asked.insert(subject);
                drop(asked);
                let place = self.digests.place(subject, key);
                let records = known.carried().map(Fact::Record);
                records.chain([Fact::Question(seen)]).try_for_each(|fact| {
                    questions.write(&Entry {
                        place,
                        subject,
                        key,
                        fact,
                    })
                })
            }
        }
    }

    fn find(&self, subject: u32, key: &[u8], finding: Finding) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.add(subject, key, finding);
    }
}
