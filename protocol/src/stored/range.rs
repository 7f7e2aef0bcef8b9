//! Ranges and multiranges.
//!
//! ```text
//! range (rangetypes.c, range_serialize)     multirange (multirangetypes.c, write_multirange_data)
//!   header: [u8; 4]                           header: [u8; 4]
//!   range type: u32                           multirange type: u32
//!   lower bound, unless infinite or empty     ranges: u32
//!   upper bound, likewise                     items: [u32; ranges - 1]   offsets and lengths
//!   flags: u8                                 flags: [u8; ranges]
//!                                             for each range: padding, its lower and upper bound
//! ```
//!
//! Bounds are stored as elements of an array are: aligned as the subtype says, a varlena with
//! a short header not aligned, none out of line (`range_serialize` and `datum_write` expand
//! what is). The bounds of each range of a multirange begin aligned, and lie there as they do
//! behind the eight bytes of a range's own header; so they are read one behind
//! the other, and the items, which serve to find one range without the others, are passed over.
//!
//! Offsets count from a header of four bytes. A payload that stood behind a short one
//! has the same bytes.

use super::varlena;
use crate::ValueError;

const IS_EMPTY: u8 = 0x01;
const LOWER_INCLUSIVE: u8 = 0x02;
const UPPER_INCLUSIVE: u8 = 0x04;
const LOWER_INFINITE: u8 = 0x08;
const UPPER_INFINITE: u8 = 0x10;
/// Was for bounds that are null, which there are none of.
const LOWER_NULL: u8 = 0x20;
const UPPER_NULL: u8 = 0x40;

const WORD: usize = size_of::<u32>();
/// What offsets count besides the payload.
const HEADER: usize = 4;

/// How bounds are laid out: `typlen` and `typalign` of the subtype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoundLayout {
    length: i16,
    alignment: usize,
}

impl BoundLayout {
    /// `length` in bytes, -1 for a varlena, -2 for a terminated string; `alignment` in bytes,
    /// 1, 2, 4 or 8: any other is taken for 8.
    pub fn new(length: i16, alignment: usize) -> Self {
        let alignment = match alignment {
            1 | 2 | 4 => alignment,
            _ => 8,
        };
        BoundLayout { length, alignment }
    }

    /// The value that begins at `offset` of `payload` or behind its padding, and where it ends.
    fn read(self, payload: &[u8], offset: usize) -> Result<(&[u8], usize), ValueError> {
        let malformed = ValueError::MalformedRange;
        let BoundLayout { length, alignment } = self;
        let padding = varlena::padding(payload, offset, HEADER, length, alignment);
        let start = offset + padding.ok_or(malformed)?;
        let rest = payload.get(start..).ok_or(malformed)?;
        let size = match length {
            -1 => varlena::size(rest).ok_or(malformed)?,
            -2 => 1 + rest.iter().position(|byte| *byte == 0).ok_or(malformed)?,
            length => usize::try_from(length).map_err(|_| malformed)?,
        };
        let bound = rest.get(..size).ok_or(malformed)?;
        Ok((bound, start + size))
    }
}

/// A range. Its bounds are as they are stored: a varlena with its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range<'a> {
    /// No value is in it; it has no bounds then.
    pub is_empty: bool,
    /// Whether the lower bound is in it.
    pub lower_inclusive: bool,
    /// Whether the upper bound is in it.
    pub upper_inclusive: bool,
    /// None where it has no lower end.
    pub lower: Option<&'a [u8]>,
    /// None where it has no upper end.
    pub upper: Option<&'a [u8]>,
}

impl<'a> Range<'a> {
    /// Reads a range from the bytes that follow its varlena header: the OID of its type, and
    /// itself.
    pub fn read(payload: &'a [u8], bounds: BoundLayout) -> Result<(u32, Self), ValueError> {
        let (range_type, rest) = payload
            .split_first_chunk::<WORD>()
            .ok_or(ValueError::MalformedRange)?;
        let flags = *rest.last().ok_or(ValueError::MalformedRange)?;
        let body = &payload[..payload.len() - 1];
        let (range, _) = Range::with_flags(flags, body, WORD, bounds)?;
        Ok((u32::from_ne_bytes(*range_type), range))
    }

    /// The range with these flags, whose bounds begin at `offset`, and where they end.
    fn with_flags(
        flags: u8,
        payload: &'a [u8],
        offset: usize,
        bounds: BoundLayout,
    ) -> Result<(Self, usize), ValueError> {
        let mut end = offset;
        let mut bound = |absent: u8| {
            if flags & (IS_EMPTY | absent) != 0 {
                return Ok(None);
            }
            let (bound, behind) = bounds.read(payload, end)?;
            end = behind;
            Ok(Some(bound))
        };
        let lower = bound(LOWER_INFINITE | LOWER_NULL)?;
        let upper = bound(UPPER_INFINITE | UPPER_NULL)?;
        let range = Range {
            is_empty: flags & IS_EMPTY != 0,
            lower_inclusive: flags & LOWER_INCLUSIVE != 0,
            upper_inclusive: flags & UPPER_INCLUSIVE != 0,
            lower,
            upper,
        };
        Ok((range, end))
    }
}

