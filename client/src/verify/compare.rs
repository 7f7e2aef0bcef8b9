//! Compares what is known of each key, one bucket at a time.
//!
//! # What may be said, and what may not
//!
//! *At the snapshot's point C a key is the same* if its newest record that is not newer than
//! C says what the table says: these bytes, or no row. A record without `hw.lsn` counts as
//! written where it lies, never as newer.
//!
//! *That a key differs takes two looks.* One look can be mistaken in ways that no record
//! tells: compaction may have removed the record that stood between an older one and one
//! newer than C while the topic was read; with `--toast fetch` an update's record is the row
//! as it was later, or is left out where the row was gone by then; a record without headers may
//! be newer. What these have in common is that another record of the key follows, or that
//! its row changes. So a difference is kept as a question, and stands only if a later
//! look, at a later point that the topic has passed, finds the same row and the same newest
//! record: between the two nothing was written that could explain it.
//!
//! *A key whose records are all newer than C*, older ones being compacted away, or never
//! written as for a new row, is a question too. So is one whose record lacks columns
//! (`hw.unchanged`): it may be right, and cannot prove it. What is still a question after the
//! last look is undecided, never the same.
//!
//! # Why partitions are kept apart
//!
//! Compaction keeps the newest record of a key in each partition. Where partitions were
//! added to a topic, or somebody wrote with another partitioner, a key can be live in two:
//! a reader of the topic then sees two rows, one of them wrong, and so the key differs.

use std::collections::HashMap;

use super::entry::{Content, Digest, Digests, Fact, Look, Record};
use super::spill::{Bucket, Spill};
use crate::error::Result;

/// What is known of one key.
#[derive(Debug, Default)]
pub(super) struct Known {
    row: Option<Digest>,
    /// None if it was never asked, which all keys are in the first look.
    question: Option<Option<Look>>,
    first: Option<Place>,
    /// Records of a key seldom lie in several partitions.
    others: Vec<Place>,
}

/// The records of a key in one partition, by their offsets.
#[derive(Clone, Copy, Debug)]
struct Place {
    partition: i32,
    /// The last one that is not newer than the point.
    settled: Option<(i64, Content)>,
    /// The last one.
    newest: (i64, Content),
}

/// How a key differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Difference {
    /// The table has a row, the topic none.
    Missing,
    /// The topic has a row, the table none.
    Extra,
    /// Both have one, and not the same.
    Different,
}

/// What a look says of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Both sides are the same.
    Same,
    /// They differ, as in the look before.
    Differs(Difference),
    /// Another look is needed.
    Open(Option<Look>),
}

impl Known {
    fn add(&mut self, fact: &Fact) {
        match fact {
            Fact::Row(digest) => self.row = Some(*digest),
            Fact::Question(look) => self.question = Some(*look),
            Fact::Record(record) => self.add_record(record),
        }
    }

    fn add_record(&mut self, record: &Record) {
        let place = self
            .first
            .iter_mut()
            .chain(&mut self.others)
            .find(|place| place.partition == record.partition);
        if let Some(place) = place {
            place.add(record);
        } else if self.first.is_none() {
            self.first = Some(Place::of(record));
        } else {
            self.others.push(Place::of(record));
        }
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        self.first.iter().chain(&self.others)
    }

    /// Whether the key was asked about, where only such keys are looked at.
    pub(super) fn is_asked(&self) -> bool {
        self.question.is_some()
    }

    /// What can be said of the key.
    pub(super) fn verdict(&self, digests: Digests) -> Verdict {
        let is_overtaken = self.places().any(Place::is_overtaken);
        let mut live = self.places().filter_map(Place::live);
        let difference = match (self.row, live.next(), live.next()) {
            (None, None, _) => {
                let settled = self.places().any(|place| place.settled.is_some());
                let is_new = is_overtaken && !settled;
                return if is_new {
                    Verdict::Open(None)
                } else {
                    Verdict::Same
                };
            }
            (Some(row), Some(Content::Row(record)), None) if row == record => return Verdict::Same,
            (Some(_), Some(Content::Incomplete), None) => return Verdict::Open(None),
            (None, Some(_), _) => Difference::Extra,
            (Some(_), None, _) => Difference::Missing,
            (Some(_), Some(_), _) => Difference::Different,
        };
        if is_overtaken {
            return Verdict::Open(None);
        }
        let look = Look {
            row: self.row,
            records: self.signature(digests),
        };
        if self.question == Some(Some(look)) {
            Verdict::Differs(difference)
        } else {
            Verdict::Open(Some(look))
        }
    }

