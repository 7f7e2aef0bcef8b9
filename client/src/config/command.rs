//! `headwater config` and `headwater completions`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::Path;

use clap_complete::Shell;

use super::command_line::as_error;
use super::{Environment, Refusal, Report, check, print};
use crate::cli::{self, CompletionsOptions, ConfigOptions, ConfigQuestion, PrintOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::terminal;

/// Runs `headwater config`, with the file of `--config`.
///
/// # Errors
/// Of kind `Usage` where settings are wrong.
pub fn run(options: &ConfigOptions, file: Option<&Path>) -> Result<()> {
    let environment = Environment::of_process();
    match &options.question {
        ConfigQuestion::Check => {
            let report = check(file, &environment);
            write(terminal::stdout(), text(&report).as_bytes())?;
            report.verdict()
        }
        ConfigQuestion::Print(options) => {
            let words = words(options, file);
            match print(&words, &environment, options.json) {
                Ok(text) => write(io::stdout(), text.as_bytes()),
                Err(Refusal::Settings(mut errors)) if errors.len() == 1 => Err(errors.remove(0)),
                Err(Refusal::Settings(errors)) => {
                    let report = Report::of(errors);
                    write(terminal::stderr(), text(&report).as_bytes())?;
                    report.verdict()
                }
                // Help of the other command is no error.
                Err(Refusal::CommandLine(error)) if !error.use_stderr() => {
                    write(io::stdout(), error.render().to_string().as_bytes())
                }
                Err(Refusal::CommandLine(error)) => Err(as_error(&error)),
            }
        }
    }
}

fn text(report: &Report) -> String {
    let lines = report.lines().into_iter();
    lines.map(|line| format!("{line}\n")).collect()
}

/// Runs `headwater completions`.
///
/// # Errors
/// Where nothing can be written to stdout.
pub fn complete(options: &CompletionsOptions) -> Result<()> {
    let mut script = Vec::new();
    let mut command = visible(&cli::command());
    clap_complete::generate(options.shell, &mut command, "headwater", &mut script);
    if options.shell == Shell::Fish {
        let text = String::from_utf8_lossy(&script);
        return write(io::stdout(), for_fish(&text).as_bytes());
    }
    write(io::stdout(), &script)
}

/// The script as fish takes it. A bare `?` is a wildcard to it until release 4, and its `argparse`
/// knows no option of this letter in any: as it is generated, the script complains at each TAB and
/// offers nothing.
fn for_fish(script: &str) -> String {
    script
        .replace(" -s ? ", " -s '?' ")
        .replace(" ?/help ", " help ")
}

/// The tree without hidden options, which the generators show: secrets are not taken from the command
/// line.
fn visible(command: &clap::Command) -> clap::Command {
    let args = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let visible = clap::Command::new(command.get_name().to_owned())
        .disable_help_flag(command.is_disable_help_flag_set())
        .args(args.cloned())
        .subcommands(command.get_subcommands().map(visible));
    let visible = match command.get_about() {
        Some(about) => visible.about(about.clone()),
        None => visible,
    };
    match command.get_version() {
        Some(version) => visible.version(version.to_owned()),
        None => visible,
    }
}

/// The command line that is asked about.
fn words(options: &PrintOptions, file: Option<&Path>) -> Vec<OsString> {
    let mut words = vec![OsString::from("headwater")];
    if let Some(file) = file {
        words.push("--config".into());
        words.push(file.into());
    }
    let has_command = options
        .command
        .first()
        .is_some_and(|word| !word.to_string_lossy().starts_with('-'));
    if !has_command {
        words.push("stream".into());
    }
    words.extend(options.command.iter().cloned());
    words
}

fn write(mut stdout: impl Write, bytes: &[u8]) -> Result<()> {
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Error::new(
            ErrorKind::Interrupted,
            "the reader of stdout went away",
        )),
        Err(error) => Err(Error::failed("cannot write to stdout").with_source(error)),
    }
}
