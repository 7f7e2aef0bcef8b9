//! Avro's binary encoding (Avro specification, "Binary Encoding"), appended to a buffer.
//!
//! Nothing here allocates but the buffer itself. A record is its fields one behind the other,
//! so there is no writer for it; null is no bytes at all.

/// The branch of null in every union that has it: [`Schema::Optional`](super::Schema) puts it
/// first, since a default must be of the first branch.
pub const NULL: usize = 0;

/// The longest an `int` or a `long` can be.
const LONGEST_LONG: usize = 10;

/// Writes a `boolean`.
pub fn boolean(out: &mut Vec<u8>, value: bool) {
    out.push(u8::from(value));
}

/// Writes an `int`: as a `long`, the encodings are the same.
pub fn int(out: &mut Vec<u8>, value: i32) {
    long(out, i64::from(value));
}

/// Writes a `long`: zigzag, then seven bits a byte from the lowest on.
#[inline]
pub fn long(out: &mut Vec<u8>, value: i64) {
    let zigzag = (value << 1 ^ value >> 63).cast_unsigned();
    if zigzag < 0x80 {
        out.push(zigzag as u8);
    } else {
        long_of_many_bytes(out, zigzag);
    }
}

/// Collected first and appended at once: one check of the buffer's room a number.
fn long_of_many_bytes(out: &mut Vec<u8>, zigzag: u64) {
    let (bytes, length) = varint(zigzag);
    out.extend_from_slice(&bytes[..length]);
}

/// The bytes of an unsigned number and how many they are.
fn varint(mut rest: u64) -> ([u8; LONGEST_LONG], usize) {
    let mut bytes = [0; LONGEST_LONG];
    let mut length = 0;
    while rest >= 0x80 {
        bytes[length] = rest as u8 | 0x80;
        rest >>= 7;
        length += 1;
    }
    bytes[length] = rest as u8;
    (bytes, length + 1)
}

/// Writes a `float`, every NaN as it is.
pub fn float(out: &mut Vec<u8>, value: f32) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

/// Writes a `double`, every NaN as it is.
pub fn double(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_bits().to_le_bytes());
}

/// Writes `bytes`.
pub fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    length(out, value.len());
    out.extend_from_slice(value);
}

/// Writes a `string`. That `text` is UTF-8 is the caller's promise: readers refuse a record
/// with any other.
pub fn string(out: &mut Vec<u8>, text: &[u8]) {
    bytes(out, text);
}

/// Writes a `string` of what `print` appends, which is UTF-8.
///
/// The length comes first and is known last: a byte is kept for it, which does for texts under
/// 64 bytes; a longer one is moved by what its length takes more.
pub fn string_with<E>(
    out: &mut Vec<u8>,
    print: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    out.push(0);
    print(out)?;
    put_length(out, start);
    Ok(())
}

/// Writes a `string` of what `print` appends as a JSON string without escapes, as the writers
/// of [`crate::json`] do for types whose text is ASCII: its length takes the place
/// of the opening quote. What comes without quotes, a number, is written as it is.
pub fn unquoted<E>(
    out: &mut Vec<u8>,
    print: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    print(out)?;
    if out.len() >= start + 2 && out[start] == b'"' {
        out.pop();
    } else {
        out.insert(start, 0);
    }
    put_length(out, start);
    Ok(())
}

/// Puts the length of what follows the byte at `start` in its place.
#[inline]
fn put_length(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start - 1;
    if length < 64 {
        out[start] = 2 * length as u8;
    } else {
        put_long_length(out, start, length);
    }
}

/// The same where it takes more than a byte: what follows makes room for it.
fn put_long_length(out: &mut Vec<u8>, start: usize, length: usize) {
    let (bytes, taken) = varint(2 * length as u64);
    out.resize(out.len() + taken - 1, 0);
    out.copy_within(start + 1..start + 1 + length, start + taken);
    out[start..start + taken].copy_from_slice(&bytes[..taken]);
}

