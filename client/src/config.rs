//! Settings: command line, environment, file and default, in this order of precedence.
//!
//! The tree of clap is the one table of them: an option's long name is its key in the file, and
//! its variable's name. What environment and file say is put on the command line, as words behind the
//! command's name, where the command line does not say it itself. So clap parses all layers alike,
//! and what it checks it checks across layers: conflicts, requirements, what is required. The
//! other way in, clap's own defaults and variables, would not do. A default counts for none of these
//! checks (clap_builder's validator asks `check_explicit`); and clap names an option where
//! a variable or a line of the file is wrong. Nobody but this process sees the words.
//!
//! `layers` says what is set where, `command_line` what is put where; `table` is clap's tree as
//! both look at it.

mod check;
mod command;
mod command_line;
mod environment;
mod example;
mod file;
mod flags;
mod layers;
mod names;
mod print;
mod reference;
mod rows;
pub(crate) mod secret;
mod suggestion;
mod table;

use std::ffi::{OsStr, OsString};
use std::path::Path;

use clap::{ArgMatches, FromArgMatches};

pub use check::{Report, Set, check};
pub use command::{complete, run};
pub use command_line::Refusal;
pub use environment::Environment;
pub use example::example;
pub use print::print;
pub use reference::reference;
pub use secret::Secret;
pub(crate) use table::with_variables;

use crate::cli::{self, Cli};
use crate::error::{Error, ErrorKind, Result};
use command_line::{CommandLine, nothing_required, without_variables};
use file::{File, Value};
pub(crate) use layers::Origin;
use layers::{Assignment, Layers, Property};
use table::{CommandSettings, KAFKA, Secrecy, Setting, Table};

/// What is to be done, by all that was said.
#[derive(Debug)]
pub struct Settings {
    /// The command and its options.
    pub cli: Cli,
    /// What does not stop it and should be known.
    pub warnings: Vec<Error>,
}

/// Reads command line, environment and file.
///
/// # Errors
/// What clap says; or an error of kind `Usage` that names the variable or the line.
pub fn load(words: &[OsString], environment: &Environment) -> Result<Settings, Refusal> {
    let resolved = Resolved::new(words, environment, Purpose::Run)?;
    let mut cli = Cli::from_arg_matches(&resolved.matches).map_err(Refusal::CommandLine)?;
    locate(&mut cli, &resolved.properties);
    Ok(Settings {
        cli,
        warnings: resolved.warnings,
    })
}

/// Says of properties where they are from: on the command line that clap has parsed, those of the
/// other layers stand before all that were there.
fn locate(cli: &mut Cli, properties: &[Property]) {
    let given = cli.command.properties_mut().into_iter().flatten();
    for (given, property) in given.zip(properties) {
        given.origin = property.origin.clone();
    }
}

/// What a command goes by, and where each of its settings is from.
struct Resolved {
    /// The command's name.
    command: String,
    table: Table,
    /// What environment and file set.
    assignments: Vec<Assignment>,
    properties: Vec<Property>,
    /// All layers, as clap has parsed them.
    matches: ArgMatches,
    /// Options that are on the command line itself, by their ids.
    flags: Vec<String>,
    /// What `-X` has on the command line itself.
    property_flags: Vec<OsString>,
    warnings: Vec<Error>,
}

/// What settings are looked up for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To run the command.
    Run,
    /// To show them: the command may lack what it cannot run without.
    Show,
}

impl Resolved {
    fn new(
        words: &[OsString],
        environment: &Environment,
        purpose: Purpose,
    ) -> Result<Self, Refusal> {
        let root = match purpose {
            Purpose::Run => cli::command(),
            Purpose::Show => nothing_required(cli::command()),
        };
        let table = Table::new(&root);
        let Some(line) = CommandLine::read(&root, words) else {
            return Err(wrong(root, words, &table));
        };
        let path = line.text("config").or(environment.get(environment::CONFIG));
        let path = path.map(Path::new);
        // One without options of its own goes by no file: `config check` among them, which has to
        // run when the file is wrong.
        let command = table.command(line.command());
        let mut errors = Vec::new();
        let file = match (command, path) {
            (Some(_), Some(path)) => known_file(path, &table, &mut errors),
            _ => None,
        };
        let command = match command {
            Some(command) => command.clone(),
            None => CommandSettings::of_every_command(line.command(), &table),
        };
        errors.extend(line.refuse_secrets(&command.settings).err());
        let layers = Layers {
            environment,
            file: file.as_ref(),
        };
        let is_flag = |setting: &Setting| line.has(setting.arg.get_id().as_str());
        let (assignments, properties, of_values) = layers.checked(&command, is_flag);
        errors.extend(of_values);
        let mut added = command_line::as_words(&assignments, &properties);
        if let (false, Some(path)) = (line.has("config"), path) {
            let mut word = OsString::from("--config=");
            word.push(path);
            added.push(word);
        }
        let words = line.complete(added, &command.settings);
        let words = words.map_err(|error| errors.push(error));
        let (Ok(words), true) = (words, errors.is_empty()) else {
            return Err(Refusal::Settings(errors));
        };
        let matches = without_variables(root)
            .try_get_matches_from(words)
            .map_err(|error| command_line::explained(error, &assignments))?;
        // `config check` has them in its report.
        let mut warnings = match table.command(&command.name) {
            Some(_) => environment.unknown(&table),
            None => Vec::new(),
        };
        warnings.extend(file.and_then(|file| readable_secret(&file, &table)));
        warnings.extend(visible_secrets(&line, &command));
        let settings = command.settings.iter();
        let flags = settings
            .map(|setting| setting.arg.get_id().to_string())
            .filter(|id| line.has(id));
        let property_flags = command.properties.iter();
        let property_flags = property_flags.flat_map(|arg| line.texts(arg.get_id().as_str()));
        Ok(Resolved {
            flags: flags.collect(),
            property_flags: property_flags.map(OsStr::to_owned).collect(),
            command: command.name,
            table,
            assignments,
            properties,
            matches,
            warnings,
        })
    }
}

