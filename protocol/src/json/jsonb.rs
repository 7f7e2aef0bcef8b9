//! `jsonb`, straight from its stored form, printed as `jsonb::text` prints it.
//!
//! ```text
//! container := header: u32, entry: u32 …, data
//! header       low 28 bits: how many elements or pairs; then scalar, object, array
//! entry        bits 0-27: a length, or with bit 31 an offset; bits 28-30: the type
//! data         what the entries describe, one behind the other
//! ```
//!
//! An array has an entry an element; an object has one a key, then one a value in the
//! same order. A length is that of the entry's data; an offset is where its data ends,
//! counted from the begin of the container's data, and stands in every 32nd entry so
//! that one element can be found without adding up all lengths before it. Numbers and
//! containers begin at the next multiple of four, and what is left out before them counts
//! as theirs. A scalar is stored as an array of one element, marked.
//!
//! # Why a crooked value cannot do harm
//!
//! Every position is found by a checked slice of the container around it, so an
//! entry that reaches past its container is an error. Each level takes eight bytes of
//! input at least and keeps its place on the heap, so depth is bounded by the input's
//! length, not by the thread's stack.
//!
//! Length is bounded too, and honest values need that as well: `1e131071` takes eight
//! bytes here and 131,072 as text, so a megabyte of them would print 13 gigabytes.

use super::{LONGEST_ESCAPE, ValueError, numeric, string, string_part};

const COUNT_MASK: u32 = 0x0FFF_FFFF;
const IS_SCALAR: u32 = 0x1000_0000;
const IS_OBJECT: u32 = 0x2000_0000;
const IS_ARRAY: u32 = 0x4000_0000;

const LENGTH_MASK: u32 = 0x0FFF_FFFF;
const TYPE_MASK: u32 = 0x7000_0000;
const HAS_OFFSET: u32 = 0x8000_0000;

const STRING: u32 = 0x0000_0000;
const NUMERIC: u32 = 0x1000_0000;
const FALSE: u32 = 0x2000_0000;
const TRUE: u32 = 0x3000_0000;
const NULL: u32 = 0x4000_0000;
const CONTAINER: u32 = 0x5000_0000;

/// Bytes of a header and of an entry, and what numbers and containers are aligned to.
const WORD: usize = size_of::<u32>();

type Result<T, E = ValueError> = std::result::Result<T, E>;

/// The longest text of one `jsonb` that [`jsonb`] writes: 256 MiB, the most that a row
/// may be allowed to have.
pub const MAX_JSONB_TEXT_BYTES: usize = 256 << 20;

/// Text is written in pieces of this many bytes, each given room by an allocation that may
/// fail: a failed one inside a growing buffer would abort the process.
const PIECE: usize = 64 << 10;
/// What is kept ahead of a buffer that is longer than this: more than any element takes that
/// is not given room by itself.
const ROOM: usize = 8 * PIECE;

/// Writes a `jsonb` from the bytes that follow its varlena header.
pub fn jsonb(out: &mut Vec<u8>, container: &[u8]) -> Result<()> {
    jsonb_within(out, container, MAX_JSONB_TEXT_BYTES)
}

/// Writes a `jsonb` and stops with [`ValueError::TooLarge`] at the first element that
/// ends past `max_bytes` of text.
pub fn jsonb_within(out: &mut Vec<u8>, container: &[u8], max_bytes: usize) -> Result<()> {
    let end = out.len().saturating_add(max_bytes);
    let mut current = Container::read(container)?;
    let mut parents = Vec::new();
    current.open(out);
    loop {
        let element = current.next(out, end)?;
        if out.len() > end {
            return Err(ValueError::TooLarge);
        }
        if out.len() >= ROOM {
            make_room(out, ROOM)?;
        }
        match element {
            Some(Element::Written) => {}
            Some(Element::Container(bytes)) => {
                let nested = Container::read(bytes)?;
                if nested.shape == Shape::Scalar {
                    return Err(ValueError::MalformedJsonb);
                }
                nested.open(out);
                parents.push(std::mem::replace(&mut current, nested));
            }
            None => {
                current.close(out);
                match parents.pop() {
                    Some(parent) => current = parent,
                    None => return Ok(()),
                }
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Array,
    Object,
    Scalar,
}

enum Element<'a> {
    Written,
    Container(&'a [u8]),
}

/// A container and how far it is written.
struct Container<'a> {
    shape: Shape,
    /// Of an object, keys first.
    entries: &'a [[u8; WORD]],
    data: &'a [u8],
    /// The next element or pair.
    index: usize,
    keys: Cursor,
    values: Cursor,
}

/// Where the data of the next entry begins.
#[derive(Clone, Copy, Default)]
struct Cursor {
    offset: usize,
}

impl<'a> Container<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self> {
        let (header, rest) = bytes
            .split_first_chunk::<WORD>()
            .ok_or(ValueError::MalformedJsonb)?;
        let header = u32::from_ne_bytes(*header);
        let count = (header & COUNT_MASK) as usize;
        let (shape, entries) = match header & !COUNT_MASK {
            IS_ARRAY => (Shape::Array, count),
            IS_OBJECT => (Shape::Object, count * 2),
            both if both == IS_ARRAY | IS_SCALAR && count == 1 => (Shape::Scalar, count),
            _ => return Err(ValueError::MalformedJsonb),
        };
        let (entries, data) = rest
            .split_at_checked(entries * WORD)
            .ok_or(ValueError::MalformedJsonb)?;
        let (entries, _) = entries.as_chunks();
        let mut container = Container {
            shape,
            entries,
            data,
            index: 0,
            keys: Cursor::default(),
            values: Cursor::default(),
        };
        if shape == Shape::Object {
            container.values.offset = container.end_of_keys(count)?;
        }
        Ok(container)
    }

    /// Where the last key ends and the first value begins.
    fn end_of_keys(&self, count: usize) -> Result<usize> {
        let mut offset = 0_usize;
        for entry in self.entries[..count].iter().rev() {
            let entry = u32::from_ne_bytes(*entry);
            offset += (entry & LENGTH_MASK) as usize;
            if entry & HAS_OFFSET != 0 {
                break;
            }
        }
        Ok(offset)
    }

    fn open(&self, out: &mut Vec<u8>) {
        match self.shape {
            Shape::Array => out.push(b'['),
            Shape::Object => out.push(b'{'),
            Shape::Scalar => {}
        }
    }

    fn close(&self, out: &mut Vec<u8>) {
        match self.shape {
            Shape::Array => out.push(b']'),
            Shape::Object => out.push(b'}'),
            Shape::Scalar => {}
        }
    }

    /// Writes the next element or pair as far as it is no container, none at the end. A text
    /// is left where it passes `end`.
    fn next(&mut self, out: &mut Vec<u8>, end: usize) -> Result<Option<Element<'a>>> {
        let value = match self.shape {
            Shape::Object => self.entries.len() / 2 + self.index,
            Shape::Array | Shape::Scalar => self.index,
        };
        let Some(value) = self.entries.get(value) else {
            return Ok(None);
        };
        if self.index > 0 {
            out.extend_from_slice(b", ");
        }
        if self.shape == Shape::Object {
            let (kind, key) = self.keys.advance(self.entries[self.index], self.data)?;
            if kind != STRING {
                return Err(ValueError::MalformedJsonb);
            }
            text(out, key.bytes, end)?;
            out.extend_from_slice(b": ");
        }
        self.index += 1;
        let (kind, data) = self.values.advance(*value, self.data)?;
        match kind {
            STRING => text(out, data.bytes, end)?,
            NUMERIC => numeric(out, after_varlena_header(data.aligned()?)?)?,
            TRUE => out.extend_from_slice(b"true"),
            FALSE => out.extend_from_slice(b"false"),
            NULL => out.extend_from_slice(b"null"),
            CONTAINER => return data.aligned().map(Element::Container).map(Some),
            _ => return Err(ValueError::MalformedJsonb),
        }
        Ok(Some(Element::Written))
    }
}

