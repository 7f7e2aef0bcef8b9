//! What is kept of a row, a record or an open question while it waits on disk.
//!
//! ```text
//! hash u64  subject u32  key length u32  kind u8  body  [u8; key length]
//! row:       digest [u8; 16]
//! record:    partition i32  offset i64  newer u8  content u8  digest [u8; 16]
//! question:  looked u8  digest [u8; 16]  digest [u8; 16]
//! ```
//!
//! Little endian, and for this process alone: the files have no name and end with it.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read};

use twox_hash::XxHash3_128;

/// What stands for a value, or for a list of records. Two different values have the same
/// one by a chance of 2^-128.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digest(pub(super) [u8; 16]);

/// Makes digests, otherwise in each run, so that no value can be made up beforehand that
/// has the digest of another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digests {
    seed: u64,
}

impl Digests {
    /// With a seed by chance.
    pub(super) fn new() -> Self {
        Digests {
            seed: RandomState::new().build_hasher().finish(),
        }
    }

    /// The digest of a value.
    pub(super) fn of(self, bytes: &[u8]) -> Digest {
        Digest(XxHash3_128::oneshot_with_seed(self.seed, bytes).to_le_bytes())
    }

    /// A digest that no value has for [`Self::of`], of what is no value.
    pub(super) fn of_other(self, bytes: &[u8]) -> Digest {
        Digest(XxHash3_128::oneshot_with_seed(!self.seed, bytes).to_le_bytes())
    }

    /// Where a key of a subject is kept: bits that are as good as random.
    pub(super) fn place(self, subject: u32, key: &[u8]) -> u64 {
        let seed = self.seed.wrapping_add(1 + u64::from(subject));
        let [half, _] = halves(XxHash3_128::oneshot_with_seed(seed, key));
        half
    }
}

fn halves(number: u128) -> [u64; 2] {
    // The halves of 128 bits fit.
    #[allow(clippy::cast_possible_truncation)]
    [number as u64, (number >> 64) as u64]
}

/// Something that is known of one key of one subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// [`Digests::place`] of the key.
    pub(super) place: u64,
    /// The number of the subject.
    pub(super) subject: u32,
    /// The key's bytes.
    pub(super) key: &'a [u8],
    /// What is known.
    pub(super) fact: Fact,
}

/// What is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// The table has this row.
    Row(Digest),
    /// The topic has this record.
    Record(Record),
    /// The key was not decided in an earlier look, which saw this, if it saw all that it
    /// takes to compare.
    Question(Option<Look>),
}

/// A record of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The partition.
    pub(super) partition: i32,
    /// Its place there.
    pub(super) offset: i64,
    /// Whether it is of a transaction behind the snapshot's point.
    pub(super) is_newer: bool,
    /// What it says.
    pub(super) content: Content,
}

/// What a record says of its key's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// There is none.
    Nothing,
    /// There is this one.
    Row(Digest),
    /// There is one, of which this lacks columns that the WAL did not hold.
    Incomplete,
}

/// Both sides of a key that differed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// The row, if there was one.
    pub(super) row: Option<Digest>,
    /// Which records stood against it.
    pub(super) records: Digest,
}

/// Hash, subject, length of the key, kind.
const HEAD: usize = 8 + 4 + 4 + 1;

const ROW: u8 = 1;
const RECORD: u8 = 2;
const QUESTION: u8 = 3;

const NO_DIGEST: [u8; 16] = [0; 16];