    /// Which records stand against the row.
    fn signature(&self, digests: Digests) -> Digest {
        let mut places: Vec<(i32, i64)> = self
            .places()
            .map(|place| (place.partition, place.newest.0))
            .collect();
        places.sort_unstable();
        let mut bytes = Vec::with_capacity(12 * places.len());
        for (partition, offset) in places {
            bytes.extend(partition.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
        }
        digests.of(&bytes)
    }

    /// The newest records, for the next look: what is in the topic now is not newer than the
    /// point of a later snapshot.
    pub(super) fn carried(&self) -> impl Iterator<Item = Record> {
        self.places().map(|place| Record {
            partition: place.partition,
            offset: place.newest.0,
            is_newer: false,
            content: place.newest.1,
        })
    }
}

impl Place {
    fn of(record: &Record) -> Self {
        let newest = (record.offset, record.content);
        Place {
            partition: record.partition,
            settled: (!record.is_newer).then_some(newest),
            newest,
        }
    }

    fn add(&mut self, record: &Record) {
        let candidate = (record.offset, record.content);
        if record.offset > self.newest.0 {
            self.newest = candidate;
        }
        if !record.is_newer
            && self
                .settled
                .is_none_or(|(offset, _)| offset < record.offset)
        {
            self.settled = Some(candidate);
        }
    }

    /// Whether a record that is newer than the point follows.
    fn is_overtaken(&self) -> bool {
        self.settled
            .is_none_or(|(offset, _)| offset < self.newest.0)
    }

