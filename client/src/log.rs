//! What the client says of itself: lines on stderr, as text or JSON. Lower case,
//! facts as fields, never the value of a row.
//!
//! In JSON a line is an object with `timestamp`, `level`, `message` and the fields of the event
//! beside them. Messages are constant, what varies is in the fields, so that a program can
//! tell events apart by `message`. The error that ends the process is such a line, too, and so is
//! a panic: whoever reads the lines needs no other way to read the last one.

use std::io::IsTerminal;
use std::panic::PanicHookInfo;

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt;

use crate::error::Error;
use crate::progress;

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends log lines to stderr: from `info` on, `debug` with `verbosity` 1, everything
/// above that. Called once; later calls change nothing.
pub fn init(format: LogFormat, verbosity: u8) {
    let level = match verbosity {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let lines = fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(progress::above_bar);
    let result = match format {
        LogFormat::Text => lines.compact().try_init(),
        LogFormat::Json => {
            progress::in_lines();
            std::panic::set_hook(Box::new(log_panic));
            lines.with_ansi(false).json().flatten_event(true).try_init()
        }
    };
    if result.is_err() {
        tracing::debug!("the log is set up already");
    }
}

/// A warning that is no error yet, with what mends it.
pub fn warn(warning: &Error) {
    match warning.hint() {
        Some(hint) => tracing::warn!(hint, "{warning}"),
        None => tracing::warn!("{warning}"),
    }
}

/// Says why the process ends, and what mends it.
pub fn last_words(format: LogFormat, error: &Error) {
    let hint = error.hint();
    match format {
        LogFormat::Text => {
            eprintln!("headwater: error: {error}");
            if let Some(hint) = hint {
                eprintln!("hint: {hint}");
            }
        }
        LogFormat::Json => {
            let exit_code = error.kind().exit_code();
            tracing::error!(%error, hint, exit_code, "ended by an error");
        }
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic.location().map(ToString::to_string);
    tracing::error!(
        location,
        reason = panic.payload_as_str(),
        thread = std::thread::current().name(),
        "panicked"
    );
}
