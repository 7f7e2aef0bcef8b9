//! `bit` and `varbit`: a number of bits, then the bits, the last byte filled up.

use super::ValueError;

/// How many bits the bytes that follow a varlena header hold, each one character as text.
pub fn bit_length(payload: &[u8]) -> Result<usize, ValueError> {
    let (length, bits) = payload
        .split_first_chunk()
        .ok_or(ValueError::MalformedBits)?;
    let length =
        usize::try_from(i32::from_ne_bytes(*length)).map_err(|_| ValueError::MalformedBits)?;
    if length.div_ceil(8) > bits.len() {
        return Err(ValueError::MalformedBits);
    }
    Ok(length)
}

/// Writes a `bit` or `varbit` from the bytes that follow its varlena header.
pub fn bits(out: &mut Vec<u8>, payload: &[u8]) -> Result<(), ValueError> {
    let length = bit_length(payload)?;
    let bytes = payload.get(size_of::<i32>()..).unwrap_or_default();
    out.reserve(length + 2);
    out.push(b'"');
    let end = out.len() + length;
    for byte in &bytes[..length.div_ceil(8)] {
        for bit in (0..8).rev() {
            out.push(b'0' + (byte >> bit & 1));
        }
    }
    out.truncate(end);
    out.push(b'"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::written;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_bit_is_a_character(text in "[01]{0,70}") {
            let mut payload = (text.len() as i32).to_ne_bytes().to_vec();
            for chunk in text.as_bytes().chunks(8) {
                let set = |(bit, digit): (usize, &u8)| (digit - b'0') << (7 - bit);
                payload.push(chunk.iter().enumerate().map(set).sum());
            }
            prop_assert_eq!(
                written(|out| bits(out, &payload).unwrap_or_default()),
                format!("\"{text}\"")
            );
        }

        #[test]
        fn no_bytes_make_a_writer_panic(bytes: Vec<u8>) {
            let _ = bits(&mut Vec::new(), &bytes);
        }
    }
}
