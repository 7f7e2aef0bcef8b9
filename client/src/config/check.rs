//! `headwater config check`: whether environment and file are right, and what they set.

use std::ffi::OsString;
use std::path::Path;

use clap::FromArgMatches;
use clap::error::ErrorKind as ClapErrorKind;

use super::command_line::{self, Refusal, without_variables};
use super::file::File;
use super::layers::{Assignment, Layers, Property};
use super::table::{CommandSettings, Table};
use super::{Environment, locate, names, readable_secret};
use crate::cli::{self, Cli};
use crate::error::{Error, ErrorKind, Result};
use crate::terminal::{COLUMNS, CURE, FAIL, OK, WARNING, paint, plain, wrap};

/// The width of a key, and of a place: what is left of a terminal's takes names of commands.
const WIDTH: usize = 26;

/// Before what mends a finding.
const INDENT: &str = "  ";

/// What a check has found.
#[derive(Debug, Default)]
pub struct Report {
    /// What keeps commands from running.
    pub errors: Vec<Error>,
    /// What does not, and should be known.
    pub warnings: Vec<Error>,
    /// What is set.
    pub set: Vec<Set>,
    /// How many commands have settings.
    commands: usize,
}

/// A setting that environment or file give.
#[derive(Debug, PartialEq, Eq)]
pub struct Set {
    /// The key, with `kafka.` before that of a property.
    pub key: String,
    /// The variable, or the file and its line.
    pub place: String,
    /// The commands that take it from there.
    pub commands: Vec<String>,
}

/// Looks at every setting of every command. Nothing is connected to.
pub fn check(path: Option<&Path>, environment: &Environment) -> Report {
    let root = cli::command();
    let table = Table::new(&root);
    let mut report = Report {
        warnings: environment.unknown(&table),
        ..Report::default()
    };
    let file = path.and_then(|path| match File::read(path) {
        Ok(file) => Some(file),
        Err(error) => {
            report.errors.push(error);
            None
        }
    });
    if let Some(file) = &file {
        report.errors.extend(names::unknown(file, &table));
        report.warnings.extend(readable_secret(file, &table));
    }
    let layers = Layers {
        environment,
        file: file.as_ref(),
    };
    for command in &table.commands {
        let (assignments, properties, errors) = layers.checked(command, |_| false);
        match errors.is_empty() {
            true => report.add_together(&root, command, &assignments, &properties),
            false => errors.into_iter().for_each(|error| report.add_error(error)),
        }
        report.add(command, &assignments, &properties);
    }
    report.commands = table.commands.len();
    report
}

impl Report {
    /// What keeps one command from running.
    pub(super) fn of(errors: Vec<Error>) -> Self {
        Report {
            errors,
            ..Report::default()
        }
    }

    /// Looks at what the settings of a command say of each other.
    fn add_together(
        &mut self,
        root: &clap::Command,
        command: &CommandSettings,
        assignments: &[Assignment],
        properties: &[Property],
    ) {
        let name = &command.name;
        let mut words: Vec<OsString> = vec!["headwater".into(), name.into()];
        words.extend(command_line::as_words(assignments, properties));
        let parsed = without_variables(root.clone()).try_get_matches_from(words);
        match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
            // What is missing may yet come by the command line, here and there.
            Err(error) if error.kind() == ClapErrorKind::MissingRequiredArgument => {}
            Err(error) => match command_line::explained(error, assignments) {
                Refusal::Settings(errors) => {
                    errors.into_iter().for_each(|error| self.add_error(error));
                }
                Refusal::CommandLine(error) => {
                    self.add_error(command_line::as_error(&error));
                }
            },
            Ok(mut cli) => {
                locate(&mut cli, properties);
                if let Err(error) = cli.command.check() {
                    let sentence = format!("headwater {name} would not run by this alone: {error}");
                    let hint = error.hint().unwrap_or_default();
                    self.warnings
                        .push(Error::new(ErrorKind::Usage, sentence).with_hint(hint));
                }
            }
        }
    }

    /// An error that several commands have is one.
    fn add_error(&mut self, error: Error) {
        let sentence = error.to_string();
        if !self
            .errors
            .iter()
            .any(|other| other.to_string() == sentence)
        {
            self.errors.push(error);
        }
    }

    fn add(
        &mut self,
        command: &CommandSettings,
        assignments: &[Assignment],
        properties: &[Property],
    ) {
        let assignments = assignments
            .iter()
            .map(|it| (it.setting.key.clone(), it.origin.to_string()));
        let properties = properties
            .iter()
            .map(|it| (format!("kafka.{}", it.name), it.origin.to_string()));
        for (key, place) in assignments.chain(properties) {
            let mut set = self.set.iter_mut();
            match set.find(|set| set.key == key && set.place == place) {
                Some(set) => set.commands.push(command.name.clone()),
                None => self.set.push(Set {
                    key,
                    place,
                    commands: vec![command.name.clone()],
                }),
            }
        }
    }

    /// The report as lines for a terminal: what is wrong, what is set, and whether all is well.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (word, style, findings) in [
            ("error", FAIL, &self.errors),
            ("warning", WARNING, &self.warnings),
        ] {
            for finding in findings {
                let sentence = wrap(&format!("{word}: {finding}"), COLUMNS);
                lines.extend(
                    sentence
                        .into_iter()
                        .map(|line| match line.strip_prefix(word) {
                            Some(rest) => format!("{}{rest}", paint(style, word)),
                            None => line,
                        }),
                );
                let hint = finding.hint().unwrap_or_default();
                let hint = wrap(hint, COLUMNS - INDENT.len()).into_iter();
                lines.extend(hint.map(|line| format!("{INDENT}{}", paint(CURE, &line))));
            }
        }
        for set in &self.set {
            let commands = match set.commands.len() == self.commands {
                true => "all".to_owned(),
                false => set.commands.join(", "),
            };
            let (key, place) = (plain(&set.key), plain(&set.place));
            let mut left = format!("{key:<WIDTH$} {place:<WIDTH$} ");
            for commands in wrap(&commands, COLUMNS - 2 * (WIDTH + 1)) {
                lines.push(format!("{left}{commands}"));
                left = " ".repeat(2 * (WIDTH + 1));
            }
        }
        if self.errors.is_empty() {
            let count = self.set.len();
            let settings = if count == 1 { "setting" } else { "settings" };
            lines.push(format!("{}: {count} {settings}", paint(OK, "ok")));
        }
        lines
    }

    /// Whether commands can run by it.
    ///
    /// # Errors
    /// Of kind `Usage`, with how many errors there are.
    pub fn verdict(&self) -> Result<()> {
        match self.errors.len() {
            0 => Ok(()),
            1 => Err(Error::new(
                ErrorKind::Usage,
                "the configuration has an error",
            )),
            count => Err(Error::new(
                ErrorKind::Usage,
                format!("the configuration has {count} errors"),
            )),
        }
    }
}
