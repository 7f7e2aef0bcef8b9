//! How far long work is: a bar on a terminal, lines in the log otherwise.
//!
//! A bar stands below what is written to the terminal. So while there is one, lines of the log go
//! to the terminal through [`above_bar`], which takes the bar away for the moment: without that
//! they would be written into it. Lines that are for a program ([`in_lines`]) have no bar between
//! them, on a terminal either: its escape sequences are no JSON.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use crate::terminal;

/// One line this often where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// The bar that is on the terminal: one piece of work is long at a time.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Whether progress is told in lines wherever they go.
static IN_LINES: AtomicBool = AtomicBool::new(false);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Rows of tables.
    Rows,
    /// Records of topics.
    Records,
    /// Topics as a whole.
    Topics,
}

impl Unit {
    fn plural(self) -> &'static str {
        match self {
            Unit::Rows => "rows",
            Unit::Records => "records",
            Unit::Topics => "topics",
        }
    }
}

/// The progress of one piece of work.
pub struct Progress {
    what: &'static str,
    unit: Unit,
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
    /// Begins now, under the name of what goes on. `expected` is how many of the unit there are, or
    /// an estimate; none where nobody knows.
    pub fn new(what: &'static str, unit: Unit, expected: Option<u64>) -> Self {
        let display = if draws() {
            Display::Bar(shown(bar(what, unit, expected)))
        } else {
            Display::Lines {
                expected,
                next: LINE_INTERVAL,
            }
        };
        Progress {
            what,
            unit,
            start: Instant::now(),
            display,
        }
    }

    /// So many are done.
    pub fn update(&mut self, done: u64) {
        let elapsed = self.start.elapsed();
        match &mut self.display {
            Display::Bar(bar) => {
                if bar.length().is_some_and(|length| length < done) {
                    bar.set_length(done);
                }
                bar.set_position(done);
            }
            Display::Lines { expected, next } if elapsed >= *next => {
                *next = elapsed + LINE_INTERVAL;
                let rate = rate(done, elapsed);
                let left = expected
                    .and_then(|expected| expected.saturating_sub(done).checked_div(rate.max(1)));
                match self.unit {
                    Unit::Topics => {
                        tracing::info!(topics = done, expected = *expected, "{}", self.what);
                    }
                    Unit::Rows | Unit::Records => tracing::info!(
                        rows = done,
                        expected = *expected,
                        rows_per_second = rate,
                        seconds_left = left,
                        "{}",
                        self.what
                    ),
                }
            }
            Display::Lines { .. } => {}
        }
    }

    /// What goes on beside it, on a terminal: what is waited for.
    pub fn say(&self, what: &'static str) {
        if let Display::Bar(bar) = &self.display
            && bar.message() != what
        {
            bar.set_message(what);
        }
    }

    /// All of them are through, which `done` says.
    pub fn finish(self, count: u64, done: &str) {
        if let Display::Bar(bar) = &self.display {
            clear(bar);
        }
        let elapsed = self.start.elapsed();
        tracing::info!(
            rows = count,
            seconds = elapsed.as_secs(),
            rows_per_second = rate(count, elapsed),
            "{done}"
        );
    }
}

impl Drop for Progress {
    /// Work that fails leaves no half-drawn bar above its error.
    fn drop(&mut self) {
        if let Display::Bar(bar) = &self.display {
            clear(bar);
        }
    }
}

/// Says on a terminal, until it is dropped, that something is waited for, and for how long by
/// now. Elsewhere a line of the log has to do.
pub fn waiting(what: &'static str, for_what: String) -> impl Drop {
    let progress = Progress::new(what, Unit::Rows, None);
    if let Display::Bar(bar) = &progress.display {
        bar.set_style(style("{prefix:9} {spinner} {msg}, {elapsed}"));
        bar.set_message(for_what);
        // Whoever waits has other things to do than to turn a spinner.
        bar.enable_steady_tick(Duration::from_millis(200));
    }
    progress
}

/// From now on progress is told in lines of the log, on a terminal too.
pub fn in_lines() {
    IN_LINES.store(true, Ordering::Relaxed);
}

fn draws() -> bool {
    !IN_LINES.load(Ordering::Relaxed) && io::stderr().is_terminal()
}

/// Standard error, for lines: above the bar, where there is one.
pub fn above_bar() -> impl Write {
    AboveBar
}

struct AboveBar;

impl Write for AboveBar {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // The bar's own lock is taken behind ours nowhere else.
        let bar = drawn().clone();
        match bar {
            Some(bar) => bar.suspend(|| io::stderr().write(line)),
            None => io::stderr().write(line),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn drawn() -> MutexGuard<'static, Option<ProgressBar>> {
    BAR.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shown(bar: ProgressBar) -> ProgressBar {
    *drawn() = Some(bar.clone());
    bar
}

fn clear(bar: &ProgressBar) {
    bar.finish_and_clear();
    *drawn() = None;
}

/// At most 80 columns, with a number of nine digits and a rate of six.
fn bar(what: &'static str, unit: Unit, expected: Option<u64>) -> ProgressBar {
    let (bar, template) = match expected {
        Some(expected) => (
            ProgressBar::new(expected),
            "{prefix:9} {bar:16} {share:>5}  {counts}{msg}",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{prefix:9} {spinner} {counts}, {elapsed}{msg}",
        ),
    };
    let style = style(template).with_key(
        "counts",
        move |state: &ProgressState, out: &mut dyn fmt::Write| {
            // A line that cannot be drawn is drawn again.
            let _ = out.write_str(&counts(unit, state));
        },
    );
    bar.with_style(style).with_prefix(what)
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("█░")
        .with_key(
            "share",
            |state: &ProgressState, out: &mut dyn fmt::Write| {
                let share = terminal::share(state.pos(), state.len().unwrap_or(0));
                let _ = out.write_str(&share);
            },
        )
        .with_key(
            "elapsed",
            |state: &ProgressState, out: &mut dyn fmt::Write| {
                let _ = out.write_str(&terminal::duration(state.elapsed()));
            },
        )
}

fn counts(unit: Unit, state: &ProgressState) -> String {
    let (done, name) = (terminal::count(state.pos()), unit.plural());
    if unit == Unit::Topics {
        return match state.len() {
            Some(all) => format!("{done} of {all} {name}"),
            None => format!("{done} {name}"),
        };
    }
    let rate = terminal::count(state.per_sec().round() as u64);
    let mut text = format!("{done} {name}, {rate}/s");
    let is_going = state.pos() > 0 && state.len().is_some_and(|all| all > state.pos());
    if is_going {
        text.push_str(&format!(", {} left", terminal::duration(state.eta())));
    }
    text
}

fn rate(done: u64, elapsed: Duration) -> u64 {
    let milliseconds = u64::try_from(elapsed.as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    done.saturating_mul(1000) / milliseconds
}
