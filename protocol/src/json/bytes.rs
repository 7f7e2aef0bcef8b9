//! `bytea` and `uuid`: bytes as hexadecimal digits.

/// The two digits of each byte.
pub(super) const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 0xF]];
        byte += 1;
    }
    table
};

/// Writes `"\\x…"`: the hex form of `bytea_output`, its backslash escaped.
pub fn bytea(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() * 2 + 5);
    out.extend_from_slice(br#""\\x"#);
    let start = out.len();
    out.resize(start + bytes.len() * 2, 0);
    hex(&mut out[start..], bytes);
    out.push(b'"');
}

/// Writes a UUID in its five groups.
pub fn uuid(out: &mut Vec<u8>, uuid: &[u8; 16]) {
    let mut text = *br#""00000000-0000-0000-0000-000000000000""#;
    hex(&mut text[1..9], &uuid[..4]);
    hex(&mut text[10..14], &uuid[4..6]);
    hex(&mut text[15..19], &uuid[6..8]);
    hex(&mut text[20..24], &uuid[8..10]);
    hex(&mut text[25..37], &uuid[10..]);
    out.extend_from_slice(&text);
}

fn hex(text: &mut [u8], bytes: &[u8]) {
    let (pairs, _) = text.as_chunks_mut::<2>();
    for (pair, byte) in pairs.iter_mut().zip(bytes) {
        *pair = HEX[usize::from(*byte)];
    }
}

#[cfg(test)]
mod tests {
    use super::super::written;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytea_has_an_escaped_backslash() {
        assert_eq!(written(|out| bytea(out, b"")), r#""\\x""#);
        assert_eq!(
            written(|out| bytea(out, &[0xDE, 0xAD, 0, 0x0F])),
            r#""\\xdead000f""#
        );
    }

    #[test]
    fn uuid_has_five_groups() {
        assert_eq!(
            written(|out| uuid(
                out,
                &0x0123_4567_89AB_CDEF_FEDC_BA98_7654_3210_u128.to_be_bytes()
            )),
            r#""01234567-89ab-cdef-fedc-ba9876543210""#
        );
    }

    proptest! {
        #[test]
        fn every_byte_is_two_digits(bytes: Vec<u8>) {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(written(|out| bytea(out, &bytes)), format!(r#""\\x{digits}""#));
        }
    }
}
