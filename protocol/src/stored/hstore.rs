//! `hstore`, the extension's type.
//!
//! ```text
//! count: u32      flag of the format since 9.0, 28 bits of pairs
//! entries: [u32]  a key and a value for each pair: flags, where its text ends
//! texts           one behind the other
//! ```
//!
//! The format before 9.0, which a cluster that was upgraded ever since may still hold, is
//! refused as malformed: `UPDATE … SET h = h || ''` writes it anew.

use crate::ValueError;

const CURRENT_FORMAT: u32 = 0x8000_0000;
const COUNT_MASK: u32 = 0x0FFF_FFFF;

const IS_NULL: u32 = 0x4000_0000;
const END_MASK: u32 = 0x3FFF_FFFF;

const WORD: usize = size_of::<u32>();

/// The pairs of an `hstore` in their order: keys, each once, and values or null, in the
/// database's encoding. An iterator that ends behind the first error.
#[derive(Clone, Debug)]
pub struct HstorePairs<'a> {
    entries: &'a [[[u8; WORD]; 2]],
    texts: &'a [u8],
    /// Where the next key begins.
    start: usize,
}

impl<'a> HstorePairs<'a> {
    /// Reads an `hstore` from the bytes that follow its varlena header.
    pub fn read(payload: &'a [u8]) -> Result<Self, ValueError> {
        let (count, rest) = payload
            .split_first_chunk()
            .ok_or(ValueError::MalformedHstore)?;
        let count = u32::from_ne_bytes(*count);
        if count & CURRENT_FORMAT == 0 {
            return Err(ValueError::MalformedHstore);
        }
        let pairs = (count & COUNT_MASK) as usize;
        let (entries, texts) = rest
            .split_at_checked(pairs * 2 * WORD)
            .ok_or(ValueError::MalformedHstore)?;
        let (entries, _) = entries.as_chunks::<WORD>();
        let (entries, _) = entries.as_chunks::<2>();
        Ok(HstorePairs {
            entries,
            texts,
            start: 0,
        })
    }

    /// How many pairs are left.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn text(&mut self, entry: u32) -> Result<&'a [u8], ValueError> {
        let end = (entry & END_MASK) as usize;
        let text = self.texts.get(self.start..end);
        self.start = end;
        text.ok_or(ValueError::MalformedHstore)
    }
}

impl<'a> Iterator for HstorePairs<'a> {
    type Item = Result<(&'a [u8], Option<&'a [u8]>), ValueError>;

    fn next(&mut self) -> Option<Self::Item> {
        let ([key, value], rest) = self.entries.split_first()?;
        self.entries = rest;
        let [key, value] = [key, value].map(|entry| u32::from_ne_bytes(*entry));
        let texts = self
            .text(key)
            .and_then(|key| Ok((key, self.text(value)?)))
            .map(|(key, text)| (key, (value & IS_NULL == 0).then_some(text)));
        if texts.is_err() {
            self.entries = &[];
        }
        Some(texts)
    }
}
