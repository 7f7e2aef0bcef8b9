//! What all records of a stream have in common by its command line: the names of their
//! topics, the bytes of their keys, the form of their values.
//!
//! A topic is compacted by the bytes of the key, and who reads it expects one form. A stream
//! that goes on with another of these options leaves rows behind under a key or in a topic
//! that nothing is written to any more, and nothing ever says so. So what a stream began with
//! is on record beside its position, and another value is refused.
//!
//! `--topic-prefix` decides, too, and is part of the record's key. The other options leave
//! each record that is sent as it is, and choose only which are.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::cli::StreamOptions;

/// An option's name, and its value on a command line.
type Decisive = (&'static str, fn(&StreamOptions) -> String);

/// The options that decide. What is on record and every message of it come from here.
const DECISIVE: [Decisive; 6] = [
    ("enum", |options| word(&options.enums)),
    ("envelope", |options| word(&options.envelope)),
    ("format", |options| word(&options.format)),
    ("numbers", |options| word(&options.numbers)),
    ("partitions", |options| word(&options.partitions)),
    ("topic", |options| options.topic.to_string()),
];

/// What a record says by saying nothing: releases that knew no other way kept none of these.
const BEFORE: [(&str, &str); 2] = [("enum", "string"), ("format", "json")];

/// The values of the options that decide, by their names. One that is not in it is unknown,
/// as in what releases wrote that kept none, and fits any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shape(BTreeMap<String, String>);

/// Where two shapes differ, as on a command line: `--numbers exact --partitions leaf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What is on record.
    pub recorded: String,
    /// What is asked for.
    pub asked: String,
}

impl Shape {
    /// What the command line asks for.
    pub fn asked(options: &StreamOptions) -> Self {
        DECISIVE
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value(options)))
            .collect()
    }

    /// The value of an option on a command line; none where it is unknown.
    pub fn value(&self, option: &str) -> Option<&str> {
        self.0.get(option).map(String::as_str)
    }

    /// Whether nothing is known of it.
    pub fn is_unknown(&self) -> bool {
        self.0.is_empty()
    }

    /// How what is asked for differs from this, which is on record. An option that only one of
    /// them knows is none of it, unless there was one way alone before: another release wrote the
    /// record.
    pub fn difference(&self, asked: &Shape) -> Option<Difference> {
        let kept = self.0.iter().map(|(name, value)| (&**name, &**value));
        let unkept = BEFORE.iter().copied();
        let unkept = unkept.filter(|(name, _)| !self.0.contains_key(*name));
        let (recorded, asked): (Vec<String>, Vec<String>) = kept
            .chain(unkept)
            .filter_map(|(name, recorded)| {
                let asked = asked.0.get(name).filter(|asked| *asked != recorded)?;
                Some((format!("--{name} {recorded}"), format!("--{name} {asked}")))
            })
            .unzip();
        (!recorded.is_empty()).then(|| Difference {
            recorded: recorded.join(" "),
            asked: asked.join(" "),
        })
    }
}

impl FromIterator<(String, String)> for Shape {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(values: T) -> Self {
        Shape(values.into_iter().collect())
    }
}

/// The word that stands for a value on the command line.
fn word(value: &impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn asked(arguments: &[&str]) -> Shape {
        let line = ["headwater", "stream"].iter().chain(arguments);
        let Command::Stream(options) = Cli::try_parse_from(line).unwrap().command else {
            panic!("not the stream command");
        };
        Shape::asked(&options)
    }

    #[test]
    fn each_option_that_decides_is_one_of_the_command_line() {
        let text = serde_json::to_string(&asked(&[])).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"enum":"string","envelope":"row","format":"json","numbers":"exact","#,
                r#""partitions":"root","#,
                r#""topic":"{schema}.{table}"}"#
            )
        );
        for (name, value) in [
            ("enum", "avro"),
            ("envelope", "change"),
            ("format", "avro"),
            ("numbers", "string"),
            ("partitions", "leaf"),
            ("topic", "{table}.of-{schema}"),
        ] {
            let other = asked(&[&format!("--{name}"), value]);
            let difference = asked(&[]).difference(&other).unwrap();
            assert_eq!(difference.asked, format!("--{name} {value}"));
            assert_eq!(other.difference(&other), None);
        }
    }

    #[test]
    fn the_differences_can_be_pasted_into_a_command_line() {
        let recorded = asked(&["--partitions", "leaf"]);
        assert_eq!(
            recorded.difference(&asked(&["--numbers", "string"])),
            Some(Difference {
                recorded: "--numbers exact --partitions leaf".to_owned(),
                asked: "--numbers string --partitions root".to_owned(),
            })
        );
    }

    #[test]
    fn what_only_one_side_knows_is_no_difference() {
        let named = |name: &str, value: &str| -> Shape {
            [(name.to_owned(), value.to_owned())].into_iter().collect()
        };
        for recorded in [Shape::default(), named("colour", "red")] {
            assert_eq!(recorded.difference(&asked(&[])), None, "{recorded:?}");
        }
    }

    #[test]
    fn a_stream_of_a_release_that_knew_json_alone_is_one_of_json() {
        let avro = asked(&["--format", "avro"]);
        let difference = Shape::default().difference(&avro).unwrap();
        assert_eq!(difference.recorded, "--format json");
        assert_eq!(difference.asked, "--format avro");
    }

    #[test]
    fn options_that_choose_among_records_change_nothing() {
        for arguments in [
            ["--table", "orders"],
            ["--exclude-table", "orders"],
            ["--unkeyed", "send"],
            ["--toast", "mark"],
            ["--operations", "insert"],
            ["--origin", "none"],
            ["--truncate", "ignore"],
        ] {
            assert_eq!(asked(&arguments), asked(&[]), "{arguments:?}");
        }
    }
}
