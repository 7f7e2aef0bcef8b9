//! `hstore`, the extension's type, straight from its stored form.
//!
//! ```text
//! count: u32      flag of the format since 9.0, 28 bits of pairs
//! entries: [u32]  a key and a value for each pair: flags, where its text ends
//! texts           one behind the other
//! ```
//!
//! The format before 9.0, which a cluster that was upgraded ever since may still hold, is
//! refused as malformed: `UPDATE … SET h = h || ''` writes it anew.

use super::ValueError;
use super::string;

const CURRENT_FORMAT: u32 = 0x8000_0000;
const COUNT_MASK: u32 = 0x0FFF_FFFF;

const IS_NULL: u32 = 0x4000_0000;
const END_MASK: u32 = 0x3FFF_FFFF;

const WORD: usize = size_of::<u32>();

/// Writes an `hstore` from the bytes that follow its varlena header, as its cast to `json`
/// does: an object whose values are strings or null.
pub fn hstore(out: &mut Vec<u8>, payload: &[u8]) -> Result<(), ValueError> {
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
    let mut start = 0;
    out.push(b'{');
    for (index, entry) in entries.iter().enumerate() {
        let entry = u32::from_ne_bytes(*entry);
        let end = (entry & END_MASK) as usize;
        let text = texts.get(start..end).ok_or(ValueError::MalformedHstore)?;
        let is_value = index % 2 == 1;
        if is_value {
            out.extend_from_slice(b": ");
        } else if index > 0 {
            out.extend_from_slice(b", ");
        }
        if is_value && entry & IS_NULL != 0 {
            out.extend_from_slice(b"null");
        } else {
            string(out, text);
        }
        start = end;
    }
    out.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::written;
    use super::*;
    use proptest::prelude::*;

    fn stored(pairs: &[(&str, Option<&str>)]) -> Vec<u8> {
        let mut payload = (pairs.len() as u32 | CURRENT_FORMAT).to_ne_bytes().to_vec();
        let mut texts = Vec::new();
        for (key, value) in pairs {
            texts.extend_from_slice(key.as_bytes());
            payload.extend_from_slice(&(texts.len() as u32).to_ne_bytes());
            texts.extend_from_slice(value.unwrap_or_default().as_bytes());
            let flag = if value.is_none() { IS_NULL } else { 0 };
            payload.extend_from_slice(&(texts.len() as u32 | flag).to_ne_bytes());
        }
        payload.extend_from_slice(&texts);
        payload
    }

    #[test]
    fn values_are_strings_or_null() {
        let payload = stored(&[("a", Some("1")), ("\"", None), ("", Some(""))]);
        assert_eq!(
            written(|out| hstore(out, &payload).unwrap_or_default()),
            r#"{"a": "1", "\"": null, "": ""}"#
        );
        assert_eq!(
            written(|out| hstore(out, &stored(&[])).unwrap_or_default()),
            "{}"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_writer_panic(bytes: Vec<u8>, count in 0..9_u32) {
            let _ = hstore(&mut Vec::new(), &bytes);
            let flagged = [&(count | CURRENT_FORMAT).to_ne_bytes()[..], &bytes].concat();
            let _ = hstore(&mut Vec::new(), &flagged);
        }
    }
}