/// The ranges of a multirange, in their order: an iterator that ends behind the first error.
#[derive(Clone, Debug)]
pub struct Multirange<'a> {
    payload: &'a [u8],
    flags: &'a [u8],
    bounds: BoundLayout,
    offset: usize,
}

impl<'a> Multirange<'a> {
    /// Reads a multirange from the bytes that follow its varlena header: the OID of its type,
    /// and its ranges.
    pub fn read(payload: &'a [u8], bounds: BoundLayout) -> Result<(u32, Self), ValueError> {
        let malformed = ValueError::MalformedRange;
        let (words, _) = payload.as_chunks::<WORD>();
        let [multirange_type, count, ..] = words else {
            return Err(malformed);
        };
        let count = u32::from_ne_bytes(*count) as usize;
        let items = count.saturating_sub(1);
        let flags_start = (2 + items) * WORD;
        let flags = payload
            .get(flags_start..)
            .and_then(|rest| rest.get(..count))
            .ok_or(malformed)?;
        let ranges = Multirange {
            payload,
            flags,
            bounds,
            offset: flags_start + count,
        };
        Ok((u32::from_ne_bytes(*multirange_type), ranges))
    }

    /// How many ranges are left.
    pub fn len(&self) -> usize {
        self.flags.len()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.flags.is_empty()
    }
}

impl<'a> Iterator for Multirange<'a> {
    type Item = Result<Range<'a>, ValueError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (flags, rest) = self.flags.split_first()?;
        self.flags = rest;
        let start = (self.offset + HEADER).next_multiple_of(self.bounds.alignment) - HEADER;
        let range = Range::with_flags(*flags, self.payload, start, self.bounds);
        Some(
            range
                .map(|(range, end)| {
                    self.offset = end;
                    range
                })
                .inspect_err(|_| self.flags = &[]),
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `text` as the server may store it: with a header of one byte, or of four on a boundary.
    fn text_bound(payload: &mut Vec<u8>, text: &[u8]) {
        let short = text.len() + 1;
        if short < 0x80 {
            let header = if cfg!(target_endian = "little") {
                short << 1 | 1
            } else {
                short | 0x80
            };
            payload.push(header as u8);
        } else {
            payload.resize(payload.len().next_multiple_of(4), 0);
            let long = text.len() as u32 + 4;
            let header = if cfg!(target_endian = "little") {
                long << 2
            } else {
                long
            };
            payload.extend(header.to_ne_bytes());
        }
        payload.extend_from_slice(text);
    }

    #[test]
    fn bounds_with_short_headers_are_not_aligned_and_long_ones_are() {
        let long = [b'z'; 200];
        for (lower, upper) in [(&b"a"[..], &b"bc"[..]), (b"a", &long), (&long, b"a")] {
            let mut payload = 4711_u32.to_ne_bytes().to_vec();
            text_bound(&mut payload, lower);
            text_bound(&mut payload, upper);
            payload.push(LOWER_INCLUSIVE);
            let (range_type, range) = match Range::read(&payload, BoundLayout::new(-1, 4)) {
                Ok(read) => read,
                Err(error) => panic!("{error}: {payload:?}"),
            };
            assert_eq!(range_type, 4711);
            assert!(range.lower_inclusive && !range.upper_inclusive && !range.is_empty);
            let ends = [range.lower, range.upper].map(|bound| bound.unwrap_or_default());
            assert!(
                ends[0].ends_with(lower) && ends[1].ends_with(upper),
                "{ends:?}"
            );
        }
    }

    #[test]
    fn a_bound_that_is_not_there_is_malformed() {
        let layout = BoundLayout::new(8, 8);
        for payload in [
            &[][..],
            &[0; 4],
            &[0; 5],
            &[0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0],
        ] {
            let read = Range::read(payload, layout).map(|(_, range)| range);
            assert_eq!(read, Err(ValueError::MalformedRange), "{payload:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(
            payload: Vec<u8>,
            ranges in 0..5_u32,
            length in -3..20_i16,
            alignment in 0..9_usize,
        ) {
            let layout = BoundLayout::new(length, alignment);
            let _ = Range::read(&payload, layout);
            let counted = [&[0; 4][..], &ranges.to_ne_bytes(), &payload].concat();
            for payload in [&payload, &counted] {
                if let Ok((_, ranges)) = Multirange::read(payload, layout) {
                    prop_assert!(ranges.count() <= payload.len());
                }
            }
        }
    }
}
