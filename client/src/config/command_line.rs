//! The words of the command line: what they give, and what is put between them.

use std::ffi::{OsStr, OsString};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind as ClapErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::flags;
use super::layers::{Assignment, Origin, Property, Words};
use super::table::{Secrecy, Setting};
use crate::error::{Error, ErrorKind, Result};

/// What is on the command line itself.
pub(crate) struct CommandLine<'a> {
    words: &'a [OsString],
    /// Where the name of the command stands.
    index: usize,
    name: String,
    matches: ArgMatches,
}

impl<'a> CommandLine<'a> {
    /// Reads it by a tree in which nothing is required, in conflict or of a certain form, since the
    /// other layers are not known yet. `None` when it is wrong nevertheless, asks for help or has no
    /// command: clap is to say so.
    pub(crate) fn read(root: &Command, words: &'a [OsString]) -> Option<Self> {
        let root = lenient(root.clone());
        let mut matches = root.clone().try_get_matches_from(words).ok()?;
        // Only clap knows which word is the command and which one an option's value: the first
        // words in which it finds a command end with it.
        let index = (1..words.len()).find(|last| {
            let matches = root.clone().try_get_matches_from(&words[..=*last]);
            matches.is_ok_and(|matches| matches.subcommand_name().is_some())
        })?;
        let (name, matches) = matches.remove_subcommand()?;
        Some(CommandLine {
            words,
            index,
            name,
            matches,
        })
    }

    /// The command's name.
    pub(crate) fn command(&self) -> &str {
        &self.name
    }

    /// Whether an option is on it.
    pub(crate) fn has(&self, id: &str) -> bool {
        // An option that this command does not know is not on it.
        self.matches.try_contains_id(id).is_ok()
            && self.matches.value_source(id) == Some(ValueSource::CommandLine)
    }

    /// The text of an option that is on it.
    pub(crate) fn text(&self, id: &str) -> Option<&OsStr> {
        self.texts(id).pop()
    }

    /// The texts of an option that is on it, maybe several times.
    pub(crate) fn texts(&self, id: &str) -> Vec<&OsStr> {
        match self.matches.try_get_raw(id) {
            Ok(Some(texts)) => texts.collect(),
            _ => Vec::new(),
        }
    }

    /// Refuses secrets, which have no place here.
    pub(crate) fn refuse_secrets(&self, settings: &[Setting]) -> Result<()> {
        let secret = settings.iter().find(|setting| {
            setting.secrecy() == Secrecy::Secret && self.has(setting.arg.get_id().as_str())
        });
        let Some(setting) = secret else {
            return Ok(());
        };
        let (key, variable) = (&setting.key, setting.variable().unwrap_or_default());
        let sentence = format!("--{key} is not taken from the command line, which every user sees");
        Err(Error::new(ErrorKind::Usage, sentence).with_hint(format!(
            "Set {variable}, name a file that holds it by {variable}_FILE, or put {key} into the \
             file of --config."
        )))
    }

    /// The whole command line, with what the other layers say put behind the command's name:
    /// before the words that are there, so that of two properties the one on the command line counts.
    ///
    /// # Errors
    /// Of kind `Usage` where an option that is there or not has a value that says neither.
    pub(crate) fn complete(
        &self,
        added: Vec<OsString>,
        settings: &[Setting],
    ) -> Result<Vec<OsString>> {
        let (before, after) = self.words.split_at(self.index + 1);
        let mut words = flags::without_values(before, settings)?;
        words.extend(added);
        words.extend(flags::without_values(after, settings)?);
        Ok(words)
    }
}

/// What is set, as it would stand on a command line.
pub(crate) fn as_words(assignments: &[Assignment], properties: &[Property]) -> Vec<OsString> {
    let properties = properties.iter().map(|property| {
        let mut word = OsString::from(format!("-X{}=", property.name));
        word.push(&property.value);
        word
    });
    let options = assignments.iter().flat_map(assignment_words);
    options.chain(properties).collect()
}

fn assignment_words(assignment: &Assignment) -> Vec<OsString> {
    let option = format!("--{}", assignment.setting.key);
    match &assignment.words {
        Words::Flag(is_set) => vec![OsString::from(option); usize::from(*is_set)],
        Words::Count(count) => vec![OsString::from(option); usize::from(*count)],
        Words::Values(values) => values
            .iter()
            .map(|value| {
                let mut word = OsString::from(format!("{option}="));
                word.push(value);
                word
            })
            .collect(),
    }
}

/// The tree for the parse that counts: what clap would take from the environment itself has been
/// put on the command line.
pub(crate) fn without_variables(root: Command) -> Command {
    let without = |arg: Arg| arg.env(Resettable::Reset);
    root.mut_args(without)
        .mut_subcommands(|command| command.mut_args(without))
}

/// The tree in which commands run without what they require.
pub(crate) fn nothing_required(root: Command) -> Command {
    root.mut_subcommands(|command| command.mut_args(|arg| arg.required(false)))
}

