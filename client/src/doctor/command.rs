//! The command that starts the stream, as it can be pasted into a shell.

use std::ffi::OsString;

use crate::cli::StreamOptions;
use crate::config::secret::{REDACTED, holds_secret, redacted, redacted_property};
use crate::kafka::Property;
use crate::shell::quoted;

/// Options that are the doctor's own, and whether a value follows.
const OWN: [(&str, bool); 4] = [
    ("--sample", true),
    ("--show-queries", false),
    ("--strict", false),
    ("--json", false),
];

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
        let word = without_secrets(&argument, options);
        // It stands for something that is to be put in its place, stars and all.
        words.push(match word == REDACTED {
            true => word,
            false => quoted(&word),
        });
    }
    words.join(" ")
}

/// The argument without secrets: those in the values of options that may hold one, whether such a
/// value is a word of its own or stands behind its option.
fn without_secrets(argument: &str, options: &StreamOptions) -> String {
    let connection = options.connection.dbname.as_deref();
    for value in connection
        .into_iter()
        .chain(options.registry.url.as_deref())
    {
        if let Some(option) = argument.strip_suffix(value)
            && holds_secret(value)
        {
            return format!("{option}{}", redacted(value));
        }
    }
    for Property { name, value, .. } in &options.kafka.properties {
        if !value.is_empty()
            && let Some(head) = argument.strip_suffix(value.as_str())
            && let Some(option) = head.strip_suffix('=')
            && option.trim_end().ends_with(name)
        {
            return format!("{head}{}", redacted_property(name, value));
        }
    }
    argument.to_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    #[command(disable_help_flag = true)]
    struct Line {
        #[command(flatten)]
        options: StreamOptions,
    }

    fn shown(words: &[&str]) -> String {
        let words = || {
            ["headwater", "doctor"]
                .into_iter()
                .chain(words.iter().copied())
        };
        let line = Line::try_parse_from(words().filter(|word| *word != "doctor"));
        let line = line.unwrap_or_else(|error| panic!("{error}"));
        to_stream(words().map(OsString::from), &line.options)
    }

    #[test]
    fn no_secret_is_shown_and_all_else_is() {
        for (words, expected) in [
            (&["-d", "shop"][..], "-d shop"),
            (
                &["-d", "postgres://cdc@db/shop"],
                "-d postgres://cdc@db/shop",
            ),
            (
                &["-d", "host=password-db password=s3cret"],
                "-d 'password=*** host=password-db'",
            ),
            (
                &["-ddbname=passwords password=s3cret"],
                "'-dpassword=*** dbname=passwords'",
            ),
            (
                &["--dbname=password=s3c\\ ret host=db"],
                "'--dbname=password=*** host=db'",
            ),
            (&["-d", "password='open"], "-d ***"),
            (
                &["-r", "http://u:s3c@a,http://u:ret@b"],
                "-r 'http://u:***@a,http://u:***@b'",
            ),
            (&["-r", "https://s3cret@host"], "-r 'https://***@host'"),
            (
                &["-X", "sasl.password=s3c=ret", "-Xssl.key.location=/k.pem"],
                "-X 'sasl.password=***' -Xssl.key.location=/k.pem",
            ),
        ] {
            let shown = shown(words);
            assert!(!shown.contains("s3c") && !shown.contains("ret"), "{shown}");
            assert_eq!(shown, format!("headwater stream {expected}"));
        }
    }
}
