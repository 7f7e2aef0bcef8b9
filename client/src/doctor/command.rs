//! The command that starts the stream, as it can be pasted into a shell.

use std::ffi::OsString;

use crate::cli::StreamOptions;

/// Options that are the doctor's own, and whether a value follows.
const OWN: [(&str, bool); 4] = [
    ("--sample", true),
    ("--show-queries", false),
    ("--strict", false),
    ("--json", false),
];

/// What takes the place of a secret.
const HIDDEN: &str = "***";

/// `headwater stream` with the options that the doctor was given. What came from the environment
/// or from a file comes from there again. A secret is left out: it is written `***`.
pub(super) fn to_stream(
    arguments: impl IntoIterator<Item = OsString>,
    options: &StreamOptions,
) -> String {
    let mut words = vec!["headwater".to_owned()];
    let mut is_command_seen = false;
    let mut arguments = arguments.into_iter().skip(1);
    while let Some(argument) = arguments.next() {
        let argument = argument.to_string_lossy().into_owned();
        if !is_command_seen && argument == "doctor" {
            is_command_seen = true;
            words.push("stream".to_owned());
            continue;
        }
        let name = argument
            .split_once('=')
            .map_or(&*argument, |(name, _)| name);
        if let Some((_, takes_value)) = OWN.iter().find(|(own, _)| *own == name) {
            if *takes_value && !argument.contains('=') {
                arguments.next();
            }
            continue;
        }
        words.push(quoted(&without_secrets(&argument, options)));
    }
    words.join(" ")
}

/// The word as a shell reads it.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:=,@%+*".contains(&byte);
    // A star alone would be a pattern of the shell's.
    if !word.is_empty() && word.bytes().all(|byte| is_plain(byte) && byte != b'*') || word == HIDDEN
    {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// The argument without passwords: those of URIs, of connection strings and of properties.
fn without_secrets(argument: &str, options: &StreamOptions) -> String {
    let mut text = argument.to_owned();
    for (name, value) in &options.kafka.properties {
        let is_secret = ["password", "secret", "key", "token", "jaas"]
            .iter()
            .any(|part| name.contains(part));
        if is_secret && !value.is_empty() {
            text = text.replace(value, HIDDEN);
        }
    }
    hide_pairs(&hide_userinfo(&text))
}

/// `scheme://user:password@host` without the password.
fn hide_userinfo(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    let end = rest.find('/').unwrap_or(rest.len());
    let Some(at) = rest[..end].rfind('@') else {
        return text.to_owned();
    };
    match rest[..at].split_once(':') {
        None => text.to_owned(),
        Some((user, _)) => format!("{scheme}://{user}:{HIDDEN}{}", &rest[at..]),
    }
}

/// `password=…` of a connection string or of a URI's query without its value.
fn hide_pairs(text: &str) -> String {
    const KEY: &str = "password";
    let Some(begin) = text.find(KEY) else {
        return text.to_owned();
    };
    let behind = &text[begin + KEY.len()..];
    let spaces = behind.len() - behind.trim_start().len();
    if !behind[spaces..].starts_with('=') {
        return text.to_owned();
    }
    let value = &behind[spaces + 1..];
    let lead = value.len() - value.trim_start().len();
    let value = &value[lead..];
    let length = match value.strip_prefix('\'') {
        Some(inner) => quoted_length(inner) + 1,
        None => value.find([' ', '&']).unwrap_or(value.len()),
    };
    let (head, tail) = (&text[..begin + KEY.len()], &value[length..]);
    format!("{head}={HIDDEN}{}", hide_pairs(tail))
}

/// How long a value is that ends at a quote, which is counted, and may hold escaped ones.
fn quoted_length(inner: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in inner.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '\'' => return at + 1,
            _ => {}
        }
    }
    inner.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden() {
        for (argument, shown) in [
            ("shop", "shop"),
            ("postgres://cdc:s:e@db/shop", "postgres://cdc:***@db/shop"),
            ("postgres://cdc@db/shop", "postgres://cdc@db/shop"),
            (
                "postgres://db/shop?password=x&sslmode=require",
                "postgres://db/shop?password=***&sslmode=require",
            ),
            (
                "host=db password=secret dbname=shop",
                "host=db password=*** dbname=shop",
            ),
            (
                "host=db password = 'a \\' b' dbname=shop",
                "host=db password=*** dbname=shop",
            ),
            ("host=db password='open", "host=db password=***"),
        ] {
            assert_eq!(hide_pairs(&hide_userinfo(argument)), shown, "{argument}");
        }
    }

    #[test]
    fn words_read_back_from_a_shell() {
        for (word, text) in [
            ("--topic-prefix", "--topic-prefix"),
            ("orders*", "'orders*'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
            ("\"a b\".\"c\"", "'\"a b\".\"c\"'"),
        ] {
            assert_eq!(quoted(word), text);
        }
    }
}
