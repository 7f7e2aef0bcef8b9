//! What is wrong with a pattern of a table or of a column.

use std::fmt;

/// The text is not a list of table patterns, or of column patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePatternError {
    pub(super) kind: TablePatternErrorKind,
    pub(super) of: PatternOf,
    pub(super) text: String,
}

/// What a pattern is to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatternOf {
    Table,
    Column,
}

impl PatternOf {
    fn name(self) -> &'static str {
        match self {
            PatternOf::Table => "table",
            PatternOf::Column => "column",
        }
    }
}

/// What is wrong with a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TablePatternErrorKind {
    /// A name is missing, or there is nothing between two quotes.
    EmptyName,
    /// A double quote without its partner.
    UnclosedQuote,
    /// More than a schema and a table, or than those and a column.
    TooManyNames,
    /// A column without its table or the table's schema.
    TooFewNames,
    /// A character that stands in a name only between double quotes.
    Unexpected(char),
    /// A name of so many bytes or more, which no name in Postgres has.
    NameTooLong(usize),
    /// A list of more than this many.
    TooMany(usize),
}

impl TablePatternError {
    pub(crate) fn new(kind: TablePatternErrorKind, of: PatternOf, text: String) -> Self {
        TablePatternError { kind, of, text }
    }

    /// The same, with its text in another form.
    pub(crate) fn map_text(self, map: impl FnOnce(&str) -> String) -> Self {
        let text = map(&self.text);
        TablePatternError { text, ..self }
    }

    /// What is wrong.
    pub fn kind(&self) -> TablePatternErrorKind {
        self.kind
    }

    /// The text from the pattern in error to the end of the list.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What to write instead, as a sentence.
    pub fn hint(&self) -> &'static str {
        match (self.kind, self.of) {
            (
                TablePatternErrorKind::EmptyName
                | TablePatternErrorKind::TooManyNames
                | TablePatternErrorKind::TooFewNames,
                PatternOf::Column,
            ) => {
                "Write schema.table.column, with * for any number of characters, patterns separated \
                 by commas; a name that holds a dot goes into double quotes."
            }
            (TablePatternErrorKind::EmptyName | TablePatternErrorKind::TooFewNames, _) => {
                "Write schema.table, with * for any number of characters, patterns separated by commas."
            }
            (TablePatternErrorKind::UnclosedQuote, _) => {
                "Close the double quote; a double quote within a name is written twice."
            }
            (TablePatternErrorKind::TooManyNames, _) => {
                "Write schema.table; a name that holds a dot goes into double quotes."
            }
            (TablePatternErrorKind::Unexpected(_), _) => {
                "A name that holds anything but letters, digits, _ and $ goes into double quotes."
            }
            (TablePatternErrorKind::NameTooLong(_), _) => {
                "Write the name as the catalog has it: Postgres cuts names to 63 bytes."
            }
            (TablePatternErrorKind::TooMany(_), _) => {
                "Let one pattern stand for many names, with * for any number of characters."
            }
        }
    }
}

impl fmt::Display for TablePatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, of) = (&self.text, self.of.name());
        match self.kind {
            TablePatternErrorKind::EmptyName if text.is_empty() => {
                return write!(f, "a {of} pattern is empty");
            }
            TablePatternErrorKind::TooMany(most) => {
                return write!(f, "a list of more than {most} {of} patterns");
            }
            TablePatternErrorKind::EmptyName => f.write_str("a name is missing")?,
            TablePatternErrorKind::UnclosedQuote => f.write_str("a double quote is not closed")?,
            TablePatternErrorKind::TooManyNames => f.write_str("too many names")?,
            TablePatternErrorKind::TooFewNames => f.write_str("too few names")?,
            TablePatternErrorKind::Unexpected(c) => write!(f, "unexpected {c:?}")?,
            TablePatternErrorKind::NameTooLong(bytes) => {
                write!(f, "a name of {bytes} bytes matches nothing")?;
            }
        }
        write!(f, " in {of} pattern \"{text}\"")
    }
}

impl std::error::Error for TablePatternError {}
