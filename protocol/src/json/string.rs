//! Text as JSON strings, and `json` values on one line.

/// Bytes of a long text looked at together, as the widest registers take them.
const BLOCK: usize = 64;
/// Bytes looked at together where one of them may need an escape: one machine word.
const WORD: usize = size_of::<u64>();
/// A word of ones, to spread a byte over a word.
const ONES: u64 = u64::MAX / 0xFF;
/// The top bit of each byte of a word.
const TOPS: u64 = ONES << 7;

/// Writes `text` between quotes, escaped as Postgres does: `\b \f \n \r \t \" \\`, other
/// bytes below 0x20 as `\u00xx`, and everything else as it is.
///
/// The caller answers for `text` being UTF-8.
pub fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    string_part(out, text);
    out.push(b'"');
}

/// The most bytes that one byte of a text becomes: `\u00xx`.
pub const LONGEST_ESCAPE: usize = 6;

/// Writes a part of a text as [`string`] does, without the quotes around the whole.
pub fn string_part(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while let Some(clean) = first_escaped(rest) {
        out.extend_from_slice(&rest[..clean]);
        escape(out, rest[clean]);
        rest = &rest[clean + 1..];
    }
    out.extend_from_slice(rest);
}

/// Writes a `json` value on one line: CR, LF and TAB, which can stand raw only between
/// its tokens, become spaces.
pub fn json_line(out: &mut Vec<u8>, json: &[u8]) {
    let start = out.len();
    out.extend_from_slice(json);
    for byte in &mut out[start..] {
        if matches!(*byte, b'\r' | b'\n' | b'\t') {
            *byte = b' ';
        }
    }
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Where the first byte stands that cannot be copied. It is looked for word by word at first,
/// since a text that has such bytes has many, then block by block.
fn first_escaped(text: &[u8]) -> Option<usize> {
    let (near, far) = text.split_at(text.len().min(BLOCK));
    first_escaped_by_word(near).or_else(|| {
        let clean = clean_blocks(far);
        first_escaped_by_word(&far[clean..]).map(|index| near.len() + clean + index)
    })
}

/// How many bytes stand before the first block that has one that needs an escape.
fn clean_blocks(text: &[u8]) -> usize {
    let (blocks, _) = text.as_chunks::<BLOCK>();
    let dirty = |block: &[u8; BLOCK]| {
        let found = |found: u8, &byte: &u8| found | u8::from(needs_escape(byte));
        block.iter().fold(0, found) != 0
    };
    let clean = blocks.iter().position(dirty);
    clean.unwrap_or(blocks.len()) * BLOCK
}

fn first_escaped_by_word(text: &[u8]) -> Option<usize> {
    let (words, tail) = text.as_chunks::<WORD>();
    for (index, word) in words.iter().enumerate() {
        let hits = escaped_in_word(u64::from_le_bytes(*word));
        if hits != 0 {
            return Some(index * WORD + hits.trailing_zeros() as usize / 8);
        }
    }
    tail.iter()
        .position(|&byte| needs_escape(byte))
        .map(|index| words.len() * WORD + index)
}

/// Sets the top bit of bytes that need an escape. The lowest bit set is exact; a borrow
/// may set more above it, which nobody looks at.
fn escaped_in_word(word: u64) -> u64 {
    let below = |word: u64, bound: u8| word.wrapping_sub(ONES * u64::from(bound)) & !word;
    let quote = below(word ^ (ONES * u64::from(b'"')), 1);
    let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
    (below(word, 0x20) | quote | backslash) & TOPS
}

#[cold]
fn escape(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        0x08 => b'b',
        0x0C => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        b'"' | b'\\' => byte,
        _ => {
            let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble & 0xF)];
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use super::super::written;
    use super::*;
    use proptest::prelude::*;

    /// The definition, byte by byte.
    fn escaped(text: &str) -> String {
        let mut json = String::from('"');
        for c in text.chars() {
            match c {
                '\u{8}' => json.push_str("\\b"),
                '\u{c}' => json.push_str("\\f"),
                '\n' => json.push_str("\\n"),
                '\r' => json.push_str("\\r"),
                '\t' => json.push_str("\\t"),
                '"' | '\\' => json.extend(['\\', c]),
                c if c < ' ' => json.push_str(&format!("\\u{:04x}", u32::from(c))),
                c => json.push(c),
            }
        }
        json + "\""
    }

    #[test]
    fn every_byte_is_escaped_at_every_place_of_a_word() {
        for byte in 0..0x80_u8 {
            for before in (0..=WORD).chain(BLOCK - 2..=BLOCK + 2) {
                for after in [0, 1, 7, 8, 9] {
                    let text = format!(
                        "{}{}{}",
                        "é".repeat(before),
                        byte as char,
                        "~".repeat(after)
                    );
                    assert_eq!(written(|out| string(out, text.as_bytes())), escaped(&text));
                }
            }
        }
    }

    #[test]
    fn a_json_value_comes_on_one_line() {
        assert_eq!(
            written(|out| json_line(out, b"{\r\n\t\"a\" :\t\"\\n\"\n}")),
            "{   \"a\" : \"\\n\" }"
        );
    }

    proptest! {
        #[test]
        fn a_string_is_escaped_by_the_definition(text in "[\\x01-\\x22\\\\-~\\PC]{0,40}[a-z]{0,300}[\\x01-\\x22\\\\-~\\PC]{0,40}") {
            let json = written(|out| string(out, text.as_bytes()));
            prop_assert_eq!(&json, &escaped(&text));
            prop_assert_eq!(serde_json::from_str::<String>(&json).ok(), Some(text));
        }

        #[test]
        fn bytes_that_are_no_utf8_pass_too(text: Vec<u8>) {
            string(&mut Vec::new(), &text);
        }
    }
}
