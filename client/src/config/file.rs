//! The configuration file: TOML, as a list of keys with their values and lines.
//!
//! ```toml
//! slot = "orders"               # for every command that has --slot
//! table = ["orders", "sales.*"]
//! dbname = { file = "/run/secrets/dbname" }
//!
//! [kafka]                       # properties of librdkafka, as -X
//! compression.type = "zstd"
//! sasl.password = { env = "KAFKA_PASSWORD" }
//!
//! [verify]                      # for `headwater verify` alone
//! workers = 4
//! ```

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{Error, ErrorKind, Result};

/// A file that was read.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    /// In the order of their lines.
    pub(crate) entries: Vec<Entry>,
    /// Whether every user of the machine may read it.
    pub(crate) is_open: bool,
}

/// A key and its value.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The names of the tables that it stands in, and its own.
    pub(crate) path: Vec<String>,
    pub(crate) value: Value,
    /// From 1 on.
    pub(crate) line: usize,
}

/// What stands behind the equals sign.
#[derive(Debug, PartialEq)]
pub(crate) enum Value {
    Boolean(bool),
    /// An integer or a float, in digits.
    Number(String),
    Text(String),
    List(Vec<Value>),
    /// `{ file = "…" }`: what that file holds.
    File(PathBuf),
    /// `{ env = "…" }`: what that variable holds.
    Variable(String),
    /// What no option takes, by its name.
    Other(&'static str),
}

impl Value {
    /// The kind of it, for an error.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Value::Boolean(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::File(_) | Value::Variable(_) => "a reference",
            Value::Other(kind) => kind,
        }
    }
}

impl File {
    /// Reads a file.
    ///
    /// # Errors
    /// Of kind `Usage` when it cannot be read or is no TOML, with the line. A line of it is never
    /// quoted: it may hold a password.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let refuse = |what| Error::new(ErrorKind::Usage, format!("{} {what}", path.display()));
        let bytes =
            std::fs::read(path).map_err(|error| refuse("cannot be read").with_source(error))?;
        let text = String::from_utf8(bytes).map_err(|_| refuse("is not UTF-8"))?;
        let mut file = Self::parse(path, &text)?;
        file.is_open = is_open(path);
        Ok(file)
    }

    fn parse(path: &Path, text: &str) -> Result<Self> {
        let document = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(0, |span| line(text, &span));
            let sentence = format!("{}:{line}: {}", path.display(), error.message());
            Error::new(ErrorKind::Usage, sentence)
        })?;
        let mut entries = Vec::new();
        flatten(text, &[], document.get_ref(), &mut entries);
        entries.sort_by_key(|entry| entry.line);
        Ok(File {
            path: path.to_owned(),
            entries,
            is_open: false,
        })
    }
}

/// Names with dots are tables within tables to TOML: `compression.type = "zstd"` too.
fn flatten(text: &str, outer: &[String], table: &DeTable<'_>, entries: &mut Vec<Entry>) {
    for (key, value) in table {
        let mut path = outer.to_vec();
        path.push(key.get_ref().clone().into_owned());
        let reference = reference(text, value);
        match value.get_ref() {
            DeValue::Table(inner) if reference.is_none() => flatten(text, &path, inner, entries),
            other => entries.push(Entry {
                path,
                value: reference.unwrap_or_else(|| converted(text, other)),
                line: line(text, &key.span()),
            }),
        }
    }
}

fn converted(text: &str, value: &DeValue<'_>) -> Value {
    match value {
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Integer(value) => match i128::from_str_radix(value.as_str(), value.radix()) {
            Ok(value) => Value::Number(value.to_string()),
            Err(_) => Value::Other("a number of more than 128 bits"),
        },
        DeValue::Float(value) => Value::Number(value.as_str().to_owned()),
        DeValue::String(value) if value.contains('\0') => Value::Other("a string with a NUL"),
        DeValue::String(value) => Value::Text(value.clone().into_owned()),
        DeValue::Array(values) => {
            let values = values.iter().map(|value| {
                reference(text, value).unwrap_or_else(|| converted(text, value.get_ref()))
            });
            Value::List(values.collect())
        }
        DeValue::Datetime(_) => Value::Other("a date or time"),
        DeValue::Table(_) => Value::Other("a table"),
    }
}