fn lenient(command: Command) -> Command {
    let groups: Vec<_> = command.get_groups().map(|it| it.get_id().clone()).collect();
    groups
        .into_iter()
        .fold(command, |command, id| {
            command.mut_group(id, |group| group.required(false).multiple(true))
        })
        .subcommand_required(false)
        .arg_required_else_help(false)
        .mut_args(lenient_arg)
        .mut_subcommands(lenient)
}

fn lenient_arg(arg: Arg) -> Arg {
    let arg = alone(arg);
    match arg.get_action() {
        // With a value, maybe, which `flags` judges.
        ArgAction::SetTrue | ArgAction::SetFalse => arg
            .action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .value_parser(value_parser!(OsString)),
        action if action.takes_values() => arg.value_parser(value_parser!(OsString)),
        _ => arg,
    }
}

/// An option without what ties it to others.
fn alone(arg: Arg) -> Arg {
    arg.required(false)
        .conflicts_with(Resettable::Reset)
        .requires(Resettable::Reset)
        .required_unless_present(Resettable::Reset)
        .default_value(Resettable::Reset)
        .env(Resettable::Reset)
}

/// Lets the option's own parser judge values, each by itself.
///
/// # Errors
/// Of kind `Usage`, with where the value is from; the value itself only where it is no secret.
pub(crate) fn check(assignment: &Assignment) -> Result<()> {
    let arg = alone(assignment.setting.arg.clone()).global(false);
    let command = Command::new("headwater")
        .no_binary_name(true)
        .disable_help_flag(true)
        .arg(arg);
    match command.try_get_matches_from(assignment_words(assignment)) {
        Ok(_) => Ok(()),
        Err(error) => Err(invalid(assignment, &error)),
    }
}

fn invalid(assignment: &Assignment, error: &clap::Error) -> Error {
    let Assignment {
        setting, origin, ..
    } = assignment;
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(value)) if setting.secrecy() == Secrecy::Open => {
            format!("invalid value '{value}' for {}", setting.key)
        }
        _ => format!("invalid value for {}", setting.key),
    };
    let reason = std::error::Error::source(error).map(ToString::to_string);
    let possible = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) if !values.is_empty() => {
            Some(format!("expected one of {}", values.join(", ")))
        }
        _ => None,
    };
    let sentence = match reason.or(possible) {
        Some(reason) => format!("{origin}: {value}: {reason}"),
        None => format!("{origin}: {value}"),
    };
    with_suggestion(Error::new(ErrorKind::Usage, sentence), error)
}

/// What clap says of a command line, as an error of ours.
pub(crate) fn as_error(error: &clap::Error) -> Error {
    with_suggestion(Error::new(ErrorKind::Usage, sentence(error)), error)
}

/// With what clap finds like the word that is wrong.
fn with_suggestion(own: Error, error: &clap::Error) -> Error {
    let kinds = [
        ContextKind::SuggestedValue,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
    ];
    let similar = kinds.into_iter().find_map(|kind| match error.get(kind)? {
        ContextValue::String(name) => Some(name),
        ContextValue::Strings(names) => names.last(),
        _ => None,
    });
    match similar {
        Some(similar) => own.with_hint(format!("Did you mean {similar}?")),
        None => own,
    }
}

/// An error of clap about options that are not on the command line would puzzle: it is told where
/// they are set.
pub(crate) fn explained(error: clap::Error, assignments: &[Assignment]) -> Refusal {
    let mut named: Vec<&str> = Vec::new();
    for kind in [ContextKind::InvalidArg, ContextKind::PriorArg] {
        match error.get(kind) {
            Some(ContextValue::String(name)) => named.push(name),
            Some(ContextValue::Strings(names)) => named.extend(names.iter().map(String::as_str)),
            _ => {}
        }
    }
    // As clap writes them, `--slot <NAME>`.
    let is_named = |assignment: &&Assignment| {
        let option = format!("--{}", assignment.setting.key);
        named
            .iter()
            .any(|name| name.split([' ', '.']).next() == Some(&option))
    };
    let places: Vec<String> = assignments
        .iter()
        .filter(is_named)
        .filter(|assignment| assignment.origin != Origin::Flag)
        .map(|assignment| format!("{} is set by {}", assignment.setting.key, assignment.origin))
        .collect();
    if places.is_empty() || error.kind() == ClapErrorKind::DisplayHelp {
        return Refusal::CommandLine(error);
    }
    let hint = format!("{}.", places.join(", "));
    Error::new(ErrorKind::Usage, sentence(&error))
        .with_hint(hint)
        .into()
}

/// What clap says first, without usage and advice.
pub(crate) fn sentence(error: &clap::Error) -> String {
    let rendered = error.render().to_string();
    let sentence = rendered.lines().next().unwrap_or_default();
    sentence
        .strip_prefix("error: ")
        .unwrap_or(sentence)
        .to_owned()
}

/// Why settings are not taken.
#[derive(Debug)]
pub enum Refusal {
    /// What clap says of the command line: help and version are among it.
    CommandLine(clap::Error),
    /// All that is wrong with settings, in the environment and in the file: one error or more.
    Settings(Vec<Error>),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Settings(vec![error])
    }
}
