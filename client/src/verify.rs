//! `headwater verify`: proves that topics equal their tables, while writers and the stream
//! go on.
//!
//! ```text
//! view at C ─► rows ──────────────┐
//!     │                           ├─► spill ─► compare ─► same
//!     └► passage: position ≥ C    │      ▲        ├─────► differs ─► report, repair
//!                └► records ──────┘      └────────┴─ questions: another look
//! ```
//!
//! A *look* takes a snapshot at an exact point C of the WAL, by the steps of the stream's own
//! (`source::snapshot`) but for the advisory lock, since it disturbs no stream. It waits until
//! the stream has passed C, reads the topics up to the ends that they have then, and compares
//! each row's bytes with the newest record of its key as of C. What may be said of a key, and
//! why a difference takes two looks, is in `compare.rs`.
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

mod avro;
mod compare;
mod entry;
mod passage;
mod project;
mod records;
mod repair;
mod report;
mod rows;
mod spill;
mod subject;
mod values;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use clap::ValueEnum;

use self::avro::Forms;
use self::compare::{Known, Verdict, each_key, keys_within};
use self::entry::{Digests, Entry, Fact};
use self::passage::Passage;
use self::records::Topics;
use self::repair::Repair;
use self::report::{Finding, Report};
use self::spill::{Spill, Writer};
use self::subject::{Subject, Subjects};
use self::values::Values;
use crate::assemble;
use crate::cli::{EnumMode, FormatMode, NumbersMode, PartitionsMode, ValueEnvelope, VerifyOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::parallel::Jobs;
use crate::registry::{self, Registry};
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
    preconditions::check(&connection, options.encoding, 1, 1)?;
    let kafka = assemble::cluster(&options.kafka);
    let key = StateKey {
        prefix: options.stream.topic_prefix.clone(),
        database: connection.database()?,
        slot: options.stream.slot.clone(),
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
        forms: forms(options, shape, values.envelope, stop)?,
        folder: &folder.unwrap_or_else(std::env::temp_dir),
        stop,
    };
    let topics = Topics::new(&kafka, values, options.workers, stop);
    verification.run(topics, router(options, shape)?)
}

/// How topics in Avro are read; none for those in JSON.
fn forms(
    options: &VerifyOptions,
    shape: &Shape,
    envelope: ValueEnvelope,
    stop: &Stop,
) -> Result<Option<Forms>> {
    if recorded(shape, "format", FormatMode::Json)? == FormatMode::Json {
        return Ok(None);
    }
    let registry = Registry::new(&options.registry)?.ok_or_else(registry::missing)?;
    Ok(Some(Forms {
        registry: Arc::new(registry),
        stop: stop.clone(),
        envelope,
    }))
}

