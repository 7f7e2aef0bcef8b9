//! Entries on disk, in buckets that are small enough for memory.
//!
//! What is known of one key comes from two sides and in any order; a bucket holds all of it
//! for its keys. The files have no name: whatever ends the process, nothing is left behind.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::entry::Entry;
use crate::error::{Error, Result};

/// What a writer collects for a bucket before it writes: enough for a write to cost nothing
/// beside its entries, and with 256 buckets 4 MiB a writer.
const BUFFER_BYTES: usize = 16 << 10;

/// Into how many buckets one that is too large is cut, as a power of two.
const SPLIT_BITS: u32 = 4;

/// Buckets of entries.
pub(super) struct Spill {
    folder: PathBuf,
    /// How many bits of a place were used up by the buckets that these were cut from.
    used_bits: u32,
    /// As many buckets as these bits tell apart.
    bits: u32,
    buckets: Vec<Bucket>,
}

/// One file.
pub(super) struct Bucket {
    file: File,
    length: Mutex<u64>,
}

impl Spill {
    /// `1 << bits` empty buckets in `folder`.
    ///
    /// # Errors
    /// A file cannot be made there.
    pub(super) fn new(folder: &Path, bits: u32) -> Result<Self> {
        Spill::below(folder, 0, bits)
    }

    /// Empty buckets for the entries of one bucket of this.
    ///
    /// # Errors
    /// A file cannot be made.
    pub(super) fn split(&self) -> Result<Self> {
        Spill::below(&self.folder, self.used_bits + self.bits, SPLIT_BITS)
    }

    /// Whether the entries of a bucket can be told apart any further.
    pub(super) fn can_split(&self) -> bool {
        self.used_bits + self.bits + SPLIT_BITS <= u64::BITS
    }

    fn below(folder: &Path, used_bits: u32, bits: u32) -> Result<Self> {
        let bucket = || {
            let file = tempfile::tempfile_in(folder).map_err(|error| failed(folder, error))?;
            Ok(Bucket {
                file,
                length: Mutex::default(),
            })
        };
        let buckets = (0..1 << bits).map(|_| bucket()).collect::<Result<_>>()?;
        Ok(Spill {
            folder: folder.to_owned(),
            used_bits,
            bits,
            buckets,
        })
    }

    /// As many buckets as these bits tell apart.
    pub(super) fn bits(&self) -> u32 {
        self.bits
    }

    /// The buckets, by number.
    pub(super) fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// Writes entries from one thread.
    pub(super) fn writer(&self) -> Writer<'_> {
        Writer {
            spill: self,
            buffers: vec![Vec::new(); self.buckets.len()],
        }
    }

    /// Calls `each` with every entry that `bucket` holds at the call.
    ///
    /// # Errors
    /// The file cannot be read, or what `each` returns.
    pub(super) fn read(
        &self,
        bucket: &Bucket,
        mut each: impl FnMut(&Entry<'_>) -> Result<()>,
    ) -> Result<()> {
        let end = *bucket.length.lock().unwrap_or_else(PoisonError::into_inner);
        let stretch = Stretch {
            file: &bucket.file,
            offset: 0,
            end,
        };
        let mut input = BufReader::with_capacity(BUFFER_BYTES, stretch);
        let mut key = Vec::new();
        while let Some(entry) =
            Entry::read(&mut input, &mut key).map_err(|error| failed(&self.folder, error))?
        {
            each(&entry)?;
        }
        Ok(())
    }

    fn bucket(&self, place: u64) -> usize {
        let own = place.checked_shl(self.used_bits).unwrap_or(0);
        // The bits of a number of buckets fit an index.
        #[allow(clippy::cast_possible_truncation)]
        let index = own.checked_shr(u64::BITS - self.bits).unwrap_or(0) as usize;
        index
    }
}

/// Collects entries and writes them when there are enough.
#[must_use = "what is not finished is lost"]
pub(super) struct Writer<'s> {
    spill: &'s Spill,
    buffers: Vec<Vec<u8>>,
}

