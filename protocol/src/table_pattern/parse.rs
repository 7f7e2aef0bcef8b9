//! The parser of the grammar that the module above gives.

use super::error::PatternOf;
use super::{
    DEFAULT_SCHEMA, NamePattern, TablePattern, TablePatternError, TablePatternErrorKind, is_letter,
};

/// The most patterns in a list. Anybody may give the server one, who keeps some 250 bytes of each in
/// memory that is not the server's to refuse; no list that a person keeps is as long.
const MOST_PATTERNS: usize = 10_000;

/// Parses a comma list of one pattern or more.
pub(crate) fn list<P>(
    text: &str,
    of: PatternOf,
    pattern: fn(&str) -> Result<(P, usize), TablePatternError>,
) -> Result<Vec<P>, TablePatternError> {
    let mut patterns = Vec::new();
    let mut rest = text;
    loop {
        if patterns.len() == MOST_PATTERNS {
            let kind = TablePatternErrorKind::TooMany(MOST_PATTERNS);
            return Err(TablePatternError::new(kind, of, String::new()));
        }
        let (pattern, end) = pattern(rest)?;
        patterns.push(pattern);
        match rest[end..].strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(patterns),
        }
    }
}

/// Parses one pattern of a column, `schema.table.column`, as [`pattern`] does one of a table.
pub(crate) fn column_pattern(
    text: &str,
) -> Result<(TablePattern, NamePattern, usize), TablePatternError> {
    let mut parser = Parser {
        text,
        position: 0,
        of: PatternOf::Column,
    };
    let mut names = Vec::new();
    loop {
        names.push(parser.name()?);
        if !parser.eat('.') {
            break;
        }
    }
    let end = parser.position;
    match parser.peek() {
        None | Some(',') => {}
        Some(other) => return Err(parser.error(TablePatternErrorKind::Unexpected(other))),
    }
    let count = names.len();
    let mut names = names.into_iter();
    match (names.next(), names.next(), names.next(), names.next()) {
        (Some(schema), Some(table), Some(column), None) => {
            Ok((TablePattern { schema, table }, column, end))
        }
        _ if count < 3 => Err(parser.error(TablePatternErrorKind::TooFewNames)),
        _ => Err(parser.error(TablePatternErrorKind::TooManyNames)),
    }
}

/// Parses one pattern up to a comma or the end and says where that is.
pub(super) fn pattern(text: &str) -> Result<(TablePattern, usize), TablePatternError> {
    let mut parser = Parser {
        text,
        position: 0,
        of: PatternOf::Table,
    };
    let first = parser.name()?;
    let pattern = if parser.eat('.') {
        TablePattern {
            schema: first,
            table: parser.name()?,
        }
    } else {
        TablePattern {
            schema: NamePattern::exact(DEFAULT_SCHEMA),
            table: first,
        }
    };
    match parser.peek() {
        None | Some(',') => Ok((pattern, parser.position)),
        Some('.') => Err(parser.error(TablePatternErrorKind::TooManyNames)),
        Some(other) => Err(parser.error(TablePatternErrorKind::Unexpected(other))),
    }
}

struct Parser<'a> {
    text: &'a str,
    position: usize,
    of: PatternOf,
}

impl Parser<'_> {
    fn name(&mut self) -> Result<NamePattern, TablePatternError> {
        self.skip_whitespace();
        let start = self.position;
        let mut literals = Vec::new();
        let mut literal = String::new();
        while let Some(c) = self.peek() {
            match c {
                '*' => {
                    self.skip(c);
                    // Two wildcards in a row are one.
                    if literals.is_empty() || !literal.is_empty() {
                        literals.push(std::mem::take(&mut literal));
                    }
                }
                '"' => self.quoted(&mut literal)?,
                c if is_letter(c) => {
                    self.skip(c);
                    literal.push(c.to_ascii_lowercase());
                }
                _ => break,
            }
        }
        literals.push(literal);
        if self.position == start {
            return Err(match self.peek() {
                None | Some(',' | '.') => self.error(TablePatternErrorKind::EmptyName),
                Some(other) => self.error(TablePatternErrorKind::Unexpected(other)),
            });
        }
        self.skip_whitespace();
        Ok(NamePattern { literals })
    }

    /// Appends what stands between the quote here and its closing one.
    fn quoted(&mut self, literal: &mut String) -> Result<(), TablePatternError> {
        let start = self.position;
        self.skip('"');
        let mut is_empty = true;
        while let Some(c) = self.peek() {
            self.skip(c);
            if c == '"' && !self.eat('"') {
                return if is_empty {
                    Err(self.error(TablePatternErrorKind::EmptyName))
                } else {
                    Ok(())
                };
            }
            is_empty = false;
            literal.push(c);
        }
        self.position = start;
        Err(self.error(TablePatternErrorKind::UnclosedQuote))
    }

    fn peek(&self) -> Option<char> {
        self.text[self.position..].chars().next()
    }

    fn skip(&mut self, c: char) {
        self.position += c.len_utf8();
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.peek() == Some(c);
        if found {
            self.skip(c);
        }
        found
    }

    fn skip_whitespace(&mut self) {
        let rest = &self.text[self.position..];
        self.position += rest.len() - rest.trim_ascii_start().len();
    }

    fn error(&self, kind: TablePatternErrorKind) -> TablePatternError {
        TablePatternError {
            kind,
            of: self.of,
            text: self.text.trim_ascii().to_owned(),
        }
    }
}
