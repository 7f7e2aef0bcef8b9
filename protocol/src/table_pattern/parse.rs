//! The parser of the grammar that the module above gives.

use super::{
    DEFAULT_SCHEMA, NamePattern, TablePattern, TablePatternError, TablePatternErrorKind, is_letter,
};

/// Parses one pattern up to a comma or the end and says where that is.
pub(super) fn pattern(text: &str) -> Result<(TablePattern, usize), TablePatternError> {
    let mut parser = Parser { text, position: 0 };
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
            text: self.text.trim_ascii().to_owned(),
        }
    }
}
