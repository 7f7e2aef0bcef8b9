//! How far a copy of tables is: a bar on a terminal, lines in the log otherwise.

use std::fmt;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};

/// One line this often where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// The progress of one copy.
pub struct Progress {
    what: &'static str,
    start: Instant,
    display: Display,
}

enum Display {
    Bar(ProgressBar),
    Lines {
        expected: Option<u64>,
        next: Duration,
    },
}

impl Progress {
    /// Begins now, under the name of what goes on. `expected` is an estimate of the rows, none
    /// where a table was never analyzed.
    pub fn new(what: &'static str, expected: Option<u64>) -> Self {
        let display = if std::io::stderr().is_terminal() {
            Display::Bar(bar(what, expected))
        } else {
            Display::Lines {
                expected,
                next: LINE_INTERVAL,
            }
        };
        Progress {
            what,
            start: Instant::now(),
            display,
        }
    }

    /// So many rows are copied.
    pub fn update(&mut self, rows: u64) {
        let elapsed = self.start.elapsed();
        match &mut self.display {
            Display::Bar(bar) => {
                if bar.length().is_some_and(|length| length < rows) {
                    bar.set_length(rows);
                }
                bar.set_position(rows);
            }
            Display::Lines { expected, next } if elapsed >= *next => {
                *next = elapsed + LINE_INTERVAL;
                let rate = rate(rows, elapsed);
                let left = expected
                    .and_then(|expected| expected.saturating_sub(rows).checked_div(rate.max(1)));
                tracing::info!(
                    rows,
                    expected = *expected,
                    rows_per_second = rate,
                    seconds_left = left,
                    "{}",
                    self.what
                );
            }
            Display::Lines { .. } => {}
        }
    }

    /// All of them are through, which `done` says.
    pub fn finish(self, rows: u64, done: &str) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
        let elapsed = self.start.elapsed();
        tracing::info!(
            rows,
            seconds = elapsed.as_secs(),
            rows_per_second = rate(rows, elapsed),
            "{done}"
        );
    }
}

impl Drop for Progress {
    /// A copy that fails leaves no half-drawn bar above its error.
    fn drop(&mut self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}

fn bar(what: &'static str, expected: Option<u64>) -> ProgressBar {
    let (bar, template) = match expected {
        Some(rows) => (
            ProgressBar::new(rows),
            "{prefix} {bar:30} {human_pos} of about {human_len} rows, {rate} rows/s, {eta} left",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{prefix} {spinner} {human_pos} rows, {rate} rows/s, {elapsed}",
        ),
    };
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", whole_rows_a_second);
    bar.with_style(style).with_prefix(what)
}

/// The crate's own rate has four decimals.
fn whole_rows_a_second(state: &ProgressState, out: &mut dyn fmt::Write) {
    // A line that cannot be drawn is drawn again.
    let _ = write!(out, "{}", HumanCount(state.per_sec() as u64));
}

fn rate(rows: u64, elapsed: Duration) -> u64 {
    let milliseconds = u64::try_from(elapsed.as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    rows.saturating_mul(1000) / milliseconds
}
