//! `headwater doctor`: every precondition of a stream, each with what mends it.
//!
//! ```text
//! AREAS ─► look ─► Finding { severity, found, cure } ─► Report ─► lines | JSON ─► exit code
//!            ▲
//!            └─ Examination: what was asked for, what was learned so far
//! ```
//!
//! The questions are those of `headwater stream`, asked by the same code
//! ([`crate::source::preconditions`], [`crate::source::catalog`], [`crate::start`], the router, the
//! topics): what the doctor passes, a start passes. It changes nothing anywhere.
//!
//! A look that cannot be made says why, and is never taken for one that went well: a role that may
//! not read something knows nothing of it.
//!
//! What is printed as a cure is the text to run, letter by letter; the end-to-end tests
//! run it as it was printed.

mod acl;
mod check;
mod command;
mod examination;
mod finding;
mod kafka;
mod keys;
mod login;
mod oids;
mod reference;
mod registry;
mod report;
mod role;
mod sample;
mod server;
mod start;
mod tables;
mod types;
mod words;

pub use reference::reference;

use std::io::Write;

use self::check::AREAS;
use self::examination::Examination;
use self::finding::Finding;
use self::report::Report;
use crate::cli::DoctorOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::stop::Stop;
use crate::stream;
use crate::terminal;

/// Runs the command to its end.
pub fn run(options: &DoctorOptions) -> Result<()> {
    let stop = Stop::on_signals()?;
    stream::check_options(&options.stream)?;
    let report = examine(options, &stop).map_err(unfinished)?;
    let mut out = std::io::BufWriter::new(terminal::stdout());
    let printed = match options.json {
        true => report.print_json(&mut out),
        false => report.print(&mut out),
    };
    printed
        .and_then(|()| out.flush())
        .map_err(|error| Error::failed("standard output cannot be written").with_source(error))?;
    report.verdict(options.strict)
}

/// A signal ends it with most of it unseen, which no exit code 0 may say.
fn unfinished(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Interrupted => Error::failed("stopped by a signal before all was looked at"),
        _ => error,
    }
}

fn examine(options: &DoctorOptions, stop: &Stop) -> Result<Report> {
    let mut exam = Examination::new(options, stop)?;
    let mut report = Report::new(command::to_stream(std::env::args_os(), &options.stream));
    for area in AREAS {
        for check in area.checks {
            stop.check()?;
            let findings = match (check.look)(&mut exam) {
                Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
                Err(error) => vec![Finding::skipped(error.to_string())],
                Ok(findings) => findings,
            };
            report.add(area, check, findings);
        }
    }
    Ok(report)
}
