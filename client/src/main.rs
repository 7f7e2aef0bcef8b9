//! The command `headwater`.

use std::process::ExitCode;

use clap::Parser;
use headwater::cli::Cli;
use headwater::log;

// One thread allocates a record and its headers for librdkafka, another frees them when
// they are acknowledged: of the client's CPU, a third went into the C library's allocator.
// It serves librdkafka too, by the feature `override`. Huge pages (`no_thp`) would double the
// memory that the process holds.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    log::init(cli.log.log_format, cli.log.verbose);
    match cli.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("headwater: error: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(error.kind().exit_code())
        }
    }
}