impl Writer<'_> {
    /// Takes an entry.
    ///
    /// # Errors
    /// The folder is full, as a rule.
    pub(super) fn write(&mut self, entry: &Entry<'_>) -> Result<()> {
        let bucket = self.spill.bucket(entry.place);
        if let Some(buffer) = self.buffers.get_mut(bucket) {
            entry.write(buffer);
            if buffer.len() >= BUFFER_BYTES {
                self.flush(bucket)?;
            }
        }
        Ok(())
    }

    /// Writes what is still collected.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(super) fn finish(mut self) -> Result<()> {
        (0..self.buffers.len()).try_for_each(|bucket| self.flush(bucket))
    }

    fn flush(&mut self, number: usize) -> Result<()> {
        let spill = self.spill;
        if let (Some(buffer), Some(bucket)) =
            (self.buffers.get_mut(number), spill.buckets.get(number))
        {
            let mut length = bucket.length.lock().unwrap_or_else(PoisonError::into_inner);
            bucket
                .file
                .write_all_at(buffer, *length)
                .map_err(|error| failed(&spill.folder, error))?;
            *length += buffer.len() as u64;
            buffer.clear();
            // A giant key's memory is not kept.
            buffer.shrink_to(2 * BUFFER_BYTES);
        }
        Ok(())
    }
}

/// A part of a file, which others may append to meanwhile.
struct Stretch<'f> {
    file: &'f File,
    offset: u64,
    end: u64,
}

impl Read for Stretch<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.offset).unwrap_or(usize::MAX);
        let wanted = left.min(into.len());
        let read = self.file.read_at(&mut into[..wanted], self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

fn failed(folder: &Path, error: io::Error) -> Error {
    Error::failed(format!(
        "a temporary file in {} cannot be used",
        folder.display()
    ))
    .with_source(error)
    .with_hint("Name a folder with more room with --temp-dir.")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use super::super::entry::{Digests, Fact};
    use super::*;

    fn entry(digests: Digests, key: &[u8]) -> Entry<'_> {
        Entry {
            place: digests.place(0, key),
            subject: 0,
            key,
            fact: Fact::Question(None),
        }
    }

    fn keys(spill: &Spill, bucket: &Bucket) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        spill
            .read(bucket, |entry| {
                keys.push(entry.key.to_vec());
                Ok(())
            })
            .unwrap();
        keys
    }

    #[test]
    fn what_several_threads_write_is_read_back_key_by_key_from_one_bucket() {
        let digests = Digests::new();
        let spill = Spill::new(&std::env::temp_dir(), 3).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut writer = spill.writer();
                    for number in 0..5000_u32 {
                        writer
                            .write(&entry(digests, &number.to_le_bytes()))
                            .unwrap();
                    }
                    writer.finish().unwrap();
                });
            }
        });
        let mut all = Vec::new();
        for bucket in spill.buckets() {
            let mut keys = keys(&spill, bucket);
            assert!(!keys.is_empty(), "a bucket of 8 is empty");
            keys.sort();
            assert!(keys.chunks(2).all(|pair| pair[0] == pair[1]), "{keys:?}");
            all.extend(keys);
        }
        assert_eq!(all.len(), 10_000);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 5000);
    }

    #[test]
    fn a_bucket_is_cut_by_bits_that_it_was_not_made_by() {
        let digests = Digests::new();
        let spill = Spill::new(&std::env::temp_dir(), 1).unwrap();
        let parts = spill.split().unwrap();
        let mut writer = parts.writer();
        let mut written = 0;
        for number in 0..2000_u32 {
            let key = number.to_le_bytes();
            let entry = entry(digests, &key);
            if spill.bucket(entry.place) == 1 {
                writer.write(&entry).unwrap();
                written += 1;
            }
        }
        writer.finish().unwrap();
        let counts = parts.buckets().iter().map(|part| keys(&parts, part).len());
        let counts: Vec<usize> = counts.collect();
        assert_eq!(counts.iter().sum::<usize>(), written);
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }
}
