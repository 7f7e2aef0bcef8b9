//! The command `headwater`.

use std::process::ExitCode;

use clap::Parser;
use headwater::cli::Cli;
use headwater::log;

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
