//! What is wrong with a table pattern.

use std::fmt;

/// The text is not a list of table patterns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePatternError {
    pub(super) kind: TablePatternErrorKind,
    pub(super) text: String,
}

/// What is wrong with a table pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TablePatternErrorKind {
    /// A name is missing, or there is nothing between two quotes.
    EmptyName,
    /// A double quote without its partner.
    UnclosedQuote,
    /// More than a schema and a table.
    TooManyNames,
    /// A character that stands in a name only between double quotes.
    Unexpected(char),
}

impl TablePatternError {
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
        match self.kind {
            TablePatternErrorKind::EmptyName => {
                "Write schema.table, with * for any number of characters, patterns separated by commas."
            }
            TablePatternErrorKind::UnclosedQuote => {
                "Close the double quote; a double quote within a name is written twice."
            }
            TablePatternErrorKind::TooManyNames => {
                "Write schema.table; a name that holds a dot goes into double quotes."
            }
            TablePatternErrorKind::Unexpected(_) => {
                "A name that holds anything but letters, digits, _ and $ goes into double quotes."
            }
        }
    }
}

impl fmt::Display for TablePatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        match self.kind {
            TablePatternErrorKind::EmptyName if text.is_empty() => {
                f.write_str("a table pattern is empty")
            }
            TablePatternErrorKind::EmptyName => {
                write!(f, "a name is missing in table pattern \"{text}\"")
            }
            TablePatternErrorKind::UnclosedQuote => {
                write!(
                    f,
                    "a double quote is not closed in table pattern \"{text}\""
                )
            }
            TablePatternErrorKind::TooManyNames => {
                write!(f, "too many names in table pattern \"{text}\"")
            }
            TablePatternErrorKind::Unexpected(c) => {
                write!(f, "unexpected {c:?} in table pattern \"{text}\"")
            }
        }
    }
}

impl std::error::Error for TablePatternError {}
