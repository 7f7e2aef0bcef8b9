//! Words of a shell: commands that are shown can be pasted as they stand.

/// A word as a POSIX shell reads it back, in quotes where it needs them.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:/@%+=".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_one_for_the_shell_whatever_it_holds() {
        for (word, expected) in [
            ("public.orders", "public.orders"),
            ("--topic-prefix", "--topic-prefix"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(rm)", "'$(rm)'"),
            ("", "''"),
            ("*", "'*'"),
            ("orders*", "'orders*'"),
            ("\"a b\".\"c\"", "'\"a b\".\"c\"'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}
