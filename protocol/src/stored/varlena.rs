//! The header that a value of variable length begins with (`varatt.h`).

/// A header of four bytes.
const LONG: usize = 4;

/// The size of the varlena at the beginning of `bytes`, header included; none if it is not
/// there whole or says that its content is elsewhere.
pub(super) fn size(bytes: &[u8]) -> Option<usize> {
    let first = *bytes.first()?;
    let size = if is_short(first) {
        // All other bits zero: a pointer to a value that is out of line.
        let size = short_size(first);
        if size == 0 {
            return None;
        }
        size
    } else {
        let header = u32::from_ne_bytes(*bytes.first_chunk()?);
        let size = if cfg!(target_endian = "little") {
            header >> 2
        } else {
            header & 0x3FFF_FFFF
        };
        usize::try_from(size).ok().filter(|size| *size >= LONG)?
    };
    (size <= bytes.len()).then_some(size)
}

/// Whether a varlena's first byte is that of a header of one byte.
fn is_short(first: u8) -> bool {
    if cfg!(target_endian = "little") {
        first & 0x01 != 0
    } else {
        first & 0x80 != 0
    }
}

fn short_size(first: u8) -> usize {
    usize::from(if cfg!(target_endian = "little") {
        first >> 1
    } else {
        first & 0x7F
    })
}

/// The bytes of padding before a value at `offset` or behind it: `att_align_pointer` in
/// `tupmacs.h`. A varlena with a short header is not aligned; it is known by its first byte,
/// which is not zero, as that of padding is. `before` is what stands before `bytes` and counts.
/// None where the value would begin behind the end.
pub(super) fn padding(
    bytes: &[u8],
    offset: usize,
    before: usize,
    length: i16,
    alignment: usize,
) -> Option<usize> {
    if length == -1 && *bytes.get(offset)? != 0 {
        return Some(0);
    }
    let from_header = offset + before;
    Some(from_header.next_multiple_of(alignment) - from_header)
}
