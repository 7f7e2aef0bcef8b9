//! Which tables are meant: the grammar of the plugin's `tables` and `exclude_tables`
//! and of the client's `-t` and `-T`.
//!
//! ```text
//! patterns := pattern { "," pattern }
//! pattern  := [ name "." ] name              without a schema: public
//! name     := { letter | "*" | quoted }      letters fold to lower case
//! quoted   := '"' { any character but '"', or '""' } '"'
//! ```
//!
//! A letter is what SQL allows in an identifier without quotes: `A-Z`, `a-z`, `0-9`,
//! `_`, `$` and everything outside ASCII. `*` stands for any number of characters,
//! dots included, but never crosses from the schema into the table; within quotes it
//! is an ordinary character. Folding touches ASCII alone, as Postgres' does in UTF-8.
//!
//! # Why matching takes linear time
//!
//! A name is kept as the literal runs between its wildcards. The first must be a
//! prefix and the last a suffix; each one between is looked for behind the one before,
//! and the leftmost hit is always the best, because what stands behind a wildcard
//! can be matched later wherever it could be matched at all. So each search begins
//! where the last one ended and nothing is ever tried twice.

mod error;
pub(crate) mod parse;

use std::fmt;
use std::str::FromStr;

pub(crate) use error::PatternOf;
pub use error::{TablePatternError, TablePatternErrorKind};

/// The schema of a pattern that names none.
const DEFAULT_SCHEMA: &str = "public";

/// The schema of the extension's own objects: selected only by a pattern that spells it
/// out, so that `*.*` never streams what Headwater itself may keep in the database.
const EXTENSION_SCHEMA: &str = "headwater";

/// Whether `schema` belongs to the server itself. Its tables are never selected:
/// Postgres reserves the prefix `pg_`, and `information_schema` is constant.
pub fn is_system_schema(schema: &str) -> bool {
    schema.starts_with("pg_") || schema == "information_schema"
}

/// Whether a table is among those that `include` names, all where it is absent, and
/// that `exclude` does not. System schemas never are; the schema `headwater` only
/// where a pattern of `include` spells it out.
pub fn selects(
    include: Option<&TablePatterns>,
    exclude: &TablePatterns,
    schema: &str,
    table: &str,
) -> bool {
    if is_system_schema(schema) || exclude.matches(schema, table) {
        return false;
    }
    match include {
        None => schema != EXTENSION_SCHEMA,
        Some(include) => include.patterns.iter().any(|pattern| {
            pattern.matches(schema, table)
                && (schema != EXTENSION_SCHEMA || pattern.schema.is_literal())
        }),
    }
}

/// A list of patterns; a table is matched if one of them matches it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TablePatterns {
    patterns: Vec<TablePattern>,
}

impl TablePatterns {
    /// Parses a comma list of one pattern or more.
    pub fn parse(text: &str) -> Result<Self, TablePatternError> {
        let patterns = parse::list(text, PatternOf::Table, parse::pattern)?;
        Ok(TablePatterns { patterns })
    }

    /// Whether one of the patterns matches. Names are given unquoted, as the catalog
    /// holds them.
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        self.patterns
            .iter()
            .any(|pattern| pattern.matches(schema, table))
    }

    /// The patterns in the order they were given.
    pub fn iter(&self) -> std::slice::Iter<'_, TablePattern> {
        self.patterns.iter()
    }

    /// Whether there is no pattern, so that nothing matches.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }
}

impl FromStr for TablePatterns {
    type Err = TablePatternError;

    fn from_str(text: &str) -> Result<Self, TablePatternError> {
        TablePatterns::parse(text)
    }
}

impl fmt::Display for TablePatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, pattern) in self.patterns.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            fmt::Display::fmt(pattern, f)?;
        }
        Ok(())
    }
}

impl<'a> IntoIterator for &'a TablePatterns {
    type Item = &'a TablePattern;
    type IntoIter = std::slice::Iter<'a, TablePattern>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for TablePatterns {
    type Item = TablePattern;
    type IntoIter = std::vec::IntoIter<TablePattern>;

    fn into_iter(self) -> Self::IntoIter {
        self.patterns.into_iter()
    }
}

impl FromIterator<TablePattern> for TablePatterns {
    fn from_iter<I: IntoIterator<Item = TablePattern>>(patterns: I) -> Self {
        TablePatterns {
            patterns: patterns.into_iter().collect(),
        }
    }
}

impl Extend<TablePattern> for TablePatterns {
    fn extend<I: IntoIterator<Item = TablePattern>>(&mut self, patterns: I) {
        self.patterns.extend(patterns);
    }
}

/// One pattern, a schema's and a table's. Printing it gives text that parses to the
/// same pattern, quoted where that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TablePattern {
    schema: NamePattern,
    table: NamePattern,
}

impl TablePattern {
    /// The pattern that matches one table alone. Names are given unquoted.
    pub fn exact(schema: &str, table: &str) -> Self {
        TablePattern {
            schema: NamePattern::exact(schema),
            table: NamePattern::exact(table),
        }
    }

    /// Whether the pattern matches. Names are given unquoted, as the catalog holds them.
    pub fn matches(&self, schema: &str, table: &str) -> bool {
        self.schema.matches(schema) && self.table.matches(table)
    }

    /// How many characters the longer of its names has, wildcards left out.
    pub(crate) fn longest_name(&self) -> usize {
        self.schema.literal_chars().max(self.table.literal_chars())
    }
}

impl fmt::Display for TablePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}

/// A pattern for one name: the literal runs between its wildcards, of which there is
/// one fewer. Only the first and the last may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamePattern {
    literals: Vec<String>,
}

impl NamePattern {
    fn exact(name: &str) -> Self {
        NamePattern {
            literals: vec![name.to_owned()],
        }
    }

    fn is_literal(&self) -> bool {
        self.literals.len() == 1
    }

    /// Whether it is `*` alone, which every name matches.
    pub(crate) fn is_any(&self) -> bool {
        matches!(self.literals.as_slice(), [first, last] if first.is_empty() && last.is_empty())
    }

    /// How many characters every name has at least that it matches.
    pub(crate) fn literal_chars(&self) -> usize {
        let literals = self.literals.iter();
        literals.map(|literal| literal.chars().count()).sum()
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        let [first, between @ .., last] = self.literals.as_slice() else {
            return self.literals.iter().any(|literal| literal == name);
        };
        let Some(mut rest) = name
            .strip_prefix(first.as_str())
            .and_then(|rest| rest.strip_suffix(last.as_str()))
        else {
            return false;
        };
        for literal in between {
            match rest.find(literal.as_str()) {
                Some(start) => rest = &rest[start + literal.len()..],
                None => return false,
            }
        }
        true
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, literal) in self.literals.iter().enumerate() {
            if index > 0 {
                f.write_str("*")?;
            }
            if literal.chars().all(needs_no_quotes) {
                f.write_str(literal)?;
            } else {
                write!(f, "\"{}\"", literal.replace('"', "\"\""))?;
            }
        }
        Ok(())
    }
}

/// A character that an identifier without quotes may hold; it folds to lower case.
fn is_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$') || !c.is_ascii()
}

fn needs_no_quotes(c: char) -> bool {
    is_letter(c) && !c.is_ascii_uppercase()
}

#[cfg(test)]
mod tests;
