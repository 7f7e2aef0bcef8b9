//! The tables' side: rows into buckets.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headwater_protocol::frame::Change;

use super::avro::Form;
use super::entry::{Entry, Fact};
use super::spill::{Spill, Writer};
use super::subject::{Subject, Subjects};
use super::values::Values;
use crate::error::{Error, Result};
use crate::parallel::Jobs;
use crate::progress::{Progress, Unit};
use crate::source::connection::Connection;
use crate::source::key::Key;
use crate::source::plugin::Plugin;
use crate::source::snapshot::{Scan, copy_rows};
use crate::source::sql;
use crate::stop::Stop;

/// How often the progress is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// Keys that are looked up by one statement: some kilobytes of it, and few enough that the
/// planner's guess of a hundred rows is not far off, so that it takes the key's index.
const LOOKUP_KEYS: usize = 500;

/// The same for long keys: bytes of one statement.
const LOOKUP_BYTES: usize = 64 << 10;

/// Writes every row of the subjects, and returns how many each has.
pub(super) fn scan(
    subjects: &Subjects,
    sessions: Vec<Connection>,
    plugin: &Plugin,
    values: Values,
    spill: &Spill,
    stop: &Stop,
) -> Result<Vec<u64>> {
    let scan = Scan::new(plugin, subjects.sources.iter());
    let counts: Vec<AtomicU64> = subjects.list.iter().map(|_| AtomicU64::new(0)).collect();
    let total = || {
        counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    };
    let mut progress = Progress::new("verify: rows", Unit::Rows, subjects.estimated_rows());
    std::thread::scope(|scope| {
        let threads: Vec<_> = sessions
            .into_iter()
            .map(|session| {
                let (scan, counts) = (&scan, &counts);
                scope.spawn(move || {
                    let mut writer = spill.writer();
                    scan.read(&session, |table, row| {
                        let number = subjects.of_source.get(table).copied().unwrap_or(u32::MAX);
                        if let Some(count) = counts.get(number as usize) {
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        let row = row.encoded(|| subjects.source_name(table))?;
                        let subject = subjects.list.get(number as usize);
                        let form = subject.and_then(|subject| subject.form.as_deref());
                        write(number, &row, form, values, &mut writer)
                    });
                    if let Err(error) = writer.finish() {
                        scan.give_up(error);
                    }
                })
            })
            .collect();
        while !threads
            .iter()
            .all(std::thread::ScopedJoinHandle::is_finished)
        {
            progress.update(total());
            if let Err(error) = stop.check() {
                scan.give_up(error);
            }
            std::thread::sleep(INTERVAL);
        }
    });
    scan.outcome()?;
    progress.finish(total(), "every row is read");
    Ok(counts.into_iter().map(AtomicU64::into_inner).collect())
}

fn write(
    number: u32,
    row: &Change<'_>,
    form: Option<&Form>,
    values: Values,
    writer: &mut Writer<'_>,
) -> Result<()> {
    let (Some(key), Some(value)) = (row.key, row.value) else {
        return Err(Error::failed("a row came without its key or its value")
            .with_hint("Its table has lost its key; verify again."));
    };
    let key = match form {
        None => Cow::Borrowed(key),
        Some(form) => Cow::Owned(form.key(key)),
    };
    writer.write(&Entry {
        place: values.digests.place(number, &key),
        subject: number,
        key: &key,
        fact: Fact::Row(values.row_in(form, value)),
    })
}

/// Writes the rows of the keys that `spill` has questions of.
pub(super) fn look_up(
    subjects: &[Subject],
    sessions: Vec<Connection>,
    plugin: &Plugin,
    values: Values,
    spill: &Spill,
) -> Result<()> {
    let Some(first) = sessions.first() else {
        return Err(Error::failed("a snapshot needs a session"));
    };
    let tables = subjects
        .iter()
        .map(|subject| subject.relation.map(|oid| Key::read(first, oid)))
        .map(|found| found.transpose().map(Option::flatten))
        .collect::<Result<Vec<_>, _>>()?;
    let buckets = Jobs::new((0..spill.buckets().len()).collect());
    std::thread::scope(|scope| {
        for session in sessions {
            let (tables, buckets) = (&tables, &buckets);
            scope.spawn(move || {
                let mut lookup = Lookup {
                    session: &session,
                    subjects,
                    tables,
                    plugin,
                    values,
                    writer: spill.writer(),
                };
                buckets.work(|number| lookup.bucket(spill, *number));
                if let Err(error) = lookup.writer.finish() {
                    buckets.give_up(error);
                }
            });
        }
    });
    buckets.outcome()
}

/// One session that looks up rows.
struct Lookup<'a> {
    session: &'a Connection,
    subjects: &'a [Subject],
    tables: &'a [Option<Key>],
    plugin: &'a Plugin,
    values: Values,
    writer: Writer<'a>,
}

