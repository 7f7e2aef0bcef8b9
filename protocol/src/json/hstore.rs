//! `hstore`, the extension's type, straight from its stored form.

use super::ValueError;
use super::string;
use crate::stored::HstorePairs;

/// Writes an `hstore` from the bytes that follow its varlena header, as its cast to `json`
/// does: an object whose values are strings or null.
pub fn hstore(out: &mut Vec<u8>, payload: &[u8]) -> Result<(), ValueError> {
    out.push(b'{');
    for (index, pair) in HstorePairs::read(payload)?.enumerate() {
        let (key, value) = pair?;
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        string(out, key);
        out.extend_from_slice(b": ");
        match value {
            None => out.extend_from_slice(b"null"),
            Some(value) => string(out, value),
        }
    }
    out.push(b'}');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::written;
    use super::*;
    use proptest::prelude::*;

    const CURRENT_FORMAT: u32 = 0x8000_0000;
    const IS_NULL: u32 = 0x4000_0000;

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