/// `{ file = "…" }` and `{ env = "…" }`. In braces alone: `private.key.file = "…"` is a name with dots.
fn reference(text: &str, value: &Spanned<DeValue<'_>>) -> Option<Value> {
    let DeValue::Table(table) = value.get_ref() else {
        return None;
    };
    if table.len() != 1 || !text[value.span().start..].starts_with('{') {
        return None;
    }
    let (key, value) = table.iter().next()?;
    let DeValue::String(value) = value.get_ref() else {
        return None;
    };
    if value.contains('\0') {
        return Some(Value::Other("a string with a NUL"));
    }
    match key.get_ref().as_ref() {
        "file" => Some(Value::File(PathBuf::from(value.as_ref()))),
        "env" => Some(Value::Variable(value.clone().into_owned())),
        _ => None,
    }
}

fn line(text: &str, span: &Range<usize>) -> usize {
    let before = &text.as_bytes()[..span.start.min(text.len())];
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}

#[cfg(unix)]
fn is_open(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

#[cfg(not(unix))]
fn is_open(_path: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn parse(text: &str) -> Result<Vec<(String, Value, usize)>> {
        let file = File::parse(Path::new("h.toml"), text)?;
        let entries = file.entries.into_iter();
        Ok(entries
            .map(|entry| (entry.path.join("/"), entry.value, entry.line))
            .collect())
    }

    fn text(value: &str) -> Value {
        Value::Text(value.to_owned())
    }

    #[test]
    fn every_key_has_its_line_and_its_tables() {
        let entries = parse(
            "slot = \"s\"\ntable = [\"a\", \"b\"]\n\n[verify]\nworkers = 0x10\n[kafka]\nlinger.ms = 5\n",
        );
        let expected = [
            ("slot", text("s"), 1),
            ("table", Value::List(vec![text("a"), text("b")]), 2),
            ("verify/workers", Value::Number("16".to_owned()), 5),
            ("kafka/linger/ms", Value::Number("5".to_owned()), 7),
        ];
        let expected = expected.map(|(path, value, line)| (path.to_owned(), value, line));
        assert_eq!(entries.unwrap(), expected);
    }

    #[test]
    fn a_reference_stands_in_braces_and_a_name_with_dots_is_none() {
        let entries = parse(
            "dbname = { file = \"/run/d\" }\n[kafka]\nsasl.password = { env = \"P\" }\n\
             sasl.oauthbearer.assertion.private.key.file = \"/k\"\n",
        );
        let expected = [
            ("dbname", Value::File("/run/d".into()), 1),
            ("kafka/sasl/password", Value::Variable("P".to_owned()), 3),
            (
                "kafka/sasl/oauthbearer/assertion/private/key/file",
                text("/k"),
                4,
            ),
        ];
        let expected = expected.map(|(path, value, line)| (path.to_owned(), value, line));
        assert_eq!(entries.unwrap(), expected);
    }

    #[test]
    fn what_is_no_toml_is_refused_with_its_line_and_without_its_text() {
        for (text, line) in [
            ("slot = \"a\"\npassword = hunter2\n", 2),
            ("slot = \"a\"\nslot = \"hunter2\"\n", 2),
            ("[kafka\nsasl.password = \"hunter2\"\n", 1),
        ] {
            let error = parse(text).unwrap_err();
            let sentence = format!("{error} {}", error.hint().unwrap_or_default());
            assert!(
                sentence.starts_with(&format!("h.toml:{line}: ")),
                "{sentence}"
            );
            assert!(!sentence.contains("hunter2"), "{sentence}");
            assert_eq!(error.kind(), ErrorKind::Usage);
        }
    }
}
