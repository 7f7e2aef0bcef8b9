//! What people read on a terminal: styles, tables that fit 80 columns, numbers with units.
//!
//! Text is made with its styles in it, as ANSI escape sequences. What it is written to decides
//! what becomes of them: [`stdout`] and [`stderr`] pass them on to a terminal and take them out
//! where there is none, where `NO_COLOR` is set and where `TERM` is `dumb`.
//!
//! What a server says, the names of its tables among it, may hold anything. Written to a
//! terminal as it is, an escape sequence in it would be obeyed. So it goes through [`plain`], as
//! [`paint`] and tables have it go.

mod quantity;
mod screen;
mod table;

pub use quantity::{bytes, count, counted, duration, share};
pub use screen::Screen;
pub use table::{Cell, Column, Table};

use std::borrow::Cow;

use anstream::AutoStream;
use anstyle::{AnsiColor, Style};
use serde::Serialize;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// What everything fits into, as the narrowest terminal in use has it.
pub const COLUMNS: usize = 80;

/// In order.
pub const OK: Style = AnsiColor::Green.on_default();
/// To be looked at.
pub const WARNING: Style = AnsiColor::Yellow.on_default();
/// Broken.
pub const FAIL: Style = AnsiColor::Red.on_default().bold();
/// What mends it: a line to copy.
pub const CURE: Style = AnsiColor::Cyan.on_default();
/// Above a table or a paragraph.
pub const HEADING: Style = Style::new().bold();
/// Beside what matters.
pub const FAINT: Style = Style::new().dimmed();

/// How something stands, from best to worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// In order.
    #[default]
    Ok,
    /// It works, and is to be looked at.
    Warning,
    /// It does not work.
    Fail,
}

impl Level {
    /// The word for it, as JSON has it too.
    pub fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Fail => "fail",
        }
    }

    /// How it looks.
    pub fn style(self) -> Style {
        match self {
            Level::Ok => OK,
            Level::Warning => WARNING,
            Level::Fail => FAIL,
        }
    }
}

/// Standard output, with styles where they can be seen.
pub fn stdout() -> AutoStream<std::io::StdoutLock<'static>> {
    anstream::stdout().lock()
}

/// Standard error, with styles where they can be seen.
pub fn stderr() -> AutoStream<std::io::StderrLock<'static>> {
    anstream::stderr().lock()
}

/// Text in a style, [`plain`] otherwise.
pub fn paint(style: Style, text: &str) -> String {
    format!("{style}{}{style:#}", plain(text))
}

/// Text without control characters: they stand as in Rust's strings, line breaks too.
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escaped = text.chars().fold(String::new(), |mut escaped, c| {
        match c.is_control() {
            true => escaped.extend(c.escape_default()),
            false => escaped.push(c),
        }
        escaped
    });
    Cow::Owned(escaped)
}

/// How many columns [`plain`] text takes.
pub fn width(text: &str) -> usize {
    text.width()
}

/// [`plain`] text cut to so many columns, with `…` where something is cut.
pub fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let mut left = columns.saturating_sub(1);
    let mut short: String = text
        .chars()
        .take_while(|c| {
            let taken = c.width().unwrap_or(0);
            let fits = taken <= left;
            left = left.saturating_sub(taken);
            fits
        })
        .collect();
    short.push('…');
    Cow::Owned(short)
}

/// Prose in lines of at most `columns`, cut between words. A word that is longer has a line of
/// its own and is whole: it may be there to be copied.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in plain(text).split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_moves_no_cursor() {
        assert_eq!(plain("orders"), "orders");
        assert_eq!(plain("a\x1b[2Jb\nc\u{9b}"), "a\\u{1b}[2Jb\\nc\\u{9b}");
        assert_eq!(
            paint(FAIL, "\x07"),
            format!("{FAIL}\\u{{7}}{FAIL:#}"),
            "the style itself stays"
        );
    }

    #[test]
    fn text_is_cut_by_columns_and_not_by_characters() {
        assert_eq!(cut("orders", 6), "orders");
        assert_eq!(cut("customers", 6), "custo…");
        assert_eq!(cut("注文テーブル", 6), "注文…");
        assert_eq!(width("注文…"), 5);
    }

    #[test]
    fn prose_is_cut_between_words_and_a_long_word_stays_whole() {
        assert_eq!(
            wrap("a slot keeps WAL until it is acknowledged", 14),
            ["a slot keeps", "WAL until it", "is", "acknowledged"]
        );
        assert_eq!(
            wrap("see /a/long/path here", 6),
            ["see", "/a/long/path", "here"]
        );
        assert!(wrap(" ", 10).is_empty());
    }

    #[test]
    fn the_worst_level_is_the_greatest() {
        let levels = [Level::Warning, Level::Fail, Level::Ok];
        assert_eq!(levels.into_iter().max(), Some(Level::Fail));
    }
}