    /// What it says at the point, if that is a row.
    fn live(&self) -> Option<Content> {
        self.settled
            .map(|(_, content)| content)
            .filter(|content| *content != Content::Nothing)
    }
}

/// The keys of a bucket, each behind the number of its subject, and what is known of them.
type Folded = HashMap<Box<[u8]>, Known>;

/// A subject's number.
const SUBJECT: usize = size_of::<u32>();

/// A key in memory, apart from its bytes: the entry in a table that is half empty at worst,
/// and what the allocator adds.
const KEY_BYTES: usize = 2 * size_of::<(Box<[u8]>, Known)>() + 32;

/// How many keys fit `bytes` of memory, of a length as keys mostly have.
pub(super) fn keys_within(bytes: usize) -> usize {
    bytes / (KEY_BYTES + 32)
}

/// Takes a subject's number, a key and what is known of it.
pub(super) type Each<'e> = dyn FnMut(u32, &[u8], &Known) -> Result<()> + 'e;

/// Calls `each` with the subject and the bytes of every key of a bucket, and what is known of
/// it, holding about `bound` bytes of them at a time.
///
/// # Errors
/// A file cannot be read or written, or what `each` returns.
pub(super) fn each_key(
    spill: &Spill,
    bucket: &Bucket,
    bound: usize,
    each: &mut Each<'_>,
) -> Result<()> {
    let within = if spill.can_split() { bound } else { usize::MAX };
    if let Some(folded) = fold(spill, bucket, within)? {
        return folded.iter().try_for_each(|(key, known)| {
            let Some((subject, key)) = key.split_first_chunk::<SUBJECT>() else {
                return Ok(());
            };
            each(u32::from_le_bytes(*subject), key, known)
        });
    }
    let parts = spill.split()?;
    let mut writer = parts.writer();
    spill.read(bucket, |entry| writer.write(entry))?;
    writer.finish()?;
    let mut parts_of = parts.buckets().iter();
    parts_of.try_for_each(|part| each_key(&parts, part, bound, each))
}

/// None if it takes more memory than `bound`.
fn fold(spill: &Spill, bucket: &Bucket, bound: usize) -> Result<Option<Folded>> {
    let mut folded = Folded::new();
    let mut bytes = 0;
    let mut key = Vec::new();
    spill.read(bucket, |entry| {
        if bytes > bound {
            return Ok(());
        }
        key.clear();
        key.extend(entry.subject.to_le_bytes());
        key.extend_from_slice(entry.key);
        if let Some(known) = folded.get_mut(key.as_slice()) {
            known.add(&entry.fact);
            return Ok(());
        }
        bytes += KEY_BYTES + key.len();
        if bytes > bound {
            folded = Folded::new();
            return Ok(());
        }
        let known = folded.entry(key.as_slice().into()).or_default();
        known.add(&entry.fact);
        Ok(())
    })?;
    Ok((bytes <= bound).then_some(folded))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::super::entry::Entry;
    use super::*;

    const ROW: Content = Content::Row(Digest([1; 16]));
    const OTHER: Content = Content::Row(Digest([2; 16]));

    fn record(partition: i32, offset: i64, is_newer: bool, content: Content) -> Fact {
        Fact::Record(Record {
            partition,
            offset,
            is_newer,
            content,
        })
    }

    fn known(facts: &[Fact]) -> Known {
        let mut known = Known::default();
        facts.iter().for_each(|fact| known.add(fact));
        known
    }

    /// The verdict of a look, and of a second one that finds the same.
    fn verdicts(facts: &[Fact]) -> (Verdict, Verdict) {
        let digests = Digests::new();
        let first = known(facts);
        let verdict = first.verdict(digests);
        let Verdict::Open(look) = verdict else {
            return (verdict, verdict);
        };
        let rows = facts.iter().filter(|fact| matches!(fact, Fact::Row(_)));
        let mut again: Vec<Fact> = rows.copied().collect();
        again.push(Fact::Question(look));
        again.extend(first.carried().map(Fact::Record));
        (verdict, known(&again).verdict(digests))
    }

    #[test]
    fn the_newest_record_that_is_not_newer_than_the_point_counts() {
        let row = Fact::Row(Digest([1; 16]));
        let (old, new) = (false, true);
        for facts in [
            &[row, record(0, 1, old, OTHER), record(0, 2, old, ROW)][..],
            &[row, record(0, 2, old, ROW), record(0, 1, old, OTHER)],
            &[row, record(0, 1, old, ROW), record(0, 2, new, OTHER)],
            &[
                row,
                record(0, 1, old, ROW),
                record(0, 2, new, Content::Nothing),
            ],
            &[
                row,
                record(1, 1, old, Content::Nothing),
                record(0, 2, old, ROW),
            ],
            // A record of a history that was left, and those of this one behind it.
            &[row, record(0, 1, new, OTHER), record(0, 2, old, ROW)],
            &[record(0, 1, old, ROW), record(0, 2, old, Content::Nothing)],
            &[record(0, 1, old, Content::Nothing), record(0, 2, new, ROW)],
            &[Fact::Question(None)],
        ] {
            assert_eq!(verdicts(facts).0, Verdict::Same, "{facts:?}");
        }
    }

    #[test]
    fn a_difference_stands_when_a_second_look_finds_the_same() {
        use Difference::{Different, Extra, Missing};
        let row = Fact::Row(Digest([1; 16]));
        for (facts, difference) in [
            (&[row][..], Missing),
            (&[row, record(0, 5, false, Content::Nothing)], Missing),
            (&[row, record(0, 5, false, OTHER)], Different),
            (
                &[row, record(0, 5, false, ROW), record(1, 5, false, ROW)],
                Different,
            ),
            (&[record(0, 5, false, ROW)], Extra),
            (&[record(0, 5, false, Content::Incomplete)], Extra),
        ] {
            let (first, second) = verdicts(facts);
            assert!(
                matches!(first, Verdict::Open(Some(_))),
                "{facts:?}: {first:?}"
            );
            assert_eq!(second, Verdict::Differs(difference), "{facts:?}");
        }
    }

    #[test]
    fn a_difference_does_not_stand_when_anything_has_moved() {
        let digests = Digests::new();
        let row = Fact::Row(Digest([1; 16]));
        let first = known(&[row, record(0, 5, false, OTHER)]);
        let Verdict::Open(look) = first.verdict(digests) else {
            panic!("decided at once");
        };
        let asked = Fact::Question(look);
        let settled = record(0, 5, false, OTHER);
        for (moved, expected) in [
            (&[row, record(0, 6, false, ROW)][..], Verdict::Same),
            (&[row, record(0, 6, true, ROW)], Verdict::Open(None)),
        ] {
            let mut facts = vec![asked, settled];
            facts.extend(moved);
            assert_eq!(known(&facts).verdict(digests), expected, "{moved:?}");
        }
        for moved in [
            &[row, settled, record(0, 6, false, OTHER)][..],
            &[Fact::Row(Digest([3; 16])), settled],
            &[settled],
        ] {
            let mut facts = vec![asked];
            facts.extend(moved);
            let verdict = known(&facts).verdict(digests);
            assert!(
                matches!(verdict, Verdict::Open(Some(_))),
                "{moved:?}: {verdict:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_compared_is_open_and_never_the_same() {
        let row = Fact::Row(Digest([1; 16]));
        for facts in [
            &[row, record(0, 5, true, ROW)][..],
            &[record(0, 5, true, Content::Nothing)],
            &[row, record(0, 5, false, Content::Incomplete)],
            &[row, record(0, 1, false, OTHER), record(0, 5, true, ROW)],
        ] {
            assert_eq!(verdicts(facts).0, Verdict::Open(None), "{facts:?}");
        }
    }

    #[test]
    fn a_bucket_beyond_the_bound_is_cut_and_every_key_comes_once() {
        let digests = Digests::new();
        let spill = Spill::new(&std::env::temp_dir(), 1).unwrap();
        let mut writer = spill.writer();
        for number in 0..3000_u32 {
            let key = number.to_le_bytes();
            for offset in 0..3 {
                let entry = Entry {
                    place: digests.place(7, &key),
                    subject: 7,
                    key: &key,
                    fact: record(0, offset, false, ROW),
                };
                writer.write(&entry).unwrap();
            }
        }
        writer.finish().unwrap();
        let mut seen: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        for bucket in spill.buckets() {
            each_key(
                &spill,
                bucket,
                40 * KEY_BYTES,
                &mut |subject, key, known| {
                    assert_eq!(subject, 7);
                    let newest = known.carried().next().map(|record| record.offset);
                    assert_eq!(seen.insert(key.to_vec(), newest.unwrap()), None);
                    Ok(())
                },
            )
            .unwrap();
        }
        assert_eq!(seen.len(), 3000);
        assert!(seen.values().all(|offset| *offset == 2));
    }
}