/// Writes the number of a union's branch, counted from 0. A value of that branch follows.
pub fn branch(out: &mut Vec<u8>, index: usize) {
    length(out, index);
}

/// Writes what comes before the items of an array or a map: all are in one block. The items
/// follow, each pair of a map as a `string` and a value; then [`end_items`].
pub fn begin_items(out: &mut Vec<u8>, count: usize) {
    if count > 0 {
        length(out, count);
    }
}

/// Writes the end of an array or a map: a block of no items.
pub fn end_items(out: &mut Vec<u8>) {
    out.push(0);
}

/// A length, a count or an index: a `long`. No slice is longer than `isize::MAX`.
fn length(out: &mut Vec<u8>, length: usize) {
    long(out, length as i64);
}

#[cfg(test)]
pub(super) mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::ValueError;
    use crate::json;
    use proptest::prelude::*;

    /// A `long` at the beginning of `bytes`, and what follows it.
    pub(in crate::avro) fn read_long(bytes: &[u8]) -> (i64, &[u8]) {
        let length = 1 + bytes.iter().take_while(|byte| **byte >= 0x80).count();
        let zigzag = bytes[..length]
            .iter()
            .rev()
            .fold(0_u64, |number, byte| number << 7 | u64::from(byte & 0x7F));
        let number = (zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed());
        (number, &bytes[length..])
    }

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = b"before".to_vec();
        write(&mut out);
        assert!(out.starts_with(b"before"), "{out:?}");
        out.split_off(6)
    }

    /// The table of the specification, "Primitive Types", and the ends.
    #[test]
    fn longs_are_zigzag_varints() {
        for (number, expected) in [
            (0, &[0][..]),
            (-1, &[1]),
            (1, &[2]),
            (-2, &[3]),
            (63, &[0x7E]),
            (-64, &[0x7F]),
            (64, &[0x80, 0x01]),
            (8192, &[0x80, 0x80, 0x01]),
            (i64::MAX, &[0xFE, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
            (i64::MIN, &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        ] {
            assert_eq!(written(|out| long(out, number)), expected, "{number}");
        }
    }

    #[test]
    fn a_string_has_its_length_in_front_however_long_it_is() {
        for length in [0, 1, 62, 63, 64, 65, 127, 8_191, 8_192, 2_000_000] {
            let text = vec![b'x'; length];
            let expected = written(|out| string(out, &text));
            let with = written(|out| {
                let Ok(()) = string_with::<Infallible>(out, |out| {
                    out.extend_from_slice(&text);
                    Ok(())
                });
            });
            assert!(with == expected, "{length} bytes");
            let quoted = [b"\"", &text[..], b"\""].concat();
            let without_quotes = written(|out| {
                let Ok(()) = unquoted::<Infallible>(out, |out| {
                    out.extend_from_slice(&quoted);
                    Ok(())
                });
            });
            assert!(without_quotes == expected, "{length} bytes in quotes");
        }
    }

    #[test]
    fn what_json_has_in_quotes_or_without_is_a_string() {
        for (write, expected) in [
            (json::pg_lsn as fn(&mut Vec<u8>, u64), "0/7B"),
            (json::unsigned, "123"),
        ] {
            let text = written(|out| {
                let Ok(()) = unquoted::<Infallible>(out, |out| {
                    write(out, 123);
                    Ok(())
                });
            });
            assert_eq!(text, written(|out| string(out, expected.as_bytes())));
        }
    }

    #[test]
    fn an_error_of_what_prints_is_told() {
        let error = Err(ValueError::MalformedJsonb);
        assert_eq!(string_with(&mut Vec::new(), |_| error), error);
        assert_eq!(unquoted(&mut Vec::new(), |_| error), error);
    }

    proptest! {
        #[test]
        fn a_long_reads_back(number: i64, shift in 0..64_u32) {
            let number = number >> shift;
            let bytes = written(|out| long(out, number));
            prop_assert!(bytes.len() <= LONGEST_LONG);
            prop_assert_eq!(read_long(&bytes), (number, &[][..]));
        }
    }
}