fn text(out: &mut Vec<u8>, text: &[u8], end: usize) -> Result<()> {
    if text.len() < PIECE {
        string(out, text);
        return Ok(());
    }
    out.push(b'"');
    for piece in text.chunks(PIECE) {
        make_room(out, LONGEST_ESCAPE * piece.len() + 1)?;
        string_part(out, piece);
        if out.len() > end {
            return Err(ValueError::TooLarge);
        }
    }
    out.push(b'"');
    Ok(())
}

fn make_room(out: &mut Vec<u8>, bytes: usize) -> Result<()> {
    out.try_reserve(bytes).map_err(|_| ValueError::OutOfMemory)
}

impl Cursor {
    /// The type of `entry`, whose data begins here, and that data.
    fn advance<'a>(&mut self, entry: [u8; WORD], data: &'a [u8]) -> Result<(u32, Data<'a>)> {
        let entry = u32::from_ne_bytes(entry);
        let field = (entry & LENGTH_MASK) as usize;
        let start = self.offset;
        let end = if entry & HAS_OFFSET != 0 {
            field
        } else {
            start + field
        };
        let bytes = data.get(start..end).ok_or(ValueError::MalformedJsonb)?;
        self.offset = end;
        Ok((entry & TYPE_MASK, Data { start, bytes }))
    }
}

/// The data of one entry and where it begins.
struct Data<'a> {
    start: usize,
    bytes: &'a [u8],
}

impl<'a> Data<'a> {
    /// The data without the padding before it.
    fn aligned(&self) -> Result<&'a [u8]> {
        let padding = self.start.next_multiple_of(WORD) - self.start;
        self.bytes.get(padding..).ok_or(ValueError::MalformedJsonb)
    }
}

/// What follows the header of one byte or four; its length must be that of `bytes`.
fn after_varlena_header(bytes: &[u8]) -> Result<&[u8]> {
    let first = *bytes.first().ok_or(ValueError::MalformedJsonb)?;
    let (length, header) = match bytes.first_chunk::<WORD>() {
        _ if is_short_header(first) => (short_length(first), 1),
        Some(word) if is_plain_header(first) => (plain_length(*word), WORD),
        _ => return Err(ValueError::MalformedJsonb),
    };
    bytes.get(header..length).ok_or(ValueError::MalformedJsonb)
}

// The two bits that tell varlena headers apart are the first in memory, on every machine.

#[cfg(target_endian = "little")]
mod header {
    pub(super) fn is_short_header(first: u8) -> bool {
        first & 1 == 1
    }
    pub(super) fn is_plain_header(first: u8) -> bool {
        first & 3 == 0
    }
    pub(super) fn short_length(first: u8) -> usize {
        usize::from(first >> 1)
    }
    pub(super) fn plain_length(word: [u8; 4]) -> usize {
        (u32::from_le_bytes(word) >> 2) as usize
    }
}

#[cfg(target_endian = "big")]
mod header {
    pub(super) fn is_short_header(first: u8) -> bool {
        first & 0x80 != 0
    }
    pub(super) fn is_plain_header(first: u8) -> bool {
        first & 0xC0 == 0
    }
    pub(super) fn short_length(first: u8) -> usize {
        usize::from(first & 0x7F)
    }
    pub(super) fn plain_length(word: [u8; 4]) -> usize {
        (u32::from_be_bytes(word) & 0x3FFF_FFFF) as usize
    }
}

use header::{is_plain_header, is_short_header, plain_length, short_length};

#[cfg(test)]
mod tests;