/// What decides the bytes of rows, as the stream was begun with it.
fn form(options: &VerifyOptions, shape: &Shape) -> Result<Form> {
    Ok(Form {
        format: recorded(shape, "format", FormatMode::Json)?,
        enums: recorded(shape, "enum", EnumMode::String)?,
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
    Ok(Router::new(template, options.stream.topic_prefix.clone()))
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
    forms: Option<Forms>,
    folder: &'a Path,
    stop: &'a Stop,
}

/// Keys on disk, each as a question with its newest records.
struct Keys {
    spill: Spill,
    /// The subjects that they are of, by their numbers.
    subjects: Mutex<BTreeSet<u32>>,
}

/// What the looks have found.
struct Findings {
    report: Report,
    /// What differs.
    differing: Keys,
}

/// Which keys a look is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// All.
    First,
    /// Those in question.
    Again,
    /// The same, and what is not decided then stays so.
    Last,
}

impl Verification<'_> {
    fn run(&self, mut topics: Topics<'_>, mut router: Router) -> Result<Report> {
        let mut view = self.view(&|table| table.is_keyed)?;
        let point = view.consistent_point();
        let subjects = Subjects::of(&view, self.plugin, &mut router, self.forms.as_ref())?;
        if subjects.list.is_empty() && subjects.unkeyed.is_empty() {
            return Err(Error::failed("there is no table to verify"));
        }
        self.name_stale(&subjects);
        let bits = self.bucket_bits(&subjects);
        let mut findings = Findings {
            report: Report::new(&subjects, point, self.options.limit),
            differing: Keys::none(self.folder, bits)?,
        };
        let spill = Spill::new(self.folder, bits)?;
        let sessions = view.take_sessions();
        tracing::info!(tables = subjects.list.len(), %point, "comparing");
        let (plugin, values) = (self.plugin, self.values);
        let rows = rows::scan(&subjects, sessions, plugin, values, &spill, self.stop)?;
        findings.report.rows(&rows);
        view.release()?;
        drop(view);
        self.passage.wait(point)?;
        let read = topics.read(&subjects.list, point, &spill)?;
        findings.report.records(&read);
        let open = self.compare(&spill, Look::First, &mut findings)?;
        drop(spill);
        let list = &subjects.list;
        self.settle(open, LOOKS - 1, list, &mut topics, &mut findings)?;
        if self.options.repair && findings.report.differs() {
            self.repair(list, &mut topics, &mut findings)?;
        }
        Ok(findings.report)
    }

    /// Has the keys that differ sent again, and looks whether they still do.
    fn repair(
        &self,
        subjects: &[Subject],
        topics: &mut Topics<'_>,
        findings: &mut Findings,
    ) -> Result<()> {
        let bits = findings.differing.spill.bits();
        let none = Keys::none(self.folder, bits)?;
        let differing = std::mem::replace(&mut findings.differing, none);
        let connection = self.connector.connect()?;
        Repair::new(subjects, self.passage, &connection).run(&differing.spill)?;
        findings.report.repair();
        self.settle(differing, LOOKS, subjects, topics, findings)
    }

    /// Looks again until nothing is in question, `looks` times at most.
    fn settle(
        &self,
        mut open: Keys,
        looks: u32,
        subjects: &[Subject],
        topics: &mut Topics<'_>,
        findings: &mut Findings,
    ) -> Result<()> {
        for left in (0..looks).rev() {
            if open.is_empty() {
                break;
            }
            self.look_up(&open, subjects, topics, findings)?;
            let look = if left == 0 { Look::Last } else { Look::Again };
            open = self.compare(&open.spill, look, findings)?;
        }
        Ok(())
    }

    /// Adds to keys in question their rows as of a later point, and what the topics have come
    /// to hold.
    fn look_up(
        &self,
        open: &Keys,
        subjects: &[Subject],
        topics: &mut Topics<'_>,
        findings: &mut Findings,
    ) -> Result<()> {
        let numbers = open.subjects();
        let asked: BTreeSet<&TableName> = numbers
            .iter()
            .filter_map(|number| subjects.get(*number as usize))
            .map(|subject| &subject.name)
            .collect();
        let mut view = self.view(&|table| table.is_keyed && asked.contains(&table.sent_as))?;
        let point = view.consistent_point();
        tracing::info!(tables = asked.len(), %point, "looking again at keys that are not decided");
        let sessions = view.take_sessions();
        rows::look_up(subjects, sessions, self.plugin, self.values, &open.spill)?;
        view.release()?;
        drop(view);
        self.passage.wait(point)?;
        let read = topics.read(subjects, point, &open.spill)?;
        findings.report.records(&read);
        Ok(())
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

    /// Compares what a look has brought, and returns the keys that another one is needed for.
    fn compare(&self, spill: &Spill, look: Look, findings: &mut Findings) -> Result<Keys> {
        findings.report.looks();
        let questions = Keys::none(self.folder, spill.bits())?;
        let comparison = Comparison {
            digests: self.values.digests,
            look,
            report: Mutex::new(&mut findings.report),
            questions: &questions,
            differing: &findings.differing,
        };
        let buckets = Jobs::new(spill.buckets().iter().collect());
        std::thread::scope(|scope| {
            for _ in 0..self.options.workers {
                scope.spawn(|| {
                    let mut writers = comparison.writers();
                    buckets.work(|bucket| {
                        self.stop.check()?;
                        let memory = self.memory_bytes();
                        each_key(spill, bucket, memory, &mut |subject, key, known| {
                            comparison.key(subject, key, known, &mut writers)
                        })
                    });
                    if let Err(error) = writers.finish() {
                        buckets.give_up(error);
                    }
                });
            }
        });
        buckets.outcome()?;
        Ok(questions)
    }

    /// Differences in such a table are no surprise, and known how to be mended.
    fn name_stale(&self, subjects: &Subjects) {
        for (schema, table, mark) in self.passage.begun().stale.iter() {
            let is_stale = |name: &TableName| name.schema == schema && name.table == table;
            if subjects.list.iter().any(|subject| is_stale(&subject.name)) {
                mark.warn(schema, table, &self.options.stream.slot);
            }
        }
    }
}

impl Keys {
    fn none(folder: &Path, bits: u32) -> Result<Self> {
        Ok(Keys {
            spill: Spill::new(folder, bits)?,
            subjects: Mutex::default(),
        })
    }

    fn subjects(&self) -> MutexGuard<'_, BTreeSet<u32>> {
        self.subjects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty(&self) -> bool {
        self.subjects().is_empty()
    }
}

/// What the threads of one comparison share.
struct Comparison<'a> {
    digests: Digests,
    look: Look,
    report: Mutex<&'a mut Report>,
    questions: &'a Keys,
    differing: &'a Keys,
}

/// What one of them writes.
struct Writers<'a> {
    questions: Writer<'a>,
    differing: Writer<'a>,
}

impl Writers<'_> {
    fn finish(self) -> Result<()> {
        self.questions.finish()?;
        self.differing.finish()
    }
}

impl<'a> Comparison<'a> {
    fn writers(&self) -> Writers<'_> {
        Writers {
            questions: self.questions.spill.writer(),
            differing: self.differing.spill.writer(),
        }
    }

    fn key(
        &self,
        subject: u32,
        key: &[u8],
        known: &Known,
        writers: &mut Writers<'_>,
    ) -> Result<()> {
        if self.look != Look::First && !known.is_asked() {
            return Ok(());
        }
        let (finding, keys, writer, seen) = match known.verdict(self.digests) {
            Verdict::Same => return Ok(()),
            Verdict::Differs(difference) => {
                let finding = Some(Finding::Is(difference));
                (finding, self.differing, &mut writers.differing, None)
            }
            Verdict::Open(_) if self.look == Look::Last => {
                self.report().add(subject, key, Finding::Undecided);
                return Ok(());
            }
            Verdict::Open(seen) => (None, self.questions, &mut writers.questions, seen),
        };
        if let Some(finding) = finding {
            self.report().add(subject, key, finding);
        }
        keys.subjects().insert(subject);
        let place = self.digests.place(subject, key);
        let records = known.carried().map(Fact::Record);
        let mut facts = records.chain([Fact::Question(seen)]);
        facts.try_for_each(|fact| {
            writer.write(&Entry {
                place,
                subject,
                key,
                fact,
            })
        })
    }

    fn report(&self) -> MutexGuard<'_, &'a mut Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
