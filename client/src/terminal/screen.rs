//! The whole screen, drawn again and again in place.
//!
//! It is the terminal's second screen (`?1049`), as editors and pagers use it: what was on the
//! terminal before is there again afterwards, whatever happened to the size of the window
//! meanwhile. Lines that are too long end at the edge (`?7l`) instead of moving all others
//! down, and the cursor is hidden (`?25l`).

use std::io::{self, Write};

use terminal_size::{Height, terminal_size};

/// Second screen, no cursor, no wrapping.
const OPEN: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";

/// The same undone, the last first.
const CLOSE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// Lines of a terminal that does not tell how many it has.
const USUAL_HEIGHT: usize = 24;

/// The second screen, as long as this lives.
#[derive(Debug)]
pub struct Screen<W: Write> {
    out: W,
}

impl<W: Write> Screen<W> {
    /// Shows the second screen of the terminal that `out` writes to.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn open(mut out: W) -> io::Result<Self> {
        out.write_all(OPEN.as_bytes())?;
        out.flush()?;
        Ok(Screen { out })
    }

    /// Shows `lines` in place of what is there, as many as fit; the last one says how many do
    /// not. They go out in one write, so that no half of them is seen.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn draw(&mut self, lines: &[String]) -> io::Result<()> {
        let height = terminal_size().map_or(USUAL_HEIGHT, |(_, Height(rows))| usize::from(rows));
        self.out.write_all(frame(lines, height).as_bytes())?;
        self.out.flush()
    }
}

impl<W: Write> Drop for Screen<W> {
    /// Also while a panic unwinds: a terminal without cursor is of no use to anybody.
    fn drop(&mut self) {
        let _ = self.out.write_all(CLOSE.as_bytes());
        let _ = self.out.flush();
    }
}

/// From the upper left corner, each line with what is behind it cleared, then what is below.
fn frame(lines: &[String], height: usize) -> String {
    let mut frame = String::from("\x1b[H");
    let fits = lines.len() <= height;
    let shown = if fits {
        lines.len()
    } else {
        height.saturating_sub(1)
    };
    for (number, line) in lines.iter().take(shown).enumerate() {
        if number > 0 {
            frame.push_str("\r\n");
        }
        frame.push_str(line);
        frame.push_str("\x1b[K");
    }
    if !fits {
        let hidden = lines.len() - shown;
        frame.push_str(&format!("\r\n… {hidden} more lines\x1b[K"));
    }
    frame.push_str("\x1b[J");
    frame
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_screen_that_is_left_is_as_it_was() {
        let mut out = Vec::new();
        Screen::open(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for mode in ["?1049", "?25", "?7"] {
            let (high, low) = (
                text.find(&format!("{mode}h")),
                text.find(&format!("{mode}l")),
            );
            assert!(high.is_some() && low.is_some(), "{mode} in {text:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let lines: Vec<String> = (1..=5).map(|number| number.to_string()).collect();
        assert_eq!(frame(&lines[..2], 2), "\x1b[H1\x1b[K\r\n2\x1b[K\x1b[J");
        assert_eq!(
            frame(&lines, 3),
            "\x1b[H1\x1b[K\r\n2\x1b[K\r\n… 3 more lines\x1b[K\x1b[J"
        );
    }
}