impl Entry<'_> {
    /// Appends the entry to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        // A key is a part of a row, which ends at a gigabyte.
        let length = u32::try_from(self.key.len()).unwrap_or(u32::MAX);
        let key = &self.key[..length as usize];
        out.extend(self.place.to_le_bytes());
        out.extend(self.subject.to_le_bytes());
        out.extend(length.to_le_bytes());
        match self.fact {
            Fact::Row(digest) => {
                out.push(ROW);
                out.extend(digest.0);
            }
            Fact::Record(record) => {
                let (content, digest) = match record.content {
                    Content::Nothing => (0, NO_DIGEST),
                    Content::Row(digest) => (1, digest.0),
                    Content::Incomplete => (2, NO_DIGEST),
                };
                out.push(RECORD);
                out.extend(record.partition.to_le_bytes());
                out.extend(record.offset.to_le_bytes());
                out.extend([u8::from(record.is_newer), content]);
                out.extend(digest);
            }
            Fact::Question(look) => {
                let (looked, row, records) = match look {
                    None => (0, NO_DIGEST, NO_DIGEST),
                    Some(Look { row: None, records }) => (1, NO_DIGEST, records.0),
                    Some(Look {
                        row: Some(row),
                        records,
                    }) => (2, row.0, records.0),
                };
                out.push(QUESTION);
                out.push(looked);
                out.extend(row);
                out.extend(records);
            }
        }
        out.extend_from_slice(key);
    }

    /// Reads the next entry, its key into `key`; none at the end.
    ///
    /// # Errors
    /// The input fails, or holds something else.
    pub(super) fn read<'k>(
        input: &mut impl Read,
        key: &'k mut Vec<u8>,
    ) -> io::Result<Option<Entry<'k>>> {
        let mut head = [0; HEAD];
        if !filled(input, &mut head)? {
            return Ok(None);
        }
        let mut head = &head[..];
        let place = u64::from_le_bytes(take(&mut head)?);
        let subject = u32::from_le_bytes(take(&mut head)?);
        let length = u32::from_le_bytes(take(&mut head)?);
        let [kind] = take(&mut head)?;
        let fact = match kind {
            ROW => Fact::Row(Digest(read(input)?)),
            RECORD => {
                let partition = i32::from_le_bytes(read(input)?);
                let offset = i64::from_le_bytes(read(input)?);
                let [newer, content] = read(input)?;
                let digest = Digest(read(input)?);
                Fact::Record(Record {
                    partition,
                    offset,
                    is_newer: newer == 1,
                    content: match content {
                        0 => Content::Nothing,
                        1 => Content::Row(digest),
                        2 => Content::Incomplete,
                        _ => return Err(damaged()),
                    },
                })
            }
            QUESTION => {
                let [looked] = read(input)?;
                let (row, records) = (Digest(read(input)?), Digest(read(input)?));
                Fact::Question(match looked {
                    0 => None,
                    1 => Some(Look { row: None, records }),
                    2 => Some(Look {
                        row: Some(row),
                        records,
                    }),
                    _ => return Err(damaged()),
                })
            }
            _ => return Err(damaged()),
        };
        key.clear();
        let read = input.take(u64::from(length)).read_to_end(key)?;
        if read != length as usize {
            return Err(damaged());
        }
        Ok(Some(Entry {
            place,
            subject,
            key,
            fact,
        }))
    }
}

fn read<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> io::Result<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>().ok_or_else(damaged)?;
    *bytes = rest;
    Ok(*first)
}

/// False at the end of the input.
fn filled(input: &mut impl Read, into: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0;
    while filled < into.len() {
        match input.read(&mut into[filled..])? {
            0 if filled == 0 => return Ok(false),
            0 => return Err(damaged()),
            read => filled += read,
        }
    }
    Ok(true)
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it was changed by somebody")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn entries_read_back_as_they_were_written() {
        let digest = Digest([7; 16]);
        let record = |content| {
            Fact::Record(Record {
                partition: 3,
                offset: 1 << 40,
                is_newer: content == Content::Nothing,
                content,
            })
        };
        let look = |row| {
            Fact::Question(Some(Look {
                row,
                records: Digest([9; 16]),
            }))
        };
        let facts = [
            Fact::Row(digest),
            record(Content::Nothing),
            record(Content::Row(digest)),
            record(Content::Incomplete),
            Fact::Question(None),
            look(None),
            look(Some(digest)),
        ];
        let keys: [&[u8]; 3] = [b"", b"{\"id\":1}", &[0xFF; 300]];
        let mut bytes = Vec::new();
        for fact in facts {
            for key in keys {
                let entry = Entry {
                    place: u64::MAX - 1,
                    subject: 2,
                    key,
                    fact,
                };
                entry.write(&mut bytes);
            }
        }
        let mut input = &bytes[..];
        let mut buffer = Vec::new();
        for fact in facts {
            for key in keys {
                let entry = Entry::read(&mut input, &mut buffer).unwrap().unwrap();
                assert_eq!((entry.place, entry.subject), (u64::MAX - 1, 2));
                assert_eq!((entry.key, entry.fact), (key, fact));
            }
        }
        assert_eq!(Entry::read(&mut input, &mut buffer).unwrap(), None);
        let cut = &bytes[..bytes.len() - 1];
        let mut input = cut;
        let outcome = std::iter::from_fn(|| {
            let read = Entry::read(&mut input, &mut buffer).map(|entry| entry.map(drop));
            read.transpose()
        })
        .find(Result::is_err);
        assert!(outcome.is_some(), "a cut entry is an error");
    }
}