/// Keys of one subject.
#[derive(Default)]
struct Batch {
    subject: u32,
    keys: Vec<String>,
    bytes: usize,
}

impl Lookup<'_> {
    fn bucket(&mut self, spill: &Spill, number: usize) -> Result<()> {
        let Some(bucket) = spill.buckets().get(number) else {
            return Ok(());
        };
        let mut batch = Batch::default();
        spill.read(bucket, |entry| {
            let Fact::Question(_) = entry.fact else {
                return Ok(());
            };
            let is_full = batch.keys.len() >= LOOKUP_KEYS || batch.bytes >= LOOKUP_BYTES;
            if is_full || batch.subject != entry.subject {
                self.look_up(std::mem::take(&mut batch))?;
                batch.subject = entry.subject;
            }
            let subject = self.subjects.get(entry.subject as usize);
            let key = match subject.and_then(|subject| subject.form.as_deref()) {
                Some(form) => form.json_key(entry.key),
                None => json_object(entry.key).map(str::to_owned),
            };
            // No row has a key that is none.
            if let Some(key) = key {
                batch.bytes += key.len();
                batch.keys.push(key);
            }
            Ok(())
        })?;
        self.look_up(batch)
    }

    #[allow(clippy::needless_pass_by_value)]
    fn look_up(&mut self, batch: Batch) -> Result<()> {
        let number = batch.subject as usize;
        match (self.subjects.get(number), self.tables.get(number)) {
            (Some(subject), Some(Some(key))) => {
                self.look_up_keys(subject, batch.subject, key, &batch.keys)
            }
            (Some(subject), _) if subject.relation.is_some() => Err(Error::failed(format!(
                "table {} was dropped or has lost its key while it was verified",
                subject.name.sql()
            ))
            .with_hint("Verify again.")),
            _ => Ok(()),
        }
    }

    /// A key that somebody else made up may be no value of its column's type, which is an
    /// error of the whole statement: then the keys are taken apart. No row has such a key.
    fn look_up_keys(
        &mut self,
        subject: &Subject,
        number: u32,
        key: &Key,
        keys: &[String],
    ) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let array = format!("[{}]", keys.join(","));
        let array = format!("{}::pg_catalog.json", sql::literal(&array));
        let (values, writer) = (self.values, &mut self.writer);
        self.session.query("SAVEPOINT keys")?;
        let name = subject.name.sql();
        let outcome = copy_rows(
            self.session,
            &key.lookup_all(self.plugin, subject.schemas, &array),
            subject.relation.unwrap_or(0),
            &name,
            &mut |row| {
                let row = row.encoded(|| name.clone())?;
                write(number, &row, subject.form.as_deref(), values, writer)
            },
        )?;
        match outcome {
            Ok(()) => {
                self.session.query("RELEASE SAVEPOINT keys")?;
                Ok(())
            }
            Err(error) if error.is_data_exception() => {
                self.session.query("ROLLBACK TO SAVEPOINT keys")?;
                self.session.query("RELEASE SAVEPOINT keys")?;
                if keys.len() == 1 {
                    return Ok(());
                }
                let (one, other) = keys.split_at(keys.len() / 2);
                self.look_up_keys(subject, number, key, one)?;
                self.look_up_keys(subject, number, key, other)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The text of a JSON object, none if it is none.
fn json_object(key: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(key).ok()?;
    let is_object = text.trim_start().starts_with('{')
        && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    is_object.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_are_looked_up() {
        for (key, expected) in [
            (&br#"{"id":1}"#[..], true),
            (b" {} ", true),
            (b"{\"id\":1},{\"id\":2}", false),
            (b"[1]", false),
            (b"1", false),
            (b"", false),
            (b"{\"id\":\"\xff\"}", false),
        ] {
            assert_eq!(json_object(key).is_some(), expected, "{key:?}");
        }
    }
}
