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

use headwater_protocol::stored::BoundLayout;
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

/// An array, or a bound of a range, is not stored as its header says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Malformed;

/// Length and lower bound.
pub(crate) type Dimension = (i32, i32);

/// A stored array.
pub(crate) struct ArrayRef<'a> {
    pub(crate) element_type: u32,
    dimensions: [Dimension; MAX_DIMENSIONS],
    /// So many of them are there.
    in_use: usize,
    count: usize,
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
    /// Of a type, or of the one that a domain is made of: a catalog lookup.
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

impl ElementLayout {
    /// The value at `start`, which is aligned as its type asks, and where it ends.
    pub(super) fn value<'a>(
        self,
        bytes: &'a [u8],
        start: usize,
    ) -> Result<(Value<'a>, usize), Malformed> {
        let rest = bytes.get(start..).ok_or(Malformed)?;
        let size = match self.length {
            -1 => varlena_size(rest)?,
            -2 => rest.iter().position(|byte| *byte == 0).ok_or(Malformed)? + 1,
            length => usize::try_from(length).map_err(|_| Malformed)?,
        };
        let element = rest.get(..size).ok_or(Malformed)?;
        let datum = if self.by_value {
            fetch(element)?
        } else {
            pg_sys::Datum::from(element.as_ptr())
        };
        let value = Value {
            datum,
            length: self.length,
            by_value: self.by_value,
            row: PhantomData,
        };
        Ok((value, start + size))
    }

    /// The value that `bytes` are, as a range has it: aligned as its type asks, like the range
    /// itself.
    pub(crate) fn whole<'a>(self, bytes: &'a [u8]) -> Result<Value<'a>, Malformed> {
        Ok(self.value(bytes, 0)?.0)
    }

    /// How the bounds of a range over this type are laid out.
    pub(crate) fn as_bound(self) -> BoundLayout {
        BoundLayout::new(self.length, self.alignment)
    }
}

impl<'a> ArrayRef<'a> {
    /// `bytes` is the whole varlena, with a header of four bytes and aligned as the server
    /// aligns it.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let word = |at: usize| -> Result<i32, Malformed> {
            let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
            Ok(i32::from_ne_bytes(*word.ok_or(Malformed)?))
        };
        let length = |at: usize| usize::try_from(word(at)?).map_err(|_| Malformed);
        let dimensions = length(WORD)?;
        if dimensions > MAX_DIMENSIONS {
            return Err(Malformed);
        }
        let mut described = [(0, 0); MAX_DIMENSIONS];
        let mut count = usize::from(dimensions > 0);
        for (index, dimension) in described[..dimensions].iter_mut().enumerate() {
            let length_at = LENGTHS + index * WORD;
            *dimension = (word(length_at)?, word(length_at + dimensions * WORD)?);
            count = count.checked_mul(length(length_at)?).ok_or(Malformed)?;
        }
        let bitmap = LENGTHS + 2 * dimensions * WORD;
        let (nulls, data) = match length(2 * WORD)? {
            0 => (None, bitmap.next_multiple_of(MAX_ALIGNMENT)),
            data => {
                let nulls = bytes
                    .get(bitmap..)
                    .and_then(|rest| rest.get(..count.div_ceil(8)))
                    .ok_or(Malformed)?;
                (Some(nulls), data)
            }
        };
        Ok(ArrayRef {
            element_type: word(3 * WORD)?.cast_unsigned(),
            dimensions: described,
            in_use: if count == 0 { 0 } else { dimensions },
            count,
            bytes,
            nulls,
            data,
        })
    }

    /// The dimensions, outermost first; none for the empty array.
    pub(crate) fn dimensions(&self) -> &[Dimension] {
        &self.dimensions[..self.in_use]
    }

    /// How many elements there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The elements, which are of this layout.
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
    pub(crate) fn next(&mut self) -> Result<Option<Value<'a>>, Malformed> {
        let index = self.index;
        self.index += 1;
        if let Some(nulls) = self.nulls {
            let byte = nulls.get(index / 8).ok_or(Malformed)?;
            if byte >> (index % 8) & 1 == 0 {
                return Ok(None);
            }
        }
        let start = self.offset.next_multiple_of(self.layout.alignment);
        let (element, end) = self.layout.value(self.bytes, start)?;
        self.offset = end;
        Ok(Some(element))
    }
}

/// A number that is passed by value, from the array.
fn fetch(element: &[u8]) -> Result<pg_sys::Datum, Malformed> {
    let fetched = match *element {
        [a] => u64::from(a),
        [a, b] => u64::from(u16::from_ne_bytes([a, b])),
        [a, b, c, d] => u64::from(u32::from_ne_bytes([a, b, c, d])),
        [a, b, c, d, e, f, g, h] => u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
        _ => return Err(Malformed),
    };
    Ok(pg_sys::Datum::from(fetched))
}

/// The size of the varlena at the beginning of `bytes`, header included.
fn varlena_size(bytes: &[u8]) -> Result<usize, Malformed> {
    if bytes.is_empty() {
        return Err(Malformed);
    }
    let pointer = bytes.as_ptr().cast::<pg_sys::varlena>();
    // SAFETY: the first byte is there; more is read only where it says so and there are
    // four, which an element with a header of four bytes has, and is aligned to.
    let (size, least) = unsafe {
        if pgrx::varatt_is_1b_e(pointer) {
            // Out of line: not in an array.
            return Err(Malformed);
        } else if pgrx::varatt_is_1b(pointer) {
            (pgrx::varsize_1b(pointer), 1)
        } else if bytes.len() < WORD {
            return Err(Malformed);
        } else if pgrx::varatt_is_4b_u(pointer) {
            (pgrx::varsize_4b(pointer), WORD)
        } else {
            // Compressed: the size that it expands to comes next.
            (pgrx::varsize_4b(pointer), 2 * WORD)
        }
    };
    if size < least {
        return Err(Malformed);
    }
    Ok(size)
}