/// What clap says of a command line that is wrong by itself, or asks for help.
fn wrong(root: clap::Command, words: &[OsString], table: &Table) -> Refusal {
    let settings = table.commands.iter().flat_map(|command| &command.settings);
    let settings: Vec<Setting> = settings.cloned().collect();
    let words = flags::as_if_there(words, &settings);
    match without_variables(root).try_get_matches_from(words) {
        Err(error) => Refusal::CommandLine(error),
        Ok(_) => Error::new(ErrorKind::Usage, "the command line cannot be read").into(),
    }
}

/// The file, as far as it can be read, and what is wrong with its names.
fn known_file(path: &Path, table: &Table, errors: &mut Vec<Error>) -> Option<File> {
    match File::read(path) {
        Ok(file) => {
            errors.extend(names::unknown(&file, table));
            Some(file)
        }
        Err(error) => {
            errors.push(error);
            None
        }
    }
}

/// A warning where a password stands in a file that every user of the machine may read.
fn readable_secret(file: &File, table: &Table) -> Option<Error> {
    if !file.is_open {
        return None;
    }
    let secret = file.entries.iter().find(|entry| {
        let Value::Text(text) = &entry.value else {
            return false;
        };
        let path: Vec<&str> = entry.path.iter().map(String::as_str).collect();
        if let [KAFKA, property @ ..] | [_, KAFKA, property @ ..] = path.as_slice() {
            return secret::is_secret_property(&property.join("."));
        }
        let key = path.last().copied().unwrap_or_default();
        let secrecy = table.having(key).map(|(_, setting)| setting.secrecy());
        secrecy.max().is_some_and(|secrecy| match secrecy {
            Secrecy::Open => false,
            Secrecy::Partly => secret::holds_secret(text),
            Secrecy::Secret => true,
        })
    })?;
    let (path, line) = (file.path.display(), secret.line);
    let sentence = format!("{path}:{line} holds a secret, and every user may read the file");
    Some(Error::new(ErrorKind::Usage, sentence).with_hint(format!(
        "Run: chmod o-r {path}. Or put the secret elsewhere: {} = {{ file = \"…\" }}.",
        secret.path.join(".")
    )))
}

/// Warnings where a password stands on the command line.
fn visible_secrets(line: &CommandLine<'_>, command: &CommandSettings) -> Vec<Error> {
    let seen = |what: &str| {
        let sentence = format!("{what} is on the command line, which every user sees");
        Error::new(ErrorKind::Usage, sentence)
    };
    // Pairs that cannot be read are not shown, in case they hold one; nobody knows that they do.
    let shows_secret = |text: &str| {
        let shown = secret::redacted(text);
        shown.contains(secret::REDACTED) && (shown != secret::REDACTED || text.contains("://"))
    };
    let partly = command.settings.iter().filter(|setting| {
        let texts = line.texts(setting.arg.get_id().as_str());
        setting.secrecy() == Secrecy::Partly
            && texts
                .iter()
                .any(|text| shows_secret(&text.to_string_lossy()))
    });
    let mut warnings: Vec<Error> = partly
        .map(|setting| {
            let variable = setting.variable().unwrap_or_default();
            seen(&format!("the password in --{}", setting.key)).with_hint(format!(
                "Set {variable}, or name a file by {variable}_FILE."
            ))
        })
        .collect();
    let properties = command.properties.iter();
    for text in properties.flat_map(|arg| line.texts(arg.get_id().as_str())) {
        let text = text.to_string_lossy();
        let name = text.split_once('=').map_or("", |(name, _)| name.trim());
        if secret::is_secret_property(name) {
            let variable = environment::variable_of_property(name);
            warnings.push(seen(name).with_hint(format!(
                "Set {variable}, or name a file by {variable}_FILE."
            )));
        }
    }
    warnings
}

#[cfg(test)]
mod tests;
