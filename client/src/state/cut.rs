//! What a person is told by the record of a stream's state: the beginning of it, where it is long.
//!
//! The record is written with every position, and a broker takes up to a megabyte of it by default.
//! The log has the whole text.

/// Of one text: the sentence and its names. So many tables and failures as the record may have
/// stay below a megabyte.
const BYTES: usize = 300;

/// The text, or its beginning.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > BYTES {
        text.truncate(text.floor_char_boundary(BYTES));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters_and_a_short_one_stays() {
        let short = "ü".repeat(BYTES / 2);
        assert_eq!(cut(short.clone()), short);
        let long = cut("€".repeat(BYTES));
        assert!(long.len() <= BYTES + "…".len(), "{} bytes", long.len());
        assert!(long.ends_with("€…"), "{long}");
        assert_eq!(cut(long.clone()), long, "it is cut once");
    }
}
