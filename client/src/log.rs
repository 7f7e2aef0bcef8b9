//! What the client says of itself: lines on stderr, as text or JSON. Lower case,
//! facts as fields, never the value of a row.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt;

use crate::error::Error;

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
        .with_writer(std::io::stderr);
    let result = match format {
        LogFormat::Text => lines.compact().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
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
