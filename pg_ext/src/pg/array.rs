//! Arrays, as they are stored.
//!
//! ```text
//! header: [u8; 4]   of the varlena
//! dimensions: i32   0 for the empty array
//! data offset: i32  0 where no element is null
//! element type: u32
//! lengths: [i32]    one a dimension
//! lower bounds: [i32]
//! null bitmap       1 for a value, from the lowest bit on
//! elements          the last dimension's first, each aligned as its type says, also
//!                   behind one with a short header (`att_align_nominal` in `arrayfuncs.c`)
//! ```
//!
//! Everything is read by checked slices: what reaches past the array's end is malformed.
//! No element is out of line: the server puts none into a container (the rule stands with
//! `toast_flatten_tuple_to_datum` in `heaptoast.c`; `construct_md_array` and
//! `array_set_element` expand each element), so that whoever moves a row need not look
//! inside its values.

use std::marker::PhantomData;

use pgrx::pg_sys;

use super::tuple::Value;

/// How values of a type are laid out in arrays.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ElementLayout {
    length: i16,
    by_value: bool,
    /// In bytes: 1, 2, 4 or 8.
    alignment: usize,
}

/// An array is not stored as its header says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MalformedArray;

/// A stored array.
pub(crate) struct ArrayRef<'a> {
    pub(crate) element_type: u32,
    /// Lengths, outermost first; none for the empty array.
    pub(crate) lengths: Vec<usize>,
    bytes: &'a [u8],
    nulls: Option<&'a [u8]>,
    data: usize,
}

/// Elements in their order.
pub(crate) struct Elements<'a> {
    layout: ElementLayout,
    bytes: &'a [u8],
    nulls: Option<&'a [u8]>,
    index: usize,
    offset: usize,
}

const LENGTHS: usize = 16;
const WORD: usize = size_of::<i32>();
/// `MAXDIM`.
const MAX_DIMENSIONS: usize = 6;
/// `MAXALIGN`.
const MAX_ALIGNMENT: usize = 8;

impl ElementLayout {
    /// Of a type that has no domain in front of it: a catalog lookup.
    pub(crate) fn of(type_oid: u32) -> Self {
        let (mut length, mut by_value, mut alignment) = (0_i16, false, 0);
        // SAFETY: a lookup in the system cache that writes through valid pointers.
        unsafe {
            pg_sys::get_typlenbyvalalign(
                pg_sys::Oid::from(type_oid),
                &mut length,
                &mut by_value,
                &mut alignment,
            );
        }
        ElementLayout {
            length,
            by_value,
            alignment: match alignment.cast_unsigned() {
                pg_sys::TYPALIGN_CHAR => 1,
                pg_sys::TYPALIGN_SHORT => 2,
                pg_sys::TYPALIGN_INT => 4,
                _ => 8,
            },
        }
    }
}

impl<'a> ArrayRef<'a> {
    /// `bytes` is the whole varlena, with a header of four bytes and aligned as the server
    /// aligns it.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, MalformedArray> {
        let word = |at: usize| -> Result<i32, MalformedArray> {
            let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
            Ok(i32::from_ne_bytes(*word.ok_or(MalformedArray)?))
        };
        let length = |at: usize| usize::try_from(word(at)?).map_err(|_| MalformedArray);
        let dimensions = length(WORD)?;
        if dimensions > MAX_DIMENSIONS {
            return Err(MalformedArray);
        }
        let lengths: Vec<usize> = (0..dimensions)
            .map(|dimension| length(LENGTHS + dimension * WORD))
            .collect::<Result<_, _>>()?;
        let count = lengths
            .iter()
            .try_fold(1, |count: usize, length| count.checked_mul(*length))
            .ok_or(MalformedArray)?;
        let bitmap = LENGTHS + 2 * dimensions * WORD;
        let (nulls, data) = match length(2 * WORD)? {
            0 => (None, bitmap.next_multiple_of(MAX_ALIGNMENT)),
            data => {
                let nulls = bytes
                    .get(bitmap..)
                    .and_then(|rest| rest.get(..count.div_ceil(8)))
                    .ok_or(MalformedArray)?;
                (Some(nulls), data)
            }
        };
        Ok(ArrayRef {
            element_type: word(3 * WORD)?.cast_unsigned(),
            lengths: if count == 0 { Vec::new() } else { lengths },
            bytes,
            nulls,
            data,
        })
    }

    /// The elements, which are of this layout. There are as many as the lengths say.
    pub(crate) fn elements(&self, layout: ElementLayout) -> Elements<'a> {
        Elements {
            layout,
            bytes: self.bytes,
            nulls: self.nulls,
            index: 0,
            offset: self.data,
        }
    }
}

impl<'a> Elements<'a> {
    /// The next element, none if it is null. Called no more often than there are elements.
    pub(crate) fn next(&mut self) -> Result<Option<Value<'a>>, MalformedArray> {
        let index = self.index;
        self.index += 1;
        if let Some(nulls) = self.nulls {
            let byte = nulls.get(index / 8).ok_or(MalformedArray)?;
            if byte >> (index % 8) & 1 == 0 {
                return Ok(None);
            }
        }
        let ElementLayout {
            length,
            by_value,
            alignment,
        } = self.layout;
        let start = self.offset.next_multiple_of(alignment);
        let rest = self.bytes.get(start..).ok_or(MalformedArray)?;
        let size = match length {
            -1 => varlena_size(rest)?,
            -2 => {
                rest.iter()
                    .position(|byte| *byte == 0)
                    .ok_or(MalformedArray)?
                    + 1
            }
            length => usize::try_from(length).map_err(|_| MalformedArray)?,
        };
        let element = rest.get(..size).ok_or(MalformedArray)?;
        self.offset = start + size;
        let datum = if by_value {
            fetch(element)?
        } else {
            pg_sys::Datum::from(element.as_ptr())
        };
        Ok(Some(Value {
            datum,
            length,
            by_value,
            row: PhantomData,
        }))
    }
}

/// A number that is passed by value, from the array.
fn fetch(element: &[u8]) -> Result<pg_sys::Datum, MalformedArray> {
    let fetched = match *element {
        [a] => u64::from(a),
        [a, b] => u64::from(u16::from_ne_bytes([a, b])),
        [a, b, c, d] => u64::from(u32::from_ne_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        _ => return Err(MalformedArray),
    };
    Ok(pg_sys::Datum::from(fetched))
}

/// The size of the varlena at the beginning of `bytes`, header included.
fn varlena_size(bytes: &[u8]) -> Result<usize, MalformedArray> {
    if bytes.is_empty() {
        return Err(MalformedArray);
    }
    let pointer = bytes.as_ptr().cast::<pg_sys::varlena>();
    // SAFETY: the first byte is there; more is read only where it says so and there are
    // four, which an element with a header of four bytes has, and is aligned to.
    let (size, least) = unsafe {
        if pgrx::varatt_is_1b_e(pointer) {
            // Out of line: not in an array.
            return Err(MalformedArray);
        } else if pgrx::varatt_is_1b(pointer) {
            (pgrx::varsize_1b(pointer), 1)
        } else if bytes.len() < WORD {
            return Err(MalformedArray);
        } else if pgrx::varatt_is_4b_u(pointer) {
            (pgrx::varsize_4b(pointer), WORD)
        } else {
            // Compressed: the size that it expands to comes next.
            (pgrx::varsize_4b(pointer), 2 * WORD)
        }
    };
    if size < least {
        return Err(MalformedArray);
    }
    Ok(size)
}
