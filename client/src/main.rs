//! The command `headwater`.

use std::ffi::OsString;
use std::process::ExitCode;

use headwater::config::{self, Environment, Refusal};
use headwater::error::{Error, ErrorKind};
use headwater::log::{self, LogFormat};

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
        // In what form lines are to be is among what cannot be read.
        Err(Refusal::Settings(errors)) => {
            errors
                .iter()
                .for_each(|error| log::last_words(LogFormat::Text, error));
            return ExitCode::from(ErrorKind::Usage.exit_code());
        }
    };
    let general = &settings.cli.general;
    log::init(general.log_format, general.verbose);
    for warning in &settings.warnings {
        log::warn(warning);
    }
    match settings.cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(general.log_format, &error),
    }
}

fn failed(format: LogFormat, error: &Error) -> ExitCode {
    log::last_words(format, error);
    ExitCode::from(error.kind().exit_code())
}
