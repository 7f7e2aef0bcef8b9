//! The command `headwater`.

use std::ffi::OsString;
use std::process::ExitCode;

use headwater::config::{self, Environment, Refusal};
use headwater::error::Error;
use headwater::log;

// One thread allocates a record and its headers for librdkafka, another frees them when
// they are acknowledged: of the client's CPU, a third went into the C library's allocator.
// It serves librdkafka too, by the feature `override`. Huge pages (`no_thp`) would double the
// memory that the process holds.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let settings = match config::load(&words, &Environment::of_process()) {
        Ok(settings) => settings,
        Err(Refusal::CommandLine(error)) => error.exit(),
        Err(Refusal::Settings(error)) => return failed(&error),
    };
    let general = &settings.cli.general;
    log::init(general.log_format, general.verbose);
    for warning in &settings.warnings {
        log::warn(warning);
    }
    match settings.cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &Error) -> ExitCode {
    eprintln!("headwater: error: {error}");
    if let Some(hint) = error.hint() {
        eprintln!("hint: {hint}");
    }
    ExitCode::from(error.kind().exit_code())
}
